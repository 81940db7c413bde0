"""The reproducers of the shipped ledger, each run in the releases that its entry is about.

Nothing here needs pandas, whose releases need a newer numpy than some libraries bear.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import io
import json
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

from conformance.adapters import registry
from conformance.adapters.contract import Framework
from conformance.casefiles import known_issues
from conformance.casefiles.loading import shipped_cases
from conformance.tests.libraries import libraries_under_test

ENTRIES, _ = known_issues.read(shipped_cases())
HERE = {installed.framework.name: installed for installed in libraries_under_test()}


@pytest.mark.parametrize("entry", {(entry.path, entry.line): entry for entry in ENTRIES}.values(), ids=str)
def test_reproducer_shows_known_discrepancy(entry: known_issues.KnownIssue) -> None:
    name = entry.function.partition(".")[0]
    there = HERE.get(name)
    if there is None or not registry.within(there.version, entry.versions):
        pytest.skip(f"{name} {entry.versions} is not installed")
    if entry.variants and there.backend not in entry.variants:
        check_requirements(there.framework, entry.variants[0])
        said = printed_elsewhere(name, settings_of(entry.reproducer))[entry.reproducer]
    else:
        said = printed_here(entry.reproducer)
    assert said.strip() == entry.shows


def printed_here(reproducer: str) -> str:
    """What a reproducer prints in this process."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(reproducer, "<reproducer>", "exec"), {"__name__": "__main__"})
    return printed.getvalue()


def check_requirements(framework: Framework, backend: str) -> None:
    """Skip the test where a backend of a framework is not installed."""
    for needed in map(Requirement, framework.backends[backend].requirements):
        if needed.marker is not None and not needed.marker.evaluate():
            continue
        try:
            importlib.metadata.version(needed.name)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{framework.name} runs on {backend} where {needed.name} is installed")


PRINTED = """
import contextlib, io, json, sys, traceback
printed = {}
for reproducer in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as output:
        try:
            exec(compile(reproducer, "<reproducer>", "exec"), {"__name__": "__main__"})
        except Exception:
            traceback.print_exc(file=output)
    printed[reproducer] = output.getvalue()
json.dump(printed, sys.stdout)
"""


def settings_of(reproducer: str) -> str:
    """The lines of a reproducer that set environment variables, with which it chooses a backend."""
    return "\n".join(line for line in reproducer.splitlines() if "os.environ" in line)


@functools.cache
def printed_elsewhere(framework: str, settings: str) -> dict[str, str]:
    """What reproducers with the same settings print, in one process of theirs: a process has one backend."""
    chosen = [
        entry.reproducer
        for entry in ENTRIES
        if entry.function.startswith(f"{framework}.")
        and registry.within(HERE[framework].version, entry.versions)
        and settings_of(entry.reproducer) == settings
    ]
    command = [sys.executable, "-c", PRINTED]
    done = subprocess.run(command, input=json.dumps(chosen), capture_output=True, text=True, check=True)
    printed: dict[str, str] = json.loads(done.stdout)
    return printed

"""The bench measures: each of its parts in its short form, and what it says where there is nothing to measure."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest

from conformance.adapters.registry import installed
from conformance.bench import measure, probe
from conformance.bench.measure import NOT_SHORT, PARTS, SHORT, Bench, BenchError
from conformance.model.case import Problem
from conformance.tests.conftest import FIGURE
from conformance.tests.fork_server import interpreter

OF_PROCESSES = ("startup", "corpus", "memory", "cases", "relations", "fuzz", "mutants", "large")
"""Parts that measure what a process takes from its start on; the others have their probes forked."""


@pytest.mark.parametrize("part", [part for part in PARTS if part not in NOT_SHORT])
def test_short_form_of_part_measures(part, monkeypatch, record_property):
    pytest.importorskip("sklearn")
    if part not in OF_PROCESSES:
        monkeypatch.setattr(measure.subprocess, "run", forked)
    figures = list(measure.measure([part], SHORT))
    for figure in figures:
        record_property(FIGURE, f"{figure.what}: {figure.measured:.3g} {figure.unit}".rstrip())
    assert figures
    assert all(math.isfinite(figure.measured) for figure in figures)
    assert all(figure.ok for figure in figures)
    ratios = [figure.measured for figure in figures if "to imports and calls" in figure.what]
    assert bool(ratios) == (part == "corpus")
    assert all(ratio > 1 for ratio in ratios)


def forked(command, *, cwd, env, **_):
    """A probe that is run as a fork; see `fork_server`."""
    assert command[:3] == [sys.executable, "-P", "-m"]
    return interpreter().run(command[2:], cwd, env)


def test_command_line_prints_figures_and_writes_them(tmp_path):
    pytest.importorskip("sklearn")
    command = [
        sys.executable,
        "-P",
        "-m",
        "conformance.bench",
        "--short",
        "--json",
        str(tmp_path / "figures"),
        "report",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures").read_text())["measurements"]
    assert figures
    assert all(figure["what"] in done.stderr for figure in figures)
    assert "measured" in done.stdout


@pytest.mark.parametrize(
    ("run", "alone"),
    [
        ({"status": 2, "rows": 5}, {"count": 5, "items": 5, "calls": 1.0}),
        ({"status": 0, "rows": 5}, {"count": 4, "items": 4, "calls": 1.0}),
        ({"status": 0, "rows": 5}, {"count": 5, "items": 6, "calls": 1.0}),
        ({"status": 0, "rows": 5}, {"count": 5, "items": 5, "calls": 0.0}),
    ],
)
def test_whole_run_rejects_unequal_calls(tmp_path, run, alone):
    with pytest.raises(BenchError):
        measure._whole_run(run, alone)


def test_failed_probe_raises_bench_error(tmp_path):
    with pytest.raises(BenchError, match="not installed: nobody"):
        Bench(tmp_path, SHORT).run("imported", "nobody")
    with pytest.raises(BenchError, match="in _select_items"):
        Bench(tmp_path, SHORT).run("called", "no_such_case", "sklearn")


def test_stopwatch_rejects_unseen_call(monkeypatch):
    """As after a rename in `perform`: the framework that is performed is not the watched one."""
    pytest.importorskip("sklearn")
    here = [found for found in installed()[0] if found.framework.name == "sklearn"]
    item = probe._select_items("article", here)[0]
    asked = probe.prepare(item)
    assert isinstance(asked.problem, Problem)
    watch = probe.Stopwatch()
    watch(item.framework, asked.call, asked.description)
    assert watch.calls > 0
    assert watch.count == 1
    real = probe.perform
    monkeypatch.setattr(probe, "perform", lambda _, *rest: real(item.framework, *rest))
    with pytest.raises(AssertionError, match="went through"):
        watch(item.framework, asked.call, asked.description)

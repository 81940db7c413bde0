"""uv as a program: found, run, and what it complains about said in one sentence."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from conformance.execution.environments.sources import Sources
from conformance.model.errors import UserError

NOT_INHERITED = ("UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_REQUIRE_HASHES", "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME")
"""Variables that would send uv to another interpreter than the one that is named."""
QUOTED = 400
"""Characters of uv's own words that a message has room for."""
PANIC = 101
"""The exit status of a Rust program that gave up."""


class Refusal(Exception):  # noqa: N818 - it becomes an EnvironmentFailure once it is known for whom
    """uv did not do it.

    what: one sentence for the user.  final: whether another interpreter would not help either.  local:
    whether it lies at this machine or its network, and not at the requirements.
    """

    def __init__(self, what: str, *, final: bool = True, local: bool = True) -> None:
        super().__init__(what)
        self.final = final
        self.local = local


@dataclass(frozen=True)
class Uv:
    """The program, and the settings it is run with."""

    program: str
    sources: Sources

    def run(self, *words: str, stdin: str = "", extra: Mapping[str, str] | None = None) -> str:
        """What uv prints; raises Refusal where it fails."""
        done = self._run(words, stdin, extra or {})
        if done.returncode and re.search(r"failed to (initialize cache|create directory)", done.stderr, re.I):
            done = self._run((*words, "--no-cache"), stdin, extra or {})  # a home that cannot be written
        if done.returncode:
            raise _refusal(done.returncode, done.stderr, stdin.splitlines())
        return done.stdout

    def _run(self, words: Sequence[str], stdin: str, extra: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        environment.setdefault("UV_PYTHON_DOWNLOADS", "never")  # only who asked uv for downloads gets them
        environment |= {**self.sources.variables, "UV_NO_PROGRESS": "1", "NO_COLOR": "1", **extra}
        try:
            return subprocess.run(  # noqa: S603
                [self.program, *words],
                input=stdin,
                env=environment,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise Refusal(f"uv cannot be started ({self.program}): {error.strerror or error}") from error


def program() -> str:
    """Where uv is; raises UserError where it is not."""
    if importlib.util.find_spec("uv") is not None:
        try:
            return str(importlib.import_module("uv").find_uv_bin())
        except FileNotFoundError:
            pass
    found = shutil.which("uv")
    if found is None:
        raise UserError(
            'environments are made with uv, which is not here; pip install "cross-entropy-conformance[audit]"'
        )
    return found


def _refusal(status: int, stderr: str, asked: Sequence[str]) -> Refusal:
    said = _shortened(stderr)
    if "No space left on device" in stderr or "os error 28" in stderr:
        return Refusal("the disk is full; make room, or name another cache folder with CONFORMANCE_CACHE")
    if status < 0 or status == PANIC or "panicked at" in stderr:
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return Refusal(f"uv crashed ({how}): {said or 'it said nothing'}; try again, or update uv")
    if found := re.search(r"HTTP status (?:client|server) error \(([^)]*)\) for url \(([^)]*)\)", stderr):
        return Refusal(
            f"the package index answers {found[1]} for {_without_secret(found[2])}; check the index and its password"
        )
    if re.search(r"failed to fetch|error sending request|dns error|connection refused|timed out", stderr, re.I):
        return Refusal(f"the package index cannot be reached; check the network and the index's address (uv: {said})")
    if found := re.search(r"Because (\S+) was not found in the", stderr):
        advice = "check the name" if any(_names(line, found[1]) for line in asked) else "check the index"
        return Refusal(f"there is no package {found[1]} on the package index; {advice}", local=False)
    exact = {re.sub(r"\s*;.*", "", line) for line in asked}
    if (found := re.search(r"there is no version of (\S+)", stderr)) and found[1].rstrip(",") in exact:
        return Refusal(f"there is no {found[1]} on the package index; check the version{_hint(stderr)}", local=False)
    if found := re.search(r"(\S+) has no (?:usable wheels|wheels with)", stderr):
        return Refusal(f"there is no wheel of {found[1]} for it (uv: {said})", final=False, local=False)
    if "No solution found" in stderr:
        return Refusal(f"the requirements do not fit together (uv: {said})", final=False, local=False)
    return Refusal(f"uv failed with exit status {status}: {said or 'it said nothing'}")


def _shortened(stderr: str) -> str:
    """The lines that say why, on one line; the end of it where it is long."""
    lines = [line.strip() for line in stderr.splitlines()]
    kept = [line for line in lines if line and not line.startswith(("warning:", "hint:", "Resolved", "Using"))]
    kept = [line for line in kept if "No solution found" not in line]
    text = _without_secret(" ".join(re.sub(r"^(error|cause|×|╰─▶|│|├─▶|Caused by):? *", "", line) for line in kept))
    return text if len(text) <= QUOTED else f"... {text[-QUOTED:]}"


def _without_secret(text: str) -> str:
    return re.sub(r"(\w+://)[^/@\s]+@", r"\1***@", text)


def _names(requirement: str, package: str) -> bool:
    return re.match(re.escape(package) + r"(?![\w.-])", requirement) is not None


def _hint(stderr: str) -> str:
    return ", or the order of the indexes (uv looks at the first that has it)" if "--index-strategy" in stderr else ""

"""Run uv, and summarise its error messages in one sentence."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from conformance.execution.environments.sources import Sources, redacted
from conformance.model.errors import UserError

DROPPED_VARIABLES = ("UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_REQUIRE_HASHES", "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME")
"""Variables that would make uv use another interpreter than the given one."""
MAX_QUOTED = 400
"""Maximum number of characters of uv's own message that are quoted."""
PANIC_STATUS = 101
"""Exit status of a Rust program that panicked."""


class UvError(Exception):
    """uv failed, or there is no Python for it; the text is one sentence for the user.

    requirements_at_fault: whether the requirements are the cause, and not this machine or its network.
    another_python_may_help: whether the same requirements may succeed with another interpreter.
    """

    def __init__(
        self, message: str, *, requirements_at_fault: bool = False, another_python_may_help: bool = False
    ) -> None:
        super().__init__(message)
        self.requirements_at_fault = requirements_at_fault
        self.another_python_may_help = another_python_may_help

    def with_message(self, message: str) -> UvError:
        """The same failure with another message."""
        return UvError(
            message,
            requirements_at_fault=self.requirements_at_fault,
            another_python_may_help=self.another_python_may_help,
        )


@dataclass(frozen=True)
class Uv:
    """The program and its settings."""

    program: str
    sources: Sources

    def run(self, *words: str, stdin: str = "", extra: Mapping[str, str] | None = None) -> str:
        """Return uv's standard output. Raises UvError if it fails."""
        process = self._run(words, stdin, extra or {})
        if process.returncode and re.search(r"failed to (initialize cache|create directory)", process.stderr, re.I):
            process = self._run((*words, "--no-cache"), stdin, extra or {})  # a home that cannot be written
        if process.returncode:
            raise _parse_error(process.returncode, process.stderr, stdin.splitlines())
        return process.stdout

    def _run(self, words: Sequence[str], stdin: str, extra: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name not in DROPPED_VARIABLES}
        environment.setdefault("UV_PYTHON_DOWNLOADS", "never")  # downloads only if the user has enabled them
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
            raise UvError(f"uv cannot be started ({self.program}): {error.strerror or error}") from error


def find_program() -> str:
    """Path of uv. Raises UserError if it is not installed."""
    if importlib.util.find_spec("uv") is not None:
        try:
            return str(importlib.import_module("uv").find_uv_bin())
        except FileNotFoundError:
            pass
    program = shutil.which("uv")
    if program is None:
        raise UserError(
            'environments are made with uv, which is not here; pip install "cross-entropy-conformance[audit]"'
        )
    return program


def _parse_error(status: int, stderr: str, requirements: Sequence[str]) -> UvError:
    text = _summarise(stderr)
    if "No space left on device" in stderr or "os error 28" in stderr:
        return UvError("the disk is full; make room, or name another cache folder with CONFORMANCE_CACHE")
    if status < 0 or status == PANIC_STATUS or "panicked at" in stderr:
        exit_text = f"signal {-status}" if status < 0 else f"exit status {status}"
        return UvError(f"uv crashed ({exit_text}): {text or 'it said nothing'}; try again, or update uv")
    if match := re.search(r"HTTP status (?:client|server) error \(([^)]*)\) for url \(([^)]*)\)", stderr):
        return UvError(
            f"the package index answers {match[1]} for {redacted(match[2])}; check the index and its password"
        )
    if re.search(r"failed to fetch|error sending request|dns error|connection refused|timed out", stderr, re.I):
        return UvError(f"the package index cannot be reached; check the network and the index's address (uv: {text})")
    if match := re.search(r"Because (\S+) was not found in the", stderr):
        advice = (
            "check the name" if any(_is_requirement_for(line, match[1]) for line in requirements) else "check the index"
        )
        return UvError(f"there is no package {match[1]} on the package index; {advice}", requirements_at_fault=True)
    exact = {re.sub(r"\s*;.*", "", line) for line in requirements}
    if (match := re.search(r"there is no version of (\S+)", stderr)) and match[1].rstrip(",") in exact:
        return UvError(
            f"there is no {match[1]} on the package index; check the version{_strategy_advice(stderr)}",
            requirements_at_fault=True,
        )
    if match := re.search(r"(\S+) has no (?:usable wheels|wheels with)", stderr):
        return UvError(
            f"there is no wheel of {match[1]} for it (uv: {text})",
            requirements_at_fault=True,
            another_python_may_help=True,
        )
    if "No solution found" in stderr:
        return UvError(
            f"the requirements do not fit together (uv: {text})",
            requirements_at_fault=True,
            another_python_may_help=True,
        )
    return UvError(f"uv failed with exit status {status}: {text or 'it said nothing'}")


def _summarise(stderr: str) -> str:
    """The lines that state the cause, joined; the end of them if they are long."""
    lines = [line.strip() for line in stderr.splitlines()]
    causes = [line for line in lines if line and not line.startswith(("warning:", "hint:", "Resolved", "Using"))]
    causes = [line for line in causes if "No solution found" not in line]
    text = redacted(" ".join(re.sub(r"^(error|cause|×|╰─▶|│|├─▶|Caused by):? *", "", line) for line in causes))
    return text if len(text) <= MAX_QUOTED else f"... {text[-MAX_QUOTED:]}"


def _is_requirement_for(requirement: str, package: str) -> bool:
    return re.match(re.escape(package) + r"(?![\w.-])", requirement) is not None


def _strategy_advice(stderr: str) -> str:
    return ", or the order of the indexes (uv looks at the first that has it)" if "--index-strategy" in stderr else ""

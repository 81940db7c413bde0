"""Interpreters on this machine, with their versions and installed packages."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.utils import canonicalize_name

from conformance.execution.child import kill_group
from conformance.execution.environments.model import MIN_PYTHON
from conformance.model.errors import UserError
from conformance.model.text import one_line

POLL_SECONDS = 0.02
MAX_ANSWER_BYTES = 1 << 20
"""Size of the longest answer: the names and versions of all packages."""
MAX_ANSWER_LINES = 500
"""Number of its lines: the answer is one, before which modules of the environment may print some."""
MAX_QUOTED = 300
"""Characters of an interpreter's own message that are quoted."""
TIMEOUT = 60
"""Timeout for an interpreter to answer, in seconds."""
QUERY = """
import sys, json
sys.path[:] = [entry for entry in sys.path if entry]
packages = {}
try:
    from importlib.metadata import distributions
    for one in distributions():
        name = one.metadata["Name"]
        if name:
            packages.setdefault(name, one.version)
except ImportError:
    pass
version = ".".join(map(str, sys.version_info[:3]))
print("\\n" + json.dumps([version, getattr(sys, "implementation", sys).__dict__.get("name"), packages]))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python interpreter."""

    path: Path
    """Path with its links, as a link is what makes a virtual environment."""
    version: str
    implementation: str = "cpython"
    packages: dict[str, str] = field(default_factory=dict, compare=False)
    """Version by normalised name."""

    @property
    def release(self) -> tuple[int, ...]:
        return tuple(map(int, self.version.split(".")))

    @property
    def minor(self) -> tuple[int, ...]:
        return self.release[:2]

    @property
    def is_too_old(self) -> bool:
        return self.minor < MIN_PYTHON


def query(path: Path) -> Interpreter:
    """Return the version and packages of an interpreter. Raises UserError if it does not run."""
    try:
        status, output, errors = _run([str(path), "-E", "-c", QUERY])
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{path} does not say within {TIMEOUT} s which Python it is") from error
    except OSError as error:
        raise UserError(f"{path} is no Python interpreter: {error.strerror or error}") from error
    try:
        version, implementation, packages = json.loads(output.decode().strip().splitlines()[-1])
        named: dict[str, str] = {canonicalize_name(name): str(number) for name, number in packages.items()}
        if not re.fullmatch(r"\d{1,4}(\.\d{1,4}){2}", version):
            raise ValueError(version)
        return Interpreter(path, version, str(implementation or "cpython"), named)
    except (ValueError, TypeError, IndexError, AttributeError, RecursionError) as error:
        answer = errors.decode(errors="replace").strip().splitlines()
        why = one_line(answer[-1], MAX_QUOTED) if answer else f"exit status {status}"
        raise UserError(f"{path} is no Python interpreter that runs: {why}") from error


def _run(arguments: Sequence[str]) -> tuple[int, bytes, bytes]:
    """Exit status, output and errors of a program, which is ended with its children if it takes or prints too much.

    Raises OSError if it cannot be run, TimeoutExpired, and UserError if it does not stop printing.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603
            arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True
        )
        deadline = time.monotonic() + TIMEOUT
        try:
            while process.poll() is None:
                if any(_is_too_long(file.fileno()) for file in (output, errors)):
                    raise UserError(f"{arguments[0]} is no Python interpreter: it does not stop printing")
                if time.monotonic() > deadline:
                    raise subprocess.TimeoutExpired(arguments, TIMEOUT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
        finally:
            kill_group(process)
        for file in (output, errors):
            file.seek(0)
        return process.returncode, output.read(MAX_ANSWER_BYTES), errors.read(MAX_ANSWER_BYTES)


def _is_too_long(descriptor: int) -> bool:
    """Whether what was printed into a file is longer than an answer; the process that prints has its position."""
    if os.fstat(descriptor).st_size > MAX_ANSWER_BYTES:
        return True
    read = getattr(os, "pread", None)  # Windows has none
    return read is not None and read(descriptor, MAX_ANSWER_BYTES, 0).count(b"\n") > MAX_ANSWER_LINES


def running_interpreter() -> Interpreter:
    """The interpreter of this process."""
    return Interpreter(Path(sys.executable), ".".join(map(str, sys.version_info[:3])), sys.implementation.name)


def in_order_of_preference(listed: Callable[[], list[Interpreter]]) -> Iterator[Interpreter]:
    """The running interpreter, then one of each other minor version: newest of the older first, then upwards.

    listed: finds the others; not called before the second is wanted.
    """
    running = running_interpreter()
    yield running
    newest: dict[tuple[int, ...], Interpreter] = {}
    for one in listed():
        if one.minor != running.minor and (one.minor not in newest or one.release > newest[one.minor].release):
            newest[one.minor] = one
    yield from (newest[minor] for minor in sorted(newest, reverse=True) if minor < running.minor)
    yield from (newest[minor] for minor in sorted(newest) if minor > running.minor)


def find_matching(version: str, among: list[Interpreter]) -> Interpreter | None:
    """The newest interpreter of a version such as 3.10 or 3.10.13; the running one if it matches."""
    wanted_release = tuple(map(int, version.split(".")))
    candidates = [
        one for one in [running_interpreter(), *among] if one.release[: len(wanted_release)] == wanted_release
    ]
    if not candidates or candidates[0] == running_interpreter():
        return candidates[0] if candidates else None
    return max(candidates, key=lambda one: one.release)


def pyenv_interpreters() -> list[Interpreter]:
    """CPython versions of pyenv that are new enough for the worker; uv sees only the one that is on PATH."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = []
    for folder in sorted((root / "versions").glob("3.*")):
        path = executable_in(folder)
        parts = folder.name.split(".")
        if path is None or folder.is_symlink() or not all(part.isdigit() for part in parts):
            continue
        if tuple(map(int, parts[:2])) >= MIN_PYTHON:
            found.append(Interpreter(path, folder.name))
    return found


def parse_uv_list(listed: str) -> list[Interpreter]:
    """CPython versions in the output of `uv python list` that are new enough, without free-threaded and
    pre-releases.
    """
    lines = re.findall(r"^cpython-(\d+\.\d+\.\d+)-\S+\s+(\S.*?)(?: -> .*)?$", listed, re.M)
    found = [Interpreter(Path(path.strip()), version) for version, path in lines]
    return [one for one in found if not one.is_too_old]


def executable_in(folder: Path) -> Path | None:
    """The interpreter in a virtual environment or installation; None if there is none."""
    for inside in ("bin/python", "Scripts/python.exe", "bin/python3", "python.exe"):
        if (folder / inside).is_file():
            return folder / inside
    return None


def site_packages(folder: Path) -> Path | None:
    """Folder of the packages of a virtual environment."""
    return next(
        (
            found
            for found in [folder / "Lib/site-packages", *folder.glob("lib/python3*/site-packages")]
            if found.is_dir()
        ),
        None,
    )

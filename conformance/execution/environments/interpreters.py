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
MAX_OUTPUT_BYTES = 1 << 20
"""Maximum size of the output in bytes; enough for the names and versions of all packages."""
MAX_OUTPUT_LINES = 500
"""Maximum number of lines of output; the answer is the last one, after anything that imports print."""
MAX_QUOTED = 300
"""Maximum number of characters of an interpreter's own message that are quoted."""
TIMEOUT = 60
"""Timeout for an interpreter to answer, in seconds."""
# It also runs in Python 2, so that an interpreter that is too old is named as such.
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
    """Unresolved path: resolving the symlink would leave the virtual environment."""
    version: str
    implementation: str = "cpython"
    packages: dict[str, str] = field(default_factory=dict, compare=False)
    """Version by normalised name."""

    @property
    def release(self) -> tuple[int, ...]:
        return tuple(map(int, self.version.split(".")))

    @property
    def major_minor(self) -> tuple[int, ...]:
        return self.release[:2]

    @property
    def is_too_old(self) -> bool:
        return self.major_minor < MIN_PYTHON


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
        versions: dict[str, str] = {canonicalize_name(name): str(number) for name, number in packages.items()}
        if not re.fullmatch(r"\d{1,4}(\.\d{1,4}){2}", version):
            raise ValueError(version)
        return Interpreter(path, version, str(implementation or "cpython"), versions)
    except (ValueError, TypeError, IndexError, AttributeError, RecursionError) as error:
        answer = errors.decode(errors="replace").strip().splitlines()
        why = one_line(answer[-1], MAX_QUOTED) if answer else f"exit status {status}"
        raise UserError(f"{path} is no Python interpreter that runs: {why}") from error


def _run(arguments: Sequence[str]) -> tuple[int, bytes, bytes]:
    """Exit status, stdout and stderr of a program; it is killed with its children on a timeout or excessive output.

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
        return process.returncode, output.read(MAX_OUTPUT_BYTES), errors.read(MAX_OUTPUT_BYTES)


def _is_too_long(descriptor: int) -> bool:
    """Whether a file is longer than any valid answer.  Uses pread, as the file offset is shared with the child."""
    if os.fstat(descriptor).st_size > MAX_OUTPUT_BYTES:
        return True
    read = getattr(os, "pread", None)  # Windows has none
    return read is not None and read(descriptor, MAX_OUTPUT_BYTES, 0).count(b"\n") > MAX_OUTPUT_LINES


def running_interpreter() -> Interpreter:
    """The interpreter of this process."""
    return Interpreter(Path(sys.executable), ".".join(map(str, sys.version_info[:3])), sys.implementation.name)


def in_order_of_preference(find_others: Callable[[], list[Interpreter]]) -> Iterator[Interpreter]:
    """The running interpreter, then one of each other minor version: the older ones descending, then the newer ones
    ascending.

    find_others: returns the other interpreters; not called before the second one is requested.
    """
    running = running_interpreter()
    yield running
    newest: dict[tuple[int, ...], Interpreter] = {}
    for candidate in sorted(find_others(), key=lambda interpreter: interpreter.release, reverse=True):
        newest.setdefault(candidate.major_minor, candidate)
    yield from (candidate for version, candidate in newest.items() if version < running.major_minor)
    yield from (candidate for version, candidate in reversed(newest.items()) if version > running.major_minor)


def find_matching(version: str, interpreters: list[Interpreter]) -> Interpreter | None:
    """The newest interpreter of a version such as 3.10 or 3.10.13; the running one if it matches."""
    prefix = tuple(map(int, version.split(".")))
    running = running_interpreter()
    matching = [interpreter for interpreter in [running, *interpreters] if interpreter.release[: len(prefix)] == prefix]
    if running in matching:
        return running
    return max(matching, key=lambda interpreter: interpreter.release, default=None)


def pyenv_interpreters() -> list[Interpreter]:
    """CPython versions of pyenv that are new enough for the worker; uv sees only the one on PATH."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [
        Interpreter(path, folder.name)
        for folder in sorted((root / "versions").glob("3.*"))
        if not folder.is_symlink()
        and all(part.isdigit() for part in folder.name.split("."))
        and (path := executable_in(folder)) is not None
    ]
    return [interpreter for interpreter in candidates if not interpreter.is_too_old]


def parse_uv_list(listed: str) -> list[Interpreter]:
    """CPython versions in the output of `uv python list` that are new enough, without free-threaded and
    pre-releases.
    """
    lines = re.findall(r"^cpython-(\d+\.\d+\.\d+)-\S+\s+(\S.*?)(?: -> .*)?$", listed, re.M)
    candidates = [Interpreter(Path(path.strip()), version) for version, path in lines]
    return [interpreter for interpreter in candidates if not interpreter.is_too_old]


def executable_in(folder: Path) -> Path | None:
    """The interpreter in a virtual environment or installation; None if there is none."""
    for path in ("bin/python", "Scripts/python.exe", "bin/python3", "python.exe"):
        if (folder / path).is_file():
            return folder / path
    return None


def site_packages(folder: Path) -> Path | None:
    """The package folder of a virtual environment."""
    candidates = [folder / "Lib/site-packages", *folder.glob("lib/python3*/site-packages")]
    return next((candidate for candidate in candidates if candidate.is_dir()), None)

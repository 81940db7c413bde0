"""Environments on disk: a folder each, named by what is in it, and trusted only with a marker that matches.

Beside them lies a small index: which folder a wish led to, so that what was made before costs no call of uv.
Locks belong to the processes that hold them and end with them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from conformance.execution.environments.interpreters import ask, executable_in, site_packages
from conformance.model.errors import UserError
from conformance.reference.cache import default_folder

LAYOUT = 1
"""Raised when what a folder holds, or how it is made, changes."""
MARKER = "conformance.json"
DAY = 24 * 3600.0
"""Seconds after which an open range is resolved again."""


@dataclass(frozen=True)
class Made:
    """An environment on disk."""

    interpreter: Path
    python: str
    packages: dict[str, str]


def digest_of(lock: str, python: str) -> str:
    """16 hex digits that name the folder of a lock on a Python version, on this kind of machine."""
    libc = "-".join(platform.libc_ver())
    parts = [LAYOUT, lock, python, sys.implementation.name, sys.platform, platform.machine(), libc]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class Store:
    """The folder in which environments are kept."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, digest: str) -> Path:
        return self.root / digest

    def recall(self, wish: str, *, stale: bool = False) -> Made | None:
        """What a wish led to, where that is there and whole; stale: even where an open range was resolved long ago."""
        try:
            entry = json.loads((self.root / "index" / f"{wish}.json").read_text(encoding="utf-8"))
            if not stale and not entry["exact"] and not 0 <= time.time() - entry["resolved"] < DAY:
                return None
            return self.read(str(entry["folder"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember(self, wish: str, digest: str, *, exact: bool) -> None:
        """Keep what a wish led to; where that cannot be written it is resolved again next time."""
        with contextlib.suppress(OSError):
            place = self.root / "index" / f"{wish}.json"
            place.parent.mkdir(parents=True, exist_ok=True)
            _write(place, {"folder": digest, "exact": exact, "resolved": time.time()})

    def read(self, digest: str) -> Made | None:
        """The environment in a folder; None where it is not there, not whole, or not what its marker says."""
        folder = self.folder(digest)
        try:
            marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
            made = Made(folder / marker["executable"], str(marker["python"]), dict(marker["packages"]))
            right = marker["layout"] == LAYOUT and digest_of(marker["lock"], made.python) == digest
            if not right or marker["installed"] != _installed(folder):
                return None
            if marker["stamp"] != _stamp(made.interpreter) and ask(made.interpreter).version != made.python:
                return None
        except (OSError, ValueError, KeyError, TypeError, UserError):
            return None
        return made

    def seal(self, digest: str, lock: str) -> Made:
        """Write the marker of a folder that is complete; raises UserError where its interpreter does not run."""
        folder = self.folder(digest)
        executable = executable_in(folder)
        if executable is None:
            raise UserError(f"{folder} has no interpreter")
        said = ask(executable)
        marker = {
            "layout": LAYOUT,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "python": said.version,
            "executable": executable.relative_to(folder).as_posix(),
            "stamp": _stamp(executable),
            "lock": lock,
            "packages": said.packages,
            "installed": _installed(folder),
        }
        _write(folder / MARKER, marker)
        return Made(executable, said.version, said.packages)

    @contextlib.contextmanager
    def locked(self, digest: str, told: Callable[[str], None]) -> Iterator[None]:
        """Nobody else makes this folder meanwhile; raises OSError where the store cannot be written."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / f"{digest}.lock").open("a+b") as file:
            if not _acquired(file, wait=False):
                told("waiting for another process that makes the same environment ...")
                while not _acquired(file, wait=True):
                    pass
            yield


def stores() -> list[Store]:
    """Where environments may lie already: the user's cache, then what this process has made elsewhere."""
    kept = default_folder()
    return [*([] if kept is None else [Store(kept / "environments")]), *_TEMPORARY]


def temporary() -> Store:
    """A store that goes when the process does."""
    if _TEMPORARY:
        return _TEMPORARY[-1]
    folder = tempfile.TemporaryDirectory(prefix="conformance-environments-", ignore_cleanup_errors=True)
    _KEPT.append(folder)
    _TEMPORARY.append(Store(Path(folder.name)))
    return _TEMPORARY[-1]


_TEMPORARY: list[Store] = []
_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def _installed(folder: Path) -> list[str]:
    """What lies in the environment's site-packages, by name; a package that was taken out shows."""
    site = site_packages(folder)
    return sorted(path.name for path in site.iterdir() if path.name != "__pycache__") if site else []


def _stamp(executable: Path) -> list[int]:
    """Size and time of the program itself: one that ran and has not changed needs no second trial."""
    found = executable.stat()
    return [found.st_size, found.st_mtime_ns]


def _write(path: Path, content: dict[str, Any]) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(json.dumps(content), encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


if sys.platform == "win32":
    import msvcrt

    def _acquired(file: IO[bytes], *, wait: bool) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _acquired(file: IO[bytes], *, wait: bool) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

"""Environments on disk: one folder each, named by a digest of its content, and valid only with a matching marker.

A small index maps requests to folders, so that an existing environment is found without a call of uv. The lock of a
folder is released when the process that holds it ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from conformance.execution.environments.interpreters import Interpreter, query, site_packages
from conformance.execution.temporary_folder import TemporaryFolder
from conformance.model.errors import UserError
from conformance.model.files import write_atomically
from conformance.reference.cache import default_folder

LAYOUT_VERSION = 1
"""Increased when the content of a folder, or how it is created, changes."""
MARKER = "conformance.json"
RESOLUTION_LIFETIME = 24 * 3600.0
"""Seconds after which a version range is resolved again."""


def digest_environment(lockfile: str, python: str) -> str:
    """16 hex digits that identify the environment of a lockfile for a Python version and platform."""
    libc = "-".join(platform.libc_ver())
    parts = [LAYOUT_VERSION, lockfile, python, sys.implementation.name, sys.platform, platform.machine(), libc]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class EnvironmentStore:
    """A folder that contains environments.

    temporary: object that removes the folder when the process ends; None if the folder stays.
    """

    def __init__(self, root: Path, temporary: TemporaryFolder | None = None) -> None:
        self.root = root
        self._temporary = temporary

    def folder(self, environment_digest: str) -> Path:
        return self.root / environment_digest

    def lookup(self, request_key: str, *, stale: bool = False) -> Interpreter | None:
        """The environment of an earlier request, if it is complete.

        stale: whether version ranges may have been resolved more than `RESOLUTION_LIFETIME` ago.
        """
        try:
            entry = json.loads((self.root / "index" / f"{request_key}.json").read_text(encoding="utf-8"))
            if not stale and not entry["exact"] and not 0 <= time.time() - entry["resolved"] < RESOLUTION_LIFETIME:
                return None
            return self.read(str(entry["folder"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember(self, request_key: str, environment_digest: str, *, exact: bool) -> None:
        """Store the result of a request; if this fails, the request is resolved again next time."""
        with contextlib.suppress(OSError):
            path = self.root / "index" / f"{request_key}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(
                path, json.dumps({"folder": environment_digest, "exact": exact, "resolved": time.time()}).encode()
            )

    def read(self, environment_digest: str) -> Interpreter | None:
        """The environment in a folder; None if it is absent, incomplete, or does not match its marker."""
        folder = self.folder(environment_digest)
        try:
            marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
            path, version = folder / marker["executable"], str(marker["python"])
            is_consistent = (
                marker["layout"] == LAYOUT_VERSION and digest_environment(marker["lock"], version) == environment_digest
            )
            if not is_consistent or marker["installed"] != _site_packages_entries(folder):
                return None
            if marker["stamp"] != _fingerprint(path) and query(path).version != version:
                return None
            return Interpreter(path, version, packages=dict(marker["packages"]))
        except (OSError, ValueError, KeyError, TypeError, UserError):
            return None

    def write_marker(self, environment_digest: str, lockfile: str, executable: Path) -> Interpreter:
        """Write the marker of a complete folder. Raises UserError if its interpreter does not run."""
        folder = self.folder(environment_digest)
        interpreter = query(executable)
        marker = {
            "layout": LAYOUT_VERSION,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "python": interpreter.version,
            "executable": executable.relative_to(folder).as_posix(),
            "stamp": _fingerprint(executable),
            "lock": lockfile,
            "packages": interpreter.packages,
            "installed": _site_packages_entries(folder),
        }
        write_atomically(folder / MARKER, json.dumps(marker).encode())
        return interpreter

    @contextlib.contextmanager
    def exclusive(self, environment_digest: str, progress: Callable[[str], None]) -> Iterator[None]:
        """Hold the lock of a folder, as one process at a time can. Raises OSError if the store cannot be written."""
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / f"{environment_digest}.lock")
        try:
            acquired = lock.acquire(blocking=False)
        except Timeout:
            progress("waiting for another process that makes the same environment ...")
            acquired = lock.acquire()
        with acquired:
            yield


def existing_stores() -> list[EnvironmentStore]:
    """Stores that may contain environments: the user's cache, then the temporary ones of this process."""
    cache_folder = default_folder()
    return [*([] if cache_folder is None else [EnvironmentStore(cache_folder / "environments")]), *_TEMPORARY]


def temporary_store() -> EnvironmentStore:
    """A store that is removed when the process ends."""
    if not _TEMPORARY:
        folder = TemporaryFolder("conformance-environments-")
        _TEMPORARY.append(EnvironmentStore(Path(folder.name), folder))
    return _TEMPORARY[-1]


_TEMPORARY: list[EnvironmentStore] = []


def _site_packages_entries(folder: Path) -> list[str]:
    """Names in the environment's site-packages, to detect removed packages."""
    site = site_packages(folder)
    return sorted(path.name for path in site.iterdir() if path.name != "__pycache__") if site else []


def _fingerprint(executable: Path) -> list[int]:
    """Size and time of the interpreter; one that ran before and is unchanged is not started again."""
    status = executable.stat()
    return [status.st_size, status.st_mtime_ns]

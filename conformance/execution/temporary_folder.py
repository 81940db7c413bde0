"""Temporary folders that are removed even if the process that created them is killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"
LOCK_SECONDS = 60.0
"""Age in seconds from which a folder without a lock is assumed to belong to a killed process."""


class TemporaryFolder(tempfile.TemporaryDirectory[str]):
    """A temporary folder.  If its process is killed, the next process with the same prefix removes it.

    prefix: prefix of its name, and of the stale folders to remove.
    """

    def __init__(self, prefix: str) -> None:
        remove_stale(prefix)
        super().__init__(prefix=prefix, ignore_cleanup_errors=True)
        self._lock = FileLock(Path(self.name, LOCK))
        self._lock.acquire()

    def cleanup(self) -> None:
        """Remove the folder."""
        self._lock.release()
        super().cleanup()


def remove_stale(prefix: str) -> None:
    """Remove this user's folders with a prefix that no process has locked."""
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError, Timeout):
            status = folder.lstat()
            is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == (os.getuid() if hasattr(os, "getuid") else 0)
            if not is_own or (not (folder / LOCK).exists() and time.time() - status.st_mtime < LOCK_SECONDS):
                continue
            with FileLock(folder / LOCK, timeout=0):
                shutil.rmtree(folder)

"""Temporary folders of which nothing stays, even if the process that made one is killed."""

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
"""Age in seconds at which a folder without a lock is taken for one whose process was killed."""


class TemporaryFolder(tempfile.TemporaryDirectory[str]):
    """A temporary folder.  If its process is killed, the next one with the same prefix removes it.

    prefix: of its name, and of those that are removed.
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
    """Remove the folders of this user with a prefix that no process holds."""
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError, Timeout):
            status = folder.lstat()
            is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == (os.getuid() if hasattr(os, "getuid") else 0)
            if not is_own or (not (folder / LOCK).exists() and time.time() - status.st_mtime < LOCK_SECONDS):
                continue
            with FileLock(folder / LOCK, timeout=0):
                shutil.rmtree(folder)

"""A cache on disk: each entry has a checksum, and a damaged or implausible entry is computed again.

The checksum detects damage, not manipulation: whoever can write an entry can write its checksum.  A value that is read
must be a plausible answer to its problem; a wrong one within the tolerance is not detected (see `plausibility`).

If the folder is not writable or the file is not a database, the cache warns once and the run continues without it,
at the cost of time only.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sqlite3
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import platformdirs

from conformance.reference.certified import CertifiedAnswers

ENV = "CONFORMANCE_CACHE"
"""Environment variable that names the cache folder; `off` turns the cache off."""
BATCH_SIZE = 512
T = TypeVar("T")


class CacheWarning(UserWarning):
    """The cache on disk is not used; the message says why."""


def default_folder() -> Path | None:
    """The cache folder: $CONFORMANCE_CACHE, or the user's cache folder; None if the cache is turned off."""
    chosen = os.environ.get(ENV)
    if chosen == "off":
        return None
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("cross-entropy-conformance", appauthor=False))


@functools.cache
def code_digest(*packages: str) -> str:
    """A digest of the source code of some subpackages, such as `reference`: the version of their results."""
    sha = hashlib.sha256()
    for file in sorted(file for name in packages for file in (Path(__file__).parents[1] / name).rglob("*.py")):
        sha.update(file.read_bytes())
    return sha.hexdigest()


class AnswerStore(Protocol):
    """A store of bytes by key."""

    def get(self, key: str, is_sound: Callable[[bytes], bool]) -> bytes | None:
        """The value of a key; None if there is none that passes `is_sound`, which validates stored data."""

    def put(self, key: str, value: bytes) -> None:
        """Store a value."""

    def flush(self) -> None:
        """Write pending entries."""


class Cache:
    """Bytes by key in one SQLite file; safe to share between processes.

    certified: a cache that is searched first, and never written.
    """

    def __init__(self, path: Path, certified: CertifiedAnswers | None = None) -> None:
        self._path = path
        self._beneath = certified
        self._pending: dict[str, bytes] = {}
        self._database: sqlite3.Connection | None = None
        self._open()

    def get(self, key: str, is_sound: Callable[[bytes], bool] = bool) -> bytes | None:
        """The value of a key; None if there is none, its checksum does not match, or it fails `is_sound`."""
        if key in self._pending:
            return self._pending[key]
        if self._beneath is not None and (value := self._beneath.get(key)) is not None:
            return value
        if self._database is None:
            return None
        try:
            row = self._database.execute("SELECT value, checksum FROM answers WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            self._give_up(str(error))
            return None
        if row is None or not isinstance(row[0], bytes) or row[1] != _checksum(key, row[0]).encode():
            return None
        return row[0] if is_sound(row[0]) else None

    def put(self, key: str, value: bytes) -> None:
        """Store a value; values are written in batches, the last one by `flush`."""
        self._pending[key] = value
        if len(self._pending) >= BATCH_SIZE:
            self.flush()

    def flush(self) -> None:
        """Write pending entries."""
        if self._database is None or not self._pending:
            self._pending.clear()
            return
        entries = [(key, value, _checksum(key, value)) for key, value in self._pending.items()]
        self._pending.clear()
        try:
            with self._database:
                self._database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", entries)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                self._give_up(str(error))
        except sqlite3.Error as error:
            self._give_up(str(error))

    def close(self) -> None:
        """Write pending entries and close the file."""
        self.flush()
        if self._database is not None:
            self._database.close()
            self._database = None

    def _open(self) -> None:
        for attempt in ("open", "rebuild"):
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                database = sqlite3.connect(self._path, timeout=5)
                database.text_factory = bytes  # damaged text must fail the checksum instead of raising
                database.execute("PRAGMA journal_mode=WAL")
                database.execute("PRAGMA synchronous=OFF")
                database.execute(
                    "CREATE TABLE IF NOT EXISTS answers"
                    " (key TEXT PRIMARY KEY, value BLOB NOT NULL, checksum TEXT NOT NULL)"
                )
                database.execute("SELECT key, value, checksum FROM answers LIMIT 1").fetchone()
            except sqlite3.OperationalError as error:
                if "no such column" not in str(error) or attempt == "rebuild":
                    return self._give_up(str(error))
                self._remove()
            except sqlite3.DatabaseError as error:
                if attempt == "rebuild":
                    return self._give_up(str(error))
                self._remove()
            except OSError as error:
                return self._give_up(str(error))
            else:
                self._database = database
                return None
        return None

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)

    def _give_up(self, reason: str) -> None:
        self._database = None
        warnings.warn(
            f"the cache {self._path} is not used ({reason}); what it remembers is computed again. "
            f"Make its folder writable, or name another with {ENV}=FOLDER, or turn it off with {ENV}=off",
            CacheWarning,
            stacklevel=3,
        )


class DerivedCache:
    """JSON values by name in the default folder, valid only together with the facts that they were computed from.

    A value with other facts replaces the one of the same name, so that the file does not grow when facts change.
    """

    def __init__(self) -> None:
        folder = default_folder()
        self._cache = None if folder is None else Cache(folder / "remembered.sqlite")

    def __enter__(self) -> DerivedCache:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._cache is not None:
            self._cache.close()

    def get(self, name: str, *facts: str, read: Callable[[Any], T]) -> T | None:
        """The value of a name for these facts; None if there is none or it cannot be parsed.

        read: parses the builtin values; it may raise any exception if they are malformed.
        """
        key = _facts_digest(facts)
        value = None if self._cache is None else self._cache.get(name, lambda value: value.startswith(key))
        try:
            return None if value is None else read(json.loads(value[len(key) :]))
        except Exception:  # others may write anything into the file
            return None

    def put(self, name: str, value: Any, *facts: str) -> None:
        """Store a value."""
        if self._cache is not None:
            self._cache.put(name, _facts_digest(facts) + json.dumps(value).encode())


def _facts_digest(facts: tuple[str, ...]) -> bytes:
    return hashlib.sha256(repr(facts).encode()).digest()


def _checksum(key: str, value: bytes) -> str:
    return hashlib.sha256(key.encode() + b"\0" + value).hexdigest()[:32]

"""What the functions of this package share: the base class of their values, and observers of their progress."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Protocol

from conformance.model.serialization import to_json


class Result:
    """A frozen value returned by a function of this package, and printed by the command with `--json`."""

    command: ClassVar[str]
    """Words of the command, joined by dots."""
    version: ClassVar[int] = 1
    """Version of the keys of `to_dict`; increased when the meaning of a key changes."""

    def to_dict(self) -> dict[str, Any]:
        """Convert to builtin values: dicts, lists, strings, numbers and None."""
        raise NotImplementedError

    def to_json(self) -> str:
        """Convert to JSON, the output of the command with `--json`; see `conformance.model.serialization.to_json`."""
        return to_json(self.command, self.to_dict(), self.version)


class Advance(Protocol):
    """Called with a label of finished work, such as the framework of a row, and its count."""

    def __call__(self, label: str, count: int = 1, /) -> None: ...


class Observer:
    """Receives the progress of a function; this base class ignores it."""

    def note(self, line: str) -> None:
        """Receive a sentence for the user."""

    def status(self) -> AbstractContextManager[Callable[[str], None]]:
        """Return a context manager whose value is called with a line of text for each step."""
        return contextlib.nullcontext(lambda line: None)

    def rows(self, count: int) -> AbstractContextManager[Advance]:
        """Return a context manager whose value is called with each finished row.  count: number of rows."""
        return contextlib.nullcontext(lambda label, count=1: None)


SILENT = Observer()

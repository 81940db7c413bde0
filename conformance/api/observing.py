"""Progress of slow functions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


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

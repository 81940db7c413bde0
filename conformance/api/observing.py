"""What a run says while it lasts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager


class Observer:
    """Hears what a run has to say while it lasts; this one ignores it."""

    def note(self, line: str) -> None:
        """A sentence that the user should know."""

    def status(self) -> AbstractContextManager[Callable[[str], None]]:
        """A context in which steps are said, one replacing the other."""
        return contextlib.nullcontext(lambda line: None)

    def rows(self, count: int) -> AbstractContextManager[Callable[[str], None]]:
        """A context in which as many rows are made; called with the framework of each."""
        return contextlib.nullcontext(lambda framework: None)


SILENT = Observer()


__all__ = ["Observer"]

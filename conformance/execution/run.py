"""A run: what it planned, the rows that it has, and how it ended."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TypeVar

from conformance.execution.assessing import E, NotExecuted, RowOrError, results_of
from conformance.execution.interruption import interruption, reinstall_handlers
from conformance.judging.packed_rows import PackedRows
from conformance.judging.plan import Item
from conformance.judging.row import Row
from conformance.model.errors import UserError

FAILED = "the suite itself failed"
INTERRUPTED = "interrupted"
T = TypeVar("T")


class Run:
    """Items that are executed, their rows, and how that ended."""

    def __init__(self) -> None:
        self.items: Sequence[Item] = ()
        """Those that are planned."""
        self.rows = PackedRows()
        """The rows, in the order in which they were judged."""
        self.not_executed: list[NotExecuted] = []
        self.stopped = ""
        """Why it ended early; empty if it did not."""
        self.failure: Exception | None = None
        """The exception that it ended with, if it is not a mistake of the user."""

    @contextlib.contextmanager
    def ending(self, is_planned: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Catch whatever ends the context early, and note why.

        Raises UserError if one is raised before the run `is_planned`: then there is no run yet.
        """
        try:
            yield
        except (KeyboardInterrupt, SystemExit):  # SystemExit: by the handler of a signal that a library has set
            self.stopped = INTERRUPTED
        except Exception as error:
            if interruption():  # an exception that was raised instead of the interruption
                self.stopped = INTERRUPTED
            elif isinstance(error, UserError) and not is_planned():
                raise
            else:
                self.failure = error
                self.stopped = str(error) if isinstance(error, UserError) else f"{FAILED}: {type(error).__name__}"

    def accept(self, row: Row) -> None:
        """Add a row as soon as it is judged."""
        self.rows.append(row)

    def execute(self, rows: Generator[RowOrError], progress: Callable[[str], None] = lambda framework: None) -> None:
        """Add rows as they are made.  progress: called for each with its framework, "" if it was not executed."""
        with contextlib.closing(rows):
            for row in self._executed(rows, lambda: progress("")):
                self.accept(row)
                progress(row.framework)

    def each(
        self, items: Iterable[E], function: Callable[[E], T], progress: Callable[[str], None] = lambda framework: None
    ) -> Iterator[T]:
        """What a function that makes calls in this process returns for each item that can be executed.

        progress: called for each item with its framework.
        """

        def call(item: E) -> T:
            try:
                return function(item)
            finally:
                progress(item.installed.framework.name)

        return self._executed(results_of(items, call))

    def require_all(self, what: str) -> None:
        """Raise UserError if an item could not be executed.  what: begins the message."""
        if self.not_executed:
            raise UserError(f"{what}: {self.not_executed[0]}")

    def _executed(self, results: Iterable[T | NotExecuted], failed: Callable[[], None] = lambda: None) -> Iterator[T]:
        reinstall_handlers()
        for result in results:
            reinstall_handlers()
            if interruption():  # the exception was swallowed by the function that was called
                raise KeyboardInterrupt
            if isinstance(result, NotExecuted):
                self.not_executed.append(result)
                failed()
            else:
                yield result

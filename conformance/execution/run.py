"""A run: its planned items, its rows, and how it ended."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
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


@dataclass(eq=False)
class Run:
    """The execution of items, with their rows and how it ended."""

    items: Sequence[Item] = ()
    """The planned items."""
    rows: PackedRows = field(default_factory=PackedRows)
    """The rows in the order of judging."""
    not_executed: list[NotExecuted] = field(default_factory=list)
    stopped: str = ""
    """Why the run ended early; "" if it did not."""
    failure: Exception | None = None
    """The exception that ended the run, if it is not a user error."""

    @contextlib.contextmanager
    def ending(self, is_planned: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Context manager that catches every exception that ends the run early, and records the reason.

        A UserError is raised again before the run `is_planned`: there is no run yet.
        """
        try:
            yield
        except (KeyboardInterrupt, SystemExit):  # SystemExit: from a library's signal handler
            self.stopped = INTERRUPTED
        except Exception as error:
            if interruption():  # the exception replaced the interruption
                self.stopped = INTERRUPTED
            elif isinstance(error, UserError) and not is_planned():
                raise
            else:
                self.failure = error
                self.stopped = str(error) if isinstance(error, UserError) else f"{FAILED}: {type(error).__name__}"

    def accept(self, row: Row) -> None:
        """Add a row when it is judged."""
        self.rows.append(row)

    def execute(self, rows: Generator[RowOrError], progress: Callable[[str], None] = lambda framework: None) -> None:
        """Add rows as they are computed.

        progress: called with the framework of each row; "" if it was not executed.
        """
        with contextlib.closing(rows):
            for row in self._executed(rows, lambda: progress("")):
                self.accept(row)
                progress(row.framework)

    def each(
        self, items: Iterable[E], function: Callable[[E], T], progress: Callable[[str], None] = lambda framework: None
    ) -> Iterator[T]:
        """Yield the result of a function for each item that can be executed; calls are made in this process.

        progress: called with the framework of each item.
        """

        def call(item: E) -> T:
            try:
                return function(item)
            finally:
                progress(item.installed.framework.name)

        return self._executed(results_of(items, call))

    def require_all(self, what: str) -> None:
        """Raise UserError if an item could not be executed.  what: start of the message."""
        if self.not_executed:
            raise UserError(f"{what}: {self.not_executed[0]}")

    def _executed(self, results: Iterable[T | NotExecuted], failed: Callable[[], None] = lambda: None) -> Iterator[T]:
        reinstall_handlers()
        for result in results:
            reinstall_handlers()
            if interruption():  # the called function swallowed the exception
                raise KeyboardInterrupt
            if isinstance(result, NotExecuted):
                self.not_executed.append(result)
                failed()
            else:
                yield result

"""A run: what it planned, the rows that it has, and how it ended."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence

from conformance.execution.interruption import interruption, keep_handlers
from conformance.execution.processes import RowOrError
from conformance.execution.running import NotExecuted
from conformance.judging.judge import Item
from conformance.judging.row import Record, key_of
from conformance.model.errors import UserError

FAILED = "the suite itself failed"
INTERRUPTED = "interrupted"


class Run:
    """Items, their rows, and how the run ended.

    record: called with each row as soon as it is there.  items: those that are planned.  rows: in the order in which
    they came; see `sort`.  not_asked: items that could not be executed.  stopped: why it ended early, empty if it did
    not.  failure: the exception that it ended with, if that is not the user's.
    """

    def __init__(self, record: Callable[[Record], None] = lambda row: None) -> None:
        self.record = record
        self.items: Sequence[Item] = ()
        self.rows: list[Record] = []
        self.not_asked: list[NotExecuted] = []
        self.stopped = ""
        self.failure: Exception | None = None

    @contextlib.contextmanager
    def ending(self, planned: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Note how what is done in the context ends, and go on after it.

        Raises UserError if that happens while nothing is `planned`: there is no run yet.
        """
        try:
            yield
        except (KeyboardInterrupt, SystemExit):  # SystemExit: by the handler of a signal that a library has set
            self.stopped = INTERRUPTED
        except Exception as error:
            if interruption():  # an exception that was raised instead of the interruption
                self.stopped = INTERRUPTED
            elif isinstance(error, UserError) and not planned():
                raise
            else:
                self.failure = error
                self.stopped = str(error) if isinstance(error, UserError) else f"{FAILED}: {type(error).__name__}"

    def accept(self, row: Record) -> None:
        """Take in a row."""
        self.record(row)
        self.rows.append(row)

    def execute(self, made: Generator[RowOrError], progress: Callable[[str], None] = lambda what: None) -> None:
        """Take in rows as they are made; progress: gets the framework of each, "" for what could not be executed."""
        keep_handlers()
        with contextlib.closing(made):
            for one in made:
                keep_handlers()
                if interruption():  # the exception was swallowed by whatever was being called
                    raise KeyboardInterrupt
                if isinstance(one, NotExecuted):
                    self.not_asked.append(one)
                    progress("")
                else:
                    self.accept(one)
                    progress(one["framework"])

    def sort(self) -> None:
        """Put rows into the order of the items; those of no item come first."""
        order = {item.key.across_versions(): place for place, item in enumerate(self.items)}
        self.rows.sort(key=lambda row: order.get(key_of(row), -1))

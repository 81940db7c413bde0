"""The rows of items, one after another, in this process or in the workers of a crew."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conformance.adapters.contract import LoweringError
from conformance.judging.judge import Item, Judge, PreparedCall, Problems, ask
from conformance.judging.row import Record
from conformance.model.errors import CaseFileError, UserError
from conformance.model.outcome import Outcome

if TYPE_CHECKING:
    from conformance.execution.workers.crew import Future, WorkerPool

AHEAD = 16
"""Items that a worker is asked before the first of them is judged."""


@dataclass(frozen=True)
class NotExecuted:
    """An item that could not be asked.  worker, id: its names, as in a message.  why: for people."""

    worker: str
    id: str
    why: str

    def __str__(self) -> str:
        return f"{self.id}: {self.why}"


def rows_of(items: Sequence[Item], suite: Judge, isolated: Isolated | None = None) -> Generator[Record | NotExecuted]:
    """The row of every item, in the order they are finished; for one that cannot be asked, why.

    isolated: makes the calls in processes of their own; without it they are made in this one.
    """
    gc.freeze()  # cases and items outlive the run; looking through them for garbage takes as long as many rows
    for item in items if isolated is None else isolated.as_they_come():
        try:
            yield (suite.assess(item) if isolated is None else suite.judge(*isolated.outcome(item))).record
        except (LoweringError, UserError) as error:
            yield NotExecuted(item.installed.worker, item.id, str(error))


class Isolated:
    """Makes calls in the workers of a crew, each ahead of what is judged.

    items: those that will be asked for; what is not among them is asked when it is its turn.
    """

    def __init__(self, crew: WorkerPool, items: Iterable[Item] = ()) -> None:
        self._crew = crew
        self._problems = Problems()
        self._place: dict[Item, int] = {}
        self._later: dict[str, deque[Item]] = {}
        for item in items:
            self._place[item] = len(self._place)
            self._later.setdefault(item.installed.worker, deque()).append(item)
        self._asked: dict[str, dict[Item, tuple[PreparedCall, Future] | Exception]] = {name: {} for name in self._later}

    def as_they_come(self) -> Iterator[Item]:
        """Every item, a worker's in their order, as outcomes come in; each must be taken by `outcome` at once."""
        for name in self._later:
            self._ahead(name)
        while waiting := [(next(iter(asked)), asked) for asked in self._asked.values() if asked]:
            there = [item for item, asked in waiting if self._done(asked[item])]
            if there:
                yield min(there, key=self._place.__getitem__)
            else:
                tickets = [(item.installed.worker, asked[item]) for item, asked in waiting]
                self._crew.wait_any([(name, found[1]) for name, found in tickets if isinstance(found, tuple)])

    def outcome(self, item: Item) -> tuple[PreparedCall, Outcome]:
        """An item as it was asked, and what came of it; raises what `WorkerPool.wait` raises."""
        name = item.installed.worker
        asked_here = self._asked.setdefault(name, {})
        self._ahead(name)
        if item not in asked_here:
            asked_here[item] = self._ask(item)
        found = asked_here.pop(item)
        self._ahead(name)
        if isinstance(found, Exception):
            raise found
        asked, ticket = found
        return asked, self._crew.wait(name, ticket)

    def _ahead(self, name: str) -> None:
        later, asked = self._later.get(name, ()), self._asked[name]
        if len(asked) > AHEAD // 2:
            return  # a worker that is given many calls at one time is woken once for all of them
        while later and len(asked) < AHEAD:
            item = later.popleft()
            asked[item] = self._ask(item)

    def _ask(self, item: Item) -> tuple[PreparedCall, Future] | Exception:
        try:
            asked = ask(item, self._problems)
            return asked, self._crew.submit(item.installed.worker, asked.call, asked.what)
        except (LoweringError, CaseFileError) as error:
            return error

    def _done(self, found: tuple[PreparedCall, Future] | Exception) -> bool:
        return isinstance(found, Exception) or self._crew.done(found[0].item.installed.worker, found[1])

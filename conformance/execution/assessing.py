"""Execute items one after another: calls are made in this process, or in workers that receive calls ahead of time."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from conformance.adapters.contract import LoweringError
from conformance.adapters.registry import Installed
from conformance.execution.workers.pool import Future, WorkerPool
from conformance.judging.judge import Judge
from conformance.judging.plan import Item
from conformance.judging.prepare import PreparedCall, Problems, prepare
from conformance.judging.row import Row
from conformance.model.errors import CaseFileError, UserError
from conformance.model.outcome import Outcome, TimedOut

CALLS_AHEAD = 16
"""Number of calls sent to a worker before the first of them is judged."""

MAX_TIMED_OUT = 5
"""Calls of a function in a row that may take too long; those after them are skipped, which would take as long each."""


@dataclass(frozen=True)
class NotExecuted:
    """An item that could not be executed."""

    worker: str
    """Name of its worker."""
    id: str
    why: str

    def __str__(self) -> str:
        return f"{self.id}: {self.why}"


RowOrError = Row | NotExecuted


class Executable(Protocol):
    """An item, or another object with calls of an installed framework."""

    @property
    def id(self) -> str:
        """Id for messages."""

    @property
    def installed(self) -> Installed:
        """The framework."""


E = TypeVar("E", bound=Executable)
T = TypeVar("T")


def results_of(items: Iterable[E], function: Callable[[E], T]) -> Generator[T | NotExecuted]:
    """Yield the result of a function for each item, or why the item could not be executed."""
    for item in items:
        try:
            yield function(item)
        except (LoweringError, UserError) as error:
            yield NotExecuted(item.installed.worker, item.id, str(error))


def judge_items(items: Sequence[Item], judge: Judge, pool: WorkerPool | None = None) -> Generator[RowOrError]:
    """Yield the row of each item in the order of judging, or why it could not be executed.

    pool: workers that make the calls; None to make them in this process.
    """
    gc.freeze()  # cases and items outlive the run; looking through them for garbage takes as long as many rows
    if pool is None:
        yield from results_of(items, lambda item: judge.assess(item).row)
        return
    calls = PipelinedCalls(pool, items)
    yield from results_of(calls.as_completed(), lambda item: judge.judge(*calls.outcome(item)).row)


class PipelinedCalls:
    """Calls in the workers of a pool; a worker receives calls before its earlier ones are judged.

    A function that has taken too long for `MAX_TIMED_OUT` calls in a row is no longer called.
    items: items for which `outcome` will be called; the call of any other item is sent when `outcome` is called.
    """

    def __init__(self, pool: WorkerPool, items: Iterable[Item] = ()) -> None:
        self._pool = pool
        self._problems = Problems()
        self._position: dict[Item, int] = {}
        self._unsent: dict[str, deque[Item]] = {}
        for item in items:
            self._position[item] = len(self._position)
            self._unsent.setdefault(item.installed.worker, deque()).append(item)
        self._sent: dict[str, dict[Item, tuple[PreparedCall, Future] | Exception]] = {name: {} for name in self._unsent}
        self._timed_out: dict[tuple[str, str], TimedOut] = {}
        """The outcome of a call after those in a row that took too long, by worker and function."""

    def as_completed(self) -> Iterator[Item]:
        """Yield items as their outcomes arrive; call `outcome` with each before the next.  A worker keeps the order."""
        for name in self._unsent:
            self._send_ahead(name)
        while first := [next(iter(sent.items())) for sent in self._sent.values() if sent]:
            ready = [item for item, sent in first if isinstance(sent, Exception) or sent[1].done]
            if ready:
                yield min(ready, key=self._position.__getitem__)
            else:
                self._pool.wait_any([sent[1] for _, sent in first if isinstance(sent, tuple)])

    def outcome(self, item: Item) -> tuple[PreparedCall, Outcome]:
        """The call of an item and its outcome; raises what `WorkerPool.wait` raises."""
        name = item.installed.worker
        sent_items = self._sent.setdefault(name, {})
        self._send_ahead(name)
        if item not in sent_items:
            sent_items[item] = self._send(item)
        sent = sent_items.pop(item)
        self._send_ahead(name)
        if isinstance(sent, Exception):
            raise sent
        prepared, future = sent
        outcome = self._pool.wait(future)
        self._note(item, outcome)
        return prepared, outcome

    def _note(self, item: Item, outcome: Outcome) -> None:
        """Count calls that took too long; after too many, withdraw those of the function that are on their way."""
        worker, function = key = item.installed.worker, item.function.name
        if not isinstance(outcome, TimedOut):
            self._timed_out.pop(key, None)
        elif not outcome.earlier:
            before = self._timed_out.get(key, outcome)
            self._timed_out[key] = replace(before, earlier=before.earlier + 1)
            if skipped := self._skipped(item):
                for waiting, sent in self._sent[worker].items():
                    if waiting.function.name == function and isinstance(sent, tuple):
                        sent[1].worker.withdraw(sent[1], skipped)

    def _skipped(self, item: Item) -> TimedOut | None:
        """The outcome of a call that is not to be made; None if it is."""
        late = self._timed_out.get((item.installed.worker, item.function.name))
        return late if late is not None and late.earlier >= MAX_TIMED_OUT else None

    def _send_ahead(self, name: str) -> None:
        unsent, sent = self._unsent.get(name, ()), self._sent[name]
        if len(sent) > CALLS_AHEAD // 2:
            return  # a worker that is sent many calls at one time is woken once for all of them
        while unsent and len(sent) < CALLS_AHEAD:
            item = unsent.popleft()
            sent[item] = self._send(item)

    def _send(self, item: Item) -> tuple[PreparedCall, Future] | Exception:
        try:
            prepared = prepare(item, self._problems)
            skipped = self._skipped(item)
            return prepared, self._pool.submit(item.installed.worker, prepared.call, prepared.description, skipped)
        except (LoweringError, CaseFileError) as error:
            return error

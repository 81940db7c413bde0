"""Processes beside this one that execute and judge items; this one hands out the items and collects the rows.

Each process judges the outcomes of its workers, and sends each row when it is judged.  A call that kills its worker, or
takes too long, is a row.  A judging process that dies takes with it only the items it was at: these are not executed,
and the others go on.  An exception in a process is raised here.  A process whose run is gone ends itself.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter, deque
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from conformance.adapters import registry
from conformance.casefiles.known_issues import Ledger
from conformance.execution.assessing import NotExecuted, RowOrError, rows_of
from conformance.execution.child import ChildProcess, wait_for
from conformance.execution.targets import Assignment
from conformance.execution.workers.pool import LocalWorkerPool, Versions, WorkerError
from conformance.judging.case_set import load_suite
from conformance.judging.judge import Judge
from conformance.judging.plan import Item, id_of, plan
from conformance.model.case import Case
from conformance.reference.oracle import cached_oracle

CHUNK = 64
"""Items that a process is handed at one time."""
AHEAD = 2
"""Chunks that a process has before it has finished the first of them."""
HELP = 2000
"""Items of a framework that must be left for another process to import it, too."""

Key = tuple[str, str]
"""Names of the worker and of the item, which several workers may be asked."""


@dataclass(frozen=True)
class _Setup:
    """What a judging process needs from its start."""

    assignments: Mapping[str, Assignment]
    """By name of the worker."""
    first: tuple[str, ...]
    """Names of the workers that it starts at once."""
    folder: Path | None
    loaded: tuple[list[Case], Ledger] | None
    timeout: float


class _JudgingProcess(ChildProcess):
    """A judging process, and which items it has."""

    def __init__(self, setup: _Setup) -> None:
        super().__init__(_serve, setup)
        self.first = setup.first
        self.current = ""
        """Name of the worker whose items it takes."""
        self.pending: set[Key] = set()
        """Items that it was handed, whose rows it has not sent."""
        self.chunks = 0
        """Number of chunks that it has not finished."""

    @property
    def failure(self) -> str:
        """Why its items are not executed."""
        return f"the process that was to judge it {self.exit_reason}"


class JudgingProcesses:
    """Processes that execute and judge items; they are started at once, and end with the context.

    assignments: workers that may be used; a process starts one when it is handed the first of its items.  first: for
    each process, the names of the workers that it starts at once.  folder: of the cases.  timeout: seconds that a call
    may take.  loaded: the cases and their ledger, if they are not those of the folder.
    """

    def __init__(
        self,
        assignments: Collection[Assignment],
        first: Sequence[Sequence[str]],
        folder: Path | None,
        timeout: float,
        loaded: tuple[list[Case], Ledger] | None = None,
    ) -> None:
        by_name = {assignment.worker.name: assignment for assignment in assignments}
        self._processes = [_JudgingProcess(_Setup(by_name, tuple(names), folder, loaded, timeout)) for names in first]
        self._started = list(self._processes)
        self._queues: dict[str, deque[Key]] = {}

    def __enter__(self) -> JudgingProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.kill()

    def versions(self) -> dict[str, Versions | WorkerError]:
        """The versions that the workers started at once have found, by name; for the others, why they cannot be had."""
        found: dict[str, Versions | WorkerError] = {}
        for process in self._processes:
            try:
                process.send(None)
                found |= process.receive()
            except (EOFError, OSError):
                found |= dict.fromkeys(process.first, WorkerError(process.failure))
        return found

    def rows(self, items: Sequence[Item]) -> Generator[RowOrError]:
        """The rows of items, in the order in which they are judged; can be called once."""
        versions: dict[str, Versions] = {}
        for item in items:
            found = item.installed
            versions.setdefault(found.worker, Versions(found.version, found.python, found.numpy, found.backend))
            self._queues.setdefault(found.worker, deque()).append(_key(item))
        for process in list(self._processes):
            try:
                process.send(versions)
            except OSError:
                yield from self._lost(process)
            else:
                yield from self._hand_out(process)
        while self._processes:
            for process in wait_for(self._processes):
                yield from self._receive(process)

    def _receive(self, process: _JudgingProcess) -> Iterator[RowOrError]:
        """Receive a row, or that the process has finished a chunk."""
        try:
            result: RowOrError | None = process.receive()
        except (EOFError, OSError):
            yield from self._lost(process)
            return
        if result is None:
            process.chunks -= 1
            yield from self._hand_out(process)
        else:
            process.pending.discard(_key_of(result))
            yield result

    def _hand_out(self, process: _JudgingProcess) -> Iterator[RowOrError]:
        """Send a process its next items, or have it end if there are none for it."""
        try:
            while process.chunks < AHEAD and (queue := self._next(process)):
                keys = [queue.popleft() for _ in range(min(CHUNK, len(queue)))]
                process.pending.update(keys)
                process.chunks += 1
                process.send(keys)
            if not process.chunks:
                process.send(None)
                self._processes.remove(process)
        except OSError:
            yield from self._lost(process)

    def _next(self, process: _JudgingProcess) -> deque[Key] | None:
        """The queue that a process continues with: of its worker, of one that it has started, or the longest."""
        if process.current and self._queues[process.current]:
            return self._queues[process.current]
        taken = Counter(other.current for other in self._processes if other is not process)
        left = {name: len(queue) for name, queue in self._queues.items() if queue}
        mine = {name: count for name, count in left.items() if name in process.first}
        worth = {name: count for name, count in left.items() if not taken[name] or count >= HELP}
        for among in (mine, worth):
            if among:
                process.current = max(among, key=lambda name: among[name] / (1 + taken[name]))
                return self._queues[process.current]
        return None

    def _lost(self, process: _JudgingProcess) -> Iterator[NotExecuted]:
        """Why the items of a process that died are not executed, and all that are left if it was the last."""
        self._processes.remove(process)
        why = process.failure
        left = sorted(process.pending)
        if not self._processes:
            left += itertools.chain(*self._queues.values())
            self._queues.clear()
        return (NotExecuted(worker, name, why) for worker, name in left)


def first_workers(items: Sequence[Item], count: int) -> list[list[str]]:
    """The worker that each of `count` processes starts at once: several for the framework with most items."""
    left = Counter(item.installed.worker for item in items)
    taken: Counter[str] = Counter()
    for _ in range(count):
        taken[max(left, key=lambda name: left[name] / (1 + taken[name]))] += 1
    return [[name] for name in taken.elements()]


def _key(item: Item) -> Key:
    """What an item has in common with its row, and with no other."""
    return item.installed.worker, item.id


def _key_of(result: RowOrError) -> Key:
    """The key of the item that a result is of."""
    if isinstance(result, NotExecuted):
        return result.worker, result.id
    return registry.worker(result["framework"], result["environment"], result["mode"]), id_of(result)


def _serve(run: Connection, setup: _Setup) -> None:
    """Make rows, in a judging process, until the run has no more items to hand out."""
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(
            LocalWorkerPool([setup.assignments[name].worker for name in setup.first], setup.timeout)
        )
        cases, ledger = load_suite(setup.folder) if setup.loaded is None else setup.loaded  # while the workers start
        while (versions := run.recv()) is None:
            run.send(pool.all_versions())
        judge = Judge(stack.enter_context(cached_oracle()), ledger)
        items: dict[str, dict[str, Item]] = {}
        while (keys := run.recv()) is not None:
            for name in {name for name, _ in keys} - items.keys():
                assignment = setup.assignments[name]
                items[name] = {item.id: item for item in plan(cases, [assignment.installed(versions[name])])}
                pool.start(assignment.worker)
            for result in rows_of([items[name][key] for name, key in keys], judge, pool):
                run.send(result)
            judge.oracle.flush()
            run.send(None)

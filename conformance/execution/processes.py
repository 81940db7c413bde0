"""Processes beside this one that execute and judge items; this one distributes the items and collects the rows.

Each process judges the outcomes of its workers, and sends each row when it is judged.  A call that kills its worker, or
takes too long, is a row.  If a judging process dies, only the items that it was
executing are lost: these become `NotExecuted`, and the others go on.  An exception in a process is raised here.  A
process whose run is gone ends itself.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.adapters import registry
from conformance.casefiles.known_issues import Ledger
from conformance.execution.assessing import NotExecuted, RowOrError, rows_of
from conformance.execution.distribution import Execute, Lost, TaskProcesses
from conformance.execution.targets import Assignment
from conformance.execution.workers.pool import LocalWorkerPool, Timeouts, WorkerError
from conformance.execution.workers.wire import Versions
from conformance.judging.case_set import load_suite
from conformance.judging.judge import Judge
from conformance.judging.plan import Item, plan
from conformance.model.case import Case
from conformance.reference.oracle import cached_oracle

CHUNK = 64
"""Number of items that a process is sent at a time."""
AHEAD = 2
"""Chunks that a process has before it has finished the first of them."""
MIN_SHARED_ITEMS = 2000
"""Number of remaining items of a framework from which it is worthwhile that another process imports it, too."""

Key = tuple[str, str]
"""Names of the worker and of the item, which several workers may execute."""


@dataclass(frozen=True)
class _Setup:
    """What a judging process needs from its start."""

    assignments: Mapping[str, Assignment]
    """By name of the worker."""
    first: tuple[str, ...]
    """Names of the workers that it starts at once."""
    folder: Path | None
    loaded: tuple[list[Case], Ledger] | None
    timeouts: Timeouts


@dataclass(frozen=True)
class _Chunk:
    """Items of one worker."""

    worker: str
    versions: Versions
    """What the worker has found."""
    ids: list[str]


VERSIONS = "versions"
"""Task of finding the versions of the workers that are started at once."""


class JudgingProcesses:
    """Processes that execute and judge items; they are started at once, and end with the context.

    assignments: workers that may be used; a process starts one when it is sent the first of its items.  first: for
    each process, the names of the workers that it starts at once.  folder: of the cases.  loaded: the cases and their
    ledger, if they are not those of the folder.
    """

    def __init__(
        self,
        assignments: Collection[Assignment],
        first: Sequence[Sequence[str]],
        folder: Path | None,
        timeouts: Timeouts,
        loaded: tuple[list[Case], Ledger] | None = None,
    ) -> None:
        by_name = {assignment.worker.name: assignment for assignment in assignments}
        setups = [_Setup(by_name, tuple(names), folder, loaded, timeouts) for names in first]
        self._processes = TaskProcesses[Any, Any](_judging, [(setup,) for setup in setups])
        self._first = first
        self._current = [""] * len(first)
        """For each process, the name of the worker whose items it takes."""
        self._versions: dict[str, Versions] = {}
        self._queues: dict[str, deque[str]] = {}
        """Ids of the items that no process has, by worker."""

    def __enter__(self) -> JudgingProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.close()

    def versions(self) -> dict[str, Versions | WorkerError]:
        """The versions that the workers started at once have found, by name; for the others, why they cannot be had."""
        found: dict[str, Versions | WorkerError] = {}
        tasks = dict.fromkeys(range(len(self._first)), VERSIONS)
        for result in self._processes.results(lambda process: tasks.pop(process, None), last=False):
            if isinstance(result, Lost):
                found |= dict.fromkeys(self._first[result.process], WorkerError(_lost_reason(result)))
            else:
                found |= result[1]
        return found

    def rows(self, items: Sequence[Item]) -> Generator[RowOrError]:
        """The rows of items, in the order in which they are judged; can be called once."""
        for item in items:
            found = item.installed
            self._versions[found.worker] = Versions(found.version, found.python, found.numpy, found.backend)
            self._queues.setdefault(found.worker, deque()).append(item.id)
        judged: set[Key] = set()
        why = ""
        for result in self._processes.results(self._next_chunk, AHEAD):
            if isinstance(result, Lost):
                self._current[result.process], why = "", _lost_reason(result)
                keys = ((chunk.worker, name) for chunk in result.tasks for name in chunk.ids)
                yield from (NotExecuted(worker, name, why) for worker, name in keys if (worker, name) not in judged)
            else:
                judged.add(_key_of(result[1]))
                yield result[1]
        for worker, queue in self._queues.items():  # of which there are some if no process is left
            yield from (NotExecuted(worker, name, why) for name in queue)

    def _next_chunk(self, process: int) -> _Chunk | None:
        """The next items for a process: of its worker, of one that it has started, or of the longest queue."""
        name = self._current[process] = self._next_worker(process)
        queue = self._queues.get(name, ())
        ids = [queue.popleft() for _ in range(min(CHUNK, len(queue)))] if queue else []
        return _Chunk(name, self._versions[name], ids) if ids else None

    def _next_worker(self, process: int) -> str:
        current = self._current[process]
        remaining = {name: len(queue) for name, queue in self._queues.items() if queue}
        if current in remaining:
            return current
        assigned = Counter(name for number, name in enumerate(self._current) if number != process)
        started = {name: count for name, count in remaining.items() if name in self._first[process]}
        worthwhile = {
            name: count for name, count in remaining.items() if not assigned[name] or count >= MIN_SHARED_ITEMS
        }
        candidates = started or worthwhile
        return max(candidates, key=lambda name: candidates[name] / (1 + assigned[name])) if candidates else current


def _lost_reason(lost: Lost[Any]) -> str:
    return f"the process that was to judge it {lost.reason}"


def first_workers(items: Sequence[Item], count: int) -> list[list[str]]:
    """The worker that each of `count` processes starts at once: several for the framework with most items."""
    remaining = Counter(item.installed.worker for item in items)
    assigned: Counter[str] = Counter()
    for _ in range(count):
        assigned[max(remaining, key=lambda name: remaining[name] / (1 + assigned[name]))] += 1
    return [[name] for name in assigned.elements()]


def _key_of(result: RowOrError) -> Key:
    """The key of the item that a result is of."""
    if isinstance(result, NotExecuted):
        return result.worker, result.id
    return registry.worker(result.framework, result.key.environment, result.key.mode), result.key.id


@contextlib.contextmanager
def _judging(setup: _Setup) -> Iterator[Execute[_Chunk | str, RowOrError | dict[str, Versions | WorkerError]]]:
    """In a judging process, make rows of items with workers and cases that are loaded once."""
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(
            LocalWorkerPool([setup.assignments[name].worker for name in setup.first], setup.timeouts)
        )
        cases, ledger = load_suite(setup.folder) if setup.loaded is None else setup.loaded  # while the workers start
        judge = Judge(stack.enter_context(cached_oracle()), ledger)
        items: dict[str, dict[str, Item]] = {}

        def execute(task: _Chunk | str) -> Iterator[RowOrError | dict[str, Versions | WorkerError]]:
            if isinstance(task, str):
                yield pool.all_versions()
                return
            if task.worker not in items:
                assignment = setup.assignments[task.worker]
                items[task.worker] = {item.id: item for item in plan(cases, [assignment.installed(task.versions)])}
                pool.start(assignment.worker)
            yield from rows_of([items[task.worker][name] for name in task.ids], judge, pool)
            judge.oracle.flush()

        yield execute

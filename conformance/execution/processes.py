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
from typing import Any, cast

from conformance.adapters import registry
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.execution.assessing import NotExecuted, RowOrError, rows_of
from conformance.execution.distribution import Execute, Lost, TaskProcesses
from conformance.execution.targets import Assignment
from conformance.execution.workers.pool import LocalWorkerPool, Timeouts, WorkerError
from conformance.execution.workers.wire import Versions
from conformance.judging.judge import Judge
from conformance.judging.plan import Item
from conformance.model.case import Case, Quantity, Reduction
from conformance.model.row_key import RowKey
from conformance.reference.oracle import cached_oracle

CHUNK = 128
"""Number of items that a process is sent at a time."""
AHEAD = 2
"""Chunks that a process has before it has finished the first of them."""
MIN_SHARED_ITEMS = 4000
"""Number of remaining items of a framework from which it is worthwhile that another process imports it, too.

A process and its worker keep up to two processors busy, so without the other process fewer items take no longer.
"""

Key = tuple[str, str]
"""Names of the worker and of the item, which several workers may execute."""


@dataclass(frozen=True)
class _Setup:
    """What a judging process needs from its start."""

    assignments: Mapping[str, Assignment]
    """By name of the worker."""
    first: tuple[str, ...]
    """Names of the workers that it starts at once."""
    timeouts: Timeouts


@dataclass(frozen=True)
class _Suite:
    """What the items of a run are of; sent to each process before its first items."""

    cases: list[Case]
    ledger: Ledger


@dataclass(frozen=True)
class _Chunk:
    """Items of one worker."""

    worker: str
    versions: Versions
    """What the worker has found."""
    keys: list[RowKey]
    """Those of its items."""


VERSIONS = "versions"
"""Task of finding the versions of the workers that are started at once."""


class JudgingProcesses:
    """Processes that execute and judge items; they are started at once, and end with the context.

    assignments: workers that may be used; a process starts one when it is sent the first of its items.  first: for
    each process, the names of the workers that it starts at once.
    """

    def __init__(self, assignments: Collection[Assignment], first: Sequence[Sequence[str]], timeouts: Timeouts) -> None:
        by_name = {assignment.worker.name: assignment for assignment in assignments}
        setups = [_Setup(by_name, tuple(names), timeouts) for names in first]
        self._processes = TaskProcesses[Any, Any](_judging, [(setup,) for setup in setups])
        self._first = first
        self._current = [""] * len(first)
        """For each process, the name of the worker whose items it takes."""
        self._versions: dict[str, Versions] = {}
        self._queues: dict[str, deque[RowKey]] = {}
        """Keys of the items that no process has, by worker."""

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

    def rows(self, cases: list[Case], ledger: Ledger, items: Sequence[Item]) -> Generator[RowOrError]:
        """The rows of items, in the order in which they are judged; can be called once.

        cases: among which are those of the items.
        """
        for item in items:
            found = item.installed
            self._versions[found.worker] = Versions(found.version, found.python, found.numpy, found.backend)
            self._queues.setdefault(found.worker, deque()).append(item.key)
        suites = dict.fromkeys(range(len(self._first)), _Suite(cases, ledger))
        judged: set[Key] = set()
        why = ""
        for result in self._processes.results(lambda one: suites.pop(one, None) or self._next_chunk(one), AHEAD):
            if isinstance(result, Lost):
                self._current[result.process], why = "", _lost_reason(result)
                chunks = [task for task in result.tasks if isinstance(task, _Chunk)]
                keys = ((chunk.worker, key.id) for chunk in chunks for key in chunk.keys)
                yield from (NotExecuted(worker, name, why) for worker, name in keys if (worker, name) not in judged)
            else:
                judged.add(_key_of(result[1]))
                yield result[1]
        for worker, queue in self._queues.items():  # of which there are some if no process is left
            yield from (NotExecuted(worker, key.id, why) for key in queue)

    def _next_chunk(self, process: int) -> _Chunk | None:
        """The next items for a process: of its worker, of one that it has started, or of the longest queue."""
        name = self._current[process] = self._next_worker(process)
        queue = self._queues.get(name, ())
        keys = [queue.popleft() for _ in range(min(CHUNK, len(queue)))] if queue else []
        return _Chunk(name, self._versions[name], keys) if keys else None

    def _next_worker(self, process: int) -> str:
        current = self._current[process]
        remaining = {name: len(queue) for name, queue in self._queues.items() if queue}
        if current in remaining:
            return current
        assigned = Counter(name for number, name in enumerate(self._current) if number != process)
        started = {name: count for name, count in remaining.items() if name in self._first[process]}
        unassigned = {name: count for name, count in remaining.items() if not assigned[name]}
        shared = {name: count for name, count in remaining.items() if count >= MIN_SHARED_ITEMS}
        candidates = started or unassigned or shared
        return max(candidates, key=lambda name: candidates[name] / (1 + assigned[name])) if candidates else current


def _lost_reason(lost: Lost[Any]) -> str:
    return f"the process that was to judge it {lost.reason}"


def first_workers(counts: Mapping[str, int], count: int) -> list[list[str]]:
    """The worker that each of `count` processes starts at once: several for the framework with most items.

    counts: number of items by worker.
    """
    assigned: Counter[str] = Counter()
    for _ in range(count):
        assigned[max(counts, key=lambda name: counts[name] / (1 + assigned[name]))] += 1
    return [[name] for name in assigned.elements()]


def _key_of(result: RowOrError) -> Key:
    """The key of the item that a result is of."""
    if isinstance(result, NotExecuted):
        return result.worker, result.id
    return registry.worker(result.framework, result.key.environment, result.key.mode), result.key.id


@contextlib.contextmanager
def _judging(setup: _Setup) -> Iterator[Execute[_Suite | _Chunk | str, RowOrError | dict[str, Versions | WorkerError]]]:
    """In a judging process, make rows of items with workers and cases that are kept."""
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(
            LocalWorkerPool([setup.assignments[name].worker for name in setup.first], setup.timeouts)
        )
        oracle = stack.enter_context(cached_oracle())
        judge = Judge(oracle, Ledger())
        cases: dict[str, Case] = {}
        installed: dict[str, Installed] = {}

        def execute(
            task: _Suite | _Chunk | str,
        ) -> Iterator[RowOrError | dict[str, Versions | WorkerError]]:
            if isinstance(task, str):
                yield pool.all_versions()
            elif isinstance(task, _Suite):
                judge.ledger = task.ledger
                cases.update((case.id, case) for case in task.cases)
            else:
                if task.worker not in installed:
                    assignment = setup.assignments[task.worker]
                    installed[task.worker] = assignment.installed(task.versions)
                    pool.start(assignment.worker)
                found = installed[task.worker]
                yield from rows_of([_item(key, found, cases[key.case]) for key in task.keys], judge, pool)
                oracle.flush()

        yield execute


def _item(key: RowKey, installed: Installed, case: Case) -> Item:
    """The item of a key."""
    function = next(function for function in installed.functions if function.name == key.function)
    reduction, quantity = cast("Reduction", key.reduction), cast("Quantity", key.quantity)
    return Item(installed, function, case, key.dtype, reduction, quantity)

"""Judging processes: children of this process, which distributes the items and collects the rows.

Each process judges the outcomes of its workers and sends each row immediately.  A call that kills its worker, or takes
too long, becomes a row.  If a judging process dies, only the items that it was executing are lost: these become
`NotExecuted`.  The other processes take over the rest, or a new one if none is left.  An exception in a process is
raised here.  A process whose parent has ended ends itself.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.execution.assessing import CALLS_AHEAD, NotExecuted, RowOrError, judge_items
from conformance.execution.distribution import Execute, LostTasks, TaskProcesses
from conformance.execution.targets import Assignment
from conformance.execution.workers.pool import LocalWorkerPool, Timeouts, WorkerError
from conformance.execution.workers.wire import Versions
from conformance.judging.case_set import CaseSet
from conformance.judging.judge import Judge
from conformance.judging.plan import Item
from conformance.model.case import Case, Quantity, Reduction
from conformance.model.row_key import RowKey
from conformance.reference.oracle import cached_oracle

CHUNK = 128
"""Number of items sent to a process at a time."""
CHUNKS_AHEAD = 2
"""Number of chunks sent to a process before it has finished the first of them."""
MAX_REPLACED = 5
"""Maximum number of processes started because all others have died."""
MIN_SHARED_ITEMS = 4000
"""Number of remaining items of a framework for which it is worthwhile that another process imports it, too.

A process and its worker use up to two processors, so that with fewer items the other process would save no time.
"""

Judged = RowOrError | dict[str, Versions | WorkerError]
"""Result of a task in a judging process."""


@dataclass(frozen=True)
class _Chunk:
    """Items for one worker."""

    worker: str
    versions: Versions
    """Versions that the worker found."""
    keys: deque[RowKey]
    """Keys of its items; in this process those without a result, in the order of the results."""


VERSIONS = "versions"
"""Task of reporting the versions of the workers that were started immediately."""


class JudgingProcesses:
    """Processes that execute and judge items; they start immediately, and end with the context.

    assignments: available workers; a process starts one when it receives the first of its items.  first: for
    each process, the names of the workers to start immediately.
    """

    def __init__(self, assignments: Collection[Assignment], first: Sequence[Sequence[str]], timeouts: Timeouts) -> None:
        by_name = {assignment.worker.name: assignment for assignment in assignments}
        self._setups = [(by_name, tuple(names), timeouts) for names in first]
        self._processes = TaskProcesses[Any, Any](_judging, self._setups)
        self._first = first
        self._current = [""] * len(first)
        """Name of the current worker of each process."""
        self._versions: dict[str, Versions] = {}
        self._queues: dict[str, deque[RowKey]] = {}
        """Keys of the items that no process has, by worker."""

    def __enter__(self) -> JudgingProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.close()

    def versions(self) -> dict[str, Versions | WorkerError]:
        """Versions of the workers that were started immediately, by name, or why a worker failed to start."""
        versions: dict[str, Versions | WorkerError] = {}
        tasks = dict.fromkeys(range(len(self._first)), VERSIONS)
        for result in self._processes.results(lambda process: tasks.pop(process, None)):
            if isinstance(result, LostTasks):
                versions |= dict.fromkeys(self._first[result.process], WorkerError(_lost_reason(result)))
            else:
                versions |= result[1]
        return versions

    def rows(self, cases: CaseSet, items: Sequence[Item]) -> Generator[RowOrError]:
        """Rows of items in the order of judging; can be called once.

        cases: contain those of the items; sent to each process before its first items.
        """
        for item in items:
            installed = item.installed
            self._versions[installed.worker] = Versions(
                installed.version, installed.python, installed.numpy, installed.backend
            )
            self._queues.setdefault(installed.worker, deque()).append(item.key)
        why = yield from self._until_all_died(cases)
        for _ in range(MAX_REPLACED):
            if any(self._queues.values()):
                self._processes = TaskProcesses[Any, Any](_judging, self._setups[:1])
                why = yield from self._until_all_died(cases)
        for worker, queue in self._queues.items():
            yield from (NotExecuted(worker, key.id, f"{why}, and no other one is left") for key in queue)

    def _until_all_died(self, cases: CaseSet) -> Generator[RowOrError, None, str]:
        """Rows of queued items; some items stay queued if all processes die.  Returns how the last process died."""
        suites = dict.fromkeys(range(len(self._first)), cases)
        why = ""
        for result in self._processes.results(
            lambda process: suites.pop(process, None) or self._next_chunk(process), CHUNKS_AHEAD
        ):
            if isinstance(result, LostTasks):
                why = _lost_reason(result)
                yield from (NotExecuted(worker, key.id, why) for worker, key in self._take_back(result))
            else:
                chunk, row = result
                chunk.keys.popleft()
                yield row
        return why

    def _take_back(self, lost: LostTasks[Any]) -> list[tuple[str, RowKey]]:
        """Queue the items of a dead process again; return those that it was executing, by worker.

        One of these may have killed it, and could kill the next one.
        """
        self._current[lost.process] = ""
        executing: list[tuple[str, RowKey]] = []
        first = lost.tasks[0]
        if isinstance(first, _Chunk):
            count = min(len(first.keys), 1 + CALLS_AHEAD)
            executing = [(first.worker, first.keys.popleft()) for _ in range(count)]
        for task in reversed(lost.tasks):
            if isinstance(task, _Chunk):
                self._queues[task.worker].extendleft(reversed(task.keys))
        return executing

    def _next_chunk(self, process: int) -> _Chunk | None:
        """The next items for a process: of its current worker, another started one, or the longest queue."""
        name = self._current[process] = self._next_worker(process)
        queue = self._queues.get(name, ())
        keys = deque(queue.popleft() for _ in range(min(CHUNK, len(queue)))) if queue else None
        return _Chunk(name, self._versions[name], keys) if keys else None

    def _next_worker(self, process: int) -> str:
        current = self._current[process]
        remaining = {name: len(queue) for name, queue in self._queues.items() if queue}
        if current in remaining:
            return current
        assigned = Counter(self._current[number] for number in self._processes.running if number != process)
        started = {name: count for name, count in remaining.items() if name in self._first[process]}
        unassigned = {name: count for name, count in remaining.items() if not assigned[name]}
        shared = {name: count for name, count in remaining.items() if count >= MIN_SHARED_ITEMS}
        candidates = started or unassigned or shared
        return max(candidates, key=lambda name: candidates[name] / (1 + assigned[name])) if candidates else current


def _lost_reason(lost: LostTasks[Any]) -> str:
    return f"the process that was to judge it {lost.reason}"


def first_workers(counts: Mapping[str, int], count: int) -> list[list[str]]:
    """The worker that each of `count` processes starts immediately: several for the framework with the most items.

    counts: number of items by worker.
    """
    assigned: Counter[str] = Counter()
    for _ in range(count):
        assigned[max(counts, key=lambda name: counts[name] / (1 + assigned[name]))] += 1
    return [[name] for name in assigned.elements()]


@contextlib.contextmanager
def _judging(
    assignments: Mapping[str, Assignment], first: Sequence[str], timeouts: Timeouts
) -> Iterator[Execute[CaseSet | _Chunk | str, RowOrError | dict[str, Versions | WorkerError]]]:
    """Compute rows of items in a judging process, which keeps its workers and cases.

    assignments: by the name of the worker.  first: names of the workers to start immediately.
    """
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(LocalWorkerPool([assignments[name].worker for name in first], timeouts))
        oracle = stack.enter_context(cached_oracle())
        judge = Judge(oracle, Ledger())
        cases: dict[str, Case] = {}
        installed: dict[str, Installed] = {}

        def execute(task: CaseSet | _Chunk | str) -> Iterator[Judged]:
            if isinstance(task, str):
                yield pool.all_versions()
            elif isinstance(task, CaseSet):
                judge.ledger = task.ledger
                cases.update((case.id, case) for case in task.cases)
            else:
                if task.worker not in installed:
                    assignment = assignments[task.worker]
                    installed[task.worker] = assignment.installed(task.versions)
                    pool.start(assignment.worker)
                target = installed[task.worker]
                yield from judge_items([_item(key, target, cases[key.case]) for key in task.keys], judge, pool)
                oracle.flush()

        yield execute


def _item(key: RowKey, installed: Installed, case: Case) -> Item:
    """Recreate an item from its key."""
    function = next(function for function in installed.functions if function.name == key.function)
    reduction, quantity = cast("Reduction", key.reduction), cast("Quantity", key.quantity)
    return Item(installed, function, case, key.dtype, reduction, quantity)

"""Executors of a run: this process, several processes with workers, workers in environments, or a Ray cluster."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

from conformance.adapters.registry import Installed
from conformance.execution.assessing import RowOrError, judge_items
from conformance.execution.judging_processes import JudgingProcesses, first_workers
from conformance.execution.resources import process_count
from conformance.execution.targets import Progress, find_available, local_assignments, local_pool, resolve
from conformance.execution.workers.pool import Timeouts, WorkerPool
from conformance.judging.case_set import CaseSet
from conformance.judging.judge import Judge
from conformance.judging.plan import Item
from conformance.judging.row import Row
from conformance.model.row_key import CPU
from conformance.reference.oracle import cached_oracle

ITEMS_PER_PROCESS = 2000
"""Number of items that justify another judging process."""
ITEMS_PER_FUNCTION = 400
"""Approximate number of items of the shipped cases per function."""


@dataclass(frozen=True, eq=False)
class Executor:
    """Available frameworks, and the function that computes the rows of items."""

    available: list[Installed]
    rows: Callable[[CaseSet, list[Item]], Generator[RowOrError]]
    failed: list[Row] = field(default_factory=list)
    """One row for each environment that cannot be created."""


def in_process(available: list[Installed]) -> Executor:
    """Execute items with the installed frameworks in this process."""
    return Executor(available, _judged)


def local(
    stack: contextlib.ExitStack,
    available: list[Installed],
    processes: int | None,
    timeouts: Timeouts,
    *,
    is_complete: bool,
) -> Executor:
    """Execute items with the installed frameworks.

    processes: number of judging processes, each with workers that make its calls; None for as many as processors and
    memory allow.  is_complete: whether all shipped cases will be executed; processes then start immediately, and import
    frameworks while the cases are loaded.
    """

    def start(counts: Mapping[str, int]) -> JudgingProcesses | None:
        """Start judging processes; None if one is enough.  counts: number of items by worker."""
        total = sum(counts.values())
        count = process_count(1 + total // ITEMS_PER_PROCESS) if processes is None else min(processes, total)
        if count < 2:
            return None
        used = [installed for installed in available if installed.worker in counts]
        return stack.enter_context(JudgingProcesses(local_assignments(used), first_workers(counts, count), timeouts))

    early = (
        start({installed.worker: ITEMS_PER_FUNCTION * len(installed.functions) for installed in available})
        if is_complete
        else None
    )

    def rows(cases: CaseSet, items: list[Item]) -> Generator[RowOrError]:
        judging = early or start(Counter(item.installed.worker for item in items))
        if judging is not None:
            yield from judging.rows(cases, items)
        else:
            with local_pool([item.installed for item in items], timeouts) as pool:
                yield from _judged(cases, items, pool)

    return Executor(available, rows)


def in_environments(
    stack: contextlib.ExitStack,
    frameworks: Mapping[str, Sequence[str]],
    processes: int | None,
    timeouts: Timeouts,
    progress: Progress,
    modes: Sequence[str] = (),
    device: str = CPU,
) -> Executor:
    """Execute items in environments, which are created as needed.

    frameworks: framework names by value of `--with`, see `resolve`.  processes: number of processes, see `local`.
    """
    assignments, failed = resolve(frameworks, progress, modes=modes, device=device)
    count = process_count(len(assignments)) if processes is None else min(processes, len(assignments))
    first = [[assignment.worker.name for assignment in assignments[start::count]] for start in range(count)]
    progress("importing frameworks ...")
    judging = stack.enter_context(JudgingProcesses(assignments, first, timeouts))
    available = find_available(assignments, judging.versions(), failed)
    return Executor(available, lambda cases, items: judging.rows(cases, items), failed)


def on_ray(
    address: str,
    stack: contextlib.ExitStack,
    frameworks: Mapping[str, Sequence[str]],
    timeouts: Timeouts,
    progress: Progress,
    modes: Sequence[str] = (),
) -> Executor:
    """Execute items in environments created by Ray.  address: address of its cluster, see `resolve`."""
    from conformance.execution.workers.on_ray import RayWorkerPool, RayWorkerSpec

    assignments, failed = resolve(frameworks, progress, address, modes)
    specs = [assignment.worker for assignment in assignments if isinstance(assignment.worker, RayWorkerSpec)]
    pool = stack.enter_context(RayWorkerPool(specs, timeouts, address, progress))
    available = find_available(assignments, pool.all_versions(), failed)
    return Executor(available, lambda cases, items: _judged(cases, items, pool), failed)


def _judged(cases: CaseSet, items: list[Item], pool: WorkerPool | None = None) -> Generator[RowOrError]:
    """Rows of items, judged in this process."""
    with cached_oracle() as oracle:
        yield from judge_items(items, Judge(oracle, cases.ledger), pool)

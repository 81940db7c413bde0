"""What makes the rows of a run: this process, several with workers, workers in environments, or a Ray cluster."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.execution.assessing import RowOrError, rows_of
from conformance.execution.processes import JudgingProcesses, first_workers
from conformance.execution.resources import process_count
from conformance.execution.targets import (
    Progress,
    find_available,
    local_assignments,
    local_pool,
    resolve,
    start_workers,
)
from conformance.execution.workers.pool import Timeouts, WorkerPool
from conformance.judging.judge import Judge
from conformance.judging.plan import Item
from conformance.judging.row import Row
from conformance.model.case import Case
from conformance.reference.oracle import cached_oracle

SHARE = 2000
"""Number of items for which another judging process is worth its start."""
SHIPPED = 400
"""About how many items of the shipped cases a function has."""


@dataclass(frozen=True, eq=False)
class CaseSet:
    """The cases of a run with their ledger."""

    cases: list[Case]
    ledger: Ledger
    harvested: bool = False
    """Whether they are from the tests of other projects."""


@dataclass(frozen=True, eq=False)
class Executor:
    """Frameworks that can be called, and what makes the rows of items."""

    available: list[Installed]
    rows: Callable[[CaseSet, list[Item]], Generator[RowOrError]]
    failed: list[Row] = field(default_factory=list)
    """A row for each environment that cannot be had."""


def in_process(available: list[Installed]) -> Executor:
    """Execute items with the frameworks that are installed here, in this process."""
    return Executor(available, _judged)


def local(
    stack: contextlib.ExitStack, available: list[Installed], processes: int | None, timeouts: Timeouts, *, whole: bool
) -> Executor:
    """Execute items with the frameworks that are installed here.

    processes: number of judging processes, each with workers that make its calls; as processors and memory allow if
    None.  whole: whether all shipped cases will be executed; processes then start at once, and import frameworks while
    the cases are loaded.
    """

    def start(counts: Mapping[str, int]) -> JudgingProcesses | None:
        """Start judging processes; None if one is enough.  counts: number of items by worker."""
        total = sum(counts.values())
        count = process_count(1 + total // SHARE) if processes is None else min(processes, total)
        if count < 2:
            return None
        used = [one for one in available if one.worker in counts]
        return stack.enter_context(JudgingProcesses(local_assignments(used), first_workers(counts, count), timeouts))

    early = start({one.worker: SHIPPED * len(one.functions) for one in available}) if whole else None

    def rows(cases: CaseSet, items: list[Item]) -> Generator[RowOrError]:
        judging = early or start(Counter(item.installed.worker for item in items))
        if judging is not None:
            yield from judging.rows(cases.cases, cases.ledger, items)
        else:
            with local_pool([item.installed for item in items], timeouts) as pool:
                yield from _judged(cases, items, pool)

    return Executor(available, rows)


def in_environments(
    stack: contextlib.ExitStack,
    wanted: Mapping[str, Sequence[str]],
    processes: int | None,
    timeouts: Timeouts,
    progress: Progress,
    modes: Sequence[str] = (),
) -> Executor:
    """Execute items in environments, made at need.

    wanted: as `start_workers` takes it.  processes: as `local` takes it.
    """
    assignments, failed = resolve(wanted, progress, modes=modes)
    count = process_count(len(assignments)) if processes is None else min(processes, len(assignments))
    first = [[one.worker.name for one in assignments[start::count]] for start in range(count)]
    progress("importing frameworks ...")
    judging = stack.enter_context(JudgingProcesses(assignments, first, timeouts))
    available = find_available(assignments, judging.versions(), failed)
    return Executor(available, lambda cases, items: judging.rows(cases.cases, cases.ledger, items), failed)


def on_ray(
    address: str,
    stack: contextlib.ExitStack,
    wanted: Mapping[str, Sequence[str]],
    timeouts: Timeouts,
    progress: Progress,
    modes: Sequence[str] = (),
) -> Executor:
    """Execute items in environments that Ray makes.  address: of its cluster, as `start_workers` takes it."""
    workers = start_workers(wanted, progress, timeouts, address, modes)
    pool = stack.enter_context(workers.pool)
    return Executor(workers.available, lambda cases, items: _judged(cases, items, pool), workers.failed)


def _judged(cases: CaseSet, items: list[Item], pool: WorkerPool | None = None) -> Generator[RowOrError]:
    """The rows of items that are judged in this process."""
    with cached_oracle() as oracle:
        yield from rows_of(items, Judge(oracle, cases.ledger), pool)

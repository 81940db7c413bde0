"""What makes the rows of a run: this process, several with workers, workers in environments, or a Ray cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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


@dataclass(frozen=True, eq=False)
class CaseSet:
    """The cases of a run with their ledger."""

    folder: Path | None
    """Folder of the cases; None for the shipped ones."""
    cases: list[Case]
    ledger: Ledger
    harvested: bool = False
    """Whether there are cases that are not from the folder."""

    @property
    def sent(self) -> tuple[list[Case], Ledger] | None:
        """What judging processes are sent because they cannot load it from the folder."""
        return (self.cases, self.ledger) if self.harvested else None


@dataclass(frozen=True, eq=False)
class Executor:
    """Frameworks that can be called, and what makes the rows of items."""

    available: list[Installed]
    rows: Callable[[list[Item]], Generator[RowOrError]]
    failed: list[Row] = field(default_factory=list)
    """A row for each environment that cannot be had."""


def local(
    cases: CaseSet, available: list[Installed], processes: int | None, in_process: bool, timeouts: Timeouts
) -> Executor:
    """Execute items with the frameworks that are installed here.

    processes: number of judging processes, each with workers that make its calls; as processors and memory allow if
    None.  in_process: make the calls in this process.
    """

    def rows(items: list[Item]) -> Generator[RowOrError]:
        if in_process:
            yield from _judged(cases, items)
            return
        count = process_count(1 + len(items) // SHARE) if processes is None else min(processes, len(items))
        used = [item.installed for item in items]
        if count > 1:
            first = first_workers(items, count)
            with JudgingProcesses(local_assignments(used), first, cases.folder, timeouts, cases.sent) as judging:
                yield from judging.rows(items)
        else:
            with local_pool(used, timeouts) as pool:
                yield from _judged(cases, items, pool)

    return Executor(available, rows)


def in_environments(
    stack: contextlib.ExitStack,
    cases: CaseSet,
    texts: Sequence[str],
    names: list[str],
    timeouts: Timeouts,
    progress: Progress,
    modes: Sequence[str] = (),
) -> Executor:
    """Execute items in environments, made at need, with as many judging processes as processors and memory allow."""
    assignments, failed = resolve(texts, progress, names, modes=modes)
    count = process_count(len(assignments))
    first = [[one.worker.name for one in assignments[start::count]] for start in range(count)]
    progress("importing frameworks ...")
    processes = stack.enter_context(JudgingProcesses(assignments, first, cases.folder, timeouts, cases.sent))
    return Executor(find_available(assignments, processes.versions(), failed), processes.rows, failed)


def on_ray(
    address: str,
    stack: contextlib.ExitStack,
    cases: CaseSet,
    texts: Sequence[str],
    names: list[str],
    timeouts: Timeouts,
    progress: Progress,
    modes: Sequence[str] = (),
) -> Executor:
    """Execute items in environments that Ray makes.  address: of its cluster, as `start_workers` takes it."""
    workers = start_workers(texts, progress, names, timeouts, address, modes)
    pool = stack.enter_context(workers.pool)
    return Executor(workers.available, lambda items: _judged(cases, items, pool), workers.failed)


def _judged(cases: CaseSet, items: list[Item], pool: WorkerPool | None = None) -> Generator[RowOrError]:
    """The rows of items that are judged in this process."""
    with cached_oracle() as oracle:
        yield from rows_of(items, Judge(oracle, cases.ledger), pool)

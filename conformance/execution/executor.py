"""What makes the rows of a run: this process, several with workers, workers in environments, or a Ray cluster."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.execution.places import crew_here, failed_row, found_in, meant_by, place, places_of
from conformance.execution.processes import Assignment, Judges, RowOrError, first_workers
from conformance.execution.resources import process_count
from conformance.execution.running import Isolated, rows_of
from conformance.judging.judge import Item, Judge
from conformance.judging.row import Record
from conformance.model.case import Case
from conformance.reference.oracle import Oracle, open_cache

Progress = Callable[[str], None]
SHARE = 2000
"""Items for which another process that judges is worth its start."""


@dataclass(frozen=True, eq=False)
class CaseSet:
    """The cases of a run with their ledger.

    folder: that they lie in, None for the shipped ones.  harvested: whether others came in.
    """

    folder: Path | None
    cases: list[Case]
    ledger: Ledger
    harvested: bool = False

    @property
    def sent(self) -> tuple[list[Case], Ledger] | None:
        """What a process has to be told that does not find it in the folder."""
        return (self.cases, self.ledger) if self.harvested else None


@dataclass(frozen=True, eq=False)
class Executor:
    """Frameworks that can be called, and what makes the rows of items.

    failed: a row for each environment that cannot be had.
    """

    available: list[Installed]
    rows: Callable[[list[Item]], Generator[RowOrError]]
    failed: list[Record] = field(default_factory=list)


def local(
    cases: CaseSet, available: list[Installed], processes: int | None, in_process: bool, timeout: float
) -> Executor:
    """Calls of what is installed here.

    processes: that judge, each with workers that make its calls; as many as there are processors and memory for, if
    None.  in_process: make the calls in this process.
    """

    def rows(items: list[Item]) -> Generator[RowOrError]:
        if in_process:
            return _judged(cases, items, None)
        count = process_count(1 + len(items) // SHARE) if processes is None else min(processes, len(items))
        if count > 1:
            return _shared(cases, items, count, timeout)
        return _beside(cases, items, timeout)

    return Executor(available, rows)


def _beside(cases: CaseSet, items: list[Item], timeout: float) -> Generator[RowOrError]:
    """The rows of items that are judged in this process, and called in one for each framework."""
    with crew_here({item.installed.worker: item.installed for item in items}.values(), timeout) as crew:
        yield from _judged(cases, items, Isolated(crew, items))


def _shared(cases: CaseSet, items: list[Item], count: int, timeout: float) -> Generator[RowOrError]:
    """The rows of items that several processes judge."""
    python = Path(sys.executable)
    assignments = [
        Assignment(found.environment, place(name, found.framework, python))
        for name, found in {item.installed.worker: item.installed for item in items}.items()
    ]
    with Judges(assignments, first_workers(items, count), cases.folder, timeout, cases.sent) as judges:
        yield from judges.rows(items)


def in_environments(
    stack: contextlib.ExitStack,
    cases: CaseSet,
    texts: Sequence[str],
    names: list[str],
    timeout: float,
    progress: Progress,
) -> Executor:
    """What is in environments, made at need; as many processes as there are processors and memory for judge them."""
    meant, failed = meant_by(texts, progress, names)
    count = process_count(len(meant))
    first = [[one.place.name for one in meant[start::count]] for start in range(count)]
    assignments = [Assignment(one.environment, one.place) for one in meant]
    progress("importing what is to be asked ...")
    judges = stack.enter_context(Judges(assignments, first, cases.folder, timeout, cases.sent))
    facts = judges.facts()
    there: list[Installed] = []
    for one in meant:
        found = facts[one.place.name]
        if isinstance(found, str):
            failed.append(failed_row(one.environment, one.framework.name, found))
        else:
            there.append(Installed(one.framework, environment=one.environment, **found))
    return Executor(found_in(there, failed), judges.rows, failed)


def on_ray(
    address: str,
    stack: contextlib.ExitStack,
    cases: CaseSet,
    texts: Sequence[str],
    names: list[str],
    timeout: float,
    progress: Progress,
) -> Executor:
    """What is in environments that Ray makes.  address: of its cluster, as `places_of` takes it."""
    places = places_of(texts, progress, names, timeout, address)
    assert places.crew is not None
    crew = stack.enter_context(places.crew)
    return Executor(places.there, lambda items: _judged(cases, items, Isolated(crew, items)), places.failed)


def _judged(cases: CaseSet, items: list[Item], isolated: Isolated | None) -> Generator[RowOrError]:
    with contextlib.ExitStack() as stack:
        if (cache := open_cache()) is not None:
            stack.callback(cache.close)
        yield from rows_of(items, Judge(Oracle(cache), cases.ledger), isolated)

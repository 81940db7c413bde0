"""Measures of the suite itself: faulty implementations that it must catch, and the tests of other projects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from conformance.api.base import SILENT, Observer, Result
from conformance.execution.distribution import LostTasks, distribute
from conformance.judging.case_set import load_case_set
from conformance.model.errors import UserError
from conformance.power.harvest import pipeline
from conformance.power.harvest.collection import TIMEOUT
from conformance.power.harvest.pipeline import Harvests
from conformance.power.harvest.statements import Holds, JudgedResult, judge_results
from conformance.power.mutants.catalogue import CORRECT, FAULTY, select
from conformance.power.mutants.numpy_losses import Implementation
from conformance.power.mutants.score import (
    CaseRun,
    FalseAlarm,
    MutantResult,
    describe_mutant,
    run_correct_in_folder,
    run_correct_on_generated,
    run_mutants_in_folder,
)
from conformance.reference.oracle import cached_oracle

T = TypeVar("T")


@dataclass(frozen=True)
class MutantList(Result):
    """Implementations on which cases are run, in the order of their families."""

    command = "mutants.list"
    mutants: tuple[MutantResult, ...]
    """Name, family and fault of each."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "mutants": [{"name": mutant.name, "family": mutant.family, "what": mutant.fault} for mutant in self.mutants]
        }  # fmt: skip


def list_mutants(families: Sequence[str] = (), keyword: str = "", correct: bool = False) -> MutantList:
    """List faulty or correct implementations, without a run.

    Parameters
    ----------
    families : sequence of str
        Families of faults; all if empty.
    keyword : str, optional
        Expression that `family.Name` must match, as with pytest's `-k`.
    correct : bool
        List correct implementations.

    Returns
    -------
    MutantList

    Raises
    ------
    SelectionError
        If there is no such family, or nothing is selected.
    """
    return MutantList(tuple(map(describe_mutant, select(CORRECT if correct else FAULTY, families, keyword))))


@dataclass(frozen=True)
class MutationResult(Result):
    """Mutants and whether they are killed, that is, detected by some case."""

    command = "mutants"
    results: tuple[MutantResult, ...]
    """The results, in the order of the families."""
    undecided: int = 0
    """Number of mutants without a result; above 0 only after an interruption."""

    @property
    def survivors(self) -> tuple[MutantResult, ...]:
        return tuple(result for result in self.results if result.survived)

    @property
    def killed(self) -> int:
        return len(self.results) - len(self.survivors)

    def families(self) -> dict[str, tuple[int, int]]:
        """(killed, all) by family."""
        totals, survivors = (
            Counter(result.family for result in self.results),
            Counter(result.family for result in self.survivors),
        )
        return {family: (count - survivors[family], count) for family, count in totals.items()}

    def alone(self) -> dict[str, list[str]]:
        """Mutants that only one case kills, keyed by that case, sorted."""
        names_by_case: dict[str, list[str]] = {}
        for result in self.results:
            if result.only_killer:
                names_by_case.setdefault(result.only_killer, []).append(result.name)
        return {case: names_by_case[case] for case in sorted(names_by_case)}

    def to_dict(self) -> dict[str, Any]:
        return {
            "killed": self.killed,
            "of": len(self.results),
            "undecided": self.undecided,
            "families": {
                family: {"killed": killed, "of": total} for family, (killed, total) in self.families().items()
            },
            "survivors": [result.name for result in self.survivors],
            "alone": self.alone(),
            "mutants": [
                {
                    "name": result.name,
                    "family": result.family,
                    "fault": result.fault,
                    "kills": [{"case": kill.case, "item": kill.item, "because": kill.message} for kill in result.kills],
                }
                for result in self.results
            ],
        }


def mutants(
    cases: Path | None = None,
    families: Sequence[str] = (),
    keyword: str = "",
    processes: int = 1,
    observer: Observer = SILENT,
) -> MutationResult:
    """Call faulty implementations on every case, and find those that no case kills.

    Parameters
    ----------
    cases : Path, optional
        Folder of case files, or one file; the shipped cases if None.
    families : sequence of str
        Families of faults; all if empty.
    keyword : str, optional
        Expression that `family.Name` must match, as with pytest's `-k`.
    processes : int
        Number of processes that share the mutants; 1 for the current one.
    observer : Observer
        Notified of each case that the mutants of a process have run.

    Returns
    -------
    MutationResult
        Also if it is interrupted.

    Raises
    ------
    SelectionError
        If there is no such family, or nothing is selected.
    UserError
        If the files have errors, or a process ends early.
    """
    chosen = select(FAULTY, families, keyword)
    decided: dict[str, MutantResult] = {}

    def add(event: MutantResult | CaseRun) -> None:
        if isinstance(event, MutantResult):
            decided[event.name] = event

    parts = _parts_of_folder(cases, chosen, processes)
    count = len(load_case_set(cases).cases) * len(parts)
    _each(_events(run_mutants_in_folder, parts), add, count, observer, lambda: f"{len(decided)} decided")
    results = tuple(decided[loss.__name__] for loss in chosen if loss.__name__ in decided)
    return MutationResult(results, len(chosen) - len(results))


@dataclass(frozen=True)
class FalseAlarms(Result):
    """False alarms: findings about correct implementations."""

    command = "mutants.right"
    alarms: tuple[FalseAlarm, ...]
    """Rows in which a correct implementation is reported as wrong."""
    items: int
    """Number of calls."""
    cases_run: int
    """Number of executed cases, of `planned`."""
    cases: int
    """Number of cases."""
    planned: int
    """Number of cases to run; each process counts."""
    interrupted: bool
    """Whether a signal ended it."""

    def to_dict(self) -> dict[str, Any]:
        alarms = [{"name": alarm.name, "item": alarm.item, "yaml": alarm.text} for alarm in self.alarms]
        return {"items": self.items, "put": self.cases_run, "of": self.planned, "alarms": alarms}


def check_correct(
    cases: Path | None = None,
    keyword: str = "",
    processes: int = 1,
    generated: int = 0,
    seed: int = 0,
    found: Callable[[FalseAlarm], None] = lambda alarm: None,
    observer: Observer = SILENT,
) -> FalseAlarms:
    """Call correct implementations on cases; none of them may be reported as wrong.

    Parameters
    ----------
    cases : Path, optional
        Folder of case files, or one file; the shipped cases if None.
    keyword : str, optional
        Expression that `family.Name` must match, as with pytest's `-k`.
    processes : int
        Number of processes that share the implementations; 1 for the current one.
    generated : int
        Number of random cases to run instead of those of a folder.
    seed : int
        Seed; equal seeds give equal cases.
    found : callable
        Called with each new false alarm.
    observer : Observer
        Notified of each case that the implementations of a process have run.

    Returns
    -------
    FalseAlarms
        Also if it is interrupted.

    Raises
    ------
    SelectionError
        If nothing is selected.
    UserError
        If the files have errors, or a process ends early.
    """
    chosen = select(CORRECT, (), keyword)
    alarms: list[FalseAlarm] = []
    runs: list[CaseRun] = []

    def add(event: FalseAlarm | CaseRun) -> None:
        if isinstance(event, CaseRun):
            runs.append(event)
        else:
            alarms.append(event)
            found(event)

    if generated:
        names, shares = [loss.__name__ for loss in chosen], min(processes, generated)
        parts = [(names, seed, range(start, generated, shares)) for start in range(shares)]
        count = planned = generated
        events = _events(run_correct_on_generated, parts)
    else:
        of_folder = _parts_of_folder(cases, chosen, processes)
        count = len(load_case_set(cases).cases)
        planned = count * len(of_folder)
        events = _events(run_correct_in_folder, of_folder)
    interrupted = _each(events, add, planned, observer, lambda: f"{len(alarms)} alarms")
    return FalseAlarms(tuple(alarms), sum(run.items for run in runs), len(runs), count, planned, interrupted)


def _parts_of_folder(
    cases: Path | None, chosen: Sequence[type[Implementation]], processes: int
) -> list[tuple[Path | None, list[str]]]:
    """The arguments of each process for the cases of a folder: the folder, and names of implementations."""
    names = [loss.__name__ for loss in chosen]
    return [(cases, names[start::processes]) for start in range(min(processes, len(names)))]


def _events(work: Callable[..., Iterable[T]], parts: Sequence[tuple[Any, ...]]) -> Generator[T]:
    """The results of `work` for each part, from one process per part; from this one if there is a single part."""
    if len(parts) == 1:
        yield from work(*parts[0])
        return
    for result in distribute(work, parts, len(parts)):
        if isinstance(result, LostTasks):
            why = f"{result.reason} before its part was done; run with -n 1 to see why"
            raise UserError(f"a process of -n {len(parts)} {why}")
        yield result[1]


def _each(
    events: Generator[T], add: Callable[[T], None], count: int, observer: Observer, label: Callable[[], str]
) -> bool:
    """Add events as they arrive; return whether that was interrupted.  count: number of cases, for the observer."""
    try:
        with observer.rows(count) as advance:
            for event in events:
                add(event)
                if isinstance(event, CaseRun):
                    advance(label())
    except KeyboardInterrupt:
        return True
    finally:
        events.close()
    return False


@dataclass(frozen=True, eq=False)
class HarvestResult(Result):
    """Cases and stated answers from the tests of other projects."""

    command = "harvest"
    harvests: Harvests
    """The cases by source, with the errors of sources that cannot be read."""
    statements: Mapping[str, Sequence[JudgedResult]]
    """Answers stated in a source, compared with the exact ones, by source."""
    files: tuple[Path, ...]
    """Files to which the cases were written."""

    def wrong(self, source: str) -> list[JudgedResult]:
        """Stated answers of a source that do not hold."""
        return [result for result in self.statements[source] if result.holds == "does not hold"]

    def count_held(self, source: str) -> Counter[Holds]:
        """Number of stated answers of a source by whether they hold."""
        return Counter(result.holds for result in self.statements[source])

    def to_dict(self) -> dict[str, Any]:
        sources = [
            {
                "source": harvest.source,
                "version": harvest.version,
                "home": harvest.url,
                "found": harvest.inputs,
                "cases": len(harvest.cases),
                "duplicates": harvest.duplicates,
                "unsaid": dict(harvest.untranslated),
                "notes": list(harvest.notes),
                "stated": dict(self.count_held(harvest.source)),
                "wrong": list(map(str, self.wrong(harvest.source))),
            }
            for harvest in self.harvests.harvests
        ]
        return {"sources": sources, "missing": list(self.harvests.missing)}


def harvest(
    sources: Sequence[str] = (), folder: Path | None = None, timeout: float = TIMEOUT, observer: Observer = SILENT
) -> HarvestResult:
    """Read cases from the tests that other projects ship in their wheels, and check the answers stated in them.

    Parameters
    ----------
    sources : sequence of str
        Names of projects; all installed ones if empty.
    folder : Path, optional
        Folder in which to write the cases as case files.
    timeout : float
        Timeout in seconds for reading one project.
    observer : Observer
        Notified of each step.

    Returns
    -------
    HarvestResult
        Also if some sources cannot be read.

    Raises
    ------
    HarvestError
        If there is no such source, or none of them is installed.
    WritingError
        If the files cannot be written.
    """
    with observer.status() as show:
        collection = pipeline.harvest(sources, timeout, show)
        show("comparing what they state with the oracle")
        with cached_oracle() as oracle:
            stated = {entry.source: judge_results(entry.statements, oracle) for entry in collection.harvests}
    files = () if folder is None else tuple(pipeline.save(collection.harvests, folder))
    return HarvestResult(collection, stated, files)

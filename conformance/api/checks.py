"""Metamorphic relations, held against installed functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.adapters.contract.calling import perform
from conformance.api.observing import SILENT, Observer
from conformance.api.result import Result
from conformance.casefiles.known_issues import KnownIssue
from conformance.execution.assessing import NotExecuted
from conformance.execution.run import Run
from conformance.explore import relations as catalogue
from conformance.explore.relations import RelationResult, rendering
from conformance.judging.case_set import load_suite
from conformance.judging.choice import installed_among, wanted
from conformance.judging.selection import SelectionError


@dataclass(frozen=True, eq=False)
class RelationsResult(Result):
    """Which relations hold."""

    command = "relations"
    planned: int
    """Number of instances that were selected."""
    results: list[RelationResult]
    not_executed: tuple[NotExecuted, ...]
    """Instances whose calls could not be made, each with the reason."""
    stale: list[KnownIssue]
    """Entries of the ledger whose relations hold wherever they were checked; empty unless everything was checked."""
    stopped: str
    """Why the check ended early; empty if it did not."""

    @property
    def complete(self) -> bool:
        """Whether every instance was checked."""
        return len(self.results) == self.planned

    @property
    def broken(self) -> list[RelationResult]:
        """Relations that are violated although nothing documents it, or that hold although the ledger denies it."""
        return [result for result in self.results if result.expected in ("unexpected", "stale")]

    def to_dict(self) -> dict[str, Any]:
        return {
            "planned": self.planned,
            "interrupted": bool(self.stopped),
            "not_asked": list(map(str, self.not_executed)),
            "findings": list(map(rendering.as_record, self.results)),
            "gone": list(map(str, self.stale)),
        }


def relations(
    keyword: str = "", frameworks: Sequence[str] = (), cases: Path | None = None, observer: Observer = SILENT
) -> RelationsResult:
    """Put problems to installed functions in two ways each, and compare both answers.

    Parameters
    ----------
    keyword : str, optional
        Only instances whose id matches this expression, as with pytest's `-k`.
    frameworks : sequence of str
        Names of frameworks; all that are installed if empty.
    cases : Path, optional
        Folder of case files, or one file; the shipped cases if None.
    observer : Observer
        Hears of frameworks that are not installed, and of each instance.

    Returns
    -------
    RelationsResult

    Raises
    ------
    SelectionError
        If nothing is selected.
    CaseErrors
        If something is wrong in the files.
    """
    found, ledger = load_suite(cases)
    catalogue.check_names(ledger)
    available, missing = installed_among(frameworks)
    instances = catalogue.select_instances(found, available, wanted(keyword))
    if not instances:
        what = f"by -k {keyword!r}" if keyword else "of what the installed functions can say in two ways"
        raise SelectionError(f"nothing is selected {what}; ids are FUNCTION-RELATION-CASE-DTYPE-REDUCTION")
    for name in missing:
        observer.note(f"left out, not installed: {name}")
    run, results = Run(), list[RelationResult]()
    with run.ending(), observer.rows(len(instances)) as advance:
        results += run.each(instances, lambda instance: catalogue.check(instance, perform, ledger), advance)
    if run.failure is not None:
        raise run.failure
    complete = len(results) == len(instances) and not keyword and not frameworks
    stale = catalogue.stale_entries(results) if complete else []
    return RelationsResult(len(instances), results, tuple(run.not_executed), stale, run.stopped)


__all__ = ["RelationsResult", "relations"]

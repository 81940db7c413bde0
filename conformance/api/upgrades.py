"""Audit an upgrade of frameworks, or bisect the release that changed an answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.adapters import registry
from conformance.api.base import SILENT, Observer, Result
from conformance.api.cases import load_case
from conformance.comparison import audit_page, audit_rendering, bisection, upgrade
from conformance.comparison.bisection import Attempt, Bisection, NothingToFindError
from conformance.comparison.upgrade import Audit
from conformance.execution.workers.pool import IMPORT_TIMEOUT, TIMEOUT, Timeouts
from conformance.judging.case_set import load_case_set
from conformance.judging.choice import selected
from conformance.judging.judge import Judge
from conformance.judging.selection import SelectionError
from conformance.model.text import suggest
from conformance.reference.oracle import cached_oracle


@dataclass(frozen=True, eq=False)
class AuditResult(Result):
    """The changes by an upgrade."""

    command, version = "audit", audit_rendering.FORMAT
    audit: Audit | None
    """Comparison of both sides; None after an interruption, when both reports have the rows until that point."""
    not_executed: tuple[str, ...]
    """Items that could not be executed, each with the reason; they are in neither report."""

    def to_dict(self) -> dict[str, Any]:
        if self.audit is None:
            return {"interrupted": True, "not_executed": list(self.not_executed)}
        return audit_rendering.as_dict(self.audit)


def audit(
    old: str,
    new: str,
    folder: Path,
    cases: Path | None = None,
    keyword: str = "",
    timeout: float = TIMEOUT,
    observer: Observer = SILENT,
    import_timeout: float = IMPORT_TIMEOUT,
) -> AuditResult:
    """Call the frameworks of two environments on cases, compare the answers, and write the changes.

    Parameters
    ----------
    old, new : str
        Requirements, an interpreter, a virtual environment or a requirements file each.
    folder : Path
        Folder for `audit.html`, `audit.md`, `audit.csv` and `audit.json`; its subfolders `old` and `new` are the
        reports.
    cases : Path, optional
        Folder of case files, or one file; the shipped cases if None.
    keyword : str, optional
        Expression that ids of items must match, as with pytest's `-k`.
    timeout : float
        Timeout in seconds for a call.
    observer : Observer
        Notified of each step.
    import_timeout : float
        Timeout in seconds for the import of a framework.

    Returns
    -------
    AuditResult

    Raises
    ------
    UserError
        If an environment cannot be created, they have no framework in common, nothing is selected, or a report cannot
        be written.
    """
    chosen = f"-k {keyword}" if keyword else ""
    with (
        upgrade.AuditRun(folder, observer.note) as run,
        cached_oracle() as oracle,
        observer.status() as show,
    ):
        case_set = load_case_set(cases)
        with upgrade.open_sides(old, new, show, Timeouts(timeout, import_timeout)) as sides:
            items = selected(case_set.cases, sides.available, keyword)
            run.execute_both(sides, items, case_set.cases, chosen, Judge(oracle, case_set.ledger), show)
            try:
                audited = upgrade.audit(sides, run, folder)
            except KeyboardInterrupt:
                return AuditResult(None, tuple(run.failures))
    audit_rendering.write_files({"audit.html": audit_page.page(audited), **audit_rendering.texts(audited)}, folder)
    return AuditResult(audited, tuple(run.failures))


@dataclass(frozen=True, eq=False)
class BisectResult(Result):
    """The release in which the answer to a case changed."""

    command = "bisect"
    distribution: str
    """Distribution whose releases were searched."""
    case: str
    """Id of the case."""
    found: Bisection | None
    """The two releases between which the answer changes; None if both ends have the same answer."""
    attempts: tuple[Attempt, ...]
    """Attempted releases, ascending."""
    why: str = ""
    """Why nothing was found."""

    def to_dict(self) -> dict[str, Any]:
        subject = {"distribution": self.distribution, "case": self.case}
        if self.found is not None:
            return {**subject, **bisection.as_dict(self.found)}
        return {**subject, "found": None, "why": self.why, "tried": bisection.attempts_as_dicts(self.attempts)}


def bisect(
    distribution: str,
    good: str,
    bad: str,
    case_id: str,
    *,
    function: str = "",
    dtype: str = "",
    reduction: str = "",
    beside: str = "",
    cases: Path | None = None,
    timeout: float = TIMEOUT,
    observer: Observer = SILENT,
    import_timeout: float = IMPORT_TIMEOUT,
) -> BisectResult:
    """Find the release in which the answer to a case changed.

    Parameters
    ----------
    distribution : str
        Name in the package index.
    good, bad : str
        The older and the newer release; `1.0` is the first of 1.0.x if there is no 1.0.
    case_id : str
        Id of a case, such as `categorical/ignore_index/with_class_weights`.
    function, dtype, reduction : str, optional
        Restrict the answers to compare; all if empty.
    beside : str, optional
        Additional requirements of every environment.
    cases : Path, optional
        Folder of case files, or one file; the shipped cases if None.
    timeout : float
        Timeout in seconds for a call.
    observer : Observer
        Notified of each step.
    import_timeout : float
        Timeout in seconds for the import of a framework.

    Returns
    -------
    BisectResult

    Raises
    ------
    UserError
        If a name or release does not exist, or no two releases can be called.
    """
    from conformance.execution.environments import releases

    case, ledger = load_case(case_id, cases)
    known = {function.name for function in registry.functions()}
    if function and function not in known:
        hint = suggest(function, sorted(known), "conformance list functions")
        raise SelectionError(f"--function {function}: there is no such function; {hint}")
    query = bisection.Query(distribution, case, function, dtype, reduction, beside)
    with cached_oracle() as oracle, observer.status() as show:
        show(f"searching the package index for releases of {distribution}")
        candidates = bisection.releases_between(good, bad, releases(distribution), distribution)
        probe = bisection.make_probe(query, Judge(oracle, ledger), show, Timeouts(timeout, import_timeout))
        try:
            result = bisection.bisect(query, candidates, probe, show)
        except NothingToFindError as nothing:
            return BisectResult(distribution, case.id, None, nothing.attempts, str(nothing))
    return BisectResult(distribution, case.id, result, result.attempts)

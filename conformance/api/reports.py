"""Reports: compare, accept as the baseline, merge, recover, and render them as a history or a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conformance import report
from conformance.adapters import registry
from conformance.api.base import SILENT, Observer, Result
from conformance.casefiles.known_issues import HARVEST_PREFIX
from conformance.comparison import acceptance, audit_rendering, difference_rendering, reports
from conformance.comparison import history as histories
from conformance.comparison.acceptance import Proposal
from conformance.comparison.history import History
from conformance.comparison.merging import merge_reports
from conformance.comparison.reports import ReportDifference
from conformance.execution.report_folder import check_no_part_of_report, folder_of
from conformance.execution.targets import open_judge
from conformance.explain.page_explanations import explain_report
from conformance.explore.sweep import rendering
from conformance.judging.case_set import load_case_set
from conformance.model.files import write_output
from conformance.model.serialization import serialize
from conformance.power.harvest.pipeline import load_harvest
from conformance.report import recording


@dataclass(frozen=True, eq=False)
class DiffResult(Result):
    """The changes between two reports."""

    command = "diff"
    difference: ReportDifference
    """Every row of either report, with its change, its severity, and whether it is documented."""

    def to_dict(self) -> dict[str, Any]:
        return difference_rendering.as_dict(self.difference)


def diff(old: Path, new: Path) -> DiffResult:
    """Compare two reports.

    Parameters
    ----------
    old, new : Path
        Folder or results file of each report.

    Returns
    -------
    DiffResult

    Raises
    ------
    ReportError
        If a report cannot be read.
    ComparisonError
        If a report is incomplete, or both cannot be compared.
    """
    return DiffResult(reports.difference(old, new))


@dataclass(frozen=True, eq=False)
class AcceptResult(Result):
    """The effect of accepting a report on the baseline."""

    command = "accept"
    proposal: Proposal
    """The rows of the new baseline, and the changes."""
    accepted: bool
    """Whether the baseline was replaced."""

    def to_dict(self) -> dict[str, Any]:
        proposed, difference = self.proposal, self.proposal.difference
        return {
            "report": str(proposed.report),
            "baseline": str(proposed.baseline),
            "rows": len(proposed.results),
            "same": proposed.same,
            "kept": dict(proposed.kept),
            "dropped": proposed.dropped,
            "difference": None if difference is None else serialize("diff", difference_rendering.as_dict(difference)),
            "accepted": self.accepted,
        }


def accept(
    report: Path,
    baseline: Path,
    even_unexpected: bool = False,
    confirm: Callable[[Proposal], bool] = lambda proposal: True,
) -> AcceptResult:
    """Make a report the baseline, merged with the rows that it did not run.

    Parameters
    ----------
    report : Path
        Folder or results file.
    baseline : Path
        Folder of the baseline, which may not exist yet.
    even_unexpected : bool
        Also accept rows that are unexpected or stale.
    confirm : callable
        Called with the proposal unless the baseline already has these rows; the baseline is replaced if it returns
        True.

    Returns
    -------
    AcceptResult

    Raises
    ------
    ReportError
        If the report cannot be read, or the baseline not be written.
    ComparisonError
        If the report is incomplete, has unexpected rows, or is the baseline itself.
    """
    proposal = acceptance.proposal(report, baseline, even_unexpected)
    accepted = not proposal.same and confirm(proposal)
    if accepted:
        acceptance.accept(proposal)
    return AcceptResult(proposal, accepted)


@dataclass(frozen=True, eq=False)
class HistoryResult(Result):
    """The changes by release."""

    command = "history"
    history: History
    """The changes from each release to the next."""
    folder: Path
    """Folder of `history.md` and `history.csv`."""

    def to_dict(self) -> dict[str, Any]:
        return {"changes": histories.as_records(self.history), "failed": list(self.history.failed)}


def history(report: Path, folder: Path | None = None) -> HistoryResult:
    """Find the changes from release to release, and write them as Markdown and CSV.

    Parameters
    ----------
    report : Path
        A report of several releases.
    folder : Path, optional
        Folder for `history.md` and `history.csv`; that of the report if None.

    Returns
    -------
    HistoryResult

    Raises
    ------
    ReportError
        If the report cannot be read, or the files not be written.
    ComparisonError
        If the report is incomplete, or has only one release of each framework.
    """
    entries = histories.history(report)
    home = folder or folder_of(report)
    audit_rendering.write_files(
        {"history.md": histories.markdown(entries), "history.csv": histories.as_csv(entries)}, home
    )
    return HistoryResult(entries, home)


@dataclass(frozen=True, eq=False)
class MergeResult(Result):
    """A report merged from several."""

    command = "merge"
    report: Path
    """Folder of the report."""
    parts: tuple[Path, ...]
    """The merged reports."""
    record: dict[str, Any]
    """The content of its `run.json`."""

    def to_dict(self) -> dict[str, Any]:
        return {"report": str(self.report), "parts": list(map(str, self.parts)), **self.record}


def merge(parts: Sequence[Path], folder: Path) -> MergeResult:
    """Merge partial reports (of cases, frameworks, machines) into one; their order does not matter.

    Parameters
    ----------
    parts : sequence of Path
        Folders or results files of reports.
    folder : Path
        Folder of the merged report.

    Returns
    -------
    MergeResult

    Raises
    ------
    ReportError
        If a report cannot be read or written.
    ComparisonError
        If a row is in two parts, the parts are of different suites or versions of this package, or `folder` is one of
        them.
    """
    return MergeResult(folder, tuple(parts), merge_reports(parts, folder))


@dataclass(frozen=True, eq=False)
class RecoverResult(Result):
    """The report of a killed run."""

    command = "recover"
    report: Path
    """Folder of the report."""
    record: dict[str, Any]
    """The content of its `run.json`."""

    @property
    def planned(self) -> int | None:
        """Number of planned rows; None if unknown."""
        return None if self.record["interrupted"] in recording.PLAN_LOST else self.record["planned"]

    def to_dict(self) -> dict[str, Any]:
        names = ("complete", "planned", "finished", "interrupted", "status", "expected")
        return {
            "report": str(self.report), **{name: self.record[name] for name in names}, "planned": self.planned
        }  # fmt: skip


def recover(folder: Path, observer: Observer = SILENT) -> RecoverResult:
    """Write the report of a killed or interrupted run from its journal.

    For rows without a `run.json`, write a report that is marked incomplete.

    Parameters
    ----------
    folder : Path
        Folder of the report of the run.
    observer : Observer
        Notified of unreadable data.

    Returns
    -------
    RecoverResult

    Raises
    ------
    ReportError
        If there is no journal, a run has locked it, or it has no rows.
    """
    return RecoverResult(folder, recording.recover(folder, observer.note))


@dataclass(frozen=True, eq=False)
class PageResult(Result):
    """The written page of a report."""

    command = "page"
    page: Path
    """Path of the page."""
    report: Path
    """Folder of the report."""
    rows: int
    """Number of rows of the report."""
    views: tuple[str, ...]
    """Contents of the page in addition to the rows."""
    explained: int
    """Number of explanations."""
    bytes: int
    """Size of the page."""

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "page": str(self.page), "report": str(self.report), "views": list(self.views)}


def page(
    report_path: Path,
    cases: Path | None = None,
    *,
    max_explained: int = 400,
    sweep: Path | None = None,
    history: Path | None = None,
    against: Path | None = None,
    output: Path | None = None,
    observer: Observer = SILENT,
) -> PageResult:
    """Rewrite the HTML page of a report, with explanations, a sweep, a history or a comparison.

    Parameters
    ----------
    report_path : Path
        Folder or results file of the report.
    cases : Path, optional
        Folder of case files, or one file; the shipped or harvested cases if None.
    max_explained : int
        Maximum number of explained causes, each once: those of unexpected rows first, then those with the most rows.
    sweep, history : Path, optional
        Folders with `sweep.json` and `history.csv`; that of the report, if it has these files, if None.
    against : Path, optional
        An older report to compare with this one.
    output : Path, optional
        File of the page; `index.html` of the report if None.
    observer : Observer
        Notified of each explained case.

    Returns
    -------
    PageResult

    Raises
    ------
    UserError
        If something cannot be read or written, or both reports cannot be compared.
    """
    folder = folder_of(report_path)
    if output is not None:
        check_no_part_of_report("--output", output, folder)
    results, record = report.read(report_path)
    run = report.RunInfo.of(record)
    sources = {name.split("/")[1] for name in set(results["case"]) if name.startswith(HARVEST_PREFIX)}
    harvested = sources and cases is None
    case_set = load_harvest(sorted(sources))[0] if harvested else load_case_set(cases)
    supplement = report.PageSupplement(report.problems(case_set.cases), report.sizes(case_set.cases))
    if sweep is not None or (folder / "sweep.json").is_file():
        lines, means = rendering.read(sweep or folder)
        supplement = replace(supplement, sweep=lines, means=means)
    if history is not None or (folder / "history.csv").is_file():
        supplement = replace(supplement, history=histories.read(history or folder))
    if against is not None:
        changes, conditions = difference_rendering.page_changes(reports.difference(against, report_path))
        supplement = replace(supplement, changes=changes, against=conditions)
    if max_explained:
        by_id, names = {case.id: case for case in case_set.cases}, set(results["framework"])
        available = [installed for installed in registry.installed()[0] if installed.framework.name in names]
        with open_judge(available, case_set.ledger) as judge, observer.status() as show:
            explanations, rows = explain_report(
                results, by_id, available, judge, max_explained, lambda case: show(f"explaining {case} ...")
            )
        supplement = replace(supplement, explanations=explanations, explained_rows=rows)
    text = report.page(results, run, supplement)
    if output is None:
        report.rewrite_page(folder, text)
    else:
        write_output(output, text)
    written = output or folder / "index.html"
    return PageResult(
        written, folder, len(results), tuple(supplement.views()), len(supplement.explanations), len(text.encode())
    )

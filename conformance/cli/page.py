"""`conformance page`: a report's page with what else is known beside its rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.markup import escape

from conformance import comparison, explain, report
from conformance.adapters import registry
from conformance.casefiles.known_issues import HARVEST_PREFIX, Ledger
from conformance.cli.shared import CasesOption, Json, progress, write_output
from conformance.cli.terminal import out
from conformance.comparison import history
from conformance.explore.sweep import rendering
from conformance.judging.case_set import load_suite
from conformance.judging.judge import Judge
from conformance.model.case import Case
from conformance.power.harvest.case_set import load_harvest
from conformance.reference.oracle import cached_oracle


def page(
    path: Annotated[Path, typer.Argument(metavar="REPORT", help="The folder of a report.")],
    cases: CasesOption = None,
    most: Annotated[
        int,
        typer.Option("--explain", min=0, metavar="N", help="Explain up to N cases on which functions do not agree."),
    ] = 400,
    sweep_folder: Annotated[
        Path | None,
        typer.Option("--sweep", metavar="DIR", help="A folder with sweep.json; the report's unless given."),
    ] = None,
    history_folder: Annotated[
        Path | None,
        typer.Option("--history", metavar="DIR", help="A folder with history.csv; the report's unless given."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="OLD", help="An older report, whose answers stand beside these.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there, not into the report.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a report's page again, with explanations of its cases, sweeps, history, and what changed since another."""
    results, record = report.read(path)
    run = report.RunInfo.of(record)
    folder = path if path.is_dir() else path.parent
    found, ledger = _cases(cases, set(results["case"]))
    supplement = report.PageSupplement(report.problems(found), report.sizes(found))
    if sweep_folder is not None or (folder / "sweep.json").is_file():
        lines, means = rendering.read(sweep_folder or folder)
        supplement = replace(supplement, sweep=lines, means=means)
    if history_folder is not None or (folder / "history.csv").is_file():
        supplement = replace(supplement, history=history.read(history_folder or folder))
    if against is not None:
        changes, conditions = comparison.for_page(comparison.difference(against, path))
        supplement = replace(supplement, changes=changes, against=conditions)
    if most:
        supplement = replace(supplement, explanations=_explanations(results, found, ledger, most))
    text = report.page(results, run, run.published, supplement)
    if output is None:
        report.rewrite_page(folder, text)
    else:
        write_output(output, text)
    written = str(output or folder / "index.html")
    if as_json:
        contents = {"views": supplement.views(), "explained": len(supplement.explanations), "bytes": len(text.encode())}
        out.facts("page", {"page": written, "report": str(folder), "rows": len(results), **contents})
    else:
        out.print(f"page: {escape(written)}", soft_wrap=True)


def _cases(folder: Path | None, ids: set[str]) -> tuple[list[Case], Ledger]:
    sources = sorted({name.split("/")[1] for name in ids if name.startswith(HARVEST_PREFIX)})
    if sources and folder is None:
        return load_harvest(sources)[:2]
    return load_suite(folder)


def _explanations(
    results: pd.DataFrame, found: list[Case], ledger: Ledger, most: int
) -> dict[str, list[tuple[str, str, int]]]:
    available, _ = registry.installed()
    with cached_oracle() as oracle, progress(min(most, results["case"].nunique())) as advance:
        judge = Judge(oracle, ledger)
        return explain.explain_report(results, {case.id: case for case in found}, available, judge, most, advance)

"""`conformance diff`, `accept` and `merge`: reports held against each other, accepted and joined."""

from __future__ import annotations

import io
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from conformance import comparison, report
from conformance.cli.shared import Json, JsonFormat, Level, output_format, warn, write_output
from conformance.cli.terminal import UNEXPECTED, err, out
from conformance.comparison import Difference

ReportArgument = Annotated[Path, typer.Argument(metavar="REPORT", help="A report: its folder, or its results file.")]
WIDTH = 80
"""Columns of a terminal's text in a file."""


class Format(StrEnum):
    """How a difference is printed."""

    terminal = "terminal"
    markdown = "markdown"
    csv = "csv"
    json = "json"
    html = "html"


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A report: its folder, or its results file.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The report to hold against it.")],
    fail_on: Annotated[
        Level, typer.Option("--fail-on", help="Exit with 1 on this or worse; drift is an answer that moved at all.")
    ] = Level.regression,
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="csv and json have every row that changed, html is the page of NEW with OLD beside it.",
        ),
    ] = Format.terminal,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there.")] = None,
    as_json: JsonFormat = False,
) -> None:
    """What changed between two reports, worst first; exit status 1 where something regressed, 2 where it is refused."""
    form = Format(output_format(form, as_json))
    found = comparison.difference(old, new)
    if output is None:
        _print(found, form)
    else:
        write_output(output, _text(found, form))
        warn(f"{comparison.headline(found)}: {output}")
    raise typer.Exit(UNEXPECTED if found.fails(fail_on.value) else 0)


def accept(
    path: ReportArgument,
    baseline: Annotated[Path, typer.Option("--baseline", metavar="DIR", help="The baseline to update.")] = Path(
        "reports/baseline"
    ),
    even_unexpected: Annotated[
        bool, typer.Option("--even-unexpected", help="Accept rows that are unexpected or stale, too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Accept without a question.")] = False,
    as_json: Json = False,
) -> None:
    """Make a report the baseline, after showing what that accepts.

    Without --yes it asks; where nobody can answer, and with --json, it only shows, and exits with 1.
    """
    proposed = comparison.proposal(path, baseline, even_unexpected)
    if as_json:
        _accept_as_json(proposed, yes)
        return
    if proposed.difference is not None:
        for piece in comparison.terminal(proposed.difference):
            out.print(piece)
    for line in proposed.lines():
        out.print(escape(line), soft_wrap=True)
    if proposed.same:
        out.print("the baseline has these rows already; nothing to accept")
        return
    if not yes:
        _confirm()
    comparison.accept(proposed)
    out.print(f"accepted: {escape(str(baseline))}, {len(proposed.results)} rows", soft_wrap=True)


def _accept_as_json(proposed: comparison.Proposal, yes: bool) -> None:
    if yes and not proposed.same:
        comparison.accept(proposed)
    out.facts("accept", {**_proposal_facts(proposed), "accepted": yes and not proposed.same})
    if not (yes or proposed.same):
        err.print("nothing was accepted; --yes accepts it")
        raise typer.Exit(UNEXPECTED)


def _confirm() -> None:
    """Ask whether to accept; end the command where the answer is no, or nobody can give one."""
    if not sys.stdin.isatty():
        err.print("nothing was accepted; --yes accepts it")
        raise typer.Exit(UNEXPECTED)
    if not typer.confirm("Accept?"):
        raise typer.Exit(UNEXPECTED)


def merge(
    paths: Annotated[list[Path], typer.Argument(metavar="REPORT...", help="Reports that are to become one.")],
    folder: Annotated[Path, typer.Option("--report", metavar="DIR", help="Where the whole goes.")],
    as_json: Json = False,
) -> None:
    """Join partial reports (shards, frameworks, machines) into one, the same whatever their order."""
    record = comparison.merge_reports(paths, folder)
    if as_json:
        out.facts("merge", {"report": str(folder), "parts": list(map(str, paths)), **record})
        return
    state = "complete" if record["complete"] else "incomplete"
    why = "; ".join(filter(None, (str(record["interrupted"]), str(record["partial"]))))
    out.print(
        escape(f"{len(paths)} reports, {record['finished']} of {record['planned']} rows, {state}")
        + (f" ({escape(why)})" if why else ""),
        soft_wrap=True,
    )
    out.print(f"report: {escape(str(folder))}", soft_wrap=True)


def _proposal_facts(proposed: comparison.Proposal) -> dict[str, Any]:
    """What accepting a report would make of the baseline; `same`: it has these rows already."""
    difference = proposed.difference
    return {
        "report": str(proposed.report),
        "baseline": str(proposed.baseline),
        "rows": len(proposed.results),
        "same": proposed.same,
        "kept": dict(proposed.kept),
        "dropped": proposed.dropped,
        "difference": None if difference is None else json.loads(comparison.as_json(difference)),
    }


def _print(found: Difference, form: Format) -> None:
    if form is Format.terminal:
        for piece in comparison.terminal(found):
            out.print(piece)
    else:
        sys.stdout.write(_text(found, form))


def _text(found: Difference, form: Format) -> str:
    match form:
        case Format.markdown:
            return comparison.markdown(found)
        case Format.csv:
            return comparison.as_csv(found)
        case Format.json:
            return comparison.as_json(found)
        case Format.html:
            changes, conditions = comparison.for_page(found)
            results, record = report.read(Path(found.new.name))
            run = report.RunInfo.of(record)
            return report.page(results, run, run.published, report.PageSupplement(changes=changes, against=conditions))
        case Format.terminal:
            page = io.StringIO()
            console = Console(file=page, width=WIDTH, no_color=True, highlight=False)
            for piece in comparison.terminal(found):
                console.print(piece)
            return page.getvalue()

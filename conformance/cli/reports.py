"""`conformance diff`, `accept`, `merge`, `history`, `recover` and `page`: commands on reports."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import typer
from rich.markup import escape

from conformance import api, report
from conformance.cli.shared import Printer, output_format, print_stderr
from conformance.cli.terminal import UNEXPECTED, Terminal, err, out
from conformance.comparison import difference_rendering
from conformance.comparison.acceptance import Proposal
from conformance.comparison.changes import Level
from conformance.comparison.history import markdown as history_markdown
from conformance.execution.report_folder import check_no_part_of_report
from conformance.model.files import write_output

DiffFormat = Literal["terminal", "markdown", "csv", "json", "html"]


def diff(
    old: Path,
    new: Path,
    fail_on: Level,
    form: DiffFormat,
    output: Path | None,
    as_json: bool,
) -> None:
    form = output_format(form, as_json)
    if output is not None:
        check_no_part_of_report("--output", output)
    result = api.diff(old, new)
    difference = result.difference
    if output is not None:
        write_output(output, _text(result, form))
        print_stderr(f"{difference_rendering.headline(difference)}: {output}")
    elif form == "terminal":
        out.print_each(difference_rendering.terminal(difference))
    else:
        out.write(_text(result, form))
    raise typer.Exit(UNEXPECTED if difference.fails(fail_on) else 0)


def accept(
    path: Path,
    baseline: Path,
    even_unexpected: bool,
    yes: bool,
    as_json: bool,
) -> None:

    def confirm(proposed: Proposal) -> bool:
        if not as_json:
            _print_proposal(proposed)
        if yes:
            return True
        if not as_json and sys.stdin.isatty():
            return typer.confirm("Accept?")
        err.print("nothing was accepted; --yes accepts it")
        return False

    result = api.accept(path, baseline, even_unexpected, confirm)
    if as_json:
        out.write(result.to_json())
    elif result.proposal.same:
        _print_proposal(result.proposal)
        out.print("the baseline has these rows already; nothing to accept")
    elif result.accepted:
        out.print(f"accepted: {escape(str(baseline))}, {len(result.proposal.results)} rows", soft_wrap=True)
    raise typer.Exit(0 if result.accepted or result.proposal.same else UNEXPECTED)


def _print_proposal(proposed: Proposal) -> None:
    if proposed.difference is not None:
        out.print_each(difference_rendering.terminal(proposed.difference))
    out.paragraphs(proposed.lines())


def merge(
    paths: Sequence[Path],
    folder: Path,
    as_json: bool,
) -> None:
    result = api.merge(paths, folder)
    record = result.record
    state = "complete" if record["complete"] else "incomplete"
    merged = f"{len(paths)} reports, {record['finished']} of {record['planned']} rows, {state}"
    lines = [f"{merged} ({record['interrupted']})" if record["interrupted"] else merged, f"report: {folder}"]
    out.print_result(result, lambda _: out.lines(lines), as_json)


def _text(result: api.DiffResult, form: DiffFormat) -> str:
    difference = result.difference
    match form:
        case "markdown":
            return difference_rendering.markdown(difference)
        case "csv":
            return difference_rendering.as_csv(difference)
        case "json":
            return result.to_json()
        case "html":
            changes, conditions = difference_rendering.page_changes(difference)
            results, record = report.read(Path(difference.new.name))
            run = report.RunInfo.of(record)
            return report.page(results, run, report.PageSupplement(changes=changes, against=conditions))
        case "terminal":
            page = io.StringIO()
            Terminal(file=page, no_color=True, highlight=False).print_each(difference_rendering.terminal(difference))
            return page.getvalue()


def history(
    path: Path,
    folder: Path | None,
    as_json: bool,
) -> None:
    result = api.history(path, folder)
    out.write(result.to_json() if as_json else history_markdown(result.history))
    print_stderr(f"history: {result.folder}")


def recover(
    folder: Path,
    as_json: bool,
) -> None:
    result = api.recover(folder, Printer())
    record = result.record
    finished = f"{record['finished']} of {record['planned']} rows were done"
    if result.planned is None:
        finished = f"{record['finished']} rows were done; how many were planned is not known"
    lines = [finished, f"report: {folder}{'' if record['complete'] else ', marked incomplete'}"]
    out.print_result(result, lambda _: out.lines(lines), as_json)


def page(as_json: bool, **request: Any) -> None:
    result = api.page(observer=Printer(), **request)
    out.print_result(result, lambda outcome: out.lines([f"page: {outcome.page}"]), as_json)

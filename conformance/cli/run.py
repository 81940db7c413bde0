"""`conformance run`: the main job."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from conformance import report, running
from conformance.case import Case
from conformance.cli.shared import (
    INTERRUPTED,
    UNEXPECTED,
    USAGE,
    CasesOption,
    err,
    installed_among,
    out,
    selected,
    shortened,
)
from conformance.oracle import Oracle, open_cache
from conformance.suite import Row, Suite, load_suite

FAILURES = 5
"""Items that could not be asked are shown up to this number."""


def run(
    cases: CasesOption = None,
    folder: Annotated[Path, typer.Option("--report", metavar="DIR", help="Where the report goes.")] = Path(
        "reports/latest"
    ),
    keyword: Annotated[
        str, typer.Option("-k", metavar="EXPRESSION", help="Only items whose id matches, as in pytest.")
    ] = "",
    framework: Annotated[
        list[str] | None, typer.Option("--framework", "-m", help="Only this framework; may be repeated.")
    ] = None,
    processes: Annotated[int, typer.Option("-n", min=1, help="How many processes share the work.")] = 1,
) -> None:
    """Put every case to every installed function and write the discrepancy report."""
    started = time.time()
    found, ledger = load_suite(cases)
    here, missing = installed_among(framework or [])
    items = selected(found, here, keyword)
    report.check_writable(folder)
    for left_out in missing:
        err.print(f"left out, not installed: {left_out}")
    cache = open_cache()
    rows: list[Row] = []
    failures: list[str] = []
    stopped = ""
    try:
        if processes > 1:
            rows_made = running.rows_from_processes([item.id for item in items], cases, processes)
        else:
            rows_made = running.rows_of(items, Suite(Oracle(cache), ledger))
        with _progress(len(items)) as advance:
            for made in rows_made:
                advance(made)
                (failures if isinstance(made, str) else rows).append(made)  # type: ignore[arg-type]
    except KeyboardInterrupt:
        stopped = "interrupted"
    finally:
        if cache is not None:
            cache.close()
    results = report.frame(rows)
    written = running.write(folder, results, len(items), started, found, stopped)
    _finish(rows, results, len(items), [] if keyword or framework else found, written)
    for failure in failures[:FAILURES]:
        err.print(f"not asked: {escape(failure)}", soft_wrap=True)
    if len(rows) < len(items):
        more = f"{stopped}; " if stopped else ""
        more += f"{len(failures)} could not be asked; " if failures else ""
        err.print(f"{more}{len(rows)} of {len(items)} rows are in the report, which is marked incomplete")
        raise typer.Exit(INTERRUPTED if stopped else USAGE)
    raise typer.Exit(UNEXPECTED if any(row["expected"] in ("unexpected", "stale") for row in rows) else 0)


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("", total=total)

        def advance(made: Row | str) -> None:
            progress.update(task, advance=1, description="" if isinstance(made, str) else f"{made['framework']:<8}")

        yield advance


def _finish(rows: list[Row], results: pd.DataFrame, planned: int, cases: list[Case], written: Path) -> None:
    for row in rows:
        if row["expected"] in ("unexpected", "stale"):
            out.print(f"[bold]{row['expected']}[/] {escape(_headline(row))}", soft_wrap=True)
    if rows:
        out.print(report.status_table(results))
        for line in running.closing_lines(rows, planned, cases):
            out.print(escape(line), soft_wrap=True)
    out.print(f"report: {written}", soft_wrap=True)


def _headline(row: Row) -> str:
    name = f"{row['function']}-{row['case']}-{row['dtype']}-{row['reduction']}"
    return f"{name}: {row['explanation']}\n    {shortened(row['call'])}"

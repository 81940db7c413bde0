"""`conformance run`: the main job."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.markup import escape

from conformance import audit, report, running
from conformance.audit.comparing import opened
from conformance.case import Case
from conformance.cli.shared import (
    FAILURES,
    INTERRUPTED,
    UNEXPECTED,
    USAGE,
    CasesOption,
    err,
    installed_among,
    out,
    progress,
    selected,
    shortened,
)
from conformance.errors import UserError
from conformance.harvest.corpus import load_harvest
from conformance.known import Ledger
from conformance.oracle import Oracle, open_cache
from conformance.places import Places, places_of
from conformance.processes import one_pile, piles_by_framework, rows_from_processes
from conformance.selection import compiled, substring_of
from conformance.suite import Row, Suite, load_suite
from conformance.workers.crew import TIMEOUT

SURPRISES = 20
"""Unexpected rows that are shown one by one."""


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
    isolate: Annotated[bool, typer.Option("--isolate", help="Run each framework in a process of its own.")] = False,
    environments: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="REQUIREMENTS",
            help="Run in an environment made of these requirements, or in that of an interpreter, a venv or a "
            "requirements file; may be repeated.",
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option("--on", metavar="ENGINE", help="Where --with runs: ray, or a cluster's address, ray://HOST:PORT."),
    ] = "",
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="REPORT", help="An accepted report: only what got worse against it counts."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="What a call may take in a process of its own.")
    ] = TIMEOUT,
    harvest: Annotated[
        bool,
        typer.Option(
            "--harvest",
            help="Run the cases of `conformance harvest`, instead of the shipped ones or beside those of --cases.",
        ),
    ] = False,
    sources: Annotated[
        list[str] | None, typer.Option("--source", metavar="SOURCE", help="Harvest this one only; may be repeated.")
    ] = None,
) -> None:
    """Put every case to every installed function and write the discrepancy report."""
    started = time.time()
    found, ledger = _loaded(cases, sources or [], harvest or bool(sources))
    loaded = (found, ledger) if harvest or sources else None
    accepted = None if baseline is None else opened(baseline)[0]
    report.check_writable(folder)
    if environments and processes > 1:
        raise UserError("-n and --with do not go together: every environment is a process of its own already")
    if engine and not environments:
        raise UserError("--on runs environments that are made there: say with --with what they are to hold")
    if engine and engine != "ray" and not engine.startswith("ray://"):
        raise UserError(f"--on {engine}: there is ray, for RAY_ADDRESS or this machine, and ray://HOST:PORT")
    ray = {"": None, "ray": ""}.get(engine, engine)
    places, missing = _places(framework or [], environments or [], timeout, ray)
    rows: list[Row] = list(places.failed)
    failures: list[str] = []
    stopped = ""
    cache = open_cache()
    with contextlib.ExitStack() as stack:
        if cache is not None:
            stack.callback(cache.close)
        if places.crew is not None:
            stack.enter_context(places.crew)
        items = selected(found, places.there, keyword)
        for left_out in missing:
            err.print(f"left out, not installed: {left_out}")
        limit = timeout if isolate else None
        if processes > 1:
            rows_made = rows_from_processes([one_pile(items)] * processes, cases, limit, loaded)
        elif isolate and not environments:
            rows_made = rows_from_processes(piles_by_framework(items), cases, limit, loaded)
        else:
            isolated = running.Isolated(places.crew, items) if places.crew is not None else None
            rows_made = running.rows_of(items, Suite(Oracle(cache), ledger), isolated)
        try:
            with contextlib.closing(rows_made), progress(len(items)) as advance:
                for made in rows_made:
                    advance("" if isinstance(made, str) else made["framework"])
                    (failures if isinstance(made, str) else rows).append(made)  # type: ignore[arg-type]
        except KeyboardInterrupt:
            stopped = "interrupted"
    planned = len(items) + len(places.failed)
    results = report.frame(rows)
    written = running.write(
        folder, results, planned, started, found, missing, f"-k {keyword}" if keyword else "", stopped
    )
    _finish(rows, results, planned, [] if keyword or framework or loaded else found, written)
    for failure in failures[:FAILURES]:
        err.print(f"not asked: {escape(failure)}", soft_wrap=True)
    if len(rows) < planned:
        more = f"{stopped}; " if stopped else ""
        more += f"{len(failures)} could not be asked; " if failures else ""
        err.print(f"{more}{len(rows)} of {planned} rows are in the report, which is marked incomplete")
        raise typer.Exit(INTERRUPTED if stopped else USAGE)
    if accepted is not None:
        chosen = compiled(keyword) if keyword else None
        asked_for = {item.id for item in items}
        asked = audit.Asked(
            frozenset(there.framework.name for there in places.there),
            lambda _, name: (chosen is None or chosen(substring_of(name))) and (loaded is None or name in asked_for),
        )
        check = audit.check(accepted, results, asked, str(baseline))
        for line in check.lines():
            out.print(escape(line), soft_wrap=True)
        raise typer.Exit(0 if check.ok else UNEXPECTED)
    raise typer.Exit(UNEXPECTED if any(row["expected"] in ("unexpected", "stale") for row in rows) else 0)


def _loaded(folder: Path | None, sources: list[str], harvest: bool) -> tuple[list[Case], Ledger]:
    """The cases to run and their ledger."""
    if not harvest:
        return load_suite(folder)
    with err.status("") as status:
        found, ledger, made = load_harvest(sources, folder, told=lambda line: status.update(escape(line)))
    for left_out in made.missing:
        err.print(f"left out: {escape(left_out)}", soft_wrap=True)
    return found, ledger


def _places(names: list[str], environments: list[str], timeout: float, ray: str | None) -> tuple[Places, list[str]]:
    """(where to run, frameworks that are left out)."""
    if not environments:
        here, missing = installed_among(names)
        return Places(None, here), missing
    with err.status("") as status:
        places = places_of(environments, lambda line: status.update(escape(line)), names, timeout, ray)
    for row in places.failed:
        err.print(escape(row["explanation"]), soft_wrap=True)
    return places, []


def _finish(rows: list[Row], results: pd.DataFrame, planned: int, cases: list[Case], written: Path) -> None:
    surprising = [row for row in rows if row["expected"] in ("unexpected", "stale")]
    for row in surprising[:SURPRISES]:
        out.print(f"[bold]{row['expected']}[/] {escape(_headline(row))}", soft_wrap=True)
    if len(surprising) > SURPRISES:
        out.print(f"and {len(surprising) - SURPRISES} more, in discrepancies.csv")
    if rows:
        out.print(report.status_table(results))
        for line in running.closing_lines(rows, planned, cases):
            out.print(escape(line), soft_wrap=True)
    out.print(f"report: {written}", soft_wrap=True)


def _headline(row: Row) -> str:
    if not row["case"]:
        return f"{row['environment']}: {row['explanation']}"
    name = f"{row['function']}-{row['case']}-{row['dtype']}-{row['reduction']}"
    return f"{name} ({row['version']}): {row['explanation']}\n    {shortened(row['call'])}"

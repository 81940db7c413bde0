"""`conformance relations`, `fuzz` and `sweep`: problems beyond the cases of the files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from conformance import api
from conformance.cli.shared import MAX_WIDTH, Printer, print_not_executed, print_stderr
from conformance.cli.terminal import UNEXPECTED, USAGE, err, out
from conformance.execution.interruption import INTERRUPTED
from conformance.explore.fuzz.search import Counterexample, single_threaded
from conformance.explore.relations import rendering as relation_rendering
from conformance.explore.sweep import rendering as sweep_rendering
from conformance.explore.sweep import table
from conformance.explore.sweep.runner import SweepRequest
from conformance.model.text import truncate

MAX_VIOLATIONS = 10
"""Maximum number of violated relations that are printed."""


def relations(as_json: bool, **request: Any) -> None:
    result = api.relations(observer=Printer(), **request)
    out.print_result(result, _print_relations, as_json)
    print_not_executed(result.not_executed)
    if not result.complete:
        print_stderr(
            f"{'interrupted; ' if result.stopped else ''}{len(result.results)} of {result.planned} were executed"
        )
        raise typer.Exit(INTERRUPTED if result.stopped else USAGE)
    for entry in result.stale:
        print_stderr(f"{entry} is known, and holds wherever it was tested; remove the entry")
    raise typer.Exit(UNEXPECTED if result.stale or result.broken else 0)


def _print_relations(result: api.RelationsResult) -> None:
    out.lines(result.broken[:MAX_VIOLATIONS])
    if len(result.broken) > MAX_VIOLATIONS:
        out.print(f"and {len(result.broken) - MAX_VIOLATIONS} more; --json has every one")
    out.lines(relation_rendering.table(result.results))


def fuzz(as_json: bool, **request: Any) -> None:
    single_threaded()

    def print_counterexample(counterexample: Counterexample, file: Path | None) -> None:
        if not as_json:
            out.print(f"[bold]found[/] {escape(counterexample.message)}", soft_wrap=True)
            out.lines([counterexample.text, *([] if file is None else [f"written: {file}\n"])])

    result = api.fuzz(found=print_counterexample, observer=Printer(), **request)
    out.print_result(result, _print_search, as_json)
    print_not_executed(result.state.not_executed)
    if result.interrupted:
        err.print("interrupted")
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(USAGE if result.state.not_executed else UNEXPECTED if result.findings else 0)


def _print_search(result: api.FuzzResult) -> None:
    state = result.state
    for counterexample in result.findings:
        repetitions = state.again[counterexample.case]
        suffix = f", {repetitions} rows more" if repetitions else ""
        out.lines([f"{counterexample.case}: {counterexample.function} {counterexample.signature}{suffix}"])
    out.lines(f"known: {rows} rows, {truncate(entry, MAX_WIDTH)}" for entry, rows in state.known.most_common())
    rate = state.position / state.seconds if state.seconds else 0
    out.print(
        f"{state.summary(len(result.findings))}; {state.cases} cases were run; {rate:.0f} cases/s; seed {result.seed}"
    )


def sweep(
    request: SweepRequest,
    label: int | None,
    means: bool,
    folder: Path | None,
    state: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    request = dataclasses.replace(request, labels=() if label is None else (label,))
    result = api.sweep(request=request, means=means, folder=folder, state=state, observer=Printer(), **settings)
    if as_json:
        out.write(result.to_json())
    else:
        for piece in sweep_rendering.terminal(result.regions, result.means):
            out.print(piece)
            out.print()
    if folder is not None:
        err.print(f"report: {escape(str(folder))}", soft_wrap=True)
    _print_sweep(result)
    if result.interrupted:
        advice = "" if means else "; --state FILE would have kept it"
        hint = f"; go on with --state {state}" if state else advice
        err.print(f"interrupted{escape(hint)}", soft_wrap=True)
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(USAGE if result.not_executed else UNEXPECTED if result.failing else 0)


def _print_sweep(result: api.SweepResult) -> None:
    if regions := result.regions:
        counts = ", ".join(f"{count} {status}" for status, count in table.totals(regions).items() if count)
        err.print(
            f"{sum(line['count'] for line in regions)} inputs in {len(regions)} regions: {counts}", soft_wrap=True
        )
    for line in result.failing:
        description = (
            f"{line['function']} {line['dtype']} {line['case']}: {line.get('why') or line.get('explanation') or ''}"
        )
        err.print(f"[bold]{line['expected']}[/] {escape(description)}", soft_wrap=True)
        if line["call"]:
            err.print(f"    {escape(line['call'])}", soft_wrap=True)
    print_not_executed(result.not_executed)

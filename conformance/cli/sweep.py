"""`conformance sweep`: call a function on every value of a narrow dtype, and on a grid or all values of a wide one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from conformance import api
from conformance.cli.shared import Printer, options, print_not_executed
from conformance.cli.terminal import UNEXPECTED, USAGE, err, out
from conformance.execution.interruption import INTERRUPTED
from conformance.explore.sweep import rendering, table
from conformance.explore.sweep.runner import SweepRequest


@options
def sweep(
    request: SweepRequest,
    label: int | None = None,
    means: bool = False,
    folder: Path | None = None,
    state: Path | None = None,
    as_json: bool = False,
    **settings: Any,
) -> None:
    """The errors of a function over all inputs of a dtype, by region."""
    request = dataclasses.replace(request, labels=() if label is None else (label,))
    result = api.sweep(request=request, means=means, folder=folder, state=state, observer=Printer(), **settings)
    if as_json:
        out.write(result.to_json())
    else:
        for piece in rendering.terminal(result.regions, result.means):
            out.print(piece)
            out.print()
    if folder is not None:
        err.print(f"report: {escape(str(folder))}", soft_wrap=True)
    _print_totals(result)
    if result.interrupted:
        advice = "" if means else "; --state FILE would have kept it"
        hint = f"; go on with --state {state}" if state else advice
        err.print(f"interrupted{escape(hint)}", soft_wrap=True)
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(USAGE if result.not_executed else UNEXPECTED if result.failing else 0)


def _print_totals(result: api.SweepResult) -> None:
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

"""`conformance sweep`: every value of a narrow dtype, and a grid or all of a wide one, put to a function at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from conformance import api
from conformance.cli.shared import CasesOption, Json, Printer, path_option, print_not_executed
from conformance.cli.terminal import UNEXPECTED, USAGE, err, out
from conformance.execution.interruption import INTERRUPTED
from conformance.explore.sweep import rendering, table
from conformance.explore.sweep.runner import SweepRequest
from conformance.model.case import DTYPES, INPUT_KINDS


def sweep(
    function: Annotated[
        list[str], typer.Argument(metavar="FUNCTION...", help="As `list functions` prints it; * stands for anything.")
    ],
    dtype: Annotated[
        list[str] | None, typer.Option("--dtype", metavar="|".join(DTYPES), help="Only this dtype; may be repeated.")
    ] = None,
    input_kind: Annotated[
        list[str] | None,
        typer.Option("--given", metavar="|".join(INPUT_KINDS), help="Only this kind of input; may be repeated."),
    ] = None,
    label: Annotated[int | None, typer.Option("--label", min=0, max=1, help="Only this label.")] = None,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Every float32, not a sample; minutes. float64 is left out.")
    ] = False,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Also shift both logits of a pair, which changes no loss.")
    ] = False,
    means: Annotated[bool, typer.Option("--lengths", help="Instead, means of 10 to 10^7 losses.")] = False,
    processes: Annotated[
        int,
        typer.Option("-n", min=0, help="How many processes share the sweep; if 0, all cores if it is exhaustive."),
    ] = 0,
    folder: Annotated[
        Path | None, path_option("--report", "--save", metavar="DIR", help="Where sweep.json, .csv and .md go.")
    ] = None,
    state: Annotated[
        Path | None, path_option("--state", metavar="FILE", help="Keeps what is done, and goes on from it.")
    ] = None,
    as_json: Json = False,
    cases: CasesOption = None,
) -> None:
    """Where does a function err, and by how much? Its loss for every input at once, region by region."""
    labels = () if label is None else (label,)
    request = SweepRequest(tuple(dtype or ()), tuple(input_kind or ()), labels, exhaustive, pairs)
    result = api.sweep(
        function, request, means=means, processes=processes, folder=folder, state=state, cases=cases, observer=Printer()
    )
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
        where = f"; go on with --state {state}" if state else advice
        err.print(f"interrupted{escape(where)}", soft_wrap=True)
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(USAGE if result.not_executed else UNEXPECTED if result.failing else 0)


def _print_totals(result: api.SweepResult) -> None:
    if found := result.regions:
        counts = ", ".join(f"{count} {status}" for status, count in table.totals(found).items() if count)
        err.print(f"{sum(line['count'] for line in found)} inputs in {len(found)} regions: {counts}", soft_wrap=True)
    for line in result.failing:
        what = f"{line['function']} {line['dtype']} {line['case']}: {line.get('why') or line.get('explanation') or ''}"
        err.print(f"[bold]{line['expected']}[/] {escape(what)}", soft_wrap=True)
        if line["call"]:
            err.print(f"    {escape(line['call'])}", soft_wrap=True)
    print_not_executed(result.not_executed)

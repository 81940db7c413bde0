"""`conformance page`: a report's page with what else is known beside its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from conformance import api
from conformance.cli.shared import CasesOption, Json, Printer
from conformance.cli.terminal import out


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
    result = api.page(
        path, cases, max_explained=most, sweep=sweep_folder, history=history_folder, against=against, output=output,
        observer=Printer(),
    )  # fmt: skip
    if as_json:
        out.write(result.to_json())
    else:
        out.print(f"page: {escape(str(result.page))}", soft_wrap=True)

"""`conformance harvest`: what the tests inside other projects' wheels yield."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from conformance import api
from conformance.cli.shared import Json, Printer, warn
from conformance.cli.terminal import UNEXPECTED, out
from conformance.power.harvest.collection import TIMEOUT


def harvest(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SOURCE]...", help="Projects to read; every one that is installed unless given."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--save", metavar="DIR", help="Write the cases as files below this folder.")
    ] = None,
    as_json: Json = False,
    timeout: Annotated[
        float, typer.Option(min=1.0, metavar="SECONDS", help="What reading one project may take.")
    ] = TIMEOUT,
) -> None:
    """Read cases from the tests that other projects ship in their wheels, as they are installed here."""
    result = api.harvest(sources or (), folder, timeout, Printer())
    if as_json:
        out.write(result.to_json())
    else:
        _print(result)
    for name in result.harvests.missing:
        warn(f"left out: {name}")
    if folder is not None:
        warn(f"{len(result.harvests.cases)} cases in {len(result.files)} files below {folder}")
    result.harvests.or_raise()
    raise typer.Exit(UNEXPECTED if any(map(result.wrong, result.statements)) else 0)


def _print(result: api.HarvestResult) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("source", "version"):
        table.add_column(heading, no_wrap=True)
    for heading in ("found", "cases", "again", "unsaid", "stated", "hold", "by conv.", "do not"):
        table.add_column(heading, justify="right", no_wrap=True)
    for found in result.harvests.harvests:
        held = result.count_held(found.source)
        counts = (found.inputs, len(found.cases), found.duplicates, sum(found.untranslated.values()), held.total())
        by = (held["holds"], held["holds by its convention"], held["does not hold"])
        table.add_row(found.source, found.version, *map(str, (*counts, *by)))
    out.print(table)
    out.print("again: duplicates; unsaid: cannot be said; stated: answers, of which some hold by a convention only")
    for found in result.harvests.harvests:
        for reason, count in found.untranslated.items():
            out.print(f"{found.source}: {count} cannot be said: {escape(reason)}", soft_wrap=True)
        for note in found.notes:
            out.print(f"{found.source}: {escape(note)}", soft_wrap=True)
    for source in result.statements:
        for one in result.wrong(source):
            out.print(f"[bold]{one.holds}[/] {escape(str(one))}", soft_wrap=True)

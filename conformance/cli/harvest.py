"""`conformance harvest`: what the tests inside other projects' wheels yield."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from conformance.cli.shared import Json, steps, warn
from conformance.cli.terminal import UNEXPECTED, out
from conformance.model.serialization import to_json
from conformance.power.harvest.collection import TIMEOUT
from conformance.power.harvest.pipeline import Harvest, Harvests, save
from conformance.power.harvest.pipeline import harvest as harvest_of
from conformance.power.harvest.statements import JudgedResult, judge_results
from conformance.reference.oracle import cached_oracle

DOES_NOT_HOLD = "does not hold"


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
    with steps() as show:
        made = harvest_of(sources or [], timeout, show)
        show("comparing what they state with the oracle")
        with cached_oracle() as oracle:
            stated = {found.source: list(judge_results(found.statements, oracle)) for found in made.harvests}
    if as_json:
        sources_found = [_facts(found, stated[found.source]) for found in made.harvests]
        out.write(to_json("harvest", {"sources": sources_found, "missing": list(made.missing)}))
    else:
        _print(made, stated)
    for name in made.missing:
        warn(f"left out: {name}")
    if folder is not None:
        files = save(made.harvests, folder)
        warn(f"{len(made.cases)} cases in {len(files)} files below {folder}")
    made.or_raise()
    if any(one.holds == DOES_NOT_HOLD for of_source in stated.values() for one in of_source):
        raise typer.Exit(UNEXPECTED)


def _facts(found: Harvest, stated: list[JudgedResult]) -> dict[str, object]:
    held = Counter(one.holds for one in stated)
    wrong = [str(one) for one in stated if one.holds == DOES_NOT_HOLD]
    return {**found.facts, "stated": dict(held), "wrong": wrong}


def _print(made: Harvests, stated: dict[str, list[JudgedResult]]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("source", "version"):
        table.add_column(heading, no_wrap=True)
    for heading in ("found", "cases", "again", "unsaid", "stated", "hold", "by conv.", "do not"):
        table.add_column(heading, justify="right", no_wrap=True)
    for found in made.harvests:
        held = Counter[str](one.holds for one in stated[found.source])
        counts = (found.inputs, len(found.cases), found.duplicates, sum(found.untranslated.values()), held.total())
        by = (held["holds"], held["holds by its convention"], held[DOES_NOT_HOLD])
        table.add_row(found.source, found.version, *map(str, (*counts, *by)))
    out.print(table)
    out.print("again: duplicates; unsaid: cannot be said; stated: answers, of which some hold by a convention only")
    for found in made.harvests:
        for reason, count in found.untranslated.items():
            out.print(f"{found.source}: {count} cannot be said: {escape(reason)}", soft_wrap=True)
        for note in found.notes:
            out.print(f"{found.source}: {escape(note)}", soft_wrap=True)
    for of_source in stated.values():
        for one in of_source:
            if one.holds == DOES_NOT_HOLD:
                out.print(f"[bold]{one.holds}[/] {escape(str(one))}", soft_wrap=True)

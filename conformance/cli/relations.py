"""`conformance relations`: what two answers must have in common, held against every function without the oracle."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from conformance import api
from conformance.cli.shared import FAILURES, CasesOption, Json, Printer
from conformance.cli.terminal import UNEXPECTED, USAGE, err, out
from conformance.execution.interruption import INTERRUPTED
from conformance.explore.relations import rendering

BROKEN = 10
"""Broken relations that are shown one by one."""


def held(
    keyword: Annotated[
        str, typer.Option("-k", metavar="EXPRESSION", help="Only those whose id matches, as in pytest.")
    ] = "",
    framework: Annotated[
        list[str] | None, typer.Option("--framework", "-m", help="Only this framework; may be repeated.")
    ] = None,
    cases: CasesOption = None,
    as_json: Json = False,
) -> None:
    """Say problems in two ways and hold both answers against each other, for every installed function.

    Exit status 1 where a relation is broken that neither a documented convention nor the ledger accounts for.
    """
    found = api.relations(keyword, tuple(framework or ()), cases, Printer())
    if as_json:
        out.facts("relations", found.facts())
    else:
        _print(found)
    for failure in found.not_executed[:FAILURES]:
        err.print(f"not asked: {escape(str(failure))}", soft_wrap=True)
    if not found.complete:
        err.print(f"{'interrupted; ' if found.stopped else ''}{len(found.results)} of {found.planned} were asked")
        raise typer.Exit(INTERRUPTED if found.stopped else USAGE)
    for entry in found.stale:
        err.print(escape(f"{entry} is known, and holds wherever it was asked; remove the entry"), soft_wrap=True)
    raise typer.Exit(UNEXPECTED if found.stale or found.broken else 0)


def _print(found: api.RelationsResult) -> None:
    for result in found.broken[:BROKEN]:
        out.print(escape(str(result)), soft_wrap=True)
    if len(found.broken) > BROKEN:
        out.print(f"and {len(found.broken) - BROKEN} more; --json has every one")
    for line in rendering.table(found.results):
        out.print(escape(line), soft_wrap=True)

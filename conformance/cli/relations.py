"""`conformance relations`: check properties that two answers of a function must have in common, without the oracle."""

from __future__ import annotations

from typing import Any

import typer

from conformance import api
from conformance.cli.shared import Printer, options, print_not_executed, print_stderr
from conformance.cli.terminal import UNEXPECTED, USAGE, out
from conformance.execution.interruption import INTERRUPTED
from conformance.explore.relations import rendering

MAX_VIOLATIONS = 10
"""Maximum number of violated relations that are printed."""


@options
def relations(as_json: bool = False, **request: Any) -> None:
    """State problems in two ways and compare both answers, for all installed functions.

    Exit status 1 if a violation is explained neither by a documented convention nor by the ledger.
    """
    found = api.relations(observer=Printer(), **request)
    out.print_result(found, _print, as_json)
    print_not_executed(found.not_executed)
    if not found.complete:
        print_stderr(f"{'interrupted; ' if found.stopped else ''}{len(found.results)} of {found.planned} were executed")
        raise typer.Exit(INTERRUPTED if found.stopped else USAGE)
    for entry in found.stale:
        print_stderr(f"{entry} is known, and holds wherever it was tested; remove the entry")
    raise typer.Exit(UNEXPECTED if found.stale or found.broken else 0)


def _print(found: api.RelationsResult) -> None:
    out.lines(found.broken[:MAX_VIOLATIONS])
    if len(found.broken) > MAX_VIOLATIONS:
        out.print(f"and {len(found.broken) - MAX_VIOLATIONS} more; --json has every one")
    out.lines(rendering.table(found.results))

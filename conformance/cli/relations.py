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
    result = api.relations(observer=Printer(), **request)
    out.print_result(result, _print, as_json)
    print_not_executed(result.not_executed)
    if not result.complete:
        print_stderr(
            f"{'interrupted; ' if result.stopped else ''}{len(result.results)} of {result.planned} were executed"
        )
        raise typer.Exit(INTERRUPTED if result.stopped else USAGE)
    for entry in result.stale:
        print_stderr(f"{entry} is known, and holds wherever it was tested; remove the entry")
    raise typer.Exit(UNEXPECTED if result.stale or result.broken else 0)


def _print(result: api.RelationsResult) -> None:
    out.lines(result.broken[:MAX_VIOLATIONS])
    if len(result.broken) > MAX_VIOLATIONS:
        out.print(f"and {len(result.broken) - MAX_VIOLATIONS} more; --json has every one")
    out.lines(rendering.table(result.results))

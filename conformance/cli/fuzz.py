"""`conformance fuzz`: call all installed functions on random cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from conformance import api
from conformance.cli.shared import MAX_WIDTH, Printer, options, print_not_executed
from conformance.cli.terminal import UNEXPECTED, USAGE, err, out
from conformance.execution.interruption import INTERRUPTED
from conformance.explore.fuzz.search import Counterexample, single_threaded
from conformance.model.text import truncate


@options
def fuzz(as_json: bool = False, **request: Any) -> None:
    """Draw cases at random, call all installed functions on them, and shrink failures to the smallest case.

    Exit status 1 for findings that are not in the ledger.
    """
    single_threaded()

    def print_counterexample(counterexample: Counterexample, file: Path | None) -> None:
        if not as_json:
            out.print(f"[bold]found[/] {escape(counterexample.message)}", soft_wrap=True)
            out.lines([counterexample.text, *([] if file is None else [f"written: {file}\n"])])

    result = api.fuzz(found=print_counterexample, observer=Printer(), **request)
    out.print_result(result, _print_totals, as_json)
    print_not_executed(result.state.not_executed)
    if result.interrupted:
        err.print("interrupted")
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(USAGE if result.state.not_executed else UNEXPECTED if result.findings else 0)


def _print_totals(result: api.FuzzResult) -> None:
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

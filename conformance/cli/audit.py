"""`conformance audit` and `bisect`: the changes by an upgrade, and the release of a change."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import typer
from rich.markup import escape

from conformance import api
from conformance.cli.shared import Printer, options, output_format, print_not_executed, print_stderr
from conformance.cli.terminal import UNEXPECTED, USAGE, err, out
from conformance.comparison import audit_rendering, bisection
from conformance.comparison.changes import Level
from conformance.execution.interruption import INTERRUPTED
from conformance.model.text import printable

Format = Literal["terminal", "markdown", "json"]


@options
def audit(
    folder: Path = Path("reports/audit"),
    fail_on: Level = "regression",
    form: Format = "terminal",
    as_json: bool = False,
    **request: Any,
) -> None:
    """Compare the losses of two environments: what changes, where, by how much, and whether it is documented.

    Exit status 0 if no change reaches --fail-on, 1 if one does, 2 if something could not be executed.
    """
    form = output_format(form, as_json)
    result = api.audit(folder=folder, observer=Printer(), **request)
    audited = result.audit
    if audited is None:
        print_stderr(f"interrupted; what there was is in {folder}")
        raise typer.Exit(INTERRUPTED)
    match form:
        case "terminal":
            out.print_each(audit_rendering.terminal(audited))
        case "markdown":
            out.write(audit_rendering.markdown(audited))
        case "json":
            out.write(result.to_json())
    print_stderr(f"audit: {folder / 'audit.html'}")
    print_not_executed(result.not_executed, ", and left out on both sides")
    if result.not_executed:
        raise typer.Exit(USAGE)
    raise typer.Exit(UNEXPECTED if audited.fails(fail_on) else 0)


@options
def bisect(
    case: str,
    as_json: bool = False,
    **request: Any,
) -> None:
    """Find the release in which the answer to a case changed; exit status 1 if it did not."""
    result = api.bisect(case_id=case, observer=Printer(), **request)
    if as_json:
        out.write(result.to_json())
    else:
        search = result.found
        out.lines(
            map(printable, bisection.attempt_lines(result.attempts) if search is None else bisection.lines(search))
        )
        if search is None:
            err.print(escape(result.why), soft_wrap=True)
    raise typer.Exit(UNEXPECTED if result.found is None else 0)

"""`conformance audit` and `bisect`: the changes by an upgrade, and the release of a change."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import typer
from rich.markup import escape

from conformance import api
from conformance.cli.shared import Printer, output_format, print_not_executed, print_stderr
from conformance.cli.terminal import UNEXPECTED, USAGE, err, out
from conformance.comparison import audit_rendering, bisection
from conformance.comparison.changes import Level
from conformance.execution.interruption import INTERRUPTED
from conformance.model.text import printable

AuditFormat = Literal["terminal", "markdown", "json"]


def audit(
    folder: Path,
    fail_on: Level,
    form: AuditFormat,
    as_json: bool,
    **request: Any,
) -> None:
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


def bisect(
    case: str,
    as_json: bool,
    **request: Any,
) -> None:
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

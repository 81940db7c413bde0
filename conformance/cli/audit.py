"""`conformance audit`, `bisect` and `history`: what an upgrade changes, since when, and what changed over the years."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from conformance import api
from conformance.cli.shared import (
    CasesOption,
    Json,
    JsonFormat,
    KeywordOption,
    Level,
    Printer,
    output_format,
    print_failures,
    warn,
)
from conformance.cli.terminal import UNEXPECTED, USAGE, err, out
from conformance.comparison import audit_rendering, bisection, upgrade
from conformance.execution.interruption import INTERRUPTED
from conformance.execution.workers.pool import TIMEOUT
from conformance.model.text import printable

Requirements = Annotated[
    str,
    typer.Argument(
        metavar="OLD",
        help='As after --with: "scikit-learn==1.1.3", a requirements or lock file, an interpreter.',
    ),
]
Timeout = Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="What a call may take.")]


class Format(StrEnum):
    """How an audit is printed."""

    terminal = "terminal"
    markdown = "markdown"
    json = "json"


def audit(
    old: Requirements,
    new: Annotated[str, typer.Argument(metavar="NEW", help="What it is to be upgraded to.")],
    cases: CasesOption = None,
    keyword: KeywordOption = "",
    folder: Annotated[
        Path, typer.Option("--report", metavar="DIR", help="Where both reports and the audit go.")
    ] = Path("reports/audit"),
    fail_on: Annotated[
        Level,
        Printer,
        typer.Option(
            "--fail-on",
            help="Exit with 1 on this or worse that no adapter documents; from change on also where a signature "
            "breaks calls. any: on whatever differs.",
        ),
    ] = Level.regression,
    form: Annotated[Format, typer.Option("--format", help="How it is printed.")] = Format.terminal,
    timeout: Timeout = TIMEOUT,
    as_json: JsonFormat = False,
) -> None:
    """Do our losses change between two environments, where, by how much, and was that announced?"""
    form = Format(output_format(form, as_json))
    result = api.audit(old, new, folder, cases, keyword, timeout, Printer())
    audited = result.audit
    if audited is None:
        warn(f"interrupted; what there was is in {folder}")
        raise typer.Exit(INTERRUPTED)
    audit_rendering.write(audited, folder)
    _print(audited, form)
    warn(f"audit: {folder}")
    print_failures(result.not_executed, "not asked, and left out on both sides")
    if result.not_executed:
        raise typer.Exit(USAGE)
    raise typer.Exit(UNEXPECTED if audited.fails(fail_on.value) else 0)


def _print(audited: upgrade.Audit, form: Format) -> None:
    match form:
        case Format.terminal:
            for piece in audit_rendering.terminal(audited):
                out.print(piece)
        case Format.markdown:
            sys.stdout.write(audit_rendering.markdown(audited))
        case Format.json:
            sys.stdout.write(audit_rendering.as_json(audited))


def bisect(
    distribution: Annotated[str, typer.Argument(metavar="DISTRIBUTION", help="As the package index calls it.")],
    good: Annotated[
        str, typer.Argument(metavar="GOOD", help="The older release; 1.0 is 1.0, or else the first of 1.0.x.")
    ],
    bad: Annotated[str, typer.Argument(metavar="BAD", help="The newer release.")],
    case: Annotated[str, typer.Option("--case", metavar="ID", help="The case whose answer changed.")],
    function: Annotated[str, typer.Option("--function", metavar="NAME", help="Only this function.")] = "",
    dtype: Annotated[str, typer.Option("--dtype", help="Only this dtype.")] = "",
    reduction: Annotated[str, typer.Option("--reduction", help="Only this reduction.")] = "",
    beside: Annotated[
        str, typer.Option("--beside", metavar="REQUIREMENTS", help="What every environment has beside the release.")
    ] = "",
    cases: CasesOption = None,
    timeout: Timeout = TIMEOUT,
    as_json: Json = False,
) -> None:
    """Find the release in which the answer to a case changed; exit status 1 where it did not."""
    try:
        boundary = api.bisect(
            distribution, good, bad, case, function=function, dtype=dtype, reduction=reduction, beside=beside,
            cases=cases, timeout=timeout, observer=Printer(),
        )  # fmt: skip
    except bisection.NothingToFindError as nothing:
        if as_json:
            out.facts("bisect", {"distribution": distribution, "case": case, "found": None, "why": str(nothing),
                                 "tried": bisection.attempts_as_data(nothing.attempts)})  # fmt: skip
            raise typer.Exit(UNEXPECTED) from None
        for line in bisection.attempt_lines(nothing.attempts):
            out.print(escape(printable(line)), soft_wrap=True)
        err.print(escape(str(nothing)), soft_wrap=True)
        raise typer.Exit(UNEXPECTED) from None
    if as_json:
        out.facts("bisect", {"distribution": distribution, "case": case, **bisection.as_data(boundary)})
        return
    for line in bisection.lines(boundary):
        out.print(escape(printable(line)), soft_wrap=True)


def history(
    path: Annotated[
        Path, typer.Argument(metavar="REPORT", help="A report of many releases, made with `run --with ... --with ...`.")
    ],
    folder: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where history.md and history.csv go; beside the report."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Which release changed what: a report of many releases, told release by release."""
    from conformance.comparison import history as histories

    found = histories.history(path)
    home = folder or (path if path.is_dir() else path.parent)
    text = histories.markdown(found)
    audit_rendering.put({"history.md": text, "history.csv": histories.as_csv(found)}, home)
    if as_json:
        out.facts("history", {"changes": histories.read(home), "failed": found.failed})
    else:
        sys.stdout.write(text)
    warn(f"history: {home}")

"""`conformance audit` and `bisect`: what an upgrade changes, and since when."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from conformance import api
from conformance.cli.shared import (
    CallTimeout,
    CasesOption,
    ImportTimeout,
    Json,
    JsonFormat,
    KeywordOption,
    Level,
    Printer,
    output_format,
    path_option,
    print_not_executed,
    warn,
)
from conformance.cli.terminal import UNEXPECTED, USAGE, err, out
from conformance.comparison import audit_rendering, bisection
from conformance.execution.interruption import INTERRUPTED
from conformance.execution.workers.pool import IMPORT_TIMEOUT, TIMEOUT
from conformance.model.text import printable

Requirements = Annotated[
    str,
    typer.Argument(
        metavar="OLD",
        help='As after --with: "scikit-learn==1.1.3", a requirements or lock file, an interpreter.',
    ),
]


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
    folder: Annotated[Path, path_option("--report", metavar="DIR", help="Where both reports and the audit go.")] = Path(
        "reports/audit"
    ),
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
    timeout: CallTimeout = TIMEOUT,
    import_timeout: ImportTimeout = IMPORT_TIMEOUT,
    as_json: JsonFormat = False,
) -> None:
    """Do our losses change between two environments, where, by how much, and was that announced?"""
    form = Format(output_format(form, as_json))
    result = api.audit(old, new, folder, cases, keyword, timeout, Printer(), import_timeout)
    audited = result.audit
    if audited is None:
        warn(f"interrupted; what there was is in {folder}")
        raise typer.Exit(INTERRUPTED)
    match form:
        case Format.terminal:
            out.print_each(audit_rendering.terminal(audited))
        case Format.markdown:
            out.write(audit_rendering.markdown(audited))
        case Format.json:
            out.write(result.to_json())
    warn(f"audit: {folder / 'audit.html'}")
    print_not_executed(result.not_executed, ", and left out on both sides")
    if result.not_executed:
        raise typer.Exit(USAGE)
    raise typer.Exit(UNEXPECTED if audited.fails(fail_on.value) else 0)


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
    timeout: CallTimeout = TIMEOUT,
    import_timeout: ImportTimeout = IMPORT_TIMEOUT,
    as_json: Json = False,
) -> None:
    """Find the release in which the answer to a case changed; exit status 1 where it did not."""
    result = api.bisect(
        distribution, good, bad, case, function=function, dtype=dtype, reduction=reduction, beside=beside,
        cases=cases, timeout=timeout, observer=Printer(), import_timeout=import_timeout,
    )  # fmt: skip
    if as_json:
        out.write(result.to_json())
    else:
        found = result.found
        out.lines(map(printable, bisection.attempt_lines(result.attempts) if found is None else bisection.lines(found)))
        if found is None:
            err.print(escape(result.why), soft_wrap=True)
    raise typer.Exit(UNEXPECTED if result.found is None else 0)

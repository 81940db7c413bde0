"""`conformance audit`, `bisect` and `history`: what an upgrade changes, since when, and what changed over the years."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.status import Status

from conformance import auditing, report
from conformance.auditing import pages
from conformance.cli.shared import INTERRUPTED, UNEXPECTED, USAGE, CasesOption, err, out, selected
from conformance.oracle import Oracle, open_cache
from conformance.suite import Suite, load_suite
from conformance.workers.crew import TIMEOUT

FAILURES = 5
"""Items that could not be asked are shown up to this number."""
Requirements = Annotated[
    str,
    typer.Argument(
        metavar="OLD",
        help='As after --with: "scikit-learn==1.1.3", a requirements or lock file, a venv, an interpreter.',
    ),
]
Timeout = Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="What a call may take.")]


class Level(StrEnum):
    """What makes `audit` fail; what is documented does so at `any` only."""

    regression = "regression"
    change = "change"
    drift = "drift"
    any = "any"
    never = "never"


class Format(StrEnum):
    """How an audit is printed."""

    terminal = "terminal"
    markdown = "markdown"
    json = "json"


def audit(
    old: Requirements,
    new: Annotated[str, typer.Argument(metavar="NEW", help="What it is to be upgraded to.")],
    cases: CasesOption = None,
    keyword: Annotated[
        str, typer.Option("-k", metavar="EXPRESSION", help="Only items whose id matches, as in pytest.")
    ] = "",
    folder: Annotated[
        Path, typer.Option("--report", metavar="DIR", help="Where both reports and the audit go.")
    ] = Path("reports/audit"),
    fail_on: Annotated[
        Level,
        typer.Option(
            "--fail-on",
            help="Exit with 1 on this or worse that no adapter documents; from change on also where a signature "
            "breaks calls. any: on whatever differs.",
        ),
    ] = Level.regression,
    form: Annotated[Format, typer.Option("--format", help="How it is printed.")] = Format.terminal,
    timeout: Timeout = TIMEOUT,
) -> None:
    """Do our losses change between two environments, where, by how much, and was that announced?"""
    found, ledger = load_suite(cases)
    report.check_writable(folder)
    with Oracles() as oracle, err.status("") as status:
        told = _told(status)
        with auditing.sides_of(old, new, told, timeout) as sides:
            items = selected(found, sides.there, keyword)
            answers = auditing.answers(sides, items, Suite(oracle, ledger), told)
            try:
                audited = auditing.audited(sides, answers, found, folder)
            except KeyboardInterrupt:
                err.print(f"interrupted; what there was is in {escape(str(folder))}")
                raise typer.Exit(INTERRUPTED) from None
    pages.write(audited, folder)
    _print(audited, form)
    err.print(f"audit: {escape(str(folder))}", soft_wrap=True)
    for failure in answers.failures[:FAILURES]:
        err.print(f"not asked, and left out on both sides: {escape(failure)}", soft_wrap=True)
    if answers.failures:
        raise typer.Exit(USAGE)
    raise typer.Exit(UNEXPECTED if audited.fails(fail_on.value) else 0)


class Oracles:
    """The oracle of a command, with the user's cache, closed at its end."""

    def __enter__(self) -> Oracle:
        self._cache = open_cache()
        return Oracle(self._cache)

    def __exit__(self, *_: object) -> None:
        if self._cache is not None:
            self._cache.close()


def _told(status: Status) -> Callable[[str], None]:
    return lambda line: status.update(escape(line))


def _print(audited: auditing.Audit, form: Format) -> None:
    match form:
        case Format.terminal:
            for piece in pages.terminal(audited):
                out.print(piece)
        case Format.markdown:
            sys.stdout.write(pages.markdown(audited))
        case Format.json:
            sys.stdout.write(pages.as_json(audited))

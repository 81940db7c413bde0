"""What the commands share: consoles, options that several take, and how their input is looked up."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from conformance.cli.terminal import err
from conformance.judging.selection import SelectionError
from conformance.model.case import Case

FAILURES = 5
"""Items that could not be asked are shown up to this number."""
CasesOption = Annotated[
    Path | None, typer.Option("--cases", metavar="DIR", help="Case folder or file; the shipped ones unless given.")
]
CaseArgument = Annotated[
    str, typer.Argument(metavar="CASE", help="Id of a case, as `conformance list cases` prints it.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
JsonFormat = Annotated[bool, typer.Option("--json", help="Print JSON for machines, as --format json does.")]


def one_of(option: str, value: str, there: Sequence[str]) -> str:
    """The value of an option that has a few; raises SelectionError for another."""
    if value not in there:
        raise SelectionError(f"{option} {value}: there is {', '.join(there)}")
    return value


def as_machine(form: str, as_json: bool) -> str:
    """What --format and --json come to; raises SelectionError where they are at odds."""
    if as_json and form not in ("terminal", "json"):
        raise SelectionError(f"--json and --format {form} do not go together; leave one of them out")
    return "json" if as_json else form


class Level(StrEnum):
    """What makes `diff` and `audit` fail: `comparison.LEVELS`; what is documented makes an audit fail at `any` only."""

    regression = "regression"
    change = "change"
    drift = "drift"
    any = "any"
    never = "never"


def say(line: str) -> None:
    """Print a line to stderr."""
    err.print(escape(line), soft_wrap=True)


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on stderr; what it yields moves it by one and says what is being done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda what: bar.update(task, advance=1, description=f"{what:<8}")


def case_named(cases: list[Case], wanted: str, folder: Path | None = None) -> Case:
    """The case with this id; raises SelectionError if there is none.  folder: what --cases names, None without it."""
    for case in cases:
        if case.id == wanted:
            return case
    near = [case.id for case in cases if wanted.lower() in case.id]
    near = near or difflib.get_close_matches(wanted, [case.id for case in cases], n=3)
    hint = f"; did you mean {', '.join(near[:5])}?" if near else "; `conformance list cases` prints them"
    if folder is not None:
        raise SelectionError(f"there is no case {wanted} in {folder}{hint}")
    raise SelectionError(f"there is no case {wanted}{hint}; --cases DIR looks for it in a folder of yours")


def shortened(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:160]}..."

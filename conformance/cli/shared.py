"""What the commands share: consoles, options that several take, and how their input is looked up."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from conformance.api.observing import Observer
from conformance.cli.terminal import err
from conformance.judging.selection import SelectionError

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


class Printer(Observer):
    """Prints notes to stderr, and shows a bar while rows are made."""

    def note(self, line: str) -> None:
        """Print a line."""
        say(line)

    @contextlib.contextmanager
    def status(self) -> Iterator[Callable[[str], None]]:
        """Show the step that is being done."""
        with err.status("") as status:
            yield lambda line: status.update(escape(line))

    def rows(self, count: int) -> contextlib.AbstractContextManager[Callable[[str], None]]:
        """Show how many rows are made."""
        return progress(count)


def shortened(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:160]}..."

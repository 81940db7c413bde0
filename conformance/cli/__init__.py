"""The command line: parses and prints.

Exit status: 0 nothing unexpected, 1 a discrepancy that neither a documented convention nor the ledger
accounts for, 2 usage, 3 an exception of this package, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.markup import escape

import conformance
from conformance.adapters.containment import ending_in_time
from conformance.adapters.contract import share_processors
from conformance.cli import fault, github
from conformance.cli.audit import audit, bisect, history
from conformance.cli.compare import accept, diff, merge
from conformance.cli.explain import explain
from conformance.cli.fuzz import fuzz
from conformance.cli.harvest import harvest
from conformance.cli.look import expect, lint, listing, show
from conformance.cli.mutants import mutants
from conformance.cli.page import page
from conformance.cli.recover import recover
from conformance.cli.relations import held as relations
from conformance.cli.run import run
from conformance.cli.shared import INTERRUPTED, USAGE, err, out
from conformance.cli.sweep import sweep
from conformance.execution.interruption import interruptible
from conformance.model.errors import FAULT, CaseErrors, CaseFileError, UserError


class Commands(typer.core.TyperGroup):
    """Commands of which each, when it is interrupted, ends with status 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            err.print("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except SystemExit:  # commands raise typer.Exit: this one is a framework's, raised in this thread by another
            err.print("interrupted by a SystemExit that is not this command's own")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Commands,
    help="Hold every framework's cross-entropy against one definition.",
    epilog="Exit status: 0 nothing unexpected; 1 a discrepancy that neither a documented convention nor the ledger "
    "accounts for; 2 usage: a case file, an option or a folder is wrong; 3 the suite itself failed; 130 interrupted. "
    "`conformance COMMAND --help` prints the options of a command.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(run)
app.command()(recover)
app.add_typer(listing, name="list")
app.command("relations")(relations)
app.command()(fuzz)
app.command()(mutants)
for look in (show, expect, lint):
    app.command()(look)
app.command()(explain)
app.command()(harvest)
for held in (diff, audit, bisect, history, accept, merge, page):
    app.command()(held)
app.command()(sweep)


def main() -> None:
    """Run the command line.

    Whatever is wrong with the input is one message and exit status 2; an exception of this package is one, too, and 3.
    """
    share_processors()
    with ending_in_time(), interruptible(), github.quoted():
        try:
            app()
        except UserError as error:
            err.print(escape(str(error)), soft_wrap=True)
            github.tell(github.complaints(_in_files(error)), aside=True)
            sys.exit(USAGE)
        except KeyboardInterrupt:
            err.print("interrupted")
            sys.exit(INTERRUPTED)
        except SystemExit as ended:
            if ended.code is None:  # one like that in `invoke`, after it; a command's own has its status
                sys.exit(INTERRUPTED)
            raise
        except Exception as error:
            fault.tell(error)
            sys.exit(FAULT)


def _in_files(error: UserError) -> Sequence[CaseFileError]:
    """What is wrong with files, where that is what the error is about."""
    if isinstance(error, CaseErrors):
        return error.errors
    return [error] if isinstance(error, CaseFileError) else []


def _version(asked: bool) -> None:
    if asked:
        out.print(f"cross-entropy-conformance {conformance.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold every framework's cross-entropy against one definition."""


__all__ = ["app", "main"]

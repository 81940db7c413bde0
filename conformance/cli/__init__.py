"""The command line: parse arguments and print results.

Exit status: 0 nothing unexpected, 1 a discrepancy that neither a documented convention nor the ledger
accounts for, 2 usage, 3 an exception of this package, 130 interrupted.

A command is imported when it runs; `commands.toml` declares its options.
"""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.markup import escape

import conformance
from conformance.cli import fault, github
from conformance.cli.options import SETTINGS, add_commands, load_table
from conformance.cli.terminal import USAGE, err, out
from conformance.execution.ending import exit_guard
from conformance.execution.interruption import INTERRUPTED, interruptible
from conformance.model.errors import FAULT, UserError, file_errors
from conformance.model.text import shorten_words

CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]
"""Base class of all errors in options, which typer does not export."""


@contextlib.contextmanager
def _shorten_words() -> Iterator[None]:
    """Shorten very long words in error messages about options."""
    try:
        yield
    except CommandLineError as error:
        error.message = shorten_words(error.message)  # type: ignore[attr-defined]
        raise


class Commands(typer.core.TyperGroup):
    """The group of commands, in the order of `commands.toml`; an interrupted command ends with status 130."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in load_table() if name in self.commands]

    def make_context(self, *words: Any, **options: Any) -> Any:
        with _shorten_words():
            return super().make_context(*words, **options)

    def invoke(self, ctx: Any) -> Any:
        try:
            with _shorten_words():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            err.print("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except SystemExit as ended:  # commands raise typer.Exit: a framework raised this one in this thread
            if isinstance(ended.__context__, BrokenPipeError):
                raise
            err.print("interrupted by a SystemExit that is not this command's own")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Commands,
    help="Compare every framework's cross-entropy with one definition.",
    epilog="Exit status: 0 nothing unexpected; 1 a discrepancy that neither a documented convention nor the ledger "
    "accounts for; 2 usage: a case file, an option or a folder is wrong; 3 the suite itself failed; 130 interrupted. "
    "`conformance COMMAND --help` prints the options of a command.",
    **SETTINGS,
)
add_commands(app, load_table())


def main() -> None:
    """Run the command line.

    An error in the input is one message and exit status 2, an internal error one message and exit status 3.
    """
    with exit_guard(), interruptible(), github.quoted():
        try:
            app()
        except UserError as error:
            err.print(escape(str(error)))
            github.emit(github.error_commands(file_errors(error)), aside=True)
            sys.exit(USAGE)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                fault.report_fault(error)
                sys.exit(FAULT)
            err.print(escape(f"{error.filename}: {error.strerror}; name another file or folder"))
            sys.exit(USAGE)
        except KeyboardInterrupt:
            err.print("interrupted")
            sys.exit(INTERRUPTED)
        except SystemExit as ended:
            if isinstance(ended.__context__, BrokenPipeError):  # rich's, when nobody reads `--help` any more
                sys.exit(0)
            if ended.code is None:  # a framework's, as in `invoke`; those of commands have a status
                sys.exit(INTERRUPTED)
            raise
        except Exception as error:
            fault.report_fault(error)
            sys.exit(FAULT)


def _version(value: bool) -> None:
    if value:
        out.print(f"cross-entropy-conformance {conformance.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Compare every framework's cross-entropy with one definition."""


__all__ = ["app", "main"]

"""The command line: parse arguments and print results.

Exit status: 0 nothing unexpected, 1 a discrepancy that neither a documented convention nor the ledger
accounts for, 2 usage, 3 an exception of this package, 130 interrupted.

A command is imported when it runs; `conformance --help` reads docstrings from the source.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import functools
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

import conformance
from conformance.cli import fault, github
from conformance.cli.terminal import USAGE, err, out
from conformance.execution.ending import exit_guard
from conformance.execution.interruption import INTERRUPTED, interruptible
from conformance.model.errors import FAULT, UserError, file_errors
from conformance.model.text import shorten_words

COMMANDS = {
    "run": "run:run",
    "check": "check:check",
    "recover": "reports:recover",
    "list": "listing:listing",
    "relations": "exploration:relations",
    "fuzz": "exploration:fuzz",
    "mutants": "measures:mutants",
    "show": "look:show",
    "expect": "look:expect",
    "lint": "look:lint",
    "explain": "look:explain",
    "compare": "compare:compare",
    "recipe": "recipe:recipe",
    "harvest": "measures:harvest",
    "diff": "reports:diff",
    "audit": "audit:audit",
    "bisect": "audit:bisect",
    "history": "reports:history",
    "accept": "reports:accept",
    "merge": "reports:merge",
    "page": "reports:page",
    "sweep": "exploration:sweep",
}
"""`module:function` of each command, in the order of `--help`."""


CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]
"""Base class of all errors in options, which typer does not export."""


class Command(typer.core.TyperCommand):
    """A command that is imported when it runs."""

    def __init__(self, name: str) -> None:
        module, _, self._attribute = COMMANDS[name].partition(":")
        self._module = f"{__name__}.{module}"
        super().__init__(name)
        del self.help  # click sets it to None; the property reads it when `--help` prints it

    def make_context(self, *words: Any, **options: Any) -> Any:
        return self.imported.make_context(*words, **options)

    @functools.cached_property
    def imported(self) -> Any:
        """The command or group of commands itself."""
        from conformance.adapters.contract.calling import share_processors

        share_processors()
        target = getattr(importlib.import_module(self._module), self._attribute)
        if isinstance(target, typer.Typer):
            return typer.main.get_command(target)
        app_ = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
        app_.command(self.name)(target)
        return typer.main.get_command(app_)

    @functools.cached_property
    def help(self) -> str:  # type: ignore[override]
        """The docstring of its function, or of the module of a group, read from the source without importing it."""
        spec = importlib.util.find_spec(self._module)
        assert spec is not None
        assert spec.origin is not None
        tree = ast.parse(Path(spec.origin).read_bytes())
        definitions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == self._attribute]
        return ast.get_docstring(definitions[0] if definitions else tree) or ""


@contextlib.contextmanager
def _shorten_words() -> Iterator[None]:
    """Shorten very long words in error messages about options."""
    try:
        yield
    except CommandLineError as error:
        error.message = shorten_words(error.message)  # type: ignore[attr-defined]
        raise


class Commands(typer.core.TyperGroup):
    """The group of commands; an interrupted command ends with status 130."""

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        self.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment]  # the names that are suggested for a mistyped one

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Command | None:
        return Command(cmd_name) if cmd_name in COMMANDS else None

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
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


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


__all__ = ["COMMANDS", "Command", "app", "main"]

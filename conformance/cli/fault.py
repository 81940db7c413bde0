"""An exception of this package's own: one message, the traceback in a file, and where to report it."""

from __future__ import annotations

import os
import tempfile
import traceback
from pathlib import Path

from rich.markup import escape

from conformance.cli import github
from conformance.cli.terminal import err
from conformance.execution.ending import has_called
from conformance.model.errors import ISSUES, TRACEBACK

LONG = 300
"""Characters of an exception's text that a message has room for."""


def tell(error: Exception) -> None:
    """Print what happened, and where the traceback is."""
    text = "".join(traceback.format_exception(error))
    asked = os.environ.get(TRACEBACK, "") not in ("", "0")
    saved = "" if asked else _saved(text)
    if asked or not saved:
        err.print(escape(text), soft_wrap=True)
    what = f"the suite itself failed, which is no finding about a framework: {described(error)}"
    where = f"; the traceback is in {saved}, and {TRACEBACK}=1 prints it" if saved else ""
    broken = ""
    if has_called():
        broken = "; a framework whose functions break this process is a row without --in-process, with --isolate for "
        broken += "fuzz and pytest"
    err.print(escape(f"{what}{where}{broken}; please report it: {ISSUES}"), soft_wrap=True)
    github.tell(
        [github.error("the suite itself failed", f"{described(error)}; please report it: {ISSUES}")], aside=True
    )


def described(error: Exception) -> str:
    """The type of an exception and what it says, on one line, however it says it."""
    try:
        said = " ".join(str(error).split())
    except Exception:
        said = "(it cannot be printed)"
    said = said if len(said) <= LONG else f"{said[:LONG]}..."
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _saved(text: str) -> str:
    """The path of a file with the text; empty where none can be written."""
    try:
        descriptor, name = tempfile.mkstemp(prefix="conformance-traceback-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return ""
    return str(Path(name))


__all__ = ["described", "tell"]

"""Report an internal error: one message, the traceback in a file, and where to report it."""

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
from conformance.model.text import truncate

MAX_TEXT = 300
"""Maximum number of characters of an exception's text in a message."""


def report_fault(error: Exception) -> None:
    """Print the error, and the path of its traceback."""
    text = "".join(traceback.format_exception(error))
    printed = os.environ.get(TRACEBACK, "") not in ("", "0")
    saved = "" if printed else _save(text)
    if printed or not saved:
        err.print(escape(text), soft_wrap=True)
    message = f"the suite itself failed, which is not a finding about a framework: {describe_exception(error)}"
    place = f"; the traceback is in {saved}, and {TRACEBACK}=1 prints it" if saved else ""
    advice = ""
    if has_called():
        advice = "; a framework whose functions break this process is a row without --in-process, with --isolate for "
        advice += "fuzz and pytest"
    err.print(escape(f"{message}{place}{advice}; please report it: {ISSUES}"), soft_wrap=True)
    github.emit(
        [github.error("the suite itself failed", f"{describe_exception(error)}; please report it: {ISSUES}")],
        aside=True,
    )


def describe_exception(error: Exception) -> str:
    """The type and text of an exception on one line, even if its `__str__` fails."""
    try:
        text = truncate(" ".join(str(error).split()), MAX_TEXT)
    except Exception:
        text = "(it cannot be printed)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _save(text: str) -> str:
    """Write the text to a file and return its path; "" if this fails."""
    try:
        descriptor, name = tempfile.mkstemp(prefix="conformance-traceback-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return ""
    return str(Path(name))

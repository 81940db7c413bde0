"""Messages and progress shared by commands."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from conformance.api.base import Advance, Observer
from conformance.cli.terminal import err, out
from conformance.judging.selection import SelectionError
from conformance.model.case import Case

MAX_FAILURES = 5
"""Maximum number of failed items, or of notes, to print."""
LINE_SECONDS = 30.0
"""Seconds between two lines of progress if there is no terminal."""
MAX_WIDTH = 160
"""Maximum number of characters of a value or a reason on a terminal."""


def output_format(form: str, as_json: bool) -> Any:
    """The format that --format and --json select. Raises SelectionError if they contradict each other."""
    if as_json and form not in ("terminal", "json"):
        raise SelectionError(f"--json and --format {form} do not go together; leave one of them out")
    return "json" if as_json else form


def print_styled(lines: Iterable[tuple[str, str]]) -> None:
    """Print lines, each with its rich style, if any."""
    for style, line in lines:
        out.print(f"[{style}]{escape(line)}[/]" if style else escape(line), soft_wrap=True)


def print_stderr(line: str) -> None:
    """Print a line to stderr."""
    err.print(escape(line))


def print_notes(cases: Iterable[Case]) -> None:
    """Print the first MAX_FAILURES `note` fields of the cases to stderr, then how many were omitted."""
    _print_first("note", [case.note for case in cases if case.note])


def print_not_executed(items: Sequence[object], consequence: str = "") -> None:
    """Print the first MAX_FAILURES items that could not be executed to stderr, then how many were omitted."""
    _print_first(f"not executed{consequence}", items)


def _print_first(label: str, items: Sequence[object]) -> None:
    for item in items[:MAX_FAILURES]:
        print_stderr(f"{label}: {item}")
    if len(items) > MAX_FAILURES:
        print_stderr(f"... and {len(items) - MAX_FAILURES} more")


def _line_progress(total: int) -> Advance:
    """A progress callback that prints a line to stderr every LINE_SECONDS."""
    completed, printed = 0, time.monotonic()

    def advance(label: str, finished: int = 1, /) -> None:
        nonlocal completed, printed
        completed += finished
        if (now := time.monotonic()) - printed >= LINE_SECONDS:
            printed = now
            print_stderr(f"{completed:,} of {total:,}{f', now {label}' if label else ''}")

    return advance


class Printer(Observer):
    """Prints notes to stderr, and shows progress there."""

    def note(self, line: str) -> None:
        """Print a note to stderr."""
        print_stderr(line)

    @contextlib.contextmanager
    def status(self) -> Iterator[Callable[[str], None]]:
        """Show a spinner with the current step."""
        with err.status("") as status:
            yield lambda line: status.update(escape(line))

    @contextlib.contextmanager
    def rows(self, count: int) -> Iterator[Advance]:
        """Show a progress bar, or print lines of progress if there is no terminal."""
        if not err.is_terminal:
            yield _line_progress(count)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=err, transient=True) as bar:
            task = bar.add_task("", total=count)
            completed, shown = 0, 0.0

            def advance(label: str, finished: int = 1, /) -> None:
                nonlocal completed, shown
                completed += finished
                if (now := time.monotonic()) - shown >= 1 / bar.live.refresh_per_second:
                    bar.update(task, completed=completed, description=f"{escape(label):<8}")
                    shown = now

            yield advance

"""Workflow commands of GitHub Actions: `::error` annotations at a line of a case file.

All other output is escaped so that it is not interpreted as a command: see `quoted`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from conformance.cli.terminal import discard
from conformance.model.errors import CaseFileError
from conformance.model.text import DefusedStream, on_github, printable

MAX_ANNOTATIONS = 10
"""Number of errors of one step that GitHub shows."""


@contextlib.contextmanager
def quoted() -> Iterator[None]:
    """On GitHub Actions, escape printed text so that it contains no workflow commands; only `emit` prints commands."""
    if not on_github():
        yield
        return
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(DefusedStream, streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def emit(commands: Iterable[str], *, aside: bool = False) -> None:
    """Print workflow commands if this runs on GitHub Actions.

    aside: whether to print to stderr, because stdout contains JSON.
    """
    if on_github():
        stream = sys.stderr if aside else sys.stdout
        stream = stream.stream if isinstance(stream, DefusedStream) else stream
        try:
            stream.writelines(f"{command}\n" for command in commands)
            stream.flush()
        except BrokenPipeError:
            discard(stream)


def error_commands(errors: Iterable[CaseFileError]) -> list[str]:
    """A workflow command for each of the first errors in case files and ledgers."""
    return [
        error_at(
            error.path,
            error.line,
            error.column,
            error.where or "case file",
            "; ".join(filter(None, (error.message, error.advice))),
        )
        for error in itertools.islice(errors, MAX_ANNOTATIONS)
    ]


def error(title: str, message: str) -> str:
    """A workflow command for an error without a file."""
    return error_at("", 0, 0, title, message)


def in_checkout(path: str) -> str:
    """The path of a file in the repository, `cases/x.yaml`; "" if it is outside.

    path: the path as the user would type it.
    """
    if not path:
        return ""
    from conformance.casefiles.loading import resolve_links  # slow to import

    absolute = resolve_links(Path(path))
    root = resolve_links(Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd()))
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else ""


def error_at(path: str, line: int, column: int, title: str, message: str) -> str:
    """A workflow command for an error at a line and column of a file; 0 means unknown."""
    properties = {"title": title}
    if file := in_checkout(path):
        position = {"line": line, "col": column}
        properties = {"file": file, **{name: str(number) for name, number in position.items() if number}, **properties}
    listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::error {listed}::{_data(message)}"


def _data(text: str) -> str:
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return printable(escaped)


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

"""What GitHub Actions shows: `::error` lines that stand beside a case, or what is wrong with it, in its file.

Nothing else that is printed there is a command: see `quoted`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from conformance.model.errors import CaseFileError
from conformance.model.text import Defused, on_github, printable

MOST = 10
"""Errors of one step that GitHub shows."""


@contextlib.contextmanager
def quoted() -> Iterator[None]:
    """On GitHub Actions, has what is printed be text, whatever others wrote into it; only `tell` gives commands."""
    if not on_github():
        yield
        return
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(Defused, streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def tell(commands: Iterable[str], *, aside: bool = False) -> None:
    """Give commands to GitHub Actions, where this runs there.  aside: on stderr, where stdout is for machines."""
    if on_github():
        stream = sys.stderr if aside else sys.stdout
        stream = stream.stream if isinstance(stream, Defused) else stream
        stream.writelines(f"{command}\n" for command in commands)
        stream.flush()


def complaints(wrong: Iterable[CaseFileError], most: int = MOST) -> list[str]:
    """A workflow command for each of the first `most` things that are wrong with case files and ledgers."""
    return [
        error_at(
            one.path, one.line, one.column, one.where or "case file", "; ".join(filter(None, (one.message, one.advice)))
        )
        for one, _ in zip(wrong, range(most), strict=False)
    ]


def error(title: str, message: str) -> str:
    """A workflow command for an error that is about no file."""
    return error_at("", 0, 0, title, message)


def in_checkout(path: str) -> str:
    """A file as the repository names it, `cases/x.yaml`; empty for one that lies elsewhere.

    path: as the user would type it.
    """
    if not path:
        return ""
    from conformance.casefiles.loading import resolve_links  # what reads case files takes time to import

    absolute = resolve_links(Path(path))
    root = resolve_links(Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd()))
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else ""


def error_at(path: str, line: int, column: int, title: str, message: str) -> str:
    """A workflow command for an error at a line and column, 0 where there is none, of a file."""
    properties = {"title": title}
    if file := in_checkout(path):
        place = {"line": line, "col": column}
        properties = {"file": file, **{name: str(number) for name, number in place.items() if number}, **properties}
    said = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::error {said}::{_data(message)}"


def _data(text: str) -> str:
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return printable(escaped)


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

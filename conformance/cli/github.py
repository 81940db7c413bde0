"""What GitHub Actions shows: `::error` lines that stand beside a case, or what is wrong with it, in its file.

Nothing else that is printed there is a command: see `quoted`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from conformance import audit
from conformance.audit.alignment import records
from conformance.case import Case
from conformance.errors import CaseFileError
from conformance.printing import Defused, on_github, printable
from conformance.suite import Row, id_of

MOST = 10
"""Errors of one step that GitHub shows."""


class Failure(NamedTuple):
    """An item that makes a run fail: the id of its case, empty where there is none, what it is, and why."""

    case: str
    title: str
    message: str


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


def failures(rows: Iterable[Row], check: audit.Check | None) -> Iterator[Failure]:
    """What makes a run fail: rows that nothing accounts for or, against a baseline, what got worse."""
    if check is not None:
        for row in records(check.failures):
            yield Failure(row["case"], id_of(row), f"{row['reason']} against the baseline")
        return
    for row in rows:
        if row["expected"] in ("unexpected", "stale"):
            title = id_of(row) if row["case"] else row["environment"]
            yield Failure(row["case"], f"{row['expected']} {title}", row["explanation"])


def lines(failed: Iterable[Failure], cases: Sequence[Case], most: int = MOST) -> list[str]:
    """A workflow command for each of the first `most` failures; `file` and `line` are of the case, where it has a file.

    A file outside of the checkout, such as a case that is shipped, has no place in a pull request, so none is given.
    """
    known = {case.id: case for case in cases}
    told = []
    for failure, _ in zip(failed, range(most), strict=False):
        case = known.get(failure.case)
        path, line = (case.path, case.line) if case is not None else ("", 0)
        told.append(_error(path, line, 0, failure.title, failure.message))
    return told


def complaints(wrong: Iterable[CaseFileError], most: int = MOST) -> list[str]:
    """A workflow command for each of the first `most` things that are wrong with case files and ledgers."""
    return [
        _error(
            one.path, one.line, one.column, one.where or "case file", "; ".join(filter(None, (one.message, one.advice)))
        )
        for one, _ in zip(wrong, range(most), strict=False)
    ]


def in_checkout(path: str) -> str:
    """A file as the repository names it, `cases/x.yaml`; empty for one that lies elsewhere.

    path: as the user would type it.
    """
    if not path:
        return ""
    absolute = Path(path).resolve()
    root = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd()).resolve()
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else ""


def _error(path: str, line: int, column: int, title: str, message: str) -> str:
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

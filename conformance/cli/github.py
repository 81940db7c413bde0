"""What GitHub Actions shows: `::error` lines that stand beside a case, or what is wrong with it, in its file.

Nothing else that is printed there is a command: see `quoted`.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence

from conformance.cli.failing import in_checkout
from conformance.judging.suite import id_of
from conformance.model.case import Case
from conformance.model.errors import CaseFileError
from conformance.model.text import Defused, on_github, printable
from conformance.report.sarif import Failure

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


def lines(failed: Iterable[Failure], cases: Sequence[Case], most: int = MOST) -> list[str]:
    """A workflow command for each of the first `most` failures; `file` and `line` are of the case, where it has a file.

    A file outside of the checkout, such as a case that is shipped, has no place in a pull request, so none is given.
    """
    known = {case.id: case for case in cases}
    told = []
    for failure, _ in zip(failed, range(most), strict=False):
        case = known.get(failure.row["case"])
        path, line = (case.path, case.line) if case is not None else ("", 0)
        about = id_of(failure.row) if failure.row["case"] else failure.row["environment"]
        told.append(_error(path, line, 0, f"{about} {failure.rule.replace('_', ' ')}", failure.why))
    return told


def complaints(wrong: Iterable[CaseFileError], most: int = MOST) -> list[str]:
    """A workflow command for each of the first `most` things that are wrong with case files and ledgers."""
    return [
        _error(
            one.path, one.line, one.column, one.where or "case file", "; ".join(filter(None, (one.message, one.advice)))
        )
        for one, _ in zip(wrong, range(most), strict=False)
    ]


def error(title: str, message: str) -> str:
    """A workflow command for an error that is about no file."""
    return _error("", 0, 0, title, message)


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

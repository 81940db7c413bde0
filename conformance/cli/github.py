"""What made a run fail as GitHub Actions shows it: `::error` lines that stand beside the case in its file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from conformance import audit
from conformance.audit.alignment import records
from conformance.case import Case
from conformance.printing import printable
from conformance.suite import Row, id_of

MOST = 10
"""Errors of one step that GitHub shows."""


class Failure(NamedTuple):
    """An item that makes a run fail: the id of its case, empty where there is none, what it is, and why."""

    case: str
    title: str
    message: str


def asked_for() -> bool:
    """Whether this runs as a step of GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


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
        properties = {"title": failure.title}
        case = known.get(failure.case)
        if case is not None and (file := _in_checkout(case.path)):
            properties = {"file": file, "line": str(case.line), **properties}
        said = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
        told.append(f"::error {said}::{_data(failure.message)}")
    return told


def _in_checkout(path: str) -> str:
    if not path:
        return ""
    absolute = Path(path).resolve()
    root = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd()).resolve()
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else ""


def _data(text: str) -> str:
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return printable(escaped)


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

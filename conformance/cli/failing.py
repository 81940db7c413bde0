"""Locate the cases that make a run fail in their files."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath

from conformance.cli import github
from conformance.model.case import Case
from conformance.model.row_key import RowKey
from conformance.report.sarif import CHECKOUT, ELSEWHERE, Failure, SourceLocation


def workflow_commands(failed: Iterable[Failure], cases: Sequence[Case]) -> list[str]:
    """A workflow command for each of the first failures, at the line of the case if its file is in the checkout."""
    known = {case.id: case for case in cases}
    commands = []
    for failure in itertools.islice(failed, github.MAX_ANNOTATIONS):
        case = known.get(failure.row["case"])
        path, line = (case.path, case.line) if case is not None else ("", 0)
        subject = RowKey.of(failure.row).id if failure.row["case"] else failure.row["environment"]
        commands.append(github.error_at(path, line, 0, f"{subject} {failure.rule.replace('_', ' ')}", failure.message))
    return commands


def case_locator(cases: Sequence[Case]) -> Callable[[str], SourceLocation]:
    """A function that returns the location of a case in its file; without a file, a location made from its id."""
    known = {case.id: case for case in cases}

    def locate(name: str) -> SourceLocation:
        case = known.get(name)
        if case is not None and (file := github.in_checkout(case.path)):
            return SourceLocation(CHECKOUT, file, case.line)
        suffix = PurePosixPath(case.path).suffix if case is not None else ""
        return SourceLocation(
            ELSEWHERE, f"{name.rpartition('/')[0]}{suffix or '.yaml'}", case.line if case is not None else 0
        )

    return locate

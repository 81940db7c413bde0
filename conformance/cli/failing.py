"""The failures of a run, and the positions of their cases in files."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from conformance import comparison
from conformance.cli import github
from conformance.judging.row import COLUMNS, Cells, Row
from conformance.model.case import Case
from conformance.model.row_key import RowKey
from conformance.report.frames import records
from conformance.report.sarif import CHECKOUT, ELSEWHERE, RULES, Failure, SourceLocation

_RULES = {"vanished": "vanished", "status or convention changed": "changed", "drifted past its ratchet": "drifted"}


def failures(rows: Sequence[Row], check: comparison.Check | None, strict_known: bool = False) -> Iterator[Failure]:
    """The rows that make a run fail: unexpected ones or, with a baseline, those that got worse.

    strict_known: known issues count, too, whatever the baseline has.
    """
    if strict_known:
        for row in rows:
            if row.expected == "known":
                yield Failure(row.status, row.cells, f"known: {row.known}; {row.explanation}")
    if check is not None:
        for changed in records(check.failures):
            cells = _cells_of(changed)
            rule = _RULES.get(changed["reason"]) or (cells["status"] if cells["status"] in RULES else "changed")
            yield Failure(rule, cells, f"{changed['reason']} against the baseline: {changed['what']}")
        return
    for row in rows:
        if row.expected in ("unexpected", "stale"):
            yield Failure("stale" if row.expected == "stale" else row.status, row.cells, row.explanation)


def _cells_of(changed: Cells) -> Cells:
    """The row of the run that a line of `comparison.changes` is about, or of the baseline where it has vanished."""
    side = "new" if changed["new_version"] else "old"
    return {name: changed.get(name, changed.get(f"{side}_{name}", "")) for name in COLUMNS}


def workflow_commands(failed: Iterable[Failure], cases: Sequence[Case]) -> list[str]:
    """A workflow command for each of the first failures, at the line of the case if its file is in the checkout."""
    known = {case.id: case for case in cases}
    commands = []
    for failure in itertools.islice(failed, github.MAX_ANNOTATIONS):
        case = known.get(failure.row["case"])
        path, line = (case.path, case.line) if case is not None else ("", 0)
        about = RowKey.of(failure.row).id if failure.row["case"] else failure.row["environment"]
        commands.append(github.error_at(path, line, 0, f"{about} {failure.rule.replace('_', ' ')}", failure.message))
    return commands


def places(cases: Sequence[Case]) -> Callable[[str], SourceLocation]:
    """A function that returns the position of a case in its file; without a file, one made from its id."""
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


__all__ = ["failures", "places", "workflow_commands"]

"""Alignment of two reports: pairs of rows that answer the same question.

Rows are matched by the question and by a column `place`, the columns of `row_key.PLACE` that are needed to tell rows
apart, joined by blanks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pandas as pd
from packaging.version import InvalidVersion, Version

from conformance.comparison.errors import ComparisonError
from conformance.model.row_key import KEY, PLACE, QUESTION
from conformance.model.text import format_count, join_names
from conformance.report.frames import Frame

IDENTITY = [*QUESTION, "place"]
"""Columns by which rows are matched."""
DEFAULT_SIDE_NAMES = ("the old report", "the new report")
_MATCHED = ["framework", *KEY, "status", "error", "budget", "ratio", "ulps", "python", "numpy"]
MAX_NAMES = 3
"""Maximum number of names that an error lists."""


def called_rows(results: Frame) -> pd.DataFrame:
    """The rows of a report that are not `unsupported`, with the columns by which rows are selected and matched.

    Its index has their positions in the report, whose long texts are therefore never copied with a selection.
    """
    return results[_MATCHED].set_axis(range(len(results)))[(results["status"] != "unsupported").to_numpy(dtype=bool)]


def add_places(
    old: pd.DataFrame, new: pd.DataFrame, names: tuple[str, str] = DEFAULT_SIDE_NAMES
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both frames with a column `place`; rows with equal values of IDENTITY answer the same question.

    The environment of a function is part of its place only if a side has several, because comparisons are often between
    environments; the same holds for backend, mode and device.  The version is part of it if a question would otherwise
    have several rows.

    Raises ComparisonError if a function has several environments of which none is on the other side, or a question is
    repeated.
    """
    sides = [side.assign(place="") for side in (old, new)]
    for column in PLACE:
        if column == "version" or any(len(side) and not (side[column] != "").any() for side in sides):
            continue  # reports of an earlier version lack the column
        several = {name for side in sides for name in _with_several(side, column)}
        sides = [_extend_place(side, several, column) for side in sides]
        _check_common(sides, several, column, names)
    repeated = {name for side in sides for name in side.loc[side.duplicated(IDENTITY), "function"]}
    sides = [_extend_place(side, repeated, "version") for side in sides]
    for side, name in zip(sides, names, strict=True):
        check_unique(side, IDENTITY, name)
    return sides[0], sides[1]


def check_unique(rows: pd.DataFrame, key: list[str], report_name: str) -> None:
    """Raise ComparisonError, naming rows, if `key` does not distinguish all rows."""
    repeated = rows[rows.duplicated(key)]
    if not repeated.empty:
        why = f"it repeats {format_count(len(repeated), 'row')}, {row_names(repeated)}"
        raise ComparisonError(report_name, why, "make it again, or merge it again from reports that do not overlap")


def row_names(rows: pd.DataFrame) -> str:
    """Name the first rows by function, case, dtype, reduction, quantity and environment."""
    columns = ["function", "case", "dtype", "reduction", "quantity", "environment"]
    names = [" ".join(map(str, row)) for row in rows[columns].head(MAX_NAMES).to_numpy(dtype=object)]
    return "; ".join(names) + (f" and {len(rows) - MAX_NAMES} more" if len(rows) > MAX_NAMES else "")


def version_key(text: str) -> tuple[bool, Version, str]:
    """Sort key of versions, oldest first; texts that are not versions come before all."""
    try:
        return True, Version(text), text
    except InvalidVersion:
        return False, Version("0"), text


def first_names(names: Iterable[str]) -> str:
    """List the first of some names in alphabetical order."""
    return join_names(sorted(set(names)), MAX_NAMES)


def _with_several(rows: pd.DataFrame, column: str) -> list[str]:
    """Functions with several values in a column."""
    counts = rows.groupby("function")[column].nunique()
    return list(counts[counts > 1].index)


def _extend_place(rows: pd.DataFrame, functions: Collection[str], column: str) -> pd.DataFrame:
    """Append a column to the place of some functions."""
    longer = (rows["place"] + " " + rows[column]).str.strip()
    return rows.assign(place=rows["place"].where(~rows["function"].isin(functions), longer))


def _check_common(sides: list[pd.DataFrame], functions: Collection[str], column: str, names: tuple[str, str]) -> None:
    for function in sorted(functions):
        a, b = (set(side.loc[side["function"] == function, column]) for side in sides)
        if a and b and not a & b:
            first, second = (f"in {name} {first_names(values)}" for name, values in zip(names, (a, b), strict=True))
            why = f"it has several rows for a question, which differ in {column}, and none matches: {first}; {second}"
            raise ComparisonError(function, why, f"compare reports of one {column} each, or of the same ones")

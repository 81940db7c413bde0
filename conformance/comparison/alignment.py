"""Which row of one report is the same question as which row of another.

A row is identified by case, digest, dtype, reduction and function.  Where it was asked, `place`, belongs
to that only as far as it must: see `placed`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from conformance.comparison.refusal import AuditError
from conformance.model.row_key import QUESTION
from conformance.model.text import counted, join_names

IDENTITY = list(QUESTION)
"""What a question is, without the place where it is put."""
PLACES = ("environment", "backend", "mode", "device")
NAMES = ("the old report", "the new report")
SHOWN = 3
"""Names that an error lists."""
Integers = npt.NDArray[np.int64]


def placed(old: pd.DataFrame, new: pd.DataFrame, names: tuple[str, str] = NAMES) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both frames with a column `place`, so that equal rows of IDENTITY and `place` are one question.

    A function that each side ran in one environment is aligned without it, because that the environments
    differ is what is audited; so with backend, mode and device.  Where a side has several, they have to match, and
    where that still leaves several rows, so does the version.  Raises AuditError where a function has
    none of its several environments in common with the other side, or where a question is asked twice.
    """
    sides = [side.assign(place="") for side in (old, new)]
    for column in PLACES:
        if any(len(side) and not (side[column] != "").any() for side in sides):
            continue  # a report of an earlier version, which does not say
        several = {name for side in sides for name in _several(side, column)}
        sides = [_told_apart(side, several, column) for side in sides]
        _check_common(sides, several, column, names)
    again = {name for side in sides for name in side.loc[side.duplicated([*IDENTITY, "place"]), "function"]}
    sides = [_told_apart(side, again, "version") for side in sides]
    for side, name in zip(sides, names, strict=True):
        check_unique(side, [*IDENTITY, "place"], name)
    return sides[0], sides[1]


def check_unique(rows: pd.DataFrame, key: list[str], which: str) -> None:
    """Raise AuditError, which names rows, where `key` does not tell all rows apart."""
    twice = rows[rows.duplicated(key)]
    if not twice.empty:
        why = f"it repeats {counted(len(twice), 'row')}, {named(twice)}"
        raise AuditError(which, why, "make it again, or merge it again from reports that do not overlap")


def named(rows: pd.DataFrame) -> str:
    """The first rows, as one says them in a sentence."""
    columns = ["function", "case", "dtype", "reduction", "quantity", "environment"]
    told = [" ".join(map(str, row)) for row in rows[columns].head(SHOWN).to_numpy(dtype=object)]
    return "; ".join(told) + (f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")


def listed(names: Iterable[str]) -> str:
    """Some names, sorted, as one says them in a sentence."""
    return join_names(sorted(set(names)), SHOWN)


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries by column."""
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def positions(old: pd.DataFrame, new: pd.DataFrame) -> tuple[Integers, Integers]:
    """Of every question in either frame the position of its row in each, -1 where it has none."""
    key = [*IDENTITY, "place"]
    left = old[key].assign(old=np.arange(len(old)))
    right = new[key].assign(new=np.arange(len(new)))
    both = left.merge(right, on=key, how="outer", validate="one_to_one")
    i, j = (both[side].fillna(-1).to_numpy(dtype=np.int64) for side in ("old", "new"))
    return i, j


def _several(rows: pd.DataFrame, column: str) -> list[Any]:
    found = rows.groupby("function")[column].nunique()
    return found[found > 1].index.tolist()


def _told_apart(rows: pd.DataFrame, functions: set[Any], column: str) -> pd.DataFrame:
    if not functions:
        return rows
    longer = rows["place"] + " " + rows[column]
    return rows.assign(place=rows["place"].where(~rows["function"].isin(functions), longer.str.strip()))


def _check_common(sides: list[pd.DataFrame], several: set[Any], column: str, names: tuple[str, str]) -> None:
    for function in sorted(several):
        a, b = (set(side.loc[side["function"] == function, column]) for side in sides)
        if a and b and not a & b:
            one, other = (f"in {name} {listed(found)}" for name, found in zip(names, (a, b), strict=True))
            why = f"it has several rows for a question, told apart by {column}, and none matches: {one}; {other}"
            raise AuditError(function, why, f"compare reports of one {column} each, or of the same ones")


__all__ = ["IDENTITY", "NAMES", "check_unique", "listed", "named", "placed", "positions", "records"]

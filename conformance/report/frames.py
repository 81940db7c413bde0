"""Rows as a DataFrame, and columns that are derived row by row.

A frame has the columns of `row.COLUMNS`, of fixed dtypes, sorted by problem and function, so that it does not depend
on the order in which rows were made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from conformance.judging.row import COLUMNS, DEFAULTS, FLOATS, Row, column_of
from conformance.judging.verdict import FAILING, FAILING_ROWS, STATUSES
from conformance.model.text import printable

ORDER = (
    "case", "dtype", "reduction", "quantity", "function", "environment", "version", "device", "digest", "backend",
    "mode",
)  # fmt: skip
"""The fields of a `RowKey`, as rows are sorted by them."""


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows as a DataFrame, one line per row; see `from_records`."""
    listed = list(rows)
    return _by_column(len(listed), lambda name: column_of(listed, name))


def from_records(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows that are given by column as a DataFrame, one line per row; absent columns get their defaults.

    Control characters and lone surrogates, which the message of an exception may have and a file may not, are escaped.
    """
    lines = [row if len(row) == len(COLUMNS) else {**dict.fromkeys(COLUMNS), **DEFAULTS, **row} for row in rows]
    return _by_column(len(lines), lambda name: [row[name] for row in lines])


def _by_column(count: int, cells: Callable[[str], list[Any]]) -> pd.DataFrame:
    """A frame of `count` rows.  cells: those of a column; called for one after another, to bound memory."""
    keys: list[tuple[Any, ...]] = list(zip(*(_column(name, cells(name)) for name in ORDER), strict=True))
    if len(set(keys)) < len(keys):
        # Every column is a key, so that rows which are alike in ORDER still have one order.
        rest = zip(*(map(str, _column(name, cells(name))) for name in COLUMNS), strict=True)
        keys = [(*key, *more) for key, more in zip(keys, rest, strict=True)]
    order = sorted(range(count), key=keys.__getitem__)
    del keys
    columns = {}
    for name in COLUMNS:
        values = _column(name, cells(name))
        columns[name] = pd.array([values[i] for i in order], dtype="float64" if name in FLOATS else "str")
    return set_dtypes(pd.DataFrame(columns), FLOATS)


def set_dtypes(table: pd.DataFrame, floats: Iterable[str]) -> pd.DataFrame:
    """The table with the columns `floats` as float64 and all others as strings."""
    dtypes = dict.fromkeys(table.columns, "str") | dict.fromkeys(floats, "float64")
    return table.astype(dtypes).reset_index(drop=True)


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries by column."""
    names = list(map(str, rows.columns))
    return [dict(zip(names, row, strict=True)) for row in rows.itertuples(index=False, name=None)]


def _column(name: str, values: Sequence[Any]) -> list[Any]:
    if name in FLOATS:
        return [float("nan") if value is None else float(value) for value in values]
    if set(map(type, values)) != {str}:
        values = ["" if value is None else str(value) for value in values]
    clean = {text: printable(text) for text in set(values)}
    return list(map(clean.__getitem__, values))


def counts(results: pd.DataFrame) -> pd.DataFrame:
    """Count rows by function and status; the last column counts those that are `unexpected` or `stale`."""
    table = pd.crosstab(results["function"], results["status"]).reindex(columns=list(STATUSES), fill_value=0)
    unexpected = results["expected"].isin(FAILING_ROWS)
    return table.assign(unexpected=unexpected.groupby(results["function"]).sum().reindex(table.index)).astype("int64")


def with_environments(results: pd.DataFrame) -> pd.DataFrame:
    """Append the name of its environment to a function that ran in several."""
    several = results.groupby("function")["environment"].transform("nunique") > 1
    longer = results["function"] + " (" + results["environment"] + ")"
    return results.assign(function=results["function"].where(~several, longer))


def largest_ratios(results: pd.DataFrame) -> pd.DataFrame:
    """The row with the largest error / budget of each function, quantity and dtype.

    Only rows that were compared and are right count: those that agree, or diverge for a documented cause.
    Returns a frame with columns of that row, and `rows`: how many were compared.
    """
    usable = results["status"].isin(["agrees", "diverges"]) & (results["ratio"] < float("inf"))
    groups = results[usable].groupby(["function", "quantity", "dtype"], sort=True)
    columns = ["function", "quantity", "dtype", "ratio", "error", "budget", "ulps", "case", "reduction", "status"]
    worst = results.loc[groups["ratio"].idxmax(), columns].reset_index(drop=True)
    return worst.assign(rows=groups.size().to_numpy())


def failing(results: pd.DataFrame) -> pd.Series:
    """Flags of rows with a failing status or a stale ledger entry."""
    return results["status"].isin(FAILING) | results["expected"].isin(FAILING_ROWS)

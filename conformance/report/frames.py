"""Rows as a DataFrame, and columns that are derived row by row.

A frame has the columns of `row.COLUMNS`, of fixed dtypes, sorted by problem and function, so that it does not depend
on the order in which rows were made.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from conformance.judging.row import COLUMNS, DEFAULTS, FLOATS, Row
from conformance.judging.verdict import FAILING, FAILING_ROWS, STATUSES
from conformance.model.text import printable

ORDER = (
    "case", "dtype", "reduction", "quantity", "function", "environment", "version", "device", "digest", "backend",
    "mode",
)  # fmt: skip
"""The fields of a `RowKey`, as rows are sorted by them."""


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows as a DataFrame, one line per row; see `from_records`."""
    return from_records(row.cells for row in rows)


def from_records(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows that are given by column as a DataFrame, one line per row; absent columns get their defaults.

    Control characters and lone surrogates, which the message of an exception may have and a file may not, are escaped.
    """
    lines = list(map(_all_cells, rows))  # row by row, which is how the dictionaries lie in memory
    cells = zip(*lines, strict=True) if lines else [()] * len(COLUMNS)
    columns = {name: _column(name, values) for name, values in zip(COLUMNS, cells, strict=True)}
    keys: list[tuple[Any, ...]] = list(zip(*(columns[name] for name in ORDER), strict=True))
    if len(set(keys)) < len(keys):
        # Every column is a key, so that rows which are alike in ORDER still have one order.
        rest = zip(*(map(str, column) for column in columns.values()), strict=True)
        keys = [(*key, *more) for key, more in zip(keys, rest, strict=True)]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return set_dtypes(pd.DataFrame({name: [column[i] for i in order] for name, column in columns.items()}), FLOATS)


def set_dtypes(table: pd.DataFrame, floats: Iterable[str]) -> pd.DataFrame:
    """The table with the columns `floats` as float64 and all others as strings."""
    dtypes = dict.fromkeys(table.columns, "str") | dict.fromkeys(floats, "float64")
    return table.astype(dtypes).reset_index(drop=True)


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries by column."""
    names = list(map(str, rows.columns))
    return [dict(zip(names, row, strict=True)) for row in rows.itertuples(index=False, name=None)]


_cells = operator.itemgetter(*COLUMNS)


def _all_cells(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """The cells of a row in the order of `COLUMNS`, absent ones with their default."""
    cells: tuple[Any, ...]
    try:
        cells = _cells(row)
    except KeyError:
        cells = _cells({**dict.fromkeys(COLUMNS), **DEFAULTS, **row})
    return cells


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

"""Rows as a DataFrame, and columns derived from single rows.

A frame has the columns `row.COLUMNS` with fixed dtypes and is sorted by problem and function, so that it does not
depend on the order of execution.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import pandas as pd

from conformance.judging.packed_rows import PART, PackedRows, column_array
from conformance.judging.row import COLUMNS, DEFAULTS, FLOATS, Row
from conformance.judging.verdict import FAILING, FAILING_ROWS, STATUSES

if TYPE_CHECKING:
    import pyarrow as pa

ORDER = (
    "case", "dtype", "reduction", "quantity", "function", "environment", "version", "device", "digest", "backend",
    "mode",
)  # fmt: skip
"""The fields of a `RowKey`, in sort order."""


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """A DataFrame of rows, one line per row."""
    return _frame((rows if isinstance(rows, PackedRows) else PackedRows(rows)).column)


def from_records(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """A DataFrame of rows given as mappings by column; absent columns get their defaults."""
    lines = [row if len(row) == len(COLUMNS) else {**dict.fromkeys(COLUMNS), **DEFAULTS, **row} for row in rows]
    return _frame(lambda name: column_array(name, [row[name] for row in lines]))


def merged(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of several frames as one."""
    import pyarrow as pa

    def column(name: str) -> pa.ChunkedArray:
        columns = (table[name] for table in tables)
        # In parts, so that few of the texts are Python objects at a time.
        parts = (rows[start : start + PART] for rows in columns for start in range(0, max(len(rows), 1), PART))
        return pa.chunked_array([column_array(name, part.tolist()) for part in parts])

    return _frame(column)


def _frame(column: Callable[[str], Any]) -> pd.DataFrame:
    """A frame of columns given as Arrow arrays, which are created in sequence to bound memory."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = pa.table({name: column(name) for name in ORDER})
    order = pc.sort_indices(keys, [(name, "ascending") for name in ORDER])
    longest_first = sorted(COLUMNS, key=lambda name: name != "call")  # while most memory is free for its copies
    columns = {name: column(name).take(order) for name in longest_first}
    table = pa.table({name: columns.pop(name) for name in COLUMNS}).to_pandas()
    if table.duplicated(list(ORDER)).any():  # sort by all columns, so that the order is unique
        table = table.sort_values([*ORDER, *COLUMNS])
    return set_dtypes(table, FLOATS)


class PackedFrame:
    """A frame as Parquet: a column is unpacked each time that it is read."""

    def __init__(self, table: pd.DataFrame) -> None:
        packed = io.BytesIO()
        table.to_parquet(packed, engine="pyarrow", index=False, compression="zstd")
        self._packed = packed.getvalue()
        self._length = len(table)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, columns: str) -> pd.Series: ...

    @overload
    def __getitem__(self, columns: list[str]) -> pd.DataFrame: ...

    def __getitem__(self, columns: str | list[str]) -> pd.Series | pd.DataFrame:
        names = [columns] if isinstance(columns, str) else columns
        return pd.read_parquet(io.BytesIO(self._packed), columns=names)[columns]


Frame = pd.DataFrame | PackedFrame
"""A frame whose columns are read."""


def set_dtypes(table: pd.DataFrame, floats: Iterable[str]) -> pd.DataFrame:
    """The table with the columns `floats` as float64 and all others as strings."""
    dtypes = dict.fromkeys(table.columns, "str") | dict.fromkeys(floats, "float64")
    return table.astype(dtypes).reset_index(drop=True)


def reordered(table: pd.DataFrame, columns: Iterable[str], order: Any) -> pd.DataFrame:
    """Some columns of a table with their rows in another order; the table loses them one by one, to bound memory.

    order: positions of the rows in the new order.
    """
    return pd.DataFrame({name: table.pop(name).array.take(order) for name in columns})


def read_rows(table: pd.DataFrame) -> list[Row]:
    """The rows in a frame."""
    floats = sorted(FLOATS)
    numbers = table[floats].astype(object)
    return list(map(Row.of, records(table.assign(**numbers.where(numbers.notna(), None)))))


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries by column."""
    return list(each_record(rows))


def each_record(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """`records`, made one at a time."""
    names = list(map(str, rows.columns))
    return (dict(zip(names, row, strict=True)) for row in rows.itertuples(index=False, name=None))


def counts(results: pd.DataFrame) -> pd.DataFrame:
    """Count rows by function and status; the last column counts `unexpected` and `stale` rows."""
    table = pd.crosstab(results["function"], results["status"]).reindex(columns=list(STATUSES), fill_value=0)
    unexpected = results["expected"].isin(FAILING_ROWS)
    return table.assign(unexpected=unexpected.groupby(results["function"]).sum().reindex(table.index)).astype("int64")


def with_environments(results: pd.DataFrame) -> pd.DataFrame:
    """Append the name of the environment to functions that ran in several."""
    several = results.groupby("function")["environment"].transform("nunique") > 1
    longer = results["function"] + " (" + results["environment"] + ")"
    return results.assign(function=results["function"].where(~several, longer))


def largest_ratios(results: pd.DataFrame) -> pd.DataFrame:
    """The row with the largest error / budget of each function, quantity and dtype.

    Only rows that were compared and are right count: those that agree, or diverge for a documented reason.
    Returns a frame with columns of that row, and `rows`, the number of compared rows.
    """
    key = ["function", "quantity", "dtype"]
    columns = [*key, "ratio", "error", "budget", "ulps", "case", "reduction", "status"]
    usable = results["status"].isin(["agrees", "diverges"]) & (results["ratio"] < float("inf"))
    groups = results[[*key, "ratio"]][usable].groupby(key, sort=True)
    worst = results[columns].loc[groups["ratio"].idxmax()].reset_index(drop=True)
    return worst.assign(rows=groups.size().to_numpy())


def failing(results: pd.DataFrame) -> pd.Series:
    """Mask of rows with a failing status or a stale ledger entry."""
    return results["status"].isin(FAILING) | results["expected"].isin(FAILING_ROWS)

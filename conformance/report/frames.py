"""Rows as a DataFrame, and what is read off it row by row.

A frame has the columns of `suite.COLUMNS`, of fixed dtypes, sorted by problem and function, so that the
order in which rows were made does not show.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pandas as pd

from conformance.suite import COLUMNS, Row
from conformance.verdict import FAILING, STATUSES

FLOATS = frozenset({"error", "budget", "ratio", "ulps"})
"""Columns of `frame` that are float64, NaN where a row has none; the others are strings."""
ORDER = ("case", "dtype", "reduction", "quantity", "function", "environment", "version", "device", "digest")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u2028\u2029\ud800-\udfff]")


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows as a DataFrame: one line per function x case x dtype x reduction (x environment).

    Control characters and lone surrogates, which an exception's message may hold and a file may not,
    stand as their escapes.
    """
    cleaned = [{name: _cell(name, row.get(name)) for name in COLUMNS} for row in rows]
    # Every column is a key, so that rows which are alike in ORDER still have one order.
    cleaned.sort(key=lambda row: (*(row[name] for name in ORDER), *map(str, row.values())))
    return typed(pd.DataFrame(cleaned, columns=list(COLUMNS)), FLOATS)


def typed(table: pd.DataFrame, floats: Iterable[str]) -> pd.DataFrame:
    """The same table with the columns in `floats` as float64 and all others as strings."""
    dtypes = dict.fromkeys(table.columns, "str") | dict.fromkeys(floats, "float64")
    return table.astype(dtypes).reset_index(drop=True)


def printable(text: str) -> str:
    r"""Text with control characters, but not tabs and newlines, as escapes: `\x1b`."""
    if text.isprintable():
        return text
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text.replace("\r\n", "\n"))


def _cell(name: str, value: Any) -> Any:
    if name in FLOATS:
        return float("nan") if value is None else float(value)
    return "" if value is None else printable(str(value))


def counts(results: pd.DataFrame) -> pd.DataFrame:
    """Functions x statuses: how many rows; a last column counts those that are `unexpected` or `stale`."""
    table = pd.crosstab(results["function"], results["status"]).reindex(columns=list(STATUSES), fill_value=0)
    surprising = results["expected"].isin(["unexpected", "stale"])
    return table.assign(unexpected=surprising.groupby(results["function"]).sum().reindex(table.index)).astype("int64")


def labelled(results: pd.DataFrame) -> pd.DataFrame:
    """Rows in which a function that ran in several environments has the name of its environment beside its own."""
    several = results.groupby("function")["environment"].transform("nunique") > 1
    longer = results["function"] + " (" + results["environment"] + ")"
    return results.assign(function=results["function"].where(~several, longer))


def largest_ratios(results: pd.DataFrame) -> pd.DataFrame:
    """The largest error / budget of each function, quantity and dtype, and the problem that attains it.

    Only rows that were compared and are right: those that agree, or diverge as documented.  Columns:
    function, quantity, dtype, ratio, error, budget, ulps, case, reduction, status, rows (how many were compared).
    """
    usable = results["status"].isin(["agrees", "diverges"]) & (results["ratio"] < float("inf"))
    groups = results[usable].groupby(["function", "quantity", "dtype"], sort=True)
    columns = ["function", "quantity", "dtype", "ratio", "error", "budget", "ulps", "case", "reduction", "status"]
    worst = results.loc[groups["ratio"].idxmax(), columns].reset_index(drop=True)
    return worst.assign(rows=groups.size().to_numpy())


def failing(results: pd.DataFrame) -> pd.Series:
    """Which rows fail or should: those of a failing status, and those whose ledger entry is stale."""
    return results["status"].isin(FAILING) | results["expected"].isin(["unexpected", "stale"])

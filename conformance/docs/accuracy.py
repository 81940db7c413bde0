"""Errors of correct answers, from the committed report and the committed sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from conformance.docs.markup import code_html, table
from conformance.model.case import DTYPES, QUANTITIES
from conformance.report.frames import largest_ratios


def case_table(results: pd.DataFrame) -> str:
    """The largest error, in budgets and in ulps, of each function over the cases, as Markdown."""
    found = largest_ratios(results)
    parts = []
    for quantity in QUANTITIES:
        errors = found[found["quantity"] == quantity]
        lines = [
            [code_html(name), *(_accuracy_cell(own[own["dtype"] == dtype].to_dict("records")) for dtype in DTYPES)]
            for name, own in errors.groupby("function", sort=True)
        ]
        if lines:
            parts.append(f"### The {quantity.replace('_', ' ')}\n\n{table(('function', *DTYPES), lines)}")
    return "\n".join(parts)


def _accuracy_cell(rows: Sequence[Any]) -> str:
    """The largest error divided by its budget, and the number of rows that were compared."""
    return f"{rows[0]['ratio']:.3g} ({rows[0]['rows']})" if rows else ""


def sweep_table(page: str) -> str:
    """The Markdown of `conformance sweep`, with its headings one level lower."""
    lines = page.splitlines()
    return "\n".join(f"#{line}" if line.startswith("#") else line for line in lines if line != "# Sweep") + "\n"


def summary(page: str) -> str:
    """The first table of such Markdown: one line per function and kind of input."""
    return sweep_table(page.partition("\n## ")[0])

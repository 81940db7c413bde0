"""A run from items to report: rows made here or in several processes, then written and summed up."""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from conformance import registry
from conformance.adapter import LoweringError
from conformance.case import Case
from conformance.coverage import coverage
from conformance.digits import published
from conformance.errors import CaseFileError
from conformance.oracle import Oracle, open_cache
from conformance.suite import Item, Row, Suite, load_suite, plan

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 32


def rows_of(items: Sequence[Item], suite: Suite) -> Iterator[Row | str]:
    """The row of every item, in order, in this process; for one that cannot be asked, why, as text."""
    gc.freeze()  # cases and items outlive the run; looking through them for garbage takes as long as many rows
    for item in items:
        try:
            yield suite.assess(item).row
        except (LoweringError, CaseFileError) as error:
            yield f"{item.id}: {error}"


def rows_from_processes(ids: Sequence[str], folder: Path | None, processes: int) -> Iterator[Row | str]:
    """The rows of the items with these ids, from several fresh processes, in the order they finish."""
    chunks = [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
    with multiprocessing.get_context("spawn").Pool(processes, _start, (folder,)) as pool:
        for rows in pool.imap_unordered(_work, chunks):
            yield from rows


def write(
    folder: Path, results: pd.DataFrame, planned: int, started: float, cases: Sequence[Case], interrupted: str = ""
) -> Path:
    """Write the report of a run, whole or not, and return its folder; raises ReportError.

    results: a `report.frame` of its rows.  planned: how many rows there were to be.  started: seconds since
    the epoch.  interrupted: why it ended early.
    """
    from conformance import report  # pandas, which a run without a report does not need

    asked = set(results["framework"])
    here, missing = registry.installed()
    run = report.RunInfo(
        planned=planned,
        versions={found.framework.name: found.version for found in here if found.framework.name in asked},
        missing=tuple(framework.name for framework in missing),
        interrupted=interrupted,
        started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        duration=round(time.time() - started, 3),
        coverage=str(coverage(cases, registry.functions())),
    )
    numbers = [
        {
            "case": number.case,
            "value": number.published.value,
            "exact": number.exact,
            "holds": number.holds,
            "source": number.published.source,
        }
        for case in cases
        for number in published(case)
    ]
    report.write(folder, results, run, numbers)
    return folder


def closing_lines(rows: Sequence[Row], planned: int, cases: Sequence[Case]) -> list[str]:
    """What a run says at its end: the largest ratios, what the corpus covers, and whether the run is whole.

    cases: the corpus that was run; empty where only a part of it was, whose coverage says nothing.
    """
    worst: dict[tuple[str, str], Row] = {}
    for row in rows:
        ratio = row["ratio"]
        if ratio is not None and ratio < float("inf") and row["status"] in ("agrees", "diverges"):
            key = (row["function"], row["dtype"])
            if key not in worst or ratio > worst[key]["ratio"]:
                worst[key] = row
    lines = ["largest error / budget of what is right:"] if worst else []
    width = max((len(function) for function, _ in worst), default=0)
    for (function, dtype), row in sorted(worst.items()):
        lines.append(f"  {function:<{width}} {dtype:<8} {row['ratio']:.3f}  {row['case']}")
    if cases:
        lines.append(str(coverage(cases, registry.functions())))
    if len(rows) != planned:
        lines.append(f"incomplete: {len(rows)} of {planned} rows")
    return lines


_suite: Suite
_items: dict[str, Item]


def _start(folder: Path | None) -> None:
    global _suite, _items
    cases, ledger = load_suite(folder)
    here, _ = registry.installed()
    _items = {item.id: item for item in plan(cases, here)}
    _suite = Suite(Oracle(open_cache()), ledger)


def _work(ids: Sequence[str]) -> list[Row | str]:
    rows = list(rows_of([_items[name] for name in ids], _suite))
    _suite.oracle.flush()
    return rows

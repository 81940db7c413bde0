"""The content of `run.json`: data on a run as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from conformance.execution.run_info import FORMAT, RunInfo
from conformance.report.frames import largest_ratios


def tally(column: pd.Series) -> dict[str, int]:
    """Number of occurrences of each value in a column."""
    return {str(name): int(count) for name, count in sorted(column.value_counts().items())}


def versions(results: pd.DataFrame) -> dict[str, str]:
    """The version of each framework, or several joined by `, `."""
    by_framework = results[results["version"] != ""].groupby("framework")["version"].unique()
    return {str(framework): ", ".join(sorted(names)) for framework, names in by_framework.items()}


def largest(results: pd.DataFrame) -> list[dict[str, Any]]:
    """The largest error / budget of each function, quantity and dtype, with its case."""
    columns = ("function", "quantity", "dtype", "ratio", "case")
    return [{name: row[name] for name in columns} for row in largest_ratios(results).to_dict("records")]


def run_record(info: RunInfo, results: pd.DataFrame, pairs: pd.DataFrame, digests: Mapping[str, str]) -> dict[str, Any]:
    """The content of `run.json` as builtin values.  digests: SHA-256 of the other files by name."""
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(info).items()}
    return {
        "format": FORMAT,
        "complete": info.complete(len(results)),
        "finished": len(results),
        **values,
        "status": tally(results["status"]),
        "expected": tally(results["expected"]),
        "relations": tally(pairs["relation"]),
        "versions": dict(sorted(info.versions.items())),
        "largest": largest(results),
        "files": dict(digests),
    }

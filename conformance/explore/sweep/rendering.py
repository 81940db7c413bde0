"""Rendering of a sweep as tables for a terminal of 80 columns and as Markdown, and of each row as CSV and JSON.

A report folder has `sweep.json`, `sweep.csv` and `sweep.md`. JSON has null for a missing number, and the strings "inf"
and "nan".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from conformance.execution.report_folder import MAX_BYTES
from conformance.execution.run_info import host
from conformance.explore.sweep import long_means
from conformance.explore.sweep.table import COLUMNS, HISTOGRAM_EDGES, RegionRow
from conformance.judging.row import choices_of
from conformance.model.errors import UserError
from conformance.model.files import read_regular, write_atomically
from conformance.model.serialization import to_json
from conformance.report.files import csv_text
from conformance.report.markdown import table as markdown_table

FORMAT = 1
FILES = ("sweep.json", "sweep.csv", "sweep.md")
REGION_COLUMNS = ("region", "inputs", "ulps", "at", "budgets", "verdict")
MEAN_COLUMNS = ("length", "ulps", "budgets", "verdict")


def as_dict(lines: Sequence[RegionRow], means: Sequence[RegionRow], about: dict[str, Any]) -> dict[str, Any]:
    """The whole sweep as builtin values."""
    return {
        "format": FORMAT,
        "host": dict(host()),
        **about,
        "histogram_edges": list(HISTOGRAM_EDGES),
        "lines": list(lines),
        "means": list(means),
    }


def write(folder: Path, lines: Sequence[RegionRow], means: Sequence[RegionRow], about: dict[str, Any]) -> None:
    """Write the three files of a sweep into an existing folder. Raises OSError."""
    texts = (
        to_json("sweep", as_dict(lines, means, about)),
        as_csv(lines, COLUMNS) + (as_csv(means, long_means.COLUMNS) if means and not lines else ""),
        markdown(lines, means),
    )
    for name, text in zip(FILES, texts, strict=True):
        write_atomically(folder / name, text.encode())
    if means and lines:
        write_atomically(folder / "sweep-means.csv", as_csv(means, long_means.COLUMNS).encode())


class SweepFileError(UserError):
    """The file of a sweep cannot be read; says which and why."""


PAGE_COLUMNS = tuple(name for name in COLUMNS if name not in ("variant", "agrees", "diverges", "undefined"))
PAGE_MEAN_COLUMNS = (
    "function", "version", "dtype", "given", "target", "length", "status", "expected", "ulps", "ratio", "convention",
    "call",
)  # fmt: skip
"""Columns that the page of a report shows."""


def read(folder: Path) -> tuple[list[RegionRow], list[RegionRow]]:
    """Read (rows, means) of a folder's `sweep.json`, with the columns that a page shows. Raises SweepFileError."""
    file = folder / FILES[0]
    try:
        content = json.loads(read_regular(file, MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise SweepFileError(f"{file} cannot be read ({error}); make one with `conformance sweep --report`") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise SweepFileError(f"{file} is not a sweep in format {FORMAT}; read it with the version that wrote it")
    tables = []
    for name, columns in (("lines", PAGE_COLUMNS), ("means", PAGE_MEAN_COLUMNS)):
        lines = content.get(name)
        if not isinstance(lines, list) or not all(
            isinstance(line, dict) and set(columns) <= set(line) for line in lines
        ):
            raise SweepFileError(f"{file} has no {name} as a sweep writes them; make it again")
        tables.append([{column: line[column] for column in columns} for line in lines])
    return tables[0], tables[1]


def as_csv(lines: Sequence[RegionRow], columns: Sequence[str]) -> str:
    """One line per row; lists are joined by blanks."""
    return csv_text(columns, ([_cell(line[name]) for name in columns] for line in lines))


def terminal(lines: Sequence[RegionRow], means: Sequence[RegionRow]) -> Iterator[Any]:
    """Yield a title and a table of at most 80 columns for each function, dtype and kind of input."""
    for title, columns, rows in _tables(lines, means):
        page = Table(*columns, box=None, pad_edge=False, title=f"[bold]{escape(title)}[/]", title_justify="left")
        for index, column in enumerate(page.columns):
            column.justify = "right" if 0 < index < len(columns) - 1 and columns[index] != "at" else "left"
            column.no_wrap = index < len(columns) - 1
            column.overflow = "fold"
        for row in rows:
            page.add_row(*map(escape, row))
        yield page


def markdown(lines: Sequence[RegionRow], means: Sequence[RegionRow] = ()) -> str:
    """The same as Markdown, with a table of the largest errors first."""
    pieces = ["# Sweep", "", *_overview(lines)]
    for title, columns, rows in _tables(lines, means):
        pieces += [f"## {title}", "", markdown_table(columns, rows), ""]
    return "\n".join(pieces)


LARGE_LOSS_REGIONS = {("positive_central", 0), ("negative_central", 1), ("lower", 1), ("upper", 0)}
"""Regions and labels in which each loss is at least log 2 and smaller than the largest logits."""


def _overview(lines: Sequence[RegionRow]) -> list[str]:
    """Largest errors for each function and kind of input, by dtype, of rows that are not wrong."""
    if not lines:
        return []
    dtypes = list(dict.fromkeys(line["dtype"] for line in lines))
    lines_by_key: dict[tuple[str, str], dict[str, list[RegionRow]]] = {}
    for line in lines:
        lines_by_key.setdefault((line["function"], _input_name(line)), {}).setdefault(line["dtype"], []).append(line)
    rows = [
        (*key, *(_largest_errors(by_dtype.get(dtype, [])) for dtype in dtypes))
        for key, by_dtype in lines_by_key.items()
    ]
    note = (
        "Largest error in budgets over all regions, and in ulps over central inputs that are wrong, whose loss is at"
        " least log 2; of what agrees or diverges. A star: some region disagrees."
    )
    return [note, "", markdown_table(("function", "input", *dtypes), rows), ""]


def _largest_errors(lines: Sequence[RegionRow]) -> str:
    if not lines:
        return ""
    not_wrong = [line for line in lines if line["status"] != "disagrees" and line["ratio"] is not None]
    ratio = max((line["ratio"] for line in not_wrong), default=math.nan)
    large = [line["ulps"] for line in not_wrong if (line["region"], line["label"]) in LARGE_LOSS_REGIONS]
    star = " \\*" if any(line["status"] == "disagrees" for line in lines) else ""
    return f"{_format_number(ratio)} budgets" + (f", {_format_number(max(large))} ulps" if large else "") + star


def _input_name(line: RegionRow) -> str:
    return "/".join(line["case"].split("/")[1:-1])


def _tables(
    lines: Sequence[RegionRow], means: Sequence[RegionRow]
) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Yield (title, columns, rows) for each function, dtype and kind of input."""
    kinds = ((lines, "", REGION_COLUMNS, _region_row), (means, " mean,", MEAN_COLUMNS, _mean_row))
    for rows, kind, columns, row in kinds:
        for key, group in groupby(
            rows, lambda line: (line["function"], line["version"], line["dtype"], _input_name(line))
        ):
            function, version, dtype, input_name = key
            yield f"{function} {version},{kind} {dtype}, {input_name}", columns, [row(line) for line in group]


def _region_row(line: RegionRow) -> tuple[str, ...]:
    region = line["case"].rpartition("/")[2].replace("_label_", " y=").replace("_", " ")
    at = "" if line["ulps_at"] is None else f"{line['ulps_at']:.6g}"
    return region, f"{line['count']}", _format_number(line["ulps"]), at, _format_number(line["ratio"]), _verdict(line)


def _verdict(line: RegionRow) -> str:
    """The status, the choices that explain it, the number of wrong inputs, and the ledger's status."""
    parts = [line["status"]]
    if line["status"] == "diverges":
        parts[0] += f": {choice_names(line['convention'])}"
    if line["status"] == "disagrees" and line["count"] != line["disagrees"]:
        parts[0] += f": {line['disagrees']}"
    return " ".join(parts if line["expected"] == "ok" else [*parts, line["expected"]])


def choice_names(conventions: str) -> str:
    """Names of the choices of several conventions, without the chosen values."""
    return ", ".join(dict.fromkeys(name for convention in conventions.split(" | ") for name in choices_of(convention)))


def _mean_row(line: RegionRow) -> tuple[str, ...]:
    return f"{line['length']}", _format_number(line["ulps"]), _format_number(line["ratio"]), _mean_verdict(line)


def _mean_verdict(line: RegionRow) -> str:
    choices = f": {choice_names(line['convention'])}" if line["convention"] else ""
    got = "" if line["got"] is None else f", returned {line['got']}"
    got = got if line["status"] == "disagrees" else ""
    return f"{line['status']}{choices}{got}" + ("" if line["expected"] == "ok" else f" {line['expected']}")


def _format_number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return f"{value:.3f}" if value < 100 else f"{value:.3g}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)

"""A sweep as it is shown and kept: a table in the style of accuracy tables of mathematical functions, in a terminal of
80 columns and in Markdown, and every line as CSV and JSON.

The folder of a report holds `sweep.json`, `sweep.csv` and `sweep.md`; JSON has null where there is no number, and
"inf" and "nan" as texts.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from conformance.explore.sweep import long_means
from conformance.explore.sweep.table import COLUMNS, EDGES, Line
from conformance.model.errors import UserError
from conformance.report.files import guarded, put
from conformance.report.markdown import table as markdown_table
from conformance.report.run import host

FORMAT = 1
FILES = ("sweep.json", "sweep.csv", "sweep.md")
HEAD = ("region", "inputs", "ulps", "at", "budgets", "verdict")
MEANS = ("length", "ulps", "budgets", "verdict")


def document(lines: Sequence[Line], means: Sequence[Line], about: dict[str, Any]) -> dict[str, Any]:
    """Everything that a sweep found, as JSON takes it."""
    return {
        "format": FORMAT,
        "host": host(),
        **about,
        "histogram_edges": _plain(EDGES),
        "lines": [{name: _plain(value) for name, value in line.items()} for line in lines],
        "means": [{name: _plain(value) for name, value in line.items()} for line in means],
    }


def write(folder: Path, lines: Sequence[Line], means: Sequence[Line], about: dict[str, Any]) -> None:
    """Write the three files of a sweep into a folder that is there; raises OSError."""
    texts = (
        json.dumps(document(lines, means, about), indent=1) + "\n",
        as_csv(lines, COLUMNS) + (as_csv(means, long_means.COLUMNS) if means and not lines else ""),
        markdown(lines, means),
    )
    for name, text in zip(FILES, texts, strict=True):
        put(folder, name, text.encode())
    if means and lines:
        put(folder, "sweep-means.csv", as_csv(means, long_means.COLUMNS).encode())


class SweepError(UserError):
    """A sweep's file cannot be read: which, and why."""


PAGED = (
    "function", "version", "dtype", "case", "given", "target", "label", "region", "exhaustive", "status", "expected",
    "count", "disagrees", "convention", "ulps", "ulps_at", "ulps_at_hex", "ulps_got", "ulps_want", "ratio", "ratio_at",
    "ratio_at_hex", "ratio_got", "ratio_want", "histogram", "why", "known", "call",
)  # fmt: skip
PAGED_MEANS = (
    "function", "version", "dtype", "given", "target", "length", "status", "expected", "ulps", "ratio", "convention",
    "call",
)  # fmt: skip
"""What a report's page shows of a line."""


def read(folder: Path) -> tuple[list[Line], list[Line]]:
    """(lines, means) of a folder's `sweep.json`, as far as a page shows them; raises SweepError."""
    file = folder / FILES[0]
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SweepError(f"{file} cannot be read ({error}); make one with `conformance sweep --report`") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise SweepError(f"{file} is not a sweep in format {FORMAT}; read it with the version that wrote it")
    parts = []
    for name, columns in (("lines", PAGED), ("means", PAGED_MEANS)):
        lines = found.get(name)
        if not isinstance(lines, list) or not all(
            isinstance(line, dict) and set(columns) <= set(line) for line in lines
        ):
            raise SweepError(f"{file} has no {name} as a sweep writes them; make it again")
        parts.append([{column: line[column] for column in columns} for line in lines])
    return parts[0], parts[1]


def as_csv(lines: Sequence[Line], columns: Sequence[str]) -> str:
    """One row per line; lists are joined by blanks."""
    page = io.StringIO()
    writer = csv.writer(page, lineterminator="\n")
    writer.writerow(columns)
    for line in lines:
        writer.writerow([guarded(_cell(line[name])) for name in columns])
    return page.getvalue()


def terminal(lines: Sequence[Line], means: Sequence[Line]) -> Iterator[Any]:
    """What a terminal of 80 columns shows: a title and a table for each function, dtype and kind of input."""
    for title, rows in (*_tables(lines), *_mean_tables(means)):
        head = HEAD if len(rows[0]) == len(HEAD) else MEANS
        page = Table(*head, box=None, pad_edge=False, title=f"[bold]{escape(title)}[/]", title_justify="left")
        for place, column in enumerate(page.columns):
            column.justify = "right" if 0 < place < len(head) - 1 and head[place] != "at" else "left"
            column.no_wrap = place < len(head) - 1
            column.overflow = "fold"
        for row in rows:
            page.add_row(*map(escape, row))
        yield page


def markdown(lines: Sequence[Line], means: Sequence[Line] = ()) -> str:
    """The same as Markdown, with a table of the largest errors in front."""
    pieces = ["# Sweep", "", *_overview(lines)]
    for title, rows in (*_tables(lines), *_mean_tables(means)):
        head = HEAD if len(rows[0]) == len(HEAD) else MEANS
        pieces += [f"## {title}", "", markdown_table(head, rows), ""]
    return "\n".join(pieces)


LARGE = {("positive_central", 0), ("negative_central", 1), ("lower", 1), ("upper", 0)}
"""Regions and labels in which every loss is at least log 2 and yet not as large as a logit."""


def _overview(lines: Sequence[Line]) -> list[str]:
    """For each function and kind of input, by dtype: the largest errors of what is not wrong."""
    if not lines:
        return []
    dtypes = list(dict.fromkeys(line["dtype"] for line in lines))
    found: dict[tuple[str, str], dict[str, list[Line]]] = {}
    for line in lines:
        found.setdefault((line["function"], _said(line)), {}).setdefault(line["dtype"], []).append(line)
    rows = [(*key, *(_largest(of.get(dtype, [])) for dtype in dtypes)) for key, of in found.items()]
    note = (
        "Largest error in budgets over all regions, and in ulps over central inputs that are wrong, whose loss is at"
        " least log 2; of what agrees or diverges. A star: some region disagrees."
    )
    return [note, "", markdown_table(("function", "input", *dtypes), rows), ""]


def _largest(lines: Sequence[Line]) -> str:
    if not lines:
        return ""
    right = [line for line in lines if line["status"] != "disagrees" and line["ratio"] is not None]
    ratio = max((line["ratio"] for line in right), default=math.nan)
    large = [line["ulps"] for line in right if (line["region"], line["label"]) in LARGE]
    star = " \\*" if any(line["status"] == "disagrees" for line in lines) else ""
    return f"{_number(ratio)} budgets" + (f", {_number(max(large))} ulps" if large else "") + star


def _said(line: Line) -> str:
    return "/".join(line["case"].split("/")[1:-1])


def _tables(lines: Sequence[Line]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    for key, group in groupby(lines, key=lambda line: (line["function"], line["version"], line["dtype"], _said(line))):
        function, version, dtype, said = key
        yield f"{function} {version}, {dtype}, {said}", [_row(line) for line in group]


def _row(line: Line) -> tuple[str, ...]:
    region = line["case"].rpartition("/")[2].replace("_label_", " y=").replace("_", " ")
    at = "" if line["ulps_at"] is None else f"{line['ulps_at']:.6g}"
    return region, f"{line['count']}", _number(line["ulps"]), at, _number(line["ratio"]), _verdict(line)


def _verdict(line: Line) -> str:
    """The status, which choices explain it, how many of how many are wrong, and what the ledger says."""
    parts = [line["status"]]
    if line["status"] == "diverges":
        parts[0] += f": {fields(line['convention'])}"
    if line["status"] == "disagrees" and line["count"] != line["disagrees"]:
        parts[0] += f": {line['disagrees']}"
    return " ".join(parts if line["expected"] == "ok" else [*parts, line["expected"]])


def fields(conventions: str) -> str:
    """The choices that several conventions name, without what is chosen."""
    names = re.findall(r"(\w+)=", conventions)
    return ", ".join(dict.fromkeys(names))


def _mean_tables(means: Sequence[Line]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    for key, group in groupby(means, key=lambda line: (line["function"], line["version"], line["dtype"], _said(line))):
        function, version, dtype, said = key
        yield (
            f"{function} {version}, mean, {dtype}, {said}",
            [
                (f"{line['length']}", _number(line["ulps"]), _number(line["ratio"]), _mean_verdict(line))
                for line in group
            ],
        )


def _mean_verdict(line: Line) -> str:
    said = f": {fields(line['convention'])}" if line["convention"] else ""
    got = "" if line["got"] is None else f", returned {line['got']}"
    got = got if line["status"] == "disagrees" else ""
    return f"{line['status']}{said}{got}" + ("" if line["expected"] == "ok" else f" {line['expected']}")


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return f"{value:.3f}" if value < 100 else f"{value:.3g}"


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)

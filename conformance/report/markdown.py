"""Markdown and terminal tables of a report, for people; text that others wrote cannot break out of its cell."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table

from conformance.judging.unasked import unasked
from conformance.judging.verdict import STATUSES
from conformance.model.text import counted, one_line
from conformance.report.agreement import RELATIONS, agreement_matrix
from conformance.report.frames import counts, labelled, largest_ratios
from conformance.report.run import RunInfo

LIMIT = 60_000
"""Bytes that a summary stays under, so that a repository's page shows it whole."""
ROWS = 30
"""Lines of a table in a summary; the files beside it have the rest."""
MATRIX = 40
"""Functions of an agreement matrix in a summary."""
FUNCTIONS = 80
"""Functions of the other tables in a summary."""
CELL = 160
"""Characters of a cell in a summary."""
NAME = 27
"""Width of a function's name in a terminal."""
WORDS = {"agrees": "agree", "diverges": "diverge, explained", "disagrees": "disagree", "timed_out": "timed out"}
"""What rows of a status do."""
_SPECIAL = re.compile(r"([\\`*{}\[\]<>|~#$&@!]|(?<!\w)_|_(?!\w))")


def plain(text: Any, most: int = CELL) -> str:
    """Text that Markdown shows as it is, on one line, shortened to `most` characters."""
    return _SPECIAL.sub(r"\\\1", one_line(text, most))


def code(text: Any, most: int = CELL) -> str:
    """Text as a code span, in tables and elsewhere; nothing where there is none."""
    line = one_line(text, most)
    if not line:
        return ""
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}".replace("|", r"\|")


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; cells are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def summary(
    results: pd.DataFrame,
    pairs: pd.DataFrame,
    run: RunInfo,
    published: Iterable[Mapping[str, Any]] = (),
) -> str:
    """A report in Markdown, under `LIMIT` bytes whatever is in it; without times, so that equal rows give equal text.

    published: numbers that somebody printed, each with value, exact (the oracle's answer), holds, source
    and case; those of cases without a row are left out.
    """
    cases = set(results["case"])
    head = _head(results, run)
    results = labelled(results)
    sections = [
        head,
        _environments(results),
        _functions(results),
        _surprises(results),
        _section("Known", known_table(results)),
        _unsupported(results),
        _divergences(results),
        _conversions(results),
        _published([number for number in published if number["case"] in cases]),
        _relations(pairs),
        _matrix(pairs),
        _ratios(results),
        _coverage(run),
    ]
    return bounded("\n".join(filter(None, sections)))


def bounded(text: str, rest: str = "the rest is in results.csv and discrepancies.csv") -> str:
    """Text cut to stay under `LIMIT` bytes, and where the rest is."""
    if len(text.encode()) < LIMIT:
        return text
    note = f"\n*Cut here: {rest}.*\n"
    kept = text.encode()[: LIMIT - len(note) - 1].decode(errors="ignore")
    return kept[: kept.rfind("\n") + 1] + note


def _head(results: pd.DataFrame, run: RunInfo) -> str:
    lines = ["# Cross-entropy conformance\n"]
    if not run.complete(len(results)):
        why = "; ".join(plain(text) for text in (run.interrupted, run.partial) if text)
        why = f" ({why})" if why else ""
        of = f" of {run.planned}" if run.planned > len(results) else ""
        lines.append(f"**Incomplete**: {len(results)}{of} rows were finished{why}.\n")
    statuses = results["status"].value_counts()
    told = ", ".join(f"{statuses[name]} {WORDS.get(name, name)}" for name in STATUSES if name in statuses)
    surprising = int(results["expected"].isin(["unexpected", "stale"]).sum())
    known = int(results["expected"].eq("known").sum())
    asked = results[(results["case"] != "") & (results["status"] != "unsupported")]
    problems = len(asked[["case", "dtype", "reduction", "quantity"]].drop_duplicates())
    lines.append(
        f"{counted(asked['function'].nunique(), 'function')} on {counted(problems, 'problem')} "
        f"({counted(asked['case'].nunique(), 'case')}): {counted(len(results), 'row')}, "
        f"of which {told or 'none is judged'}. **{surprising or 'None'} {'is' if surprising in (0, 1) else 'are'} "
        f"unexpected**; {known} {'is' if known == 1 else 'are'} known.\n"
    )
    versions = [f"{plain(name)} {plain(version)}" for name, version in sorted(run.versions.items())]
    versions += [f"{plain(name)} {plain(version)}" for name, version in run.host.items()]
    lines.append(f"Run with {', '.join(versions)}.\n")
    if run.missing:
        lines.append(f"Not installed, so not asked: {', '.join(map(plain, run.missing))}.\n")
    return "\n".join(lines)


def _environments(results: pd.DataFrame) -> str:
    """Where what ran, if that is more than one place; and what could not be had."""
    lost = results[results["case"] == ""]
    text = "".join(f"* {code(row.environment)}: {plain(row.explanation, 400)}\n" for row in lost.itertuples())
    text = f"## Environments that could not be had\n\n{text}" if text else ""
    columns = ["environment", "framework", "version", "python", "numpy"]
    there = results.loc[results["case"] != "", columns].drop_duplicates().sort_values(columns)
    if there["environment"].nunique() > 1:
        rows = [[code(cells[0]), *map(plain, cells[1:])] for cells in there.itertuples(index=False)]
        text = f"## Environments\n\n{table(columns, rows)}\n{text}"
    return text


def _functions(results: pd.DataFrame) -> str:
    found = counts(results)
    names = [name for name in STATUSES if found[name].any() or name in ("agrees", "diverges", "disagrees")]
    versions = results.groupby("function")["version"].unique().map(", ".join)
    rows = [
        [code(function), plain(version), *(line[name] or "" for name in [*names, "unexpected"])]
        for (function, line), version in zip(found.iterrows(), versions, strict=True)
    ][:FUNCTIONS]
    header = ["function", "version", *names, "unexpected"]
    return f"## Functions\n\n{table(header, rows)}{_more(len(found), len(rows))}"


def _surprises(results: pd.DataFrame) -> str:
    found = results[results["expected"].isin(["unexpected", "stale"])]
    if found.empty:
        return ""
    worst = found.sort_values("ratio", ascending=False, kind="stable", na_position="first")
    groups = worst.groupby(["function", "case", "status"], sort=False)
    rows = []
    for _, group in itertools.islice(groups, ROWS):
        row = group.iloc[0]
        rows.append(
            [
                code(row["function"]),
                code(row["case"]),
                len(group),
                "stale: the ledger has it, and it is gone" if row["expected"] == "stale" else row["status"],
                f"{row['dtype']}, {row['reduction']}",
                code(row["got"] or row["exception"], 60),
                code(row["want"], 60),
                plain(row["explanation"]),
            ]
        )
    header = ["function", "case", "rows", "status", "worst in", "got", "want", "because"]
    return f"## Unexpected\n\n{table(header, rows)}{_more(groups.ngroups, len(rows))}"


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def known_table(results: pd.DataFrame) -> str:
    """Known discrepancies, with reason and link, as Markdown; empty if there are none."""
    found = results[results["expected"] == "known"]
    if found.empty:
        return ""
    groups = found.groupby(["function", "known"], sort=True)
    rows = [
        [code(function), len(group), plain(reason, 400), code(group["case"].iloc[0]), group["status"].iloc[0]]
        for (function, reason), group in itertools.islice(groups, ROWS)
    ]
    header = ["function", "rows", "reason", "for example", "status"]
    return f"{table(header, rows)}{_more(groups.ngroups, len(rows))}"


def _unsupported(results: pd.DataFrame) -> str:
    columns = ["case", "dtype", "reduction", "function", "status", "explanation"]
    found = unasked({str(name): value for name, value in row.items()} for row in results[columns].to_dict("records"))
    if not found:
        return ""
    rows = [
        [code(one.case), one.of or "all", plain("; ".join(one.lines()), 1000)] for one in itertools.islice(found, ROWS)
    ]
    intro = "No function that is asked can take these; nothing is known about them but the exact answer.\n"
    return f"## Asked of nobody\n\n{intro}\n{table(['case', 'as', 'why'], rows)}{_more(len(found), len(rows))}"


def _divergences(results: pd.DataFrame) -> str:
    found = results[(results["status"] == "diverges") & (results["convention"] != "")]
    if found.empty:
        return ""
    groups, causes = _largest_first(found, "convention", ROWS)
    rows = []
    for convention, group in groups:
        example = group.iloc[int(group["got"].str.len().argmin())]
        functions = sorted(group["function"].unique())
        rows.append(
            [
                code(convention),
                len(group),
                " ".join(map(code, functions[:6])) + (" ..." if len(functions) > 6 else ""),
                code(f"{example['case']} {example['dtype']} {example['reduction']}"),
                code(example["got"] or example["exception"], 60),
                code(example["want"], 60),
            ]
        )
    header = ["convention", "rows", "functions", "for example", "got", "the definition says"]
    intro = "Within budget of what the function documents, which is not the definition.\n"
    return f"## Divergences, by documented choice\n\n{intro}\n{table(header, rows)}{_more(causes, len(rows))}"


def _conversions(results: pd.DataFrame) -> str:
    """Rows whose predictions were converted for a function that takes another kind, where that changed the answer."""
    found = results[results["conversion"] != ""]
    if found.empty:
        return ""
    groups = sorted(found.groupby(["bridge", "conversion"]), key=lambda group: -len(group[1]))
    rows = []
    for (bridge, conversion), group in groups[:ROWS]:
        example = group.iloc[int(group["explanation"].str.len().argmin())]
        functions = sorted(group["function"].unique())
        rows.append(
            [
                code(bridge),
                code(conversion),
                len(group),
                " ".join(map(code, functions[:6])) + (" ..." if len(functions) > 6 else ""),
                code(f"{example['case']} {example['dtype']} {example['reduction']}"),
                plain(example["explanation"], 500),
            ]
        )
    header = ["converted by", "what that changed", "rows", "functions", "for example", "because"]
    intro = "The function takes another kind of prediction than the case has, and the conversion is not exact.\n"
    return f"## Conversions that change the answer\n\n{intro}\n{table(header, rows)}{_more(len(groups), len(rows))}"


def _published(numbers: list[Mapping[str, Any]]) -> str:
    if not numbers:
        return ""
    wrong = [number for number in numbers if not number["holds"]]
    rows = [
        [code(number["value"], 40), code(number["exact"], 40), code(number["case"]), plain(number["source"])]
        for number in wrong[:ROWS]
    ]
    told = f"{len(numbers) - len(wrong)} of {len(numbers)} published numbers hold to their printed digits.\n"
    if wrong:
        shown = table(["printed", "exact", "case", "source"], rows)
        told += f"\nThese do not:\n\n{shown}{_more(len(wrong), len(rows))}"
    return f"## Published numbers\n\n{told}"


def _relations(pairs: pd.DataFrame) -> str:
    if pairs.empty:
        return ""
    found = pairs["relation"].value_counts()
    told = table(RELATIONS, [[int(found.get(name, 0)) for name in RELATIONS]])
    apart = pairs[pairs["relation"] == "explained"]
    groups, causes = _largest_first(apart, "conventions", ROWS // 2)
    text = f"## Functions against each other\n\n{len(pairs)} pairs of functions on the same problem.\n\n{told}"
    if groups:
        rows = []
        for conventions, group in groups:
            example = group.iloc[int(group["difference"].abs().fillna(-1.0).argmax())]
            shown = f"{example['case']} {example['dtype']} {example['reduction']}"
            rows.append([code(conventions, 200), len(group), code(shown), _number(example["difference"])])
        header = ["what explains it", "pairs", "largest in", "difference"]
        text += f"\n{table(header, rows)}{_more(causes, len(rows))}"
    return text


def _matrix(pairs: pd.DataFrame) -> str:
    matrix = agreement_matrix(pairs)
    if matrix.empty:
        return ""
    names = list(matrix.index)[:MATRIX]
    rows = []
    for number, name in enumerate(names, start=1):
        shares = ["" if pd.isna(share) else f"{_percent(float(share))}" for share in matrix.loc[name, names]]
        rows.append([number, code(name), *shares])
    header = ["", "function", *map(str, range(1, len(names) + 1))]
    intro = "On how many of their common problems, in percent, two functions agree within the sum of their budgets.\n"
    return f"## Agreement\n\n{intro}\n{table(header, rows)}{_more(len(matrix), len(names))}"


def _percent(share: float) -> int:
    """Rounded, but 100 and 0 only where they are exact."""
    return round(share * 100) if share in (0.0, 1.0) else min(99, max(1, round(share * 100)))


def _ratios(results: pd.DataFrame) -> str:
    found = largest_ratios(results)
    if found.empty:
        return ""
    dtypes = sorted(found["dtype"].unique())
    wide = found.pivot_table(index=["quantity", "function"], columns="dtype", values="ratio")
    worst = found.loc[found.groupby(["quantity", "function"])["ratio"].idxmax()]
    attained = worst["case"] + " " + worst["dtype"]
    rows = [
        [code(name), quantity, *(_number(line[dtype]) for dtype in dtypes), code(where)]
        for (quantity, name), (_, line), where in zip(wide.index.tolist(), wide.iterrows(), attained, strict=True)
    ]
    rows = sorted(rows, key=lambda row: (row[1] != "loss", row[0]))[:FUNCTIONS]
    intro = "The largest error of a row that is right, in units of what is allowed there.\n"
    left = _more(len(wide), len(rows))
    return f"## Largest error / budget\n\n{intro}\n{table(['function', 'of', *dtypes, 'attained by'], rows)}{left}"


def _coverage(run: RunInfo) -> str:
    return f"## Coverage\n\n{plain(run.coverage, 1000)}\n" if run.coverage else ""


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.3g}"


def _largest_first(found: pd.DataFrame, by: str, most: int) -> tuple[list[tuple[str, pd.DataFrame]], int]:
    """(the `most` largest groups of rows by the text in a column, how many groups there are)."""
    sizes = Counter(found[by].tolist())
    largest = sorted(sizes, key=lambda text: (-sizes[text], text))[:most]
    groups = dict(iter(found[found[by].isin(largest)].groupby(by)))
    return [(text, groups[text]) for text in largest], len(sizes)


def _more(there: int, shown: int) -> str:
    return f"\n*... and {there - shown} more.*\n" if there > shown else ""


def status_table(results: pd.DataFrame) -> Table:
    """Functions x statuses for the end of a run: fits 80 columns and says everything without colour."""
    found = counts(results)
    names = [*(name for name in STATUSES if found[name].any()), "unexpected"]
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    shown.add_column("function", overflow="fold")
    for name in names:
        shown.add_column(name.replace("_", " "), justify="right", overflow="fold")
    several = dict(results.groupby("framework")["environment"].nunique() > 1)
    for (framework, environment), rows in results.groupby(["framework", "environment"]):
        version = ", ".join(rows["version"].unique())
        place = f" in {environment}" if several[framework] and not str(environment).endswith(f"=={version}") else ""
        shown.add_row(escape(f"{framework} {version}{place}") if version else "not to be had")
        for function, line in counts(rows).iterrows():
            own = str(function).partition(".")[2] if version else str(function)
            shown.add_row(at_joints(own), *_cells(line, names))
    shown.add_section()
    shown.add_row("all", *_cells(found.sum(), names))
    return shown


def at_joints(name: str) -> str:
    """A long name broken where one sees that it goes on: before a capital or a colon."""
    lines = [" "]
    for piece in re.findall(r"[:A-Z]?[^:A-Z]+|.", name):
        if len(lines[-1] + piece) > NAME or piece.startswith(":"):
            lines.append("   ")
        lines[-1] += piece
    return "\n".join(lines)


def _cells(line: pd.Series, names: list[str]) -> list[str]:
    """Counts as text, nothing for 0; what is unexpected stands out without colour, too."""
    cells = [str(line[name]) if line[name] else "" for name in names]
    return [*cells[:-1], f"[bold red]{cells[-1]} ![/]" if cells[-1] else ""]


__all__ = ["bounded", "code", "known_table", "plain", "status_table", "summary", "table"]

"""Markdown and terminal tables of a report; third-party text is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table

from conformance.execution.run_info import RunInfo
from conformance.judging.unsupported import PROBLEM_COLUMNS, unsupported_problems
from conformance.judging.verdict import FAILING_ROWS, STATUSES
from conformance.model.text import format_count, one_line, printable
from conformance.report.agreement import RELATIONS, agreement_matrix
from conformance.report.frames import counts, largest_ratios, records, with_environments

MAX_BYTES = 60_000
"""Upper bound on the size of a summary in bytes, so that a repository's page shows it completely."""
MAX_EXPLANATIONS = 4
"""Maximum number of lines on explanations of a published number; the first one is a summary."""
MAX_ROWS = 30
"""Maximum number of rows of a table in a summary; the other files of the report have the rest."""
MAX_MATRIX = 40
"""Maximum number of functions in an agreement matrix in a summary."""
MAX_FUNCTIONS = 80
"""Maximum number of functions in the other tables of a summary."""
MAX_FUNCTIONS_IN_CELL = 6
MAX_CELL = 160
"""Maximum number of characters of a cell in a summary."""
STATUS_VERBS = {"agrees": "agree", "diverges": "diverge, explained", "disagrees": "disagree", "timed_out": "timed out"}
_MARKUP = re.compile(r"([\\`*{}\[\]<>|~#$&@!]|(?<!\w)_|_(?!\w))")
_WEB_ADDRESS = re.compile(r"https?://[^\s<>()|\\`\"'\[\]{}]+")

# Markdown


def escaped(text: Any, max_length: int = MAX_CELL) -> str:
    """Text on one line, shortened to `max_length` characters, with every character that could be markup escaped."""
    return _MARKUP.sub(r"\\\1", one_line(text, max_length))


def code(text: Any, max_length: int = MAX_CELL) -> str:
    """Text as a code span, in tables and elsewhere; "" for empty text."""
    line = one_line(text, max_length)
    if not line:
        return ""
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}".replace("|", r"\|")


def fenced_block(source: str, language: str = "") -> str:
    """A fenced code block, with a fence longer than any in the source."""
    longest = max(map(len, re.findall("`+", source)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{printable(source.rstrip())}\n{fence}\n"


def is_linkable(address: str) -> bool:
    """Whether a link to a URL cannot break out of its markup and leads to the web."""
    return _WEB_ADDRESS.fullmatch(address) is not None


def link(text: str, address: str) -> str:
    """A link to an http(s) URL; only the text for other URLs."""
    return f"[{escaped(text)}]({address})" if is_linkable(address) else escaped(text)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; cells are already Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def remaining(total: int, shown: int) -> str:
    """A line with the number of rows that a table omits; "" if it shows all."""
    return f"\n*... and {total - shown} more.*\n" if total > shown else ""


def format_number(value: float) -> str:
    """Three significant digits; "" for NaN."""
    return "" if pd.isna(value) else f"{value:.3g}"


def bounded(text: str, elsewhere: str = "the rest is in results.csv and discrepancies.csv") -> str:
    """Text cut to less than `MAX_BYTES` bytes, with a note on where the rest is."""
    if len(text.encode()) < MAX_BYTES:
        return text
    note = f"\n*Cut here: {elsewhere}.*\n"
    head = text.encode()[: MAX_BYTES - len(note) - 1].decode(errors="ignore")
    return head[: head.rfind("\n") + 1] + note


# The summary


def summary(results: pd.DataFrame, pairs: pd.DataFrame, run: RunInfo) -> str:
    """A report as Markdown, shorter than `MAX_BYTES` bytes; without times, so that equal rows give equal text.

    Published numbers of cases without rows are omitted.
    """
    cases = set(results["case"])
    head = _head(results, run)
    results = with_environments(results)
    sections = [
        head,
        _environments(results),
        _functions(results),
        _unexpected_section(results),
        _section("Known", known_table(results)),
        _unsupported_section(results),
        _divergences(results),
        _conversions(results),
        _published_section([number for number in run.published if number["case"] in cases]),
        _relations(pairs),
        _matrix(pairs),
        _ratios(results),
        _section("Coverage", f"{escaped(run.coverage, 1000)}\n" if run.coverage and not run.selected else ""),
    ]
    return bounded("\n".join(filter(None, sections)))


def _section(title: str, body: str, intro: str = "") -> str:
    """A section; "" if its body is empty."""
    return f"## {title}\n\n{f'{intro}{chr(10)}{chr(10)}' if intro else ''}{body}" if body else ""


def _bounded_table(header: Sequence[str], rows: Sequence[Sequence[Any]], total: int) -> str:
    """A table with the number of omitted rows, out of `total`; "" without rows."""
    return f"{table(header, rows)}{remaining(total, len(rows))}" if rows else ""


def _head(results: pd.DataFrame, run: RunInfo) -> str:
    lines = ["# Cross-entropy conformance\n"]
    if not run.complete(len(results)):
        why = f" ({escaped(run.interrupted)})" if run.interrupted else ""
        planned = f" of {run.planned}" if run.planned > len(results) else ""
        lines.append(f"**Incomplete**: {len(results)}{planned} rows were finished{why}.\n")
    statuses = results["status"].value_counts()
    judged = ", ".join(f"{statuses[name]} {STATUS_VERBS.get(name, name)}" for name in STATUSES if name in statuses)
    unexpected = int(results["expected"].isin(FAILING_ROWS).sum())
    known = int(results["expected"].eq("known").sum())
    columns = ["function", "case", "dtype", "reduction", "quantity"]
    compared = results[columns][(results["case"] != "") & (results["status"] != "unsupported")]
    problems = len(compared[columns[1:]].drop_duplicates())
    cases, answered = results.loc[results["case"] != "", "case"].nunique(), compared["case"].nunique()
    answered_text = f"{answered} of " if answered < cases else ""
    lines.append(
        f"{format_count(compared['function'].nunique(), 'function')} on {format_count(problems, 'problem')} "
        f"({answered_text}{format_count(cases, 'case')}): {format_count(len(results), 'row')}, "
        f"of which {judged or 'none is judged'}. **{unexpected or 'None'} {'is' if unexpected in (0, 1) else 'are'} "
        f"unexpected**; {known} {'is' if known == 1 else 'are'} known.\n"
    )
    versions = [
        f"{escaped(name)} {escaped(version)}" for name, version in [*sorted(run.versions.items()), *run.host.items()]
    ]
    lines.append(f"Run with {', '.join(versions)}.\n")
    if run.missing:
        lines.append(f"Not installed, so not run: {', '.join(map(escaped, run.missing))}.\n")
    return "\n".join(lines)


def _environments(results: pd.DataFrame) -> str:
    """The environments if there are several, and those that could not be created."""
    failed = results[results["case"] == ""]
    failures = "".join(f"* {code(row.environment)}: {escaped(row.explanation, 400)}\n" for row in failed.itertuples())
    sections = [_section("Environments that could not be made", failures)]
    columns = ["environment", "framework", "version", "python", "numpy"]
    used = results[columns][results["case"] != ""].drop_duplicates().sort_values(columns)
    if used["environment"].nunique() > 1:
        rows = [[code(cells[0]), *map(escaped, cells[1:])] for cells in used.itertuples(index=False)]
        sections.insert(0, _section("Environments", table(columns, rows)))
    return "\n".join(filter(None, sections))


def _functions(results: pd.DataFrame) -> str:
    function_counts = counts(results)
    statuses = [name for name in STATUSES if function_counts[name].any() or name in ("agrees", "diverges", "disagrees")]
    names = [*statuses, "unexpected"]
    versions = results.groupby("function")["version"].unique().map(", ".join)
    rows = [
        [code(function), escaped(versions[str(function)]), *(line[name] or "" for name in names)]
        for function, line in function_counts.head(MAX_FUNCTIONS).iterrows()
    ]
    header = ["function", "version", *names]
    return f"## Functions\n\n{table(header, rows)}{remaining(len(function_counts), len(rows))}"


def _unexpected_section(results: pd.DataFrame) -> str:
    failing = results[results["expected"].isin(FAILING_ROWS)]
    worst = failing.sort_values("ratio", ascending=False, kind="stable", na_position="first")
    groups = worst.groupby(["function", "case", "status"], sort=False)
    sizes = groups["function"].transform("size")
    firsts = worst.assign(rows=sizes).groupby(["function", "case", "status"], sort=False).head(1)
    rows = [
        [
            code(row["function"]),
            code(row["case"]),
            row["rows"],
            "stale: the ledger has it, and it is gone" if row["expected"] == "stale" else row["status"],
            f"{row['dtype']}, {row['reduction']}",
            code(row["got"] or row["exception"], 60),
            code(row["want"], 60),
            escaped(row["explanation"]),
        ]
        for row in records(firsts.head(MAX_ROWS))
    ]
    header = ["function", "case", "rows", "status", "worst in", "got", "want", "because"]
    return _section("Unexpected", _bounded_table(header, rows, len(firsts)))


def known_table(results: pd.DataFrame) -> str:
    """Known discrepancies, with reason and link, as Markdown; "" if there are none."""
    groups = results[results["expected"] == "known"].groupby(["function", "known"], sort=True)
    entries = groups.agg(rows=("case", "size"), case=("case", "first"), status=("status", "first"))
    rows = [
        [code(function), line["rows"], escaped(reason, 400), code(line["case"]), line["status"]]
        for (function, reason), line in zip(entries.index, records(entries.head(MAX_ROWS)), strict=False)
    ]
    return _bounded_table(["function", "rows", "reason", "for example", "status"], rows, len(entries))


def _unsupported_section(results: pd.DataFrame) -> str:
    cases = results.loc[results["status"] == "unsupported", "case"]
    of_cases = results[PROBLEM_COLUMNS][results["case"].isin(cases.unique())]
    problems = unsupported_problems(of_cases.itertuples(index=False, name=None))
    rows = [
        [code(problem.case), problem.dtype_and_reduction or "all", escaped("; ".join(problem.lines()), 1000)]
        for problem in problems[:MAX_ROWS]
    ]
    intro = "No selected function supports these; nothing is known about them but the exact answer."
    return _section("Unsupported problems", _bounded_table(["case", "as", "why"], rows, len(problems)), intro)


def _divergences(results: pd.DataFrame) -> str:
    diverging = results[(results["status"] == "diverges") & (results["convention"] != "")]
    groups, total = _largest_groups(diverging, ["convention"], MAX_ROWS)
    rows = []
    for (convention,), group in groups:
        example = group.iloc[int(group["got"].str.len().argmin())]
        answer = code(example["got"] or example["exception"], 60)
        rows.append([code(convention), *_group_cells(group, example), answer, code(example["want"], 60)])
    header = ["convention", "rows", "functions", "for example", "got", "the definition says"]
    intro = "Within budget of what the function documents, which is not the definition."
    return _section("Divergences, by documented choice", _bounded_table(header, rows, total), intro)


def _conversions(results: pd.DataFrame) -> str:
    """Rows in which converting the predictions to the kind that the function takes changed the answer."""
    groups, total = _largest_groups(results[results["conversion"] != ""], ["bridge", "conversion"], MAX_ROWS)
    rows = []
    for (bridge, conversion), group in groups:
        example = group.iloc[int(group["explanation"].str.len().argmin())]
        why = escaped(example["explanation"], 500)
        rows.append([code(bridge), code(conversion), *_group_cells(group, example), why])
    header = ["converted by", "what that changed", "rows", "functions", "for example", "because"]
    intro = "The function takes another kind of prediction than the case has, and the conversion is not exact."
    return _section("Conversions that change the answer", _bounded_table(header, rows, total), intro)


def _group_cells(group: pd.DataFrame, example: pd.Series) -> list[Any]:
    """Cells for a group's size, its functions and the problem of its example."""
    names = sorted(group["function"].unique())
    functions = " ".join(map(code, names[:MAX_FUNCTIONS_IN_CELL]))
    return [len(group), functions + (" ..." if len(names) > MAX_FUNCTIONS_IN_CELL else ""), _problem(example)]


def _problem(row: pd.Series) -> str:
    return code(f"{row['case']} {row['dtype']} {row['reduction']}")


def _largest_groups(
    rows: pd.DataFrame, columns: list[str], max_groups: int
) -> tuple[list[tuple[tuple[Any, ...], pd.DataFrame]], int]:
    """Group rows; return the largest groups with their keys, largest first, and the number of groups."""
    groups = list(rows.groupby(columns, sort=True))
    return sorted(groups, key=lambda group: -len(group[1]))[:max_groups], len(groups)


def _published_section(numbers: list[Mapping[str, Any]]) -> str:
    if not numbers:
        return ""
    wrong = [number for number in numbers if not number["holds"]]
    rows = [
        [
            code(number["value"], 40),
            code(number["exact"], 40),
            code(number["case"]),
            escaped("; ".join(number.get("explanations", [])[:MAX_EXPLANATIONS])),
            escaped(number["source"]),
        ]
        for number in wrong[:MAX_ROWS]
    ]
    text = f"{len(numbers) - len(wrong)} of {len(numbers)} published numbers hold in a dtype of their case.\n"
    if wrong:
        header = ["printed", "exact", "case", "what would explain it", "source"]
        text += f"\nThese do not:\n\n{_bounded_table(header, rows, len(wrong))}"
    return _section("Published numbers", text)


def _relations(pairs: pd.DataFrame) -> str:
    if pairs.empty:
        return ""
    relation_counts = pairs["relation"].value_counts()
    text = table(RELATIONS, [[int(relation_counts.get(name, 0)) for name in RELATIONS]])
    groups, total = _largest_groups(pairs[pairs["relation"] == "explained"], ["conventions"], MAX_ROWS // 2)
    rows = []
    for (conventions,), group in groups:
        example = group.iloc[int(group["difference"].abs().fillna(-1.0).argmax())]
        rows.append([code(conventions, 200), len(group), _problem(example), format_number(example["difference"])])
    if rows:
        text += f"\n{_bounded_table(['what explains it', 'pairs', 'largest in', 'difference'], rows, total)}"
    return _section("Functions against each other", text, f"{len(pairs)} pairs of functions on the same problem.")


def _matrix(pairs: pd.DataFrame) -> str:
    matrix = agreement_matrix(pairs)
    names = list(matrix.index)[:MAX_MATRIX]
    rows = [
        [number, code(name), *("" if pd.isna(share) else _percent(float(share)) for share in matrix.loc[name, names])]
        for number, name in enumerate(names, start=1)
    ]
    header = ["", "function", *map(str, range(1, len(names) + 1))]
    intro = "On how many of their common problems, in percent, two functions agree within the sum of their budgets."
    return _section("Agreement", _bounded_table(header, rows, len(matrix)), intro)


def _percent(share: float) -> int:
    """Rounded percentage; 100 and 0 only if they are exact."""
    return round(share * 100) if share in (0.0, 1.0) else min(99, max(1, round(share * 100)))


def _ratios(results: pd.DataFrame) -> str:
    largest = largest_ratios(results)
    if largest.empty:
        return ""
    key = ["quantity", "function"]
    dtypes = sorted(largest["dtype"].unique())
    by_dtype = largest.pivot_table(index=key, columns="dtype", values="ratio")
    worst = largest.loc[largest.groupby(key)["ratio"].idxmax()].set_index(key)
    attained = worst["case"] + " " + worst["dtype"]
    rows = [
        [code(name), quantity, *(format_number(line[dtype]) for dtype in dtypes), code(attained[quantity, name])]
        for (quantity, name), line in zip(by_dtype.index.tolist(), records(by_dtype), strict=True)
    ]
    shown = sorted(rows, key=lambda row: (row[1] != "loss", row[0]))[:MAX_FUNCTIONS]
    intro = "The largest error of a row that is right, in units of what is allowed there."
    header = ["function", "of", *dtypes, "attained by"]
    return _section("Largest error / budget", _bounded_table(header, shown, len(rows)), intro)


# Terminal


def status_table(results: pd.DataFrame) -> Table:
    """Functions x statuses for the end of a run, readable without colour."""
    function_counts = counts(results)
    names = [*(name for name in STATUSES if function_counts[name].any()), "unexpected"]
    shown = terminal_table(["function", *(name.replace("_", " ") for name in names)])
    several = dict(results.groupby("framework")["environment"].nunique() > 1)
    for (framework, environment), rows in results.groupby(["framework", "environment"]):
        version = ", ".join(rows["version"].unique())
        place = f" in {environment}" if several[framework] and not str(environment).endswith(f"=={version}") else ""
        shown.add_row(escape(f"{framework} {version}{place}") if version else "not available")
        for function, line in counts(rows).iterrows():
            name = str(function).partition(".")[2] if version else str(function)
            shown.add_row(f" {name}", *_count_cells(line, names))
    shown.add_section()
    shown.add_row("all", *_count_cells(function_counts.sum(), names))
    return shown


def terminal_table(header: Sequence[str]) -> Table:
    """An empty table for a terminal: a column of names, then columns of counts."""
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for number, name in enumerate(header):
        shown.add_column(name, justify="right" if number else "left")
    return shown


def _count_cells(line: pd.Series, names: list[str]) -> list[str]:
    """Counts as text, "" for 0; the last one, of unexpected rows, is marked without colour, too."""
    cells = [str(line[name] or "") for name in names]
    return [*cells[:-1], f"[bold red]{cells[-1]} ![/]" if cells[-1] else ""]

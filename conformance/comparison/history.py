"""History of a framework: the changes between successive releases, from one report of many releases."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pandas as pd

from conformance.comparison.alignment import version_key
from conformance.comparison.audit_rendering import drift_text, known_issue_link, source_link
from conformance.comparison.causes import Cause, causes
from conformance.comparison.changes import SAME_QUESTIONS, compare_results
from conformance.comparison.errors import ComparisonError
from conformance.comparison.reports import read_complete
from conformance.execution.report_folder import MAX_BYTES
from conformance.model.files import read_regular
from conformance.model.text import one_line
from conformance.report.files import csv_text, unguard_formula
from conformance.report.markdown import code, escaped, table

HEADER = (
    "framework", "release", "after", "function", "kind", "what", "rows", "cases", "shift", "case", "before", "answer",
    "documented", "source",
)  # fmt: skip
"""Columns of `history.csv`."""
RUN_WERE = "Run were "
"""Start of the line with the releases of a framework."""
MAX_ANSWER = 48
"""Maximum number of characters of an answer."""


@dataclass(frozen=True)
class ReleaseChanges:
    """The changes from one release to the next one in the report."""

    framework: str
    place: str
    """Common part of the names of its environments, if one release was run in several; else ""."""
    before: str
    after: str
    causes: tuple[Cause, ...]
    """The changes by cause."""


@dataclass(frozen=True)
class History:
    """The changes over the releases of a report."""

    steps: tuple[ReleaseChanges, ...]
    """The steps, sorted by framework, place and release."""
    failed: tuple[str, ...] = ()
    """A sentence for each environment that could not be created."""


def history(path: Path) -> History:
    """The changes from release to release of a report.

    Raises ReportError if it cannot be read, ComparisonError if it has only one release of each framework.
    """
    results, _ = read_complete(path)
    failed = results[results["case"] == ""].sort_values("environment")
    results = results[results["case"] != ""]
    steps = [step for name, rows in results.groupby("framework", sort=True) for step in _steps(str(name), rows)]
    if not steps:
        advice = "make one with `conformance run --with`, given once for each release"
        raise ComparisonError(path, "has one release of each framework, so there is no history in it", advice)
    return History(tuple(steps), tuple(f"{row.environment}: {row.explanation}" for row in failed.itertuples()))


def _steps(framework: str, rows: pd.DataFrame) -> Iterator[ReleaseChanges]:
    for place, series in _series(framework, rows):
        for before, after in pairwise(sorted(series["version"].unique(), key=version_key)):
            old, new = (series[series["version"] == version] for version in (before, after))
            table = compare_results(old, new, (f"{framework} {before}", f"{framework} {after}"), SAME_QUESTIONS)
            step_causes = [cause for cause in causes(table) if cause.example_row["kinds"] != "message"]
            yield ReleaseChanges(framework, place, before, after, tuple(step_causes))


def _series(framework: str, rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Group environments that differ in the release only: by backend if a release occurs more than once, else all."""
    environments = rows[["environment", "version"]].drop_duplicates()
    for naming in (lambda text: "", _backend, _remove_versions):
        place = environments["environment"].map(naming)
        if not environments.assign(place=place).duplicated(["place", "version"]).any():
            names = rows["environment"].map(dict(zip(environments["environment"], place, strict=True)))
            yield from ((str(name), series) for name, series in rows.groupby(names, sort=True))
            return
    repeated = environments[environments.duplicated("version", keep=False)]["environment"]
    why = f"it ran one release in environments that cannot be distinguished: {', '.join(sorted(repeated)[:3])}"
    raise ComparisonError(framework, why, "run each release once")


def _backend(environment: str) -> str:
    return " ".join(re.findall(r"\[.*?\]", environment))


def _remove_versions(environment: str) -> str:
    return re.sub(r"[=<>!~]=?=?\s*[\w.*+!]+", "", environment)


def markdown(history: History) -> str:
    """Render as Markdown: a table for each framework, without times or paths, so that the text is reproducible."""
    parts = ["# What changed, release by release\n"]
    parts.append(
        "Each line is one change of behaviour between two releases that were run one after the other: how many rows it"
        " changes, one case that shows it, and where it is documented. A shift is the move of the number"
        " that moves the farthest: what it was, what it is, and the factor between them. Differences of rounding are"
        " left out.\n"
    )
    for framework, place in dict.fromkeys((step.framework, step.place) for step in history.steps):
        steps = [step for step in history.steps if (step.framework, step.place) == (framework, place)]
        parts.append(f"## {escaped(f'{framework} {place}'.strip())}\n\n{_releases(steps)}\n{_table(steps)}")
    if history.failed:
        parts.append("## Not run\n\n" + "".join(f"- {escaped(why, 400)}\n" for why in history.failed))
    return "\n".join(parts)


def _releases(steps: list[ReleaseChanges]) -> str:
    releases = [steps[0].before, *(step.after for step in steps)]
    unchanged = [step.after for step in steps if not step.causes]
    text = f"{RUN_WERE}{', '.join(map(escaped, releases))}."
    return text + (f" Nothing changed in {', '.join(map(escaped, unchanged))}.\n" if unchanged else "\n")


def _table(steps: list[ReleaseChanges]) -> str:
    rows = [
        [
            escaped(step.after) if number == 0 else "",
            code(cause.function),
            escaped(_kind(cause)),
            escaped(cause.description, 200),
            cause.rows,
            drift_text(cause.drift),
            code(cause.example),
            code(cause.before, MAX_ANSWER),
            code(cause.after, MAX_ANSWER),
            ", ".join(dict.fromkeys(map(source_link, cause.documented))) or known_issue_link(cause) or "no",
        ]
        for step in steps
        for number, cause in enumerate(step.causes)
    ]
    header = ["release", "function", "kind", "what", "rows", "shift", "for example", "before", "after", "announced"]
    return table(header, rows) if rows else ""


def _kind(cause: Cause) -> str:
    messages = "exception" if "exception" in cause.example_row["kinds"] else "warning"
    kinds = {"documented": "convention", "undocumented": cause.severity, "support": "support", "wording": messages}
    return kinds[cause.section]


def as_records(history: History) -> list[dict[str, str]]:
    """One record per change, with the columns HEADER as text."""
    return [dict(zip(HEADER, _cells(step, cause), strict=True)) for step in history.steps for cause in step.causes]


def _cells(step: ReleaseChanges, cause: Cause) -> list[str]:
    return [
        f"{step.framework} {step.place}".strip(),
        step.after,
        step.before,
        cause.function,
        _kind(cause),
        cause.description,
        str(cause.rows),
        str(cause.cases),
        drift_text(cause.drift),
        cause.example,
        one_line(cause.before, MAX_ANSWER),
        one_line(cause.after, MAX_ANSWER),
        "yes" if cause.documented else "no",
        " ".join(cause.sources) or cause.known_issue,
    ]


def as_csv(history: History) -> str:
    """Render as CSV: one line per change, with the columns HEADER, guarded for spreadsheets."""
    return csv_text(HEADER, (record.values() for record in as_records(history)))


def read(folder: Path) -> list[dict[str, str]]:
    """Read the lines of a folder's `history.csv`.  Raises ComparisonError."""
    file = folder / "history.csv"
    try:
        text = read_regular(file, MAX_BYTES).decode()
        lines = list(csv.DictReader(io.StringIO(text, newline="")))
    except (OSError, ValueError, csv.Error) as error:
        raise ComparisonError(file, f"cannot be read ({error})", "make one with `conformance history`") from error
    if not all(set(HEADER) <= {name for name, cell in line.items() if isinstance(cell, str)} for line in lines):
        raise ComparisonError(
            file, f"lacks one of the columns {', '.join(HEADER)}", "make one with `conformance history`"
        )
    return [{name: unguard_formula(line[name]) for name in HEADER} for line in lines]

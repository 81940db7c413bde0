"""A history: which release of a framework changed what, from one report of many releases."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pandas as pd
from packaging.version import InvalidVersion, Version

from conformance import comparison
from conformance.comparison import AuditError
from conformance.comparison.causes import Cause, causes
from conformance.comparison.comparing import opened
from conformance.comparison.pages import amount, known, source
from conformance.model.text import one_line
from conformance.report.files import guarded, unguarded
from conformance.report.markdown import code, plain, table

HEADER = (
    "framework", "release", "after", "function", "kind", "what", "rows", "cases", "shift", "case", "before", "answer",
    "documented", "source",
)  # fmt: skip
"""Columns of `history.csv`."""
LONG = 48
"""Characters of an answer."""


@dataclass(frozen=True)
class Step:
    """From one release to the next of those that were run.  causes: what changed."""

    framework: str
    place: str
    before: str
    after: str
    causes: tuple[Cause, ...]


@dataclass(frozen=True)
class History:
    """What changed over the releases of a report.

    steps: by framework and place, ascending.  failed: a sentence for each environment that could not be had.
    """

    steps: tuple[Step, ...]
    failed: tuple[str, ...] = ()


def history(path: Path) -> History:
    """What changed from release to release in a report; raises ReportError, or AuditError where it has only one."""
    results, _ = opened(path)
    failed = results[results["case"] == ""]
    results = results[results["case"] != ""]
    steps = [step for name, rows in results.groupby("framework", sort=True) for step in _steps(str(name), rows)]
    if not steps:
        advice = "make one with `conformance run --with`, given once for each release"
        raise AuditError(path, "has one release of each framework, so there is no history in it", advice)
    told = [f"{row.environment}: {row.explanation}" for row in failed.sort_values("environment").itertuples()]
    return History(tuple(steps), tuple(told))


def _steps(framework: str, rows: pd.DataFrame) -> Iterator[Step]:
    for place, series in _series(framework, rows):
        versions = sorted(series["version"].unique(), key=_order)
        for before, after in pairwise(versions):
            old, new = (series[series["version"] == version] for version in (before, after))
            table = comparison.changes(
                old,
                new,
                (f"{framework} {before}", f"{framework} {after}"),
                asked=comparison.everything,
                asked_before=comparison.everything,
            )
            found = [cause for cause in causes(table) if _matters(cause)]
            yield Step(framework, place, before, after, tuple(found))


def _matters(cause: Cause) -> bool:
    """Whether a change is one of behaviour; another wording is none."""
    return str(cause.worst["kinds"]) != "message"


def _series(framework: str, rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Environments that differ in releases only: by backend where releases are there more than once, else all."""
    there = rows[["environment", "version"]].drop_duplicates()
    for naming in (lambda text: "", _backend, _unversioned):
        place = there["environment"].map(naming)
        if not there.assign(place=place).duplicated(["place", "version"]).any():
            names = rows["environment"].map(dict(zip(there["environment"], place, strict=True)))
            yield from ((str(name), series) for name, series in rows.groupby(names, sort=True))
            return
    twice = there[there.duplicated("version", keep=False)]["environment"]
    why = f"it ran one release in environments that cannot be told apart: {', '.join(sorted(twice)[:3])}"
    raise AuditError(framework, why, "run each release once")


def _backend(environment: str) -> str:
    return " ".join(re.findall(r"\[.*?\]", environment))


def _unversioned(environment: str) -> str:
    return re.sub(r"[=<>!~]=?=?\s*[\w.*+!]+", "", environment)


def _order(version: str) -> tuple[int, Version, str]:
    try:
        return 1, Version(version), version
    except InvalidVersion:
        return 0, Version("0"), version


def markdown(found: History) -> str:
    """A history in Markdown: a table for each framework, without times or places of this machine."""
    parts = ["# What changed, release by release\n"]
    parts.append(
        "Each line is one change of behaviour between two releases that were run one after the other: how many rows it"
        " changes, one case that shows it, and where it is documented. A shift is the move of the number"
        " that moves the farthest: what it was, what it is, and the factor between them. Differences of rounding are"
        " left out.\n"
    )
    for framework, place in dict.fromkeys((step.framework, step.place) for step in found.steps):
        steps = [step for step in found.steps if (step.framework, step.place) == (framework, place)]
        parts.append(f"## {plain(f'{framework} {place}'.strip())}\n\n{_told(steps)}\n{_table(steps)}")
    if found.failed:
        parts.append("## Not run\n\n" + "".join(f"- {plain(why, 400)}\n" for why in found.failed))
    return "\n".join(parts)


def _told(steps: list[Step]) -> str:
    releases = [steps[0].before, *(step.after for step in steps)]
    quiet = [step.after for step in steps if not step.causes]
    told = f"Run were {', '.join(map(plain, releases))}."
    return told + (f" Nothing changed in {', '.join(map(plain, quiet))}.\n" if quiet else "\n")


def _table(steps: list[Step]) -> str:
    rows = [
        [
            plain(step.after) if number == 0 else "",
            code(cause.function),
            plain(_kind(cause)),
            plain(cause.what, 200),
            cause.rows,
            amount(cause.move),
            code(cause.example),
            code(cause.before, LONG),
            code(cause.after, LONG),
            ", ".join(dict.fromkeys(map(source, cause.announced))) or known(cause) or "no",
        ]
        for step in steps
        for number, cause in enumerate(step.causes)
    ]
    header = ["release", "function", "kind", "what", "rows", "shift", "for example", "before", "after", "announced"]
    return table(header, rows) if rows else ""


def _kind(cause: Cause) -> str:
    said = "exception" if "exception" in cause.worst["kinds"] else "warning"
    kinds = {"documented": "convention", "undocumented": cause.severity, "support": "support", "wording": said}
    return kinds[cause.section]


def as_csv(found: History) -> str:
    """A history as CSV: one line per change, columns HEADER."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for step in found.steps:
        for cause in step.causes:
            name = f"{step.framework} {step.place}".strip()
            said = [name, step.after, step.before, cause.function, _kind(cause), cause.what]
            numbers = [str(cause.rows), str(cause.cases), amount(cause.move)]
            shown = [cause.example, one_line(cause.before, LONG), one_line(cause.after, LONG)]
            by = ["yes" if cause.announced else "no", " ".join(cause.sources) or cause.known]
            writer.writerow([guarded(cell) for cell in (*said, *numbers, *shown, *by)])
    return text.getvalue()


def read(folder: Path) -> list[dict[str, str]]:
    """The lines of a folder's `history.csv`; raises AuditError."""
    file = folder / "history.csv"
    try:
        with file.open(encoding="utf-8", newline="") as text:
            lines = list(csv.DictReader(text))
    except (OSError, ValueError, csv.Error) as error:
        raise AuditError(file, f"cannot be read ({error})", "make one with `conformance history`") from error
    if not all(set(HEADER) <= {name for name, cell in line.items() if isinstance(cell, str)} for line in lines):
        raise AuditError(file, f"lacks one of the columns {', '.join(HEADER)}", "make one with `conformance history`")
    return [{name: unguarded(line[name]) for name in HEADER} for line in lines]


__all__ = ["History", "Step", "as_csv", "history", "markdown", "read"]

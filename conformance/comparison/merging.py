"""Merge partial reports (of cases, frameworks, machines) into one; the result does not depend on their order."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from conformance import report
from conformance.comparison.alignment import row_names, version_key
from conformance.comparison.errors import ComparisonError
from conformance.execution.journal import Journal
from conformance.execution.report_folder import folder_of
from conformance.execution.run_info import RunInfo
from conformance.model.row_key import KEY
from conformance.model.text import format_count


@dataclass(frozen=True, eq=False)
class Part:
    """A report to merge."""

    name: str
    results: pd.DataFrame
    run: dict[str, Any]
    """Content of the report's `run.json`."""


def merge_reports(paths: Sequence[Path], folder: Path) -> dict[str, Any]:
    """Merge the reports in `paths`, write the result into `folder`, and return its `run.json`.

    Raises ReportError if one cannot be read or written, or a run has locked the folder; ComparisonError as `merge`
    does, and if the result would replace one of the parts.
    """
    for path in paths:
        if folder_of(path).resolve() == folder.resolve():
            raise ComparisonError(
                folder, "the whole would replace one of its parts", "choose another folder for --report"
            )
    results, run = merge([Part(str(path), *report.read(path)) for path in paths])
    journal = Journal.begin(folder, run.started, lambda _: None)
    try:
        record = report.write(folder, results, run)
    except BaseException:
        journal.close(complete=False)
        raise
    journal.close(complete=True)
    return record


def merge(parts: Iterable[Part]) -> tuple[pd.DataFrame, RunInfo]:
    """Return the rows of all parts and their merged run; the order of the parts does not matter.

    The result is complete if all parts are.  Different versions of a framework, of Python or of
    numpy are joined by `, `; `missing` has the frameworks that all parts lack.

    Raises ComparisonError, naming parts, if there are none, if they are from different suites or versions of this
    program, and if two of them have the same row.
    """
    ordered = sorted(parts, key=lambda part: (json.dumps(part.run, sort_keys=True), part.name))
    if not ordered:
        raise ComparisonError("nothing to merge", "no report was named", "name the reports that are to become one")
    programs = [str(dict(part.run.get("host", {})).get("conformance", "")) for part in ordered]
    _check_equal(ordered, "suite", "they are of different suites", [str(part.run.get("suite", "")) for part in ordered])
    _check_equal(ordered, "conformance", "they were written by different versions of conformance", programs)
    rows = pd.concat([part.results[list(KEY)].assign(part=part.name) for part in ordered], ignore_index=True)
    _check_digests(rows)
    _check_disjoint(rows)
    results = report.merged([part.results for part in ordered])
    return results, _merged_run([RunInfo.of(part.run) for part in ordered], set(results["framework"]))


def joined_versions(texts: Iterable[str]) -> str:
    """Join distinct versions in the order of `version_key`; a text may hold several, joined by `, `."""
    versions = {piece for text in texts for piece in text.split(", ") if piece}
    return ", ".join(sorted(versions, key=version_key))


def _check_equal(parts: list[Part], field: str, message: str, values: list[str]) -> None:
    """Raise ComparisonError if the parts have different non-empty values of a field."""
    first: dict[str, str] = {}
    for part, value in zip(parts, values, strict=True):
        if value:
            first.setdefault(value, part.name)
    if len(first) > 1:
        (a, name_a), (b, name_b), *_ = first.items()
        why = f"{message} ({field} {a} and {b})"
        raise ComparisonError(f"{name_a} and {name_b}", why, "merge reports of one version and one suite")


def _check_digests(rows: pd.DataFrame) -> None:
    distinct = rows[["case", "digest", "part"]].drop_duplicates(["case", "digest"])
    changed = distinct[distinct.duplicated("case", keep=False)].sort_values("case", kind="stable")
    if not changed.empty:
        case, number = changed["case"].iloc[0], changed["case"].nunique()
        names = " and ".join(changed.loc[changed["case"] == case, "part"].unique())
        suffix = f" and of {number - 1} more" if number > 1 else ""
        why = f"the content of the case {case}{suffix} differs, so they are of different suites"
        raise ComparisonError(names, why, "run the suite again where it is older")


def _check_disjoint(rows: pd.DataFrame) -> None:
    repeated = rows[rows.duplicated(list(KEY))]
    if not repeated.empty:
        key = repeated.iloc[0][list(KEY)]
        names = " and ".join(rows.loc[(rows[list(KEY)] == key).all(axis=1), "part"].unique())
        why = f"they share {format_count(len(repeated), 'row')}, {row_names(repeated)}"
        raise ComparisonError(names, why, "leave out all but one of the reports that have them")


def _merged_run(runs: list[RunInfo], available: set[str]) -> RunInfo:
    """The merged run.  available: the frameworks that have rows."""
    return RunInfo(
        planned=sum(run.planned for run in runs),
        versions=merged_versions([run.versions for run in runs]),
        missing=tuple(sorted(set.intersection(*(set(run.missing) for run in runs)) - available)),
        interrupted=_distinct((run.interrupted for run in runs), "; "),
        started=min((run.started for run in runs if run.started), key=_moment, default=""),
        duration=round(math.fsum(run.duration for run in runs), 3),
        coverage=_distinct((run.coverage for run in runs), "; "),
        host=merged_versions([run.host for run in runs]),
        suite=max(run.suite for run in runs),
        selected=_distinct((run.selected for run in runs), " | "),
        published=_published_numbers(runs),
    )


def _distinct(texts: Iterable[str], separator: str) -> str:
    return separator.join(sorted(set(texts) - {""}))


def merged_versions(mappings: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Join the values of each name, see `joined_versions`."""
    names = dict.fromkeys(name for mapping in mappings for name in mapping)
    return {name: joined_versions(mapping[name] for mapping in mappings if name in mapping) for name in names}


def _published_numbers(runs: list[RunInfo]) -> tuple[dict[str, Any], ...]:
    """The distinct published numbers of all runs; in the order of the first run if all runs have the same."""
    lists = [[json.dumps(dict(number)) for number in run.published] for run in runs]
    texts = (
        lists[0]
        if all(texts_of_run == lists[0] for texts_of_run in lists)
        else sorted({text for texts_of_run in lists for text in texts_of_run})
    )
    return tuple(json.loads(text) for text in texts)


def _moment(text: str) -> tuple[float, str]:
    try:
        return datetime.fromisoformat(text).timestamp(), text
    except ValueError:
        return math.inf, text

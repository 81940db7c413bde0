"""Partial reports joined into one: shards, frameworks, machines; the same to the byte in any order."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from packaging.version import InvalidVersion, Version

from conformance import report
from conformance.comparison.alignment import named, records
from conformance.comparison.refusal import AuditError
from conformance.model.row_key import KEY
from conformance.model.text import counted
from conformance.report.run import RunInfo

_SHARD = re.compile(r"(\d+)/(\d+)(?: of (.*))?")


@dataclass(frozen=True, eq=False)
class Part:
    """A report that becomes part of another: how it is called, its rows, and what its `run.json` says."""

    name: str
    results: pd.DataFrame
    run: dict[str, Any]


def joined(paths: Sequence[Path], folder: Path) -> dict[str, Any]:
    """Join the reports in `paths`, write the whole into `folder`, and return what its `run.json` says.

    Raises ReportError where one cannot be read or written, or a run holds the folder, AuditError as `join` does, and
    where the whole would replace one of its parts.
    """
    for path in paths:
        home = path if path.is_dir() else path.parent
        if home.resolve() == folder.resolve():
            raise AuditError(folder, "the whole would replace one of its parts", "choose another folder for --report")
    results, run = join([Part(str(path), *report.read(path)) for path in paths])
    journal = report.Journal.begin(folder, run.started, lambda _: None)
    try:
        record = report.write(folder, results, run, run.published)
    except BaseException:
        journal.close(whole=False)
        raise
    journal.close(whole=True)
    return record


def join(parts: Iterable[Part]) -> tuple[pd.DataFrame, RunInfo]:
    """(the rows of all parts, what is said of them as a whole), whatever the order of the parts.

    A whole is complete where all parts are and no shard is lacking.  What differs between the parts is
    joined by `, `: versions of a framework, of Python, of numpy; `missing` is what is missing in all.
    Raises AuditError, which names parts, where there is none, where they are of different suites or
    versions of this program, or where a row is in two of them.
    """
    ordered = sorted(parts, key=lambda part: (json.dumps(part.run, sort_keys=True), part.name))
    if not ordered:
        raise AuditError("nothing to merge", "no report was named", "name the reports that are to become one")
    _check_one(ordered, "suite", "they are of different suites", [str(part.run.get("suite", "")) for part in ordered])
    programs = [str(dict(part.run.get("host", {})).get("conformance", "")) for part in ordered]
    _check_one(ordered, "conformance", "they were written by different versions of conformance", programs)
    rows = pd.concat([part.results.assign(part=number) for number, part in enumerate(ordered)], ignore_index=True)
    _check_digests(ordered, rows)
    _check_disjoint(ordered, rows)
    results = report.frame(records(rows))
    return results, _whole([RunInfo.of(part.run) for part in ordered], set(results["framework"]))


def several(texts: Iterable[str]) -> str:
    """Versions and the like, each possibly several joined by `, `, as one such text; sorted, oldest first."""
    found = {piece for text in texts for piece in text.split(", ") if piece}
    return ", ".join(sorted(found, key=_age))


def _age(text: str) -> tuple[bool, Version, str]:
    try:
        return False, Version(text), text
    except InvalidVersion:
        return True, Version("0"), text


def _check_one(parts: list[Part], field: str, what: str, said: list[str]) -> None:
    first: dict[str, str] = {}
    for part, text in zip(parts, said, strict=True):
        if text:
            first.setdefault(text, part.name)
    if len(first) > 1:
        (a, one), (b, other), *_ = first.items()
        why = f"{what} ({field} {a} and {b})"
        raise AuditError(f"{one} and {other}", why, "merge reports of one version and one suite")


def _check_digests(parts: list[Part], rows: pd.DataFrame) -> None:
    distinct = rows[["case", "digest", "part"]].drop_duplicates()
    digests = distinct.groupby("case")["digest"].nunique()
    changed = digests[digests > 1].index.tolist()
    if changed:
        versions = distinct[distinct["case"] == changed[0]].drop_duplicates("digest")
        which = " and ".join(dict.fromkeys(parts[number].name for number in versions["part"].tolist()))
        more = f" and of {len(changed) - 1} more" if len(changed) > 1 else ""
        why = f"the content of the case {changed[0]}{more} differs, so they are of different suites"
        raise AuditError(which, why, "run the suite again where it is older")


def _check_disjoint(parts: list[Part], rows: pd.DataFrame) -> None:
    again = rows[rows.duplicated(list(KEY))]
    if again.empty:
        return
    key = again.iloc[0][list(KEY)]
    both = rows[(rows[list(KEY)] == key).all(axis=1)]
    which = " and ".join(dict.fromkeys(parts[number].name for number in both["part"].tolist()))
    why = f"they share {counted(len(again), 'row')}, {named(again)}"
    raise AuditError(which, why, "leave out all but one of the reports that have them")


def _whole(runs: list[RunInfo], there: set[str]) -> RunInfo:
    left = _shards(runs)
    return RunInfo(
        planned=sum(run.planned for run in runs),
        versions=_united([run.versions for run in runs]),
        missing=tuple(sorted(set.intersection(*(set(run.missing) for run in runs)) - there)),
        interrupted="; ".join(sorted({run.interrupted for run in runs} - {""})),
        started=min((run.started for run in runs if run.started), key=_moment, default=""),
        duration=round(math.fsum(run.duration for run in runs), 3),
        coverage="; ".join(sorted({run.coverage for run in runs} - {""})),
        host=_united([run.host for run in runs]),
        suite=max(run.suite for run in runs),
        selected=" | ".join(sorted({run.selected for run in runs} - {""})),
        shards=tuple(shard for shards in left.values() for shard in shards),
        partial="; ".join(filter(None, (_lacking(of, shards) for of, shards in left.items()))),
        published=_published(runs),
    )


def _united(texts: Sequence[Any]) -> dict[str, str]:
    names = dict.fromkeys(name for text in texts for name in text)
    return {name: several(text[name] for text in texts if name in text) for name in names}


def _shards(runs: list[RunInfo]) -> dict[str, list[str]]:
    """By what is divided, the shards that are there; nothing where all are, or where a run is no shard."""
    found: dict[str, set[str]] = {}
    for run in runs:
        for shard in run.shards:
            match = _SHARD.fullmatch(shard)
            if match is None:
                raise AuditError(shard, "is no shard", "write 2/3 for the second of three")
            number, count, of = match.groups()
            of = of or ", ".join(sorted(run.versions))
            found.setdefault(f"{count} of {of}", set()).add(f"{int(number)}/{count} of {of}")
    return {
        of: sorted(shards, key=lambda shard: int(shard.partition("/")[0]))
        for of, shards in sorted(found.items())
        if len(shards) < int(of.partition(" ")[0])
    }


def _lacking(of: str, shards: list[str]) -> str:
    count, _, whose = of.partition(" of ")
    there = {int(shard.partition("/")[0]) for shard in shards}
    lacks = [f"{number}/{count}" for number in range(1, int(count) + 1) if number not in there]
    return f"lacks the shards {', '.join(lacks)} of {whose}"


def _published(runs: list[RunInfo]) -> tuple[dict[str, Any], ...]:
    """The numbers of any run, each once; in the order of the first, which is that of all, unless suites differ."""
    lists = [[json.dumps(dict(number)) for number in run.published] for run in runs]
    told = lists[0] if all(one == lists[0] for one in lists) else sorted({text for one in lists for text in one})
    return tuple(json.loads(text) for text in told)


def _moment(text: str) -> tuple[float, str]:
    try:
        return datetime.fromisoformat(text).timestamp(), text
    except ValueError:
        return math.inf, text


__all__ = ["Part", "join", "joined", "several"]

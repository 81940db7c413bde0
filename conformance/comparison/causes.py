"""Changes told by cause: which documented choice moved, since which release and where that is written, or none.

Rows are grouped by what a person would say of them; `comparison.groups` has them finer.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from conformance.adapters import registry
from conformance.adapters.contract import Function, Rule
from conformance.comparison import SEVERITIES
from conformance.comparison.alignment import records
from conformance.comparison.moves import Move, farthest, moved
from conformance.comparison.words import arrow
from conformance.judging.row import choices_of, exception_type, listed_in, members_of, reason_in, warnings_in
from conformance.judging.verdict import FAILING
from conformance.model.convention import DEFINITION, value_text

Section = Literal["documented", "undocumented", "support", "wording", "rounding", "judgement", "unchanged"]
CHANGED: tuple[Section, ...] = ("documented", "undocumented", "support", "wording")
"""Sections whose rows did something else, in the order in which they are told."""
RETURNS_DTYPE = "result_dtype"
"""What a function declares beside its convention."""


@dataclass(frozen=True)
class Announced:
    """A documented choice that moved between two versions of a function.

    field: of the convention, or `result_dtype`.  old, new: as text; of a set the member that went or came.
    since: the first of the versions that an adapter names from which the new choice holds.  versions, source: the
    range and the link of the rule that held then.
    """

    field: str
    old: str
    new: str
    since: str
    versions: str
    source: str

    def __str__(self) -> str:
        if self.old and self.new:
            told = f"{self.field} {self.old} -> {self.new}"
        else:
            told = f"{self.field} {self.new}" if self.new else f"no longer {self.field} {self.old}"
        return told + (f" (since {self.since})" if self.since else "")


@dataclass(frozen=True, eq=False)
class Cause:
    """Rows that changed for one reason.

    what: in words.  announced: the documented choices that moved, empty where none did.  rows, cases: how many.
    move: the farthest that a number moved, None where none did.  farthest: the row of `comparison.changes` that has it.
    worst: the row that shows the change best.
    """

    section: Section
    severity: str
    function: str
    what: str
    announced: tuple[Announced, ...]
    rows: int
    cases: int
    move: Move | None
    farthest: Mapping[str, Any]
    worst: Mapping[str, Any]

    @property
    def sources(self) -> tuple[str, ...]:
        """Links to where the change is documented."""
        return tuple(dict.fromkeys(one.source for one in self.announced if one.source))

    @property
    def known(self) -> str:
        """What the ledger says of it: the reason, and a link in parentheses."""
        return _known(self.worst)[0]

    @property
    def bug(self) -> tuple[str, str]:
        """The same apart: (reason, link)."""
        known, source = _known(self.worst)
        return reason_in(known, source), source

    @property
    def example(self) -> str:
        """The case that shows it, with its dtype and reduction, and `gradient` where it is about that."""
        return _named(self.worst)

    @property
    def moved_in(self) -> str:
        """The case in which a number moved the farthest, in the same words."""
        return _named(self.farthest)

    @property
    def before(self) -> str:
        return answer(self.worst, "old")

    @property
    def after(self) -> str:
        return answer(self.worst, "new")


def _named(line: Mapping[str, Any]) -> str:
    names = [str(line[name]) for name in ("case", "dtype", "reduction")]
    return " ".join(names + (["gradient"] if line["quantity"] == "gradient" else []))


def answer(line: Mapping[str, Any], side: str) -> str:
    """What one side of a changed row did: what it returned, or raised, or how it ended."""
    got, exception = str(line[f"{side}_got"]), str(line[f"{side}_exception"])
    return got or exception or str(line[f"{side}_status"]).replace("_", " ") or "not asked"


def sections(table: pd.DataFrame) -> pd.Series:
    """Of every row of `comparison.changes` the section in which an audit tells it.

    support: a function, or what it can be asked, came or went.  wording: it raises or warns otherwise, and answers as
    it did where it answered.  documented: a documented choice moved, and the answer with it.  rounding: it drifted
    by no more than counts as a note.  judgement: it did the same, and is judged otherwise.  undocumented: the rest.
    """
    kinds = table["kinds"].map(listed_in)
    sided = kinds.map(lambda found: bool({"added", "removed"} & set(found))).astype(bool)
    only_said = kinds.map(lambda found: set(found) <= {"exception", "message", "warning"}).astype(bool)
    no_answer = (table["old_got"] == "") == (table["new_got"] == "")
    minor = table["severity"].isin(["note", "change"])
    conditions = [
        table["severity"] == "unchanged",
        sided,
        table["cause"] == "judgement",
        same_answer(table),
        table["cause"] == "documented",
        table["cause"] == "rounding",
        (table["severity"] == "note") | (only_said & no_answer & minor),
    ]
    names = ["unchanged", "support", "judgement", "wording", "documented", "rounding", "wording"]
    return pd.Series(np.select(conditions, names, "undocumented").astype(object), index=table.index)


def same_answer(table: pd.DataFrame) -> pd.Series:
    """Rows of `comparison.changes` that returned the same bits, or raised the same type of exception, on both sides."""
    raised = [table[f"{side}_exception"].map(exception_type) for side in ("old", "new")]
    returned = table["old_got"] == table["new_got"]
    ended = (table["old_got"] != "") | (raised[0] != "") | (table["old_status"] == table["new_status"])
    return returned & (raised[0] == raised[1]) & (table["old_result_dtype"] == table["new_result_dtype"]) & ended


_SEVERITY: dict[Section, str] = {"documented": "change", "support": "change"}
"""What is told of a section's causes as one, however bad its rows."""
_Key = tuple[Section, str, str, str, tuple[Announced, ...]]
"""What rows of one cause share: the first fields of `Cause`, for wording by the categories of warnings."""


def causes(table: pd.DataFrame) -> list[Cause]:
    """What changed, by cause: by section, then worst and most frequent first.

    table: of `comparison.changes`.  Told are the sections in CHANGED.
    """
    section = sections(table)
    known: dict[tuple[str, str, str], tuple[_Moved, ...]] = {}
    groups: dict[tuple[_Key, str], list[dict[str, Any]]] = {}
    for line, where in zip(records(table), section.tolist(), strict=True):
        if where in CHANGED:
            announced, what = _told(line, where, known)
            severity = _SEVERITY.get(where, line["severity"])
            key = (where, severity, line["function"], what, announced)
            groups.setdefault((key, _known(line)[0]), []).append(line)
    found = [_cause(key, lines) for (key, _), lines in groups.items()]

    def order(cause: Cause) -> tuple[Any, ...]:
        badness = SEVERITIES.index(cause.severity)
        return (CHANGED.index(cause.section), badness, -cause.rows, cause.function, cause.what)

    return sorted(found, key=order)


def _known(line: Mapping[str, Any]) -> tuple[str, str]:
    side = "old" if line["old_known"] else "new"
    return str(line[f"{side}_known"]), str(line[f"{side}_known_source"])


def _cause(key: _Key, lines: list[dict[str, Any]]) -> Cause:
    moves = [moved(line["old_got"], line["new_got"]) for line in lines]
    far = [-1.0 if move is None or math.isinf(move.distance) else move.distance for move in moves]
    worst = max(range(len(lines)), key=lambda at: (_tellable(lines[at]), far[at], -at))
    cases = len({line["case"] for line in lines})
    move = farthest([found for found in moves if found is not None])
    where = lines[moves.index(move)] if move is not None else lines[worst]
    section, severity, function, what, announced = key
    what = _wording(lines[worst], told=str) if section == "wording" else what
    return Cause(section, severity, function, what, announced, len(lines), cases, move, where, lines[worst])


def _tellable(line: Mapping[str, Any]) -> bool:
    """Whether a person can take a row's answers in: two scalars, or few numbers."""
    return all(len(str(line[f"{side}_got"])) <= 60 for side in ("old", "new"))


# In words.


def _told(
    line: Mapping[str, Any], section: Section, known: dict[tuple[str, str, str], tuple[_Moved, ...]]
) -> tuple[tuple[Announced, ...], str]:
    """(the documented choices that moved, what happened) of one row."""
    if section == "documented":
        key = (line["function"], line["old_version"], line["new_version"])
        if key not in known:
            known[key] = tuple(_moved(*key))
        announced = _announced(line, known[key])
        return announced, "; ".join(map(str, announced)) or _explained(line)
    if section == "support":
        return (), _support(line)
    if section == "wording":
        return (), _wording(line)
    was, now = (_behaviour(line, side) for side in ("old", "new"))
    return (), (f"{was} -> {now}" if was != now else f"{now} as before, but another one") + _typed(line)


def _explained(line: Mapping[str, Any]) -> str:
    """What explains a row on both sides, where no adapter describes its function."""
    named = {"convention": "convention", "dtype": "result_dtype"}
    pairs = [(word, line[f"old_{column}"], line[f"new_{column}"]) for word, column in named.items()]
    return "; ".join(f"{word} {arrow(was, now)}" for word, was, now in pairs if was != now)


def _support(line: Mapping[str, Any]) -> str:
    """What can be asked on one side only.  Both sides of an audit are asked the same cases, so a case is never lost."""
    kind = listed_in(line["kinds"])[0]
    gained = kind in ("function gained", "support gained", "case added")
    if kind in ("function gained", "function lost"):
        return "the function is new" if gained else "the function is gone"
    if not gained:
        return f"cannot be asked any more, {line['dtype']}"
    failing = line["new_status"] in FAILING
    return f"can be asked now, {line['dtype']}" + (f", and {line['new_status'].replace('_', ' ')}" if failing else "")


def _wording(line: Mapping[str, Any], told: Callable[[str], str] = exception_type) -> str:
    """What it raises or warns of otherwise.

    told: what is said of a warning; its category, for a message may name what only one case has.
    """
    names = [exception_type(line[f"{side}_exception"]) for side in ("old", "new")]
    if names[0] != names[1]:
        return f"raises {names[1] or 'nothing'}, and raised {names[0] or 'nothing'}"
    was, now = ({exception_type(one): one for one in warnings_in(line[f"{side}_warnings"])} for side in ("old", "new"))
    said = [f"no longer warns: {told(was[name])}" for name in sorted(was.keys() - now.keys())]
    said += [f"warns: {told(now[name])}" for name in sorted(now.keys() - was.keys())]
    return "; ".join(said) or f"words its {' and '.join(filter(None, [names[0], *sorted(now)]))} otherwise"


def _behaviour(line: Mapping[str, Any], side: str) -> str:
    status = str(line[f"{side}_status"])
    right = {"agrees": "right", "diverges": "right", "disagrees": "wrong", "undefined": "no right answer"}
    return ", ".join(filter(None, (right.get(status, status.replace("_", " ")), _did(line, side))))


def _did(line: Mapping[str, Any], side: str) -> str:
    got, exception = str(line[f"{side}_got"]), str(line[f"{side}_exception"])
    if exception:
        return f"raises {exception_type(exception)}"
    special = [name for name in ("nan", "inf") if name in got.lower()]
    return f"returns {' and '.join(special) or 'a number'}" if got else ""


def _typed(line: Mapping[str, Any]) -> str:
    return f", {line['old_result_dtype']} -> {line['new_result_dtype']}" if "dtype" in listed_in(line["kinds"]) else ""


# What is documented.


@dataclass(frozen=True)
class _Moved:
    """A choice that two versions of a function declare differently, for one kind of target.

    old, new: what a row's convention says where it names the choice.  member: of a choice that is a set, the one that
    came or went.
    """

    old: str
    new: str
    told: Announced
    member: str = ""


def _announced(line: Mapping[str, Any], moved: Iterable[_Moved]) -> tuple[Announced, ...]:
    """Those of the moved choices that a row shows: named on one side and not, or otherwise, on the other."""
    named = [choices_of(line[f"{side}_convention"]) for side in ("old", "new")]
    shown: dict[tuple[str, str], list[_Moved]] = {}
    for one in moved:
        was, now = (side.get(one.told.field, "") for side in named)
        if one.member:
            seen = (one.member in members_of(was)) != (one.member in members_of(now))
        else:
            seen = was != now or (one.told.field == RETURNS_DTYPE and "dtype" in listed_in(line["kinds"]))
        if seen:
            shown.setdefault((one.told.field, one.member), []).append(one)
    return tuple(_best(found, named).told for found in shown.values())


def _best(found: list[_Moved], named: list[Mapping[str, str]]) -> _Moved:
    """The one whose values stand in the row, where a function documents several by kind of target."""

    def fits(one: _Moved) -> int:
        values = zip(named, (one.old, one.new), strict=True)
        return sum(side.get(one.told.field, value) == value for side, value in values)

    return max(found, key=fits)


def _moved(name: str, before: str, after: str) -> Iterator[_Moved]:
    """The choices that a function declares otherwise in one version than in another."""
    was, now = described(name, before), described(name, after)
    if was is None or now is None:
        return
    steps = {step: found for step in _steps(name, before, after) if (found := described(name, step)) is not None}
    if was.result_dtype != now.result_dtype:
        since = _since({step: found.result_dtype for step, found in steps.items()}, now.result_dtype)
        told = Announced(RETURNS_DTYPE, was.result_dtype, now.result_dtype, since, now.versions, now.source)
        yield _Moved(was.result_dtype, now.result_dtype, told)
    for rule in _rules(now, after):
        old = _like(rule, _rules(was, before))
        if old is not None:
            then = {step: _like(rule, _rules(found, step)) for step, found in steps.items()}
            yield from _choices_moved(old, rule, {step: found for step, found in then.items() if found is not None})


def _choices_moved(old: Rule, new: Rule, then: Mapping[str, Rule]) -> Iterator[_Moved]:
    """What two rules choose differently.  then: the rules that held from each version between them."""
    for field in dict.fromkeys([*old.convention.choices(), *new.convention.choices()]):
        a, b = getattr(old.convention, field), getattr(new.convention, field)
        chosen = {step: getattr(rule.convention, field) for step, rule in then.items()}
        if isinstance(a, frozenset) and isinstance(b, frozenset):
            for member in sorted(a ^ b):
                since = _since({step: member in value for step, value in chosen.items()}, member in b)
                went, came = (member, "") if member in a else ("", member)
                yield _Moved(_text(a), _text(b), _by(field, went, came, since, then.get(since, new)), member)
        elif a != b:
            since = _since(chosen, b)
            yield _Moved(_text(a), _text(b), _by(field, _text(a), _text(b), since, then.get(since, new)))


def _by(field: str, old: str, new: str, since: str, rule: Rule) -> Announced:
    return Announced(field, old, new, since, rule.versions, rule.source)


def _since(values: Mapping[str, Any], new: Any) -> str:
    """The first version from which a choice is what it is in the last one; "" where that is not known."""
    since = ""
    for version, value in values.items():
        if value != new:
            since = ""
        elif not since:
            since = version
    return since


def described(name: str, version: str) -> Function | None:
    """A function by its name, as an adapter describes it in a version, first of all backends; None where none does."""
    for framework in registry.frameworks():
        for function in framework.functions:
            if function.name == name and registry.within(version, function.versions):
                return function
    return None


def _rules(function: Function, version: str) -> list[Rule]:
    return [rule for rule in function.rules if registry.within(version, rule.versions)]


def _like(rule: Rule, rules: list[Rule]) -> Rule | None:
    """The first rule for the same kinds of target and the like, or else for all."""
    same = [one for one in rules if _scope(one) == _scope(rule)] or [one for one in rules if one.targets is None]
    return same[0] if same else None


def _scope(rule: Rule) -> Rule:
    """What a rule is for, its versions apart."""
    return dataclasses.replace(rule, convention=DEFINITION, versions="", source="")


def _steps(name: str, before: str, after: str) -> list[str]:
    """The versions after one, up to another, at which an adapter says that something about a function changed."""
    try:
        low, high = sorted((Version(Version(before).public), Version(Version(after).public)))
    except InvalidVersion:
        return [after]
    found: set[Version] = set()
    for framework in registry.frameworks():
        for function in framework.functions:
            if function.name == name:
                for text in (function.versions, *(rule.versions for rule in function.rules)):
                    found |= {Version(one.version.removesuffix(".*")) for one in SpecifierSet(text)}
    return [str(version) for version in sorted(found | {high}) if low < version <= high]


def _text(value: Any) -> str:
    return value_text(value) or "none"


__all__ = [
    "CHANGED",
    "Announced",
    "Cause",
    "Section",
    "answer",
    "causes",
    "described",
    "same_answer",
    "sections",
]

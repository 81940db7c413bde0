"""Group the changes of an audit by cause: the documented choice that changed, its first release and its link.

One cause may cover several groups of `comparison.group_changes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from conformance.comparison.changes import SEVERITIES
from conformance.comparison.distance import Drift, drift, largest
from conformance.comparison.documentation import RESULT_DTYPE, ConventionChange, DocumentedChange, convention_changes
from conformance.comparison.sentences import status_text
from conformance.judging.row import choices_of, exception_type, listed_in, members_of, reason_in, warnings_in
from conformance.judging.verdict import FAILING
from conformance.report.frames import records

Section = Literal["documented", "undocumented", "support", "wording", "rounding", "judgement", "unchanged"]
"""Part of an audit; see `sections`."""
REPORTED_SECTIONS: tuple[Section, ...] = ("documented", "undocumented", "support", "wording")
"""Sections whose causes are listed, in this order."""
MAX_READABLE = 60
"""Maximum number of characters of an answer that is easy to read: a scalar, or few numbers."""
Row = Mapping[str, Any]
"""A row of `comparison.changes` by column."""
Say = Callable[[str], str]
"""Translates the English templates and words of a description."""


@dataclass(frozen=True, eq=False)
class Cause:
    """Rows that changed for one reason."""

    section: Section
    severity: str
    function: str
    documented: tuple[DocumentedChange, ...]
    """The documented choices that changed; empty if none did."""
    rows: int
    cases: int
    drift: Drift | None
    """The largest drift of a number; None if no number drifted."""
    drift_row: Row
    """The row of `comparison.changes` that has it."""
    example_row: Row
    """The row that shows the change best."""
    ordinary: bool = False
    """Whether its rows are known to have ordinary inputs; see `traits.is_ordinary`."""

    @property
    def description(self) -> str:
        """The change in words."""
        return self.describe()

    def describe(self, say: Say = str) -> str:
        """The change in words, in a language."""
        return _describe(self.example_row, self.section, self.documented, say, format_warning=str)

    @property
    def sources(self) -> tuple[str, ...]:
        """Links to the documentation of the change."""
        return tuple(dict.fromkeys(change.source for change in self.documented if change.source))

    @property
    def known_issue(self) -> str:
        """The ledger's reason for the change, with a link in parentheses."""
        return _known_issue(self.example_row)[0]

    @property
    def known_reason_and_link(self) -> tuple[str, str]:
        """Reason and link of the known issue."""
        text, link = _known_issue(self.example_row)
        return reason_in(text, link), link

    @property
    def example(self) -> str:
        """Case, dtype and reduction of the example, with the quantity if it is not the loss."""
        return _row_label(self.example_row)

    @property
    def drift_label(self) -> str:
        """The row with the largest drift, formatted like `example`."""
        return _row_label(self.drift_row)

    @property
    def before(self) -> str:
        """The earlier answer of the example."""
        return answer_text(self.example_row, "old")

    @property
    def after(self) -> str:
        """The later answer of the example."""
        return answer_text(self.example_row, "new")


def _row_label(row: Row) -> str:
    names = [str(row[name]) for name in ("case", "dtype", "reduction")]
    return " ".join(names + ([row["quantity"]] if row["quantity"] != "loss" else []))


def answer_text(row: Row, side: str) -> str:
    """The returned value, exception or other outcome of one side of a changed row."""
    got, exception = str(row[f"{side}_got"]), str(row[f"{side}_exception"])
    return got or exception or status_text(str(row[f"{side}_status"])) or "not called"


def sections(table: pd.DataFrame) -> pd.Series:
    """The audit section of each row of `comparison.changes`.

    support: the function, or the question to it, is on one side only.
    wording: only its exceptions or warnings changed.
    documented: a documented choice changed, and the answer with it.
    rounding: it drifted by no more than a note.
    judgement: the outcome is the same, but its judgement differs.
    undocumented: everything else that changed.
    """
    kinds = table["kinds"].map(listed_in)
    one_sided = kinds.map(lambda kind_names: bool({"added", "removed"} & set(kind_names))).astype(bool)
    only_messages = kinds.map(lambda kind_names: set(kind_names) <= {"exception", "message", "warning"}).astype(bool)
    no_answer = (table["old_got"] == "") == (table["new_got"] == "")
    minor = table["severity"].isin(["note", "change"])
    conditions = [
        table["severity"] == "unchanged",
        one_sided,
        table["cause"] == "judgement",
        same_answer(table),
        table["cause"] == "documented",
        table["cause"] == "rounding",
        (table["severity"] == "note") | (only_messages & no_answer & minor),
    ]
    names = ["unchanged", "support", "judgement", "wording", "documented", "rounding", "wording"]
    return pd.Series(np.select(conditions, names, "undocumented").astype(object), index=table.index)


def same_answer(table: pd.DataFrame) -> pd.Series:
    """Rows of `comparison.changes` that returned the same bits, or raised the same type of exception, on both sides."""
    raised = [table[f"{side}_exception"].map(exception_type) for side in ("old", "new")]
    returned = table["old_got"] == table["new_got"]
    ended = (table["old_got"] != "") | (raised[0] != "") | (table["old_status"] == table["new_status"])
    return returned & (raised[0] == raised[1]) & (table["old_result_dtype"] == table["new_result_dtype"]) & ended


_SECTION_SEVERITY: dict[Section, str] = {"documented": "change", "support": "change"}
"""Severity of every cause of a section, in place of that of its rows."""
_Key = tuple[Section, str, str, str, tuple[DocumentedChange, ...]]
"""Grouping key: section, severity, function, description and documentation of a `Cause`."""


def causes(table: pd.DataFrame, *, ordinary: bool = False) -> list[Cause]:
    """Group the changes of the reported sections by cause: by section, then worst and most frequent first.

    table: result of `comparison.changes`.  ordinary: whether all of its rows have ordinary inputs.
    """
    changes_by_versions: dict[tuple[str, str, str], list[ConventionChange]] = {}
    groups: dict[tuple[_Key, str], list[Row]] = {}
    for row, section in zip(records(table), sections(table).tolist(), strict=True):
        if section not in REPORTED_SECTIONS:
            continue
        documented: tuple[DocumentedChange, ...] = ()
        if section == "documented":
            versions = (row["function"], row["old_version"], row["new_version"])
            if versions not in changes_by_versions:
                changes_by_versions[versions] = list(convention_changes(*versions))
            documented = _changes_shown(row, changes_by_versions[versions])
        severity = _SECTION_SEVERITY.get(section, row["severity"])
        key = (section, severity, row["function"], _describe(row, section, documented), documented)
        groups.setdefault((key, _known_issue(row)[0]), []).append(row)

    def order(cause: Cause) -> tuple[Any, ...]:
        severity = SEVERITIES.index(cause.severity)
        return REPORTED_SECTIONS.index(cause.section), severity, -cause.rows, cause.function, cause.description

    result = (_cause(key, rows, ordinary) for (key, _), rows in groups.items())
    return sorted(result, key=order)


def _known_issue(row: Row) -> tuple[str, str]:
    """The cells `known` and `known_source` of the earlier row if the ledger knows it, else those of the later one."""
    side = "old" if row["old_known"] else "new"
    return str(row[f"{side}_known"]), str(row[f"{side}_known_source"])


def _cause(key: _Key, rows: list[Row], ordinary: bool) -> Cause:
    drifts = [drift(row["old_got"], row["new_got"]) for row in rows]
    sizes = [-1.0 if movement is None or math.isinf(movement.size) else movement.size for movement in drifts]
    example = rows[max(range(len(rows)), key=lambda i: (_readable(rows[i]), sizes[i], -i))]
    farthest = largest(movement for movement in drifts if movement is not None)
    drift_row = example if farthest is None else rows[drifts.index(farthest)]
    section, severity, function, _, documented = key
    cases = len({row["case"] for row in rows})
    numbers = len(rows), cases, farthest, drift_row, example, ordinary
    return Cause(section, severity, function, documented, *numbers)


def _readable(row: Row) -> bool:
    return all(len(str(row[f"{side}_got"])) <= MAX_READABLE for side in ("old", "new"))


# Descriptions of rows


def _describe(
    row: Row,
    section: Section,
    documented: Sequence[DocumentedChange],
    say: Say = str,
    format_warning: Callable[[str], str] = exception_type,
) -> str:
    """Describe a row.

    format_warning: formats a warning; by default as its category, as messages can be specific to a case.
    """
    match section:
        case "documented":
            return "; ".join(change.text(say) for change in documented) or _convention_diff(row, say)
        case "support":
            return _describe_support(row, say)
        case "wording":
            return _describe_messages(row, say, format_warning)
        case _:
            before, after = (_behaviour(row, side, say) for side in ("old", "new"))
            text = f"{before} -> {after}" if before != after else say("{}, different value").format(after)
            dtypes = f", {row['old_result_dtype']} -> {row['new_result_dtype']}"
            return text + (dtypes if "dtype" in listed_in(row["kinds"]) else "")


def _convention_diff(row: Row, say: Say) -> str:
    """The difference of the conventions and result dtypes of both sides, for a function without an adapter."""
    columns = {"convention": "convention", "dtype": "result_dtype"}
    pairs = [(say(word), row[f"old_{column}"], row[f"new_{column}"]) for word, column in columns.items()]
    return "; ".join(f"{word} {old or say('none')} -> {new or say('none')}" for word, old, new in pairs if old != new)


SUPPORT_TEXT = {
    "function gained": "the function is new",
    "function lost": "the function is gone",
    "case added": "the case is new, {dtype}",
    "case removed": "the case is gone, {dtype}",
    "case changed": "the case changed, {dtype}",
    "newly asked": "was not called before, {dtype}",
    "no longer asked": "is not called any more, {dtype}",
    "support gained": "can be called now, {dtype}",
    "support lost": "cannot be called any more, {dtype}",
}


def _describe_support(row: Row, say: Say) -> str:
    """Describe a row of one side only; a new failing row is marked, unless the whole function is new."""
    kinds = listed_in(row["kinds"])
    text = say(SUPPORT_TEXT[kinds[0]]).format(dtype=row["dtype"])
    fails = "added" in kinds and kinds[0] != "function gained" and row["new_status"] in FAILING
    return text + (say(", and {}").format(say(status_text(row["new_status"]))) if fails else "")


def _describe_messages(row: Row, say: Say, format_warning: Callable[[str], str]) -> str:
    """Describe changed exceptions or warnings."""
    types = [exception_type(row[f"{side}_exception"]) for side in ("old", "new")]
    if types[0] != types[1]:
        old_type, new_type = (name or say("nothing") for name in types)
        return say("raises {new}, and raised {old}").format(old=old_type, new=new_type)
    old, new = (
        {exception_type(warning): warning for warning in warnings_in(row[f"{side}_warnings"])}
        for side in ("old", "new")
    )
    texts = [say("no longer warns: {}").format(format_warning(old[name])) for name in sorted(old.keys() - new.keys())]
    texts += [say("warns: {}").format(format_warning(new[name])) for name in sorted(new.keys() - old.keys())]
    names = say(" and ").join(filter(None, [types[0], *sorted(new)]))
    return "; ".join(texts) or say("words its {} otherwise").format(names)


STATUS_JUDGEMENT = {"agrees": "right", "diverges": "right", "disagrees": "wrong", "undefined": "no right answer"}


def _behaviour(row: Row, side: str, say: Say) -> str:
    """The judgement and the outcome of a side: `wrong, returns nan`."""
    status = str(row[f"{side}_status"])
    judgement = say(STATUS_JUDGEMENT.get(status, status_text(status)))
    return ", ".join(filter(None, (judgement, _outcome_text(row, side, say))))


def _outcome_text(row: Row, side: str, say: Say) -> str:
    got, exception = str(row[f"{side}_got"]), str(row[f"{side}_exception"])
    if exception:
        return say("raises {}").format(exception_type(exception))
    special = [name for name in ("nan", "inf") if name in got.lower()]
    return say("returns {}").format(say(" and ").join(special) or say("a number")) if got else ""


# Documented changes that a row shows


def _changes_shown(row: Row, changes: Sequence[ConventionChange]) -> tuple[DocumentedChange, ...]:
    """The documented changes that a row shows: the values of the field, or a member of a set, differ on its sides."""
    choices = [choices_of(row[f"{side}_convention"]) for side in ("old", "new")]
    shown: dict[tuple[str, str], list[ConventionChange]] = {}
    for change in changes:
        field = change.change.field
        old, new = (side.get(field, "") for side in choices)
        if change.member:
            differs = (change.member in members_of(old)) != (change.member in members_of(new))
        else:
            differs = old != new or (field == RESULT_DTYPE and "dtype" in listed_in(row["kinds"]))
        if differs:
            shown.setdefault((field, change.member), []).append(change)

    def matches(change: ConventionChange) -> int:
        values = zip(choices, (change.old, change.new), strict=True)
        return sum(side.get(change.change.field, value) == value for side, value in values)

    # A function may document one change for each kind of target: select the one that matches the values of the row.
    return tuple(max(alternatives, key=matches).change for alternatives in shown.values())

"""What a page shows beside the rows of its report: builtin values, bounded, whoever made them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from conformance.casefiles.generated_arrays import GeneratedCase
from conformance.model.case import Case
from conformance.model.text import printable, whole
from conformance.report.page.packing import LONG, embedded, shortened

Record = Mapping[str, Any]
Block = tuple[str, str, int]
"""Kind (`heading`, `prose`, `formula` or `code`), text, and how deep it stands."""

ROOM = 3_000_000
"""Characters of all explanations in a page, and of all records of a kind."""
LINES = {"sweep": 4000, "means": 4000, "history": 4000, "changes": 5000}
"""Records of a kind in a page; the files that they come from have the rest."""


@dataclass(frozen=True)
class Beside:
    """All of it may be missing.

    problems: the text of cases, by id.  sizes: how many samples and classes a case has, by id.
    explanations: by `case,dtype,reduction,quantity`.  sweep, means: lines of a `sweep.json`.  history: lines
    of a `history.csv`.  changes: from another report to this one, worst first.  against: the
    other's name, and what is said of the changes as a whole.
    """

    problems: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    explanations: Mapping[str, Sequence[Block]] = field(default_factory=dict)
    sweep: Sequence[Record] = ()
    means: Sequence[Record] = ()
    history: Sequence[Record] = ()
    changes: Sequence[Record] = ()
    against: Sequence[str] = ()

    def views(self) -> list[str]:
        """Which views a page has for it."""
        there = {"changes": self.against, "sweep": [*self.sweep, *self.means], "history": self.history}
        return [name for name, found in there.items() if found]

    def embedded(self) -> str:
        """What is not needed before somebody looks at it, as JSON in a page."""
        found = {name: _fitting(getattr(self, name)[:most]) for name, most in LINES.items()}
        left_out = {name: len(getattr(self, name)) - len(kept) for name, kept in found.items()}
        told = {"against": [shortened(printable(text), LONG) for text in self.against]}
        return embedded({**found, **told, "left_out": left_out, "explanations": self._explanations()})

    def _explanations(self) -> dict[str, list[Block]]:
        kept: dict[str, list[Block]] = {}
        room = ROOM
        for key, blocks in self.explanations.items():
            cut = [
                (kind, (whole if kind == "code" else shortened)(printable(text), LONG), depth)
                for kind, text, depth in blocks
            ]
            room -= sum(len(text) + 20 for _, text, _ in cut)
            if room < 0:
                break
            kept[key] = cut
        return kept


def sizes(cases: Iterable[Case]) -> dict[str, tuple[int, int]]:
    """How many losses a case has before they are reduced, and how many classes each (1: a binary loss)."""
    found = {}
    for case in cases:
        classes = 1
        if case.loss == "categorical":
            classes = case.recipe.classes if isinstance(case, GeneratedCase) else case.predictions.shape[-1]
        found[case.id] = (case.predicted // max(classes, 1), classes)
    return found


def _fitting(lines: Sequence[Record]) -> list[dict[str, Any]]:
    """The first records, as many as there is room for."""
    kept: list[dict[str, Any]] = []
    room = ROOM
    for line in lines:
        clean = _clean(line)
        room -= sum(len(value) if isinstance(value, str | list) else 8 for value in clean.values())
        if room < 0:
            break
        kept.append(clean)
    return kept


def _clean(line: Record) -> dict[str, Any]:
    """A record whose texts are short and printable, and whose numbers JSON has."""
    clean = {name: _value(value) for name, value in line.items()}
    return {**clean, "call": whole(printable(line["call"]), LONG)} if isinstance(line.get("call"), str) else clean


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return shortened(printable(value), LONG)
    if isinstance(value, list | tuple):
        return [_value(one) for one in value[:LONG]]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None if value != value else str(value)
    return value if value is None or isinstance(value, bool | int | float) else shortened(str(value), LONG)

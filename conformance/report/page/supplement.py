"""Additional data of a page besides the rows of its report: builtin values of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from conformance.casefiles.generated_arrays import GeneratedCase
from conformance.casefiles.writing import WritingError, case_file_text
from conformance.model.case import Case
from conformance.model.text import printable, source_or_comment
from conformance.report.page.packing import MAX_TEXT, embed_json, shorten

Record = Mapping[str, Any]
Block = tuple[str, str, int]
"""Kind (`heading`, `prose`, `formula` or `code`), text, and level of indentation."""

MAX_CHARACTERS = 3_000_000
"""Maximum number of characters of all explanations in a page, and of all records of a kind."""
MAX_RECORDS = {"sweep": 4000, "means": 4000, "history": 4000, "changes": 5000}
"""Maximum number of records of a kind in a page; their source files have the rest."""


MAX_PREDICTIONS = 2000
"""Maximum number of predictions of a case that is written out; a generated case is always written as its generator."""


class PageExplanation(NamedTuple):
    """An explanation of why functions do not agree on a problem."""

    functions: Sequence[str]
    """Names of the functions."""
    blocks: Sequence[Block]


@dataclass(frozen=True)
class PageSupplement:
    """Additional data that a page may show; each part may be empty."""

    problems: Mapping[str, str] = field(default_factory=dict)
    """The text of cases, by id."""
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Numbers of samples and classes of cases, by id."""
    explanations: Mapping[str, PageExplanation] = field(default_factory=dict)
    """Explanation by `case,dtype,reduction,quantity`."""
    explained_rows: tuple[int, int] = (0, 0)
    """Number of explained rows among those that do not plainly agree, and the number of all such rows."""
    sweep: Sequence[Record] = ()
    """Lines of a `sweep.json`, and its means."""
    means: Sequence[Record] = ()
    history: Sequence[Record] = ()
    """Lines of a `history.csv`."""
    changes: Sequence[Record] = ()
    """Changes from another report to this one, worst first."""
    against: Sequence[str] = ()
    """The name of the other report, and sentences about the changes as a whole."""

    def views(self) -> list[str]:
        """The views of a page that this data needs."""
        contents = {"changes": self.against, "sweep": [*self.sweep, *self.means], "history": self.history}
        return [name for name, entries in contents.items() if entries]

    def embedded(self) -> str:
        """The parts that are decoded only when they are viewed, as embedded JSON."""
        contents = {
            name: _first_records(getattr(self, name)[:max_records]) for name, max_records in MAX_RECORDS.items()
        }
        omitted = {name: len(getattr(self, name)) - len(entries) for name, entries in contents.items()}
        against = [shorten(printable(text), MAX_TEXT) for text in self.against]
        explained = {"explanations": self._explanations(), "explained_rows": self.explained_rows}
        return embed_json({**contents, "against": against, "omitted": omitted, **explained})

    def _explanations(self) -> dict[str, PageExplanation]:
        explanations: dict[str, PageExplanation] = {}
        remaining = MAX_CHARACTERS
        for key, (functions, blocks) in self.explanations.items():
            cut = [
                (kind, (source_or_comment if kind == "code" else shorten)(printable(text), MAX_TEXT), depth)
                for kind, text, depth in blocks
            ]
            remaining -= sum(len(text) + 20 for _, text, _ in cut)
            if remaining < 0:
                break
            explanations[key] = PageExplanation(functions, cut)
        return explanations


def problems(cases: Iterable[Case]) -> dict[str, str]:
    """The text of cases by id, without large ones and those that cannot be written as a case file."""
    texts = {}
    for case in cases:
        if isinstance(case, GeneratedCase) or case.predictions.size <= MAX_PREDICTIONS:
            try:
                texts[case.id] = case_file_text([case]).partition("\n")[2]  # without the line that names the schema
            except WritingError:
                continue
    return texts


def sizes(cases: Iterable[Case]) -> dict[str, tuple[int, int]]:
    """Number of losses of each case before the reduction, and number of classes (1 for a binary loss), by id."""
    sizes = {}
    for case in cases:
        classes = 1
        if case.loss == "categorical":
            classes = case.recipe.classes if isinstance(case, GeneratedCase) else case.predictions.shape[-1]
        sizes[case.id] = (case.predicted // max(classes, 1), classes)
    return sizes


def _first_records(lines: Sequence[Record]) -> list[dict[str, Any]]:
    """The first records, up to MAX_CHARACTERS."""
    records: list[dict[str, Any]] = []
    remaining = MAX_CHARACTERS
    for line in lines:
        clean = _clean(line)
        remaining -= sum(len(value) if isinstance(value, str | list) else 8 for value in clean.values())
        if remaining < 0:
            break
        records.append(clean)
    return records


def _clean(line: Record) -> dict[str, Any]:
    """A record with short printable texts; numbers that are not finite become text or None."""
    clean = {name: _value(value) for name, value in line.items()}
    return (
        {**clean, "call": source_or_comment(printable(line["call"]), MAX_TEXT)}
        if isinstance(line.get("call"), str)
        else clean
    )


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return shorten(printable(value), MAX_TEXT)
    if isinstance(value, list | tuple):
        return [_value(element) for element in value[:MAX_TEXT]]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None if value != value else str(value)
    return value if value is None or isinstance(value, bool | int | float) else shorten(str(value), MAX_TEXT)

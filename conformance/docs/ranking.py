"""Rank entries of the ledger by their effect on users of a function, and find an example of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from conformance.adapters import registry
from conformance.adapters.libraries import pinned_installations
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import KnownIssue
from conformance.judging.judge import unsupported_assessments
from conformance.judging.plan import CandidateFunction, Item, items_of
from conformance.judging.prepare import Problems, prepare
from conformance.judging.traits import UNUSUAL_TRAITS
from conformance.model.case import Case, is_derivative
from conformance.reference.oracle import Oracle

FindingKind = Literal["number", "gradient", "precision", "acceptance", "crash", "edge"]
KINDS: Mapping[FindingKind, str] = {
    "number": "Wrong numbers for ordinary inputs",
    "gradient": "Wrong gradients for ordinary inputs",
    "precision": "Lost precision",
    "acceptance": "Invalid input that is accepted",
    "crash": "Crashes, and valid input that is rejected",
    "edge": "Edge cases",
}
"""Kinds of issues, worst first, with their headings."""
ACCEPTING = frozenset({"accepted_invalid", "not_nan"})
"""Symptoms of a number that is returned although there is none."""
Entry = Sequence[KnownIssue]
"""One entry in a ledger file: a `KnownIssue` for each case that it names."""


def framework_of(entry: Entry) -> str:
    """The name of the framework of an entry."""
    return entry[0].function.partition(".")[0]


@dataclass(frozen=True, eq=False)
class Example:
    """The most ordinary item to which an entry applies."""

    item: Item
    ordinary: bool
    """Whether its input is an everyday one; see `traits.is_ordinary`."""

    def exact(self, oracle: Oracle) -> str:
        """The exact answer, in the format of `want` in a report."""
        return str(next(unsupported_assessments([(self.item, "")], oracle)).row.cells["want"])


def kind_of(entry: Entry, example: Example | None) -> FindingKind:
    """The kind of an entry.

    example: an example of the entry; without one, its traits tell whether inputs are ordinary.
    """
    first = entry[0]
    if first.kind:
        return cast(FindingKind, first.kind)
    silent = {symptom for symptom in first.symptoms if not symptom.startswith("raised ")}
    if first.status != "disagrees" or (first.symptoms and not silent):
        return "crash"
    if silent & ACCEPTING:
        return "acceptance"
    if silent == {"imprecise"}:
        return "precision"
    if not (example.ordinary if example is not None else UNUSUAL_TRAITS.isdisjoint(first.when)):
        return "edge"
    return "gradient" if all(map(is_derivative, first.quantities)) else "number"


def examples(
    entries: Iterable[Entry], cases: Sequence[Case], is_answered: Callable[[Item], bool]
) -> Iterator[Example | None]:
    """The example of each entry: of an ordinary input, answered, reduced, in float32, small, if possible.

    is_answered: whether the result of an item is known.
    None for an entry without a case that the pinned releases support, such as one about a relation.
    """
    by_id = {case.id: case for case in cases}
    releases = {framework.name: list(pinned_installations(framework)) for framework in registry.frameworks()}
    for entry in entries:
        available = releases.get(framework_of(entry), [])
        shipped = [issue for issue in entry if issue.case in by_id]
        items = [item for issue in shipped for item in _items(issue, by_id[issue.case], available)]
        items.sort(key=lambda item: (not is_answered(item), *_plainness(item)))
        problems = Problems()
        ordinary = next((item for item in items if prepare(item, problems).ordinary), None)
        plainest = ordinary or next(iter(items), None)
        yield Example(plainest, ordinary is not None) if plainest is not None else None


def _items(issue: KnownIssue, case: Case, available: Sequence[Installed]) -> Iterator[Item]:
    """The items on a case to which an issue applies, in any release, mode and device."""
    anywhere = dataclasses.replace(issue, versions="", modes=(), devices=())
    functions = [
        CandidateFunction(installed, function)
        for installed in available
        for function in installed.functions
        if issue.matches_function(function.name)
    ]
    for problem in case.representative.problems() if functions else ():
        for item in items_of(case, problem, functions):
            if anywhere.matches_except_case(item.key, item.quantity):
                yield item


def _plainness(item: Item) -> tuple[bool, bool, int]:
    return item.reduction == "none", item.dtype != "float32", item.case.predicted

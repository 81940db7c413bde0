"""The ledger: which rows are known to fail, in which versions, and why.  It is strict both ways.

A known discrepancy is an expected failure; one that has gone away fails the run; an entry that matches
no case or no function is an error, with file and line.  A row is known if its case is named, or has the traits that
bring the discrepancy about, and if it is wrong in the way that the entry documents.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from conformance.adapters.registry import within
from conformance.casefiles.document import read_document, shown
from conformance.casefiles.loading import KNOWN, files_below
from conformance.model.errors import CaseErrors, CaseFileError
from conformance.model.row_key import RowKey

SCHEMA = "known.schema.json"
SWEPT = "sweep/"
"""What ids begin with that name no case but a region of a sweep; `conformance sweep` holds these entries to account."""
HARVESTED = "harvest/"
"""What ids of cases begin with that are read at run time from other projects' tests, and are not always there."""
ELSEWHERE = (SWEPT, HARVESTED)
"""What ids begin with that are not in the folder of cases; what they are in holds such entries to account."""
RELATION = "relation/"
"""What the case of an entry about a relation begins with: `relation/<its name>/<case>`, or `relation/<its name>/asks/`
and the options and layouts that one side or the other asks for, sorted, with / between them."""

Status = Literal["disagrees", "crashed", "timed_out"]

_FINITE = frozenset({"zero", "imprecise", "too_small", "too_large"})
_OF_GRADIENTS = {
    **dict.fromkeys(("nan", "inf", "minus_inf"), frozenset({"nan", "inf", "minus_inf", "zero"})),
    "not_nan": frozenset({"not_nan", *_FINITE}),
    **dict.fromkeys(_FINITE, _FINITE),
}
"""How a gradient may be wrong for what makes a loss wrong, by the symptom of the loss; others stay what they are."""
_OTHER = frozenset({"crashed", "timed_out"})
"""Symptoms that are statuses of their own."""


@dataclass(frozen=True)
class Known:
    """One known discrepancy.

    case, function: id and name, or a glob in which * stands for anything; see `RELATION` for what it is where a
    relation is broken.  versions: PEP 440 specifiers, empty for all.  dtypes, reductions, variants: empty for all.
    when: traits of a problem that bring it about, also where no case is named, as in users' and drawn cases; empty for
    what cannot be said in traits.  symptoms: in which ways the rows are wrong, empty for any; see `verdict.Verdict`.
    reproducer: Python source; shows: what it prints.
    """

    case: str
    function: str
    versions: str = ""
    dtypes: tuple[str, ...] = ()
    reductions: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    quantities: tuple[str, ...] = ("loss",)
    when: tuple[str, ...] = ()
    symptoms: tuple[str, ...] = ()
    status: Status = "disagrees"
    reason: str = ""
    see: str = ""
    reproducer: str = ""
    shows: str = ""
    path: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.function} on {self.case}"

    @property
    def told(self) -> str:
        """Why, and where to read more."""
        return f"{self.reason} ({self.see})" if self.see else self.reason

    @property
    def relation(self) -> str:
        """The name of the relation that this entry says is broken; "" for an entry about cases."""
        return self.case.split("/")[1] if self.case.startswith(RELATION) else ""

    @property
    def of_case(self) -> str:
        """The id or glob of the cases themselves, whatever it is about them; * where it is about what is asked."""
        case = self.case.removeprefix(f"{RELATION}{self.relation}/") if self.relation else self.case
        return "*" if self.relation and case.startswith("asks/") else case

    def names(self, case: str) -> bool:
        """Whether `case`, an id, is one of those this entry is about."""
        return _glob(self.case).fullmatch(case) is not None

    def concerns(self, function: str) -> bool:
        """Whether `function` is one of those this entry is about."""
        return _glob(self.function).fullmatch(function) is not None

    def documents(self, symptoms: Collection[str], gradient: bool = False) -> bool:
        """Whether a row that is wrong in these ways is wrong as the entry says.

        gradient: whether the row is a gradient and the entry about the loss.
        """
        if self.status != "disagrees" or not self.symptoms:
            return set(symptoms) == {self.status} if self.status != "disagrees" else _OTHER.isdisjoint(symptoms)
        due = set(self.symptoms)
        if gradient:
            due |= {other for symptom in self.symptoms for other in _OF_GRADIENTS.get(symptom, ())}
        return bool(symptoms) and due.issuperset(symptoms)

    def matches(self, key: RowKey) -> bool:
        """Whether the row is one of those this entry is about."""
        return self.names(key.case) and self.holds(key, key.quantity)

    def holds(self, key: RowKey, quantity: str) -> bool:
        """Whether a row is one of those this entry is about, its case left aside.

        quantity: what the entry has to be about; an entry about the loss may explain a gradient.
        """
        return (
            quantity in self.quantities
            and self.concerns(key.function)
            and (not self.dtypes or key.dtype in self.dtypes)
            and (not self.reductions or key.reduction in self.reductions)
            and (not self.variants or key.backend in self.variants)
            and within(key.version, self.versions)
        )


@cache
def _glob(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, text.split("*"))))


class Ledger:
    """Entries, indexed by case and function; of several that name a row's case the first counts.

    others: entries whose cases are others than those that are run: they match by their traits only.
    """

    def __init__(self, entries: Iterable[Known] = (), others: Iterable[Known] = ()) -> None:
        self.entries = tuple(entries)
        self.others = tuple(others)
        self._about: dict[tuple[str, str], list[Known]] = {}
        self._of: dict[str, list[Known]] = {}
        self._with_traits = [entry for entry in (*self.entries, *self.others) if entry.when]

    def find(self, key: RowKey, symptoms: Collection[str] | None = None) -> Known | None:
        """The entry that knows this row by its case, if any.

        symptoms: in which ways the row is wrong; the entry documents them.  What makes a loss wrong may make its
        gradient wrong, too.  None: the entry for the row as it should be, whatever its symptoms.
        """
        about = self._about.get((key.case, key.function))
        if about is None:
            if key.case not in self._of:
                self._of[key.case] = [entry for entry in self.entries if entry.names(key.case)]
            about = [entry for entry in self._of[key.case] if entry.concerns(key.function)]
            self._about[key.case, key.function] = about
        return _first(about, key, symptoms)

    def cause(self, traits: Callable[[], frozenset[str]], key: RowKey, symptoms: Collection[str] = ()) -> Known | None:
        """The entry whose conditions a problem meets, and that documents how its row is wrong; whatever its case.

        Of several, the one with most conditions counts, then the first: what brings about less is the truer reason.
        traits: of the problem; called where an entry is about such rows at all.
        """
        about = [entry for entry in self._with_traits if entry.concerns(key.function)]
        about = [entry for entry in about if traits().issuperset(entry.when)]
        about.sort(key=lambda entry: -len(entry.when))
        return _first(about, key, symptoms)

    def unmatched(self, cases: Collection[str], functions: Collection[str]) -> list[Known]:
        """The entries that name no function, or no case, among all that there are."""
        return [
            entry
            for entry in self.entries
            if not any(map(entry.concerns, functions)) or not any(map(_glob(entry.of_case).fullmatch, cases))
        ]

    def unused(self, asked: Iterable[RowKey]) -> list[Known]:
        """The entries that are found for none of the rows that were asked."""
        used = {id(self.find(key)) for key in asked}
        return [entry for entry in self.entries if id(entry) not in used]


def _first(entries: Iterable[Known], key: RowKey, symptoms: Collection[str] | None) -> Known | None:
    """The first entry that is about a row, its case left aside; about its gradient before its loss."""
    entries = list(entries)
    for of in (key.quantity,) if symptoms is None else dict.fromkeys((key.quantity, "loss")):
        for entry in entries:
            documented = symptoms is None or entry.documents(symptoms, gradient=of != key.quantity)
            if documented and entry.holds(key, of):
                return entry
    return None


def read(folder: Path) -> tuple[list[Known], list[CaseFileError]]:
    """The entries of `known/` below a case folder, in the order of files and lines, and what is wrong there."""
    known = Path(folder) / KNOWN
    entries: list[Known] = []
    errors: list[CaseFileError] = []
    if not os.path.lexists(known):
        return entries, errors
    files, errors = files_below(known)
    for file in files:
        of_file, wrong = read_file(file)
        if file.parent != known:
            advice = f"move it to {shown(known)}"
            wrong.append(CaseFileError(shown(file), 0, 0, "", "a ledger in a folder of its own", advice))
        errors += wrong
        entries += [] if wrong else of_file
    return entries, errors


def load(folder: Path) -> Ledger:
    """The ledger of a case folder, empty where it has none; raises CaseErrors if anything is wrong."""
    entries, errors = read(folder)
    if errors:
        raise CaseErrors(tuple(errors))
    return Ledger(entries)


def read_file(file: Path) -> tuple[list[Known], list[CaseFileError]]:
    """The entries of one framework's file, which is called as the framework is, and what is wrong with it."""
    document, errors = read_document(file, SCHEMA)
    if document is None or errors:
        return [], errors
    entries = []
    seen: dict[Any, int] = {}
    for index, said in enumerate(document.value["known"]):
        path = ("known", index)
        line = document.spot(path)[0]
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in said.items()
        }
        several = fields.pop("case")
        entry, *others = (
            Known(case=case, **fields, path=document.path, line=line)
            for case in (several if isinstance(several, tuple) else (several,))
        )
        if not entry.function.startswith(file.stem + "."):
            advice = f"write {file.stem}.{entry.function.partition('.')[2]}, or move the entry"
            message = f"{entry.function} is no function of {file.stem}, whose file this is"
            errors.append(document.error((*path, "function"), message, advice))
        try:
            SpecifierSet(entry.versions)
        except InvalidSpecifier:
            message = f'"{entry.versions}" is not a PEP 440 specifier'
            errors.append(document.error((*path, "versions"), message, 'write "<2.1" or ">=1.9,<1.11"'))
        about = (
            several,
            entry.function,
            entry.versions,
            entry.dtypes,
            entry.reductions,
            entry.variants,
            entry.quantities,
        )
        if about in seen:
            errors.append(document.error(path, f"the same as the entry on line {seen[about]}", "remove one"))
        seen.setdefault(about, line)
        entries += [entry, *others]
    return entries, errors

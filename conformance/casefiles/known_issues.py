"""The ledger of known issues: which rows are expected to fail, in which versions, and why. It is strict both ways.

A known issue is an expected failure. One that has disappeared fails the run, and an entry that matches no case or no
function is an error with file and line. A row matches if the entry names its case, or its problem has the entry's
traits, and if it is wrong in a way that the entry documents.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from conformance.adapters.registry import within
from conformance.casefiles.document import Document, JsonPath, display_path, read_document
from conformance.casefiles.loading import LEDGER_FOLDER, files_below
from conformance.model.case import FOLLOWS_FROM
from conformance.model.errors import CaseErrors, CaseFileError
from conformance.model.row_key import RowKey

SCHEMA = "known.schema.json"
SWEEP_PREFIX = "sweep/"
"""Prefix of ids that name a region of a sweep and no case; `conformance sweep` checks these entries."""
HARVEST_PREFIX = "harvest/"
"""Prefix of the ids of harvested cases, which are read at run time from other projects' tests and may be absent."""
EXCLUDED_PREFIX = "excluded/"
"""Prefix of ids that stand for traits, separated by /, of problems on which a function is never called, because it
would crash the process.  The function excludes them, or has no adapter; the reproducer shows the issue.
"""
EXTERNAL_PREFIXES = (SWEEP_PREFIX, HARVEST_PREFIX, EXCLUDED_PREFIX)
"""Prefixes of ids that are not in the case folder; entries with such ids are checked elsewhere."""
RELATION_PREFIX = "relation/"
"""Prefix of the `case` of an entry about a relation: `relation/NAME/CASE`, or `relation/NAME/asks/` and the options
and layouts of either side, sorted and joined by /.
"""

KnownStatus = Literal["disagrees", "crashed", "timed_out"]

_FINITE_SYMPTOMS = frozenset({"zero", "imprecise", "too_small", "too_large"})
_GRADIENT_SYMPTOMS = {
    **dict.fromkeys(("nan", "inf", "minus_inf"), frozenset({"nan", "inf", "minus_inf", "zero"})),
    "not_nan": frozenset({"not_nan", *_FINITE_SYMPTOMS}),
    **dict.fromkeys(_FINITE_SYMPTOMS, _FINITE_SYMPTOMS),
}
"""Symptoms of a gradient that a symptom of the loss explains; other symptoms explain only themselves."""
_STATUS_SYMPTOMS = frozenset({"crashed", "timed_out"})
"""Symptoms that are statuses of their own."""


@dataclass(frozen=True)
class KnownIssue:
    """One entry of the ledger."""

    case: str
    """Id of the case, or a pattern in which * matches any text; see `RELATION_PREFIX` for relations."""
    function: str
    """Name of the function, or such a pattern."""
    twins: tuple[str, ...] = ()
    """Other functions of the framework with the same computation, or such patterns, to which the entry applies, too."""
    versions: str = ""
    """PEP 440 specifiers; empty means all versions."""
    dtypes: tuple[str, ...] = ()
    """Empty means all; so does an empty `reductions`, `variants`, `modes` or `devices`."""
    reductions: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    quantities: tuple[str, ...] = ("loss",)
    when: tuple[str, ...] = ()
    """Traits of the problems that show the issue, for cases that the entry does not name, such as users' and
    generated cases. Empty if traits cannot describe them.
    """
    symptoms: tuple[str, ...] = ()
    """Symptoms of the rows, see `verdict.Verdict`; empty means any."""
    status: KnownStatus = "disagrees"
    reason: str = ""
    see: str = ""
    """URL of the issue in the framework's tracker."""
    reproducer: str = ""
    """Python source."""
    shows: str = ""
    """Output of the reproducer."""
    expected: str = ""
    """Correct output: text, or `FORMULA = NUMBER`; see `KnownIssue.due`."""
    kind: str = ""
    """Kind of issue, one of `ranking.KINDS`; empty to derive it from the symptoms."""
    path: str = ""
    """The file that contains the entry."""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.function} on {self.case}"

    @property
    def summary(self) -> str:
        """The reason, with a link."""
        return f"{self.reason} ({self.see})" if self.see else self.reason

    @property
    def due(self) -> str:
        """The correct output of the reproducer, or the expected exception; "" if unknown."""
        return self.expected or ("an exception" if self.symptoms == ("accepted_invalid",) else "")

    @property
    def relation_name(self) -> str:
        """Name of the relation that is violated; "" for an entry about cases."""
        return self.case.split("/")[1] if self.case.startswith(RELATION_PREFIX) else ""

    @property
    def case_pattern(self) -> str:
        """Pattern of the ids of the cases, without a relation's prefix; * for an entry about what a relation's sides
        ask.
        """
        case = self.case.removeprefix(f"{RELATION_PREFIX}{self.relation_name}/") if self.relation_name else self.case
        return "*" if self.relation_name and case.startswith("asks/") else case

    def matches_case(self, case: str) -> bool:
        """Whether the entry names the case with this id."""
        return _compile_glob(self.case).fullmatch(case) is not None

    def matches_function(self, function: str) -> bool:
        """Whether the entry names the function, directly or as a twin."""
        return any(_compile_glob(name).fullmatch(function) for name in (self.function, *self.twins))

    def explains(self, symptoms: Collection[str], gradient: bool = False) -> bool:
        """Whether the entry documents a row with these symptoms.

        gradient: whether the row is a gradient and the entry about the loss.
        """
        if self.status != "disagrees" or not self.symptoms:
            return (
                set(symptoms) == {self.status} if self.status != "disagrees" else _STATUS_SYMPTOMS.isdisjoint(symptoms)
            )
        expected = set(self.symptoms)
        if gradient:
            expected |= {implied for symptom in self.symptoms for implied in _GRADIENT_SYMPTOMS.get(symptom, ())}
        return bool(symptoms) and expected.issuperset(symptoms)

    def matches_except_case(self, key: RowKey, quantity: str) -> bool:
        """Whether the entry applies to the row, regardless of its case.

        quantity: the quantity that the entry must be about; an entry about the loss may explain quantities computed
        from it.
        """
        return (
            quantity in self.quantities
            and self.matches_function(key.function)
            and (not self.dtypes or key.dtype in self.dtypes)
            and (not self.reductions or key.reduction in self.reductions)
            and (not self.variants or key.backend in self.variants)
            and (not self.modes or key.mode in self.modes)
            and (not self.devices or key.device in self.devices)
            and within(key.version, self.versions)
        )


@cache
def _compile_glob(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, text.split("*"))))


def _names_any(pattern: str, names: Collection[str]) -> bool:
    return pattern in names or ("*" in pattern and any(map(_compile_glob(pattern).fullmatch, names)))


class Ledger:
    """Entries, indexed by case and function. If several name a row's case, the first counts.

    traits_only: entries of another case folder, which match by traits only.
    """

    def __init__(self, entries: Iterable[KnownIssue] = (), traits_only: Iterable[KnownIssue] = ()) -> None:
        self.entries = tuple(entries)
        self.traits_only = tuple(traits_only)
        self._by_case_and_function: dict[tuple[str, str], list[KnownIssue]] = {}
        self._by_case: dict[str, list[KnownIssue]] = {}
        self._named: dict[str, list[tuple[int, KnownIssue]]] = {}
        self._patterns: list[tuple[int, KnownIssue]] = []
        for number, entry in enumerate(self.entries):
            of_case = self._patterns if "*" in entry.case else self._named.setdefault(entry.case, [])
            of_case.append((number, entry))
        self._with_traits = [entry for entry in (*self.entries, *self.traits_only) if entry.when]
        self._with_traits_by_function: dict[str, list[KnownIssue]] = {}

    def find(self, key: RowKey, symptoms: Collection[str] | None = None) -> KnownIssue | None:
        """Return the entry that names the row's case, if there is one.

        symptoms: symptoms of the row, which the entry must document; a symptom of the loss may also explain its
        gradient.  None means that the row is right, and accepts an entry with any symptoms.
        """
        candidates = self._by_case_and_function.get((key.case, key.function))
        if candidates is None:
            if key.case not in self._by_case:
                self._by_case[key.case] = self._entries_about(key.case)
            candidates = [entry for entry in self._by_case[key.case] if entry.matches_function(key.function)]
            self._by_case_and_function[key.case, key.function] = candidates
        return _first_match(candidates, key, symptoms)

    def _entries_about(self, case: str) -> list[KnownIssue]:
        """The entries that name the case with this id, in their order."""
        patterns = (numbered for numbered in self._patterns if numbered[1].matches_case(case))
        return [entry for _, entry in sorted([*self._named.get(case, ()), *patterns], key=operator.itemgetter(0))]

    def find_by_traits(
        self, traits: Callable[[], frozenset[str]], key: RowKey, symptoms: Collection[str] = ()
    ) -> KnownIssue | None:
        """Return the entry whose traits the problem has and that documents the symptoms, for any case.

        Of several, the one with the most traits applies, then the first one: the more specific reason is more likely
        true.

        traits: called only if an entry exists for such rows.
        """
        if key.function not in self._with_traits_by_function:
            self._with_traits_by_function[key.function] = [
                entry for entry in self._with_traits if entry.matches_function(key.function)
            ]
        of_function = self._with_traits_by_function[key.function]
        candidates = [entry for entry in of_function if traits().issuperset(entry.when)]
        candidates.sort(key=lambda entry: -len(entry.when))
        return _first_match(candidates, key, symptoms)

    def knows_crash(self, function: str, version: str) -> bool:
        """Whether a function of a release crashes its process on some input."""
        return any(
            entry.status == "crashed" and entry.matches_function(function) and within(version, entry.versions)
            for entry in (*self.entries, *self.traits_only)
        )

    def unmatched(self, cases: Collection[str], functions: Collection[str]) -> list[KnownIssue]:
        """Entries that name no existing function or no existing case."""
        cases, functions = set(cases), set(functions)
        return [
            entry
            for entry in self.entries
            if not all(_names_any(name, functions) for name in (entry.function, *entry.twins))
            or not _names_any(entry.case_pattern, cases)
        ]


def _first_match(entries: Iterable[KnownIssue], key: RowKey, symptoms: Collection[str] | None) -> KnownIssue | None:
    """The first entry that matches a row except for its case; entries about its quantity come before those about
    quantities from which it is computed.
    """
    entries = list(entries)
    followed = () if symptoms is None else FOLLOWS_FROM[key.quantity]
    for quantity in (key.quantity, *followed):
        for entry in entries:
            documented = symptoms is None or entry.explains(symptoms, gradient=quantity != key.quantity)
            if documented and entry.matches_except_case(key, quantity):
                return entry
    return None


def read(folder: Path, *, strict: bool = False) -> tuple[list[KnownIssue], list[CaseFileError]]:
    """Read the entries below the `known/` of a case folder, in the order of files and lines, and the errors in them.

    strict: whether the first line of each file must name the schema.
    """
    known = Path(folder) / LEDGER_FOLDER
    entries: list[KnownIssue] = []
    errors: list[CaseFileError] = []
    if not os.path.lexists(known):
        return entries, errors
    files, errors = files_below(known)
    for file in files:
        entries_of_file, errors_of_file = read_file(file, strict=strict)
        if file.parent != known:
            advice = f"move it to {display_path(known)}"
            errors_of_file.append(
                CaseFileError(display_path(file), 0, 0, "", "a ledger in a folder of its own", advice)
            )
        errors += errors_of_file
        entries += [] if errors_of_file else entries_of_file
    return entries, errors


def load(folder: Path) -> Ledger:
    """The ledger of a case folder, empty if there is none. Raises CaseErrors."""
    entries, errors = read(folder)
    if errors:
        raise CaseErrors(tuple(errors))
    return Ledger(entries)


def read_file(file: Path, *, strict: bool = False) -> tuple[list[KnownIssue], list[CaseFileError]]:
    """Read the entries of one framework's file, which is named after the framework, and the errors in it."""
    document, errors = read_document(file, SCHEMA, strict=strict)
    listed = document.value.get("known") if document is not None and isinstance(document.value, dict) else None
    if document is None or not isinstance(listed, list):
        return [], errors
    entries = []
    lines: dict[Any, int] = {}
    for index, content in enumerate(listed):
        path = ("known", index)
        errors += _field_errors(document, path, content, file.stem)
        if not isinstance(content, dict) or document.has_error_at(path):
            continue
        line = document.position(path)[0]
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
        }
        cases = fields.pop("case")
        of_entry = [
            KnownIssue(case=case, **fields, path=document.path, line=line)
            for case in (cases if isinstance(cases, tuple) else (cases,))
        ]
        first = of_entry[0]
        identity = (cases, *(getattr(first, name) for name in _IDENTITY))
        if identity in lines:
            errors.append(document.error(path, f"the same as the entry on line {lines[identity]}", "remove one"))
        lines.setdefault(identity, line)
        entries += of_entry
    return entries, sorted(errors, key=lambda error: (error.line, error.column))


_IDENTITY = ("function", "versions", "dtypes", "reductions", "variants", "modes", "devices", "quantities")
"""Fields that, together with the cases, identify an entry."""


def _field_errors(document: Document, path: JsonPath, content: Any, framework: str) -> Iterator[CaseFileError]:
    """Errors in an entry's function and versions, if the schema accepts them."""
    fields = content if isinstance(content, dict) else {}
    function, versions = (
        "" if document.has_error_at((*path, name)) else str(fields.get(name, "")) for name in ("function", "versions")
    )
    if function and not function.startswith(f"{framework}."):
        advice = f"write {framework}.{function.partition('.')[2]}, or move the entry"
        message = f"{function} is not a function of {framework}, whose file this is"
        yield document.error((*path, "function"), message, advice)
    for twin in () if document.has_error_at((*path, "twins")) else fields.get("twins", ()):
        if not twin.startswith(f"{framework}."):
            message = f"{twin} is not a function of {framework}, whose file this is"
            yield document.error((*path, "twins"), message, "name functions of the same framework")
    try:
        SpecifierSet(versions)
    except InvalidSpecifier:
        message = f'"{versions}" is not a PEP 440 specifier'
        yield document.error((*path, "versions"), message, 'write "<2.1" or ">=1.9,<1.11"')

"""The adapters' documentation of a function in a version, and its changes between two versions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from conformance.adapters import registry
from conformance.adapters.contract import DocumentedConvention, Function
from conformance.model.convention import DEFINITION, Convention, value_text

RESULT_DTYPE = "result_dtype"
"""Pseudo-field in addition to those of `Convention`: the declared dtype of results."""


@dataclass(frozen=True)
class DocumentedChange:
    """A documented choice that changed in a later version of a function."""

    field: str
    """A field of `Convention`, or RESULT_DTYPE."""
    old: str
    """The earlier value as text; for a set, the removed member."""
    new: str
    """The later value as text; for a set, the added member."""
    since: str
    """First version listed by the adapter that has the new value; "" if unknown."""
    versions: str
    """The versions for which the adapter documents the new value, as PEP 440 specifiers."""
    source: str
    """Link to the documentation of the new value."""

    def __str__(self) -> str:
        return self.text()

    def text(self, say: Callable[[str], str] = str) -> str:
        """`field old -> new (since version)`.  say: translates templates."""
        if self.old and self.new:
            text = f"{self.field} {self.old} -> {self.new}"
        else:
            text = f"{self.field} {self.new}" if self.new else say("no longer {}").format(f"{self.field} {self.old}")
        return text + (say(" (since {})").format(self.since) if self.since else "")


@dataclass(frozen=True)
class ConventionChange:
    """A `DocumentedChange` for one kind of target, with the values by which a row shows it."""

    change: DocumentedChange
    old: str
    """The value in the convention of a row before the change, if it names the field."""
    new: str
    """The same after the change."""
    member: str = ""
    """The member of a set that was added or removed; "" for a field that is not a set."""


def find_function(name: str, version: str) -> Function | None:
    """The adapter's description of a function in a version, for the default backend if there is one, or None."""
    for framework in registry.frameworks():
        default = framework.backend({})
        matches = [
            function
            for function in framework.functions
            if function.name == name and registry.within(version, function.versions)
        ]
        if matches:
            return min(matches, key=lambda function: function.backends is not None and default not in function.backends)
    return None


def description_changed(name: str, before: str, after: str) -> bool:
    """Whether an adapter's descriptions of a function in two versions differ.

    Without an adapter, different versions are assumed to differ.
    """
    old, new = find_function(name, before), find_function(name, after)
    if not (before and after):
        return False
    return before != after if old is None and new is None else old is not new


def changed_fields(name: str, before: str, after: str) -> frozenset[str] | None:
    """Fields of the convention, and RESULT_DTYPE, whose documentation differs between two versions of a function.

    Returns None if no adapter describes the function in one of the versions.
    """
    old, new = find_function(name, before), find_function(name, after)
    if old is None or new is None:
        return None
    sides = [
        [(documented.targets, documented.convention) for documented in conventions_at(side, at)]
        for side, at in ((old, before), (new, after))
    ]

    def values(conventions: list[tuple[Any, Convention]], field: str) -> list[tuple[Any, Any]]:
        return [(targets, getattr(convention, field)) for targets, convention in conventions]

    names = [field.name for field in dataclasses.fields(Convention)]
    changed = {field for field in names if values(sides[0], field) != values(sides[1], field)}
    return frozenset(changed | ({RESULT_DTYPE} if old.result_dtype != new.result_dtype else set()))


def convention_changes(name: str, before: str, after: str) -> Iterator[ConventionChange]:
    """The documented choices of a function that differ between two versions, with release and source."""
    old, new = find_function(name, before), find_function(name, after)
    if old is None or new is None:
        return
    steps = {
        at: description
        for at in _listed_versions(name, before, after)
        if (description := find_function(name, at)) is not None
    }
    if old.result_dtype != new.result_dtype:
        since = _first_version({at: description.result_dtype for at, description in steps.items()}, new.result_dtype)
        change = DocumentedChange(
            RESULT_DTYPE, old.result_dtype, new.result_dtype, since, new.versions, new.documentation
        )
        yield ConventionChange(change, old.result_dtype, new.result_dtype)
    for documented in conventions_at(new, after):
        earlier = _with_same_scope(documented, conventions_at(old, before))
        if earlier is not None:
            matching = {
                at: _with_same_scope(documented, conventions_at(description, at)) for at, description in steps.items()
            }
            yield from _convention_changes(
                earlier, documented, {at: choice for at, choice in matching.items() if choice is not None}
            )


def conventions_at(function: Function, version: str) -> list[DocumentedConvention]:
    """The documented conventions of a function that apply to a version."""
    return [documented for documented in function.conventions if registry.within(version, documented.versions)]


def _convention_changes(
    old: DocumentedConvention, new: DocumentedConvention, steps: Mapping[str, DocumentedConvention]
) -> Iterator[ConventionChange]:
    """The choices that differ between two documented conventions.

    steps: documented conventions in each version between them.
    """
    for field in dict.fromkeys([*old.convention.choices(), *new.convention.choices()]):
        a, b = getattr(old.convention, field), getattr(new.convention, field)
        chosen = {at: getattr(documented.convention, field) for at, documented in steps.items()}
        texts = value_text(a) or "none", value_text(b) or "none"
        if isinstance(a, frozenset) and isinstance(b, frozenset):
            for member in sorted(a ^ b):
                since = _first_version({at: member in value for at, value in chosen.items()}, member in b)
                removed, added = (member, "") if member in a else ("", member)
                documented = steps.get(since, new)
                change = DocumentedChange(field, removed, added, since, documented.versions, documented.documentation)
                yield ConventionChange(change, *texts, member)
        elif a != b:
            since = _first_version(chosen, b)
            documented = steps.get(since, new)
            yield ConventionChange(
                DocumentedChange(field, *texts, since, documented.versions, documented.documentation), *texts
            )


def _first_version(values: Mapping[str, Any], current: Any) -> str:
    """The first version from which on the value is the current one; "" if unknown.

    values: the values by version, in ascending order.
    """
    since = ""
    for version, value in values.items():
        if value != current:
            since = ""
        elif not since:
            since = version
    return since


def _with_same_scope(
    documented: DocumentedConvention, conventions: list[DocumentedConvention]
) -> DocumentedConvention | None:
    """The first documented convention with the same scope, else the first one for all targets."""
    matches = [candidate for candidate in conventions if _scope(candidate) == _scope(documented)] or [
        candidate for candidate in conventions if candidate.targets is None
    ]
    return matches[0] if matches else None


def _scope(documented: DocumentedConvention) -> DocumentedConvention:
    """The scope: all fields except the convention, the versions and the link."""
    return dataclasses.replace(documented, convention=DEFINITION, versions="", documentation="")


def _listed_versions(name: str, before: str, after: str) -> list[str]:
    """Versions in (before, after] at which an adapter's description of a function changes, and `after` itself."""
    try:
        low, high = sorted((Version(Version(before).public), Version(Version(after).public)))
    except InvalidVersion:
        return [after]
    versions: set[Version] = set()
    for framework in registry.frameworks():
        for function in framework.functions:
            if function.name == name:
                for text in (function.versions, *(documented.versions for documented in function.conventions)):
                    versions |= {Version(specifier.version.removesuffix(".*")) for specifier in SpecifierSet(text)}
    return [str(version) for version in sorted(versions | {high}) if low < version <= high]

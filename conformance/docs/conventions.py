"""The meaning of each choice of a convention, and which functions document it in which releases."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from packaging.version import Version

from conformance.adapters import registry
from conformance.adapters.contract import Function, Rule
from conformance.docs.markup import code, link, plain, prose, rows
from conformance.explain.meanings import KIND_MEANINGS, meaning
from conformance.model import convention
from conformance.model.convention import DEFINITION, EDGE, INVALID, Convention

FIELDS = tuple(field.name for field in dataclasses.fields(Convention))
BEFORE_RELEASES = "0"
"""A version older than all releases."""


@dataclass(frozen=True)
class Documented:
    """Where a choice is documented."""

    since: str
    """The release from which it holds, up to the next that is named."""
    backend: str
    """The backend."""
    target: str
    """The kind of labels."""
    features: tuple[str, ...]


@functools.cache
def field_description(name: str) -> str:
    """The docstring of a field in the source of `Convention`."""
    body = ast.parse(inspect.getsource(convention)).body
    [found] = [node for node in body if isinstance(node, ast.ClassDef) and node.name == Convention.__name__]
    for field, after in zip(found.body, found.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and field.target.id == name:
            assert isinstance(after, ast.Expr), name
            return " ".join(str(ast.literal_eval(after.value)).split())
    raise LookupError(f"a convention has no field {name}")


def choice_section(name: str) -> str:
    """A field of a convention: what it says, its choices, and who makes them, as Markdown."""
    made = list(_choices_of(name))
    lines = []
    for choice in _choices(name, (choice for choice, *_ in made)):
        functions = _documented_by(name, choice, made)
        default = "the definition" if choice == getattr(DEFINITION, name) else ""
        lines.append([_shown(choice), _sentence(name, choice), functions or default or "none of those known here"])
    return f"{prose(field_description(name))}\n\n{rows(('choice', 'a function with it', 'documented by'), lines)}"


def kinds_table() -> str:
    """The kinds of input outside the definition's domain, and at its edge, as Markdown."""
    lines = []
    for name in sorted(INVALID | EDGE, key=lambda name: (name in EDGE, name)):
        domain = "inside, at the edge" if name in EDGE else "outside"
        lines.append([code(name), plain(KIND_MEANINGS[name]), domain])
    return rows(("kind of input", "what it is", "the definition's domain"), lines)


DocumentedChoices = tuple[Any, Function, Documented, str]
"""(choice, function, where, the link to where it is documented)."""


@functools.cache
def _iter_documented() -> tuple[tuple[Function, Documented, Rule], ...]:
    """Every function in every place where it is described, and the rule that holds there."""
    return tuple(
        (function, place, rule)
        for framework in registry.frameworks()
        for since in boundaries(framework.name)
        for backend in framework.backends or ("",)
        for function in registry.functions_in(framework, since, backend)
        for place, rule in _places(function, since, backend)
    )


def _places(function: Function, since: str, backend: str) -> Iterator[tuple[Documented, Rule]]:
    for target in sorted(function.targets):
        for features in {frozenset[str](), *(rule.features for rule in function.rules)}:
            rule = registry.rule_for(function, since, target, backend, features)
            if rule.features == features:
                yield Documented(since, backend, target, tuple(sorted(features))), rule


def _choices_of(name: str) -> Iterator[DocumentedChoices]:
    """Every choice of a field that is not the definition's."""
    for function, place, rule in _iter_documented():
        value = getattr(rule.convention, name)
        for choice in sorted(value) if isinstance(value, frozenset) else [value]:
            if choice != getattr(DEFINITION, name):
                yield choice, function, place, rule.source or function.source


@functools.cache
def boundaries(name: str) -> tuple[str, ...]:
    """The releases at which a description of a framework begins or ends, ascending, the first older than all."""
    [functions] = [framework.functions for framework in registry.frameworks() if framework.name == name]
    said = [function.versions for function in functions]
    said += [rule.versions for function in functions for rule in function.rules]
    named = {found for text in said for found in re.findall(r"[\d.]+", text)}
    return (BEFORE_RELEASES, *sorted(named, key=Version))


def _choices(name: str, made: Iterable[Any]) -> list[Any]:
    """Every choice that a field has: those of its type, those that are described, and those that are made."""
    hint = typing.get_type_hints(Convention)[name]
    if hint == frozenset[str]:
        return sorted(set(made), key=lambda kind: (kind in EDGE, kind))
    stated = [choice for part in (hint, *typing.get_args(hint)) for choice in typing.get_args(part)]
    literal = [choice for choice in stated if isinstance(choice, str)]
    return list(dict.fromkeys([getattr(DEFINITION, name), *literal, *made]))


def _shown(choice: Any) -> str:
    return code(f"{choice:.4g}" if isinstance(choice, float) else choice)


def _sentence(name: str, choice: Any) -> str:
    if name in ("accepts", "rejects"):
        return plain(f"{name} {KIND_MEANINGS[choice]}")
    return plain(meaning(name, choice))


def _documented_by(name: str, choice: Any, made: list[DocumentedChoices]) -> str:
    """The functions that make a choice, each with the releases, backends and labels where it does."""
    found: dict[str, list[tuple[Documented, str]]] = {}
    for one, function, place, source in made:
        if one == choice and type(one) is type(choice):
            found.setdefault(function.name, []).append((place, source))
    return "<br>".join(_function_entry(function, places) for function, places in sorted(found.items()))


def _function_entry(function: str, places: list[tuple[Documented, str]]) -> str:
    """A function, where it makes the choice, and where the newest of these releases documents it."""
    bounds = boundaries(function.partition(".")[0])
    newest = max(places, key=lambda place: (bounds.index(place[0].since), not place[0].features))[0]
    here = (newest.since, newest.backend, newest.features)
    links = dict.fromkeys(source for place, source in places if (place.since, place.backend, place.features) == here)
    told = ", ".join(link("documented", source) for source in links)
    where = "; ".join(_locations_text(function, {place for place, _ in places}))
    return f"{code(function)}{f' ({plain(where)})' if where else ''}, {told}"


def _locations_text(function: str, places: set[Documented]) -> Iterator[str]:
    """In words, where a choice is made: nothing for everywhere that the function is."""
    everywhere = {place for one, place, _ in _iter_documented() if one.name == function}
    if places == everywhere:
        return
    groups: dict[tuple[frozenset[tuple[str, str]], tuple[str, ...]], list[str]] = {}
    for since, features in dict.fromkeys((place.since, place.features) for place in places):
        here = frozenset((p.backend, p.target) for p in places if (p.since, p.features) == (since, features))
        groups.setdefault((here, features), []).append(since)
    groups = {key: since for key, since in groups.items() if not key[1] or groups.get((key[0], ())) != since}
    for (here, features), within in sorted(groups.items(), key=lambda group: (group[0][1], sorted(group[1]))):
        there = {(p.backend, p.target) for p in everywhere if p.since in within and p.features == features}
        parts = [version_ranges(function.partition(".")[0], within, {place.since for place in everywhere})]
        for number, words in enumerate(("on {}", "{} labels")):
            named = {pair[number] for pair in here}
            if named != {pair[number] for pair in there}:
                parts.append(words.format(", ".join(sorted(named))))
        if features:
            parts.append(f"asked for {', '.join(features)}")
        yield ", ".join(filter(None, parts))


def version_ranges(framework: str, since: Iterable[str], among: Iterable[str]) -> str:
    """Releases of a framework as a range, or several: "from 1.2 to below 1.5"; nothing for all of `among`."""
    bounds = boundaries(framework)
    chosen = sorted(map(bounds.index, since))
    if {bounds[place] for place in chosen} >= set(among):
        return ""
    runs: list[list[int]] = []
    for place in chosen:
        if runs and runs[-1][-1] == place - 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return ", ".join(_range_text(bounds, run[0], run[-1]) for run in runs)


def _range_text(bounds: tuple[str, ...], first: int, last: int) -> str:
    start = "" if first == 0 else f"from {bounds[first]}"
    end = "" if last == len(bounds) - 1 else f"below {bounds[last + 1]}"
    return " to ".join(filter(None, [start, end])) or "all"


__all__ = ["FIELDS", "boundaries", "choice_section", "field_description", "kinds_table", "version_ranges"]

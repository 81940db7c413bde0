"""The meaning of each choice of a convention, and which functions document it in which releases."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from packaging.version import Version

from conformance.adapters import registry
from conformance.adapters.contract import DocumentedConvention, Function
from conformance.docs.markup import code_html, escaped, link, prose_html, table
from conformance.docs.python_api import class_fields
from conformance.model.convention import ANOMALY_MEANINGS, DEFINITION, EDGE, INVALID, Convention, literal_choices
from conformance.model.meanings import meaning

FIELDS = {name: " ".join(text.split()) for name, _, text in class_fields(Convention)}
"""Description of each field of a convention."""
BEFORE_RELEASES = "0"
"""A version older than all releases."""


@dataclass(frozen=True)
class Scope:
    """The scope in which a choice is documented."""

    since: str
    """First release; the scope extends to the next release that the adapter names."""
    backend: str
    target: str
    """Kind of the labels."""
    capabilities: tuple[str, ...]


def choice_section(name: str) -> str:
    """The meaning of a field of a convention, its choices and the functions that document them, as Markdown."""
    documented = list(_choices_of(name))
    lines = []
    for choice in _choices(name, (choice for choice, *_ in documented)):
        functions = _documented_by(choice, documented)
        default = "the definition" if choice == getattr(DEFINITION, name) else ""
        lines.append(
            [_choice_code(choice), _sentence(name, choice), functions or default or "none of those known here"]
        )
    return f"{prose_html(FIELDS[name])}\n\n{table(('choice', 'a function with it', 'documented by'), lines)}"


def anomalies_table() -> str:
    """The input anomalies, outside the definition's domain and at its edge, as Markdown."""
    lines = []
    for name in sorted(INVALID | EDGE, key=lambda name: (name in EDGE, name)):
        domain = "inside, at the edge" if name in EDGE else "outside"
        lines.append([code_html(name), escaped(ANOMALY_MEANINGS[name]), domain])
    return table(("input anomaly", "what it is", "the definition's domain"), lines)


DocumentedChoices = tuple[Any, Function, Scope, str]
"""(choice, function, scope, URL of the documentation)."""


@functools.cache
def _iter_documented() -> tuple[tuple[Function, Scope, DocumentedConvention], ...]:
    """Every function in every scope that its adapter describes, with its documented convention."""
    return tuple(
        (function, scope, documented)
        for framework in registry.frameworks()
        for since in boundaries(framework.name)
        for backend in framework.backends or ("",)
        for function in registry.functions_in(framework, since, backend)
        for scope, documented in _scopes(since, backend, function)
    )


def _scopes(since: str, backend: str, function: Function) -> Iterator[tuple[Scope, DocumentedConvention]]:
    capability_sets = {frozenset[str](), *(documented.capabilities for documented in function.conventions)}
    for target, capabilities in itertools.product(sorted(function.targets), sorted(capability_sets, key=sorted)):
        documented = registry.convention_for(function, since, target, backend, capabilities)
        if documented.capabilities == capabilities:
            yield Scope(since, backend, target, tuple(sorted(capabilities))), documented


def _choices_of(name: str) -> Iterator[DocumentedChoices]:
    """Every choice for a field that differs from the definition."""
    for function, scope, documented in _iter_documented():
        value = getattr(documented.convention, name)
        for choice in sorted(value) if isinstance(value, frozenset) else [value]:
            if choice != getattr(DEFINITION, name):
                yield choice, function, scope, documented.documentation or function.documentation


@functools.cache
def boundaries(name: str) -> tuple[str, ...]:
    """The releases at which a description of a framework begins or ends, ascending, after `BEFORE_RELEASES`."""
    [functions] = [framework.functions for framework in registry.frameworks() if framework.name == name]
    specifiers = [function.versions for function in functions]
    specifiers += [documented.versions for function in functions for documented in function.conventions]
    releases = {release for text in specifiers for release in re.findall(r"[\d.]+", text)}
    return (BEFORE_RELEASES, *sorted(releases, key=Version))


def _choices(name: str, choices: Iterable[Any]) -> list[Any]:
    """Every value of a field: those of its type, and those of functions."""
    if name in ("accepts", "rejects"):
        return sorted(set(choices), key=lambda kind: (kind in EDGE, kind))
    return list(dict.fromkeys([getattr(DEFINITION, name), *literal_choices(name), *choices]))


def _choice_code(choice: Any) -> str:
    """A choice as code; a float that is rounded to float32 as `float32(1e-12)`, so that it differs from 1e-12."""
    if not isinstance(choice, float):
        return code_html(choice)
    text = f"{choice:.4g}"
    is_float32 = float(text) != choice == float(np.float32(text))
    return code_html(f"float32({text})" if is_float32 else text)


def _sentence(name: str, choice: Any) -> str:
    if name in ("accepts", "rejects"):
        return escaped(f"{name} {ANOMALY_MEANINGS[choice]}")
    return escaped(meaning(name, choice))


def _documented_by(choice: Any, documented: list[DocumentedChoices]) -> str:
    """The functions that document a choice, each with its releases, backends and kinds of labels."""
    scopes_by_function: dict[str, list[tuple[Scope, str]]] = {}
    for candidate, function, scope, source in documented:
        if candidate == choice and type(candidate) is type(choice):
            scopes_by_function.setdefault(function.name, []).append((scope, source))
    return "<br>".join(_function_entry(function, scopes) for function, scopes in sorted(scopes_by_function.items()))


def _function_entry(function: str, scopes: list[tuple[Scope, str]]) -> str:
    """A function, the scopes of its choice, and the documentation of the newest of these releases."""
    bounds = boundaries(function.partition(".")[0])
    newest = max(scopes, key=lambda scope: (bounds.index(scope[0].since), not scope[0].capabilities))[0]
    sources = [source for scope, source in scopes if dataclasses.replace(scope, target=newest.target) == newest]
    links = ", ".join(link("documented", source) for source in dict.fromkeys(sources))
    scope_text = "; ".join(_scope_text(function, {scope for scope, _ in scopes}))
    return f"{code_html(function)}{f' ({escaped(scope_text)})' if scope_text else ''}, {links}"


def _scope_text(function: str, scopes: set[Scope]) -> Iterator[str]:
    """The scopes of a choice in words; nothing if the function has it in all of its scopes."""
    all_scopes = {scope for described, scope, _ in _iter_documented() if described.name == function}
    if scopes == all_scopes:
        return
    groups: dict[tuple[frozenset[tuple[str, str]], tuple[str, ...]], list[str]] = {}
    for since, capabilities in sorted({(scope.since, scope.capabilities) for scope in scopes}):
        pairs = frozenset((s.backend, s.target) for s in scopes if (s.since, s.capabilities) == (since, capabilities))
        groups.setdefault((pairs, capabilities), []).append(since)
    groups = {key: since for key, since in groups.items() if not key[1] or groups.get((key[0], ())) != since}
    for (pairs, capabilities), releases in sorted(groups.items(), key=lambda group: (group[0][1], sorted(group[1]))):
        possible = {(s.backend, s.target) for s in all_scopes if s.since in releases and s.capabilities == capabilities}
        parts = [version_ranges(function.partition(".")[0], releases, {scope.since for scope in all_scopes})]
        for number, words in enumerate(("on {}", "{} labels")):
            members = {pair[number] for pair in pairs}
            if members != {pair[number] for pair in possible}:
                parts.append(words.format(", ".join(sorted(members))))
        if capabilities:
            parts.append(f"with {', '.join(capabilities)}")
        yield ", ".join(filter(None, parts))


def version_ranges(framework: str, since: Iterable[str], releases: Iterable[str]) -> str:
    """Releases of a framework as one or more ranges: "from 1.2 to below 1.5"; "" for all of `releases`."""
    bounds = boundaries(framework)
    chosen = sorted(map(bounds.index, since))
    if {bounds[index] for index in chosen} >= set(releases):
        return ""
    runs: list[list[int]] = []
    for index in chosen:
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ", ".join(_range_text(bounds, run[0], run[-1]) for run in runs)


def _range_text(bounds: tuple[str, ...], first: int, last: int) -> str:
    start = "" if first == 0 else f"from {bounds[first]}"
    end = "" if last == len(bounds) - 1 else f"below {bounds[last + 1]}"
    return " to ".join(filter(None, [start, end])) or "all"

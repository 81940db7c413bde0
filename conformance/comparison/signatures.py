"""Signatures of functions, compared: what a caller has to write otherwise, and what is about to go."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal, get_args

import pandas as pd

from conformance.judging.row import exception_type, warnings_in

Kind = Literal[
    "function lost", "removed", "renamed", "kind", "place", "default", "added", "deprecated", "function gained"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Kinds of change, worst first."""
BREAKING = frozenset({"function lost", "removed", "renamed", "kind", "place"})
"""Kinds for which a call that was right may no longer be."""
DEPRECATIONS = ("FutureWarning", "DeprecationWarning", "PendingDeprecationWarning")
SENTINELS = frozenset({"'deprecated'", "'warn'", '"deprecated"', '"warn"'})
"""Defaults that stand for a parameter nobody should pass any more."""
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function.  kind: as `inspect` describes it.  default: its source text, "" for none."""

    name: str
    kind: str
    default: str

    @property
    def positional(self) -> bool:
        return "keyword-only" not in self.kind and "variadic" not in self.kind

    @property
    def deprecated(self) -> bool:
        return self.default in SENTINELS

    def __str__(self) -> str:
        return f"{self.name}={self.default}" if self.default else self.name


_SENTENCES = {
    "function lost": "the function is gone",
    "function gained": "the function is new",
    "removed": "parameter {old} is gone",
    "renamed": "parameter {old} is now called {new}",
    "kind": "parameter {name} was {old}, and is {new}",
    "place": "parameter {name} stands at position {new}, and stood at {old}",
    "default": "parameter {name} has the default {new}, and had {old}",
    "added": "parameter {new} is new",
    "deprecated": "deprecated: {new}",
}
"""What is said of a change of each kind."""


@dataclass(frozen=True)
class SignatureChange:
    """One difference between two signatures.

    path: of the function.  functions: the audited functions that are called by it.  name: the parameter, or the
    warning's category.  old, new: what stands on either side, empty where nothing does.
    """

    path: str
    functions: tuple[str, ...]
    kind: Kind
    name: str = ""
    old: str = ""
    new: str = ""

    @property
    def breaking(self) -> bool:
        """Whether a call that was right may no longer be."""
        return self.kind in BREAKING

    def __str__(self) -> str:
        if self.kind == "default" and not self.new:
            return f"parameter {self.name} has no default any more, and had {self.old}"
        old = self.old or ("none, so it was required" if self.kind == "default" else "")
        return _SENTENCES[self.kind].format(name=self.name, old=old, new=self.new)


def parameters(told: Sequence[Sequence[str]] | None) -> list[Parameter] | None:
    """A signature as a worker tells it, see `serve.signature`; addresses in defaults are left out."""
    if told is None:
        return None
    return [Parameter(name, kind, _ADDRESS.sub("", default)) for name, kind, default in told]


def compared(
    path: str, functions: Sequence[str], old: Sequence[Parameter] | None, new: Sequence[Parameter] | None
) -> list[SignatureChange]:
    """What differs between two signatures of what stands at a path, worst first; None: nothing stands there.

    *Renamed* is a parameter where another name stands at its place between the same neighbours, with its
    kind, and either with its default or while the old name lives on as deprecated.  Otherwise one is
    gone and another is new.
    """
    if old is None or new is None:
        lost = old is not None
        kind: Kind = "function lost" if lost else "function gained"
        return [SignatureChange(path, tuple(functions), kind)] if (old is None) != (new is None) else []
    found = [SignatureChange(path, tuple(functions), *said) for said in _differences(list(old), list(new))]
    return sorted(found, key=lambda change: KINDS.index(change.kind))


Said = tuple[Kind, str, str, str]


def _differences(old: list[Parameter], new: list[Parameter]) -> Iterator[Said]:
    before, after = ({one.name: one for one in side} for side in (old, new))
    renamed = dict(_renamed(old, new, before, after))
    for was, now in renamed.items():
        yield "renamed", was, was, now
        yield from _altered(now, before[was], after[now], ("default",))
    for name, one in before.items():
        if name in after and after[name].deprecated and not one.deprecated:
            yield "deprecated", name, str(one), f"parameter {name}"
        elif name in after:
            yield from _altered(name, one, after[name], ("kind", "default"))
        elif name not in renamed:
            yield "removed", name, str(one), ""
    yield from _moved(old, new)
    for name, one in after.items():
        if name not in before and name not in renamed.values():
            yield "added", name, "", str(one)


def _renamed(
    old: list[Parameter], new: list[Parameter], before: Mapping[str, Parameter], after: Mapping[str, Parameter]
) -> Iterator[tuple[str, str]]:
    """(old name, new name), where one stands for the other between the same neighbours."""
    new = [one for one in new if not one.deprecated]
    matcher = SequenceMatcher(None, [one.name for one in old], [one.name for one in new], autojunk=False)
    for what, a, b, c, d in matcher.get_opcodes():
        if what != "replace":
            continue
        for was, now in zip(old[a:b], new[c:d], strict=False):
            fresh = now.name not in before and was.kind == now.kind
            goes = was.name not in after or after[was.name].deprecated
            same = was.default == now.default or was.name in after
            if fresh and goes and same:
                yield was.name, now.name


def _altered(name: str, was: Parameter, now: Parameter, what: tuple[str, ...]) -> Iterator[Said]:
    if "kind" in what and was.kind != now.kind:
        yield "kind", name, was.kind, now.kind
    if "default" in what and was.default != now.default and not now.deprecated:
        yield "default", name, was.default, now.default


def _moved(old: list[Parameter], new: list[Parameter]) -> Iterator[Said]:
    """Parameters that can be passed by position, have their name still, and stand elsewhere."""
    places = [{one.name: place for place, one in enumerate(side, 1) if one.positional} for side in (old, new)]
    for name, place in places[0].items():
        if places[1].get(name, place) != place:
            yield "place", name, str(place), str(places[1][name])


def deprecations(table: pd.DataFrame, paths: Mapping[str, str]) -> list[SignatureChange]:
    """Deprecations that calls warn of now and did not before, from a table of changes.

    paths: by function.
    """
    found: dict[tuple[str, str], set[str]] = {}
    columns = (table[name].tolist() for name in ("function", "old_warnings", "new_warnings"))
    for function, was, now in zip(*columns, strict=True):
        for text in _deprecations(now) - _deprecations(was):
            found.setdefault((paths.get(function, function), text), set()).add(function)
    return [
        SignatureChange(path, tuple(sorted(functions)), "deprecated", exception_type(text), "", text)
        for (path, text), functions in sorted(found.items())
    ]


def _deprecations(warnings: str) -> set[str]:
    return {text for text in warnings_in(warnings) if exception_type(text) in DEPRECATIONS}


__all__ = ["BREAKING", "KINDS", "Parameter", "SignatureChange", "compared", "deprecations", "parameters"]

"""Compare signatures of functions: how calls have to change, and which parameters are deprecated."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal, get_args

import pandas as pd

from conformance.judging.row import exception_type, warnings_in

SignatureChangeKind = Literal[
    "function lost", "removed", "renamed", "kind", "place", "default", "added", "deprecated", "function gained"
]
KINDS: tuple[SignatureChangeKind, ...] = get_args(SignatureChangeKind)
"""Kinds of change, worst first."""
BREAKING = frozenset({"function lost", "removed", "renamed", "kind", "place"})
"""Kinds that may make a correct call invalid."""
DEPRECATIONS = ("FutureWarning", "DeprecationWarning", "PendingDeprecationWarning")
SENTINELS = frozenset({"'deprecated'", "'warn'", '"deprecated"', '"warn"'})
"""Defaults of deprecated parameters."""
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True)
class SignatureParameter:
    """A parameter of a function."""

    name: str
    kind: str
    """Kind of the parameter, as `inspect` describes it."""
    default: str
    """Source text; "" for none."""

    @property
    def positional(self) -> bool:
        """Whether it can be passed by position."""
        return "keyword-only" not in self.kind and "variadic" not in self.kind

    @property
    def deprecated(self) -> bool:
        """Whether its default marks it as deprecated."""
        return self.default in SENTINELS

    def __str__(self) -> str:
        return f"{self.name}={self.default}" if self.default else self.name


SENTENCES = {
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


@dataclass(frozen=True)
class SignatureChange:
    """One difference between two signatures."""

    path: str
    """Dotted path of the function."""
    functions: tuple[str, ...]
    """The audited functions that call it."""
    kind: SignatureChangeKind
    name: str = ""
    """The parameter, or the category of the warning."""
    old: str = ""
    new: str = ""

    @property
    def breaking(self) -> bool:
        """Whether a correct call may become invalid."""
        return self.kind in BREAKING

    def __str__(self) -> str:
        return self.text()

    def text(self, say: Callable[[str], str] = str) -> str:
        """The change as a sentence.  say: translates templates."""
        if self.kind == "default" and not self.new:
            template = "parameter {name} has no default any more, and had {old}"
        elif self.kind == "default" and not self.old:
            template = "parameter {name} has the default {new}, and had none, so it was required"
        elif self.new == f"parameter {self.name}":
            template = "deprecated: parameter {name}"
        else:
            template = SENTENCES[self.kind]
        return say(template).format(name=self.name, old=self.old, new=self.new)


def parameters(signature: Sequence[Sequence[str]] | None) -> list[SignatureParameter] | None:
    """Parse a signature sent by a worker (see `serve.signature`); memory addresses in defaults are removed."""
    if signature is None:
        return None
    return [SignatureParameter(name, kind, _ADDRESS.sub("", default)) for name, kind, default in signature]


def compare_signatures(
    path: str,
    functions: Sequence[str],
    old: Sequence[SignatureParameter] | None,
    new: Sequence[SignatureParameter] | None,
) -> list[SignatureChange]:
    """Compare two signatures of the function at a path, worst difference first.  None: the function does not exist.

    A parameter counts as renamed if a new name is at its position between the same neighbours, with the same kind, and
    either the default is the same or the old name is deprecated.  Otherwise one is removed and another added.
    """
    if old is None or new is None:
        lost = old is not None
        kind: SignatureChangeKind = "function lost" if lost else "function gained"
        return [SignatureChange(path, tuple(functions), kind)] if (old is None) != (new is None) else []
    changes = [
        SignatureChange(path, tuple(functions), *difference) for difference in _differences(list(old), list(new))
    ]
    return sorted(changes, key=lambda change: KINDS.index(change.kind))


_Difference = tuple[SignatureChangeKind, str, str, str]
"""Kind, name, old and new of a `SignatureChange`."""


def _differences(old: list[SignatureParameter], new: list[SignatureParameter]) -> Iterator[_Difference]:
    before, after = ({parameter.name: parameter for parameter in side} for side in (old, new))
    renamed = dict(_find_renamed(old, new, before, after))
    for old_name, new_name in renamed.items():
        yield "renamed", old_name, old_name, new_name
        yield from _changed_default(new_name, before[old_name], after[new_name])
    for name, parameter in before.items():
        if name in after and after[name].deprecated and not parameter.deprecated:
            yield "deprecated", name, str(parameter), f"parameter {name}"
        elif name in after:
            if parameter.kind != after[name].kind:
                yield "kind", name, parameter.kind, after[name].kind
            yield from _changed_default(name, parameter, after[name])
        elif name not in renamed:
            yield "removed", name, str(parameter), ""
    yield from _find_moved(old, new)
    for name, parameter in after.items():
        if name not in before and name not in renamed.values():
            yield "added", name, "", str(parameter)


def _find_renamed(
    old: list[SignatureParameter],
    new: list[SignatureParameter],
    before: Mapping[str, SignatureParameter],
    after: Mapping[str, SignatureParameter],
) -> Iterator[tuple[str, str]]:
    """Yield (old name, new name) of parameters that were renamed; see `compare_signatures`."""
    new = [parameter for parameter in new if not parameter.deprecated]
    matcher = SequenceMatcher(
        None, [parameter.name for parameter in old], [parameter.name for parameter in new], autojunk=False
    )
    for operation, a, b, c, d in matcher.get_opcodes():
        if operation != "replace":
            continue
        for earlier, later in zip(old[a:b], new[c:d], strict=False):
            is_new = later.name not in before and earlier.kind == later.kind
            is_removed = earlier.name not in after or after[earlier.name].deprecated
            is_compatible = earlier.default == later.default or earlier.name in after
            if is_new and is_removed and is_compatible:
                yield earlier.name, later.name


def _changed_default(name: str, old: SignatureParameter, new: SignatureParameter) -> Iterator[_Difference]:
    if old.default != new.default and not new.deprecated:
        yield "default", name, old.default, new.default


def _find_moved(old: list[SignatureParameter], new: list[SignatureParameter]) -> Iterator[_Difference]:
    """Positional parameters with the same name at another position."""
    before, after = (
        {parameter.name: position for position, parameter in enumerate(side, 1) if parameter.positional}
        for side in (old, new)
    )
    for name, position in before.items():
        if after.get(name, position) != position:
            yield "place", name, str(position), str(after[name])


def deprecations(table: pd.DataFrame, paths: Mapping[str, str]) -> list[SignatureChange]:
    """Deprecation warnings that are new in a table of changes.

    paths: dotted paths of the functions, by name.
    """
    functions_by_text: dict[tuple[str, str], set[str]] = {}
    columns = (table[name].tolist() for name in ("function", "old_warnings", "new_warnings"))
    for function, old, new in zip(*columns, strict=True):
        for text in _deprecations(new) - _deprecations(old):
            functions_by_text.setdefault((paths.get(function, function), text), set()).add(function)
    return [
        SignatureChange(path, tuple(sorted(functions)), "deprecated", exception_type(text), "", text)
        for (path, text), functions in sorted(functions_by_text.items())
    ]


def _deprecations(warnings: str) -> set[str]:
    return {text for text in warnings_in(warnings) if exception_type(text) in DEPRECATIONS}

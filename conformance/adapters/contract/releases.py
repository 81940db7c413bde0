"""Expand the changes of a function into one description per range of releases and backends."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from conformance.adapters.contract.errors import DeclarationError, unknown_name_message

if TYPE_CHECKING:
    from conformance.adapters.contract.framework import Function, ReleaseChange


_RELEASE = re.compile(r"(\d{1,9}(\.\d{1,9}){0,9})?", re.ASCII)


@cache
def _release(version: str) -> tuple[int, ...]:
    """A release as numbers, without trailing zeros; () for ""."""
    numbers = [int(part) for part in version.split(".")] if version else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


class _History:
    """A function in its releases and backends; each sequence of changes, of which they share most, is applied once."""

    def __init__(self, function: Function) -> None:
        self._changes = [(_release(change.since), change) for change in function.changes]
        self._made: dict[tuple[int, ...], Function] = {(): replace(function, changes=(), first="")}
        """The function after some of the changes, by their numbers."""

    def at(self, version: str, backend: str) -> Function:
        """The function in one release and one backend."""
        release = _release(version)
        applied: tuple[int, ...] = ()
        for number, (since, change) in enumerate(self._changes):
            if release >= since and (not change.backends or backend in change.backends):
                before, applied = applied, (*applied, number)
                if applied not in self._made:
                    self._made[applied] = _changed(self._made[before], change)
        return self._made[applied]


def _changed(function: Function, change: ReleaseChange) -> Function:
    new: dict[str, Any] = {}
    for name, value in change.fields.items():
        old = getattr(function, name, None)
        if isinstance(old, Mapping):
            new[name] = {k: v for k, v in {**old, **value}.items() if v is not None}
        else:
            new[name] = value
    conventions = new.get("conventions", function.conventions)
    if change.choices or change.documentation:
        new["conventions"] = tuple(
            replace(
                documented,
                convention=replace(documented.convention, **change.choices),
                documentation=documented.documentation
                if documented.capabilities
                else change.documentation or documented.documentation,
            )
            for documented in conventions
        )
    try:
        return replace(function, **new)
    except TypeError as error:
        name = function.name.partition(".")[2]
        raise DeclarationError(f"functions[{name}].since({change.since!r}): {error}") from None


Span = tuple[str, str]
"""The first release of a range and the first one after it; "" if the range is open."""


def descriptions(function: Function, backends: tuple[str, ...]) -> Iterator[Function]:
    """Yield a function once per range of releases and group of backends that share it, the newest first."""
    if not (function.changes or function.first):
        yield function
        return
    name = f"functions[{function.name.partition('.')[2]}]"
    for location, release in (("first", function.first), *((f"since({c.since!r})", c.since) for c in function.changes)):
        if not _RELEASE.fullmatch(release):
            raise DeclarationError(f"{name}.{location}: {release!r} is not a release, as 2.4 is")
    for change in function.changes:
        if unknown := sorted(change.backends - set(backends)):
            message = unknown_name_message("backend", unknown[0], backends)
            raise DeclarationError(f"{name}.since({change.since!r}): {message}")
    bounds = sorted({c.since for c in function.changes} | {function.first}, key=_release)
    starts = [bound for bound in bounds if _release(bound) >= _release(function.first)]
    backend_names = tuple(name for name in backends if function.backends is None or name in function.backends) or ("",)
    history = _History(function)
    states = {backend: [(start, history.at(start, backend)) for start in starts] for backend in backend_names}
    conventions = _ranges(
        {backend: [(start, state.conventions) for start, state in spans] for backend, spans in states.items()}
    )
    bare = {
        backend: [(start, replace(state, conventions=())) for start, state in spans]
        for backend, spans in states.items()
    }
    for span, on, state in _ranges(bare):
        stated = [
            replace(documented_convention, versions=_specifiers(within), backends=backend_names)
            for within, backend_names, documented in conventions
            if _overlap(span, within) and (on is None or backend_names is None or on & backend_names)
            for documented_convention in documented
        ]
        yield replace(state, conventions=tuple(stated), versions=_specifiers(span), backends=on or function.backends)


def _overlap(span: Span, other: Span) -> bool:
    return all(not end or _release(start) < _release(end) for start, end in ((span[0], other[1]), (other[0], span[1])))


def _ranges(states: Mapping[str, list[tuple[str, Any]]]) -> list[tuple[Span, frozenset[str] | None, Any]]:
    """Merge equal states of consecutive releases into ranges, with the backends that share them; the newest first."""
    ranges: list[tuple[Span, set[str], Any]] = []
    for backend, history in states.items():
        end = ""
        for number in reversed(range(len(history))):
            start, state = history[number]
            if number and history[number - 1][1] == state:
                continue
            same = next((on for span, on, other in ranges if span == (start, end) and other == state), None)
            if same is None:
                ranges.append(((start, end), {backend}, state))
            else:
                same.add(backend)
            end = start
    ranges.sort(key=lambda entry: _release(entry[0][0]), reverse=True)
    return [(span, None if on == set(states) else frozenset(on), state) for span, on, state in ranges]


def _specifiers(span: Span) -> str:
    return ",".join(f"{sign}{release}" for sign, release in zip((">=", "<"), span, strict=True) if release)

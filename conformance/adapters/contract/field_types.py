"""Check that the fields of a declaration match their annotations: builtin values of a bounded size.

No method of a value is called before its type is known, as an object of another class may return anything or hang.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any, Literal

import numpy as np

from conformance.adapters.contract.errors import DeclarationError, unknown_name_message
from conformance.model.text import truncate, type_name

MAX_ENTRIES = 1000
"""Maximum number of entries in a table of a declaration."""
MAX_CHARACTERS = 100_000
"""Maximum number of characters in a text of a declaration."""
MAX_INTEGER = 2**63
"""Integers from this size on do not fit any integer dtype."""
MAX_SHOWN = 60
"""Maximum number of characters of a value that a message quotes."""
_KINDS: Mapping[Any, tuple[tuple[type, ...], str]] = {
    str: ((str,), "text"),
    bool: ((bool,), "bool"),
    int: ((int, np.int64), "integer"),
    float: ((float, int, np.float64, np.float32), "number"),
    range: ((range,), "range"),
    tuple: ((tuple, list), "tuple"),
    frozenset: ((frozenset, set), "frozenset"),
    Mapping: ((dict,), "dict"),
    types.NoneType: ((types.NoneType,), "None"),
    Literal: ((str,), "text"),
}
"""Annotation, or its origin -> (types of its values, their name in messages)."""


def check_types(value: object, annotation: Any, where: str = "") -> None:
    """Raise DeclarationError, naming the field, if a declaration or a part of it contradicts its annotation."""
    if annotation is Any:
        return
    kinds = _alternatives(annotation)
    match = next((kind for kind in kinds if kind.has(value)), None)
    if match is None:
        raise _fault(where, f"{_shown(value)} is no {' or '.join(kind.name for kind in kinds)}")
    for name, of_field, default in match.fields:
        if (entry := getattr(value, name)) is not default:
            check_types(entry, of_field, f"{where}.{name}" if where else name)
    if isinstance(value, dict | tuple | list | frozenset | set):
        _check_entries(value, match.entries, where)
    elif isinstance(value, str):
        _check_text(value, match.words, where)
    elif isinstance(value, int) and not -MAX_INTEGER <= value < MAX_INTEGER:
        raise _fault(where, "it is an integer of more than 64 bits")


def check_changes(new: Mapping[str, Any], declaration: type, where: str) -> None:
    """Raise DeclarationError if a new value for a field of a declaration contradicts the field's annotation.

    In a table, an entry of None removes the entry.
    """
    for name, value in new.items():
        annotation = _annotations(declaration).get(name, Any)
        if typing.get_origin(annotation) is Mapping:
            key, entry = typing.get_args(annotation)
            annotation = Mapping[key, entry | None]  # type: ignore[valid-type]
        check_types(value, annotation, f"{where}.{name}")


def _check_entries(value: Any, annotations: tuple[Any, ...], where: str) -> None:
    if len(value) > MAX_ENTRIES:
        raise _fault(where, f"it has {len(value)} entries, more than {MAX_ENTRIES}")
    if isinstance(value, dict):
        for key, entry in value.items():
            check_types(key, annotations[0], where)
            check_types(entry, annotations[1], f"{where}[{_shown(key)}]")
        return
    annotations = annotations * len(value) if len(annotations) == 1 else annotations
    if len(annotations) != len(value):
        raise _fault(where, f"it has {len(value)} entries, not {len(annotations)}")
    for number, (entry, annotation) in enumerate(zip(value, annotations, strict=True)):
        check_types(entry, annotation, f"{where}[{_name_of(entry, annotation, number)}]")


def _check_text(value: str, words: tuple[str, ...], where: str) -> None:
    if len(value) > MAX_CHARACTERS:
        raise _fault(where, f"it has {len(value)} characters, more than {MAX_CHARACTERS}")
    if not value.isascii() and value.encode("utf-8", "ignore").decode() != value:
        raise _fault(where, f"{_shown(value)} has a surrogate, which is half a character")
    if words and value not in words:
        raise _fault(where, unknown_name_message("value", _shown(value), words))


def _fault(where: str, message: str) -> DeclarationError:
    return DeclarationError(f"{where}: {message}" if where else message)


def _name_of(entry: Any, annotation: Any, number: int) -> str:
    """The label of an entry of a tuple in messages: its name if it has one, else its number."""
    is_known = annotation is not Any and any(kind.fields and kind.has(entry) for kind in _alternatives(annotation))
    name = getattr(entry, "name", None) if is_known else None
    return _shown(name.rpartition(".")[2]) if type(name) is str else str(number)


def _shown(value: object) -> str:
    """A value for a message: text, numbers and None are quoted; for others, the type is named."""
    if type(value) is str:
        return truncate(value if value.isprintable() else ascii(value), MAX_SHOWN)
    if value is None or type(value) in (bool, float):
        return str(value)
    return f"a value of type {type_name(value)}"


@dataclass(frozen=True)
class _Kind:
    """One of the alternatives that an annotation allows."""

    name: str
    types: tuple[type, ...] = ()
    """Types of the value; empty for any callable."""
    entries: tuple[Any, ...] = ()
    """Annotations: of key and value for a dict, of all entries for a tuple or a set, or of each entry of a tuple."""
    words: tuple[str, ...] = ()
    """Allowed texts; empty for any."""
    fields: tuple[tuple[str, Any, Any], ...] = ()
    """(name, annotation, default) of each field of a dataclass."""

    def has(self, value: object) -> bool:
        """Whether a value is of this kind."""
        if not self.types:
            return callable(value)
        type_ = type(value)
        return any(type_ is known for known in self.types)  # `in` would call `__eq__` of an unknown metaclass


@functools.cache
def _alternatives(annotation: Any) -> tuple[_Kind, ...]:
    origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return tuple(kind for argument in arguments for kind in _alternatives(argument))
    if origin is Callable:
        return (_Kind("function"),)
    if isinstance(annotation, type) and is_dataclass(annotation):
        hints = _annotations(annotation)
        fields = tuple(
            (argument.name, hints[argument.name], argument.default) for argument in dataclasses.fields(annotation)
        )
        return (_Kind(annotation.__name__, (annotation,), fields=fields),)
    known, name = _KINDS[origin]
    if origin is Literal:
        return (_Kind(name, known, words=arguments),)
    # The names of keys and members are checked with the whole declaration.
    entries = [
        str if typing.get_origin(argument) is Literal else argument
        for argument in arguments
        if argument is not Ellipsis
    ]
    return (_Kind(name, known, tuple([*entries[:-1], arguments[1]] if origin is Mapping else entries)),)


@functools.cache
def _annotations(class_: type) -> Mapping[str, Any]:
    return typing.get_type_hints(class_)

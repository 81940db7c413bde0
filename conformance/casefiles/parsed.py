"""Convert cases to JSON values and back, to cache files that an earlier run has parsed without errors.

A list stands for a tuple; arrays, mappings, lists and dataclasses are mappings with a type tag.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from conformance.casefiles.generated_arrays import ArrayRecipe, GeneratedCase
from conformance.model.case import ByOracle, Case, Digits, Layout, MustRaise, NoRightAnswer, Options, Published

_KINDS: Mapping[str, type] = {
    kind.__name__: kind
    for kind in (
        Case, GeneratedCase, ArrayRecipe, Options, Layout, ByOracle, Digits, MustRaise, NoRightAnswer, Published,
    )
}  # fmt: skip
FIELDS = {
    kind: {name for base in kind.__mro__ for name in vars(base).get("__annotations__", ())} for kind in _KINDS.values()
}
"""Class -> names of its stored fields."""


class UnstorableError(ValueError):
    """A value that could not be restored exactly."""


def to_json(value: Any) -> Any:
    """A part of a case as values of JSON.  Raises UnstorableError."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    if isinstance(value, list):
        return {"list": [to_json(item) for item in value]}
    if isinstance(value, Mapping):
        return {"mapping": {name: to_json(item) for name, item in value.items()}}
    if isinstance(value, np.ndarray):
        if not value.flags.c_contiguous:
            raise UnstorableError("its memory order would be lost, and with it the order in which it is added up")
        return {"array": value.tolist(), "dtype": value.dtype.name, "shape": value.shape}
    if type(value) not in FIELDS:
        raise UnstorableError(type(value).__name__)
    stated = {name: item for name, item in vars(value).items() if name in FIELDS[type(value)]}
    return {"is": type(value).__name__, **{name: to_json(item) for name, item in stated.items()}}


def from_json(value: Any) -> Any:
    """The inverse of `to_json`."""
    if isinstance(value, list):
        return tuple([from_json(item) for item in value])
    if not isinstance(value, dict):
        return value
    if "is" in value:
        return _KINDS[value.pop("is")](**{name: from_json(item) for name, item in value.items()})
    if "array" in value:
        return np.array(value["array"], dtype=value["dtype"]).reshape(value["shape"])
    if "list" in value:
        return [from_json(item) for item in value["list"]]
    return {name: from_json(item) for name, item in value["mapping"].items()}

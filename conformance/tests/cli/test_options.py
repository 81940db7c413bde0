"""The declarations of `commands.toml` against the functions that get the values."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from conformance import api, cli
from conformance.cli.options import TYPES, load_table, options
from conformance.model.case import DTYPES, INPUT_KINDS, QUANTITIES

TABLE = load_table()
COMMANDS = [section for section in [*TABLE.values(), *TABLE["list"].values()] if "call" in section]
NO_VALUE = {"text": "", "flag": False}
NO_DEFAULT = inspect.Parameter.empty


def parameters(function: Any) -> dict[str, tuple[Any, Any]]:
    """Type and default of each parameter of a function, and of each field of dataclasses and unpacked dicts."""
    found, types = {}, get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            unpacked = get_type_hints(*get_args(types[name])) if get_args(types[name]) else {}
            found |= {inner: (type_, NO_DEFAULT) for inner, type_ in unpacked.items()}
        elif dataclasses.is_dataclass(types[name]):
            found |= {**parameters(types[name]), **found}
        else:
            found[name] = (types[name], parameter.default)
    return found


@pytest.mark.parametrize("section", COMMANDS, ids=lambda section: section["call"])
def test_options_have_type_and_default_of_what_gets_their_value(section):
    module, _, name = section["call"].partition(".")
    function = getattr(importlib.import_module(f"{cli.__name__}.{module}"), name)
    own = parameters(function)
    receivers = {**parameters(getattr(api, name, lambda: None)), **own}
    assert {option for option, (_, default) in own.items() if default is NO_DEFAULT} <= options(section).keys()
    for option, entry in options(section).items():
        type_, default = receivers[option]
        kind, repeated = entry.get("type", "text"), entry.get("repeated", False)
        assert repeated == (get_origin(type_) in (tuple, Sequence)), option
        choices = tuple(entry.get("choices", ()))
        assert choices == get_args(type_) if choices else TYPES[kind] in (get_args(type_) or (type_,)), option
        declared = () if repeated else entry.get("default", NO_VALUE.get(kind))
        if default is not NO_DEFAULT:
            assert (Path(declared) if kind == "path" and declared else declared) == default, option


def test_options_list_the_values_of_the_model():
    entries = [(name, entry) for section in COMMANDS for name, entry in options(section).items()]
    metavars = {entry.get("metavar", "") for _, entry in entries}
    assert {"|".join(DTYPES), "|".join(INPUT_KINDS)} == {
        name for name in metavars if "float32" in name or "logits" in name
    }
    assert {entry["help"] for name, entry in entries if name == "quantity"} == {f"One of {', '.join(QUANTITIES)}."}
    assert set(TABLE["shared"]) <= {name for section in COMMANDS for name in section["shared"]}

"""The commands with their options, as `commands.toml` declares them.

Imports no module of a command, so that `--help` and errors in options cost nothing else.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import tomllib
import typer

from conformance.model.text import truncate

TYPES = {"text": str, "integer": int, "number": float, "duration": float, "path": Path, "flag": bool}
"""`type` of an entry -> type of its value."""
MAX_LENGTH = 160
"""Maximum number of characters of a value in an error."""
SETTINGS: dict[str, Any] = {
    "no_args_is_help": True,
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": "rich",
}
"""Settings of a group of commands."""


def named_path(text: str | Path) -> Path:
    """Parse the value of an option that names a file or a folder; an empty value is an error."""
    if not str(text).strip():
        raise typer.BadParameter("it is empty; name a file or a folder")
    return Path(text)


def duration(text: str | float) -> float:
    """Parse a positive, finite number of seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise typer.BadParameter(f"{truncate(str(text), MAX_LENGTH)}: name seconds, a finite number above 0")
    return seconds


PARSERS: dict[str, Callable[[Any], Any]] = {"path": named_path, "duration": duration}
"""`type` of an entry -> what parses its value, if that is not the type itself."""


@functools.cache
def load_table() -> dict[str, dict[str, Any]]:
    """The sections of `commands.toml`, by command or group."""
    return tomllib.loads(Path(__file__).with_name("commands.toml").read_text(encoding="utf-8"))


def add_commands(group: typer.Typer, sections: Mapping[str, Any]) -> None:
    """Add the commands and groups of some sections to a group."""
    for name, section in sections.items():
        if "call" in section:
            group.command(name, help=section["help"])(_command(section))
        elif "help" in section:
            inner = typer.Typer(help=section["help"], **SETTINGS)
            add_commands(inner, {key: value for key, value in section.items() if key != "help"})
            group.add_typer(inner, name=name)


def options(section: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The entries of a command by parameter: arguments first, then its own options, then shared ones."""
    own = {name: entry for name, entry in section.items() if isinstance(entry, dict)}
    shared = {name: load_table()["shared"][name] for name in section["shared"]}
    merged = {name: {**shared.get(name, {}), **own.get(name, {})} for name in {**own, **shared}}
    return dict(sorted(merged.items(), key=lambda entry: "argument" not in entry[1]))


def _command(section: Mapping[str, Any]) -> Callable[..., None]:
    """A function with the options of a command as parameters, for typer; it imports and calls the command's own."""
    declared = options(section)

    def command(**values: Any) -> None:
        from conformance.adapters.contract.calling import share_processors

        share_processors()
        module, _, name = section["call"].partition(".")
        function = getattr(importlib.import_module(f"{__package__}.{module}"), name)
        values |= {name: tuple(values[name] or ()) for name in declared if "repeated" in declared[name]}
        function(**_group(values, get_type_hints(function)))

    # typer reads the signature; a function has no such attribute for mypy.
    vars(command)["__signature__"] = inspect.Signature([_parameter(name, **entry) for name, entry in declared.items()])
    return command


def _group(values: dict[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    """The values for a function with parameters of some types; a dataclass gets those of its fields.

    A parameter takes precedence over a field of the same name.
    """
    for name, type_ in types.items():
        if dataclasses.is_dataclass(type_):
            fields = {field.name for field in dataclasses.fields(type_)} & values.keys() - types.keys()
            values[name] = type_(**{field: values.pop(field) for field in fields})  # type: ignore[operator]
    return values


def _parameter(
    name: str,
    *,
    argument: bool = False,
    flags: str = "",
    type: str = "text",
    repeated: bool = False,
    required: bool | None = None,
    default: Any = None,
    choices: tuple[str, ...] = (),
    **settings: Any,
) -> inspect.Parameter:
    """The parameter of an entry; see the head of `commands.toml`."""
    annotation: Any = Literal[tuple(choices)] if choices else TYPES[type]
    if argument if required is None else required:
        default = inspect.Parameter.empty
    elif default is None and not repeated:
        default = {"text": "", "flag": False}.get(type)
    if type in PARSERS and not argument:
        settings["parser"] = PARSERS[type]
    option = (typer.Argument if argument else typer.Option)(*flags.split(), **settings)
    if repeated:
        annotation = list[annotation]
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=Annotated[annotation, option])

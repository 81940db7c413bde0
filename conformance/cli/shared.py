"""Options, messages and progress shared by commands."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tomllib
import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from conformance import api
from conformance.api.base import Advance, Observer
from conformance.cli.terminal import err, out
from conformance.judging.selection import SelectionError
from conformance.model.case import DTYPES, INPUT_KINDS, QUANTITIES, Case
from conformance.model.text import truncate

MAX_FAILURES = 5
"""Maximum number of failed items, or of notes, to print."""
LINE_SECONDS = 30.0
"""Seconds between two lines of progress if there is no terminal."""
MAX_WIDTH = 160
"""Maximum number of characters of a value or a reason on a terminal."""


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
        raise typer.BadParameter(f"{truncate(str(text), MAX_WIDTH)}: name seconds, a finite number above 0")
    return seconds


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Declare the parameters of a command as typer options and arguments, as described in `options.toml`.

    A parameter that is a dataclass becomes one option per field.  `**kwargs` becomes one option per parameter of the
    function of `conformance.api` with the name of the command, if `options.toml` lists it.  The command's own
    parameters take precedence.  An option of type Path names a file or a folder; a sequence may be repeated.
    `--help` lists arguments first, then the command's own options, in the order of `options.toml`.
    """
    own_entries = _load_option_table().get(command.__name__, {})
    described = {
        **own_entries,
        **{name: entry for name, entry in _load_option_table()["shared"].items() if name not in own_entries},
    }
    types = get_type_hints(command)
    declared: dict[str, inspect.Parameter] = {}
    dataclass_fields: dict[str, list[str]] = {}
    for parameter in inspect.signature(command).parameters.values():
        annotation = types[parameter.name]
        variadic = parameter.kind is inspect.Parameter.VAR_KEYWORD
        if not variadic and not dataclasses.is_dataclass(annotation):
            declared[parameter.name] = _option_parameter(parameter, annotation, described)
            continue
        expanded = {
            inner.name: _option_parameter(inner, inner_annotation, described)
            for inner, inner_annotation in _parameters(getattr(api, command.__name__) if variadic else annotation)
            if inner.name in described.keys() - types.keys()
        }
        declared |= expanded
        if not variadic:
            dataclass_fields[parameter.name] = [*expanded]

    repeated = [name for name, option in declared.items() if get_origin(get_args(option.annotation)[0]) is list]

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        values |= {name: tuple(values[name] or ()) for name in repeated}
        instances = {
            name: types[name](**{field: values.pop(field) for field in fields})
            for name, fields in dataclass_fields.items()
        }
        command(**values, **instances)

    names = sorted(described, key=lambda name: "argument" not in described[name])
    parameters = [declared[name] for name in names if name in declared]
    # typer reads the signature; a function has no such attribute for mypy.
    vars(wrapper)["__signature__"] = inspect.Signature(parameters)
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def _parameters(source: Callable[..., Any]) -> Iterator[tuple[inspect.Parameter, Any]]:
    """The parameters of a function or a dataclass, each with its type; unpacked ones have the default ""."""
    hints = get_type_hints(source)
    for parameter in inspect.signature(source).parameters.values():
        annotation = hints[parameter.name]
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            for name, inner in get_type_hints(*get_args(annotation)).items():
                yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default="" if inner is str else ()), inner
        else:
            yield parameter, annotation


def _option_parameter(
    parameter: inspect.Parameter, annotation: Any, described: dict[str, dict[str, Any]]
) -> inspect.Parameter:
    default = parameter.default
    if get_origin(annotation) in (tuple, Sequence):
        annotation, default = list[get_args(annotation)[0]], default or None  # type: ignore[misc]
    option = Annotated[annotation, _typer_parameter(annotation, **described[parameter.name])]
    return inspect.Parameter(parameter.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=option)


@functools.cache
def _load_option_table() -> dict[str, dict[str, dict[str, Any]]]:
    """The entries of `options.toml`: by command, or `shared`, and by parameter."""
    text = Path(__file__).with_name("options.toml").read_text(encoding="utf-8")
    values = {"quantities": ", ".join(QUANTITIES), "dtypes": "|".join(DTYPES), "input_kinds": "|".join(INPUT_KINDS)}
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return tomllib.loads(text)


def _typer_parameter(annotation: Any, *, argument: bool = False, flags: str = "", **settings: Any) -> Any:
    if "parser" in settings:
        settings["parser"] = {"duration": duration}[settings["parser"]]
    elif Path in (annotation, *get_args(annotation)) and not argument:
        settings["parser"] = named_path
    return (typer.Argument if argument else typer.Option)(*flags.split(), **settings)


def output_format(form: str, as_json: bool) -> Any:
    """The format that --format and --json select. Raises SelectionError if they contradict each other."""
    if as_json and form not in ("terminal", "json"):
        raise SelectionError(f"--json and --format {form} do not go together; leave one of them out")
    return "json" if as_json else form


def print_styled(lines: Iterable[tuple[str, str]]) -> None:
    """Print lines, each with its rich style, if any."""
    for style, line in lines:
        out.print(f"[{style}]{escape(line)}[/]" if style else escape(line), soft_wrap=True)


def print_stderr(line: str) -> None:
    """Print a line to stderr."""
    err.print(escape(line))


def print_notes(cases: Iterable[Case]) -> None:
    """Print the first MAX_FAILURES `note` fields of the cases to stderr, then how many were omitted."""
    _print_first("note", [case.note for case in cases if case.note])


def print_not_executed(items: Sequence[object], consequence: str = "") -> None:
    """Print the first MAX_FAILURES items that could not be executed to stderr, then how many were omitted."""
    _print_first(f"not executed{consequence}", items)


def _print_first(label: str, items: Sequence[object]) -> None:
    for item in items[:MAX_FAILURES]:
        print_stderr(f"{label}: {item}")
    if len(items) > MAX_FAILURES:
        print_stderr(f"... and {len(items) - MAX_FAILURES} more")


def _line_progress(total: int) -> Advance:
    """A progress callback that prints a line to stderr every LINE_SECONDS."""
    completed, printed = 0, time.monotonic()

    def advance(label: str, finished: int = 1, /) -> None:
        nonlocal completed, printed
        completed += finished
        if (now := time.monotonic()) - printed >= LINE_SECONDS:
            printed = now
            print_stderr(f"{completed:,} of {total:,}{f', now {label}' if label else ''}")

    return advance


class Printer(Observer):
    """Prints notes to stderr, and shows progress there."""

    def note(self, line: str) -> None:
        """Print a note to stderr."""
        print_stderr(line)

    @contextlib.contextmanager
    def status(self) -> Iterator[Callable[[str], None]]:
        """Show a spinner with the current step."""
        with err.status("") as status:
            yield lambda line: status.update(escape(line))

    @contextlib.contextmanager
    def rows(self, count: int) -> Iterator[Advance]:
        """Show a progress bar, or print lines of progress if there is no terminal."""
        if not err.is_terminal:
            yield _line_progress(count)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=err, transient=True) as bar:
            task = bar.add_task("", total=count)
            completed, shown = 0, 0.0

            def advance(label: str, finished: int = 1, /) -> None:
                nonlocal completed, shown
                completed += finished
                if (now := time.monotonic()) - shown >= 1 / bar.live.refresh_per_second:
                    bar.update(task, completed=completed, description=f"{escape(label):<8}")
                    shown = now

            yield advance

"""What commands share: options, messages and progress."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tomllib
import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from conformance import api
from conformance.api.observing import Advance, Observer
from conformance.cli.terminal import err, out
from conformance.judging.selection import SelectionError
from conformance.model.case import DTYPES, INPUT_KINDS, QUANTITIES, Case
from conformance.model.text import truncate

MAX_FAILURES = 5
"""Number of items that could not be executed, up to which they are printed."""
LINE_SECONDS = 30.0
"""Seconds between lines that say what is done where there is no terminal."""
MAX_WIDTH = 160
"""Characters of a value or a reason on a terminal."""


def named_path(text: str | Path) -> Path:
    """The value of an option that names a file or a folder; the empty text names none."""
    if not str(text).strip():
        raise typer.BadParameter("it is empty; name a file or a folder")
    return Path(text)


def duration(text: str | float) -> float:
    """The value of an option in seconds, which ends."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise typer.BadParameter(f"{truncate(str(text), MAX_WIDTH)}: name seconds, a finite number above 0")
    return seconds


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Declare the parameters of a command as options and arguments of typer, as `options.toml` describes them.

    A parameter that is a dataclass stands for an option for each of its fields, and `**` for one for each
    parameter of the function of `conformance.api` with the name of the command, if it is described there and none of
    the command's own parameters.  An option of the type Path names a file or a folder; a sequence may be repeated.
    `--help` has arguments first, then the command's own options, in the order of `options.toml`.
    """
    own = _table().get(command.__name__, {})
    described = {**own, **{name: of for name, of in _table()["shared"].items() if name not in own}}
    types = get_type_hints(command)
    declared: dict[str, inspect.Parameter] = {}
    requests: dict[str, list[str]] = {}
    for parameter in inspect.signature(command).parameters.values():
        kind = types[parameter.name]
        variadic = parameter.kind is inspect.Parameter.VAR_KEYWORD
        if not variadic and not dataclasses.is_dataclass(kind):
            declared[parameter.name] = _declared(parameter, kind, described)
            continue
        found = {
            one.name: _declared(one, of, described)
            for one, of in _parameters(getattr(api, command.__name__) if variadic else kind)
            if one.name in described.keys() - types.keys()
        }
        declared |= found
        if not variadic:
            requests[parameter.name] = [*found]

    repeated = [name for name, one in declared.items() if get_origin(get_args(one.annotation)[0]) is list]

    @functools.wraps(command)
    def with_requests(**values: Any) -> None:
        values |= {name: tuple(values[name] or ()) for name in repeated}
        requested = {name: types[name](**{one: values.pop(one) for one in of}) for name, of in requests.items()}
        command(**values, **requested)

    names = sorted(described, key=lambda name: "argument" not in described[name])
    parameters = [declared[name] for name in names if name in declared]
    vars(with_requests)["__signature__"] = inspect.Signature(parameters)
    with_requests.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_requests


def _parameters(source: Callable[..., Any]) -> Iterator[tuple[inspect.Parameter, Any]]:
    """The parameters of a function or a dataclass, each with its type; those that it unpacks have the default ""."""
    hints = get_type_hints(source)
    for parameter in inspect.signature(source).parameters.values():
        kind = hints[parameter.name]
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            for name, of in get_type_hints(*get_args(kind)).items():
                yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default="" if of is str else ()), of
        else:
            yield parameter, kind


def _declared(parameter: inspect.Parameter, kind: Any, described: dict[str, dict[str, Any]]) -> inspect.Parameter:
    default = parameter.default
    if get_origin(kind) in (tuple, Sequence):
        kind, default = list[get_args(kind)[0]], default or None  # type: ignore[misc]
    option = Annotated[kind, _typer_parameter(kind, **described[parameter.name])]
    return inspect.Parameter(parameter.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=option)


@functools.cache
def _table() -> dict[str, dict[str, dict[str, Any]]]:
    text = Path(__file__).with_name("options.toml").read_text(encoding="utf-8")
    values = {"quantities": ", ".join(QUANTITIES), "dtypes": "|".join(DTYPES), "input_kinds": "|".join(INPUT_KINDS)}
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return tomllib.loads(text)


def _typer_parameter(kind: Any, *, argument: bool = False, flags: str = "", **settings: Any) -> Any:
    if "parser" in settings:
        settings["parser"] = {"duration": duration}[settings["parser"]]
    elif Path in (kind, *get_args(kind)) and not argument:
        settings["parser"] = named_path
    return (typer.Argument if argument else typer.Option)(*flags.split(), **settings)


def output_format(form: str, as_json: bool) -> str:
    """The format that --format and --json select. Raises SelectionError if they contradict each other."""
    if as_json and form not in ("terminal", "json"):
        raise SelectionError(f"--json and --format {form} do not go together; leave one of them out")
    return "json" if as_json else form


class Level(StrEnum):
    """What makes `diff` and `audit` fail: `comparison.LEVELS`; what is documented makes an audit fail at `any` only."""

    regression = "regression"
    change = "change"
    drift = "drift"
    any = "any"
    never = "never"


def print_styled(lines: Iterable[tuple[str, str]]) -> None:
    """Print lines, each with the style of rich that it has, if any."""
    for style, line in lines:
        out.print(f"[{style}]{escape(line)}[/]" if style else escape(line), soft_wrap=True)


def warn(line: str) -> None:
    """Print a line to stderr."""
    err.print(escape(line), soft_wrap=True)


def print_notes(cases: Iterable[Case]) -> None:
    """Print what the files of the cases leave open, of the first of them, and the number of the others, to stderr."""
    _print_first("note", [case.note for case in cases if case.note])


def print_not_executed(items: Sequence[object], consequence: str = "") -> None:
    """Print the first of the items that could not be executed, and the number of the others, to stderr."""
    _print_first(f"not executed{consequence}", items)


def _print_first(what: str, items: Sequence[object]) -> None:
    for item in items[:MAX_FAILURES]:
        warn(f"{what}: {item}")
    if len(items) > MAX_FAILURES:
        warn(f"... and {len(items) - MAX_FAILURES} more")


def _lines(total: int) -> Advance:
    done, printed = 0, time.monotonic()

    def advance(label: str, finished: int = 1, /) -> None:
        nonlocal done, printed
        done += finished
        if (now := time.monotonic()) - printed >= LINE_SECONDS:
            printed = now
            warn(f"{done:,} of {total:,}{f', now {label}' if label else ''}")

    return advance


class Printer(Observer):
    """Prints notes to stderr, and shows progress there."""

    def note(self, line: str) -> None:
        """Print a line."""
        warn(line)

    @contextlib.contextmanager
    def status(self) -> Iterator[Callable[[str], None]]:
        """Show a spinner beside the current step."""
        with err.status("") as status:
            yield lambda line: status.update(escape(line))

    @contextlib.contextmanager
    def rows(self, count: int) -> Iterator[Advance]:
        """Show a progress bar, or say every so often what is done if there is no terminal to draw it on."""
        if not err.is_terminal:
            yield _lines(count)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=err, transient=True) as bar:
            task = bar.add_task("", total=count)
            done, shown = 0, 0.0

            def advance(label: str, finished: int = 1, /) -> None:
                nonlocal done, shown
                done += finished
                if (now := time.monotonic()) - shown >= 1 / bar.live.refresh_per_second:
                    bar.update(task, completed=done, description=f"{escape(label):<8}")
                    shown = now

            yield advance

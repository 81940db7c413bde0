"""`conformance list`: list cases, libraries, or functions and their capabilities."""

from __future__ import annotations

import itertools
from pathlib import Path

from rich.padding import Padding
from rich.text import Text

from conformance import api
from conformance.cli.shared import Printer
from conformance.cli.terminal import out
from conformance.model.text import format_count


def list_cases(cases: Path | None, as_json: bool) -> None:
    out.print_result(api.list_cases(cases), _print_cases, as_json)


def _print_cases(result: api.CaseList) -> None:
    cases = result.cases
    for case in cases:
        out.print(f"[bold]{case.id}[/]", soft_wrap=True)
        problem = f"{case.loss}, {case.input_kind}, {case.target}  {' '.join(case.options.names())}"
        expansion = f"{' '.join(case.dtypes)}; {' '.join(case.reductions)}"
        for text in (problem, expansion, case.why):
            out.print(Padding(Text(text.strip()), (0, 0, 0, 4), expand=False))
    out.print(
        f"{format_count(len(cases), 'case')}, {sum(len(c.dtypes) * len(c.reductions) for c in cases)} after expansion"
    )


def list_functions(as_json: bool) -> None:
    out.print_result(api.list_functions(Printer()), _print_functions, as_json)


def _print_functions(result: api.FunctionList) -> None:
    for library, entries in itertools.groupby(result.functions, lambda entry: entry.function.partition(".")[0]):
        functions = list(entries)
        version = functions[0].version or "not installed"
        out.print(f"[bold]{library}[/]  ({version}), {format_count(len(functions), 'function')}")
        for entry in functions:
            values = entry.to_dict()
            del values["version"]
            out.print(f"  [bold]{values.pop('function')}[/]")
            for heading, value in values.items():
                for line in [value] if isinstance(value, str) else value:
                    out.print(Padding(Text(f"{heading:<12} {line}"), (0, 0, 0, 4), expand=False))


def list_libraries(as_json: bool) -> None:
    out.print_result(api.list_libraries(), _print_libraries, as_json)


def _print_libraries(result: api.LibraryList) -> None:
    for entry in result.libraries:
        installation = f"{entry.installed} here" if entry.installed else "not installed here"
        out.print(
            f"[bold]{entry.library}[/]  ({format_count(entry.functions, 'function')}, {installation})", soft_wrap=True
        )
        for text in entry.environments or ["no release is pinned, so --all leaves it out"]:
            out.print(Padding(Text(text), (0, 0, 0, 4), expand=False))
    out.print(f"{len(result.libraries)} libraries, {sum(entry.functions for entry in result.libraries)} functions")

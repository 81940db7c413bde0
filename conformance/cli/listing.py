"""List cases, or functions and what they support."""

from __future__ import annotations

import typer
from rich.padding import Padding
from rich.text import Text

from conformance import api
from conformance.cli.shared import CasesOption, Json, Printer
from conformance.cli.terminal import out
from conformance.model.text import counted

listing = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@listing.command("cases")
def list_cases(cases: CasesOption = None, as_json: Json = False) -> None:
    """Every case: its id, what it is about, at which dtypes and reductions, and why it is there."""
    result = api.list_cases(cases)
    if as_json:
        out.write(result.to_json())
        return
    found = result.cases
    for case in found:
        out.print(f"[bold]{case.id}[/]", soft_wrap=True)
        problem = f"{case.loss}, {case.input_kind}, {case.target}  {' '.join(case.options.names())}"
        of = f"{' '.join(case.dtypes)}; {' '.join(case.reductions)}"
        for text in (problem, of, case.why):
            out.print(Padding(Text(text.strip()), (0, 0, 0, 4), expand=False))
    out.print(f"{counted(len(found), 'case')}, {sum(len(c.dtypes) * len(c.reductions) for c in found)} after expansion")


@listing.command("functions")
def list_functions(as_json: Json = False) -> None:
    """Every function: what it takes and what it supports, from the adapters' own data."""
    result = api.list_functions(Printer())
    if as_json:
        out.write(result.to_json())
        return
    for entry in result.functions:
        values = entry.to_dict()
        out.print(f"[bold]{values.pop('function')}[/]  ({values.pop('version') or 'not installed'})")
        for heading, value in values.items():
            for line in [value] if isinstance(value, str) else value:
                out.print(Padding(Text(f"{heading:<12} {line}"), (0, 0, 0, 4), expand=False))

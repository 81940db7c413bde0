"""List cases, or functions and what they support."""

from __future__ import annotations

from typing import Any

import typer
from rich.padding import Padding
from rich.text import Text

from conformance import report
from conformance.adapters import registry
from conformance.api.cases import case_facts
from conformance.cli.shared import CasesOption, Json
from conformance.cli.terminal import out
from conformance.judging.case_set import load_suite
from conformance.model.text import counted

listing = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@listing.command("cases")
def list_cases(cases: CasesOption = None, as_json: Json = False) -> None:
    """Every case: its id, what it is about, at which dtypes and reductions."""
    found, _ = load_suite(cases)
    if as_json:
        out.facts("list.cases", {"cases": [case_facts(case) for case in found]})
        return
    for case in found:
        out.print(f"[bold]{case.id}[/]", soft_wrap=True)
        problem = f"{case.loss}, {case.input_kind}, {case.target}  {' '.join(case.options.names())}"
        for text in (problem, case.why):
            out.print(Padding(Text(text.strip()), (0, 0, 0, 4)))
    out.print(f"{counted(len(found), 'case')}, {sum(len(c.dtypes) * len(c.reductions) for c in found)} after expansion")


@listing.command("functions")
def list_functions(as_json: Json = False) -> None:
    """Every function: what it takes and what it supports, from the adapters' own data."""
    available, _ = registry.installed()
    versions = {installed.framework.name: installed.version for installed in available}
    functions = registry.functions()
    table = report.functions_table(functions)
    facts: list[dict[str, Any]] = [dict(zip(report.FUNCTION_COLUMNS, line, strict=True)) for line in table]
    for fact, function in zip(facts, functions, strict=True):
        fact["weights"] = function.weights_handed_over
        fact["not asked"] = [f"{argument} ({what})" for argument, what in function.gaps.items()]
    if as_json:
        out.facts("list.functions", {"functions": facts})
        return
    for fact in facts:
        name = fact.pop("function")
        out.print(f"[bold]{name}[/]  ({versions.get(name.partition('.')[0], 'not installed')})")
        for heading, value in fact.items():
            for line in value if isinstance(value, list) else [value]:
                out.print(Padding(Text(f"{heading:<12} {line}"), (0, 0, 0, 4)))

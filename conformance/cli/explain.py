"""`conformance explain`: why a case has its answer, and why a function returns another."""

from __future__ import annotations

from typing import Annotated, cast

import typer
from rich.markup import escape

from conformance import explain as explanations
from conformance.adapters import registry
from conformance.adapters.registry import Installed
from conformance.casefiles.document import suggest
from conformance.casefiles.known_issues import HARVEST_PREFIX
from conformance.cli.shared import CaseArgument, CasesOption, Json, case_named, one_of
from conformance.cli.terminal import out
from conformance.judging.judge import DIFFERENTIATED, Judge, load_suite
from conformance.judging.selection import SelectionError
from conformance.model.case import QUANTITIES, Case, Quantity, Reduction
from conformance.power.harvest.case_set import load_harvest
from conformance.reference.oracle import cached_oracle


def explain(
    case: CaseArgument,
    function: Annotated[
        list[str] | None, typer.Option("--function", metavar="NAME", help="Only this function; may be repeated.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="One of the case's; float32, or its first, unless given.")] = "",
    reduction: Annotated[str, typer.Option(help="One of the case's; mean, or its first, unless given.")] = "",
    quantity: Annotated[str, typer.Option(help="loss or gradient.")] = "loss",
    cases: CasesOption = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    as_json: Json = False,
) -> None:
    """How a case's answer comes about, what each function does differently, and what makes them equal."""
    if cases is None and case.startswith(HARVEST_PREFIX):
        found, ledger, _ = load_harvest([case.split("/")[1]])
    else:
        found, ledger = load_suite(cases)
    wanted = case_named(found, case, cases)
    usual = "mean" if "mean" in wanted.reductions else wanted.reductions[0]
    narrow = "float32" if "float32" in wanted.dtypes else wanted.dtypes[0]
    chosen = one_of("--dtype", dtype or narrow, wanted.dtypes)
    reduced = cast(Reduction, one_of("--reduction", reduction or usual, wanted.reductions))
    asked_for = cast(Quantity, one_of("--quantity", quantity, QUANTITIES))
    here, _ = registry.installed()
    _check_functions(function or [], here)
    with cached_oracle() as oracle:
        judge = Judge(oracle, ledger)
        explanation = explanations.explain(wanted, chosen, reduced, here, judge, asked_for, function or [])
    if as_json:
        out.facts("explain", explanations.as_data(explanation))
    elif as_markdown:
        out.print(explanations.markdown(explanation), markup=False, soft_wrap=True, end="")
    else:
        for style, line in explanations.terminal(explanation):
            out.print(f"[{style}]{escape(line)}[/]" if style else escape(line), soft_wrap=True)
        _also(wanted, chosen, reduced, asked_for)


def _check_functions(names: list[str], here: list[Installed]) -> None:
    installed = [function.name for there in here for function in there.functions]
    known = [function.name for function in registry.functions()]
    for name in names:
        if name in installed:
            continue
        if name in known:
            raise SelectionError(f"--function {name}: {name.partition('.')[0]} is not installed")
        hint = suggest(name, dict.fromkeys([*installed, *known]))
        raise SelectionError(f"--function {name}: there is no such function; {hint}")


def _also(case: Case, dtype: str, reduction: str, quantity: str) -> None:
    """What else there is to explain."""
    options = {"--dtype": (case.dtypes, dtype), "--reduction": (case.reductions, reduction)}
    other = [f"{name} {value}" for name, (there, used) in options.items() for value in there if value != used]
    differentiated = not case.no_gradient and case.predicted <= DIFFERENTIATED
    other += ["--quantity gradient"] if quantity == "loss" and differentiated else []
    if other:
        out.print("\n".join(["", "Also:", *(f"    {option}" for option in other)]), soft_wrap=True)

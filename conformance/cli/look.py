"""`conformance show`, `expect` and `lint`: cases and their answers, without a run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from conformance import report
from conformance.adapters import registry
from conformance.adapters.arrays import nested
from conformance.casefiles import stated_values
from conformance.casefiles.known_issues import HARVEST_PREFIX
from conformance.casefiles.loading import read as read_cases
from conformance.casefiles.loading import shipped_cases
from conformance.cli import github
from conformance.cli.listing import case_facts
from conformance.cli.shared import CaseArgument, CasesOption, Json, case_named, one_of, shortened
from conformance.cli.terminal import USAGE, out
from conformance.explore.relations import check_names
from conformance.judging.coverage import coverage
from conformance.judging.judge import Item, Judge, load_suite, plan
from conformance.judging.row import array_of
from conformance.judging.unasked import unasked, unasked_lines, unasked_rows
from conformance.judging.verdict import want_of
from conformance.model.case import Case, Reduction
from conformance.model.errors import CaseErrors, CaseFileError
from conformance.model.text import counted
from conformance.power.harvest.case_set import load_harvest
from conformance.reference import oracle
from conformance.reference.oracle import Oracle


def show(
    case: CaseArgument,
    cases: CasesOption = None,
    dtype: Annotated[str, typer.Option(help="Only this dtype.")] = "",
    as_json: Json = False,
) -> None:
    """A case, its exact answer, and what every installed function returns for it, side by side."""
    if cases is None and case.startswith(HARVEST_PREFIX):
        found, ledger, _ = load_harvest([case.split("/")[1]])
    else:
        found, ledger = load_suite(cases)
    wanted = case_named(found, case, cases)
    if dtype:
        one_of("--dtype", dtype, wanted.dtypes)
    here, _ = registry.installed()
    asker = Judge(Oracle(), ledger)
    asked = [(chosen, reduced) for chosen in wanted.dtypes if dtype in ("", chosen) for reduced in wanted.reductions]
    items = plan([wanted], here)
    unsupported = [row for row in unasked_rows([wanted], items, here) if dtype in ("", row["dtype"])]
    if as_json:
        answers = [_answers(wanted, chosen, reduced, items, asker) for chosen, reduced in asked]
        numbers = [{**dataclasses.asdict(number.published), "exact": number.exact, "holds": number.holds}
                   for number in stated_values.published(wanted)]  # fmt: skip
        facts = {**case_facts(wanted), "answers": answers, "published": numbers, "unsupported": unsupported}
        out.facts("show", facts)
        return
    _printcase_named(wanted)
    for chosen, reduced in asked:
        _print_answers(wanted, chosen, reduced, items, asker)
    for line in unasked_lines(unasked([*({"case": item.case.id, "status": ""} for item in items[:1]), *unsupported])):
        out.print(Text(line), soft_wrap=True)
    for number in stated_values.published(wanted):
        verdict = "holds" if number.holds else f"does not hold: {number.exact}"
        out.print(f"published {number.published.value} ({escape(number.published.source)}): {verdict}", soft_wrap=True)


def expect(
    case: CaseArgument,
    cases: CasesOption = None,
    count: Annotated[int, typer.Option("--digits", min=1, max=200, help="How many significant digits.")] = 25,
    as_json: Json = False,
) -> None:
    """Print the exact digits of a case, as its `expect` wants them, so that nobody types them."""
    found, _ = read_cases(shipped_cases() if cases is None else cases)
    block = stated_values.expect_block(case_named(found, case, cases), count)
    if as_json:
        out.facts("expect", {"case": case, "digits": count, "expect": block})
        return
    out.print("expect:", soft_wrap=True)
    for name, value in block.items():
        if name == "error":
            out.print(f"  error: {value}")
            continue
        out.print("  value:")
        for reduction, exact in value.items():
            text = f"# {exact['undefined']}" if isinstance(exact, dict) else json.dumps(exact)
            out.print(f"    {reduction}: {escape(text)}", soft_wrap=True)


def lint(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Case folder or file; the shipped ones unless given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check case files and the ledger: schema, ids, labels, digits, generated arrays, unused entries."""
    where = shipped_cases() if folder is None else folder
    problems: list[CaseFileError] = []
    try:
        check_names(load_suite(where)[1])
    except CaseErrors as error:
        problems += error.errors
    checked, wrong = read_cases(where, generate=True)
    wrong += [error for case in checked for error in stated_values.expectation_errors(case)]
    problems += [error for error in wrong if str(error) not in set(map(str, problems))]
    covered = coverage(checked, registry.functions())
    github.tell(github.complaints(problems), aside=as_json)
    if as_json:
        names = ("path", "line", "column", "where", "message", "advice")
        told = [{name: getattr(problem, name) for name in names} for problem in problems]
        out.facts("lint", {"folder": str(where), "cases": len(checked), "problems": told, "coverage": str(covered)})
        raise typer.Exit(USAGE if problems else 0)
    for problem in problems:
        out.print(escape(str(problem)), soft_wrap=True)
    out.print(f"{counted(len(checked), 'case')} in {where}: {counted(len(problems) or 'no', 'problem')}")
    if not problems:
        out.print(Text(str(covered)))
    raise typer.Exit(USAGE if problems else 0)


def _printcase_named(case: Case) -> None:
    out.print(f"[bold]{case.id}[/]  {case.digest}  {escape(case.path)}:{case.line}", soft_wrap=True)
    out.print(Text(case.why))
    out.print(Text(f"{case.loss} loss of {case.input_kind}, {case.target} targets; {case.source}"))
    out.print(f"predictions {_array(case.predictions)}", soft_wrap=True)
    out.print(f"labels      {_array(case.labels)}", soft_wrap=True)
    for name in case.options.names():
        value = getattr(case.options, name)
        out.print(f"{name} {_array(value) if hasattr(value, 'shape') else value}", soft_wrap=True)
    if case.layout.names():
        out.print(f"layout {' '.join(case.layout.names())}")


def _array(values: Any) -> str:
    return escape(nested(values)) if values.size <= 60 else f"{values.dtype} of shape {values.shape}"


def _answers(case: Case, dtype: str, reduction: Reduction, items: list[Item], asker: Judge) -> dict[str, Any]:
    """The exact answer to 20 digits, and the row of every function, as builtin values."""
    exact = oracle.digits(case.problem(dtype, reduction), count=20)
    rows = [asker.assess(item).record for item in items if (item.dtype, item.reduction) == (dtype, reduction)]
    said = exact if isinstance(exact, str | list) else want_of(exact)
    return {"dtype": dtype, "reduction": reduction, "exact": said, "functions": rows}


def _print_answers(case: Case, dtype: str, reduction: Reduction, items: list[Item], asker: Judge) -> None:
    problem = case.problem(dtype, reduction)
    answer = oracle.digits(problem, count=20)
    if isinstance(answer, list):
        exact = _digits(np.array(answer, dtype=float).tolist())
    else:
        exact = answer if isinstance(answer, str) else want_of(answer)
    table = Table(title=f"{dtype}, {reduction}", title_justify="left", box=None, pad_edge=False)
    for heading in ("function", "status", "returned", "error/budget", "why"):
        table.add_column(heading, overflow="fold")
    table.add_row("exact", "", escape(shortened(exact)), "", "")
    for item in items:
        if (item.dtype, item.reduction) != (dtype, reduction):
            continue
        row = asker.assess(item).record
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3g}"
        why = row["explanation"] if row["conversion"] else row["convention"] or row["explanation"]
        why = f"known: {row['known']}" if row["expected"] == "known" else why
        converted = f" (after {row['bridge']})" if row["bridge"] else ""
        table.add_row(
            report.at_joints(row["function"]).strip(),
            row["status"],
            escape(_legible(row["got"] or row["exception"])),
            ratio,
            escape(why + converted),
        )
    out.print(table)


def _legible(text: str) -> str:
    """Arrays with nine significant digits, which tells float32 numbers apart and fits a terminal."""
    array = array_of(text)
    return shortened(text if array is None or not array.ndim else _digits(array.tolist()))


def _digits(values: list[Any] | float) -> str:
    return f"[{', '.join(map(_digits, values))}]" if isinstance(values, list) else f"{values:.9g}"

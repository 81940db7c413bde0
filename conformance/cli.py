"""The command line: parses and prints.

Exit status: 0 nothing unexpected, 1 a discrepancy that neither a documented convention nor the ledger
accounts for, 2 usage.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import conformance
from conformance import digits, oracle, registry, report, running, suite
from conformance.adapter import nested
from conformance.case import Case, Reduction
from conformance.coverage import coverage
from conformance.errors import CaseErrors, CaseFileError
from conformance.loading import read as read_cases
from conformance.loading import shipped
from conformance.oracle import Exact, Oracle, open_cache
from conformance.registry import AdapterError, Installed
from conformance.report import ReportError
from conformance.selection import SelectionError, compiled, substring_of
from conformance.suite import Item, Row, Suite, load_suite, plan
from conformance.verdict import want_of

app = typer.Typer(
    help="Hold every framework's cross-entropy against one definition.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
listing = typer.Typer(help="List cases, or functions and what they support.", no_args_is_help=True)
app.add_typer(listing, name="list")
out = Console(highlight=False, soft_wrap=False)
err = Console(stderr=True, highlight=False)

FAILURES = 5
"""Items that could not be asked are shown up to this number."""
UNEXPECTED, USAGE, INTERRUPTED = 1, 2, 130
CasesOption = Annotated[
    Path | None, typer.Option("--cases", metavar="DIR", help="Case folder or file; the shipped ones unless given.")
]
CaseArgument = Annotated[
    str, typer.Argument(metavar="CASE", help="Id of a case, as `conformance list cases` prints it.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def main() -> None:
    """Run the command line; whatever is wrong with the input is one message and exit status 2."""
    try:
        app()
    except (CaseErrors, CaseFileError, AdapterError, ReportError, SelectionError) as error:
        err.print(escape(str(error)), soft_wrap=True)
        sys.exit(USAGE)


def _version(asked: bool) -> None:
    if asked:
        out.print(f"cross-entropy-conformance {conformance.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold every framework's cross-entropy against one definition."""


@app.command()
def run(
    cases: CasesOption = None,
    folder: Annotated[Path, typer.Option("--report", metavar="DIR", help="Where the report goes.")] = Path(
        "reports/latest"
    ),
    keyword: Annotated[
        str, typer.Option("-k", metavar="EXPRESSION", help="Only items whose id matches, as in pytest.")
    ] = "",
    framework: Annotated[
        list[str] | None, typer.Option("--framework", "-m", help="Only this framework; may be repeated.")
    ] = None,
    processes: Annotated[int, typer.Option("-n", min=1, help="How many processes share the work.")] = 1,
) -> None:
    """Put every case to every installed function and write the discrepancy report."""
    started = time.time()
    found, ledger = load_suite(cases)
    here, missing = _installed(framework or [])
    items = _selected(found, here, keyword)
    report.check_writable(folder)
    for left_out in missing:
        err.print(f"left out, not installed: {left_out}")
    cache = open_cache()
    rows: list[Row] = []
    failures: list[str] = []
    stopped = ""
    try:
        if processes > 1:
            rows_made = running.rows_from_processes([item.id for item in items], cases, processes)
        else:
            rows_made = running.rows_of(items, Suite(Oracle(cache), ledger))
        with _progress(len(items)) as advance:
            for made in rows_made:
                advance(made)
                (failures if isinstance(made, str) else rows).append(made)  # type: ignore[arg-type]
    except KeyboardInterrupt:
        stopped = "interrupted"
    finally:
        if cache is not None:
            cache.close()
    results = report.frame(rows)
    written = running.write(folder, results, len(items), started, found, stopped)
    _finish(rows, results, len(items), [] if keyword or framework else found, written)
    for failure in failures[:FAILURES]:
        err.print(f"not asked: {escape(failure)}", soft_wrap=True)
    if len(rows) < len(items):
        more = f"{stopped}; " if stopped else ""
        more += f"{len(failures)} could not be asked; " if failures else ""
        err.print(f"{more}{len(rows)} of {len(items)} rows are in the report, which is marked incomplete")
        raise typer.Exit(INTERRUPTED if stopped else USAGE)
    raise typer.Exit(UNEXPECTED if any(row["expected"] in ("unexpected", "stale") for row in rows) else 0)


@listing.command("cases")
def list_cases(cases: CasesOption = None, as_json: Json = False) -> None:
    """Every case: its id, what it is about, at which dtypes and reductions."""
    found, _ = load_suite(cases)
    if as_json:
        out.print_json(json.dumps([_case_facts(case) for case in found]))
        return
    for case in found:
        out.print(
            f"[bold]{case.id}[/]  {case.loss}, {case.given}, {case.target}  {' '.join(case.options.names())}",
            soft_wrap=True,
        )
        out.print(f"    {escape(case.why)}", soft_wrap=True)
    out.print(f"{len(found)} cases, {sum(len(c.dtypes) * len(c.reductions) for c in found)} after expansion")


@listing.command("functions")
def list_functions(as_json: Json = False) -> None:
    """Every function: what it takes and what it supports, from the adapters' own data."""
    here, _ = registry.installed()
    versions = {installed.framework.name: installed.version for installed in here}
    facts = [
        dict(zip(report.FUNCTION_COLUMNS, line, strict=True)) for line in report.functions_table(registry.functions())
    ]
    if as_json:
        out.print_json(json.dumps(facts))
        return
    for fact in facts:
        name = fact.pop("function")
        out.print(f"[bold]{name}[/]  ({versions.get(name.partition('.')[0], 'not installed')})")
        for heading, value in fact.items():
            out.print(f"    {heading:<12} {escape(value)}", soft_wrap=True)


@app.command()
def show(
    case: CaseArgument, cases: CasesOption = None, dtype: Annotated[str, typer.Option(help="Only this dtype.")] = ""
) -> None:
    """A case, its exact answer, and what every installed function returns for it, side by side."""
    found, ledger = load_suite(cases)
    wanted = _case(found, case)
    here, _ = registry.installed()
    _print_case(wanted)
    asker = Suite(Oracle(), ledger)
    for chosen in wanted.dtypes:
        if dtype and chosen != dtype:
            continue
        for reduction in wanted.reductions:
            _print_answers(wanted, chosen, reduction, plan([wanted], here), asker)
    for number in digits.published(wanted):
        verdict = "holds" if number.holds else f"does not hold: {number.exact}"
        out.print(f"published {number.published.value} ({escape(number.published.source)}): {verdict}", soft_wrap=True)


@app.command()
def expect(
    case: CaseArgument,
    cases: CasesOption = None,
    count: Annotated[int, typer.Option("--digits", min=1, max=200, help="How many significant digits.")] = 25,
) -> None:
    """Print the exact digits of a case, as its `expect` wants them, so that nobody types them."""
    found, _ = read_cases(shipped() if cases is None else cases)
    block = digits.expect_block(_case(found, case), count)
    out.print("expect:", soft_wrap=True)
    for name, value in block.items():
        if name == "error":
            out.print(f"  error: {value}")
            continue
        out.print("  value:")
        for reduction, exact in value.items():
            text = f"# {exact['undefined']}" if isinstance(exact, dict) else json.dumps(exact)
            out.print(f"    {reduction}: {escape(text)}", soft_wrap=True)


@app.command()
def lint(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Case folder or file; the shipped ones unless given.")
    ] = None,
) -> None:
    """Check case files and the ledger: schema, ids, labels, digits, generated arrays, unused entries."""
    where = shipped() if folder is None else folder
    problems: list[Any] = []
    try:
        load_suite(where)
    except CaseErrors as error:
        problems += error.errors
    checked, wrong = read_cases(where, generate=True)
    wrong += [error for case in checked for error in digits.wrong_digits(case)]
    problems += [error for error in wrong if str(error) not in set(map(str, problems))]
    for problem in problems:
        out.print(escape(str(problem)), soft_wrap=True)
    covered = coverage(checked, registry.functions())
    out.print(f"{len(checked)} cases in {where}: {len(problems) or 'no'} problem{'s' if len(problems) != 1 else ''}")
    if not problems:
        out.print(escape(str(covered)), soft_wrap=True)
    raise typer.Exit(USAGE if problems else 0)


# What the commands share.


def _installed(names: list[str]) -> tuple[list[Installed], list[str]]:
    here, missing = registry.installed()
    known = [framework.name for framework in registry.frameworks()]
    for name in names:
        if name not in known:
            raise SelectionError(f"--framework {name}: there is no such framework; there are {', '.join(known)}")
    if names:
        here = [installed for installed in here if installed.framework.name in names]
        missing = [framework for framework in missing if framework.name in names]
    if not here:
        which = ", ".join(names or known)
        raise SelectionError(
            f'none of {which} is installed, so there is nothing to run: pip install "cross-entropy-conformance[all]"'
        )
    return here, [framework.name for framework in missing]


def _selected(cases: list[Case], here: list[Installed], keyword: str) -> list[Item]:
    selected = compiled(keyword) if keyword else None
    items = plan(cases, here, None if selected is None else lambda _, name: selected(substring_of(name)))
    if not items:
        what = f"by -k {keyword!r}" if keyword else "of what the installed functions can express"
        raise SelectionError(f"nothing is selected {what}; `conformance list cases` prints what there is")
    return items


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("", total=total)

        def advance(made: Row | str) -> None:
            progress.update(task, advance=1, description="" if isinstance(made, str) else f"{made['framework']:<8}")

        yield advance


def _finish(rows: list[Row], results: pd.DataFrame, planned: int, cases: list[Case], written: Path) -> None:
    for row in rows:
        if row["expected"] in ("unexpected", "stale"):
            out.print(f"[bold]{row['expected']}[/] {escape(_headline(row))}", soft_wrap=True)
    if rows:
        out.print(report.status_table(results))
        for line in running.closing_lines(rows, planned, cases):
            out.print(escape(line), soft_wrap=True)
    out.print(f"report: {written}", soft_wrap=True)


def _headline(row: Row) -> str:
    name = f"{row['function']}-{row['case']}-{row['dtype']}-{row['reduction']}"
    return f"{name}: {row['explanation']}\n    {_shortened(row['call'])}"


def _case(cases: list[Case], wanted: str) -> Case:
    for case in cases:
        if case.id == wanted:
            return case
    near = [case.id for case in cases if wanted.lower() in case.id]
    import difflib

    near = near or difflib.get_close_matches(wanted, [case.id for case in cases], n=3)
    hint = f"; did you mean {', '.join(near[:5])}?" if near else "; `conformance list cases` prints them"
    raise SelectionError(f"there is no case {wanted}{hint}")


def _case_facts(case: Case) -> dict[str, Any]:
    return {
        "case": case.id,
        "digest": case.digest,
        "why": case.why,
        "loss": case.loss,
        "given": case.given,
        "target": case.target,
        "options": list(case.options.names()),
        "layout": list(case.layout.names()),
        "dtypes": list(case.dtypes),
        "reductions": list(case.reductions),
        "path": case.path,
        "line": case.line,
    }


def _print_case(case: Case) -> None:
    out.print(f"[bold]{case.id}[/]  {case.digest}  {case.path}:{case.line}", soft_wrap=True)
    out.print(escape(case.why), soft_wrap=True)
    out.print(f"{case.loss} loss of {case.given}, {case.target} targets; {escape(case.source)}", soft_wrap=True)
    out.print(f"predictions {_array(case.predictions)}", soft_wrap=True)
    out.print(f"labels      {_array(case.labels)}", soft_wrap=True)
    for name in case.options.names():
        value = getattr(case.options, name)
        out.print(f"{name} {_array(value) if hasattr(value, 'shape') else value}", soft_wrap=True)
    if case.layout.names():
        out.print(f"layout {' '.join(case.layout.names())}")


def _array(values: Any) -> str:
    return escape(nested(values)) if values.size <= 60 else f"{values.dtype} of shape {values.shape}"


def _print_answers(case: Case, dtype: str, reduction: Reduction, items: list[Item], asker: Suite) -> None:
    problem = suite.problem_of(case, dtype, reduction)
    answer = oracle.digits(problem, count=20)
    exact = json.dumps(answer).replace('"', "") if isinstance(answer, str | list) else str(want_of(answer))
    table = Table(title=f"{dtype}, {reduction}", title_justify="left", box=None, pad_edge=False)
    for heading in ("function", "status", "returned", "error/budget", "why"):
        table.add_column(heading, overflow="fold")
    table.add_row("exact", "", escape(_legible(exact) if isinstance(answer, list) else _shortened(exact)), "", "")
    for item in items:
        if (item.dtype, item.reduction) != (dtype, reduction):
            continue
        row = asker.assess(item).row
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3g}"
        why = row["convention"] or row["explanation"]
        bridged = f" (after {row['bridge']})" if row["bridge"] else ""
        table.add_row(
            report.at_joints(row["function"]).strip(),
            row["status"],
            escape(_legible(row["got"] or row["exception"])),
            ratio,
            escape(why + bridged),
        )
    out.print(table)


def _legible(text: str) -> str:
    """Arrays with nine significant digits, which tells float32 numbers apart and fits a terminal."""
    if text.startswith("["):
        text = re.sub(r"-?\d+\.\d+(e[+-]?\d+)?", lambda found: f"{float(found[0]):.9g}", text)
    return _shortened(text)


def _shortened(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:160]}..."


__all__ = ["Exact", "app", "main"]

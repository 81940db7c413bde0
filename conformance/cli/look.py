"""`conformance show`, `explain`, `expect` and `lint`: cases and their answers, without a run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from conformance import api
from conformance.adapters.arrays import nested
from conformance.api.cases import CaseAnswers, ShowResult
from conformance.cli import github
from conformance.cli.shared import MAX_WIDTH, print_not_executed, print_notes, print_styled
from conformance.cli.terminal import USAGE, out
from conformance.explain import rendering
from conformance.judging.plan import MAX_DIFFERENTIATED
from conformance.judging.row import Elements, Row
from conformance.judging.unsupported import problem_cells, render_unsupported, unsupported_problems
from conformance.judging.verdict import serialize_answer
from conformance.model.case import Case
from conformance.model.row_key import unusual
from conformance.model.text import format_count, truncate, truncate_list


def show(case: str, as_json: bool, **request: Any) -> None:
    shown = api.show(case, **request)
    out.print_result(shown, _print, as_json)
    print_notes([shown.case])
    print_not_executed(shown.not_executed)
    if shown.not_executed:
        raise typer.Exit(USAGE)


def explain(
    case: str,
    as_markdown: bool,
    as_json: bool,
    **request: Any,
) -> None:
    result = api.explain(case, **request)
    explanation = result.explanation
    print_notes([result.case])
    if as_json:
        out.write(result.to_json())
    elif as_markdown:
        out.print(rendering.markdown(explanation), markup=False, soft_wrap=True, end="")
    else:
        print_styled(rendering.terminal(explanation, out.width))
        _print_other_options(result.case, explanation.dtype, explanation.reduction, explanation.quantity)


def _print_other_options(case: Case, dtype: str, reduction: str, quantity: str) -> None:
    """Print further options that can be explained."""
    options = {"--dtype": (case.dtypes, dtype), "--reduction": (case.reductions, reduction)}
    alternatives = [f"{name} {value}" for name, (values, used) in options.items() for value in values if value != used]
    differentiated = not case.no_gradient and case.predicted <= MAX_DIFFERENTIATED
    alternatives += ["--quantity gradient"] if quantity == "loss" and differentiated else []
    if alternatives:
        out.print("\n".join(["", "Also:", *(f"    {option}" for option in alternatives)]), soft_wrap=True)


def expect(case: str, as_json: bool, **request: Any) -> None:
    out.print_result(api.expect(case, **request), _print_expectation, as_json)


def _print_expectation(result: api.ExpectResult) -> None:
    out.print("expect:", soft_wrap=True)
    for name, value in result.expect.items():
        if name == "error":
            out.print(f"  error: {value}")
            continue
        out.print("  value:")
        for reduction, exact in value.items():
            text = f"# {exact['undefined']}" if isinstance(exact, dict) else json.dumps(exact)
            out.print(f"    {reduction}: {escape(text)}", soft_wrap=True)


def lint(
    folder: Path | None,
    strict: bool,
    as_json: bool,
) -> None:
    checked = api.lint(folder, strict=strict)
    problems = checked.problems
    github.emit(github.error_commands(problems), aside=as_json)
    if as_json:
        out.write(checked.to_json())
        raise typer.Exit(USAGE if problems else 0)
    out.paragraphs(map(str, problems))
    out.paragraphs(f"note: {note}" for note in checked.notes)
    uncounted = f" and {format_count(checked.uncounted, 'file')} that cannot be counted" if checked.uncounted else ""
    subject = f"{format_count(checked.cases, 'case')}{uncounted}"
    out.print(f"{subject} in {checked.folder}: {format_count(len(problems) or 'no', 'problem')}")
    if not problems and folder is None:
        out.print(Text(str(checked.coverage)))
    raise typer.Exit(USAGE if problems else 0)


def _print(shown: ShowResult) -> None:
    _print_case(shown.case)
    for answers in shown.answers:
        _print_answers(answers)
    called = [row for answers in shown.answers for row in answers.rows]
    out.paragraphs(render_unsupported(unsupported_problems(map(problem_cells, [*called, *shown.unsupported]))))
    for number in shown.published:
        stated, record = number.published, number.record()
        label = f"{stated.reduction}, {stated.quantity}" if stated.quantity != "loss" else stated.reduction
        source = f" ({stated.source})" if stated.source else ""
        verdict = f"holds in {number.dtype}" if number.holds else f"does not hold: {number.exact}"
        out.paragraphs([f"published {record['value']}{source}, {label}: {verdict}"])
        out.paragraphs(f"    {line}" for line in record["explanations"])


def _print_case(case: Case) -> None:
    out.print(f"[bold]{case.id}[/]  {case.digest}  {escape(case.path)}:{case.line}")
    if case.why:
        out.print(Text(case.why))
    source = f"; {case.source}" if case.source else ""
    out.print(Text(f"{case.loss} loss of {case.input_kind}, {case.written_target or case.target} targets{source}"))
    if case.axis_note:
        out.print(case.axis_note)
    out.print(f"predictions {_array(case.predictions)}")
    out.print(f"labels      {_array(case.layout.name_labels(case.labels))}")
    if names := case.layout.class_names:
        out.print(f"classes     {truncate(str(list(names)), 400)}")
    for name in case.options.names():
        value = getattr(case.options, name)
        out.print(f"{name} {_array(value) if hasattr(value, 'shape') else value}")
    if words := case.layout.words():
        out.print(f"layout {', '.join(words.values())}")


def _array(values: Any) -> str:
    return escape(nested(values)) if values.size <= 60 else f"{values.dtype} of shape {values.shape}"


def _print_answers(answers: CaseAnswers) -> None:
    answer = answers.exact
    if isinstance(answer, list):
        exact = _digits(np.array(answer, dtype=float).tolist())
    else:
        exact = answer if isinstance(answer, str) else serialize_answer(answer)
    table = Table(title=f"{answers.dtype}, {answers.reduction}", title_justify="left", box=None, pad_edge=False)
    for heading in ("function", "status", "returned", "error/budget", "why"):
        table.add_column(heading)
    table.add_row("exact", "", escape(truncate_list(exact, MAX_WIDTH)), "", "")
    derivatives: dict[str, Elements] = {}
    for row in answers.rows:
        if row.key.quantity != "loss" and isinstance(row.want, Elements):
            derivatives.setdefault(row.key.quantity, row.want)
    for quantity, want in derivatives.items():
        table.add_row(f"exact, {quantity}", "", escape(truncate_list(_digits(want.values.tolist()), MAX_WIDTH)), "", "")
    for row in answers.rows:
        why = row.explanation if row.conversion else row.convention or row.explanation
        why = f"known: {row.known}" if row.expected == "known" else why
        converted = f" (after {row.bridge})" if row.bridge else ""
        table.add_row(
            ", ".join([row.key.function, *unusual(row.key.quantity, row.key.mode, row.key.device)]),
            row.status,
            escape(_result_text(row)),
            _ratio(row),
            escape((why + converted).strip()),
        )
    out.print(table)


def _ratio(row: Row) -> str:
    """The error in units of the tolerance, or why there is no number for it."""
    if row.ratio is None or math.isfinite(row.ratio):
        return "" if row.ratio is None else f"{row.ratio:.3g}"
    return "not a number" if row.got is not None and np.isnan(row.got.values).any() else "infinitely far"


def _result_text(row: Row) -> str:
    """The returned value or the exception."""
    if row.got is None or not row.got.shape:
        return truncate(str(row.cells["got"] or row.cells["exception"]), MAX_WIDTH)
    return truncate_list(_digits(row.got.values.tolist()), MAX_WIDTH)


def _digits(values: list[Any] | float) -> str:
    """Arrays with nine significant digits, which distinguish float32 numbers and fit a terminal."""
    return f"[{', '.join(map(_digits, values))}]" if isinstance(values, list) else f"{values:.9g}"

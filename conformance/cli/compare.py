"""`conformance compare`: call all installed functions on one data set."""

from __future__ import annotations

from typing import Any

import typer
from rich.markup import escape

from conformance import api
from conformance.api.data_files import read_file
from conformance.cli.shared import MAX_WIDTH, print_styled
from conformance.cli.terminal import out
from conformance.explain import rendering
from conformance.model.text import truncate

FILE = "FILE[:NAME]"
FLOAT_WIDTH = 24
"""Number of characters of the longest float64."""


def compare(
    labels: str,
    predictions: str,
    logits: str,
    probabilities: str,
    log_probabilities: str,
    class_weights: str,
    sample_weights: str,
    positive_weight: str,
    classes: str,
    verbose: bool,
    as_json: bool,
    **request: Any,
) -> None:
    passed = {"": predictions, "logits": logits, "probabilities": probabilities, "log_probabilities": log_probabilities}
    chosen = {kind: text for kind, text in passed.items() if text}
    if len(chosen) != 1:
        raise typer.BadParameter("name one of --predictions, --logits, --probabilities and --log-probabilities")
    ((kind, text),) = chosen.items()
    result = api.compare(
        read_file("--labels", labels),
        read_file(f"--{(kind or 'predictions').replace('_', '-')}", text),
        kind=kind,
        classes=[name.strip() for name in classes.split(",")] if classes else None,
        class_weights=_numbers("--class-weights", class_weights),
        sample_weights=_numbers("--sample-weights", sample_weights),
        positive_weight=_numbers("--positive-weight", positive_weight),
        **request,
    )
    out.print_result(result, lambda comparison: _print(comparison, verbose), as_json)


def _numbers(option: str, text: str) -> Any:
    """Numbers separated by commas, or the array in a file; None for an empty text."""
    if not text:
        return None
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        return read_file(option, text)
    return numbers if len(numbers) > 1 else numbers[0]


def _print(result: api.CompareResult, verbose: bool) -> None:
    explanation = result.explanation
    out.paragraphs(f"{sentence}." for sentence in result.decided)
    problem = dict(explanation.facts)["problem"]
    out.print(escape(f"{problem}, {explanation.reduction}, {explanation.quantity}"))
    out.print()
    lines = [("exact", explanation.derivation.answer or explanation.derivation.why, "")]
    for function in explanation.functions:
        choices = [*([function.conversion] if function.conversion else []), *(d.choice for d in function.differences)]
        known = " (known)" if function.ledger_status == "known" else ""
        why = f": {', '.join(choices)}" if choices else ""
        lines.append((function.function, truncate(function.outcome, MAX_WIDTH), f"{function.status}{known}{why}"))
    names, values = (max(len(line[column]) for line in lines) for column in (0, 1))
    for name, value, why in lines:
        out.print(escape(f"{name:<{names}}  {value:<{min(values, FLOAT_WIDTH)}}  {why}".rstrip()), soft_wrap=True)
    for number in result.observed:
        first, *details = number.lines()
        out.print(f"\n[bold]{escape(number.name)}[/]: {escape(first)}")
        out.paragraphs(f"    {line}" for line in details)
    print_styled(rendering.terminal(explanation, out.width, complete=verbose))

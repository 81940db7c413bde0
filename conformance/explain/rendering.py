"""Render explanations as blocks in reading order, and these for a terminal, as Markdown, and as data.

Terminal lines have at most 80 columns, except words that are longer and text to be copied, which is not wrapped.
"""

from __future__ import annotations

import dataclasses
import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from conformance.explain.explanation import (
    ChoiceEffect,
    Decomposition,
    Derivation,
    Explanation,
    FunctionResult,
    KnownIssueNote,
    Step,
)
from conformance.explain.number_format import format_number
from conformance.model.case import is_derivative
from conformance.model.text import as_sentence, printable, source_or_comment
from conformance.report.markdown import code, escaped, fenced_block

WIDTH = 80
INDENT = 4
MAX_PARAGRAPH = 100_000
"""Maximum number of characters of one paragraph in Markdown, which is not wrapped."""
_JSON_KEYS = {
    "omitted": "left_out",
    "undefined_text": "instead",
    "tolerance": "allowed",
    "error_ratio": "ratio",
    "location": "place",
    "message": "because",
    "conversion_effect": "bridge",
    "decomposition": "split",
    "skipped": "unasked",
    "index": "where",
    "steps": "lines",
    "definition_formula": "rule",
    "expected": "want",
    "actual": "got",
    "outcome": "got",
    "ledger_status": "expected",
    "known_issue": "ledger",
    "documentation_url": "source",
}
"""Keys of the published JSON that differ from the names of the fields."""
STATUS_TEXT = {
    "agrees": "agrees",
    "diverges": "diverges",
    "disagrees": "disagrees with the definition and with what it documents",
    "crashed": "crashed",
    "timed_out": "timed out",
    "undefined": "is called with a problem that has no right answer",
    "unsupported": "cannot say this",
}


class Block(NamedTuple):
    """A paragraph of an explanation."""

    kind: Literal["heading", "prose", "formula", "code"]
    """A formula is a step of a derivation; code is text to copy and is not wrapped."""
    text: str
    level: int
    """Level of a heading; indentation of a formula or code; 0 for prose."""


def _heading(text: str, level: int = 1) -> Block:
    return Block("heading", text, level)


def _prose(text: str) -> Block:
    return Block("prose", text, 0)


def _formula(text: object, depth: int = 1) -> Block:
    return Block("formula", str(text), depth)


def _code(text: str, depth: int = 1) -> Block:
    return Block("code", text, depth)


def render_blocks(explanation: Explanation, *, complete: bool = True) -> Iterator[Block]:
    """Yield an explanation in reading order.

    complete: whether to include the derivation of the answer and the functions that agree.
    """
    if complete:
        quantity_text = "" if explanation.quantity == "loss" else f", {explanation.quantity}"
        yield _heading(f"{explanation.case} ({explanation.dtype}, {explanation.reduction}{quantity_text})")
        if explanation.why:
            yield _prose(explanation.why)
        for name, value in explanation.facts:
            yield _formula(f"{name}: {value}")
        yield _heading("How the answer comes about", 2)
        yield from _derivation_blocks(explanation.derivation, explanation.quantity)
        yield from _published_blocks(explanation.published)
        yield from _agreeing_blocks([function for function in explanation.functions if not function.differs])
    yield from _differing_blocks([function for function in explanation.functions if function.differs])
    if explanation.skipped:
        yield _heading("Functions that do not support it", 2)
    reasons = dict.fromkeys(why for _, why in explanation.skipped)
    for reason in reasons:
        names = [name for name, why in explanation.skipped if why == reason]
        yield _formula(f"{reason}: {', '.join(names)}")


def _differing_blocks(functions: Sequence[FunctionResult]) -> Iterator[Block]:
    """Why functions differ; functions that differ in the same way are explained once."""
    described: dict[object, str] = {}
    for function in functions:
        key = _equivalence_key(function)
        if key in described:
            yield _headline(function)
            yield _prose(f"Just as {described[key]} above.")
            yield _code(function.reproduce)
        else:
            described[key] = function.function
            yield from function_blocks(function)


def _published_blocks(published: Sequence[Mapping[str, Any]]) -> Iterator[Block]:
    for number in published:
        wrong = f"which does not hold: in float64 it is {number['exact']}"
        source = f" ({number['source']})" if number["source"] else ""
        verdict = f"which holds in {number['dtype']}" if number["holds"] else wrong
        yield _prose(f"Published is {number['value']}, {verdict}{source}.")
        lines = number["explanations"]
        for line in lines[:1]:
            yield _prose(f"{line[:1].upper()}{line[1:]}{':' if len(lines) > 1 else '.'}")
        yield from map(_formula, lines[1:])


def _equivalence_key(function: FunctionResult) -> object:
    """Functions with an equal key share one explanation."""
    advice = tuple((remedy.advice, remedy.shown) for remedy in function.remedies)
    return (
        function.status,
        function.ledger_status,
        function.outcome,
        function.conversion_effect,
        function.differences,
        function.known_issue,
        advice,
    )


def _headline(function: FunctionResult) -> Block:
    known = " (known)" if function.ledger_status == "known" else ""
    status = STATUS_TEXT[function.status]
    if function.status == "diverges":
        causes = ["by the conversion of its predictions"] if function.conversion else []
        causes += ["as it documents"] if function.differences else []
        status = f"{status}, {' and '.join(causes)}" if causes else status
    return _heading(f"{function.function} {function.version} {status}{known}", 2)


def _behaviour(function: FunctionResult) -> str:
    return f"{'returns' if function.returned else 'raises'} {function.outcome}"


def _error_text(split: Decomposition | None) -> str:
    if split is None or not split.error_ratio:
        return ""
    return f", off by {split.error_ratio:.2g} of the error that rounding is allowed"


def _derivation_blocks(derivation: Derivation, quantity: str) -> Iterator[Block]:
    yield _formula(derivation.definition_formula)
    if derivation.samples or derivation.reduction:
        yield _prose("What follows is rounded from exact numbers.")
    for sample in derivation.samples:
        index = str(sample.index[0]) if len(sample.index) == 1 else str(list(sample.index))
        yield _formula(f"{f'sample {index}' if sample.index else 'the sample'}: {sample.about}")
        for step in sample.steps:
            yield _formula(step, 2)
    if derivation.omitted:
        yield _formula(f"samples that are not shown: {derivation.omitted}")
    if is_derivative(quantity) and derivation.reduction:
        yield _prose("The largest element, as an example:")
    for line in derivation.reduction:
        yield _formula(line)
    if derivation.why:
        yield _prose(derivation.why)
    if derivation.answer:
        yield _prose(
            f"The exact answer{', rounded to float64' if '[' not in derivation.answer else ''}: {derivation.answer}"
        )


def _agreeing_blocks(functions: Sequence[FunctionResult]) -> Iterator[Block]:
    if functions:
        yield _heading("Who agrees", 2)
    for function in functions:
        yield _formula(
            f"{function.function} {function.version} {_behaviour(function)}{_error_text(function.decomposition)}"
        )
        if function.conversion_effect:
            yield _formula(function.conversion_effect, 2)
        if function.ledger_status == "stale" and function.known_issue is not None:
            yield _formula(f"The ledger, {function.known_issue.location}, says that it disagrees; remove the entry.", 2)


def function_blocks(function: FunctionResult) -> Iterator[Block]:
    """Yield the explanation of one function that differs."""
    yield _headline(function)
    yield _formula(f"It {_behaviour(function)}")
    yield from _cause_blocks(function)
    if function.decomposition is not None:
        yield from _decomposition_blocks(function.decomposition)
    if function.remedies:
        yield _prose("What makes them equal (tried, within the allowed error):")
    for remedy in function.remedies:
        yield _formula(f"{remedy.advice}: {remedy.shown}")
        if remedy.call:
            yield _code(remedy.call, 2)
    if function.known_issue is not None:
        yield from _ledger_blocks(function.known_issue)
    if function.documentation_url and function.differences:
        yield _prose("Documented at:")
        yield _code(function.documentation_url)
    if function.reproduce:
        yield _prose("To see it:")
        yield _code(function.reproduce)


def _cause_blocks(function: FunctionResult) -> Iterator[Block]:
    """The causes of a function's difference."""
    if function.conversion_effect:
        yield _prose(function.conversion_effect)
    conversion_rendered = function.status == "diverges" and function.conversion
    if not function.differences and function.message and not conversion_rendered:
        yield _prose(as_sentence(function.message))
    for number, difference in enumerate(function.differences):
        yield from _difference_blocks(difference, also=number > 0)
    if function.status == "disagrees" and function.differences:
        yield _prose(f"That does not explain what it returns: {function.message}.")
    if function.gradient:
        yield _prose("By the definition, where it is furthest off:")
        for line in function.gradient:
            yield _formula(line)


def _ledger_blocks(entry: KnownIssueNote) -> Iterator[Block]:
    yield _prose(f"The ledger knows it ({entry.location}): {entry.reason}")
    for text in filter(None, (entry.see, entry.reproducer)):
        yield _code(text)
    if entry.shows:
        yield _formula(f"shows {entry.shows}")


def _difference_blocks(difference: ChoiceEffect, also: bool) -> Iterator[Block]:
    instead = f"; the definition {difference.definition}" if difference.definition else ""
    yield _prose(f"It {'also ' if also else ''}{difference.meaning}{instead} ({difference.choice}).")
    for line in difference.steps:
        yield _formula(line)
    if difference.before or difference.after:
        if difference.before == difference.after:
            yield _formula(f"here that leaves the answer at {difference.after}")
        else:
            yield _formula(f"that takes the answer from {difference.before} to {difference.after}")


def _decomposition_blocks(split: Decomposition) -> Iterator[Block]:
    place = f" at {list(split.index)}" if split.index else ""
    name = "by rounding" if split.error_ratio <= 1 else "beyond rounding, unexplained"
    distance = f" ({split.error_ratio:.3g} x the tolerance {split.tolerance:.3g}, {split.ulps:.3g} ulp)"
    if split.numeric is None:
        distance = ""
    total, semantic, numeric = (
        ("not a number" if split.actual == "nan" else "no finite number") if value is None else format_number(value, 5)
        for value in (split.total, split.semantic, split.numeric)
    )
    rounding = f"{Step(name, '', _subtraction_text(split.actual, split.by_convention), numeric)}{distance}"
    if split.undefined_text:
        yield _prose(f"By the definition there is {split.undefined_text}; from what it documents it is off{place}")
        yield _formula(rounding)
        return
    yield _prose(
        f"The difference from the definition{place}: {_subtraction_text(split.actual, split.expected)} = {total}"
    )
    yield _formula(str(Step(split.cause, "", _subtraction_text(split.by_convention, split.expected), semantic)))
    yield _formula(rounding)


def _subtraction_text(a: str, b: str) -> str:
    return f"{a} - ({b})" if b.startswith("-") else f"{a} - {b}"


def terminal(explanation: Explanation, width: int = WIDTH, *, complete: bool = True) -> Iterator[tuple[str, str]]:
    """Yield pairs (style, line) for rich; the style is `bold`, `dim` or empty and may be ignored.

    width: number of columns, of which at most `WIDTH` are used.  complete: see `render_blocks`.
    """
    width = min(width, WIDTH)
    for kind, text, level in render_blocks(explanation, complete=complete):
        match kind:
            case "heading":
                if level > 1:
                    yield "", ""
                yield from (("bold", line) for line in _wrap(text, width, 0))
            case "prose":
                yield from (("", line) for line in _wrap(text, width, INDENT // 2, 0))
            case "formula":
                yield from (("", line) for line in _wrap(text, width, INDENT * level))
            case "code":
                yield from (("dim", " " * INDENT * level + line) for line in printable(text).splitlines())


def _wrap(text: str, width: int, indent: int, hanging: int = INDENT // 2) -> list[str]:
    return textwrap.wrap(
        printable(" ".join(text.split())),
        width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + hanging),
        break_on_hyphens=False,
        break_long_words=False,
    )


def markdown(explanation: Explanation) -> str:
    """Render as Markdown, with formulas in code blocks so that they are not parsed as markup."""
    parts: list[str] = []
    for is_formula, blocks in itertools.groupby(render_blocks(explanation), lambda block: block.kind == "formula"):
        if is_formula:
            lines = ["  " * (level - 1) + printable(" ".join(text.split())) for _, text, level in blocks]
            parts.append(fenced_block("\n".join(lines), "text"))
            continue
        for kind, text, level in blocks:
            if kind != "code":
                mark = f"{'#' * (level + 1)} " if kind == "heading" else ""
                parts.append(mark + escaped(text, MAX_PARAGRAPH))
            elif "\n" in text.strip():
                parts.append(fenced_block(text, "python"))
            else:
                parts.append(code(source_or_comment(text, MAX_PARAGRAPH), MAX_PARAGRAPH))
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def serialize_explanation(explanation: Explanation) -> dict[str, Any]:
    """The explanation as builtin values."""
    return dict(_with_json_keys(dataclasses.asdict(explanation)))


def _with_json_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {_JSON_KEYS.get(name, name): _with_json_keys(inner) for name, inner in value.items()}
    return list(map(_with_json_keys, value)) if isinstance(value, list | tuple) else value

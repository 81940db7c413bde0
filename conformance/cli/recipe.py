"""`conformance recipe`: print code that makes one function equal another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from conformance import api
from conformance.cli.shared import print_styled
from conformance.cli.terminal import out
from conformance.model.text import format_count

DIFFERENT = 1
"""Exit status if no code makes the functions equal."""
MAX_REMAINING = 8
"""Maximum number of reasons that are printed."""


def recipe(first: str, second: str, gradient: bool, as_json: bool, **request: Any) -> None:
    result = api.recipe(first, second, quantity="gradient" if gradient else "loss", **request)
    out.print_result(result, lambda outcome: print_styled(_lines(outcome, first, second)), as_json)
    raise typer.Exit(0 if result.equal else DIFFERENT)


def _lines(result: api.RecipeResult, first: str, second: str) -> Iterator[tuple[str, str]]:
    setting = result.setting
    yield "bold", f"{first} as {second}"
    options = ", ".join(setting.options) or "no options"
    kind = setting.input_kind.replace("_", "-")
    words = [f"{setting.loss} {setting.quantity} of {kind}", f"{setting.target} targets", options, setting.reduction]
    words += [setting.dtype, *setting.layout]
    words += [f"labels in {setting.label_dtype}"] if setting.label_dtype else []
    words += [f"weights in {setting.weight_dtype}"] if setting.weight_dtype else []
    yield "", ", ".join(words)
    if result.plain:
        case, *returned = result.plain
        yield "", f"As they stand they return {' and '.join(returned)} for {case}."
    if result.why:
        yield from (("", ""), ("bold", "No recipe"), ("", f"  {result.why}"))
    sides = [side for side in (result.first, result.second) if side is not None]
    for side in sides:
        yield from (("", ""), ("bold", f"{side.function} {side.version}"))
        arrays = (f"{name}: {dtype} {list(shape)}" for name, dtype, shape in side.arrays)
        yield "dim", f"    # {'; '.join(arrays)}"
        yield from (("", f"    {line}") for line in side.code.splitlines())
        yield from (("", f"  {change}") for change in side.changes)
    if len(sides) == 2:
        yield from (("", ""), ("bold", "Arguments"))
        yield from (("", line) for line in _table(*sides))
    if result.differences:
        yield from (("", ""), ("bold", "What they do differently, as they stand"))
        for name, value_a, value_b in result.differences:
            yield from (("", f"  {name}"), ("", f"    {first} {value_a}"), ("", f"    {second} {value_b}"))
    yield from _proof(result)


def _table(first: api.RecipeSide, second: api.RecipeSide) -> list[str]:
    """A line for each option for which one of the functions has an argument."""

    def shown(argument: str | None) -> str:
        return "-" if argument is None else argument.replace("{}", "...") or "as it is"

    names = [name for name in first.arguments if (first.arguments[name], second.arguments[name]) != (None, None)]
    rows = [("", first.function, second.function)]
    rows += [(name, shown(first.arguments[name]), shown(second.arguments[name])) for name in names]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return [f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}" for row in rows]


def _proof(result: api.RecipeResult) -> Iterator[tuple[str, str]]:
    proof = result.proof
    if result.needed and result.first is not None:
        yield from (("", ""), ("bold", "Unproved here"))
        both = " and ".join(result.needed)
        yield "", f"  It follows from what both document, and was not called. An environment with {both} proves it."
    if result.known:
        yield from (("", ""), ("bold", "Known to be wrong"))
        for function, reason, cases in result.known:
            yield "", f"  {function} as it stands, in {format_count(len(cases), 'case')} such as {cases[0]}: {reason}"
    if proof.equal:
        yield from (("", ""), ("bold", "Proved"))
        total = len(proof.equal)
        yield (
            "",
            f"  {format_count(total, 'case')}: both return the same, and what is exact, within the error of rounding.",
        )
        remainder = f"; {total - proof.close} by up to {proof.ulps:.3g} ulp" if proof.close < total else ""
        bound = (
            f"{proof.close} differ by at most 4 ulp{remainder}"
            if remainder
            else f"They differ by at most {proof.ulps:.3g} ulp"
        )
        error = f", {proof.ratio:.2g} of the error that rounding is allowed"
        yield "", f"  {bound}{error}." if proof.ulps else "  They are equal bit for bit."
    if proof.remaining:
        yield from (("", ""), ("bold", "What remains"))
        for group in proof.remaining[:MAX_REMAINING]:
            why = "; ".join(group.why) or "nothing that they document says why"
            yield "", f"  {format_count(len(group.cases), 'case')}: {why}"
            yield "dim", f"    {group.first} and {group.second} in {group.cases[0]}"
        if len(proof.remaining) > MAX_REMAINING:
            yield "", f"  and {len(proof.remaining) - MAX_REMAINING} more reasons, in --json"
    for why in proof.skipped:
        yield "", f"  not executed: {why}"

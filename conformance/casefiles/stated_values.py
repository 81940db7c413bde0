"""Compares printed numbers with the oracle: those that a case expects, and published ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from flint import arb, ctx

from conformance.model.case import Case, Digits, Published, Reduction
from conformance.model.convention import DEFINITION
from conformance.model.errors import CaseFileError
from conformance.reference import oracle
from conformance.reference.flat_problem import refused
from conformance.reference.oracle import Invalid, NoAnswerError, Undefined

PRECISION = 512


@dataclass(frozen=True)
class PublishedVerdict:
    """Whether a published number is right to its printed digits, with the exact one (float64 inputs)."""

    case: str
    published: Published
    exact: str
    holds: bool


def published(case: Case) -> list[PublishedVerdict]:
    """Compare all published numbers of a case with the oracle."""
    found = []
    for number in case.published:
        exact = oracle.digits(case.problem("float64", number.reduction), count=20)
        shown = exact if isinstance(exact, str) else _undefined_text(exact)
        holds = isinstance(exact, str) and all(_matches_digits(case, number.reduction, number.value, half_units=1))
        found.append(PublishedVerdict(case.id, number, shown, holds))
    return found


def expectation_errors(case: Case) -> list[CaseFileError]:
    """Positions where the expected digits of a case differ from the oracle's."""
    if not isinstance(case.expect, Digits):
        return []
    errors = []
    for reduction, value in case.expect.values.items():
        name: Reduction = reduction  # type: ignore[assignment]
        try:
            fits = all(_matches_digits(case, name, value, half_units=2))
        except (NoAnswerError, InvalidOperation, ValueError):
            fits = False
        if not fits:
            exact = oracle.digits(case.problem("float64", name))
            shown = exact if isinstance(exact, str | list) else _undefined_text(exact)
            where = f"$.cases.{case.id.rpartition('/')[2]}.expect"
            message = f"{value} is not the exact answer for {reduction}, which is {shown}"
            errors.append(
                CaseFileError(case.path, case.line, 1, where, message, f"print it with: conformance expect {case.id}")
            )
    return errors


def expect_block(case: Case, count: int = 25) -> dict[str, Any]:
    """What `expect` may state for a case: digits by reduction, an error, or why there is no right answer."""
    block: dict[str, Any] = {}
    for reduction in case.reductions:
        exact = oracle.digits(case.problem("float64", reduction), count=count)
        if isinstance(exact, Invalid):
            return {"error": exact.kinds[0]}
        block[reduction] = {"undefined": exact.why} if isinstance(exact, Undefined) else exact
    return {"value": block}


def _undefined_text(answer: Any) -> str:
    return f"undefined ({answer.why})" if isinstance(answer, Undefined) else f"an error ({', '.join(answer.kinds)})"


def _matches_digits(case: Case, reduction: Reduction, value: Any, half_units: int) -> Iterator[bool]:
    """For each printed number, whether the exact one lies within that many half units of its last digit."""
    problem = case.problem("float64", reduction)
    if refused(problem, DEFINITION):
        yield False
        return
    printed = list(_flat(value))
    exact = oracle.enclosure(problem, precision=PRECISION)
    if len(printed) != len(exact):
        yield False
        return
    with ctx.workprec(PRECISION):
        for text, term in zip(printed, exact, strict=True):
            if isinstance(term, float):
                yield str(float(text)) == str(term)
                continue
            exponent = Decimal(text).as_tuple().exponent
            if not isinstance(exponent, int):
                yield False
                continue
            slack = arb(half_units) / 2 * arb(10) ** exponent
            yield bool(abs(arb(text) - term) <= slack)


def _flat(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for part in value:
            yield from _flat(part)
    else:
        yield str(value)

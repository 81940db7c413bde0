"""Compare the digits that a case expects with the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
from flint import arb, ctx

from conformance.model.case import Case, Digits, Reduction
from conformance.model.convention import DEFINITION
from conformance.reference import oracle
from conformance.reference.flat_problem import rejected_anomalies
from conformance.reference.oracle import Invalid, NoAnswerError, Undefined

PRECISION = 512


def wrong_digits(case: Case) -> list[str]:
    """Errors in the digits that a case expects, a message for each reduction for which the oracle's differ."""
    if not isinstance(case.expect, Digits):
        return []
    messages = []
    for reduction, value in case.expect.values.items():
        name: Reduction = reduction  # type: ignore[assignment]
        try:
            is_equal = all(_matches_digits(case, name, value))
        except (NoAnswerError, InvalidOperation, ValueError):
            is_equal = False
        if not is_equal:
            exact = oracle.exact_digits(case.problem("float64", name))
            shown = exact if isinstance(exact, str | list) else text_of_no_answer(exact)
            messages.append(f"{value} is not the exact answer for {reduction}, which is {shown}")
    return messages


def expect_block(case: Case, count: int = 25) -> dict[str, Any]:
    """Possible `expect` of a case: digits by reduction, an error, or why there is no right answer."""
    block: dict[str, Any] = {}
    for reduction in case.reductions:
        exact = oracle.exact_digits(case.problem("float64", reduction), count=count)
        if isinstance(exact, Invalid):
            return {"error": exact.kinds[0]}
        block[reduction] = {"undefined": exact.why} if isinstance(exact, Undefined) else exact
    return {"value": block}


def text_of_no_answer(answer: Undefined | Invalid) -> str:
    """Why there is no number, in words."""
    return f"undefined ({answer.why})" if isinstance(answer, Undefined) else f"an error ({', '.join(answer.kinds)})"


def _matches_digits(case: Case, reduction: Reduction, value: Any) -> Iterator[bool]:
    """For each printed number, whether the exact one is within a unit in its last digit."""
    problem = case.problem("float64", reduction)
    if rejected_anomalies(problem, DEFINITION):
        yield False
        return
    printed = flat(value)
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
            yield bool(abs(arb(text) - term) <= arb(10) ** exponent)


def flat(value: Any) -> list[str]:
    """The numbers of nested lists as text, in order."""
    return list(map(str, np.array(value, dtype=object).ravel()))

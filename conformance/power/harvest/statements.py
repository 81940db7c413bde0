"""Compares stated answers with the oracle: whether they hold, by which convention, and how large the error is.

A statement holds if its error is within the tolerance of a correct function, or else within the tolerance of the
source.  The definition is tried first, then parts of the function's documented convention, the smallest first.  A
number without a dtype is tried in float64 and in float32, because constants of a convention are rounded.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from conformance.adapters import registry
from conformance.model.case import Case, MustRaise, Problem
from conformance.model.convention import DEFINITION, Convention, describe
from conformance.model.floats import equal_with_nan
from conformance.power.harvest.pipeline import StatedResult
from conformance.reference import error_bound
from conformance.reference.oracle import Exact, Oracle

LITERAL_DTYPES = ("float64", "float32")
"""Dtypes in which a literal number may have been computed."""
Holds = Literal["holds", "holds by its convention", "does not hold"]


@dataclass(frozen=True, eq=False)
class JudgedResult:
    """A stated answer, judged."""

    case: Case
    holds: Holds
    convention: str = ""
    """The convention by which it holds; "" for the definition."""
    error: float = np.inf
    """Error of the worst element, by the convention that holds or by the definition."""
    tolerance: float = 0.0
    """The larger of both tolerances of that element."""
    stated: float = np.nan
    exact: float = np.nan
    why: str = ""

    def __str__(self) -> str:
        if self.why:
            return f"{self.case.id}: {self.why}"
        error_text = f"{self.stated!r} is stated where {self.exact!r} is exact, off by {self.error:.3g}"
        return f"{self.case.id}: {error_text}, where {self.tolerance:.3g} is allowed ({self.case.source})"


def judge_results(statements: Iterable[StatedResult], oracle: Oracle) -> list[JudgedResult]:
    """Judge each statement."""
    return [_judge_result(statement, oracle) for statement in statements]


def _judge_result(statement: StatedResult, oracle: Oracle) -> JudgedResult:
    case, stated = statement.case, statement.stated
    computed = (stated.dtype,) if stated.dtype in case.dtypes else LITERAL_DTYPES
    problems = [case.problem(dtype, case.reductions[0]) for dtype in computed if dtype in case.dtypes]
    tried = []
    for convention in _candidate_conventions(statement, problems[0]):
        for problem in problems:
            tried.append(_compare(statement, problem, convention, oracle))
            if tried[-1].holds != "does not hold":
                return tried[-1]
    return tried[0]


def _candidate_conventions(statement: StatedResult, problem: Problem) -> Iterator[Convention]:
    """The definition, and parts of the convention that the function documents in that version.

    Of log-probabilities above 0, which are invalid, a number is one for values that are taken as they are: ONNX says
    no more of its operator's input than what it is called.
    """
    yield DEFINITION
    if problem.input_kind == "log_probabilities" and statement.case.expect == MustRaise("invalid_probability"):
        yield Convention(accepts=frozenset({"invalid_probability"}))
    for framework in registry.frameworks():
        backend = framework.backend({})
        for function in registry.functions_in(framework, registry.NEWEST, backend):
            if function.name != statement.documented_function or problem.loss not in function.ranks:
                continue
            target = function.target_kind_for(problem.target_kind) or problem.target_kind
            documented = registry.convention_for(function, statement.version, target, backend)
            convention = replace(documented.convention, cancellation="none", rejects=frozenset())
            names = tuple(convention.choices())
            for size in range(1, len(names) + 1):
                yield from map(convention.restricted_to, itertools.combinations(names, size))


def _compare(statement: StatedResult, problem: Problem, convention: Convention, oracle: Oracle) -> JudgedResult:
    stated, convention_text = statement.stated, describe(convention.choices())
    try:
        answer = oracle.answer(problem, convention)
    except ArithmeticError as unresolved:
        return JudgedResult(statement.case, "does not hold", convention_text, why=str(unresolved))
    if not isinstance(answer, Exact):
        return JudgedResult(
            statement.case, "does not hold", convention_text, why=f"a number is stated where the answer is {answer}"
        )
    values = stated.values
    if values.size == answer.hi.size == 1:
        values = values.reshape(answer.hi.shape)  # of one sample without an axis of samples
    if answer.hi.shape != values.shape:
        why = f"shape {list(stated.values.shape)} is stated where {list(answer.hi.shape)} is expected"
        return JudgedResult(statement.case, "does not hold", convention_text, why=why)
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs((values - answer.hi) - answer.lo)
        off = np.where(equal_with_nan(values, answer.hi), 0.0, off)
        off = np.where(np.isnan(off), np.inf, off)
        own_limit = np.zeros(off.shape) + error_bound.tolerance(problem, convention)
        tolerance = np.nan_to_num(stated.rtol * np.abs(answer.hi), nan=0.0, posinf=0.0) + stated.atol
    limit = np.maximum(own_limit, tolerance)
    if off.size == 0:
        return JudgedResult(statement.case, "holds", convention_text, 0.0)
    at = np.unravel_index(int(np.argmax(np.where(off == 0, 0.0, off / limit))), off.shape)
    right = bool(np.all(off <= limit))
    verdict: Holds = "does not hold" if not right else "holds by its convention" if convention_text else "holds"
    return JudgedResult(
        statement.case,
        verdict,
        convention_text,
        float(off[at]),
        float(limit[at]),
        float(values[at]),
        float(answer.hi[at]),
    )

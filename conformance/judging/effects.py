"""Decide which fields of a convention can affect an answer, and compute answers under parts of a convention."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

from conformance.model.case import HEAD_GRADIENTS, WEIGHTS, Problem, Quantity, is_derivative, numpy_dtype
from conformance.model.convention import DEFINITION, Convention, literal_choices
from conformance.model.floats import Floats
from conformance.reference import (
    error_bound,
    gradient,
    gradient_error_bound,
    heads,
    hessian,
    oracle,
    relevance,
    transforms,
)
from conformance.reference.domain import dtype_info
from conformance.reference.flat_problem import rejected_anomalies
from conformance.reference.oracle import Answer, Oracle

UNJUDGED = ("rejects", "empty_mean")
"""Fields of a convention that are never given as a cause: of exceptions, and of the mean of nothing."""
ONLY_DOCUMENTED = "narrowed_to"
"""Field whose choices are given as a cause only if a function documents them: within the tolerance of a computation in
float16 or bfloat16, errors of any cause would be explained."""
DERIVATIVE_PREFIXES = ("gradient_", "hessian_")
"""Prefixes of the fields that concern derivatives."""
DERIVATIVE_FIELDS = tuple(
    field.name for field in dataclasses.fields(Convention) if field.name.startswith(DERIVATIVE_PREFIXES)
)
"""Fields of a convention that concern derivatives only."""


def answer_by(problem: Problem, convention: Convention, quantity: Quantity, oracle: Oracle) -> Answer:
    """The answer to a problem under a convention, without its numeric choices; raises ArithmeticError."""
    problem = narrowed(problem, convention)
    if quantity == "d2":
        return transforms.d2(problem, loss_choices(convention), oracle)
    loss = oracle.answer(problem, loss_choices(convention))
    if not is_derivative(quantity):
        return transforms.perplexity(loss) if quantity == "perplexity" else loss
    if quantity == "hessian":
        return hessian.answer(problem, convention, loss)
    gradient_answer = gradient.answer(problem, _of_gradient(convention), loss, oracle)
    if quantity == "gradient":
        return gradient_answer

    def transformed() -> Answer:
        if quantity in HEAD_GRADIENTS:
            return heads.head_gradient(problem, quantity, gradient_answer)
        return transforms.perplexity_gradient(loss, gradient_answer, problem.dtype)

    return problem.computed_once((quantity, loss, gradient_answer), transformed)


def tolerance_by(
    problem: Problem, rounded: Convention, quantity: Quantity, unconverted: Problem | None = None
) -> Floats:
    """The absolute error that a correct answer may have, shaped as the answer.

    problem: the problem as passed to the function.  rounded: the convention from `with_numeric_choices`.
    unconverted: the problem before its predictions were converted; None if they were not.
    """
    key = ("tolerance", rounded, quantity, unconverted is not None)
    return problem.computed_once(key, lambda: _tolerance_by(narrowed(problem, rounded), rounded, quantity, unconverted))


def _tolerance_by(problem: Problem, rounded: Convention, quantity: Quantity, unconverted: Problem | None) -> Floats:
    if quantity == "d2":
        return transforms.d2_tolerance(problem, rounded)
    if quantity == "hessian":
        return hessian.tolerance(problem, rounded)
    if is_derivative(quantity):
        gradient_tolerance = gradient_error_bound.tolerance(problem, rounded)
        if quantity in HEAD_GRADIENTS:
            return heads.head_gradient_tolerance(problem, quantity, rounded, gradient_tolerance)
        return (
            gradient_tolerance
            if quantity == "gradient"
            else transforms.perplexity_gradient_tolerance(problem, rounded, gradient_tolerance)
        )
    loss_tolerance = error_bound.tolerance(problem, rounded, unconverted)
    return (
        transforms.perplexity_tolerance(problem, rounded, loss_tolerance)
        if quantity == "perplexity"
        else loss_tolerance
    )


def narrowed(problem: Problem, convention: Convention) -> Problem:
    """The problem with its inputs rounded as the convention states."""
    dtypes = (convention.narrowed_to, convention.labels_narrowed_to, convention.weights_narrowed_to)
    if dtypes == (None, None, None):
        return problem
    narrower = tuple(dtype if dtype and _is_wider(problem.dtype, dtype) else None for dtype in dtypes)
    return problem.derived(("narrowed", *narrower), lambda unreduced: _narrowed(unreduced, *narrower)) or problem


def _is_wider(dtype: str, than: str) -> bool:
    return dtype_info(dtype).unit_roundoff < dtype_info(than).unit_roundoff


def _narrowed(problem: Problem, all_to: str | None, labels_to: str | None, weights_to: str | None) -> Problem:
    """A problem with all inputs, the targets or the weights rounded to a narrower dtype."""
    labels, options = problem.labels, problem.options
    if labels_to is not None and labels.dtype.kind in "fV":
        labels = problem.cast(labels_to).labels.astype(labels.dtype)
    if weights_to is not None and options.names():
        options = options.rounded(numpy_dtype(weights_to)).rounded(numpy_dtype(problem.dtype))
    if labels is not problem.labels or options is not problem.options:
        problem = dataclasses.replace(problem, labels=labels, options=options)
    return problem if all_to is None else problem.cast(all_to)


@functools.cache
def with_numeric_choices(part: Convention, documented: Convention) -> Convention:
    """A part of a convention, extended by the documented choices that affect rounding errors."""
    renormalise = documented.renormalise if part.renormalise == "no" else part.renormalise
    return dataclasses.replace(part, renormalise=renormalise, accepts=part.accepts | documented.accepts)


@functools.cache
def combined(convention: Convention, other: Convention, names: tuple[str, ...]) -> Convention:
    """A convention with some fields taken from another one."""
    return dataclasses.replace(convention, **{name: getattr(other, name) for name in names})


@functools.cache
def loss_choices(convention: Convention) -> Convention:
    """A convention without the choices that do not affect the loss: rounding, rejected input, derivatives."""
    defaults = {name: getattr(DEFINITION, name) for name in DERIVATIVE_FIELDS}
    return dataclasses.replace(convention, cancellation="none", rejects=frozenset(), **defaults)


@functools.cache
def _of_gradient(convention: Convention) -> Convention:
    """A convention without the choices that do not affect the gradient: rounding, rejected input, second derivative."""
    choices = {name: getattr(convention, name) for name in ("gradient_floor", "gradient_total")}
    return dataclasses.replace(loss_choices(convention), **choices)


@functools.cache
def judged_fields(quantity: Quantity) -> tuple[str, ...]:
    unjudged = UNJUDGED if is_derivative(quantity) else (*UNJUDGED, *DERIVATIVE_FIELDS)
    return tuple(f.name for f in dataclasses.fields(Convention) if f.name not in unjudged)


def has_effect(name: str, convention: Convention, problem: Problem, quantity: Quantity) -> bool:
    """Whether a choice can affect the answer to a problem or its tolerance, in combination with any other choices."""
    chosen = getattr(convention, name)
    if chosen == getattr(DEFINITION, name):
        return False
    if name in _NARROWS:
        return _NARROWS[name](chosen, problem)
    if quantity == "hessian":
        fields = relevance.HESSIAN_FIELDS
    else:
        fields = relevance.GRADIENT_ERROR_BOUND_FIELDS if is_derivative(quantity) else relevance.ERROR_BOUND_FIELDS
    return name in fields and relevance.affects(name, convention, problem)


def averages_nothing(convention: Convention, problem: Problem) -> bool:
    """Whether the answer to a problem under a convention is a mean whose divisor is 0."""
    is_mean = problem.reduction == "mean" and not rejected_anomalies(problem, convention)
    return is_mean and oracle.divisor(problem, convention) == 0


_NARROWS: dict[str, Callable[[Any, Problem], bool]] = {
    "narrowed_to": lambda chosen, problem: narrowed(problem, Convention(narrowed_to=chosen)) is not problem,
    "labels_narrowed_to": lambda chosen, problem: (
        problem.labels.dtype.kind in "fV" and narrowed(problem, Convention(labels_narrowed_to=chosen)) is not problem
    ),
    "weights_narrowed_to": lambda chosen, problem: (
        bool({*WEIGHTS} & {*problem.options.names()})
        and narrowed(problem, Convention(weights_narrowed_to=chosen)) is not problem
    ),
}
"""Predicates: whether the choice for a field rounds inputs of a problem."""


def effective_neighbours(
    documented: Convention, conventions: tuple[Convention, ...], problem: Problem, quantity: Quantity
) -> tuple[tuple[Convention, Convention, tuple[str, ...]], ...]:
    """Known conventions to try on a problem: (convention, the known one, the fields in which they depart together).

    Fields without an effect on the problem are left as documented, so that none is tried twice.
    """
    key = ("neighbours", documented, conventions, quantity)
    return problem.computed_once(key, lambda: tuple(_effective_neighbours(documented, conventions, problem, quantity)))


def _effective_neighbours(
    documented: Convention, conventions: tuple[Convention, ...], problem: Problem, quantity: Quantity
) -> Iterator[tuple[Convention, Convention, tuple[str, ...]]]:
    own_fields = {name for name in judged_fields(quantity) if has_effect(name, documented, problem, quantity)}
    effects: dict[tuple[str, Any, str], bool] = {}
    tried = set()

    def matters(name: str, known: Convention) -> bool:
        """Whether the choice of a known convention has an effect, or what is documented instead."""
        key = (name, getattr(known, name), known.logits_as)  # all that `has_effect` reads of a convention
        if name not in own_fields and key not in effects:
            effects[key] = has_effect(name, known, problem, quantity)
        return name in own_fields or effects[key]

    for known, differing in neighbours(documented, conventions, quantity):
        names = tuple(name for name in differing if matters(name, known))
        if names and (combination := combined(documented, known, names)) not in tried:
            tried.add(combination)
            yield combination, known, names


@functools.lru_cache(maxsize=256)
def neighbours(
    documented: Convention, conventions: tuple[Convention, ...], quantity: Quantity
) -> tuple[tuple[Convention, tuple[str, ...]], ...]:
    """Conventions to try as an explanation, each with the fields that differ: single changes first, then known ones."""
    known: dict[str, list[Any]] = {name: [] for name in judged_fields(quantity)}
    for name, values in known.items():
        options = [getattr(c, name) for c in (DEFINITION, *conventions)]
        options += literal_choices(name) if name != ONLY_DOCUMENTED else ()
        values += [v for v in dict.fromkeys(options) if v != getattr(documented, name)]
    changed = [dataclasses.replace(documented, **{name: value}) for name, values in known.items() for value in values]
    candidates = dict.fromkeys((*changed, *(c for c in (DEFINITION, *conventions) if c != documented)))
    return tuple(
        (c, tuple(name for name in known if getattr(c, name) != getattr(documented, name))) for c in candidates
    )

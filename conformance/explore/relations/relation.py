"""What a relation is: a problem said in two ways, and how the two answers hang together, as data and pure functions.

A relation is about sums.  Where a side asks for the mean, what that mean documents to divide by is multiplied back in
(`checking`), so that a relation that holds for sums is held against every divisor there is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.adapters.contract import Function
from conformance.model.case import Array, Problem
from conformance.model.convention import Convention

Floats = npt.NDArray[np.float64]
Factor = float | Floats
Arrangement = Callable[[Sequence[Floats]], Floats]
"""Unreduced answers of one side as those of the other: each number in its place, none in two."""


def as_it_is(answers: Sequence[Floats]) -> Floats:
    """One answer, unchanged."""
    return sum(answers[1:], answers[0])


def placed(where: npt.NDArray[np.bool_]) -> Arrangement:
    """The losses of one part where those samples are, and 0 elsewhere."""

    def arranged(answers: Sequence[Floats]) -> Floats:
        losses = np.zeros(where.shape + answers[0].shape[1:])
        losses[where] = answers[0]
        return losses

    return arranged


@dataclass(frozen=True, eq=False)
class Restated:
    """A problem, and problems whose answers make up its answer.

    whole: the one.  parts: the others.  arranged: the parts' unreduced answers as the whole's; where the whole is
    reduced, they are added up instead.  factors: what the answer of each part counts, exact in float64: a number, or
    an array shaped as its unreduced answer; what counts 0 is not looked at.  converted: whether the predictions of the
    parts were rounded once when they were restated, as a bridge does.
    """

    whole: Problem
    parts: tuple[Problem, ...]
    arranged: Arrangement = as_it_is
    factors: tuple[Factor, ...] = ()
    converted: bool = False


@dataclass(frozen=True)
class Relation:
    """Two ways to say a problem, whose answers must hang together in every implementation that documents what it does.

    concerns: whether a function that declares this can say both sides of such a problem; looks at neither arrays nor
    conventions.  restated: both sides, by what the function documents; None where the problem has no second side, or
    none that is exact.  again: whether both sides are the same call, and that is the point.
    """

    name: str
    why: str
    concerns: Callable[[Problem, Function], bool]
    restated: Callable[[Problem, Convention], Restated | None]
    again: bool = False


def always(problem: Problem, function: Function) -> bool:
    """Every function can say both sides of every problem."""
    return True


# What restating is made of.


def stated(problem: Problem, **changes: Any) -> Problem:
    """The problem with other fields; arrays become read-only."""
    return dataclasses.replace(problem, **{name: _frozen(value) for name, value in changes.items()})


def opted(problem: Problem, **options: Any) -> Problem:
    """The problem with other options."""
    frozen = {name: _frozen(value) for name, value in options.items()}
    return dataclasses.replace(problem, options=dataclasses.replace(problem.options, **frozen))


def laid(problem: Problem, **layout: Any) -> Problem:
    """The problem handed over in another layout."""
    return dataclasses.replace(problem, layout=dataclasses.replace(problem.layout, **layout))


def _frozen(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.view()
        value.flags.writeable = False
    return value


def sample_axes(problem: Problem) -> tuple[int, ...]:
    """The axes along which samples stand one beside the other; a binary loss may average the last of several."""
    rank = problem.predictions.ndim
    return tuple(range(rank - 1)) if rank > 1 else (0,)


def batched(problem: Problem, convention: Convention) -> bool:
    """Whether the samples of the first axis have losses of their own: not where a lone axis is averaged to one loss."""
    averaged = problem.loss == "binary" and convention.binary_outputs == "mean_of_last_axis"
    return problem.predictions.shape[0] > 0 and not (averaged and problem.predictions.ndim == 1)


def taken(problem: Problem, index: Any, axis: int = 0) -> Problem:
    """Some samples of an axis, in some order: every array that has the axis is indexed along it."""
    rank = problem.predictions.ndim
    options = problem.options
    changes: dict[str, Array] = {}
    if (weights := options.sample_weights) is not None and weights.ndim > axis:
        changes["sample_weights"] = np.take(weights, index, axis)
    positive = options.positive_weight
    if positive is not None and (own := axis - (rank - positive.ndim)) >= 0 and positive.shape[own] != 1:
        changes["positive_weight"] = np.take(positive, index, own)
    predictions, labels = (np.take(values, index, axis) for values in (problem.predictions, problem.labels))
    return opted(stated(problem, predictions=predictions, labels=labels), **changes)


def flat(problem: Problem) -> Problem:
    """All samples on one axis: [N d1 ..., C], and for outputs that stand each on its own [N, C] as well."""
    axes = sample_axes(problem)
    count = int(np.prod([problem.predictions.shape[axis] for axis in axes]))
    rest = problem.predictions.shape[len(axes) :]
    samples = problem.predictions.shape[: len(axes)]
    options = problem.options
    changes: dict[str, Array] = {}
    if (weights := options.sample_weights) is not None:
        rest_of = rest if weights.ndim == problem.predictions.ndim and problem.loss == "binary" else ()
        spread = weights.reshape(weights.shape + (1,) * (len(samples) + len(rest_of) - weights.ndim))
        changes["sample_weights"] = np.broadcast_to(spread, samples + rest_of).reshape((count, *rest_of))
    if (positive := options.positive_weight) is not None and positive.ndim > len(rest):
        changes["positive_weight"] = np.broadcast_to(positive, problem.predictions.shape).reshape((count, *rest))
    labels = problem.labels.reshape((count, *(() if problem.target == "index" else rest)))
    whole = stated(problem, predictions=problem.predictions.reshape((count, *rest)), labels=labels)
    return laid(opted(whole, **changes), class_axis=-1)


def ignored(problem: Problem, convention: Convention) -> npt.NDArray[np.bool_]:
    """Which samples count for nothing, shaped as the labels."""
    if problem.target != "index":
        return np.zeros(problem.labels.shape, dtype=bool)
    labels = (problem.options.ignore_index, convention.default_ignore_index)
    return np.isin(problem.labels, [label for label in labels if label is not None])


def nameable(problem: Problem, convention: Convention) -> bool:
    """Whether every label that counts names a class, and no class is ignored unasked."""
    if problem.target != "index":
        return True
    classes = problem.predictions.shape[-1]
    names = (problem.labels >= 0) & (problem.labels < classes)
    default = convention.default_ignore_index
    return bool(np.all(names | ignored(problem, convention))) and (default is None or not 0 <= default < classes)


def finite(problem: Problem) -> bool:
    """Whether everything is finite, and no probability is 0 or 1: then so is every loss, and 0 times it is 0."""
    weights = [getattr(problem.options, name) for name in ("class_weights", "sample_weights", "positive_weight")]
    arrays = [problem.predictions, problem.labels, *(array for array in weights if array is not None)]
    x = problem.predictions.astype(np.float64)
    certain = {"probabilities": (x <= 0) | (x >= 1), "log_probabilities": x >= 0}.get(problem.given, np.False_)
    return not np.any(certain) and all(bool(np.all(np.isfinite(array.astype(np.float64)))) for array in arrays)


def narrowed(exact: Floats, dtype: np.dtype[Any]) -> Array | None:
    """Numbers in a dtype that holds them exactly; None where it does not."""
    with np.errstate(over="ignore", under="ignore"):
        values = exact.astype(dtype)
    return values if np.array_equal(values.astype(np.float64), exact, equal_nan=True) else None


def complement(values: Array) -> Array | None:
    """1 - x, where the dtype of x holds it exactly; None where it does not."""
    exact = values.astype(np.float64)
    rest = 1.0 - exact
    if not np.array_equal(1.0 - rest, exact):
        return None
    return rest if values.dtype.kind in "biu" else narrowed(rest, values.dtype)

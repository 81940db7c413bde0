"""Metamorphic relations as data and pure functions: a problem, its transformed problems, and how their answers
combine.

A relation is a statement about sums. For a mean, `checker` multiplies the documented divisor back in, so that a
relation that holds for sums also checks each divisor.
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
Assembly = Callable[[Sequence[Floats]], Floats]
"""Combines the unreduced answers of the parts to the unreduced answer of the whole."""


def add_up(answers: Sequence[Floats]) -> Floats:
    """Add answers elementwise; a single one is returned unchanged."""
    return sum(answers[1:], answers[0])


def scatter(mask: npt.NDArray[np.bool_]) -> Assembly:
    """Return an assembly that puts the losses of one part at the True positions of `mask`, and 0 elsewhere."""

    def assemble(answers: Sequence[Floats]) -> Floats:
        losses = np.zeros(mask.shape + answers[0].shape[1:])
        losses[mask] = answers[0]
        return losses

    return assemble


@dataclass(frozen=True, eq=False)
class Restatement:
    """A problem, the whole, and problems, the parts, whose answers determine its answer."""

    whole: Problem
    parts: tuple[Problem, ...]
    assemble: Assembly = add_up
    """Combines the unreduced answers of the parts. If the whole is reduced, their sums are added instead."""
    factors: tuple[Factor, ...] = ()
    """The factor of each part's answer, exact in float64: a number, or an array shaped as its unreduced answer.
    Where a
    factor is 0, the answer is not examined. Empty means 1 for each part.
    """
    converted: bool = False
    """Whether the predictions of the parts were rounded once, as by a conversion."""


@dataclass(frozen=True)
class Relation:
    """Two equivalent statements of a problem whose answers must agree for each implementation that documents its
    convention.
    """

    name: str
    why: str
    applies: Callable[[Problem, Function], bool]
    """Whether a function with these capabilities can express both sides. Examines neither arrays nor conventions."""
    restate: Callable[[Problem, Convention], Restatement | None]
    """Both sides, given the function's documented convention; None if the problem has no other side, or no exact
    one.
    """
    repeats_call: bool = False
    """Whether both sides are intentionally the same call."""


def relation(
    name: str,
    applies: Callable[[Problem, Function], bool] = lambda problem, function: True,
    repeats_call: bool = False,
) -> Callable[[Callable[[Problem, Convention], Restatement | None]], Relation]:
    """Make a `Relation` of a function that restates a problem; the first line of its docstring says what must hold."""

    def decorate(restate: Callable[[Problem, Convention], Restatement | None]) -> Relation:
        return Relation(name, (restate.__doc__ or "").partition("\n")[0], applies, restate, repeats_call)

    return decorate


def relations_in(module: dict[str, Any]) -> tuple[Relation, ...]:
    """The relations among the names of a module, in the order of their definitions."""
    return tuple(value for value in module.values() if isinstance(value, Relation))


# What restating is made of.


def replace_fields(problem: Problem, **changes: Any) -> Problem:
    """The problem with some fields replaced; arrays become read-only."""
    return dataclasses.replace(problem, **{name: _read_only(value) for name, value in changes.items()})


def replace_options(problem: Problem, **options: Any) -> Problem:
    """The problem with some options replaced."""
    frozen = {name: _read_only(value) for name, value in options.items()}
    return dataclasses.replace(problem, options=dataclasses.replace(problem.options, **frozen))


def replace_layout(problem: Problem, **layout: Any) -> Problem:
    """The problem with parts of its layout replaced."""
    return dataclasses.replace(problem, layout=dataclasses.replace(problem.layout, **layout))


def _read_only(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.view()
        value.flags.writeable = False
    return value


def sample_axes(problem: Problem) -> tuple[int, ...]:
    """The axes that index samples. A binary loss may average over the last axis if there are several, so it is
    excluded.
    """
    rank = problem.predictions.ndim
    return tuple(range(rank - 1)) if rank > 1 else (0,)


def has_batch_axis(problem: Problem, convention: Convention) -> bool:
    """Whether the samples of the first axis have separate losses. False if the only axis is averaged to one loss."""
    averaged = problem.loss == "binary" and convention.binary_outputs == "mean_of_last_axis"
    return problem.predictions.shape[0] > 0 and not (averaged and problem.predictions.ndim == 1)


def take_samples(problem: Problem, index: Any, axis: int = 0) -> Problem:
    """Select and order samples along an axis; each array that has the axis is indexed along it."""
    rank = problem.predictions.ndim
    options = problem.options
    changes: dict[str, Array] = {}
    if (weights := options.sample_weights) is not None and weights.ndim > axis:
        changes["sample_weights"] = np.take(weights, index, axis)
    positive = options.positive_weight
    if positive is not None and (own_axis := axis - (rank - positive.ndim)) >= 0 and positive.shape[own_axis] != 1:
        changes["positive_weight"] = np.take(positive, index, own_axis)
    predictions, labels = (np.take(values, index, axis) for values in (problem.predictions, problem.labels))
    return replace_options(replace_fields(problem, predictions=predictions, labels=labels), **changes)


def flatten_samples(problem: Problem) -> Problem:
    """Put all samples on one axis, [N d1 ..., C]; for a binary loss [N, C]."""
    axes = sample_axes(problem)
    count = int(np.prod([problem.predictions.shape[axis] for axis in axes]))
    trailing = problem.predictions.shape[len(axes) :]
    samples = problem.predictions.shape[: len(axes)]
    options = problem.options
    changes: dict[str, Array] = {}
    if (weights := options.sample_weights) is not None:
        trailing_of_weights = trailing if weights.ndim == problem.predictions.ndim and problem.loss == "binary" else ()
        spread = weights.reshape(weights.shape + (1,) * (len(samples) + len(trailing_of_weights) - weights.ndim))
        changes["sample_weights"] = np.broadcast_to(spread, samples + trailing_of_weights).reshape(
            (count, *trailing_of_weights)
        )
    if (positive := options.positive_weight) is not None and positive.ndim > len(trailing):
        changes["positive_weight"] = np.broadcast_to(positive, problem.predictions.shape).reshape((count, *trailing))
    labels = problem.labels.reshape((count, *(() if problem.target == "index" else trailing)))
    whole = replace_fields(problem, predictions=problem.predictions.reshape((count, *trailing)), labels=labels)
    return replace_layout(replace_options(whole, **changes), class_axis=-1)


def ignored_mask(problem: Problem, convention: Convention) -> npt.NDArray[np.bool_]:
    """Which samples are ignored, shaped as the labels."""
    if problem.target != "index":
        return np.zeros(problem.labels.shape, dtype=bool)
    labels = (problem.options.ignore_index, convention.default_ignore_index)
    return np.isin(problem.labels, [label for label in labels if label is not None])


def labels_are_valid(problem: Problem, convention: Convention) -> bool:
    """Whether each label that is not ignored is a class, and no class is ignored by default."""
    if problem.target != "index":
        return True
    classes = problem.predictions.shape[-1]
    in_range = (problem.labels >= 0) & (problem.labels < classes)
    default = convention.default_ignore_index
    return bool(np.all(in_range | ignored_mask(problem, convention))) and (
        default is None or not 0 <= default < classes
    )


def is_finite(problem: Problem) -> bool:
    """Whether all arrays are finite and no probability is 0 or 1; then each loss is finite, and 0 times it is 0."""
    weights = [getattr(problem.options, name) for name in ("class_weights", "sample_weights", "positive_weight")]
    arrays = [problem.predictions, problem.labels, *(array for array in weights if array is not None)]
    x = problem.predictions.astype(np.float64)
    certain = {"probabilities": (x <= 0) | (x >= 1), "log_probabilities": x >= 0}.get(problem.input_kind, np.False_)
    return not np.any(certain) and all(bool(np.all(np.isfinite(array.astype(np.float64)))) for array in arrays)


def exact_cast(exact: Floats, dtype: np.dtype[Any]) -> Array | None:
    """Cast to a dtype; None unless the cast is exact."""
    with np.errstate(over="ignore", under="ignore"):
        values = exact.astype(dtype)
    return values if np.array_equal(values.astype(np.float64), exact, equal_nan=True) else None


def exact_complement(values: Array) -> Array | None:
    """Compute 1 - x in the dtype of x; None unless it is exact."""
    exact = values.astype(np.float64)
    rest = 1.0 - exact
    if not np.array_equal(1.0 - rest, exact):
        return None
    return rest if values.dtype.kind in "biu" else exact_cast(rest, values.dtype)

"""A problem in the form of the definition: flat rows of predictions, targets and weights, before any arithmetic.

The oracle and the error bound use the same rows, so that ignored samples and weights are determined in one
place.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.model.case import Array, InputKind, Problem, numpy_dtype
from conformance.model.convention import INVALID, Convention
from conformance.model.floats import Floats
from conformance.reference.domain import CHUNK, depends_on_columns, dtype_info, examine, mismatched_weights

WEIGHT_ROUNDINGS = 8
"""Maximum roundings of a weight before it is added to the divisor of a mean: products, smoothing, a mask's scale."""
QUOTIENT_ROUNDINGS = 4
"""Roundings by dividing a weight by the sum of its targets, besides those of the sum: smoothing, the division."""
MAX_CACHED = 1 << 14
"""Maximum number of predictions of a flat problem that is cached."""


@dataclass(frozen=True, eq=False)
class FlatProblem:
    """A problem with its samples on one axis: n rows, of C classes each (categorical) or one output each (binary)."""

    binary: bool
    """Whether the loss is binary."""
    input_kind: InputKind
    """Kind of the predictions."""
    x: Array
    """Predictions, shape [n, C] or [n], in the problem's dtype."""
    index: npt.NDArray[np.int64] | None
    """Index labels, shape [n]; None if there are targets."""
    q: Floats | None
    """Targets, shape [n, C] or [n]; None if there are index labels."""
    kept: npt.NDArray[np.bool_]
    """Mask, shape [n]; False for an ignored row."""
    class_weights: Floats | None
    """Shape [C]."""
    weighs_rows: bool
    """Whether class weights multiply the whole loss of a row; see `Convention.class_weighting`."""
    positive_weight: Floats | None
    """Shape [n]."""
    sample_weights: Floats | None
    """One weight per loss to which sample weights apply, flat."""
    smoothing: float
    """The label smoothing e."""
    clip: tuple[float, float] | None
    """Both ends of the clip, rounded to the dtype; None if nothing is clipped."""
    offset: float
    """The offset added to a probability before its logarithm, rounded to the dtype."""
    group: int
    """Number of consecutive rows that are averaged to one loss before weights are applied; 1 if none are."""
    shape: tuple[int, ...]
    """Shape of the losses before reduction."""
    taken_as: InputKind | None = None
    """The kind to which x is converted without rounding; None if it is not converted."""
    log_sum_exps: dict[tuple[int, int], Any] = field(default_factory=dict)
    """Cache of balls around the log-sum-exp of rows of logits, by row and precision; shared by the flat problems of a
    problem, as no convention changes them."""

    @functools.cached_property
    def unconverted(self) -> FlatProblem:
        """The same without conversion, clip and offset."""
        return dataclasses.replace(self, taken_as=None, clip=None, offset=0.0)

    @functools.cached_property
    def absolute(self) -> FlatProblem:
        """The same with absolute values of targets and class weights, to bound the rounding errors of sums."""
        return dataclasses.replace(
            self,
            q=None if self.q is None else np.abs(self.q),
            class_weights=None if self.class_weights is None else np.abs(self.class_weights),
        )

    def chunks(self, predictions: int = CHUNK) -> list[slice]:
        """Slices of consecutive rows with about that many predictions each."""
        rows = max(1, predictions // max(1, math.prod(self.x.shape[1:])))
        return [slice(start, min(start + rows, len(self.x))) for start in range(0, len(self.x), rows)]

    def rows(self, chunk: slice) -> FlatProblem:
        """A slice of the rows, for computations before losses are grouped and weighted."""
        names = ("x", "index", "q", "kept", "positive_weight")
        parts: dict[str, Any] = {name: value[chunk] for name in names if (value := getattr(self, name)) is not None}
        return dataclasses.replace(self, **parts, log_sum_exps={})


def rejected_anomalies(problem: Problem, convention: Convention) -> frozenset[str]:
    """The kinds of invalid input in a problem that `convention` rejects, too; empty if it has an answer."""
    kinds = examine(problem)
    weights = problem.options.sample_weights
    averaged = convention.binary_outputs == "mean_of_last_axis" and problem.loss == "binary"
    if averaged and weights is not None and weights.ndim == problem.predictions.ndim > 1:
        return frozenset({"shape_mismatch"})  # a weight per output does not fit a loss per row
    invalid = kinds & INVALID - convention.accepts
    if "trailing_axis" in kinds & convention.accepts:
        invalid -= {"shape_mismatch"}
    elif "shape_mismatch" in kinds & convention.accepts and broadcast(problem) is None:
        invalid |= {"shape_mismatch"}
    if "label_out_of_range" in invalid:
        ignored = convention.default_ignore_index
        labels = problem.labels[..., convention.label_shift :] if problem.labels.ndim else problem.labels
        valid = (labels >= 0) & (labels < problem.predictions.shape[-1])
        is_ignored = labels == problem.options.ignore_index
        if convention.out_of_range != "refuse" or bool(np.all(valid | is_ignored | (labels == ignored))):
            invalid -= {"label_out_of_range"}
    if convention.class_columns == "inferred" and "shape_mismatch" not in invalid:
        classes = 2 if problem.loss == "binary" else problem.predictions.shape[-1]
        if problem.target_kind in ("index", "binary") and len(np.unique(problem.labels)) == classes:
            invalid -= {"label_out_of_range", "invalid_target"}
        else:
            invalid |= kinds & {"missing_class"}
    return frozenset(invalid)


def broadcast(problem: Problem) -> Problem | None:
    """The problem with its predictions and labels broadcast to a common shape; None if that is impossible.

    Broadcasting does not add classes, and weights that do not fit are not broadcast.
    """
    if mismatched_weights(problem.options, problem.predictions.shape, problem.loss):
        return None
    classes = problem.predictions.shape[-1:] if problem.target == "index" else ()
    try:
        shape = np.broadcast_shapes(problem.predictions.shape, (*problem.labels.shape, *classes))
    except ValueError:
        return None
    if problem.loss == "categorical" and shape[-1] != problem.predictions.shape[-1]:
        return None
    labels = np.broadcast_to(problem.labels, shape[:-1] if classes else shape)
    return dataclasses.replace(problem, predictions=np.broadcast_to(problem.predictions, shape), labels=labels)


def column_labels(problem: Problem, convention: Convention) -> Array:
    """Return the labels as column indices, by the columns that a convention assigns to their classes."""
    labels = problem.labels
    if problem.target == "distribution" or not depends_on_columns(problem, convention.class_columns):
        return labels
    layout = problem.layout
    if layout.class_names:
        columns = layout.sorted_columns + tuple(range(len(layout.class_names), len(layout.name_ranks)))
        labels = np.array(layout.name_ranks if convention.class_columns == "inferred" else columns)[labels]
    if convention.class_columns == "inferred":
        labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    return labels


def shifts_labels(problem: Problem, shift: int) -> bool:
    """Whether a choice of `label_shift` compares the predictions of a problem with the labels of other positions."""
    return bool(shift and problem.loss == "categorical" and problem.sample_shape and problem.labels.size)


def weighs_rows_of_targets(problem: Problem) -> bool:
    """Whether a problem has class weights, and rows in which more than one target may be nonzero."""
    options = problem.options
    return options.class_weights is not None and (problem.target == "distribution" or bool(options.label_smoothing))


def logarithm_kind(problem: Problem, convention: Convention, taken_as: InputKind | None = None) -> InputKind:
    """The input kind whose logarithm a convention takes.

    taken_as: the kind to which the predictions are converted first; None if they are not converted.
    """
    kind = taken_as or problem.input_kind
    return convention.logits_as if kind == "logits" else kind


def without_logits(
    problem: Problem, convention: Convention, taken_as: InputKind | None
) -> tuple[Convention, InputKind | None]:
    """A convention that turns logits into probabilities, as one for exactly converted probabilities.

    If the logits are themselves converted, the softmax divides each row by its sum.
    """
    if convention.logits_as == "logits" or (taken_as or problem.input_kind) != "logits":
        return convention, taken_as
    renormalises = problem.loss == "categorical" and taken_as is not None and convention.renormalise == "no"
    renormalise = "before_clip" if renormalises else convention.renormalise
    return dataclasses.replace(convention, logits_as="logits", renormalise=renormalise), "probabilities"


def flatten(problem: Problem, convention: Convention, taken_as: InputKind | None = None) -> FlatProblem:
    """Flatten a problem under a convention that does not reject it; once for all reductions unless it is large.

    taken_as: the input kind of the function, after an exact conversion; None for no conversion.
    """
    if problem.predictions.size > MAX_CACHED:
        return _flatten(problem, convention, taken_as)
    key = ("flat", convention, taken_as)
    return problem.unreduced.computed_once(key, lambda: _flatten(problem, convention, taken_as))


def _flatten(problem: Problem, convention: Convention, taken_as: InputKind | None) -> FlatProblem:
    kinds = examine(problem)
    if "shape_mismatch" in kinds & convention.accepts and "trailing_axis" not in kinds & convention.accepts:
        problem = broadcast(problem) or problem
    binary = problem.loss == "binary"
    shape = problem.sample_shape
    n = int(np.prod(shape))
    labels = column_labels(problem, convention)
    x = problem.predictions.reshape((n,) if binary else (n, problem.predictions.shape[-1]))
    kept = np.ones(n, dtype=bool)
    index = q = None
    if problem.target == "index":
        index = labels.reshape(n).astype(np.int64, copy=False)
        for ignored in (problem.options.ignore_index, convention.default_ignore_index):
            if ignored is not None:
                kept &= index != ignored
        if convention.out_of_range == "ignore":
            kept &= (index >= 0) & (index < problem.predictions.shape[-1])
    else:
        q = labels.reshape(x.shape).astype(np.float64, copy=False)
    if shifts_labels(problem, convention.label_shift):
        positions = np.arange(n) + convention.label_shift
        kept = kept[np.minimum(positions, n - 1)] & (positions % shape[-1] >= convention.label_shift)
        index = None if index is None else np.roll(index, -convention.label_shift)
        q = None if q is None else np.roll(q, -convention.label_shift, axis=0)
    group = 1
    if shape and binary and convention.binary_outputs == "mean_of_last_axis":
        group = shape[-1]
        shape = shape[:-1]
    options = problem.options
    weights = options.sample_weights
    spread = None
    if weights is not None:
        if weights.ndim > len(shape) and weights.shape != (1,):  # one weight for a single loss, which stays a scalar
            shape = weights.shape
        full = weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)) if shape else weights.reshape(())
        spread = np.broadcast_to(full, shape).reshape(-1).astype(np.float64)
    positive = options.positive_weight
    of_probabilities = logarithm_kind(problem, convention, taken_as) == "probabilities"
    return FlatProblem(
        binary=binary,
        input_kind=problem.input_kind,
        x=x,
        index=index,
        q=q,
        kept=kept,
        class_weights=None if options.class_weights is None else options.class_weights.astype(np.float64),
        weighs_rows=options.class_weights is not None and convention.class_weighting == "rows",
        positive_weight=None
        if positive is None
        else np.broadcast_to(positive, problem.predictions.shape).reshape(n).astype(np.float64),
        sample_weights=spread,
        smoothing=options.label_smoothing or 0.0,
        clip=clip_ends(problem.dtype, convention) if of_probabilities else None,
        offset=offset_of_logarithm(problem.dtype, convention) if of_probabilities else 0.0,
        group=group,
        shape=shape,
        taken_as=None if taken_as == problem.input_kind else taken_as,
        log_sum_exps=problem.unreduced.cache.setdefault("log-sum-exps", {}),
    )


def shape_of_losses(problem: Problem, flat: FlatProblem, convention: Convention) -> tuple[int, ...]:
    """The shape of the unreduced losses of a problem, with the class axis if the convention keeps it."""
    if flat.binary or convention.unreduced_class_axis == "dropped":
        return flat.shape
    axis = problem.layout.class_axis if problem.layout.class_axis != -1 else len(flat.shape)
    return (*flat.shape[:axis], 1, *flat.shape[axis:])


def absolute_weights(flat: FlatProblem) -> FlatProblem | None:
    """The rows with absolute values of their weights; None if no weight is negative."""
    weights = {name: getattr(flat, name) for name in ("class_weights", "sample_weights")}
    negative = {name: np.abs(array) for name, array in weights.items() if array is not None and np.any(array < 0)}
    return dataclasses.replace(flat, **negative) if negative else None


def weighs_classes(flat: FlatProblem, convention: Convention) -> bool:
    """Whether the divisor of a mean depends on class weights or targets; otherwise it is a sum of sample weights."""
    if flat.binary or convention.mean_divides_by in ("sample_weight", "kept", "samples"):
        return False
    return flat.class_weights is not None or convention.mean_divides_by == "target_weight"


def averages_class_weights(flat: FlatProblem, convention: Convention) -> bool:
    """Whether the weight of a row is divided by the sum of its targets, which is 1 for index labels."""
    return flat.q is not None and weighs_classes(flat, convention) and convention.mean_divides_by != "target_weight"


def smoothing_of_weight(flat: FlatProblem, convention: Convention) -> float:
    """The label smoothing of the targets in the weight of a row."""
    return 0.0 if convention.mean_divides_by == "label_weight" else flat.smoothing


def roundings_of_divisor(flat: FlatProblem, convention: Convention) -> int:
    """Maximum number of roundings of the divisor of a mean: of the sum of the weights, and of the classes in each."""
    classes = 0 if flat.binary else flat.x.shape[1]
    quotient = classes + QUOTIENT_ROUNDINGS if averages_class_weights(flat, convention) else 0
    return len(flat.kept) + classes + quotient + WEIGHT_ROUNDINGS


def clip_ends(dtype: str, convention: Convention) -> tuple[float, float] | None:
    """The bounds to which a convention clips probabilities, rounded to the dtype; None if it does not clip."""
    if convention.clip is None:
        return None
    epsilon = dtype_info(dtype).epsilon if convention.clip == "dtype" else convention.clip
    ends = np.array([epsilon, 1.0 - epsilon]).astype(numpy_dtype(dtype))
    return float(ends[0]), float(ends[1])


def offset_of_logarithm(dtype: str, convention: Convention) -> float:
    """The offset that a convention adds to a probability before its logarithm, rounded to the dtype; 0 for none."""
    return float(np.asarray(convention.log_offset or 0.0).astype(numpy_dtype(dtype)))

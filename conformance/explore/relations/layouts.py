"""Relations of layouts: memory order, axes, label dtypes, and a repeated call.

Answers must agree within both tolerances, not to the bit: memory order determines the order of a summation and the use
of vector instructions, which are internal to an implementation.
"""

from __future__ import annotations

import numpy as np

from conformance.adapters.contract import Function
from conformance.explore.relations.relation import (
    MetamorphicGroup,
    Relation,
    relation,
    relations_of,
    replace_fields,
    replace_layout,
    take_samples,
)
from conformance.model.case import Order, Problem
from conformance.model.convention import Convention


def memory_order_relation(order: Order) -> Relation:
    """A relation between C order and another memory order."""

    def applies(problem: Problem, function: Function) -> bool:
        return problem.layout.order == "c" and order in function.layouts

    @relation(f"{order}_arrays", applies)
    def reordered(problem: Problem, convention: Convention) -> MetamorphicGroup:
        """Arrays with another memory layout have the same loss."""
        if order == "broadcast":  # broadcast arrays repeat one row
            problem = take_samples(problem, np.zeros(problem.predictions.shape[0], dtype=int))
        return MetamorphicGroup(problem, (replace_layout(problem, order=order),))

    return reordered


def supports_any_class_axis(problem: Problem, function: Function) -> bool:
    return problem.loss == "categorical" and problem.layout.class_axis == -1 and "class_axis_not_1" in function.layouts


@relation("classes_first", supports_any_class_axis)
def classes_on_axis_0(problem: Problem, convention: Convention) -> MetamorphicGroup:
    """Classes on axis 0 have the same loss, if the axis is an argument."""
    return MetamorphicGroup(problem, (replace_layout(problem, class_axis=0),))


def supports_class_axis_1(problem: Problem, function: Function) -> bool:
    higher = problem.predictions.ndim > 2 and problem.loss == "categorical"
    return higher and problem.layout.class_axis == -1 and "class_axis" in function.layouts


@relation("classes_second", supports_class_axis_1)
def classes_on_axis_1(problem: Problem, convention: Convention) -> MetamorphicGroup:
    """Classes on axis 1 have the same loss, if the axis is an argument."""
    return MetamorphicGroup(problem, (replace_layout(problem, class_axis=1),))


def supports_label_columns(problem: Problem, function: Function) -> bool:
    # For outputs of rank 1, some functions take a column for a second axis, over which they document that they average.
    flat = problem.target == "index" and problem.labels.ndim == 1
    return flat and problem.layout.labels == "flat" and "labels_column" in function.layouts


@relation("labels_in_a_column", supports_label_columns)
def labels_as_column(problem: Problem, convention: Convention) -> MetamorphicGroup:
    """Labels of shape (N, 1) have the same losses as labels of shape (N,)."""
    return MetamorphicGroup(problem, (replace_layout(problem, labels="column"),))


def supports_label_dtypes(problem: Problem, function: Function) -> bool:
    if problem.target_kind not in ("index", "one_hot", "binary") or problem.layout.label_dtype is not None:
        return False
    taken = function.label_dtypes(function.target_as(problem.target_kind) or "", problem.dtype)
    return not taken or {"int8", "int32"} <= set(taken)


@relation("narrow_labels", supports_label_dtypes)
def narrow_labels(problem: Problem, convention: Convention) -> MetamorphicGroup:
    """Labels of another integer dtype have the same loss.

    Cast labels to int8 if they fit, otherwise to int32.
    """
    wide = bool(np.any(np.abs(problem.labels.astype(np.int64)) > np.iinfo(np.int8).max))
    return MetamorphicGroup(problem, (replace_layout(problem, label_dtype="int32" if wide else "int8"),))


@relation("asked_again", repeats_call=True)
def call_twice(problem: Problem, convention: Convention) -> MetamorphicGroup:
    """A repeated call returns the same result to the last bit.

    Repeat a call after a call with other arguments whose answer has the factor 0.
    """
    other = replace_fields(problem, predictions=problem.predictions[..., ::-1])
    return MetamorphicGroup(problem, (other, replace_fields(problem)), coefficients=(0.0, 1.0))


RELATIONS = (
    memory_order_relation("fortran"),
    memory_order_relation("strided"),
    memory_order_relation("broadcast"),
    memory_order_relation("readonly"),
    *relations_of(globals()),
)

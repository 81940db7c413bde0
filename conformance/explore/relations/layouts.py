"""The same numbers handed over in another way: memory order, axes, label dtypes, once more.

Answers must lie within both budgets, not be the same bits: where numbers lie one beside the other decides in which
order a sum is taken and which of them go through vector instructions, and both are an implementation's own affair.
"""

from __future__ import annotations

import numpy as np

from conformance.adapters.contract import Function
from conformance.explore.relations.relation import Relation, Restated, always, laid, stated, taken
from conformance.model.case import Order, Problem
from conformance.model.convention import Convention


def in_order(order: Order, why: str) -> Relation:
    """A memory order against rows one after another."""

    def concerns(problem: Problem, function: Function) -> bool:
        return problem.layout.order == "c" and order in function.layouts

    def restated(problem: Problem, convention: Convention) -> Restated:
        if order == "broadcast":  # which is a layout of its own only where rows are the same
            problem = taken(problem, np.zeros(problem.predictions.shape[0], dtype=int))
        return Restated(problem, (laid(problem, order=order),))

    return Relation(f"{order}_arrays", why, concerns, restated)


def takes_another_axis(problem: Problem, function: Function) -> bool:
    return problem.loss == "categorical" and problem.layout.class_axis == -1 and "class_axis_not_1" in function.layouts


def with_classes_first(problem: Problem, convention: Convention) -> Restated:
    return Restated(problem, (laid(problem, class_axis=0),))


def takes_axis_1(problem: Problem, function: Function) -> bool:
    higher = problem.predictions.ndim > 2 and problem.loss == "categorical"
    return higher and problem.layout.class_axis == -1 and "class_axis" in function.layouts


def with_classes_second(problem: Problem, convention: Convention) -> Restated:
    return Restated(problem, (laid(problem, class_axis=1),))


def takes_columns(problem: Problem, function: Function) -> bool:
    # Beside outputs of rank 1 a column is a second axis to some, over which they document that they average.
    flat = problem.target == "index" and problem.labels.ndim == 1
    return flat and problem.layout.labels == "flat" and "labels_column" in function.layouts


def with_labels_in_a_column(problem: Problem, convention: Convention) -> Restated:
    return Restated(problem, (laid(problem, labels="column"),))


def takes_narrow_labels(problem: Problem, function: Function) -> bool:
    crisp = problem.target_kind in ("index", "one_hot", "binary")
    return crisp and problem.layout.label_dtype is None and "label_dtype" in function.layouts


def with_narrow_labels(problem: Problem, convention: Convention) -> Restated:
    """In one signed byte where they fit, in four where they do not."""
    wide = bool(np.any(np.abs(problem.labels.astype(np.int64)) > np.iinfo(np.int8).max))
    return Restated(problem, (laid(problem, label_dtype="int32" if wide else "int8"),))


def asked_in_between(problem: Problem, convention: Convention) -> Restated:
    """The same twice, with something else between the two, which counts nothing."""
    other = stated(problem, predictions=problem.predictions[..., ::-1])
    return Restated(problem, (other, stated(problem)), factors=(0.0, 1.0))


RELATIONS = (
    in_order("fortran", "Columns may lie one after another where rows usually do."),
    in_order("strided", "Arrays may be views that leave out every other number."),
    in_order("broadcast", "Rows that are all the same may be one row in memory."),
    in_order("readonly", "Arrays may be in memory that nobody may write to."),
    Relation(
        "classes_first",
        "Classes may be on the first axis, where that is said.",
        takes_another_axis,
        with_classes_first,
    ),
    Relation("classes_second", "Classes may be on axis 1, where that is said.", takes_axis_1, with_classes_second),
    Relation(
        "labels_in_a_column",
        "Labels of shape (N, 1) are those of shape (N,), and broadcast against nothing.",
        takes_columns,
        with_labels_in_a_column,
    ),
    Relation(
        "narrow_labels", "Labels are the same numbers in any integer type.", takes_narrow_labels, with_narrow_labels
    ),
    Relation(
        "asked_again",
        "A call leaves nothing behind for the next, which returns the same to the last bit.",
        always,
        asked_in_between,
        again=True,
    ),
)

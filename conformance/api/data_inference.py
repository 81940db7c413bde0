"""Infer what a data set does not state: the kind of its predictions, the indices of named labels, shapes that fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from conformance.api.data_arrays import MAX_SHOWN, NUMBER_KINDS, DataError
from conformance.model.case import Array, InputKind
from conformance.testing.inputs import SUM_TOLERANCE, Inputs

MAX_BROADCAST = 1 << 20
"""Maximum number of losses if a function broadcasts labels against predictions."""
_STATE_KIND_ADVICE = "say what they are, by --logits, --probabilities or --log-probabilities, or kind= in Python"


def infer_kind(predictions: Array, labels: Array, inferred: list[str]) -> InputKind:
    """Infer the kind of predictions from their values.  Raises DataError if more than one is possible.

    inferred: list to which a sentence on the choice is appended.
    """
    x = predictions
    if not x.size or x.dtype.kind not in NUMBER_KINDS:
        raise DataError(
            f"predictions: {x.dtype.name} of shape {list(x.shape)}, which says nothing; {_STATE_KIND_ADVICE}"
        )
    low, high = (float(reduce(x, axis=None)) for reduce in (np.fmin.reduce, np.fmax.reduce))
    has_rows = x.ndim > 1 and x.shape[-1] > 1 and labels.shape != x.shape
    if low < 0 or high > 1:
        if high <= 0 and has_rows and _sums_to_one(x, logarithms=True):
            inferred.append("predictions are log-probabilities: all are 0 or less, and their exponentials sum to 1")
            return "log_probabilities"
        evidence = f"{low:g}, which is below 0" if low < 0 else f"{high:g}, which is above 1"
        inferred.append(f"predictions are logits: one is {evidence}")
        return "logits"
    if math.isnan(low):
        raise DataError(f"predictions: all are nan; {_STATE_KIND_ADVICE}")
    if x.ndim > 1 and x.shape[-1] > 1 and _sums_to_one(x):
        inferred.append("predictions are probabilities: all are from 0 to 1, and rows sum to 1")
        return "probabilities"
    if not has_rows:
        inferred.append("predictions are probabilities: all are from 0 to 1")
        return "probabilities"
    axis = next((axis for axis in range(x.ndim - 1) if _sums_to_one(np.moveaxis(x, axis, -1))), None)
    raise DataError(
        f"predictions: all are from {low:g} to {high:g}, in rows that do not sum to 1, so that nothing decides what "
        f"they are; {_STATE_KIND_ADVICE}"
        + (f"; along axis {axis} they sum to 1, which --class-axis can name" if axis is not None else "")
    )


def _sums_to_one(x: Array, logarithms: bool = False) -> bool:
    """Whether rows sum to 1, ignoring nan."""
    for start in range(0, len(x), 1 << 16):
        rows = x[start : start + (1 << 16)].astype(np.float64)
        sums = (np.exp(rows) if logarithms else rows).sum(axis=-1)
        if bool(np.any(np.abs(sums - 1) > SUM_TOLERANCE)):
            return False
    return True


def nan_messages(predictions: Array) -> list[str]:
    """A sentence on nan among predictions; empty if there is none, in which case no boolean array is created."""
    has_nan = predictions.dtype.kind == "f" and predictions.size and np.isnan(np.minimum.reduce(predictions, axis=None))
    if not has_nan:
        return []
    nan = np.isnan(predictions)
    row = int(np.argwhere(np.atleast_1d(nan))[0][0])
    return [f"{int(nan.sum())} of the predictions are nan, the first in row {row}"]


def shifted_labels_messages(inputs: Inputs) -> list[str]:
    """A sentence on class indices if they seem to be counted from 1; empty if they do not."""
    labels, classes = inputs.labels.values, inputs.predictions.values.shape[-1]
    if labels.size and int(labels.min()) == 1 and int(labels.max()) == classes:
        return [
            f"labels run from 1 to {classes}: classes are counted from 0; pass the names of the classes if 1 is a name"
        ]
    return []


def class_axis_messages(predictions: Array) -> list[str]:
    """A sentence on the first other axis of predictions that may be that of the classes; empty if there is none."""
    for axis in range(predictions.ndim - 1):
        if np.moveaxis(predictions, axis, -1).shape == predictions.shape:
            return [f"classes are on the last axis; as many are on axis {axis}, which class_axis can name"]
    return []


def fit_labels(predictions: Array, labels: Array, loss: str, class_axis: int | None) -> Array | None:
    """Labels that differ from the shape that predictions need by an axis of length 1, reshaped; None for all others.

    Also None for a binary loss if broadcasting predictions against labels would give more than `MAX_BROADCAST` losses.
    """
    shape = predictions.shape
    if class_axis not in (None, -1, predictions.ndim - 1):
        return None
    if loss != "categorical" and (shape == (*labels.shape, 1) or (*shape, 1) == labels.shape):
        return labels.reshape(shape) if labels.size**2 <= MAX_BROADCAST else None
    if loss != "binary" and predictions.ndim > 1 and shape[-1] > 1 and labels.shape == (*shape[:-1], 1):
        return labels.reshape(shape[:-1])
    return None


def index_named_labels(
    labels: Array, predictions: Array, classes: Sequence[Any] | None, columns: Sequence[Any], inferred: list[str]
) -> tuple[Array, tuple[Any, ...]]:
    """Return (labels as class indices, or 0 and 1 for a single column; names of the classes by column).

    classes: names of the classes, if stated.  columns: names of the columns of the predictions, if they have names.
    inferred: list to which a sentence on the choice is appended.
    """
    present = np.unique(labels)
    class_names = present.tolist() if classes is None else _convert_class_names(classes, labels)
    if predictions.ndim == labels.ndim or predictions.shape[-1:] == (1,):
        if len(class_names) == 1 and classes is None:
            raise DataError(
                f"labels: all are {class_names[0]!r}, so that nothing says which is the other one; pass classes"
            )
        if len(class_names) != 2:
            listed = ", ".join(map(repr, class_names[:MAX_SHOWN]))
            raise DataError(
                f"labels: {len(class_names)} names, {listed}, beside a single prediction each; expected two"
            )
        _check_in_classes(present, class_names)
        why = "the second in sorted order" if classes is None else "the second of the classes"
        inferred.append(f"labels {class_names[1]!r} are 1, and {class_names[0]!r} 0: it is {why}")
        return (labels == class_names[1]).astype(np.int64), ()
    count = predictions.shape[-1] if predictions.ndim else 0
    if classes is None:
        if len(columns) == count and set(present.tolist()) <= set(columns):
            class_names, why = list(columns), "the columns of the predictions"
        else:
            why = "scikit-learn's order, sorted"
        listed = ", ".join(map(repr, class_names[:MAX_SHOWN]))
        inferred.append(f"classes are {listed}{' ...' * (len(class_names) > MAX_SHOWN)}: {why}")
    if len(class_names) != count:
        raise DataError(
            f"labels: {len(class_names)} classes beside {count} columns of predictions; pass the {count} names as "
            "classes, in the order of the columns"
        )
    _check_in_classes(present, class_names)
    by_name = {name: index for index, name in enumerate(class_names)}
    if len(by_name) != len(class_names):
        raise DataError("classes: a name stands twice; expected one for each column")
    unique, inverse = np.unique(labels, return_inverse=True)
    indices = np.array([by_name[name] for name in unique.tolist()], dtype=np.int64)[inverse].reshape(labels.shape)
    return indices, tuple(class_names)


def _convert_class_names(classes: Sequence[Any], labels: Array) -> list[Any]:
    """Names of classes converted to the type of the labels, as integers are text on a command line."""
    if labels.dtype.kind in "iub" and all(isinstance(name, str) for name in classes):
        try:
            return [int(name) for name in classes]
        except ValueError:
            raise DataError(f"classes: {', '.join(classes[:MAX_SHOWN])} beside labels that are integers") from None
    return list(classes)


def _check_in_classes(labels: Array, class_names: Sequence[Any]) -> None:
    if strange := [name for name in labels.tolist() if name not in class_names]:
        listed = ", ".join(map(repr, class_names[:MAX_SHOWN]))
        raise DataError(f"labels: {strange[0]!r} is not one of the classes {listed}")

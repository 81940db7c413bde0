"""Convert a user's data set to a case, with a sentence for each choice inferred from the data."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from conformance.api.data_arrays import DataError, read_array
from conformance.api.data_inference import (
    class_axis_messages,
    fit_labels,
    index_named_labels,
    infer_kind,
    nan_messages,
    shifted_labels_messages,
)
from conformance.model.case import DATA, INPUT_KINDS, WEIGHTS, Array, Case, Layout, MustRaise, Options
from conformance.testing.inputs import Inputs, read_dtype, read_inputs


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """A data set as a case."""

    case: Case
    decided: tuple[str, ...]
    """A sentence for each choice that was inferred from the data."""
    inputs: Inputs


def read_data(
    labels: Any,
    predictions: Any,
    *,
    kind: str = "",
    classes: Sequence[Any] | None = None,
    dtype: str = "",
    loss: str = "",
    class_axis: int | None = None,
    reduction: str = "mean",
    options: Mapping[str, Any] | None = None,
) -> Data:
    """Read labels and predictions as a case; see `conformance.api.compare`.  Raises DataError."""
    inferred: list[str] = []
    columns = list(predictions.columns) if isinstance(predictions, pd.DataFrame) else []
    values = read_array("predictions", predictions)
    targets = read_array("labels", labels)
    class_names: tuple[Any, ...] = ()
    if targets.dtype.kind in "OUS" or classes is not None:
        targets, class_names = index_named_labels(targets, values, classes, columns, inferred)
    inferred += nan_messages(values)
    if not kind:
        kind = infer_kind(_with_classes_last(values, class_axis), targets, inferred)
    elif kind not in INPUT_KINDS:
        raise DataError(f"kind: {kind!r}; expected one of {', '.join(INPUT_KINDS)}")
    arguments = {name: value for name, value in (options or {}).items() if value is not None}
    arguments |= {name: read_array(name, arguments[name]) for name in WEIGHTS if name in arguments}
    arguments |= {
        "labels": targets,
        kind: values,
        "loss": loss or None,
        "reduction": reduction,
        "class_axis": class_axis,
    }
    fitted_labels = fit_labels(values, targets, loss, class_axis)
    if fitted_labels is not None:
        arguments |= {
            "labels": fitted_labels,
            "loss": loss or ("categorical" if fitted_labels.shape == values.shape[:-1] else "binary"),
        }
    try:
        inputs = read_inputs(**arguments)
        chosen = read_dtype(dtype or None) or inputs.predictions.dtype or "float64"
    except (TypeError, ValueError) as error:
        raise DataError(str(error)) from error
    if inputs.target == "index" and not class_names:
        inferred += shifted_labels_messages(inputs)
    if inputs.target == "index" and inputs.input_kind == "logits" and class_axis is None:
        inferred += class_axis_messages(values)
    layout = Layout(class_names=class_names if inputs.target == "index" else ())
    case = _build_case(inputs, chosen, layout)
    if fitted_labels is not None:
        shapes = f"labels of shape {list(targets.shape)} do not fit predictions of shape {list(values.shape)}"
        inferred.append(
            f"{shapes}: the definition rejects them; functions take, broadcast or reject them as documented"
        )
        case = dataclasses.replace(case, labels=case.labels.reshape(targets.shape), expect=MustRaise("shape_mismatch"))
    return Data(case, tuple(inferred), inputs)


def _with_classes_last(predictions: Array, class_axis: int | None) -> Array:
    """Predictions with the classes on the last axis, if the class axis is one of theirs."""
    is_axis = isinstance(class_axis, int | np.integer) and -predictions.ndim <= class_axis < predictions.ndim
    return np.moveaxis(predictions, class_axis, -1) if class_axis is not None and is_axis else predictions


def _build_case(inputs: Inputs, dtype: str, layout: Layout) -> Case:
    """The case of a data set.  Arrays in a dtype that float64 represents exactly are not copied."""
    labels = inputs.labels.values
    if inputs.target != "index" and labels.dtype.kind not in "bf":
        labels = labels.astype(np.int64)
    wide = functools.partial(np.asarray, dtype=np.float64)
    options = Options(
        label_smoothing=inputs.label_smoothing,
        ignore_index=inputs.ignore_index,
        **{name: wide(weights.values) for name, weights in inputs.weights.items()},
    )
    return Case(
        id=DATA,
        why="",
        about="a data set",
        source="",
        loss=inputs.loss,
        input_kind=inputs.input_kind,
        target=inputs.target,
        predictions=inputs.predictions.values,
        labels=labels,
        options=options,
        layout=layout,
        reductions=(inputs.reduction,),
        dtypes=(dtype,),
    )

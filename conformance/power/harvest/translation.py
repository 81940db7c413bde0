"""Translates an input of a source into a case, or gives the reason why no case can express it.

The classes of a case are on the last axis, whatever the framework's default; an axis that the source passes as
an argument is a layout.  A sample without a batch axis stays one, and weights are broadcast.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from conformance.casefiles import validation
from conformance.casefiles.document import name_errors, schema_of
from conformance.casefiles.loading import SCHEMA
from conformance.model.case import (
    DEFAULT_DTYPES,
    DTYPES,
    Array,
    ByOracle,
    Case,
    Expectation,
    InputKind,
    Layout,
    Loss,
    MustRaise,
    Options,
    Reduction,
    Target,
)
from conformance.model.convention import INVALID
from conformance.power.harvest.records import Opaque, Record
from conformance.reference.domain import examine, fits

MAX_PREDICTIONS = 100_000
"""Maximum number of predictions of a case."""


class UntranslatableError(Exception):
    """An input that no case can express; the message is the reason under which it is counted."""


@dataclass(frozen=True, eq=False)
class CaseDraft:
    """One input of a source, before translation."""

    loss: Loss
    input_kind: InputKind
    target: Target
    predictions: Any
    labels: Any
    reduction: Reduction
    class_axis: int = -1
    """Axis of the classes, for a categorical loss."""
    is_axis_argument: bool = False
    """Whether the source passes that axis as an argument."""
    class_weights: Any = None
    """Shape [C]."""
    sample_weights: Any = None
    """Any shape that broadcasts, as for `positive_weight`."""
    positive_weight: Any = None
    per_sample: bool = False
    """Whether a binary loss has one weight per sample instead of per output."""
    label_smoothing: float | None = None
    ignore_index: int | None = None
    narrow_dtype: str = ""
    """The dtype of the input if it is not one of the default dtypes."""
    documented_function: str = ""
    """Name of the declared function with whose convention the stated answer may agree."""


def build_case(record: Record, draft: CaseDraft, name: str, folder: str, source: str) -> Case:
    """Turn a draft into a case.  Raises UntranslatableError.

    name: the last part of the id.  folder: the first part of the id.  source: where the input comes from.
    """
    predictions = _to_numbers(draft.predictions, "predictions")
    labels = _to_numbers(draft.labels, "labels")
    if predictions.size > MAX_PREDICTIONS:
        raise UntranslatableError(f"more than {MAX_PREDICTIONS} numbers")
    narrow_dtype = draft.narrow_dtype or predictions.dtype.name
    predictions, labels, layout = _arrange_axes(draft, predictions.astype(np.float64), labels)
    samples = predictions.shape[:-1] if draft.loss == "categorical" else predictions.shape
    options = Options(
        class_weights=_class_weights(draft, predictions.shape),
        sample_weights=_sample_weights(draft, samples),
        positive_weight=_positive_weight(draft, predictions.shape),
        label_smoothing=_check_smoothing(draft),
        ignore_index=draft.ignore_index,
    )
    file = file_name(draft)
    ends = f", which ends in {record.raised} there" if record.raised else ""
    why = f"An input of {record.function} in {record.test.partition('[')[0].rpartition('::')[2] or record.name}{ends}."
    case = Case(
        id=f"{folder}/{file}/{name}",
        why=why,
        about=ABOUT.format(draft.loss, draft.input_kind.replace("_", "-"), draft.target),
        source=source,
        loss=draft.loss,
        input_kind=draft.input_kind,
        target=draft.target,
        predictions=predictions,
        labels=labels,
        options=options,
        layout=layout,
        reductions=(draft.reduction,),
        path=record.test.partition("::")[0],
        line=record.line,
    )
    return _with_valid_dtypes(case, narrow_dtype)


ABOUT = "Inputs for a {} loss of {} with {} targets."


def file_name(draft: CaseDraft) -> str:
    """Name of the case's file: its cases share loss, kind of predictions and kind of targets."""
    return f"binary_{draft.input_kind}" if draft.loss == "binary" else f"{draft.input_kind}_{draft.target}"


def to_name(text: str) -> str:
    """Turn any text into a name of a case: lower case, digits and _, without names of frameworks."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    schema = schema_of(SCHEMA)
    words = schema["definitions"]["name"]["not"]["pattern"]
    while re.search(words, name):
        name = re.sub(words, "_", name)
        name = re.sub(r"_+", "_", name).strip("_")
    name = name if name[:1].isalpha() else f"case_{name}".strip("_")
    assert not list(name_errors(schema, name))
    return name


def _to_numbers(value: Any, noun: str) -> Array:
    if isinstance(value, Opaque):
        traced = "Tracer" in value.type_name
        raise UntranslatableError(
            "traced by a transformation, without values" if traced else f"{noun} that are {value.type_name}"
        )
    if isinstance(value, bool | int | float):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray):
        raise UntranslatableError(f"{noun} that are not an array of numbers")
    return value


def _arrange_axes(draft: CaseDraft, predictions: Array, labels: Array) -> tuple[Array, Array, Layout]:
    """Predictions and labels in the layout of a case, and the layout of the input."""
    if draft.loss == "binary":
        return predictions, _target_kind(draft, labels), Layout()
    if not -predictions.ndim <= draft.class_axis < predictions.ndim:
        raise UntranslatableError("predictions without an axis of classes")
    axis = draft.class_axis % predictions.ndim
    last = axis == predictions.ndim - 1
    predictions = np.moveaxis(predictions, axis, -1)
    if draft.target == "distribution" and labels.ndim == predictions.ndim:
        labels = np.moveaxis(labels, axis, -1)
    if predictions.shape[-1] == 0:
        raise UntranslatableError("predictions without classes")
    column = draft.target == "index" and labels.shape == (*predictions.shape[:-1], 1)
    layout = Layout(
        class_axis=axis if draft.is_axis_argument and not last else -1,
        labels="column" if column else "flat",
    )
    return predictions, _target_kind(draft, labels[..., 0] if column else labels), layout


def _target_kind(draft: CaseDraft, labels: Array) -> Array:
    """Labels in the dtypes of a case: int64 for indices, else float64, int64 or bool."""
    if labels.dtype.kind == "b":
        return labels.astype(np.int64) if draft.target == "index" else labels
    if labels.dtype.kind in "iu":
        if labels.dtype == np.uint64 and bool(np.any(labels > 2**63 - 1)):
            raise UntranslatableError("labels beyond int64")
        return labels.astype(np.int64)
    labels = labels.astype(np.float64)
    if draft.target != "index":
        return labels
    if not bool(np.all(labels == np.floor(labels))):
        raise UntranslatableError("indices that are not whole numbers")
    return labels.astype(np.int64)


def _weights(value: Any, noun: str) -> Array | None:
    return None if value is None else _to_numbers(value, noun).astype(np.float64)


def _class_weights(draft: CaseDraft, shape: tuple[int, ...]) -> Array | None:
    weights = _weights(draft.class_weights, "class weights")
    if weights is not None and not fits("class_weights", weights.shape, shape, draft.loss):
        raise UntranslatableError(f"class weights of shape {list(weights.shape)} for {shape[-1]} classes")
    return weights


def _sample_weights(draft: CaseDraft, samples: tuple[int, ...]) -> Array | None:
    weights = _weights(draft.sample_weights, "sample weights")
    if weights is None:
        return None
    if samples == () and weights.size == 1:
        return weights.reshape(())
    if draft.per_sample:
        samples = samples[:-1] if draft.loss == "binary" and len(samples) > 1 else samples
        if weights.ndim == len(samples) + 1 and weights.shape[-1] == 1:
            weights = weights[..., 0]
        if weights.ndim and weights.shape == samples[: weights.ndim]:
            return weights
    try:
        return np.array(np.broadcast_to(weights, samples))
    except ValueError:
        raise UntranslatableError("sample weights that do not fit the samples") from None


def _check_smoothing(draft: CaseDraft) -> float | None:
    if draft.label_smoothing is not None and not 0 <= draft.label_smoothing <= 1:
        raise UntranslatableError("a label smoothing outside [0, 1]")
    return draft.label_smoothing


def _positive_weight(draft: CaseDraft, shape: tuple[int, ...]) -> Array | None:
    weights = _weights(draft.positive_weight, "positive weights")
    if weights is not None and not fits("positive_weight", weights.shape, shape, draft.loss):
        raise UntranslatableError("positive weights that do not fit the predictions")
    return weights


def _with_valid_dtypes(case: Case, narrow_dtype: str) -> Case:
    """The case with its dtypes, and with the error that it must raise, if any."""
    expected = dict.fromkeys((*((narrow_dtype,) if narrow_dtype in DTYPES else ()), *DEFAULT_DTYPES))
    dtypes = tuple(dtype for dtype in DTYPES if dtype in expected and validation.inexact_value(case, dtype) is None)
    if not dtypes:
        raise UntranslatableError("numbers beyond float64")
    kinds = frozenset[str]().union(*(examine(case.problem(dtype, "none")) for dtype in dtypes)) & INVALID
    if len(kinds) > 1:
        raise UntranslatableError("more than one thing that is wrong at once")
    expect: Expectation = MustRaise(next(iter(kinds))) if kinds else ByOracle()
    case = replace(case, dtypes=dtypes, expect=expect)
    for fault in validation.find_errors(case):
        raise UntranslatableError(fault.message)
    return case

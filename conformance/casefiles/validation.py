"""Semantic validation of a case: its parts must fit each other, and its content must match its declarations.

The loader validates cases from files, and the fuzzer generated ones. The path of an error is relative to the case,
`("options", "class_weights")`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from conformance.casefiles.document import JsonPath, number_text
from conformance.casefiles.generated_arrays import GeneratedCase
from conformance.model.case import (
    WEIGHTS,
    Array,
    ByOracle,
    Case,
    InputKind,
    Layout,
    Loss,
    MustRaise,
    NoRightAnswer,
    Options,
    Target,
    numpy_dtype,
)
from conformance.model.convention import INVALID
from conformance.model.floats import equal_with_nan
from conformance.model.text import join_names
from conformance.reference.domain import Shape, examine, fits, mismatched_weights


@dataclass(frozen=True)
class ValidationError:
    """One error in a case: where, what, and what to do."""

    path: JsonPath
    """Path inside the case."""
    message: str
    advice: str = ""


def find_errors(case: Case) -> list[ValidationError]:
    """All errors in a case that the schema cannot detect; empty for a valid case."""
    errors = list(family_errors(case.loss, case.input_kind, case.target))
    if errors:
        return errors
    shape = case.predictions.shape
    shapes_may_differ = case.expect == MustRaise("shape_mismatch")
    errors += option_errors(case.options, case.loss, case.target, None if shapes_may_differ else shape)
    if case.layout.class_axis != -1:
        errors += axis_errors(case.loss, len(shape), case.layout.class_axis)
    errors += layout_errors(case.layout, case.target, case.predictions, case.labels)
    return errors or list(content_errors(case))


def family_errors(loss: Loss, input_kind: InputKind, target: Target, written: str = "") -> Iterator[ValidationError]:
    """Check that the loss, the kind of predictions and the kind of targets are compatible.

    written: the file's word for the target.
    """
    if (loss == "binary") != (target == "binary"):
        expected = "binary" if loss == "binary" else "index or distribution"
        yield ValidationError(("target",), f"a {loss} loss has no {written or target} target", f"write {expected}")
    elif loss == "binary" and input_kind == "log_probabilities":
        yield ValidationError(
            ("given",), "one log-probability does not give a binary loss", "write logits or probabilities"
        )


def option_errors(options: Options, loss: Loss, target: Target, shape: Shape | None) -> Iterator[ValidationError]:
    """Check that options apply to the loss and the targets, and fit the shape of the predictions (None: unknown)."""
    belongs = {
        "class_weights": ("categorical losses", loss == "categorical"),
        "positive_weight": ("binary losses", loss == "binary"),
        "ignore_index": ("index targets", target == "index"),
    }
    for name in options.names():
        condition, is_met = belongs.get(name, ("", True))
        if not is_met:
            yield ValidationError(("options", name), f"{name} is for {condition} only", "remove it")
        elif name in WEIGHTS and shape is not None:
            wrong = shape_error(name, getattr(options, name).shape, shape, loss)
            yield from [] if wrong is None else [wrong]


def shape_error(option: str, shape: Shape, predictions: Shape, loss: Loss) -> ValidationError | None:
    """The error for an option whose shape does not fit; None if it fits."""
    if fits(option, shape, predictions, loss):
        return None
    path: JsonPath = ("options", option)
    samples = predictions[:-1] if loss == "categorical" else predictions
    if option == "class_weights":
        classes = predictions[-1]
        return ValidationError(path, f"shape {list(shape)} for {classes} classes", f"give a list of {classes} weights")
    if option == "sample_weights":
        advice = f"give weights of shape {list(samples)}, or of its leading axes" if samples else "give one number"
        message = f"shape {list(shape)} does not fit {f'samples of shape {list(samples)}' if samples else 'one sample'}"
        return ValidationError(path, message, advice)
    return ValidationError(
        path,
        f"shape {list(shape)} does not broadcast against predictions of shape {list(predictions)}",
        "give one number, or one per output of the last axis",
    )


def axis_errors(loss: Loss, rank: int, axis: object, key: str = "class_axis") -> Iterator[ValidationError]:
    """Check that predictions of this rank have the class axis.  key: the key of the layout that states the axis."""
    path: JsonPath = ("layout", key)
    if loss != "categorical":
        yield ValidationError(path, "a binary loss has no axis of classes", "remove it")
    elif not isinstance(axis, int) or not -rank <= axis < rank:
        yield ValidationError(path, f"there is no axis {axis} in predictions of rank {rank}", f"give 0 to {rank - 1}")


def other_class_axis(case: Case) -> int | None:
    """An axis that may be the class axis instead of the last one; None if the arrays show that it is the last one.

    Candidates are the axis on which classes are passed, or else axis 1 of more than two axes, if it has the same
    length. Rows that must sum to 1, and do so along only one of the two axes, determine which it is.
    """
    shape, labels, axis = case.predictions.shape, case.labels, case.layout.class_axis
    if axis == -1 and len(shape) > 2 and shape[1] == shape[-1]:
        axis = 1
    if case.loss != "categorical" or axis == -1 or not labels.size:
        return None
    if case.target == "index" and not labels.shape == (*shape[:axis], *shape[axis + 1 :]) == shape[:-1]:
        return None
    rows = [labels] if case.target == "distribution" else []
    with np.errstate(over="ignore"):
        rows += [case.predictions] if case.input_kind == "probabilities" else []
        rows += [np.exp(case.predictions)] if case.input_kind == "log_probabilities" else []
    is_known = any(_sums_to_one(array, -1) and not _sums_to_one(array, axis) for array in rows)
    return None if is_known else axis


def _sums_to_one(rows: Array, axis: int) -> bool:
    return bool(np.allclose(rows.astype(np.float64).sum(axis=axis), 1, rtol=0, atol=1e-3))


def layout_errors(layout: Layout, target: Target, predictions: Array, labels: Array) -> Iterator[ValidationError]:
    """Check that the arrays can be passed in the layout."""
    if layout.labels == "column" and target == "distribution":
        yield ValidationError(("layout", "labels"), "distributions cannot be a column", "remove it")
    elif layout.labels == "column" and target == "binary" and labels.ndim > 1 and labels.shape[-1] == 1:
        yield ValidationError(("layout", "labels"), f"labels of shape {list(labels.shape)} are a column", "remove it")
    if layout.order not in ("c", "readonly") and not predictions.ndim:
        yield ValidationError(("layout", "order"), "a single value has no memory order", "remove it")
    elif layout.order == "broadcast":
        first = predictions[:1]
        same = equal_with_nan(predictions, first)
        if not bool(np.all(same)):
            index = int(np.argwhere(~same)[0][0])
            unit = "sample" if predictions.ndim > 1 or target == "binary" else "class"
            message = f"{unit} {index} differs from {unit} 0, so one cannot stand for all"
            yield ValidationError(("layout", "order"), message, f"repeat {unit} 0, or choose another order")
    if layout.label_dtype is not None and layout.class_names:
        yield ValidationError(("layout", "label_dtype"), "it is for labels that are numbers", "remove it, or classes")
    elif layout.label_dtype is not None:
        with np.errstate(invalid="ignore", over="ignore"):
            converted = labels.astype(layout.label_dtype)
            unchanged = (converted == labels) | ((converted != converted) & (labels != labels))
        if not bool(np.all(unchanged)):
            at = tuple(int(index) for index in np.argwhere(~unchanged)[0])
            message = f"{number_text(labels[at].item())} does not fit into {layout.label_dtype}"
            yield ValidationError(("labels", *at), message, "choose another label_dtype")


def weight_dtype_errors(case: Case) -> Iterator[ValidationError]:
    """Check that there are weights if the layout has a dtype for them, and that they fit it in every dtype."""
    name = case.layout.weight_dtype
    weights = {option: values for option in WEIGHTS if (values := getattr(case.options, option)) is not None}
    if name is None:
        return
    if not weights:
        yield ValidationError(("layout", "weight_dtype"), "there are no weights", "remove it")
    for option, values in weights.items():
        for dtype in case.dtypes:
            rounded = values.astype(numpy_dtype(dtype)).astype(np.float64)
            with np.errstate(invalid="ignore", over="ignore", under="ignore"):
                fitting = equal_with_nan(rounded.astype(numpy_dtype(name)).astype(np.float64), rounded)
            if not bool(np.all(fitting)):
                at = tuple(int(index) for index in np.argwhere(~fitting)[0])
                message = f"{number_text(values[at].item())}, as it is in {dtype}, does not fit into {name}"
                yield ValidationError(("options", option, *at), message, "choose another weight_dtype")
                break


def content_errors(case: Case, written_axis: int | None = None) -> Iterator[ValidationError]:
    """Check the content of a case against its declared dtypes and expectation.

    written_axis: the class axis stated in its file, if any; the arrays of the case have the classes last.
    """
    yield from weight_dtype_errors(case)
    kinds: set[str] = set()
    inexact = {dtype: inexact_value(case, dtype) for dtype in case.dtypes}
    fitting = [dtype for dtype, error in inexact.items() if error is None]
    for dtype, error in inexact.items():
        if error is not None:
            path, number, effect = error
            advice = f"give dtypes: [{join_names(fitting)}]" if fitting else "give another number"
            yield ValidationError(path, f"{number_text(number)} {effect} {dtype}", advice)
        else:
            kinds |= examine(case.problem(dtype, case.reductions[0]))
    if len(fitting) < len(inexact):
        return
    expect = case.expect
    expected = expect.kind if isinstance(expect, MustRaise) else None
    invalid = kinds & INVALID
    if isinstance(expect, NoRightAnswer):
        invalid &= {"shape_mismatch"}
    for kind in sorted(invalid - {expected}):
        path, message = _invalid_kind_error(case, kind, written_axis)
        hint = _other_values(case, kind)
        advice = _other_target(case, kind, written_axis) or f"correct it{hint}"
        if advice == "correct it" and _may_raise(case):
            advice += f", or say expect: {{error: {kind}}}"
        yield ValidationError(path, message, advice)
    if expected is not None and expected not in kinds:
        present = f"; present: {join_names(sorted(kinds))}" if kinds else ""
        message = f"there is no {expected} in this case{present}"
        advice = f"write {next(iter(invalid))}" if len(invalid) == 1 else "correct the one or the other"
        yield ValidationError(("expect", "error"), message, advice)


def _may_raise(case: Case) -> bool:
    """Whether an invalid input may be intended to raise: the case states no answer and no such error."""
    expect = case.expect
    # An edge, such as trailing_axis, may be an invalid kind as well.
    states_none = expect.kind not in INVALID if isinstance(expect, MustRaise) else isinstance(expect, ByOracle)
    return states_none and not case.published


def inexact_value(case: Case, dtype: str) -> tuple[JsonPath, float, str] | None:
    """Position of the first number that overflows in `dtype`, or of a written prediction that underflows to 0."""
    if dtype == "float64":
        return None
    narrow = numpy_dtype(dtype)
    underflows = None if isinstance(case, GeneratedCase) else ("predictions",)  # generated ones may underflow
    arrays: list[tuple[JsonPath, Array | None]] = [(("predictions",), case.predictions), (("labels",), case.labels)]
    arrays += [(("options", name), getattr(case.options, name)) for name in WEIGHTS]
    for path, exact in arrays:
        if exact is None or exact.dtype != np.float64:
            continue
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            rounded = exact.astype(narrow).astype(np.float64)
        overflow = np.isinf(rounded) != np.isinf(exact)
        underflow = (rounded == 0) != (exact == 0)
        for mask, effect in ((overflow, "overflows"), (underflow, "becomes 0 in")):
            if bool(mask.any()) and (effect == "overflows" or path == underflows):
                at = tuple(int(index) for index in np.argwhere(mask)[0])
                return (*path, *at), float(exact[at]), effect
    return None


def _other_target(case: Case, kind: str, written_axis: int | None) -> str:
    """Advice for labels that fit targets of another kind, a column, or classes on another axis; "" if there is none."""
    samples, shape = case.predictions.shape[:-1], case.labels.shape
    if kind != "shape_mismatch":
        return ""
    flat = samples if case.target == "index" else case.predictions.shape
    if case.target != "distribution" and shape == (*flat, 1):
        return f"write labels of shape {list(flat)}; layout: {{labels: column}} hands them over as a column"
    if case.loss == "binary":
        return ""
    if case.target == "index" and shape == case.predictions.shape:
        return "say target: distribution"
    written = written_shape(case.predictions.shape, written_axis)
    last = len(written) - 1
    axes = [axis for axis in range(len(written)) if shape == (*written[:axis], *written[axis + 1 :])]
    if case.target == "index" and axes:
        if last in axes and written_axis is not None:
            return "leave written_class_axis out"
        choices = " or ".join(f"{{written_class_axis: {axis}}}" for axis in axes)
        return f"say layout: {choices} if the classes are on axis {' or '.join(map(str, axes))}"
    all_integral = case.labels.dtype.kind in "iu" or bool(np.all(case.labels == np.floor(case.labels)))
    return "say target: index" if case.target == "distribution" and shape == samples and all_integral else ""


def _other_values(case: Case, kind: str) -> str:
    """A hint in parentheses on labels with other numbers, or on predictions of another kind; "" if there is none."""
    if kind == "label_out_of_range":
        labels, ignored = case.labels, case.options.ignore_index
        counted = labels if ignored is None else labels[labels != ignored]
        from_one = counted.min() == 1 and counted.max() == case.predictions.shape[-1]
        return " (labels count from 0)" if from_one else ""
    if kind == "invalid_target":
        names = np.unique(case.labels)
        if case.target != "binary" or case.layout.class_names or not np.all(names == np.floor(names)):
            return ""
        hint = f"; classes: {list(map(int, names))} says that those are their names" if len(names) == 2 else ""
        return f" (labels of a binary loss are 0 and 1{hint})"
    if kind != "invalid_probability":
        return ""
    in_range = bool(np.all((case.predictions >= 0) & (case.predictions <= 1)))
    return f" (perhaps given: {'probabilities' if in_range else 'logits'})"


def written_shape(shape: Shape, axis: int | None) -> Shape:
    """The shape of arrays in the file, with the classes on an axis.  shape: shape with the classes last."""
    if axis is None:
        return shape
    axis %= len(shape)
    return (*shape[:axis], shape[-1], *shape[axis:-1])


def _invalid_kind_error(case: Case, kind: str, written_axis: int | None) -> tuple[JsonPath, str]:
    """Position and description of the first input of an invalid kind."""
    predictions, labels = case.predictions, case.labels
    if kind == "shape_mismatch":
        for name in mismatched_weights(case.options, predictions.shape, case.loss):
            wrong = shape_error(name, getattr(case.options, name).shape, predictions.shape, case.loss)
            assert wrong is not None
            return wrong.path, wrong.message
        want = case.problem(case.dtypes[0], case.reductions[0]).sample_shape
        want = want if case.target == "index" else predictions.shape
        rank = predictions.ndim
        label_shape = list(written_shape(labels.shape, written_axis if labels.ndim == rank else None))
        need = list(written_shape(want, written_axis) if len(want) == rank else want) or "a single value"
        written = f"{list(written_shape(predictions.shape, written_axis))}"
        written += "" if written_axis is None else f" with classes on axis {written_axis}"
        return ("labels",), f"labels of shape {label_shape} where predictions of shape {written} need {need}"
    classes = predictions.shape[-1]
    invalid = labels < 0
    path: JsonPath = ("labels",)
    array, interval = labels, "outside [0, 1]"
    if kind == "label_out_of_range":
        invalid, interval = invalid | (labels >= classes), f"outside [0, {classes})"
        if case.options.ignore_index is not None:
            invalid = invalid & (labels != case.options.ignore_index)
    elif kind == "invalid_target":
        invalid = invalid | (labels > 1)
    elif kind == "invalid_probability" and case.input_kind == "log_probabilities":
        invalid, array, path, interval = predictions > 0, predictions, ("predictions",), "above 0"
    elif kind == "invalid_probability":
        invalid, array, path = (predictions < 0) | (predictions > 1), predictions, ("predictions",)
    ignored = case.options.ignore_index
    if case.target == "index" and array is predictions and ignored is not None:
        invalid = invalid & (labels != ignored)[..., np.newaxis]
    if not bool(np.any(invalid)):
        return path, f"there is a {kind}"
    at = tuple(int(index) for index in np.argwhere(invalid)[0])
    return (*path, *at), f"{path[0]} has {number_text(array[at].item())}, {interval}"

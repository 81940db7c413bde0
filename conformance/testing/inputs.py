"""Convert the arguments of `conformance.testing` to a problem of the definition, or raise one clear error."""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar, Unpack

import numpy as np

from conformance.adapters.contract import Function, required_capabilities
from conformance.model.case import (
    DTYPES,
    INPUT_KINDS,
    LOSSES,
    REDUCTIONS,
    WEIGHTS,
    Array,
    InputKind,
    Layout,
    Loss,
    Options,
    Problem,
    Reduction,
    Target,
    numpy_dtype,
)
from conformance.model.convention import DEFINITION, Convention
from conformance.reference.domain import fits
from conformance.reference.flat_problem import rejected_anomalies
from conformance.testing.arrays import Argument, read_argument

DEFAULTS: dict[str, Reduction] = {"reduction": "mean"}
"""Defaults of the problem arguments, if not None."""
SUM_TOLERANCE = 2.0**-6
"""Maximum distance of the sum of a row of targets from 1 for an inferred distribution: bfloat16 rounds."""

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


@dataclass(frozen=True, eq=False)
class Inputs:
    """The problem in the passed arrays, with classes on the last axis."""

    loss: Loss
    input_kind: InputKind
    target: Target
    predictions: Argument
    labels: Argument
    weights: Mapping[str, Argument]
    """Class weights, sample weights, positive weight, as far as they were passed."""
    label_smoothing: float | None
    ignore_index: int | None
    reduction: Reduction
    class_axis: int
    """Class axis of the predictions as passed, not negative."""
    function: Function | None
    """The known function whose documented conventions apply."""

    def problem(self, dtype: str = "") -> Problem:
        """The problem in a dtype, to which each array is rounded once; "" for no rounding."""

        def rounded(values: Array, convert: bool = True) -> Array:
            if not dtype or not convert:
                return values
            with np.errstate(all="ignore"):
                return values.astype(numpy_dtype(dtype), copy=False)

        options = Options(
            label_smoothing=self.label_smoothing,
            ignore_index=self.ignore_index,
            **{name: rounded(weights.values) for name, weights in self.weights.items()},
        )
        labels = rounded(self.labels.values, self.labels.is_float and self.target != "index")
        predictions = rounded(self.predictions.values)
        chosen = dtype or self.predictions.dtype or "float64"
        return Problem(
            "yours",
            self.loss,
            self.input_kind,
            self.target,
            predictions,
            labels,
            options,
            Layout(),
            chosen,
            self.reduction,
        )

    def convention(self, problem: Problem, cancellation: bool) -> Convention:
        """The documented convention of the known function, without numeric choices; the definition if there is none.

        cancellation: whether cancellation in the usual formulas is accepted.
        """
        documented = DEFINITION
        if self.function is not None:
            from conformance.adapters import registry

            target = self.function.target_kind_for(problem.target_kind)
            if target is None:
                raise ValueError(f"labels: {self.function.name} takes no {problem.target_kind} targets")
            documented = registry.newest_convention(self.function, target, required_capabilities(problem, target))
        semantic = dataclasses.replace(documented.without_numeric_choices(), rejects=frozenset())
        if not cancellation:
            return semantic
        return dataclasses.replace(semantic, cancellation="logits", gradient_cancellation="targets")

    def check_domain(self, problem: Problem, convention: Convention) -> None:
        """Raise ValueError if the definition, or the documented convention of the known function, rejects an input."""
        for kind in sorted(rejected_anomalies(problem, convention)):
            raise ValueError(_outside(self, kind))

    def first_nan(self) -> str:
        """Name the first nan in the arguments: predictions, labels, weights; "" if there is none."""
        labels = self.labels if self.target == "index" else self.as_passed(self.labels)
        passed = {self.input_kind: self.as_passed(self.predictions).values, "labels": labels.values}
        passed |= {name: weights.values for name, weights in self.weights.items()}
        return next(filter(None, (first_nan(name, values) for name, values in passed.items())), "")

    def as_passed(self, argument: Argument) -> Argument:
        """Move the class axis of an argument back to its original position."""
        return dataclasses.replace(argument, values=move_axis(argument.values, -1, self.class_axis))

    def __str__(self) -> str:
        arguments = [f"{name} {list(weights.values.shape)}" for name, weights in self.weights.items()]
        arguments += [
            f"{name}={value}" for name in ("label_smoothing", "ignore_index") if (value := getattr(self, name))
        ]
        like = [] if self.function is None else [f"like {self.function.name}"]
        arrays = [f"{self.input_kind} {self.as_passed(self.predictions)}", f"labels {self.labels}"]
        return ", ".join([self.loss, *arrays, *arguments, self.reduction, *like])


class ProblemArguments(TypedDict, total=False):
    """The problem arguments of the public functions; None is equivalent to absent."""

    logits: Any
    probabilities: Any
    log_probabilities: Any
    """Predictions, one of the three: floats of shape [N, ..., C], or of any shape for a binary loss."""
    labels: Any
    """Class indices or targets."""
    class_weights: Any
    sample_weights: Any
    positive_weight: Any
    label_smoothing: float | None
    ignore_index: int | None
    reduction: Reduction
    class_axis: int | None
    """Axis of the predictions that holds the classes."""
    loss: Loss | None
    like: str | None
    """A known function, whose documented conventions apply."""


def with_problem_arguments(function: AnyFunction) -> AnyFunction:
    """Expand `ProblemArguments` in the signature that `help` and notebooks show of a function."""
    signature = inspect.signature(function)
    own = [
        parameter for parameter in signature.parameters.values() if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    stated = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=DEFAULTS.get(name), annotation=kind.__forward_arg__
        )
        for name, kind in ProblemArguments.__annotations__.items()
    ]
    parameters = sorted([*stated, *own], key=lambda parameter: parameter.kind)
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return function


def read_inputs(**problem: Unpack[ProblemArguments]) -> Inputs:
    """Check the problem arguments of `exact_cross_entropy`.

    Raises TypeError or ValueError with the name of the argument, its value, and what is expected.
    """
    if unknown := problem.keys() - ProblemArguments.__annotations__.keys():
        raise TypeError(
            f"{min(unknown)}: there is no such argument; expected {', '.join(ProblemArguments.__annotations__)}"
        )
    like, loss, class_axis = problem.get("like"), problem.get("loss"), problem.get("class_axis")
    reduction = problem.get("reduction", DEFAULTS["reduction"])
    function = None if like is None else known_function(like)
    check_choice("reduction", reduction, REDUCTIONS)
    if loss is not None:
        check_choice("loss", loss, LOSSES)
    kind, predictions = _predictions(problem)
    if (labels := problem.get("labels")) is None:
        raise TypeError("labels: expected the labels, in an array or a list")
    targets = read_argument("labels", labels)
    axis = _class_axis(class_axis, predictions, function)
    weights = {name: _weights(name, value) for name in WEIGHTS if (value := problem.get(name)) is not None}
    ignored = _ignore_index(problem.get("ignore_index"))
    if class_axis is not None or function is not None:
        predictions, targets = _classes_last(predictions, targets, axis)
    else:
        axis = predictions.values.ndim - 1
    decided, because = _loss_of_arguments(loss, function, weights, ignored, kind)
    chosen, target = _family(decided, predictions, targets, kind, axis)
    if target == "index":
        targets = _indices(targets)
    if function is not None:
        _check_function(function, chosen, kind)
    inputs = Inputs(
        chosen,
        kind,
        target,
        predictions,
        targets,
        weights,
        _read_smoothing(problem.get("label_smoothing")),
        ignored,
        reduction,
        axis,
        function,
    )
    _check_shapes(inputs, because)
    return inputs


def known_function(name: str) -> Function:
    """The known function with a name, such as `torch.CrossEntropyLoss` or `torch.nn.CrossEntropyLoss`.

    Raises ValueError if it does not return a loss.
    """
    if not isinstance(name, str):
        raise TypeError(f"like: a {type(name).__name__}; expected the name of a known function as text")
    from conformance.adapters.registry import function_named

    function = function_named(name)
    if function.quantity != "loss":
        raise ValueError(
            f"like: {function.name} returns a {function.quantity}, which follows from a loss; name the function of the "
            "loss, and compare that"
        )
    return function


def read_returned(name: str, value: Any) -> Argument:
    """Read the result of an implementation; Python numbers become float64 without a dtype."""
    argument = read_argument(name, value)
    return argument if argument.dtype else Argument(argument.values.astype(np.float64), "")


def read_dtype(dtype: Any) -> str:
    """The name of a dtype, given as text or as that of numpy or a framework; "" for None."""
    if dtype is None:
        return ""
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", getattr(dtype, "__name__", str(dtype)))
    name = str(name).rpartition(".")[2]
    check_choice("dtype", name, DTYPES)
    return name


def check_choice(argument: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ValueError if the value of an argument is not one of `choices`."""
    if value not in choices:
        raise ValueError(f"{argument}: {value!r}; expected one of {', '.join(choices)}")


def read_flag(name: str, value: Any) -> bool:
    """Read a boolean argument; raises TypeError for anything else, which Python would convert to a boolean."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: {_brief(value)}; expected True or False")
    return bool(value)


def _brief(value: Any) -> str:
    return repr(value) if isinstance(value, str | numbers.Number) or value is None else f"a {type(value).__name__}"


def _predictions(arrays: Mapping[str, Any]) -> tuple[InputKind, Argument]:
    passed = [kind for kind in INPUT_KINDS if arrays.get(kind) is not None]
    if len(passed) != 1:
        passed_text = " and ".join(passed) if passed else "no predictions"
        raise TypeError(f"{passed_text}: expected one of logits, probabilities and log_probabilities")
    kind = passed[0]
    predictions = read_argument(kind, arrays[kind])
    if not predictions.is_float:
        if predictions.dtype:
            raise TypeError(f"{kind}: {predictions}; expected floats: {', '.join(DTYPES)}")
        predictions = Argument(predictions.values.astype(np.float64), "")
    return kind, predictions


def _class_axis(class_axis: Any, predictions: Argument, function: Function | None) -> int:
    rank = predictions.values.ndim
    if class_axis is None or not rank:
        return rank - 1 if function is None or rank <= function.class_axis else function.class_axis % rank
    is_integer = isinstance(class_axis, int | np.integer) and not isinstance(class_axis, bool)
    if not is_integer or not -rank <= class_axis < rank:
        raise ValueError(f"class_axis: {class_axis!r} in predictions {predictions}; expected {-rank} to {rank - 1}")
    return int(class_axis) % rank


def move_axis(values: Array, source: int, destination: int) -> Array:
    """`numpy.moveaxis`; scalars are unchanged."""
    return np.moveaxis(values, source, destination) if values.ndim else values


def _classes_last(predictions: Argument, labels: Argument, axis: int) -> tuple[Argument, Argument]:
    moved = dataclasses.replace(predictions, values=move_axis(predictions.values, axis, -1))
    if labels.values.shape == predictions.values.shape:
        labels = dataclasses.replace(labels, values=move_axis(labels.values, axis, -1))
    return moved, labels


def _weights(name: str, value: Any) -> Argument:
    argument = read_argument(name, value)
    return argument if argument.is_float else dataclasses.replace(argument, values=argument.values.astype(np.float64))


def _read_smoothing(value: Any) -> float | None:
    if value is None:
        return None
    message = f"label_smoothing: {value!r}; expected a number from 0 to 1"
    if not isinstance(value, numbers.Real):  # a framework's scalar
        try:
            value = read_argument("label_smoothing", value).values
        except TypeError as error:
            raise TypeError(message) from error
    if isinstance(value, bool) or (isinstance(value, np.ndarray) and (value.ndim or value.dtype.kind == "b")):
        raise TypeError(message)
    smoothing = float(value)
    if not 0 <= smoothing <= 1:
        raise ValueError(message)
    return smoothing


def _ignore_index(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool | np.bool_) or not hasattr(value, "__index__"):
        raise TypeError(f"ignore_index: {value!r}; expected an integer")
    return int(value)


def _loss_of_arguments(
    loss: str | None,
    function: Function | None,
    weights: Mapping[str, Argument],
    ignored: int | None,
    kind: InputKind,
) -> tuple[str | None, str]:
    """The loss determined by arguments other than the labels, None if none does, and the determining argument."""
    if loss is not None:
        return loss, f"loss={loss!r}"
    if function is not None and len(function.ranks) == 1:
        return next(iter(function.ranks)), f"like={function.name!r}"
    deciding = {
        "log_probabilities": kind == "log_probabilities",
        "class_weights": "class_weights" in weights,
        "ignore_index": ignored is not None,
    }
    for name, decides in deciding.items():
        if decides:
            return "categorical", f"{name}="
    return ("binary", "positive_weight=") if "positive_weight" in weights else (None, "")


def _family(
    loss: str | None, predictions: Argument, labels: Argument, kind: InputKind, axis: int
) -> tuple[Loss, Target]:
    """Determine the loss and the kind of labels.  axis: axis of the classes in the passed arrays."""
    shape, samples = predictions.values.shape, predictions.values.shape[:-1]
    if loss is None and labels.values.shape == samples and shape[-1:] not in ((), (1,)):
        loss = "categorical"
    loss = loss or _loss_of_targets(predictions, labels, axis)
    if loss == "binary":
        return "binary", "binary"
    if not shape:
        raise ValueError(f"{kind}: a number; expected an array of shape [N, C], or loss='binary'")
    return "categorical", "distribution" if labels.values.shape == shape else "index"


def _loss_of_targets(predictions: Argument, labels: Argument, axis: int) -> Loss:
    """Categorical or binary, for labels that are not one index per row, if they determine it."""
    shape = predictions.values.shape
    if labels.values.shape != shape:
        samples = list(shape[:-1])
        expected = f"expected class indices of shape {samples}, or targets of shape {list(shape)}"
        if shape[-1:] == (1,):
            expected = f"expected labels of shape {list(shape)} for a binary loss; loss='categorical' has one class"
        raise ValueError(f"labels: {labels} beside predictions {predictions}; {expected}")
    if len(shape) < 2 or shape[-1] == 1:
        return "binary"
    targets = labels.values.astype(np.float64)
    if nan := first_nan("labels", move_axis(targets, -1, axis)):
        raise ValueError(f"{nan}; expected targets from 0 to 1, or loss= where nan is meant")
    if bool(np.all(np.abs(targets.sum(axis=-1) - 1) <= SUM_TOLERANCE)):
        return "categorical"
    if bool(np.all((targets == 0) | (targets == 1))):
        return "binary"
    raise ValueError(
        f"loss: labels {labels} have the shape of the predictions, in rows that neither sum to 1 nor are 0 and 1 only; "
        "say loss='categorical' or loss='binary'"
    )


def _indices(labels: Argument) -> Argument:
    """Index labels as int64."""
    values = labels.values
    if values.dtype.kind == "b":
        expected = "expected class indices: integers; booleans are labels of a binary loss"
        raise TypeError(f"labels: {list(values.shape)} of booleans; {expected}")
    if labels.is_float:
        wide = values.astype(np.float64)
        if not bool(np.all(np.isfinite(wide) & (wide == np.floor(wide)))):
            at = tuple(int(i) for i in np.argwhere(~(np.isfinite(wide) & (wide == np.floor(wide))))[0])
            expected = "expected class indices: integers of the shape of the predictions without the classes"
            raise ValueError(f"labels: {labels}, with {wide[at]:g} at {list(at)}; {expected}")
        values = wide
    if values.dtype == np.uint64 and values.size and int(values.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"labels: {labels}, with {int(values.max())}, which is not an int64")
    return Argument(values.astype(np.int64, copy=False), labels.dtype)


def _check_function(function: Function, loss: Loss, kind: InputKind) -> None:
    if loss not in function.ranks:
        raise ValueError(f"loss: {function.name} is no {loss} loss")
    if kind not in function.input_kinds:
        takes = " or ".join(function.input_kinds)
        raise ValueError(f"{kind}: {function.name} takes {takes}; pass them as {takes}=, or leave `like` out")


def _check_shapes(inputs: Inputs, because: str) -> None:
    """Raise ValueError if labels or weights do not fit the predictions.  because: the argument that determines the
    loss, "" for none.
    """
    predictions = inputs.predictions.values.shape
    expected = predictions[:-1] if inputs.target == "index" else predictions
    label_shape = inputs.labels.values.shape
    if label_shape != expected:
        hint = ""
        if math.prod(label_shape) == math.prod(expected) and 1 in (*label_shape, *expected):
            hint = f"; reshape them to {list(expected)}"
        elif inputs.class_axis != len(predictions) - 1:
            hint = f", with the classes on axis {inputs.class_axis} of the predictions as they were passed"
        elif len(predictions) > 2:
            hint = "; class_axis= says which axis has the classes, if it is not the last"
        predictions_text = f"{inputs.loss} {inputs.input_kind} {inputs.predictions}"
        if because:
            hint += f"; {because} makes the loss {inputs.loss}"
        raise ValueError(f"labels: {inputs.labels} beside {predictions_text}; expected {list(expected)}{hint}")
    belongs = {"class_weights": "categorical", "positive_weight": "binary"}
    for name, weights in inputs.weights.items():
        if belongs.get(name, inputs.loss) != inputs.loss:
            raise ValueError(f"{name}: it is for {belongs[name]} losses, and this one is {inputs.loss}")
        if not fits(name, weights.values.shape, predictions, inputs.loss):
            samples = predictions[:-1] if inputs.loss == "categorical" else predictions
            expected_weights = {
                "class_weights": f"one for each of {predictions[-1]} classes",
                "sample_weights": f"the shape {list(samples)} of the samples, or its leading axes",
                "positive_weight": f"a number, or what broadcasts against {list(predictions)}",
            }[name]
            raise ValueError(f"{name}: {weights} beside predictions {inputs.predictions}; expected {expected_weights}")
    if inputs.ignore_index is not None and inputs.target != "index":
        raise ValueError(f"ignore_index: it is for class indices, and labels {inputs.labels} are targets")


def first_nan(name: str, values: Array) -> str:
    """Name the first nan of an argument; "" if it has none."""
    if values.dtype.kind in "biu":
        return ""
    places = np.argwhere(np.isnan(values))
    place = f" at {places[0].tolist()} of shape {list(values.shape)}" if len(places) and values.ndim else ""
    return f"{name}: nan{place}" if len(places) else ""


def _outside(inputs: Inputs, kind: str) -> str:
    """Values outside the domain of the definition, with the first index."""
    x, y = inputs.as_passed(inputs.predictions).values, inputs.labels.values
    if inputs.target != "index":
        y = inputs.as_passed(inputs.labels).values
    classes = x.shape[inputs.class_axis] if x.ndim else 1
    array, name, invalid, expected = y, "labels", np.zeros(y.shape, dtype=bool), kind.replace("_", " ")
    if kind == "label_out_of_range":
        invalid = ((y < 0) | (y >= classes)) & (y != inputs.ignore_index)
        expected = f"expected classes from 0 to {classes - 1}"
        expected += (
            ", or the ignore_index" if inputs.ignore_index is not None else "; ignore_index= names one to ignore"
        )
    elif kind == "invalid_target":
        invalid, expected = (y < 0) | (y > 1), "expected targets from 0 to 1"
    elif kind == "invalid_probability":
        array, name = x, inputs.input_kind
        with np.errstate(invalid="ignore"):
            wide = x.astype(np.float64)
            is_log = inputs.input_kind == "log_probabilities"
            invalid = np.asarray(wide > 0) if is_log else np.asarray((wide < 0) | (wide > 1))
        expected = "expected log-probabilities up to 0" if is_log else "expected probabilities from 0 to 1"
        expected += "; logits are passed as logits="
    if not invalid.any():
        return f"{name}: {expected}"
    at = tuple(int(i) for i in np.argwhere(invalid)[0])
    return f"{name}: {float(array[at]):g} at {list(at)} of shape {list(array.shape)}; {expected}"

"""Remedies: changes to a call or to its inputs after which a function and the definition agree.

A remedy is listed only if it has been tried and the function then agrees within the usual tolerance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.adapters.contract import LoweringError
from conformance.explain.attribution import convention_of, named_choices
from conformance.explain.derivation import array_text, format_in_dtype
from conformance.explain.explanation import Remedy
from conformance.explain.number_format import format_number
from conformance.judging.judge import Assessment, Judge
from conformance.judging.plan import Item
from conformance.judging.prepare import PreparedCall, prepare_problem
from conformance.model.case import Array, ByOracle, Digits, Problem, is_derivative, numpy_dtype
from conformance.model.convention import DEFINITION, NUMERIC_FIELDS, Convention
from conformance.model.outcome import Returned
from conformance.reference import oracle
from conformance.reference.conversion import (
    DESCRIPTIONS,
    convert,
    convert_weights,
    renormalises,
    unchanging,
    why_not_convertible,
)
from conformance.reference.flat_problem import clip_ends, rejected_anomalies

MAX_PREDICTIONS = 20_000
"""Maximum number of predictions for which remedies are tried."""


@dataclass(frozen=True)
class _Context:
    """The difference that a remedy has to remove."""

    assessment: Assessment
    judge: Judge
    names: frozenset[str]
    """Fields of the documented convention that the verdict names."""
    convention: Convention
    """The documented convention."""

    @property
    def problem(self) -> Problem:
        """The problem of the case."""
        return self.assessment.prepared.problem

    @property
    def item(self) -> Item:
        """The item that was judged."""
        return self.assessment.item


@dataclass(frozen=True)
class _Change:
    """A changed problem on which the function may agree with the definition."""

    advice: str
    problem: Problem
    show_call: bool = False
    """Whether the call differs in more than its arrays."""


def remedies(assessment: Assessment, judge: Judge) -> tuple[Remedy, ...]:
    """The remedies that have been tried and work."""
    if assessment.verdict.status not in ("diverges", "disagrees"):
        return ()
    if assessment.prepared.problem.predictions.size > MAX_PREDICTIONS:
        return ()
    convention = convention_of(assessment)
    context = _Context(assessment, judge, frozenset(named_choices(assessment)), convention)
    return tuple(remedy for find in _REMEDIES for remedy in find(context))


def judge_problem(assessment: Assessment, judge: Judge, problem: Problem) -> Assessment | None:
    """Judge the same function on another problem; None if it cannot be called on it."""
    function = assessment.item.function
    input_kind = function.input_kind_for(problem.input_kind)
    if function.unsupported(convert_weights(problem, function.options)[0]) is not None:
        return None
    if input_kind != problem.input_kind and why_not_convertible(problem, input_kind) is not None:
        return None
    item = _with_problem(assessment.item, problem)
    return _call_and_judge(prepare_problem(item, problem, of_case=False), judge)


def _call_and_judge(call: PreparedCall, judge: Judge) -> Assessment | None:
    try:
        return judge.judge(call, judge.performer(call.item.framework, call.call, call.description))
    except LoweringError:
        return None


def _with_problem(item: Item, problem: Problem) -> Item:
    """The item with the dtype and reduction of `problem`, judged by the oracle and not by the case's `expect`."""
    case = item.case
    if not isinstance(case.expect, ByOracle | Digits):
        case = dataclasses.replace(case, expect=ByOracle())
    return dataclasses.replace(item, case=case, dtype=problem.dtype, reduction=problem.reduction)


def _value(assessment: Assessment) -> Array:
    outcome = assessment.verdict.outcome
    assert isinstance(outcome, Returned)
    return outcome.value


def _value_text(assessment: Assessment) -> str:
    return array_text(_value(assessment))


# Candidates.


def _if_agrees(attempt: Assessment | None, advice: str, show_call: bool) -> Iterator[Remedy]:
    """The remedy, if the attempt agrees."""
    if attempt is not None and attempt.verdict.status == "agrees":
        yield Remedy(advice, _value_text(attempt), attempt.call if show_call else "")


def _if_result_agrees(context: _Context, value: Array, advice: str, shown: str, call: str = "") -> Iterator[Remedy]:
    """The remedy, if `value` as the result would agree."""
    outcome = context.assessment.verdict.outcome
    if not isinstance(outcome, Returned):
        return
    result = dataclasses.replace(outcome, value=np.asarray(value))
    if context.judge.judge(context.assessment.prepared, result).verdict.status == "agrees":
        yield Remedy(advice, shown, call)


def _first_that_agrees(context: _Context, changes: Iterable[_Change]) -> Iterator[Remedy]:
    """The remedy of the first change after which the function agrees on the changed problem."""
    for change in changes:
        attempt = judge_problem(context.assessment, context.judge, change.problem)
        if remedies := list(_if_agrees(attempt, change.advice, change.show_call)):
            yield from remedies
            return


def _with_predictions(context: _Context, advice: str, values: Any) -> Iterator[_Change]:
    """The problem with other predictions, if they are finite."""
    if np.all(np.isfinite(values)):
        predictions = values.astype(numpy_dtype(context.problem.dtype))
        changed = dataclasses.replace(context.problem, predictions=predictions)
        yield _Change(f"{advice} first: the definition then gives the same", changed)


def _divided_rows(values: Array) -> Any:
    """Rows divided by their sums, in float64."""
    wide = values.astype(np.float64)
    with np.errstate(all="ignore"):
        return wide / wide.sum(axis=-1, keepdims=True)


# Other functions and inputs of another kind


def _avoid_conversion(context: _Context) -> Iterator[Remedy]:
    """Call another loss of the framework that needs no lossy conversion, or normalise the rows first."""
    problem, item = context.problem, context.item
    if not context.assessment.verdict.conversion:
        return
    kind_taken = context.assessment.prepared.converted.input_kind
    for kind in unchanging(problem, kind_taken):
        converted, name = convert(problem, kind)
        for function in item.installed.functions:
            if function.quantity != item.function.quantity or kind not in function.input_kinds:
                continue
            if function.unsupported(problem) is not None:
                continue
            direct = dataclasses.replace(_with_problem(item, problem), function=function)
            attempt = _call_and_judge(PreparedCall(direct, problem, converted, name, of_case=False), context.judge)
            conversion = f", and hand it {DESCRIPTIONS[name]}" if name else ""
            advice = f"call {function.name}, which takes {kind.replace('_', '-')}{conversion}"
            if remedies := list(_if_agrees(attempt, advice, show_call=True)):
                yield from remedies
                return
    if renormalises(problem, kind_taken):
        yield from _first_that_agrees(context, _normalised_rows(context))


def _normalised_rows(context: _Context) -> Iterator[_Change]:
    predictions = context.problem.predictions
    if context.problem.input_kind == "probabilities":
        yield from _with_predictions(context, "divide each row by its sum", _divided_rows(predictions))
    else:
        wide = predictions.astype(np.float64)
        with np.errstate(all="ignore"):
            values = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
        yield from _with_predictions(context, "subtract log sum exp from each row", values)


def _pass_logits(context: _Context) -> Iterator[Remedy]:
    """Pass logarithms of the probabilities as logits, which are not clipped, to a function that takes logits."""
    problem, item = context.problem, context.item
    if (
        problem.input_kind != "probabilities"
        or "logits" not in item.function.input_kinds
        or is_derivative(item.quantity)
    ):
        return
    if not context.names & {"clip", "log_offset", "log_floor", "renormalise"} or rejected_anomalies(
        problem, DEFINITION
    ):
        return
    if why_not_convertible(problem, "logits") is not None:
        return
    converted, name = convert(problem, "logits")
    if item.function.unsupported(converted) is None:
        call = PreparedCall(_with_problem(item, problem), problem, converted, name, of_case=False)
        advice = f"hand it {'log p' if name == 'log' else 'log p - log(1 - p)'} as logits"
        yield from _if_agrees(_call_and_judge(call, context.judge), advice, show_call=True)


# Rescaled results and alternative computations


def _divide_sum(context: _Context) -> Iterator[Remedy]:
    """Divide the sum by the definition's divisor, or rescale the mean."""
    problem, assessment = context.problem, context.assessment
    if "mean_divides_by" not in context.names or problem.reduction != "mean":
        return
    if context.item.function.quantity != "loss":
        return
    reference_divisor = oracle.divisor(problem, DEFINITION)
    part = context.convention.restricted_to(tuple(context.names))
    function_divisor = oracle.divisor(assessment.prepared.converted, part)
    if not reference_divisor or not function_divisor:
        return
    weight, divisor = format_number(reference_divisor), format_number(function_divisor)
    total = judge_problem(assessment, context.judge, problem.with_reduction("sum"))
    if total is not None and isinstance(total.verdict.outcome, Returned):
        value = _value(total) / float(reference_divisor)
        if value.shape == _value(assessment).shape:
            gradient = context.item.quantity == "gradient"  # whose call is not a single expression
            call = "" if gradient else f"{total.call} / {float(reference_divisor)!r}"
            shown = _computation(f"{_value_text(total)} / {weight}", value)
            advice = f"compute the sum and divide it by the weight, {weight}"
            yield from _if_result_agrees(context, value, advice, shown, call)
    value = _value(assessment) * float(function_divisor / reference_divisor)
    shown = _computation(f"{_value_text(assessment)} * {divisor} / {weight}", value)
    advice = f"rescale what it returns by divisor / weight, {divisor} / {weight}"
    yield from _if_result_agrees(context, value, advice, shown)


def _computation(formula: str, value: Array) -> str:
    """`formula = value` for a scalar; the value alone for an array."""
    return f"{formula} = {array_text(value)}" if value.ndim == 0 else array_text(value)


def _separate_outputs(context: _Context) -> Iterator[Remedy]:
    """Undo the mean over the outputs of the last axis, or make each output a row."""
    problem, assessment = context.problem, context.assessment
    if "binary_outputs" not in context.names or problem.predictions.ndim == 0:
        return
    outputs = problem.predictions.shape[-1]
    if problem.reduction == "sum":
        value = _value(assessment) * outputs
        shown = _computation(f"{_value_text(assessment)} * {outputs}", value)
        advice = f"multiply what it returns by the {outputs} outputs of the last axis"
        yield from _if_result_agrees(context, value, advice, shown)
    if is_derivative(context.item.quantity) or problem.layout.names():
        return
    positive = problem.options.positive_weight
    if positive is not None and positive.ndim:
        positive = positive[..., np.newaxis]
    separated = dataclasses.replace(
        problem.with_options(positive_weight=positive),
        predictions=problem.predictions[..., np.newaxis],
        labels=problem.labels[..., np.newaxis],
    )
    advice = "append an axis of length 1 to predictions and labels, x[..., None], so that each output is a row"
    yield from _if_result_of_change_agrees(context, _Change(advice, separated, show_call=True))


def _cast_to_float64(context: _Context) -> Iterator[Remedy]:
    """Repeat the call in float64, which recovers what rounding lost."""
    problem, assessment = context.problem, context.assessment
    numeric = assessment.verdict.status == "disagrees" or context.names <= set(NUMERIC_FIELDS)
    if problem.dtype == "float64" or not numeric or assessment.prepared.conversion:
        return
    change = _Change("cast to float64 first", problem.cast("float64"), show_call=True)
    yield from _if_result_of_change_agrees(context, change)


def _if_result_of_change_agrees(context: _Context, change: _Change) -> Iterator[Remedy]:
    """The remedy, if the result for the changed problem is right for the problem of the case."""
    attempt = judge_problem(context.assessment, context.judge, change.problem)
    if attempt is not None and isinstance(attempt.verdict.outcome, Returned):
        yield from _if_result_agrees(context, _value(attempt), change.advice, _value_text(attempt), attempt.call)


# Changed inputs, for which the function and the definition agree


def _explicit_ignore_index(context: _Context) -> Iterator[_Change]:
    options = context.problem.options
    if "default_ignore_index" in context.names and options.ignore_index is None:
        label = context.convention.default_ignore_index
        advice = f"say ignore_index={label} yourself: the definition ignores the label then, and both give the same"
        yield _Change(advice, context.problem.with_options(ignore_index=label), show_call=True)


def _wrapped_labels(context: _Context) -> Iterator[_Change]:
    if "out_of_range" in context.names and context.convention.out_of_range == "wrap":
        labels = context.problem.labels % context.problem.predictions.shape[-1]
        advice = f"write the labels as the classes they stand for, {array_text(labels)}"
        yield _Change(advice, dataclasses.replace(context.problem, labels=labels))


def _sorted_columns(context: _Context) -> Iterator[_Change]:
    """Sort the columns by the names of their classes, as the function assumes."""
    problem, columns = context.problem, np.array(context.problem.layout.sorted_columns)
    if "class_columns" not in context.names or problem.layout.is_sorted:
        return
    names = tuple(sorted(problem.layout.class_names))
    if problem.loss == "binary":
        advice, predictions = (
            f"pass the probability of {names[1]!r}",
            (1 - problem.predictions).astype(problem.predictions.dtype),
        )
    else:
        advice, predictions = (
            f"put the columns into the order of {list(names)}",
            problem.predictions[..., columns.argsort()],
        )
    layout = dataclasses.replace(problem.layout, class_names=names)
    changed = dataclasses.replace(problem, predictions=predictions, labels=columns[problem.labels], layout=layout)
    yield _Change(advice, changed, show_call=True)


def _normalised_targets(context: _Context) -> Iterator[_Change]:
    """Normalise the targets, so that they do not change the divisor and the gradient treats them as a distribution."""
    problem = context.problem
    if problem.target_kind not in ("multi_hot", "distribution") or not context.names & {
        "gradient_total",
        "mean_divides_by",
    }:
        return
    with np.errstate(all="ignore"):
        labels = problem.labels / problem.labels.astype(np.float64).sum(axis=-1, keepdims=True)
    if np.all(np.isfinite(labels)):
        changed = dataclasses.replace(problem, labels=labels.astype(numpy_dtype(problem.dtype)))
        yield _Change("divide each row of targets by its sum first: the definition then gives the same", changed)


def _preprocessed_predictions(context: _Context) -> Iterator[_Change]:
    """Apply the function's preprocessing of probabilities beforehand, so that the definition sees the same values."""
    problem = context.problem
    if problem.input_kind != "probabilities" or rejected_anomalies(problem, context.convention):
        return
    if is_derivative(context.item.quantity):
        return
    wide = problem.predictions.astype(np.float64)
    ends = clip_ends(problem.dtype, context.convention)
    if "renormalise" in context.names and problem.loss == "categorical":
        yield from _with_predictions(context, "divide each row by its sum", _divided_rows(wide))
    if "accepts" in context.names:
        yield from _with_predictions(context, "clip the probabilities to [0, 1]", np.clip(wide, 0.0, 1.0))
    if "clip" in context.names and ends is not None:
        low, high = (format_in_dtype(problem, end) for end in ends)
        yield from _with_predictions(context, f"clip the probabilities to [{low}, {high}]", np.clip(wide, *ends))


def _try_changes(changes: Callable[[_Context], Iterator[_Change]]) -> Callable[[_Context], Iterator[Remedy]]:
    return lambda context: _first_that_agrees(context, changes(context))


_REMEDIES: tuple[Callable[[_Context], Iterator[Remedy]], ...] = (
    _avoid_conversion,
    _divide_sum,
    _separate_outputs,
    _try_changes(_explicit_ignore_index),
    _try_changes(_wrapped_labels),
    _try_changes(_sorted_columns),
    _try_changes(_normalised_targets),
    _pass_logits,
    _try_changes(_preprocessed_predictions),
    _cast_to_float64,
)
"""The candidate remedies, in the order in which they are listed."""

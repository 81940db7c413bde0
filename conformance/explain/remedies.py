"""Remedies: changes to a call or to its inputs after which a function and the definition agree.

A remedy is listed only if it was tried and the judge found agreement within the usual tolerance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from conformance.adapters.contract import LoweringError
from conformance.explain.attribution import documented_convention, named_choices
from conformance.explain.derivation import array_text, format_in_dtype
from conformance.explain.explanation import Remedy
from conformance.explain.number_format import format_number
from conformance.judging.judge import Assessment, Item, Judge, PreparedCall, convert_for
from conformance.model.case import Array, ByOracle, Digits, Problem, numpy_dtype
from conformance.model.convention import DEFINITION, Convention
from conformance.model.outcome import Returned
from conformance.reference import oracle
from conformance.reference.conversion import HANDED, conversion_obstacle, convert, renormalises, unchanging
from conformance.reference.flat_problem import clip_ends, refused

MAX_PREDICTIONS = 20_000
"""Number of predictions above which no remedy is tried."""


def remedies(assessment: Assessment, judge: Judge) -> tuple[Remedy, ...]:
    """The remedies that were tried and work."""
    if assessment.verdict.status not in ("diverges", "disagrees"):
        return ()
    if assessment.asked.problem.predictions.size > MAX_PREDICTIONS:
        return ()
    names, convention = named_choices(assessment), documented_convention(assessment)
    return (
        *_avoid_conversion(assessment, judge),
        *_divide_sum(assessment, judge, names, convention),
        *_separate_outputs(assessment, judge, names),
        *_pass_ignore_index(assessment, judge, names, convention),
        *_relabel(assessment, judge, names, convention),
        *_normalise_targets(assessment, judge, names),
        *_pass_logits(assessment, judge, names),
        *_preprocess_predictions(assessment, judge, names, convention),
        *_cast_to_float64(assessment, judge, names),
    )


def retry(assessment: Assessment, judge: Judge, problem: Problem) -> Assessment | None:
    """Judge the same function on another problem; None if it cannot be called with it."""
    function = assessment.item.function
    input_kind = function.native(problem.input_kind)
    if function.unsupported(problem) is not None:
        return None
    if input_kind != problem.input_kind and conversion_obstacle(problem, input_kind) is not None:
        return None
    asked = PreparedCall(_item_at(assessment.item, problem), problem, *convert_for(problem, input_kind), of_case=False)
    return _call_and_judge(asked, judge)


def _call_and_judge(asked: PreparedCall, judge: Judge) -> Assessment | None:
    try:
        return judge.judge(asked, judge.performer(asked.item.framework, asked.call, asked.what))
    except LoweringError:
        return None


def _item_at(item: Item, problem: Problem) -> Item:
    """The item at the dtype and reduction of `problem`, judged by the oracle whatever the case expects."""
    case = item.case
    if not isinstance(case.expect, ByOracle | Digits):
        case = dataclasses.replace(case, expect=ByOracle())
    return dataclasses.replace(item, case=case, dtype=problem.dtype, reduction=problem.reduction)


def _agrees(assessment: Assessment | None) -> bool:
    return assessment is not None and assessment.verdict.status == "agrees"


def _value(assessment: Assessment) -> Array:
    outcome = assessment.verdict.outcome
    assert isinstance(outcome, Returned)
    return outcome.value


def _value_text(assessment: Assessment) -> str:
    return array_text(_value(assessment))


def _would_agree(assessment: Assessment, judge: Judge, value: Array) -> bool:
    """Whether the function would agree if it had returned `value`."""
    outcome = assessment.verdict.outcome
    if not isinstance(outcome, Returned):
        return False
    return _agrees(judge.judge(assessment.asked, dataclasses.replace(outcome, value=np.asarray(value))))


def _avoid_conversion(assessment: Assessment, judge: Judge) -> Iterator[Remedy]:
    """Call another loss of the framework that needs no lossy conversion, or normalise the rows first."""
    problem, item = assessment.asked.problem, assessment.item
    if not assessment.verdict.conversion:
        return
    changes = renormalises(problem, assessment.asked.handed.input_kind)
    for kind in unchanging(problem, assessment.asked.handed.input_kind):
        handed, name = convert(problem, kind)
        for function in item.installed.functions:
            if kind not in function.takes or function.unsupported(problem) is not None:
                continue
            other = dataclasses.replace(_item_at(item, problem), function=function)
            attempt = _call_and_judge(PreparedCall(other, problem, handed, name, of_case=False), judge)
            if attempt is not None and _agrees(attempt):
                conversion_text = f", and hand it {HANDED[name]}" if name else ""
                what = f"call {function.name}, which takes {kind.replace('_', '-')}{conversion_text}"
                yield Remedy(what, _value_text(attempt), attempt.call)
                return
    if not changes:
        return
    wide = problem.predictions.astype(np.float64)
    with np.errstate(all="ignore"):
        if problem.input_kind == "probabilities":
            what, values = "divide each row by its sum", wide / wide.sum(axis=-1, keepdims=True)
        else:
            what = "subtract log sum exp from each row"
            values = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    changed = dataclasses.replace(problem, predictions=values.astype(numpy_dtype(problem.dtype)))
    attempt = retry(assessment, judge, changed) if np.all(np.isfinite(values)) else None
    if attempt is not None and _agrees(attempt):
        yield Remedy(f"{what} first: the definition then gives the same", _value_text(attempt))


def _divide_sum(
    assessment: Assessment, judge: Judge, names: tuple[str, ...], convention: Convention
) -> Iterator[Remedy]:
    problem = assessment.asked.problem
    if "mean_divides_by" not in names or problem.reduction != "mean":
        return
    due = oracle.divisor(problem, DEFINITION)
    used = oracle.divisor(assessment.asked.handed, convention.restricted_to(names))
    if not due or not used:
        return
    summed = retry(assessment, judge, problem.reduced("sum"))
    if summed is not None and isinstance(summed.verdict.outcome, Returned):
        value = _value(summed) / float(due)
        if value.shape == _value(assessment).shape and _would_agree(assessment, judge, value):
            shown = (
                f"{_value_text(summed)} / {format_number(due)} = {array_text(value)}"
                if value.ndim == 0
                else array_text(value)
            )
            yield Remedy(
                f"ask for the sum and divide it by the weight, {format_number(due)}", shown, _divided_call(summed, due)
            )
    value = _value(assessment) * float(used / due)
    if _would_agree(assessment, judge, value):
        shown = f"{_value_text(assessment)} * {format_number(used)} / {format_number(due)} = {array_text(value)}"
        what = f"multiply what it returns by its divisor over the weight, {format_number(used)} / {format_number(due)}"
        yield Remedy(what, shown if value.ndim == 0 else array_text(value))


def _divided_call(summed: Assessment, due: Fraction) -> str:
    """Source text of the call for the sum, divided; "" for a gradient, whose call is no single expression."""
    if summed.item.quantity == "gradient":
        return ""
    return f"{summed.call} / {float(due)!r}"


def _separate_outputs(assessment: Assessment, judge: Judge, names: tuple[str, ...]) -> Iterator[Remedy]:
    problem = assessment.asked.problem
    if "binary_outputs" not in names or problem.predictions.ndim == 0:
        return
    outputs = problem.predictions.shape[-1]
    value = _value(assessment) * outputs
    if problem.reduction == "sum" and _would_agree(assessment, judge, value):
        shown = f"{_value_text(assessment)} * {outputs} = {array_text(value)}" if value.ndim == 0 else array_text(value)
        yield Remedy(f"multiply what it returns by the {outputs} outputs of the last axis", shown)
    if assessment.item.quantity == "gradient" or problem.layout.names():
        return
    positive = problem.options.positive_weight
    if positive is not None and positive.ndim:
        positive = positive[..., np.newaxis]
    separated = dataclasses.replace(
        problem,
        predictions=problem.predictions[..., np.newaxis],
        labels=problem.labels[..., np.newaxis],
        options=dataclasses.replace(problem.options, positive_weight=positive),
    )
    attempt = retry(assessment, judge, separated)
    if (
        attempt is not None
        and isinstance(attempt.verdict.outcome, Returned)
        and _would_agree(assessment, judge, _value(attempt))
    ):
        what = "put predictions and labels behind an axis of length 1, x[..., None], so that each output is a row"
        yield Remedy(what, _value_text(attempt), attempt.call)


def _pass_ignore_index(
    assessment: Assessment, judge: Judge, names: tuple[str, ...], convention: Convention
) -> Iterator[Remedy]:
    problem = assessment.asked.problem
    if "default_ignore_index" not in names or problem.options.ignore_index is not None:
        return
    label = convention.default_ignore_index
    asked = dataclasses.replace(problem, options=dataclasses.replace(problem.options, ignore_index=label))
    attempt = retry(assessment, judge, asked)
    if attempt is not None and _agrees(attempt):
        what = f"say ignore_index={label} yourself: the definition ignores the label then, and both give the same"
        yield Remedy(what, _value_text(attempt), attempt.call)


def _relabel(assessment: Assessment, judge: Judge, names: tuple[str, ...], convention: Convention) -> Iterator[Remedy]:
    problem = assessment.asked.problem
    if "out_of_range" not in names or convention.out_of_range != "wrap":
        return
    labels = problem.labels % problem.predictions.shape[-1]
    attempt = retry(assessment, judge, dataclasses.replace(problem, labels=labels))
    if attempt is not None and _agrees(attempt):
        yield Remedy(f"write the labels as the classes they stand for, {array_text(labels)}", _value_text(attempt))


def _normalise_targets(assessment: Assessment, judge: Judge, names: tuple[str, ...]) -> Iterator[Remedy]:
    """Normalise the targets: then they do not change the divisor, and the gradient treats them as a distribution."""
    problem = assessment.asked.problem
    if problem.target_kind != "distribution" or not {"gradient_total", "mean_divides_by"} & set(names):
        return
    with np.errstate(all="ignore"):
        labels = problem.labels / problem.labels.astype(np.float64).sum(axis=-1, keepdims=True)
    if not np.all(np.isfinite(labels)):
        return
    changed = dataclasses.replace(problem, labels=labels.astype(numpy_dtype(problem.dtype)))
    attempt = retry(assessment, judge, changed)
    if attempt is not None and _agrees(attempt):
        yield Remedy(
            "divide each row of targets by its sum first: the definition then gives the same",
            _value_text(attempt),
        )


def _pass_logits(assessment: Assessment, judge: Judge, names: tuple[str, ...]) -> Iterator[Remedy]:
    """Pass logarithms of the probabilities as logits, which are not clipped, to a function that takes logits."""
    problem, item = assessment.asked.problem, assessment.item
    if problem.input_kind != "probabilities" or "logits" not in item.function.takes or item.quantity == "gradient":
        return
    if not {"clip", "log_floor", "renormalise"} & set(names) or refused(problem, DEFINITION):
        return
    if conversion_obstacle(problem, "logits") is not None:
        return
    converted, name = convert(problem, "logits")
    if item.function.unsupported(converted) is not None:
        return
    attempt = _call_and_judge(PreparedCall(_item_at(item, problem), problem, converted, name, of_case=False), judge)
    if attempt is not None and _agrees(attempt):
        what = {"log": "log p", "logit": "log p - log(1 - p)"}[name]
        yield Remedy(f"hand it {what} as logits", _value_text(attempt), attempt.call)


def _preprocess_predictions(
    assessment: Assessment, judge: Judge, names: tuple[str, ...], convention: Convention
) -> Iterator[Remedy]:
    """Apply what the function does to the probabilities beforehand, so that the definition sees the same values."""
    problem = assessment.asked.problem
    if problem.input_kind != "probabilities" or refused(problem, convention) or assessment.item.quantity == "gradient":
        return
    wide = problem.predictions.astype(np.float64)
    ends = clip_ends(problem.dtype, convention)
    candidates: list[tuple[str, Array]] = []
    with np.errstate(all="ignore"):
        if "renormalise" in names and problem.loss == "categorical":
            candidates.append(("divide each row by its sum first", wide / wide.sum(axis=-1, keepdims=True)))
        if "accepts" in names:
            candidates.append(("clip the probabilities to [0, 1] first", np.clip(wide, 0.0, 1.0)))
        if "clip" in names and ends is not None:
            low, high = (format_in_dtype(problem, end) for end in ends)
            candidates.append((f"clip the probabilities to [{low}, {high}] first", np.clip(wide, *ends)))
    for what, values in candidates:
        changed = dataclasses.replace(problem, predictions=values.astype(numpy_dtype(problem.dtype)))
        attempt = retry(assessment, judge, changed) if np.all(np.isfinite(values)) else None
        if attempt is not None and _agrees(attempt):
            yield Remedy(f"{what}: the definition then gives the same", _value_text(attempt))
            return


def _cast_to_float64(assessment: Assessment, judge: Judge, names: tuple[str, ...]) -> Iterator[Remedy]:
    """Repeat the call in float64, which recovers what rounding lost."""
    problem, status = assessment.asked.problem, assessment.verdict.status
    numeric = status == "disagrees" or set(names) <= {"cancellation", "gradient_cancellation"}
    if problem.dtype == "float64" or not numeric or assessment.asked.conversion:
        return
    double = np.dtype(np.float64)
    labels = problem.labels.astype(double) if problem.labels.dtype.kind in "fV" else problem.labels
    changed = dataclasses.replace(
        problem,
        dtype="float64",
        predictions=problem.predictions.astype(double),
        labels=labels,
        options=problem.options.rounded(double),
    )
    attempt = retry(assessment, judge, changed)
    if (
        attempt is not None
        and isinstance(attempt.verdict.outcome, Returned)
        and _would_agree(assessment, judge, _value(attempt))
    ):
        yield Remedy("cast to float64 first", _value_text(attempt), attempt.call)

"""Changes to the call or to its inputs that make a function and the definition agree; each is tried first.

A change is told only if the judge finds that the function agrees after it, within the usual budget.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from conformance.adapters.contract import LoweringError
from conformance.explain.attribution import choices_of, documented
from conformance.explain.derivation import array_text, said_as
from conformance.explain.explanation import Remedy
from conformance.explain.number_format import figure
from conformance.judging.suite import Asked, Assessment, Item, Suite, bridged
from conformance.model.case import Array, ByOracle, Digits, Options, Problem, numpy_dtype
from conformance.model.convention import DEFINITION, Convention
from conformance.model.outcome import Returned
from conformance.reference import oracle
from conformance.reference.conversion import HANDED, bridge, renormalises, unbridgeable, unchanging
from conformance.reference.flat_problem import clip_ends, refused

LARGEST = 20_000
"""Predictions beyond which nothing is tried."""


def remedies(assessment: Assessment, asker: Suite) -> tuple[Remedy, ...]:
    """What makes them equal, where that is known and was seen to be so."""
    if assessment.verdict.status not in ("diverges", "disagrees"):
        return ()
    if assessment.asked.problem.predictions.size > LARGEST:
        return ()
    names, by = choices_of(assessment), documented(assessment)
    found = [
        *_unconverted(assessment, asker),
        *_divided(assessment, asker, names, by),
        *_averaged(assessment, asker, names),
        *_told_to_ignore(assessment, asker, names, by),
        *_relabelled(assessment, asker, names, by),
        *_normal_targets(assessment, asker, names),
        *_as_logits(assessment, asker, names),
        *_other_predictions(assessment, asker, names, by),
        *_wider(assessment, asker, names),
    ]
    return tuple(found)


def tried(assessment: Assessment, asker: Suite, problem: Problem) -> Assessment | None:
    """The verdict on the same function asked another problem; None where it cannot be asked."""
    function = assessment.item.function
    given = function.native(problem.given)
    if function.unsupported(problem) is not None:
        return None
    if given != problem.given and unbridgeable(problem, given) is not None:
        return None
    asked = Asked(_item(assessment.item, problem), problem, *bridged(problem, given), of_case=False)
    return _performed(asked, asker)


def _performed(asked: Asked, asker: Suite) -> Assessment | None:
    try:
        return asker.judge(asked, asker.performer(asked.item.framework, asked.call, asked.what))
    except LoweringError:
        return None


def _item(item: Item, problem: Problem) -> Item:
    """The item at another dtype and reduction, judged by the oracle whatever the case expects."""
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


def _with(assessment: Assessment, asker: Suite, value: Array) -> bool:
    """Whether the function would agree on what it was asked, had it returned that value."""
    outcome = assessment.verdict.outcome
    if not isinstance(outcome, Returned):
        return False
    return _agrees(asker.judge(assessment.asked, dataclasses.replace(outcome, value=np.asarray(value))))


def _shown(value: Any) -> str:
    return array_text(value)


def _unconverted(assessment: Assessment, asker: Suite) -> Iterator[Remedy]:
    """A loss of the framework that takes the predictions without what their conversion changes, or normal rows."""
    problem, item = assessment.asked.problem, assessment.item
    if not assessment.verdict.conversion:
        return
    changes = renormalises(problem, assessment.asked.handed.given)
    for kind in unchanging(problem, assessment.asked.handed.given):
        handed, name = bridge(problem, kind)
        for function in item.installed.functions:
            if kind not in function.takes or function.unsupported(problem) is not None:
                continue
            other = dataclasses.replace(_item(item, problem), function=function)
            found = _performed(Asked(other, problem, handed, name, of_case=False), asker)
            if found is not None and _agrees(found):
                on = f", and hand it {HANDED[name]}" if name else ""
                what = f"call {function.name}, which takes {kind.replace('_', '-')}{on}"
                yield Remedy(what, _shown(_value(found)), found.call)
                return
    if not changes:
        return
    wide = problem.predictions.astype(np.float64)
    with np.errstate(all="ignore"):
        if problem.given == "probabilities":
            what, values = "divide each row by its sum", wide / wide.sum(axis=-1, keepdims=True)
        else:
            what = "subtract log sum exp from each row"
            values = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    changed = dataclasses.replace(problem, predictions=values.astype(numpy_dtype(problem.dtype)))
    found = tried(assessment, asker, changed) if np.all(np.isfinite(values)) else None
    if found is not None and _agrees(found):
        yield Remedy(f"{what} first: the definition then gives the same", _shown(_value(found)))


def _divided(assessment: Assessment, asker: Suite, names: tuple[str, ...], by: Convention) -> Iterator[Remedy]:
    problem = assessment.asked.problem
    if "mean_divides_by" not in names or problem.reduction != "mean":
        return
    due = oracle.divisor(problem, DEFINITION)
    used = oracle.divisor(assessment.asked.handed, by.restricted_to(names))
    if not due or not used:
        return
    summed = tried(assessment, asker, problem.reduced("sum"))
    if summed is not None and isinstance(summed.verdict.outcome, Returned):
        value = _value(summed) / float(due)
        if value.shape == _value(assessment).shape and _with(assessment, asker, value):
            shown = f"{_shown(_value(summed))} / {figure(due)} = {_shown(value)}" if value.ndim == 0 else _shown(value)
            yield Remedy(f"ask for the sum and divide it by the weight, {figure(due)}", shown, _over(summed, due))
    value = _value(assessment) * float(used / due)
    if _with(assessment, asker, value):
        shown = f"{_shown(_value(assessment))} * {figure(used)} / {figure(due)} = {_shown(value)}"
        what = f"multiply what it returns by its divisor over the weight, {figure(used)} / {figure(due)}"
        yield Remedy(what, shown if value.ndim == 0 else _shown(value))


def _over(summed: Assessment, due: Fraction) -> str:
    """The call for the sum, divided, where the call is one expression."""
    if summed.item.quantity == "gradient":
        return ""
    return f"{summed.call} / {float(due)!r}"


def _averaged(assessment: Assessment, asker: Suite, names: tuple[str, ...]) -> Iterator[Remedy]:
    problem = assessment.asked.problem
    if "binary_outputs" not in names or problem.predictions.ndim == 0:
        return
    outputs = problem.predictions.shape[-1]
    value = _value(assessment) * outputs
    if problem.reduction == "sum" and _with(assessment, asker, value):
        shown = f"{_shown(_value(assessment))} * {outputs} = {_shown(value)}" if value.ndim == 0 else _shown(value)
        yield Remedy(f"multiply what it returns by the {outputs} outputs of the last axis", shown)
    if assessment.item.quantity == "gradient" or problem.layout.names():
        return
    positive = problem.options.positive_weight
    if positive is not None and positive.ndim:
        positive = positive[..., np.newaxis]
    apart = dataclasses.replace(
        problem,
        predictions=problem.predictions[..., np.newaxis],
        labels=problem.labels[..., np.newaxis],
        options=dataclasses.replace(problem.options, positive_weight=positive),
    )
    found = tried(assessment, asker, apart)
    if found is not None and isinstance(found.verdict.outcome, Returned) and _with(assessment, asker, _value(found)):
        what = "put predictions and labels behind an axis of length 1, x[..., None], so that each output is a row"
        yield Remedy(what, _shown(_value(found)), found.call)


def _told_to_ignore(assessment: Assessment, asker: Suite, names: tuple[str, ...], by: Convention) -> Iterator[Remedy]:
    problem = assessment.asked.problem
    if "default_ignore_index" not in names or problem.options.ignore_index is not None:
        return
    label = by.default_ignore_index
    asked = dataclasses.replace(problem, options=dataclasses.replace(problem.options, ignore_index=label))
    found = tried(assessment, asker, asked)
    if found is not None and _agrees(found):
        what = f"say ignore_index={label} yourself: the definition ignores the label then, and both give the same"
        yield Remedy(what, _shown(_value(found)), found.call)


def _relabelled(assessment: Assessment, asker: Suite, names: tuple[str, ...], by: Convention) -> Iterator[Remedy]:
    problem = assessment.asked.problem
    if "out_of_range" not in names or by.out_of_range != "wrap":
        return
    labels = problem.labels % problem.predictions.shape[-1]
    found = tried(assessment, asker, dataclasses.replace(problem, labels=labels))
    if found is not None and _agrees(found):
        yield Remedy(f"write the labels as the classes they stand for, {_shown(labels)}", _shown(_value(found)))


def _normal_targets(assessment: Assessment, asker: Suite, names: tuple[str, ...]) -> Iterator[Remedy]:
    """Targets that sum to 1 make no difference to what a mean divides by, and are what a gradient takes them for."""
    problem = assessment.asked.problem
    if problem.target_kind != "distribution" or not {"gradient_total", "mean_divides_by"} & set(names):
        return
    with np.errstate(all="ignore"):
        labels = problem.labels / problem.labels.astype(np.float64).sum(axis=-1, keepdims=True)
    if not np.all(np.isfinite(labels)):
        return
    changed = dataclasses.replace(problem, labels=labels.astype(numpy_dtype(problem.dtype)))
    found = tried(assessment, asker, changed)
    if found is not None and _agrees(found):
        yield Remedy(
            "divide each row of targets by its sum first: the definition then gives the same", _shown(_value(found))
        )


def _as_logits(assessment: Assessment, asker: Suite, names: tuple[str, ...]) -> Iterator[Remedy]:
    """Logarithms as logits: what is not clipped is not lost, where the function takes logits."""
    problem, item = assessment.asked.problem, assessment.item
    if problem.given != "probabilities" or "logits" not in item.function.takes or item.quantity == "gradient":
        return
    if not {"clip", "log_floor", "renormalise"} & set(names) or refused(problem, DEFINITION):
        return
    if unbridgeable(problem, "logits") is not None:
        return
    converted, name = bridge(problem, "logits")
    if item.function.unsupported(converted) is not None:
        return
    found = _performed(Asked(_item(item, problem), problem, converted, name, of_case=False), asker)
    if found is not None and _agrees(found):
        what = {"log": "log p", "logit": "log p - log(1 - p)"}[name]
        yield Remedy(f"hand it {what} as logits", _shown(_value(found)), found.call)


def _other_predictions(
    assessment: Assessment, asker: Suite, names: tuple[str, ...], by: Convention
) -> Iterator[Remedy]:
    """Do to the probabilities beforehand what the function does to them: then everybody sees the same."""
    problem = assessment.asked.problem
    if problem.given != "probabilities" or refused(problem, by) or assessment.item.quantity == "gradient":
        return
    wide = problem.predictions.astype(np.float64)
    ends = clip_ends(problem.dtype, by)
    candidates: list[tuple[str, Array]] = []
    with np.errstate(all="ignore"):
        if "renormalise" in names and problem.loss == "categorical":
            candidates.append(("divide each row by its sum first", wide / wide.sum(axis=-1, keepdims=True)))
        if "accepts" in names:
            candidates.append(("clip the probabilities to [0, 1] first", np.clip(wide, 0.0, 1.0)))
        if "clip" in names and ends is not None:
            what = f"clip the probabilities to [{said_as(problem, ends[0])}, {said_as(problem, ends[1])}] first"
            candidates.append((what, np.clip(wide, *ends)))
    for what, values in candidates:
        changed = dataclasses.replace(problem, predictions=values.astype(numpy_dtype(problem.dtype)))
        found = tried(assessment, asker, changed) if np.all(np.isfinite(values)) else None
        if found is not None and _agrees(found):
            yield Remedy(f"{what}: the definition then gives the same", _shown(_value(found)))
            return


def _wider(assessment: Assessment, asker: Suite, names: tuple[str, ...]) -> Iterator[Remedy]:
    """In float64 what is lost to rounding is there again."""
    problem, status = assessment.asked.problem, assessment.verdict.status
    numeric = status == "disagrees" or set(names) <= {"cancellation", "gradient_cancellation"}
    if problem.dtype == "float64" or not numeric or assessment.asked.bridge:
        return
    double = np.dtype(np.float64)
    labels = problem.labels.astype(double) if problem.labels.dtype.kind in "fV" else problem.labels
    changed = dataclasses.replace(
        problem,
        dtype="float64",
        predictions=problem.predictions.astype(double),
        labels=labels,
        options=_wide(problem.options),
    )
    found = tried(assessment, asker, changed)
    if found is not None and isinstance(found.verdict.outcome, Returned) and _with(assessment, asker, _value(found)):
        yield Remedy("cast to float64 first", _shown(_value(found)), found.call)


def _wide(options: Options) -> Options:
    return options.rounded(np.dtype(np.float64))

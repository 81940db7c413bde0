"""Proof of recipes: both functions on every case that both support, compared with each other and the exact answer."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.adapters.contract import LoweringError
from conformance.adapters.contract.lowering import Call, apply_mode, call_name, lower
from conformance.explain.derivation import array_text
from conformance.explain.recipes import InstalledFunction, Recipe, Setting
from conformance.judging.compare import Comparison, compare
from conformance.judging.judge import Assessment, Judge
from conformance.judging.plan import Item, not_differentiated, unsupported
from conformance.judging.prepare import PreparedCall, Problems
from conformance.judging.verdict import FAILING
from conformance.model.case import WEIGHTS, Case, Layout, Problem, Quantity
from conformance.model.convention import describe
from conformance.model.outcome import Returned
from conformance.model.row_key import EAGER
from conformance.model.text import truncate
from conformance.reference.conversion import convert, why_not_convertible
from conformance.reference.domain import mismatched_weights
from conformance.reference.oracle import Exact

MAX_PREDICTIONS = 1 << 18
"""Maximum number of predictions of a case on which a recipe is proved."""
NAMES = ("spam", "egg", "ham", "bacon", "toast", "beans", "tea", "jam")
"""Class names for cases without names."""
CLOSE_ULPS = 4.0
"""Maximum difference in units in the last place that counts as close."""
MAX_TEXT = 60
"""Maximum number of characters of a value in a text."""
MAX_PLAIN = 5
"""Maximum number of proved cases on which both functions are called unchanged, to find one that shows a difference."""

MAX_COMPILED = 6
"""Number of cases, the smallest, on which a function that is compiled for each call is proved."""


@dataclass(frozen=True)
class Pair:
    """The results of both functions on a case."""

    case: str
    first: Assessment
    second: Assessment

    @functools.cached_property
    def comparison(self) -> Comparison | None:
        """Compare the result of the first with that of the second, within the tolerances of both.

        None if one of them returned nothing, or the shapes differ.
        """
        a, b = self.first.verdict.outcome, self.second.verdict.outcome
        if not isinstance(a, Returned) or not isinstance(b, Returned) or a.value.shape != b.value.shape:
            return None
        zeros = np.zeros(b.value.shape)
        tolerance = self.first.verdict.tolerance + self.second.verdict.tolerance
        return compare(a.value, Exact(b.value, zeros, zeros), tolerance, self.first.item.dtype)

    @property
    def equal(self) -> bool:
        """Whether both are right by the convention that they follow, and differ only within rounding errors."""
        right = all(assessment.verdict.status in ("agrees", "diverges") for assessment in (self.first, self.second))
        return right and self.comparison is not None and self.comparison.within

    @property
    def refutes(self) -> bool:
        """Whether an everyday case shows that the code is wrong: no documented or known discrepancy explains it."""
        return any(
            assessment.verdict.status in FAILING and assessment.known is None and assessment.prepared.ordinary
            for assessment in (self.first, self.second)
        )

    @property
    def answered(self) -> bool:
        """Whether the case has a right answer for one of them, and is not rejected by both."""
        both = (self.first, self.second)
        if all(assessment.verdict.status == "undefined" for assessment in both):
            return False
        return any(isinstance(assessment.verdict.outcome, Returned) for assessment in both)

    @property
    def plainness(self) -> tuple[bool, int]:
        """Sort key: everyday cases before others, small ones before large ones."""
        prepared = self.first.prepared
        return not prepared.ordinary, prepared.problem.predictions.size

    @property
    def why(self) -> tuple[str, ...]:
        """Why they are not equal: a sentence without a full stop for each function that departs."""
        return tuple(filter(None, (_departure(self.first, self.second), _departure(self.second, self.first))))


def _departure(assessment: Assessment, counterpart: Assessment) -> str:
    """The departure of a function from the other one, as text."""
    verdict, name = assessment.verdict, assessment.item.function.name
    if assessment.known is not None:
        return f"{name}: a known discrepancy, {assessment.known.see or assessment.known.reason}"
    if not isinstance(verdict.outcome, Returned):
        counterpart_returns = isinstance(counterpart.verdict.outcome, Returned)
        return f"{name} raises {value_text(assessment)}" if counterpart_returns else ""
    if verdict.status == "undefined":
        return f"{name} returns what has no right answer: {verdict.explanation}"
    if verdict.status == "disagrees":
        assert verdict.reason is not None
        if assessment.prepared.conversion:
            return f"{name}: digits are lost where its predictions are converted"
        return f"{name}: {verdict.reason.code.replace('_', ' ')}"
    other_choices = dict(counterpart.verdict.choices)
    departures = [describe({field: value}) for field, value in verdict.choices if other_choices.get(field) != value]
    effects = list(verdict.conversion.effects) if verdict.conversion is not None else []
    return f"{name}: {', '.join([*departures, *effects])}" if departures or effects else ""


@dataclass(frozen=True)
class Remainder:
    """Cases in which two functions cannot be made equal for the same reason."""

    why: tuple[str, ...]
    """The departure of each function; empty if nothing documented explains it."""
    cases: tuple[str, ...]
    first: str
    """Result of the first function in the first of the cases."""
    second: str
    """Result of the second function in the same case."""


@dataclass(frozen=True)
class Proof:
    """The results of proving a recipe."""

    equal: tuple[str, ...] = ()
    """Cases in which both functions return the same and are right."""
    close: int = 0
    """Number of these cases in which the two differ by at most `CLOSE_ULPS` units in the last place."""
    ulps: float = 0.0
    """Largest difference between the two in units in the last place, which is large if the loss is near 0."""
    ratio: float = 0.0
    """Largest difference between the two as a fraction of the tolerance."""
    remaining: tuple[Remainder, ...] = ()
    """The other cases, by reason."""
    refuted: tuple[str, ...] = ()
    """The other cases that show that the code is wrong."""
    skipped: tuple[str, ...] = ()
    """Cases on which both could not be called, each with the reason."""

    @property
    def holds(self) -> bool:
        """Whether the functions are equal, apart from documented or known differences."""
        return bool(self.equal) and not self.refuted


def cases_of(cases: Iterable[Case], setting: Setting) -> Iterator[tuple[Case, Problem]]:
    """The cases of a setting with their problems: same options, inputs and layout."""
    problems = Problems()
    for case in cases:
        if case.loss != setting.loss or case.input_kind != setting.input_kind or case.predicted > MAX_PREDICTIONS:
            continue
        if case.options.names() != setting.options or setting.dtype not in case.dtypes:
            continue
        if setting.reduction not in case.reductions:
            continue
        case = _arrange_case(case, setting)
        problem = problems.of(case, setting.dtype, setting.reduction)
        if problem.target_kind == setting.target and _layout(problem, setting) == {*setting.layout}:
            yield case, problem


def _arrange_case(case: Case, setting: Setting) -> Case:
    """A case with the arrays laid out as in the setting, if only the layout differs."""
    changes: dict[str, Any] = {}
    if case.layout != Layout(order=case.layout.order) or case.representative is not case:
        return case
    if setting.label_dtype:
        with np.errstate(invalid="ignore"):
            labels = case.labels.astype(setting.label_dtype)
        if np.array_equal(labels, case.labels):
            changes["label_dtype"] = setting.label_dtype
    if setting.weight_dtype:
        changes["weight_dtype"] = setting.weight_dtype
    if "class_axis" in setting.layout and case.predictions.ndim > 1:
        changes["class_axis"] = 0
    if "class_names" in setting.layout and case.target == "index" and case.predictions.shape[-1] <= len(NAMES):
        changes["class_names"] = NAMES[: case.predictions.shape[-1]]
    return dataclasses.replace(case, layout=dataclasses.replace(case.layout, **changes)) if changes else case


def _layout(problem: Problem, setting: Setting) -> set[str]:
    """The entries of `UNUSUAL_LAYOUTS` that apply to the arrays of a problem, and other unusual properties."""
    layout, samples, weights = problem.layout, problem.sample_shape, problem.options.sample_weights
    if setting.rows:
        samples = samples[:1]
    unusual = {
        "class_axis": layout.class_axis != -1,
        "class_names": bool(layout.class_names),
        "unbatched": problem.loss == "categorical" and not samples,
        "leading_weights": weights is not None and weights.shape == samples[: weights.ndim] != samples,
        "other weights": (weights is not None and weights.shape != samples[: weights.ndim])
        or bool(mismatched_weights(problem.options, problem.predictions.shape, problem.loss)),
        "other dtype": bool({*problem.options.names()} & {*WEIGHTS})
        and (layout.weight_dtype or problem.dtype) != (setting.weight_dtype or problem.dtype),
        "other rank": setting.rows and problem.predictions.ndim != 2,
        "other labels": (layout.label_dtype or "") != setting.label_dtype,
        "column": layout.labels != "flat",
    }
    return {word for word, is_present in unusual.items() if is_present}


def both_support(both: Sequence[Recipe], case: Case, problem: Problem, quantity: Quantity) -> bool:
    """Whether all recipes support a problem."""
    if any(function.function.unsupported(problem) is not None for function in both):
        return False
    return quantity == "loss" or not any(
        not_differentiated(function.installed, function.function, case, problem) for function in both
    )


def prove(
    recipe: Recipe, reference: Recipe, cases: Sequence[tuple[Case, Problem]], quantity: Quantity, judge: Judge
) -> tuple[Proof, list[Pair]]:
    """Call both functions on every case that both support; return the proof, and the cases in which they are equal."""
    pairs, skipped, both = [], [], (recipe, reference)
    if any(function.installed.mode != EAGER for function in both):
        cases = sorted(cases, key=lambda case: case[0].predicted)[:MAX_COMPILED]
    for case, problem in cases:
        if not both_support(both, case, problem, quantity):
            continue
        try:
            first, second = (_assess(function, case, problem, quantity, judge) for function in both)
        except LoweringError as error:
            skipped.append(str(error))
            continue
        pair = Pair(case.id, first, second)
        if pair.answered:
            pairs.append(pair)
    equal = sorted((pair for pair in pairs if pair.equal), key=lambda pair: pair.plainness)
    groups: dict[tuple[str, ...], list[Pair]] = {}
    for pair in pairs:
        if not pair.equal:
            groups.setdefault(pair.why, []).append(pair)
    remaining = tuple(
        Remainder(why, tuple(pair.case for pair in group), value_text(group[0].first), value_text(group[0].second))
        for why, group in sorted(groups.items(), key=lambda entry: -len(entry[1]))
    )
    comparisons = [pair.comparison for pair in equal if pair.comparison is not None]
    return Proof(
        tuple(pair.case for pair in equal),
        sum(comparison.ulps <= CLOSE_ULPS for comparison in comparisons),
        max((comparison.ulps for comparison in comparisons), default=0.0),
        max((comparison.error_ratio for comparison in comparisons), default=0.0),
        remaining,
        tuple(pair.case for pair in pairs if pair.refutes),
        tuple(skipped),
    ), equal


def call_of(recipe: Recipe, problem: Problem, quantity: Quantity) -> Call:
    """The call of a recipe.  Raises LoweringError."""
    installed, derivative = recipe.installed, recipe.function.derivative_for(quantity)
    return apply_mode(
        installed.framework, lower(recipe.function, problem), derivative, installed.mode, installed.backend
    )


def _assess(recipe: Recipe, case: Case, problem: Problem, quantity: Quantity, judge: Judge) -> Assessment:
    """Make the call of a recipe and judge it by the convention that it follows.

    A recipe that converts the predictions has the tolerance of a rounded conversion, or of a computation from the
    original predictions.
    """
    installed = recipe.installed
    item = Item(installed, recipe.function, case, problem.dtype, problem.reduction, quantity)
    call = call_of(recipe, problem, quantity)
    passed = [(problem, "")]
    if (
        quantity == "loss"
        and recipe.input_kind != problem.input_kind
        and why_not_convertible(problem, recipe.input_kind) is None
    ):
        passed.insert(0, convert(problem, recipe.input_kind))
    outcome = judge.performer(item.framework, call, call_name(recipe.function, problem))
    assessments = []
    for converted, name in passed:
        prepared = PreparedCall(item, problem, converted, name, of_case=False)
        vars(prepared)["call"] = call  # the call of the recipe converts the predictions itself
        assessments.append(judge.judge(prepared, outcome))
    return next((assessment for assessment in assessments if assessment.verdict.status not in FAILING), assessments[0])


def values_without_recipe(
    functions: Sequence[InstalledFunction], pairs: Sequence[Pair], judge: Judge
) -> tuple[str, ...]:
    """The results of both functions on a case without the recipe: (case, first, second).

    The first case in which they are not equal, or else the first one; empty if a function supports none of them.
    """
    values: list[tuple[str, ...]] = []
    for pair in pairs[:MAX_PLAIN]:
        item = pair.first.item
        plain = [dataclasses.replace(item, **vars(function)) for function in functions]
        if any(
            unsupported(function.function, item.case, pair.first.prepared.problem) is not None for function in plain
        ):
            continue
        both = Pair(pair.case, *(judge.assess(function) for function in plain))
        values.append((pair.case, value_text(both.first), value_text(both.second)))
        if not both.equal:
            return values[-1]
    return values[0] if values else ()


def value_text(assessment: Assessment) -> str:
    """The returned value or the exception, shortened."""
    outcome = assessment.verdict.outcome
    if not isinstance(outcome, Returned):
        return getattr(outcome, "exception", type(outcome).__name__)
    return f"{float(outcome.value):.9g}" if outcome.value.ndim == 0 else truncate(array_text(outcome.value), MAX_TEXT)

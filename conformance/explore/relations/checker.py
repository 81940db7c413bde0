"""Checks a metamorphic relation for one function: calls it with the source and the follow-ups and compares the results.

No exact answer is needed: the result y of the source is implied by the results y_j of the follow-ups. Each may have
an error within its tolerance under the documented convention, and adding them in float64 rounds, so that

    |y - sum_j c_j y_j|  <=  tol(y) + sum_j |c_j| tol(y_j) + 2^-53 (n + 1) sum_j |c_j y_j|

with n terms and c_j the coefficient of follow-up j. For a mean, c_j includes the documented divisor, exact to one
rounding. nan and infinities must be at the same positions, and either all calls raise or none does.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import assert_never

import numpy as np

from conformance.adapters.arrays import Tensor
from conformance.adapters.contract import Framework, Function
from conformance.adapters.contract.lowering import Call
from conformance.adapters.contract.reproducer import reproducer
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import RELATION_PREFIX, KnownIssue, Ledger
from conformance.casefiles.loading import cases_option
from conformance.explore.relations.relation import MetamorphicGroup, Relation
from conformance.judging.compare import Comparison, compare, symptoms_of_value, symptoms_without_value
from conformance.judging.judge import Performer
from conformance.judging.plan import Item, documented_convention, unsupported
from conformance.judging.prepare import PreparedCall
from conformance.judging.reasons import NotDeterministic
from conformance.model.case import MustRaise, NoRightAnswer, Problem
from conformance.model.convention import Convention
from conformance.model.floats import Floats
from conformance.model.outcome import Crashed, NonNumeric, Outcome, Raised, Returned, TimedOut, Unsupported
from conformance.model.row_key import unusual
from conformance.model.text import printable, truncate_and_count
from conformance.reference import error_bound
from conformance.reference.conversion import convert
from conformance.reference.domain import dtype_info, examine
from conformance.reference.flat_problem import flatten, rejected_anomalies, shape_of_losses
from conformance.reference.oracle import Exact, divisor

UNIT_ROUNDOFF = 2.0**-53
"""Unit roundoff of float64, in which answers are added."""
MAX_REMEMBERED = 4096
"""Number of outcomes that a `Checker` caches; functions of the shipped adapters have about half as many."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PreparedProblem(PreparedCall):
    """The source or a follow-up, ready to be passed to a function."""

    convention: Convention
    """The documented convention of the function for this problem."""
    is_rounded: bool
    """Whether computing the predictions rounded them, as in a conversion."""

    @functools.cached_property
    def tolerance(self) -> Floats:
        """Tolerance of its result, absolute; float64, shaped as the result or a scalar."""
        unconverted = self.problem if self.is_rounded else None
        tolerance = error_bound.tolerance(self.converted, self.convention, unconverted)
        return tolerance.reshape(self.shape) if tolerance.ndim else tolerance

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of its result without a class axis."""
        return flatten(self.converted, self.convention).shape if self.problem.reduction == "none" else ()

    @property
    def returned_shape(self) -> tuple[int, ...]:
        """Shape of its result."""
        if self.problem.reduction != "none":
            return ()
        return shape_of_losses(self.converted, flatten(self.converted, self.convention), self.convention)


@dataclass(frozen=True, eq=False)
class PreparedGroup:
    """A group whose problems are ready to be passed to a function. The coefficients include the divisors of means."""

    group: MetamorphicGroup
    source: PreparedProblem
    follow_ups: tuple[PreparedProblem, ...]
    coefficients: tuple[float | Floats, ...]

    @property
    def members(self) -> tuple[PreparedProblem, ...]:
        return (self.source, *self.follow_ups)


@dataclass(frozen=True, eq=False)
class Instance:
    """One relation on one item: one test."""

    relation: Relation
    item: Item
    problem: Problem

    @property
    def installed(self) -> Installed:
        return self.item.installed

    @property
    def function(self) -> Function:
        return self.item.function

    @property
    def id(self) -> str:
        """`torch.CrossEntropyLoss-shifted_logits-categorical/seed/plain-float32-mean`, as pytest shows it."""
        item = self.item
        parts = (item.function.name, self.relation.name, item.case.id, item.dtype, item.reduction)
        return "-".join([*parts, *unusual(mode=item.installed.mode, device=item.installed.device)])

    @functools.cached_property
    def prepared(self) -> PreparedGroup | None:
        """The prepared group; None if the function cannot be called with a problem of it, or all calls are equal."""
        item, relation, problem = self.item, self.relation, self.problem
        if isinstance(item.case.expect, MustRaise | NoRightAnswer) or not relation.applies(problem, item.function):
            return None
        if has_no_losses(item, problem):
            return None
        if (group := relation.group_of(problem, documented_convention(item, problem).convention)) is None:
            return None
        return _prepare(item, group, relation.repeats_call)


def has_no_losses(item: Item, problem: Problem) -> bool:
    """Whether a problem has no sample, or the item's function documents that it rejects it."""
    convention = documented_convention(item, problem).convention
    return bool(examine(problem) & {"shape_mismatch", "empty_batch"} or rejected_anomalies(problem, convention))


def _prepare(item: Item, group: MetamorphicGroup, repeats_call: bool) -> PreparedGroup | None:
    prepared: dict[int, PreparedProblem] = {}
    for problem in (group.source, *group.follow_ups):
        if id(problem) not in prepared:
            if (member := _prepare_member(item, problem, group.is_rounded and problem is not group.source)) is None:
                return None
            prepared[id(problem)] = member
    source, follow_ups = prepared[id(group.source)], tuple(prepared[id(follow_up)] for follow_up in group.follow_ups)
    if not repeats_call and all(_is_same_call(source, follow_up) for follow_up in follow_ups):
        return None
    coefficients = _coefficients(group, source, follow_ups)
    return None if coefficients is None else PreparedGroup(group, source, follow_ups, coefficients)


def _prepare_member(item: Item, problem: Problem, is_rounded: bool) -> PreparedProblem | None:
    """Prepare a problem; None if the function cannot be called with it or documents that it rejects it."""
    function = item.function
    if unsupported(function, item.case, problem, as_stated=True) is not None:
        return None
    convention = documented_convention(item, problem).convention
    if _inexpressible(problem, convention):
        return None
    passed, name = convert(problem, function.input_kind_for(problem.input_kind))
    if rejected_anomalies(passed, convention) or examine(passed) & convention.rejects:
        return None
    is_rounded = is_rounded or bool(name)
    return PreparedProblem(item, problem, passed, name, of_case=False, convention=convention, is_rounded=is_rounded)


def _inexpressible(problem: Problem, convention: Convention) -> bool:
    """Whether a column of labels adds an axis that the function would average, which its convention does not
    describe.
    """
    averaged = problem.loss == "binary" and convention.binary_outputs == "mean_of_last_axis"
    return averaged and problem.predictions.ndim == 1 and problem.layout.labels == "column"


def _coefficients(
    group: MetamorphicGroup, source: PreparedProblem, follow_ups: Sequence[PreparedProblem]
) -> tuple[float | Floats, ...] | None:
    """The coefficients times the quotients of the divisors; None if one of the means has no divisor."""
    coefficients = group.coefficients or (1.0,) * len(follow_ups)
    total, *divisors = (_divisor(member) for member in (source, *follow_ups))
    if not total or not all(divisors):
        return None
    return tuple(
        c * float(divisor / total) for c, divisor in zip(coefficients, divisors, strict=True) if divisor is not None
    )


def _divisor(member: PreparedProblem) -> Fraction | None:
    """The number that turns the result into the sum of the losses; None if it is unknown."""
    return divisor(member.converted, member.convention) if member.problem.reduction == "mean" else Fraction(1)


def _is_same_call(a: PreparedProblem, b: PreparedProblem) -> bool:
    """Whether the calls of two problems are identical, including the bits and strides of their arrays."""
    function, x, y = a.item.function, a.converted.predictions, b.converted.predictions
    passes_predictions = not function.has_head and function.placeholder_values is None
    if (
        passes_predictions
        and a.problem.layout == b.problem.layout
        and (x.shape != y.shape or x.tobytes() != y.tobytes())
    ):
        return False  # avoids lowering, the slowest step before a call
    return _call_key(a.call) == _call_key(b.call)


def _call_key(call: Call) -> Hashable:
    """Key under which identical calls are shared."""
    return call.text, call.mode, call.device, tuple((name, _array_key(array)) for name, array in call.arrays.items())


def _array_key(array: Tensor) -> Hashable:
    x = array.laid_out()
    bits = tuple(x.flat) if x.dtype.hasobject else x.tobytes()
    return x.dtype, x.shape, x.strides, x.flags.writeable, bits


@dataclass(frozen=True, eq=False)
class RelationResult:
    """The result of checking one instance."""

    instance: Instance
    prepared: PreparedGroup
    outcomes: tuple[Outcome, ...]
    violation: str
    """How the relation is violated; "" if it holds."""
    comparison: Comparison | None
    """Comparison of the result of the source with the implied one, if all calls returned."""
    implied: Floats | None
    """The result of the source that the follow-ups imply."""
    known: KnownIssue | None
    """The ledger's entry about one of the problems, or about the relation."""

    @property
    def expected(self) -> str:
        """`ok`, `known`, `unexpected`, or `stale`: the ledger names exactly this instance as violated, but it holds."""
        if self.violation:
            return "unexpected" if self.known is None else "known"
        exact = self.known is not None and self.known.relation_name and "*" not in self.known.case
        return "stale" if exact else "ok"

    @property
    def calls(self) -> tuple[str, ...]:
        """A reproducer for each call, that of the source first."""
        item = self.instance.item
        return tuple(
            reproducer(item.framework, item.function, member.converted, member.call, item.installed.backend)
            for member in _distinct_members(self.prepared)
        )

    def __str__(self) -> str:
        """The message of a failing test."""
        item, relation = self.instance.item, self.instance.relation
        broken = (
            f"breaks {relation.name}" if self.violation else f"keeps {relation.name}, which the ledger knows as broken"
        )
        lines = [f"{item.function.name} {item.installed.version} {broken}"]
        lines.append(f"  relation   {relation.description}")
        lines.append(f"  case       {item.case.id} ({item.dtype}, {item.reduction}): {item.case.why}")
        lines += [f"  got        {_outcome_text(self.outcomes[0])}"]
        lines += [f"  want       {_array_text(self.implied)}, from the other side"] if self.implied is not None else []
        c = self.comparison
        if c is not None and c.error > 0:
            at = f" at {list(c.where)}" if c.where else ""
            lines.append(f"  how far    {c.error:.6g}{at} = {c.error_ratio:.4g} x the tolerance {c.tolerance:.6g}")
        lines += [f"  because    {self.violation}"] if self.violation else []
        if self.known is not None:
            lines.append(f"  ledger     {self.known.path}:{self.known.line}: {self.known.summary}")
        members = zip(_distinct_members(self.prepared), self.calls, strict=True)
        lines += [
            f"  {'one side' if number == 0 else 'the other':<10} {call}" for number, (_, call) in enumerate(members)
        ]
        chosen = self.instance.id.replace("-", " and ")
        if not item.framework.adapter:
            options = f"{item.installed.options}{cases_option(item.case)}"
            lines.append(f'  again      conformance relations {options}-k "{chosen}"')
        return printable("\n".join(lines))


class Checker:
    """Checks instances of functions in turn, and makes identical calls once: relations share sources and follow-ups.

    A relation that repeats a call makes it each time.

    performer: makes the calls.  ledger: known issues.
    """

    def __init__(self, performer: Performer, ledger: Ledger) -> None:
        self._performer = performer
        self._ledger = ledger
        self._outcomes: dict[Hashable, Outcome] = {}

    def check(self, instance: Instance) -> RelationResult:
        """Check a prepared instance; raises LoweringError."""
        performer = self._performer if instance.relation.repeats_call else self._perform_once
        return check(instance, performer, self._ledger)

    def _perform_once(self, framework: Framework, call: Call, description: str) -> Outcome:
        key = framework.name, _call_key(call)
        if key not in self._outcomes:
            if len(self._outcomes) == MAX_REMEMBERED:
                self._outcomes.clear()
            self._outcomes[key] = self._performer(framework, call, description)
        return self._outcomes[key]


def check(instance: Instance, performer: Performer, ledger: Ledger) -> RelationResult:
    """Call the function with all problems of a group and compare. The instance must be prepared; `performer` makes the
    calls.

    Raises LoweringError.
    """
    prepared = instance.prepared
    assert prepared is not None
    item = instance.item
    members = _distinct_members(prepared)
    outcomes = tuple(performer(item.framework, member.call, member.description) for member in members)
    outcome_of = dict(zip(members, outcomes, strict=True))
    violation, comparison, implied, symptoms = _compare_outcomes(instance, prepared, outcome_of)
    candidates = (_known_issue(instance, prepared, ledger, way) for way in (symptoms if violation else (None,)))
    known = next((entry for entry in candidates if entry is not None), None)
    return RelationResult(instance, prepared, outcomes, violation, comparison, implied, known)


def stale_entries(results: Iterable[RelationResult]) -> list[KnownIssue]:
    """Ledger entries with a glob whose relations hold for all instances; after a complete run, they are stale."""
    holds: dict[KnownIssue, bool] = {}
    for result in results:
        if result.known is not None and result.known.relation_name and "*" in result.known.case:
            holds[result.known] = holds.get(result.known, True) and not result.violation
    return [entry for entry, everywhere in holds.items() if everywhere]


OutcomeComparison = tuple[str, Comparison | None, Floats | None, tuple[frozenset[str], ...]]
"""How the relation is violated, "" if it is not; the comparison of the source's result; its implied result; and the
alternative sets of symptoms, as `Verdict.symptoms`, since a relation does not tell which result is wrong.
"""


METADATA_SYMPTOMS = tuple(frozenset({symptom}) for symptom in ("mutated_argument", "wrong_shape", "wrong_dtype"))
"""Symptoms of a result of the wrong shape or dtype, or of a call that mutated an argument: any of these."""


def _distinct_members(prepared: PreparedGroup) -> tuple[PreparedProblem, ...]:
    """The problems to call the function with; one that occurs as several follow-ups is used once."""
    return tuple(dict.fromkeys(prepared.members))


def _compare_outcomes(
    instance: Instance, prepared: PreparedGroup, outcomes: Mapping[PreparedProblem, Outcome]
) -> OutcomeComparison:
    failures = {member: _failure_text(outcome) for member, outcome in outcomes.items()}
    failure_symptoms = tuple(filter(None, map(symptoms_without_value, outcomes.values())))
    if any(isinstance(outcome, Raised) for outcome in outcomes.values()):
        if all(isinstance(outcome, Raised) for outcome in outcomes.values()):
            return "", None, None, ()
        return f"one side {next(filter(None, failures.values()))}, and another did not", None, None, failure_symptoms
    if violation := next(filter(None, failures.values()), ""):
        return f"one side {violation}", None, None, failure_symptoms
    answers = {member: outcome for member, outcome in outcomes.items() if isinstance(outcome, Returned)}
    if violation := _metadata_error(instance, prepared, answers):
        return violation, None, None, METADATA_SYMPTOMS
    answers = {
        member: dataclasses.replace(answer, value=answer.value.reshape(member.shape))
        for member, answer in answers.items()
    }
    source = answers[prepared.source]
    follow_ups = [answers[follow_up].value for follow_up in prepared.follow_ups]
    implied = _combine(prepared, follow_ups)
    tolerance = prepared.source.tolerance + _combine(
        prepared, [member.tolerance for member in prepared.follow_ups], _scale_magnitude
    )
    count = sum(follow_up.size for follow_up in follow_ups)
    with np.errstate(invalid="ignore"):
        tolerance = tolerance + UNIT_ROUNDOFF * (count + 1) * _combine(prepared, follow_ups, _scale_magnitude)
    tolerance = np.where(np.isfinite(tolerance), tolerance, 0.0)
    expected = _excuse_overflow(prepared, source, implied, tolerance)
    dtype = prepared.source.converted.dtype
    zero_error = np.zeros(expected.shape)
    comparison = compare(source.value, Exact(expected, zero_error, zero_error), tolerance, dtype, source.dtype)
    if (
        instance.relation.repeats_call
        and comparison.within
        and not np.array_equal(source.value, implied, equal_nan=True)
    ):
        reason = NotDeterministic()
        return str(reason), comparison, implied, (reason.symptoms,)
    if comparison.within:
        return "", comparison, implied, ()
    directions = (source.value, expected), (expected, source.value)
    symptoms = (
        symptoms_of_value(Returned(got, source.dtype), [(Exact(want, zero_error, zero_error), tolerance)], dtype)
        for got, want in directions
    )
    return str(comparison.reason), comparison, implied, tuple(symptoms)


def _failure_text(outcome: Outcome) -> str:
    """The outcome other than an answer, as a predicate; "" if there is an answer."""
    match outcome:
        case Returned():
            return ""
        case NonNumeric(what):
            return f"returned {what}, which is not a number"
        case Raised(exception, message):
            return f"raised {exception}: {message}"
        case Crashed(how):
            return f"ended its process, which {how}"
        case TimedOut(seconds):
            return f"did not return within {seconds:g} s"
        case Unsupported(why):
            return f"could not be executed: {why}"
        case _:
            assert_never(outcome)


def _metadata_error(instance: Instance, prepared: PreparedGroup, answers: Mapping[PreparedProblem, Returned]) -> str:
    """An error in shape, dtype or arguments, which are checked before values; "" if there is none."""
    declared = {member: instance.item.function.result_dtype_for(member.converted) for member in answers}
    one_dtype = len(set(declared.values())) == 1
    for member, answer in answers.items():
        if instance.relation.repeats_call and answer.mutated:
            return f"the call changed its argument {', '.join(answer.mutated)} in place, which changes later calls"
        if answer.value.shape != member.returned_shape:
            return f"one side has shape {answer.value.shape}, where {member.returned_shape} is expected"
        dtype = answers[prepared.source].dtype if one_dtype else declared[member]
        if answer.dtype != dtype and not instance.item.function.may_return(answer.dtype, member.converted):
            return f"one side has dtype {answer.dtype}, where {dtype} is expected"
    return ""


def _scale(coefficient: float | Floats, numbers: Floats) -> Floats:
    return np.where(np.asarray(coefficient) == 0, 0.0, coefficient * numbers)


def _scale_magnitude(coefficient: float | Floats, numbers: Floats) -> Floats:
    return _scale(np.abs(coefficient), np.abs(numbers))


def _combine(
    prepared: PreparedGroup, numbers: Sequence[Floats], term: Callable[[float | Floats, Floats], Floats] = _scale
) -> Floats:
    """Combine numbers of the follow-ups to those of the source."""
    with np.errstate(all="ignore"):
        terms = [
            term(coefficient, np.broadcast_to(values, member.shape))
            for coefficient, values, member in zip(prepared.coefficients, numbers, prepared.follow_ups, strict=True)
        ]
        if prepared.source.problem.reduction == "none":
            return prepared.group.combine(terms)
        return np.asarray(sum(values.sum() for values in terms))


def _excuse_overflow(prepared: PreparedGroup, source: Returned, implied: Floats, tolerance: Floats) -> Floats:
    """The implied result; elements that overflowed in the dtype of a follow-up are replaced by the source's own."""
    smallest_coefficient = min(float(np.min(np.abs(coefficient))) for coefficient in prepared.coefficients)
    largest = smallest_coefficient * dtype_info(prepared.source.converted.dtype).largest
    with np.errstate(invalid="ignore"):
        may_overflow = (
            np.isinf(implied)
            & (np.abs(source.value) + tolerance > largest)
            & (np.sign(source.value) == np.sign(implied))
        )
    return np.where(may_overflow, source.value, implied)


def _known_issue(
    instance: Instance, prepared: PreparedGroup, ledger: Ledger, symptoms: frozenset[str] | None
) -> KnownIssue | None:
    """The ledger entry for this relation on this case, for the case, or for the traits of one of its problems.

    symptoms: symptoms of the violation; None if the relation holds.
    """
    item = instance.item
    prefix = f"{RELATION_PREFIX}{instance.relation.name}/"
    features = {
        name
        for member in prepared.members
        for name in (*member.problem.options.names(), *member.problem.layout.names())
    }
    names = [prefix + item.case.id, item.case.id, "/".join([f"{prefix}asks", *sorted(features)])]
    dtypes_and_reductions = dict.fromkeys(
        (member.problem.dtype, member.problem.reduction) for member in prepared.members
    )
    dtypes_and_reductions = {(item.dtype, item.reduction): None, **dtypes_and_reductions}
    for name in names:
        for dtype, reduction in dtypes_and_reductions:
            key = dataclasses.replace(item.key, case=name, dtype=dtype, reduction=reduction)
            if (entry := ledger.find(key, symptoms)) is not None:
                return entry
    for member in prepared.members if symptoms is not None else ():
        key = dataclasses.replace(item.key, dtype=member.problem.dtype, reduction=member.problem.reduction)
        if (
            entry := ledger.find_by_traits(functools.partial(getattr, member, "traits"), key, symptoms or ())
        ) is not None:
            return entry
    return None


def _outcome_text(outcome: Outcome) -> str:
    return _array_text(outcome.value) if isinstance(outcome, Returned) else _failure_text(outcome)


def _array_text(values: Floats, max_length: int = 400) -> str:
    return truncate_and_count(repr(values.tolist()), max_length)

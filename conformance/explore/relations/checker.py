"""Checks a relation for one function on one case: calls both sides and compares their answers within a tolerance.

No exact answer is needed. The answer of the whole is implied by those of its parts. Each answer may be off by its
tolerance under the documented convention, and adding the parts in float64 rounds, so that

    |whole - sum_j f_j part_j|  <=  tol(whole) + sum_j |f_j| tol(part_j) + 2^-53 (n + 1) sum_j |f_j part_j|

with n terms and f_j the factor of part j. For a mean, f_j includes the documented divisor, exact to one rounding. nan
and infinities must be at the same positions, and either all sides raise or none does.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import assert_never

import numpy as np

from conformance.adapters.arrays import Tensor
from conformance.adapters.contract import Function
from conformance.adapters.contract.lowering import Call, described, lowered
from conformance.adapters.contract.reproducer import reproducer
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import RELATION_PREFIX, KnownIssue, Ledger
from conformance.casefiles.loading import cases_option
from conformance.explore.relations.relation import Floats, Relation, Restatement
from conformance.judging.compare import Comparison, compare, symptoms_of_value, symptoms_without_value
from conformance.judging.judge import Performer
from conformance.judging.plan import Item, rule_of, unsupported
from conformance.judging.prepare import convert_for
from conformance.judging.reasons import NotDeterministic
from conformance.judging.rendering import render
from conformance.judging.traits import traits
from conformance.model.case import MustRaise, NoRightAnswer, Problem
from conformance.model.convention import Convention
from conformance.model.outcome import Crashed, NonNumeric, Outcome, Raised, Returned, TimedOut, Unsupported
from conformance.model.text import printable, truncate_and_count
from conformance.reference import error_bound
from conformance.reference.domain import dtype_info, examine
from conformance.reference.flat_problem import flatten, refused
from conformance.reference.oracle import Exact, divisor

UNIT_ROUNDOFF = 2.0**-53
"""Unit roundoff of float64, in which answers are added."""


@dataclass(frozen=True, eq=False)
class PreparedSide:
    """One problem of a relation, ready to be passed to a function."""

    problem: Problem
    handed: Problem
    """The problem as it is passed, its predictions converted to a kind that the function takes."""
    convention: Convention
    """What the function documents for this problem."""
    call: Call
    converted: bool
    """Whether the predictions were rounded by a conversion."""

    @functools.cached_property
    def tolerance(self) -> Floats:
        """Tolerance of its answer, shaped as the answer or a scalar."""
        return error_bound.tolerance(self.handed, self.convention, self.problem if self.converted else None)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of its answer."""
        return flatten(self.handed, self.convention).shape if self.problem.reduction == "none" else ()


@dataclass(frozen=True, eq=False)
class PreparedRelation:
    """A relation on one item, all sides ready to be called. The factors include the divisors of means."""

    restatement: Restatement
    whole: PreparedSide
    parts: tuple[PreparedSide, ...]
    factors: tuple[float | Floats, ...]

    @property
    def sides(self) -> tuple[PreparedSide, ...]:
        return (self.whole, *self.parts)


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
        return f"{item.function.name}-{self.relation.name}-{item.case.id}-{item.dtype}-{item.reduction}"

    @functools.cached_property
    def prepared(self) -> PreparedRelation | None:
        """Both sides; None if the function cannot express one of them, or both are the same call."""
        item, relation, problem = self.item, self.relation, self.problem
        if isinstance(item.case.expect, MustRaise | NoRightAnswer) or not relation.applies(problem, item.function):
            return None
        convention = rule_of(item, problem).convention
        if examine(problem) & {"shape_mismatch", "empty_batch"} or refused(problem, convention):
            return None
        if (restated := relation.restate(problem, convention)) is None:
            return None
        return _prepare(item, restated, relation.repeats_call)


def _prepare(item: Item, restatement: Restatement, repeats_call: bool) -> PreparedRelation | None:
    prepared: dict[int, PreparedSide] = {}
    for problem in (restatement.whole, *restatement.parts):
        if id(problem) not in prepared:
            if (
                side := _prepare_side(item, problem, restatement.converted and problem is not restatement.whole)
            ) is None:
                return None
            prepared[id(problem)] = side
    whole, parts = prepared[id(restatement.whole)], tuple(prepared[id(part)] for part in restatement.parts)
    if not repeats_call and all(_same_call(whole.call, part.call) for part in parts):
        return None
    factors = _factors(restatement, whole, parts)
    return None if factors is None else PreparedRelation(restatement, whole, parts, factors)


def _prepare_side(item: Item, problem: Problem, converted: bool) -> PreparedSide | None:
    """One side, ready to be called; None if the function cannot express it or documents that it refuses it."""
    function = item.function
    if unsupported(function, item.case, problem) is not None:
        return None
    convention = rule_of(item, problem).convention
    if _inexpressible(problem, convention):
        return None
    passed, name = convert_for(problem, function.native(problem.input_kind))
    if refused(passed, convention) or examine(passed) & convention.rejects:
        return None
    return PreparedSide(problem, passed, convention, lowered(function, passed), converted or bool(name))


def _inexpressible(problem: Problem, convention: Convention) -> bool:
    """Whether a column of labels adds an axis that the function would average, which its convention does not
    describe.
    """
    averaged = problem.loss == "binary" and convention.binary_outputs == "mean_of_last_axis"
    return averaged and problem.predictions.ndim == 1 and problem.layout.labels == "column"


def _factors(
    restatement: Restatement, whole: PreparedSide, parts: Sequence[PreparedSide]
) -> tuple[float | Floats, ...] | None:
    """The factors times the quotients of the divisors; None if one of the means has no divisor."""
    own = restatement.factors or (1.0,) * len(parts)
    total, *each = (_divisor(side) for side in (whole, *parts))
    if not total or not all(each):
        return None
    return tuple(factor * float(part / total) for factor, part in zip(own, each, strict=True) if part is not None)


def _divisor(side: PreparedSide) -> Fraction | None:
    """The number that turns the answer of a side into the sum of its losses; None if it is unknown."""
    return divisor(side.handed, side.convention) if side.problem.reduction == "mean" else Fraction(1)


def _same_call(one: Call, other: Call) -> bool:
    """Whether two calls are identical, including the bits and strides of their arrays."""
    named = one.text == other.text and list(one.arrays) == list(other.arrays)
    return named and all(map(_same_array, one.arrays.values(), other.arrays.values()))


def _same_array(a: Tensor, b: Tensor) -> bool:
    x, y = a.laid_out(), b.laid_out()
    return (
        x.dtype == y.dtype
        and x.shape == y.shape
        and x.strides == y.strides
        and x.flags.writeable == y.flags.writeable
        and x.tobytes() == y.tobytes()
    )


@dataclass(frozen=True, eq=False)
class RelationResult:
    """The result of checking one instance."""

    instance: Instance
    prepared: PreparedRelation
    outcomes: tuple[Outcome, ...]
    why: str
    """How the relation is violated; "" if it holds."""
    comparison: Comparison | None
    """Comparison of the whole's answer with the one implied by the parts, if both returned."""
    implied: Floats | None
    """The answer of the whole that the parts imply."""
    known: KnownIssue | None
    """The ledger's entry about a side, or about the relation."""

    @property
    def expected(self) -> str:
        """`ok`, `known`, `unexpected`, or `stale`: the ledger names exactly this instance as violated, and it holds."""
        if self.why:
            return "unexpected" if self.known is None else "known"
        exact = self.known is not None and self.known.relation_name and "*" not in self.known.case
        return "stale" if exact else "ok"

    @property
    def calls(self) -> tuple[str, ...]:
        """A reproducer for each call, the whole first."""
        item = self.instance.item
        return tuple(
            reproducer(item.framework, item.function, side.handed, side.call, item.installed.backend)
            for side in _distinct_sides(self.prepared)
        )

    def __str__(self) -> str:
        """What a failing test prints."""
        item, relation = self.instance.item, self.instance.relation
        broken = f"breaks {relation.name}" if self.why else f"keeps {relation.name}, which the ledger knows as broken"
        lines = [f"{item.function.name} {item.installed.version} {broken}"]
        lines.append(f"  relation   {relation.why}")
        lines.append(f"  case       {item.case.id} ({item.dtype}, {item.reduction}): {item.case.why}")
        lines += [f"  got        {_outcome_text(self.outcomes[0])}"]
        lines += [f"  want       {_short(self.implied)}, from the other side"] if self.implied is not None else []
        c = self.comparison
        if c is not None and c.error > 0:
            at = f" at {list(c.where)}" if c.where else ""
            lines.append(f"  how far    {c.error:.6g}{at} = {c.error_ratio:.4g} x the tolerance {c.tolerance:.6g}")
        lines += [f"  because    {self.why}"] if self.why else []
        if self.known is not None:
            lines.append(f"  ledger     {self.known.path}:{self.known.line}: {self.known.summary}")
        sides = zip(_distinct_sides(self.prepared), self.calls, strict=True)
        lines += [
            f"  {'one side' if number == 0 else 'the other':<10} {call}" for number, (_, call) in enumerate(sides)
        ]
        chosen = self.instance.id.replace("-", " and ")
        lines.append(f'  again      conformance relations {cases_option(item.case)}-k "{chosen}"')
        return printable("\n".join(lines))


def check(instance: Instance, performer: Performer, ledger: Ledger) -> RelationResult:
    """Call both sides and compare them. The instance must be prepared; `performer` makes the calls.

    Raises LoweringError.
    """
    prepared = instance.prepared
    assert prepared is not None
    item = instance.item
    sides = _distinct_sides(prepared)
    outcomes = tuple(performer(item.framework, side.call, described(item.function, side.handed)) for side in sides)
    outcome_of = dict(zip(sides, outcomes, strict=True))
    why, comparison, implied, symptoms = _compare_sides(instance, prepared, outcome_of)
    candidates = (_known_issue(instance, prepared, ledger, way) for way in (symptoms if why else (None,)))
    known = next((entry for entry in candidates if entry is not None), None)
    return RelationResult(instance, prepared, outcomes, why, comparison, implied, known)


def stale_entries(results: Iterable[RelationResult]) -> list[KnownIssue]:
    """Entries with a glob whose relations hold for each instance. For a complete run, they are stale."""
    holds: dict[KnownIssue, bool] = {}
    for result in results:
        if result.known is not None and result.known.relation_name and "*" in result.known.case:
            holds[result.known] = holds.get(result.known, True) and not result.why
    return [entry for entry, everywhere in holds.items() if everywhere]


SidesComparison = tuple[str, Comparison | None, Floats | None, tuple[frozenset[str], ...]]
"""How the relation is violated, "" if it is not; the comparison of the whole; its implied answer; and the
alternative sets of symptoms, as `Verdict.symptoms`, since a relation does not tell which side is wrong.
"""


METADATA_SYMPTOMS = tuple(frozenset({symptom}) for symptom in ("mutated_argument", "wrong_shape", "wrong_dtype"))
"""Symptoms of an answer whose shape, dtype or arguments are wrong: any of these."""


def _distinct_sides(prepared: PreparedRelation) -> tuple[PreparedSide, ...]:
    """The sides to be called; one that occurs as several parts is called once."""
    return tuple(dict.fromkeys(prepared.sides))


def _compare_sides(
    instance: Instance, prepared: PreparedRelation, outcomes: Mapping[PreparedSide, Outcome]
) -> SidesComparison:
    failures = {side: _failure_text(outcome) for side, outcome in outcomes.items()}
    failure_symptoms = tuple(filter(None, map(symptoms_without_value, outcomes.values())))
    if any(isinstance(outcome, Raised) for outcome in outcomes.values()):
        if all(isinstance(outcome, Raised) for outcome in outcomes.values()):
            return "", None, None, ()
        return f"one side {next(filter(None, failures.values()))}, and another did not", None, None, failure_symptoms
    if problem_text := next(filter(None, failures.values()), ""):
        return f"one side {problem_text}", None, None, failure_symptoms
    answers = {side: outcome for side, outcome in outcomes.items() if isinstance(outcome, Returned)}
    if problem_text := _metadata_error(instance, prepared, answers):
        return problem_text, None, None, METADATA_SYMPTOMS
    whole = answers[prepared.whole]
    parts = [answers[part].value for part in prepared.parts]
    implied = _combine(prepared, parts)
    tolerance = prepared.whole.tolerance + _combine(
        prepared, [side.tolerance for side in prepared.parts], _scaled_magnitude
    )
    numbers = sum(part.size for part in parts)
    with np.errstate(invalid="ignore"):
        tolerance = tolerance + UNIT_ROUNDOFF * (numbers + 1) * _combine(prepared, parts, _scaled_magnitude)
    tolerance = np.where(np.isfinite(tolerance), tolerance, 0.0)
    expected = _excuse_overflow(prepared, whole, implied, tolerance)
    dtype = prepared.whole.handed.dtype
    zero_error = np.zeros(expected.shape)
    comparison = compare(whole.value, Exact(expected, zero_error, zero_error), tolerance, dtype, whole.dtype)
    if (
        instance.relation.repeats_call
        and comparison.within
        and not np.array_equal(whole.value, implied, equal_nan=True)
    ):
        reason = NotDeterministic()
        return render(reason), comparison, implied, (reason.symptoms,)
    if comparison.within:
        return "", comparison, implied, ()
    sides = (whole.value, expected), (expected, whole.value)
    symptoms = (
        symptoms_of_value(Returned(got, whole.dtype), [(Exact(due, zero_error, zero_error), tolerance)], dtype)
        for got, due in sides
    )
    return render(comparison.reason), comparison, implied, tuple(symptoms)


def _failure_text(outcome: Outcome) -> str:
    """What happened instead of an answer, as a predicate; "" if there is an answer."""
    match outcome:
        case Returned():
            return ""
        case NonNumeric(what):
            return f"returned {what}, which is no number"
        case Raised(exception, message):
            return f"raised {exception}: {message}"
        case Crashed(how):
            return f"had its process die, which {how}"
        case TimedOut(seconds):
            return f"had no answer within {seconds:g} s"
        case Unsupported(why):
            return f"could not be asked: {why}"
        case _:
            assert_never(outcome)


def _metadata_error(instance: Instance, prepared: PreparedRelation, answers: Mapping[PreparedSide, Returned]) -> str:
    """An error in shape, dtype or arguments, which are checked before values; "" if there is none."""
    declared = {side: instance.item.function.returns(side.handed) for side in answers}
    one_dtype = len(set(declared.values())) == 1
    for side, answer in answers.items():
        if instance.relation.repeats_call and answer.mutated:
            return f"the call changed its argument {', '.join(answer.mutated)} in place, for whoever asks again"
        if answer.value.shape != side.shape:
            return f"one side has shape {answer.value.shape}, where {side.shape} is due"
        due = answers[prepared.whole].dtype if one_dtype else declared[side]
        if answer.dtype != due:
            return f"one side has dtype {answer.dtype}, where {due} is due"
    return ""


def _scaled(factor: float | Floats, numbers: Floats) -> Floats:
    return np.where(np.asarray(factor) == 0, 0.0, factor * numbers)


def _scaled_magnitude(factor: float | Floats, numbers: Floats) -> Floats:
    return _scaled(np.abs(factor), np.abs(numbers))


def _combine(
    prepared: PreparedRelation, numbers: Sequence[Floats], term: Callable[[float | Floats, Floats], Floats] = _scaled
) -> Floats:
    """Combine numbers of the parts to those of the whole."""
    with np.errstate(all="ignore"):
        terms = [
            term(factor, np.broadcast_to(values, side.shape))
            for factor, values, side in zip(prepared.factors, numbers, prepared.parts, strict=True)
        ]
        if prepared.whole.problem.reduction == "none":
            return prepared.restatement.assemble(terms)
        return np.asarray(sum(values.sum() for values in terms))


def _excuse_overflow(prepared: PreparedRelation, whole: Returned, implied: Floats, tolerance: Floats) -> Floats:
    """The implied answer. Where it is infinite because the dtype of the parts overflowed, the whole's own answer."""
    smallest_factor = min(float(np.min(np.abs(factor))) for factor in prepared.factors)
    largest = smallest_factor * dtype_info(prepared.whole.handed.dtype).largest
    with np.errstate(invalid="ignore"):
        may_overflow = (
            np.isinf(implied) & (np.abs(whole.value) + tolerance > largest) & (np.sign(whole.value) == np.sign(implied))
        )
    return np.where(may_overflow, whole.value, implied)


def _known_issue(
    instance: Instance, prepared: PreparedRelation, ledger: Ledger, symptoms: frozenset[str] | None
) -> KnownIssue | None:
    """The entry about this relation on this case, about the case of a side, or about the traits of a side.

    symptoms: how the relation is violated; None if it holds.
    """
    item = instance.item
    prefix = f"{RELATION_PREFIX}{instance.relation.name}/"
    features = {
        name for side in prepared.sides for name in (*side.problem.options.names(), *side.problem.layout.names())
    }
    names = [prefix + item.case.id, item.case.id, "/".join([f"{prefix}asks", *sorted(features)])]
    dtypes_and_reductions = dict.fromkeys((side.problem.dtype, side.problem.reduction) for side in prepared.sides)
    dtypes_and_reductions = {(item.dtype, item.reduction): None, **dtypes_and_reductions}
    for name in names:
        for dtype, reduction in dtypes_and_reductions:
            key = dataclasses.replace(item.key, case=name, dtype=dtype, reduction=reduction)
            if (entry := ledger.find(key, symptoms)) is not None:
                return entry
    for side in prepared.sides if symptoms is not None else ():
        key = dataclasses.replace(item.key, dtype=side.problem.dtype, reduction=side.problem.reduction)
        target = item.function.target_as(side.problem.target_kind) or side.problem.target_kind
        problem_traits = functools.partial(traits, side.problem, side.handed, target)
        if (entry := ledger.find_by_traits(problem_traits, key, symptoms or ())) is not None:
            return entry
    return None


def _outcome_text(outcome: Outcome) -> str:
    return _short(outcome.value) if isinstance(outcome, Returned) else _failure_text(outcome)


def _short(values: Floats, most: int = 400) -> str:
    return truncate_and_count(repr(values.tolist()), most)

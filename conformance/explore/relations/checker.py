"""A relation held against one function on one case: both sides asked, and the difference held against what is allowed.

No exact answer is needed.  The answer of the whole follows from those of its parts; each of them may be off by its
budget under what the function documents, and adding the parts up in float64 rounds, so that

    |whole - sum_j f_j part_j|  <=  budget(whole) + sum_j |f_j| budget(part_j) + 2^-53 (n + 1) sum_j |f_j part_j|

with n numbers added up and f_j the factor of a part.  Where a side asks for the mean, f_j has its documented divisor,
exact to one rounding.  nan and infinities must be in the same places, and either every side raises or none does.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import assert_never

import numpy as np

from conformance.adapters.contract import Call, Function, Tensor, described, lowered, reproducer
from conformance.casefiles.known_issues import RELATION, Known, Ledger
from conformance.casefiles.loading import cases_option
from conformance.explore.relations.relation import Floats, Relation, Restated
from conformance.judging.reasons import NotDeterministic
from conformance.judging.rendering import render
from conformance.judging.suite import Item, Performer, bridged, rule_of, unsupported
from conformance.judging.traits import traits
from conformance.judging.verdict import Comparison, compare, symptoms_of_value, symptoms_without_value
from conformance.model.case import MustRaise, NoRightAnswer, Problem
from conformance.model.convention import Convention
from conformance.model.outcome import Crashed, NonNumeric, Outcome, Raised, Returned, TimedOut, Unsupported
from conformance.model.text import printable
from conformance.reference import error_bound
from conformance.reference.domain import examine, numpy_info
from conformance.reference.flat_problem import refused, rows
from conformance.reference.oracle import Exact, divisor

UNIT = 2.0**-53
"""Unit roundoff of float64, in which answers are added up."""


@dataclass(frozen=True, eq=False)
class Side:
    """One problem of a relation as a function is asked it.

    convention: what the function documents for it.  converted: whether its predictions were rounded on their way.
    """

    problem: Problem
    handed: Problem
    convention: Convention
    call: Call
    converted: bool

    @functools.cached_property
    def allowed(self) -> Floats:
        """The error that its answer may have."""
        return error_bound.allowed(self.handed, self.convention, self.problem if self.converted else None)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its answer."""
        return rows(self.handed, self.convention).shape if self.problem.reduction == "none" else ()


@dataclass(frozen=True, eq=False)
class Statement:
    """A relation on one item, both sides ready to be asked; the factors have the divisors of means in them."""

    restated: Restated
    whole: Side
    parts: tuple[Side, ...]
    factors: tuple[float | Floats, ...]

    @property
    def sides(self) -> tuple[Side, ...]:
        return (self.whole, *self.parts)


@dataclass(frozen=True, eq=False)
class Instance:
    """One relation on one item, and the problem that the item asks: one test."""

    relation: Relation
    item: Item
    problem: Problem

    @property
    def function(self) -> Function:
        return self.item.function

    @property
    def id(self) -> str:
        """`torch.CrossEntropyLoss-shifted_logits-categorical/seed/plain-float32-mean`, as pytest shows it."""
        item = self.item
        return f"{item.function.name}-{self.relation.name}-{item.case.id}-{item.dtype}-{item.reduction}"

    @functools.cached_property
    def statement(self) -> Statement | None:
        """Both sides; None where the function cannot say one of them, or says both with the same call."""
        item, relation, problem = self.item, self.relation, self.problem
        if isinstance(item.case.expect, MustRaise | NoRightAnswer) or not relation.concerns(problem, item.function):
            return None
        convention = rule_of(item, problem).convention
        if examine(problem) & {"shape_mismatch", "empty_batch"} or refused(problem, convention):
            return None
        if (restated := relation.restated(problem, convention)) is None:
            return None
        return _statement(item, restated, relation.again)


def _statement(item: Item, restated: Restated, again: bool) -> Statement | None:
    made: dict[int, Side] = {}
    for problem in (restated.whole, *restated.parts):
        if id(problem) not in made:
            if (side := _side(item, problem, restated.converted and problem is not restated.whole)) is None:
                return None
            made[id(problem)] = side
    whole, parts = made[id(restated.whole)], tuple(made[id(part)] for part in restated.parts)
    if not again and all(_same(whole.call, part.call) for part in parts):
        return None
    factors = _factors(restated, whole, parts)
    return None if factors is None else Statement(restated, whole, parts, factors)


def _side(item: Item, problem: Problem, converted: bool) -> Side | None:
    """A problem as the function is asked it; None where it cannot be, or documents that it refuses it."""
    function = item.function
    if unsupported(function, item.case, problem) is not None:
        return None
    convention = rule_of(item, problem).convention
    if _unsaid(problem, convention):
        return None
    handed, name = bridged(problem, function.native(problem.given))
    if refused(handed, convention) or examine(handed) & convention.rejects:
        return None
    return Side(problem, handed, convention, lowered(function, handed), converted or bool(name))


def _unsaid(problem: Problem, convention: Convention) -> bool:
    """Whether labels bring an axis along that a function would average, of which its convention does not speak."""
    averaged = problem.loss == "binary" and convention.binary_outputs == "mean_of_last_axis"
    return averaged and problem.predictions.ndim == 1 and problem.layout.labels == "column"


def _factors(restated: Restated, whole: Side, parts: Sequence[Side]) -> tuple[float | Floats, ...] | None:
    """The factors with what means divide by; None where one of them has no mean."""
    own = restated.factors or (1.0,) * len(parts)
    total, *each = (_divisor(side) for side in (whole, *parts))
    if not total or not all(each):
        return None
    return tuple(factor * float(part / total) for factor, part in zip(own, each, strict=True) if part is not None)


def _divisor(side: Side) -> Fraction | None:
    """What makes a side's answer the sum of its losses; None where that is not known."""
    return divisor(side.handed, side.convention) if side.problem.reduction == "mean" else Fraction(1)


def _same(one: Call, other: Call) -> bool:
    """Whether two calls are the same, to the last bit and stride."""
    if one.path != other.path:
        return False
    return all(
        list(a) == list(b) and all(map(_same_value, a.values(), b.values()))
        for a, b in ((one.args, other.args), (one.keywords, other.keywords), (one.init or {}, other.init or {}))
    )


def _same_value(a: object, b: object) -> bool:
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return type(a) is type(b) and a == b
    x, y = a.laid_out(), b.laid_out()
    return (
        x.dtype == y.dtype
        and x.shape == y.shape
        and x.strides == y.strides
        and x.flags.writeable == y.flags.writeable
        and x.tobytes() == y.tobytes()
    )


@dataclass(frozen=True, eq=False)
class Finding:
    """What came of one instance.

    why: what is broken, "" where the relation holds.  comparison: of the whole with what follows from its parts,
    where there was one.  follows: that.  known: the ledger's entry about a side, or about the relation.
    """

    instance: Instance
    statement: Statement
    outcomes: tuple[Outcome, ...]
    why: str
    comparison: Comparison | None
    follows: Floats | None
    known: Known | None

    @property
    def expected(self) -> str:
        """`ok`, `known`, `unexpected`, or `stale`: the ledger knows just this as broken, and it holds."""
        if self.why:
            return "unexpected" if self.known is None else "known"
        exact = self.known is not None and self.known.relation and "*" not in self.known.case
        return "stale" if exact else "ok"

    @property
    def calls(self) -> tuple[str, ...]:
        """A reproducer for each call, the whole first."""
        item = self.instance.item
        return tuple(
            reproducer(item.framework, item.function, side.handed, side.call, item.installed.variant)
            for side in _distinct(self.statement)
        )

    def __str__(self) -> str:
        """What a failing test prints."""
        item, relation = self.instance.item, self.instance.relation
        broken = f"breaks {relation.name}" if self.why else f"keeps {relation.name}, which the ledger knows as broken"
        lines = [f"{item.function.name} {item.installed.version} {broken}"]
        lines.append(f"  relation   {relation.why}")
        lines.append(f"  case       {item.case.id} ({item.dtype}, {item.reduction}): {item.case.why}")
        lines += [f"  got        {_told(self.outcomes[0])}"]
        lines += [f"  want       {_short(self.follows)}, from the other side"] if self.follows is not None else []
        c = self.comparison
        if c is not None and c.error > 0:
            at = f" at {list(c.where)}" if c.where else ""
            lines.append(f"  how far    {c.error:.6g}{at} = {c.ratio:.4g} x the allowed {c.allowed:.6g}")
        lines += [f"  because    {self.why}"] if self.why else []
        if self.known is not None:
            lines.append(f"  ledger     {self.known.path}:{self.known.line}: {self.known.told}")
        sides = zip(_distinct(self.statement), self.calls, strict=True)
        lines += [
            f"  {'one side' if number == 0 else 'the other':<10} {call}" for number, (_, call) in enumerate(sides)
        ]
        chosen = self.instance.id.replace("-", " and ")
        lines.append(f'  again      conformance relations {cases_option(item.case)}-k "{chosen}"')
        return printable("\n".join(lines))


def check(instance: Instance, performer: Performer, ledger: Ledger) -> Finding:
    """Ask both sides and hold them against each other; the instance must have a statement.

    performer: makes the calls.  Raises LoweringError.
    """
    statement = instance.statement
    assert statement is not None
    item = instance.item
    sides = _distinct(statement)
    outcomes = tuple(performer(item.framework, side.call, described(item.function, side.handed)) for side in sides)
    asked = dict(zip(sides, outcomes, strict=True))
    why, comparison, follows, symptoms = _held(instance, statement, asked)
    found = (_known(instance, statement, ledger, shown) for shown in (symptoms if why else (None,)))
    known = next((entry for entry in found if entry is not None), None)
    return Finding(instance, statement, outcomes, why, comparison, follows, known)


def gone(findings: Iterable[Finding]) -> list[Known]:
    """The entries with a glob about relations that hold wherever they were asked: of a whole run, they are stale."""
    held: dict[Known, bool] = {}
    for finding in findings:
        if finding.known is not None and finding.known.relation and "*" in finding.known.case:
            held[finding.known] = held.get(finding.known, True) and not finding.why
    return [entry for entry, everywhere in held.items() if everywhere]


Held = tuple[str, Comparison | None, Floats | None, tuple[frozenset[str], ...]]
"""Why a relation is broken, "" where it is not; the whole against what follows from its parts; that; and in which ways
a side may be wrong, as `Verdict.symptoms`: a relation does not say which of them is."""


_MISFITS = tuple(frozenset({symptom}) for symptom in ("mutated_argument", "wrong_shape", "wrong_dtype"))


def _distinct(statement: Statement) -> tuple[Side, ...]:
    """The sides that are asked: one that is several parts only once."""
    return tuple(dict.fromkeys(statement.sides))


def _held(instance: Instance, statement: Statement, outcomes: Mapping[Side, Outcome]) -> Held:
    told = {side: _unanswered(outcome) for side, outcome in outcomes.items()}
    unanswered = tuple(filter(None, map(symptoms_without_value, outcomes.values())))
    if any(isinstance(outcome, Raised) for outcome in outcomes.values()):
        if all(isinstance(outcome, Raised) for outcome in outcomes.values()):
            return "", None, None, ()
        return f"one side {next(filter(None, told.values()))}, and another did not", None, None, unanswered
    if wrong := next(filter(None, told.values()), ""):
        return f"one side {wrong}", None, None, unanswered
    answers = {side: outcome for side, outcome in outcomes.items() if isinstance(outcome, Returned)}
    if wrong := _misfit(instance, statement, answers):
        return (
            wrong,
            None,
            None,
            tuple(frozenset({symptom}) for symptom in ("mutated_argument", "wrong_shape", "wrong_dtype")),
        )
    whole = answers[statement.whole]
    parts = [answers[part].value for part in statement.parts]
    follows = _combined(statement, parts)
    allowed = statement.whole.allowed + _combined(statement, [side.allowed for side in statement.parts], _size)
    numbers = sum(part.size for part in parts)
    with np.errstate(invalid="ignore"):
        allowed = allowed + UNIT * (numbers + 1) * _combined(statement, parts, _size)
    allowed = np.where(np.isfinite(allowed), allowed, 0.0)
    expected = _not_overflown(statement, whole, follows, allowed)
    dtype = statement.whole.handed.dtype
    exactly = np.zeros(expected.shape)
    comparison = compare(whole.value, Exact(expected, exactly, exactly), allowed, dtype, whole.dtype)
    if instance.relation.again and comparison.within and not np.array_equal(whole.value, follows, equal_nan=True):
        reason = NotDeterministic()
        return render(reason), comparison, follows, (reason.symptoms,)
    if comparison.within:
        return "", comparison, follows, ()
    sides = (whole.value, expected), (expected, whole.value)
    symptoms = (
        symptoms_of_value(Returned(got, whole.dtype), [(Exact(due, exactly, exactly), allowed)], dtype)
        for got, due in sides
    )
    return render(comparison.reason), comparison, follows, tuple(symptoms)


def _unanswered(outcome: Outcome) -> str:
    """What happened instead of an answer, as a predicate; "" where there is one."""
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


def _misfit(instance: Instance, statement: Statement, answers: Mapping[Side, Returned]) -> str:
    """What is wrong with answers before their values are looked at; "" if nothing is."""
    declared = instance.item.function.result_dtype
    one_dtype = len({side.problem.dtype for side in answers}) == 1
    for side, answer in answers.items():
        if instance.relation.again and answer.mutated:
            return f"the call changed its argument {', '.join(answer.mutated)} in place, for whoever asks again"
        if answer.value.shape != side.shape:
            return f"one side has shape {answer.value.shape}, where {side.shape} is due"
        due = side.problem.dtype if declared == "same" else declared
        due = answers[statement.whole].dtype if one_dtype else due
        if answer.dtype != due:
            return f"one side has dtype {answer.dtype}, where {due} is due"
    return ""


def _value(factor: float | Floats, numbers: Floats) -> Floats:
    return np.where(np.asarray(factor) == 0, 0.0, factor * numbers)


def _size(factor: float | Floats, numbers: Floats) -> Floats:
    return _value(np.abs(factor), np.abs(numbers))


def _combined(
    statement: Statement, numbers: Sequence[Floats], term: Callable[[float | Floats, Floats], Floats] = _value
) -> Floats:
    """Numbers of the parts as that of the whole."""
    with np.errstate(all="ignore"):
        terms = [
            term(factor, np.broadcast_to(found, side.shape))
            for factor, found, side in zip(statement.factors, numbers, statement.parts, strict=True)
        ]
        if statement.whole.problem.reduction == "none":
            return statement.restated.arranged(terms)
        return np.asarray(sum(found.sum() for found in terms))


def _not_overflown(statement: Statement, whole: Returned, follows: Floats, allowed: Floats) -> Floats:
    """What follows, and the whole itself where the dtype of the parts could not hold what it is made of."""
    least = min(float(np.min(np.abs(factor))) for factor in statement.factors)
    largest = least * numpy_info(statement.whole.handed.dtype)[3]
    with np.errstate(invalid="ignore"):
        beyond = (
            np.isinf(follows) & (np.abs(whole.value) + allowed > largest) & (np.sign(whole.value) == np.sign(follows))
        )
    return np.where(beyond, whole.value, follows)


def _known(instance: Instance, statement: Statement, ledger: Ledger, symptoms: frozenset[str] | None) -> Known | None:
    """The entry about this relation on this case, about the case as a side asks it, or about what the sides ask.

    symptoms: in which ways the relation is broken; None where it holds.
    """
    item = instance.item
    about = f"{RELATION}{instance.relation.name}/"
    features = {
        name for side in statement.sides for name in (*side.problem.options.names(), *side.problem.layout.names())
    }
    names = [about + item.case.id, item.case.id, "/".join([f"{about}asks", *sorted(features)])]
    asked = dict.fromkeys((side.problem.dtype, side.problem.reduction) for side in statement.sides)
    asked = {(item.dtype, item.reduction): None, **asked}
    for name in names:
        for dtype, reduction in asked:
            key = dataclasses.replace(item.key, case=name, dtype=dtype, reduction=reduction)
            if (entry := ledger.find(key, symptoms)) is not None:
                return entry
    for side in statement.sides if symptoms is not None else ():
        key = dataclasses.replace(item.key, dtype=side.problem.dtype, reduction=side.problem.reduction)
        target = item.function.target_as(side.problem.target_kind) or side.problem.target_kind
        found = functools.partial(traits, side.problem, side.handed, target)
        if (entry := ledger.cause(found, key, symptoms or ())) is not None:
            return entry
    return None


def _told(outcome: Outcome) -> str:
    return _short(outcome.value) if isinstance(outcome, Returned) else _unanswered(outcome)


def _short(values: Floats, most: int = 400) -> str:
    text = repr(values.tolist())
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"

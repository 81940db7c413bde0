"""An outcome held against the exact answer: what the suite says about one function on one problem.

`judge` is a pure function of its arguments.  Shape and dtype are compared before values, nan and
infinities as masks of their own, and a difference from the definition is either explained by the
function's documented convention (by substitution, within the same budget), or it is a disagreement.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, assert_never

import numpy as np
import numpy.typing as npt

from conformance.adapters.contract import Function
from conformance.judging.reasons import (
    AcceptedInvalid,
    Alternative,
    Candidate,
    CannotExpress,
    Choices,
    Conversion,
    Converted,
    DocumentedConvention,
    DocumentedRefusal,
    Effect,
    LostInRounding,
    Mismatched,
    Move,
    MutatedArgument,
    NoAnswerInTime,
    NoNumber,
    NotFinite,
    ProcessDied,
    RaisedException,
    Reason,
    RefusedInvalid,
    RowSum,
    UndefinedAnswer,
    WrongDtype,
    WrongShape,
    WrongValue,
)
from conformance.judging.rendering import render
from conformance.model.case import Expectation, InputKind, MustRaise, NoRightAnswer, Problem, Quantity, numpy_dtype
from conformance.model.convention import DEFINITION, EDGE, Convention, describe
from conformance.model.floats import equal_with_nan, subtract, ulp
from conformance.model.outcome import Crashed, NonNumeric, Outcome, Raised, Returned, TimedOut, Unsupported
from conformance.reference import error_bound, gradient, gradient_error_bound, oracle
from conformance.reference.conversion import NAMES, destroyed, renormalises, row_sums, unchanging
from conformance.reference.domain import dtype_info, examine, infinitely_weighted
from conformance.reference.flat_problem import flatten, refused
from conformance.reference.oracle import Answer, Exact, Invalid, Oracle, Undefined

Status = Literal["agrees", "diverges", "disagrees", "crashed", "timed_out", "undefined", "unsupported"]
STATUSES: tuple[Status, ...] = typing.get_args(Status)
FAILING: frozenset[str] = frozenset({"disagrees", "crashed", "timed_out"})
SHARPER = 2.0**-12
"""How far below the budget the oracle's enclosure has to be."""
SEARCHED = 20_000
"""Predictions beyond which no explanation is searched among conventions that a function does not document."""
IMPRECISE = 1e-4
"""A number that is wrong by at most this much of itself is imprecise: as if computed in a narrower dtype."""
UNJUDGED = ("rejects", "empty_mean")
"""Fields of a convention that are no cause: of an exception, and what follows where nothing is left to average."""
OF_GRADIENT = ("gradient_cancellation", "gradient_total", "gradient_floor")
"""Fields of a convention that say something about gradients only."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Comparison:
    """A returned value against one exact answer.  Numbers are those of the worst element.

    reason: what is wrong, None where the value is within its budget.
    where: its index, () for a scalar.  error_ratio: error / tolerance, inf where nothing finite could be compared.
    ulps: error in units in the last place of the exact answer, in the dtype of the problem.
    """

    reason: WrongValue | NotFinite | WrongShape | None
    where: tuple[int, ...] = ()
    error: float = 0.0
    tolerance: float = 0.0
    error_ratio: float = 0.0
    ulps: float = 0.0

    @property
    def within(self) -> bool:
        """Whether the value is right within its budget."""
        return self.reason is None

    @property
    def misshapen(self) -> bool:
        """Whether there was no element to compare, because the shapes differ."""
        return isinstance(self.reason, WrongShape)


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is said about one function on one problem.

    want: the definition's answer; want_by_convention: that of the smallest part of the documented
    convention that explains the outcome, where one was needed.  comparison: against the answer that the
    status rests on.  reason: why the status is what it is; None for a plain `agrees`.
    """

    status: Status
    outcome: Outcome
    want: Answer
    reason: Reason | None
    comparison: Comparison | None = None
    want_by_convention: Exact | None = None
    tolerance: Floats = field(default_factory=lambda: np.zeros(()))

    @property
    def choices(self) -> Choices:
        """The documented choices that explain the outcome; empty where none does, or none is needed."""
        return self.reason.choices if isinstance(self.reason, DocumentedConvention | DocumentedRefusal) else ()

    @property
    def convention(self) -> str:
        """The same as text."""
        return describe(dict(self.choices))

    @property
    def conversion(self) -> Conversion | None:
        """The conversion of the predictions, where what it changed is a cause."""
        return getattr(self.reason, "conversion", None)

    @property
    def effects(self) -> str:
        """What that conversion changed, each `Effect`, joined by `; `."""
        return "; ".join(self.conversion.effects) if self.conversion is not None else ""

    @property
    def explanation(self) -> str:
        """The reason in words."""
        return render(self.reason)

    @property
    def symptoms(self) -> frozenset[str]:
        """In which ways the outcome is wrong, as in the ledger's `symptoms`; empty unless the status is a failing one.

        nan, inf, minus_inf, zero, imprecise, too_small, too_large, not_nan, accepted_invalid, wrong_shape, wrong_dtype,
        no_number, mutated_argument, crashed, timed_out, or `raised` and the name of the exception.
        """
        return self.reason.symptoms if self.reason is not None else frozenset()


def judge(
    asked: Problem,
    handed: Problem,
    expect: Expectation,
    function: Function,
    documented: Convention,
    outcome: Outcome,
    exact: Oracle,
    conventions: Sequence[Convention] = (),
    quantity: Quantity = "loss",
    alternatives: Iterable[tuple[Function, Convention]] = (),
) -> Verdict:
    """The verdict on `outcome`, what `function` did with `handed`.

    asked: the problem of the case; handed: the same after a bridge converted its predictions, if one
    did.  documented: the function's convention in the version that ran.  conventions: all known ones,
    searched for an explanation when nothing documented explains the outcome.  quantity: what was asked for.
    alternatives: the functions of the same framework, each with what it documents for `asked`; read only where
    predictions were converted and that changes the answer.
    """
    judgement = _Judgement(asked, handed, function, documented, exact, quantity, alternatives)
    want = judgement.definition()
    match outcome:
        case Crashed(how, stderr):
            return Verdict("crashed", outcome, want, ProcessDied(how, stderr))
        case TimedOut(seconds):
            return Verdict("timed_out", outcome, want, NoAnswerInTime(seconds))
        case Unsupported(why):
            return Verdict("unsupported", outcome, want, CannotExpress(why))
        case NonNumeric(what, note):
            if kind := _must_raise(expect, want):
                return Verdict("disagrees", outcome, want, AcceptedInvalid(kind=kind, what=what, note=note))
            return Verdict("disagrees", outcome, want, NoNumber(what, judgement.has_axes(), note))
        case Raised():
            return Verdict(*_judge_raised(judgement, expect, want, outcome))
        case Returned():
            return _judge_returned(judgement, expect, want, outcome, function, conventions)
        case _:
            assert_never(outcome)


def _judge_raised(
    judgement: _Judgement, expect: Expectation, want: Answer, outcome: Raised
) -> tuple[Status, Outcome, Answer, Reason]:
    """Status, outcome, the definition's answer, and the reason."""
    raised = dataclasses.replace(outcome, warnings=())
    if kind := _must_raise(expect, want):
        return "agrees", outcome, want, RefusedInvalid(kind)
    if isinstance(expect, NoRightAnswer):
        return "undefined", outcome, want, UndefinedAnswer(expect.why, "case", raised)
    if isinstance(want, Undefined):
        return "undefined", outcome, want, UndefinedAnswer(want.why, "definition", raised)
    refuses = examine(judgement.handed) & judgement.documented.rejects
    if not refuses:
        return "disagrees", outcome, want, RaisedException(raised)
    conversion = None
    if judgement.converted and not refuses & examine(judgement.asked):
        conversion = judgement.conversion(Change(("refused",), want, want, want), DEFINITION)
    return "diverges", outcome, want, DocumentedRefusal((("rejects", refuses),), raised, conversion)


def _judge_returned(
    judgement: _Judgement,
    expect: Expectation,
    want: Answer,
    outcome: Returned,
    function: Function,
    conventions: Sequence[Convention],
) -> Verdict:
    problem = judgement.handed
    if outcome.mutated:
        return Verdict("disagrees", outcome, want, MutatedArgument(outcome.mutated))
    dtype = function.returns(problem, judgement.quantity)
    if outcome.dtype != dtype:
        return Verdict("disagrees", outcome, want, WrongDtype(outcome.dtype, dtype))
    if isinstance(expect, NoRightAnswer):
        return Verdict("undefined", outcome, want, UndefinedAnswer(expect.why, "case"))
    if isinstance(want, Undefined):
        return Verdict("undefined", outcome, want, UndefinedAnswer(want.why, "definition"))
    tolerance = judgement.tolerance()
    first = None
    must_raise = _must_raise(expect, want)
    if isinstance(want, Exact) and not must_raise:
        first = compare(outcome.value, want, tolerance, problem.dtype, outcome.dtype)
        if first.within:
            return Verdict("agrees", outcome, want, None, first, tolerance=tolerance)
    if found := _documented_verdict(judgement, want, outcome, must_raise):
        return found
    return _unexplained_verdict(judgement, want, outcome, must_raise, first, conventions)


def _documented_verdict(judgement: _Judgement, want: Answer, outcome: Returned, must_raise: str) -> Verdict | None:
    """The verdict on a value that what the function documents accounts for; None if it does not."""
    if found := judgement.explained(outcome, must_raise):
        names, answer, comparison, tolerance = found
        choices, part = judgement.named(names), judgement.part(names)
        change = judgement.conversion_needed(outcome, part)
        conversion = judgement.conversion(change, part) if change else None
        if choices or conversion is None:
            reason: Reason = DocumentedConvention(choices, conversion)
        else:
            reason = Converted(conversion)
        return Verdict("diverges", outcome, want, reason, comparison, answer, tolerance)
    if why := judgement.undefined_as_documented(must_raise):
        change = judgement.change()
        conversion = None
        if change is not None and not isinstance(change.before, Undefined):
            conversion = judgement.conversion(change, judgement.part(judgement.effective))
        return Verdict("undefined", outcome, want, UndefinedAnswer(why, "documentation", conversion=conversion))
    if judgement.is_lost_in_roundings(outcome, must_raise):
        return Verdict("undefined", outcome, want, LostInRounding())
    return None


def _unexplained_verdict(
    judgement: _Judgement,
    want: Answer,
    outcome: Returned,
    must_raise: str,
    first: Comparison | None,
    conventions: Sequence[Convention],
) -> Verdict:
    """The verdict on a wrong value.  first: its comparison with the definition's, if that has a number."""
    problem = judgement.handed
    by_convention, nearer = judgement.documented_comparison(outcome)
    mismatch: Mismatched | None = first.reason if first is not None else None
    if nearer is not None and nearer.reason is not None and (first is None or first.misshapen):
        # Not the definition's shape, and not meant to be: what is wrong shows against what is documented.
        mismatch, first = dataclasses.replace(nearer.reason, by_documentation=True), nearer
    if mismatch is None:
        mismatch = AcceptedInvalid(kind=must_raise)
    tolerance = judgement.tolerance()
    change = judgement.change()
    conversion = None
    if change is not None and change.effects != ("rounded",):
        conversion = judgement.conversion(change, judgement.part(judgement.effective))
    due = None if must_raise or not isinstance(want, Exact) else (want, tolerance)
    documented = None if by_convention is None else (by_convention, judgement.tolerance(judgement.documented))
    answers = [answer for answer in (documented, due) if answer is not None]
    explained = dataclasses.replace(
        mismatch,
        elements=symptoms_of_value(outcome, answers, problem.dtype),
        conversion=conversion,
        candidate=judgement.candidate(outcome, conventions),
    )
    return Verdict("disagrees", outcome, want, explained, first, by_convention, tolerance)


@dataclass(frozen=True, eq=False)
class Change:
    """What a conversion of predictions changes about an answer.

    before: the answer without a conversion.  unrounded: with one that rounds nothing.  after: of what is handed over.
    subject: the choices that these are the answers by, where fewer than all that explain the outcome; else None.
    """

    effects: tuple[Effect, ...]
    before: Answer
    unrounded: Answer
    after: Answer
    subject: Literal["definition"] | Choices | None = None


def change_of(asked: Problem, handed: Problem, convention: Convention, exact: Oracle, tolerance: Floats) -> Change:
    """What the conversion of the predictions of `asked` to those of `handed` changes about the loss by a convention.

    tolerance: the error within which two answers are taken for the same.
    """
    by = semantic(convention)
    if renormalises(asked, handed.input_kind):
        before, unrounded = (_unrounded(asked, by, kind, exact) for kind in ("log_probabilities", "logits"))
    else:
        before = unrounded = _unrounded(asked, by, handed.input_kind, exact)
    try:
        after = exact.answer(handed, by)
    except ArithmeticError:
        after = Undefined("it cannot be enclosed")

    effects: list[Effect] = [] if _same(before, unrounded, tolerance, handed.dtype) else ["renormalised"]
    effects += [] if _same(unrounded, after, tolerance, handed.dtype) else ["rounded_away"]
    return Change(tuple(effects) or ("rounded",), before, unrounded, after)


def _same(a: Answer, b: Answer, tolerance: Floats, dtype: str) -> bool:
    """Whether two exact answers are the same within a tolerance."""
    if a is b:
        return True
    if not isinstance(a, Exact) or not isinstance(b, Exact):
        return type(a) is type(b)
    if a.hi.shape != b.hi.shape:
        return False
    with np.errstate(invalid="ignore"):
        return compare(b.hi, dataclasses.replace(a, lo=a.lo - b.lo), tolerance, dtype).within


def _unrounded(problem: Problem, convention: Convention, input_kind: InputKind, exact: Oracle) -> Answer:
    try:
        return exact.converted(problem, convention, input_kind)
    except ArithmeticError:
        return Undefined("it cannot be enclosed")


class _Judgement:
    """What one judgement evaluates again and again: answers and budgets under parts of a convention."""

    def __init__(
        self,
        asked: Problem,
        handed: Problem,
        function: Function,
        documented: Convention,
        exact: Oracle,
        quantity: Quantity,
        alternatives: Iterable[tuple[Function, Convention]],
    ) -> None:
        self.asked, self.handed, self.documented, self.exact = asked, handed, documented, exact
        self.function, self.alternatives, self.quantity = function, alternatives, quantity
        self.converted = asked is not handed
        judged = _judged_fields(quantity)
        self.choices = tuple(name for name in documented.choices() if name in judged)

    def has_axes(self) -> bool:
        """Whether what is due is an array, and not one number."""
        return self.quantity == "gradient" or self.handed.reduction == "none"

    def tolerance(self, part: Convention = DEFINITION) -> Floats:
        """The budget for an answer under `part`, with the roundings of how the function documents to compute."""
        rounded = computed(part, self.documented)
        if self.quantity == "gradient":
            return gradient_error_bound.tolerance(self.handed, rounded)
        return self._allowed_loss(self.handed, rounded)

    def _allowed_loss(self, problem: Problem, rounded: Convention) -> Floats:
        return error_bound.tolerance(problem, rounded, self.asked if self.converted else None)

    def answer(self, convention: Convention) -> Answer:
        """What is due of the problem that is handed over; raises ArithmeticError."""
        return answer_by(self.handed, convention, self.quantity, self.exact)

    def definition(self) -> Answer:
        if self.quantity == "gradient":
            return self.answer(DEFINITION)
        limit = self.tolerance() * SHARPER
        try:
            return self.exact.answer(self.asked, DEFINITION, _usable(limit, self.asked))
        except ArithmeticError:
            return self.exact.answer(self.asked, DEFINITION)

    def explained(self, outcome: Returned, must_raise: str) -> tuple[tuple[str, ...], Exact, Comparison, Floats] | None:
        """The smallest part of the documented convention under which the outcome is right.

        Of several parts of one size, the one with most choices that the whole convention cannot do without.
        """
        if self._refuses(must_raise):
            return None
        full = self._held(outcome, self.documented)
        if full is None:
            return None
        names = self.effective
        for size in range(0 if self.converted else 1, len(names)):
            parts = [
                (part, *found)
                for part in itertools.combinations(names, size)
                if (found := self._held(outcome, self.part(part)))
            ]
            if len(parts) > 1:
                needed = {name for name in {name for part, *_ in parts for name in part} if self._needs(outcome, name)}
                return max(parts, key=lambda part: len(needed.intersection(part[0])))
            if parts:
                return parts[0]
        return names, *full

    @functools.cached_property
    def effective(self) -> tuple[str, ...]:
        """The documented choices that can have an effect on this problem."""
        return tuple(name for name in self.choices if has_effect(name, self.documented, self.handed, self.quantity))

    def part(self, names: tuple[str, ...]) -> Convention:
        """A part of the documented convention, with what it says of a mean that has nothing to average."""
        return self.documented.restricted_to((*names, "empty_mean") if self._averages_nothing else names)

    @functools.cached_property
    def _averages_nothing(self) -> bool:
        if self.handed.reduction != "mean" or refused(self.handed, self.documented):
            return False
        return oracle.divisor(self.handed, self.documented) == 0

    def _needs(self, outcome: Returned, name: str) -> bool:
        """Whether the documented convention does not explain an outcome without one of its choices."""
        without = dataclasses.replace(self.documented, **{name: getattr(DEFINITION, name)})
        return self._held(outcome, without) is None

    def undefined_as_documented(self, must_raise: str) -> str:
        """Why the function has no right answer by what it documents, where that is so; "" otherwise."""
        if self._refuses(must_raise):
            return ""
        try:
            answer = self.answer(self.documented)
        except ArithmeticError:
            return ""
        return answer.why if isinstance(answer, Undefined) else ""

    def is_lost_in_roundings(self, outcome: Returned, must_raise: str) -> bool:
        """Whether all that is wrong is infinity times a loss that is no larger than its own error may be.

        It may have been rounded to 0, or beyond it; whatever is not finite is as right as what is due.
        """
        if must_raise or self.quantity == "gradient":
            return False
        rounded = computed(self.documented, self.documented)
        lost: npt.NDArray[np.bool_] = np.zeros((), dtype=bool)
        for alone, where in infinitely_weighted(self.handed):
            try:
                loss = answer_by(alone, self.documented, self.quantity, self.exact)
            except ArithmeticError:
                continue
            if isinstance(loss, Exact):
                small = (np.abs(loss.hi) <= self._allowed_loss(alone, rounded)) & (loss.hi != 0)
                lost = np.asarray(lost | (small & (where if where.ndim == small.ndim else where.any(axis=-1))))
        if not lost.any():
            return False
        lost = lost if self.handed.reduction == "none" else np.asarray(lost.any())
        return any(self._is_right_but(outcome, lost, convention) for convention in (DEFINITION, self.documented))

    def _is_right_but(self, outcome: Returned, lost: npt.NDArray[np.bool_], convention: Convention) -> bool:
        """Whether an outcome is right under a convention, or not finite where its losses are lost."""
        answer, _, tolerance = self._compared(outcome, convention)
        if not isinstance(answer, Exact) or answer.hi.shape != outcome.value.shape:
            return False
        unconstrained = dataclasses.replace(answer, unconstrained=lost & ~np.isfinite(outcome.value))
        return compare(outcome.value, unconstrained, tolerance, self.handed.dtype, outcome.dtype).within

    def _refuses(self, must_raise: str) -> bool:
        """Whether an exception is right by what is documented, too."""
        documented = self.documented
        return bool(must_raise) and bool(refused(self.handed, documented) or must_raise in EDGE - documented.accepts)

    def named(self, names: tuple[str, ...]) -> Choices:
        """The part of the documented convention that explains an outcome."""
        part = {name: getattr(self.documented, name) for name in names}
        if "accepts" in part:
            part["accepts"] = part["accepts"] & examine(self.handed)
        return tuple(part.items())

    def conversion_needed(self, outcome: Returned, part: Convention) -> Change | None:
        """What the conversion of the predictions changes, if it is a cause of the outcome.

        part: of the documented convention, under which the outcome is right.  Where it is right without the conversion,
        too, the choices that change nothing there are needed only because of what the conversion changes by the others.
        """
        if not self.converted:
            return None
        tolerance = self.tolerance(part)
        found = change_of(self.asked, self.handed, part, self.exact, tolerance)
        if not set(part.choices()) - {"empty_mean"} or not isinstance(found.before, Exact):
            return found
        if not compare(outcome.value, found.before, tolerance, self.handed.dtype, outcome.dtype).within:
            return found
        needed = part
        for name in (name for name in part.choices() if name != "empty_mean"):
            fewer = dataclasses.replace(needed, **{name: getattr(DEFINITION, name)})
            if semantic(fewer) != semantic(needed):
                answer = change_of(self.asked, self.handed, fewer, self.exact, tolerance).before
                needed = fewer if _same(found.before, answer, tolerance * SHARPER, self.handed.dtype) else needed
        if needed == part:
            return None
        lost = change_of(self.asked, self.handed, needed, self.exact, tolerance)
        choices = tuple((name, value) for name, value in needed.choices().items() if name != "empty_mean")
        return None if lost.effects == ("rounded",) else dataclasses.replace(lost, subject=choices or "definition")

    def change(self) -> Change | None:
        """What the conversion of the predictions changes about the answer by all that is documented."""
        if not self.converted or self.quantity == "gradient":
            return None
        part = self.part(self.effective)
        return change_of(self.asked, self.handed, part, self.exact, self.tolerance(part))

    def conversion(self, change: Change, part: Convention) -> Conversion:
        """A conversion, what it changes, and what the function's users do instead."""
        found = conversion_of(self.asked, self.handed, change, self.function, part)
        right = (self.definition(), change.before)
        alternative = alternative_to(self.asked, self.handed, change, tuple(self.alternatives), right, self.exact)
        return dataclasses.replace(found, alternative=alternative)

    def candidate(self, outcome: Returned, conventions: Sequence[Convention]) -> Candidate:
        """Which known convention would explain what nothing documented does."""
        if self.handed.predictions.size > SEARCHED:
            return Candidate(searched=False)
        for candidate in _neighbours(self.documented, conventions, self.quantity):
            names = self._differing(candidate)
            if not names or self._held(outcome, self._with(candidate, names)) is None:
                continue
            parts = itertools.chain.from_iterable(itertools.combinations(names, k) for k in range(1, len(names) + 1))
            part = next(p for p in parts if self._held(outcome, self._with(candidate, p)) is not None)
            changed = {name: getattr(candidate, name) for name in part}
            if "accepts" in changed:
                changed["accepts"] &= examine(self.handed)
            return Candidate(tuple(changed.items()))
        return Candidate()

    def _with(self, other: Convention, names: tuple[str, ...]) -> Convention:
        """The documented convention with some fields of another one."""
        return dataclasses.replace(self.documented, **{name: getattr(other, name) for name in names})

    def _differing(self, candidate: Convention) -> tuple[str, ...]:
        """The fields in which a convention differs from the documented one with an effect on the problem."""
        return tuple(
            name
            for name in _judged_fields(self.quantity)
            if getattr(candidate, name) != getattr(self.documented, name)
            and any(has_effect(name, one, self.handed, self.quantity) for one in (candidate, self.documented))
        )

    def documented_comparison(self, outcome: Returned) -> tuple[Exact | None, Comparison | None]:
        """The answer by all that is documented, where that is more than the definition, and the outcome against it."""
        if not self.choices or refused(self.handed, self.documented):
            return None, None
        answer, comparison, _ = self._compared(outcome, self.documented)
        return (answer, comparison) if isinstance(answer, Exact) else (None, None)

    def _held(self, outcome: Returned, convention: Convention) -> tuple[Exact, Comparison, Floats] | None:
        """The answer under a convention, if the outcome is right under it."""
        answer, comparison, tolerance = self._compared(outcome, convention)
        if isinstance(answer, Exact) and comparison is not None and comparison.within:
            return answer, comparison, tolerance
        return None

    def _compared(self, outcome: Returned, convention: Convention) -> tuple[Answer | None, Comparison | None, Floats]:
        tolerance = self.tolerance(convention)
        try:
            answer = self.answer(convention)
        except ArithmeticError:
            return None, None, tolerance
        if not isinstance(answer, Exact):
            return answer, None, tolerance
        return answer, compare(outcome.value, answer, tolerance, self.handed.dtype, outcome.dtype), tolerance


def has_effect(name: str, convention: Convention, problem: Problem, quantity: Quantity) -> bool:
    """Whether a choice can have an effect on the answer to a problem, or on its budget, whatever else is chosen."""
    chosen = getattr(convention, name)
    if chosen == getattr(DEFINITION, name):
        return False
    if name.startswith("gradient_"):
        return quantity == "gradient"
    applies = _EFFECTIVE.get(name)
    return applies is None or applies(chosen, problem)


_EFFECTIVE: dict[str, Callable[[Any, Problem], bool]] = {
    "mean_divides_by": lambda chosen, problem: problem.reduction == "mean",
    "clip": lambda chosen, problem: problem.input_kind == "probabilities",
    "renormalise": lambda chosen, problem: problem.input_kind == "probabilities" and problem.loss == "categorical",
    "log_floor": lambda chosen, problem: problem.input_kind != "logits",
    "cancellation": lambda chosen, problem: problem.input_kind == "logits",
    "binary_outputs": lambda chosen, problem: problem.loss == "binary",
    "default_ignore_index": lambda chosen, problem: (
        problem.target == "index" and bool(np.any(problem.labels == chosen))
    ),
    "out_of_range": lambda chosen, problem: "label_out_of_range" in examine(problem),
    "empty_batch": lambda chosen, problem: "empty_batch" in examine(problem),
    "accepts": lambda chosen, problem: bool(chosen & examine(problem)),
}
"""Whether what is chosen for a field of a convention can have an effect on a problem; other fields always can."""


def conversion_of(asked: Problem, handed: Problem, change: Change, function: Function, part: Convention) -> Conversion:
    """What a conversion of predictions hands over, and what that changes.

    part: of the convention that the function documents, under which the answers of `change` are.
    """
    effects = change.effects
    renormalised, rounded_away = "renormalised" in effects, "rounded_away" in effects
    return Conversion(
        effects,
        NAMES[asked.loss, asked.input_kind, handed.input_kind],
        asked.input_kind,
        tuple(function.takes),
        asked.dtype,
        change.subject or ("definition" if part == DEFINITION else "documentation"),
        _worst_row(asked, part) if renormalised else None,
        _move(change.before, change.unrounded) if renormalised else None,
        destroyed(asked, handed, part) if rounded_away else (),
        _move(change.unrounded, change.after) if rounded_away else None,
        tuple(sorted(examine(handed) - examine(asked))) if "refused" in effects else (),
    )


def _worst_row(problem: Problem, part: Convention) -> RowSum:
    """The row whose sum is furthest from 1 among those that count."""
    sums = row_sums(problem).ravel()
    counting = sums if refused(problem, part) else sums[flatten(problem, part).kept]
    exponentials = problem.input_kind == "log_probabilities"
    if not counting.size:
        return RowSum(None, True, exponentials)
    with np.errstate(all="ignore"):
        off = np.abs(np.log(counting))
    worst = float(counting[int(np.argmax(np.where(np.isnan(off), -1.0, off)))])
    return RowSum(worst, counting.size > 1, exponentials)


def _move(before: Answer, after: Answer) -> Move:
    """How a conversion moves an answer, at the element that it moves most."""
    if not isinstance(before, Exact) or not isinstance(after, Exact):
        return Move(undefined=after.why if isinstance(after, Undefined) and isinstance(before, Exact) else "")
    if before.hi.shape != after.hi.shape or not before.hi.size:
        return Move()
    off = np.abs(subtract(before.hi, after.hi))
    where = tuple(int(i) for i in np.unravel_index(int(np.argmax(off)), off.shape))
    return Move(float(before.hi[where]), float(after.hi[where]), where)


def alternative_to(
    asked: Problem,
    handed: Problem,
    change: Change,
    functions: Sequence[tuple[Function, Convention]],
    right: Sequence[Answer],
    exact: Oracle,
) -> Alternative:
    """What users do instead of converting predictions, from what the functions of the framework declare.

    functions: those that can be asked the problem, each with what it documents.  right: the answers that are
    right without a conversion; a function is named only if by what it documents it has one of these.
    """
    for kind in unchanging(asked, handed.input_kind):
        for function, convention in functions:
            if kind not in function.takes or refused(asked, convention):
                continue
            answer = _unrounded(asked, semantic(convention), kind, exact)
            tolerance = error_bound.tolerance(asked, convention)
            if any(_same(one, answer, tolerance, asked.dtype) for one in right if isinstance(one, Exact)):
                return Alternative(function.name, kind)
    if "renormalised" in change.effects and isinstance(change.unrounded, Exact):
        return Alternative(
            remedy="subtract_log_sum_exp" if asked.input_kind == "log_probabilities" else "divide_by_sum"
        )
    return Alternative(remedy="" if asked.dtype == "float64" else "float64")


def symptoms_without_value(outcome: Outcome) -> frozenset[str]:
    """The symptom of an outcome that is no value."""
    match outcome:
        case Crashed(how):
            return ProcessDied(how).symptoms
        case TimedOut(seconds):
            return NoAnswerInTime(seconds).symptoms
        case Raised():
            return RaisedException(outcome).symptoms
        case NonNumeric(what):
            return NoNumber(what, array=False).symptoms
        case _:
            return frozenset()


def symptoms_of_value(outcome: Returned, due: Sequence[tuple[Exact, Floats]], dtype: str) -> frozenset[str]:
    """The symptoms of a returned value that is wrong.

    due: the right answers, what the function documents before the definition, each with its budget; an element is
    wrong where it is none of them.  Without any, an exception was due.
    """
    if not due:
        return frozenset({"accepted_invalid"})
    got = outcome.value
    alike = [(exact, tolerance) for exact, tolerance in due if exact.hi.shape == got.shape]
    if not alike:
        return frozenset({"wrong_shape"})
    masks = [_ratios(got, exact, tolerance, outcome.dtype or dtype)[1] > 1 for exact, tolerance in alike]
    wrong = np.logical_and.reduce(masks)
    pairs = zip(
        got[wrong if wrong.any() else masks[0]], alike[0][0].hi[wrong if wrong.any() else masks[0]], strict=True
    )
    return frozenset(symptom_of_number(float(number), float(right)) for number, right in pairs)


def symptom_of_number(got: float, want: float) -> str:
    """In which way a number that is not `want` is wrong."""
    if np.isnan(got):
        return "nan"
    if np.isnan(want):
        return "not_nan"
    if np.isinf(got):
        return "inf" if got > 0 else "minus_inf"
    if got == 0:
        return "zero"
    if np.isfinite(want) and abs(got - want) <= IMPRECISE * abs(want):
        return "imprecise"
    return "too_small" if got < want else "too_large"


def _ratios(got: Floats, want: Exact, tolerance: Floats, returned: str) -> tuple[Floats, Floats, Floats]:
    """Error, error / tolerance and tolerance of each element; arrays of one shape."""
    hi, lo = want.hi, want.lo
    largest = dtype_info(returned).largest
    limit = tolerance + np.zeros(hi.shape)
    with np.errstate(all="ignore"):
        error = np.abs((got - hi) - lo)
        special = ~np.isfinite(got) | ~np.isfinite(hi)
        if np.any(special):
            overflow = np.isinf(got) & (np.abs(hi) + limit > largest) & (np.sign(got) == np.sign(hi))
            same = equal_with_nan(got, hi) | overflow
            error = np.where(special, np.where(same, 0.0, np.inf), error)
        if want.unconstrained is not None:
            error = np.where(want.unconstrained, 0.0, error)
        ratio = np.where(error == 0, 0.0, error / limit)
    return error, ratio, limit


def compare(got: Floats, want: Exact, tolerance: Floats, dtype: str, returned: str = "") -> Comparison:
    """Hold a returned array against an exact answer, elementwise; see `Comparison`.

    dtype: of the problem, in whose units ulps are counted.  returned: dtype of the result, where it is
    another: what lies beyond its largest number is rightly returned as infinity.  -0.0 equals 0.0.
    """
    if got.shape != want.hi.shape:
        return Comparison(WrongShape(got=got.shape, want=want.hi.shape), error_ratio=np.inf)
    if got.size == 0:
        return Comparison(None)
    if (
        got.ndim == 0
        and tolerance.ndim == 0
        and want.unconstrained is None
        and (found := _compare_numbers(got, want, tolerance, dtype))
    ):
        return found
    hi = want.hi
    error, ratio, limit = _ratios(got, want, tolerance, returned or dtype)
    where = tuple(int(i) for i in np.unravel_index(int(np.argmax(ratio)), error.shape)) if error.ndim else ()
    worst = float(ratio[where])
    reason: WrongValue | NotFinite | None = None
    if worst > 1:
        if np.isinf(error[where]):
            reason = NotFinite(got=float(got[where]), want=float(hi[where]), where=where)
        else:
            reason = WrongValue(ratio=worst, where=where)
    with np.errstate(all="ignore"):
        near = float(hi[where]) if np.isfinite(got[where]) and np.isfinite(hi[where]) else 1.0
        ulps = float(error[where]) / float(ulp(near, numpy_dtype(dtype)))
    return Comparison(reason, where, float(error[where]), float(limit[where]), worst, ulps)


def _compare_numbers(got: Floats, want: Exact, tolerance: Floats, dtype: str) -> Comparison | None:
    """`compare` for one finite number where one is due, in a fraction of the time; None where it is not that plain."""
    number, hi, limit = float(got), float(want.hi), float(tolerance)
    error = abs((number - hi) - float(want.lo))
    if not (math.isfinite(number) and math.isfinite(hi) and math.isfinite(error)):
        return None
    ratio = 0.0 if error == 0 else error / limit if limit else math.inf
    reason = WrongValue(ratio=ratio, where=()) if ratio > 1 else None
    with np.errstate(all="ignore"):
        return Comparison(reason, (), error, limit, ratio, error / float(ulp(hi, numpy_dtype(dtype))))


def _must_raise(expect: Expectation, want: Answer) -> str:
    """The kind of invalid input for which an exception is the only right answer; "" if there is none."""
    if isinstance(expect, MustRaise):
        return expect.kind
    return want.kinds[0] if isinstance(want, Invalid) and not isinstance(expect, NoRightAnswer) else ""


def _usable(limit: Floats, problem: Problem) -> Floats | None:
    shape = problem.sample_shape if problem.reduction == "none" else ()
    return limit if limit.shape == shape and bool(np.all(limit > 0)) else None


def answer_by(problem: Problem, convention: Convention, quantity: Quantity, exact: Oracle) -> Answer:
    """What is due of a problem under a convention, whatever that says about rounding; raises ArithmeticError."""
    loss = exact.answer(problem, semantic(convention))
    return gradient.answer(problem, _of_gradient(convention), loss, exact) if quantity == "gradient" else loss


@functools.cache
def computed(part: Convention, documented: Convention) -> Convention:
    """A part of a convention, with the roundings of how the function documents to compute."""
    renormalise = documented.renormalise if part.renormalise == "no" else part.renormalise
    return dataclasses.replace(part, renormalise=renormalise, accepts=part.accepts | documented.accepts)


@functools.cache
def semantic(convention: Convention) -> Convention:
    """A convention without what changes no loss: how it rounds, what it refuses, what its gradient is."""
    return dataclasses.replace(_of_gradient(convention), gradient_floor=None, gradient_total="targets")


@functools.cache
def _of_gradient(convention: Convention) -> Convention:
    return dataclasses.replace(convention, cancellation="none", gradient_cancellation="none", rejects=frozenset())


@functools.cache
def _judged_fields(quantity: Quantity) -> tuple[str, ...]:
    unjudged = UNJUDGED if quantity == "gradient" else (*UNJUDGED, *OF_GRADIENT)
    return tuple(f.name for f in dataclasses.fields(Convention) if f.name not in unjudged)


def _neighbours(documented: Convention, conventions: Sequence[Convention], quantity: Quantity) -> Iterator[Convention]:
    """Known conventions to try, nearest first: one field changed, then whole ones."""
    known: dict[str, list[Any]] = {name: [] for name in _judged_fields(quantity)}
    hints = typing.get_type_hints(Convention)
    for name, values in known.items():
        options = [getattr(c, name) for c in (DEFINITION, *conventions)]
        options += [v for v in typing.get_args(hints[name]) if isinstance(v, str)]
        values += [v for v in dict.fromkeys(options) if v != getattr(documented, name)]
    for name, values in known.items():
        for value in values:
            yield dataclasses.replace(documented, **{name: value})
    yield from dict.fromkeys(c for c in (DEFINITION, *conventions) if c != documented)


def want_of(answer: Answer) -> Any:
    """An answer as builtin values: nested floats, or a word that says why there are none."""
    match answer:
        case Exact(hi, _, _):
            return hi.tolist()
        case Undefined(why):
            return f"undefined: {why}"
        case Invalid(kinds):
            return f"error: {', '.join(kinds)}"
        case _:
            assert_never(answer)


__all__ = [
    "FAILING",
    "STATUSES",
    "Comparison",
    "Status",
    "Verdict",
    "answer_by",
    "compare",
    "judge",
    "oracle",
    "symptom_of_number",
    "symptoms_of_value",
    "symptoms_without_value",
    "want_of",
]

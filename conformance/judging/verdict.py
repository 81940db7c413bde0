"""Judge an outcome by the exact answer: the verdict on one function for one problem.

`judge` is a pure function of its arguments.  It compares shape and dtype before values, and nan and infinities as
masks.  A difference from the definition is either explained by the function's documented convention, by substituting
it into the definition with the same budget, or it is a disagreement.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, assert_never

import numpy as np
import numpy.typing as npt

from conformance.adapters.contract import Function
from conformance.judging.compare import Comparison, compare, may_be_right, symptoms_of_value
from conformance.judging.conversions import ConversionEffect, alternative_to, change_of, conversion_of, same_answer
from conformance.judging.effects import (
    answer_by,
    averages_nothing,
    combined,
    effective_neighbours,
    has_effect,
    judged_fields,
    loss_choices,
    tolerance_by,
    with_numeric_choices,
)
from conformance.judging.reasons import (
    AcceptedInvalid,
    CannotExpress,
    Choices,
    Conversion,
    Converted,
    DocumentedDivergence,
    DocumentedRejection,
    InfiniteWeightOnRoundedZero,
    Mismatch,
    MutatedArgument,
    NoAnswerInTime,
    NoNumber,
    NotCalled,
    ProcessDied,
    RaisedException,
    Reason,
    RejectedInvalid,
    UndefinedAnswer,
    UndocumentedConvention,
    WrongDtype,
)
from conformance.model.case import Expectation, MustRaise, NoRightAnswer, Problem, Quantity, is_derivative
from conformance.model.convention import DEFINITION, EDGE, Convention, describe
from conformance.model.floats import Floats
from conformance.model.outcome import Crashed, NonNumeric, Outcome, Raised, Returned, TimedOut, Unsupported
from conformance.reference.conversion import WEIGHT_DESCRIPTIONS
from conformance.reference.domain import examine, infinitely_weighted
from conformance.reference.enclosure import MAX_RADIUS_TO_TOLERANCE
from conformance.reference.flat_problem import rejected_anomalies
from conformance.reference.oracle import Answer, Exact, Invalid, Oracle, Undefined

Status = Literal["agrees", "diverges", "disagrees", "crashed", "timed_out", "undefined", "unsupported"]
STATUSES: tuple[Status, ...] = typing.get_args(Status)
FAILING: frozenset[str] = frozenset({"disagrees", "crashed", "timed_out"})
FAILING_ROWS: frozenset[str] = frozenset({"unexpected", "stale"})
"""Values of the column `expected` that make a run fail."""
MAX_SEARCHED = 20_000
"""Maximum number of predictions for which undocumented conventions are searched for an explanation."""


def expected_status(status: str, known: bool) -> str:
    """`ok`, `known` (the ledger has the row), `unexpected`, or `stale` (the ledger has it, but it is not wrong).

    known: whether an entry of the ledger matches the row.
    """
    if status in FAILING:
        return "known" if known else "unexpected"
    return "stale" if known else "ok"


@dataclass(frozen=True, eq=False)
class Verdict:
    """The verdict on one call of a function."""

    status: Status
    """One of `STATUSES`."""
    outcome: Outcome
    """The outcome of the call."""
    want: Answer
    """The answer by the definition."""
    reason: Reason | None
    """Why the verdict has its status; None for a plain `agrees`."""
    comparison: Comparison | None = None
    """Comparison with the answer that the status rests on; None if nothing was compared."""
    want_by_convention: Exact | None = None
    """The answer by the fewest documented choices that explain the outcome; None if none is needed."""
    tolerance: Floats = field(default_factory=lambda: np.zeros(()))
    """Largest absolute error of a correct answer, shaped as the answer."""
    weights: str = ""
    """Entry of `reference.conversion.WEIGHT_DESCRIPTIONS`, if weights were converted."""

    @property
    def choices(self) -> Choices:
        """The documented choices that explain the outcome; empty if none do, or none are needed."""
        return self.reason.choices if isinstance(self.reason, DocumentedDivergence | DocumentedRejection) else ()

    @property
    def convention(self) -> str:
        """The choices as text."""
        return describe(dict(self.choices))

    @property
    def conversion(self) -> Conversion | None:
        """The conversion of the predictions, if its effect is a cause."""
        return getattr(self.reason, "conversion", None)

    @property
    def effects(self) -> str:
        """The effects of that conversion, each an `Effect`, joined by `; `."""
        return "; ".join(self.conversion.effects) if self.conversion is not None else ""

    @property
    def explanation(self) -> str:
        """The reason as a sentence."""
        weights = [f"conversion: {WEIGHT_DESCRIPTIONS[self.weights]}"] if self.weights else []
        return "" if self.reason is None else "; ".join([*weights, str(self.reason)])

    @property
    def symptoms(self) -> frozenset[str]:
        """The symptoms of a wrong outcome, as in the ledger's `symptoms`; empty unless the status is a failing one.

        nan, inf, minus_inf, zero, imprecise, too_small, too_large, not_nan, accepted_invalid, wrong_shape, wrong_dtype,
        no_number, mutated_argument, crashed, timed_out, or `raised` and the name of the exception.
        """
        return self.reason.symptoms if self.reason is not None else frozenset()


def judge(
    problem: Problem,
    converted: Problem,
    expect: Expectation,
    function: Function,
    documented: Convention,
    outcome: Outcome,
    oracle: Oracle,
    conventions: Sequence[Convention] = (),
    quantity: Quantity = "loss",
    alternatives: Iterable[tuple[Function, Convention]] = (),
) -> Verdict:
    """Return the verdict on an outcome of `function`.

    problem: problem of the case.  converted: the problem passed to the function, with converted predictions; the same
    object if the function accepts them unchanged.  documented: the function's convention in the executed version.
    conventions: all known conventions, searched if no documented choice explains the outcome.  quantity: the computed
    quantity.  alternatives: the functions of the same framework, each with its documented convention for `problem`;
    only used if predictions were converted and that changes the answer.
    """
    judgement = _Judgement(problem, converted, function, documented, oracle, quantity, alternatives)
    want = judgement.definition()
    match outcome:
        case Crashed(how, stderr):
            return Verdict("crashed", outcome, want, ProcessDied(how, stderr))
        case TimedOut(seconds, earlier):
            late = NotCalled(seconds, earlier) if earlier else NoAnswerInTime(seconds)
            return Verdict("timed_out", outcome, want, late)
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
    """Return (status, outcome, the definition's answer, reason)."""
    raised = dataclasses.replace(outcome, warnings=())
    if kind := _must_raise(expect, want):
        return "agrees", outcome, want, RejectedInvalid(kind)
    if isinstance(expect, NoRightAnswer):
        return "undefined", outcome, want, UndefinedAnswer(expect.why, "case", raised)
    if isinstance(want, Undefined):
        return "undefined", outcome, want, UndefinedAnswer(want.why, "definition", raised)
    rejected = examine(judgement.converted) & judgement.documented.rejects
    if not rejected:
        return "disagrees", outcome, want, RaisedException(raised)
    conversion = None
    if judgement.is_converted and not rejected & examine(judgement.problem):
        conversion = judgement.conversion(ConversionEffect(("refused",), want, want, want), DEFINITION)
    return "diverges", outcome, want, DocumentedRejection((("rejects", rejected),), raised, conversion)


def _judge_returned(
    judgement: _Judgement,
    expect: Expectation,
    want: Answer,
    outcome: Returned,
    function: Function,
    conventions: Sequence[Convention],
) -> Verdict:
    problem = judgement.converted
    if outcome.mutated:
        return Verdict("disagrees", outcome, want, MutatedArgument(outcome.mutated))
    if not function.may_return(outcome.dtype, problem, judgement.quantity):
        dtype = function.result_dtype_for(problem, judgement.quantity)
        return Verdict("disagrees", outcome, want, WrongDtype(outcome.dtype, dtype))
    if isinstance(expect, NoRightAnswer):
        return Verdict("undefined", outcome, want, UndefinedAnswer(expect.why, "case"))
    if isinstance(want, Undefined):
        return Verdict("undefined", outcome, want, UndefinedAnswer(want.why, "definition"))
    tolerance = judgement.tolerance()
    by_definition = None
    must_raise = _must_raise(expect, want)
    if isinstance(want, Exact) and not must_raise:
        by_definition = compare(outcome.value, want, tolerance, problem.dtype, outcome.dtype)
        if by_definition.within:
            return Verdict("agrees", outcome, want, None, by_definition, tolerance=tolerance)
    if verdict := _documented_verdict(judgement, want, outcome, must_raise):
        return verdict
    return _unexplained_verdict(judgement, want, outcome, must_raise, by_definition, conventions)


def _documented_verdict(judgement: _Judgement, want: Answer, outcome: Returned, must_raise: str) -> Verdict | None:
    """The verdict on a value that the documented convention explains; None if it does not."""
    if explained := judgement.explained(outcome, must_raise):
        names, answer, comparison, tolerance = explained
        choices, part = judgement.named(names), judgement.part(names)
        change = judgement.conversion_needed(outcome, part)
        conversion = judgement.conversion(change, part) if change else None
        if choices or conversion is None:
            reason: Reason = DocumentedDivergence(choices, conversion)
        else:
            reason = Converted(conversion)
        return Verdict("diverges", outcome, want, reason, comparison, answer, tolerance)
    if why := judgement.undefined_as_documented(must_raise):
        change = judgement.change()
        conversion = None
        if change is not None and not isinstance(change.before, Undefined):
            conversion = judgement.conversion(change, judgement.part(judgement.effective))
        return Verdict("undefined", outcome, want, UndefinedAnswer(why, "documentation", conversion=conversion))
    if judgement.has_infinite_weight_on_rounded_zero(outcome, must_raise):
        return Verdict("undefined", outcome, want, InfiniteWeightOnRoundedZero())
    return None


def _unexplained_verdict(
    judgement: _Judgement,
    want: Answer,
    outcome: Returned,
    must_raise: str,
    by_definition: Comparison | None,
    conventions: Sequence[Convention],
) -> Verdict:
    """The verdict on a wrong value.  by_definition: comparison with the definition's answer, if that is a number."""
    problem = judgement.converted
    by_convention, nearer = judgement.documented_comparison(outcome)
    mismatch: Mismatch | None = by_definition.reason if by_definition is not None else None
    if nearer is not None and nearer.reason is not None and (by_definition is None or by_definition.misshapen):
        # The documented shape differs from the definition's, so the result is compared with the documented answer.
        mismatch, by_definition = dataclasses.replace(nearer.reason, by_documentation=True), nearer
    if mismatch is None:
        mismatch = AcceptedInvalid(kind=must_raise)
    tolerance = judgement.tolerance()
    change = judgement.change()
    conversion = None
    if change is not None and change.effects != ("rounded",):
        conversion = judgement.conversion(change, judgement.part(judgement.effective))
    definition = None if must_raise or not isinstance(want, Exact) else (want, tolerance)
    documented = None if by_convention is None else (by_convention, judgement.tolerance(judgement.documented))
    answers = [answer for answer in (documented, definition) if answer is not None]
    explained = dataclasses.replace(
        mismatch,
        elements=symptoms_of_value(outcome, answers, problem.dtype),
        conversion=conversion,
        candidate=judgement.candidate(outcome, conventions),
    )
    return Verdict("disagrees", outcome, want, explained, by_definition, by_convention, tolerance)


class _Judgement:
    """Cached answers and tolerances of one judgement, under parts of the documented convention."""

    def __init__(
        self,
        problem: Problem,
        converted: Problem,
        function: Function,
        documented: Convention,
        oracle: Oracle,
        quantity: Quantity,
        alternatives: Iterable[tuple[Function, Convention]],
    ) -> None:
        self.problem, self.converted, self.documented, self.oracle = problem, converted, documented, oracle
        self.unconverted = problem  # with the weights as passed to the function
        if converted.options is not problem.options:
            self.unconverted = dataclasses.replace(problem, options=converted.options)
        self.function, self.alternatives, self.quantity = function, alternatives, quantity
        self.is_converted = problem.input_kind != converted.input_kind

    @functools.cached_property
    def choices(self) -> tuple[str, ...]:
        """The documented choices that may be a cause."""
        judged = judged_fields(self.quantity)
        return tuple(name for name in self.documented.choices() if name in judged)

    def has_axes(self) -> bool:
        """Whether an array is expected and not a scalar."""
        return is_derivative(self.quantity) or self.converted.reduction == "none"

    def tolerance(self, part: Convention = DEFINITION) -> Floats:
        """The tolerance of an answer under `part`, with the rounding errors that the documented convention implies."""
        return self._tolerance(self.converted, part, self.quantity)

    def _tolerance(self, problem: Problem, part: Convention, quantity: Quantity) -> Floats:
        unconverted = self.unconverted if self.is_converted else None
        return tolerance_by(problem, with_numeric_choices(part, self.documented), quantity, unconverted)

    def answer(self, convention: Convention) -> Answer:
        """The expected answer to the converted problem; raises ArithmeticError."""
        return answer_by(self.converted, convention, self.quantity, self.oracle)

    def definition(self) -> Answer:
        if self.quantity != "loss":
            return self.answer(DEFINITION)
        limit = self.tolerance() * MAX_RADIUS_TO_TOLERANCE
        try:
            return self.oracle.answer(self.problem, DEFINITION, _positive_or_none(limit, self.problem))
        except ArithmeticError:
            return self.oracle.answer(self.problem, DEFINITION)

    def explained(self, outcome: Returned, must_raise: str) -> tuple[tuple[str, ...], Exact, Comparison, Floats] | None:
        """The smallest part of the documented convention under which the outcome is right.

        Among parts of one size, the one with the most choices without which the whole convention does not explain it.
        """
        if self._must_reject(must_raise):
            return None
        full = self._answer_if_correct(outcome, self.documented)
        if full is None:
            return None
        names = self.effective
        for size in range(0 if self.is_converted else 1, len(names)):
            parts = [
                (part, *correct)
                for part in itertools.combinations(names, size)
                if (correct := self._answer_if_correct(outcome, self.part(part)))
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
        return tuple(name for name in self.choices if has_effect(name, self.documented, self.converted, self.quantity))

    def part(self, names: tuple[str, ...]) -> Convention:
        """A part of the documented convention, together with its choice for a mean of nothing."""
        return self.documented.restricted_to((*names, "empty_mean") if self._averages_nothing else names)

    @functools.cached_property
    def _averages_nothing(self) -> bool:
        return self.documented.empty_mean is not None and averages_nothing(self.documented, self.converted)

    def _needs(self, outcome: Returned, name: str) -> bool:
        """Whether the documented convention explains an outcome only with this choice."""
        without = dataclasses.replace(self.documented, **{name: getattr(DEFINITION, name)})
        return self._answer_if_correct(outcome, without) is None

    def undefined_as_documented(self, must_raise: str) -> str:
        """Why the documented convention has no answer; "" if it has one."""
        if self._must_reject(must_raise):
            return ""
        try:
            answer = self.answer(self.documented)
        except ArithmeticError:
            return ""
        return answer.why if isinstance(answer, Undefined) else ""

    def has_infinite_weight_on_rounded_zero(self, outcome: Returned, must_raise: str) -> bool:
        """Whether the only fault is infinity times a loss that is no larger than its own rounding error.

        The loss may have been rounded to 0 or to the other sign; any result that is not finite is then as right.
        """
        if must_raise or is_derivative(self.quantity):
            return False
        lost: npt.NDArray[np.bool_] = np.zeros((), dtype=bool)
        for alone, where in infinitely_weighted(self.converted):
            try:
                loss = answer_by(alone, self.documented, "loss", self.oracle)
            except ArithmeticError:
                continue
            if isinstance(loss, Exact):
                small = (np.abs(loss.hi) <= self._tolerance(alone, self.documented, "loss")) & (loss.hi != 0)
                lost = np.asarray(lost | (small & (where if where.ndim == small.ndim else where.any(axis=-1))))
        if not lost.any():
            return False
        lost = lost if self.converted.reduction == "none" else np.asarray(lost.any())
        return any(self._is_right_except_at(outcome, lost, convention) for convention in (DEFINITION, self.documented))

    def _is_right_except_at(self, outcome: Returned, lost: npt.NDArray[np.bool_], convention: Convention) -> bool:
        """Whether an outcome is right under a convention, or not finite wherever `lost` is true."""
        answer, _, tolerance = self._compare_under(outcome, convention)
        if not isinstance(answer, Exact) or answer.hi.shape != outcome.value.shape:
            return False
        unconstrained = dataclasses.replace(answer, unconstrained=lost & ~np.isfinite(outcome.value))
        return compare(outcome.value, unconstrained, tolerance, self.converted.dtype, outcome.dtype).within

    def _must_reject(self, must_raise: str) -> bool:
        """Whether an exception is also right under the documented convention."""
        documented = self.documented
        return bool(must_raise) and bool(
            rejected_anomalies(self.converted, documented) or must_raise in EDGE - documented.accepts
        )

    def named(self, names: tuple[str, ...]) -> Choices:
        """The part of the documented convention that explains an outcome."""
        part = {name: getattr(self.documented, name) for name in names}
        if "accepts" in part:
            part["accepts"] = part["accepts"] & examine(self.converted)
        return tuple(part.items())

    def conversion_needed(self, outcome: Returned, part: Convention) -> ConversionEffect | None:
        """The effect of the conversion of the predictions, if it is a cause of the outcome.

        part: part of the documented convention under which the outcome is right.  If it is so without the conversion,
        too, choices that change nothing there are needed only because of the effect of the conversion on the others.
        """
        if not self.is_converted:
            return None
        tolerance = self.tolerance(part)
        change = change_of(self.unconverted, self.converted, part, self.oracle, tolerance)
        if not set(part.choices()) - {"empty_mean"} or not isinstance(change.before, Exact):
            return change
        if not compare(outcome.value, change.before, tolerance, self.converted.dtype, outcome.dtype).within:
            return change
        needed = part
        for name in (name for name in part.choices() if name != "empty_mean"):
            fewer = dataclasses.replace(needed, **{name: getattr(DEFINITION, name)})
            if loss_choices(fewer) != loss_choices(needed):
                answer = change_of(self.unconverted, self.converted, fewer, self.oracle, self.tolerance(fewer)).before
                needed = (
                    fewer
                    if same_answer(change.before, answer, tolerance * MAX_RADIUS_TO_TOLERANCE, self.converted.dtype)
                    else needed
                )
        if needed == part:
            return None
        lost = change_of(self.unconverted, self.converted, needed, self.oracle, tolerance)
        choices = tuple((name, value) for name, value in needed.choices().items() if name != "empty_mean")
        return None if lost.effects == ("rounded",) else dataclasses.replace(lost, subject=choices or "definition")

    def change(self) -> ConversionEffect | None:
        """The effect of the conversion of the predictions on the answer by the whole documented convention."""
        if not self.is_converted or is_derivative(self.quantity):
            return None
        part = self.part(self.effective)
        return change_of(self.unconverted, self.converted, part, self.oracle, self.tolerance(part))

    def conversion(self, change: ConversionEffect, part: Convention) -> Conversion:
        """A conversion, its effects, and how users of the function avoid it."""
        conversion = conversion_of(self.unconverted, self.converted, change, self.function, part)
        right = (self.definition(), change.before)
        alternative = alternative_to(
            self.unconverted, self.converted, change, tuple(self.alternatives), right, self.oracle
        )
        return dataclasses.replace(conversion, alternative=alternative)

    def candidate(self, outcome: Returned, conventions: Sequence[Convention]) -> UndocumentedConvention:
        """Search for a known convention that explains an outcome that no documented choice explains."""
        if self.converted.predictions.size > MAX_SEARCHED:
            return UndocumentedConvention(searched=False)
        tried = effective_neighbours(self.documented, tuple(conventions), self.converted, self.quantity)
        for convention, known, names in tried:
            if self._answer_if_correct(outcome, convention) is None:
                continue
            parts = itertools.chain.from_iterable(itertools.combinations(names, k) for k in range(1, len(names) + 1))
            part = next(
                p for p in parts if self._answer_if_correct(outcome, combined(self.documented, known, p)) is not None
            )
            changed = {name: getattr(known, name) for name in part}
            if "accepts" in changed:
                changed["accepts"] &= examine(self.converted)
            return UndocumentedConvention(tuple(changed.items()))
        return UndocumentedConvention()

    def documented_comparison(self, outcome: Returned) -> tuple[Exact | None, Comparison | None]:
        """The answer by the whole documented convention, unless it is the definition, and the comparison with it."""
        if not self.choices or rejected_anomalies(self.converted, self.documented):
            return None, None
        answer, comparison, _ = self._compare_under(outcome, self.documented)
        return (answer, comparison) if isinstance(answer, Exact) else (None, None)

    def _answer_if_correct(self, outcome: Returned, convention: Convention) -> tuple[Exact, Comparison, Floats] | None:
        """The answer under a convention, if the outcome is right under it; else None."""
        answer = self._answer_or_none(convention)
        if not isinstance(answer, Exact) or not may_be_right(outcome.value, answer):
            return None
        comparison, tolerance = self._compare_with(outcome, answer, convention)
        return (answer, comparison, tolerance) if comparison.within else None

    def _compare_under(
        self, outcome: Returned, convention: Convention
    ) -> tuple[Answer | None, Comparison | None, Floats]:
        answer = self._answer_or_none(convention)
        if not isinstance(answer, Exact):
            return answer, None, np.zeros(())
        return answer, *self._compare_with(outcome, answer, convention)

    def _answer_or_none(self, convention: Convention) -> Answer | None:
        """The expected answer of the converted problem; None if it cannot be enclosed."""
        try:
            return self.answer(convention)
        except ArithmeticError:
            return None

    def _compare_with(self, outcome: Returned, answer: Exact, convention: Convention) -> tuple[Comparison, Floats]:
        """The comparison of an outcome with the answer under a convention, and its tolerance."""
        tolerance = self.tolerance(convention)
        return compare(outcome.value, answer, tolerance, self.converted.dtype, outcome.dtype), tolerance


def _must_raise(expect: Expectation, want: Answer) -> str:
    """The kind of invalid input for which an exception is the only right answer; "" if there is none."""
    if isinstance(expect, MustRaise):
        return expect.kind
    return want.kinds[0] if isinstance(want, Invalid) and not isinstance(expect, NoRightAnswer) else ""


def _positive_or_none(limit: Floats, problem: Problem) -> Floats | None:
    """The largest radii of an enclosure; None unless each is positive and they are shaped as the losses."""
    shape = problem.sample_shape if problem.reduction == "none" else ()
    return limit if limit.shape == shape and bool((limit > 0).all()) else None


def serialize_answer(answer: Answer) -> Any:
    """An answer as builtin values: nested lists of floats, or a word that says why there are none."""
    match answer:
        case Exact(hi, _, _):
            return hi.tolist()
        case Undefined(why):
            return f"undefined: {why}"
        case Invalid(kinds):
            return f"error: {', '.join(kinds)}"
        case _:
            assert_never(answer)

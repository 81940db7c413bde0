"""An outcome held against the exact answer: what the suite says about one function on one problem.

`judge` is a pure function of its arguments.  Shape and dtype are compared before values, nan and
infinities as masks of their own, and a difference from the definition is either explained by the
function's documented convention (by substitution, within the same budget), or it is a disagreement.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, assert_never

import numpy as np
import numpy.typing as npt

from conformance import budget, gradient, gradient_budget, oracle
from conformance.adapter import Function
from conformance.case import Expectation, MustRaise, NoRightAnswer, Problem, Quantity, numpy_dtype
from conformance.convention import DEFINITION, EDGE, Convention, describe
from conformance.domain import examine, infinitely_weighted, numpy_info
from conformance.oracle import Answer, Exact, Invalid, Oracle, Undefined
from conformance.outcome import Crashed, NonNumeric, Outcome, Raised, Returned, TimedOut, Unsupported
from conformance.rows import refused

Status = Literal["agrees", "diverges", "disagrees", "crashed", "timed_out", "undefined", "unsupported"]
STATUSES: tuple[Status, ...] = typing.get_args(Status)
FAILING: frozenset[str] = frozenset({"disagrees", "crashed", "timed_out"})
SHARPER = 2.0**-12
"""How far below the budget the oracle's enclosure has to be."""
SEARCHED = 20_000
"""Predictions beyond which no explanation is searched among conventions that a function does not document."""
UNJUDGED = ("rejects", "empty_mean")
"""Fields of a convention that say nothing about a returned value."""
OF_GRADIENT = ("gradient_cancellation", "gradient_total", "gradient_floor")
"""Fields of a convention that say something about gradients only."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Comparison:
    """A returned value against one exact answer.  Numbers are those of the worst element.

    where: its index, () for a scalar.  ratio: error / allowed, inf where nothing finite could be compared.
    ulps: error in units in the last place of the exact answer, in the dtype of the problem.
    misshapen: there was no element to compare, because the shapes differ.
    """

    within: bool
    why: str = ""
    where: tuple[int, ...] = ()
    error: float = 0.0
    allowed: float = 0.0
    ratio: float = 0.0
    ulps: float = 0.0
    misshapen: bool = False


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is said about one function on one problem.

    want: the definition's answer; want_by_convention: that of the smallest part of the documented
    convention that explains the outcome, where one was needed.  comparison: against the answer that the
    status rests on.  convention: that part, as text.  explanation: one sentence.
    """

    status: Status
    outcome: Outcome
    want: Answer
    comparison: Comparison | None = None
    convention: str = ""
    want_by_convention: Exact | None = None
    explanation: str = ""
    allowed: Floats = field(default_factory=lambda: np.zeros(()))


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
) -> Verdict:
    """The verdict on `outcome`, what `function` did with `handed`.

    asked: the problem of the case; handed: the same after a bridge converted its predictions, if one
    did.  documented: the function's convention in the version that ran.  conventions: all known ones,
    searched for an explanation when nothing documented explains the outcome.  quantity: what was asked for.
    """
    bench = _Bench(asked, handed, documented, exact, quantity)
    want = bench.definition()
    match outcome:
        case Crashed(how, stderr):
            said = f"; it said: {' | '.join(stderr.splitlines())}" if stderr else ""
            return Verdict("crashed", outcome, want, explanation=f"the process {how}{said}")
        case TimedOut(seconds):
            return Verdict("timed_out", outcome, want, explanation=f"no answer within {seconds:g} s")
        case Unsupported(why):
            return Verdict("unsupported", outcome, want, explanation=why)
        case NonNumeric(what, reason):
            due = f"where {'an array of numbers' if bench.has_axes() else 'a number'} is due"
            if kind := _must_raise(expect, want):
                due = f"where it must refuse: {kind}"
            said = f" ({reason})" if reason else ""
            return Verdict("disagrees", outcome, want, explanation=f"returned {what}, {due}{said}")
        case Raised():
            return _judge_raised(bench, expect, want, outcome)
        case Returned():
            return _judge_returned(bench, expect, want, outcome, function, conventions)
        case _:
            assert_never(outcome)


def _judge_raised(bench: _Bench, expect: Expectation, want: Answer, outcome: Raised) -> Verdict:
    said = f"raised {outcome.exception}: {outcome.message}"
    if kind := _must_raise(expect, want):
        return Verdict("agrees", outcome, want, explanation=f"refused, as it must: {kind}")
    if isinstance(expect, NoRightAnswer):
        return Verdict("undefined", outcome, want, explanation=f"{expect.why}; it {said}")
    if isinstance(want, Undefined):
        return Verdict("undefined", outcome, want, explanation=f"{want.why}; it {said}")
    refuses = examine(bench.handed) & bench.documented.rejects
    if refuses:
        choice = describe({"rejects": refuses})
        return Verdict(
            "diverges", outcome, want, convention=choice, explanation=f"it documents that it refuses this; {said}"
        )
    return Verdict("disagrees", outcome, want, explanation=f"it {said}, where there is an answer")


def _judge_returned(
    bench: _Bench,
    expect: Expectation,
    want: Answer,
    outcome: Returned,
    function: Function,
    conventions: Sequence[Convention],
) -> Verdict:
    problem = bench.handed
    if outcome.mutated:
        changed = ", ".join(outcome.mutated)
        return Verdict("disagrees", outcome, want, explanation=f"the call changed its argument {changed} in place")
    same = function.result_dtype == "same" or bench.quantity == "gradient"
    dtype = problem.dtype if same else function.result_dtype
    if outcome.dtype != dtype:
        return Verdict("disagrees", outcome, want, explanation=f"returned {outcome.dtype}, where {dtype} is due")
    if isinstance(expect, NoRightAnswer) or isinstance(want, Undefined):
        why = expect.why if isinstance(expect, NoRightAnswer) else want.why if isinstance(want, Undefined) else ""
        return Verdict("undefined", outcome, want, explanation=why)
    allowed = bench.allowed()
    first = None
    must_raise = _must_raise(expect, want)
    if isinstance(want, Exact) and not must_raise:
        first = compare(outcome.value, want, allowed, problem.dtype, outcome.dtype)
        if first.within:
            return Verdict("agrees", outcome, want, first, allowed=allowed)
    if found := bench.explained(outcome, must_raise):
        names, answer, comparison, allowed = found
        choice = bench.named(names)
        return Verdict(
            "diverges",
            outcome,
            want,
            comparison,
            choice,
            answer,
            f"as documented: {choice}",
            allowed,
        )
    if why := bench.undefined_as_documented(must_raise):
        return Verdict("undefined", outcome, want, explanation=f"by what it documents, {why}")
    if bench.is_lost_in_roundings(outcome, must_raise):
        why = "an infinite weight on a loss that its arithmetic may not tell from 0"
        return Verdict("undefined", outcome, want, explanation=why)
    if must_raise:
        start = f"returned a value, where it must refuse: {must_raise}"
    else:
        start = first.why if first is not None else "returned a value"
    by_convention, nearer = bench.documented_comparison(outcome)
    if nearer is not None and (first is None or first.misshapen):
        # Not the definition's shape, and not meant to be: what is wrong shows against what is documented.
        start, first = f"{nearer.why}, by what it documents", nearer
    guess = bench.guess(outcome, conventions)
    return Verdict("disagrees", outcome, want, first, "", by_convention, f"{start}; {guess}", allowed)


class _Bench:
    """What one judgement evaluates again and again: answers and budgets under parts of a convention."""

    def __init__(
        self, asked: Problem, handed: Problem, documented: Convention, exact: Oracle, quantity: Quantity
    ) -> None:
        self.asked, self.handed, self.documented, self.exact = asked, handed, documented, exact
        self.quantity = quantity
        self.bridged = asked is not handed
        judged = _judged_fields(quantity)
        self.choices = tuple(name for name in documented.choices() if name in judged)

    def has_axes(self) -> bool:
        """Whether what is due is an array, and not one number."""
        return self.quantity == "gradient" or self.handed.reduction == "none"

    def allowed(self, part: Convention = DEFINITION) -> Floats:
        """The budget for an answer under `part`, with the roundings of how the function documents to compute."""
        rounded = computed(part, self.documented)
        if self.quantity == "gradient":
            return gradient_budget.allowed(self.handed, rounded)
        return self._allowed_loss(self.handed, rounded)

    def _allowed_loss(self, problem: Problem, rounded: Convention) -> Floats:
        return budget.allowed(problem, rounded, self.asked if self.bridged else None)

    def answer(self, convention: Convention) -> Answer:
        """What is due of the problem that is handed over; raises ArithmeticError."""
        return answer_by(self.handed, convention, self.quantity, self.exact)

    def definition(self) -> Answer:
        if self.quantity == "gradient":
            return self.answer(DEFINITION)
        limit = self.allowed() * SHARPER
        try:
            return self.exact.answer(self.asked, DEFINITION, _usable(limit, self.asked))
        except ArithmeticError:
            return self.exact.answer(self.asked, DEFINITION)

    def explained(self, outcome: Returned, must_raise: str) -> tuple[tuple[str, ...], Exact, Comparison, Floats] | None:
        """The smallest part of the documented convention under which the outcome is right."""
        if self._refuses(must_raise):
            return None
        full = self._held(outcome, self.documented)
        if full is None:
            return None
        for size in range(len(self.choices)):
            for part in itertools.combinations(self.choices, size):
                if size == 0 and not self.bridged:
                    continue
                if found := self._held(outcome, self.documented.restricted_to(part)):
                    return part, *found
        return self.choices, *full

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
        answer, _, allowed = self._compared(outcome, convention)
        if not isinstance(answer, Exact) or answer.hi.shape != outcome.value.shape:
            return False
        free = dataclasses.replace(answer, free=lost & ~np.isfinite(outcome.value))
        return compare(outcome.value, free, allowed, self.handed.dtype, outcome.dtype).within

    def _refuses(self, must_raise: str) -> bool:
        """Whether an exception is right by what is documented, too."""
        documented = self.documented
        return bool(must_raise) and bool(refused(self.handed, documented) or must_raise in EDGE - documented.accepts)

    def named(self, names: tuple[str, ...]) -> str:
        """The part of the documented convention that explains an outcome, as text; with the bridge if that matters."""
        part = {name: getattr(self.documented, name) for name in names}
        if "accepts" in part:
            part["accepts"] = part["accepts"] & examine(self.handed)
        return describe({"bridge": "conversion", **part} if self._bridge_matters() else part)

    def _bridge_matters(self) -> bool:
        """Whether the definition has another answer once the predictions are converted."""
        if not self.bridged:
            return False
        before, after = self.definition(), self.exact.answer(self.handed, DEFINITION)
        if not isinstance(before, Exact) or not isinstance(after, Exact):
            return type(before) is not type(after)
        return not compare(after.hi, before, self.allowed(), self.handed.dtype).within

    def guess(self, outcome: Returned, conventions: Sequence[Convention]) -> str:
        """Which known convention would explain what nothing documented does."""
        if self.handed.predictions.size > SEARCHED:
            return "the problem is too large to search the known conventions for an explanation"
        for candidate in _neighbours(self.documented, conventions, self.quantity):
            if self._held(outcome, candidate) is not None:
                fields = [
                    f for f in _judged_fields(self.quantity) if getattr(candidate, f) != getattr(self.documented, f)
                ]
                changed = {field: getattr(candidate, field) for field in fields}
                if "accepts" in changed:
                    changed["accepts"] &= examine(self.handed)
                return f"{describe(changed)} would explain it, which is not what it documents"
        return "no known convention explains it"

    def documented_comparison(self, outcome: Returned) -> tuple[Exact | None, Comparison | None]:
        """The answer by all that is documented, where that is more than the definition, and the outcome against it."""
        if not self.choices or refused(self.handed, self.documented):
            return None, None
        answer, comparison, _ = self._compared(outcome, self.documented)
        return (answer, comparison) if isinstance(answer, Exact) else (None, None)

    def _held(self, outcome: Returned, convention: Convention) -> tuple[Exact, Comparison, Floats] | None:
        """The answer under a convention, if the outcome is right under it."""
        answer, comparison, allowed = self._compared(outcome, convention)
        if isinstance(answer, Exact) and comparison is not None and comparison.within:
            return answer, comparison, allowed
        return None

    def _compared(self, outcome: Returned, convention: Convention) -> tuple[Answer | None, Comparison | None, Floats]:
        allowed = self.allowed(convention)
        try:
            answer = self.answer(convention)
        except ArithmeticError:
            return None, None, allowed
        if not isinstance(answer, Exact):
            return answer, None, allowed
        return answer, compare(outcome.value, answer, allowed, self.handed.dtype, outcome.dtype), allowed


def compare(got: Floats, want: Exact, allowed: Floats, dtype: str, returned: str = "") -> Comparison:
    """Hold a returned array against an exact answer, elementwise; see `Comparison`.

    dtype: of the problem, in whose units ulps are counted.  returned: dtype of the result, where it is
    another: what lies beyond its largest number is rightly returned as infinity.  -0.0 equals 0.0.
    """
    if got.shape != want.hi.shape:
        why = f"returned shape {got.shape}, where {want.hi.shape} is due"
        return Comparison(False, why, ratio=np.inf, misshapen=True)
    if got.size == 0:
        return Comparison(True)
    hi, lo = want.hi, want.lo
    largest = numpy_info(returned or dtype)[3]
    limit = allowed + np.zeros(hi.shape)
    with np.errstate(all="ignore"):
        error = np.abs((got - hi) - lo)
        special = ~np.isfinite(got) | ~np.isfinite(hi)
        if np.any(special):
            overflow = np.isinf(got) & (np.abs(hi) + limit > largest) & (np.sign(got) == np.sign(hi))
            same = (np.isnan(got) & np.isnan(hi)) | (got == hi) | overflow
            error = np.where(special, np.where(same, 0.0, np.inf), error)
        if want.free is not None:
            error = np.where(want.free, 0.0, error)
        ratio = np.where(error == 0, 0.0, error / limit)
    where = tuple(int(i) for i in np.unravel_index(int(np.argmax(ratio)), error.shape)) if error.ndim else ()
    worst = float(ratio[where])
    why = ""
    if worst > 1:
        place = f" at {list(where)}" if where else ""
        if np.isinf(error[where]):
            why = f"returned {got[where]!s}{place}, where {hi[where]!s} is due"
        else:
            why = f"off by {worst:.3g} budgets{place}"
    with np.errstate(all="ignore"):
        near = np.float64(1.0) if special[where] else hi[where]
        unit = abs(float(np.spacing(near.astype(numpy_dtype(dtype)))))
        ulps = float(error[where]) / unit
    return Comparison(worst <= 1, why, where, float(error[where]), float(limit[where]), worst, ulps)


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
    return gradient.answer(problem, _of_gradient(convention), loss) if quantity == "gradient" else loss


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
    "want_of",
]

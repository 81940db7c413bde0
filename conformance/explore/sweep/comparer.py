"""Many returned losses held against what is right for them, by the rules of `verdict`, one tally per region.

An input agrees where its error is within the budget of the definition.  Where it is not, it diverges if it is within
budget of all that the function documents; the smallest part of that which suffices is named, input by input.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.adapters.contract import Framework, Function, Rule, described, lowered, perform
from conformance.adapters.registry import Installed, rule_for
from conformance.explore.sweep.counts import Extreme, Tally, add, add_ulps
from conformance.explore.sweep.inputs import NARROW, outside
from conformance.explore.sweep.reference_values import BAND, Answer, Chunk, Family
from conformance.judging.reasons import MutatedArgument, WrongDtype, WrongShape
from conformance.judging.rendering import render
from conformance.judging.verdict import FAILING, Status, Verdict, judge, semantic
from conformance.model.case import Array, ByOracle, Problem, numpy_dtype
from conformance.model.convention import DEFINITION, Convention, describe
from conformance.model.outcome import Outcome, Returned
from conformance.reference import oracle
from conformance.reference.domain import numpy_info
from conformance.reference.flat_problem import rows
from conformance.reference.oracle import Exact, Oracle

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Performer = Callable[..., Outcome]
"""Called as `contract.perform` is."""
Tallies = dict[str, Tally]
"""By region: `positive_tail_label_0`."""

MATTERS = {"logits": ("cancellation",), "probabilities": ("clip", "log_floor", "renormalise"), "log_probabilities": ()}
"""Choices that say something about one row of one or two predictions; the others are about more than one."""
FEW = 8
"""Where fewer than one in so many inputs are looked at again, answers are computed for these alone."""
PATIENCE = 64
"""Calls that are spent on finding out which inputs of a band a function refuses."""


@dataclass(frozen=True, eq=False)
class Subject:
    """One function swept over one family.  labels: those that are asked.  function: as `installed` has it."""

    installed: Installed
    name: str
    family: Family
    labels: tuple[int, ...]

    @property
    def key(self) -> str:
        """`torch.BCELoss|sweep/binary/probabilities|float32`."""
        return f"{self.name}|{self.family.id}|{self.family.dtype}"

    @cached_property
    def function(self) -> Function:
        return next(function for function in self.installed.functions if function.name == self.name)

    @property
    def framework(self) -> Framework:
        return self.installed.framework

    @property
    def one_by_one(self) -> bool:
        """Whether the function reduces whatever it is asked, so that each input is a call."""
        return "none" not in self.function.reductions

    @cached_property
    def documented(self) -> Convention:
        """What the function documents, as far as it concerns one row."""
        return dataclasses.replace(self.rule.convention, binary_outputs="each")

    @cached_property
    def rule(self) -> Rule:
        target = self.function.target_as(self.family.target) or self.family.target
        return rule_for(self.function, self.installed.version, target, self.installed.variant)

    @cached_property
    def parts(self) -> tuple[tuple[str, Convention], ...]:
        """The parts of the documented convention that matter, smallest first, each with its name; the whole is last."""
        choices = [name for name in MATTERS[self.family.given] if name in self.documented.choices()]
        sets = itertools.chain.from_iterable(itertools.combinations(choices, k) for k in range(1, len(choices) + 1))
        return tuple(
            (describe({name: getattr(self.documented, name) for name in chosen}), self.documented.restricted_to(chosen))
            for chosen in sets
        )

    @property
    def flat(self) -> bool:
        return self.family.loss == "binary" and 2 not in self.function.ranks["binary"]

    def problem(self, x: Array, label: Array, targets: Array | None = None) -> Problem:
        """What is handed over for x [n] with labels [n].  targets: of these labels, where they are at hand."""
        return self.family.problem(x, label, "sum" if self.one_by_one else "none", self.flat, targets)

    def shape(self, count: int) -> tuple[int, ...]:
        """Of the losses of `count` inputs, as the function documents them."""
        if self.one_by_one:
            return ()
        return (count, *self._trailing)

    @cached_property
    def _trailing(self) -> tuple[int, ...]:
        zero = np.zeros(1, numpy_dtype(self.family.dtype))
        return rows(self.problem(zero, np.zeros(1, np.int64)), self.rule.convention).shape[1:]

    def returned(self, loss: np.float64, dtype: str) -> Outcome:
        """One loss, in the shape in which it is judged."""
        shape = () if self.one_by_one else (1,) if self.flat or self.family.loss == "categorical" else (1, 1)
        return Returned(np.full(shape, loss), dtype)

    def judged(self, x: Array, label: Array, outcome: Outcome) -> Verdict:
        """The verdict on an outcome for one input x [1] with its label [1]."""
        problem = self.problem(x, label)
        return judge(problem, problem, ByOracle(), self.function, self.documented, outcome, Oracle())


@dataclass(frozen=True, eq=False)
class Losses:
    """One loss per input, as due."""

    values: Floats
    dtype: str


@dataclass(frozen=True)
class Failed:
    """No losses to compare: what is to be said of the inputs, and why."""

    status: Status
    convention: str
    why: str


def ask(
    subject: Subject, x: Array, label: Array, performer: Performer = perform, targets: Array | None = None
) -> Losses | Failed:
    """The losses of x [n] with labels [n], or what is to be said where there are none; raises LoweringError.

    targets: of these labels, where they are at hand.
    """
    if not subject.one_by_one:
        return _held(subject, x, label, _outcome(subject, x, label, performer, targets))
    found = []
    for at in range(len(x)):
        one = (x[at : at + 1], label[at : at + 1])
        held = _held(subject, *one, _outcome(subject, *one, performer))
        if isinstance(held, Failed):
            return held
        found.append(held)
    return Losses(np.concatenate([one.values for one in found]), found[0].dtype)


def _outcome(subject: Subject, x: Array, label: Array, performer: Performer, targets: Array | None = None) -> Outcome:
    problem = subject.problem(x, label, targets)
    return performer(subject.framework, lowered(subject.function, problem), described(subject.function, problem))


def _held(subject: Subject, x: Array, label: Array, outcome: Outcome) -> Losses | Failed:
    """What the form of an outcome says; one that is none to compare is judged as it is for the first input."""
    if not isinstance(outcome, Returned):
        verdict = subject.judged(x[:1], label[:1], outcome)
        return Failed(verdict.status, verdict.convention, verdict.explanation)
    due = subject.family.dtype if subject.function.result_dtype == "same" else subject.function.result_dtype
    shape = subject.shape(len(x))
    if outcome.mutated:
        return Failed("disagrees", "", render(MutatedArgument(outcome.mutated)))
    if outcome.dtype != due:
        return Failed("disagrees", "", render(WrongDtype(outcome.dtype, due)))
    if outcome.value.shape != shape:
        return Failed("disagrees", "", render(WrongShape(got=outcome.value.shape, want=shape)))
    return Losses(outcome.value.reshape(-1), outcome.dtype)


def sweep_chunk(subject: Subject, chunk: Chunk, performer: Performer = perform) -> Tallies:
    """Ask all signs and labels of a chunk at once, and compare."""
    tallies: Tallies = {}
    variants = [(sign, label) for label in subject.labels for sign in subject.family.signs]
    x = np.concatenate([chunk.x(sign) for sign, _ in variants])
    labels, targets = _labels(subject, len(x) // len(subject.labels))
    asked = ask(subject, x, labels, performer, targets)
    for place, (sign, label) in enumerate(variants):
        if isinstance(asked, Losses):
            here = slice(place * len(chunk.patterns), (place + 1) * len(chunk.patterns))
            Comparer(subject, chunk, sign, label, asked.dtype).compare(asked.values[here], tallies)
        else:
            for _, where in chunk.bands:
                part = chunk.at(np.arange(where.start, where.stop))
                _one_half_at_a_time(subject, part, sign, label, performer, tallies, [PATIENCE])
    return tallies


@lru_cache(maxsize=8)
def _labels(subject: Subject, each: int) -> tuple[Array, Array]:
    """The labels of a subject, and their targets; of no other, for a faulty function may change what it is handed."""
    label = np.repeat(np.array(subject.labels), each)
    return label, subject.family.targets(label)


def _one_half_at_a_time(
    subject: Subject, chunk: Chunk, sign: int, label: int, performer: Performer, tallies: Tallies, left: list[int]
) -> None:
    """Compare what can be, and say of the rest why not, after as many calls as there are `left`."""
    count = len(chunk.patterns)
    left[0] -= 1
    asked = ask(subject, chunk.x(sign), np.full(count, label), performer)
    if isinstance(asked, Losses):
        Comparer(subject, chunk, sign, label, asked.dtype).compare(asked.values, tallies)
    elif count == 1 or left[0] <= 0:
        tally = Tally({(asked.status, asked.convention): count})
        if asked.status in FAILING:
            x = float(chunk.x(sign)[0])
            tally.ratio, tally.why = _none(x, int(chunk.patterns[0])), f"{asked.why}, at {x!r}"
        add(tallies, chunk.regions(sign, label)[0], tally)
    else:
        for half in np.array_split(np.arange(count), 2):
            _one_half_at_a_time(subject, chunk.at(half), sign, label, performer, tallies, left)


@dataclass(eq=False)
class _Held:
    """Losses against what their verdicts rest on: errors in budgets and in ulps, and what that is."""

    ratio: Floats
    ulps: Floats
    want: Floats

    @classmethod
    def of(cls, got: Floats, answer: Answer, where: Any) -> _Held:
        """Losses against some of an answer."""
        want = answer.want[where]
        error = got - want
        if answer.low is not None:
            error -= answer.low[where]
        np.abs(error, out=error)
        ratio = error * answer.per_allowed[where]
        error /= _taken(answer.unit, where)
        return cls(ratio, error, want)

    def at(self, where: Indices | npt.NDArray[np.bool_]) -> _Held:
        return _Held(self.ratio[where], self.ulps[where], self.want[where])

    def put(self, where: Indices | npt.NDArray[np.bool_], found: _Held) -> None:
        """Replace some by what was found of them."""
        self.ratio[where], self.ulps[where], self.want[where] = found.ratio, found.ulps, found.want

    def take(self, which: npt.NDArray[np.bool_], found: _Held) -> None:
        """Replace some by what was found of these and others against another answer."""
        if which.all():
            self.ratio, self.ulps, self.want = found.ratio, found.ulps, found.want.copy()
        elif which.any():
            self.put(which, found.at(which))


def _count(which: npt.NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(which))


def _taken(values: Floats, where: Any) -> Floats:
    """Some of the values, where there is more than one for all."""
    return values if len(values) == 1 else np.asarray(values[where])


class Comparer:
    """One sign and label of a chunk, of which losses of some dtype were returned."""

    def __init__(self, subject: Subject, chunk: Chunk, sign: int, label: int, returned: str) -> None:
        self.subject, self.chunk, self.sign, self.label, self.returned = subject, chunk, sign, label, returned

    def compare(self, got: Floats, tallies: Tallies) -> None:
        """Add the losses [n] to the tallies of the chunk's bands."""
        answer = self.chunk.answer(self.sign, self.label, DEFINITION, self.subject.documented)
        bands = self.chunk.bands
        with np.errstate(all="ignore"):
            rounded = np.logical_and.reduceat(got == answer.rounded, [where.start for _, where in bands]).tolist()
            for name, (_, where), alike in zip(self.chunk.regions(self.sign, self.label), bands, rounded, strict=True):
                add(tallies, name, self._rounding(where, answer) if alike else self._band(got[where], where, answer))

    def _rounding(self, here: slice, answer: Answer) -> Tally:
        """What there is to say of a band whose losses are the exact ones, rounded; found once where that agrees."""
        known = answer.roundings.get((here.start, self.sign))
        if known is None:
            known = self._exact(here, answer) or self._band(answer.rounded[here], here, answer)
            if all(status == "agrees" for status, _ in known.said):
                answer.roundings[here.start, self.sign] = known
                answer.roundings[here.start, -self.sign] = known.mirrored()
        return known

    def _exact(self, here: slice, answer: Answer) -> Tally | None:
        """The same where nothing had to be rounded, and no budget is needed; None where something had."""
        if not answer.is_exact(here):
            return None
        first, count = answer.want.item(here.start), here.stop - here.start
        extreme = self._extreme(0.0, here.start, first, first)
        tally = Tally({("agrees", ""): count}, ratio=extreme, ulps=extreme)
        tally.histogram[0] = count
        return tally

    def _band(self, got: Floats, here: slice, answer: Answer) -> Tally:
        """What there is to say of a band's losses [n]."""
        held = _Held.of(got, answer, here)
        tally = Tally()
        worst = held.ratio.argmax()
        if held.ratio[worst] <= 1 - BAND:  # which nan is not
            tally.say("agrees", "", len(got))
        else:
            held.want = held.want.copy()
            self._explain(got, here, answer, held, tally)
            worst = held.ratio.argmax()
        largest = held.ulps.argmax()
        of = ((held.ratio.item(worst), worst), (held.ulps.item(largest), largest))
        tally.ratio, tally.ulps = (
            self._extreme(size, here.start + at, got.item(at), held.want.item(at)) for size, at in of
        )
        add_ulps(tally.histogram, held.ulps, tally.ulps.size)
        return tally

    def _extreme(self, size: float, place: int, got: float, want: float) -> Extreme:
        """The input at a place of the chunk, as the one with the largest of some errors; 0 has no sign."""
        x = float(self.chunk.magnitudes.item(place)) * self.sign
        return Extreme(size, self.chunk.patterns.item(place), x.hex(), got + 0.0, want + 0.0)

    def _explain(self, got: Floats, here: slice, answer: Answer, held: _Held, tally: Tally) -> None:
        """Say which inputs of a band agree, diverge and disagree; what held losses rest on is replaced by what does."""
        doubted = (~(held.ratio <= 1 - BAND)).nonzero()[0]
        places = doubted + here.start
        tally.say("agrees", "", len(got) - len(doubted))
        if len(doubted) == len(got):  # where slices are views, and indices are copies
            self._explain_doubted(got, here, places, answer, held, tally)
        else:
            some = held.at(doubted)
            self._explain_doubted(got[doubted], places, places, answer, some, tally)
            held.put(doubted, some)

    def _explain_doubted(
        self, got: Floats, index: slice | Indices, places: Indices, answer: Answer, held: _Held, tally: Tally
    ) -> None:
        """The same of inputs whose errors are not clearly in budget.  index, places: where they are in the chunk."""
        self._settle(got, index, DEFINITION, answer, held)
        over = ~(held.ratio <= 1)
        left = _count(over)
        tally.say("agrees", "", len(got) - left)
        if left and self.subject.parts:
            name, part = self.subject.parts[-1]
            whole = self._against(got, index, part)
            kept = over & (whole.ratio <= 1)
            held.take(kept, whole)
            tally.say("diverges", name, self._explain_by_less(got, places, kept, held, tally))
            over ^= kept
            left -= _count(kept)
            if left:
                held.take(over & (whole.ratio < held.ratio), whole)
        if left:
            tally.say("disagrees", "", left)
            worst = int(np.where(over, held.ratio, -1).argmax())
            due, x = float(held.want[worst]) + 0.0, float(self.chunk.magnitudes[places[worst]]) * self.sign
            tally.why = f"returned {float(got[worst])!r} for {x!r}, where {due!r} is due"

    def _explain_by_less(
        self, got: Floats, places: Indices, kept: npt.NDArray[np.bool_], held: _Held, tally: Tally
    ) -> int:
        """Say of inputs that all of the documented convention explains which of its parts do; how many want all."""
        if len(self.subject.parts) == 1:
            return _count(kept)
        left = np.flatnonzero(kept)
        for name, part in self.subject.parts[:-1]:
            if not len(left):
                break
            found = self._against(got[left], places[left], part)
            suffices = found.ratio <= 1
            tally.say("diverges", name, _count(suffices))
            held.put(left[suffices], found.at(suffices))
            left = left[~suffices]
        return len(left)

    def _against(self, got: Floats, index: slice | Indices, part: Convention) -> _Held:
        """Losses of some inputs against a part of the documented convention."""
        chunk, where = self.chunk, index
        if self.subject.family.dtype not in NARROW and len(got) * FEW < len(chunk.patterns):
            chunk, where = chunk.at(index), slice(None)
        answer = chunk.answer(self.sign, self.label, part, self.subject.documented)
        held = _Held.of(got, answer, where)
        self._settle(got, index, part, answer, held, where)
        return held

    def _settle(
        self, got: Floats, index: Any, part: Convention, answer: Answer, held: _Held, where: Any = None
    ) -> None:
        """Nan and infinities by the rules of `verdict.compare`, and by the oracle what float64 cannot decide."""
        where = index if where is None else where
        worst = float(held.ratio.max(initial=0.0))
        if not math.isfinite(worst):  # else every loss is a number, and some error is allowed
            special = ~np.isfinite(got) | ~np.isfinite(held.want)
            largest = numpy_info(self.returned)[3]
            beyond = np.isinf(got) & (np.abs(held.want) + answer.allowed[where] > largest)
            same = (np.isnan(got) & np.isnan(held.want)) | (got == held.want)
            same |= beyond & (np.sign(got) == np.sign(held.want))
            for sizes in (held.ratio, held.ulps):
                sizes[special] = np.where(same, 0.0, np.inf)[special]
            held.ratio[np.isnan(held.ratio)] = 0.0  # no error, where none is allowed
        if worst < 1 - BAND:
            return
        near = held.ratio >= 1 - BAND
        near &= held.ratio <= 1 + BAND
        for place in np.flatnonzero(near).tolist():
            at = self.chunk.x(self.sign)[index][place : place + 1]
            exact = certified(self.subject, at, self.label, part)
            error = abs((float(got[place]) - float(exact.hi.item())) - float(exact.lo.item()))
            held.ratio[place] = error / answer.allowed[where][place]
            held.ulps[place] = error / float(_taken(answer.unit, where)[place if len(answer.unit) > 1 else 0])


def certified(subject: Subject, x: Array, label: int, part: Convention) -> Exact:
    """The oracle's answer for one input x [1], under a part of what the function documents."""
    exact = oracle.evaluate(subject.family.problem(x, np.array([label])), semantic(part))
    assert isinstance(exact, Exact), exact
    return exact


def sweep_outside(subject: Subject, performer: Performer = perform) -> Tallies:
    """Ask, by kind, what lies outside the bands, and judge it input by input."""
    tallies: Tallies = defaultdict(Tally)
    for kind, x in outside(subject.family.given, subject.family.dtype).items():
        for label in subject.labels:
            tally = tallies[f"{kind}_label_{label}"]
            labels = np.full(len(x), label)
            asked = ask(subject, x, labels, performer)
            if isinstance(asked, Failed):
                tally.say(asked.status, asked.convention, len(x))
                if asked.status in FAILING:
                    tally.merge(Tally(ratio=_none(float(x[0])), why=asked.why))
                continue
            for place in range(len(x)):
                one = x[place : place + 1]
                verdict = subject.judged(one, labels[:1], subject.returned(asked.values[place], asked.dtype))
                tally.say(verdict.status, verdict.convention, 1)
                if verdict.status in FAILING:
                    got, want = float(asked.values[place]), _want(verdict)
                    worst = Extreme(np.inf, 0, float(one[0]).hex(), got, want)
                    tally.merge(Tally(ratio=worst, why=f"{verdict.explanation}, at {float(one[0])!r}"))
    return tallies


def _none(x: float, pattern: int = 0) -> Extreme:
    """The input of a loss that is none to compare."""
    return Extreme(np.inf, pattern, x.hex(), math.nan, math.nan)


def _want(verdict: Verdict) -> float:
    """The answer that a verdict on one loss rests on; nan where there is none."""
    answer = verdict.want_by_convention or verdict.want
    return float(answer.hi.item()) if isinstance(answer, Exact) else math.nan

"""The exact answer: the definition in ball arithmetic, under any convention, as a certified enclosure.

The inputs of the oracle are those that the function receives, already rounded to the dtype.
Infinite and undefined terms are decided by the definition's rules before any arithmetic: 0 * log 0 = 0,
a nan that counts makes its loss nan, and 0 * inf (a weight of zero on an infinite loss, an infinite weight on a loss
of zero) is undefined.  Terms that do not count are not multiplied: a class with a target of 0, the side of a
binary label with a target of 0, and an ignored sample add nothing to the loss or to the divisor of a mean, for any
weight, including infinity and nan.  A mean that divides by weights whose sum is not finite is undefined, and
so is one that divides by averages of class weights if the targets of a row sum to 0 or less.
"""

from __future__ import annotations

import contextlib
import functools
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from flint import arb, ctx, fmpq

from conformance.model.case import InputKind, Problem, content_digest
from conformance.model.convention import DEFINITION, Convention
from conformance.model.floats import Floats
from conformance.reference.cache import AnswerStore, Cache, default_folder
from conformance.reference.certified import CertifiedAnswers
from conformance.reference.domain import dtype_info
from conformance.reference.flat_problem import (
    FlatProblem,
    absolute_weights,
    averages_class_weights,
    flatten,
    rejected_anomalies,
    roundings_of_divisor,
    shape_of_losses,
    smoothing_of_weight,
    weighs_classes,
    without_logits,
)
from conformance.reference.plausibility import is_enclosure, may_be_loss
from conformance.reference.relevance import ANSWER_FIELDS, relevant

VERSION = "7"
"""Part of every cache key; increased whenever an answer may change."""
PRECISIONS_BITS = (128, 256, 512, 1024, 4096)
CHUNK = 4096
NAN, INF = float("nan"), float("inf")

Term = Any
"""An `arb`, or a Python float that is nan or infinite."""


@dataclass(frozen=True, eq=False)
class Exact:
    """A certified enclosure, elementwise: |exact - (hi + lo)| <= rad.

    All arrays are shaped as the reduced loss, or as the predictions if it is a gradient.
    """

    hi: Floats
    """The exact answer rounded to float64, or nan or an infinity."""
    lo: Floats
    """The remainder."""
    rad: Floats
    """Bound of the error of hi + lo."""
    unconstrained: npt.NDArray[np.bool_] | None = None
    """Mask of elements for which any value is right; None if there are none."""


@dataclass(frozen=True)
class Undefined:
    """There is no right answer."""

    why: str


@dataclass(frozen=True)
class Invalid:
    """The input is outside the domain: an exception is the right answer."""

    kinds: tuple[str, ...]


Answer = Exact | Undefined | Invalid


class NoAnswerError(Exception):
    """Raised during an evaluation if the definition has no value."""


class Oracle:
    """Answers problems, with a cache in memory and optionally another one.

    Losses are cached by content; gradients, which are as large as the predictions, as long as their problem exists.
    """

    def __init__(self, cache: AnswerStore | None = None) -> None:
        self._disk = cache
        self._memory: dict[str, Answer] = {}
        self._gradients: WeakKeyDictionary[Problem, dict[tuple[Convention, str], Answer]] = WeakKeyDictionary()

    def answer(self, problem: Problem, convention: Convention = DEFINITION, max_radius: Floats | None = None) -> Answer:
        """The exact answer to a problem under a convention.

        max_radius: largest radius of the enclosure, shaped as the answer; precision is increased until it is reached.
        None for a relative radius of about 2^-75.
        """
        convention, taken_as = without_logits(problem, convention, None)
        return self._loss(problem, relevant(problem, convention, ANSWER_FIELDS, taken_as), max_radius, taken_as)

    def converted(self, problem: Problem, convention: Convention, taken_as: InputKind) -> Answer:
        """The exact answer if predictions are converted exactly to another kind; see `evaluate`."""
        convention, kind = without_logits(problem, convention, taken_as)
        return self._loss(problem, relevant(problem, convention, ANSWER_FIELDS, kind), None, kind)

    def gradient(self, problem: Problem, convention: Convention, compute: Callable[[], Answer]) -> Answer:
        """The exact gradient under the choices of a convention that affect it; `compute` computes it.

        The cache on disk holds only certified gradients, which are computed in balls for float64 problems.
        """
        cached = self._gradients.setdefault(problem.unreduced, {})
        exact = cached.get((convention, problem.reduction))
        if exact is None and problem.dtype == "float64":
            key = f"{answer_key(problem, convention)}:gradient"
            exact = self._stored(key, lambda answer: answer.hi.shape == problem.predictions.shape)
            if exact is None:
                exact = compute()
                self._store(key, exact)
        cached[convention, problem.reduction] = exact = compute() if exact is None else exact
        return exact

    def _loss(
        self, problem: Problem, convention: Convention, max_radius: Floats | None, taken_as: InputKind | None
    ) -> Answer:
        key = answer_key(problem, convention) + (f":{taken_as}" if taken_as else "")
        cached = self._memory.get(key) or self._stored(
            key,
            lambda answer: answer.unconstrained is None and may_be_loss(problem, convention, answer.hi, taken_as),
        )
        if cached is None or not _is_within_radius(cached, max_radius):
            cached = evaluate(problem, convention, max_radius, taken_as)
            self._store(key, cached)
        self._memory[key] = cached
        return cached

    def _stored(self, key: str, is_possible: Callable[[Exact], bool]) -> Answer | None:
        """The answer in the cache, if it is certified or plausible; `Undefined` is never taken from the cache."""

        def is_sound(value: bytes) -> bool:
            try:
                answer = decode(value)
            except ValueError:
                return False
            return isinstance(answer, Exact) and is_enclosure(answer.hi, answer.lo, answer.rad) and is_possible(answer)

        stored = None if self._disk is None else self._disk.get(key, is_sound)
        return None if stored is None else decode(stored)

    def _store(self, key: str, answer: Answer) -> None:
        if self._disk is not None:
            self._disk.put(key, encode(answer))

    def flush(self) -> None:
        """Write new answers to disk."""
        if self._disk is not None:
            self._disk.flush()


def evaluate(
    problem: Problem,
    convention: Convention = DEFINITION,
    max_radius: Floats | None = None,
    taken_as: InputKind | None = None,
) -> Answer:
    """The exact answer, without caches.  See `Oracle.answer`.

    taken_as: input kind to which the predictions are converted first, without rounding.  As
    `logits`, log p goes through the softmax, which divides it by the sum of its row; as `log_probabilities`, it is
    unchanged; as `probabilities`, it is clipped and renormalised by the convention.
    """
    if kinds := rejected_anomalies(problem, convention):
        return Invalid(tuple(sorted(kinds)))
    answer: Exact | Undefined = Undefined("no precision suffices")
    for precision in PRECISIONS_BITS:
        try:
            shape, terms = enclose(problem, convention, precision, taken_as)
            answer = exact(shape, terms, precision)
        except NoAnswerError as reason:
            return Undefined(str(reason))
        if _is_within_radius(answer, max_radius) and _rounds_to_hi(answer):
            return answer
    if _is_within_radius(answer, max_radius):
        return answer
    raise ArithmeticError(f"{problem.case}: the enclosure stays too wide at {PRECISIONS_BITS[-1]} bits")


def exact_digits(problem: Problem, count: int = 25) -> Any:
    """The exact answer as decimal strings, nested as the answer is shaped; every digit printed is certain.

    An `Undefined` or `Invalid` answer is returned unchanged.
    """
    if kinds := rejected_anomalies(problem, DEFINITION):
        return Invalid(tuple(sorted(kinds)))
    try:
        shape, terms = enclose(problem, DEFINITION, 64 + 8 * count)
    except NoAnswerError as reason:
        return Undefined(str(reason))
    with ctx.workprec(64 + 8 * count):
        flat = [str(t) if isinstance(t, float) else t.str(count, radius=False) for t in terms]
    return np.array(flat, dtype=object).reshape(shape).tolist()


def enclosure(problem: Problem, convention: Convention = DEFINITION, precision: int = 256) -> list[Term]:
    """The answer as balls (or special floats), flat, at a fixed precision; for checks against printed digits."""
    return enclose(problem, convention, precision)[1]


def divisor(problem: Problem, convention: Convention = DEFINITION) -> Fraction | None:
    """The divisor of a problem's mean under a convention, to 256 bits; None if it is not a number."""
    with ctx.workprec(256):
        try:
            value = divided_by(flatten(problem, convention), convention)
        except NoAnswerError:
            return None
    if isinstance(value, float):
        return None
    mantissa, exponent = value.mid().man_exp()
    return int(mantissa) * Fraction(2) ** int(exponent)


def answer_key(problem: Problem, convention: Convention) -> str:
    """The cache key of an answer: the problem's content, the convention, and the oracle's version.

    If the convention keeps the class axis, the key includes that axis, which is not part of the content.
    """
    key = f"{VERSION}:{problem.digest}:{_convention_digest(convention)}"
    return key if convention.unreduced_class_axis == "dropped" else f"{key}:axis {problem.layout.class_axis}"


@functools.cache
def _convention_digest(convention: Convention) -> str:
    return content_digest({"convention": str(convention)})


# Evaluation.


def enclose(
    problem: Problem,
    convention: Convention,
    precision: int,
    taken_as: InputKind | None = None,
    enclose_rows: Callable[[FlatProblem, Convention], Iterator[Term]] | None = None,
) -> tuple[tuple[int, ...], list[Term]]:
    """(shape, terms) of the answer at one precision; raises NoAnswerError if there is none.

    enclose_rows: encloses the loss of each row; `row_losses` if None.
    """
    convention, taken_as = without_logits(problem, convention, taken_as)
    flat = flatten(problem, convention, taken_as)
    with ctx.workprec(precision):
        losses = _unweighted_losses(problem, flat, convention, precision, enclose_rows or row_losses)
        if flat.sample_weights is not None:
            losses = _weighted(losses, flat)
        if problem.reduction == "none":
            return shape_of_losses(problem, flat, convention), list(losses)
        if convention.empty_batch == "unreduced" and flat.shape == (0,):
            return (0,), []
        return (), [reduced(problem, flat, convention, total_of(losses))]


def reduced(problem: Problem, flat: FlatProblem, convention: Convention, total: Term) -> Term:
    """The sum or the mean of losses whose sum is `total`; raises NoAnswerError if there is none."""
    if problem.reduction == "sum":
        return total
    divisor_term = divided_by(flat, convention)
    if isinstance(divisor_term, float):
        raise NoAnswerError("the mean divides by weights whose sum is not finite")
    if _is_divisor_below_its_error(divisor_term, flat, convention):
        raise NoAnswerError("the mean divides by weights of both signs, which cancel but for their roundings")
    if divisor_term.contains(0):
        if convention.empty_mean is not None:
            return NAN if convention.empty_mean == "nan" else arb(0)
        raise NoAnswerError("the mean divides by zero: nothing counts")
    return times(1 / divisor_term, total)


def _unweighted_losses(
    problem: Problem,
    flat: FlatProblem,
    convention: Convention,
    precision: int,
    enclose_rows: Callable[[FlatProblem, Convention], Iterator[Term]],
) -> Iterable[Term]:
    """Losses before sample weights; those of rows are cached in the problem for other reductions."""
    if flat.group == 0:
        return [NAN] * math.prod(flat.shape)
    if flat.group > 1:
        return _grouped(enclose_rows(flat, convention), flat.group)
    relevant_convention = relevant(problem.unreduced, convention, ANSWER_FIELDS, flat.taken_as)
    key = ("losses", relevant_convention, flat.taken_as, precision, enclose_rows)
    return problem.unreduced.computed_once(key, lambda: list(enclose_rows(flat, convention)))


def row_losses(flat: FlatProblem, convention: Convention) -> Iterator[Term]:
    """One loss per row, including class weights and positive weight but not sample weights."""
    equal: dict[Any, Term] = {}  # narrow dtypes have few numbers: 40,000 logits in bfloat16 have 1,949 values
    for start in range(0, len(flat.x), CHUNK):
        chunk = flat.x[start : start + CHUNK].astype(np.float64).tolist()
        for offset, x in enumerate(chunk):
            row = start + offset
            if not flat.kept[row]:
                yield arb(0)
            elif not flat.binary:
                yield row_loss(flat, convention, row, x)
            else:
                output = x, *(float(part[row]) for part in (flat.q, flat.positive_weight) if part is not None)
                if (loss := equal.get(output)) is None:
                    loss = equal[output] = row_loss(flat, convention, row, x)
                yield loss


def row_loss(flat: FlatProblem, convention: Convention, row: int, x: Any) -> Term:
    """The loss of a row that is not ignored, as in `row_losses`.  x: float64 predictions of the row."""
    return (_binary_loss if flat.binary else _categorical_loss)(flat, convention, row, x)


def _categorical_loss(flat: FlatProblem, convention: Convention, row: int, x: list[float]) -> Term:
    classes = len(x)
    label = None if flat.index is None else int(flat.index[row])
    if label is not None and not 0 <= label < classes:
        match convention.out_of_range:
            case "zero":
                return arb(0)
            case "nan":
                return NAN
            case "unspecified":
                raise NoAnswerError("a label names no class, and what its loss is, is unspecified")
        label %= classes
    e = arb(flat.smoothing)
    if label is not None and not flat.smoothing:
        parts = {label: arb(1)}
    else:
        parts = {}
        for c in range(classes):
            q = arb(int(c == label)) if flat.q is None else ball(flat.q[row, c])
            mixed = q if not flat.smoothing else plus(times(1 - e, q), e / classes)
            if isinstance(mixed, float) or not _equals(mixed, 0):
                parts[c] = mixed
    counts_log_sum_exp_once = convention.log_sum_exp == "one" and (flat.taken_as or flat.input_kind) == "logits"
    max_class = x.index(max(x)) if counts_log_sum_exp_once else 0  # whose -log p is the logarithm of the shifted sum
    logs = _minus_logs(flat, convention, row, x, (*parts, max_class) if counts_log_sum_exp_once else tuple(parts))
    if flat.class_weights is not None and not flat.weighs_rows:
        parts = {c: times(ball(flat.class_weights[c]), part) for c, part in parts.items()}
    loss = total_of([times(part, logs[c]) for c, part in parts.items()])
    if counts_log_sum_exp_once:
        loss = plus(loss, times(plus(arb(1), times(arb(-1), total_of(parts.values()))), logs[max_class]))
    return times(_weighted_targets(flat, row, flat.smoothing), loss) if flat.weighs_rows else loss


def _minus_logs(
    flat: FlatProblem, convention: Convention, row: int, x: list[float], picked: Sequence[int]
) -> dict[int, Term]:
    """-log p for the picked classes of one row."""
    if flat.taken_as is not None:
        return _converted_logs(flat, convention, row, x, picked)
    if flat.input_kind == "logits":
        key = row, ctx.prec
        if key not in flat.log_sum_exps:
            if any(map(math.isnan, x)):
                return dict.fromkeys(picked, NAN)
            flat.log_sum_exps[key] = _log_sum_exp(x)
        lse = flat.log_sum_exps[key]
        return {c: INF if x[c] == -INF else lse - arb(x[c]) for c in picked}
    if any(map(math.isnan, x)):
        if any(math.isnan(x[c]) for c in picked):
            return dict.fromkeys(picked, NAN)
        raise NoAnswerError("a prediction is nan in a class that the label does not pick, and may count all the same")
    if flat.input_kind == "log_probabilities":
        return {c: ball(-x[c]) for c in picked}
    needed = picked if convention.renormalise == "no" else range(len(x))
    return _logs_of({c: ball(x[c]) for c in needed}, flat, convention, picked)


def _log_sum_exp(x: list[float]) -> Term:
    """The logarithm of the sum of the exponentials of logits; none of them is nan."""
    top = max(x)
    if math.isinf(top):
        raise NoAnswerError("a logit is +inf, or all of a row are -inf: softmax is inf/inf")
    shift = arb(top)
    return shift + sum(((arb(z) - shift).exp() for z in x if z != -INF), arb(0)).log()


def _logs_of(p: dict[int, Term], flat: FlatProblem, convention: Convention, picked: Sequence[int]) -> dict[int, Term]:
    """-log p for the picked classes of a row of probabilities, which a convention may clip, renormalise and offset."""
    if convention.renormalise == "before_clip":
        p = _normalised(p)
    if flat.clip is not None:
        p = {c: _clipped(value, flat.clip) for c, value in p.items()}
    if convention.renormalise == "after_clip":
        p = _normalised(p)
    return {c: _minus_log(p[c], flat.offset, convention) for c in picked}


def _converted_logs(
    flat: FlatProblem, convention: Convention, row: int, x: list[float], picked: Sequence[int]
) -> dict[int, Term]:
    """-log p for the picked classes of one row whose predictions are converted exactly."""
    unconverted = flat.unconverted
    if flat.taken_as == "log_probabilities":
        return _minus_logs(unconverted, DEFINITION, row, x, picked)
    if any(map(math.isnan, x)):
        return dict.fromkeys(picked, NAN)
    needs_only_picked = flat.taken_as == "probabilities" and convention.renormalise == "no"
    logs = _minus_logs(unconverted, DEFINITION, row, x, picked if needs_only_picked else range(len(x)))
    if any(isinstance(log, float) and math.isnan(log) for log in logs.values()):
        return dict.fromkeys(picked, NAN)
    if flat.taken_as == "probabilities":
        if flat.clip is None and needs_only_picked:
            return {c: _clip_minus_log(logs[c], arb(0), INF, flat.offset, convention) for c in picked}
        p = {c: arb(0) if isinstance(log, float) else (-log).exp() for c, log in logs.items()}
        return _logs_of(p, flat, convention, picked)
    finite = [-log for log in logs.values() if not isinstance(log, float)]
    if not finite or -INF in logs.values():
        raise NoAnswerError("as logits, a log-probability is +inf, or all of a row are -inf: softmax is inf/inf")
    top = max(finite, key=float_of)
    lse = top + sum(((log - top).exp() for log in finite), arb(0)).log()
    return {c: INF if isinstance(logs[c], float) else logs[c] + lse for c in picked}


def _binary_loss(flat: FlatProblem, convention: Convention, row: int, x: float) -> Term:
    assert flat.q is not None
    e = arb(flat.smoothing)
    y = ball(flat.q[row])
    if flat.smoothing:
        y = plus(times(1 - e, y), e / 2)
    if math.isnan(x) or isinstance(y, float):
        return NAN
    terms = []
    if not _equals(y, 0):
        weighted = y if flat.positive_weight is None else times(ball(flat.positive_weight[row]), y)
        terms.append(times(weighted, _binary_minus_log(flat, convention, x, False)))
    if not _equals(y, 1):
        terms.append(times(1 - y, _binary_minus_log(flat, convention, x, True)))
    return total_of(terms)


def _binary_minus_log(flat: FlatProblem, convention: Convention, x: float, complement: bool) -> Term:
    """-log p of one binary output, or -log(1 - p) for `complement`."""
    if flat.taken_as is not None:
        log = _binary_minus_log(flat.unconverted, DEFINITION, x, complement)
        if flat.taken_as != "probabilities":
            return log
        return _clip_minus_log(
            log, *_minus_log_ends(flat.clip or (0.0, 1.0), complement, ctx.prec), flat.offset, convention
        )
    if flat.input_kind == "logits":
        if math.isinf(x):
            return INF if (x > 0) is complement else arb(0)
        z = arb(x)
        tail = (-abs(z)).exp().log1p()
        return tail if (x < 0) is complement else tail + abs(z)
    if flat.input_kind == "log_probabilities":
        if not complement:
            return ball(-x)
        if x == 0:
            return INF
        return arb(0) if math.isinf(x) else -(-arb(x).expm1()).log()
    p = ball(x) if flat.clip is None else _clipped(ball(x), flat.clip)
    return _minus_log(p, flat.offset, convention, complement)


@functools.lru_cache(maxsize=64)
def _minus_log_ends(clip: tuple[float, float], complement: bool, precision: int) -> tuple[Term, Term]:
    """(smaller, larger) -log p, or -log(1 - p) for `complement`, at the ends of a clip.

    precision: bits of `ctx`, as cache key.
    """
    low, high = (1 - arb(clip[1]), 1 - arb(clip[0])) if complement else (arb(clip[0]), arb(clip[1]))
    return _minus_log(high, 0.0, DEFINITION), _minus_log(low, 0.0, DEFINITION)


def _clip_minus_log(log: Term, lower: Term, upper: Term, offset: float, convention: Convention) -> Term:
    """-log p of a probability that is clipped to these ends, offset, and floored by the convention."""
    if isinstance(log, float):
        log = upper if log == INF else log
    else:
        log = log.max(lower) if isinstance(upper, float) else log.max(lower).min(upper)
    if offset and not (isinstance(log, float) and math.isnan(log)):
        p = arb(0) if isinstance(log, float) else (-log).exp()
        log = -(p + arb(offset)).log()
    return _floored(log, convention)


def _minus_log(p: Term, offset: float, convention: Convention, complement: bool = False) -> Term:
    """-log p, or -log(1 - p) for `complement`, with an offset added to the probability and the convention's floor."""
    if isinstance(p, float):
        return NAN
    e = arb(offset)
    if complement:
        value: Term = INF if p == 1 + e else (-(e - p).log1p() if p < 1 + e else NAN)
    else:
        value = INF if p == -e else (-(p + e).log() if p > -e else NAN)
    return _floored(value, convention)


def _floored(minus_log: Term, convention: Convention) -> Term:
    """-log p with the convention's floor applied."""
    if convention.log_floor is None or (isinstance(minus_log, float) and math.isnan(minus_log)):
        return minus_log
    ceiling = arb(-convention.log_floor)
    return ceiling if isinstance(minus_log, float) else minus_log.min(ceiling)


def _clipped(p: Term, clip: tuple[float, float]) -> Term:
    if isinstance(p, float):
        return NAN if math.isnan(p) else arb(clip[p > 0])
    return p.max(arb(clip[0])).min(arb(clip[1]))


def _normalised(p: dict[int, Term]) -> dict[int, Term]:
    total = total_of(p.values())
    if isinstance(total, float):
        return {c: NAN if isinstance(value, float) or math.isnan(total) else arb(0) for c, value in p.items()}
    if total.contains(0):
        return dict.fromkeys(p, NAN)
    return {c: value / total for c, value in p.items()}


def _grouped(losses: Iterator[Term], size: int) -> Iterator[Term]:
    group: list[Term] = []
    for loss in losses:
        group.append(loss)
        if len(group) == size:
            yield times(arb(1) / size, total_of(group))
            group = []


def _weighted(losses: Any, flat: FlatProblem) -> Iterator[Term]:
    assert flat.sample_weights is not None
    weights = flat.sample_weights.tolist()
    terms = list(losses)
    if len(terms) == 1:
        terms *= len(weights)
    for row, (weight, loss) in enumerate(zip(weights, terms, strict=True)):
        ignored = flat.group == 1 and len(flat.kept) == len(terms) and not flat.kept[row]
        yield arb(0) if ignored else times(ball(weight), loss)


def divided_by(flat: FlatProblem, convention: Convention) -> Term:
    """The divisor of the mean; see `Convention.mean_divides_by`.

    nan or infinite if the weights are.  Raises NoAnswerError if a row has no weight, because the targets over
    which its class weights are averaged sum to 0 or less, or if the sum of the weights is inf - inf.
    """
    num_samples = math.prod(flat.shape)
    kept = flat.kept if flat.group == 1 else np.ones(num_samples, dtype=bool)
    choice = convention.mean_divides_by
    if choice == "samples":
        return arb(num_samples)
    if choice == "kept":
        return arb(int(kept.sum()))
    if flat.sample_weights is None and not weighs_classes(flat, convention):
        return arb(int(kept.sum()))
    samples = [arb(1)] * num_samples if flat.sample_weights is None else list(map(ball, flat.sample_weights.tolist()))
    if not weighs_classes(flat, convention):
        return total_of([weight for weight, is_kept in zip(samples, kept, strict=True) if is_kept])
    if flat.index is not None and flat.sample_weights is None:  # rows with the same label have the same weight
        _, rows, counts = np.unique(flat.index[kept], return_index=True, return_counts=True)
        rows = np.flatnonzero(kept)[rows]
        pairs = zip(rows.tolist(), counts.tolist(), strict=True)
        return total_of([times(arb(count), _row_weight(flat, convention, row)) for row, count in pairs])
    return total_of(
        [times(samples[row], _row_weight(flat, convention, row)) for row in range(num_samples) if kept[row]]
    )


def _is_divisor_below_its_error(divisor_term: Term, flat: FlatProblem, convention: Convention) -> bool:
    """Whether weights of both signs cancel to a sum below its own rounding errors in the dtype."""
    if (positive := absolute_weights(flat)) is None:
        return False
    magnitude = divided_by(positive, convention)
    if isinstance(magnitude, float) or abs(divisor_term).overlaps(magnitude):  # all of one sign
        return False
    unit = arb(dtype_info(str(flat.x.dtype)).unit_roundoff)
    return not bool(abs(divisor_term) > roundings_of_divisor(flat, convention) * unit * magnitude)


def _row_weight(flat: FlatProblem, convention: Convention, row: int) -> Term:
    """The weight of a row without its sample weight: sum_c w_c q'_c, divided by sum_c q'_c if it is averaged."""
    smoothing = smoothing_of_weight(flat, convention)
    if not averages_class_weights(flat, convention):
        return _weighted_targets(flat, row, smoothing)
    total = _sum_of_targets(flat, row, smoothing)
    return NAN if isinstance(total, float) else times(1 / total, _weighted_targets(flat, row, smoothing))


def _sum_of_targets(flat: FlatProblem, row: int, smoothing: float) -> Term:
    """sum_c q'_c of one row of targets, nan or infinite if they are; raises NoAnswerError if it is 0 or less.

    The sign is decided exactly: if the working precision does not suffice, with fractions.
    """
    assert flat.q is not None
    targets = flat.q[row].tolist()
    total = plus(times(1 - arb(smoothing), total_of(map(ball, targets))), arb(smoothing))
    if not isinstance(total, float) and not total > 0:
        e = Fraction(smoothing)
        sum_ = (1 - e) * sum(map(Fraction, targets)) + e
        if sum_ <= 0:
            raise NoAnswerError("the targets of a row sum to 0 or less: it has no average of class weights to weigh")
        total = arb(fmpq(sum_.numerator, sum_.denominator))
    return total


def _weighted_targets(flat: FlatProblem, row: int, smoothing: float) -> Term:
    """sum_c w_c q'_c of one row."""
    e = arb(smoothing)
    weights = flat.class_weights
    classes = flat.x.shape[1]
    if flat.index is not None:
        label = int(flat.index[row]) % classes
        own_term: Term = arb(1) if weights is None else ball(weights[label])
    else:
        assert flat.q is not None
        weighted = [(c, ball(q)) for c, q in enumerate(flat.q[row].tolist()) if q != 0]
        own_term = total_of([q if weights is None else times(ball(weights[c]), q) for c, q in weighted])
    if not smoothing:
        return own_term
    total_weight = arb(classes) if weights is None else total_of(list(map(ball, weights.tolist())))
    return plus(times(1 - e, own_term), times(e / classes, total_weight))


# Arithmetic on terms: balls, and floats that are nan or infinite.


def ball(value: float) -> Term:
    """A number as a term."""
    return arb(float(value)) if math.isfinite(value) else float(value)


def _equals(term: Term, value: int) -> bool:
    """Whether a ball is certainly equal to a number; `!=` would test whether it is certainly different."""
    return bool(term == value)


def plus(a: Term, b: Term) -> Term:
    return total_of([a, b])


def times(a: Term, b: Term) -> Term:
    """The product of two terms; raises NoAnswerError for zero times infinity."""
    if not isinstance(a, float) and not isinstance(b, float):
        return a * b
    special, factor = (a, b) if isinstance(a, float) else (b, a)
    if math.isnan(special) or (isinstance(factor, float) and math.isnan(factor)):
        return NAN
    if not isinstance(factor, float) and factor.contains(0):
        raise NoAnswerError("0 * inf: a weight of zero on an infinite loss")
    sign = math.copysign(1.0, factor) if isinstance(factor, float) else (1.0 if factor > 0 else -1.0)
    return special * sign


def total_of(terms: Any) -> Term:
    """The sum of terms; raises NoAnswerError for infinities of both signs."""
    total, special, has_both_signs = arb(0), 0.0, False
    for term in terms:
        if not isinstance(term, float):
            total += term
        elif math.isinf(special) and term == -special:
            has_both_signs = True
        else:
            special += term
    if has_both_signs and not math.isnan(special):
        raise NoAnswerError("inf - inf: infinite losses of both signs")
    return special if special != 0 else total


def exact(shape: tuple[int, ...], terms: list[Term], precision: int) -> Exact:
    """Enclosures of terms, which are in C order, as an array with this shape."""
    with ctx.workprec(precision):
        parts = [_hi_lo_rad(term) for term in terms]
    hi, lo, rad = (
        (np.array(part, dtype=np.float64).reshape(shape) for part in zip(*parts, strict=True))
        if parts
        else (np.zeros(shape) for _ in range(3))
    )
    return Exact(hi, lo, rad)


def _hi_lo_rad(term: Term) -> tuple[float, float, float]:
    if isinstance(term, float):
        return term, 0.0, 0.0
    hi = float(term.mid())
    if math.isinf(hi):
        return hi, 0.0, 0.0
    remainder = term - hi
    lo = float(remainder.mid())
    # The radius as a float, rounded up, including the rounding error of hi + lo.
    radius = (remainder - lo).abs_upper()
    return hi, lo, 0.0 if _equals(radius, 0) else math.nextafter(float(radius) * (1 + 2**-20), INF)


def float_of(term: Term) -> float:
    """The midpoint of a ball as a float; nan and infinities unchanged."""
    return term if isinstance(term, float) else float(term.mid())


def _is_within_radius(answer: Answer, max_radius: Floats | None) -> bool:
    if not isinstance(answer, Exact):
        return True
    if answer.hi.ndim == 0 and (max_radius is None or max_radius.ndim == 0):
        hi, rad = float(answer.hi), float(answer.rad)
        return not math.isfinite(hi) or rad <= (
            abs(hi) * 2.0**-75 + 2.0**-100 if max_radius is None else float(max_radius)
        )
    limit = np.abs(answer.hi) * 2.0**-75 + 2.0**-100 if max_radius is None else max_radius
    if bool((answer.rad <= limit).all()):
        return True
    finite = np.isfinite(answer.hi)
    return bool(np.all(answer.rad[finite] <= np.broadcast_to(limit, answer.rad.shape)[finite]))


def _rounds_to_hi(answer: Exact) -> bool:
    """Whether hi is the exact answer rounded to float64, independent of the working precision."""
    finite = np.isfinite(answer.hi)
    return bool(np.all(answer.rad[finite] <= np.abs(answer.hi[finite]) * 2.0**-60 + 2.0**-1074))


# An entry of the cache: text with its type, or three little-endian float64 arrays and a packed mask (unconstrained).


def encode(answer: Answer) -> bytes:
    """An answer as bytes; the inverse of `decode`, bit for bit."""
    match answer:
        case Undefined(why):
            return b"U" + why.encode()
        case Invalid(kinds):
            return b"I" + ",".join(kinds).encode()
        case Exact(hi, lo, rad, unconstrained):
            tag = b"E" if unconstrained is None else b"F"
            head = struct.pack("<B", hi.ndim) + struct.pack(f"<{hi.ndim}q", *hi.shape)
            tail = b"" if unconstrained is None else np.packbits(unconstrained).tobytes()
            return tag + head + b"".join(part.astype("<f8").tobytes() for part in (hi, lo, rad)) + tail


def decode(stored: bytes) -> Answer:
    """Parse an answer encoded by `encode`.  Raises ValueError if it is malformed."""
    tag, body = stored[:1], stored[1:]
    if tag == b"U":
        return Undefined(body.decode())
    if tag == b"I":
        return Invalid(tuple(body.decode().split(",")))
    try:
        shape = struct.unpack_from(f"<{body[0]}q", body, 1)
    except (struct.error, IndexError) as error:
        raise ValueError("it has no shape") from error
    size, start = math.prod(shape), 1 + 8 * body[0]
    end = start + 24 * size
    packed = -(-size // 8) if tag == b"F" else 0
    if tag not in (b"E", b"F") or min(shape, default=0) < 0 or len(body) != end + packed:
        raise ValueError("it has another size than its shape")
    flat = np.frombuffer(body, "<f8", 3 * size, start).astype(np.float64)
    hi, lo, rad = (flat[part * size : (part + 1) * size].reshape(shape) for part in range(3))
    if tag == b"E":
        return Exact(hi, lo, rad)
    bits = np.frombuffer(body, np.uint8, packed, end)
    return Exact(hi, lo, rad, np.unpackbits(bits, count=size).astype(bool).reshape(shape))


@contextlib.contextmanager
def cached_oracle(oracle_class: type[Oracle] = Oracle) -> Iterator[Oracle]:
    """An oracle of a class, with the user's cache, closed on exit."""
    cache = open_cache()
    try:
        yield oracle_class(cache)
    finally:
        if cache is not None:
            cache.close()


def open_cache() -> Cache | None:
    """The default cache of answers, after the certified answers; None if it is turned off."""
    folder = default_folder()
    return None if folder is None else Cache(folder / f"oracle-{VERSION}.sqlite", CertifiedAnswers())

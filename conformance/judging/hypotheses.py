"""Search explanations of a number: documented conventions, other reductions, other dtypes, and common mistakes.

A hypothesis gives a value that somebody may have computed instead of the definition's.  Hypotheses whose value fits the
printed digits are listed by their number of departures, with the number that fits by chance: few digits fit many
values.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from conformance.adapters import registry
from conformance.adapters.contract import required_capabilities
from conformance.judging.compare import compare
from conformance.judging.effects import answer_by, narrowed
from conformance.judging.mistakes import BATCHES, SINGLE_MISTAKES, Departure, DepartureKind, Hypothesis, Variant, pairs
from conformance.judging.printed import DigitInterval, matches_digits
from conformance.model.case import Array, Layout, Problem, Published, Quantity, Reduction, is_derivative, numpy_dtype
from conformance.model.convention import DEFINITION, Convention, Divisor, describe
from conformance.model.floats import Floats
from conformance.model.text import format_count
from conformance.reference.conversion import convert
from conformance.reference.domain import dtype_info, examine
from conformance.reference.error_bound import weights_of_mean
from conformance.reference.flat_problem import flatten
from conformance.reference.oracle import Exact, Oracle
from conformance.reference.relevance import ANSWER_FIELDS, GRADIENT_FIELDS, relevant

NARROW = ("float32", "float16", "bfloat16")
MAX_LISTED = 20
"""Maximum number of explanations that are listed."""
MAX_PAIRED = 2000
"""Maximum number of predictions for which pairs of mistakes are tried."""
PAIRS_BY_CHANCE = 0.05
"""Pairs of mistakes are tried if at most this many of them are expected to fit by chance."""
MAX_ROUNDED = 1000
"""Arrays of up to this size are compared by all digits of their values."""
SLACK_ROUNDOFFS = 16
"""Tolerance for a value computed in practice, in unit roundoffs of its dtype."""
NARROW_SLACK_ROUNDOFFS = 4
"""The same for dtypes with so few digits that more hypotheses would fit by chance."""
SLACK = SLACK_ROUNDOFFS * dtype_info("float32").unit_roundoff
"""`SLACK_ROUNDOFFS` of float32, relative to the value."""
NEAR = 0.6
"""Relative distance from a printed number within which values are counted to estimate how many fit by chance."""
MIN_REACH = 5
"""Minimum of that distance, in widths of the interval of the printed digits."""


@dataclass(frozen=True)
class FittingHypotheses:
    """The hypotheses that fit a printed number."""

    fitting: tuple[tuple[Hypothesis, ...], ...]
    """Groups of hypotheses with one value; the group with the fewest departures first."""
    tried: int
    """Number of different values that were compared."""
    by_chance: float
    """Expected number of them that fit a number with this many digits by chance."""

    def lines(self) -> list[str]:
        """A summary line, and one line per value, at most `MAX_LISTED`."""
        values, count = len(self.fitting), sum(map(len, self.fitting))
        if not count:
            return [f"no explanation fits; {format_count(self.tried, 'value')} tried"]
        fit = "1 explanation fits" if count == 1 else f"{count} explanations fit"
        same = f", which give {format_count(values, 'value')}" if values != count else ""
        tried = format_count(self.tried, "value")
        tried = f"{tried} tried, of which about {self.by_chance:.2g} fit so many digits by chance"
        remainder = [f"and {values - MAX_LISTED} more"] if values > MAX_LISTED else []
        return [f"{fit}{same}; {tried}", *map(describe_group, self.fitting[:MAX_LISTED]), *remainder]


def describe_group(group: tuple[Hypothesis, ...]) -> str:
    """Hypotheses with one value, as one line."""
    return "; or, the same number, ".join(", ".join(map(str, hypothesis)) for hypothesis in group)


def hypotheses_for_printed(
    problem: Problem,
    number: Published,
    printed: Sequence[DigitInterval],
    oracle: Oracle,
    convention: Convention = DEFINITION,
    dtypes: Iterable[str] = (),
) -> FittingHypotheses:
    """Return the hypotheses that fit a printed number, without those that contain another fitting one.

    problem: the problem in float64.  printed: the intervals of its elements, in order.  convention: hypotheses depart
    from it. dtypes: narrower dtypes in which everything may have been computed.
    """
    problem = problem.with_reduction(number.reduction)
    answer = _answer(problem, convention, number.quantity, oracle)
    unchanged = None if answer is None else _rounded(answer)

    def is_near(values: Floats, unit: float) -> bool:
        intervals = zip(printed, values.ravel().tolist(), strict=True)
        return all(interval.overlap(value, unit * abs(value)) for interval, value in intervals)

    # If a rounding error alone is an explanation, the others have to fit the digits without one.
    unit = SLACK
    if answer is not None and answer.size == len(printed) and is_near(answer, unit):
        unit = 0.0

    def fits(values: Floats) -> bool:
        is_unchanged = unchanged is not None and np.array_equal(_rounded(values), unchanged, equal_nan=True)
        return not is_unchanged and is_near(values, unit)

    def of_printed_size(candidates: Iterable[tuple[Hypothesis, Floats | None]]) -> Iterator[tuple[Hypothesis, Floats]]:
        return (
            (hypothesis, values)
            for hypothesis, values in candidates
            if values is not None and values.size == len(printed)
        )

    is_reduced = number.reduction != "none"
    candidates = values_of_hypotheses(problem, number.quantity, oracle, is_reduced=is_reduced, convention=convention)
    groups, values = fitting_groups(of_printed_size(candidates), fits)
    if not groups and problem.predictions.size <= MAX_PAIRED:
        doubles = list(pairs(problem, number.quantity))
        if len(doubles) * _chance(printed, SLACK) <= PAIRS_BY_CHANCE:
            answers = (
                (double.hypothesis, _answer(double.problem, double.convention, number.quantity, oracle))
                for double in doubles
            )
            groups, values_of_doubles = fitting_groups(of_printed_size(answers), fits)
            values |= values_of_doubles
    tried, by_chance = len(values), _by_chance(printed, values)
    narrower_dtypes: list[tuple[Hypothesis, ...]] = []
    for dtype in dtypes:
        slack = NARROW_SLACK_ROUNDOFFS * dtype_info(dtype).unit_roundoff
        numbers = NARROW_SLACK_ROUNDOFFS + 1  # of the dtype within it, as neighbours are up to 2 roundoffs apart
        tried, by_chance = tried + 1, by_chance + _chance(printed, slack, numbers)
        with np.errstate(over="ignore"):
            cast = problem.unreduced.cast(dtype).with_reduction(number.reduction)
        if matches_digits(cast, number, printed, oracle, convention):
            narrower_dtypes.append(((Departure("dtype", f"computed in {dtype}"),),))
    if narrower_dtypes:
        groups = (*narrower_dtypes, *(group for group in groups if not any(map(_is_rounding, group))))
    return FittingHypotheses(groups, tried, by_chance)


def _is_rounding(hypothesis: Hypothesis) -> bool:
    return all(departure.kind == "dtype" for departure in hypothesis)


def fitting_groups(
    hypotheses: Iterable[tuple[Hypothesis, Floats]], fits: Callable[[Floats], bool]
) -> tuple[tuple[tuple[Hypothesis, ...], ...], dict[bytes, list[Hypothesis]]]:
    """Return (groups of fitting hypotheses, all hypotheses by value).

    The hypotheses of one value are one group, without those that contain another fitting one; the group with the fewest
    departures comes first.
    """
    by_value: dict[bytes, list[Hypothesis]] = {}
    fitting = []
    for hypothesis, values in hypotheses:
        key = _rounded(values).tobytes()
        if key not in by_value:
            by_value[key] = []
            if fits(values):
                fitting.append(by_value[key])
        by_value[key].append(hypothesis)
    departures = [frozenset(hypothesis) for fitting_group in fitting for hypothesis in fitting_group]
    groups = []
    for fitting_group in fitting:
        needed = [
            hypothesis
            for hypothesis in fitting_group
            if not any(departure < frozenset(hypothesis) for departure in departures)
        ]
        if group := sorted(dict.fromkeys(needed), key=_rank):
            groups.append(tuple(group))
    return tuple(sorted(groups, key=lambda group: _rank(group[0]))), by_value


def hypotheses_for_value(
    got: Floats, exact: Floats, tolerance: float, dtype: str, hypotheses: Iterable[tuple[Hypothesis, Floats]]
) -> tuple[tuple[Hypothesis, ...], ...]:
    """The hypotheses that explain a wrong returned value, grouped as by `fitting_groups`.

    tolerance: largest error of a correct result.  dtype: dtype in which `got` was computed.
    """
    roundoffs = SLACK_ROUNDOFFS if dtype in ("float32", "float64") else NARROW_SLACK_ROUNDOFFS
    unit = roundoffs * dtype_info(dtype).unit_roundoff

    def fits(values: Floats) -> bool:
        if values.shape != got.shape:
            return False
        magnitude = np.max(np.abs(values), initial=0.0, where=np.isfinite(values))
        nothing = np.zeros(values.shape)
        near = np.full(values.shape, unit * magnitude + tolerance)
        hypothesis = Exact(values, nothing, nothing)
        if compare(exact, hypothesis, near, dtype).within:
            return False  # the hypothesis has no effect on this problem
        return compare(got, hypothesis, near, dtype).within

    return fitting_groups(hypotheses, fits)[0]


def _rounded(values: Floats) -> Floats:
    """Values rounded to 12 digits, or to float32 for a large array, which takes less time."""
    if values.size > MAX_ROUNDED:
        with np.errstate(all="ignore"):
            return values.astype(np.float32).astype(np.float64)
    return np.array([float(f"{value:.12g}") for value in values.ravel().tolist()])


def _rank(hypothesis: Hypothesis) -> tuple[int, list[int]]:
    return len(hypothesis), [get_args(DepartureKind).index(departure.kind) for departure in hypothesis]


def _by_chance(printed: Sequence[DigitInterval], tried: Mapping[bytes, Sequence[Hypothesis]]) -> float:
    """Expected number of the tried values that would fit, if other numbers of that size and length were printed.

    A value that is a rounded copy of another one is not counted, because only the other one is listed if both fit.
    """
    if len(printed) > 1:
        return len(tried) * _chance(printed, SLACK)
    distinct = [
        key
        for key, hypotheses in tried.items()
        if not all(_is_rounded_further(hypothesis) for hypothesis in hypotheses)
    ]
    values = np.array([np.frombuffer(key)[0] for key in distinct])
    low, high = printed[0].low, printed[0].high
    center = (low + high) / 2
    width = high - low + 2 * SLACK * abs(center)
    if not width or not math.isfinite(center):
        return float(np.count_nonzero(values == center))
    reach = max(NEAR * abs(center), MIN_REACH * width)
    return float(np.count_nonzero(np.abs(values - center) <= reach) * width / (2 * reach))


def _is_rounded_further(hypothesis: Hypothesis) -> bool:
    return len(hypothesis) > 1 and any(departure.kind == "dtype" for departure in hypothesis)


def _chance(printed: Sequence[DigitInterval], unit: float, numbers: float = math.inf) -> float:
    """The probability that numbers whose logarithms are uniform over a decade fit everything that is printed.

    unit: their tolerance, relative to their size.  numbers: how many numbers of the dtype lie within it.
    """
    probability = 1.0
    for interval in printed:
        size = max(abs(interval.low), abs(interval.high))
        width = min(interval.high - interval.low + 2 * unit * size, numbers * (interval.high - interval.low))
        probability *= min(width / (size * math.log(10)), 1.0) if size and math.isfinite(size) else 1.0
    return probability


# Values.


def values_of_hypotheses(
    problem: Problem, quantity: Quantity, oracle: Oracle, *, is_reduced: bool, convention: Convention = DEFINITION
) -> Iterator[tuple[Hypothesis, Floats]]:
    """Yield each hypothesis with the value that it implies.

    is_reduced: whether the value is a sum or a mean.  convention: hypotheses depart from it.
    """
    names: tuple[Reduction, ...] = ("sum", "mean") if is_reduced else ("none",)
    for variant in _variants(problem, quantity, convention, oracle):
        answers: dict[Reduction, Floats] = {}
        for name in names:
            answer = _answer(variant.problem.with_reduction(name), variant.convention, quantity, oracle)
            if answer is not None:
                answers[name] = answer
        for reduced, values in _reduced(variant.problem, answers, problem.reduction):
            hypothesis = (*variant.hypothesis, *reduced)
            if hypothesis:
                yield hypothesis, values
            if len(hypothesis) < 2:
                for departure, transform in (_TRANSFORMS if quantity == "loss" else _TRANSFORMS_OF_GRADIENT).items():
                    with np.errstate(all="ignore"):
                        yield (*hypothesis, departure), transform(values)
    if quantity == "loss" and is_reduced:
        yield from _divergences(problem, convention, oracle)
        if problem.reduction == "mean":
            yield from _means_of_groups(problem, convention, oracle)


def _answer(problem: Problem, convention: Convention, quantity: Quantity, oracle: Oracle) -> Floats | None:
    """The exact answer as float64; None if there is none."""
    try:
        answer = answer_by(problem, convention, quantity, oracle)
    except ArithmeticError:
        return None
    return answer.hi if isinstance(answer, Exact) else None


def _reduced(
    problem: Problem, answers: dict[Reduction, Floats], reduction: Reduction
) -> Iterator[tuple[Hypothesis, Floats]]:
    """Yield each reduction, with its departure from the stated one."""
    for name, values in answers.items():
        text = "the losses before they are reduced" if name == "none" else f"the {name}"
        yield (() if name == reduction else (Departure("reduction", text),)), values
    if "sum" not in answers:
        return
    samples = max(math.prod(problem.sample_shape), 1)
    divisors = {samples: "samples"}
    if problem.predictions.ndim > 1:
        divisors.setdefault(problem.predictions.shape[0], "entries of the first axis")
    if problem.loss == "categorical":
        classes = problem.predictions.shape[-1]
        divisors.setdefault(classes, "classes")
        divisors.setdefault(samples * classes, "predictions")
    divisors.setdefault(samples - 1, "samples less one")  # as for an unbiased variance
    for divisor, subject in divisors.items():
        if divisor > 1:
            text = f"the sum divided by the number of {subject}, {divisor}"
            yield (Departure("reduction", text),), answers["sum"] / divisor
    if "mean" in answers and problem.options.sample_weights is not None:
        text = "weights divided by their mean, and the losses summed"
        yield (Departure("reduction", text),), answers["mean"] * samples
        text = "weights divided by their sum, and the losses averaged"
        yield (Departure("reduction", text),), answers["mean"] / samples
    for subject, total in _sums_of_weights(problem).items():
        if total and math.isfinite(total):
            text = f"the sum divided by the sum of the {subject}, {total:.6g}"
            yield (Departure("reduction", text),), answers["sum"] / total


def _sums_of_weights(problem: Problem) -> dict[str, float]:
    """Sums of weights by which no definition divides."""
    options, labels = problem.options, problem.labels.astype(np.float64)
    sums: dict[str, float] = {}
    if options.class_weights is not None:
        sums["class weights"] = float(np.sum(options.class_weights, dtype=np.float64))
    if options.positive_weight is not None:
        with np.errstate(all="ignore"):  # 0 * inf is harmless if there is no label 1
            sums["labels' weights"] = float(np.sum(labels * options.positive_weight + (1 - labels)))
    return sums


def _divergences(problem: Problem, convention: Convention, oracle: Oracle) -> Iterator[tuple[Hypothesis, Floats]]:
    """Kullback-Leibler divergences between targets and predictions: the loss minus the entropy of its targets."""
    if problem.target_kind != "distribution" or problem.options.label_smoothing:
        return
    p, _ = convert(problem, "probabilities")
    swapped = dataclasses.replace(p, predictions=p.labels.astype(np.float64), labels=p.predictions)
    divergences = {"less the entropy of the targets, a Kullback-Leibler divergence": (problem, swapped.predictions)}
    if problem.labels.shape == p.predictions.shape:
        divergences["labels and predictions swapped, a Kullback-Leibler divergence"] = (swapped, p.predictions)
    for text, (crossed, targets) in divergences.items():
        of_targets = dataclasses.replace(crossed, input_kind="probabilities", predictions=targets, layout=Layout())
        answers: dict[Reduction, Floats] = {}
        for name in ("sum", "mean"):
            losses = [_answer(one.with_reduction(name), convention, "loss", oracle) for one in (crossed, of_targets)]
            if losses[0] is not None and losses[1] is not None:
                answers[name] = losses[0] - losses[1]
        for reduced, values in _reduced(problem, answers, problem.reduction):
            hypothesis = (Departure("mistake", text), *reduced)
            yield hypothesis, values
            yield (*hypothesis, _BITS), _TRANSFORMS[_BITS](values)


def _means_of_groups(problem: Problem, convention: Convention, oracle: Oracle) -> Iterator[tuple[Hypothesis, Floats]]:
    """Means of the means per class and per row, and means of batches as a training loop reports them."""
    losses = _answer(problem.with_reduction("none"), convention, "loss", oracle)
    if losses is None or not losses.ndim or len(losses) < 2:
        return
    flat = flatten(narrowed(problem, convention), convention)
    if losses.shape != flat.shape:
        return
    weights, counts = weights_of_mean(flat, convention)
    weights = np.where(counts, weights, 0.0).reshape(losses.shape)
    if not weights.any():
        return
    if problem.target_kind in ("index", "binary") and problem.labels.shape == losses.shape:
        yield _of_groups("classes", np.unique(problem.labels, return_inverse=True)[1].ravel(), losses, weights)
    if losses.ndim > 1:
        yield _of_groups("the entries of the first axis", np.indices(losses.shape)[0].ravel(), losses, weights)
    sums = [values.reshape(len(values), -1).sum(axis=1) for values in (losses, weights)]
    for size in BATCHES:
        if size < len(losses):
            yield from _of_batches(size, *sums)


def _of_groups(groups: str, group: Array, losses: Floats, weights: Floats) -> tuple[Hypothesis, Floats]:
    """The mean of the means of groups with a positive weight.  group: number of the group of each loss."""
    sums, divisors = (np.bincount(group, values.ravel()) for values in (losses, weights))
    weighed = divisors != 0
    return (Departure("mistake", f"the mean of the means of {groups}"),), (sums[weighed] / divisors[weighed]).mean()


def _of_batches(size: int, losses: Floats, weights: Floats) -> Iterator[tuple[Hypothesis, Floats]]:
    """Means over batches of a size, as a training loop reports them.  losses, weights: sums per entry of axis 0."""
    samples = len(losses)
    sums, divisors = (np.add.reduceat(values, np.arange(0, samples, size)) for values in (losses, weights))
    weighed = divisors != 0
    means = sums[weighed] / divisors[weighed]
    shorter = ", the last one shorter" if samples % size else ""
    means_text = f"the means of batches of {size}"
    mean_of_batches = {
        f"the mean of {means_text}{shorter}": means.mean(),
        f"the sum of {means_text}{shorter}": means.sum(),
        f"the sum of {means_text}{shorter}, divided by the number of samples, {samples}": means.sum() / samples,
    }
    if weighed[-1]:
        mean_of_batches[f"the last batch of {size} alone{', which is shorter' if shorter else ''}"] = means[-1]
    if shorter:
        with np.errstate(all="ignore"):
            mean_of_batches[f"batches of {size} without the last, shorter one"] = sums[:-1].sum() / divisors[:-1].sum()
    for text, value in mean_of_batches.items():
        yield (Departure("mistake", text),), value


def _rounded_to(dtype: str) -> Callable[[Floats], Floats]:
    return lambda values: values.astype(numpy_dtype(dtype)).astype(np.float64)


_ROUNDINGS: dict[Departure, Callable[[Floats], Floats]] = {
    Departure("dtype", f"the result rounded to {dtype}"): _rounded_to(dtype) for dtype in NARROW
}
_SIGN = Departure("mistake", "the sign turned")
_BITS = Departure("mistake", "the logarithm to the base 2")
_TRANSFORMS: dict[Departure, Callable[[Floats], Floats]] = {
    **_ROUNDINGS,
    _BITS: lambda values: values / math.log(2),
    Departure("mistake", "the logarithm to the base 10"): lambda values: values / math.log(10),
    _SIGN: np.negative,
    Departure("mistake", "its exponential, a perplexity"): np.exp,
}
_TRANSFORMS_OF_GRADIENT: dict[Departure, Callable[[Floats], Floats]] = {**_ROUNDINGS, _SIGN: np.negative}


# Variants of a problem.


def _variants(problem: Problem, quantity: Quantity, base: Convention, oracle: Oracle) -> Iterator[Variant]:
    yield Variant((), problem, base)
    for dtype in NARROW:
        with np.errstate(over="ignore"):
            rounded = problem.predictions.astype(numpy_dtype(dtype)).astype(problem.predictions.dtype)
        departure = Departure("dtype", f"inputs rounded to {dtype}")
        yield Variant((departure,), dataclasses.replace(problem, predictions=rounded), base)
    if base != DEFINITION:
        yield Variant((Departure("convention", "the definition, without what is documented"),), problem)
    for convention, functions in _conventions(problem, quantity, base, oracle).items():
        kind: DepartureKind = "convention" if functions else "reduction"
        choices = convention.choices()
        departure = Departure(kind, describe(choices), functions, tuple(choices.items()))
        yield Variant((departure,), problem, convention)
    if examine(problem) & {"shape_mismatch", "trailing_axis"} == {"shape_mismatch"}:
        return  # mistakes are defined for shapes that fit only
    for mistakes in SINGLE_MISTAKES:
        yield from mistakes(problem, base, quantity)


def _conventions(
    problem: Problem, quantity: Quantity, base: Convention, oracle: Oracle
) -> dict[Convention, tuple[str, ...]]:
    """Documented conventions of the newest releases that change the answer, and other divisors.

    base: convention to leave out.
    """
    fields = GRADIENT_FIELDS if is_derivative(quantity) else ANSWER_FIELDS
    base = dataclasses.replace(relevant(problem, base, fields), empty_mean=None)
    names_by_convention: dict[Convention, list[str]] = {}
    returning = (f for f in registry.functions() if quantity in (f.quantity, *f.gradients))
    for function in returning:
        target = function.target_kind_for(problem.target_kind)
        if target is None or problem.loss not in function.ranks:
            continue
        documented = registry.newest_convention(function, target, required_capabilities(problem, target))
        relevant_convention = dataclasses.replace(relevant(problem, documented, fields), empty_mean=None)
        relevant_convention = _without_idle_choices(problem, quantity, relevant_convention, oracle)
        if relevant_convention.choices() and relevant_convention != base:
            names_by_convention.setdefault(relevant_convention, []).append(function.name)
    if problem.reduction == "mean":
        for divisor in get_args(Divisor):
            variant = dataclasses.replace(base, mean_divides_by=divisor)
            if divisor != "samples" and variant not in (base, DEFINITION):  # they are among the others
                names_by_convention.setdefault(variant, [])
    return {convention: tuple(names) for convention, names in names_by_convention.items()}


def _without_idle_choices(problem: Problem, quantity: Quantity, convention: Convention, oracle: Oracle) -> Convention:
    """A convention without the choices that do not change the answer."""
    choices = convention.choices()
    complete = _answer(problem, convention, quantity, oracle) if len(choices) > 1 else None
    if complete is None:
        return convention
    for name in choices:
        without = dataclasses.replace(convention, **{name: getattr(DEFINITION, name)})
        answer = _answer(problem, without, quantity, oracle)
        if answer is not None and np.array_equal(_rounded(answer), _rounded(complete), equal_nan=True):
            convention = without
    return convention

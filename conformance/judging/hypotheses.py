"""What would explain a number: documented conventions, other reductions, other dtypes, and common mistakes.

Each hypothesis is a value that somebody may have computed instead of the definition's.  Those whose value fits the
printed digits are listed, nearest to the definition first, with how many would fit by chance: few digits fit much.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from conformance.adapters import registry
from conformance.adapters.contract import required_capabilities
from conformance.judging.effects import answer_by
from conformance.judging.printed import Printed, holds_in
from conformance.model.case import (
    WEIGHTS,
    Array,
    Layout,
    Options,
    Problem,
    Published,
    Quantity,
    Reduction,
    is_derivative,
    numpy_dtype,
)
from conformance.model.convention import DEFINITION, INVALID, Convention, Divisor, describe
from conformance.model.text import counted
from conformance.reference.conversion import convert
from conformance.reference.domain import dtype_info
from conformance.reference.oracle import Exact, Oracle
from conformance.reference.relevance import ANSWER, GRADIENT, relevant

Floats = npt.NDArray[np.float64]
Kind = Literal["dtype", "convention", "reduction", "mistake"]
"""How a hypothesis departs from the definition."""
NARROW = ("float32", "float16", "bfloat16")
MAX_LISTED = 20
"""Number of explanations that are listed."""
MAX_PAIRED = 2000
"""Predictions above which no pairs of mistakes are tried."""
PAIRS_BY_CHANCE = 0.05
"""Pairs of mistakes are tried if no more of them than this would fit by chance."""
MAX_CROSSED = 100
"""Outputs above which those of each are not tried beside the labels of all."""
MIN_REORDERED = 10
"""Samples below which labels in another order are not tried: they are often those of other mistakes."""
EPSILONS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
"""Numbers that are added to probabilities, so that the logarithm of 0 is finite."""
MAX_ROUNDED = 1000
"""Size of an array whose values are told apart by all their digits."""
BATCHES = (2, 4, 8, 10, 16, 20, 32, 50, 64, 100, 128, 200, 256, 500, 512, 1000, 1024, 2048, 4096)
"""Sizes of batches that are tried."""
SLACK_ROUNDOFFS = 16
"""Unit roundoffs by which a value that somebody computed may differ from the hypothesis' own."""


@dataclass(frozen=True)
class Departure:
    """One thing that was done otherwise than the definition has it."""

    kind: Kind
    text: str
    functions: tuple[str, ...] = ()
    """Functions that document it."""
    choices: tuple[tuple[str, Any], ...] = ()
    """For a convention: each field whose choice is not the definition's, with the choice."""

    def __str__(self) -> str:
        return f"{self.text} (documented by {', '.join(self.functions)})" if self.functions else self.text


Hypothesis = tuple[Departure, ...]
"""A way in which a number may have been computed: its departures from the definition."""


@dataclass(frozen=True)
class Explanations:
    """The hypotheses that fit a printed number."""

    fitting: tuple[tuple[Hypothesis, ...], ...]
    """Those of one value are one group; the group with the fewest departures first."""
    tried: int
    """How many different values were compared."""
    by_chance: float
    """How many of them would fit a number of so many digits by chance."""

    def lines(self) -> list[str]:
        """A sentence about all of them, and one for each value, at most `MAX_LISTED`."""
        values, count = len(self.fitting), sum(map(len, self.fitting))
        if not count:
            return [f"no explanation fits; {counted(self.tried, 'value')} tried"]
        fit = "1 explanation fits" if count == 1 else f"{count} explanations fit"
        same = f", which give {counted(values, 'value')}" if values != count else ""
        tried = (
            f"{counted(self.tried, 'value')} tried, of which about {self.by_chance:.2g} fit so many digits by chance"
        )
        more = [f"and {values - MAX_LISTED} more"] if values > MAX_LISTED else []
        return [f"{fit}{same}; {tried}", *map(in_words, self.fitting[:MAX_LISTED]), *more]


def in_words(group: tuple[Hypothesis, ...]) -> str:
    """Hypotheses of one value as one line."""
    return "; or, the same number, ".join(", ".join(map(str, hypothesis)) for hypothesis in group)


def explanations(
    problem: Problem,
    number: Published,
    printed: Sequence[Printed],
    oracle: Oracle,
    convention: Convention = DEFINITION,
    dtypes: Iterable[str] = (),
) -> Explanations:
    """The hypotheses that fit a printed number, without those that depart further than another needs to.

    problem: in float64.  printed: the intervals of its elements, in order.  convention: from which hypotheses depart.
    dtypes: in which everything may have been computed instead.
    """
    problem = problem.with_reduction(number.reduction)
    answer = _answer(problem, convention, number.quantity, oracle)
    unchanged = None if answer is None else _rounded(answer)

    def is_near(values: Floats, unit: float) -> bool:
        pairs = zip(printed, values.ravel().tolist(), strict=True)
        return all(one.overlap(value, unit * abs(value)) for one, value in pairs)

    # Where a rounding error alone would do, an explanation has to meet the digits without one.
    unit = SLACK_ROUNDOFFS * dtype_info("float32").unit_roundoff
    if answer is not None and answer.size == len(printed) and is_near(answer, unit):
        unit = 0.0

    def fits(values: Floats) -> bool:
        is_unchanged = unchanged is not None and np.array_equal(_rounded(values), unchanged, equal_nan=True)
        return not is_unchanged and is_near(values, unit)

    is_reduced = number.reduction != "none"
    found = values_of_hypotheses(problem, number.quantity, oracle, is_reduced=is_reduced, convention=convention)
    groups, tried = fitting_groups(((one, values) for one, values in found if values.size == len(printed)), fits)
    chance = _chance(printed, SLACK_ROUNDOFFS * dtype_info("float32").unit_roundoff)
    by_chance = tried * chance
    if not groups and problem.predictions.size <= MAX_PAIRED:
        pairs = list(_pairs(problem, number.quantity))
        if len(pairs) * chance <= PAIRS_BY_CHANCE:
            answers = ((one.hypothesis, _answer(one.problem, one.convention, number.quantity, oracle)) for one in pairs)
            of_size = ((one, values) for one, values in answers if values is not None and values.size == len(printed))
            groups, more_tried = fitting_groups(of_size, fits)
            tried += more_tried
            by_chance = tried * chance
    computed: list[tuple[Hypothesis, ...]] = []
    for dtype in dtypes:
        tried, by_chance = tried + 1, by_chance + _chance(printed, 4 * dtype_info(dtype).unit_roundoff, numbers=5)
        with np.errstate(over="ignore"):
            cast = problem.unreduced.cast(dtype).with_reduction(number.reduction)
        if holds_in(cast, number, printed, oracle, convention):
            computed.append(((Departure("dtype", f"computed in {dtype}"),),))
    if computed:
        groups = (*computed, *(group for group in groups if not all(map(_is_rounding, group))))
    return Explanations(groups, tried, by_chance)


def _is_rounding(hypothesis: Hypothesis) -> bool:
    return all(departure.kind == "dtype" for departure in hypothesis)


def fitting_groups(
    hypotheses: Iterable[tuple[Hypothesis, Floats]], fits: Callable[[Floats], bool]
) -> tuple[tuple[tuple[Hypothesis, ...], ...], int]:
    """(hypotheses whose values fit, how many different values were tried).

    Those of one value are one group, without those that depart further than another needs to; the group with the fewest
    departures comes first.
    """
    found: dict[bytes, tuple[bool, list[Hypothesis]]] = {}
    for hypothesis, values in hypotheses:
        key = _rounded(values).tobytes()
        if key not in found:
            found[key] = (fits(values), [])
        found[key][1].append(hypothesis)
    fitting = [alike for fit, alike in found.values() if fit]
    departures = [frozenset(one) for alike in fitting for one in alike]
    groups = []
    for alike in fitting:
        needed = [one for one in alike if not any(other < frozenset(one) for other in departures)]
        if group := sorted(dict.fromkeys(needed), key=_rank):
            groups.append(tuple(group))
    return tuple(sorted(groups, key=lambda group: _rank(group[0]))), len(found)


def _rounded(values: Floats) -> Floats:
    """Values to 12 digits, or of a large array to those of float32, which takes less time."""
    if values.size > MAX_ROUNDED:
        with np.errstate(all="ignore"):
            return values.astype(np.float32).astype(np.float64)
    return np.array([float(f"{value:.12g}") for value in values.ravel().tolist()])


def _rank(hypothesis: Hypothesis) -> tuple[int, list[int]]:
    return len(hypothesis), [get_args(Kind).index(departure.kind) for departure in hypothesis]


def _chance(printed: Sequence[Printed], unit: float, numbers: float = math.inf) -> float:
    """The probability that numbers whose logarithms are spread evenly over a decade fit all that is printed.

    unit: by which they may be off, relative to their size.  numbers: of a dtype, which there are within that.
    """
    probability = 1.0
    for one in printed:
        size = max(abs(one.low), abs(one.high))
        width = min(one.high - one.low + 2 * unit * size, numbers * (one.high - one.low))
        probability *= min(width / (size * math.log(10)), 1.0) if size and math.isfinite(size) else 1.0
    return probability


# Values.


@dataclass(frozen=True)
class _Variant:
    """A problem and a convention that somebody may have computed instead."""

    hypothesis: Hypothesis
    problem: Problem
    convention: Convention = DEFINITION


def values_of_hypotheses(
    problem: Problem, quantity: Quantity, oracle: Oracle, *, is_reduced: bool, convention: Convention = DEFINITION
) -> Iterator[tuple[Hypothesis, Floats]]:
    """Each hypothesis with what somebody who followed it has computed.

    is_reduced: whether that is a sum or a mean.  convention: from which hypotheses depart, in addition to the problem.
    """
    names: tuple[Reduction, ...] = ("sum", "mean") if is_reduced else ("none",)
    for variant in _variants(problem, quantity, convention, oracle):
        answers: dict[Reduction, Floats] = {}
        for name in names:
            answer = _answer(variant.problem.with_reduction(name), variant.convention, quantity, oracle)
            if answer is not None:
                answers[name] = answer
        reductions = _reduced(variant.problem, answers, problem.reduction)
        if not variant.hypothesis and quantity == "loss" and is_reduced and problem.reduction == "mean":
            reductions = itertools.chain(reductions, _batch_means(problem, convention, oracle))
        for reduced, values in reductions:
            hypothesis = (*variant.hypothesis, *reduced)
            if hypothesis:
                yield hypothesis, values
            if len(hypothesis) < 2:
                for departure, transform in (_TRANSFORMS if quantity == "loss" else _TRANSFORMS_OF_GRADIENT).items():
                    with np.errstate(all="ignore"):
                        yield (*hypothesis, departure), transform(values)


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
    """Each reduction, with how it departs from the one that is stated."""
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
    divisors.setdefault(samples - 1, "samples less one")  # as of an unbiased variance
    for divisor, what in divisors.items():
        if divisor > 1:
            text = f"the sum divided by the number of {what}, {divisor}"
            yield (Departure("reduction", text),), answers["sum"] / divisor
    if "mean" in answers and problem.options.sample_weights is not None:
        text = "weights divided by their mean, and the losses summed"
        yield (Departure("reduction", text),), answers["mean"] * samples
        text = "weights divided by their sum, and the losses averaged"
        yield (Departure("reduction", text),), answers["mean"] / samples
    weights = problem.options.class_weights
    total = 0.0 if weights is None else float(np.sum(weights, dtype=np.float64))
    if total and math.isfinite(total):
        text = f"the sum divided by the sum of the class weights, {total:.6g}"
        yield (Departure("reduction", text),), answers["sum"] / total


def _batch_means(problem: Problem, convention: Convention, oracle: Oracle) -> Iterator[tuple[Hypothesis, Floats]]:
    """Means of the means of batches of which the last is shorter, as a training loop reports them."""
    sizes = [size for size in BATCHES if len(problem.predictions) % size and size < len(problem.predictions)]
    if len(problem.sample_shape) != 1 or not sizes:
        return
    losses = _answer(problem.with_reduction("none"), convention, "loss", oracle)
    if losses is None or losses.shape != problem.sample_shape:
        return
    for size in sizes:
        starts = np.arange(0, len(losses), size)
        means = np.add.reduceat(losses, starts) / np.diff([*starts, len(losses)])
        yield (
            (Departure("reduction", f"the mean of the means of batches of {size}, the last one shorter"),),
            means.mean(),
        )


def _rounded_to(dtype: str) -> Callable[[Floats], Floats]:
    return lambda values: values.astype(numpy_dtype(dtype)).astype(np.float64)


_ROUNDINGS: dict[Departure, Callable[[Floats], Floats]] = {
    Departure("dtype", f"the result rounded to {dtype}"): _rounded_to(dtype) for dtype in NARROW
}
_SIGN = Departure("mistake", "the sign turned")
_TRANSFORMS: dict[Departure, Callable[[Floats], Floats]] = {
    **_ROUNDINGS,
    Departure("mistake", "the logarithm to the base 2"): lambda values: values / math.log(2),
    Departure("mistake", "the logarithm to the base 10"): lambda values: values / math.log(10),
    _SIGN: np.negative,
    Departure("mistake", "its exponential, a perplexity"): np.exp,
}
_TRANSFORMS_OF_GRADIENT: dict[Departure, Callable[[Floats], Floats]] = {**_ROUNDINGS, _SIGN: np.negative}


# Variants of a problem.


def _variants(problem: Problem, quantity: Quantity, base: Convention, oracle: Oracle) -> Iterator[_Variant]:
    yield _Variant((), problem, base)
    for dtype in NARROW:
        with np.errstate(over="ignore"):
            rounded = problem.predictions.astype(numpy_dtype(dtype)).astype(problem.predictions.dtype)
        departure = Departure("dtype", f"inputs rounded to {dtype}")
        yield _Variant((departure,), dataclasses.replace(problem, predictions=rounded), base)
    if base != DEFINITION:
        yield _Variant((Departure("convention", "the definition, without what is documented"),), problem)
    for convention, functions in _conventions(problem, quantity, base, oracle).items():
        kind: Kind = "convention" if functions else "reduction"
        choices = convention.choices()
        departure = Departure(kind, describe(choices), functions, tuple(choices.items()))
        yield _Variant((departure,), problem, convention)
    for mistakes in _MISTAKES:
        yield from mistakes(problem, base, quantity)


def _pairs(problem: Problem, quantity: Quantity) -> Iterator[_Variant]:
    """Two mistakes of different kinds at once."""
    for position, mistakes in enumerate(_MISTAKES):
        for first in mistakes(problem, DEFINITION, quantity):
            for others in _MISTAKES[position + 1 :]:
                for second in others(first.problem, first.convention, quantity):
                    yield dataclasses.replace(second, hypothesis=first.hypothesis + second.hypothesis)


def _conventions(
    problem: Problem, quantity: Quantity, base: Convention, oracle: Oracle
) -> dict[Convention, tuple[str, ...]]:
    """What functions of the newest releases document, as far as it changes the answer, and other divisors.

    base: the convention that is none of them.
    """
    read = GRADIENT if is_derivative(quantity) else ANSWER
    base = dataclasses.replace(relevant(problem, base, read), empty_mean=None)
    found: dict[Convention, list[str]] = {}
    returning = (f for f in registry.functions() if quantity in (f.quantity, *f.gradients))
    for function in returning:
        target = function.target_kind_for(problem.target_kind)
        if target is None or problem.loss not in function.ranks:
            continue
        documented = registry.newest_convention(function, target, required_capabilities(problem, target))
        relevant_convention = dataclasses.replace(relevant(problem, documented, read), empty_mean=None)
        relevant_convention = _without_idle_choices(problem, quantity, relevant_convention, oracle)
        if relevant_convention.choices() and relevant_convention != base:
            found.setdefault(relevant_convention, []).append(function.name)
    if problem.reduction == "mean":
        for divisor in get_args(Divisor):
            other = dataclasses.replace(base, mean_divides_by=divisor)
            if divisor != "samples" and other not in (base, DEFINITION):  # they are among the others
                found.setdefault(other, [])
    return {convention: tuple(names) for convention, names in found.items()}


def _without_idle_choices(problem: Problem, quantity: Quantity, convention: Convention, oracle: Oracle) -> Convention:
    """A convention without the choices that it can lose while the answer stays the same."""
    choices = convention.choices()
    whole = _answer(problem, convention, quantity, oracle) if len(choices) > 1 else None
    if whole is None:
        return convention
    for name in choices:
        without = dataclasses.replace(convention, **{name: getattr(DEFINITION, name)})
        answer = _answer(problem, without, quantity, oracle)
        if answer is not None and np.array_equal(_rounded(answer), _rounded(whole), equal_nan=True):
            convention = without
    return convention


# Common mistakes: functions of a problem, a convention and a quantity.


_TAKEN = INVALID - {"shape_mismatch", "label_out_of_range"}
"""Invalid probabilities and targets, which are taken as they are."""


def _mistake(text: str, problem: Problem, convention: Convention) -> _Variant:
    return _Variant((Departure("mistake", text),), problem, convention)


def _left_out(problem: Problem, base: Convention, quantity: Quantity) -> Iterator[_Variant]:
    options = problem.options
    for name in options.names():
        if name != "ignore_index":
            left_out = dataclasses.replace(options, **{name: None})
            what = name.replace("_", " ")
            yield _mistake(f"{what} left out", dataclasses.replace(problem, options=left_out), base)
    weights = [name for name in WEIGHTS if name in options.names()]
    if len(weights) > 1:
        unweighted = dataclasses.replace(options, **dict.fromkeys(weights))
        yield _mistake("all weights left out", dataclasses.replace(problem, options=unweighted), base)


def _other_smoothing(problem: Problem, base: Convention, quantity: Quantity) -> Iterator[_Variant]:
    e, options = problem.options.label_smoothing, problem.options
    smoothing = {}
    if e is None:
        smoothing["label smoothing of 0.1"] = 0.1
    elif problem.target == "index" and (classes := problem.predictions.shape[-1]) > 1:
        # Smoothing by e C / (C - 1) leaves 1 - e to the label and e / (C - 1) to each other class.
        smoothing["label smoothing spread over the other classes only"] = min(e * classes / (classes - 1), 1.0)
    if problem.loss == "binary" and e:
        smoothing["twice the label smoothing"] = min(2 * e, 1.0)
    for text, other in smoothing.items():
        changed = dataclasses.replace(options, label_smoothing=other)
        yield _mistake(text, dataclasses.replace(problem, options=changed), base)


def _other_labels(problem: Problem, base: Convention, quantity: Quantity) -> Iterator[_Variant]:
    labels, ignored = problem.labels, problem.options.ignore_index
    if problem.target == "index":
        classes = problem.predictions.shape[-1]
        kept = np.ones(labels.shape, dtype=bool) if ignored is None else labels != ignored
        others = {
            "labels shifted up by one": (labels + 1) % classes,
            "labels shifted down by one": (labels - 1) % classes,
            "classes in reverse order": classes - 1 - labels,
        }
        others = {text: np.where(kept, changed, labels) for text, changed in others.items()}
    elif problem.target == "binary":
        others = {"labels turned, 0 for 1": 1 - labels.astype(np.float64)}
    else:
        others = {"classes in reverse order": labels[..., ::-1].copy()}
    if labels.ndim and len(labels) >= MIN_REORDERED:
        others |= {
            "samples of the labels in reverse order": labels[::-1].copy(),
            "labels of the sample before": np.roll(labels, 1, axis=0),
            "labels of the next sample": np.roll(labels, -1, axis=0),
        }
    if labels.ndim == 1 and len(labels) >= MIN_REORDERED:
        others["labels sorted"] = np.sort(labels)
    for text, changed in others.items():
        yield _mistake(text, dataclasses.replace(problem, labels=changed), base)


def _other_predictions(problem: Problem, base: Convention, quantity: Quantity) -> Iterator[_Variant]:
    x = problem.predictions
    as_they_are = dataclasses.replace(base, accepts=_TAKEN | base.accepts)
    clipped = dataclasses.replace(as_they_are, clip=1e-7)
    if problem.input_kind == "logits":
        softmax = "softmax" if problem.loss == "categorical" else "sigmoid"
        once, _ = convert(problem, "probabilities")
        yield _mistake(f"{softmax} applied twice", dataclasses.replace(once, input_kind="logits"), base)
        taken = dataclasses.replace(problem, input_kind="probabilities")
        yield _mistake("logits taken as probabilities, clipped at 1e-7", taken, clipped)
        if problem.loss == "categorical":
            renormalised = dataclasses.replace(clipped, renormalise="before_clip")
            text = "logits taken as probabilities, divided by their sum and clipped at 1e-7"
            yield _mistake(text, taken, renormalised)
    elif problem.input_kind == "probabilities":
        yield _mistake("probabilities taken as logits", dataclasses.replace(problem, input_kind="logits"), base)
    if problem.loss == "categorical" and quantity == "loss":
        p, _ = convert(problem, "probabilities")
        for epsilon in EPSILONS:
            added = dataclasses.replace(p, predictions=p.predictions + epsilon)
            yield _mistake(f"{epsilon:g} added to each probability before its logarithm", added, as_they_are)
    if problem.loss == "categorical" and problem.input_kind != "log_probabilities":
        taken = dataclasses.replace(problem, input_kind="log_probabilities")
        yield _mistake(f"{problem.input_kind} taken as log-probabilities", taken, as_they_are)
    if problem.loss == "categorical" and problem.target == "index" and x.ndim == 2 and x.shape[0] == x.shape[1]:
        yield _mistake("classes taken from the first axis", dataclasses.replace(problem, predictions=x.T.copy()), base)


def _other_axes(problem: Problem, base: Convention, quantity: Quantity) -> Iterator[_Variant]:
    """A softmax over samples, outputs beside the labels of all, and classes without a column; losses only."""
    if quantity == "gradient":
        return
    x, labels = problem.predictions, problem.labels
    if problem.loss == "categorical" and problem.input_kind == "logits" and x.ndim > 1 and x.shape[0] > 1:
        over_samples = dataclasses.replace(
            problem, input_kind="log_probabilities", predictions=_log_softmax(x), layout=Layout()
        )
        yield _mistake("softmax over the first axis, that of the samples", over_samples, base)
    weights = any(getattr(problem.options, name) is not None for name in ("sample_weights", "positive_weight"))
    is_column = x.ndim == 2 and x.shape[-1] == 1
    if problem.loss == "binary" and (x.ndim == 1 or is_column) and 1 < x.size <= MAX_CROSSED and not weights:
        shape = (x.size, x.size)
        crossed = dataclasses.replace(
            problem,
            predictions=np.broadcast_to(x.reshape(-1, 1), shape),
            labels=np.broadcast_to(labels.reshape(1, -1), shape),
        )
        yield _mistake("a column of predictions, (N, 1), broadcast against labels of shape (N,)", crossed, base)
    yield from _without_column(problem, base)


def _without_column(problem: Problem, base: Convention) -> Iterator[_Variant]:
    """Targets without the column of the first or the last class, as with C - 1 indicators for C classes."""
    if problem.loss != "categorical" or problem.predictions.shape[-1] < 2 or problem.labels.shape != (
        problem.sample_shape if problem.target == "index" else problem.predictions.shape
    ):  # fmt: skip
        return
    rows, kept = _rows_of_targets(problem)
    options, classes = problem.options, problem.predictions.shape[-1]
    if not kept.all() or options.label_smoothing:
        return
    logs = convert(problem, "log_probabilities")[0] if problem.input_kind == "logits" else problem
    for name, column, columns in (
        ("first", 0, slice(1, None)),
        ("last", classes - 1, slice(None, -1)),
    ):
        weights = None if options.class_weights is None else options.class_weights[columns]
        without: dict[str, Any] = {
            "target": "distribution",
            "labels": rows[..., columns],
            "options": dataclasses.replace(options, class_weights=weights),
            "layout": Layout(),
        }
        text = f"the column of the {name} class, {column}, dropped from the targets"
        yield _mistake(text, dataclasses.replace(logs, predictions=logs.predictions[..., columns], **without), base)
        if problem.input_kind == "logits" and classes > 2:
            fewer = dataclasses.replace(problem, predictions=problem.predictions[..., columns], **without)
            yield _mistake(f"{text} and from the softmax", fewer, base)


def _other_losses(problem: Problem, base: Convention, quantity: Quantity) -> Iterator[_Variant]:
    """Binary losses of each class instead of the categorical loss."""
    valid = problem.labels.shape == (problem.sample_shape if problem.target == "index" else problem.predictions.shape)
    if problem.loss != "categorical" or not valid or not problem.sample_shape:
        return
    rows, kept = _rows_of_targets(problem)
    options, shape = problem.options, problem.predictions.shape
    weights = None
    if options.class_weights is not None:
        weights = np.broadcast_to(options.class_weights, shape)
    if options.sample_weights is not None:
        full = options.sample_weights.reshape(
            options.sample_weights.shape + (1,) * (len(shape) - options.sample_weights.ndim)
        )
        weights = np.broadcast_to(full if weights is None else full * weights, shape)
    counted = kept if not kept.all() else slice(None)
    fields: dict[str, Any] = {
        "loss": "binary",
        "target": "binary",
        "labels": rows[counted],
        "options": Options(
            sample_weights=None if weights is None else weights[counted], label_smoothing=options.label_smoothing
        ),
        "layout": Layout(),
    }
    each = dataclasses.replace(base, mean_divides_by="samples")
    if problem.input_kind == "logits":
        of_classes = dataclasses.replace(problem, predictions=problem.predictions[counted], **fields)
        yield _mistake("a binary loss of each class's logit, one against all", of_classes, each)
    if quantity == "loss" and problem.input_kind != "log_probabilities":
        of = convert(problem, "probabilities")[0] if problem.input_kind == "logits" else problem
        outputs = dataclasses.replace(of, predictions=of.predictions[counted], **fields)
        what = "the softmax's outputs" if problem.input_kind == "logits" else "each class's probability"
        yield _mistake(f"a binary loss of {what}", outputs, each)


_MISTAKES: tuple[Callable[[Problem, Convention, Quantity], Iterator[_Variant]], ...] = (
    _left_out,
    _other_smoothing,
    _other_labels,
    _other_predictions,
    _other_axes,
    _other_losses,
)
"""Kinds of mistakes, in the order in which two are made at once."""


def _rows_of_targets(problem: Problem) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """(Targets as a number per class, which samples are not ignored); an ignored sample has a row of zeros."""
    if problem.target != "index":
        return problem.labels.astype(np.float64), np.ones(problem.sample_shape, dtype=bool)
    labels = problem.labels[..., np.newaxis] == np.arange(problem.predictions.shape[-1])
    ignored = problem.options.ignore_index
    kept = np.ones(problem.sample_shape, dtype=bool) if ignored is None else problem.labels != ignored
    return (labels & kept[..., np.newaxis]).astype(np.float64), kept


def _log_softmax(x: Array) -> Array:
    """The logarithm of the softmax over the first axis, in float64."""
    with np.errstate(all="ignore"):
        shifted = x - x.max(axis=0)
        return np.asarray(np.minimum(shifted - np.log(np.exp(shifted).sum(axis=0)), 0.0))

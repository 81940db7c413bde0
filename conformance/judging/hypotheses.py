"""What would explain a number: documented conventions, other reductions, other dtypes, and common mistakes.

Each hypothesis is a value that somebody may have computed instead of the definition's.  Those whose value fits the
printed digits are listed, nearest to the definition first, with how many would fit by chance: few digits fit much.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from conformance.adapters import registry
from conformance.adapters.contract import required_capabilities
from conformance.judging.effects import answer_by
from conformance.judging.prepare import convert_for
from conformance.judging.printed import Printed
from conformance.model.case import Problem, Published, Quantity, Reduction, numpy_dtype
from conformance.model.convention import DEFINITION, INVALID, Convention, Divisor, describe
from conformance.reference.domain import dtype_info
from conformance.reference.oracle import Exact, Oracle
from conformance.reference.relevance import ANSWER, GRADIENT, relevant

Floats = npt.NDArray[np.float64]
Kind = Literal["dtype", "convention", "reduction", "mistake"]
"""How a hypothesis departs from the definition."""
NARROW = ("float32", "float16", "bfloat16")
MAX_LISTED = 20
"""Number of explanations that are listed."""
SLACK = 16
"""Unit roundoffs by which a value that somebody computed may differ from the hypothesis' own."""


@dataclass(frozen=True)
class Departure:
    """One thing that was done otherwise than the definition has it."""

    kind: Kind
    text: str
    functions: tuple[str, ...] = ()
    """Functions that document it."""

    def __str__(self) -> str:
        return f"{self.text} (documented by {', '.join(self.functions)})" if self.functions else self.text


Hypothesis = tuple[Departure, ...]
"""A way in which a number may have been computed: its departures from the definition."""


@dataclass(frozen=True)
class Explanations:
    """The hypotheses that fit a printed number."""

    fitting: tuple[tuple[Hypothesis, ...], ...]
    """Those of one value are one group; the group with the fewest departures first, at most `MAX_LISTED` groups."""
    more: int
    """How many more groups fit."""
    tried: int
    """How many different values were compared."""
    by_chance: float
    """How many of them would fit a number of so many digits by chance."""

    def lines(self) -> list[str]:
        """A sentence about all of them, and one for each value."""
        count = len(self.fitting) + self.more
        if not count:
            return [f"none of {self.tried} explanations that were tried fits"]
        fit = "1 explanation fits" if count == 1 else f"{count} explanations fit"
        first = f"{fit} of {self.tried} that were tried; by chance, about {self.by_chance:.2g} fit so many digits"
        lines = ["; or, the same number, ".join(map(_in_words, group)) for group in self.fitting]
        return [first, *lines, *([f"and {self.more} more"] if self.more else [])]


def _in_words(hypothesis: Hypothesis) -> str:
    return ", ".join(map(str, hypothesis))


def explanations(problem: Problem, number: Published, printed: Sequence[Printed], oracle: Oracle) -> Explanations:
    """The hypotheses that fit a printed number, without those that depart further than another needs to.

    problem: in float64.  printed: the intervals of its elements, in order.
    """
    found: dict[tuple[float, ...], list[Hypothesis]] = {}
    for hypothesis, values in _hypotheses(problem, number.quantity, number.reduction, oracle):
        if hypothesis and values.size == len(printed):
            key = tuple(float(f"{value:.12g}") for value in values.ravel().tolist())
            found.setdefault(key, []).append(hypothesis)
    unit = SLACK * dtype_info("float32").unit_roundoff
    fitting = [
        hypotheses
        for key, hypotheses in found.items()
        if all(one.overlap(value, unit * abs(value)) for one, value in zip(printed, key, strict=True))
    ]
    departures = [frozenset(one) for hypotheses in fitting for one in hypotheses]
    groups = []
    for hypotheses in fitting:
        needed = [one for one in hypotheses if not any(other < frozenset(one) for other in departures)]
        if group := sorted(dict.fromkeys(needed), key=_rank):
            groups.append(tuple(group))
    groups.sort(key=lambda group: _rank(group[0]))
    listed, more = tuple(groups[:MAX_LISTED]), max(len(groups) - MAX_LISTED, 0)
    return Explanations(listed, more, len(found), len(found) * _chance(printed))


def _rank(hypothesis: Hypothesis) -> tuple[int, list[int]]:
    return len(hypothesis), [get_args(Kind).index(departure.kind) for departure in hypothesis]


def _chance(printed: Sequence[Printed]) -> float:
    """The probability that numbers whose logarithms are spread evenly over a decade fit all that is printed."""
    probability = 1.0
    for one in printed:
        size = max(abs(one.low), abs(one.high))
        width = one.high - one.low + 2 * SLACK * dtype_info("float32").unit_roundoff * size
        probability *= min(width / (size * math.log(10)), 1.0) if size and math.isfinite(size) else 1.0
    return probability


# Values.


@dataclass(frozen=True)
class _Variant:
    """A problem and a convention that somebody may have computed instead."""

    hypothesis: Hypothesis
    problem: Problem
    convention: Convention = DEFINITION


def _hypotheses(
    problem: Problem, quantity: Quantity, reduction: Reduction, oracle: Oracle
) -> Iterator[tuple[Hypothesis, Floats]]:
    names: tuple[Reduction, ...] = ("sum", "mean") if reduction != "none" else ("none",)
    for variant in _variants(problem, quantity):
        answers: dict[Reduction, Floats] = {}
        for name in names:
            answer = _answer(variant.problem.with_reduction(name), variant.convention, quantity, oracle)
            if answer is not None:
                answers[name] = answer
        for reduced, values in _reduced(variant.problem, answers, reduction):
            hypothesis = (*variant.hypothesis, *reduced)
            yield hypothesis, values
            if quantity == "loss" and len(hypothesis) < 2:
                for text, transform in _TRANSFORMS.items():
                    with np.errstate(all="ignore"):
                        yield (*hypothesis, Departure("mistake", text)), transform(values)


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
        yield (() if name == reduction else (Departure("reduction", f"the {name}"),)), values
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
    for divisor, what in divisors.items():
        if divisor > 1:
            text = f"the sum divided by the number of {what}, {divisor}"
            yield (Departure("reduction", text),), answers["sum"] / divisor


_TRANSFORMS: dict[str, Callable[[Floats], Floats]] = {
    "the logarithm to the base 2": lambda values: values / math.log(2),
    "the logarithm to the base 10": lambda values: values / math.log(10),
    "the sign turned": lambda values: -values,
    "its exponential, a perplexity": np.exp,
}


# Variants of a problem.


def _variants(problem: Problem, quantity: Quantity) -> Iterator[_Variant]:
    yield _Variant((), problem)
    for dtype in NARROW:
        with np.errstate(over="ignore"):
            rounded = problem.predictions.astype(numpy_dtype(dtype)).astype(np.float64)
        departure = Departure("dtype", f"inputs rounded to {dtype}")
        yield _Variant((departure,), dataclasses.replace(problem, predictions=rounded))
    for convention, functions in _conventions(problem, GRADIENT if quantity == "gradient" else ANSWER).items():
        kind: Kind = "convention" if functions else "reduction"
        yield _Variant((Departure(kind, describe(convention.choices()), functions),), problem, convention)
    for text, changed, convention in _mistakes(problem):
        yield _Variant((Departure("mistake", text),), changed, convention)


def _conventions(problem: Problem, read: frozenset[str]) -> dict[Convention, tuple[str, ...]]:
    """What functions of the newest releases document, as far as it matters to the problem, and other divisors."""
    found: dict[Convention, list[str]] = {}
    for function in registry.functions():
        target = function.target_as(problem.target_kind)
        if target is None or problem.loss not in function.ranks:
            continue
        documented = registry.convention_for(
            function, registry.NEWEST, target, capabilities=required_capabilities(problem, target)
        )
        matters = dataclasses.replace(relevant(problem, documented.convention, read), empty_mean=None)
        if matters.choices():
            found.setdefault(matters, []).append(function.name)
    if problem.reduction == "mean":
        for divisor in get_args(Divisor):
            if divisor not in (DEFINITION.mean_divides_by, "samples"):  # `samples` is among the reductions
                found.setdefault(Convention(mean_divides_by=divisor), [])
    return {convention: tuple(names) for convention, names in found.items()}


_TAKEN = Convention(accepts=INVALID - {"shape_mismatch", "label_out_of_range"})
"""Invalid probabilities and targets are taken as they are."""


def _mistakes(problem: Problem) -> Iterator[tuple[str, Problem, Convention]]:
    """Common mistakes: what was done, the problem that is solved then, and by which convention."""
    yield from _other_predictions(problem)
    yield from _other_labels(problem)
    options = problem.options
    for name in options.names():
        if name != "ignore_index":
            left_out = dataclasses.replace(options, **{name: None})
            what = name.replace("_", " ")
            yield f"{what} left out", dataclasses.replace(problem, options=left_out), DEFINITION
    weights = [name for name in ("class_weights", "sample_weights", "positive_weight") if name in options.names()]
    if len(weights) > 1:
        unweighted = dataclasses.replace(options, **dict.fromkeys(weights))
        yield "all weights left out", dataclasses.replace(problem, options=unweighted), DEFINITION


def _other_predictions(problem: Problem) -> Iterator[tuple[str, Problem, Convention]]:
    x = np.asarray(problem.predictions, dtype=np.float64)
    clipped = dataclasses.replace(_TAKEN, clip=1e-7)
    if problem.input_kind == "logits":
        softmax = "softmax" if problem.loss == "categorical" else "sigmoid"
        once, _ = convert_for(problem, "probabilities")
        yield f"{softmax} applied twice", dataclasses.replace(once, input_kind="logits"), DEFINITION
        taken = dataclasses.replace(problem, input_kind="probabilities")
        yield "logits taken as probabilities, clipped at 1e-7", taken, clipped
        if problem.loss == "categorical":
            renormalised = dataclasses.replace(clipped, renormalise="before_clip")
            yield "logits taken as probabilities, divided by their sum and clipped at 1e-7", taken, renormalised
    elif problem.input_kind == "probabilities":
        yield "probabilities taken as logits", dataclasses.replace(problem, input_kind="logits"), DEFINITION
    if problem.loss == "categorical" and problem.input_kind != "log_probabilities":
        taken = dataclasses.replace(problem, input_kind="log_probabilities")
        yield f"{problem.input_kind} taken as log-probabilities", taken, _TAKEN
    if problem.loss == "categorical" and problem.target == "index" and x.ndim == 2 and x.shape[0] == x.shape[1]:
        yield "classes taken from the first axis", dataclasses.replace(problem, predictions=x.T.copy()), DEFINITION


def _other_labels(problem: Problem) -> Iterator[tuple[str, Problem, Convention]]:
    labels, ignored = problem.labels, problem.options.ignore_index
    if problem.target == "index":
        classes = problem.predictions.shape[-1]
        kept = np.ones(labels.shape, dtype=bool) if ignored is None else labels != ignored
        others = {
            "labels shifted up by one": (labels + 1) % classes,
            "labels shifted down by one": (labels - 1) % classes,
            "classes in reverse order": classes - 1 - labels,
        }
        for text, changed in others.items():
            yield text, dataclasses.replace(problem, labels=np.where(kept, changed, labels)), DEFINITION
    elif problem.target == "binary":
        turned = dataclasses.replace(problem, labels=1 - labels.astype(np.float64))
        yield "labels turned, 0 for 1", turned, DEFINITION
    else:
        reverse = dataclasses.replace(problem, labels=labels[..., ::-1].copy())
        yield "classes in reverse order", reverse, DEFINITION


__all__ = ["Departure", "Explanations", "Hypothesis", "explanations"]

"""Whole cases out of small integers: the grammar that random drawing and Hypothesis share.

Everything is decided by `Source.below(n)`, an integer from 0 to n - 1 of which 0 is the simplest: one sample,
two classes, logits of 0, no options, float32, the mean.  A case is its list of choices, so that what is drawn fast
is shrunk by whoever can shrink integers.  Edge values are behind choices whose last value is the rare one.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from conformance.casefiles.validation import faults
from conformance.model.case import (
    DTYPES,
    LABEL_DTYPES,
    OPTIONS,
    REDUCTIONS,
    Array,
    ByOracle,
    Case,
    Expectation,
    Given,
    Layout,
    Loss,
    MustRaise,
    Options,
    Reduction,
    Target,
)
from conformance.model.convention import EDGE, INVALID
from conformance.reference.domain import WEIGHTS, numpy_info
from conformance.reference.dtype_range import may_be_beyond_range

BEYOND = "beyond_range"
KINDS = (EDGE | INVALID | {BEYOND}) - {"shape_mismatch", "trailing_axis"}
"""Kinds of unusual and invalid input that can be drawn: those of `domain` whose shapes fit, and that of `ranges`."""
USUAL = KINDS - {"nan_weight", "infinite_weight", BEYOND}
"""Those that are drawn unless more is asked for: no function documents what it makes of a weight that is not finite,
and one that is right may overflow on its way."""
FAMILIES: tuple[tuple[Loss, Given, Target], ...] = (
    ("categorical", "logits", "index"),
    ("binary", "logits", "binary"),
    ("categorical", "probabilities", "index"),
    ("binary", "probabilities", "binary"),
    ("categorical", "logits", "distribution"),
    ("categorical", "probabilities", "distribution"),
    ("categorical", "log_probabilities", "index"),
    ("categorical", "log_probabilities", "distribution"),
)
LAYOUTS = ("class_axis", "labels", "order", "label_dtype")
ABOUT = "Drawn at random."
WHY = "Drawn at random."
BLOCK = 256
"""Random numbers that are drawn at a time."""


@dataclass(frozen=True)
class Limits:
    """What may be drawn.

    samples: the most samples, over all their axes, and outputs along the first axis.  classes: the most classes, and
    outputs along the last axis.  kinds: of unusual and invalid input.  families: loss, given and target.
    layouts: fields of `Layout`.
    """

    samples: int = 8
    classes: int = 5
    dtypes: tuple[str, ...] = DTYPES
    kinds: frozenset[str] = USUAL
    families: tuple[tuple[Loss, Given, Target], ...] = FAMILIES
    options: frozenset[str] = frozenset(OPTIONS)
    layouts: frozenset[str] = frozenset(LAYOUTS)
    reductions: tuple[Reduction, ...] = REDUCTIONS


class Source(Protocol):
    """Where choices come from."""

    def below(self, n: int) -> int:
        """An integer from 0 to n - 1; the smaller, the simpler the case."""
        ...

    def part(self, make: Callable[[], Any]) -> Any:
        """What `make` returns, from choices that belong together: a part that can be left out as a whole."""
        ...


class Chance:
    """Choices drawn evenly, and remembered."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._left: list[float] = []
        self.choices: list[int] = []

    def below(self, n: int) -> int:
        if not self._left:
            self._left = self._rng.random(BLOCK).tolist()
        choice = int(self._left.pop() * n)
        self.choices.append(choice)
        return choice

    def part(self, make: Callable[[], Any]) -> Any:
        return make()


def random_case(rng: np.random.Generator, name: str, limits: Limits | None = None) -> Case:
    """A legal case; `name` is its id.  The same state of `rng` draws the same case."""
    return chosen_case(rng, name, limits or Limits())[0]


def chosen_case(rng: np.random.Generator, name: str, limits: Limits) -> tuple[Case, list[int]]:
    """A legal case, and the choices that make it."""
    while True:
        source = Chance(rng)
        case = drafted(source, name, limits)
        if fits(case, limits):
            return case, source.choices


def drafted(source: Source, name: str, limits: Limits) -> Case:
    """The case that a source chooses; rarely one that does not `fit`."""
    return _Draft(source, limits).case(name)


def fits(case: Case, limits: Limits) -> bool:
    """Whether a draft is a legal case, and within the range of its dtypes where it has to be."""
    return not faults(case) and (BEYOND in limits.kinds or not may_be_beyond_range(case))


class _Draft:
    """One case in the making."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self.below = source.below
        self.part = source.part
        self.limits = limits

    # Choices

    def pick(self, among: Sequence[Any]) -> Any:
        return among[self.below(len(among))]

    def once_in(self, n: int) -> bool:
        return self.below(n) == n - 1

    def rare(self, kind: str, n: int) -> bool:
        """Whether a kind of unusual input, if it may be drawn at all, is drawn this time."""
        return kind in self.limits.kinds and self.once_in(n)

    def signed(self, n: int) -> int:
        """0, 1, -1, 2, -2, ...: n of them."""
        k = self.below(n)
        return (k + 1) // 2 if k % 2 else -(k // 2)

    # The case

    def case(self, name: str) -> Case:
        limits = self.limits
        self.loss, self.given, self.target = self.pick(limits.families)
        self.categorical = self.loss == "categorical"
        dtypes = self.pick(_dtype_lists(limits.dtypes))
        self.span = _span(dtypes)
        self.kind = self.invalid_kind()
        shape = self.shape()
        self.classes = shape[-1]
        samples = shape[:-1] if self.categorical else shape
        asked = [option for option in _belonging(self.loss, self.target) if option in limits.options]
        asked = [option for option in asked if self.once_in(4)]
        ignored = self.ignored() if "ignore_index" in asked else None
        # What there is one of comes before what there are many of, so that fewer samples change nothing else.
        layout = self.layout(len(shape))
        reductions = self.pick(_reduction_lists(limits.reductions))
        options = self.scalars(asked, ignored)
        draw_weights = [
            (name, self.weight_shape(name, shape, samples), self.weights()) for name in asked if name in WEIGHTS
        ]
        predictions, labels = self.arrays(shape, samples, ignored, layout.order == "broadcast")
        options |= {name: draw(of) for name, of, draw in draw_weights}
        return Case(
            id=name,
            why=WHY,
            about=ABOUT,
            source=ABOUT,
            loss=self.loss,
            given=self.given,
            target=self.target,
            predictions=predictions,
            labels=labels,
            options=Options(**options),
            layout=_fitting(layout, labels),
            reductions=reductions,
            dtypes=dtypes,
            expect=self.expect(),
        )

    def invalid_kind(self) -> str:
        """The kind of invalid input that this case is about; mostly none."""
        possible = [kind for kind in _possible(self.given, self.target) if kind in self.limits.kinds]
        return str(self.pick(possible)) if possible and self.once_in(24) else ""

    def expect(self) -> Expectation:
        return MustRaise(self.kind) if self.kind else ByOracle()

    # Shapes

    def shape(self) -> tuple[int, ...]:
        """Of the predictions: rank 2 to 4 with classes on the last axis, or rank 1 to 4."""
        limits = self.limits
        one_class = self.categorical and self.rare("one_class", 16)
        classes = 1 if one_class or limits.classes < 2 else 2 + self.below(limits.classes - 1)
        last: tuple[int, ...] = (classes,)
        if not self.categorical:
            last = (1 + self.below(limits.classes),) if self.below(4) > 1 else ()
        inner: list[int] = []
        room = limits.samples
        for _ in range(max(0, self.below(8) - 5) if self.categorical or last else 0):
            inner.append(1 + self.below(min(3, room)))
            room //= inner[-1]
        empty = not self.kind and self.rare("empty_batch", 64)
        return (0 if empty else 1 + self.below(room), *inner, *last)

    # Predictions and labels, sample by sample

    def arrays(
        self, shape: tuple[int, ...], samples: tuple[int, ...], ignored: int | None, one_row: bool
    ) -> tuple[Array, Array]:
        """Predictions and labels, drawn beside each other."""
        predict, label = self.predictor(), self.labeller(ignored)
        count = math.prod(samples)
        x: list[Any] = []
        y: list[Any] = []
        repeated = max(1, count // samples[0]) if one_row and count else 0
        for row in range(count):
            copied = repeated and row >= repeated
            x_row, y_row = self.part(lambda: (None, label()) if copied else (predict(), label()))  # noqa: B023
            x.append(x[row - repeated] if copied else x_row)
            y.append(y_row)
        if self.kind and count:
            self.spoil(x, y, ignored, repeated or count)
        predictions = np.array(x, dtype=np.float64).reshape(shape)
        if not count:
            kind = np.int64 if self.target == "index" else np.float64
            return predictions, np.zeros(samples if self.target == "index" else shape, dtype=kind)
        labels = np.array(y)
        return predictions, labels.reshape(shape if self.target == "distribution" else samples)

    def spoil(self, x: list[Any], y: list[Any], ignored: int | None, rows: int) -> None:
        """Put the invalid input into one sample that counts."""
        at = self.below(rows)
        if self.kind == "label_out_of_range":
            y[at] = self.pick((-1, self.classes, -100, self.classes + 5, 255))
            return
        if ignored is not None and y[at] == ignored:
            y[at] = next(label for label in range(-1, self.classes + 1) if label != ignored and label >= 0)
        values, bad = (y, (-0.5, 1.5)) if self.kind == "invalid_target" else (x, (1.5, -0.25, math.inf, 1.03125))
        value = self.pick(bad)
        repeats = range(at, len(x), rows) if values is x else (at,)
        spot = self.below(self.classes) if self.categorical else 0
        for row in repeats:
            if self.categorical:
                values[row] = [float(v) for v in values[row]]
                values[row][spot] = value
            else:
                values[row] = value

    def predictor(self) -> Callable[[], Any]:
        """Draws the predictions of one sample: a row, or a number."""
        if self.given == "probabilities":
            one = self.probabilities() if self.categorical else self.probability()
        else:
            one = self.logits() if self.given == "logits" else self.logarithms()
        return self.sprinkled(one)

    def sprinkled(self, one: Callable[[], Any]) -> Callable[[], Any]:
        """The same with special values among them, in a few cases."""
        if not self.once_in(8):
            return one
        special = self.specials()

        def drawn() -> Any:
            found = one()
            if not special or not self.once_in(3):
                return found
            value = self.pick(special)
            if not self.categorical:
                return value
            changed = self.with_one(found, value)
            return (
                [1 / len(changed)] * len(changed) if self.given == "probabilities" and sum(changed) < 0.1 else changed
            )

        return drawn

    def specials(self) -> list[float]:
        """Values at the ends of what the dtypes have."""
        kinds, span = self.limits.kinds, self.span
        found: list[float] = []
        if self.given == "probabilities":
            # Within a row only what leaves its sum alone.
            found += [] if self.categorical else [0.0, 1.0, span.normal, 1 - span.epsilon]
            # Of a few steps, because a quotient of one step or less may be rounded to 0.
            found += [span.least * (16 if self.categorical else 1)] if "subnormal_prediction" in kinds else []
        else:
            found += [-0.0, -span.normal, -span.most]
            found += [span.normal, span.most] if self.given == "logits" else []
            found += [-math.inf] if "infinite_prediction" in kinds else []
            found += [math.inf] if "infinite_prediction" in kinds and self.given == "logits" else []
        return found + ([math.nan] if "nan_prediction" in kinds else [])

    def with_one(self, row: list[float], value: float) -> list[float]:
        """A row with one of its values replaced."""
        row[self.below(len(row))] = value
        return row

    def logits(self) -> Callable[[], Any]:
        return self.row_of(self.logit())

    def logit(self) -> Callable[[], float]:
        style = self.below(8)
        if style <= 1:
            return lambda: float(self.pick(ROUND))
        if style == 2:
            return lambda: self.signed(257) / 16
        if style <= 4:
            return lambda: self.signed(1 << 24) / (1 << 20)
        if style == 5:
            return lambda: self.signed(1 << 20) / (1 << 9)
        if style == 6:
            scale = 10.0 ** self.below(self.span.digits)
            return lambda: float(self.pick(ROUND)) * scale
        base = float(self.pick((0.0, 100.0, -100.0, 1000.0)))
        return lambda: base + self.signed(9) / 8

    def row_of(self, value: Callable[[], float]) -> Callable[[], Any]:
        return (lambda: [value() for _ in range(self.classes)]) if self.categorical else value

    def logarithms(self) -> Callable[[], Any]:
        """Rows of log-probabilities, that add up to one or not: they are taken as they are."""
        style = self.below(4)
        if style == 0:
            return lambda: [-abs(self.pick(ROUND)) for _ in range(self.classes)]
        if style == 1:
            return lambda: [math.log(share) for share in self.shares(1, 64)]
        if style == 2:
            return lambda: [-self.below(1 << 24) / (1 << 18) for _ in range(self.classes)]
        return lambda: [self.signed(257) / 16 for _ in range(self.classes)]

    def shares(self, least: int, most: int) -> list[float]:
        """Parts of one, a class each, of whole numbers from `least` to `most`."""
        counts = [least + self.below(most - least + 1) for _ in range(self.classes)]
        total = sum(counts)
        if not total:
            counts[0] = total = 1
        return [count / total for count in counts]

    def probabilities(self) -> Callable[[], list[float]]:
        style = self.below(8)
        if style <= 1:
            return lambda: self.shares(1, 4)
        if style == 2:
            return lambda: self.shares(0, 2)
        if style <= 4:
            return lambda: self.shares(1, 1 << 10)
        if style <= 6 or "unnormalised_row" not in self.limits.kinds:
            return self.confident
        return lambda: [self.below(65) / 64 for _ in range(self.classes)]

    def confident(self) -> list[float]:
        """All but a power of two for each other class."""
        row = [2.0 ** -(3 + self.below(self.span.exponents)) for _ in range(self.classes)]
        at = self.below(self.classes)
        row[at] = 0.0
        row[at] = 1 - math.fsum(row)
        return row

    def probability(self) -> Callable[[], float]:
        style = self.below(8)
        if style <= 1:
            return lambda: self.pick(ROUND_PROBABILITIES)
        if style <= 4:
            return lambda: (1 + self.below(4095)) / 4096
        if style == 5:
            return lambda: self.pick((0.5, 0.0, 1.0))

        def near_an_end() -> float:
            p = 2.0 ** -(1 + self.below(self.span.exponents))
            return 1 - p if self.once_in(2) else p

        return near_an_end

    def labeller(self, ignored: int | None) -> Callable[[], Any]:
        """Draws the label of one sample: an index, a distribution, or a number."""
        if self.target == "index":
            return self.index(ignored)
        crisp: Callable[[], Any] = self.one_hot if self.categorical else self.hard_label
        soft: Callable[[], Any] = self.distribution() if self.categorical else self.soft_label()
        if self.kind == "invalid_target":
            return soft
        style = self.below(8)
        if style <= 2:
            return crisp
        if style == 3:
            return lambda: _as(float, crisp())
        if style == 4:
            return lambda: _as(bool, crisp())
        if style < 7 or "nan_target" not in self.limits.kinds or not self.once_in(4):
            return soft

        def holed() -> Any:
            found = soft()
            if not self.once_in(4):
                return found
            return math.nan if not self.categorical else self.with_one(found, math.nan)

        return holed

    def index(self, ignored: int | None) -> Callable[[], int]:
        if ignored is None:
            return lambda: self.below(self.classes)
        if not self.kind and self.once_in(12):
            return lambda: ignored
        return lambda: ignored if self.once_in(4) else self.below(self.classes)

    def one_hot(self) -> list[int]:
        at = self.below(self.classes)
        return [int(c == at) for c in range(self.classes)]

    def distribution(self) -> Callable[[], list[float]]:
        style = self.below(8)
        if style <= 2:
            return lambda: self.shares(1, 4)
        if style <= 4:
            return lambda: self.shares(0, 2)
        if style <= 6:
            return lambda: self.shares(1, 1 << 10)
        return lambda: [self.below(5) / 4 for _ in range(self.classes)]

    def hard_label(self) -> int:
        return self.below(2)

    def soft_label(self) -> Callable[[], float]:
        if self.below(2):
            return lambda: self.below(4097) / 4096
        return lambda: self.pick(ROUND_PROBABILITIES)

    # Options

    def ignored(self) -> int:
        return int(self.pick((-100, -1, self.classes - 1, 0, 255)))

    def scalars(self, asked: Sequence[str], ignored: int | None) -> dict[str, Any]:
        values: dict[str, Any] = {} if ignored is None else {"ignore_index": ignored}
        if "label_smoothing" in asked:
            values["label_smoothing"] = self.smoothing()
        return values

    def smoothing(self) -> float:
        style = self.below(4)
        if style <= 1:
            return float(self.pick((0.5, 0.25, 0.1, 0.125, 0.2)))
        return self.below(1001) / 1000 if style == 2 else float(self.pick((0.0, 1.0)))

    def weight_shape(self, option: str, shape: tuple[int, ...], samples: tuple[int, ...]) -> tuple[int, ...]:
        if option == "class_weights":
            return shape[-1:]
        if option == "positive_weight":
            return shape[len(shape) - self.below(2) :]
        axes = len(samples) - self.below(len(samples))
        return samples[:axes] if samples[0] else (0,)  # an empty list shows one axis

    def weights(self) -> Callable[[tuple[int, ...]], Array]:
        """Draws weights of a shape."""
        kinds, value = self.limits.kinds, self.weight()
        nothing = self.rare("no_weight", 64) and "zero_weight" in kinds
        special = [0.0] if "zero_weight" in kinds else []
        special += [-1.0, -0.5] if "negative_weight" in kinds else []
        special += [math.inf] if "infinite_weight" in kinds else []
        special += [math.nan] if "nan_weight" in kinds else []
        odd = self.pick(special) if special and self.once_in(8) else None

        def drawn(shape: tuple[int, ...]) -> Array:
            found = [self.part(value) for _ in range(math.prod(shape))]
            if odd is not None and found:
                found[self.below(len(found))] = odd
            return np.zeros(shape) if nothing else np.array(found, dtype=np.float64).reshape(shape)

        return drawn

    def weight(self) -> Callable[[], float]:
        style = self.below(4)
        if style <= 1:
            return lambda: self.pick(ROUND_WEIGHTS)
        if style == 2:
            return lambda: (1 + self.below(1 << 12)) / (1 << 10)
        scale = 2.0 ** self.signed(17)
        return lambda: self.pick(ROUND_WEIGHTS) * scale

    # Layout

    def layout(self, rank: int) -> Layout:
        allowed = self.limits.layouts
        values: dict[str, Any] = {}
        if self.categorical and "class_axis" in allowed and self.once_in(6):
            axis = (1 + self.below(rank)) % rank
            values["class_axis"] = -1 if axis == rank - 1 else axis
        if self.target != "distribution" and "labels" in allowed and self.once_in(16):
            values["labels"] = "column"
        if "order" in allowed and self.once_in(6):
            values["order"] = self.pick(("fortran", "strided", "readonly", "broadcast"))
        if "label_dtype" in allowed and self.once_in(12):
            values["label_dtype"] = self.pick(LABEL_DTYPES)
        return Layout(**values)


def _as(kind: Callable[[Any], Any], label: Any) -> Any:
    return [kind(value) for value in label] if isinstance(label, list) else kind(label)


def _fitting(layout: Layout, labels: Array) -> Layout:
    """The layout, without a dtype that does not hold these labels as they are."""
    if layout.label_dtype is None:
        return layout
    with np.errstate(invalid="ignore", over="ignore"):
        wide = labels.astype(np.float64)
        fits = np.array_equal(wide.astype(layout.label_dtype).astype(np.float64), wide, equal_nan=True)
    return layout if fits else dataclasses.replace(layout, label_dtype=None)


@dataclass(frozen=True)
class _Span:
    """What every dtype of a case has.

    least: smallest positive number; normal: smallest normal one; most: largest, or nearly.  epsilon: of the coarsest.
    exponents: powers of two from 1/8 down that are normal.  digits: decimal orders of magnitude up to `most` / 32.
    """

    least: float
    normal: float
    most: float
    epsilon: float
    exponents: int
    digits: int


@functools.cache
def _span(dtypes: tuple[str, ...]) -> _Span:
    infos = [numpy_info(dtype) for dtype in dtypes]
    normal, epsilon = max(info[1] for info in infos), max(info[2] for info in infos)
    most = min(info[3] for info in infos)
    least = max(info[1] * info[2] for info in infos)
    if most > 1e300:
        most = 2.0**1000  # what is computed in float64 beside it, a budget, needs room
    exponents = min(-round(math.log2(normal)) - 3, 64)
    return _Span(least, normal, most, epsilon, exponents, min(int(math.log10(most / 32)) + 1, 8))


@functools.cache
def _dtype_lists(dtypes: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Each alone, float32 first, and all together."""
    alone = sorted(dtypes, key=("float32", "float64", "float16", "bfloat16").index)
    together = tuple(dtype for dtype in DTYPES if dtype in dtypes)
    return tuple(dict.fromkeys([*((dtype,) for dtype in alone), together]))


@functools.cache
def _reduction_lists(reductions: tuple[Reduction, ...]) -> tuple[tuple[Reduction, ...], ...]:
    """Each alone, the mean first, and all together."""
    alone = sorted(reductions, key=("mean", "sum", "none").index)
    return tuple(dict.fromkeys([*((reduction,) for reduction in alone), reductions]))


@functools.cache
def _belonging(loss: Loss, target: Target) -> tuple[str, ...]:
    weight = "class_weights" if loss == "categorical" else "positive_weight"
    return ("label_smoothing", weight, "sample_weights", *(("ignore_index",) if target == "index" else ()))


@functools.cache
def _possible(given: Given, target: Target) -> tuple[str, ...]:
    return tuple(_invalid(given, target))


def _invalid(given: Given, target: Target) -> Iterator[str]:
    yield "label_out_of_range" if target == "index" else "invalid_target"
    if given == "probabilities":
        yield "invalid_probability"


ROUND = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 3.0, -3.0, 5.0, -5.0, 10.0, -10.0, 0.25, -0.25, 20.0, -20.0)
ROUND_PROBABILITIES = (0.5, 0.25, 0.75, 0.125, 0.875, 0.1, 0.9, 0.0, 1.0)
ROUND_WEIGHTS = (1.0, 2.0, 0.5, 3.0, 0.25, 10.0, 0.1)

__all__ = ["FAMILIES", "KINDS", "USUAL", "Chance", "Limits", "Source", "chosen_case", "drafted", "random_case"]

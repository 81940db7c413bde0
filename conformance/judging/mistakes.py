"""Common mistakes: problems that somebody may have computed instead of the stated one."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from conformance.model.case import WEIGHTS, Array, InputKind, Layout, Options, Problem, Quantity
from conformance.model.convention import DEFINITION, INVALID, Convention
from conformance.model.floats import Floats
from conformance.reference.conversion import convert
from conformance.reference.domain import dtype_info

DepartureKind = Literal["dtype", "convention", "reduction", "mistake"]
"""Kind of departure from the definition."""
MAX_BROADCAST = 100
"""Maximum number of outputs for which a column of predictions broadcast against the labels is tried."""
MIN_REORDERED = 10
"""Minimum number of samples for reordered labels: with fewer, they often coincide with other mistakes."""
MAX_PERMUTED = 4
"""Maximum number of classes for which all permutations are tried."""
MIN_SORTED_AS_TEXT = 11
"""Minimum number of classes for which sorting their numbers as text changes their order."""
EPSILONS = (
    *(1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-15, 1e-16, 1e-20),
    *(dtype_info(dtype).epsilon for dtype in ("float16", "float32", "float64")),
)
"""Constants added to probabilities, or bounds that they are clipped to, to keep the logarithm finite."""
MIN_EFFECT = 1e-8
"""An epsilon below this fraction of the smallest probability does not change a printed number."""
DECIMALS = (1, 2, 3, 4)
"""Numbers of decimals that probabilities are rounded to."""
SMOOTHINGS = (0.01, 0.02, 0.05, 0.15, 0.2, 0.3)
"""Label smoothings that are tried in addition to 0.1."""
FOCAL = ((1.0, None), (2.0, None), (3.0, None), (5.0, None), (2.0, 0.25))
"""(gamma, alpha) of focal losses; alpha weighs the label 1 of a binary loss and 1 - alpha the other."""
BATCHES = (
    *(2, 4, 5, 8, 10, 12, 16, 20, 24, 25, 30, 32, 40, 48, 50, 64, 96, 100, 128, 200, 250, 256, 500, 512),
    *(1000, 1024, 2000, 2048, 4096, 8192, 10_000),
)
"""Batch sizes that are tried."""


@dataclass(frozen=True)
class Departure:
    """One difference of a computation from the definition."""

    kind: DepartureKind
    text: str
    functions: tuple[str, ...] = ()
    """Functions that document it."""
    choices: tuple[tuple[str, Any], ...] = ()
    """For a convention: (field, choice) for each field that differs from the definition."""

    def __str__(self) -> str:
        return f"{self.text} (documented by {', '.join(self.functions)})" if self.functions else self.text


Hypothesis = tuple[Departure, ...]
"""A possible computation of a number, as its departures from the definition."""


@dataclass(frozen=True)
class Variant:
    """A problem and a convention that somebody may have used instead of the stated ones."""

    hypothesis: Hypothesis
    problem: Problem
    convention: Convention = DEFINITION


# Generators of mistakes; each takes a problem, a convention and a quantity.


ACCEPTED_INVALID = INVALID - {"shape_mismatch", "label_out_of_range"}
"""Kinds of invalid probabilities and targets that a wrong computation accepts."""


def _mistake(text: str, problem: Problem, convention: Convention, **changes: Any) -> Variant:
    """A variant by one mistake, of the problem with these fields changed."""
    changed = dataclasses.replace(problem, **changes) if changes else problem
    return Variant((Departure("mistake", text),), changed, convention)


def _omitted_option(problem: Problem, base: Convention, quantity: Quantity) -> Iterator[Variant]:
    options = problem.options
    for name in options.names():
        if name != "ignore_index" or 0 <= (options.ignore_index or 0) < problem.predictions.shape[-1]:
            yield _mistake(f"{name.replace('_', ' ')} left out", problem.with_options(**{name: None}), base)
    weights = [name for name in WEIGHTS if name in options.names()]
    if len(weights) > 1:
        yield _mistake("all weights left out", problem.with_options(**dict.fromkeys(weights)), base)


def _other_smoothing(problem: Problem, base: Convention, quantity: Quantity) -> Iterator[Variant]:
    epsilon = problem.options.label_smoothing
    smoothing = {}
    if epsilon is None:
        smoothing["label smoothing of 0.1"] = 0.1
    elif problem.target == "index" and (classes := problem.predictions.shape[-1]) > 1:
        smoothing["label smoothing spread over the other classes only"] = _over_others(epsilon, classes)
    if problem.loss == "binary" and epsilon:
        smoothing["twice the label smoothing"] = min(2 * epsilon, 1.0)
    yield from _smoothed(problem, base, smoothing)


def _rarer_smoothing(problem: Problem, base: Convention, quantity: Quantity) -> Iterator[Variant]:
    if problem.options.label_smoothing is not None:
        return
    smoothing = {f"label smoothing of {epsilon:g}": epsilon for epsilon in SMOOTHINGS}
    if problem.target == "index" and (classes := problem.predictions.shape[-1]) > 1:
        smoothing["label smoothing of 0.1 spread over the other classes only"] = _over_others(0.1, classes)
    yield from _smoothed(problem, base, smoothing)


def _smoothed(problem: Problem, base: Convention, smoothing: Mapping[str, float]) -> Iterator[Variant]:
    for text, epsilon in smoothing.items():
        yield _mistake(text, problem.with_options(label_smoothing=epsilon), base)


def _over_others(epsilon: float, classes: int) -> float:
    """The label smoothing with 1 - epsilon for the label and epsilon / (C - 1) for each other class."""
    return min(epsilon * classes / (classes - 1), 1.0)


def _other_weights(problem: Problem, base: Convention, quantity: Quantity) -> Iterator[Variant]:
    options = problem.options
    for name in WEIGHTS:
        weights = getattr(options, name)
        if weights is None:
            continue
        subject = name.replace("_", " ")
        variants = {f"{subject} applied twice": weights * weights}
        if np.all(weights != 0):
            variants[f"the inverse of the {subject}"] = 1 / weights
        if np.all(weights >= 0):
            variants[f"the square root of the {subject}"] = np.sqrt(weights)
        if name == "class_weights":
            variants[f"{subject} in reverse order"] = weights[::-1].copy()
        for text, changed in variants.items():
            yield _mistake(text, problem.with_options(**{name: changed}), base)
    if options.positive_weight is not None and quantity == "loss":
        x = 1 - problem.predictions if problem.input_kind == "probabilities" else -problem.predictions
        inverted = 1 - problem.labels.astype(np.float64)
        yield _mistake("positive weight on the label 0", problem, base, predictions=x, labels=inverted)


def _relabelled(problem: Problem, base: Convention, quantity: Quantity) -> Iterator[Variant]:
    labels = problem.labels
    if problem.target == "index":
        variants = {text: _renamed(problem, order) for order, text in _orders(problem.predictions.shape[-1]).items()}
    elif problem.target == "binary":
        variants = {"labels turned, 0 for 1": 1 - labels.astype(np.float64)}
    else:
        variants = {"classes in reverse order": labels[..., ::-1].copy()}
    if labels.ndim and len(labels) >= MIN_REORDERED:
        variants |= {
            "samples of the labels in reverse order": labels[::-1].copy(),
            "labels of the sample before": np.roll(labels, 1, axis=0),
            "labels of the next sample": np.roll(labels, -1, axis=0),
        }
    if labels.ndim == 1 and len(labels) >= MIN_REORDERED:
        variants["labels sorted"] = np.sort(labels)
    for text, changed in variants.items():
        yield _mistake(text, problem, base, labels=changed)
    x = problem.predictions
    if problem.target_kind == "distribution":
        text = "the largest target of each sample for its targets"
        yield _mistake(text, problem, base, target="index", labels=labels.argmax(axis=-1))
    if problem.target == "index" and x.shape[-1] and labels.shape == x.shape[:-1] and quantity == "loss":
        predicted = np.where(_kept(problem), x.argmax(axis=-1), labels)
        yield _mistake("the predicted classes for the labels", problem, base, labels=predicted)


def _orders(classes: int) -> dict[tuple[int, ...], str]:
    """Common permutations of the classes, as the new column of each class, with their descriptions."""
    columns = np.arange(classes)
    return {
        tuple(((columns + 1) % classes).tolist()): "labels shifted up by one",
        tuple(((columns - 1) % classes).tolist()): "labels shifted down by one",
        tuple(columns[::-1].tolist()): "classes in reverse order",
    }


def _kept(problem: Problem) -> npt.NDArray[np.bool_]:
    """Mask of the index labels that are not ignored."""
    ignored = problem.options.ignore_index
    return np.ones(problem.labels.shape, dtype=bool) if ignored is None else problem.labels != ignored


def _renamed(problem: Problem, columns: tuple[int, ...]) -> Array:
    """Index labels replaced by the new columns of their classes; ignored and invalid labels are kept."""
    labels = problem.labels
    moved = _kept(problem) & (labels >= 0) & (labels < len(columns))
    return np.where(moved, np.array(columns, dtype=labels.dtype)[np.where(moved, labels, 0)], labels)


def _reordered_classes(problem: Problem, base: Convention, quantity: Quantity) -> Iterator[Variant]:
    """Orders of the classes that other libraries or label encoders use."""
    classes = problem.predictions.shape[-1] if problem.target == "index" else 0
    orders: dict[tuple[int, ...], str] = {}
    if classes >= MIN_SORTED_AS_TEXT:
        orders[_ranks(sorted(range(classes), key=str))] = "classes sorted as text: 0, 1, 10, 11"
    if classes and problem.labels.ndim == 1:
        occurring = dict.fromkeys(problem.labels[_kept(problem)].tolist())
        first = [label for label in occurring if 0 <= label < classes]
        absent = [label for label in range(classes) if label not in occurring]
        orders.setdefault(_ranks([*first, *absent]), "classes in the order in which they first occur")
    if 2 < classes <= MAX_PERMUTED:
        for order in itertools.permutations(range(classes)):
            orders.setdefault(_ranks(order), f"classes in the order {', '.join(map(str, order))}")
    known = {tuple(range(classes)), *_orders(classes)}
    for columns, text in orders.items():
        if columns not in known:
            yield _mistake(text, problem, base, labels=_renamed(problem, columns))


def _ranks(order: Sequence[int]) -> tuple[int, ...]:
    """The column of each class, if the columns hold the classes in this order."""
    return tuple(np.argsort(order).tolist())


def _other_predictions(problem: Problem, base: Convention, quantity: Quantity) -> Iterator[Variant]:
    x = problem.predictions
    accepting = dataclasses.replace(base, accepts=ACCEPTED_INVALID | base.accepts)
    clipped = dataclasses.replace(accepting, clip=1e-7)
    categorical = problem.loss == "categorical"
    if problem.input_kind == "logits":
        softmax = "softmax" if categorical else "sigmoid"
        softmaxed, _ = convert(problem, "probabilities")
        yield _mistake(f"{softmax} applied twice", softmaxed, base, input_kind="logits")
        text = "logits taken as probabilities, clipped at 1e-7"
        yield _mistake(text, problem, clipped, input_kind="probabilities")
        if categorical:
            renormalised = dataclasses.replace(clipped, renormalise="before_clip")
            text = "logits taken as probabilities, divided by their sum and clipped at 1e-7"
            yield _mistake(text, problem, renormalised, input_kind="probabilities")
    elif problem.input_kind == "probabilities":
        yield _mistake("probabilities taken as logits", problem, base, input_kind="logits")
    if categorical and problem.input_kind != "log_probabilities":
        text = f"{problem.input_kind} taken as log-probabilities"
        yield _mistake(text, problem, accepting, input_kind="log_probabilities")
    if categorical and problem.input_kind == "logits" and quantity == "loss":
        text = "the softmax taken as log-probabilities"
        yield _mistake(text, softmaxed, accepting, input_kind="log_probabilities")
        with np.errstate(all="ignore"):
            sigmoid = dataclasses.replace(problem, input_kind="probabilities", predictions=1 / (1 + np.exp(-x)))
        yield _mistake("a sigmoid for the softmax", sigmoid, accepting)
        text = "a sigmoid for the softmax, divided by the sum of the row"
        yield _mistake(text, sigmoid, dataclasses.replace(accepting, renormalise="before_clip"))
    if categorical and problem.target == "index" and x.ndim == 2 and x.shape[0] == x.shape[1]:
        yield _mistake("classes taken from the first axis", problem, base, predictions=x.T.copy())
    if problem.input_kind == "probabilities" and problem.labels.shape == x.shape:
        text = "labels and predictions swapped, clipped at 1e-7"
        yield _mistake(text, problem, clipped, predictions=problem.labels.astype(np.float64), labels=x)


def _epsilons(problem: Problem, base: Convention, quantity: Quantity) -> Iterator[Variant]:
    """Probabilities kept away from 0 by an epsilon; losses only."""
    if quantity != "loss":
        return
    p, _ = convert(problem, "probabilities")
    accepting = dataclasses.replace(base, accepts=ACCEPTED_INVALID | base.accepts)
    x = p.predictions.astype(np.float64)
    smallest = float(np.min(np.minimum(x, 1 - x) if problem.loss == "binary" else x, initial=1.0))
    for epsilon in EPSILONS:
        if epsilon >= MIN_EFFECT * smallest:
            yield _mistake(f"probabilities clipped at {epsilon:.3g}", p, dataclasses.replace(accepting, clip=epsilon))
    for epsilon in EPSILONS:
        if epsilon >= MIN_EFFECT * smallest:
            added = dataclasses.replace(accepting, clip=None, log_floor=None, log_offset=epsilon)
            yield _mistake(f"{epsilon:.3g} added to each probability before its logarithm", p, added)
    two_class = _as_two_classes(p)
    if two_class is not None and problem.loss == "binary":
        without = two_class.predictions.copy()
        without[..., 0] = 1.0
        yield _mistake("the logarithm of 1 - p left out", two_class, accepting, predictions=without)


def _as_two_classes(problem: Problem) -> Problem | None:
    """Binary probabilities as those of two classes, categorical ones unchanged; None if there is no such problem."""
    if problem.loss == "categorical":
        return problem
    if problem.options.positive_weight is not None or problem.labels.shape != problem.predictions.shape:
        return None
    p, y = problem.predictions.astype(np.float64), problem.labels.astype(np.float64)
    return dataclasses.replace(
        problem,
        loss="categorical",
        target="distribution",
        predictions=np.stack([1 - p, p], axis=-1),
        labels=np.stack([1 - y, y], axis=-1),
        layout=Layout(),
    )


def _wrong_axes(problem: Problem, base: Convention, quantity: Quantity) -> Iterator[Variant]:
    """A softmax over samples, outputs broadcast against all labels, and classes without a column; losses only."""
    if quantity != "loss":
        return
    x, labels = problem.predictions, problem.labels
    if problem.loss == "categorical" and problem.input_kind == "logits":
        yield from _softmax_over_samples(problem, base)
    weights = any(getattr(problem.options, name) is not None for name in ("sample_weights", "positive_weight"))
    is_column = x.ndim == 2 and x.shape[-1] == 1
    if problem.loss == "binary" and (x.ndim == 1 or is_column) and 1 < x.size <= MAX_BROADCAST and not weights:
        shape = (x.size, x.size)
        column, row = np.broadcast_to(x.reshape(-1, 1), shape), np.broadcast_to(labels.reshape(1, -1), shape)
        text = "a column of predictions, (N, 1), broadcast against labels of shape (N,)"
        yield _mistake(text, problem, base, predictions=column, labels=row)
    yield from _without_column(problem, base)


def _softmax_over_samples(problem: Problem, base: Convention) -> Iterator[Variant]:
    """Logits normalised along an axis of the samples instead of that of the classes."""
    for axis, length in enumerate(problem.sample_shape):
        if length > 1:
            logs = _log_softmax(problem.predictions, axis)
            changes = {"input_kind": "log_probabilities", "predictions": logs, "layout": Layout()}
            which = f"axis {axis} of the samples" if axis else "the first axis, that of the samples"
            yield _mistake(f"softmax over {which}", problem, base, **changes)


def _without_column(problem: Problem, base: Convention) -> Iterator[Variant]:
    """Targets without the column of the first or last class, as with C - 1 indicator variables for C classes."""
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
        yield _mistake(text, logs, base, predictions=logs.predictions[..., columns], **without)
        if problem.input_kind == "logits" and classes > 2:
            fewer = problem.predictions[..., columns]
            yield _mistake(f"{text} and from the softmax", problem, base, predictions=fewer, **without)


def _wrong_loss(problem: Problem, base: Convention, quantity: Quantity) -> Iterator[Variant]:
    """A binary loss per class instead of the categorical loss."""
    valid = problem.labels.shape == (problem.sample_shape if problem.target == "index" else problem.predictions.shape)
    if problem.loss != "categorical" or not valid or not problem.sample_shape:
        return
    rows, counts = _rows_of_targets(problem)
    options, shape = problem.options, problem.predictions.shape
    weights = None
    if options.class_weights is not None:
        weights = np.broadcast_to(options.class_weights, shape)
    if options.sample_weights is not None:
        full = options.sample_weights.reshape(
            options.sample_weights.shape + (1,) * (len(shape) - options.sample_weights.ndim)
        )
        weights = np.broadcast_to(full if weights is None else full * weights, shape)
    counted = counts if not counts.all() else slice(None)
    fields: dict[str, Any] = {
        "loss": "binary",
        "target": "binary",
        "labels": rows[counted],
        "options": Options(
            sample_weights=None if weights is None else weights[counted], label_smoothing=options.label_smoothing
        ),
        "layout": Layout(),
    }
    by_sample = dataclasses.replace(base, mean_divides_by="samples")
    if problem.input_kind == "logits":
        text = "a binary loss of each class's logit, one against all"
        yield _mistake(text, problem, by_sample, predictions=problem.predictions[counted], **fields)
    if quantity == "loss" and problem.input_kind != "log_probabilities":
        probabilities = convert(problem, "probabilities")[0] if problem.input_kind == "logits" else problem
        subject = "the softmax's outputs" if problem.input_kind == "logits" else "each class's probability"
        outputs = probabilities.predictions[counted]
        yield _mistake(f"a binary loss of {subject}", probabilities, by_sample, predictions=outputs, **fields)


def _rounded_probabilities(problem: Problem, base: Convention, quantity: Quantity) -> Iterator[Variant]:
    """Probabilities rounded to a few decimals before the logarithm, as in worked examples; losses of logits only."""
    if quantity != "loss" or problem.input_kind != "logits":
        return
    p, _ = convert(problem, "probabilities")
    accepting = dataclasses.replace(base, accepts=ACCEPTED_INVALID | base.accepts)
    subject = "softmax" if problem.loss == "categorical" else "sigmoid"
    for decimals in DECIMALS:
        text = f"the {subject} rounded to a multiple of {10.0**-decimals:g}"
        yield _mistake(text, p, accepting, predictions=p.predictions.round(decimals))


def _other_derivatives(problem: Problem, base: Convention, quantity: Quantity) -> Iterator[Variant]:
    """The gradient in predictions of another kind, such as p - y in the logits of given probabilities."""
    if quantity != "gradient":
        return
    kinds = get_args(InputKind) if problem.loss == "categorical" else ("logits", "probabilities")
    for kind in kinds:
        if kind != problem.input_kind:
            converted, _ = convert(problem, kind)
            yield _mistake(f"the gradient in the {kind.replace('_', '-')}", converted, base)


def _focal(problem: Problem, base: Convention, quantity: Quantity) -> Iterator[Variant]:
    """Losses times (1 - p)^gamma with the probability p of the label; losses only, without weights."""
    weighted = any(getattr(problem.options, name) is not None for name in WEIGHTS)
    if quantity != "loss" or weighted or problem.options.label_smoothing or not _has_hard_labels(problem):
        return
    p = convert(problem, "probabilities")[0].predictions.astype(np.float64)
    if problem.loss == "binary":
        is_one = problem.labels == 1
        of_label = np.where(is_one, p, 1 - p)
    else:
        of_label = (_rows_of_targets(problem)[0] * p).sum(axis=-1)
    for gamma, alpha in FOCAL:
        with np.errstate(all="ignore"):
            weights = (1 - of_label) ** gamma
        text = f"a focal loss with gamma {gamma:g}"
        if alpha is not None:
            weights = weights * (np.where(is_one, alpha, 1 - alpha) if problem.loss == "binary" else alpha)
            text += f" and alpha {alpha:g}"
        kept = dataclasses.replace(base, mean_divides_by="kept")
        yield _mistake(text, problem.with_options(sample_weights=weights), kept)


def _scaled_logits(problem: Problem, base: Convention, quantity: Quantity) -> Iterator[Variant]:
    """Logits multiplied by a factor; losses only, as gradients are in the logits that were passed."""
    if problem.input_kind == "logits" and quantity == "loss":
        for factor, text in ((2.0, "logits doubled"), (0.5, "logits halved")):
            with np.errstate(over="ignore"):
                scaled = problem.predictions.astype(np.float64) * factor
            yield _mistake(text, problem, base, predictions=scaled)


def _other_ignored_labels(problem: Problem, base: Convention, quantity: Quantity) -> Iterator[Variant]:
    """Ignored labels that count as a class, and labels outside the classes that are ignored."""
    if problem.target != "index":
        return
    labels, kept, ignored, classes = (
        problem.labels,
        _kept(problem),
        problem.options.ignore_index,
        problem.predictions.shape[-1],
    )
    if not kept.all():
        options = dataclasses.replace(problem.options, ignore_index=None)
        columns = {"0": 0}  # replaced for a lookup, and not masked after it
        if ignored is not None and -classes <= ignored < 0:
            columns[f"{ignored + classes}, counted from the last"] = ignored + classes
        for text, column in columns.items():
            counted = dataclasses.replace(problem, labels=np.where(kept, labels, column), options=options)
            yield _mistake(f"ignored labels counted as class {text}", counted, base)
    outside = kept & ((labels < 0) | (labels >= classes))
    if outside.any() and ignored is None:
        options = dataclasses.replace(problem.options, ignore_index=-1)
        ignoring = dataclasses.replace(problem, labels=np.where(outside, -1, labels), options=options)
        yield _mistake("labels outside the classes ignored", ignoring, base)


def _has_hard_labels(problem: Problem) -> bool:
    """Whether each label is a class index, or 0 or 1, and has the shape of a loss."""
    if problem.loss == "binary":
        return problem.labels.shape == problem.predictions.shape and bool(np.isin(problem.labels, (0, 1)).all())
    return problem.target == "index" and problem.labels.shape == problem.sample_shape


MISTAKES: tuple[Callable[[Problem, Convention, Quantity], Iterator[Variant]], ...] = (
    _omitted_option,
    _other_smoothing,
    _other_weights,
    _relabelled,
    _other_predictions,
    _wrong_axes,
    _wrong_loss,
)
"""Generators of mistakes that are also combined in pairs, in this order."""
SINGLE_MISTAKES = (
    *MISTAKES,
    _epsilons,
    _reordered_classes,
    _rarer_smoothing,
    _focal,
    _scaled_logits,
    _other_ignored_labels,
    _rounded_probabilities,
    _other_derivatives,
)
"""All generators, with those whose mistakes are not combined."""


def pairs(problem: Problem, quantity: Quantity) -> Iterator[Variant]:
    """Pairs of mistakes of different generators."""
    for position, mistakes in enumerate(MISTAKES):
        for first in mistakes(problem, DEFINITION, quantity):
            for second_mistakes in MISTAKES[position + 1 :]:
                for second in second_mistakes(first.problem, first.convention, quantity):
                    yield dataclasses.replace(second, hypothesis=first.hypothesis + second.hypothesis)


def _rows_of_targets(problem: Problem) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """(targets as a number per class, mask of samples that are not ignored); an ignored sample has a row of zeros."""
    if problem.target != "index":
        return problem.labels.astype(np.float64), np.ones(problem.sample_shape, dtype=bool)
    labels = problem.labels[..., np.newaxis] == np.arange(problem.predictions.shape[-1])
    counts = _kept(problem)
    return (labels & counts[..., np.newaxis]).astype(np.float64), counts


def _log_softmax(x: Array, axis: int) -> Array:
    """The logarithm of the softmax over an axis, in float64."""
    with np.errstate(all="ignore"):
        shifted = x - x.max(axis=axis, keepdims=True)
        return np.asarray(np.minimum(shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)), 0.0))

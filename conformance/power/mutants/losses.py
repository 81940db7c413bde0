"""Cross-entropy and its gradient in pure numpy, in steps that a mutant overrides one at a time."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from conformance.adapters import arrays
from conformance.adapters.contract import Framework, Function, Rule
from conformance.adapters.registry import Installed
from conformance.model.case import REDUCTIONS, Array, InputKind, Problem
from conformance.model.case import Loss as CaseLoss
from conformance.model.convention import DEFINITION, Convention
from conformance.reference.domain import WEIGHTS, fits


@dataclass(frozen=True, eq=False)
class Watched:
    """Predictions with respect to which the result is to be differentiated."""

    values: Array


class Loss:
    """What every miniature shares: options, weights per sample, reduction.  Sums of narrow floats are kept wide.

    documented: the convention that it declares.  dtypes, excludes: see `contract.Function`.
    raises: whether the fault is an exception.  family: the table that it stands in.  memory: what calls of a class
    leave to later ones.  backward: whether it is the gradient that is being computed.
    """

    documented: ClassVar[Convention] = DEFINITION
    dtypes: ClassVar[frozenset[str]] = Function.dtypes
    excludes: ClassVar[tuple[frozenset[str], ...]] = ()
    raises: ClassVar[bool] = False
    family: ClassVar[str] = ""
    memory: ClassVar[dict[Any, Any]] = {}
    backward = False

    def __init__(self, **options: Any) -> None:
        self.input_kind: str = options.pop("input_kind")
        self.reduction: str = options.pop("reduction")
        self.target: str = options.pop("target")
        self.axis: int = options.pop("axis", -1)
        self.column: bool = options.pop("column", False)
        self.class_weights: Array | None = options.pop("class_weights", None)
        self.sample_weights: Array | None = options.pop("sample_weights", None)
        self.positive_weight: Array | None = options.pop("positive_weight", None)
        self.smoothing: float = options.pop("label_smoothing", 0.0)
        self.ignore_index: int | None = options.pop("ignore_index", None)
        self.noise: Array | None = options.pop("noise", None)
        assert not options, options

    def __call__(self, predictions: Array | Watched, labels: Array) -> Any:
        """What is asked for, in the dtype of the predictions.

        predictions: [N, ..., C], or of any shape for binary losses; labels as the target says.  The reduced loss;
        the gradient of its sum, shaped as the predictions, where they are watched.
        """
        self.dtype = (predictions.values if isinstance(predictions, Watched) else predictions).dtype
        with np.errstate(all="ignore"):
            if isinstance(predictions, Watched):
                return self.gradient(predictions.values, labels)
            return self.loss(predictions, labels)

    def loss(self, predictions: Array, labels: Array) -> Any:
        """The reduced loss."""
        x, y = self.arranged(predictions, labels)
        self.check(x, y)
        kept = self.kept(x, y)
        self.sample_weights = self.per_loss(self.sample_weights, kept)
        loss, weight = self.losses(x, y)
        if self.sample_weights is not None:
            loss, weight = self.weighted(loss), self.weighted(weight)
        return self.reduced(self.masked(loss, kept), self.masked(weight, kept), kept)

    def gradient(self, predictions: Array, labels: Array) -> Array:
        """The gradient of the sum of the reduced loss, shaped as the predictions."""
        self.backward = True
        x, y = self.arranged(predictions, labels)
        self.check(x, y)
        kept = self.kept(x, y)
        self.sample_weights = self.per_loss(self.sample_weights, kept)
        _, weight = self.losses(x, y)
        slopes = self.slopes(x.astype(wide(x.dtype)), y, self.factor(weight, kept))
        return self.restored(np.where(spread(kept, x), slopes, 0).astype(x.dtype))

    def slopes(self, x: Array, y: Array, factor: Array) -> Array:
        """The derivatives of the loss of each sample times its factor, shaped as the predictions.

        The factor goes first: what is divided by a small probability may be beyond the dtype without it.
        """
        raise NotImplementedError

    def factor(self, weight: Array, kept: Array) -> Array:
        """What the reduction multiplies the loss of each sample by."""
        weights = np.ones(kept.shape, dtype=weight.dtype) if self.sample_weights is None else self.sample_weights
        weights = weights.astype(wide(weight.dtype))
        if self.reduction == "mean":
            weight = weight if self.sample_weights is None else self.weighted(weight)
            weights = weights / self.divisor(self.masked(weight, kept), kept)
        return np.asarray(weights if weights.ndim <= kept.ndim else self.sum(weights)).astype(wide(weight.dtype))

    def restored(self, gradient: Array) -> Array:
        """The gradient as the predictions were handed over."""
        return gradient

    def arranged(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Both arrays with classes on the last axis, and without the axis of a column."""
        raise NotImplementedError

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        """(loss, weight) of each sample, sample weights not yet applied."""
        raise NotImplementedError

    def kept(self, x: Array, y: Array) -> Array:
        """Which samples are not ignored."""
        return np.ones(x.shape, dtype=bool)

    def check(self, x: Array, y: Array) -> None:
        """Refuse what is outside the definition's domain."""
        self.check_shapes(x, y)
        self.check_weights(x)
        self.check_labels(x, y)
        if self.input_kind == "probabilities":
            self.check_probabilities(x, y)

    def check_shapes(self, x: Array, y: Array) -> None:
        refuse(x.shape != y.shape, f"predictions {x.shape} and labels {y.shape} do not fit")

    def check_weights(self, x: Array) -> None:
        for name in WEIGHTS:
            weights = getattr(self, name, None)
            loss: CaseLoss = "binary" if isinstance(self, Binary) else "categorical"
            fit = weights is None or fits(name, np.shape(weights), x.shape, loss)
            refuse(not fit, f"{name} do not fit predictions {x.shape}")

    def check_labels(self, x: Array, y: Array) -> None:
        refuse(np.any((y < 0) | (y > 1)), "a target is outside [0, 1]")

    def check_probabilities(self, x: Array, y: Array) -> None:
        refuse(np.any((x < 0) | (x > 1)), "a probability is outside [0, 1]")

    def per_loss(self, weights: Array | None, kept: Array) -> Array | None:
        """Sample weights of leading axes, one for each loss."""
        if weights is None or weights.ndim >= kept.ndim:
            return weights
        refuse(weights.shape != kept.shape[: weights.ndim], f"weights {weights.shape} for losses {kept.shape}")
        return np.broadcast_to(spread(weights, kept), kept.shape)

    def weighted(self, values: Array) -> Array:
        """Values per sample times the sample weights."""
        return np.asarray(values * self.sample_weights)

    def masked(self, values: Array, kept: Array) -> Array:
        """Values per sample, 0 where ignored."""
        return np.where(kept, values, values.dtype.type(0))

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        if self.reduction == "none":
            return loss
        total = self.sum(loss) if self.reduction == "sum" else self.mean(loss, self.divisor(weight, kept))
        return loss.dtype.type(total)

    def mean(self, loss: Array, by: Any) -> Any:
        """The sum divided; losses are divided first where their sum is beyond the dtype and the mean may not be."""
        total = self.sum(loss)
        return total / by if np.isfinite(total) else self.sum(loss.astype(wide(loss.dtype)) / by)

    def divisor(self, weight: Array, kept: Array) -> Any:
        """What the sum is divided by for the mean."""
        return self.sum(weight)

    def sum(self, values: Array) -> Any:
        """The sum over everything."""
        return self.add(values.reshape(-1).astype(wide(values.dtype), copy=False))

    def add(self, values: Array) -> Array:
        """Sums over the last axis, rounded once to the dtype where that is narrow."""
        return np.asarray(values.sum(axis=-1, dtype=wide(values.dtype))).astype(values.dtype, copy=False)

    @classmethod
    def lower(cls, problem: Problem) -> dict[str, Any]:
        """Arguments that do not follow from the problem alone."""
        noise = cls.drawn_noise(problem)
        return {} if noise is None else {"noise": arrays.Tensor(noise)}

    @classmethod
    def drawn_noise(cls, problem: Problem) -> Array | None:
        """An argument `noise`, shaped as the result; None if it takes none."""
        return None

    @classmethod
    def function(cls) -> Function:
        """What it declares that it can express."""
        binary = issubclass(cls, Binary)
        own = ("positive_weight",) if binary else ("class_weights", "ignore_index")
        words = ("target", "label_smoothing", "sample_weights", *own, "noise")
        kinds: tuple[InputKind, ...] = ("logits", "probabilities", "log_probabilities")
        return Function(
            cls.__name__,
            f"{path_of(cls)}({{options}})({{predictions}}, {{labels}})",
            ranks={"binary": range(1, 9)} if binary else {"categorical": range(2, 9)},
            takes={kind: f"input_kind={kind!r}" for kind in (kinds[:2] if binary else kinds)},
            targets=dict.fromkeys(("binary", "soft_binary") if binary else ("index", "one_hot", "distribution"), ""),
            arguments={"class_axis": "axis", "labels_column": "column", **{word: word for word in words}},
            reductions={name: f"reduction={name!r}" for name in REDUCTIONS},
            label_column=True,
            dtypes=frozenset(cls.dtypes),
            excludes=cls.excludes,
            rules=(Rule(cls.documented),),
            lower=cls.lower,
        )


class Categorical(Loss):
    """The definition over classes."""

    def arranged(self, x: Array, y: Array) -> tuple[Array, Array]:
        y = y[..., 0] if self.column else y
        if self.target == "distribution" and y.ndim == x.ndim:
            y = np.moveaxis(y, self.axis, -1)
        return np.moveaxis(x, self.axis, -1), y

    def check_shapes(self, x: Array, y: Array) -> None:
        want = x.shape[:-1] if self.target == "index" else x.shape
        refuse(want != y.shape, f"predictions {x.shape} and labels {y.shape} do not fit")

    def check_labels(self, x: Array, y: Array) -> None:
        if self.target == "index":
            refuse(np.any(self.kept(x, y) & ((y < 0) | (y >= x.shape[-1]))), "a label is outside the classes")
        else:
            super().check_labels(x, y)

    def check_probabilities(self, x: Array, y: Array) -> None:
        super().check_probabilities(x[self.kept(x, y)], y)

    def kept(self, x: Array, y: Array) -> Array:
        if self.target != "index" or self.ignore_index is None:
            return np.ones(x.shape[:-1], dtype=bool)
        return np.asarray(y != self.ignore_index)

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        q = self.smoothed(self.targets(x, y))
        parts = self.parts(q)
        return self.dot(parts, -self.logs(x)), self.weight(q, parts)

    def weight(self, q: Array, parts: Array) -> Array:
        """The class weights averaged over the targets of each row; 1 where there are no class weights.

        parts: the targets times the class weights.
        """
        if self.class_weights is None:
            return np.ones_like(q[..., 0])
        weight = self.add(parts)
        return weight if self.target == "index" else np.asarray(weight / self.add(q))

    def dot(self, a: Array, b: Array) -> Array:
        """Sums of products over the classes."""
        return self.add(times(a, b))

    def targets(self, x: Array, y: Array) -> Array:
        """Unsmoothed targets [..., C] in the dtype of the predictions."""
        if self.target == "distribution":
            return y.astype(x.dtype)
        return np.eye(x.shape[-1], dtype=x.dtype)[self.index(x, y)]

    def index(self, x: Array, y: Array) -> Array:
        """The class of each sample, 0 where it is ignored."""
        return np.where(self.kept(x, y), y, 0).astype(np.int64)

    def smoothed(self, q: Array) -> Array:
        e = q.dtype.type(self.smoothing)
        return (1 - e) * q + e / q.dtype.type(q.shape[-1]) if self.smoothing else q

    def parts(self, q: Array) -> Array:
        """Targets times class weights."""
        return q if self.class_weights is None else share(q, self.class_weights)

    def logs(self, x: Array) -> Array:
        if self.input_kind == "logits":
            return self.log_softmax(x)
        return self.log(x) if self.input_kind == "probabilities" else x

    def log_softmax(self, z: Array) -> Array:
        d = z - z.max(axis=-1, keepdims=True)
        return np.asarray(d - np.log(self.add(np.exp(d)))[..., np.newaxis])

    def log(self, p: Array) -> Array:
        return np.asarray(np.log(p))

    def slopes(self, x: Array, y: Array, factor: Array) -> Array:
        q = self.smoothed(self.targets(x, y))
        t = self.parts(q) * spread(factor, x)
        if self.input_kind == "logits":
            return self.of_logits(x, t)
        if self.input_kind == "log_probabilities":
            return -t
        return np.where(np.isnan(x) & (q != 0), x, self.of_probabilities(x, t))

    def of_logits(self, z: Array, t: Array) -> Array:
        """The derivatives of -sum_c t_c log softmax(z)_c: (sum of the other t) p - t (1 - p)."""
        p = np.exp(self.log_softmax(z))
        return np.asarray(self.others(t, self.add(t)) * p - t * self.others(p, np.ones_like(p[..., 0])))

    def others(self, values: Array, total: Array) -> Array:
        """What the other classes have of a total; that of the largest is added up, so that nothing cancels."""
        top = np.abs(values.astype(np.float64)).argmax(axis=-1)[..., np.newaxis]
        rest = values.copy()
        np.put_along_axis(rest, top, values.dtype.type(0), axis=-1)
        left = total[..., np.newaxis] - values
        np.put_along_axis(left, top, self.add(rest)[..., np.newaxis], axis=-1)
        return left

    def of_probabilities(self, p: Array, t: Array) -> Array:
        """The derivatives of -sum_c t_c log p_c."""
        return negated_quotient(t, p)

    def restored(self, gradient: Array) -> Array:
        return np.moveaxis(gradient, -1, self.axis)


class Binary(Loss):
    """The definition over outputs that stand each on its own."""

    def arranged(self, x: Array, y: Array) -> tuple[Array, Array]:
        return x, y[..., 0] if self.column else y

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        y = self.smoothed(y.astype(wide(x.dtype)))
        on, off = self.pair(x)
        return self.mixed(y, on, off).astype(x.dtype, copy=False), np.ones_like(x)

    def smoothed(self, y: Array) -> Array:
        """Smoothed labels, in float32 or wider: of a narrow one close to 1, the complement may be lost."""
        e = y.dtype.type(self.smoothing)
        return (1 - e) * y + e / 2 if self.smoothing else y

    def mixed(self, y: Array, on: Array, off: Array) -> Array:
        """Y on + (1 - y) off, the positive weight applied."""
        positive, negative = self.shares(y)
        return times(positive, on) + times(negative, off)

    def pair(self, x: Array) -> tuple[Array, Array]:
        """(-log p, -log(1 - p))."""
        return self.logs_of_logits(x) if self.input_kind == "logits" else self.logs_of_probabilities(x)

    def logs_of_logits(self, z: Array) -> tuple[Array, Array]:
        tail = self.tail(z)
        return tail + np.maximum(-z, z.dtype.type(0)), tail + np.maximum(z, z.dtype.type(0))

    def logs_of_probabilities(self, p: Array) -> tuple[Array, Array]:
        return np.asarray(-np.log(p)), np.asarray(-np.log1p(-p))

    def tail(self, z: Array) -> Array:
        """log(1 + exp(-|z|))."""
        return np.asarray(np.log1p(np.exp(-np.abs(z))))

    def slopes(self, x: Array, y: Array, factor: Array) -> Array:
        on, off = (share * spread(factor, x) for share in self.shares(self.smoothed(y.astype(x.dtype))))
        slopes = self.of_logits(x, on, off) if self.input_kind == "logits" else self.of_probabilities(x, on, off)
        return np.where(np.isnan(x), x, slopes)

    def shares(self, y: Array) -> tuple[Array, Array]:
        """What -log p and -log(1 - p) are multiplied by."""
        return y if self.positive_weight is None else share(y, self.positive_weight), 1 - y

    def of_logits(self, z: Array, on: Array, off: Array) -> Array:
        """The derivatives of -on log sigmoid(z) - off log sigmoid(-z)."""
        e = np.exp(-np.abs(z))
        small, large = e / (1 + e), 1 / (1 + e)
        return np.asarray(off * np.where(z >= 0, large, small) - on * np.where(z >= 0, small, large))

    def of_probabilities(self, p: Array, on: Array, off: Array) -> Array:
        """The derivatives of -on log p - off log(1 - p)."""
        return np.asarray(negated_quotient(on, p) - negated_quotient(off, 1 - p))


def wide(dtype: Any) -> Any:
    """What losses of a dtype are added up in."""
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype


def refuse(wrong: Any, why: str) -> None:
    if wrong:
        raise ValueError(why)


def share(q: Array, weights: Array) -> Array:
    """Targets times weights; what has no share counts nothing, whatever its weight is."""
    return np.asarray(np.where(q == 0, 0, q * weights))


def times(a: Array, b: Array) -> Array:
    """A b, with 0 inf = 0; 0 nan is nan."""
    return np.where((a == 0) & ~np.isnan(b), b.dtype.type(0), a * b)


def negated_quotient(t: Array, p: Array) -> Array:
    """-t / p, with 0 / 0 = 0."""
    return np.where(t == 0, t, -t / p)


def spread(values: Array, x: Array) -> Array:
    """Values per sample, with axes of length 1 behind them for what else the predictions have."""
    return values.reshape(values.shape + (1,) * (x.ndim - values.ndim))


def path_of(loss: type[Loss]) -> str:
    return f"{loss.__module__}.{loss.__name__}"


def framework(*losses: type[Loss], name: str = "miniature", differentiates: bool = False) -> Framework:
    """A framework of miniatures."""
    own = dataclasses.replace(arrays.numpy, derivatives={"gradient": GRADIENT}) if differentiates else arrays.numpy
    modules = tuple(dict.fromkeys(loss.__module__ for loss in losses))
    return Framework(
        name=name,
        distributions=("cross-entropy-conformance",),
        modules=modules,
        imports="; ".join(f"import {module}" for module in modules),
        arrays=own,
        functions=tuple(loss.function() for loss in losses),
    )


GRADIENT = f"import {__name__}\n{{x}} = {__name__}.{Watched.__name__}({{x}})\n{{result}}"
"""Source of the gradient of a miniature's loss."""


def installed(*losses: type[Loss], differentiates: bool = False) -> Installed:
    """Miniatures as a framework that is there; `differentiates`: whether their gradients are asked for, too."""
    return Installed(framework(*losses, differentiates=differentiates), "1.0")

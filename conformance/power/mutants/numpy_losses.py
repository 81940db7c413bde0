"""The definition, its gradient and second derivatives in numpy, divided into steps; a mutant replaces some of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from conformance.adapters import arrays
from conformance.adapters.contract import DocumentedConvention, Framework, Function
from conformance.adapters.registry import Installed
from conformance.model.case import REDUCTIONS, WEIGHTS, Array, InputKind, Loss, Problem, ReturnedQuantity
from conformance.model.convention import DEFINITION, Convention
from conformance.reference.domain import fits


@dataclass(frozen=True, eq=False)
class TracedArray:
    """An array with respect to which the result is differentiated."""

    values: Array


@dataclass(frozen=True, eq=False)
class TracedLoss:
    """A differentiable loss, which accepts an upstream gradient."""

    loss: Implementation
    predictions: Array
    labels: Array
    chain: Callable[[Array], Array] = np.asarray
    """Computes the gradient with respect to the array from that with respect to the predictions."""
    upstream: Array | None = None
    __array_ufunc__ = None

    def __rmul__(self, upstream: Any) -> TracedLoss:
        return dataclasses.replace(self, upstream=np.asarray(upstream))

    def gradient(self) -> Array:
        """The gradient of the sum of the losses, weighted by the upstream gradient."""
        with np.errstate(all="ignore"):
            slope = self.loss.gradient(self.predictions, self.labels)
            if self.upstream is not None:
                slope = self.loss.multiply_upstream(
                    slope, self.loss.upstream_as_received(self.upstream.astype(slope.dtype))
                )
            return self.chain(slope)


class Implementation:
    """Code shared by both losses: options, sample weights, reduction.  Sums of float16 and bfloat16 are float32."""

    documented: ClassVar[Convention] = DEFINITION
    """The declared convention."""
    quantity: ClassVar[ReturnedQuantity] = "loss"
    """The kind of result: `loss`, or `hessian` with respect to logits."""
    dtypes: ClassVar[frozenset[str]] = Function.dtypes
    excludes: ClassVar[tuple[frozenset[str], ...]] = ()
    named_classes: ClassVar[bool] = False
    """Whether it accepts class names."""
    raises: ClassVar[bool] = False
    """Whether the fault is that it raises an exception."""
    family: ClassVar[str] = ""
    """The table that contains it; "" for the definition."""
    call_state: ClassVar[dict[Any, Any]] = {}
    """State that faulty implementations keep between calls."""
    backward = False
    """Whether the gradient is being computed."""

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
        self.class_names: list[Any] | None = options.pop("class_names", None)
        self.noise: Array | None = options.pop("noise", None)
        assert not options, options

    def __call__(self, predictions: Array | TracedArray, labels: Array) -> Any:
        """The loss in the dtype of the predictions; `TracedLoss` if they are `TracedArray`.

        predictions: array [N, ..., C], or of any shape for a binary loss.  labels: labels in the format of the target.
        """
        self.dtype = (predictions.values if isinstance(predictions, TracedArray) else predictions).dtype
        with np.errstate(all="ignore"):
            if isinstance(predictions, TracedArray):
                return TracedLoss(self, predictions.values, labels)
            if self.quantity == "hessian":
                return self.gradient(predictions, labels)
            return self.loss(predictions, labels)

    def loss(self, predictions: Array, labels: Array) -> Any:
        """The reduced loss."""
        x, y, valid = self.prepare(predictions, labels)
        loss, weight = self.losses(x, y)
        if self.sample_weights is not None:
            loss, weight = self.apply_sample_weights(loss), self.apply_sample_weights(weight)
        return self.reduce(self.mask_ignored(loss, valid), self.mask_ignored(weight, valid), valid)

    def gradient(self, predictions: Array, labels: Array) -> Array:
        """The gradient of the sum of the reduced loss, or its second derivatives, in the shape of the predictions."""
        self.backward = True
        x, y, valid = self.prepare(predictions, labels)
        _, weight = self.losses(x, y)
        derivatives = self.second_derivatives if self.quantity == "hessian" else self.derivatives
        values = derivatives(x.astype(accumulator(x.dtype)), y, self.loss_factors(weight, valid))
        return self.restore_layout(np.where(append_axes(valid, x), values, 0).astype(x.dtype))

    def upstream_as_received(self, upstream: Array) -> Array:
        """The upstream gradient."""
        return upstream

    def multiply_upstream(self, slope: Array, upstream: Array) -> Array:
        """A gradient times the upstream gradient, which is a scalar or has one element per loss."""
        has_classes = upstream.ndim and upstream.ndim < slope.ndim
        return np.asarray(slope * (np.expand_dims(upstream, self.axis) if has_classes else upstream))

    def prepare(self, predictions: Array, labels: Array) -> tuple[Array, Array, Array]:
        """Arranged and validated arrays, and the mask of samples that are not ignored."""
        x, y = self.arrange(predictions, labels)
        self.check(x, y)
        valid = self.valid_mask(x, y)
        self.sample_weights = self.broadcast_sample_weights(self.sample_weights, valid)
        return x, y, valid

    def derivatives(self, x: Array, y: Array, factor: Array) -> Array:
        """The derivatives of the loss of each sample times its factor, in the shape of the predictions.

        The factor is applied first: a quotient by a small probability may overflow without it.
        """
        raise NotImplementedError

    def second_derivatives(self, z: Array, y: Array, factor: Array) -> Array:
        """The second derivatives of each loss with respect to the logits times its factor, shaped as the logits."""
        column, variance = append_axes(factor, z), self.variance(z)
        target_sum = np.asarray(self.target_sum_factor(y.astype(z.dtype) if isinstance(self, Binary) else y, z))
        value = self.with_floor(self.scaled(variance), "sample")
        return np.where(self.nan_rows(z), np.nan, self.with_floor(value * target_sum * column, "weighted"))

    def variance(self, z: Array) -> Array:
        """Return p (1 - p)."""
        raise NotImplementedError

    def target_sum_factor(self, y: Array, z: Array) -> Array:
        """The factor of each sample's second derivatives that depends on the sum of its targets."""
        raise NotImplementedError

    def nan_rows(self, z: Array) -> Array:
        """Mask of the logits of samples that contain a nan."""
        return np.isnan(z)

    def scaled(self, value: Array) -> Array:
        """Second derivatives times a constant; a step for mutants to change."""
        return value

    def with_floor(self, value: Array, of: str) -> Array:
        """Second derivatives with a floor, none by default.  of: `sample` before weighting, `weighted` afterwards."""
        return value

    def loss_factors(self, weight: Array, valid: Array) -> Array:
        """The factor of the loss of each sample in the reduced loss."""
        weights = np.ones(valid.shape, dtype=weight.dtype) if self.sample_weights is None else self.sample_weights
        weights = weights.astype(accumulator(weight.dtype))
        if self.reduction == "mean":
            weight = weight if self.sample_weights is None else self.apply_sample_weights(weight)
            weights = weights / self.divisor(self.mask_ignored(weight, valid), valid)
        factors = np.asarray(weights if weights.ndim <= valid.ndim else self.sum_all(weights))
        return factors.astype(accumulator(weight.dtype))

    def restore_layout(self, gradient: Array) -> Array:
        """The gradient in the layout of the predictions."""
        return gradient

    def arrange(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Both arrays with classes on the last axis; a column of labels loses its axis."""
        raise NotImplementedError

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        """(loss, weight) of each sample, before sample weights are applied."""
        raise NotImplementedError

    def valid_mask(self, x: Array, y: Array) -> Array:
        """Mask of the samples that are not ignored."""
        return np.ones(x.shape, dtype=bool)

    def check(self, x: Array, y: Array) -> None:
        """Raise ValueError for arguments outside the domain of the definition."""
        self.check_shapes(x, y)
        self.check_weights(x)
        self.check_labels(x, y)
        if self.input_kind != "logits":
            self.check_probabilities(x, y)

    def check_shapes(self, x: Array, y: Array) -> None:
        raise_if(x.shape != y.shape, f"predictions {x.shape} and labels {y.shape} do not fit")

    def check_weights(self, x: Array) -> None:
        for name in WEIGHTS:
            weights = getattr(self, name, None)
            loss: Loss = "binary" if isinstance(self, Binary) else "categorical"
            fit = weights is None or fits(name, np.shape(weights), x.shape, loss)
            raise_if(not fit, f"{name} do not fit predictions {x.shape}")

    def check_labels(self, x: Array, y: Array) -> None:
        raise_if(np.any((y < 0) | (y > 1)), "a target is outside [0, 1]")

    def check_probabilities(self, x: Array, y: Array) -> None:
        outside = x > 0 if self.input_kind == "log_probabilities" else (x < 0) | (x > 1)
        raise_if(np.any(outside), "a probability is outside [0, 1]")

    def broadcast_sample_weights(self, weights: Array | None, valid: Array) -> Array | None:
        """Sample weights of the leading axes, broadcast to the shape of the losses."""
        if weights is None or weights.ndim >= valid.ndim:
            return weights
        raise_if(weights.shape != valid.shape[: weights.ndim], f"weights {weights.shape} for losses {valid.shape}")
        return np.broadcast_to(append_axes(weights, valid), valid.shape)

    def apply_sample_weights(self, values: Array) -> Array:
        """Values per sample times the sample weights."""
        return np.asarray(values * self.sample_weights)

    def mask_ignored(self, values: Array, valid: Array) -> Array:
        """Values per sample, with 0 for ignored samples."""
        return np.where(valid, values, values.dtype.type(0))

    def reduce(self, loss: Array, weight: Array, valid: Array) -> Any:
        if self.reduction == "none":
            return loss
        total = self.sum_all(loss) if self.reduction == "sum" else self.mean(loss, self.divisor(weight, valid))
        return loss.dtype.type(total)

    def mean(self, loss: Array, by: Any) -> Any:
        """The sum divided by the divisor; if the sum overflows, losses are divided before the summation."""
        total = self.sum_all(loss)
        return total / by if np.isfinite(total) else self.sum_all(loss.astype(accumulator(loss.dtype)) / by)

    def divisor(self, weight: Array, valid: Array) -> Any:
        """The divisor of the mean."""
        return self.sum_all(weight)

    def sum_all(self, values: Array) -> Any:
        """The sum over all axes."""
        return self.sum_last_axis(values.reshape(-1).astype(accumulator(values.dtype), copy=False))

    def sum_last_axis(self, values: Array) -> Array:
        """Sums over the last axis, accumulated in float32 or wider and rounded once to the dtype."""
        return np.asarray(values.sum(axis=-1, dtype=accumulator(values.dtype))).astype(values.dtype, copy=False)

    @classmethod
    def placeholder_values(cls, problem: Problem) -> dict[str, Any]:
        """Arguments that the problem does not determine."""
        noise = cls.drawn_noise(problem)
        return {} if noise is None else {"noise": arrays.Tensor(noise)}

    @classmethod
    def drawn_noise(cls, problem: Problem) -> Array | None:
        """The argument `noise`, shaped as the result; None if the function has no such parameter."""
        return None

    @classmethod
    def function(cls) -> Function:
        """Its declaration as a function of a framework."""
        binary = issubclass(cls, Binary)
        own_options = ("positive_weight",) if binary else ("class_weights", "ignore_index")
        words = ("target", "label_smoothing", "sample_weights", *own_options, "noise")
        words += ("class_names",) if cls.named_classes else ()
        second = cls.quantity == "hessian"
        kinds: tuple[InputKind, ...] = ("logits", "probabilities", "log_probabilities")
        kinds = kinds[: 1 if second else 2 if binary else 3]
        return Function(
            cls.__name__,
            f"{cls.__module__}.{cls.__name__}({{options}})({{predictions}}, {{labels}})",
            ranks={"binary": range(9)} if binary else {"categorical": range(1, 9)},
            input_kinds={kind: f"input_kind={kind!r}" for kind in kinds},
            targets=dict.fromkeys(("binary", "soft_binary") if binary else ("index", "one_hot", "distribution"), ""),
            arguments={"class_axis": "axis", "labels_column": "column", **{word: word for word in words}},
            reductions={name: f"reduction={name!r}" for name in REDUCTIONS},
            labels_column=True,
            named_classes=cls.named_classes,
            dtypes=frozenset(cls.dtypes),
            excludes=cls.excludes,
            conventions=(DocumentedConvention(cls.documented),),
            placeholder_values=cls.placeholder_values,
            quantity=cls.quantity,
            differentiates=not second,
        )


class Categorical(Implementation):
    """The categorical loss."""

    def arrange(self, x: Array, y: Array) -> tuple[Array, Array]:
        y = y[..., 0] if self.column else y
        if self.target == "distribution" and y.ndim == x.ndim:
            y = np.moveaxis(y, self.axis, -1)
        return np.moveaxis(x, self.axis, -1), y

    def check_shapes(self, x: Array, y: Array) -> None:
        want = x.shape[:-1] if self.target == "index" else x.shape
        raise_if(want != y.shape, f"predictions {x.shape} and labels {y.shape} do not fit")

    def check_labels(self, x: Array, y: Array) -> None:
        if self.target == "index":
            raise_if(np.any(self.valid_mask(x, y) & ((y < 0) | (y >= x.shape[-1]))), "a label is outside the classes")
        else:
            super().check_labels(x, y)

    def check_probabilities(self, x: Array, y: Array) -> None:
        super().check_probabilities(x[self.valid_mask(x, y)], y)

    def valid_mask(self, x: Array, y: Array) -> Array:
        if self.target != "index" or self.ignore_index is None:
            return np.ones(x.shape[:-1], dtype=bool)
        return np.asarray(y != self.ignore_index)

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        q = self.smooth(self.targets(x, y))
        parts = self.weighted_targets(q)
        return self.sum_products(parts, -self.log_probabilities(x)), self.weight(q, parts)

    def weight(self, q: Array, parts: Array) -> Array:
        """The class weights averaged over the targets of each row; 1 without class weights.

        parts: the targets times the class weights.
        """
        if self.class_weights is None:
            return np.ones_like(q[..., 0])
        weight = self.sum_last_axis(parts)
        return weight if self.target == "index" else np.asarray(weight / self.sum_last_axis(q))

    def sum_products(self, a: Array, b: Array) -> Array:
        """Sums of products over the classes."""
        return self.sum_last_axis(multiply(a, b))

    def targets(self, x: Array, y: Array) -> Array:
        """Unsmoothed targets [..., C] in the dtype of the predictions."""
        if self.target == "distribution":
            return y.astype(x.dtype)
        q = np.zeros(x.shape, dtype=x.dtype)
        np.put_along_axis(q, self.class_index(x, y)[..., np.newaxis], 1, axis=-1)
        return q

    def class_index(self, x: Array, y: Array) -> Array:
        """The class of each sample, 0 where it is ignored."""
        return np.where(self.valid_mask(x, y), y, 0).astype(np.int64)

    def smooth(self, q: Array) -> Array:
        e = q.dtype.type(self.smoothing)
        return (1 - e) * q + e / q.dtype.type(q.shape[-1]) if self.smoothing else q

    def weighted_targets(self, q: Array) -> Array:
        """Targets times class weights."""
        return q if self.class_weights is None else weigh(q, self.class_weights)

    def log_probabilities(self, x: Array) -> Array:
        if self.input_kind == "logits":
            return self.log_softmax(x)
        return self.log(x) if self.input_kind == "probabilities" else x

    def log_softmax(self, z: Array) -> Array:
        d = z - z.max(axis=-1, keepdims=True)
        return np.asarray(d - np.log(self.sum_last_axis(np.exp(d)))[..., np.newaxis])

    def log(self, p: Array) -> Array:
        return np.asarray(np.log(p))

    def derivatives(self, x: Array, y: Array, factor: Array) -> Array:
        q = self.smooth(self.targets(x, y))
        t = self.weighted_targets(q) * append_axes(factor, x)
        if self.input_kind == "logits":
            return self.derivatives_of_logits(x, t)
        if self.input_kind == "log_probabilities":
            return -t
        return np.where(np.isnan(x) & (q != 0), x, self.derivatives_of_probabilities(x, t))

    def derivatives_of_logits(self, z: Array, t: Array) -> Array:
        """The derivatives of -sum_c t_c log softmax(z)_c: (sum of the other targets) p - t (1 - p)."""
        p = np.exp(self.log_softmax(z))
        return np.asarray(
            self.total_minus_each(t, self.sum_last_axis(t)) * p - t * self.total_minus_each(p, np.ones_like(p[..., 0]))
        )

    def variance(self, z: Array) -> Array:
        p = np.exp(self.log_softmax(z))
        return np.asarray(p * self.total_minus_each(p, np.ones_like(p[..., 0])))

    def target_sum_factor(self, y: Array, z: Array) -> Array:
        return self.sum_last_axis(self.weighted_targets(self.smooth(self.targets(z, y))))[..., np.newaxis]

    def nan_rows(self, z: Array) -> Array:
        return np.asarray(np.isnan(z).any(axis=-1, keepdims=True))

    def total_minus_each(self, values: Array, total: Array) -> Array:
        """The total minus each value; for the largest value the others are summed again, to avoid cancellation."""
        top = np.abs(values.astype(np.float64)).argmax(axis=-1)[..., np.newaxis]
        without_largest = values.copy()
        np.put_along_axis(without_largest, top, values.dtype.type(0), axis=-1)
        sums = total[..., np.newaxis] - values
        np.put_along_axis(sums, top, self.sum_last_axis(without_largest)[..., np.newaxis], axis=-1)
        return sums

    def derivatives_of_probabilities(self, p: Array, t: Array) -> Array:
        """The derivatives of -sum_c t_c log p_c."""
        return negated_quotient(t, p)

    def restore_layout(self, gradient: Array) -> Array:
        return np.moveaxis(gradient, -1, self.axis)


FIXED = ("class_axis", "noise", "target")
"""Names of call arguments that a head does not have."""


class Head(Categorical):
    """The categorical loss whose logits are the product of hidden states and a weight matrix."""

    biased: ClassVar[bool] = False
    """Whether it has a bias."""

    def __init__(self, **options: Any) -> None:
        self.bias: Any = options.pop("bias", None)
        super().__init__(input_kind="logits", target="index", **options)

    def __call__(self, hidden: Any, weight: Any, labels: Array) -> Any:  # type: ignore[override]
        """The loss in the dtype of the hidden states [..., H]; `TracedLoss` if an array is `TracedArray`.

        weight: weights of the linear layer [C, H].
        """
        operands = {"hidden": hidden, "weight": weight, "bias": self.bias}
        by = next((name for name, array in operands.items() if isinstance(array, TracedArray)), "")
        h, w, b = (array.values if isinstance(array, TracedArray) else array for array in operands.values())
        self.dtype = h.dtype
        with np.errstate(all="ignore"):
            logits = self.logits(h, w, b)
            if not by:
                return self.loss(logits, labels)
        chains: dict[str, Callable[[Array], Array]] = {
            "hidden": lambda slope: self.hidden_gradient(slope, w),
            "weight": lambda slope: self.weight_gradient(slope, h.reshape(-1, h.shape[-1])),
            "bias": self.bias_gradient,
        }
        return TracedLoss(self, logits, labels, chains[by])

    def logits(self, h: Array, w: Array, b: Array | None) -> Array:
        """The product of hidden states and weights, plus the bias if there is one."""
        z = self.product(h, w.T)
        return z if b is None else z + b

    def product(self, a: Array, b: Array) -> Array:
        """A matrix product, accumulated in float32 or wider."""
        wide = accumulator(a.dtype)
        return np.asarray(a.astype(wide) @ b.astype(wide)).astype(a.dtype)

    def hidden_gradient(self, slope: Array, w: Array) -> Array:
        """The gradient with respect to the hidden states, from that with respect to the logits."""
        return self.product(slope, w)

    def weight_gradient(self, slope: Array, h: Array) -> Array:
        """The gradient with respect to the weights.  h: hidden states [N, H]."""
        return self.product(self.rows(slope).T, h)

    def bias_gradient(self, slope: Array) -> Array:
        """The gradient with respect to the bias."""
        return self.sum_last_axis(self.rows(slope).T)

    def rows(self, slope: Array) -> Array:
        """The gradient with respect to the logits as a matrix."""
        return slope.reshape(-1, slope.shape[-1])

    @classmethod
    def function(cls) -> Function:
        function = super().function()
        arguments = {word: entry for word, entry in function.arguments.items() if word not in FIXED}
        return dataclasses.replace(
            function,
            call=f"{cls.__module__}.{cls.__name__}({{options}})({{hidden}}, {{weight}}, {{labels}})",
            input_kinds={"logits": ""},
            targets={"index": ""},
            arguments=arguments | ({"bias": "bias"} if cls.biased else {}),
            orders=frozenset(),
            placeholder_values=None,
        )


class BiasedHead(Head):
    """A head with a bias for each class."""

    biased = True


class Binary(Implementation):
    """The binary loss of independent outputs."""

    def arrange(self, x: Array, y: Array) -> tuple[Array, Array]:
        return x, y[..., 0] if self.column else y

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        y = self.smooth(y.astype(accumulator(x.dtype)))
        on, off = self.negative_logs(x)
        return self.combine(y, on, off).astype(x.dtype, copy=False), np.ones_like(x)

    def smooth(self, y: Array) -> Array:
        """Smoothed labels in float32 or wider, because 1 - y may round to 0 in a narrow dtype."""
        e = y.dtype.type(self.smoothing)
        return (1 - e) * y + e / 2 if self.smoothing else y

    def combine(self, y: Array, on: Array, off: Array) -> Array:
        """The loss y on + (1 - y) off, including the positive weight.  on, off: the losses -log p and -log(1 - p)."""
        positive, negative = self.term_weights(y)
        return multiply(positive, on) + multiply(negative, off)

    def negative_logs(self, x: Array) -> tuple[Array, Array]:
        """(-log p, -log(1 - p))."""
        if self.input_kind == "logits":
            return self.negative_logs_of_logits(x)
        return self.negative_logs_of_probabilities(x)

    def negative_logs_of_logits(self, z: Array) -> tuple[Array, Array]:
        tail = self.softplus_tail(z)
        return tail + np.maximum(-z, z.dtype.type(0)), tail + np.maximum(z, z.dtype.type(0))

    def negative_logs_of_probabilities(self, p: Array) -> tuple[Array, Array]:
        return np.asarray(-np.log(p)), np.asarray(-np.log1p(-p))

    def softplus_tail(self, z: Array) -> Array:
        """log(1 + exp(-|z|))."""
        return np.asarray(np.log1p(np.exp(-np.abs(z))))

    def derivatives(self, x: Array, y: Array, factor: Array) -> Array:
        on, off = (share * append_axes(factor, x) for share in self.term_weights(self.smooth(y.astype(x.dtype))))
        logits = self.input_kind == "logits"
        derivatives = self.derivatives_of_logits if logits else self.derivatives_of_probabilities
        return np.where(np.isnan(x), x, derivatives(x, on, off))

    def term_weights(self, y: Array) -> tuple[Array, Array]:
        """The factors of -log p and of -log(1 - p)."""
        return y if self.positive_weight is None else weigh(y, self.positive_weight), 1 - y

    def derivatives_of_logits(self, z: Array, on: Array, off: Array) -> Array:
        """The derivatives of -on log sigmoid(z) - off log sigmoid(-z).  on, off: factors of the two terms."""
        e = np.exp(-np.abs(z))
        small, large = e / (1 + e), 1 / (1 + e)
        return np.asarray(off * np.where(z >= 0, large, small) - on * np.where(z >= 0, small, large))

    def variance(self, z: Array) -> Array:
        e = np.exp(-np.abs(z))
        return np.asarray(e / (1 + e) / (1 + e))

    def target_sum_factor(self, y: Array, z: Array) -> Array:
        on, off = self.term_weights(self.smooth(y))
        return on + off

    def derivatives_of_probabilities(self, p: Array, on: Array, off: Array) -> Array:
        """The derivatives of -on log p - off log(1 - p)."""
        return np.asarray(negated_quotient(on, p) - negated_quotient(off, 1 - p))


def accumulator(dtype: Any) -> Any:
    """The dtype in which losses of this dtype are summed."""
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype


def raise_if(wrong: Any, why: str) -> None:
    if wrong:
        raise ValueError(why)


def weigh(q: Array, weights: Array) -> Array:
    """Targets times weights, 0 where the target is 0, also if the weight is infinite or nan."""
    return np.asarray(np.where(q == 0, 0, q * weights))


def multiply(a: Array, b: Array) -> Array:
    """The product, with 0 * inf = 0; 0 * nan is nan."""
    return np.where((a == 0) & ~np.isnan(b), b.dtype.type(0), a * b)


def negated_quotient(t: Array, p: Array) -> Array:
    """-t / p, with 0 / 0 = 0."""
    return np.where(t == 0, t, -t / p)


def narrow(values: Array) -> Array:
    """float64 values rounded to float32, others as they are."""
    return values.astype(np.float32).astype(values.dtype) if values.dtype == np.float64 else values


def append_axes(values: Array, x: Array) -> Array:
    """Values per sample with axes of length 1 appended up to the rank of the predictions."""
    return values.reshape(values.shape + (1,) * (x.ndim - values.ndim))


def framework(*losses: type[Implementation], name: str = "miniature", differentiates: bool = False) -> Framework:
    """A fake framework of some implementations."""
    derived_arrays = (
        dataclasses.replace(arrays.numpy, derivatives={"gradient": GRADIENT_CALL}) if differentiates else arrays.numpy
    )
    modules = tuple(dict.fromkeys(loss.__module__ for loss in losses))
    return Framework(
        name=name,
        distributions=("cross-entropy-conformance",),
        modules=modules,
        imports="; ".join(f"import {module}" for module in modules),
        arrays=derived_arrays,
        uses_upstream_gradient=differentiates,
        functions=tuple(loss.function() for loss in losses),
    )


GRADIENT_CALL = f"import {__name__}\n{{x}} = {__name__}.{TracedArray.__name__}({{x}})\n{{result}}.gradient()"
"""Source of the gradient of a loss."""


def installed(*losses: type[Implementation], differentiates: bool = False) -> Installed:
    """The fake framework as an installed one.  differentiates: whether it has gradients."""
    return Installed(framework(*losses, differentiates=differentiates), "1.0")

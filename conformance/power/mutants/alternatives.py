"""Correct implementations that compute the definition in other ways; a suite that reports one is wrong itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.model.case import Array, numpy_dtype
from conformance.model.convention import Convention
from conformance.power.mutants.losses import Binary, Categorical, Loss, times, wide

BLOCK_SIZE = 4
"""Terms that are added up in one block."""
CANCELLING = Convention(cancellation="logits")
SAFE_RANGE = {2: 10.0, 4: 80.0, 8: 700.0, 16: 11000.0}
"""Exponents that no dtype of so many bytes overflows at; bfloat16 goes further than it has to."""
FLUSHED = frozenset({"bfloat16", "float32", "float64"})
"""Dtypes whose subnormal numbers some hardware takes for 0."""
EXTENDED = np.finfo(np.longdouble).nmant > np.finfo(np.float64).nmant
"""Whether this platform has something wider than float64."""
WIDENED = frozenset({"float16", "bfloat16", "float32", *(["float64"] if EXTENDED else [])})
"""Dtypes beside which there is a wider one."""


# Sums in another order, or more carefully; each for both losses.


class _InOrder(Loss):
    def add(self, values: Array) -> Array:
        return in_order(values)


class _Backwards(Loss):
    def add(self, values: Array) -> Array:
        return in_order(values[..., ::-1])


class _SmallestFirst(Loss):
    def add(self, values: Array) -> Array:
        return in_order(np.take_along_axis(values, np.argsort(np.abs(values.astype(np.float64)), axis=-1), axis=-1))


class _InBlocks(Loss):
    def add(self, values: Array) -> Array:
        blocks = [in_order(values[..., start : start + BLOCK_SIZE]) for start in range(0, values.shape[-1], BLOCK_SIZE)]
        return in_order(np.stack(blocks, axis=-1)) if blocks else in_order(values)


class _Pairwise(Loss):
    def add(self, values: Array) -> Array:
        while values.shape[-1] > 1:
            paired = values[..., 0 : values.shape[-1] // 2 * 2]
            values = np.concatenate([paired[..., 0::2] + paired[..., 1::2], values[..., paired.shape[-1] :]], axis=-1)
        return in_order(values)


class _Kahan(Loss):
    def add(self, values: Array) -> Array:
        total = lost = np.zeros(values.shape[:-1], dtype=values.dtype)
        for term in np.moveaxis(values, -1, 0):
            corrected = term - lost
            now = total + corrected
            lost = np.where(np.isfinite(now), (now - total) - corrected, lost * 0)
            total = now
        return np.asarray(total)


def in_order(values: Array) -> Array:
    """Sums over the last axis, one term after another, in the dtype or the least that such a loop is kept in."""
    if not values.shape[-1]:
        return np.zeros(values.shape[:-1], dtype=values.dtype)
    sums = np.add.accumulate(values, axis=-1, dtype=wide(values.dtype))
    return np.asarray(sums[..., -1]).astype(values.dtype, copy=False)


class SumsInOrder(_InOrder, Categorical):
    """Adds one term after another."""


class SumsBackwards(_Backwards, Categorical):
    """Adds one term after another, the last first, which is another order of the classes and of the samples."""


class SumsSmallestFirst(_SmallestFirst, Categorical):
    """Adds one term after another, from the smallest to the largest."""


class SumsInBlocks(_InBlocks, Categorical):
    """Adds terms up in blocks of four, and then the blocks."""


class SumsPairwise(_Pairwise, Categorical):
    """Adds neighbours, then their sums, and so on, all in the dtype."""


class SumsWithCompensation(_Kahan, Categorical):
    """Adds one term after another and makes up for what each addition lost (Kahan)."""


class BinarySumsInOrder(_InOrder, Binary):
    """Adds one term after another."""


class BinarySumsBackwards(_Backwards, Binary):
    """Adds one term after another, the last first."""


class BinarySumsInBlocks(_InBlocks, Binary):
    """Adds terms up in blocks of four, and then the blocks."""


class BinarySumsPairwise(_Pairwise, Binary):
    """Adds neighbours, then their sums, and so on."""


class BinarySumsWithCompensation(_Kahan, Binary):
    """Adds one term after another and makes up for what each addition lost (Kahan)."""


# Another order of operations.


class ShufflesClasses(Categorical):
    """Takes the classes in another order."""

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        order = np.random.default_rng(x.shape[-1]).permutation(x.shape[-1])
        q = self.smoothed(self.targets(x, y))
        parts = self.parts(q)[..., order]
        return self.dot(parts, -self.logs(x[..., order])), self.weight(q[..., order], parts)


class DividesFirst(Categorical):
    """Divides each loss before it adds them up."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        if self.reduction != "mean":
            return super().reduced(loss, weight, kept)
        return loss.dtype.type(self.sum(loss.astype(wide(loss.dtype)) / self.divisor(weight, kept)))


class MultipliesByTheReciprocal(Binary):
    """Multiplies the sum by the reciprocal of the divisor."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        if self.reduction != "mean":
            return super().reduced(loss, weight, kept)
        return loss.dtype.type(self.sum(loss) * (1 / self.divisor(weight, kept)))


class WeighsLast(Categorical):
    """Multiplies class weights with losses and not with targets."""

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        q = self.smoothed(self.targets(x, y))
        logs = -self.logs(x)
        weighed = (
            logs if self.class_weights is None else times(np.where(q == 0, q.dtype.type(1), self.class_weights), logs)
        )
        return self.dot(q, weighed), self.weight(q, self.parts(q))


class AveragesOverShares(Categorical):
    """Divides the targets of a row by their sum before it averages class weights over them."""

    def weight(self, q: Array, parts: Array) -> Array:
        if self.class_weights is None or self.target == "index":
            return super().weight(q, parts)
        return self.add(self.parts(q / self.add(q)[..., np.newaxis]))


class SmoothsLosses(Categorical):
    """Mixes losses where label smoothing mixes targets."""

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        if not self.smoothing:
            return super().losses(x, y)
        own, logs = self.parts(self.targets(x, y)), -self.logs(x)
        e, classes = x.dtype.type(self.smoothing), x.dtype.type(x.shape[-1])
        everyone = self.parts(np.full_like(own, 1 / classes))  # what all classes add up to may be beyond the dtype
        loss = times(1 - e, self.dot(own, logs)) + times(e, self.dot(everyone, logs))
        if self.class_weights is None:
            return loss, np.ones_like(loss)
        weight = (1 - e) * self.add(own) + e * self.add(everyone)
        return loss, weight if self.target == "index" else weight / ((1 - e) * self.add(self.targets(x, y)) + e)


class PicksTheLabel(Categorical):
    """Looks the label's class up where it is all that counts, and multiplies with no zeros."""

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        if self.target != "index" or self.smoothing:
            return super().losses(x, y)
        label = self.index(x, y)
        loss = -np.take_along_axis(self.logs(x), label[..., np.newaxis], axis=-1)[..., 0]
        if self.class_weights is None:
            return loss, np.ones_like(loss)
        weight = np.asarray(self.class_weights[label])
        return loss * weight, weight


class SmoothsTheComplement(Binary):
    """Smooths 1 - y as it smooths y, and does not subtract."""

    def smoothed(self, y: Array) -> Array:
        e = y.dtype.type(self.smoothing)
        self.complement = (1 - e) * (1 - y) + e / 2 if self.smoothing else 1 - y
        return super().smoothed(y)

    def shares(self, y: Array) -> tuple[Array, Array]:
        return super().shares(y)[0], self.complement


class WeighsOutputsLast(Binary):
    """Multiplies the positive weight with the loss and not with the target."""

    def mixed(self, y: Array, on: Array, off: Array) -> Array:
        own = times(y, on)
        if self.positive_weight is not None:
            own = times(np.where(y == 0, y.dtype.type(1), self.positive_weight), own)
        return times(1 - y, off) + own


# Logarithms in another form.


class Log1pOfTheOthers(Categorical):
    """Takes log1p of what the classes beside the largest leave."""

    def log_softmax(self, z: Array) -> Array:
        top = z.max(axis=-1, keepdims=True)
        e = np.exp(z - top)
        np.put_along_axis(e, z.astype(np.float64).argmax(axis=-1)[..., np.newaxis], z.dtype.type(0), axis=-1)
        return np.asarray(np.where(np.isnan(top), top, (z - top) - np.log1p(self.add(e))[..., np.newaxis]))


class ShiftsByTheLabel(Categorical):
    """Subtracts the logit of the label, where that overflows nothing, so that the logarithm is the loss."""

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        if self.input_kind != "logits" or self.target != "index" or self.smoothing or not x.size:
            return super().losses(x, y)
        d = x - np.take_along_axis(x, self.index(x, y)[..., np.newaxis], axis=-1)
        safe = d.max(axis=-1) < SAFE_RANGE[x.dtype.itemsize] - np.log(x.shape[-1])
        loss, weight = super().losses(x, y)
        return np.where(safe, np.log(self.add(np.exp(d))) * weight, loss), weight


class AddsTheShiftBack(Categorical):
    """Adds the largest logit to the logarithm before it takes the label's off, and documents it."""

    documented = CANCELLING

    def log_softmax(self, z: Array) -> Array:
        top = z.max(axis=-1, keepdims=True)
        return np.asarray(z - (np.log(self.add(np.exp(z - top)))[..., np.newaxis] + top))


class TakesTargetsOff(Categorical):
    """Takes targets off probabilities in the gradient, and documents it."""

    documented = Convention(gradient_cancellation="targets")

    def of_logits(self, z: Array, t: Array) -> Array:
        return np.asarray(self.add(t)[..., np.newaxis] * np.exp(self.log_softmax(z)) - t)


class TakesTargetsOffOutputs(Binary):
    """Takes targets off probabilities in the gradient, and documents it."""

    documented = Convention(gradient_cancellation="targets")

    def of_logits(self, z: Array, on: Array, off: Array) -> Array:
        return np.asarray((off + on) / (1 + np.exp(-z)) - on)


class BinaryLogarithms(Categorical):
    """Takes logarithms of base 2 and multiplies them by log 2."""

    def log(self, p: Array) -> Array:
        return np.asarray(np.log2(p) * p.dtype.type(np.log(2)))


class FusesProducts(Categorical):
    """Adds products up without rounding them, as a fused multiply-add does."""

    dtypes = WIDENED

    def dot(self, a: Array, b: Array) -> Array:
        total = np.zeros(a.shape[:-1], dtype=a.dtype)
        for c in range(a.shape[-1]):
            left, right = (one[..., c].astype(widened(a.dtype)) for one in (a, b))
            total = np.asarray(times(left, right) + total).astype(a.dtype)
        return total


class FusesOutputs(Binary):
    """Adds the second term of an output to the product of the first without rounding it."""

    dtypes = WIDENED

    def mixed(self, y: Array, on: Array, off: Array) -> Array:
        positive, negative = self.shares(y)
        left, right = positive.astype(widened(y.dtype)), on.astype(widened(y.dtype))
        return np.asarray(times(left, right) + times(negative, off)).astype(y.dtype)


class LogAddExp(Binary):
    """Takes log(exp 0 + exp z) with numpy's logaddexp."""

    def logs_of_logits(self, z: Array) -> tuple[Array, Array]:
        zero = z.dtype.type(0)
        if z.dtype.itemsize < 4:
            wide_z = z.astype(np.float32)
            return np.logaddexp(0, -wide_z).astype(z.dtype), np.logaddexp(0, wide_z).astype(z.dtype)
        return np.logaddexp(zero, -z), np.logaddexp(zero, z)


class Log1pByHand(Binary):
    """Corrects the logarithm of 1 + t for what 1 + t lost: log(1 + t) t / ((1 + t) - 1)."""

    def tail(self, z: Array) -> Array:
        t = np.exp(-np.abs(z))
        sum_ = 1 + t
        return np.where(sum_ == 1, t, np.log(sum_) * (t / np.where(sum_ == 1, 1, sum_ - 1)))


class SoftplusOfTheSign(Binary):
    """Takes one softplus, of the logit with the sign that the label says, and mixes two where it is soft."""

    def mixed(self, y: Array, on: Array, off: Array) -> Array:
        loss = np.where(y == 1, on, off)
        if self.positive_weight is not None:
            loss = np.where(y == 1, times(self.positive_weight, on), loss)
        return np.where((y == 0) | (y == 1), loss, super().mixed(y, on, off))


class OneTail(Binary):
    """Takes (1 - y) z + (1 + (w - 1) y) (log1p(exp(-|z|)) + max(-z, 0)), and documents what cancels in it."""

    documented = CANCELLING

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        loss, weight = super().losses(x, y)
        if self.input_kind != "logits":
            return loss, weight
        y = self.smoothed(y.astype(wide(x.dtype)))
        factor = 1 + (self.positive_weight - 1) * y if self.positive_weight is not None else x.dtype.type(1)
        one_tail = ((1 - y) * x + factor * (self.tail(x) + np.maximum(-x, x.dtype.type(0)))).astype(x.dtype, copy=False)
        return np.where(np.isfinite(x) & np.isfinite(one_tail), one_tail, loss), weight


class SubtractsTheLogit(Binary):
    """Takes max(z, 0) - y z + log1p(exp(-|z|)) where there is no positive weight, and documents what cancels in it."""

    documented = CANCELLING

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        loss, weight = super().losses(x, y)
        if self.input_kind != "logits" or self.positive_weight is not None:
            return loss, weight
        y = self.smoothed(y.astype(wide(x.dtype)))
        short = (np.maximum(x, x.dtype.type(0)) - y * x + self.tail(x)).astype(x.dtype, copy=False)
        return np.where(np.isfinite(x), short, loss), weight


class LogOfTheComplement(Binary):
    """Takes log of 1 - p, which is rounded once, and not log1p of -p."""

    def logs_of_probabilities(self, p: Array) -> tuple[Array, Array]:
        on, _ = super().logs_of_probabilities(p)
        return on, np.asarray(-np.log(1 - p))


# More digits than the dtype has, rounded once at the end.


def widened(dtype: Any) -> Any:
    """The next wider dtype that arithmetic is done in."""
    return {2: np.float32, 4: np.float64}.get(dtype.itemsize, np.longdouble)


class _Widened(Loss):
    """Everything in the next wider dtype, and one rounding at the end."""

    dtypes = WIDENED

    def loss(self, predictions: Array, labels: Array) -> Any:
        result = super().loss(predictions.astype(widened(predictions.dtype)), labels)
        return self.rounded(np.asarray(result), predictions.dtype)

    def gradient(self, predictions: Array, labels: Array) -> Array:
        result = super().gradient(predictions.astype(widened(predictions.dtype)), labels)
        return self.rounded(result, predictions.dtype)

    def rounded(self, result: Array, dtype: Any) -> Array:
        """The result in the dtype that is due."""
        return result.astype(np.float32).astype(dtype) if dtype == numpy_dtype("bfloat16") else result.astype(dtype)


class Widened(_Widened, Categorical):
    """Computes everything in the next wider dtype."""


class BinaryWidened(_Widened, Binary):
    """Computes everything in the next wider dtype."""


class _Chopped(_Widened):
    """The last rounding towards 0, which is off by up to a unit in the last place."""

    def rounded(self, result: Array, dtype: Any) -> Array:
        near = super().rounded(result, dtype)
        beyond = np.isfinite(near) & (np.abs(near.astype(result.dtype)) > np.abs(result))
        return np.where(beyond, np.nextafter(near, dtype.type(0)), near)


class Chopped(_Chopped, Categorical):
    """Computes in the next wider dtype and rounds the result towards 0."""


class BinaryChopped(_Chopped, Binary):
    """Computes in the next wider dtype and rounds the result towards 0."""


class ShiftsByTheMean(Widened):
    """Subtracts the mean logit, where that overflows nothing, in the next wider dtype."""

    def log_softmax(self, z: Array) -> Array:
        return shifted(self, z, z.mean(axis=-1, keepdims=True, dtype=z.dtype))


class ShiftsByTheSmallest(Widened):
    """Subtracts the smallest logit, where that overflows nothing, in the next wider dtype."""

    def log_softmax(self, z: Array) -> Array:
        return shifted(self, z, z.min(axis=-1, keepdims=True))


class ShiftsByNothing(Widened):
    """Subtracts nothing, where that overflows nothing, in the next wider dtype."""

    def log_softmax(self, z: Array) -> Array:
        return shifted(self, z, np.zeros_like(z[..., :1]))


class LogOfSoftmaxWidened(Widened):
    """Takes the logarithm of the softmax in the next wider dtype, where it underflows nowhere."""

    def log_softmax(self, z: Array) -> Array:
        e = np.exp(z - z.max(axis=-1, keepdims=True))
        logs = np.log(e / self.add(e)[..., np.newaxis])
        return np.where(digits_left(logs), logs, super().log_softmax(z))


class LogOfSigmoidWidened(BinaryWidened):
    """Takes logarithms of the sigmoid in the next wider dtype, where it keeps its digits."""

    def logs_of_logits(self, z: Array) -> tuple[Array, Array]:
        sure = self.tail(z)
        on, off = -np.log(1 / (1 + np.exp(-z))), -np.log(1 / (1 + np.exp(z)))
        keeps = (np.abs(z) < SAFE_RANGE[2] / 4) & np.isfinite(z)
        return (
            np.where(keeps, on, sure + np.maximum(-z, z.dtype.type(0))),
            np.where(keeps, off, sure + np.maximum(z, z.dtype.type(0))),
        )


def shifted(loss: Categorical, z: Array, shift: Array) -> Array:
    """Log softmax through a log-sum-exp with another shift in rows where that is safe."""
    d = z - shift
    logs = d - np.log(loss.add(np.exp(d)))[..., np.newaxis]
    safe = np.all(np.abs(d) < SAFE_RANGE[2], axis=-1, keepdims=True) & np.all(np.isfinite(z), axis=-1, keepdims=True)
    return np.where(safe & digits_left(logs), logs, Categorical.log_softmax(loss, z))


def digits_left(logs: Array) -> Array:
    """Where log-probabilities are neither so large nor so small that a dtype of twice the digits loses too many."""
    return np.asarray(np.all((logs > -SAFE_RANGE[2] * 2) & (logs < -1e-3), axis=-1, keepdims=True))


# Small numbers taken for 0.


class _Flushes(Loss):
    dtypes = FLUSHED

    def add(self, values: Array) -> Array:
        return flushed(super().add(flushed(values)))

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        return flushed(np.asarray(super().reduced(flushed(loss), weight, kept)))

    def gradient(self, predictions: Array, labels: Array) -> Array:
        return flushed(super().gradient(predictions, labels))


class Flushes(_Flushes, Categorical):
    """Takes subnormal exponentials, products and results for 0, as some hardware does."""


class BinaryFlushes(_Flushes, Binary):
    """Takes subnormal exponentials, products and results for 0, as some hardware does."""

    def tail(self, z: Array) -> Array:
        return flushed(np.log1p(flushed(np.exp(-np.abs(z)))))


def flushed(values: Array) -> Array:
    """The values with 0 for what is subnormal."""
    dtype = values.dtype
    smallest = np.finfo(np.float32).tiny if dtype.itemsize < 8 else np.finfo(np.float64).tiny
    return np.where(np.abs(values) < dtype.type(smallest), dtype.type(0), values)


ALTERNATIVES = (
    SumsInOrder,
    SumsBackwards,
    SumsSmallestFirst,
    SumsInBlocks,
    SumsPairwise,
    SumsWithCompensation,
    BinarySumsInOrder,
    BinarySumsBackwards,
    BinarySumsInBlocks,
    BinarySumsPairwise,
    BinarySumsWithCompensation,
    ShufflesClasses,
    DividesFirst,
    MultipliesByTheReciprocal,
    WeighsLast,
    AveragesOverShares,
    SmoothsLosses,
    PicksTheLabel,
    SmoothsTheComplement,
    WeighsOutputsLast,
    Log1pOfTheOthers,
    ShiftsByTheLabel,
    AddsTheShiftBack,
    TakesTargetsOff,
    TakesTargetsOffOutputs,
    BinaryLogarithms,
    FusesProducts,
    FusesOutputs,
    LogAddExp,
    Log1pByHand,
    SoftplusOfTheSign,
    OneTail,
    SubtractsTheLogit,
    LogOfTheComplement,
    Widened,
    BinaryWidened,
    Chopped,
    BinaryChopped,
    ShiftsByTheMean,
    ShiftsByTheSmallest,
    ShiftsByNothing,
    LogOfSoftmaxWidened,
    LogOfSigmoidWidened,
    Flushes,
    BinaryFlushes,
)

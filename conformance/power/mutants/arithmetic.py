"""Arithmetic shared by several entries of the tables: sums in other orders, clips, wider dtypes, flushed subnormals."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.model.case import Array, numpy_dtype
from conformance.power.mutants.numpy_losses import Categorical, Implementation, accumulator

BLOCK_SIZE = 4
"""Number of terms that `sum_in_blocks` adds up before it adds the blocks."""
KERNEL_BLOCK = 1024
"""Number of classes in a block of a kernel."""
SAFE_RANGE = {2: 10.0, 4: 80.0, 8: 700.0, 16: 11000.0}
"""Itemsize of a dtype -> an argument for which `exp` does not overflow in it."""
FLUSHED = frozenset({"bfloat16", "float32", "float64"})
"""Dtypes whose subnormal numbers some hardware flushes to 0."""
EXTENDED = np.finfo(np.longdouble).nmant > np.finfo(np.float64).nmant
"""Whether this platform has a dtype wider than float64."""
WIDENED = frozenset({"float16", "bfloat16", "float32", *(["float64"] if EXTENDED else [])})
"""Dtypes for which a wider one exists."""


# Sums over the last axis.


def sum_in_order(values: Array) -> Array:
    """Add terms sequentially, in the dtype or the narrowest one in which such a loop accumulates."""
    if not values.shape[-1]:
        return np.zeros(values.shape[:-1], dtype=values.dtype)
    sums = np.add.accumulate(values, axis=-1, dtype=accumulator(values.dtype))
    return np.asarray(sums[..., -1]).astype(values.dtype, copy=False)


def sum_smallest_first(values: Array) -> Array:
    return sum_in_order(np.take_along_axis(values, np.argsort(np.abs(values.astype(np.float64)), axis=-1), axis=-1))


def sum_in_blocks(values: Array) -> Array:
    starts = range(0, values.shape[-1], BLOCK_SIZE)
    blocks = [sum_in_order(values[..., start : start + BLOCK_SIZE]) for start in starts]
    return sum_in_order(np.stack(blocks, axis=-1) if blocks else values)


def sum_pairwise(values: Array) -> Array:
    """Pairwise summation in the dtype."""
    while values.shape[-1] > 1:
        paired = values[..., 0 : values.shape[-1] // 2 * 2]
        values = np.concatenate([paired[..., 0::2] + paired[..., 1::2], values[..., paired.shape[-1] :]], axis=-1)
    return sum_in_order(values)


def sum_compensated(values: Array) -> Array:
    """Kahan summation."""
    total = lost = np.zeros(values.shape[:-1], dtype=values.dtype)
    for term in np.moveaxis(values, -1, 0):
        corrected = term - lost
        now = total + corrected
        lost = np.where(np.isfinite(now), (now - total) - corrected, lost * 0)
        total = now
    return np.asarray(total)


def sum_blocks_in(dtype: Any, values: Array) -> Array:
    """Sum blocks of a kernel's size in the dtype of the values, and add the blocks up in a narrower one."""
    sums = [sum_pairwise(block) for block in blocks_of(values)]
    if len(sums) < 2:
        return sums[0] if sums else sum_in_order(values)
    return np.asarray(functools.reduce(np.add, [part.astype(dtype) for part in sums])).astype(values.dtype)


# Log-softmax.


def log_softmax_shifted(loss: Categorical, z: Array, shift: Array) -> Array:
    """Log-softmax by a log-sum-exp that subtracts `shift` instead of the largest logit."""
    d = z - shift
    return np.asarray(d - np.log(loss.sum_last_axis(np.exp(d)))[..., np.newaxis])


def blocks_of(values: Array) -> list[Array]:
    """The classes in blocks of a kernel's size."""
    return [values[..., start : start + KERNEL_BLOCK] for start in range(0, values.shape[-1], KERNEL_BLOCK)]


def log_softmax_online(loss: Categorical, z: Array, *, rescale: bool = True, sign: int = 1) -> Array:
    """Log-softmax with maximum and sum in one pass over blocks: the sum is rescaled when the maximum grows.

    rescale: whether the sum is rescaled.  sign: sign of the exponent.
    """
    wide = z.astype(accumulator(z.dtype), copy=False)
    top = np.full((*z.shape[:-1], 1), -np.inf, dtype=wide.dtype)
    total = np.zeros_like(top)
    for block in blocks_of(wide):
        largest = np.maximum(top, block.max(axis=-1, keepdims=True))
        shift = np.where(np.isneginf(largest), wide.dtype.type(0), largest)
        if rescale:
            total = np.where(total == 0, total, total * np.exp(sign * (top - shift)))
        total = total + loss.sum_last_axis(np.exp(block - shift))[..., np.newaxis]
        top = largest
    return np.asarray(wide - top - np.log(total)).astype(z.dtype, copy=False)


def log_softmax_shifted_if_safe(loss: Categorical, z: Array, shift: Array) -> Array:
    """Log-softmax with another shift in rows in which that is accurate, and with the largest logit in other rows."""
    safe = np.all((np.abs(z - shift) < SAFE_RANGE[2]) & np.isfinite(z), axis=-1, keepdims=True)
    logs = log_softmax_shifted(loss, z, shift)
    return np.where(safe & keeps_digits(logs), logs, Categorical.log_softmax(loss, z))


def keeps_digits(logs: Array) -> Array:
    """Mask of rows whose log-probabilities are accurate to the dtype's precision if computed with twice its digits."""
    return np.asarray(np.all((logs > -SAFE_RANGE[2] * 2) & (logs < -1e-3), axis=-1, keepdims=True))


def through_row_sum(loss: Categorical, p: Array, slopes: Array, counted: Array) -> Array:
    """Derivatives in p from those in p / sum(p).  counted: targets with nonzero derivatives."""
    total = loss.sum_last_axis(p)[..., np.newaxis]
    return np.where(total == 0, np.nan, (slopes + loss.sum_last_axis(counted)[..., np.newaxis]) / total).astype(p.dtype)


# Other dtypes.


def widened(dtype: Any) -> Any:
    """The next wider dtype, in which arithmetic is done."""
    return {2: np.float32, 4: np.float64}.get(dtype.itemsize, np.longdouble)


def flushed(values: Array) -> Array:
    """The values with subnormals replaced by 0."""
    dtype = values.dtype
    smallest = np.finfo(np.float32).tiny if dtype.itemsize < 8 else np.finfo(np.float64).tiny
    return np.where(np.abs(values) < dtype.type(smallest), dtype.type(0), values)


class WidenedArithmetic(Implementation):
    """Computes in the next wider dtype and rounds only the result."""

    dtypes = WIDENED

    def loss(self, predictions: Array, labels: Array) -> Any:
        result = super().loss(predictions.astype(widened(predictions.dtype)), labels)
        return self.rounded(np.asarray(result), predictions.dtype)

    def gradient(self, predictions: Array, labels: Array) -> Array:
        result = super().gradient(predictions.astype(widened(predictions.dtype)), labels)
        return self.rounded(result, predictions.dtype)

    def rounded(self, result: Array, dtype: Any) -> Array:
        """The result in the dtype of the predictions."""
        return result.astype(np.float32).astype(dtype) if dtype == numpy_dtype("bfloat16") else result.astype(dtype)


class ChoppedArithmetic(WidenedArithmetic):
    """Rounds the result towards 0, an error of up to one unit in the last place."""

    def rounded(self, result: Array, dtype: Any) -> Array:
        near = super().rounded(result, dtype)
        beyond = np.isfinite(near) & (np.abs(near.astype(result.dtype)) > np.abs(result))
        return np.where(beyond, np.nextafter(near, dtype.type(0)), near)


class FlushedArithmetic(Implementation):
    """Flushes subnormal intermediate values and results to 0."""

    dtypes = FLUSHED

    def sum_last_axis(self, values: Array) -> Array:
        return flushed(super().sum_last_axis(flushed(values)))

    def reduce(self, loss: Array, weight: Array, valid: Array) -> Any:
        return flushed(np.asarray(super().reduce(flushed(loss), weight, valid)))

    def gradient(self, predictions: Array, labels: Array) -> Array:
        return flushed(super().gradient(predictions, labels))


class ClippedProbabilities(Implementation):
    """Clips at bounds rounded to the dtype of the predictions, even if it computes in a wider dtype."""

    def epsilon(self) -> float:
        return 1e-7

    def clipped(self, p: Array, epsilon: float = 0.0) -> Array:
        """Probabilities clipped to [epsilon, 1 - epsilon]; epsilon defaults to the documented one."""
        epsilon = epsilon or self.epsilon()
        low, high = (np.asarray(end).astype(self.dtype).astype(p.dtype) for end in (epsilon, 1 - epsilon))
        return np.asarray(np.minimum(np.maximum(p, low), high))


# Shapes.


def broadcast_from_last_axis(
    weights: Array | None, valid: Array, otherwise: Callable[..., Array | None]
) -> Array | None:
    """Weights broadcast to the losses by numpy's rule; the result of `otherwise` if the shapes cannot be broadcast."""
    if weights is None or weights.ndim >= valid.ndim or weights.shape != valid.shape[valid.ndim - weights.ndim :]:
        return otherwise(weights, valid)
    return np.broadcast_to(weights, valid.shape)


def is_square(values: Array) -> bool:
    return values.ndim == 2 and values.shape[0] == values.shape[1]


def smoothed_towards(q: Array, smoothing: float, classes: int) -> Array:
    """Targets with the smoothing distributed over the given number of classes."""
    e = q.dtype.type(smoothing)
    return (1 - e) * q + e / q.dtype.type(classes) if smoothing else q

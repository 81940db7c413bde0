"""What comes back: its dtype, its shape, its sign, and what becomes of nan and infinity."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.model.case import Array
from conformance.power.mutants.losses import Binary, Categorical


class ReturnsDouble(Categorical):
    """Returns float64 whatever it was given."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        return np.asarray(super().reduced(loss, weight, kept), dtype=np.float64)


class ReturnsSingle(Categorical):
    """Returns float32 whatever it was given."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        return np.asarray(super().reduced(loss, weight, kept), dtype=np.float32)


class WidensReductions(Categorical):
    """Returns sums and means of narrow dtypes in float32."""

    dtypes = frozenset({"float16", "bfloat16"})

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        result = super().reduced(loss, weight, kept)
        return result if self.reduction == "none" else np.float32(result)


class ReturnsHalfForBfloat16(Categorical):
    """Returns float16 for bfloat16, which is as wide."""

    dtypes = frozenset({"bfloat16"})

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        return np.asarray(super().reduced(loss, weight, kept)).astype(np.float16)


class ReturnsTheDtypeOfWeights(Binary):
    """Returns float64 where there are sample weights."""

    dtypes = frozenset({"float32"})

    def weighted(self, values: Array) -> Array:
        return super().weighted(values.astype(np.float64))


class ReturnsColumns(Categorical):
    """Returns unreduced losses as (N, 1)."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        result = super().reduced(loss, weight, kept)
        return result[..., np.newaxis] if self.reduction == "none" else result


class ReturnsVectors(Categorical):
    """Returns reduced losses as (1,)."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        result = super().reduced(loss, weight, kept)
        return result if self.reduction == "none" else np.reshape(result, 1)


class ReturnsFlat(Categorical):
    """Returns unreduced losses of several axes as one."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        return np.ravel(loss) if self.reduction == "none" else super().reduced(loss, weight, kept)


class ReturnsSqueezed(Categorical):
    """Returns the unreduced loss of one sample as a scalar."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        return np.squeeze(super().reduced(loss, weight, kept))


class ReducesTheFirstAxisOnly(Binary):
    """Reduces three axes of outputs to a row of two, not to a number."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        if self.reduction == "none" or loss.ndim < 3:
            return super().reduced(loss, weight, kept)
        return super().reduced(loss.sum(axis=0, dtype=loss.dtype), weight.sum(axis=0, dtype=loss.dtype), kept[0])[None]


class SumsTheBatchOnly(Categorical):
    """Sums over the first axis only."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        return loss.sum(axis=0, dtype=loss.dtype) if self.reduction == "sum" else super().reduced(loss, weight, kept)


class ForgetsTheSign(Categorical):
    """Returns log p instead of -log p where the losses are not reduced."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        result = super().reduced(loss, weight, kept)
        return -result if self.reduction == "none" else result


class ReturnsTheSize(Categorical):
    """Returns the absolute value of the loss."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        return np.abs(super().reduced(loss, weight, kept))


class ReturnsPerplexity(Categorical):
    """Returns the exponential of the mean."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        result = super().reduced(loss, weight, kept)
        return np.exp(result) if self.reduction == "mean" else result


class ReturnsHalves(Binary):
    """Returns half of the loss, as where labels are -1 and 1."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        return super().reduced(loss / 2, weight, kept)


class SwallowsNan(Categorical):
    """Leaves losses out that are nan."""

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        loss, weight = super().losses(x, y)
        return np.where(np.isnan(loss), x.dtype.type(0), loss), weight


class NanIsZero(Binary):
    """Takes a prediction of nan for 0."""

    def pair(self, x: Array) -> tuple[Array, Array]:
        return super().pair(np.where(np.isnan(x), x.dtype.type(0), x))


class NanLosesItself(Binary):
    """Takes the larger of 0 and the logit in a way that makes 0 of nan."""

    def logs_of_logits(self, z: Array) -> tuple[Array, Array]:
        tail = np.where(np.isnan(z), z.dtype.type(0), self.tail(z))
        return tail + np.fmax(-z, z.dtype.type(0)), tail + np.fmax(z, z.dtype.type(0))


class NanInTheWeightsIsZero(Categorical):
    """Takes a sample weight of nan for 0."""

    def weighted(self, values: Array) -> Array:
        weights = np.asarray(self.sample_weights)
        return np.asarray(values * np.where(np.isnan(weights), values.dtype.type(0), weights))


class SwallowsInfinity(Categorical):
    """Returns 10,000 for infinity."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        result = np.asarray(super().reduced(loss, weight, kept))
        return np.where(np.isposinf(result), loss.dtype.type(1e4), result)


class NanForInfinity(Binary):
    """Returns nan for an infinite loss."""

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        loss, weight = super().losses(x, y)
        return np.where(np.isinf(loss), x.dtype.type(np.nan), loss), weight


class NanForZeroTimesInfinity(Categorical):
    """Multiplies 0 by infinity."""

    def dot(self, a: Array, b: Array) -> Array:
        return self.add(a * b)


class NanForNoTargetTimesInfinity(Binary):
    """Multiplies 0 by infinity."""

    def mixed(self, y: Array, on: Array, off: Array) -> Array:
        positive = y if self.positive_weight is None else y * self.positive_weight
        return np.asarray(positive * on + (1 - y) * off)


class NanForTheEmptySum(Binary):
    """Returns nan for the sum over nothing."""

    def sum(self, values: Array) -> Any:
        return super().sum(values) if values.size else values.dtype.type(np.nan)


class NanForOneClass(Categorical):
    """Returns nan where there is one class, whose loss is 0."""

    def log_softmax(self, z: Array) -> Array:
        logs = super().log_softmax(z)
        return logs * np.nan if z.shape[-1] == 1 else logs

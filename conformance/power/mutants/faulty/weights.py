"""Sample weights, class weights and the positive weight: left out, applied twice, or to something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.model.case import Array
from conformance.power.mutants.losses import Binary, Categorical, times


class DropsSampleWeights(Categorical):
    """Takes sample weights and does not use them."""

    def weighted(self, values: Array) -> Array:
        return values


class ForgetsWeightsInSums(Categorical):
    """Applies sample weights unless the losses are summed."""

    def weighted(self, values: Array) -> Array:
        return values if self.reduction == "sum" else super().weighted(values)


class WeighsTwice(Categorical):
    """Applies sample weights to the losses twice, and to the divisor once."""

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        loss, weight = super().losses(x, y)
        return loss if self.sample_weights is None else self.weighted(loss), weight


class WeighsTheMean(Categorical):
    """Takes the mean before sample weights are applied."""

    def weighted(self, values: Array) -> Array:
        mean = values.mean(dtype=values.dtype) if self.reduction == "mean" and values.size else values
        return super().weighted(np.broadcast_to(mean, values.shape))


class NormalisesSampleWeights(Categorical):
    """Divides sample weights by their mean, which no mean shows and every sum does."""

    def weighted(self, values: Array) -> Array:
        assert self.sample_weights is not None
        return np.asarray(super().weighted(values) / self.sample_weights.mean())


class TruncatesSampleWeights(Categorical):
    """Takes the whole part of sample weights."""

    def weighted(self, values: Array) -> Array:
        assert self.sample_weights is not None
        return values * np.trunc(self.sample_weights)


class ClampsSampleWeights(Categorical):
    """Takes negative sample weights for 0."""

    def weighted(self, values: Array) -> Array:
        assert self.sample_weights is not None
        return np.asarray(values * np.maximum(self.sample_weights, values.dtype.type(0)))


class FirstWeightForAll(Categorical):
    """Applies the first sample weight to every sample."""

    def weighted(self, values: Array) -> Array:
        assert self.sample_weights is not None
        return values * self.sample_weights.reshape(-1)[:1].reshape((1,) * values.ndim)


class WeighsTheNextSample(Categorical):
    """Applies each sample weight to the sample after."""

    def weighted(self, values: Array) -> Array:
        assert self.sample_weights is not None
        return values * np.roll(self.sample_weights, 1, axis=0)


class OneWeightPerRow(Categorical):
    """Applies the weight of the first position of a sample to all of its positions."""

    def weighted(self, values: Array) -> Array:
        assert self.sample_weights is not None
        weights = self.sample_weights
        return values * (weights if weights.ndim == 1 else weights[(slice(None), *[slice(0, 1)] * (weights.ndim - 1))])


class WeighsAlongTheLastAxis(Categorical):
    """Broadcasts weights per sample from the last axis, as numpy does, where that raises no error."""

    def per_loss(self, weights: Array | None, kept: Array) -> Array | None:
        return along_the_last_axis(weights, kept, super().per_loss)


class WeighsClassesBySample(Categorical):
    """Lays sample weights along the classes where there are as many of both."""

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        weights = self.sample_weights
        if weights is None or weights.shape != x.shape[-1:] or x.ndim != 2:
            return super().losses(x, y)
        self.sample_weights = None
        parts = self.parts(self.smoothed(self.targets(x, y))) * weights
        return self.dot(parts, -self.logs(x)), self.add(parts)


class DropsClassWeights(Categorical):
    """Takes class weights and does not use them."""

    def parts(self, q: Array) -> Array:
        return q


class DropsClassWeightsOfDistributions(Categorical):
    """Applies class weights to index labels only."""

    def parts(self, q: Array) -> Array:
        return super().parts(q) if self.target == "index" else q


class WeighsTheLabelOnly(Categorical):
    """Applies the weight of the label to the whole smoothed loss."""

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        own = self.add(self.parts(self.targets(x, y)))
        q = self.smoothed(self.targets(x, y))
        return own * self.dot(q, -self.logs(x)), self.weight(q, self.parts(q))


class WeighsTheDivisorOnly(Categorical):
    """Applies class weights to the divisor and not to the losses."""

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        q = self.smoothed(self.targets(x, y))
        return self.dot(q, -self.logs(x)), self.weight(q, self.parts(q))


class NormalisesClassWeights(Categorical):
    """Divides class weights by their mean."""

    def parts(self, q: Array) -> Array:
        return q if self.class_weights is None else super().parts(q) / self.class_weights.mean()


class SwapsWeightsOfTwoClasses(Categorical):
    """Applies the weights of the last two classes to each other."""

    def parts(self, q: Array) -> Array:
        if self.class_weights is None or q.shape[-1] < 2:
            return super().parts(q)
        return q * self.class_weights[[*range(q.shape[-1] - 2), -1, -2]]


class WeighsTheLikeliestClass(Categorical):
    """Looks class weights up by the predicted class instead of the label."""

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        q = self.smoothed(self.targets(x, y))
        own = (
            np.ones_like(x[..., 0])
            if self.class_weights is None
            else self.class_weights[x.astype(np.float64).argmax(axis=-1)]
        )
        return own * self.dot(q, -self.logs(x)), np.asarray(own)


class WeighsProbabilities(Categorical):
    """Multiplies probabilities by class weights inside of the logarithm."""

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        q = self.smoothed(self.targets(x, y))
        logs = self.logs(x) if self.class_weights is None else self.logs(x) + np.log(self.class_weights)
        return self.dot(q, -logs), self.weight(q, self.parts(q))


class BroadcastsColumns(Categorical):
    """Keeps losses of labels (N, 1) as (N, 1), which broadcast against weights (N,) to (N, N)."""

    def weighted(self, values: Array) -> Array:
        broadcasts = self.column and values.ndim == 1
        return np.asarray(values[..., np.newaxis] * self.sample_weights) if broadcasts else super().weighted(values)

    def masked(self, values: Array, kept: Array) -> Array:
        return super().masked(values, kept[..., np.newaxis] if values.ndim > kept.ndim else kept)


class WeighsOutputsAlongTheLastAxis(Binary):
    """Broadcasts weights per sample over as many outputs, from the last axis, as numpy does."""

    def per_loss(self, weights: Array | None, kept: Array) -> Array | None:
        return along_the_last_axis(weights, kept, super().per_loss)


class DropsBinarySampleWeights(Binary):
    """Takes sample weights and does not use them."""

    def weighted(self, values: Array) -> Array:
        return values


class WeighsOutputsOfTheFirst(Binary):
    """Applies the weights of the first sample's outputs to every sample."""

    def weighted(self, values: Array) -> Array:
        assert self.sample_weights is not None
        return values * (self.sample_weights[:1] if values.ndim > 1 else self.sample_weights)


class WeighsTheBinaryMean(Binary):
    """Averages the outputs of a sample before they are weighted."""

    def weighted(self, values: Array) -> Array:
        if values.ndim > 1 and values.size:
            values = np.broadcast_to(values.mean(axis=-1, keepdims=True, dtype=values.dtype), values.shape)
        return super().weighted(values)


class DropsThePositiveWeight(Binary):
    """Takes a positive weight and does not use it."""

    def mixed(self, y: Array, on: Array, off: Array) -> Array:
        return times(y, on) + times(1 - y, off)


class PositiveWeightOnNegatives(Binary):
    """Applies the positive weight to the other term."""

    def mixed(self, y: Array, on: Array, off: Array) -> Array:
        negative = 1 - y if self.positive_weight is None else (1 - y) * self.positive_weight
        return times(y, on) + times(negative, off)


class PositiveWeightOnBoth(Binary):
    """Applies the positive weight to both terms."""

    def mixed(self, y: Array, on: Array, off: Array) -> Array:
        loss = times(y, on) + times(1 - y, off)
        return loss if self.positive_weight is None else loss * self.positive_weight


class PositiveWeightOfPositives(Binary):
    """Applies the positive weight to outputs that are mostly positive, whole, and to no others."""

    def mixed(self, y: Array, on: Array, off: Array) -> Array:
        loss = times(y, on) + times(1 - y, off)
        return loss if self.positive_weight is None else np.where(y > 0.5, loss * self.positive_weight, loss)


class PositiveWeightInTheMean(Binary):
    """Counts the positive weight in the divisor of the mean."""

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        loss, weight = super().losses(x, y)
        positive = x.dtype.type(1) if self.positive_weight is None else self.positive_weight
        return loss, np.where(y == 1, positive * weight, weight)


class PositiveWeightOnTheTail(Binary):
    """Applies the positive weight to the tail of log-sigmoid and not to what a wrong logit adds."""

    def mixed(self, y: Array, on: Array, off: Array) -> Array:
        if self.positive_weight is None or self.input_kind != "logits":
            return super().mixed(y, on, off)
        rest = np.maximum(on - off, on.dtype.type(0))
        return times(y * self.positive_weight, on - rest) + times(y, rest) + times(1 - y, off)


class PositiveWeightAlongRows(Binary):
    """Lays positive weights per output along the samples where there are as many of both."""

    def mixed(self, y: Array, on: Array, off: Array) -> Array:
        if self.positive_weight is not None and y.ndim == 2 and self.positive_weight.shape == y.shape[:1]:
            self.positive_weight = self.positive_weight[:, np.newaxis]
        return super().mixed(y, on, off)


class FirstPositiveWeightForAll(Binary):
    """Applies the positive weight of the first output to every output."""

    def mixed(self, y: Array, on: Array, off: Array) -> Array:
        if self.positive_weight is not None:
            self.positive_weight = self.positive_weight.reshape(-1)[0]
        return super().mixed(y, on, off)


class WeighsTargetsNotLosses(Binary):
    """Multiplies the target by the positive weight before it takes its complement."""

    def smoothed(self, y: Array) -> Array:
        y = super().smoothed(y)
        return y if self.positive_weight is None else y * self.positive_weight

    def mixed(self, y: Array, on: Array, off: Array) -> Any:
        return times(y, on) + times(1 - y, off)


def along_the_last_axis(weights: Array | None, kept: Array, otherwise: Callable[..., Array | None]) -> Array | None:
    """Weights broadcast to the losses by numpy's rule; what `otherwise` says where the shapes do not permit it."""
    fits = weights is not None and weights.ndim < kept.ndim and weights.shape == kept.shape[kept.ndim - weights.ndim :]
    return np.broadcast_to(weights, kept.shape) if fits and weights is not None else otherwise(weights, kept)

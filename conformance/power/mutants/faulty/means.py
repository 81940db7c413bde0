"""Reductions: what is added up, in which order, and what it is divided by."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.model.case import Array
from conformance.model.convention import DEFINITION
from conformance.power.mutants.documented import (
    DividesByKept,
    DividesByLabelWeight,
    DividesBySamples,
    DividesBySampleWeight,
    DividesByTargetWeight,
)
from conformance.power.mutants.losses import Binary, Categorical


class DividesByOneLess(Categorical):
    """Divides the mean by one sample less."""

    def divisor(self, weight: Array, kept: Array) -> Any:
        return super().divisor(weight, kept) - 1


class DividesByOneAtLeast(Categorical):
    """Divides the mean by 1 where the weights add up to less."""

    def divisor(self, weight: Array, kept: Array) -> Any:
        return np.maximum(super().divisor(weight, kept), 1)


class DividesByAWholeNumber(Categorical):
    """Divides the mean by the whole part of the weight."""

    def divisor(self, weight: Array, kept: Array) -> Any:
        return np.floor(super().divisor(weight, kept))


class AddsEpsilonToTheDivisor(Categorical):
    """Divides the mean by 1e-7 more."""

    def divisor(self, weight: Array, kept: Array) -> Any:
        return super().divisor(weight, kept) + weight.dtype.type(1e-7)


class MeanOverSamples(DividesBySamples):
    """Divides by the number of samples instead of their weight, and documents nothing."""

    documented = DEFINITION


class MeanOverKept(DividesByKept):
    """Divides by the number of samples that are kept instead of their weight, and documents nothing."""

    documented = DEFINITION


class MeanOverSampleWeight(DividesBySampleWeight):
    """Divides by the sample weights and leaves the class weights out, and documents nothing."""

    documented = DEFINITION


class MeanOverLabelWeight(DividesByLabelWeight):
    """Divides by the weights of the labels under smoothing, and documents nothing."""

    documented = DEFINITION


class MeanOverTargetWeight(DividesByTargetWeight):
    """Divides by the targets times the weights of their classes, whatever they sum to, and documents nothing."""

    documented = DEFINITION


class MeanOverTargets(Categorical):
    """Divides by the sum of the targets where there are no class weights."""

    def weight(self, q: Array, parts: Array) -> Array:
        return self.add(q) if self.class_weights is None else super().weight(q, parts)


class MeanOverWeightedTargets(Categorical):
    """Adds up class weights times targets and does not divide by the sum of a row's targets."""

    def weight(self, q: Array, parts: Array) -> Array:
        return super().weight(q, parts) if self.class_weights is None else self.add(parts)


class MeanOverUnsmoothedSums(Categorical):
    """Divides the weights of smoothed targets by the sum of the targets before they were smoothed."""

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        loss, weight = super().losses(x, y)
        if self.class_weights is None or self.target == "index":
            return loss, weight
        q = self.targets(x, y)
        return loss, np.asarray(self.add(self.parts(self.smoothed(q))) / self.add(q))


class MeanOverClassesOfTheTarget(Categorical):
    """Averages the weights of the classes that have a share of the target, whatever their share is."""

    def weight(self, q: Array, parts: Array) -> Array:
        if self.class_weights is None or self.smoothing:
            return super().weight(q, parts)
        shared = (q != 0).astype(q.dtype)
        return np.asarray(self.add(self.parts(shared)) / self.add(shared))


class MeanOverRowsWithATarget(Categorical):
    """Leaves rows whose targets are all 0 out of what the mean divides by."""

    def weight(self, q: Array, parts: Array) -> Array:
        return np.where((q != 0).any(axis=-1), super().weight(q, parts), q.dtype.type(0))


class MeanOverNonzeroWeights(Categorical):
    """Divides by how many samples have a weight that is not 0."""

    def divisor(self, weight: Array, kept: Array) -> Any:
        return np.count_nonzero(weight)


class MeanOverTheSizeOfWeights(Categorical):
    """Divides by the sum of absolute weights."""

    def divisor(self, weight: Array, kept: Array) -> Any:
        return super().divisor(np.abs(weight), kept)


class MeanOverTheBatch(Categorical):
    """Divides by the length of the first axis only."""

    def divisor(self, weight: Array, kept: Array) -> Any:
        return super().divisor(weight, kept) / np.prod(weight.shape[1:])


class MeanOverClassesToo(Categorical):
    """Averages over all samples and classes, as a mean of the matrix of products does."""

    def logs(self, x: Array) -> Array:
        logs = super().logs(x)
        return logs / x.dtype.type(x.shape[-1]) if self.reduction == "mean" else logs


class MeanOfBatches(Categorical):
    """Averages the means of batches of two, in which a last one of one sample counts twice."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        if self.reduction != "mean" or not loss.size:
            return super().reduced(loss, weight, kept)
        parts = [slice(start, start + 2) for start in range(0, len(loss), 2)]
        means = [self.sum(loss[part]) / self.divisor(weight[part], kept[part]) for part in parts]
        return loss.dtype.type(np.mean(means))


class MeanOfRowMeans(Categorical):
    """Averages the positions of each sample by itself, and then the samples, whatever is ignored in them."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        if self.reduction != "mean" or loss.ndim == 1 or not loss.size:
            return super().reduced(loss, weight, kept)
        means = [self.sum(one) / self.divisor(w, k) for one, w, k in zip(loss, weight, kept, strict=True)]
        return loss.dtype.type(np.mean(means))


class SumOverRowMeans(Binary):
    """Averages the outputs of each sample before it sums the samples, and documents nothing."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        if self.reduction != "sum" or not loss.size:
            return super().reduced(loss, weight, kept)
        return loss.dtype.type(self.sum(loss) / loss.shape[-1])


class BinaryMeanOverSamples(Binary):
    """Divides by the number of outputs instead of their weight."""

    def divisor(self, weight: Array, kept: Array) -> Any:
        return kept.size


class BinaryMeanOverTheBatch(Binary):
    """Sums the outputs of a sample, and averages over samples only."""

    def divisor(self, weight: Array, kept: Array) -> Any:
        return super().divisor(weight, kept) / np.prod(weight.shape[1:])


class SumForMean(Categorical):
    """Returns the sum where the mean is asked for."""

    def divisor(self, weight: Array, kept: Array) -> Any:
        return 1


class MeanForSum(Categorical):
    """Returns the mean where the sum is asked for."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        self.reduction = "mean" if self.reduction == "sum" and loss.size else self.reduction
        return super().reduced(loss, weight, kept)


class LogOfTheMean(Binary):
    """Averages the probabilities of the outputs of a sample, and takes the logarithm of that."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        if self.reduction != "mean" or loss.ndim == 1 or not loss.size:
            return super().reduced(loss, weight, kept)
        merged = -np.log(np.exp(-loss).mean(axis=-1, dtype=loss.dtype))
        return super().reduced(np.broadcast_to(merged[..., np.newaxis], loss.shape), weight, kept)


class DropsTheLastSample(Categorical):
    """Leaves the last sample out of the sum where their number is odd."""

    def sum(self, values: Array) -> Any:
        flat = values.reshape(-1)
        return super().sum(flat[: len(flat) // 2 * 2] if len(flat) > 1 else flat)


class CountsIgnoredInTheMean(Categorical):
    """Divides as if ignored samples counted."""

    def divisor(self, weight: Array, kept: Array) -> Any:
        return super().divisor(weight, kept) + (~kept).sum()


class CountsIgnoredWeights(Categorical):
    """Divides by the sample weights of ignored samples, too."""

    def divisor(self, weight: Array, kept: Array) -> Any:
        whole = super().divisor(weight, kept)
        return whole if self.sample_weights is None else whole + self.sum(np.where(kept, 0, self.sample_weights))


class CountsIgnoredBelowZero(Categorical):
    """Divides as if ignored samples counted, where ignore_index is negative."""

    def divisor(self, weight: Array, kept: Array) -> Any:
        negative = self.ignore_index is not None and self.ignore_index < 0
        return super().divisor(weight, kept) + (~kept).sum() * negative


class CountsIgnoredClasses(Categorical):
    """Divides by the class weights of ignored samples, too, where ignore_index is a class and there is smoothing."""

    def divisor(self, weight: Array, kept: Array) -> Any:
        whole = super().divisor(weight, kept)
        if self.class_weights is None or self.ignore_index is None or not self.smoothing:
            return whole
        inside = 0 <= self.ignore_index < len(self.class_weights)
        return whole + (~kept).sum() * self.class_weights[self.ignore_index] if inside else whole


class DividesOneTwice(Categorical):
    """Divides the mean by twice the weight where all samples but one are ignored."""

    def divisor(self, weight: Array, kept: Array) -> Any:
        whole = super().divisor(weight, kept)
        return whole * 2 if kept.size > 1 and kept.sum() == 1 else whole

"""Right losses whose gradients are wrong."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from conformance.model.case import Array
from conformance.model.convention import DEFINITION
from conformance.power.mutants.alternatives import TakesTargetsOff, TakesTargetsOffOutputs
from conformance.power.mutants.documented import BinaryClips, Clips, ClipsAndRenormalises, Renormalises
from conformance.power.mutants.losses import Binary, Categorical, negated_quotient, spread


class GradientOfTheSum(Categorical):
    """Forgets that a mean divides."""

    def factor(self, weight: Array, kept: Array) -> Array:
        self.reduction = "sum" if self.reduction == "mean" else self.reduction
        return super().factor(weight, kept)


class GradientOverSamples(Categorical):
    """Divides by the number of samples where the mean divides by their weight."""

    backward = False

    def divisor(self, weight: Array, kept: Array) -> Any:
        return kept.size if self.backward else super().divisor(weight, kept)

    def gradient(self, predictions: Array, labels: Array) -> Array:
        self.backward = True
        return super().gradient(predictions, labels)


class GradientOverOutputs(Binary):
    """Divides by the length of the first axis where the mean divides by all outputs."""

    def factor(self, weight: Array, kept: Array) -> Array:
        factor = super().factor(weight, kept)
        return factor * np.prod(kept.shape[1:]) if self.reduction == "mean" else factor


class GradientWithoutSampleWeights(Categorical):
    """Leaves sample weights out of the gradient, and in its divisor."""

    def factor(self, weight: Array, kept: Array) -> Array:
        factor = super().factor(weight, kept)
        if self.sample_weights is None:
            return factor
        return np.where(self.sample_weights == 0, self.sample_weights, factor / self.sample_weights)


class GradientWithoutClassWeights(Categorical):
    """Leaves class weights out of the gradient, and in its divisor."""

    def slopes(self, x: Array, y: Array, factor: Array) -> Array:
        self.class_weights = None
        return super().slopes(x, y, factor)


class WeighsTheTargetOnly(Categorical):
    """Multiplies class weights with the target, and not with the softmax that it is taken off."""

    def slopes(self, x: Array, y: Array, factor: Array) -> Array:
        self.unweighted = (self.add(self.smoothed(self.targets(x, y))) * factor)[..., np.newaxis]
        return super().slopes(x, y, factor)

    def of_logits(self, z: Array, t: Array) -> Array:
        right = super().of_logits(z, t)
        return right if self.class_weights is None else self.unweighted * np.exp(self.log_softmax(z)) - t


class GradientWithoutSmoothing(Categorical):
    """Leaves label smoothing out of the gradient."""

    def slopes(self, x: Array, y: Array, factor: Array) -> Array:
        self.smoothing = 0.0
        return super().slopes(x, y, factor)


class GradientOfIgnored(Categorical):
    """Gives ignored samples a gradient, as if they had class 0."""

    def slopes(self, x: Array, y: Array, factor: Array) -> Array:
        self.all = super().slopes(x, y, factor)
        return self.all

    def restored(self, gradient: Array) -> Array:
        return super().restored(self.all.astype(gradient.dtype))


class NanForIgnoredRows(GradientOfIgnored):
    """Multiplies the gradient of ignored samples by 0, which leaves an infinite one nan."""

    def restored(self, gradient: Array) -> Array:
        return Categorical.restored(self, gradient + (self.all * 0).astype(gradient.dtype))


class GradientUphill(Categorical):
    """Returns the gradient of log p."""

    def slopes(self, x: Array, y: Array, factor: Array) -> Array:
        return -super().slopes(x, y, factor)


class GradientUphillForNegatives(Binary):
    """Has the wrong sign for labels of 0."""

    def shares(self, y: Array) -> tuple[Array, Array]:
        on, off = super().shares(y)
        return on, -off if self.backward else off

    backward = False

    def slopes(self, x: Array, y: Array, factor: Array) -> Array:
        self.backward = True
        return super().slopes(x, y, factor)


class DropsTheSoftmax(Categorical):
    """Takes the derivative of the label's logit and leaves out that of the log-sum-exp."""

    def of_logits(self, z: Array, t: Array) -> Array:
        return -t


class DropsTheTarget(Categorical):
    """Returns the softmax, whatever the label."""

    def of_logits(self, z: Array, t: Array) -> Array:
        return np.asarray(np.exp(self.log_softmax(z)) * self.add(t)[..., np.newaxis])


class DropsTheLastClass(Categorical):
    """Leaves the last class out, as a kernel with one thread too few does."""

    def slopes(self, x: Array, y: Array, factor: Array) -> Array:
        slopes = super().slopes(x, y, factor)
        if slopes.shape[-1] > 1:
            slopes[..., -1] = 0
        return slopes


class TakesTargetsForADistribution(TakesTargetsOff):
    """Takes targets for a distribution that sums to 1."""

    def slopes(self, x: Array, y: Array, factor: Array) -> Array:
        self.factors = spread(factor, x)
        return super().slopes(x, y, factor)

    def of_logits(self, z: Array, t: Array) -> Array:
        return np.asarray(np.exp(self.log_softmax(z)) * self.factors - t)


class TakesTargetsOffUnasked(TakesTargetsOff):
    """Takes targets off probabilities, and documents nothing."""

    documented = DEFINITION


class TakesTargetsOffOutputsUnasked(TakesTargetsOffOutputs):
    """Takes targets off the sigmoid, and documents nothing."""

    documented = DEFINITION


class TakesProbabilitiesForASoftmax(Categorical):
    """Returns p - t for probabilities, too."""

    def of_probabilities(self, p: Array, t: Array) -> Array:
        return self.add(t)[..., np.newaxis] * p - t


class NormalisesLogsInTheGradient(Categorical):
    """Returns the gradient with respect to logits where log-probabilities are given."""

    def slopes(self, x: Array, y: Array, factor: Array) -> Array:
        t = self.parts(self.smoothed(self.targets(x, y))) * spread(factor, x)
        return self.of_logits(x, t) if self.input_kind == "log_probabilities" else super().slopes(x, y, factor)


class GradientOfTheClip(Clips):
    """Divides by what was clipped, and does not stop there."""

    def of_probabilities(self, p: Array, t: Array) -> Array:
        return negated_quotient(t, self.clipped(p))


class StopsOneTermAtTheClip(BinaryClips):
    """Stops the gradient of log p at the clip, and not that of log(1 - p)."""

    def of_probabilities(self, p: Array, on: Array, off: Array) -> Array:
        return np.where(
            p > p.dtype.type(1e-7), Binary.of_probabilities(self, p, on, off), -negated_quotient(off, 1 - p)
        )


class GradientWithoutTheSum(Renormalises):
    """Returns the gradient with respect to rows that were divided by their sum."""

    def of_probabilities(self, p: Array, t: Array) -> Array:
        return negated_quotient(t, p / self.add(p)[..., np.newaxis])


class GradientOfTheNormalised(ClipsAndRenormalises):
    """Returns the gradient with respect to rows that were clipped and divided by their sum."""

    def of_probabilities(self, p: Array, t: Array) -> Array:
        return negated_quotient(t, self.clipped(p) / self.add(self.clipped(p))[..., np.newaxis])


class NanWhereNothingCounts(Categorical):
    """Divides 0 by a probability of 0."""

    def of_probabilities(self, p: Array, t: Array) -> Array:
        return np.asarray(-t / p)


class NanForMinusInfinity(Categorical):
    """Returns nan for a logit of -inf, which has no share of anything."""

    def of_logits(self, z: Array, t: Array) -> Array:
        return np.asarray(super().of_logits(z, t) + z * 0)


class ClipsTheGradient(Categorical):
    """Clips gradients to [-10, 10]."""

    def slopes(self, x: Array, y: Array, factor: Array) -> Array:
        ten = x.dtype.type(10)
        return np.asarray(np.minimum(np.maximum(super().slopes(x, y, factor), -ten), ten))


class FloorsTheGradientsDivisor(Binary):
    """Divides by p (1 - p) or 1e-12, whichever is more, and documents nothing."""

    def of_probabilities(self, p: Array, on: Array, off: Array) -> Array:
        if self.positive_weight is not None:
            return super().of_probabilities(p, on, off)
        return np.asarray((off * p - on * (1 - p)) / np.maximum(p * (1 - p), p.dtype.type(1e-12)))


class DropsTheDivisor(Binary):
    """Returns p - y, and does not divide by p (1 - p)."""

    def of_probabilities(self, p: Array, on: Array, off: Array) -> Array:
        return np.asarray(off * p - on * (1 - p))


class KeepsTheSlopeOfTheSigmoid(Binary):
    """Multiplies by p (1 - p) once more, as the squared error has it."""

    def of_logits(self, z: Array, on: Array, off: Array) -> Array:
        e = np.exp(-np.abs(z))
        return np.asarray(super().of_logits(z, on, off) * e / np.square(1 + e))


class ThroughTheSigmoid(Binary):
    """Divides by p (1 - p) and multiplies by it again, which is 0 / 0 where the sigmoid is 1."""

    def of_logits(self, z: Array, on: Array, off: Array) -> Array:
        p = 1 / (1 + np.exp(-z))
        return np.asarray((off / (1 - p) - on / p) * (p * (1 - p)))


class GradientWithoutThePositiveWeight(Binary):
    """Leaves the positive weight out of the gradient."""

    def slopes(self, x: Array, y: Array, factor: Array) -> Array:
        self.positive_weight = None
        return super().slopes(x, y, factor)


class GradientOfBothWeighted(Binary):
    """Multiplies the whole gradient by the positive weight where the label is 1 at all."""

    def slopes(self, x: Array, y: Array, factor: Array) -> Array:
        weight, self.positive_weight = self.positive_weight, None
        slopes = super().slopes(x, y, factor)
        return slopes if weight is None else np.where(y > 0, slopes * weight, slopes)


class BinaryGradientWithoutSmoothing(Binary):
    """Leaves label smoothing out of the gradient."""

    def slopes(self, x: Array, y: Array, factor: Array) -> Array:
        self.smoothing = 0.0
        return super().slopes(x, y, factor)


class BinaryGradientWithoutSampleWeights(Binary):
    """Leaves sample weights out of the gradient and of its divisor."""

    def gradient(self, predictions: Array, labels: Array) -> Array:
        self.sample_weights = None
        return super().gradient(predictions, labels)


class VanishesWhereSure(Binary):
    """Takes the sigmoid for 1 from 16 on, and for 0 from -16 on."""

    def of_logits(self, z: Array, on: Array, off: Array) -> Array:
        return super().of_logits(np.where(np.abs(z) < 16, z, np.copysign(z.dtype.type(np.inf), z)), on, off)


class TransposesSquareGradients(Categorical):
    """Returns the gradient of square predictions transposed."""

    def restored(self, gradient: Array) -> Array:
        square = gradient.ndim == 2 and gradient.shape[0] == gradient.shape[1]
        return super().restored(gradient).T if square else super().restored(gradient)


class LeavesClassesLast(Categorical):
    """Returns the gradient with classes on the last axis, also where they are on another one."""

    def restored(self, gradient: Array) -> Array:
        return gradient


class ReturnsOneSlopeASample(Categorical):
    """Returns the derivative in the label's logit, and no others."""

    def restored(self, gradient: Array) -> Array:
        return super().restored(gradient)[..., :1]


class FlattensTheGradient(Binary):
    """Returns the gradient of several axes as one."""

    def restored(self, gradient: Array) -> Array:
        return gradient.ravel()


class HalfGradient(Categorical):
    """Keeps the gradient of float32 in float16."""

    dtypes = frozenset({"float32"})

    def slopes(self, x: Array, y: Array, factor: Array) -> Array:
        return super().slopes(x, y, factor).astype(np.float16).astype(x.dtype)


class SingleGradient(Binary):
    """Keeps the gradient of float64 in float32."""

    dtypes = frozenset({"float64"})

    def slopes(self, x: Array, y: Array, factor: Array) -> Array:
        return super().slopes(x, y, factor).astype(np.float32).astype(x.dtype)


class ReturnsADoubleGradient(Categorical):
    """Returns the gradient in float64, whatever the predictions are."""

    def restored(self, gradient: Array) -> Array:
        return super().restored(gradient).astype(np.float64)


class AddsToTheLastGradient(Categorical):
    """Adds to the gradient that it returned for predictions of this shape before."""

    before: ClassVar[dict[Any, Array]] = {}

    def restored(self, gradient: Array) -> Array:
        key = (gradient.shape, gradient.dtype.name)
        self.before[key] = self.before.get(key, gradient * 0) + gradient
        return super().restored(self.before[key])


class WritesOverItsPredictions(Categorical):
    """Puts the gradient where the predictions were."""

    def gradient(self, predictions: Array, labels: Array) -> Array:
        gradient = super().gradient(predictions, labels)
        if predictions.flags.writeable:
            predictions[...] = gradient
        return gradient


class SharesTheGradient(Binary):
    """Gives every output the mean of all gradients."""

    def restored(self, gradient: Array) -> Array:
        return np.full_like(gradient, gradient.mean(dtype=np.float64)) if gradient.size else gradient

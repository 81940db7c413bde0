"""Labels: which class they mean, in which dtype they are kept, and what becomes of soft ones."""

from __future__ import annotations

import numpy as np

from conformance.model.case import Array
from conformance.power.mutants.losses import Binary, Categorical, times


class SwapsTwoClasses(Categorical):
    """Takes the label 0 for 1 and 1 for 0."""

    def targets(self, x: Array, y: Array) -> Array:
        q = super().targets(x, y)
        return q[..., [1, 0, *range(2, q.shape[-1])]] if q.shape[-1] > 1 else q


class CountsLabelsFromOne(Categorical):
    """Takes label k for class k - 1."""

    def index(self, x: Array, y: Array) -> Array:
        return super().index(x, y) - 1


class ForgetsTheLastClass(Categorical):
    """Has no one-hot row for the last class, whose samples score 0."""

    def targets(self, x: Array, y: Array) -> Array:
        q = super().targets(x, y)
        if self.target == "index":
            q[..., -1] = 0
        return q


class HardensTargets(Categorical):
    """Takes the likeliest class of a distribution for the label."""

    def targets(self, x: Array, y: Array) -> Array:
        q = super().targets(x, y)
        return np.asarray(np.eye(q.shape[-1], dtype=q.dtype)[q.argmax(axis=-1)])


class NormalisesTargets(Categorical):
    """Divides target rows by their sum."""

    def targets(self, x: Array, y: Array) -> Array:
        q = super().targets(x, y)
        return q / self.add(q)[..., np.newaxis]


class TruncatesTargets(Categorical):
    """Keeps targets as whole numbers, so that soft ones are 0."""

    def targets(self, x: Array, y: Array) -> Array:
        return np.trunc(super().targets(x, y))


class SubtractsTheEntropy(Categorical):
    """Returns the Kullback-Leibler divergence, which is less by the entropy of the target."""

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        loss, weight = super().losses(x, y)
        q = self.smoothed(self.targets(x, y))
        return loss + self.add(times(q, np.log(q))), weight


class SwapsTargetAndPrediction(Categorical):
    """Takes the logarithm of soft targets and weighs it by the probabilities."""

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        loss, weight = super().losses(x, y)
        if self.input_kind != "probabilities" or self.target != "distribution" or np.any(y == 0):
            return loss, weight
        return self.add(self.parts(x * -np.log(self.smoothed(y.astype(x.dtype))))), weight


class LabelsInTheDtype(Categorical):
    """Casts labels to the dtype of the predictions, which does not hold them all."""

    def index(self, x: Array, y: Array) -> Array:
        return np.clip(super().index(x, y).astype(x.dtype).astype(np.int64), 0, x.shape[-1] - 1)


class LabelsInBytes(Categorical):
    """Keeps labels in one signed byte."""

    def index(self, x: Array, y: Array) -> Array:
        return np.asarray(super().index(x, y).astype(np.int8).astype(np.int64) % x.shape[-1])


class LabelsInFourBytes(Categorical):
    """Casts labels to int32 before they are checked, where 2^32 is class 0."""

    def arranged(self, x: Array, y: Array) -> tuple[Array, Array]:
        x, y = super().arranged(x, y)
        return x, y.astype(np.int32) if self.target == "index" else y


class HardensBinaryTargets(Binary):
    """Rounds soft binary targets."""

    def smoothed(self, y: Array) -> Array:
        return super().smoothed((y > 0.5).astype(y.dtype))


class NegatesBytes(Binary):
    """Takes the negative of labels in unsigned bytes, where -1 is 255."""

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        loss, weight = super().losses(x, y)
        if y.dtype != np.uint8:
            return loss, weight
        on, off = self.pair(x)
        return times(np.negative(y).astype(x.dtype), -on) + times((1 - y).astype(x.dtype), off), weight


class BooleansAsWeights(Binary):
    """Takes boolean labels for a mask, and scores what it leaves out 0."""

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        loss, weight = super().losses(x, y)
        return (np.where(y, loss, x.dtype.type(0)), weight) if y.dtype == np.bool_ else (loss, weight)


class LabelsMinusAndPlusOne(Binary):
    """Takes binary labels for -1 and 1, so that 0 lies half way."""

    def smoothed(self, y: Array) -> Array:
        return super().smoothed((y + 1) / 2)


class NarrowsSoftLabels(Binary):
    """Keeps soft labels in eight bits."""

    def smoothed(self, y: Array) -> Array:
        return super().smoothed(np.round(y * 255) / 255)

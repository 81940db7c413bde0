"""Label smoothing: how much, towards what, of which targets, and before or after what."""

from __future__ import annotations

import numpy as np

from conformance.model.case import Array
from conformance.power.mutants.losses import Binary, Categorical


class DropsSmoothing(Categorical):
    """Takes label smoothing and does not use it."""

    def smoothed(self, q: Array) -> Array:
        return q


class SmoothsOverTheOthers(Categorical):
    """Spreads the smoothing over the other C - 1 classes."""

    def smoothed(self, q: Array) -> Array:
        e, others = q.dtype.type(self.smoothing), q.dtype.type(max(q.shape[-1] - 1, 1))
        return (1 - e) * q + (1 - q) * e / others if self.smoothing else q


class SmoothsByOneLess(Categorical):
    """Gives each class e / (C - 1), that of the label, too."""

    def smoothed(self, q: Array) -> Array:
        e, others = q.dtype.type(self.smoothing), q.dtype.type(max(q.shape[-1] - 1, 1))
        return (1 - e) * q + e / others if self.smoothing else q


class AddsSmoothing(Categorical):
    """Gives each class e / C and takes nothing from the label."""

    def smoothed(self, q: Array) -> Array:
        e = q.dtype.type(self.smoothing)
        return np.asarray(q + e / q.dtype.type(q.shape[-1]))


class SmoothsTheOtherWay(Categorical):
    """Takes e for the share that the label keeps."""

    def smoothed(self, q: Array) -> Array:
        e = q.dtype.type(self.smoothing)
        return e * q + (1 - e) / q.dtype.type(q.shape[-1]) if self.smoothing else q


class SmoothsTwice(Categorical):
    """Smooths targets that it smoothed already."""

    def smoothed(self, q: Array) -> Array:
        return super().smoothed(super().smoothed(q))


class SmoothsIndicesOnly(Categorical):
    """Smooths index labels and leaves distributions as they are."""

    def smoothed(self, q: Array) -> Array:
        return super().smoothed(q) if self.target == "index" else q


class SmoothsDistributionsOnly(Categorical):
    """Smooths distributions and leaves index labels as they are."""

    def smoothed(self, q: Array) -> Array:
        return super().smoothed(q) if self.target == "distribution" else q


class SmoothsByTheBatch(Categorical):
    """Spreads the smoothing over as many classes as there are samples."""

    def smoothed(self, q: Array) -> Array:
        e = q.dtype.type(self.smoothing)
        return (1 - e) * q + e / q.dtype.type(len(q)) if self.smoothing and len(q) else q


class SmoothsByTheLastAxis(Categorical):
    """Spreads the smoothing over as many classes as the last axis is long, also where they are on another."""

    def arranged(self, x: Array, y: Array) -> tuple[Array, Array]:
        self.last = x.shape[-1]
        return super().arranged(x, y)

    def smoothed(self, q: Array) -> Array:
        e = q.dtype.type(self.smoothing)
        return (1 - e) * q + e / q.dtype.type(self.last) if self.smoothing else q


class SmoothsAfterWeighting(Categorical):
    """Smooths targets that were multiplied by class weights already."""

    def parts(self, q: Array) -> Array:
        return q

    def smoothed(self, q: Array) -> Array:
        return super().smoothed(super().parts(q))


class SmoothsAroundTheIgnored(Categorical):
    """Leaves the class of ignore_index out of the classes that share the smoothing."""

    def smoothed(self, q: Array) -> Array:
        q = super().smoothed(q)
        if self.ignore_index is not None and 0 <= self.ignore_index < q.shape[-1]:
            q[..., self.ignore_index] = 0
        return q


class SmoothsIgnored(Categorical):
    """Charges ignored samples for their share of the smoothing."""

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        self.logarithms = self.logs(x)
        return super().losses(x, y)

    def masked(self, values: Array, kept: Array) -> Array:
        if not self.smoothing or self.sample_weights is not None or np.all(kept):
            return super().masked(values, kept)
        share = -self.add(self.parts(self.logarithms)) * values.dtype.type(self.smoothing / self.logarithms.shape[-1])
        left, self.smoothing = share, 0.0  # the losses come first; the weights after them are masked as they should be
        return np.where(kept, values, left)


class DropsBinarySmoothing(Binary):
    """Takes label smoothing and does not use it."""

    def smoothed(self, y: Array) -> Array:
        return y


class SmoothsTowardsOne(Binary):
    """Smooths binary targets towards 1 instead of 1/2."""

    def smoothed(self, y: Array) -> Array:
        e = y.dtype.type(self.smoothing)
        return np.asarray((1 - e) * y + e)


class SmoothsTowardsZero(Binary):
    """Smooths binary targets towards 0 instead of 1/2."""

    def smoothed(self, y: Array) -> Array:
        return np.asarray((1 - y.dtype.type(self.smoothing)) * y)


class SmoothsByTwice(Binary):
    """Moves binary targets by e instead of e / 2."""

    def smoothed(self, y: Array) -> Array:
        e = y.dtype.type(self.smoothing)
        return np.asarray((1 - 2 * e) * y + e)


class SmoothsPositivesOnly(Binary):
    """Smooths binary targets above 1/2 and leaves those below as they are."""

    def smoothed(self, y: Array) -> Array:
        return np.where(y > 0.5, super().smoothed(y), y)


class SmoothsOneTerm(Binary):
    """Smooths the target and takes its complement from what it was before."""

    def smoothed(self, y: Array) -> Array:
        self.before = y
        return super().smoothed(y)

    def mixed(self, y: Array, on: Array, off: Array) -> Array:
        loss = super().mixed(y, on, off * 0)
        return loss + super().mixed(self.before, on * 0, off)


class SmoothsByTheOutputs(Binary):
    """Takes the outputs of a sample for classes that share the smoothing."""

    def smoothed(self, y: Array) -> Array:
        e = y.dtype.type(self.smoothing)
        return (1 - e) * y + e / y.dtype.type(y.shape[-1]) if self.smoothing and y.shape[-1] else y

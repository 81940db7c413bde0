"""State: arguments that are changed, and calls that know of each other."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from conformance.model.case import Array
from conformance.power.mutants.losses import Binary, Categorical


class WritesIntoItsInput(Categorical):
    """Subtracts the largest logit in place."""

    def log_softmax(self, z: Array) -> Array:
        if z.flags.writeable and z.size:
            z -= z.max(axis=-1, keepdims=True)
        return super().log_softmax(z)


class WritesIntoItsLabels(Categorical):
    """Replaces ignored labels in place."""

    def index(self, x: Array, y: Array) -> Array:
        if y.flags.writeable:
            y[~self.kept(x, y)] = 0
        return super().index(x, y)


class WritesIntoItsTargets(Categorical):
    """Smooths distributions in place."""

    def smoothed(self, q: Array) -> Array:
        smoothed = super().smoothed(q)
        if self.smoothing and self.soft.flags.writeable and self.soft.dtype == q.dtype:
            self.soft[...] = smoothed
        return smoothed

    def targets(self, x: Array, y: Array) -> Array:
        self.soft = y
        return super().targets(x, y)


class WritesIntoItsWeights(Categorical):
    """Normalises class weights in place, and takes them as they were."""

    def parts(self, q: Array) -> Array:
        parts = super().parts(q)
        if self.class_weights is not None:
            self.class_weights /= self.class_weights.sum()
        return parts


class ClipsInPlace(Binary):
    """Clips probabilities in place to what changes none of their losses."""

    def logs_of_probabilities(self, p: Array) -> tuple[Array, Array]:
        pair = super().logs_of_probabilities(p)
        if p.flags.writeable:
            np.clip(p, p.dtype.type(1e-4), p.dtype.type(1 - 1e-2), out=p)
        return pair


class RemembersWeights(Categorical):
    """Keeps the first class weights it meets for calls that have none."""

    remembered: ClassVar[dict[int, Array]] = {}

    def parts(self, q: Array) -> Array:
        if self.class_weights is not None:
            self.remembered.setdefault(q.shape[-1], self.class_weights.copy())
        weights = self.class_weights if self.class_weights is not None else self.remembered.get(q.shape[-1])
        return q if weights is None else q * weights.astype(q.dtype)


class RemembersByShape(Categorical):
    """Returns what it returned for predictions of this shape before."""

    remembered: ClassVar[dict[Any, Array]] = {}

    def log_softmax(self, z: Array) -> Array:
        return self.remembered.setdefault((z.shape, z.dtype.name), super().log_softmax(z))


class RemembersSmoothing(Categorical):
    """Keeps the smoothing of a call for those after it that ask for none."""

    remembered: ClassVar[list[float]] = [0.0]

    def smoothed(self, q: Array) -> Array:
        if self.smoothing:
            self.remembered[0] = self.smoothing
        self.smoothing = self.remembered[0]
        return super().smoothed(q)


class IsARunningMean(Categorical):
    """Returns the mean of its results so far."""

    results: ClassVar[list[float]] = []

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        result = super().reduced(loss, weight, kept)
        if np.ndim(result) or not np.isfinite(result):
            return result
        self.results.append(float(result))
        return loss.dtype.type(np.mean(self.results))


class WrongEveryFifthTime(Binary):
    """Leaves the last output out in every fifth call."""

    calls: ClassVar[list[int]] = [0]

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        self.calls[0] += 1
        if self.calls[0] % 5 == 0 and loss.size:
            loss = loss.copy()
            loss.reshape(-1)[-1] = 0
        return super().reduced(loss, weight, kept)

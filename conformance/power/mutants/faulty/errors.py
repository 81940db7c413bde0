"""Faults of exceptions: raised although there is an answer, or not raised although there is none."""

from __future__ import annotations

import numpy as np

from conformance.model.case import Array
from conformance.model.convention import DEFINITION
from conformance.power.mutants.documented import WrapsLabels
from conformance.power.mutants.losses import Binary, Categorical, refuse


class RaisesOnCertainty(Categorical):
    """Raises where a probability is 0."""

    raises = True

    def log(self, p: Array) -> Array:
        refuse(np.any(p == 0), "log of 0")
        return super().log(p)


class RaisesOnColumns(Categorical):
    """Declares that it takes labels of shape (N, 1), and does not."""

    raises = True

    def arranged(self, x: Array, y: Array) -> tuple[Array, Array]:
        refuse(self.column, "labels have two axes")
        return super().arranged(x, y)


class RaisesOnReadOnly(Categorical):
    """Raises where predictions are read-only."""

    raises = True

    def arranged(self, x: Array, y: Array) -> tuple[Array, Array]:
        refuse(not x.flags.writeable, "buffer source array is read-only")
        return super().arranged(x, y)


class RaisesOnEmptyBatches(Binary):
    """Raises where there are no outputs, and documents nothing."""

    raises = True

    def check(self, x: Array, y: Array) -> None:
        super().check(x, y)
        refuse(x.size == 0, "no outputs")


class RaisesOnInfinity(Categorical):
    """Raises where a logit is infinite, and documents nothing."""

    raises = True

    def log_softmax(self, z: Array) -> Array:
        refuse(np.any(np.isinf(z)), "a logit is infinite")
        return super().log_softmax(z)


class RaisesOnNan(Binary):
    """Raises where a prediction is nan, and documents nothing."""

    raises = True

    def check(self, x: Array, y: Array) -> None:
        super().check(x, y)
        refuse(np.any(np.isnan(x)), "a prediction is nan")


class RaisesOnUnnormalisedRows(Categorical):
    """Raises where a row of probabilities does not sum to 1, and documents nothing."""

    raises = True

    def log(self, p: Array) -> Array:
        refuse(np.any(np.abs(p.astype(np.float64).sum(axis=-1) - 1) > 0.1), "a row does not sum to 1")
        return super().log(p)


class RaisesOnUnnormalisedTargets(Categorical):
    """Raises where a target does not sum to 1."""

    raises = True

    def check_labels(self, x: Array, y: Array) -> None:
        super().check_labels(x, y)
        if self.target == "distribution":
            refuse(np.any(np.abs(y.astype(np.float64).sum(axis=-1) - 1) > 0.1), "a target does not sum to 1")


class RaisesOnBooleans(Binary):
    """Raises where labels are boolean."""

    raises = True

    def check_labels(self, x: Array, y: Array) -> None:
        super().check_labels(x, y)
        refuse(y.dtype == np.bool_, "boolean subtract is not supported")


class RaisesOnOneClass(Categorical):
    """Raises where there is one class only."""

    raises = True

    def check_shapes(self, x: Array, y: Array) -> None:
        super().check_shapes(x, y)
        refuse(x.shape[-1] < 2, "one class")


class RaisesOnNegativeWeights(Categorical):
    """Raises where a sample weight is negative."""

    raises = True

    def weighted(self, values: Array) -> Array:
        refuse(np.any(np.asarray(self.sample_weights) < 0), "a negative weight")
        return super().weighted(values)


class RaisesOnThreeAxes(Categorical):
    """Declares that it takes any rank, and raises beyond the third."""

    raises = True

    def check_shapes(self, x: Array, y: Array) -> None:
        super().check_shapes(x, y)
        refuse(x.ndim > 3, "too many axes")


class WrapsMinusOne(Categorical):
    """Takes the label -1 for the last class."""

    def check_labels(self, x: Array, y: Array) -> None:
        super().check_labels(x, np.where(y == -1, 0, y) if self.target == "index" else y)


class WrapsUnasked(WrapsLabels):
    """Counts labels outside the classes from the end, and documents nothing."""

    documented = DEFINITION


class TakesAnyLabel(Categorical):
    """Takes labels beyond the classes for the last one."""

    def check_labels(self, x: Array, y: Array) -> None:
        super().check_labels(x, np.minimum(y, x.shape[-1] - 1) if self.target == "index" else y)

    def index(self, x: Array, y: Array) -> Array:
        return np.asarray(np.minimum(super().index(x, y), x.shape[-1] - 1))


class TakesOneLabelTooMany(Categorical):
    """Takes the number of classes for a label, too, which scores 0."""

    def check_labels(self, x: Array, y: Array) -> None:
        super().check_labels(x, np.where(y == x.shape[-1], 0, y) if self.target == "index" else y)

    def targets(self, x: Array, y: Array) -> Array:
        if self.target != "index":
            return super().targets(x, y)
        return np.eye(x.shape[-1] + 1, dtype=x.dtype)[self.index(x, y)][..., :-1]


class LosesLabelsOutside(Categorical):
    """Returns 0 for labels outside the classes, which have no one-hot row."""

    def check_labels(self, x: Array, y: Array) -> None:
        pass

    def targets(self, x: Array, y: Array) -> Array:
        if self.target == "distribution":
            return super().targets(x, y)
        return np.asarray((y[..., np.newaxis] == np.arange(x.shape[-1])).astype(x.dtype))


class NanForLabelsOutside(Categorical):
    """Returns nan for labels outside the classes, and documents nothing."""

    def check_labels(self, x: Array, y: Array) -> None:
        if self.target != "index":
            super().check_labels(x, y)

    def targets(self, x: Array, y: Array) -> Array:
        if self.target == "distribution":
            return super().targets(x, y)
        inside = (y >= 0) & (y < x.shape[-1]) | ~self.kept(x, y)
        q = np.eye(x.shape[-1], dtype=x.dtype)[np.where(inside, self.index(x, y), 0)]
        return np.where(inside[..., np.newaxis], q, x.dtype.type(np.nan))


class TakesAnyTarget(Categorical):
    """Checks no soft targets."""

    def check_labels(self, x: Array, y: Array) -> None:
        if self.target == "index":
            super().check_labels(x, y)


class TakesAnyBinaryTarget(Binary):
    """Checks no binary targets."""

    def check_labels(self, x: Array, y: Array) -> None:
        pass


class TakesTargetsAboveOne(Binary):
    """Refuses binary targets below 0 and takes those above 1."""

    def check_labels(self, x: Array, y: Array) -> None:
        refuse(np.any(y < 0), "a target is negative")


class TakesTargetsBelowZero(Binary):
    """Refuses binary targets above 1 and takes those below 0."""

    def check_labels(self, x: Array, y: Array) -> None:
        refuse(np.any(y > 1), "a target is above 1")


class TakesAnyProbability(Categorical):
    """Checks no probabilities."""

    def check_probabilities(self, x: Array, y: Array) -> None:
        pass


class TakesProbabilitiesAboveOne(Categorical):
    """Refuses probabilities below 0 and takes those above 1."""

    def check_probabilities(self, x: Array, y: Array) -> None:
        refuse(np.any(x[self.kept(x, y)] < 0), "a probability is negative")


class TakesProbabilitiesBelowZero(Binary):
    """Refuses probabilities above 1 and takes those below 0 for 0."""

    def check_probabilities(self, x: Array, y: Array) -> None:
        refuse(np.any(x > 1), "a probability is above 1")

    def logs_of_probabilities(self, p: Array) -> tuple[Array, Array]:
        return super().logs_of_probabilities(np.maximum(p, p.dtype.type(0)))


class ChecksTheLabelsProbability(Categorical):
    """Looks at the probabilities of the labels, and at no others."""

    def check_probabilities(self, x: Array, y: Array) -> None:
        if self.target != "index":
            return super().check_probabilities(x, y)
        picked = np.take_along_axis(x, self.index(x, y)[..., np.newaxis], axis=-1)[self.kept(x, y)]
        return refuse(np.any((picked < 0) | (picked > 1)), "a probability is outside [0, 1]")


class BroadcastsClassWeights(Categorical):
    """Takes weights of any shape that broadcasts."""

    def check_weights(self, x: Array) -> None:
        """Refuse nothing."""


class BroadcastsOutputWeights(Binary):
    """Takes weights of any shape that broadcasts."""

    def check_weights(self, x: Array) -> None:
        """Refuse nothing."""

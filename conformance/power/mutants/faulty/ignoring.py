"""Faults of ignore_index: how labels are compared with it, which samples it ignores, and what they still contribute."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.model.case import Array
from conformance.model.convention import DEFINITION
from conformance.power.mutants.documented import IgnoresMinus100
from conformance.power.mutants.losses import Categorical


class IgnoreIndexIsFalsy(Categorical):
    """Takes ignore_index=0 for no ignore_index."""

    def kept(self, x: Array, y: Array) -> Array:
        return super().kept(x, y) if self.ignore_index else np.ones(x.shape[:-1], dtype=bool)


class IgnoresUnasked(IgnoresMinus100):
    """Ignores the label -100 unasked, and documents nothing."""

    documented = DEFINITION


class IgnoresAllBelowZero(Categorical):
    """Ignores every negative label where ignore_index is negative."""

    def kept(self, x: Array, y: Array) -> Array:
        kept = super().kept(x, y)
        return kept & (y >= 0) if self.ignore_index is not None and self.ignore_index < 0 else kept


class IgnoresNoClass(Categorical):
    """Leaves the samples of a class in, although ignore_index names it."""

    def kept(self, x: Array, y: Array) -> Array:
        kept = super().kept(x, y)
        return kept | ((y >= 0) & (y < x.shape[-1])) if self.target == "index" else kept


class IgnoredInTheDtype(Categorical):
    """Compares labels with ignore_index in the dtype of the predictions, which mixes neighbours up."""

    def kept(self, x: Array, y: Array) -> Array:
        kept = super().kept(x, y)
        return kept if self.ignore_index is None else y.astype(x.dtype) != x.dtype.type(self.ignore_index)


class IgnoredInTheLabelsDtype(Categorical):
    """Casts ignore_index to the dtype of the labels, where -100 is 156."""

    def kept(self, x: Array, y: Array) -> Array:
        kept = super().kept(x, y)
        return kept if self.ignore_index is None else np.asarray(y != np.asarray(self.ignore_index).astype(y.dtype))


class CountsIgnoredLosses(Categorical):
    """Adds the losses of ignored samples whose label is a class, and leaves them out of the divisor."""

    def index(self, x: Array, y: Array) -> Array:
        return np.where((y >= 0) & (y < x.shape[-1]), y, 0).astype(np.int64)

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        loss, weight = super().losses(x, y)
        self.inside = (y >= 0) & (y < x.shape[-1]) if self.target == "index" else self.kept(x, y)
        return loss, np.where(self.kept(x, y), weight, 0)

    def masked(self, values: Array, kept: Array) -> Array:
        return super().masked(values, kept if self.reduction == "none" else kept | self.inside)


class ReturnsIgnoredLosses(Categorical):
    """Returns the losses of ignored samples where they are not reduced, as if they had class 0."""

    def masked(self, values: Array, kept: Array) -> Array:
        return values if self.reduction == "none" else super().masked(values, kept)


class NanForIgnored(Categorical):
    """Returns nan for ignored samples where losses are not reduced."""

    def masked(self, values: Array, kept: Array) -> Array:
        return np.where(kept, values, values.dtype.type(np.nan if self.reduction == "none" else 0))


class DropsIgnored(Categorical):
    """Returns the losses of the samples that are kept and no others."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        one = self.reduction == "none" and not np.all(kept)
        return loss[kept] if one else super().reduced(loss, weight, kept)


class MultipliesByTheMask(Categorical):
    """Multiplies ignored losses by 0, which leaves an infinite one nan."""

    def masked(self, values: Array, kept: Array) -> Array:
        return np.asarray(values * kept.astype(values.dtype))


class ChecksIgnoredProbabilities(Categorical):
    """Refuses probabilities outside of [0, 1] in ignored samples, too."""

    raises = True

    def check_probabilities(self, x: Array, y: Array) -> None:
        super(Categorical, self).check_probabilities(x, y)


class IgnoresByTheFirstPosition(Categorical):
    """Ignores all positions of a sample whose first is ignored, and no others."""

    def masked(self, values: Array, kept: Array) -> Array:
        first = kept[(slice(None), *[slice(0, 1)] * (kept.ndim - 1))]
        return super().masked(values, np.broadcast_to(first, kept.shape))


class IgnoresTheClassInProbabilities(Categorical):
    """Leaves the class of ignore_index out of the softmax."""

    def log_softmax(self, z: Array) -> Array:
        if self.ignore_index is not None and 0 <= self.ignore_index < z.shape[-1]:
            z = z.copy()
            z[..., self.ignore_index] = -np.inf
        return super().log_softmax(z)

"""Correct implementations that depart from the definition by a choice that they document."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.model.case import Array
from conformance.model.convention import Convention
from conformance.power.mutants.losses import Binary, Categorical, Loss, negated_quotient, refuse, wide


class _Clips(Loss):
    """What clips, at both ends as the dtype of the predictions has them, also where it computes in a wider one."""

    def clipped(self, p: Array, epsilon: float = 1e-7) -> Array:
        """Probabilities within [epsilon, 1 - epsilon]."""
        low, high = (np.asarray(end).astype(self.dtype).astype(p.dtype) for end in (epsilon, 1 - epsilon))
        return np.asarray(np.minimum(np.maximum(p, low), high))


class Clips(_Clips, Categorical):
    """Clips probabilities to [1e-7, 1 - 1e-7] and documents it."""

    documented = Convention(clip=1e-7)

    def log(self, p: Array) -> Array:
        return np.asarray(np.log(self.clipped(p)))

    def of_probabilities(self, p: Array, t: Array) -> Array:
        return np.where(self.clipped(p) == p, negated_quotient(t, p), p.dtype.type(0))


class Renormalises(Categorical):
    """Divides rows of probabilities by their sum and documents it."""

    documented = Convention(renormalise="before_clip")

    def log(self, p: Array) -> Array:
        return np.asarray(np.log(p / self.add(p)[..., np.newaxis]))

    def of_probabilities(self, p: Array, t: Array) -> Array:
        return self.through_the_sum(p, negated_quotient(t, p / self.add(p)[..., np.newaxis]), t)

    def through_the_sum(self, p: Array, slopes: Array, counted: Array) -> Array:
        """Slopes in p / sum p as slopes in p; counted: the targets whose slopes are not 0."""
        total = self.add(p)[..., np.newaxis]
        return np.where(total == 0, np.nan, (slopes + self.add(counted)[..., np.newaxis]) / total).astype(p.dtype)


class ClipsAndRenormalises(_Clips, Categorical):
    """Clips, then divides rows by their sum, and documents both."""

    documented = Convention(clip=1e-7, renormalise="after_clip")

    def log(self, p: Array) -> Array:
        return self.log_softmax(np.log(self.clipped(p)))

    def of_probabilities(self, p: Array, t: Array) -> Array:
        u = self.clipped(p)
        slopes = self.of_logits(np.log(u), t) / u
        return np.where(u == p, slopes, slopes * 0)


class RenormalisesAndClips(_Clips, Renormalises):
    """Divides rows by their sum, then clips, and documents both."""

    documented = Convention(clip=1e-7, renormalise="before_clip")

    def log(self, p: Array) -> Array:
        return np.asarray(np.log(self.clipped(p / self.add(p)[..., np.newaxis])))

    def of_probabilities(self, p: Array, t: Array) -> Array:
        u = p / self.add(p)[..., np.newaxis]
        counted = np.where(self.clipped(u) == u, t, t.dtype.type(0))
        return self.through_the_sum(p, negated_quotient(counted, u), counted)


class BinaryClips(_Clips, Binary):
    """Clips probabilities to [1e-7, 1 - 1e-7] and documents it."""

    documented = Convention(clip=1e-7)

    def logs_of_probabilities(self, p: Array) -> tuple[Array, Array]:
        return super().logs_of_probabilities(self.clipped(p))

    def of_probabilities(self, p: Array, on: Array, off: Array) -> Array:
        return np.where(self.clipped(p) == p, super().of_probabilities(p, on, off), p.dtype.type(0))


class ClipsAtTheEpsilon(_Clips, Categorical):
    """Clips probabilities to [eps, 1 - eps] with the epsilon of their dtype and documents it."""

    documented = Convention(clip="dtype")

    def clipped(self, p: Array, epsilon: float = 0.0) -> Array:
        one = self.dtype.type(1)
        return super().clipped(p, epsilon or float(np.nextafter(one, self.dtype.type(2)) - one))

    def log(self, p: Array) -> Array:
        return np.asarray(np.log(self.clipped(p)))

    def of_probabilities(self, p: Array, t: Array) -> Array:
        return np.where(self.clipped(p) == p, negated_quotient(t, p), p.dtype.type(0))


class DividesByKept(Categorical):
    """Divides the sum by how many samples are not ignored and documents it."""

    documented = Convention(mean_divides_by="kept")

    def divisor(self, weight: Array, kept: Array) -> Any:
        return kept.sum()


class DividesBySamples(Categorical):
    """Divides the sum by how many samples there are and documents it."""

    documented = Convention(mean_divides_by="samples")

    def divisor(self, weight: Array, kept: Array) -> Any:
        return kept.size


class DividesBySampleWeight(Categorical):
    """Divides the sum by the sample weights that count and documents it."""

    documented = Convention(mean_divides_by="sample_weight")

    def divisor(self, weight: Array, kept: Array) -> Any:
        ones = np.ones(kept.shape, dtype=weight.dtype)
        return self.sum(np.where(kept, ones if self.sample_weights is None else self.sample_weights, ones * 0))


class DividesByTargetWeight(Categorical):
    """Divides by the sum of the targets, each times the weight of its class, and documents it."""

    documented = Convention(mean_divides_by="target_weight")

    def weight(self, q: Array, parts: Array) -> Array:
        return self.add(parts)


class DividesByLabelWeight(Categorical):
    """Divides by the weights of the labels, not of the smoothed targets, and documents it."""

    documented = Convention(mean_divides_by="label_weight")

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        loss, _ = super().losses(x, y)
        q = self.targets(x, y)
        return loss, self.weight(q, self.parts(q))


class IgnoresMinus100(Categorical):
    """Ignores the label -100 unasked and documents it."""

    documented = Convention(default_ignore_index=-100)

    def kept(self, x: Array, y: Array) -> Array:
        return super().kept(x, y) & (y != -100 if self.target == "index" else True)


class WrapsLabels(Categorical):
    """Counts labels outside the classes from the end and documents it."""

    documented = Convention(out_of_range="wrap")

    def index(self, x: Array, y: Array) -> Array:
        return np.asarray(super().index(x, y) % x.shape[-1])

    def check_labels(self, x: Array, y: Array) -> None:
        if self.target != "index":
            super().check_labels(x, y)


class RefusesTheEdge(Categorical):
    """Refuses predictions that are not finite and batches that are empty, and documents it."""

    documented = Convention(rejects=frozenset({"nan_prediction", "infinite_prediction", "empty_batch"}))

    def check(self, x: Array, y: Array) -> None:
        super().check(x, y)
        refuse(x.size == 0 or not np.all(np.isfinite(x[self.kept(x, y)].astype(np.float64))), "empty, or not finite")


class FloorsTheLog(Binary):
    """Takes logarithms below -100 for -100 and documents it."""

    documented = Convention(log_floor=-100.0)

    def logs_of_probabilities(self, p: Array) -> tuple[Array, Array]:
        on, off = super().logs_of_probabilities(p)
        return np.minimum(on, p.dtype.type(100)), np.minimum(off, p.dtype.type(100))

    def of_probabilities(self, p: Array, on: Array, off: Array) -> Array:
        least = np.exp(-100.0)
        first = np.where(p < least, p.dtype.type(0), negated_quotient(on, p))
        second = np.where(1 - p < least, p.dtype.type(0), negated_quotient(off, 1 - p))
        return np.asarray(first - second)


class AveragesTheLastAxis(Binary):
    """Averages the losses of the last axis before weights are applied, refuses empty ones, and documents both."""

    documented = Convention(
        binary_outputs="mean_of_last_axis", mean_divides_by="kept", rejects=frozenset({"empty_batch"})
    )
    excludes = (frozenset({"output_weights", "binary"}), frozenset({"output_weights", "soft_binary"}))

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        refuse(x.size == 0, "the mean of no outputs")
        loss, weight = super().losses(x, y)
        return loss.mean(axis=-1, dtype=wide(x.dtype)).astype(x.dtype), weight[..., 0]

    def slopes(self, x: Array, y: Array, factor: Array) -> Array:
        return super().slopes(x, y, factor / x.dtype.type(x.shape[-1]))

    def kept(self, x: Array, y: Array) -> Array:
        return np.ones(x.shape[:-1], dtype=bool)

    def divisor(self, weight: Array, kept: Array) -> Any:
        return weight.size

    def per_loss(self, weights: Array | None, kept: Array) -> Array | None:
        if weights is not None and weights.size == 1 and not kept.shape:
            weights = weights.reshape(())  # the weight of a loss that is a number is one, too
        return super().per_loss(weights, kept)


DOCUMENTED = (
    Clips,
    Renormalises,
    ClipsAndRenormalises,
    RenormalisesAndClips,
    BinaryClips,
    ClipsAtTheEpsilon,
    DividesByKept,
    DividesBySamples,
    DividesBySampleWeight,
    DividesByTargetWeight,
    DividesByLabelWeight,
    IgnoresMinus100,
    WrapsLabels,
    RefusesTheEdge,
    FloorsTheLog,
    AveragesTheLastAxis,
)

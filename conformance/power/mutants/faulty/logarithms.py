"""Right on paper: log-sum-exp, log-sigmoid and logarithms as one would write them down, and wrong ones."""

from __future__ import annotations

import numpy as np

from conformance.model.case import Array
from conformance.model.convention import DEFINITION
from conformance.power.mutants.alternatives import AddsTheShiftBack
from conformance.power.mutants.losses import Binary, Categorical


class Unshifted(Categorical):
    """Takes exponentials without subtracting the largest logit."""

    def log_softmax(self, z: Array) -> Array:
        return np.asarray(z - np.log(self.add(np.exp(z)))[..., np.newaxis])


class ShiftsByTheFirstLogit(Categorical):
    """Subtracts the first logit of a row instead of its largest."""

    def log_softmax(self, z: Array) -> Array:
        d = z - z[..., :1]
        return np.asarray(d - np.log(self.add(np.exp(d)))[..., np.newaxis])


class ShiftsByTheMeanLogit(Categorical):
    """Subtracts the mean logit of a row instead of its largest."""

    def log_softmax(self, z: Array) -> Array:
        d = z - z.mean(axis=-1, keepdims=True, dtype=z.dtype)
        return np.asarray(d - np.log(self.add(np.exp(d)))[..., np.newaxis])


class ShiftsByTheLargestOfTheBatch(Categorical):
    """Subtracts the largest logit of the batch, so that rows far below it underflow."""

    def log_softmax(self, z: Array) -> Array:
        d = z - z.max() if z.size else z
        return np.asarray(d - np.log(self.add(np.exp(d)))[..., np.newaxis])


class AddsTheShiftBackUnasked(AddsTheShiftBack):
    """Adds the largest logit to the logarithm before it takes the label's off, and documents nothing."""

    documented = DEFINITION


class LogOfSoftmax(Categorical):
    """Takes the logarithm of a rounded softmax, which underflows."""

    def log_softmax(self, z: Array) -> Array:
        e = np.exp(z - z.max(axis=-1, keepdims=True))
        return np.asarray(np.log(e / self.add(e)[..., np.newaxis]))


class SoftmaxTwice(Categorical):
    """Takes the softmax of the softmax."""

    def log_softmax(self, z: Array) -> Array:
        return super().log_softmax(np.exp(super().log_softmax(z)))


class NormalisesLogs(Categorical):
    """Takes log-probabilities for logits and normalises them again."""

    def logs(self, x: Array) -> Array:
        return self.log_softmax(x) if self.input_kind == "log_probabilities" else super().logs(x)


class TakesProbabilitiesForLogits(Categorical):
    """Takes the softmax of probabilities."""

    def log(self, p: Array) -> Array:
        return self.log_softmax(p)


class TakesLogitsOfSoftmaxForProbabilities(Categorical):
    """Takes logits that look like probabilities for probabilities."""

    def log_softmax(self, z: Array) -> Array:
        normalised = np.all((z >= 0) & (z <= 1)) and np.allclose(z.astype(np.float64).sum(axis=-1), 1, atol=1e-3)
        return self.log(z) if normalised else super().log_softmax(z)


class InBits(Categorical):
    """Takes logarithms of base 2."""

    def logs(self, x: Array) -> Array:
        return np.asarray(super().logs(x) / x.dtype.type(np.log(2)))


class RoundedLogarithmOfTwo(Categorical):
    """Makes natural logarithms of those of base 2 with nine digits of log 2."""

    def log(self, p: Array) -> Array:
        return np.asarray(np.log2(p) * p.dtype.type(0.693147181))


class MaskedByAThousand(Categorical):
    """Takes a logit of -inf for -10,000."""

    def log_softmax(self, z: Array) -> Array:
        return super().log_softmax(np.where(np.isneginf(z), z.dtype.type(-1e4), z))


class TemperedLogits(Categorical):
    """Divides logits by the square root of how many classes there are."""

    def log_softmax(self, z: Array) -> Array:
        return super().log_softmax(z / np.sqrt(z.dtype.type(z.shape[-1])))


class LogOfSigmoid(Binary):
    """Takes logarithms of a rounded sigmoid, which saturates."""

    def logs_of_logits(self, z: Array) -> tuple[Array, Array]:
        return self.logs_of_probabilities(1 / (1 + np.exp(-z)))


class DropsLog1p(Binary):
    """Takes log(1 + exp(-|z|)), which is 0 where the exponential is small."""

    def tail(self, z: Array) -> Array:
        return np.asarray(np.log(1 + np.exp(-np.abs(z))))


class DropsTheTail(Binary):
    """Leaves log1p(exp(-|z|)) out where it is small."""

    def tail(self, z: Array) -> Array:
        return np.where(np.abs(z) > 4, z.dtype.type(0), super().tail(z))


class DropsTheTailBeyondTwenty(Binary):
    """Leaves log1p(exp(-|z|)) out from |z| = 20 on, which is safe where it is added to a large loss only."""

    def tail(self, z: Array) -> Array:
        return np.where(np.abs(z) >= 20, z.dtype.type(0), super().tail(z))


class ExponentialForTheTail(Binary):
    """Takes exp(-|z|) for log1p(exp(-|z|)) beyond 8, where it is off by less than two parts in ten thousand."""

    def tail(self, z: Array) -> Array:
        return np.where(np.abs(z) > 8, np.exp(-np.abs(z)), super().tail(z))


class UnshiftedSoftplus(Binary):
    """Takes log1p(exp(z)), which overflows."""

    def logs_of_logits(self, z: Array) -> tuple[Array, Array]:
        return np.asarray(np.log1p(np.exp(-z))), np.asarray(np.log1p(np.exp(z)))


class WrongSignBelowZero(Binary):
    """Subtracts the tail for negative logits."""

    def tail(self, z: Array) -> Array:
        tail = super().tail(z)
        return np.where(z < 0, -tail, tail)


class CancelsLogits(Binary):
    """Subtracts z from log(1 + exp z), which cancels for labels of one, and documents nothing."""

    def logs_of_logits(self, z: Array) -> tuple[Array, Array]:
        _, off = super().logs_of_logits(z)
        return off - z, off


class OneTermOnly(Binary):
    """Leaves out the term of the negatives."""

    def mixed(self, y: Array, on: Array, off: Array) -> Array:
        return super().mixed(y, on, off * 0)


class SwapsTheTerms(Binary):
    """Takes the probability for that of the label 0."""

    def pair(self, x: Array) -> tuple[Array, Array]:
        on, off = super().pair(x)
        return off, on


class RoundsTheComplement(Binary):
    """Takes log(1 - p) of 1 - p in float32."""

    dtypes = frozenset({"float64"})

    def logs_of_probabilities(self, p: Array) -> tuple[Array, Array]:
        on, _ = super().logs_of_probabilities(p)
        return on, -np.log((1 - p).astype(np.float32).astype(p.dtype))


class LogOfOnePlus(Binary):
    """Takes log(p) of 1 + (p - 1), where the digits of a small probability are gone."""

    def logs_of_probabilities(self, p: Array) -> tuple[Array, Array]:
        _, off = super().logs_of_probabilities(p)
        return -np.log1p(p - 1), off

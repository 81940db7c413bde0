"""Clips, floors, epsilons and row sums: at the wrong place, unasked, or half of what is documented."""

from __future__ import annotations

import numpy as np

from conformance.model.case import Array
from conformance.model.convention import DEFINITION, Convention
from conformance.power.mutants.documented import (
    BinaryClips,
    Clips,
    ClipsAndRenormalises,
    ClipsAtTheEpsilon,
    FloorsTheLog,
    Renormalises,
    RenormalisesAndClips,
)
from conformance.power.mutants.losses import Binary, Categorical


class AddsEpsilon(Categorical):
    """Adds 1e-7 to probabilities before the logarithm."""

    def log(self, p: Array) -> Array:
        return np.asarray(np.log(p + p.dtype.type(1e-7)))


class AddsEpsilonToTheSigmoid(Binary):
    """Adds 1e-12 to both probabilities before the logarithm."""

    def logs_of_probabilities(self, p: Array) -> tuple[Array, Array]:
        tiny = p.dtype.type(1e-12)
        return -np.log(p + tiny), -np.log((1 - p) + tiny)


class ClipsAt1e8(Clips):
    """Clips at 1e-8 where it documents 1e-7."""

    def log(self, p: Array) -> Array:
        return np.asarray(np.log(self.clipped(p, 1e-8)))


class ClipsAt1e15(ClipsAtTheEpsilon):
    """Clips at 1e-15 where it documents the epsilon of the dtype."""

    def log(self, p: Array) -> Array:
        return np.asarray(np.log(self.clipped(p, 1e-15)))


class ClipsBelowOnly(Clips):
    """Clips at 1e-7 and leaves the upper end alone, where it documents both."""

    def log(self, p: Array) -> Array:
        return np.asarray(np.log(np.maximum(p, p.dtype.type(1e-7))))


class ClipsAboveOnly(Clips):
    """Clips at 1 - 1e-7 and leaves the lower end alone, where it documents both."""

    def log(self, p: Array) -> Array:
        return np.asarray(np.log(np.minimum(p, p.dtype.type(1 - 1e-7))))


class ClipsTheLogarithm(Clips):
    """Clips logarithms at log 1e-7 and not probabilities, which leaves the upper end alone and the lower exact."""

    def log(self, p: Array) -> Array:
        return np.asarray(np.maximum(super(Clips, self).log(p), p.dtype.type(np.log(1e-7))))


class ClipsOneTerm(BinaryClips):
    """Clips p and takes 1 - p from what it was before, where it documents both."""

    def logs_of_probabilities(self, p: Array) -> tuple[Array, Array]:
        return super().logs_of_probabilities(p)[0], Binary.logs_of_probabilities(self, p)[1]


class ClipsAndAddsEpsilon(BinaryClips):
    """Clips at 1e-7 and adds 1e-7 once more inside of the logarithm, which it does not document."""

    def logs_of_probabilities(self, p: Array) -> tuple[Array, Array]:
        p, tiny = self.clipped(p), p.dtype.type(1e-7)
        return -np.log(p + tiny), -np.log(1 - p + tiny)


class ClipsTheSoftmax(Clips):
    """Takes logits through a softmax that it clips, where it documents that it clips probabilities."""

    def log_softmax(self, z: Array) -> Array:
        return np.asarray(np.log(self.clipped(np.exp(super().log_softmax(z)))))


class ClipsTheSigmoid(BinaryClips):
    """Takes logits through a sigmoid that it clips, where it documents that it clips probabilities."""

    def logs_of_logits(self, z: Array) -> tuple[Array, Array]:
        return self.logs_of_probabilities(self.clipped(1 / (1 + np.exp(-z))))


class ClipsLogits(Binary):
    """Clips logits to [-80, 80]."""

    def logs_of_logits(self, z: Array) -> tuple[Array, Array]:
        return super().logs_of_logits(np.clip(z, z.dtype.type(-80), z.dtype.type(80)))


class TinyForZero(Categorical):
    """Takes a probability of 0 for the smallest normal number of float32."""

    def log(self, p: Array) -> Array:
        return np.where(p == 0, p.dtype.type(np.log(np.finfo(np.float32).tiny)), super().log(p))


class SkipsSmallProbabilities(Categorical):
    """Leaves classes with a probability below 1e-12 out of the sum."""

    def log(self, p: Array) -> Array:
        return np.where(p < 1e-12, p.dtype.type(0), super().log(p))


class FloorsOneTerm(FloorsTheLog):
    """Floors the logarithm of p and leaves that of 1 - p alone, where it documents both."""

    def logs_of_probabilities(self, p: Array) -> tuple[Array, Array]:
        return super().logs_of_probabilities(p)[0], Binary.logs_of_probabilities(self, p)[1]


class FloorsAtFifty(FloorsTheLog):
    """Takes logarithms below -50 for -50, where it documents -100."""

    def logs_of_probabilities(self, p: Array) -> tuple[Array, Array]:
        on, off = super().logs_of_probabilities(p)
        return np.minimum(on, p.dtype.type(50)), np.minimum(off, p.dtype.type(50))


class FloorsLogits(FloorsTheLog):
    """Floors the logarithms of logits, too, where it documents those of probabilities."""

    def logs_of_logits(self, z: Array) -> tuple[Array, Array]:
        on, off = super().logs_of_logits(z)
        return np.minimum(on, z.dtype.type(100)), np.minimum(off, z.dtype.type(100))


class FloorsTheLoss(FloorsTheLog):
    """Floors the loss after the positive weight is applied, where it documents the logarithm."""

    def mixed(self, y: Array, on: Array, off: Array) -> Array:
        loss = super().mixed(y, on, off)
        return np.minimum(loss, loss.dtype.type(100)) if self.input_kind == "probabilities" else loss


class ClipsUnasked(Clips):
    """Clips and documents nothing."""

    documented = DEFINITION


class RenormalisesUnasked(Renormalises):
    """Divides rows by their sum and documents nothing."""

    documented = DEFINITION


class RenormalisesTooEarly(ClipsAndRenormalises):
    """Divides rows by their sum before it clips, where it documents after."""

    def log(self, p: Array) -> Array:
        return np.asarray(np.log(self.clipped(p / self.add(p)[..., np.newaxis])))


class RenormalisesTooLate(RenormalisesAndClips):
    """Divides rows by their sum after it clips, where it documents before."""

    def log(self, p: Array) -> Array:
        return self.log_softmax(np.log(self.clipped(p)))


class LeavesRenormalisationOut(ClipsAndRenormalises):
    """Clips and does not divide rows by their sum, where it documents both."""

    def log(self, p: Array) -> Array:
        return np.asarray(np.log(self.clipped(p)))


class RenormalisesByTheLargest(Renormalises):
    """Divides rows by their largest probability where it documents their sum."""

    def log(self, p: Array) -> Array:
        return np.asarray(np.log(p / p.max(axis=-1, keepdims=True)))


class RenormalisesTheBatch(Renormalises):
    """Divides all rows by their mean sum, where it documents that of each."""

    def log(self, p: Array) -> Array:
        return np.asarray(np.log(p / self.add(p).mean(dtype=p.dtype)))


class RenormalisesTwice(Categorical):
    """Divides rows by the square of their sum where it documents their sum."""

    documented = Convention(renormalise="before_clip")

    def log(self, p: Array) -> Array:
        return np.asarray(np.log(p / np.square(self.add(p))[..., np.newaxis]))

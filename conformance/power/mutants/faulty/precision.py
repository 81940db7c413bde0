"""Too few digits: steps in a narrower dtype than that of the predictions, and results that are a little off."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from conformance.adapters.arrays import Tensor
from conformance.model.case import Array, Problem
from conformance.model.convention import DEFINITION
from conformance.power.mutants.documented import DividesByKept
from conformance.power.mutants.losses import Binary, Categorical
from conformance.reference import error_bound


class SingleForDouble(Categorical):
    """Computes float64 problems in float32."""

    dtypes = frozenset({"float64"})

    def arranged(self, x: Array, y: Array) -> tuple[Array, Array]:
        x, y = super().arranged(x, y)
        return x.astype(np.float32), y

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        return np.asarray(super().reduced(loss, weight, kept), dtype=np.float64)


class HalfForSingle(Categorical):
    """Computes float32 problems in float16."""

    dtypes = frozenset({"float32"})

    def arranged(self, x: Array, y: Array) -> tuple[Array, Array]:
        x, y = super().arranged(x, y)
        return x.astype(np.float16), y

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        return np.asarray(super().reduced(loss, weight, kept), dtype=np.float32)


class SingleForDoubleBinary(Binary):
    """Computes the logarithms of float64 problems in float32."""

    dtypes = frozenset({"float64"})

    def pair(self, x: Array) -> tuple[Array, Array]:
        on, off = super().pair(x.astype(np.float32))
        return on.astype(x.dtype), off.astype(x.dtype)


class SingleLogarithm(Categorical):
    """Takes the logarithm of the sum of float64 problems in float32, and nothing else."""

    dtypes = frozenset({"float64"})

    def log_softmax(self, z: Array) -> Array:
        d = z - z.max(axis=-1, keepdims=True)
        return np.asarray(d - np.log(np.exp(d).sum(axis=-1, keepdims=True).astype(np.float32)).astype(z.dtype))


class SingleWeights(Categorical):
    """Rounds the sample weights of float64 problems to float32."""

    dtypes = frozenset({"float64"})

    def weighted(self, values: Array) -> Array:
        assert self.sample_weights is not None
        return values * self.sample_weights.astype(np.float32)


class SingleClassWeights(Categorical):
    """Rounds the class weights of float64 problems to float32."""

    dtypes = frozenset({"float64"})

    def parts(self, q: Array) -> Array:
        return q if self.class_weights is None else q * self.class_weights.astype(np.float32)


class SinglePositiveWeight(Binary):
    """Rounds the positive weight of float64 problems to float32."""

    dtypes = frozenset({"float64"})

    def mixed(self, y: Array, on: Array, off: Array) -> Array:
        if self.positive_weight is not None:
            self.positive_weight = self.positive_weight.astype(np.float32)
        return super().mixed(y, on, off)


class SingleSmoothing(Categorical):
    """Rounds the smoothing of float64 problems to float32."""

    dtypes = frozenset({"float64"})

    def smoothed(self, q: Array) -> Array:
        self.smoothing = float(np.float32(self.smoothing))
        return super().smoothed(q)


class SingleTargets(Categorical):
    """Rounds the soft targets of float64 problems to float32."""

    dtypes = frozenset({"float64"})

    def targets(self, x: Array, y: Array) -> Array:
        return super().targets(x, y).astype(np.float32).astype(x.dtype)


class SingleSums(Categorical):
    """Adds float64 losses up in float32."""

    dtypes = frozenset({"float64"})

    def sum(self, values: Array) -> Any:
        return super().sum(values.astype(np.float32))


class SingleBinarySums(Binary):
    """Adds float64 losses up in float32."""

    dtypes = frozenset({"float64"})

    def sum(self, values: Array) -> Any:
        return super().sum(values.astype(np.float32))


class HalfAccumulator(Categorical):
    """Adds float16 losses up in float16, one after another."""

    dtypes = frozenset({"float16", "bfloat16"})

    def sum(self, values: Array) -> Any:
        return np.add.accumulate(values.reshape(-1))[-1] if values.size else values.dtype.type(0)

    def mean(self, loss: Array, by: Any) -> Any:
        return self.sum(loss) / by


class HalfDivisor(Categorical):
    """Adds the weights up in float16, which ends at 65504, and the losses in float32."""

    dtypes = frozenset({"float16"})

    def divisor(self, weight: Array, kept: Array) -> Any:
        return weight.sum(dtype=weight.dtype)


class HalfCount(DividesByKept):
    """Counts what is not ignored in float16, which ends at 65504."""

    dtypes = frozenset({"float16"})

    def divisor(self, weight: Array, kept: Array) -> Any:
        return weight.dtype.type(super().divisor(weight, kept))


class NarrowNormaliser(Categorical):
    """Adds the exponentials of bfloat16 up one after another, until 256 swallows them."""

    dtypes = frozenset({"bfloat16"})

    def add(self, values: Array) -> Array:
        return np.asarray(np.add.accumulate(values, axis=-1)[..., -1] if values.shape[-1] else super().add(values))

    def sum(self, values: Array) -> Any:
        return values.sum(dtype=np.float32)


class Noisy(Categorical):
    """Adds noise of 16 budgets."""

    budgets: ClassVar[float] = 16.0

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        return (super().reduced(loss, weight, kept) + self.noise).astype(loss.dtype)

    @classmethod
    def lower(cls, problem: Problem) -> dict[str, Any]:
        return {"noise": Tensor(cls.drawn(problem))}

    @classmethod
    def drawn(cls, problem: Problem) -> Array:
        """The noise, shaped as the result."""
        return error_bound.tolerance(problem, DEFINITION) * cls.budgets


class SlightlyNoisy(Noisy):
    """Adds noise of 3 budgets."""

    budgets = 3.0


class NoisyInOnePlace(Noisy):
    """Adds noise of 16 budgets to the last of the unreduced losses only."""

    @classmethod
    def drawn(cls, problem: Problem) -> Array:
        noise = np.array(super().drawn(problem))
        noise.reshape(-1)[: -1 if problem.reduction == "none" else None] = 0
        return noise


class RoundsToSevenDecimals(Categorical):
    """Returns seven decimals."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        result = np.asarray(super().reduced(loss, weight, kept))
        return np.round(result.astype(np.float64), 7).astype(loss.dtype)


class FlushesSmallLosses(Binary):
    """Returns 0 for a loss below the epsilon of the dtype."""

    def losses(self, x: Array, y: Array) -> tuple[Array, Array]:
        loss, weight = super().losses(x, y)
        one = x.dtype.type(1)
        return np.where(np.abs(loss) < np.nextafter(one, x.dtype.type(2)) - one, one * 0, loss), weight

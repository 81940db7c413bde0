"""Faults of axes, shapes and memory layout: a wrong axis, an axis taken for another, strides that are ignored."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.model.case import Array
from conformance.power.mutants.losses import Binary, Categorical


class TransposesSquares(Categorical):
    """Takes the first axis for the classes where predictions are square."""

    def logs(self, x: Array) -> Array:
        if x.ndim == 2 and x.shape[0] == x.shape[1]:
            return super().logs(x.T).T
        return super().logs(x)


class TransposesSquareTargets(Categorical):
    """Takes the first axis for the classes where targets are square."""

    def targets(self, x: Array, y: Array) -> Array:
        q = super().targets(x, y)
        return q.T if self.target == "distribution" and q.ndim == 2 and q.shape[0] == q.shape[1] else q


class MixesUpAxes(Categorical):
    """Reshapes instead of moving the class axis."""

    def arranged(self, x: Array, y: Array) -> tuple[Array, Array]:
        right, y = super().arranged(x, y)
        return x.reshape(right.shape), y


class MixesUpTargetAxes(Categorical):
    """Reshapes targets instead of moving their class axis."""

    def arranged(self, x: Array, y: Array) -> tuple[Array, Array]:
        right, moved = super().arranged(x, y)
        return right, y.reshape(moved.shape)


class SoftmaxOverAxisOne(Categorical):
    """Takes the softmax over axis 1 of higher ranks, wherever the classes are."""

    def log_softmax(self, z: Array) -> Array:
        if z.ndim < 3 or self.axis == 1:
            return super().log_softmax(z)
        return np.moveaxis(super().log_softmax(np.moveaxis(z, 1, -1)), -1, 1)


class SoftmaxOverAllPositions(Categorical):
    """Takes the softmax of higher ranks over positions and classes together."""

    def log_softmax(self, z: Array) -> Array:
        if z.ndim < 3:
            return super().log_softmax(z)
        return super().log_softmax(z.reshape(len(z), -1)).reshape(z.shape)


class TransposesPositions(Categorical):
    """Transposes the labels of higher ranks where they are square."""

    def arranged(self, x: Array, y: Array) -> tuple[Array, Array]:
        x, y = super().arranged(x, y)
        square = self.target == "index" and y.ndim > 1 and y.shape[-1] == y.shape[-2]
        return x, np.swapaxes(y, -1, -2) if square else y


class ReturnsColumnMajor(Categorical):
    """Returns unreduced losses of several axes in column-major order."""

    def reduced(self, loss: Array, weight: Array, kept: Array) -> Any:
        result = super().reduced(loss, weight, kept)
        return result.ravel(order="F").reshape(result.shape) if self.reduction == "none" else result


class ReadsMemoryInOrder(Categorical):
    """Reads predictions as they lie in memory, whatever their strides."""

    def arranged(self, x: Array, y: Array) -> tuple[Array, Array]:
        return super().arranged(x.ravel(order="K").reshape(x.shape), y)


class ReadsTargetsInOrder(Categorical):
    """Reads targets as they lie in memory, whatever their strides."""

    def arranged(self, x: Array, y: Array) -> tuple[Array, Array]:
        return super().arranged(x, y.ravel(order="K").reshape(y.shape))


class ReadsBinaryMemoryInOrder(Binary):
    """Reads predictions as they lie in memory, whatever their strides."""

    def arranged(self, x: Array, y: Array) -> tuple[Array, Array]:
        return super().arranged(x.ravel(order="K").reshape(x.shape), y)


class ReadsEveryElement(Categorical):
    """Reads a strided array as if its elements lay side by side."""

    def arranged(self, x: Array, y: Array) -> tuple[Array, Array]:
        base = x.base
        if base is not None and base.size > x.size and x.strides[-1] not in (0, x.itemsize):
            x = base.reshape(-1)[: x.size].reshape(x.shape)
        return super().arranged(x, y)


class BroadcastsShapes(Binary):
    """Compares no shapes, so that (N,) against (N, 1) is (N, N)."""

    def check_shapes(self, x: Array, y: Array) -> None:
        pass


class SqueezesLabels(Binary):
    """Takes predictions (N, 1) against labels (N,), and scores them as N."""

    def arranged(self, x: Array, y: Array) -> tuple[Array, Array]:
        x, y = super().arranged(x, y)
        return (x[..., 0], y) if x.shape == (*y.shape, 1) else (x, y)


class ReshapesLabels(Binary):
    """Takes labels of another shape that are as many."""

    def arranged(self, x: Array, y: Array) -> tuple[Array, Array]:
        x, y = super().arranged(x, y)
        return x, y.reshape(x.shape) if y.size == x.size else y


class TakesTheShorter(Categorical):
    """Takes as many samples as there are labels, or predictions, whichever are fewer."""

    def arranged(self, x: Array, y: Array) -> tuple[Array, Array]:
        x, y = super().arranged(x, y)
        return x[: len(y)], y[: len(x)]


class OneLabelForAll(Categorical):
    """Takes one label for all samples."""

    def arranged(self, x: Array, y: Array) -> tuple[Array, Array]:
        x, y = super().arranged(x, y)
        return x, np.broadcast_to(y, x.shape[:-1]) if self.target == "index" and y.size == 1 else y

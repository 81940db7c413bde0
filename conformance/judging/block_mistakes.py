"""Common mistakes of kernels that read a row in blocks of classes, or a batch in blocks of samples.

Each is computed from the largest logit and the log-sum-exp of each block, in float64, so that vocabularies of any size
are tried in milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.judging.mistakes import Departure, Hypothesis
from conformance.model.case import Array, Problem
from conformance.model.floats import Floats

BLOCK_SIZES = tuple(1 << power for power in range(5, 18))
"""Block sizes that are tried, in classes or samples."""


def values_of_block_mistakes(problem: Problem) -> Iterator[tuple[Hypothesis, Floats]]:
    """Yield each mistake with the loss that it gives; nothing but for index labels of finite logits without options."""
    logits = problem.predictions.astype(np.float64)
    is_plain = problem.loss == "categorical" and problem.input_kind == "logits" and problem.target_kind == "index"
    if not is_plain or problem.options.names() or not logits.size or not np.isfinite(logits).all():
        return
    z, labels = logits.reshape(-1, logits.shape[-1]), problem.labels.astype(np.int64).ravel()
    if labels.min() < 0 or labels.max() >= z.shape[1]:
        return
    for size in BLOCK_SIZES:
        for text, losses in (*_of_classes(z, labels, size), *_of_samples(z, labels, size)):
            yield (Departure("mistake", text),), _reduced(losses, problem)


def _reduced(losses: Floats, problem: Problem) -> Floats:
    if problem.reduction == "none":
        return losses.reshape(problem.labels.shape)
    return np.asarray(losses.sum() if problem.reduction == "sum" else losses.mean())


def _of_classes(z: Floats, labels: Array, size: int) -> Iterator[tuple[str, Floats]]:
    """Mistakes in blocks of classes, with the losses of rows.  z: logits [N, C]."""
    count = z.shape[1]
    if count <= size:
        return
    starts = np.arange(0, count, size)
    top = np.maximum.reduceat(z, starts, axis=1)
    widths = np.minimum(size, count - starts)
    sums = np.log(np.add.reduceat(np.exp(z - np.repeat(top, widths, axis=1)), starts, axis=1)) + top
    total, logit = _log_sum_exp(sums), _taken(z, labels)
    yield f"classes beyond the first {size:,} are left out", sums[:, 0] - logit
    if partial := count % size:
        padding = np.full(len(z), np.log(size - partial))
        yield f"the last block of {size:,} classes is left out, as it is not full", _log_sum_exp(sums[:, :-1]) - logit
        yield f"zeros that fill up the last block of {size:,} classes count", np.logaddexp(total, padding) - logit
    maximum = top.max(axis=1)
    yield (
        f"the maximum of each block of {size:,} classes is subtracted, and that of the row added back",
        _log_sum_exp(sums - top) + maximum - logit,
    )
    yield (
        f"the sum over blocks of {size:,} classes is not rescaled when the maximum grows",
        _log_sum_exp(sums - np.maximum.accumulate(top, axis=1)) + maximum - logit,
    )
    yield f"the largest log-sum-exp of blocks of {size:,} classes is taken for that of all", sums.max(axis=1) - logit
    added = f"the log-sum-exps of blocks of {size:,} classes are added"
    yield added, sums.sum(axis=1) - logit
    yield f"{added}, less the maximum of the row", (sums - maximum[:, np.newaxis]).sum(axis=1) + maximum - logit
    yield (
        f"the logit of a label beyond the first {size:,} classes is taken for 0",
        total - np.where(labels < size, logit, 0.0),
    )
    yield f"labels are taken modulo {size:,}", total - _taken(z, labels % size)


def _of_samples(z: Floats, labels: Array, size: int) -> Iterator[tuple[str, Floats]]:
    """Mistakes in blocks of samples, with the losses of rows."""
    whole = len(z) // size * size
    if 0 < whole < len(z):
        losses = _log_sum_exp(z) - _taken(z, labels)
        losses[whole:] = 0
        yield f"samples beyond the last full block of {size:,} are left out", losses


def _log_sum_exp(values: Floats) -> Floats:
    """The log-sum-exp of each row."""
    top = values.max(axis=1, keepdims=True)
    total: Floats = np.log(np.exp(values - top).sum(axis=1)) + top[:, 0]
    return total


def _taken(z: Floats, labels: Array) -> Floats:
    """The logit of the label in each row."""
    return np.asarray(np.take_along_axis(z, labels[:, np.newaxis], axis=1)[:, 0])

"""Parts of a problem as separate problems, so that the oracle computes each intermediate number."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from flint import arb

from conformance.model.case import Layout, Options, Problem, numpy_dtype
from conformance.model.convention import Convention
from conformance.reference import oracle
from conformance.reference.flat_problem import FlatProblem, flatten
from conformance.reference.oracle import NoAnswerError, Term

PRECISION = 160
"""Precision of the ball arithmetic in bits."""
LOGARITHM_FIELDS = ("logits_as", "clip", "log_offset", "log_floor", "renormalise", "accepts")
"""Fields of a convention that determine the logarithm of a prediction."""


def ball(value: float) -> Term:
    """A float as a ball of radius 0; nan and infinities unchanged."""
    return arb(value) if math.isfinite(value) else value


def to_balls(values: Any) -> Any:
    """An array of floats as an array of balls, for the formulas of `conformance.reference.gradient`."""
    return np.asarray(np.frompyfunc(ball, 1, 1)(np.asarray(values, dtype=np.float64)), dtype=object)


def negative_logs(problem: Problem, convention: Convention, i: int, classes: Sequence[int]) -> list[Term] | None:
    """Compute -log p of some classes of row `i` with the oracle; None if they have no value.

    For a binary output, class 1 stands for -log p and class 0 for -log(1 - p).
    """
    x = flatten(problem, convention).x[i]
    binary = problem.loss == "binary"
    part = dataclasses.replace(
        problem,
        target="binary" if binary else "index",
        predictions=np.broadcast_to(x, (len(classes),) if binary else (len(classes), len(x))),
        labels=np.array(classes, dtype=np.int64),
        options=Options(),
        layout=Layout(),
        reduction="none",
    )
    try:
        return oracle.enclosure(part, convention.restricted_to(LOGARITHM_FIELDS), PRECISION)
    except NoAnswerError:
        return None


def subproblem(problem: Problem, flat: FlatProblem, samples: Sequence[int]) -> Problem:
    """A selection of samples, or of binary outputs, as a flat, unreduced problem with their weights.

    flat: the problem flattened under the definition.
    """
    chosen = list(samples)
    options, dtype = problem.options, numpy_dtype(problem.dtype)
    weights, positive = flat.sample_weights, flat.positive_weight
    if weights is not None and len(weights) != len(flat.x):
        weights = None  # one loss with several weights does not fit a list of samples
    labels = problem.labels.reshape(len(flat.x), *flat.x.shape[1:] if problem.target != "index" else ())
    return dataclasses.replace(
        problem,
        predictions=flat.x[chosen],
        labels=labels[chosen],
        options=dataclasses.replace(
            options,
            sample_weights=None if weights is None else weights[chosen].astype(dtype),
            positive_weight=None if positive is None else positive[chosen].astype(dtype),
        ),
        layout=Layout(),
        reduction="none",
    )

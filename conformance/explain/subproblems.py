"""Parts of a problem as problems of their own, so that the oracle gives every number on the way to an answer."""

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
from conformance.reference.flat_problem import Rows, rows
from conformance.reference.oracle import NoAnswerError, Term

PRECISION = 160
OF_A_LOGARITHM = ("clip", "log_floor", "renormalise", "accepts")
"""The fields of a convention that decide what the logarithm of a prediction is."""


def ball(value: float) -> Term:
    """A float as a ball; one that is nan or infinite as it is."""
    return arb(value) if math.isfinite(value) else value


def lift(values: Any) -> Any:
    """Floats as an array of balls, for the formulas of `conformance.reference.gradient`."""
    return np.asarray(np.frompyfunc(ball, 1, 1)(np.asarray(values, dtype=np.float64)), dtype=object)


def minus_logs(problem: Problem, convention: Convention, at: int, classes: Sequence[int]) -> list[Term] | None:
    """-log p of some classes of one row, by the oracle; None where it has no value.

    Of a binary output 1 stands for -log p, 0 for -log(1 - p).
    """
    x = rows(problem, convention).x[at]
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
        return oracle.enclosure(part, convention.restricted_to(OF_A_LOGARITHM), PRECISION)
    except NoAnswerError:
        return None


def some(problem: Problem, given: Rows, picked: Sequence[int], reduction: Any = "none") -> Problem:
    """A few of a problem's samples, or outputs, as a flat problem with their weights.

    given: the rows of the problem under the definition.
    """
    chosen = list(picked)
    options, dtype = problem.options, numpy_dtype(problem.dtype)
    weights, positive = given.sample_weights, given.positive_weight
    if weights is not None and len(weights) != len(given.x):
        weights = None  # one loss with several weights has no place in a list of samples
    labels = problem.labels.reshape(len(given.x), *given.x.shape[1:] if problem.target != "index" else ())
    return dataclasses.replace(
        problem,
        predictions=given.x[chosen],
        labels=labels[chosen],
        options=dataclasses.replace(
            options,
            sample_weights=None if weights is None else weights[chosen].astype(dtype),
            positive_weight=None if positive is None else positive[chosen].astype(dtype),
        ),
        layout=Layout(),
        reduction=reduction,
    )

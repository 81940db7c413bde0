"""Likely causes of a result that is nan or infinite where the exact answer is not, from the input alone."""

from __future__ import annotations

import math

import numpy as np

from conformance.judging.traits import traits
from conformance.model.case import Problem
from conformance.model.floats import Floats
from conformance.reference.domain import dtype_info

WEIGHT = (
    "0 times a nan or infinite weight is nan: leave out the product where the class has no share or the sample is "
    "ignored"
)
BY_TRAIT = (
    (
        "odd_ignored",
        "0 times the nan or infinite predictions of an ignored row is nan, in a backward pass, too: replace that row "
        "before the softmax, as in where(labels == ignore_index, 0, logits), not after it",
    ),
    ("nan_weight", WEIGHT),
    ("infinite_weight", WEIGHT),
    (
        "infinite_prediction",
        "0 times the infinite log-probability of a class is nan: leave out the product where its factor is 0",
    ),
    (
        "zero_probability",
        "0 times the infinite logarithm of a probability of 0 is nan: leave out the product where its factor is 0",
    ),
)
"""(trait of a problem, what makes a result nan), the most specific first."""


def causes_of_nonfinite(problem: Problem, got: Floats, exact: Floats) -> list[str]:
    """Likely causes in words; empty if the result is finite or as infinite as the exact answer, or nothing is known."""
    if got.shape != exact.shape:
        return []
    wrong = got[~np.isfinite(got) & ~np.isclose(got, exact, equal_nan=True)]
    if not wrong.size:
        return []
    names = traits(problem, problem, problem.target_kind)
    causes = [text for trait, text in BY_TRAIT if trait in names][:1] if np.isnan(wrong).any() else []
    if causes:
        return causes
    dtype = problem.dtype
    if problem.input_kind == "logits" and problem.predictions.size:
        with np.errstate(all="ignore"):
            logits = problem.predictions.astype(np.float64)
            largest = float(np.max(logits, initial=-math.inf, where=np.isfinite(logits)))
        if largest > math.log(dtype_info(dtype).largest):
            causes.append("exp overflows: the largest logit has to be subtracted from the others first")
        if np.isinf(wrong).any() and "beyond_range" not in names:
            causes.append("a probability underflows to 0 before its logarithm is taken: log-sum-exp avoids it")
    if not causes and "beyond_range" in names:
        causes.append(f"a sum is larger than the largest number of {dtype}: accumulate in a wider dtype")
    return causes

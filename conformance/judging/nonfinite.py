"""Likely causes of a result that is nan or infinite where the exact answer is not, from the input alone."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import tomllib

from conformance.judging.traits import traits
from conformance.model.case import Problem
from conformance.model.floats import Floats
from conformance.reference.domain import dtype_info

BY_TRAIT: dict[str, str] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
"""What makes a result nan, by a trait of the problem; the most specific first."""


def causes_of_nonfinite(problem: Problem, got: Floats, exact: Floats) -> list[str]:
    """Likely causes in words; empty if the result is finite or as infinite as the exact answer, or nothing is known."""
    if got.shape != exact.shape:
        return []
    wrong = got[~np.isfinite(got) & ~np.isclose(got, exact, equal_nan=True)]
    if not wrong.size:
        return []
    names = traits(problem, problem, problem.target_kind)
    causes = [text for trait, text in BY_TRAIT.items() if trait in names][:1] if np.isnan(wrong).any() else []
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

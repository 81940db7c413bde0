"""Exact answers to large problems: enclosures in float64 whose radius is proved to be far below the tolerance.

A ball costs microseconds, so the rows of a large problem are evaluated in float64 (`error_bound.row_losses`), and balls
are left for what remains: rows whose radius is not small enough, rows that are not finite, and the reduction.

*Proof.*  `error_bound` derives how far the loss of a row may be off when it is computed as it is there, in a dtype of
unit roundoff u: u F(1, g, h), where F is a sum of non-negative terms, each with one of the factors 1, g (the error of
exp, log and log1p in units of u) and h(n) (that of a sum of n terms).  The same computation in float64, whose unit
roundoff is v = 2^-53, is off by at most v F(1, g', n - 1) to first order: inputs of a narrower dtype are exact in
float64, n - 1 is the guaranteed bound of a sum in any order, and g' = 8 (4 ulp) is what numpy's exp, log and log1p
guarantee.  Since F is linear in its arguments and n is at most the number C of classes,

    v F(1, g', n - 1) <= (v / u) max(1, g' / g, (C - 1) / h(C)) u F(1, g, h).

So the radius is a fraction of the tolerance that no data can change: `radius_fraction`, which is twice that, so that
terms of second order (C v < 2^-20 relative to it) and the roundings in F itself are covered.  Results that underflow
are below `UNDERFLOW`, which is added.  For float32 and 32,768 classes the fraction is 2^-20, for bfloat16 2^-36.  In
float64, where u = v, it is no fraction at all, and balls are used throughout.

The accuracy of exp and log is an assumption about the machine.  So some rows of every problem are evaluated in balls,
too, and must lie within their radius.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from flint import arb

from conformance.model.case import Problem
from conformance.model.convention import Convention
from conformance.reference import error_bound, oracle
from conformance.reference.domain import dtype_info
from conformance.reference.error_bound import ELEMENTARY, sum_error
from conformance.reference.flat_problem import FlatProblem, flatten, refused
from conformance.reference.oracle import Answer, Exact, Invalid, NoAnswerError, Term, Undefined

Floats = npt.NDArray[np.float64]

FEW = 1 << 14
"""Predictions up to which a problem is evaluated in balls: some fifty milliseconds."""
CHECKED = 1 << 15
"""About how many predictions of a larger problem are evaluated in balls to check the enclosures."""
SHARPEST = 2.0**-12
"""Largest fraction of the tolerance that a radius may be."""
UNDERFLOW = 2.0**-1060
"""Bound on what results that underflow in float64 are off by."""
ELEMENTARY_OF_NUMPY = 8.0
"""g': the error of exp, log and log1p of numpy in float64, in units of v."""
PRECISION = 128
"""Bits of the balls with which rows are reduced."""


def evaluate(problem: Problem, convention: Convention, sharpest: float = SHARPEST) -> Answer:
    """The exact answer under a convention: in balls if the problem is small, and otherwise with a proved radius.

    sharpest: the largest fraction of its tolerance that the radius of a row may be; balls evaluate the others.  Beyond
    the default, nothing is checked in balls.
    Raises ArithmeticError if a ball contradicts an enclosure, or no precision suffices.
    """
    if problem.predictions.size <= FEW:
        return oracle.evaluate(problem, convention)
    if kinds := refused(problem, convention):
        return Invalid(tuple(sorted(kinds)))
    try:
        flat = flatten(problem, convention)
        loss, radius, is_enclosed = _enclosures(problem, flat, convention, sharpest)
        if sharpest <= SHARPEST:
            _check(flat, convention, loss, radius, is_enclosed)
        if problem.reduction == "none" and flat.group == 1 and flat.sample_weights is None:
            return _unreduced(flat, convention, loss, radius, is_enclosed)

        def of_rows(flat: FlatProblem, convention: Convention) -> Iterator[Term]:
            for row, (kept, enclosed) in enumerate(zip(flat.kept.tolist(), is_enclosed.tolist(), strict=True)):
                if not kept:
                    yield arb(0)
                elif enclosed:
                    yield arb(loss[row], radius[row])
                else:
                    yield _in_balls(flat, convention, row)

        return oracle.exact(*oracle.enclose(problem, convention, PRECISION, of_rows=of_rows), PRECISION)
    except NoAnswerError as reason:
        return Undefined(str(reason))


def radius_fraction(dtype: str, classes: int) -> float:
    """The largest fraction of its tolerance that the radius of a row's loss can be."""
    of_sums = (classes - 1) / sum_error(classes) if classes > 1 else 1.0
    largest = max(1.0, ELEMENTARY_OF_NUMPY / ELEMENTARY[dtype], of_sums)
    return 2 * largest * dtype_info("float64").unit_roundoff / dtype_info(dtype).unit_roundoff


def _enclosures(
    problem: Problem, flat: FlatProblem, convention: Convention, sharpest: float
) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """(loss, radius, whether the two enclose it) of each row, before weights are applied."""
    classes = 1 if flat.binary else flat.x.shape[1]
    fraction = radius_fraction(problem.dtype, classes)
    if flat.binary:
        no_bound = flat.input_kind == "log_probabilities"
    else:  # what `row_losses` has no loss for, only a bound
        no_bound = convention.log_floor is not None or convention.renormalise == "after_clip"
    if fraction > sharpest or no_bound:
        rows = len(flat.x)
        return np.zeros(rows), np.zeros(rows), np.zeros(rows, dtype=bool)
    loss, error = error_bound.row_losses(problem, convention)
    is_enclosed = np.isfinite(loss) & np.isfinite(error)
    if flat.index is not None:
        is_enclosed &= (flat.index >= 0) & (flat.index < classes)
    return loss, fraction * error + UNDERFLOW, is_enclosed


def _unreduced(
    flat: FlatProblem, convention: Convention, loss: Floats, radius: Floats, is_enclosed: npt.NDArray[np.bool_]
) -> Exact:
    """The losses themselves, with balls for the rows that are not enclosed."""
    remaining = np.flatnonzero(flat.kept & ~is_enclosed).tolist()
    found = oracle.exact((len(remaining),), [_in_balls(flat, convention, row) for row in remaining], PRECISION)
    hi, lo, rad = (np.where(is_enclosed & flat.kept, part, 0.0) for part in (loss, np.zeros(len(loss)), radius))
    for whole, part in ((hi, found.hi), (lo, found.lo), (rad, found.rad)):
        whole[remaining] = part
    return Exact(*(part.reshape(flat.shape) for part in (hi, lo, rad)))


def _check(
    flat: FlatProblem, convention: Convention, loss: Floats, radius: Floats, is_enclosed: npt.NDArray[np.bool_]
) -> None:
    """Evaluate some rows in balls, evenly spaced; raises ArithmeticError if one is not where it is said to be."""
    rows = np.flatnonzero(is_enclosed & flat.kept)
    count = max(1, CHECKED * len(flat.x) // flat.x.size)
    for row in rows[:: max(1, len(rows) // count)].tolist():
        ball = _in_balls(flat, convention, row)
        if isinstance(ball, float) or not abs(ball - arb(loss[row])) <= arb(radius[row]):
            raise ArithmeticError(f"row {row}: {loss[row]!r} is off by more than {radius[row]!r}; exact is {ball}")


def _in_balls(flat: FlatProblem, convention: Convention, row: int) -> Term:
    return oracle.row_loss(flat, convention, row, flat.x[row].astype(np.float64).tolist())

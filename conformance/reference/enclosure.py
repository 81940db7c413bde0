"""Exact answers to large problems: enclosures in float64 with a radius proved to be far below the tolerance.

A ball operation takes microseconds, so the rows of a large problem are evaluated in float64 (`error_bound.row_losses`).
Balls are used for the rest: rows with too large a radius, rows that are not finite, and the reduction.

*Proof.*  `error_bound` bounds the error of the loss of a row, computed by its formulas in a dtype with
unit roundoff u: u F(1, g, h), where F is a sum of non-negative terms, each with one of the factors 1, g (the error of
exp, log and log1p in units of u) and h(n) (that of a sum of n terms).  The same computation in float64, whose unit
roundoff is v = 2^-53, is off by at most v F(1, g', n - 1) to first order: inputs of a narrower dtype are exact in
float64, n - 1 is the guaranteed bound of a sum in any order, and g' = 8 (4 ulp) is what numpy's exp, log and log1p
guarantee.  Since F is linear in its arguments and n is at most the number C of classes,

    v F(1, g', n - 1) <= (v / u) max(1, g' / g, (C - 1) / h(C)) u F(1, g, h).

So the radius is a fraction of the tolerance that does not depend on the data: `radius_fraction`, which is twice that,
so that terms of second order (C v < 2^-20 relative to it) and the roundings in F itself are covered.  Results that
underflow are below `UNDERFLOW_ERROR`, which is added.  For float32 and 32,768 classes the fraction is 2^-20, for
bfloat16 2^-36. In float64, where u = v, the radius is not smaller than the tolerance, and balls are used throughout.

The accuracy of exp and log is an assumption about the machine.  Therefore some rows of every problem are also evaluated
in balls, which must lie within the radius of the enclosures.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from flint import arb, ctx

from conformance.model.case import InputKind, Problem
from conformance.model.convention import Convention
from conformance.model.floats import Floats
from conformance.reference import error_bound, oracle
from conformance.reference.domain import dtype_info
from conformance.reference.error_bound import ELEMENTARY, sum_error
from conformance.reference.flat_problem import FlatProblem, flatten, rejected_anomalies
from conformance.reference.oracle import Answer, Exact, Invalid, NoAnswerError, Oracle, Term, Undefined

MAX_IN_BALLS = 1 << 14
"""Maximum number of predictions of a problem that is evaluated in balls; it takes some fifty milliseconds."""
CHECKED_PREDICTIONS = 1 << 15
"""Approximate number of predictions of a larger problem that are evaluated in balls to check the enclosures."""
MAX_RADIUS_TO_TOLERANCE = 2.0**-12
"""Maximum radius of an enclosure, as a fraction of the tolerance."""
UNDERFLOW_ERROR = 2.0**-1060
"""Bound on the error of results that underflow in float64."""
ELEMENTARY_OF_NUMPY = 8.0
"""g': the error of exp, log and log1p in numpy in float64, in units of v."""
UNIT = dtype_info("float64").unit_roundoff
ROWS_AT_ONCE = 1 << 18
"""Number of rows whose losses are summed in one step."""
PRECISION = 128
"""Precision in bits of the balls with which rows are reduced."""


class EnclosingOracle(Oracle):
    """Answers large problems by enclosures, which are not cached on disk, and other problems in balls.

    In float64 the radius of an enclosure is about the tolerance itself; see above.
    """

    def _loss(
        self, problem: Problem, convention: Convention, max_radius: Floats | None, taken_as: InputKind | None
    ) -> Answer:
        same = (problem, convention) if taken_as is None else _without_conversion(problem, convention, taken_as)
        if problem.predictions.size <= MAX_IN_BALLS or same is None:
            return super()._loss(problem, convention, max_radius, taken_as)
        sharpest = MAX_RADIUS_TO_TOLERANCE if problem.dtype != "float64" else math.inf
        return problem.computed_once(("enclosure", convention, taken_as), lambda: evaluate(*same, sharpest))


def _without_conversion(
    problem: Problem, convention: Convention, taken_as: InputKind
) -> tuple[Problem, Convention] | None:
    """A problem and a convention with the answer that an exact conversion would give; None if there are none."""
    plain = dataclasses.replace(convention, clip=None, log_offset=None, log_floor=None, renormalise="no")
    if taken_as == "probabilities" and plain != convention:
        return None
    if taken_as != "logits" or problem.loss == "binary":
        return problem, plain
    if problem.input_kind == "probabilities":
        return problem, dataclasses.replace(plain, renormalise="before_clip")
    return dataclasses.replace(problem, input_kind="logits"), plain


def evaluate(problem: Problem, convention: Convention, sharpest: float = MAX_RADIUS_TO_TOLERANCE) -> Answer:
    """The exact answer under a convention: in balls for a small problem, else with a proved radius.

    sharpest: maximum radius of a row, as a fraction of its tolerance; other rows are evaluated in balls.  Above the
    default, nothing is checked in balls.
    Raises ArithmeticError if a ball contradicts an enclosure, or no precision suffices.
    """
    if problem.predictions.size <= MAX_IN_BALLS or convention.logits_as == "probabilities":
        return oracle.evaluate(problem, convention)
    if kinds := rejected_anomalies(problem, convention):
        return Invalid(tuple(sorted(kinds)))
    flat = flatten(problem, convention)
    try:
        with ctx.workprec(PRECISION):
            if problem.reduction != "none" and flat.group == 1 and len(flat.x) == math.prod(flat.shape):
                total = problem.unreduced.computed_once(
                    ("enclosed total", convention, sharpest),
                    lambda: _enclosures(problem, flat, convention, sharpest).total(),
                )
                return oracle.exact((), [oracle.reduced(problem, flat, convention, total)], PRECISION)
            rows = _enclosures(problem, flat, convention, sharpest)
            if problem.reduction == "none" and flat.group == 1 and flat.sample_weights is None:
                return rows.unreduced()
            enclose_rows = lambda *_: map(rows.term, range(len(rows.loss)))  # noqa: E731
            return oracle.exact(*oracle.enclose(problem, convention, PRECISION, enclose_rows=enclose_rows), PRECISION)
    except NoAnswerError as reason:
        return Undefined(str(reason))


def radius_fraction(dtype: str, classes: int) -> float:
    """The maximum radius of a row's loss, as a fraction of its tolerance."""
    sum_terms_ratio = (classes - 1) / sum_error(classes) if classes > 1 else 1.0
    largest = max(1.0, ELEMENTARY_OF_NUMPY / ELEMENTARY[dtype], sum_terms_ratio)
    return 2 * largest * dtype_info("float64").unit_roundoff / dtype_info(dtype).unit_roundoff


def _enclosures(problem: Problem, flat: FlatProblem, convention: Convention, sharpest: float) -> _RowEnclosures:
    """The rows of a problem; checked in balls if a small radius is required."""
    classes = 1 if flat.binary else flat.x.shape[1]
    fraction = radius_fraction(problem.dtype, classes)
    if flat.binary:
        no_bound = flat.input_kind == "log_probabilities"
    else:  # cases for which `row_losses` has a bound but no loss
        no_bound = convention.log_floor is not None or convention.renormalise == "after_clip"
    if fraction > sharpest or no_bound:
        rows = len(flat.x)
        return _RowEnclosures(flat, convention, np.zeros(rows), np.zeros(rows), np.zeros(rows, dtype=bool))
    loss, error = error_bound.row_losses(problem, convention)
    is_enclosed = np.isfinite(loss) & np.isfinite(error)
    if flat.index is not None:
        is_enclosed &= (flat.index >= 0) & (flat.index < classes)
    enclosures = _RowEnclosures(flat, convention, loss, fraction * error + UNDERFLOW_ERROR, is_enclosed)
    if sharpest <= MAX_RADIUS_TO_TOLERANCE:
        enclosures.check()
    return enclosures


@dataclass(frozen=True, eq=False)
class _RowEnclosures:
    """The loss of each row before sample weights: an enclosure in float64, or to be evaluated in a ball."""

    flat: FlatProblem
    convention: Convention
    loss: Floats
    radius: Floats
    is_enclosed: npt.NDArray[np.bool_]
    """Mask of rows whose exact loss is within `radius` of `loss`; in other rows both are meaningless."""

    def term(self, row: int) -> Term:
        """The loss of one row."""
        if not self.flat.kept[row]:
            return arb(0)
        return arb(self.loss[row], self.radius[row]) if self.is_enclosed[row] else self._in_balls(row)

    def unreduced(self) -> Exact:
        """The unreduced losses, with balls for rows that are not enclosed."""
        flat, is_enclosed = self.flat, self.is_enclosed
        remaining = np.flatnonzero(flat.kept & ~is_enclosed).tolist()
        exact = oracle.exact((len(remaining),), [self._in_balls(row) for row in remaining], PRECISION)
        parts = (self.loss, np.zeros(len(self.loss)), self.radius)
        hi, lo, rad = (np.where(is_enclosed & flat.kept, part, 0.0) for part in parts)
        for array, part in ((hi, exact.hi), (lo, exact.lo), (rad, exact.rad)):
            array[remaining] = part
        return Exact(*(part.reshape(flat.shape) for part in (hi, lo, rad)))

    def total(self) -> Term:
        """The sum with sample weights: enclosed rows in float64, where `fsum` rounds once, other rows in balls."""
        flat = self.flat
        weights = np.broadcast_to(1.0 if flat.sample_weights is None else flat.sample_weights, self.loss.shape)
        together = flat.kept & self.is_enclosed & np.isfinite(weights)
        middle = bound = 0.0
        for start in range(0, len(self.loss), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            enclosed = together[rows]
            terms, bounds = self.loss[rows][enclosed], self.radius[rows][enclosed]
            if flat.sample_weights is not None:
                weight = weights[rows][enclosed]
                terms = terms * weight
                bounds = bounds * np.abs(weight) + UNIT * np.abs(terms) + UNDERFLOW_ERROR
            try:
                part, size = math.fsum(terms.tolist()), math.fsum(bounds.tolist())
            except OverflowError:
                part = size = math.inf
            middle += part
            bound += size + UNIT * (abs(part) + abs(middle))
        if not math.isfinite(middle + bound):
            together, middle, bound = np.zeros(len(self.loss), dtype=bool), 0.0, 0.0
        indices = np.flatnonzero(flat.kept & ~together).tolist()
        balls = (oracle.times(oracle.ball(float(weights[row])), self.term(row)) for row in indices)
        return oracle.total_of([arb(middle, bound * (1 + 2.0**-20)), *balls])

    def check(self) -> None:
        """Evaluate evenly spaced rows in balls; raises ArithmeticError if one lies outside its enclosure."""
        rows = np.flatnonzero(self.is_enclosed & self.flat.kept)
        count = max(1, CHECKED_PREDICTIONS * len(self.flat.x) // self.flat.x.size)
        for row in rows[:: max(1, len(rows) // count)].tolist():
            ball, loss, radius = self._in_balls(row), self.loss[row], self.radius[row]
            if isinstance(ball, float) or not abs(ball - arb(loss)) <= arb(radius):
                raise ArithmeticError(f"row {row}: {loss!r} is off by more than {radius!r}; exact is {ball}")

    def _in_balls(self, row: int) -> Term:
        flat = self.flat
        return oracle.row_loss(flat, self.convention, row, flat.x[row].astype(np.float64).tolist())

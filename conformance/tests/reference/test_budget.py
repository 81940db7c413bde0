"""The budget holds for correct code written in many ways, and for little else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from conformance.model.case import Case, Problem
from conformance.model.convention import DEFINITION, Convention
from conformance.reference import error_bound
from conformance.reference.domain import dtype_info
from conformance.reference.oracle import Exact, evaluate
from conformance.tests.stated import case

Array = Any
Way = Callable[[Problem], Array]
DTYPES = ("float16", "float32", "float64")
NEXT_LOWER = {"float64": np.float32, "float32": np.float16}
ROWS = 700


def largest_ratio(problem: Problem, got: Array, convention: Convention = DEFINITION) -> float:
    """The largest error over budget of a result."""
    exact = evaluate(problem, convention)
    assert isinstance(exact, Exact)
    tolerance = error_bound.tolerance(problem, convention)
    got = np.asarray(got)
    assert got.dtype == problem.predictions.dtype
    assert got.shape == exact.hi.shape == tolerance.shape
    finite = np.isfinite(exact.hi)
    assert np.array_equal(got[~finite].astype(np.float64), exact.hi[~finite])
    error = np.abs(got.astype(np.float64)[finite] - exact.hi[finite] - exact.lo[finite])
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.where(error == 0, 0.0, error / tolerance[finite]).max(initial=0.0))


# Ways to add up, in the dtype.


def pairwise(x: Array) -> Array:
    return x.sum(axis=-1, dtype=x.dtype)


def in_order(x: Array) -> Array:
    return np.add.accumulate(x, axis=-1, dtype=x.dtype)[..., -1]


def backwards(x: Array) -> Array:
    return in_order(x[..., ::-1])


def smallest_first(x: Array) -> Array:
    return in_order(np.sort(x, axis=-1))


def in_blocks(x: Array) -> Array:
    parts = [in_order(x[..., start : start + 8]) for start in range(0, x.shape[-1], 8)]
    return in_order(np.stack(parts, axis=-1))


SUMS = (pairwise, in_order, backwards, smallest_first, in_blocks)


# Ways to compute losses, in the dtype.


def log_sum_exp(add: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """-log softmax through a shifted log-sum-exp."""

    def way(z: Array) -> Array:
        d = z - z.max(axis=-1, keepdims=True)
        return np.log(add(np.exp(d)))[..., np.newaxis] - d

    return way


def log_of_softmax(z: Array) -> Array:
    """-log of a softmax that was rounded."""
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return -np.log(e / pairwise(e)[..., np.newaxis])


def shifted_back(z: Array) -> Array:
    """-log softmax where the log-sum-exp has the largest logit added back."""
    top = z.max(axis=-1, keepdims=True)
    return (top + np.log(pairwise(np.exp(z - top)))[..., np.newaxis]) - z


def of_classes(minus_log: Callable[[Array], Array], add: Callable[[Array], Array] = pairwise) -> Way:
    """Losses of a categorical problem: smoothed, weighted targets times -log p."""

    def way(problem: Problem) -> Array:
        logs = minus_log(problem.predictions)
        parts, scalar = _targets(problem), problem.predictions.dtype.type
        if e := problem.options.label_smoothing:
            parts = (1 - scalar(e)) * parts + scalar(e) / scalar(parts.shape[-1])
        if problem.options.class_weights is not None:
            parts = parts * problem.options.class_weights
        return add(parts * logs)

    return way


def mixed_late(minus_log: Callable[[Array], Array]) -> Way:
    """The same, where smoothing mixes losses instead of targets."""

    def way(problem: Problem) -> Array:
        logs, scalar = minus_log(problem.predictions), problem.predictions.dtype.type
        if problem.options.class_weights is not None:
            logs = logs * problem.options.class_weights
        own = pairwise(_targets(problem) * logs)
        e = scalar(problem.options.label_smoothing or 0.0)
        return (1 - e) * own + e * (pairwise(logs) / scalar(logs.shape[-1])) if e else own

    return way


def _targets(problem: Problem) -> Array:
    dtype = problem.predictions.dtype
    if problem.target == "index":
        return np.eye(problem.predictions.shape[-1], dtype=dtype)[problem.labels]
    return problem.labels.astype(dtype)


def correctly_rounded(problem: Problem) -> Array:
    exact = evaluate(problem)
    assert isinstance(exact, Exact)
    return exact.hi.astype(problem.predictions.dtype)


def _outputs(problem: Problem) -> tuple[Array, Array, Array, Array]:
    """(x, smoothed y, positive weight, the dtype's scalar) of a binary problem."""
    x, scalar = problem.predictions, problem.predictions.dtype.type
    y = problem.labels.astype(x.dtype)
    if e := problem.options.label_smoothing:
        y = (1 - scalar(e)) * y + scalar(e) * scalar(0.5)
    weight = problem.options.positive_weight
    return x, y, scalar(1) if weight is None else weight, scalar


def two_softplus(problem: Problem) -> Array:
    z, y, weight, scalar = _outputs(problem)
    tail = np.log1p(np.exp(-np.abs(z)))
    on, off = tail + np.maximum(-z, scalar(0)), tail + np.maximum(z, scalar(0))
    return weight * y * on + (1 - y) * off


def one_tail(problem: Problem) -> Array:
    """max(z, 0) - y z + log1p(exp(-|z|)), with weights as TensorFlow has them."""
    z, y, weight, scalar = _outputs(problem)
    factor = 1 + (weight - 1) * y
    tail = np.log1p(np.exp(-np.abs(z))) + np.maximum(-z, scalar(0))
    return (1 - y) * z + factor * tail


def logs_of_probability(problem: Problem) -> Array:
    p, y, weight, _ = _outputs(problem)
    return -(_times(weight * y, np.log(p)) + _times(1 - y, np.log1p(-p)))


def logs_of_complement(problem: Problem) -> Array:
    p, y, weight, _ = _outputs(problem)
    return _times(weight * y, -np.log(p)) + _times(1 - y, -np.log(1 - p))


def _times(a: Array, b: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return np.where(a == 0, b.dtype.type(0), a * b)


# Problems


def _softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _weights(rng: Any, size: int) -> Array:
    return rng.choice([0.0, 0.5, 1.0, 3.0, 0.7, 0.1], size=size) + 0.05


def categorical(input_kind: str, soft: bool) -> Iterator[Case]:
    """Many rows for each of several numbers of classes and widths, plain and with every option."""
    rng = np.random.default_rng(7)
    for classes, width in ((2, 1.0), (3, 30.0), (10, 5.0), (10, 0.01), (130, 3.0)):
        rows = max(ROWS * 3 // classes, 40)
        z = rng.normal(size=(rows, classes)) * width
        y = _softmax(rng.normal(size=z.shape) * 3) if soft else rng.integers(0, classes, rows)
        x = {"logits": z, "probabilities": _softmax(z), "log_probabilities": np.log(_softmax(z))}[input_kind]
        for options in ({}, {"class_weights": _weights(rng, classes), "label_smoothing": 0.1}):
            target = "distribution" if soft else "index"
            yield case(
                x, y, input_kind=input_kind, target=target, options=options, id=f"{input_kind}/{classes}/{width}"
            )


def binary(input_kind: str, soft: bool) -> Iterator[Case]:
    rng = np.random.default_rng(5)
    for width in (0.01, 1.0, 8.0):
        z = rng.normal(size=ROWS) * width
        y = rng.uniform(size=ROWS) ** rng.choice([1, 6], ROWS) if soft else rng.integers(0, 2, ROWS)
        x = z if input_kind == "logits" else 1 / (1 + np.exp(-z))
        for options in (
            {},
            {"positive_weight": np.array(3.3)},
            {"label_smoothing": 0.1},
            {"label_smoothing": 0.001, "positive_weight": np.array(0.3)},
        ):
            yield case(
                x,
                y,
                loss="binary",
                input_kind=input_kind,
                target="binary",
                options=options,
                id=f"{input_kind}/{width}/{options}",
            )


def logarithm(p: Array) -> Array:
    return -np.log(p)


def as_they_are(x: Array) -> Array:
    return -x


CANCELS = Convention(cancellation="logits")
OF_LOGITS: dict[str, tuple[Way, Convention]] = {
    **{add.__name__: (of_classes(log_sum_exp(add), add), DEFINITION) for add in SUMS},
    "mixed late": (mixed_late(log_sum_exp(pairwise)), DEFINITION),
    "shifted back": (of_classes(shifted_back), CANCELS),
    "correctly rounded": (correctly_rounded, DEFINITION),
}
WAYS: dict[str, tuple[Callable[[str, bool], Iterator[Case]], str, dict[str, tuple[Way, Convention]]]] = {
    "logits": (categorical, "logits", OF_LOGITS),
    "probabilities": (
        categorical,
        "probabilities",
        {
            "logarithm": (of_classes(logarithm), DEFINITION),
            "in order": (of_classes(logarithm, in_order), DEFINITION),
            "mixed late": (mixed_late(logarithm), DEFINITION),
            "correctly rounded": (correctly_rounded, DEFINITION),
        },
    ),
    "log_probabilities": (
        categorical,
        "log_probabilities",
        {
            "as they are": (of_classes(as_they_are), DEFINITION),
            "mixed late": (mixed_late(as_they_are), DEFINITION),
            "correctly rounded": (correctly_rounded, DEFINITION),
        },
    ),
    "binary logits": (
        binary,
        "logits",
        {
            "two softplus": (two_softplus, DEFINITION),
            "one tail": (one_tail, CANCELS),
            "correctly rounded": (correctly_rounded, DEFINITION),
        },
    ),
    "binary probabilities": (
        binary,
        "probabilities",
        {
            "log1p": (logs_of_probability, DEFINITION),
            "logarithm of the complement": (logs_of_complement, DEFINITION),
            "correctly rounded": (correctly_rounded, DEFINITION),
        },
    ),
}
NAMES = [(kind, way) for kind, (_, _, ways) in WAYS.items() for way in ways]


def ratios(kind: str, way: str, dtype: str) -> dict[str, float]:
    """The largest ratio of a way by case, without reduction."""
    make, input_kind, ways = WAYS[kind]
    compute, convention = ways[way]
    found = {}
    for soft in (False, True):
        for stated in make(input_kind, soft):
            problem = stated.problem(dtype, "none")
            if input_kind == "probabilities" and not _inside(problem):
                continue
            got = compute(problem)
            found[f"{stated.id} {'soft' if soft else 'crisp'} {stated.options.names()}"] = largest_ratio(
                problem, got, convention
            )
    return found


def _inside(problem: Problem) -> bool:
    """Whether rounding left every probability where its logarithms are finite."""
    x = problem.predictions
    return bool(np.all(x > 0)) and (problem.loss == "categorical" or bool(np.all(x < 1)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # probabilities that float16 rounds to 0 and 1
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "way"), NAMES)
def test_budget_allows_correct_code(kind, way, dtype):
    found = ratios(kind, way, dtype)
    assert len(found) >= 4
    print(kind, way, dtype, max(found.values()))
    assert {name: ratio for name, ratio in found.items() if ratio > 1} == {}


@pytest.mark.parametrize("positive", [0.3, 3.3, 20.0])
@pytest.mark.parametrize(
    ("way", "convention"),
    [
        (one_tail, CANCELS),
        (two_softplus, DEFINITION),
    ],
)
def test_budget_allows_many_weighted_outputs(way, convention, positive):
    # In float32, so that float64 is exact enough to hold them against.
    rng = np.random.default_rng(0)
    n = 200_000
    z, y = rng.normal(size=n) * rng.choice([0.1, 1, 8, 40], n), rng.uniform(size=n) ** rng.choice([1, 6], n)
    stated = case(z, y, loss="binary", target="binary", options={"positive_weight": np.array(positive)})
    problem = stated.problem("float32", "none")
    x, y = problem.predictions.astype(np.float64), problem.labels.astype(np.float64)
    tail = np.log1p(np.exp(-np.abs(x)))
    on, off = tail + np.maximum(-x, 0), tail + np.maximum(x, 0)
    exact = float(problem.options.positive_weight) * y * on + (1 - y) * off
    error = np.abs(way(problem).astype(np.float64) - exact)
    assert (error / error_bound.tolerance(problem, convention)).max() <= 1


def reduced(
    problem: Problem, losses: Array, weights: Array, add: Callable[[Array], Array], divide_first: bool
) -> Array:
    """A sum or a weighted mean in the dtype."""
    if problem.reduction == "sum":
        return add(losses)
    return add(losses / add(weights)) if divide_first else add(losses) / add(weights)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("weighted", [False, True])
def test_budget_allows_any_summation_order(dtype, reduction, weighted):
    rng = np.random.default_rng(11)
    ratios = []
    for n in [*range(1, 24), 64, 300, *([3000] if dtype != "float16" else [])]:
        z = rng.normal(size=(n, 4)) * 2
        options = {"sample_weights": rng.uniform(0.1, 2.0, n)} if weighted else {}
        problem = case(z, rng.integers(0, 4, n), options=options).problem(dtype, reduction)
        losses = of_classes(log_sum_exp(pairwise))(problem)
        weights = np.ones(n, dtype=dtype) if not weighted else problem.options.sample_weights
        for add in SUMS:
            for divide_first in (False, True):
                got = reduced(problem, losses * weights if weighted else losses, weights, add, divide_first)
                ratios.append(largest_ratio(problem, got))
    assert max(ratios) <= 1
    # Both ends: correct code comes somewhat near.
    assert max(ratios) > 0.05


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [None, 0.2])
@pytest.mark.parametrize("rows", [1, 12])
def test_budget_allows_class_weights_averaged_in_any_order(dtype, smoothing, rows):
    rng = np.random.default_rng(13)
    ratios = []
    for classes in (2, 3, 30, 400):
        for spread in (1e-4, 1e-3, 0.1, 1.0, 20.0 / classes):
            q = rng.uniform(0, min(spread, 1.0), size=(rows, classes)) * (rng.uniform(size=(rows, classes)) < 0.8)
            q[:, 0] = min(spread, 0.25)
            options = {"class_weights": rng.uniform(0.1, 2.0, classes), "label_smoothing": smoothing}
            x = -rng.uniform(0.1, 3.0, size=q.shape)
            problem = case(x, q, input_kind="log_probabilities", target="distribution", options=options).problem(
                dtype, "mean"
            )
            x, q, w = problem.predictions, problem.labels.astype(dtype), problem.options.class_weights
            e = q.dtype.type(smoothing or 0)
            q = (1 - e) * q + e / q.dtype.type(classes) if smoothing else q
            for add in SUMS:
                for weights in (add(q * w) / add(q), add(w * (q / add(q)[:, np.newaxis]))):
                    got = reduced(problem, add(q * w * -x), weights, add, divide_first=False)
                    ratios.append(largest_ratio(problem, got))
    assert max(ratios) <= 1
    assert max(ratios) > 0.05


def test_budget_allows_row_weight_lost_by_tiny_targets():
    tiny = case(
        [[-0.75, -0.5], [-0.25, -2.0]], [[1e-7, 2e-7], [0.25, 0.125]], target="distribution",
        input_kind="log_probabilities", options={"class_weights": [2.0, 0.5]},
    ).problem("float16", "mean")  # fmt: skip
    q, w = tiny.labels.astype(np.float16), tiny.options.class_weights
    weights = pairwise(q * w) / pairwise(q)
    exact = (q.astype(float) * w).sum(axis=1) / q.astype(float).sum(axis=1)
    assert abs(weights[0] - exact[0]) > 0.05 * exact[0]
    got = reduced(tiny, pairwise(q * w * -tiny.predictions), weights, pairwise, divide_first=False)
    assert largest_ratio(tiny, got) <= 1


@pytest.mark.parametrize(
    "stated",
    [
        case([[0.5, -1.0]] * 9, [[0.25, 0.5]] * 9, target="distribution"),
        case([[0.5, -1.0]] * 9, [0, 1, 0] * 3, options={"label_smoothing": 0.25}),
        case([0.5, -1.0, 2.0] * 3, [1.0, 0.0, 0.5] * 3, loss="binary", target="binary"),
    ],
    ids=["targets", "labels", "outputs"],
)
def test_budget_of_mean_has_no_rounding_of_a_count(stated):
    problem = stated.problem("float32", "mean")
    by_number = error_bound.tolerance(problem, Convention(mean_divides_by="kept"))
    assert error_bound.tolerance(problem, DEFINITION) == by_number
    weighted = dataclasses.replace(
        problem, options=dataclasses.replace(problem.options, sample_weights=np.ones(9, dtype=np.float32))
    )
    assert error_bound.tolerance(weighted, DEFINITION) > error_bound.tolerance(
        weighted, Convention(mean_divides_by="kept")
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "way"), [("logits", "pairwise"), ("binary logits", "two softplus")])
def test_budget_is_no_wider_than_correct_code_needs(kind, way, dtype):
    # Even the correctly rounded answer uses some of it, and so each way must use more than a little.
    assert 0.05 < max(ratios(kind, "correctly rounded", dtype).values()) < max(ratios(kind, way, dtype).values()) <= 1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", NEXT_LOWER)
@pytest.mark.parametrize(("kind", "way"), NAMES)
def test_budget_rejects_next_lower_precision(kind, way, dtype):
    make, input_kind, ways = WAYS[kind]
    compute, convention = ways[way]
    for soft in (False, True):
        for stated in make(input_kind, soft):
            lower = compute(stated.problem(np.dtype(NEXT_LOWER[dtype]).name, "none")).astype(dtype)
            assert largest_ratio_or_infinite(stated.problem(dtype, "none"), lower, convention) > 10


def largest_ratio_or_infinite(problem: Problem, got: Array, convention: Convention) -> float:
    if not np.all(np.isfinite(got)):
        return np.inf
    return largest_ratio(problem, got, convention)


def test_budget_of_mean_of_wide_rows_is_few_units_of_conditioning():
    rng = np.random.default_rng(2)
    z, y = rng.normal(size=(2000, 1000)) * 3, rng.integers(0, 1000, 2000)
    problem = case(z, y).problem("float32", "mean")
    x = problem.predictions.astype(np.float64)
    d = x - x.max(axis=1, keepdims=True)
    log_sum, picked = np.log(np.exp(d).sum(axis=1)), -d[np.arange(2000), y]
    scale = np.mean(np.abs(log_sum) + picked + (log_sum + picked))
    assert error_bound.tolerance(problem, DEFINITION) < 64 * dtype_info("float32").unit_roundoff * scale


@pytest.mark.parametrize("dtype", DTYPES)
def test_budget_is_invariant_under_logit_shift(dtype):
    z = np.array([[0.5, -1.25, 2.0], [0.0, 0.25, -3.0]])
    here, there = (case(z + shift, [0, 2]).problem(dtype, "none") for shift in (0.0, 64.0))
    np.testing.assert_array_equal(error_bound.tolerance(here, DEFINITION), error_bound.tolerance(there, DEFINITION))
    cancelling = error_bound.tolerance(there, CANCELS)
    assert np.all(cancelling > error_bound.tolerance(there, DEFINITION) + 100 * dtype_info(dtype).unit_roundoff)


def test_budget_is_zero_for_exact_answers():
    ignored = case([[1.0, 2.0], [3.0, 1.0]], [-1, 0], options={"ignore_index": -1}).problem("float32", "none")
    assert error_bound.tolerance(ignored, DEFINITION)[0] == 0
    assert error_bound.tolerance(ignored, DEFINITION)[1] > 0
    infinite = case([[0.0, 1.0]], [0], input_kind="probabilities").problem("float32", "none")
    assert error_bound.tolerance(infinite, DEFINITION).tolist() == [0.0]
    rejected = case([[1.0, 2.0]], [5]).problem("float32", "sum")
    assert error_bound.tolerance(rejected, DEFINITION) == 0


@pytest.mark.parametrize("weight", [np.inf, np.nan])
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_budget_ignores_weight_of_ignored_sample(weight, reduction):
    weighted = {"ignore_index": -1, "sample_weights": [1.0, weight]}
    beside = case([[1.0, 2.0]] * 2, [0, -1], options=weighted).problem("float32", reduction)
    alone = case([[1.0, 2.0]], [0], options={"sample_weights": [1.0]}).problem("float32", reduction)
    assert error_bound.tolerance(beside, DEFINITION).max() >= error_bound.tolerance(alone, DEFINITION).max() > 0


@pytest.mark.parametrize("weight", [np.inf, np.nan])
@pytest.mark.parametrize("labels", [[0, 0], [[1, 0], [1, 0]]])
def test_budget_of_mean_ignores_infinite_weight_of_absent_class(weight, labels):
    target = "index" if np.ndim(labels) == 1 else "distribution"
    weighted = case([[1.0, 2.0]] * 2, labels, target=target, options={"class_weights": [2.0, weight]})
    plain = case([[1.0, 2.0]] * 2, labels, target=target, options={"class_weights": [2.0, 1.0]})
    problems = [stated.problem("float32", "mean") for stated in (weighted, plain)]
    assert error_bound.tolerance(problems[0], DEFINITION) == error_bound.tolerance(problems[1], DEFINITION) > 0


def test_budget_of_finite_loss_beside_infinite_logit_is_finite():
    outputs = case([np.inf, -np.inf, 0.4], [1, 0, 1], loss="binary", target="binary").problem("float32", "sum")
    alone = case([0.4], [1], loss="binary", target="binary").problem("float32", "sum")
    assert error_bound.tolerance(outputs, DEFINITION) >= error_bound.tolerance(alone, DEFINITION) > 0


MOST = 1.7e308
BESIDE = Convention(binary_outputs="mean_of_last_axis")


@pytest.mark.parametrize(("dtype", "gaps"), [("float16", (9.0, 18.0)), ("float32", (80.0, 104.0))])
def test_budget_allows_log_of_underflowing_probability(dtype, gaps):
    convention = Convention(logits_as="probabilities")
    logits = np.linspace(*gaps, 300).astype(dtype)[:, np.newaxis] * np.array([0, 1], dtype)
    logs = -np.logaddexp(0, logits[:, 1].astype(float))
    with np.errstate(divide="ignore"):
        found = -np.log(np.exp(logs).astype(dtype)).astype(float)
    allowed = error_bound.tolerance(case(logits, np.zeros(300, int)).problem(dtype, "none"), convention)
    assert ((np.abs(found + logs) <= allowed) | np.isinf(found)).all()
    assert (allowed < 1).all()
    assert (allowed[np.isinf(found)][1:] == 0).all()


@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize(
    ("stated", "convention"),
    [
        (case([[0.0, -MOST], [0.0, -1e308]], [1, 1]), DEFINITION),
        (case([[0.0, -MOST], [0.0, -1e308]], [1, 1]), CANCELS),
        (case([[-MOST, -1.0], [-1e308, 0.0]], [0, 0], input_kind="log_probabilities"), DEFINITION),
        (case([-MOST, -1e308], [1.0, 1.0], loss="binary", target="binary"), CANCELS),
        (
            case([-MOST, -MOST], [1.0, 0.5], loss="binary", target="binary", options={"label_smoothing": 0.1}),
            DEFINITION,
        ),
        (case([[-MOST, -1e308], [-MOST, 0.0]], [[1.0, 1.0], [1.0, 0.0]], loss="binary", target="binary"), BESIDE),
    ],
    ids=range(6),
)
def test_budget_near_largest_number_is_few_ulps(stated, convention, reduction):
    problem = stated.problem("float64", reduction)
    answer = evaluate(problem, convention)
    assert isinstance(answer, Exact)
    assert np.all(np.isfinite(answer.hi))
    units = error_bound.tolerance(problem, convention) / (2.0**-53 * np.abs(answer.hi))
    assert np.all((units >= 1) & (units < 20))


@pytest.mark.parametrize("left", [2.0**-5, 2.0**-9, 2.0**-16])
def test_budget_allows_cancellation_of_divisor(left):
    # The sum of the weights is what comes of the worst roundings, the numerator what is exact.
    weights = [1.0, -1.0 + left]
    problem = case([[0.0, 0.0]] * 2, [0, 1], options={"sample_weights": weights}).problem("float32", "mean")
    lost = 2 * 2.0**-24 / left
    off = np.log(2) * (1 / (1 - lost) - 1)
    tolerance = error_bound.tolerance(problem, DEFINITION)
    assert off <= tolerance < 60 * off + 1e-6


@pytest.mark.parametrize("n", [1, 2, 5, 17, 100, 10**6])
def test_sum_error_is_smaller_of_both_bounds(n):
    assert error_bound.sum_error(n) == min(n - 1, error_bound.LONG_SUM_FACTOR * n**0.5)


def test_complement_that_may_round_to_0_has_no_tolerance_without_a_floor():
    problem = case(np.array([3.0, 32.0], np.float32), np.zeros(2), loss="binary", target="binary").problem(
        "float32", "none"
    )
    unfloored = error_bound.tolerance(problem, Convention(logits_as="probabilities"))
    floored = error_bound.tolerance(problem, Convention(logits_as="probabilities", log_floor=-36.0))
    assert 0 < unfloored[0] < 1e-4
    assert unfloored[1] == 0
    assert 1 < floored[1] < 36

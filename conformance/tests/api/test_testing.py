"""`conformance.testing`: exact answers, tolerances, and an assertion that says what is wrong and why."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import time

import mpmath
import numpy as np
import pytest

from conformance.judging.effects import loss_choices
from conformance.judging.mistakes import Departure
from conformance.model.case import DTYPES, numpy_dtype
from conformance.model.convention import DEFINITION
from conformance.model.errors import UserError
from conformance.reference import enclosure, error_bound, oracle
from conformance.testing import assert_cross_entropy, checks, cross_entropy_problems, exact_cross_entropy, tolerance
from conformance.testing.arrays import read_argument
from conformance.testing.inputs import read_inputs
from conformance.testing.questions import prepare

RANDOM = np.random.default_rng(20)
X = (RANDOM.normal(size=(32, 10)) * 2).astype(np.float32)
Y = RANDOM.integers(0, 10, 32)
WEIGHTS = (RANDOM.random(10) + 0.5).astype(np.float32)
BINARY = (RANDOM.random((32, 10)) < 0.5).astype(np.float32)
SOFT = RANDOM.dirichlet(np.ones(10), 32).astype(np.float32)
ROWS = np.arange(32)


def log_softmax(z):
    d = z - z.max(axis=-1, keepdims=True)
    return d - np.log(np.exp(d).sum(axis=-1, keepdims=True))


def softmax(z):
    return np.exp(log_softmax(z))


def losses(z, y=Y):
    return -log_softmax(z)[np.arange(len(y)), y]


def naive(z, y):
    """-log(exp(z_y) / sum exp z), where nothing overflows."""
    e = np.exp(z)
    return -np.log(e[np.arange(len(y)), y] / e.sum(axis=-1))


def online(z, y):
    """Blocks of classes, with a running maximum and a running sum that is rescaled."""
    top, total = np.full(len(z), -np.inf, z.dtype), np.zeros(len(z), z.dtype)
    for start in range(0, z.shape[1], 4):
        block = z[:, start : start + 4]
        larger = np.maximum(top, block.max(axis=1))
        total = total * np.exp(top - larger) + np.exp(block - larger[:, np.newaxis]).sum(axis=1)
        top = larger
    return np.log(total) - (z[np.arange(len(y)), y] - top)


def message(*arguments, **named):
    with pytest.raises(AssertionError) as failure:
        assert_cross_entropy(*arguments, **named)
    return str(failure.value)


def lines(text):
    """The lines of a message by their name; the texts of `explained` in a list."""
    found, name = {}, ""
    for line in text.splitlines()[1:]:
        name = line[2:12].strip() or name
        found.setdefault(name, []).append(line[13:])
    return {name: texts if name == "explained" else texts[0] for name, texts in found.items()}


def explained(*arguments, **named):
    return lines(message(*arguments, **named))["explained"]


# Exact answers.


def in_mpmath(x, y, smoothing=0.0, weights=None):
    """(losses, weights) of rows, to 60 digits."""
    found = []
    with mpmath.workdps(60):
        for row, label in zip(x.tolist(), y.tolist(), strict=True):
            total = mpmath.log(mpmath.fsum(mpmath.exp(z) for z in row))
            shares = [
                mpmath.mpf(smoothing) / len(row) + (1 - mpmath.mpf(smoothing)) * (c == label) for c in range(len(row))
            ]
            each = [1.0] * len(row) if weights is None else weights.tolist()
            loss = mpmath.fsum(w * q * (total - z) for w, q, z in zip(each, shares, row, strict=True))
            found.append((loss, mpmath.fsum(w * q for w, q in zip(each, shares, strict=True))))
        return [loss for loss, _ in found], [weight for _, weight in found]


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"class_weights": WEIGHTS}])
def test_exact_answers_are_correctly_rounded(options):
    expected, weights = in_mpmath(X, Y, options.get("label_smoothing", 0.0), options.get("class_weights"))
    with mpmath.workdps(60):
        total = mpmath.fsum(expected)
        due = {
            "none": [float(loss) for loss in expected],
            "sum": float(total),
            "mean": float(total / mpmath.fsum(weights)),
        }
    for reduction, answer in due.items():
        found = exact_cross_entropy(logits=X, labels=Y, reduction=reduction, **options)
        assert found.dtype == np.float64
        assert found.shape == np.shape(answer)
        assert found.tolist() == answer


def test_exact_answer_uses_numbers_as_passed():
    weights = np.array([0.1, 0.7])  # float64, which float32 would round
    logits = np.array([[0.5, 1.0]], np.float32)
    alone = exact_cross_entropy(logits=logits, labels=[0], reduction="sum", class_weights=weights)
    rounded = exact_cross_entropy(logits=logits, labels=[0], reduction="sum", class_weights=weights, dtype="float32")
    assert alone != rounded
    assert rounded == exact_cross_entropy(
        logits=logits, labels=[0], reduction="sum", class_weights=weights.astype("f4")
    )


def test_gradient_is_the_derivative_of_the_exact_loss():
    step = 1e-5
    x = X[:3].astype(np.float64)
    found = exact_cross_entropy(logits=x, labels=Y[:3], class_weights=WEIGHTS, label_smoothing=0.1, gradient=True)
    for at in np.ndindex(x.shape):
        both = []
        for sign in (1, -1):
            moved = x.copy()
            moved[at] += sign * step
            both.append(exact_cross_entropy(logits=moved, labels=Y[:3], class_weights=WEIGHTS, label_smoothing=0.1))
        assert found[at] == pytest.approx((both[0] - both[1]) / (2 * step), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("function", [exact_cross_entropy, tolerance, assert_cross_entropy])
def test_signature_names_arguments_of_problem(function):
    parameters = inspect.signature(function).parameters
    names = list(parameters)
    assert names.index("logits") < names.index("labels") < names.index("like") < names.index("gradient")
    assert parameters["reduction"].default == "mean"
    assert all(name in (function.__doc__ or "") for name in names)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_class_axis_refers_to_passed_arrays(axis):
    x, y = RANDOM.normal(size=(2, 3, 4)), RANDOM.integers(0, 4, (2, 3))
    moved = np.moveaxis(x, -1, axis)
    last = {"logits": x, "labels": y}
    passed = {"logits": moved, "labels": y, "class_axis": axis}
    assert exact_cross_entropy(**last) == exact_cross_entropy(**passed)
    found = exact_cross_entropy(**passed, gradient=True)
    assert np.array_equal(np.moveaxis(exact_cross_entropy(**last, gradient=True), -1, axis), found)
    targets = np.eye(4)[y]
    one_hot = {"logits": moved, "labels": np.moveaxis(targets, -1, axis), "class_axis": axis}
    assert exact_cross_entropy(**one_hot) == exact_cross_entropy(**last)


def test_loss_is_inferred_from_data():
    def loss_of(labels, **options):
        named = dict.fromkeys(
            ("probabilities", "log_probabilities", "class_weights", "sample_weights", "positive_weight")
        )
        named |= dict.fromkeys(("loss", "class_axis", "label_smoothing", "ignore_index", "like"))
        named |= {"logits": X, "reduction": "mean", "labels": labels, **options}
        found = read_inputs(**named)
        return found.loss, found.target

    assert loss_of(Y) == ("categorical", "index")
    assert loss_of(SOFT) == loss_of(np.eye(10)[Y]) == ("categorical", "distribution")
    assert loss_of(BINARY) == ("binary", "binary")
    assert loss_of(np.eye(10)[Y], positive_weight=2.0) == ("binary", "binary")
    assert loss_of(BINARY[:, 0], logits=X[:, 0]) == loss_of(BINARY[:, :1], logits=X[:, :1]) == ("binary", "binary")
    with pytest.raises(ValueError, match="loss='categorical' or loss='binary'"):
        loss_of(np.full((32, 10), 0.2))


def test_single_sample_and_single_output_need_no_axis():
    for like in (None, "torch.CrossEntropyLoss"):
        assert exact_cross_entropy(logits=X[0], labels=Y[0], like=like) == exact_cross_entropy(
            logits=X[:1], labels=Y[:1]
        )
    found = exact_cross_entropy(logits=X[0, 0], labels=1, gradient=True)
    assert found == exact_cross_entropy(logits=X[0, :1], labels=[1], gradient=True)[0]
    loss = np.float32(np.log1p(np.exp(-np.float64(X[0, 0]))))
    assert_cross_entropy(loss, logits=X[0, 0], labels=1, gradient=found.astype(np.float32))
    assert "the gradient is wrong" in message(loss, logits=X[0, 0], labels=1, gradient=np.float32(found * 2))


def test_known_function_selects_documented_convention():
    options = {"logits": X, "labels": Y, "class_weights": WEIGHTS, "label_smoothing": 0.1}
    unsmoothed = exact_cross_entropy(**options, reduction="sum") / np.float64(WEIGHTS[Y].astype(np.float64).sum())
    found = exact_cross_entropy(**options, like="torch.CrossEntropyLoss")
    assert found == pytest.approx(unsmoothed, rel=1e-14)
    assert found != pytest.approx(exact_cross_entropy(**options), rel=1e-4)
    assert found == exact_cross_entropy(**options, like="torch.nn.CrossEntropyLoss")
    padded = np.where(ROWS < 4, -100, Y)
    some = exact_cross_entropy(logits=X, labels=padded, like="torch.CrossEntropyLoss")
    assert some == exact_cross_entropy(logits=X[4:], labels=Y[4:])
    assert np.isnan(exact_cross_entropy(logits=X, labels=np.full(32, -100), like="torch.CrossEntropyLoss"))
    x = np.moveaxis(RANDOM.normal(size=(2, 3, 4)), -1, 1)
    y = RANDOM.integers(0, 4, (2, 3))
    assert exact_cross_entropy(logits=x, labels=y, like="torch.CrossEntropyLoss") == exact_cross_entropy(
        logits=x, labels=y, class_axis=1
    )
    rows = exact_cross_entropy(logits=X, labels=BINARY, loss="binary", reduction="none")
    probabilities = (1 / (1 + np.exp(-X.astype(np.float64)))).astype(np.float32)
    means = exact_cross_entropy(
        probabilities=probabilities, labels=BINARY, reduction="none", like="keras.BinaryCrossentropy"
    )
    np.testing.assert_allclose(means, rows.mean(axis=-1), rtol=1e-4)


# Large problems.


def question(dtype, *, classes=4096, rows=9, **options):
    generator = np.random.default_rng(classes)
    x = (generator.normal(size=(rows, classes)) * 4).astype(numpy_dtype(dtype))
    named = dict.fromkeys(("probabilities", "log_probabilities", "class_weights", "sample_weights", "positive_weight"))
    named |= dict.fromkeys(("loss", "class_axis", "label_smoothing", "ignore_index", "like"))
    named |= {"logits": x, "labels": generator.integers(0, classes, rows), "reduction": "none", **options}
    return prepare(read_inputs(**named), dtype)


LARGE = {
    "plain": {},
    "smoothed": {"label_smoothing": 0.2},
    "weighted": {"class_weights": np.linspace(0.5, 2, 4096)},
    "weighted_and_smoothed": {"class_weights": np.linspace(0, 2, 4096), "label_smoothing": 0.2},
    "ignored": {"labels": np.array([-1, 5, 9, -1, 0, 4095, 7, 1, 2]), "ignore_index": -1},
    "samples": {"sample_weights": np.linspace(0, 2, 9)},
    "targets": {"labels": np.random.default_rng(1).dirichlet(np.ones(4096), 9)},
    "binary": {"labels": (np.random.default_rng(2).random((9, 4096)) < 0.5) * 1.0, "positive_weight": 3.0},
}


@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_large_enclosure_holds_the_balls_and_is_sharp(name, dtype, reduction):
    asked = question(dtype, **LARGE[name], reduction=reduction)
    assert asked.problem.predictions.size > enclosure.MAX_IN_BALLS
    found, exact = asked.exact_loss, oracle.evaluate(asked.problem, DEFINITION)
    assert np.all(np.abs(found.hi - exact.hi) <= found.rad + np.abs(exact.lo) + exact.rad)
    assert np.all(found.rad <= enclosure.MAX_RADIUS_TO_TOLERANCE * asked.loss_tolerance() + enclosure.UNDERFLOW_ERROR)
    assert np.any(found.rad > 0)


def test_large_rows_without_narrow_finite_enclosure_use_balls(monkeypatch):
    counted = []
    one = oracle.row_loss
    monkeypatch.setattr(oracle, "row_loss", lambda *row: counted.append(row[2]) or one(*row))
    x = question("float32").problem.predictions.copy()
    labels = np.array([3, 5, 9, 8, 0, 4095, 7, 1, 2])
    x[2, 9], x[4, 17], x[6, 6] = -np.inf, -np.inf, np.nan
    asked = question("float32", logits=x, labels=labels)
    assert np.isposinf(asked.exact_loss.hi).nonzero()[0].tolist() == [2]
    assert np.isnan(asked.exact_loss.hi).nonzero()[0].tolist() == [6]
    assert {2, 6} < set(counted)
    counted.clear()
    _ = question("float64").exact_loss
    assert set(counted) == set(range(9))


@pytest.mark.parametrize(
    "like",
    ["keras.SparseCategoricalCrossentropy", "keras.CategoricalCrossentropy", "sklearn.log_loss", "torch.BCELoss"],
)
def test_large_enclosure_follows_conventions(like):
    binary = like == "torch.BCELoss"
    x = question("float32").problem.predictions.astype(np.float64)
    x[:, :3] = 0 if binary else -200  # what is clipped
    p = np.exp(-np.logaddexp(0, -x * 60)) if binary else softmax(x)
    labels = (x > 1) * 1.0 if binary else np.arange(9)
    asked = question("float32", logits=None, probabilities=p.astype(np.float32), labels=labels, like=like)
    exact = oracle.evaluate(asked.problem, loss_choices(asked.convention))
    assert exact.hi.max() < 104
    found = asked.exact_loss
    assert np.all(np.abs(found.hi - exact.hi) <= found.rad + np.abs(exact.lo) + exact.rad)


def test_enclosure_contradicting_ball_raises_error(monkeypatch):
    losses_of = error_bound.row_losses
    monkeypatch.setattr(error_bound, "row_losses", lambda *of: (losses_of(*of)[0] * (1 + 1e-7), losses_of(*of)[1]))
    with pytest.raises(ArithmeticError, match="off by more than"):
        _ = question("float32").exact_loss


def test_sums_of_index_labels_give_the_bound_of_each_class():
    """The closed form of `error_bound` and the terms that it adds up."""
    of_both_signs = {"class_weights": np.linspace(-1, 2, 4096), "label_smoothing": 0.2}
    names = ("plain", "smoothed", "weighted", "weighted_and_smoothed")
    for options in [*(LARGE[name] for name in names), of_both_signs]:
        problem = question("float32", **options).problem
        flat = oracle.flatten(problem, DEFINITION)
        with np.errstate(all="ignore"):
            summed = error_bound._index_of_logits(flat, DEFINITION, False)
            each = error_bound._categorical(flat, DEFINITION, False)
        for a, b in zip(summed, each, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


def test_large_gradient_is_taken_in_chunks_of_rows():
    asked = question("float32", reduction="mean", label_smoothing=0.1, rows=40)
    z = asked.problem.predictions.astype(np.float64)
    q = np.full(z.shape, 0.1 / z.shape[1])
    q[np.arange(40), asked.problem.labels] += 0.9
    expected = (softmax(z) - q) / 40
    found = asked.exact_gradient()
    assert len(list(asked.gradient_chunks())) > 1
    np.testing.assert_allclose(found.hi, expected, rtol=1e-9, atol=1e-17)
    assert np.all(found.rad <= enclosure.MAX_RADIUS_TO_TOLERANCE * asked.gradient_tolerance())
    wrong = expected.astype(np.float32)
    wrong[37, 5] *= 1.5
    options = {"logits": asked.problem.predictions, "labels": asked.problem.labels, "label_smoothing": 0.1}
    loss = np.float32(asked.exact_loss.hi)
    assert_cross_entropy(loss, **options, gradient=expected.astype(np.float32), cancellation=True)
    text = lines(message(loss, **options, gradient=wrong, cancellation=True))
    assert text["where"] == "[37, 5], the worst; 1 of 163840 elements is wrong"


# The assertion: what is right passes.


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("implementation", [naive, lambda z, y: losses(z, y), online])
@pytest.mark.parametrize("dtype", DTYPES)
def test_right_implementation_passes_in_every_dtype(dtype, implementation, reduction):
    x = X.astype(numpy_dtype(dtype))
    found = implementation(x, Y)
    reduced = {"none": found, "sum": found.sum(), "mean": found.mean()}[reduction]
    assert reduced.dtype == x.dtype
    assert_cross_entropy(reduced, logits=x, labels=Y, reduction=reduction)
    assert_cross_entropy(reduced, logits=x, labels=Y, reduction=reduction, like="torch.CrossEntropyLoss")
    wrong = reduced * np.asarray(1.5, x.dtype)
    assert "x the tolerance" in message(wrong.astype(x.dtype), logits=x, labels=Y, reduction=reduction)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cancelling_gradient_is_reported_and_right_one_passes(dtype):
    x = (X * 4).astype(numpy_dtype(dtype))
    p = softmax(x.astype(np.float64))
    likely = x.astype(np.float64).argmax(axis=1)
    q = np.eye(10)[likely]
    rest = np.where(q == 1, (p * (1 - q)).sum(axis=1, keepdims=True), p)
    accurate = (np.where(q == 1, -rest, p) / 32).astype(x.dtype)
    loss = losses(x, likely).mean()
    assert_cross_entropy(loss, logits=x, labels=likely, gradient=accurate)
    usual = (softmax(x) - q.astype(x.dtype)) / np.asarray(32, x.dtype)
    assert_cross_entropy(loss, logits=x, labels=likely, gradient=usual, cancellation=True)
    assert "cancellation=True" in explained(loss, logits=x, labels=likely, gradient=usual)[0]


def test_unrounded_error_is_not_attributed_to_narrow_dtype():
    x, y = np.tile(X, (300, 1)), np.tile(Y, 300)
    assert tolerance(logits=x, labels=y, dtype="bfloat16") > 0.4
    wrong = (losses(x, y).mean() + np.float32(0.3)).astype(np.float32)
    assert explained(wrong, logits=x, labels=y) == ["by no known convention or mistake that was tried"]


def test_wider_result_is_compared_in_its_own_dtype():
    x = X.astype(numpy_dtype("bfloat16"))
    assert_cross_entropy(losses(x.astype(np.float32)).mean(), logits=x, labels=Y)
    coarse = losses(x).astype(np.float32)
    named = {"logits": x, "labels": Y, "reduction": "none"}
    assert explained(coarse, **named)[-1] == "would be within the tolerance of bfloat16, if it is computed in it"
    assert_cross_entropy(coarse, **named, dtype="bfloat16")


def test_lists_are_rounded_to_the_dtype_of_the_result():
    x = X.astype(np.float64) + 1e-9
    rounded = losses(x.astype(np.float32)).mean()
    assert_cross_entropy(rounded, logits=x.tolist(), labels=Y.tolist())
    assert_cross_entropy(float(losses(x).mean()), logits=x.tolist(), labels=Y.tolist())
    assert "returned float32, where float64 is expected" in message(rounded, logits=x, labels=Y)
    assert_cross_entropy(rounded, logits=x, labels=Y, dtype=np.float32)


def test_nan_and_infinities_must_be_at_expected_positions():
    x = X.copy()
    x[3, Y[3]], x[5, 0] = -np.inf, np.nan
    due = losses(X)
    due[3], due[5] = np.inf, np.nan
    assert_cross_entropy(due, logits=x, labels=Y, reduction="none")
    for at, number in ((3, np.nan), (5, 1.0), (7, np.inf), (9, np.nan)):
        wrong = due.copy()
        wrong[at] = number
        text = lines(message(wrong, logits=x, labels=Y, reduction="none"))
        assert text["where"] == f"[{at}], the worst; 1 of 32 elements is wrong"


def test_shape_and_dtype_are_compared_before_values():
    assert lines(message(losses(X), logits=X, labels=Y))["shape"] == "returned shape (32,), where () is expected"
    assert explained(losses(X), logits=X, labels=Y) == ["the losses before they are reduced"]
    assert explained(losses(X).mean(), logits=X, labels=Y, reduction="none") == [
        "the mean; or, the same number, the sum divided by the number of samples, 32"
    ]
    assert "returned int64, where float32 is expected" in message(np.int64(2), logits=X, labels=Y)
    assert "returned float16, where float32 is expected" in message(np.float16(2), logits=X, labels=Y)
    text = message(losses(X).mean(), logits=X, labels=Y, gradient=X.T)
    assert "returned shape (10, 32), where (32, 10) is expected" in text


# What is wrong is told with its cause.


def smoothed(e, others=False):
    q = np.eye(10)[Y]
    q = (1 - e) * q + (e * (1 - q) / 9 if others else e / 10)
    return np.float32(-(q * log_softmax(X.astype(np.float64))).sum(axis=1).mean())


def focal(loss):
    return (1 - np.exp(-loss)) ** 2 * loss


BALANCE = np.where(BINARY == 1, np.float32(0.25), np.float32(0.75))
PADDED = np.where(ROWS % 3 == 0, 0, Y)
MISTAKES = [
    ("softmax applied twice", lambda: losses(softmax(X)).mean(), {}),
    ("the sum", lambda: losses(X).sum(), {}),
    ("the mean", lambda: losses(X).mean(), {"reduction": "sum"}),
    ("the logarithm to the base 2", lambda: losses(X).mean() / np.float32(np.log(2)), {}),
    ("the sign turned", lambda: -losses(X).mean(), {}),
    ("labels shifted up by one", lambda: losses(X, (Y + 1) % 10).mean(), {}),
    ("classes in reverse order", lambda: losses(X, 9 - Y).mean(), {}),
    ("label smoothing left out", lambda: losses(X).mean(), {"label_smoothing": 0.1}),
    ("label smoothing of 0.1", lambda: smoothed(0.1), {}),
    ("label smoothing of 0.2", lambda: smoothed(0.2), {}),
    ("label smoothing of 0.1 spread over the other classes only", lambda: smoothed(0.1, True), {}),
    ("a focal loss with gamma 2", lambda: focal(losses(X)).mean(), {}),
    ("a focal loss with gamma 2 and alpha 0.25", lambda: (focal(binary(X)) * BALANCE).mean(), {"labels": BINARY}),
    (
        "the square root of the class weights",
        lambda: np.average(losses(X), weights=np.sqrt(WEIGHTS[Y])).astype(np.float32),
        {"class_weights": WEIGHTS},
    ),
    ("label smoothing spread over the other classes only", lambda: smoothed(0.2, True), {"label_smoothing": 0.2}),
    ("class weights left out", lambda: losses(X).mean(), {"class_weights": WEIGHTS}),
    (
        "the sum divided by the number of samples, 32",
        lambda: (losses(X) * WEIGHTS[Y]).mean(),
        {"class_weights": WEIGHTS},
    ),
    (
        "the sum divided by the number of samples, 32",
        lambda: np.where(PADDED != 0, losses(X, PADDED), 0).sum() / np.float32(32),
        {"labels": PADDED, "ignore_index": 0},
    ),
    (
        "probabilities taken as logits",
        lambda: losses(softmax(X)).mean(),
        {"logits": None, "probabilities": softmax(X)},
    ),
    ("sigmoid applied twice", lambda: binary(1 / (1 + np.exp(-X))).mean(), {"labels": BINARY}),
    ("labels turned, 0 for 1", lambda: binary(-X).mean(), {"labels": BINARY}),
    ("positive weight left out", lambda: binary(X).mean(), {"labels": BINARY, "positive_weight": 3.0}),
]


def binary(x):
    return np.maximum(x, 0) - x * BINARY + np.log1p(np.exp(-np.abs(x)))


@pytest.mark.parametrize(("cause", "wrong", "options"), MISTAKES)
def test_mistake_is_named(cause, wrong, options):
    named = {"logits": X, "labels": Y, **options}
    texts = explained(wrong(), **named)
    assert any(cause in text for text in texts), texts


def test_logits_taken_as_probabilities_are_named():
    clipped = np.clip(X, 1e-7, 1 - 1e-7)
    wrong = -np.log(clipped[ROWS, Y].astype(np.float64)).mean().astype(np.float32)
    assert any("logits taken as probabilities" in text for text in explained(wrong, logits=X, labels=Y))


@pytest.mark.parametrize("factor", [1.001, 1.003, 1.01])
def test_narrower_dtype_is_a_possibility_and_no_option_is_advised(factor):
    x = X[:2]
    wrong = [losses(x * np.float32(factor), Y[:2]).mean(), losses(x, Y[:2]).mean() * np.float32(factor)]
    for loss in wrong:
        texts = explained(loss, logits=x, labels=Y[:2])
        assert texts[0] == "by no known convention or mistake that was tried"
        assert "dtype=" not in " ".join(texts)
        assert all(text.endswith("16, if it is computed in it") for text in texts[1:])


def test_inputs_rounded_to_a_narrower_dtype_are_a_possibility():
    x = X[:2]
    rounded = x.astype(numpy_dtype("bfloat16")).astype(np.float32)
    texts = explained(losses(rounded, Y[:2]).mean(), logits=x, labels=Y[:2])
    assert texts == ["by no known convention or mistake that was tried", "possibly inputs rounded to bfloat16"]


def test_narrow_dtype_ranks_after_a_mistake_with_the_same_number(monkeypatch):
    narrow, mistake = Departure("dtype", "inputs rounded to float16"), Departure("mistake", "labels left out")
    wrong = losses(X).mean() * 2

    def tried(*_, **__):
        value = np.asarray(float(wrong))
        yield (narrow,), value
        yield (mistake,), value
        yield (narrow, Departure("reduction", "the sum")), value * (1 + 1e-7)
        yield (Departure("dtype", "inputs rounded to bfloat16"),), value * (1 + 3e-7)
        yield (Departure("mistake", "halves left out"),), value * (1 + 2e-7)

    monkeypatch.setattr("conformance.testing.causes.values_of_hypotheses", tried)
    found = explained(wrong, logits=X, labels=Y)
    assert found == ["labels left out", "halves left out", "possibly inputs rounded to bfloat16"]


@pytest.mark.parametrize("named", [{}, {"reduction": "none"}, {"labels": BINARY}, {"labels": SOFT}])
def test_result_of_zeros_is_named(named):
    named = {"logits": X, "labels": Y, **named}
    exact = exact_cross_entropy(**named).astype(np.float32)
    assert explained(np.zeros_like(exact), **named) == ["all zeros" if exact.ndim else "zero"]
    assert explained(exact, **named, gradient=np.zeros_like(X)) == ["all zeros"]


def test_constant_result_is_named_and_not_explained_by_a_clip():
    x = np.array([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]], np.float32)
    named = {"logits": x, "labels": [0, 1], "reduction": "none"}
    clipped = np.float32(-np.log(1 - 1e-7))
    for number in (0.0, clipped, 1.0):
        texts = explained(np.full(2, number, np.float32), **named)
        assert texts[0] == (f"all elements are {number:g}" if number else "all zeros")
        assert not any("clip" in text for text in texts)
    same = np.tile(x[:1], (2, 1))
    named = {"logits": same, "labels": [0, 0], "reduction": "none"}
    assert explained(losses(softmax(same), [0, 0]), **named)[0] == "softmax applied twice"


def test_negated_gradient_is_named():
    named = {"logits": X, "labels": Y}
    loss, gradient = losses(X).mean(), exact_cross_entropy(**named, gradient=True).astype(np.float32)
    assert explained(loss, **named, gradient=-gradient) == ["the sign turned"]
    assert explained(loss, **named, gradient=-gradient * np.float32(32)) == ["the sum, the sign turned"]


def test_convention_is_described_in_words():
    wrong = (losses(X) * WEIGHTS[Y]).mean()
    text = explained(wrong, logits=X, labels=Y, class_weights=WEIGHTS)[0]
    assert "it divides the sum by the number of losses that are not ignored" in text
    assert "documented by keras" in text
    assert "mean_divides_by" not in text


def test_nan_of_input_is_named_with_its_position():
    x = X.copy()
    x[5, 2] = np.nan
    wrong = losses(X)
    named = {"logits": x, "labels": Y, "reduction": "none"}
    place = "logits: nan at [5, 2] of shape [32, 10], so that the exact answer is nan"
    assert explained(wrong, **named) == [place]
    first = {"logits": x.T, "labels": Y, "reduction": "none", "class_axis": 0}
    assert explained(wrong, **first)[0].startswith("logits: nan at [2, 5] of shape [10, 32]")
    wrong[5], wrong[9] = np.nan, 0.5
    assert "nan at" not in " ".join(explained(wrong, **named))
    logs = log_softmax(X)
    logs[0, Y[0] - 1] = np.nan
    with pytest.raises(ValueError, match=r"log_probabilities: nan at \[0, \d\]"):
        exact_cross_entropy(log_probabilities=logs, labels=Y)
    weights = {"class_weights": np.where(np.arange(10) == 3, np.nan, WEIGHTS)}
    with pytest.raises(ValueError, match=r"class_weights: nan at \[3\] of shape \[10\]"):
        exact_cross_entropy(logits=X, labels=Y, **weights)


def test_positions_refer_to_passed_arrays():
    x, targets = X.T.copy(), SOFT_WITH_NAN.T
    with pytest.raises(ValueError, match=r"labels: nan at \[2, 1\] of shape \[10, 32\]"):
        exact_cross_entropy(logits=x, labels=targets, class_axis=0)
    logs = log_softmax(X).T
    logs[4, 7] = 0.5
    with pytest.raises(ValueError, match=r"log_probabilities: 0.5 at \[4, 7\] of shape \[10, 32\]"):
        exact_cross_entropy(log_probabilities=logs, labels=Y, class_axis=0)
    with pytest.raises(ValueError, match=r"labels: 10 at .*classes from 0 to 9"):
        exact_cross_entropy(logits=x, labels=Y + 1, class_axis=0)


def test_requested_dtype_is_named_as_expected():
    text = message(losses(X).mean(), logits=X, labels=Y, dtype="float64")
    assert text.endswith("returned float32, where float64 is expected, as dtype='float64' says")


def test_mistake_in_a_gradient_is_named():
    gradient = (softmax(X) - np.eye(10, dtype=np.float32)[Y]) / np.float32(32)
    loss = losses(X).mean()
    named = {"logits": X, "labels": Y, "cancellation": True}
    assert_cross_entropy(loss, **named, gradient=gradient)
    assert explained(loss, **named, gradient=gradient * 32) == ["the sum"]
    other = (softmax(X) - np.eye(10, dtype=np.float32)[(Y + 1) % 10]) / np.float32(32)
    assert "labels shifted up by one" in explained(loss, **named, gradient=other)[0]


def test_documented_convention_is_reported_with_its_functions():
    mean = (losses(X) * WEIGHTS[Y]).sum() / WEIGHTS[Y].sum()
    options = {"logits": X, "labels": Y, "class_weights": WEIGHTS, "label_smoothing": 0.1}
    theirs = exact_cross_entropy(**options, like="torch.CrossEntropyLoss").astype(np.float32)
    assert_cross_entropy(theirs, **options, like="torch.CrossEntropyLoss")
    assert "torch.CrossEntropyLoss" in explained(theirs, **options)[0]
    ours = exact_cross_entropy(**options).astype(np.float32)
    assert "the definition" in explained(ours, **options, like="torch.CrossEntropyLoss")[0]
    assert "label smoothing left out" in explained(mean, **options, like="torch.CrossEntropyLoss")[0]


def test_overflow_and_underflow_are_named():
    with np.errstate(all="ignore"):
        overflown = naive(X * 100, Y).mean()
        underflown = -np.log(softmax(X * 100)[ROWS, Y]).mean()
    assert np.isnan(overflown)
    assert explained(overflown, logits=X * 100, labels=Y)[0].startswith("exp overflows")
    assert np.isinf(underflown)
    assert any("underflows to 0" in text for text in explained(underflown, logits=X * 100, labels=Y))


def test_cancelling_common_offset_is_named():
    x = X + np.float32(1e4)
    top = x.max(axis=1)
    shifted_back = (np.log(np.exp(x - top[:, np.newaxis]).sum(axis=1)) + top) - x[ROWS, Y]
    assert_cross_entropy(losses(x), logits=x, labels=Y, reduction="none")
    assert "terms as large as the logits" in explained(shifted_back, logits=x, labels=Y, reduction="none")[0]
    assert_cross_entropy(shifted_back, logits=x, labels=Y, reduction="none", cancellation=True)


def test_message_has_every_part():
    wrong = losses(X)
    wrong[7] += 1
    wrong[9] += 2
    text = message(wrong, logits=X, labels=Y, reduction="none")
    first = "the loss is wrong: categorical, logits [32, 10] float32, labels [32] int64, none"
    assert text.splitlines()[0] == first
    found = lines(text)
    assert float(found["got"]) == pytest.approx(float(wrong[9]), rel=1e-5)
    assert float(found["exact"]) == pytest.approx(float(wrong[9]) - 2, rel=1e-5)
    assert found["where"] == "[9], the worst; 2 of 32 elements are wrong"
    assert "x the tolerance" in found["how far"]
    assert "ulp of float32" in found["how far"]
    allowed = tolerance(wrong, logits=X, labels=Y, reduction="none")[9]
    assert float(found["allowed"].split()[0]) == pytest.approx(allowed, rel=1e-3)
    assert found["explained"] == ["by no known convention or mistake that was tried"]


def test_unexplained_large_problem_reports_skipped_search(monkeypatch):
    monkeypatch.setattr("conformance.testing.causes.MAX_PREDICTIONS", 100)
    assert explained(losses(X).sum(), logits=X, labels=Y) == [
        "only mistakes in blocks were tried beyond 100 predictions; take fewer samples"
    ]
    z = np.random.default_rng(2).normal(size=(4, 2049)).astype(np.float32)
    y = np.array([2048, 1, 2047, 3])
    assert explained(losses(z, y % 2048).sum(), logits=z, labels=y, reduction="sum") == [
        "labels are taken modulo 2,048"
    ]
    assert explained(np.zeros(32, np.float32), logits=X, labels=Y, reduction="none")[0] == "all zeros"


def test_mistake_in_a_large_problem_is_named():
    asked = question("float32")
    x, y = asked.problem.predictions, asked.problem.labels
    assert explained(losses(x, y).sum(), logits=x, labels=y) == ["the sum"]


# Tolerances.


def test_tolerance_follows_computation_dtype():
    named = {"logits": X, "labels": Y, "reduction": "none"}
    own, narrow = tolerance(**named), tolerance(np.zeros(32, np.float16), **named)
    assert own.shape == narrow.shape == (32,)
    assert np.all((narrow > 1000 * own) & (own > 0))
    assert np.array_equal(narrow, tolerance(**named, dtype="float16"))
    assert np.array_equal(tolerance(**named, dtype="float64"), tolerance(losses(X.astype(np.float64)), **named))
    assert tolerance(logits=X, labels=Y).shape == ()
    assert tolerance(logits=X, labels=Y, gradient=True).shape == X.shape
    assert np.all(tolerance(**named, cancellation=True) > own)


# Arrays.


def test_arrays_of_torch_are_read():
    torch = pytest.importorskip("torch")
    for dtype in ("float64", "float32", "float16", "bfloat16"):
        x = torch.tensor(X, dtype=getattr(torch, dtype), requires_grad=True)
        loss = torch.nn.functional.cross_entropy(x, torch.tensor(Y), label_smoothing=0.1)
        loss.backward()
        named = {"logits": x, "labels": torch.tensor(Y), "label_smoothing": 0.1, "like": "torch.CrossEntropyLoss"}
        assert_cross_entropy(loss, **named, gradient=x.grad, cancellation=True)
        assert read_argument("logits", x).dtype == dtype
        assert np.array_equal(read_argument("logits", x).values.astype(np.float32), x.detach().float().numpy())
    tensors = [torch.tensor(1.5), torch.tensor(2.5)]
    assert read_argument("actual", tensors).values.tolist() == [1.5, 2.5]
    sparse = torch.eye(3).to_sparse()
    assert read_argument("labels", sparse).values.tolist() == np.eye(3).tolist()


def test_arrays_of_jax_are_read():
    jnp = pytest.importorskip("jax").numpy
    for dtype in ("float32", "float16", "bfloat16"):
        found = read_argument("logits", jnp.asarray(X).astype(dtype))
        assert found.dtype == dtype
        assert np.array_equal(found.values, X.astype(numpy_dtype(dtype)))


def test_arrays_of_tensorflow_are_read():
    tf = pytest.importorskip("tensorflow")
    for dtype in ("float64", "float32", "float16", "bfloat16"):
        for value in (tf.cast(X, dtype), tf.Variable(tf.cast(X, dtype)), tf.cast(X, dtype)[0, 0]):
            assert read_argument("logits", value).dtype == dtype
            assert read_argument("logits", value).values.shape == tuple(value.shape)


def test_arrays_of_other_libraries_are_read():
    pandas = pytest.importorskip("pandas")
    assert read_argument("labels", pandas.Series(Y)).values.tolist() == Y.tolist()
    assert read_argument("logits", pandas.DataFrame(X)).values.tolist() == X.tolist()
    swapped = X.astype(X.dtype.newbyteorder())
    assert np.array_equal(read_argument("logits", swapped).values, X)
    assert read_argument("logits", swapped).values.dtype.isnative

    class Exporter:
        """What has nothing but the protocol for exchange."""

        __dlpack__ = X.__dlpack__
        __dlpack_device__ = X.__dlpack_device__

    assert np.array_equal(read_argument("logits", Exporter()).values, X)


# Random problems.


def test_drawn_problems_match_the_request():
    hypothesis = pytest.importorskip("hypothesis")
    seen = []

    @hypothesis.settings(max_examples=60, deadline=None, database=None, derandomize=True)
    @hypothesis.given(
        cross_entropy_problems(predictions="logits", loss="categorical", options=["class_weights"], dtypes=["float32"])
    )
    def draw(problem):
        seen.append(problem)
        exact = exact_cross_entropy(**problem)
        assert np.all(np.isfinite(exact))
        assert_cross_entropy(exact.astype(np.float32), **problem)

    draw()
    assert {problem["loss"] for problem in seen} == {"categorical"}
    assert {problem["logits"].dtype.name for problem in seen} == {"float32"}
    assert {problem["reduction"] for problem in seen} == {"none", "sum", "mean"}
    names = {name for problem in seen for name in problem}
    assert names == {"loss", "logits", "labels", "reduction", "class_weights"}


def test_unusual_problems_are_drawn_if_requested():
    hypothesis = pytest.importorskip("hypothesis")
    seen = []

    @hypothesis.settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @hypothesis.given(cross_entropy_problems(unusual=True, options=["sample_weights", "ignore_index"]))
    def draw(problem):
        seen.append(exact_cross_entropy(**problem))

    draw()
    assert not all(np.isfinite(exact).all() for exact in seen)


def test_drawn_failure_is_shrunk():
    hypothesis = pytest.importorskip("hypothesis")

    @hypothesis.settings(max_examples=200, deadline=None, database=None, derandomize=True)
    @hypothesis.given(
        cross_entropy_problems(loss="categorical", predictions="logits", target="index", reductions=["sum"])
    )
    def sums_to_nothing(problem):
        found.append(problem)
        assert exact_cross_entropy(**problem) == 0

    found = []
    with pytest.raises(AssertionError, match="== 0"):
        sums_to_nothing()
    assert found[-1]["logits"].size == 2


NO_FAMILY = {"loss": "binary", "predictions": "logits", "target": "index"}


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("loss: 'cat'; expected one of categorical, binary", {"loss": "cat"}),
        ("options: 'weights'; expected one of", {"options": ["weights"]}),
        ("no problem has loss='binary', predictions='logits', target='index'", NO_FAMILY),
    ],
)
def test_impossible_request_for_problems_is_rejected(text, options):
    with pytest.raises(ValueError, match=text):
        cross_entropy_problems(**options)


# What is rejected.

PROBABILITIES = {"logits": None, "probabilities": softmax(X)}
LOGS = {"logits": None, "log_probabilities": log_softmax(X)}
ABOVE = log_softmax(X)
ABOVE[2, 3] = 0.5
SOFT_WITH_NAN = SOFT.copy()
SOFT_WITH_NAN[1, 2] = np.nan
NO_NUMBERS = ["much", "0.1", True, np.True_, [0.1], np.array([0.1]), 0.1j]
BAD = [
    (TypeError, "logits and probabilities: expected one of", {"probabilities": softmax(X)}),
    (TypeError, "no predictions: expected one of", {"logits": None}),
    (TypeError, "labels: expected the labels", {"labels": None}),
    (TypeError, "weights: there is no such argument; expected logits, ", {"weights": [1, 2]}),
    (ValueError, r"labels: \[31\] int64 beside predictions \[32, 10\] float32", {"labels": Y[1:]}),
    (ValueError, r"labels: \[32\] int64 beside binary logits .*; expected \[32, 10\]", {"loss": "binary"}),
    (ValueError, r"labels: \[32, 1\] int64 .*; reshape them to \[32\]", {"labels": Y[:, None], "loss": "categorical"}),
    (ValueError, "expected labels of shape .32, 1. for a binary loss", {"logits": X[:, :1], "labels": Y * 0}),
    (ValueError, r"labels: 10 at \[\d+\] of shape \[32\]; expected classes from 0 to 9", {"labels": Y + 1}),
    (ValueError, "labels: .* with nan at", {"labels": np.full(32, np.nan)}),
    (ValueError, r"labels: 2 at \[0, 0\].*targets from 0 to 1", {"labels": BINARY * 0 + 2, "loss": "binary"}),
    (TypeError, "labels: a list of strings", {"labels": ["cat"] * 32}),
    (ValueError, r"class_weights: \[9\] .*; expected one for each of 10 classes", {"class_weights": WEIGHTS[1:]}),
    (ValueError, r"sample_weights: \[10\] .*; expected the shape \[32\]", {"sample_weights": WEIGHTS}),
    (ValueError, "class_weights: it is for categor", {"class_weights": WEIGHTS, "loss": "binary", "labels": BINARY}),
    (ValueError, "label_smoothing: nan; expected a number from 0 to 1", {"label_smoothing": float("nan")}),
    *((TypeError, "label_smoothing: .*; expected a number", {"label_smoothing": value}) for value in NO_NUMBERS),
    (TypeError, r"labels: \[32\] of booleans; expected class indices", {"labels": Y > 4}),
    (ValueError, r"labels: nan at \[1, 2\] of shape \[32, 10\]", {"labels": SOFT_WITH_NAN}),
    (ValueError, r"expected \[32, 10\]; positive_weight= makes the loss binary", {"positive_weight": 2.0}),
    (ValueError, "like='torch.BCEWithLogitsLoss' makes the loss binary", {"like": "torch.BCEWithLogitsLoss"}),
    (ValueError, "ignore_index= makes the loss categorical", {"labels": Y[1:], "ignore_index": 0}),
    (ValueError, "class_weights: a number beside predictions", {"class_weights": 2.0}),
    (ValueError, "sample_weights: a number beside predictions", {"sample_weights": 2}),
    (ValueError, r"log_probabilities: 0.5 at \[2, 3\] .*up to 0; ", {**LOGS, "log_probabilities": ABOVE}),
    (ValueError, "class_axis: True in predictions", {"class_axis": True}),
    (TypeError, "ignore_index: .*True", {"ignore_index": np.True_}),
    (TypeError, "ignore_index: 1.5; expected an integer", {"ignore_index": 1.5}),
    (ValueError, "ignore_index: it is for class indices", {"ignore_index": 1, "labels": SOFT}),
    (ValueError, "reduction: 'avg'; expected one of none, sum, mean", {"reduction": "avg"}),
    (ValueError, "loss: 'cat'; expected one of", {"loss": "cat"}),
    (ValueError, "dtype: 'float8'; expected one of", {"dtype": "float8"}),
    (ValueError, "class_axis: 2 in predictions", {"class_axis": 2}),
    (ValueError, 'did you mean "torch.CrossEntropyLoss"', {"like": "torch.CrosEntropyLoss"}),
    (ValueError, 'did you mean "torch.CrossEntropyLoss"', {"like": "CrossEntropyLoss"}),
    (TypeError, "like: a int", {"like": 3}),
    (ValueError, "torch.CrossEntropyLoss takes logits", {**PROBABILITIES, "like": "torch.CrossEntropyLoss"}),
    (ValueError, "torch.BCELoss takes probabilities", {"labels": BINARY, "like": "torch.BCELoss"}),
    (ValueError, "torch.NLLLoss takes no distribution targets", {**LOGS, "labels": SOFT, "like": "torch.NLLLoss"}),
    (TypeError, "logits: a list cannot be read", {"logits": [[1.0, 2.0], [3.0]]}),
    (TypeError, r"logits: \[32, 10\] int64; expected floats", {"logits": X.astype(int)}),
    (TypeError, "logits: a numpy.ndarray of complex64", {"logits": X.astype(np.complex64)}),
    (TypeError, "logits: a dict of object", {"logits": {}}),
    (ValueError, "logits: a number", {"logits": 3.0, "labels": 0, "loss": "categorical"}),
    (ValueError, "logits: 320 elements are masked", {"logits": np.ma.masked_array(X, mask=True)}),
    (ValueError, r"probabilities: .*; expected probabilities from 0 to 1", {"logits": None, "probabilities": X}),
    (ValueError, "there is no exact answer: the mean divides by zero", {"labels": Y * 0, "ignore_index": 0}),
    (ValueError, "there is no exact answer: a logit is .inf", {"logits": X * np.inf}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "options"), BAD)
def test_bad_input_is_one_clear_error(kind, text, options):
    with pytest.raises(kind, match=text):
        exact_cross_entropy(**{"logits": X, "labels": Y, **options})
    with pytest.raises(kind, match=text):
        assert_cross_entropy(np.float32(1), **{"logits": X, "labels": Y, **options})


@pytest.mark.parametrize("value", ["no", 1, None, np.ones(2)])
def test_non_boolean_flag_is_rejected(value):
    loss = losses(X).mean()
    with pytest.raises(TypeError, match=r"cancellation: .*; expected True or False"):
        assert_cross_entropy(loss, logits=X, labels=Y, cancellation=value)
    with pytest.raises(TypeError, match=r"cancellation: .*; expected True or False"):
        tolerance(loss, logits=X, labels=Y, cancellation=value)
    for name in ("gradient", "with_radius"):
        with pytest.raises(TypeError, match=f"{name}: .*; expected True or False"):
            exact_cross_entropy(logits=X, labels=Y, **{name: value})


def test_scalars_of_numpy_are_options():
    named = {"logits": X, "labels": Y}
    for value in (np.float64(0.1), np.array(0.1)):
        assert exact_cross_entropy(**named, label_smoothing=value) == exact_cross_entropy(**named, label_smoothing=0.1)
    assert exact_cross_entropy(**named, class_axis=np.int64(1)) == exact_cross_entropy(**named, class_axis=1)
    one_row = {"logits": X[0], "labels": BINARY[0] == 1}  # booleans are 0 and 1 of a binary loss
    assert exact_cross_entropy(**one_row) == exact_cross_entropy(logits=X[0], labels=BINARY[0])


@pytest.mark.parametrize("actual", [None, "2.5", {}, np.array([None])])
def test_non_numeric_result_is_rejected(actual):
    with pytest.raises(TypeError, match="actual: "):
        assert_cross_entropy(actual, logits=X, labels=Y)


# Cost.


def test_import_needs_neither_frameworks_nor_pandas():
    program = "import sys, conformance.testing; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {
        "torch",
        "tensorflow",
        "keras",
        "jax",
        "sklearn",
        "pandas",
        "pytest",
        "yaml",
        "rich",
        "pyarrow",
        "hypothesis",
    }
    assert heavy & set(loaded) == set()
    assert "conformance" in loaded


def test_small_assertion_takes_milliseconds():
    loss = losses(X).mean()
    assert_cross_entropy(loss, logits=X, labels=Y)
    times = []
    for _ in range(20):
        start = time.process_time()
        assert_cross_entropy(loss, logits=X, labels=Y)
        times.append(time.process_time() - start)
    assert min(times) < 0.005


def _my_loss(logits, labels, ignore_index=-100, reduction="mean"):
    z = logits.astype(np.float64)
    with np.errstate(all="ignore"):
        top = z.max(-1, keepdims=True)
        z = z - np.where(np.isfinite(top), top, 0)
        log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
        valid = labels != ignore_index
        picked = np.take_along_axis(log_p, np.where(valid, labels, 0)[:, np.newaxis], -1)[:, 0]
        losses = np.where(valid, -picked, 0)
        total = losses.sum() / valid.sum() if reduction == "mean" else losses.sum()
    return np.asarray(losses if reduction == "none" else total).astype(logits.dtype)


def _of_one_block(logits, labels, ignore_index=-100, reduction="mean"):
    late = np.where(np.arange(logits.shape[1]) < 4096, logits, -np.inf).astype(logits.dtype)
    return _my_loss(late, labels, ignore_index, reduction)


CHECKED = {
    "like": "torch.CrossEntropyLoss",
    "arrays": "numpy",
    "targets": ["index"],
    "ranks": [2],
    "dtypes": ["float32"],
}


@pytest.mark.parametrize("kind", ["losses", "relations", "drawn_problems", "vocabularies"])
def test_checks_pass_right_callable(kind):
    checks(_my_loss, **CHECKED)(kind)


def test_checks_skip_inexpressible_kinds():
    with pytest.raises(pytest.skip.Exception, match="gradients: there is nothing"):
        checks(_my_loss, **CHECKED)("gradients")


@pytest.mark.parametrize("kind", ["losses", "relations", "drawn_problems"])
def test_checks_name_the_fault(kind):
    wrong = checks(lambda logits, labels: _my_loss(logits + (logits > 1), labels).astype(logits.dtype), **CHECKED)
    with pytest.raises(pytest.fail.Exception) as failed:
        wrong(kind)
    said = str(failed.value)
    assert "are wrong; the first of each cause:" in said
    assert re.search(r"it is in no module; callables.function\w* stands for it in the calls to paste", said)
    assert all(word in said for word in ("got ", "want ", "how far", "x the tolerance", "import numpy as np"))


def test_checks_find_dropped_classes_in_vocabularies_only():
    test = checks(_of_one_block, **CHECKED)
    test("losses")
    with pytest.raises(pytest.fail.Exception, match="vocabularies are wrong"):
        test("vocabularies")


def test_checks_have_a_test_per_kind():
    test = checks(_my_loss, **CHECKED, kinds=["losses", "vocabularies"])
    (mark,) = test.pytestmark
    assert mark.args == ("kind", ("losses", "vocabularies"))
    with pytest.raises(ValueError, match="unknown kind 'loss'; expected one of losses, gradients"):
        checks(_my_loss, **CHECKED, kinds=["loss"])
    with pytest.raises(UserError, match="cannot be called"):
        checks(1, **CHECKED)
    with pytest.raises(UserError, match="no parameter for labels"):
        checks(lambda logits: logits, **CHECKED)


TOKENS = np.random.default_rng(5).normal(size=(2, 5, 7)) * 3
NEXT = np.random.default_rng(6).integers(0, 7, (2, 5))


def test_like_narrows_inputs_and_expected_dtype():
    like = "transformers.ForMaskedLMLoss"
    narrow = TOKENS.astype(np.float32)
    exact = exact_cross_entropy(logits=narrow, labels=NEXT)
    assert exact_cross_entropy(logits=TOKENS, labels=NEXT, like=like) == exact
    assert tolerance(logits=TOKENS, labels=NEXT, like=like) == tolerance(logits=narrow, labels=NEXT)
    gradient = exact_cross_entropy(logits=TOKENS, labels=NEXT, like=like, gradient=True)
    for loss in (np.float32(exact), np.float64(np.float32(exact))):
        assert_cross_entropy(loss, gradient=gradient, logits=TOKENS, labels=NEXT, like=like, cancellation=True)
    with pytest.raises(AssertionError, match="how far"):
        assert_cross_entropy(np.float32(exact) * np.float32(1.001), logits=TOKENS, labels=NEXT, like=like)
    with pytest.raises(AssertionError, match="returned float16, where float32 is expected"):
        assert_cross_entropy(np.float16(exact), logits=TOKENS, labels=NEXT, like=like)


def test_like_shifts_labels():
    like, narrow = "transformers.ForCausalLMLoss", TOKENS.astype(np.float32)
    exact = exact_cross_entropy(logits=narrow[:, :-1], labels=NEXT[:, 1:])
    assert exact_cross_entropy(logits=TOKENS, labels=NEXT, like=like) == exact
    gradient = exact_cross_entropy(logits=TOKENS, labels=NEXT, like=like, gradient=True)
    assert not gradient[:, -1].any()
    assert np.array_equal(
        gradient[:, :-1], exact_cross_entropy(logits=narrow[:, :-1], labels=NEXT[:, 1:], gradient=True)
    )


def test_like_rejects_function_of_the_loss():
    with pytest.raises(
        ValueError, match="perplexity returns a perplexity, which follows from a loss; name the function"
    ):
        exact_cross_entropy(logits=X, labels=Y, like="torch.CrossEntropyLoss:perplexity")
    with pytest.raises(ValueError, match="d2_log_loss_score returns a d2"):
        assert_cross_entropy(0.5, probabilities=[[0.5, 0.5]], labels=[0], like="sklearn.d2_log_loss_score")

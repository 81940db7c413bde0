"""Published numbers: in which dtype they hold, and what would explain those that do not."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest

from conformance.adapters import registry
from conformance.judging.mistakes import _epsilons, _focal, _scaled_logits, _wrong_axes
from conformance.judging.printed import DigitInterval
from conformance.judging.published import published
from conformance.model.case import QUANTITIES, Case, Layout, Options, Published
from conformance.model.convention import DEFINITION

X = np.array([[1.0, 2.0, 0.5], [0.2, 0.1, 0.4], [-1.0, 0.3, 2.5]])
Y = np.array([1, 2, 0])


def asked(value, predictions=X, labels=Y, *, reduction="mean", quantity="loss", input_kind="logits", **fields):
    loss = fields.pop("loss", "categorical")
    target = fields.pop("target", "index" if loss == "categorical" else "binary")
    case = Case(
        id="a/b", why="", about="", source="", loss=loss, input_kind=input_kind, target=target,
        predictions=np.asarray(predictions, dtype=float), labels=np.asarray(labels), reductions=(reduction,),
        published=(Published(value, "s", "", reduction, quantity),), **fields,
    )  # fmt: skip
    (verdict,) = published(case)
    return verdict


def texts(verdict):
    """The explanations of a number, without the sentence about all of them."""
    return verdict.explanations.lines()[1:]


def log_softmax(x):
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def softmax(x):
    return np.exp(log_softmax(x))


LOSSES = -log_softmax(X)[np.arange(3), Y]


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("0.25", 0.245, 0.26),
        ("-0.25", -0.26, -0.245),
        ("2", 1.5, 3.0),
        ("0", -1.0, 1.0),
        ("0.0", -0.1, 0.1),
        ("1.5e-3", 1.45e-3, 1.6e-3),
        ("1e400", math.inf, math.inf),
        ("1e-400", 0.0, 0.0),
        ("-inf", -math.inf, -math.inf),
    ],
)
def test_printed_number_includes_rounded_and_truncated_numbers(text, low, high):
    assert DigitInterval.parse(text) == (pytest.approx(low, rel=1e-15), pytest.approx(high, rel=1e-15))


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ("0.6931471805599453", "float64"),
        ("0.693147", "float64"),
        ("0.69314", "float64"),  # cut
        ("0.69315", "float64"),  # rounded
        ("0.69316", ""),
        ("0.6931471824645996", "float32"),
        ("0.69314718246459961", "float32"),
        ("0.69314719", ""),
        ("0.6931472", "float64"),
        ("0.69314724", "float32"),  # one unit in the last place away
        ("0.6931492", ""),
        ("0.69140625", "bfloat16"),
        ("0.6914", "bfloat16"),
        ("0.6920", ""),  # no number of bfloat16 with these digits is near enough
    ],
)
def test_number_holds_in_dtype_that_prints_it(value, dtype):
    dtypes = ("float64", "float32", *(["bfloat16"] if value.startswith(("0.691", "0.692")) else []))
    assert asked(value, [[0.0, 0.0]], [0], dtypes=dtypes).dtype == dtype


@pytest.mark.parametrize(
    ("value", "dtypes", "explained"),
    [
        ("0.6931471805599453", ("float32",), ["computed in float64"]),
        ("0.6931471824645996", ("float64",), ["computed in float32"]),
        ("0.69314724", ("float64",), ["computed in float32"]),  # a unit in the last place away
        ("0.693359375", ("float32", "float64"), ["computed in float16"]),
        ("0.6914", ("float32",), ["computed in float16", "computed in bfloat16"]),
        ("0.69314719", ("float32",), []),  # what a rounding error alone excuses, nothing explains
        ("0.693147184", ("float32",), []),
        ("0.69314719", ("float64",), []),
        ("0.6933", ("float64", "float32", "bfloat16", "float16"), None),
    ],
)
@pytest.mark.parametrize("logits", [[0.0, 0.0], [0.0, 1e-9]])
def test_number_right_in_other_dtype_is_explained_by_it(value, dtypes, explained, logits):
    found = asked(value, [logits], [0], dtypes=dtypes)
    if explained is None:
        assert found.dtype == "float16"
    elif logits[1] and value == "0.6931471805599453":
        assert not found.holds
    else:
        assert not found.holds
        assert texts(found) == explained


@pytest.mark.parametrize(("dtype", "value"), [("float16", "5.03515625"), ("bfloat16", "5.03125")])
def test_rounded_result_is_explained(dtype, value):
    assert texts(asked(value, dtypes=("float32",))) == [f"the sum, the result rounded to {dtype}"]


def test_sum_divided_by_the_sum_of_the_class_weights_is_explained():
    weights = Options(class_weights=np.array([1.0, 2.0, 3.5]))
    total = float(asked("9", X, [1, 1, 0], options=weights, reduction="sum").exact)
    found = asked(f"{total / 6.5:.9g}", X, [1, 1, 0], options=weights)
    assert texts(found) == ["the sum divided by the sum of the class weights, 6.5"]
    assert found.explanations.lines()[0].startswith("1 explanation fits; ")


def test_explanations_of_one_value_are_counted_beside_it():
    found = asked("3.7482303", X[:2], Y[:2], options=Options(class_weights=np.array([1.0, 2.0, 3.0])))
    two = dataclasses.replace(found.explanations, fitting=(found.explanations.fitting[0] * 2,), by_chance=1e-4)
    assert two.lines()[0] == f"2 explanations fit, which give 1 value; {two.tried} values tried, of which about " + (
        "0.0001 fit so many digits by chance"
    )


def test_infinite_and_undefined_answers():
    assert asked("inf", [[0.0, -math.inf]], [1]).dtype == "float64"
    assert not asked("1e308", [[0.0, -math.inf]], [1]).holds
    nothing = asked("0.5", X, [-100, -100, -100], options=Options(ignore_index=-100))
    assert not nothing.holds
    assert nothing.exact.startswith("undefined")


def test_lists_and_gradients_can_be_published():
    losses = [f"{value:.5f}" for value in LOSSES]
    assert asked(losses, reduction="none").dtype == "float64"
    assert not asked([losses[1], losses[0], losses[2]], reduction="none").holds
    slope = (np.exp(log_softmax(X)) - np.eye(3)[Y]) / 3
    gradient = [[f"{value:.6g}" for value in row] for row in slope]
    assert asked(gradient, quantity="gradient").dtype == "float64"
    found = asked([[f"{value * 3:.6g}" for value in row] for row in slope], quantity="gradient")
    assert texts(found) == ["the sum"]


def test_another_reduction_or_divisor_explains_a_number():
    weights = Options(class_weights=np.array([1.0, 2.0, 3.0]))
    found = asked("1.87412", X[:2], Y[:2], options=weights)
    assert found.exact.startswith("0.7496461")
    assert "the sum divided by the number of samples, 2" in texts(found)[0]
    assert asked("3.74823", X[:2], Y[:2], options=weights).explanations.lines()[1:] == ["the sum"]


MISTAKES = {
    "softmax applied twice": np.mean(-log_softmax(softmax(X))[np.arange(3), Y]),
    "logits taken as log-probabilities": np.mean(-X[np.arange(3), Y]),
    "the logarithm to the base 2": LOSSES.mean() / math.log(2),
    "the logarithm to the base 10": LOSSES.mean() / math.log(10),
    "the sign turned": -LOSSES.mean(),
    "its exponential, a perplexity": math.exp(LOSSES.mean()),
    "labels shifted up by one": np.mean(-log_softmax(X)[np.arange(3), (Y + 1) % 3]),
    "labels shifted down by one": np.mean(-log_softmax(X)[np.arange(3), (Y - 1) % 3]),
    "classes in reverse order": np.mean(-log_softmax(X)[np.arange(3), 2 - Y]),
    "classes taken from the first axis": np.mean(-log_softmax(X.T)[np.arange(3), Y]),
    "the sum divided by the number of predictions, 9": LOSSES.sum() / 9,
    "the sum divided by the number of samples less one, 2": LOSSES.sum() / 2,
    "1e-05 added to each probability before its logarithm": np.mean(-np.log(softmax(X)[np.arange(3), Y] + 1e-5)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_explains_its_number(mistake):
    found = asked(f"{MISTAKES[mistake]:.8f}")
    assert not found.holds
    assert texts(found)[0] == mistake
    assert found.explanations.by_chance < 1e-3


N, CLASSES = 50, 4
DRAWN = np.random.default_rng(11)
LONG, LABELS = DRAWN.normal(size=(N, CLASSES)) * 2, DRAWN.integers(0, CLASSES, N)
LONG_LOSSES = -log_softmax(LONG)[np.arange(N), LABELS]
WEIGHTS = np.array([0.5, 1.0, 2.0, 3.0])
BATCH_SUMS, BATCH_WEIGHTS = (
    np.add.reduceat(values, np.arange(0, N, 16)) for values in (WEIGHTS[LABELS] * LONG_LOSSES, WEIGHTS[LABELS])
)
TWICE = WEIGHTS[LABELS] ** 2
KEPT = LABELS != 0
SIGMOIDS = 1 / (1 + np.exp(-LONG))


@pytest.mark.parametrize(
    ("value", "words", "options"),
    [
        (LONG_LOSSES[:48].mean(), "batches of 24 without the last, shorter one", None),
        (LONG_LOSSES[48:].mean(), "the last batch of 16 alone, which is shorter", None),
        (sum(LONG_LOSSES[i : i + 5].mean() for i in range(0, N, 5)) / N, "batches of 5, divided by the number", None),
        ((BATCH_SUMS / BATCH_WEIGHTS).mean(), "the mean of the means of batches of 16", {"class_weights": WEIGHTS}),
        (np.mean([LONG_LOSSES[c == LABELS].mean() for c in range(CLASSES)]), "the mean of the means of classes", None),
        (LONG_LOSSES.mean(), "ignore index left out", {"ignore_index": 0}),
        (
            np.mean([LONG_LOSSES[i : i + 25][KEPT[i : i + 25]].mean() for i in (0, 25)]),
            "the mean of the means of batches of 25",
            {"ignore_index": 0},
        ),
        ((TWICE * LONG_LOSSES).sum() / TWICE.sum(), "class weights applied twice", {"class_weights": WEIGHTS}),
        (
            (LONG_LOSSES / WEIGHTS[LABELS]).sum() / (1 / WEIGHTS[LABELS]).sum(),
            "the inverse of the class weights",
            {"class_weights": WEIGHTS},
        ),
        (-softmax(LONG)[np.arange(N), LABELS].mean(), "the softmax taken as log-probabilities", None),
        (-np.log(SIGMOIDS)[np.arange(N), LABELS].mean(), "a sigmoid for the softmax", None),
        (-log_softmax(2 * LONG)[np.arange(N), LABELS].mean(), "logits doubled", None),
        (-log_softmax(LONG / 2)[np.arange(N), LABELS].mean(), "logits halved", None),
        (-log_softmax(LONG).max(axis=1).mean(), "the predicted classes for the labels", None),
        (
            -log_softmax(LONG)[np.arange(N), np.array([1, 3, 0, 2])[LABELS]].mean(),
            "classes in the order 2, 0, 3, 1",
            None,
        ),
        (-np.log(np.maximum(softmax(LONG), 0.01))[np.arange(N), LABELS].mean(), "probabilities clipped at 0.01", None),
    ],
)
def test_number_of_a_training_loop_or_an_encoder_is_explained(value, words, options):
    found = asked(f"{value:.7g}", LONG, LABELS, options=Options(**(options or {})))
    assert words in texts(found)[0]
    assert found.explanations.by_chance < 0.01


def test_ignored_labels_that_count_as_first_class_explain_a_number():
    labels = np.where(LABELS == 0, -100, LABELS)
    found = asked(f"{LONG_LOSSES.mean():.7g}", LONG, labels, options=Options(ignore_index=-100))
    assert "ignored labels counted as class 0" in texts(found)[0]


@pytest.mark.parametrize(
    ("value", "words", "labels", "options"),
    [
        (
            LOSSES.mean(),
            "ignored labels counted as class 2, counted from the last",
            [1, -1, 0],
            Options(ignore_index=-1),
        ),
        (LOSSES[[0, 2]].mean(), "labels outside the classes ignored", [1, 7, 0], Options()),
    ],
)
def test_treatment_of_negative_and_outside_labels_explains_a_number(value, words, labels, options):
    assert words in texts(asked(f"{value:.7g}", labels=labels, options=options))[0]


def test_softmax_of_rounded_probabilities_or_another_axis_explains_a_number():
    assert texts(asked("0.3567", [[2.0, 1.0, 0.1]], [0])) == ["the softmax rounded to a multiple of 0.1"]
    images = LONG[:12].reshape(2, 3, 2, 4)
    over_width = -log_softmax(np.moveaxis(images, 2, -1))[:, :, 0].mean()
    found = asked(f"{over_width:.7g}", images, np.zeros((2, 3, 2), dtype=int))
    assert "softmax over axis 2 of the samples" in texts(found)[0]


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_gradient_in_other_predictions_is_explained(kind):
    p, one_hot = softmax(X), np.eye(3)[Y]
    in_logits, in_probabilities = (p - one_hot) / 3, -one_hot / p / 3
    predictions, other = (X, in_probabilities) if kind == "logits" else (p, in_logits)
    printed = [[f"{value:.5f}" for value in row] for row in other]
    found = asked(printed, predictions, quantity="gradient", input_kind=kind)
    assert texts(found) == [f"the gradient in the {'probabilities' if kind == 'logits' else 'logits'}"]


def test_last_batch_explains_no_number_if_all_of_it_is_ignored():
    labels = np.where(np.arange(N) < 32, LABELS, -100)
    found = asked(f"{LONG_LOSSES[16:32].mean():.7g}", LONG, labels, options=Options(ignore_index=-100))
    assert not any("the last batch of 16 alone" in text for text in texts(found))


@pytest.mark.parametrize("generator", [_epsilons, _wrong_axes, _focal, _scaled_logits])
def test_mistakes_of_losses_are_not_tried_for_other_quantities(generator):
    problem = Case(
        id="a/b", why="", about="", source="", loss="categorical", input_kind="logits", target="index",
        predictions=X, labels=Y,
    ).problem("float64", "mean")  # fmt: skip
    assert any(generator(problem, DEFINITION, "loss"))
    assert not [quantity for quantity in QUANTITIES[1:] if any(generator(problem, DEFINITION, quantity))]


P, FLAG = 1 / (1 + np.exp(-LONG[:, 0])), (LABELS > 1).astype(float)
SHARES = softmax(DRAWN.normal(size=(N, CLASSES)))


@pytest.mark.parametrize(
    ("value", "words", "predictions", "labels", "fields"),
    [
        (-(FLAG * np.log(P)).mean(), "the logarithm of 1 - p left out", P, FLAG, {}),
        (-(FLAG * np.log(P + 1e-3) + (1 - FLAG) * np.log(1 - P + 1e-3)).mean(), "0.001 added to each", P, FLAG, {}),
        (
            -(FLAG * np.log(P) + 3 * (1 - FLAG) * np.log(1 - P)).mean(),
            "positive weight on the label 0",
            P,
            FLAG,
            {"options": Options(positive_weight=np.array(3.0))},
        ),
        (
            (SHARES * np.log(SHARES / softmax(LONG))).sum(axis=1).mean(),
            "entropy of the targets",
            softmax(LONG),
            SHARES,
            {},
        ),
        (
            (softmax(LONG) * np.log2(softmax(LONG) / SHARES)).sum(axis=1).mean(),
            "swapped, a Kullback-Leibler divergence, the logarithm to the base 2",
            softmax(LONG),
            SHARES,
            {},
        ),
        (
            -(softmax(LONG) * np.log(SHARES)).sum(axis=1).mean(),
            "labels and predictions swapped",
            softmax(LONG),
            SHARES,
            {},
        ),
        (
            -np.log(softmax(LONG))[np.arange(N), SHARES.argmax(axis=1)].mean(),
            "the largest target of each sample",
            softmax(LONG),
            SHARES,
            {},
        ),
    ],
)
def test_number_of_swapped_or_changed_targets_is_explained(value, words, predictions, labels, fields):
    kind = {"loss": "binary"} if labels.ndim == 1 else {"target": "distribution"}
    found = asked(f"{value:.7g}", predictions, labels, input_kind="probabilities", **kind, **fields)
    assert words in texts(found)[0]


def test_expected_number_of_chance_fits_is_correct():
    found = [
        asked(f"{value * LONG_LOSSES.mean():.3g}", LONG, LABELS).explanations for value in DRAWN.uniform(0.5, 2, 30)
    ]
    listed, said = (sum(counts) for counts in zip(*((len(one.fitting), one.by_chance) for one in found), strict=True))
    assert said / 3 < listed < 3 * said


def test_labels_in_another_order_explain_a_number():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(20, 3)), random.integers(0, 3, 20)
    for order, reason in (
        (np.roll(y, 1), "labels of the sample before"),
        (np.roll(y, -1), "labels of the next sample"),
        (y[::-1], "samples of the labels in reverse order"),
        (np.sort(y), "labels sorted"),
    ):
        number = np.mean(-log_softmax(x)[np.arange(20), order])
        assert texts(asked(f"{number:.8f}", x, y))[0] == reason


RNG = np.random.default_rng(3)
Z, L = RNG.normal(size=(4, 3)) * 2, np.array([0, 2, 1, 2])
ROWS = np.eye(3)[L]
SOFTMAX, SIGMOID = np.exp(log_softmax(Z)), 1 / (1 + np.exp(-Z))
BY_SAMPLES = (Z - np.log(np.exp(Z).sum(axis=0)))[np.arange(4), L]
OUTPUTS, FLAGS = RNG.normal(size=5) * 2, np.array([1.0, 0.0, 0.0, 1.0, 1.0])


def binary(p, y):
    return -(y * np.log(p) + (1 - y) * np.log1p(-p))


CROSSED = binary((1 / (1 + np.exp(-OUTPUTS)))[:, np.newaxis], FLAGS)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (-BY_SAMPLES.mean(), ["softmax over the first axis, that of the samples"]),
        (binary(SOFTMAX, ROWS).mean(), ["a binary loss of the softmax's outputs"]),
        (binary(SOFTMAX, ROWS).sum() / 4, ["a binary loss of the softmax's outputs", "entries of the first axis, 4"]),
        (binary(SIGMOID, ROWS).mean(), ["a binary loss of each class's logit, one against all"]),
        (-(ROWS * log_softmax(Z))[:, 1:].sum() / 4, ["the column of the first class, 0, dropped from the targets"]),
        (-(ROWS * log_softmax(Z))[:, :-1].sum() / 4, ["the column of the last class, 2, dropped from the targets"]),
        (-(ROWS[:, 1:] * log_softmax(Z[:, 1:])).sum() / 4, ["the first class, 0, dropped", "and from the softmax"]),
        (
            -log_softmax(SOFTMAX)[np.arange(4), (L + 1) % 3].mean(),
            ["labels shifted up by one", "softmax applied twice"],
        ),
    ],
)
@pytest.mark.parametrize("target", ["index", "distribution"])
def test_other_axis_loss_or_column_explains_a_number(value, words, target):
    if target == "distribution" and "labels shifted up by one" in words:
        return
    found = asked(f"{value:.9g}", Z, L if target == "index" else ROWS, target=target)
    (text,) = texts(found)
    assert all(one in text for one in words)
    assert found.explanations.by_chance < 0.01


@pytest.mark.parametrize("column", [False, True])
def test_column_broadcast_against_flat_labels_explains_a_number(column):
    shaped = (OUTPUTS[:, np.newaxis], FLAGS[:, np.newaxis]) if column else (OUTPUTS, FLAGS)
    (text,) = texts(asked(f"{CROSSED.mean():.9g}", *shaped, loss="binary"))
    assert "a column of predictions, (N, 1), broadcast against labels of shape (N,)" in text


def test_weights_of_classes_and_samples_weigh_binary_losses():
    options = Options(class_weights=np.array([1.0, 2.0, 0.5]), sample_weights=np.array([1.0, 0.25, 3.0, 2.0]))
    weighted = binary(SIGMOID, ROWS) * options.class_weights * options.sample_weights[:, np.newaxis]
    (text,) = texts(asked(f"{weighted.mean():.9g}", Z, L, options=options))
    assert "one against all" in text


def test_ignored_samples_have_no_binary_losses():
    labels = np.array([0, 2, -1, 2])
    kept = labels >= 0
    value = binary(SIGMOID[kept], np.eye(3)[labels[kept]]).mean()
    (text,) = texts(asked(f"{value:.9g}", Z, labels, options=Options(ignore_index=-1)))
    assert "one against all" in text


def test_pairs_of_mistakes_require_digits():
    value = -log_softmax(SOFTMAX)[np.arange(4), (L + 1) % 3].mean()
    tried = {digits: asked(f"{value:.{digits}g}", Z, L).explanations for digits in (2, 9)}
    assert not any(len(one) == 2 for group in tried[2].fitting for one in group if one[0].text.startswith("labels"))
    assert tried[9].tried > tried[2].tried
    assert tried[9].by_chance == pytest.approx(0, abs=1e-3)


def test_probabilities_taken_as_logits_and_weights_left_out_explain_numbers():
    p = softmax(X)
    assert texts(asked(f"{np.mean(-log_softmax(p)[np.arange(3), Y]):.7f}", p, input_kind="probabilities"))[0] == (
        "probabilities taken as logits"
    )
    options = Options(class_weights=np.array([1.0, 2.0, 3.0]), label_smoothing=0.1)
    left_out = dataclasses.replace(options, label_smoothing=None)
    without = asked("0", options=left_out).exact
    assert texts(asked(without[:9], options=options))[0] == "label smoothing left out"
    binary = {"loss": "binary", "predictions": X, "labels": [[0, 1, 1], [1, 0, 0], [0, 0, 1]]}
    turned = asked("0", **{**binary, "labels": 1 - np.array(binary["labels"])}).exact
    assert texts(asked(turned[:9], **binary))[0] == "labels turned, 0 for 1"


def test_losses_of_averaged_outputs_are_explained():  # as Keras prints them
    outputs = {"predictions": [[0.6, 0.4], [0.4, 0.6]], "labels": [[0, 1], [0, 0]], "loss": "binary"}
    found = asked(["0.916", "0.714"], **outputs, input_kind="probabilities", reduction="none")
    (line,) = texts(found)
    assert line.startswith("binary_outputs=mean_of_last_axis (documented by keras.BinaryCrossentropy,")


def test_documented_convention_is_named_with_its_functions():
    found = asked("0.243", [[1.0, 2.0], [0.5, -1.0]], [[1, 0], [0, 1]], loss="binary",
                  options=Options(sample_weights=np.array([[1.0, 0.5], [0.25, 0.25]])))  # fmt: skip
    exact = float(found.exact)
    found = asked(f"{exact * 2 / 4:.8f}", [[1.0, 2.0], [0.5, -1.0]], [[1, 0], [0, 1]], loss="binary",
                  options=Options(sample_weights=np.array([[1.0, 0.5], [0.25, 0.25]])))  # fmt: skip
    (line,) = texts(found)
    names = re.match(r"mean_divides_by=kept \(documented by ([^)]*)\)", line)[1].split(", ")
    documents = {
        f.name for f in registry.functions() if any(d.convention.mean_divides_by == "kept" for d in f.conventions)
    }
    assert {"torch.BCELoss", "torch.BCEWithLogitsLoss"} <= set(names) <= documents
    assert "; or, the same number, the sum divided by the number of samples, 4" in line


@pytest.mark.parametrize(
    ("value", "first", "choices"),
    [("1.1836", [0.25, 0.75], "class_columns=sorted"), ("19.06155", [1.0, 0.0], "clip=dtype; class_columns=sorted")],
)
def test_explaining_convention_has_no_choice_without_effect(value, first, choices):
    names = Layout(class_names=("z", "a"))
    found = asked(value, [first, [0.125, 0.875]], [0, 1], input_kind="probabilities", layout=names)
    assert texts(found)[0].startswith(f"{choices} (documented by sklearn.log_loss); or")


def test_few_digits_have_more_chance_fits_that_are_all_listed():
    short, long = asked("3"), asked(f"{MISTAKES['softmax applied twice']:.8f}")
    assert short.explanations.by_chance > 1 > long.explanations.by_chance
    assert len(texts(short)) > 1 == len(texts(long))


def test_predictions_beyond_a_narrow_dtype_make_no_noise(recwarn):
    assert not asked("77.7777", X * 1e6).holds
    assert not recwarn.list


def test_unexplained_number_reports_number_of_hypotheses():
    found = asked("77.7777")
    assert found.explanations.lines() == [f"no explanation fits; {found.explanations.tried} values tried"]
    assert found.explanations.tried > 50

"""`conformance compare` and `api.compare`: data of users put to functions, and numbers that they observed."""

from __future__ import annotations

import json
import math
import os
import sys

import numpy as np
import pandas as pd
import pytest

from conformance import api, cli
from conformance.adapters import registry
from conformance.api.data import read_data
from conformance.api.data_arrays import DataError
from conformance.api.data_files import read_file
from conformance.api.data_inference import infer_kind
from conformance.judging.selection import SelectionError
from conformance.model.case import Case, Options
from conformance.model.convention import DEFINITION, Convention
from conformance.reference import enclosure, oracle
from conformance.tests import miniatures

RANDOM = np.random.default_rng(7)
LOGITS = RANDOM.normal(size=(70, 3)) * 2
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
LABELS = RANDOM.integers(0, 3, 70)
LOSSES = -np.log(PROBABILITIES[np.arange(70), LABELS])
NAMES = np.array(["spam", "ham", "eggs"])


@pytest.fixture(autouse=True)
def functions(monkeypatch):
    """Functions in NumPy instead of frameworks."""
    losses = miniatures.Categorical, miniatures.DropsSmoothing, miniatures.DividesBySamples, miniatures.Binary
    framework = miniatures.framework(*losses)
    monkeypatch.setattr(registry, "frameworks", lambda: (framework,))
    monkeypatch.setattr(registry, "installed", lambda candidates=None: ([miniatures.installed(*losses)], []))
    monkeypatch.setenv("CONFORMANCE_CACHE", "off")


@pytest.fixture
def conformance(monkeypatch, capsys, tmp_path):
    """The command in this process: (exit status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["conformance", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


def returned(result):
    return {one.function.partition(".")[2]: one.value for one in result.explanation.functions}


def statuses(result):
    return {one.function.partition(".")[2]: one.status for one in result.explanation.functions}


# Arrays.


@pytest.mark.parametrize(
    ("shape", "axis", "told"),
    [((3, 3), None, 0), ((2, 4, 4), None, 1), ((2, 4, 4), 1, None), ((3, 3), -1, None), ((3, 4), None, None)],
)
def test_compare_suggests_class_axis_if_shapes_are_ambiguous(shape, axis, told):
    logits = np.arange(math.prod(shape), dtype=float).reshape(shape) - 2
    labels = np.zeros(shape[:-1] if axis in (None, -1) else np.delete(shape, axis), dtype=int)
    notes = [text for text in read_data(labels, logits, class_axis=axis).decided if "axis" in text]
    note = f"classes are on the last axis; as many are on axis {told}, which class_axis can name"
    assert notes == ([] if told is None else [note])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_compare_calls_functions_with_the_data(dtype, reduction):
    result = api.compare(LABELS, LOGITS.astype(dtype), reduction=reduction)
    due = LOSSES.mean() if reduction == "mean" else LOSSES.sum()
    assert result.decided == (f"predictions are logits: one is {LOGITS.min():g}, which is below 0",)
    assert float(result.explanation.derivation.answer) == pytest.approx(due, rel=1e-6)
    assert returned(result)["Categorical"] == pytest.approx(due, rel=1e-6)
    assert statuses(result)["Categorical"] == "agrees"
    assert result.explanation.dtype == np.dtype(dtype).name


def test_compare_explains_why_a_function_differs():
    result = api.compare(LABELS, LOGITS, class_weights=[1, 2, 3], label_smoothing=0.1)
    found = {one.function.partition(".")[2]: one for one in result.explanation.functions}
    assert found["Categorical"].status == "agrees"
    assert found["DividesBySamples"].status == "diverges"
    assert [difference.field for difference in found["DividesBySamples"].differences] == ["mean_divides_by"]


@pytest.mark.parametrize(
    ("predictions", "labels", "kind"),
    [
        (LOGITS, LABELS, "logits"),
        (PROBABILITIES, LABELS, "probabilities"),
        (np.log(PROBABILITIES), LABELS, "log_probabilities"),
        (np.array([0.2, 0.9]), np.array([0, 1]), "probabilities"),
        (np.array([0.2, -0.9]), np.array([0, 1]), "logits"),
        (np.array([[0.2, 1.5]]), np.array([[0, 1]]), "logits"),
        (np.array([[np.nan, 2.0, -1.0]]), np.array([0]), "logits"),
    ],
)
def test_kind_of_predictions_is_inferred_from_their_values(predictions, labels, kind):
    inferred = []
    assert infer_kind(predictions, labels, inferred) == kind
    assert inferred[0].startswith(f"predictions are {kind.replace('_', '-')}: ")


@pytest.mark.parametrize("predictions", [np.full((2, 3), 0.2), np.zeros((0, 3)), np.full((2, 3), np.nan)])
def test_kind_of_predictions_is_not_guessed(predictions):
    with pytest.raises(DataError, match="say what they are, by --logits"):
        infer_kind(predictions, np.zeros(len(predictions), int), [])


def test_kind_of_predictions_is_inferred_along_class_axis():
    labels, predictions = LABELS.reshape(35, 2), np.moveaxis(PROBABILITIES.reshape(35, 2, 3), -1, 1)
    with pytest.raises(DataError, match="along axis 1 they sum to 1, which --class-axis can name"):
        api.compare(labels, predictions)
    result = api.compare(labels, predictions, class_axis=1)
    assert result.decided[0].startswith("predictions are probabilities")
    assert returned(result)["Categorical"] == pytest.approx(LOSSES.mean())


def test_named_labels_are_sorted_unless_columns_or_classes_give_order():
    names = NAMES[LABELS]
    as_stated = api.compare(names, PROBABILITIES, classes=NAMES.tolist())
    as_columns = api.compare(pd.Series(names), pd.DataFrame(PROBABILITIES, columns=NAMES))
    in_order = api.compare(names, PROBABILITIES[:, [2, 1, 0]])
    for result in (as_stated, as_columns, in_order):
        assert returned(result)["Categorical"] == pytest.approx(LOSSES.mean())
    assert as_columns.decided[0] == "classes are 'spam', 'ham', 'eggs': the columns of the predictions"
    assert in_order.decided[0] == "classes are 'eggs', 'ham', 'spam': scikit-learn's order, sorted"


def test_integers_may_be_class_names():
    assert returned(api.compare(LABELS + 1, LOGITS, classes=["1", "2", "3"]))["Categorical"] == pytest.approx(
        LOSSES.mean()
    )
    assert "labels run from 1 to 3" in api.compare(LABELS % 2 * 2 + 1, LOGITS).decided[-1]


def test_class_names_may_be_bytes():
    result = api.compare(NAMES.astype("S")[LABELS], PROBABILITIES, classes=NAMES.tolist())
    assert returned(result)["Categorical"] == pytest.approx(LOSSES.mean())


def test_nan_among_predictions_is_reported_with_its_row():
    logits = LOGITS.copy()
    logits[5, 1] = logits[9, 0] = np.nan
    assert read_data(LABELS, logits).decided[0] == "2 of the predictions are nan, the first in row 5"


def test_labels_with_two_names_are_binary():
    result = api.compare(["no", "yes", "yes"], [0.1, 0.8, 0.7])
    assert result.decided[0] == "labels 'yes' are 1, and 'no' 0: it is the second in sorted order"
    assert returned(result)["Binary"] == pytest.approx(-np.log([0.9, 0.8, 0.7]).mean())
    other = api.compare(["no", "yes", "yes"], [0.9, 0.2, 0.3], classes=["yes", "no"])
    assert returned(other)["Binary"] == pytest.approx(-np.log([0.9, 0.8, 0.7]).mean())


@pytest.mark.parametrize(
    ("labels", "predictions", "options", "message"),
    [
        ([0, 1], [[1.0, -2.0]], {}, r"labels: \[2\] int64 beside predictions"),
        (["a", "c"], [[0.5, 0.5]] * 2, {"classes": ["a", "b"]}, "labels: 'c' is not one of the classes 'a', 'b'"),
        (["a", "b", "c"], [[0.5, 0.5]] * 3, {}, "labels: 3 classes beside 2 columns"),
        (["a"], [0.5], {}, "labels: all are 'a'"),
        (["a", "b", "c"], [0.5] * 3, {}, "labels: 3 names, 'a', 'b', 'c', beside a single prediction each"),
        ([0, 1], [["x", "y"]] * 2, {}, "predictions: "),
        ([0, "a"], [[0.5, 0.5]] * 2, {}, "labels: "),
        (pd.Series(["a", None]), [[0.5, 0.5]] * 2, {}, "labels: 1 missing, the first in row 1; fill or remove it"),
        (np.array([0, np.nan]), [[0.5, 0.5]] * 2, {}, "labels: 1 missing, the first in row 1"),
        ([0, 1], pd.DataFrame({"a": [0.5, 0.5], "b": ["0.5", "x"]}), {}, "predictions: 'x' in row 1 of column 'b'"),
        ([0, 1], np.array([1j, 2]), {}, "predictions: complex128"),
        ([0, 1], pd.DataFrame({"a": [0.5, pd.NA]}, dtype="Float64"), {}, "predictions: 1 missing, the first in row 1"),
        ([0, 1], [[0.5, 0.5]] * 2, {"kind": "odds"}, "kind: 'odds'; expected one of logits"),
        ([0, 1], [[0.5, 0.5]] * 2, {"dtype": "float8"}, "dtype: 'float8'"),
        ([0, 1], [[0.5, 0.5]] * 2, {"label_smoothing": 2}, "label_smoothing: 2"),
        ([0, 1], [[0.5, 0.5]] * 2, {"class_weights": [1, 2, 3]}, "class_weights: "),
        ([0, 1], object(), {}, "predictions: "),
        ([0, 1], np.zeros(2, [("a", "f4"), ("b", "f4")]), {}, "predictions: an array with fields a, b; pass one"),
        ([1, 2], [[0.5, 0.5]] * 2, {"classes": ["a", "b"]}, "classes: a, b beside labels that are integers"),
    ],
)
def test_compare_rejects_invalid_data_and_names_the_array(labels, predictions, options, message):
    with pytest.raises(DataError, match=message):
        api.compare(labels, predictions, **options)


# Observed numbers.


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (LOSSES.sum(), "the sum"),
        (LOSSES.mean() / np.log(2), "the logarithm to the base 2"),
        (
            LOSSES[:64].mean() / 2 + LOSSES[64:].mean() / 2,
            "the mean of the means of batches of 64, the last one shorter",
        ),
        (-np.log(PROBABILITIES[np.arange(70), (LABELS + 1) % 3]).mean(), "labels shifted up by one"),
        (-np.log(PROBABILITIES[np.arange(70), 2 - LABELS]).mean(), "classes in reverse order"),
    ],
)
def test_observed_number_is_explained(number, reason):
    ((observed),) = api.compare(LABELS, LOGITS, observed=[f"{number:.6f}"]).observed
    assert any(reason in line for line in observed.lines()), observed.lines()
    assert not observed.dtype
    assert not observed.returned_by


def test_correct_observed_number_is_reported_as_correct():
    (observed,) = api.compare(LABELS, LOGITS, observed=[f"{LOSSES.mean():.6f}"]).observed
    assert observed.dtype == "float64"
    assert any(name.endswith(".Categorical") for name in observed.returned_by)


def test_observed_number_is_explained_by_documentation_of_function():
    weights = np.array([1.0, 2.0, 3.0])
    divided_by_samples = (weights[LABELS] * LOSSES).sum() / 70 / np.log(2)
    result = api.compare(
        LABELS, LOGITS, class_weights=weights, observed=[f"miniature.DividesBySamples={divided_by_samples:.7f}"]
    )
    ((name, found),) = result.observed[0].explanations
    assert name == "miniature.DividesBySamples"
    assert found.lines()[1] == "the logarithm to the base 2"


def test_documented_observed_number_is_reported_as_documented():
    weights = np.array([1.0, 2.0, 3.0])
    number = f"{(weights[LABELS] * LOSSES).sum() / 70:.5f}"
    (observed,) = api.compare(LABELS, LOGITS, class_weights=weights, observed=[f"miniature={number}"]).observed
    assert "miniature.DividesBySamples" in observed.documented_by
    assert any(line == "it is what miniature.DividesBySamples documents" for line in observed.lines())
    assert "miniature.DividesBySamples" not in dict(observed.explanations)


@pytest.mark.parametrize("option", ["functions", "frameworks", "observed"])
def test_string_instead_of_list_is_rejected(option):
    with pytest.raises(SelectionError, match=r"expected a list, \['miniature'\]"):
        api.compare(LABELS, LOGITS, **{option: "miniature"})


@pytest.mark.parametrize("text", ["abc", "", "keras=", "nobody=1.5", "miniature.Nothing=1"])
def test_observed_text_without_number_is_rejected(text):
    with pytest.raises(SelectionError, match="--observed"):
        api.compare(LABELS, LOGITS, observed=[text])


MARGINS, FLAGS = np.array([-0.5, 1.0, 2.0]), np.array([0, 1, 0])


@pytest.mark.parametrize(
    ("labels", "predictions", "loss"),
    [
        (FLAGS, MARGINS[:, np.newaxis], "binary"),
        (FLAGS[:, np.newaxis], MARGINS, "binary"),
        (FLAGS[:, np.newaxis], np.stack([MARGINS, -MARGINS, MARGINS**2], axis=1), "categorical"),
    ],
)
def test_shapes_differing_by_axis_of_length_one_are_passed_unchanged(monkeypatch, labels, predictions, loss):
    pytest.importorskip("sklearn")
    monkeypatch.undo()  # scikit-learn itself
    monkeypatch.setenv("CONFORMANCE_CACHE", "off")
    alike = labels.reshape(predictions.shape if loss == "binary" else -1)
    found, flat = (api.compare(one, predictions, functions=["sklearn.log_loss"]) for one in (labels, alike))
    shapes = f"labels of shape {list(labels.shape)} do not fit predictions of shape {list(predictions.shape)}"
    assert found.decided[-1].startswith(f"{shapes}: the definition rejects them")
    assert found.data.case.loss == loss
    (one,), (other,) = found.explanation.functions, flat.explanation.functions
    assert (one.status, one.value) == ("diverges", other.value)


def test_function_of_a_framework_outside_default_runs_is_called_alone(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("CONFORMANCE_CACHE", "off")
    (result,) = api.compare(LABELS, LOGITS, functions=["numpy.log_softmax_of_label"]).explanation.functions
    assert (result.function, result.status) == ("numpy.log_softmax_of_label", "agrees")


def test_excessive_broadcasting_is_rejected():
    with pytest.raises(DataError, match="expected labels of shape"):
        api.compare(np.zeros(2000, dtype=int), np.linspace(-1, 1, 2000)[:, np.newaxis])


# Files.


@pytest.fixture
def files(tmp_path):
    table = pd.DataFrame(PROBABILITIES, columns=NAMES).assign(label=NAMES[LABELS])
    table.to_csv(tmp_path / "all.csv", index=False)
    table.to_csv(tmp_path / "all.tsv", index=False, sep="\t")
    table.to_parquet(tmp_path / "all.parquet")
    table[NAMES].to_csv(tmp_path / "index.csv")
    np.savez(tmp_path / "all.npz", p=PROBABILITIES, y=LABELS)
    np.save(tmp_path / "p.npy", PROBABILITIES)
    np.save(tmp_path / "y.npy", LABELS)
    pd.DataFrame(PROBABILITIES).to_csv(tmp_path / "p.csv", index=False, header=False)
    return tmp_path


@pytest.mark.parametrize(
    ("labels", "predictions"),
    [
        ("y.npy", "p.npy"),
        ("all.npz:y", "all.npz:p"),
        ("all.csv:label", "all.csv:spam,ham,eggs"),
        ("all.tsv:label", "all.tsv:spam, ham, eggs"),
        ("all.parquet:label", "all.parquet:spam,ham,eggs"),
        ("y.npy", "index.csv"),
        ("y.npy", "p.csv"),
    ],
)
def test_compare_reads_files(conformance, files, labels, predictions):
    status, out, _ = conformance("compare", "--labels", labels, "--predictions", predictions, "--json")
    assert status == 0
    found = json.loads(out)
    assert found["schema"] == "conformance.compare/1"
    values = {one["function"]: one["value"] for one in found["explanation"]["functions"]}
    assert values["miniature.Categorical"] == pytest.approx(LOSSES.mean())


def test_compare_reads_tensors_without_executing_pickles(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"z": torch.tensor(LOGITS), "y": torch.tensor(LABELS)}, tmp_path / "a.pt")
    assert read_file("--labels", f"{tmp_path / 'a.pt'}:y").tolist() == LABELS.tolist()
    torch.save({"z": pd.DataFrame}, tmp_path / "b.pt")
    with pytest.raises(DataError, match=r"b.pt cannot be read: .* holds more than tensors.*pickles are not"):
        read_file("--labels", str(tmp_path / "b.pt"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing.npy", "there is no file nothing.npy"),
        ("p.pkl", "unknown format .pkl"),
        ("objects.npy", "pickles are not read"),
        ("text.npy", "the magic string is not correct"),
        ("short.npy", "cannot be read"),
        ("all.npz", "it holds 2 arrays; name one after a colon, of p, y"),
        ("all.npz:z", "it has no array 'z'; expected one of p, y"),
        ("all.csv:labels", "it has no column 'labels'; expected one of spam, ham, eggs, label"),
        ("y.npy:y", "it holds one array, without a name"),
        ("empty.npz", "it holds no array"),
        ("npy.npz", "it is not a zip archive"),
        ("folder", "is not a regular file"),
        ("fifo.npy", "is not a regular file"),
        ("semicolons.csv", "it separates columns by ';'"),
        ("twice.csv", "two columns are called 'a'"),
        ("longer.csv", "its rows have more values than the first one, which has 2"),
        ("gap.csv", "labels: 1 missing, the first in row 1"),
    ],
)
def test_unreadable_file_is_reported_in_one_message(conformance, files, text, message):
    np.save("objects.npy", np.array([1, "a", None], dtype=object))
    (files / "p.pkl").write_bytes(b"")
    (files / "short.npy").write_bytes((files / "p.npy").read_bytes()[:100])
    (files / "text.npy").write_text("0.1 0.2 0.3", encoding="utf-8")
    (files / "folder").mkdir()
    np.savez(files / "empty.npz")
    (files / "npy.npz").write_bytes((files / "p.npy").read_bytes())
    os.mkfifo("fifo.npy")
    for name, lines in {
        "semicolons": "a;b\n0,5;0,5",
        "twice": "a,a\n1,2",
        "longer": "a,b\n1,2,3",
        "gap": "1\n\n2\n\n",
    }.items():
        (files / f"{name}.csv").write_text(lines, encoding="utf-8")
    status, _, err = conformance("compare", "--labels", text, "--predictions", "p.npy")
    assert status == 2
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("text", "values"), [("\n1\n2\n\n", [1, 2]), ("1\nnan\n", [1, np.nan])])
def test_csv_keeps_all_but_empty_lines_around_it(tmp_path, text, values):
    (tmp_path / "y.csv").write_text(text, encoding="utf-8")
    np.testing.assert_array_equal(np.ravel(read_file("--labels", str(tmp_path / "y.csv"))), values)


def test_compare_prints_decisions_functions_and_reasons(conformance, files):
    words = ("--labels", "y.npy", "--predictions", "p.npy", "--class-weights", "1,2,3", "--observed", "1.5")
    status, out, _ = conformance("compare", *words)
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "predictions are probabilities: all are from 0 to 1, and rows sum to 1."
    assert any(line.startswith("exact ") for line in lines)
    assert any("DividesBySamples" in line and "diverges: mean_divides_by=samples" in line for line in lines)
    assert any(line.startswith("1.5: ") for line in lines)
    assert "How the answer comes about" not in out
    assert "How the answer comes about" in conformance("compare", *words, "--verbose")[1]


@pytest.mark.parametrize("words", [(), ("--predictions", "p.npy", "--logits", "p.npy")])
def test_compare_requires_one_file_of_predictions(conformance, files, words):
    assert conformance("compare", "--labels", "y.npy", *words)[0] == 2


# Large data.


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", ["", "class_weights", "sample_weights", "ignored"])
def test_enclosure_of_a_large_problem_contains_the_exact_answer(reduction, weighted):
    random = np.random.default_rng(3)
    options = {
        "class_weights": Options(class_weights=random.uniform(0.5, 2, 10)),
        "sample_weights": Options(sample_weights=random.uniform(0, 2, 3000)),
        "ignored": Options(ignore_index=3),
    }.get(weighted, Options())
    predictions = random.normal(size=(3000, 10)) * 3
    predictions[17, 4] = -np.inf
    labels = random.integers(0, 10, 3000)
    case = Case("a", "", "", "", "categorical", "logits", "index", predictions, labels, options)
    problem = case.problem("float32", reduction)
    assert problem.predictions.size > enclosure.MAX_IN_BALLS
    found, exact = enclosure.evaluate(problem, DEFINITION), oracle.evaluate(problem, DEFINITION)
    with np.errstate(invalid="ignore"):
        off = np.abs((found.hi - exact.hi) + (found.lo - exact.lo))
    assert np.all((off <= found.rad + exact.rad) | (found.hi == exact.hi))
    assert np.all(found.rad <= 1e-7 * np.maximum(np.abs(found.hi), 1))


@pytest.mark.parametrize("given", ["probabilities", "log_probabilities", "logits"])
@pytest.mark.parametrize("taken_as", ["probabilities", "log_probabilities", "logits"])
@pytest.mark.parametrize("convention", [DEFINITION, Convention(clip=0.05)])
def test_enclosing_oracle_equals_ball_arithmetic_for_conversions(given, taken_as, convention):
    if given == taken_as:
        pytest.skip("nothing is converted")
    random = np.random.default_rng(4)
    p = random.dirichlet(np.ones(10), 2000) * random.uniform(0.5, 1, (2000, 1))
    predictions = {"probabilities": p, "log_probabilities": np.log(p), "logits": np.log(p) + 5}[given]
    labels = random.integers(0, 10, 2000)
    case = Case("a", "", "", "", "categorical", given, "index", predictions, labels)
    problem = case.problem("float32", "mean")
    exact = oracle.Oracle().converted(problem, convention, taken_as)
    found = enclosure.EnclosingOracle().converted(problem, convention, taken_as)
    assert float(found.hi) == pytest.approx(float(exact.hi), rel=1e-12)

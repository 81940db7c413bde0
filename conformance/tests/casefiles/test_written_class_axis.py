"""Arrays that are written with the classes on another axis than the last, and arrays of which nobody can tell."""

from __future__ import annotations

import itertools
import json
import sys

import numpy as np
import pytest

from conformance import cli
from conformance.casefiles.loading import load
from conformance.casefiles.validation import other_class_axis
from conformance.casefiles.writing import save
from conformance.model.case import Layout
from conformance.reference.oracle import evaluate
from conformance.tests.stated import case, shipped
from conformance.tests.stated import read_case as written

SQUARE = ["predictions: [[[1.0, 2.0], [3.0, 5.0]]]", "labels: [[0, 1]]"]
CLASSES_LAST, CLASSES_FIRST = np.log1p(np.exp([[1.0, -2.0], [2.0, -3.0]])).mean(axis=1)


def only(found):
    (stated,), errors = found
    assert not errors
    return stated


def mean(stated):
    return float(evaluate(stated.problem("float64", "mean")).hi)


def test_square_array_is_read_with_written_class_axis(tmp_path):
    first = only(written(tmp_path, *SQUARE, "layout: {class_axis: 1, written_class_axis: 1}"))
    last = only(written(tmp_path, *SQUARE, "layout: {class_axis: 1, written_class_axis: -1}"))
    assert (first.note, last.note) == ("", "")
    assert mean(first) == pytest.approx(CLASSES_FIRST)
    assert mean(last) == pytest.approx(CLASSES_LAST)
    assert first.layout == last.layout == Layout(class_axis=1)


def test_square_array_without_class_axis_is_read_with_classes_last_and_noted(tmp_path):
    for layout in ([], ["layout: {class_axis: 1}"]):
        found = only(written(tmp_path, *SQUARE, *layout))
        assert mean(found) == pytest.approx(CLASSES_LAST)
        assert "x.yaml:7:18: $.cases.y.predictions: these numbers fit classes on axis 1 as well as" in found.note
        assert "written_class_axis: 1}" in found.note


@pytest.mark.parametrize("axis", [-4, -3, -2, -1, 0, 1, 2, 3])
@pytest.mark.parametrize("target", ["index", "distribution", "one_hot"])
def test_written_class_axis_does_not_change_case(tmp_path, axis, target):
    draw = np.random.default_rng(1)
    predictions = draw.normal(size=(2, 3, 4, 5)).round(3)
    labels = draw.integers(0, 5, size=(2, 3, 4))
    rows = np.eye(5)[labels] if target == "one_hot" else draw.integers(1, 9, size=predictions.shape) / 8
    labels = labels if target == "index" else rows
    as_written = labels if target == "index" else np.moveaxis(labels, -1, axis)
    lines = (
        f"predictions: {json.dumps(np.moveaxis(predictions, -1, axis).tolist())}",
        f"labels: {json.dumps(as_written.tolist())}",
        f"layout: {{written_class_axis: {axis}}}",
    )
    found = only(written(tmp_path, *lines, target=target))
    np.testing.assert_array_equal(found.predictions, predictions)
    np.testing.assert_array_equal(found.labels, labels)
    assert found.layout == Layout()


def test_classes_first_with_two_axes_is_read(tmp_path):
    lines = ("predictions: [[1.0, 2.0, 0.5], [3.0, 5.0, 0.25]]", "labels: [0, 1, 1]", "layout: {written_class_axis: 0}")
    found = only(written(tmp_path, *lines))
    assert found.predictions.tolist() == [[1.0, 3.0], [2.0, 5.0], [0.5, 0.25]]


def test_empty_arrays_have_the_shape_as_written(tmp_path):
    lines = ("predictions: []", "shape: [0, 3, 4]", "labels: []", "layout: {written_class_axis: 1}")
    assert only(written(tmp_path, *lines)).predictions.shape == (0, 4, 3)


@pytest.mark.parametrize(
    ("lines", "position", "words"),
    [
        (["layout: {written_class_axis: 3}"], "9:34", "there is no axis 3 in predictions of rank 3"),
        (["layout: {written_class_axis: -4}"], "9:34", "there is no axis -4"),
        (["layout: {written_class_axis: x}"], "9:34", "is not an integer"),
        (["layout: {written_class_axis: 1.5}"], "9:34", "is not an integer"),
    ],
)
def test_invalid_axis_is_reported_with_its_position(tmp_path, lines, position, words):
    _, errors = written(tmp_path, *SQUARE, *lines)
    assert [f"{error.line}:{error.column}" for error in errors] == [position]
    assert words in str(errors[0])


def test_binary_losses_have_no_axis_of_classes(tmp_path):
    lines = ("predictions: [[0.5]]", "labels: [[1]]", "layout: {written_class_axis: 1}")
    _, (error,) = written(tmp_path, *lines, loss="binary", target="binary")
    assert "a binary loss has no axis of classes" in str(error)


def test_errors_have_positions_of_written_numbers(tmp_path):
    layout = "layout: {written_class_axis: 1}"
    lines = ("predictions:", "  - [[0.25, 0.5, 0.5],", "     [0.75, 0.5, 1.5]]", "labels: [[0, 1, 0]]", layout)
    _, (error,) = written(tmp_path, *lines, given="probabilities")
    assert (error.line, error.where) == (9, "$.cases.y.predictions[0][1][2]")
    lines = ("predictions: [[[0.5, 0.5], [0.5, 0.5]]]", "labels: [[[1, 1], [0, 1]]]", layout)
    _, (error,) = written(tmp_path, *lines, target="one_hot")
    assert error.where == "$.cases.y.labels[0]"
    assert "[1, 1] is not one 1 and zeros" in str(error).replace(".0", "")


def test_unlike_lengths_advise_the_axis(tmp_path):
    lines = ("predictions: [[[1.0, 2.0, 3.0], [3.0, 5.0, 0.5]]]", "labels: [[0, 1, 1]]")
    _, (error,) = written(tmp_path, *lines)
    assert "say layout: {written_class_axis: 1}" in str(error)
    assert not written(tmp_path, *lines, "layout: {written_class_axis: 1}")[1]


@pytest.mark.parametrize(
    ("shape", "labels", "stated", "message", "advice"),
    [
        (
            (3, 3, 2),
            (3, 2),
            None,
            "shape [3, 3, 2] need [3, 3]",
            "{written_class_axis: 0} or {written_class_axis: 1} if",
        ),
        ((2, 3, 2), (2, 2), None, "shape [2, 3, 2] need [2, 3]", "say layout: {written_class_axis: 1} if"),
        ((2, 3), (2,), 0, "shape [2, 3] with classes on axis 0 need [3]", "leave written_class_axis out"),
        ((2, 3), (2,), -2, "shape [2, 3] with classes on axis -2 need [3]", "leave written_class_axis out"),
        ((2, 4, 3), (2, 4), 1, "shape [2, 4, 3] with classes on axis 1 need [2, 3]", "leave written_class_axis out"),
        ((2, 4, 3), (4, 3), 1, "with classes on axis 1 need [2, 3]", "say layout: {written_class_axis: 0} if"),
        ((2, 3), (3,), 1, "shape [2, 3] with classes on axis 1 need [2]", "say layout: {written_class_axis: 0} if"),
        ((2, 3), (5,), 0, "shape [2, 3] with classes on axis 0 need [3]", "correct it, or say expect"),
    ],
)
def test_shapes_are_reported_as_written_with_every_matching_axis(tmp_path, shape, labels, stated, message, advice):
    lines = [f"predictions: {np.ones(shape).tolist()}", f"labels: {np.zeros(labels, int).tolist()}"]
    lines += [] if stated is None else [f"layout: {{written_class_axis: {stated}}}"]
    _, (error,) = written(tmp_path, *lines)
    assert message in error.message
    assert advice in error.advice


def test_distributions_of_another_shape_are_reported_as_written(tmp_path):
    lines = (
        "predictions: [[1.0, 2.0], [3.0, 5.0], [0.5, 0.5]]",
        "labels: [[1, 0, 1]]",
        "layout: {written_class_axis: 0}",
    )
    _, (error,) = written(tmp_path, *lines, target="distribution")
    assert "labels of shape [1, 3] where predictions of shape [3, 2] with classes on axis 0 need [3, 2]" in str(error)


def test_published_gradient_has_written_class_axis(tmp_path):
    published = 'published: [{value: [[["1", "2", "3"], ["4", "5", "6"]]], source: a, quantity: gradient}]'
    lines = ("predictions: [[[1.0, 2.0, 3.0], [3.0, 5.0, 0.5]]]", "labels: [[0, 1, 1]]", published)
    found = only(written(tmp_path, *lines, "layout: {written_class_axis: 1}"))
    (number,) = found.published
    assert number.value == [[["1", "2", "3"], ["4", "5", "6"]]]
    assert found.published_value(number) == [[["1", "4"], ["2", "5"], ["3", "6"]]]
    (back,) = load(save([found], tmp_path / "again"))
    assert back.published_value(back.published[0]) == found.published_value(number)


@pytest.mark.parametrize(("printed", "verdict"), [("-2.0", "holds"), ("-3.0", "does not hold")])
def test_published_gradient_is_compared_and_shown_as_it_is_written(tmp_path, monkeypatch, capsys, printed, verdict):
    published = f'published: [{{value: [[["-1.0", "{printed}"], ["0", "0"]]], source: a, quantity: gradient}}]'
    lines = ("predictions: [[[0.5, 0.25], [0.5, 0.75]]]", "labels: [[0, 0]]", "dtypes: float64", published)
    written(tmp_path, *lines, "layout: {written_class_axis: 1}", given="probabilities")
    for command in (("show",), ("explain", "--quantity", "gradient")):
        monkeypatch.setattr(
            sys, "argv", ["conformance", *command, "x/y", "--cases", str(tmp_path), "--framework", "torch"]
        )
        with pytest.raises(SystemExit):
            cli.main()
        text = " ".join(capsys.readouterr().out.split())
        assert f"[[[-1.0, {printed}], [0, 0]]]" in text
        assert verdict in text
        assert ("[[[-1, -2], [0, 0]]]" in text) is (verdict == "does not hold")
        assert "classes are shown last; the file has them on axis 1" in text


@pytest.mark.parametrize(
    ("rows", "noted"),
    [
        ([[[0.75, 0.25], [0.5, 0.5]]], False),  # along the last axis only
        ([[[0.75, 0.25], [0.25, 0.75]]], True),  # along both
        ([[[0.75, 0.5], [0.25, 0.5]]], True),  # along axis 1 only
        ([[[0.5, 0.25], [0.5, 0.5]]], True),  # along neither
    ],
)
def test_rows_summing_to_one_determine_class_axis(rows, noted):
    for input_kind, target in itertools.product(("logits", "probabilities", "log_probabilities"), ("index", "soft")):
        soft, told = target == "soft", target == "soft" or input_kind != "logits"
        predictions = np.log(rows) if input_kind == "log_probabilities" else np.array(rows)
        stated = case(
            predictions,
            rows if soft else [[0, 1]],
            target="distribution" if soft else "index",
            input_kind=input_kind,
            layout=Layout(class_axis=1),
        )
        assert (other_class_axis(stated) == 1) is (noted or not told)


def test_shipped_cases_have_no_ambiguous_class_axis():
    assert [found.note for found in shipped() if found.note] == []


def test_written_case_states_class_axis(tmp_path):
    stated = case([[[1.0, 2.0], [3.0, 5.0]]], [[0, 1]], id="x/y", about="a", source="b", layout=Layout(class_axis=1))
    (back,) = load(save([stated], tmp_path))
    assert back.note == ""
    assert back.digest == stated.digest


@pytest.mark.parametrize(
    "words", [("lint", "{}"), *((name, "x/y", "--cases", "{}", "--framework", "torch") for name in ("show", "explain"))]
)
def test_commands_print_the_note(tmp_path, monkeypatch, capsys, words):
    assert only(written(tmp_path, *SQUARE, "layout: {class_axis: 1}")).note
    monkeypatch.setattr(sys, "argv", ["conformance", *(word.format(tmp_path) for word in words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert "note: " in "".join(capsys.readouterr())


def test_lint_has_notes_in_json(tmp_path, monkeypatch, capsys):
    written(tmp_path, *SQUARE)
    monkeypatch.setattr(sys, "argv", ["conformance", "lint", str(tmp_path), "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert len(json.loads(capsys.readouterr().out)["notes"]) == 1

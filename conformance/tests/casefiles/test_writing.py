"""Case files that are written: read back they are the same cases, to the last bit."""

import dataclasses
import itertools
import math
import os

import numpy as np
import pytest

from conformance.casefiles.loading import load
from conformance.casefiles.writing import WritingError, case_file_text, save
from conformance.explore.fuzz.generation import random_case
from conformance.model.case import Case, Digits, Layout, MustRaise, NoRightAnswer, Options, Published, numpy_dtype
from conformance.tests.stated import shipped

PLAIN = Case(
    "made/by/hand", "why", "about", "source", "categorical", "logits", "index", np.zeros((1, 2)), np.array([1])
)


def made(**changes):
    return dataclasses.replace(PLAIN, **changes)


def again(case, folder):
    """A case once it is written and read."""
    save([case], folder)
    (read,) = load(folder)
    return read


def facts(case):
    """Everything a case says, but where it stands, and on which axis its file has the classes."""
    stated = {field.name: getattr(case, field.name) for field in dataclasses.fields(Case)}
    arrays = ("predictions", "labels", "options", "path", "line", "written_class_axis")
    return {name: value for name, value in stated.items() if name not in arrays} | {"digest": case.digest}


def test_shipped_cases_survive_round_trip(tmp_path):
    cases = shipped()
    for _, of_file in itertools.groupby(cases, key=lambda case: case.path):
        save(list(of_file), tmp_path)
    assert [facts(case) for case in load(tmp_path)] == [facts(case) for case in cases]


def test_random_cases_survive_round_trip(tmp_path):
    cases = [random_case(np.random.default_rng([7, index]), f"drawn/case_{index}/it") for index in range(500)]
    for case in cases:
        save([case], tmp_path)
    assert [facts(case) for case in load(tmp_path)] == [facts(case) for case in sorted(cases, key=lambda c: c.id)]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_round_trip_keeps_every_bit(tmp_path, dtype):
    bits = np.random.default_rng(1).integers(1 << 64, size=(20, 5), dtype=np.uint64)
    with np.errstate(all="ignore"):
        rounded = bits.view(np.float64).astype(np.float32).astype(numpy_dtype(dtype)).astype(np.float64)
        special = np.array([[-0.0, 0.0, math.inf, -math.inf, math.nan]])
        ends = np.array([[5e-324, -5e-324, 2.0**-1022, 1.7976931348623157e308, 0.1]]) if dtype == "float64" else special
    rounded[np.isnan(rounded)] = math.nan  # a nan is a nan, whatever its bits
    values = np.concatenate([rounded, special, ends])
    case = made(predictions=values, labels=np.zeros(len(values), dtype=np.int64), dtypes=(dtype,))
    assert again(case, tmp_path).predictions.tobytes() == values.tobytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": np.array([True]), "target": "binary", "loss": "binary", "predictions": np.array([-0.0])},
        {"labels": np.array([1.0]), "target": "binary", "loss": "binary", "predictions": np.array([0.5])},
        {"labels": np.array([[0, 1]]), "target": "distribution", "written_target": "one_hot"},
        {"predictions": np.zeros((2, 0, 3)), "labels": np.zeros((2, 0), dtype=np.int64)},
        {"options": Options(class_weights=np.array([1e-05, math.inf]), ignore_index=-(2**63), label_smoothing=0.1)},
        {"layout": Layout(class_axis=0, order="fortran", label_dtype="int8"), "reductions": ("none", "sum")},
        {"expect": Digits({"mean": "0.693147180559945309417"}), "dtypes": ("float64",)},
        {"expect": MustRaise("label_out_of_range"), "labels": np.array([2])},
        {"expect": NoRightAnswer("nobody knows: 1, 2 or {3}")},
        {"published": (Published("0.6931", "a book", "page 3: it's 'here' # so"),)},
        {"no_gradient": "it has a kink, and {that} is why"},
        {"why": "a: b"},
        {"why": "true"},
        {"why": "1e3"},
        {"why": 'it says "no" \\ and\nnext\tline \u2028 \u03b5'},
        {"why": " ".join(["word"] * 60), "source": "https://example.org/a#b"},
        {"why": " starts and ends with a blank "},
    ],
    ids=str,
)
def test_round_trip_keeps_every_field(tmp_path, changes):
    case = made(**changes)
    assert facts(again(case, tmp_path)) == facts(case)


@pytest.mark.parametrize(
    ("target", "more"), [("one_hot", ""), ("distribution", ""), ("distribution", ", soft: false"), ("soft_binary", "")]
)
def test_generated_targets_survive_round_trip(tmp_path, target, more):
    loss, classes = ("binary", "") if target == "soft_binary" else ("categorical", ", classes: 2")
    text = f"""
about: about
loss: {loss}
given: logits
target: {target}
source: https://example.org
cases:
  case:
    why: why
    generate: {{seed: 1, samples: 2{classes}{more}, digest: '0123456789abcdef'}}
"""
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "by.yaml").write_text(text)
    (case,) = load(tmp_path)
    read = again(case, tmp_path / "again")
    assert (read.recipe, read.target) == (case.recipe, case.target)
    assert (read.written_target or read.target) == target


def test_round_trip_covers_every_field_of_case():
    # A field that is added has to be written, too.
    assert {field.name for field in dataclasses.fields(Case)} == {
        "id", "why", "about", "source", "loss", "input_kind", "target", "predictions", "labels", "options", "layout",
        "reductions", "dtypes", "expect", "published", "no_gradient", "path", "line", "written_class_axis", "note",
        "written_target",
    }  # fmt: skip


def test_numbers_are_written_in_fewest_digits():
    text = case_file_text([made(predictions=np.array([[0.1, 1e22]]))])
    assert "predictions: [[0.1, 1e22]]" in text


def test_save_keeps_existing_file(tmp_path):
    path = save([PLAIN], tmp_path)
    assert save([PLAIN], tmp_path) == path
    before = path.read_bytes()
    with pytest.raises(WritingError, match="is there and says something else"):
        save([made(why="another")], tmp_path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["by.yaml"]  # noqa: PTH208


def test_failed_save_leaves_no_file(tmp_path):
    (tmp_path / "made").write_text("a file where a folder should be")
    with pytest.raises(WritingError, match="cannot be written"):
        save([PLAIN], tmp_path)


def test_save_rejects_invalid_names(tmp_path):
    with pytest.raises(WritingError, match="the name of a framework"):
        save([made(id="made/by/torch")], tmp_path)


def test_save_rejects_cases_of_different_files():
    with pytest.raises(WritingError, match="differ in given"):
        case_file_text([PLAIN, made(id="made/by/head", input_kind="probabilities")])


def test_save_rejects_inexpressible_case():
    empty = made(predictions=np.zeros((0, 3, 2)), labels=np.zeros((0, 3), dtype=np.int64))
    with pytest.raises(WritingError, match="an empty list shows one axis"):
        case_file_text([dataclasses.replace(empty, options=Options(sample_weights=np.zeros((0, 3))))])

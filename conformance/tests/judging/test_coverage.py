"""Pairwise coverage of capabilities, held against functions and cases written by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from conformance.adapters.contract import Function
from conformance.casefiles.generated_arrays import ArrayRecipe, GeneratedCase
from conformance.judging.coverage import coverage
from conformance.model.case import Case, Layout, MustRaise, NoRightAnswer, Options

FUNCTION = Function(
    "mini.Loss",
    "mini.Loss({options})({predictions}, {labels})",
    ranks={"categorical": range(2, 3)},
    input_kinds={"logits": ""},
    targets={"index": "int64"},
    arguments={"class_weights": "weights", "ignore_index": "ignored"},
    reductions={"mean": ""},
    dtypes=frozenset({"float32", "float64"}),
    orders=frozenset({"fortran", "strided"}),
    labels_column=True,
)
CASE = Case(
    id="categorical/a/case",
    why="",
    about="",
    source="",
    loss="categorical",
    input_kind="logits",
    target="index",
    predictions=np.zeros((2, 3)),
    labels=np.array([0, 2]),
    dtypes=("float32",),
)
WEIGHTED = dataclasses.replace(CASE, options=Options(class_weights=np.ones(3)))


def function(**changes):
    return dataclasses.replace(FUNCTION, **changes)


def possible(*functions):
    return {tuple(name.partition("/")[2] for name in pair) for pair in coverage([], functions).possible}


def covered(*cases, functions=(FUNCTION,)):
    return {tuple(name.partition("/")[2] for name in pair) for pair in coverage(cases, functions).covered}


def test_exclusive_capabilities_are_no_pair():
    found = possible(FUNCTION)
    assert ("class_weights", "ignore_index") in found
    assert not {("float32", "float64"), ("fortran", "strided"), ("index", "one_hot")} & found


def test_capabilities_are_pair_only_if_one_function_supports_both():
    apart = function(arguments={"class_weights": "weights"}), function(arguments={"ignore_index": "ignored"})
    assert ("class_weights", "ignore_index") not in possible(*apart)
    assert ("class_weights", "float32") in possible(*apart)


def test_coverage_counts_conversions_and_re_encodings_as_taken():
    found = possible(FUNCTION)
    assert {("class_weights", "log_probabilities"), ("class_weights", "one_hot")} <= found
    assert ("class_weights", "distribution") not in found


def test_excluded_combination_is_no_pair():
    assert ("class_weights", "ignore_index") not in possible(
        function(excludes=(frozenset({"class_weights", "ignore_index"}),))
    )
    # The group is about what the function is handed: one-hot labels reach it as indices.
    handed = function(excludes=(frozenset({"class_weights", "index"}),))
    assert not {("class_weights", name) for name in ("index", "one_hot", "float32")} & possible(handed)
    some = function(targets={"index": "int64", "distribution": "same"}, excludes=handed.excludes)
    assert ("class_weights", "distribution") in possible(some)
    assert ("class_weights", "float32") in possible(some)


def test_inexpressible_combination_is_no_pair():
    assert not {("ignore_index", "one_hot"), ("labels_column", "one_hot")} & possible(FUNCTION)
    assert ("index", "labels_column") in possible(FUNCTION)


def test_axis_1_requires_rank_above_2():
    flat = function(class_axis=1, orders=frozenset(), labels_column=False)
    assert ("class_axis", "float32") not in possible(flat)
    assert ("class_axis", "higher_rank") in possible(dataclasses.replace(flat, ranks={"categorical": range(2, 4)}))


def test_losses_are_counted_separately():
    both = function(
        ranks={"categorical": range(2, 3), "binary": range(1, 2)}, targets={"index": "int64", "binary": "same"}
    )
    names = {name for pair in coverage([], [both]).possible for name in pair}
    assert {"categorical/logits", "binary/logits", "binary/rank_1"} <= names
    assert not {"binary/class_weights", "binary/log_probabilities", "categorical/rank_1"} & names


def test_case_covers_pairs_of_each_of_its_problems():
    assert covered(WEIGHTED) == {
        tuple(sorted(pair))
        for pair in [
            *(("class_weights", name) for name in ("logits", "index", "mean", "float32")),
            *(("logits", name) for name in ("index", "mean", "float32")),
            *(("index", name) for name in ("mean", "float32")),
            ("mean", "float32"),
        ]
    }
    assert ("float64", "index") in covered(dataclasses.replace(CASE, dtypes=("float32", "float64")))


def test_pairs_split_over_two_cases_are_not_covered():
    column = dataclasses.replace(CASE, layout=Layout(labels="column"))
    assert ("class_weights", "labels_column") not in covered(WEIGHTED, column)
    assert ("class_weights", "labels_column") in covered(dataclasses.replace(WEIGHTED, layout=Layout(labels="column")))


@pytest.mark.parametrize("expect", [MustRaise("shape_mismatch"), NoRightAnswer("why")])
def test_case_without_right_answer_covers_nothing(expect):
    assert covered(dataclasses.replace(WEIGHTED, expect=expect)) == set()


def test_unsupported_case_covers_nothing():
    assert covered(dataclasses.replace(WEIGHTED, reductions=("sum",))) == set()


PLAIN = function(arguments={}, orders=frozenset(), labels_column=False, dtypes=frozenset({"float32"}))


def test_missing_pairs_are_named_on_one_line():
    found = coverage([CASE], [PLAIN])
    assert {name for pair in found.possible for name in pair} - {name for pair in found.covered for name in pair} == {
        f"categorical/{name}" for name in ("log_probabilities", "one_hot", "probabilities")
    }
    assert ("categorical/float32", "categorical/one_hot") in found.lacking
    covered = f"option pairs: 6 of {6 + len(found.lacking)} covered"
    assert str(found).startswith(f"{covered}; lacking: categorical float32 + log_probabilities, ")
    assert "\n" not in str(found)


def test_coverage_without_possible_pairs_is_complete():
    assert str(coverage([CASE], [])) == "option pairs: 0 of 0 covered"


def test_large_generated_arrays_are_not_made(monkeypatch):
    monkeypatch.setattr(GeneratedCase, "arrays", property(lambda case: pytest.fail("the arrays are made")))
    recipe = ArrayRecipe("categorical", "logits", "index", 1, (1000,), 3)
    place = ("cases/a.yaml", 1, 1, "$")
    stated = {name: getattr(CASE, name) for name in ("id", "why", "about", "source", "loss", "input_kind", "target")}
    case = GeneratedCase(recipe=recipe, explicit_options=Options(), expected_digest="", digest_location=place, **stated)
    assert ("index", "logits") in covered(case)

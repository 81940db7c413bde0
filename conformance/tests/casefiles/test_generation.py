"""Cases that are drawn: all legal, of every kind, the same from the same seed, within their limits."""

import numpy as np
import pytest

from conformance.casefiles.validation import find_errors
from conformance.explore.fuzz import generation
from conformance.explore.fuzz.generation import (
    BEYOND_RANGE,
    DEFAULT_KINDS,
    FAMILIES,
    UNUSUAL_KINDS,
    Limits,
    random_case,
)
from conformance.model.case import DTYPES, LABEL_DTYPES, OPTIONS, ORDERS, REDUCTIONS
from conformance.reference.domain import examine

MANY = 3000


def drawn(count, limits=None, seed=0):
    return [random_case(np.random.default_rng([seed, index]), f"drawn/case_{index}", limits) for index in range(count)]


@pytest.fixture(scope="module")
def cases():
    return drawn(MANY)


def test_random_cases_are_valid(cases):
    assert [fault for case in cases for fault in find_errors(case)] == []


def test_random_case_is_determined_by_seed(cases):
    assert [case.digest for case in drawn(50)] == [case.digest for case in cases[:50]]
    assert drawn(50, seed=1)[0].digest != cases[0].digest


def test_random_cases_cover_all_capabilities(cases):
    assert {(case.loss, case.input_kind, case.target) for case in cases} == set(FAMILIES)
    assert {name for case in cases for name in case.options.names()} == set(OPTIONS)
    assert {dtype for case in cases for dtype in case.dtypes} == set(DTYPES)
    assert {reduction for case in cases for reduction in case.reductions} == set(REDUCTIONS)
    assert {case.layout.order for case in cases} == set(ORDERS)
    assert {case.layout.label_dtype for case in cases} == {None, *LABEL_DTYPES}
    assert {case.predictions.ndim for case in cases if case.loss == "binary"} == {0, 1, 2, 3, 4}
    assert {case.predictions.ndim for case in cases if case.loss == "categorical"} == {1, 2, 3, 4}
    assert _kinds(cases) - {"missing_class"} == DEFAULT_KINDS
    assert _kinds(drawn(MANY, Limits(kinds=UNUSUAL_KINDS))) - {"missing_class"} == UNUSUAL_KINDS - {BEYOND_RANGE}


def test_random_cases_respect_limits():
    limits = Limits(3, 2, ("float16",), frozenset(), (("categorical", "logits", "index"),), frozenset(), frozenset())
    for case in drawn(300, limits):
        *samples, classes = case.predictions.shape
        assert 1 <= np.prod(samples) <= 3
        assert classes == 2
        assert (case.loss, case.input_kind, case.target, case.dtypes) == (
            "categorical",
            "logits",
            "index",
            ("float16",),
        )
        assert case.options.names() == case.layout.names() == ()
        assert examine(case.problem("float16", "mean")) <= {"missing_class"}  # which a few labels do


def test_limits_that_admit_no_case_are_rejected(monkeypatch):
    monkeypatch.setattr(generation, "is_admissible", lambda case, limits: False)
    monkeypatch.setattr(generation, "MAX_ATTEMPTS", 3)
    with pytest.raises(ValueError, match="none of 3 random cases is valid"):
        random_case(np.random.default_rng(0), "a/b/c", Limits())


def test_random_cases_include_all_samples_ignored(cases):
    asked = [case for case in cases if case.options.ignore_index is not None and case.labels.size > 1]
    ignored = [(case.labels == case.options.ignore_index).mean() for case in asked]
    assert 1.0 in ignored
    assert any(0 < share < 1 for share in ignored)


def _kinds(cases):
    return {kind for case in cases for dtype in case.dtypes for kind in examine(case.problem(dtype, "mean"))}

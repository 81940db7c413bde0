"""A row as a value, as it is written, and as its cells are read again."""

import dataclasses
import json

import numpy as np
import pytest

from conformance.judging.row import (
    COLUMNS,
    DEFAULTS,
    FLOATS,
    SCHEMA,
    Elements,
    Row,
    array_of,
    choices_of,
    completed,
    exception_type,
    is_readable,
    listed_in,
    members_of,
    reason_in,
    record,
    thinned,
    warnings_in,
)
from conformance.model.convention import Convention
from conformance.model.outcome import Raised
from conformance.model.row_key import KEY, RowKey

PLAIN = RowKey("a/b/c", "d", "lib.f", "float32", "none", "gradient", "here", "1.0", "jax", "jit", "cuda")
ROW = Row(key=PLAIN, framework="lib", status="agrees", expected="ok")
EARLIER = 30
"""Columns of the first reports, whose places stay."""


def test_schema_has_every_field_of_the_key_and_says_what_each_column_means():
    assert set(KEY) < set(COLUMNS)
    assert all(column.meaning.endswith(".") and "|" not in column.name for column in SCHEMA)
    assert len(set(COLUMNS)) == len(COLUMNS)
    assert {column.name for column in SCHEMA[EARLIER:]} == set(DEFAULTS)


def test_record_has_numbers_as_numbers_and_everything_else_as_text():
    written = record(dataclasses.replace(ROW, error=0.5, where=(1, 2), conversion=("renormalised", "rounded_away")))
    assert tuple(written) == COLUMNS
    assert {name for name, cell in written.items() if not isinstance(cell, str)} == FLOATS
    assert (written["error"], written["budget"]) == (0.5, None)
    assert (written["where"], written["conversion"]) == ("[1, 2]", "renormalised; rounded_away")
    assert RowKey.of(written) == PLAIN


@pytest.mark.parametrize("most", [4, 10, 64])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (5, 4), (2, 0)])
def test_array_is_written_and_read_again(shape, most):
    values = np.arange(np.prod(shape), dtype=np.float64).reshape(shape) / 3
    values = np.where(values == 2, np.nan, values)
    written = record(dataclasses.replace(ROW, got=Elements.of(values, most)))
    got = array_of(written["got"])
    if values.size > most:
        assert thinned(written["shape"]) == (shape, most)
        assert (got[0], got[-1], got.shape) == (values.flat[0], values.flat[-1], (most,))
    else:
        assert written["shape"] == ""
        np.testing.assert_array_equal(got, values)


def test_shape_is_that_of_the_answer_where_that_alone_is_thinned():
    whole, large = Elements.of(np.zeros(3), 8), Elements.of(np.zeros((4, 4)), 8)
    assert thinned(record(dataclasses.replace(ROW, got=whole, want=large))["shape"]) == ((4, 4), 8)
    assert record(dataclasses.replace(ROW, want="undefined: no weight"))["shape"] == ""


@pytest.mark.parametrize("text", ["(3, 2): 4 of 7 elements", "(3,): 3 of 3 elements", "(3, 2)", "", "x"])
def test_shape_that_cannot_be_is_none(text):
    assert thinned(text) is None


@pytest.mark.parametrize(
    ("text", "holds"),
    [("1.5", 1.5), ("nan", np.nan), ("-inf", -np.inf), ("[NaN, 1.0]", [np.nan, 1.0]), ("error: x", None), ("", None)],
)
def test_cell_holds_a_number_an_array_or_neither(text, holds):
    found = array_of(text)
    assert found is None if holds is None else np.array_equal(found, holds, equal_nan=True)
    assert is_readable(text)


@pytest.mark.parametrize("text", ["[1.0", "[[1.0], [1.0, 2.0]]", '["a"]', "[" * 100_000])
def test_broken_array_is_not_readable(text):
    assert not is_readable(text)


def test_choices_are_read_as_they_were_described():
    convention = Convention(clip=1e-7, renormalise="no", accepts=frozenset({"one_class", "empty_batch"}))
    found = choices_of(str(convention))
    assert found == {"clip": "1e-07", "accepts": "empty_batch+one_class"}
    assert members_of(found["accepts"]) == ["empty_batch", "one_class"]
    assert choices_of("") == {}


def test_exception_and_warnings_are_read_by_type():
    raised = Raised("lib.Error", "no: not | this; 3", ("UserWarning: a: b", "FutureWarning: c"))
    written = record(dataclasses.replace(ROW, exception=raised, warnings=raised.warnings))
    assert exception_type(written["exception"]) == "lib.Error"
    assert list(map(exception_type, warnings_in(written["warnings"]))) == ["UserWarning", "FutureWarning"]
    assert (exception_type(""), warnings_in(""), listed_in("")) == ("", [], ())


def test_known_reason_is_read_without_its_link():
    assert reason_in("it is off (https://example.org/1)", "https://example.org/1") == "it is off"
    assert reason_in("it is off (by one)", "") == "it is off (by one)"


def test_row_of_an_earlier_version_gets_the_defaults():
    written = record(ROW)
    earlier = {name: written[name] for name in COLUMNS[:EARLIER]}
    found = completed(json.loads(json.dumps(earlier)))
    assert set(found) == set(COLUMNS)
    assert (found["quantity"], found["backend"], found["mode"], found["reason_code"]) == ("loss", "", "eager", "")
    assert completed(written) == written

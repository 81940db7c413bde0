"""A row as a value, as it is written, and as it is read again."""

import dataclasses
import json
import math
import pickle

import hypothesis
import hypothesis.strategies as st
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
    exception_type,
    listed_in,
    members_of,
    parse_subsampled_shape,
    reason_in,
    warnings_in,
)
from conformance.judging.verdict import STATUSES
from conformance.model.case import DTYPES
from conformance.model.convention import Convention
from conformance.model.outcome import Raised
from conformance.model.row_key import KEY, RowKey

PLAIN = RowKey("a/b/c", "d", "lib.f", "float32", "none", "gradient", "here", "1.0", "jax", "jit", "cuda")
ROW = Row(key=PLAIN, framework="lib", status="agrees", expected="ok")
EARLIER = 30
"""Columns of the first reports, whose places stay."""


def test_schema_has_every_key_field_and_describes_each_column():
    assert set(KEY) < set(COLUMNS)
    assert all(column.meaning.endswith(".") and "|" not in column.name for column in SCHEMA)
    assert len(set(COLUMNS)) == len(COLUMNS)
    assert {column.name for column in SCHEMA[EARLIER:]} == set(DEFAULTS)


def test_record_has_numbers_and_texts():
    written = dataclasses.replace(ROW, error=0.5, where=(1, 2), conversion=("renormalised", "rounded_away")).cells
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
    written = dataclasses.replace(ROW, got=Elements.of(values, most)).cells
    got = array_of(written["got"])
    if values.size > most:
        assert parse_subsampled_shape(written["shape"]) == (shape, most)
        assert (got[0], got[-1], got.shape) == (values.flat[0], values.flat[-1], (most,))
    else:
        assert written["shape"] == ""
        np.testing.assert_array_equal(got, values)


def test_shape_is_of_answer_if_only_answer_is_subsampled():
    whole, large = Elements.of(np.zeros(3), 8), Elements.of(np.zeros((4, 4)), 8)
    assert parse_subsampled_shape(dataclasses.replace(ROW, got=whole, want=large).cells["shape"]) == ((4, 4), 8)
    assert dataclasses.replace(ROW, want="undefined: no weight").cells["shape"] == ""


@pytest.mark.parametrize("text", ["(3, 2): 4 of 7 elements", "(3,): 3 of 3 elements", "(3, 2)", "", "x"])
def test_impossible_shape_is_none(text):
    assert parse_subsampled_shape(text) is None


@pytest.mark.parametrize(
    ("text", "holds"),
    [("1.5", 1.5), ("nan", np.nan), ("-inf", -np.inf), ("[NaN, 1.0]", [np.nan, 1.0]), ("error: x", None), ("", None)],
)
def test_cell_holds_a_number_an_array_or_neither(text, holds):
    found = array_of(text)
    assert found is None if holds is None else np.array_equal(found, holds, equal_nan=True)


def test_choices_are_read_as_they_were_described():
    convention = Convention(clip=1e-7, renormalise="no", accepts=frozenset({"one_class", "empty_batch"}))
    found = choices_of(str(convention))
    assert found == {"clip": "1e-07", "accepts": "empty_batch+one_class"}
    assert members_of(found["accepts"]) == ["empty_batch", "one_class"]
    assert choices_of("") == {}


def test_exception_and_warnings_are_read_by_type():
    raised = Raised("lib.Error", "no: not | this; 3", ("UserWarning: a: b", "FutureWarning: c"))
    written = dataclasses.replace(ROW, exception=raised, warnings=raised.warnings).cells
    assert exception_type(written["exception"]) == "lib.Error"
    assert list(map(exception_type, warnings_in(written["warnings"]))) == ["UserWarning", "FutureWarning"]
    assert (exception_type(""), warnings_in(""), listed_in("")) == ("", [], ())


def test_known_reason_is_read_without_its_link():
    assert reason_in("it is off (https://example.org/1)", "https://example.org/1") == "it is off"
    assert reason_in("it is off (by one)", "") == "it is off (by one)"


def test_row_of_an_earlier_version_gets_the_defaults():
    earlier = {name: ROW.cells[name] for name in COLUMNS[:EARLIER]}
    found = Row.of(json.loads(json.dumps(earlier)))
    assert (found.key.quantity, found.key.backend, found.key.mode, found.reason_code) == ("loss", "", "eager", "")
    assert found.cells == ROW.cells | DEFAULTS


TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["", ": ", " | ", "; ", "a: b | c: d", "x=1; y=2", "nan", "[1]", "\ud800\x1b\n\u2028", "\"'{}"]),
)
WORDS = st.sampled_from(["", "undefined: no weight", "error: invalid_label, x"])
NUMBERS = st.none() | st.floats()
SHAPES = st.sampled_from([(), (0,), (1,), (7,), (2, 0), (0, 3), (2, 3), (3, 2, 2), (9,)])


@st.composite
def elements(draw):
    shape = draw(SHAPES)
    size = math.prod(shape)
    values = draw(st.lists(st.floats(), min_size=size, max_size=size))
    return Elements.of(np.array(values, dtype=np.float64).reshape(shape), max_elements=draw(st.sampled_from([5, 1000])))


KEYS = st.builds(
    RowKey,
    **dict.fromkeys(KEY, TEXTS) | {"dtype": st.sampled_from(["", *DTYPES])},
)
WARNINGS = st.lists(st.builds("{}: {}".format, st.sampled_from(["UserWarning", "lib.W"]), TEXTS), max_size=3).map(tuple)
ROWS = st.builds(
    Row,
    **{field.name: TEXTS for field in dataclasses.fields(Row) if field.type == "str"}
    | dict.fromkeys(FLOATS, NUMBERS)
    | {
        "key": KEYS,
        "status": st.sampled_from(STATUSES),
        "got": st.none() | elements(),
        "want": WORDS | elements(),
        "want_by_convention": st.none() | elements(),
        "budgets": st.none() | elements(),
        "where": st.lists(st.integers(0, 9), max_size=3).map(tuple),
        "conversion": st.lists(st.sampled_from(["renormalised", "rounded_away"]), max_size=2).map(tuple),
        "exception": st.none() | st.builds(Raised, st.sampled_from(["E", "lib.Error"]), TEXTS),
        "warnings": WARNINGS,
    },
)


@hypothesis.given(ROWS)
def test_row_is_read_from_its_cells_without_loss(row):
    written = json.dumps(row.cells)
    found = Row.of(json.loads(written))
    assert json.dumps(found.cells) == written
    plain = [field.name for field in dataclasses.fields(Row) if field.type == "str"]
    for name in ("key", "where", "conversion", *plain):
        assert getattr(found, name) == getattr(row, name)
    for name in FLOATS:
        assert repr(getattr(found, name)) == repr(getattr(row, name))
    assert (found.exception, found.got is None) == (row.exception, row.got is None)
    if row.got is not None:
        np.testing.assert_array_equal(found.got.values.ravel(), row.got.values.ravel())
        assert found.got.values.dtype == np.float64


@pytest.mark.parametrize("most", [4, 64])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (5, 4)])
def test_subsampled_array_is_read_with_full_shape(shape, most):
    array = Elements.of(np.arange(math.prod(shape), dtype=np.float64).reshape(shape), most)
    found = Row.of(dataclasses.replace(ROW, got=array, want=array).cells)
    for one in (found.got, found.want):
        assert (one.shape, one.thinned) == (shape, array.thinned)
        np.testing.assert_array_equal(one.values, array.values)


def test_row_is_picklable():
    row = dataclasses.replace(ROW, got=Elements.of(np.arange(6.0).reshape(2, 3), 4), exception=Raised("E", "no"))
    assert pickle.loads(pickle.dumps(row)).cells == row.cells


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("got", "[1.0"),
        ("got", "undefined: x"),
        ("want", "[[1.0], [1.0, 2.0]]"),
        ("want_by_convention", '["a"]'),
        ("budgets", "[" * 100_000),
        ("where", "[{}]"),
        ("where", "1"),
        ("status", "fine"),
        ("dtype", "float31"),
        ("error", "0.5"),
        ("ratio", 10**400),
        ("call", None),
        ("case", 1),
    ],
)
def test_row_of_rejects_unreadable_cell(name, cell):
    with pytest.raises(ValueError, match=r".+"):
        Row.of(ROW.cells | {name: cell})
    with pytest.raises(ValueError, match="case"):
        Row.of({})


def test_rows_from_a_process_share_their_short_texts():
    one, other = (pickle.loads(pickle.dumps(dataclasses.replace(ROW, call="f" * 200))) for _ in range(2))
    assert one.key.function is other.key.function
    assert one.status is other.status
    assert one.call == other.call

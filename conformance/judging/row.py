"""A row of a report: its value, its serialisation, and functions that parse single cells.

A `Row` is typed.  `Row.cells` is its serialisation, the same for CSV, Parquet, JSON, the journal and the page: a number
or a text for each column of `COLUMNS`.  `Row.of` parses it.  The functions at the end of this module parse single
cells, for modules that compare reports read from files.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.judging.verdict import STATUSES
from conformance.model.case import DTYPES, QUANTITIES
from conformance.model.floats import Floats
from conformance.model.outcome import Raised
from conformance.model.row_key import EAGER, KEY, RowKey, set_interned

Cells = dict[str, Any]
"""A row by column: a float or None in the columns `FLOATS`, a text in the others."""

MAX_ELEMENTS = 1024
"""Arrays with more elements than this are thinned to that many evenly spaced elements; see `sample_indices`."""
MAX_GRADIENT_ELEMENTS = 64
"""The same for gradients, which have an element for each prediction."""
_LISTED, _WARNINGS, _TYPE = "; ", " | ", ": "
"""Separators: of entries in a list, of warnings, and of the type of an exception or a warning from its message."""


@dataclass(frozen=True, eq=False, slots=True)
class Elements:
    """An array of a row, or evenly spaced elements of a larger one; kept as text to save memory."""

    text: str
    """A number, or nested lists as JSON; a flat list for a thinned array."""
    shape: tuple[int, ...]
    """Shape of the whole array."""
    size: int
    """Number of elements in `text`."""

    @classmethod
    def of(cls, array: Any, max_elements: int, digits: int | None = None) -> Elements:
        """An array, thinned to at most `max_elements` elements.  digits: significant digits to keep; None for all."""
        complete = np.asarray(array, dtype=np.float64)
        values = (
            complete.reshape(-1)[sample_indices(complete.size, max_elements)]
            if complete.size > max_elements and complete.ndim > 0
            else complete
        )
        if digits is not None:
            rounded = [float(f"{value:.{digits}g}") for value in values.ravel().tolist()]
            values = np.array(rounded).reshape(values.shape)
        text = repr(float(values)) if values.ndim == 0 else json.dumps(values.tolist())
        return cls(text, complete.shape, values.size)

    @property
    def values(self) -> Floats:
        """The array, or for a thinned array its elements in `text`, flat."""
        array = array_of(self.text)
        assert array is not None, self.text
        return array if self.thinned else array.reshape(self.shape)

    @property
    def thinned(self) -> bool:
        """Whether the array has more elements than `text`."""
        return self.size < math.prod(self.shape)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Row:
    """The result of one call in a report.  The meaning of each field is that of its column in `SCHEMA`."""

    key: RowKey
    framework: str
    status: str
    expected: str
    reason_code: str = ""
    explanation: str = ""
    got: Elements | None = None
    want: Elements | str = ""
    want_by_convention: Elements | None = None
    budgets: Elements | None = None
    error: float | None = None
    budget: float | None = None
    ratio: float | None = None
    ulps: float | None = None
    where: tuple[int, ...] = ()
    convention: str = ""
    candidate: str = ""
    bridge: str = ""
    conversion: tuple[str, ...] = ()
    exception: Raised | None = None
    warnings: tuple[str, ...] = ()
    call: str = ""
    known: str = ""
    known_source: str = ""
    result_dtype: str = ""
    python: str = ""
    numpy: str = ""

    __setstate__ = set_interned

    @property
    def cells(self) -> Cells:
        """The row by column, as written to files."""
        return {name: cell(self) for name, cell in _CELL.items()}

    @classmethod
    def of(cls, cells: Mapping[str, Any]) -> Row:
        """Parse a row from its cells, which may be those of an earlier version.

        If both arrays are thinned and have different shapes, both get the shape of the first, as only that is written;
        a warning that contains ` | ` is split.  The cells of the result are the same.

        Raises ValueError for a cell that is absent, of another type, or malformed.
        """
        cells = {**DEFAULTS, **cells}
        try:
            if wrong := [name for name in COLUMNS if isinstance(cells.get(name), str) is (name in FLOATS)]:
                raise TypeError(f"no cell, or one of another type, in: {', '.join(wrong)}")
            if cells["status"] not in STATUSES or cells["dtype"] not in ("", *DTYPES):
                raise ValueError("an unknown status or dtype")
            text_cells: dict[str, Any] = {name: cells[name] for name in _TEXTS}
            text_cells |= {name: float(cells[name]) for name in FLOATS if cells.get(name) is not None}
            array = functools.partial(_elements, shape=parse_subsampled_shape(cells["shape"]))
            want, exception = array(cells["want"], words=True), cells["exception"].partition(_TYPE)
            return cls(
                key=RowKey.of(cells),
                got=array(cells["got"]),
                want=cells["want"] if want is None else want,
                want_by_convention=array(cells["want_by_convention"]),
                budgets=array(cells["budgets"]),
                where=tuple(map(int, json.loads(cells["where"] or "[]"))),
                conversion=listed_in(cells["conversion"]),
                exception=Raised(exception[0], exception[2]) if cells["exception"] else None,
                warnings=tuple(cells["warnings"].split(_WARNINGS)) if cells["warnings"] else (),
                **text_cells,
            )
        except (TypeError, KeyError, OverflowError, RecursionError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Column:
    """A column of a report."""

    name: str
    meaning: str
    """Description in Markdown."""
    number: bool = False
    """Whether its cells are floats or None; they are texts otherwise."""
    default: str | None = None
    """The value in reports without this column; None for a column that every report has."""
    cell: Callable[[Row], str] | None = None
    """Function that returns the cell of a row; None for the value of the field of that name in the row or its key."""


def _array(name: str) -> Callable[[Row], str]:
    field = operator.attrgetter(name)
    return lambda row: "" if (value := field(row)) is None else str(value)


def _shape(row: Row) -> str:
    arrays = [elements for elements in (row.got, row.want) if isinstance(elements, Elements)]
    thin = next((elements for elements in arrays if elements.thinned), None)
    return f"{thin.shape}: {thin.size} of {math.prod(thin.shape)} elements" if thin is not None else ""


SCHEMA = (
    Column("case", "Id of the case; empty in the row of an environment that cannot be made."),
    Column("digest", "Digest of the content of the case."),
    Column("framework", "Name of the framework."),
    Column("function", "Name of the function, with its framework."),
    Column("version", "Version of the framework."),
    Column("environment", "Name of the environment in which it ran."),
    Column("device", "Where the arrays were."),
    Column("dtype", "dtype of the problem."),
    Column("reduction", "`none`, `sum` or `mean`."),
    Column("status", "`agrees`, `diverges`, `disagrees`, `crashed`, `timed_out`, `undefined` or `unsupported`."),
    Column(
        "got", "The returned number, or array as JSON; of a large array evenly spaced elements.", cell=_array("got")
    ),
    Column("want", "The exact answer by the definition in the same form, or why there is none.", cell=_array("want")),
    Column("error", "Distance of the worst element from the answer that the status rests on.", number=True),
    Column("budget", "The error that this element may have.", number=True),
    Column("ratio", "`error` divided by `budget`.", number=True),
    Column("ulps", "`error` in units in the last place of the exact answer, in the dtype.", number=True),
    Column("convention", "The documented choices that explain the row, `field=value` joined by `; `."),
    Column("explanation", "The reason of the status in words."),
    Column("bridge", "Names of the conversions that weights and predictions went through, joined by `; `."),
    Column(
        "exception",
        "`Type: message` of what was raised.",
        cell=lambda row: (
            f"{row.exception.exception}{_TYPE}{row.exception.message}" if row.exception is not None else ""
        ),
    ),
    Column(
        "warnings",
        "`Category: message` of each warning, joined by ` | `.",
        cell=lambda row: _WARNINGS.join(row.warnings),
    ),
    Column("call", "Python source that makes the call again."),
    Column(
        "expected",
        "`ok`; `known`: it fails, and the ledger has it; `unexpected`: it fails, and the ledger has it not; `stale`: "
        "the ledger has it, and it is gone.",
    ),
    Column("known", "What the ledger says of the row, and where to read more."),
    Column(
        "where",
        "Index of the worst element; empty for a scalar.",
        cell=lambda row: str(list(row.where)) if row.where else "",
    ),
    Column(
        "want_by_convention",
        "The answer by the part of the documented convention that the status rests on.",
        cell=_array("want_by_convention"),
    ),
    Column("budgets", "The error that each element may have, where there are several.", cell=_array("budgets")),
    Column("result_dtype", "dtype of what was returned."),
    Column("python", "Version of Python there."),
    Column("numpy", "Version of numpy there."),
    Column("quantity", f"{', '.join(f'`{name}`' for name in QUANTITIES[:-1])} or `{QUANTITIES[-1]}`.", default="loss"),
    Column(
        "shape",
        "Empty where the row has its arrays whole. Else the shape of what was returned, or of `want` where that alone "
        "is thinned, and how many elements there are: `(300, 100): 1024 of 30000 elements`.",
        default="",
        cell=_shape,
    ),
    Column(
        "conversion",
        "What the conversion in `bridge` changed, where that is a reason: `renormalised`, `rounded_away`, `rounded` or "
        "`refused`, joined by `; `.",
        default="",
        cell=lambda row: _LISTED.join(row.conversion),
    ),
    Column("backend", "Backend of a framework that has several.", default=""),
    Column("mode", "How the call was made.", default=EAGER),
    Column(
        "reason_code",
        "The reason of the status as a code; empty for what plainly agrees. What is in words in `explanation`.",
        default="",
    ),
    Column(
        "candidate",
        "Choices that the function does not document and that would explain a wrong value.",
        default="",
    ),
    Column("known_source", "The link in `known`.", default=""),
)
"""The columns of a report, in order."""
COLUMNS = tuple(column.name for column in SCHEMA)
FLOATS = frozenset(column.name for column in SCHEMA if column.number)
"""Columns of numbers, NaN or None if a row has none; the others are texts."""
DEFAULTS = {column.name: column.default for column in SCHEMA if column.default is not None}
"""Columns that earlier reports lack, with the value to assume for them."""
_CELL = {
    column.name: column.cell or operator.attrgetter(f"key.{column.name}" if column.name in KEY else column.name)
    for column in SCHEMA
}
_TEXTS = tuple(field.name for field in dataclasses.fields(Row) if field.type == "str")


def column_of(rows: Sequence[Row], name: str) -> list[Any]:
    """The cells of rows in one column; see `Row.cells`."""
    return list(map(_CELL[name], rows))


def sample_indices(size: int, count: int) -> npt.NDArray[np.int64]:
    """Indices of the elements of a flat array that a report keeps: at most `most`, with the first and the last."""
    return np.linspace(0, size - 1, count).astype(np.int64)


def _elements(cell: str, shape: tuple[tuple[int, ...], int] | None, words: bool = False) -> Elements | None:
    """Parse the array in a cell; None if it is empty.

    shape: shape and size as in `parse_subsampled_shape`.  words: whether a cell may hold a word instead, which also
    gives None.
    """
    if (values := array_of(cell)) is None:
        if cell and not words:
            raise ValueError(f"neither a number nor an array: {cell[:80]}")
        return None
    return Elements(cell, shape[0] if shape is not None and values.shape == (shape[1],) else values.shape, values.size)


# Parsers of single cells, as in the files of a report.


def array_of(text: str) -> Floats | None:
    """The number or array in a cell; None if it holds neither, as in `undefined: ...`.

    Raises ValueError, TypeError, OverflowError or RecursionError for a malformed array.
    """
    if text.startswith("["):
        return np.array(json.loads(text), dtype=np.float64)
    try:
        return np.asarray(float(text))
    except ValueError:
        return None


@functools.lru_cache(maxsize=4096)
def choices_of(convention: str) -> Mapping[str, str]:
    """The choices in a cell of `convention`, value by field."""
    parts = (choice.partition("=") for choice in convention.split(_LISTED))
    return {name: value for name, equals, value in parts if equals}


def members_of(value: str) -> list[str]:
    """The members of a set that is the value of a choice; see `convention.value_text`."""
    return value.split("+")


def reason_in(known: str, source: str) -> str:
    """The reason in a cell of `known`, without the link, which `known_source` has; see `KnownIssue.summary`."""
    return known.removesuffix(f" ({source})") if source else known


@functools.lru_cache(maxsize=4096)
def listed_in(cell: str) -> tuple[str, ...]:
    """The entries of a cell with a list, such as `conversion`."""
    return tuple(entry for entry in cell.split(_LISTED) if entry)


@functools.lru_cache(maxsize=4096)
def exception_type(exception: str) -> str:
    """The type of an exception in a cell of `exception`, or the category of a warning."""
    return exception.partition(_TYPE)[0]


def warnings_in(cell: str) -> list[str]:
    """The warnings in a cell, each `Category: message`."""
    return [warning for warning in cell.split(_WARNINGS) if warning]


_THINNED = re.compile(r"\(((?:\d{1,15},? ?){1,32})\): (\d{1,15}) of (\d{1,15}) elements")


@functools.cache
def parse_subsampled_shape(cell: str) -> tuple[tuple[int, ...], int] | None:
    """(shape, number of elements) in a cell of `shape`; None if it is empty or malformed."""
    if (match := _THINNED.fullmatch(cell)) is None:
        return None
    sides = tuple(int(side) for side in match[1].split(",") if side.strip())
    shown, size = int(match[2]), int(match[3])
    return (sides, shown) if 0 < shown < size == math.prod(sides) else None

"""A row of a report: its value, the columns that it is written as, and how their texts are read again.

A `Row` is typed.  `record` is its serialisation, the same for CSV, Parquet, JSON, the journal and the page: a number or
a text in each column of `COLUMNS`.  Every other module reads a cell by the functions at the end of this one.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.model.outcome import Raised
from conformance.model.row_key import EAGER, RowKey

Floats = npt.NDArray[np.float64]
Record = dict[str, Any]
"""A row by column: a float or None in the columns of `FLOATS`, a text in the others."""

SHOWN = 1024
"""Arrays with more elements than this are written as that many evenly spaced elements; see `spaced`."""
SHOWN_OF_GRADIENTS = 64
"""The same for gradients, which have an element for each prediction."""
_LISTED, _WARNINGS, _TYPE = "; ", " | ", ": "
"""Between entries of a list, between warnings, and between the type of an exception or a warning and its message."""


@dataclass(frozen=True, eq=False)
class Elements:
    """An array of a row, or evenly spaced elements of a larger one.

    values: the array itself, or as many of its elements as a report has.  shape: of the whole array.
    """

    values: Floats
    shape: tuple[int, ...]

    @classmethod
    def of(cls, array: Any, most: int) -> Elements:
        """An array, thinned to at most `most` elements."""
        whole = np.asarray(array, dtype=np.float64)
        thin = whole.size > most and whole.ndim > 0
        return cls(whole.reshape(-1)[spaced(whole.size, most)] if thin else whole, whole.shape)

    @property
    def thinned(self) -> bool:
        """Whether the array has more elements than `values`."""
        return self.values.size < math.prod(self.shape)

    def __str__(self) -> str:
        return repr(float(self.values)) if self.values.ndim == 0 else json.dumps(self.values.tolist())


@dataclass(frozen=True, eq=False, kw_only=True)
class Row:
    """What a report has of one call.  The meaning of each field stands at its column in `SCHEMA`."""

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


@dataclass(frozen=True)
class Column:
    """A column of a report.

    meaning: in Markdown.  of: its cell, a float or None where `number`, else something whose `str` is its text.
    default: what a report means that lacks the column; None for a column that every report has.
    """

    name: str
    meaning: str
    of: Callable[[Row], Any]
    number: bool = False
    default: str | None = None


def _shape(row: Row) -> str:
    arrays = [one for one in (row.got, row.want) if isinstance(one, Elements)]
    thin = next((one for one in arrays if one.thinned), None)
    return f"{thin.shape}: {thin.values.size} of {math.prod(thin.shape)} elements" if thin is not None else ""


SCHEMA = (
    Column("case", "Id of the case; empty in the row of an environment that cannot be had.", lambda row: row.key.case),
    Column("digest", "Digest of the content of the case.", lambda row: row.key.digest),
    Column("framework", "Name of the framework.", lambda row: row.framework),
    Column("function", "Name of the function, with its framework.", lambda row: row.key.function),
    Column("version", "Version of the framework.", lambda row: row.key.version),
    Column("environment", "Name of the environment in which it ran.", lambda row: row.key.environment),
    Column("device", "Where the arrays were.", lambda row: row.key.device),
    Column("dtype", "dtype of the problem.", lambda row: row.key.dtype),
    Column("reduction", "`none`, `sum` or `mean`.", lambda row: row.key.reduction),
    Column(
        "status",
        "`agrees`, `diverges`, `disagrees`, `crashed`, `timed_out`, `undefined` or `unsupported`.",
        lambda row: row.status,
    ),
    Column(
        "got",
        "The returned number, or array as JSON; of a large array evenly spaced elements.",
        lambda row: row.got,
    ),
    Column("want", "The exact answer by the definition in the same form, or why there is none.", lambda row: row.want),
    Column(
        "error", "Distance of the worst element from the answer that the status rests on.", lambda row: row.error, True
    ),
    Column("budget", "The error that this element may have.", lambda row: row.budget, True),
    Column("ratio", "`error` divided by `budget`.", lambda row: row.ratio, True),
    Column("ulps", "`error` in units in the last place of the exact answer, in the dtype.", lambda row: row.ulps, True),
    Column(
        "convention",
        "The documented choices that explain the row, `field=value` joined by `; `.",
        lambda row: row.convention,
    ),
    Column("explanation", "The reason of the status in words.", lambda row: row.explanation),
    Column("bridge", "Name of the conversion that the predictions went through.", lambda row: row.bridge),
    Column(
        "exception",
        "`Type: message` of what was raised.",
        lambda row: f"{row.exception.exception}{_TYPE}{row.exception.message}" if row.exception is not None else "",
    ),
    Column(
        "warnings", "`Category: message` of each warning, joined by ` | `.", lambda row: _WARNINGS.join(row.warnings)
    ),
    Column("call", "Python source that makes the call again.", lambda row: row.call),
    Column(
        "expected",
        "`ok`; `known`: it fails, and the ledger has it; `unexpected`: it fails, and the ledger has it not; `stale`: "
        "the ledger has it, and it is gone.",
        lambda row: row.expected,
    ),
    Column("known", "What the ledger says of the row, and where to read more.", lambda row: row.known),
    Column(
        "where",
        "Index of the worst element; empty for a scalar.",
        lambda row: list(row.where) if row.where else "",
    ),
    Column(
        "want_by_convention",
        "The answer by the part of the documented convention that the status rests on.",
        lambda row: row.want_by_convention,
    ),
    Column("budgets", "The error that each element may have, where there are several.", lambda row: row.budgets),
    Column("result_dtype", "dtype of what was returned.", lambda row: row.result_dtype),
    Column("python", "Version of Python there.", lambda row: row.python),
    Column("numpy", "Version of numpy there.", lambda row: row.numpy),
    Column("quantity", "`loss` or `gradient`.", lambda row: row.key.quantity, default="loss"),
    Column(
        "shape",
        "Empty where the row has its arrays whole. Else the shape of what was returned, or of `want` where that alone "
        "is thinned, and how many elements there are: `(300, 100): 1024 of 30000 elements`.",
        _shape,
        default="",
    ),
    Column(
        "conversion",
        "What the conversion in `bridge` changed, where that is a reason: `renormalised`, `rounded_away`, `rounded` or "
        "`refused`, joined by `; `.",
        lambda row: _LISTED.join(row.conversion),
        default="",
    ),
    Column("backend", "Backend of a framework that has several.", lambda row: row.key.backend, default=""),
    Column("mode", "How the call was made.", lambda row: row.key.mode, default=EAGER),
    Column(
        "reason_code",
        "The reason of the status as a code; empty for what plainly agrees. What is in words in `explanation`.",
        lambda row: row.reason_code,
        default="",
    ),
    Column(
        "candidate",
        "Choices that the function does not document and that would explain a wrong value.",
        lambda row: row.candidate,
        default="",
    ),
    Column("known_source", "The link in `known`.", lambda row: row.known_source, default=""),
)
"""The columns of a report, in order."""
COLUMNS = tuple(column.name for column in SCHEMA)
FLOATS = frozenset(column.name for column in SCHEMA if column.number)
"""Columns of numbers, NaN or None where a row has none; the others are texts."""
DEFAULTS = {column.name: column.default for column in SCHEMA if column.default is not None}
"""Columns that reports did not always have, and what those mean that lack them."""


def record(row: Row) -> Record:
    """A row as it is written: a float or None in a column of numbers, a text in the others."""
    return {column.name: _cell(column.of(row), column.number) for column in SCHEMA}


def _cell(value: Any, number: bool) -> Any:
    return value if number else "" if value is None else str(value)


def key_of(cells: Record) -> RowKey:
    """What a row has in common with no other row of its run, but with those of its question in another run."""
    return RowKey.of(cells).across_versions()


def completed(cells: Mapping[str, Any]) -> Record:
    """A row that was written by an earlier version, with the columns that it lacks."""
    return {**cells, **{name: default for name, default in DEFAULTS.items() if name not in cells}}


def spaced(size: int, most: int) -> npt.NDArray[np.int64]:
    """Which elements of a flat array a report has: at most `most`, the first and the last among them."""
    return np.linspace(0, size - 1, most).astype(np.int64)


# Cells read again.


def array_of(text: str) -> Floats | None:
    """The number or the array in a cell; None where it holds none, as in `undefined: ...`.

    Raises ValueError, TypeError, OverflowError or RecursionError for a broken array.
    """
    if text.startswith("["):
        return np.array(json.loads(text), dtype=np.float64)
    try:
        return np.asarray(float(text))
    except ValueError:
        return None


def is_readable(text: str) -> bool:
    """Whether a cell holds a number, an array or a word, and no broken array."""
    try:
        array_of(text)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return False
    return True


@functools.lru_cache(maxsize=4096)
def choices_of(convention: str) -> Mapping[str, str]:
    """The choices in a cell of `convention`, value by field."""
    parts = (choice.partition("=") for choice in convention.split(_LISTED))
    return {name: value for name, equals, value in parts if equals}


def members_of(value: str) -> list[str]:
    """The members of a set that is the value of a choice; see `convention.value_text`."""
    return value.split("+")


def reason_in(known: str, source: str) -> str:
    """The reason in a cell of `known`, without the link that `known_source` has; see `Known.told`."""
    return known.removesuffix(f" ({source})") if source else known


@functools.lru_cache(maxsize=4096)
def listed_in(cell: str) -> tuple[str, ...]:
    """The entries of a cell that holds a list, such as `conversion`."""
    return tuple(entry for entry in cell.split(_LISTED) if entry)


@functools.lru_cache(maxsize=4096)
def exception_type(exception: str) -> str:
    """The type in a cell of `exception`, or the category of a warning."""
    return exception.partition(_TYPE)[0]


def warnings_in(cell: str) -> list[str]:
    """The warnings in a cell, each `Category: message`."""
    return [warning for warning in cell.split(_WARNINGS) if warning]


_THINNED = re.compile(r"\(((?:\d{1,15},? ?){1,32})\): (\d{1,15}) of (\d{1,15}) elements")


@functools.cache
def thinned(cell: str) -> tuple[tuple[int, ...], int] | None:
    """(shape, how many elements there are) in a cell of `shape`; None where it holds none."""
    if (found := _THINNED.fullmatch(cell)) is None:
        return None
    sides = tuple(int(side) for side in found[1].split(",") if side.strip())
    shown, size = int(found[2]), int(found[3])
    return (sides, shown) if 0 < shown < size == math.prod(sides) else None


__all__ = [
    "COLUMNS",
    "DEFAULTS",
    "FLOATS",
    "SCHEMA",
    "SHOWN",
    "SHOWN_OF_GRADIENTS",
    "Column",
    "Elements",
    "Record",
    "Row",
    "array_of",
    "choices_of",
    "completed",
    "exception_type",
    "is_readable",
    "key_of",
    "listed_in",
    "members_of",
    "reason_in",
    "record",
    "spaced",
    "thinned",
    "warnings_in",
]

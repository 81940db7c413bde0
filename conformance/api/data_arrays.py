"""Convert arguments, arrays or tables of any library, to numpy arrays of numbers or names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from conformance.model.case import Array
from conformance.model.errors import UserError
from conformance.model.text import truncate
from conformance.testing.arrays import to_numpy

MAX_SHOWN = 8
"""Maximum number of names of classes or columns that a message lists."""
NUMBER_KINDS = "fiuV"
"""Kinds of the dtypes of numbers; V is the kind of bfloat16, which ml_dtypes defines."""


class DataError(UserError, ValueError):
    """Data that are not a cross-entropy problem; the message names the array, the fault and the remedy."""


def read_array(argument: str, value: Any) -> Array:
    """An array of numbers, of booleans, or of strings and other objects that are names."""
    if isinstance(value, pd.Series | pd.DataFrame):
        missing = value.isna().to_numpy()
        has_nan = all(isinstance(dtype, np.dtype) and dtype.kind == "f" for dtype in _column_dtypes(value))
        if missing.any() and not has_nan:
            raise DataError(_missing_message(argument, missing))
        if argument != "labels":
            _check_numeric(argument, value)
        value = value.to_numpy()
    try:
        array = np.array(value, dtype=object) if _has_text(value) else to_numpy(value)
    except Exception as error:
        message = f"{type(error).__name__}: {truncate(' '.join(str(error).split()), 200)}"
        raise DataError(f"{argument}: a {type(value).__name__} cannot be read as an array: {message}") from error
    if array.dtype.names:
        raise DataError(
            f"{argument}: an array with fields {', '.join(array.dtype.names[:MAX_SHOWN])}; pass one of them"
        )
    if array.dtype.kind == "O":
        array = _convert_objects(argument, array)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if argument == "labels" and array.dtype.kind == "f" and np.isnan(array).any() and array.ndim == 1:
        raise DataError(_missing_message(argument, np.isnan(array)))
    if argument != "labels" and array.dtype.kind not in "b" + NUMBER_KINDS:
        raise DataError(f"{argument}: {array.dtype.name} of shape {list(array.shape)}; expected numbers")
    return array


def _has_text(value: Any) -> bool:
    """Whether a value is a list that contains a string, which would make numpy convert all elements to strings."""
    return isinstance(value, list | tuple) and any(isinstance(item, str) for item in value)


def _check_numeric(argument: str, value: Any) -> None:
    """Raise DataError for the first value of a table that is not a number, with its column and its row."""
    table = value.to_frame() if isinstance(value, pd.Series) else value
    for column in table.columns:
        wrong = pd.to_numeric(table[column], errors="coerce").isna() & table[column].notna()
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            text = truncate(repr(table[column].iloc[row]), 40)
            raise DataError(f"{argument}: {text} in row {row} of column {str(column)!r}; expected a number")


def _column_dtypes(value: Any) -> list[Any]:
    return list(value.dtypes) if isinstance(value, pd.DataFrame) else [value.dtype]


def _missing_message(argument: str, missing: Any) -> str:
    """The number of missing values of an argument, and the row of the first."""
    count, row = int(missing.sum()), int(np.argwhere(missing)[0][0])
    return f"{argument}: {count} missing, the first in row {row}; fill or remove {'it' if count == 1 else 'them'}"


def _convert_objects(argument: str, packed: Array) -> Array:
    """An object array converted to the single type of its elements."""
    types = {type(value).__name__: value for value in packed.ravel()[::-1].tolist()}
    if len(types) > 1 and not set(types) <= {"int", "float"}:
        listed = ", ".join(f"{kind} such as {truncate(repr(value), 20)}" for kind, value in list(types.items())[:3])
        raise DataError(f"{argument}: values of {len(types)} types, {listed}; expected one type")
    values = np.array(packed.tolist())
    if values.dtype.kind == "O":
        raise DataError(f"{argument}: values of type {next(iter(types))}; expected numbers, booleans or strings")
    return values

"""Read arrays and tables from files of NumPy, pandas and PyTorch."""

from __future__ import annotations

import functools
import importlib
import io
import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conformance.api.data_arrays import MAX_SHOWN, DataError
from conformance.model.text import truncate


def read_file(option: str, text: str) -> Any:
    """Read the array or the table in a file.

    Formats: .npy, .npz, .csv, .tsv, .parquet, .pt and .pth.  Pickles are not executed.

    Parameters
    ----------
    option : str
        Name shown at the start of messages, such as `--labels`.
    text : str
        `PATH`, or for a file with several arrays or columns `PATH:NAME[,NAME...]`; several names select several
        columns.

    Raises
    ------
    DataError
        If the file cannot be read, or has no such array.
    """
    path, keys = _split_path(text)
    if not path.exists():
        raise DataError(f"{option}: there is no file {path}")
    if not path.is_file():
        raise DataError(f"{option}: {path} is not a regular file; name a file of {', '.join(_READERS)}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{option}: {path}: unknown format {path.suffix or 'without an extension'}; {_ADVICE}")
    try:
        content = reader(path)
    except MemoryError:
        raise DataError(f"{option}: {path} does not fit into memory; take fewer samples") from None
    except Exception as error:
        message = truncate(" ".join(str(error).split()), 200)
        advice = "; pickles are not read" if "pickle" in message else ""
        raise DataError(f"{option}: {path} cannot be read: {type(error).__name__}: {message}{advice}") from error
    return _select_member(f"{option}: {path}", content, keys)


def _split_path(text: str) -> tuple[Path, list[str]]:
    """Split text into the path and the names after its last colon; a file name may contain a colon."""
    path, colon, keys = text.rpartition(":")
    if not colon or Path(text).exists() or not Path(path).suffix:
        return Path(text), []
    return Path(path), [key.strip() for key in keys.split(",")]


def _select_member(where: str, content: Any, keys: Sequence[str]) -> Any:
    """One of several arrays, or some columns of a table.

    keys: names of the columns, or of the array; empty for the only array or all columns.
    """
    if isinstance(content, pd.DataFrame):
        if keys:
            _check_keys(where, keys, [str(name) for name in content.columns], "column")
            table = content.set_axis([str(name) for name in content.columns], axis=1)[list(keys)]
            return table[keys[0]] if len(keys) == 1 else table
        return content.iloc[:, 0] if content.shape[1] == 1 else content
    if not isinstance(content, Mapping):
        if keys:
            raise DataError(f"{where}: it holds one array, without a name; leave :{','.join(keys)} out")
        return content
    if not keys and len(content) == 1:
        return next(iter(content.values()))
    if len(keys) != 1:
        if not content:
            raise DataError(f"{where}: it holds no array")
        listed = ", ".join(list(map(str, content))[:MAX_SHOWN])
        raise DataError(f"{where}: it holds {len(content)} arrays; name one after a colon, of {listed}")
    _check_keys(where, keys, list(map(str, content)), "array")
    return {str(name): value for name, value in content.items()}[keys[0]]


def _check_keys(where: str, keys: Sequence[str], available: Sequence[str], noun: str) -> None:
    for key in keys:
        if key not in available:
            raise DataError(f"{where}: it has no {noun} {key!r}; expected one of {', '.join(available[:MAX_SHOWN])}")


def _read_csv(path: Path, separator: str = ",") -> pd.DataFrame:
    """A table whose first row is a header unless it consists of numbers.

    An empty line between others is a missing value.
    """
    text = path.read_text(encoding="utf-8-sig").strip("\r\n")
    head = pd.read_csv(io.StringIO(text), sep=separator, nrows=1, header=None, dtype=str)
    names = head.iloc[0]
    numeric = pd.to_numeric(names, errors="coerce").notna().all()
    repeated = names[names.duplicated() & names.notna()]
    if len(repeated) and not numeric:
        raise ValueError(f"two columns are called {repeated.iloc[0]!r}")
    if len(names) == 1 and ";" in str(names[0]):
        raise ValueError("it separates columns by ';'; separate them by ',', with points in numbers")
    has_index = names.isna().tolist() == [True] + [False] * (len(names) - 1)  # the format of `DataFrame.to_csv`
    index = 0 if has_index and len(names) > 1 else None
    table = pd.read_csv(
        io.StringIO(text), sep=separator, header=None if numeric else "infer", index_col=index, skip_blank_lines=False
    )
    if index is None and not isinstance(table.index, pd.RangeIndex):
        raise ValueError(f"its rows have more values than the first one, which has {len(names)}")
    return table


def _read_torch(path: Path) -> Any:
    torch = importlib.import_module("torch")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # whose text tells how to have it executed
        raise ValueError(
            "it is no file of torch.save, or a pickle that holds more than tensors; save a tensor alone"
        ) from None


def _read_npy(path: Path) -> Any:
    with path.open("rb") as file:  # `np.load` would report any other file as a pickle
        return np.lib.format.read_array(file, allow_pickle=False)


def _read_npz(path: Path) -> dict[str, Any]:
    if not zipfile.is_zipfile(path):  # `np.load` reads other formats, too
        raise ValueError("it is not a zip archive")
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


_READERS: dict[str, Callable[[Path], Any]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".tsv": functools.partial(_read_csv, separator="\t"),
    ".parquet": pd.read_parquet,
    ".pt": _read_torch,
    ".pth": _read_torch,
}
_ADVICE = f"expected {', '.join(_READERS)}; pickles are not read"

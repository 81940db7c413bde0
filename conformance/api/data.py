"""Convert a user's data set, arrays or files, to a case, with a sentence for each choice inferred from the data."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conformance.model.case import DATA, INPUT_KINDS, WEIGHTS, Array, Case, InputKind, Layout, MustRaise, Options
from conformance.model.errors import UserError
from conformance.model.text import truncate
from conformance.testing.arrays import to_numpy
from conformance.testing.inputs import SUM_TOLERANCE, Inputs, read_dtype, read_inputs

MAX_BROADCAST = 1 << 20
"""Maximum number of losses if a function broadcasts labels against predictions."""
MAX_SHOWN = 8
"""Maximum number of names of classes or columns that a message lists."""


class DataError(UserError, ValueError):
    """Data that are not a cross-entropy problem; the message names the array, the fault and the remedy."""


# Files.


def read_file(option: str, text: str) -> Any:
    """Read the array or the table in a file.

    Formats: .npy, .npz, .csv, .tsv, .parquet, .pt and .pth.  Pickles are not executed.

    Parameters
    ----------
    option : str
        Start of messages.
    text : str
        The path; for a file with several arrays or columns followed by a colon and the name of one, or of several
        columns with commas between them.

    Raises
    ------
    DataError
        If the file cannot be read, or has no such array.
    """
    path, names = _split(text)
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
        raise DataError(f"{option}: {path} cannot be read: {type(error).__name__}: {message}; {_ADVICE}") from error
    return _chosen(f"{option}: {path}", content, names)


def _split(text: str) -> tuple[Path, list[str]]:
    """Split text into the path and the names after its last colon; a file name may contain a colon."""
    path, colon, names = text.rpartition(":")
    if not colon or Path(text).exists() or not Path(path).suffix:
        return Path(text), []
    return Path(path), [name.strip() for name in names.split(",")]


def _chosen(where: str, content: Any, names: Sequence[str]) -> Any:
    """One of several arrays, or some columns of a table."""
    if isinstance(content, pd.DataFrame):
        if names:
            _check_names(where, names, [str(name) for name in content.columns], "column")
            table = content.set_axis([str(name) for name in content.columns], axis=1)[list(names)]
            return table[names[0]] if len(names) == 1 else table
        return content.iloc[:, 0] if content.shape[1] == 1 else content
    if not isinstance(content, Mapping):
        if names:
            raise DataError(f"{where}: it holds one array, without a name; leave :{','.join(names)} out")
        return content
    if not names and len(content) == 1:
        return next(iter(content.values()))
    if len(names) != 1:
        if not content:
            raise DataError(f"{where}: it holds no array")
        listed = ", ".join(list(map(str, content))[:MAX_SHOWN])
        raise DataError(f"{where}: it holds {len(content)} arrays; name one after a colon, of {listed}")
    _check_names(where, names, list(map(str, content)), "array")
    return {str(name): value for name, value in content.items()}[names[0]]


def _check_names(where: str, names: Sequence[str], available: Sequence[str], noun: str) -> None:
    for name in names:
        if name not in available:
            raise DataError(f"{where}: it has no {noun} {name!r}; expected one of {', '.join(available[:MAX_SHOWN])}")


def _csv(path: Path, separator: str = ",") -> pd.DataFrame:
    """A table whose first row is a header unless it consists of numbers."""
    head = pd.read_csv(path, sep=separator, nrows=1, header=None, dtype=str)
    names = head.iloc[0]
    numeric = pd.to_numeric(names, errors="coerce").notna().all()
    has_index = names.isna().tolist() == [True] + [False] * (len(names) - 1)  # the format of `DataFrame.to_csv`
    index = 0 if has_index and len(names) > 1 else None
    return pd.read_csv(path, sep=separator, header=None if numeric else "infer", index_col=index)


def _torch(path: Path) -> Any:
    torch = importlib.import_module("torch")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # whose text tells how to have it executed
        raise ValueError("it is no file of torch.save, or holds more than tensors; save a tensor alone") from None


def _npy(path: Path) -> Any:
    with path.open("rb") as file:  # `np.load` would report any other file as a pickle
        return np.lib.format.read_array(file, allow_pickle=False)


def _npz(path: Path) -> dict[str, Any]:
    if not zipfile.is_zipfile(path):  # `np.load` reads other formats, too
        raise ValueError("it is not a zip archive")
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


_READERS: dict[str, Callable[[Path], Any]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".csv": _csv,
    ".tsv": functools.partial(_csv, separator="\t"),
    ".parquet": pd.read_parquet,
    ".pt": _torch,
    ".pth": _torch,
}
_ADVICE = f"expected {', '.join(_READERS)}; pickles are not read"


# Arrays.


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """A data set as a case."""

    case: Case
    decided: tuple[str, ...]
    """Choices inferred from the data, a sentence each."""
    inputs: Inputs


def read_data(
    labels: Any,
    predictions: Any,
    *,
    kind: str = "",
    classes: Sequence[Any] | None = None,
    dtype: str = "",
    loss: str = "",
    class_axis: int | None = None,
    reduction: str = "mean",
    options: Mapping[str, Any] | None = None,
) -> Data:
    """Read labels and predictions as a case; see `conformance.api.compare`.  Raises DataError."""
    decided: list[str] = []
    columns = list(predictions.columns) if isinstance(predictions, pd.DataFrame) else []
    values = _plain("predictions", predictions)
    targets = _plain("labels", labels)
    names: tuple[Any, ...] = ()
    if targets.dtype.kind in "OUS" or classes is not None:
        targets, names = _named_labels(targets, values, classes, columns, decided)
    decided += _nan_among(values)
    if not kind:
        kind = decide_kind(values, targets, decided)
    elif kind not in INPUT_KINDS:
        raise DataError(f"kind: {kind!r}; expected one of {', '.join(INPUT_KINDS)}")
    arguments = {name: value for name, value in (options or {}).items() if value is not None}
    arguments |= {name: _plain(name, arguments[name]) for name in WEIGHTS if name in arguments}
    arguments |= {
        "labels": targets,
        kind: values,
        "loss": loss or None,
        "reduction": reduction,
        "class_axis": class_axis,
    }
    fitting = _without_odd_axis(values, targets, loss, class_axis)
    if fitting is not None:
        arguments |= {
            "labels": fitting,
            "loss": loss or ("categorical" if fitting.shape == values.shape[:-1] else "binary"),
        }
    try:
        inputs = read_inputs(**arguments)
        chosen = read_dtype(dtype or None) or inputs.predictions.dtype or "float64"
    except (TypeError, ValueError) as error:
        raise DataError(str(error)) from error
    if inputs.target == "index" and not names and (note := _shifted(inputs)):
        decided.append(note)
    if inputs.target == "index" and class_axis is None and inputs.input_kind == "logits":
        alternatives = (axis for axis in range(values.ndim - 1) if np.moveaxis(values, axis, -1).shape == values.shape)
        if (alternative := next(alternatives, None)) is not None:
            decided.append(
                f"classes are on the last axis; as many are on axis {alternative}, which class_axis can name"
            )
    layout = Layout(class_names=names if inputs.target == "index" else ())
    case = _case(inputs, chosen, layout)
    if fitting is not None:
        shapes = f"labels of shape {list(targets.shape)} do not fit predictions of shape {list(values.shape)}"
        decided.append(f"{shapes}: the definition rejects them; functions take, broadcast or reject them as documented")
        case = dataclasses.replace(case, labels=case.labels.reshape(targets.shape), expect=MustRaise("shape_mismatch"))
    return Data(case, tuple(decided), inputs)


def _nan_among(predictions: Array) -> list[str]:
    """A sentence on nan among predictions; empty if there is none, in which case no boolean array is created."""
    has_nan = predictions.dtype.kind == "f" and predictions.size and np.isnan(np.minimum.reduce(predictions, axis=None))
    if not has_nan:
        return []
    nan = np.isnan(predictions)
    row = int(np.flatnonzero(nan)[0]) * (len(nan) if nan.ndim else 1) // nan.size
    return [f"{int(nan.sum())} of the predictions are nan, the first in row {row}"]


def _without_odd_axis(predictions: Array, labels: Array, loss: str, class_axis: int | None) -> Array | None:
    """Labels that fit predictions except for an axis of length 1, reshaped to fit; None for all others.

    None for a binary loss if broadcasting predictions against labels would give more than `MAX_BROADCAST` losses.
    """
    shape = predictions.shape
    if class_axis not in (None, -1, predictions.ndim - 1):
        return None
    if loss != "categorical" and (shape == (*labels.shape, 1) or (*shape, 1) == labels.shape):
        return labels.reshape(shape) if labels.size**2 <= MAX_BROADCAST else None
    if loss != "binary" and predictions.ndim > 1 and shape[-1] > 1 and labels.shape == (*shape[:-1], 1):
        return labels.reshape(shape[:-1])
    return None


def _case(inputs: Inputs, dtype: str, layout: Layout) -> Case:
    """The case of a data set.  Arrays in a dtype that float64 represents exactly are not copied."""
    labels = inputs.labels.values
    if inputs.target != "index" and labels.dtype.kind not in "bf":
        labels = labels.astype(np.int64)
    wide = functools.partial(np.asarray, dtype=np.float64)
    options = Options(
        label_smoothing=inputs.label_smoothing,
        ignore_index=inputs.ignore_index,
        **{name: wide(weights.values) for name, weights in inputs.weights.items()},
    )
    return Case(
        id=DATA,
        why="",
        about="a data set",
        source="",
        loss=inputs.loss,
        input_kind=inputs.input_kind,
        target=inputs.target,
        predictions=inputs.predictions.values,
        labels=labels,
        options=options,
        layout=layout,
        reductions=(inputs.reduction,),
        dtypes=(dtype,),
    )


def _plain(name: str, value: Any) -> Array:
    """An array of numbers, of booleans, or of strings and other objects that are names."""
    if isinstance(value, pd.Series | pd.DataFrame):
        missing = value.isna().to_numpy()
        if missing.any() and not all(dtype.kind == "f" for dtype in _dtypes(value)):
            raise DataError(_missing(name, missing))
        if name != "labels":
            _check_numeric(name, value)
        value = value.to_numpy()
    try:
        array = np.array(value, dtype=object) if _has_text(value) else to_numpy(value)
    except Exception as error:
        message = f"{type(error).__name__}: {truncate(' '.join(str(error).split()), 200)}"
        raise DataError(f"{name}: a {type(value).__name__} cannot be read as an array: {message}") from error
    if array.dtype.names:
        raise DataError(f"{name}: an array with fields {', '.join(array.dtype.names[:MAX_SHOWN])}; pass one of them")
    if array.dtype.kind == "O":
        array = _unpacked(name, array)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if name == "labels" and array.dtype.kind == "f" and np.isnan(array).any() and array.ndim == 1:
        raise DataError(_missing(name, np.isnan(array)))
    if name != "labels" and array.dtype.kind not in "bif" + "uV":
        raise DataError(f"{name}: {array.dtype.name} of shape {list(array.shape)}; expected numbers")
    return array


def _has_text(value: Any) -> bool:
    """Whether a value is a list that contains a string, which would make numpy convert all elements to strings."""
    return isinstance(value, list | tuple) and any(isinstance(item, str) for item in value)


def _check_numeric(name: str, value: Any) -> None:
    """Raise DataError for the first value of a table that is not a number, with its column and its row."""
    table = value.to_frame() if isinstance(value, pd.Series) else value
    for column in table.columns:
        wrong = pd.to_numeric(table[column], errors="coerce").isna() & table[column].notna()
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            text = truncate(repr(table[column].iloc[row]), 40)
            raise DataError(f"{name}: {text} in row {row} of column {str(column)!r}; expected a number")


def _dtypes(value: Any) -> list[Any]:
    return list(value.dtypes) if isinstance(value, pd.DataFrame) else [value.dtype]


def _missing(name: str, missing: Any) -> str:
    count, row = int(missing.sum()), int(np.argwhere(missing)[0][0])
    return f"{name}: {count} missing, the first in row {row}; fill or remove {'it' if count == 1 else 'them'}"


def _unpacked(name: str, packed: Array) -> Array:
    """An object array converted to the single type of its elements."""
    types = {type(value).__name__: value for value in packed.ravel()[::-1].tolist()}
    if len(types) > 1 and not set(types) <= {"int", "float"}:
        listed = ", ".join(f"{kind} such as {truncate(repr(value), 20)}" for kind, value in list(types.items())[:3])
        raise DataError(f"{name}: values of {len(types)} types, {listed}; expected one type")
    values = np.array(packed.tolist())
    if values.dtype.kind == "O":
        raise DataError(f"{name}: values of type {next(iter(types))}; expected numbers, booleans or strings")
    return values


def _named_labels(
    labels: Array, predictions: Array, classes: Sequence[Any] | None, columns: Sequence[Any], decided: list[str]
) -> tuple[Array, tuple[Any, ...]]:
    """(labels as indices, or 0 and 1 for a single column; names of the classes by column)."""
    present = np.unique(labels)
    names = present.tolist() if classes is None else _typed(classes, labels)
    if predictions.ndim == labels.ndim or predictions.shape[-1:] == (1,):
        if len(names) == 1 and classes is None:
            raise DataError(f"labels: all are {names[0]!r}, so that nothing says which is the other one; pass classes")
        if len(names) != 2:
            listed = ", ".join(map(repr, names[:MAX_SHOWN]))
            raise DataError(f"labels: {len(names)} names, {listed}, beside a single prediction each; expected two")
        _check_known(present, names)
        why = "the second in sorted order" if classes is None else "the second of the classes"
        decided.append(f"labels {names[1]!r} are 1, and {names[0]!r} 0: it is {why}")
        return (labels == names[1]).astype(np.int64), ()
    count = predictions.shape[-1] if predictions.ndim else 0
    if classes is None:
        if len(columns) == count and set(present.tolist()) <= set(columns):
            names, why = list(columns), "the columns of the predictions"
        else:
            why = "scikit-learn's order, sorted"
        decided.append(
            f"classes are {', '.join(map(repr, names[:MAX_SHOWN]))}{' ...' * (len(names) > MAX_SHOWN)}: {why}"
        )
    if len(names) != count:
        raise DataError(
            f"labels: {len(names)} classes beside {count} columns of predictions; pass the {count} names as classes, "
            "in the order of the columns"
        )
    _check_known(present, names)
    by_name = {name: index for index, name in enumerate(names)}
    if len(by_name) != len(names):
        raise DataError("classes: a name stands twice; expected one for each column")
    unique, inverse = np.unique(labels, return_inverse=True)
    indices = np.array([by_name[name] for name in unique.tolist()], dtype=np.int64)[inverse].reshape(labels.shape)
    return indices, tuple(names)


def _typed(classes: Sequence[Any], labels: Array) -> list[Any]:
    """Names of classes converted to the type of the labels, as integers are text on a command line."""
    if labels.dtype.kind in "iub" and all(isinstance(name, str) for name in classes):
        try:
            return [int(name) for name in classes]
        except ValueError:
            raise DataError(f"classes: {', '.join(classes[:MAX_SHOWN])} beside labels that are integers") from None
    return list(classes)


def _check_known(labels: Array, names: Sequence[Any]) -> None:
    if strange := [name for name in labels.tolist() if name not in names]:
        raise DataError(f"labels: {strange[0]!r} is not one of the classes {', '.join(map(repr, names[:MAX_SHOWN]))}")


def decide_kind(predictions: Array, labels: Array, decided: list[str]) -> InputKind:
    """Logits, probabilities or log-probabilities, if the values tell; appends a sentence on the decision.

    Raises DataError if they do not tell.
    """
    x = predictions
    if not x.size or x.dtype.kind not in "fiuV":
        raise DataError(f"predictions: {x.dtype.name} of shape {list(x.shape)}, which says nothing; {_SAY}")
    low, high = (float(reduce(x, axis=None)) for reduce in (np.fmin.reduce, np.fmax.reduce))
    has_rows = x.ndim > 1 and x.shape[-1] > 1 and labels.shape != x.shape
    if low < 0 or high > 1:
        if high <= 0 and has_rows and _sums_to_one(x, logarithms=True):
            decided.append("predictions are log-probabilities: all are 0 or less, and their exponentials sum to 1")
            return "log_probabilities"
        evidence = f"{low:g}, which is below 0" if low < 0 else f"{high:g}, which is above 1"
        decided.append(f"predictions are logits: one is {evidence}")
        return "logits"
    if math.isnan(low):
        raise DataError(f"predictions: all are nan; {_SAY}")
    if x.ndim > 1 and x.shape[-1] > 1 and _sums_to_one(x):
        decided.append("predictions are probabilities: all are from 0 to 1, and rows sum to 1")
        return "probabilities"
    if not has_rows:
        decided.append("predictions are probabilities: all are from 0 to 1")
        return "probabilities"
    raise DataError(
        f"predictions: all are from {low:g} to {high:g}, in rows that do not sum to 1, so that nothing decides what "
        f"they are; {_SAY}"
    )


_SAY = "say what they are, by --logits, --probabilities or --log-probabilities, or kind= in Python"


def _sums_to_one(x: Array, logarithms: bool = False) -> bool:
    """Whether rows sum to 1, ignoring nan."""
    for start in range(0, len(x), 1 << 16):
        rows = x[start : start + (1 << 16)].astype(np.float64)
        sums = (np.exp(rows) if logarithms else rows).sum(axis=-1)
        if bool(np.any(np.abs(sums - 1) > SUM_TOLERANCE)):
            return False
    return True


def _shifted(inputs: Inputs) -> str:
    """A note on labels that seem to be counted from 1; "" if they do not."""
    labels, classes = inputs.labels.values, inputs.predictions.values.shape[-1]
    if labels.size and int(labels.min()) == 1 and int(labels.max()) == classes:
        return (
            f"labels run from 1 to {classes}: classes are counted from 0; pass the names of the classes if 1 is a name"
        )
    return ""


__all__ = ["Data", "DataError", "read_file"]

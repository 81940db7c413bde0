"""Convert arrays of any library to numpy arrays, without importing the library.

Supported are NumPy arrays, tensors of PyTorch (also with gradients or on other devices), JAX and TensorFlow, other
objects that convert to numpy arrays, and nested lists of numbers.  bfloat16 keeps its dtype, that of `ml_dtypes`.
"""

from __future__ import annotations

import numbers
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.model.case import DTYPES, Array, dtype_name, numpy_dtype


@dataclass(frozen=True, eq=False)
class Argument:
    """An argument as a numpy array of floats, integers or booleans."""

    values: Array
    dtype: str
    """dtype of the argument; "" for numbers or nested lists, which have none."""

    @property
    def is_float(self) -> bool:
        return dtype_name(self.values.dtype) in DTYPES

    def __str__(self) -> str:
        if not (self.dtype or self.values.ndim):
            return "a number"
        return f"{list(self.values.shape)} {self.dtype or 'as a list'}"


def read_argument(name: str, value: Any) -> Argument:
    """Read an argument; raises TypeError or ValueError that names it."""
    typed = not _is_plain(value)
    try:
        with np.errstate(all="ignore"):
            values = to_numpy(value)
    except Exception as error:
        problem = f"cannot be read as an array of numbers: {type(error).__name__}: {error}"
        raise TypeError(f"{name}: a {_type_name(value)} {problem}") from error
    if np.ma.isMaskedArray(value) and np.ma.getmaskarray(value).any():
        raise ValueError(f"{name}: {int(np.ma.getmaskarray(value).sum())} elements are masked; fill or remove them")
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    kind = dtype_name(values.dtype)
    if kind not in DTYPES and values.dtype.kind not in "biu":
        problem = "strings" if values.dtype.kind in "US" else kind
        advice = f"expected numbers: {', '.join(DTYPES)}, integers or booleans"
        raise TypeError(f"{name}: a {_type_name(value)} of {problem}, shape {list(values.shape)}; {advice}")
    return Argument(values, kind if typed else "")


def to_numpy(value: Any) -> Array:
    """The numpy array with the same numbers; it may be a view of a tensor on this device."""
    if isinstance(value, list | tuple):
        return np.array(value) if _is_plain(value) else np.stack([to_numpy(item) for item in value])
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        return _from_torch(value)
    if callable(getattr(value, "numpy", None)):  # TensorFlow and Keras, whose scalars have no 0-d array
        return np.asarray(value.numpy())
    if hasattr(value, "__cuda_array_interface__") and hasattr(value, "get"):
        return np.asarray(value.get())
    if hasattr(value, "__array__") or _is_plain(value) or not hasattr(value, "__dlpack__"):
        return np.asarray(value)
    return np.from_dlpack(value)


def _from_torch(value: Any) -> Array:
    torch = sys.modules["torch"]
    value = value.detach().cpu()
    value = (value if value.layout == torch.strided else value.to_dense()).resolve_conj().resolve_neg()
    if value.dtype == torch.bfloat16:
        return np.asarray(value.view(torch.int16).numpy().view(numpy_dtype("bfloat16")))
    return np.asarray(value.numpy())


def _is_plain(value: Any) -> bool:
    """Whether a value is a Python number, or a nested list of numbers, judging by its first element."""
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return isinstance(value, list | tuple) or (isinstance(value, numbers.Number) and not hasattr(value, "dtype"))


def _type_name(value: Any) -> str:
    class_ = type(value)
    return (
        class_.__name__
        if class_.__module__ == "builtins"
        else f"{class_.__module__.partition('.')[0]}.{class_.__name__}"
    )

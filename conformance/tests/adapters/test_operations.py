"""Operations that recipes write beside a call return what those of numpy do, and floats where it has some."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from conformance.adapters import arrays
from conformance.adapters.registry import Installed
from conformance.tests.libraries import libraries_under_test

HERE = [one for one in libraries_under_test() if one.framework.arrays_of(one.backend).operations]
Z = np.array([[0.5, -1.5, 0.25], [2.0, 0.25, -1.0]], dtype=np.float32)


def log_softmax(x, axis):
    return x - np.log(np.exp(x).sum(axis=axis, keepdims=True))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


SPECIAL = SimpleNamespace(
    softmax=lambda x, axis: np.exp(log_softmax(x, axis)),
    log_softmax=log_softmax,
    expit=sigmoid,
    log_expit=lambda x: np.log(sigmoid(x)),
)
"""What the sources for numpy name of SciPy."""
try:
    import scipy.special as special
except ModuleNotFoundError:  # as in the environments of most libraries
    special = SPECIAL
VALUES = {
    "z": Z,
    "p": SPECIAL.softmax(Z, -1),
    "w": np.array([1.0, 2.0, 0.5], dtype=np.float32),
    "y": np.array([2, 0]),
    "kept": np.array([True, False]),
    "one_hot": np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]], dtype=np.float32),
}
OPERANDS = {
    "sum": "z * p",
    "mean": "w",
    "sum_of_classes": "z",
    "dot": "z; w",
    "moveaxis": "z; -1; 0",
    "reshape": "z; (3, 2)",
    "broadcast": "z; (4, 2, 3)",
    "as_dtype": "y; float32",
    "array_of": "[2, 0]",
    "mean_of_last_axis": "z * p",
    "last_axis": "z",
    "size": "y",
    "where": "kept; y; 0",
    "clip": "p; 0.1; 1 - 0.1",
    "argmax": "one_hot",
    "take": "w; y",
    "cast": "kept",
    "one_hot": "y",
    "normalised": "p",
    "softmax": "z",
    "log_softmax": "z",
    "sigmoid": "z",
    "log_sigmoid": "z",
    "log": "p",
    "exp": "z",
    "logit": "p",
    "logit of exp": "-p",
}
"""Operation -> operands as source, over `VALUES`."""


@pytest.mark.parametrize("there", HERE, ids=lambda one: one.framework.name)
def test_operation_equals_that_of_numpy(there: Installed) -> None:
    there.framework.prepare()
    own, names = there.framework.runtime()
    natives = {name: own.native(value) for name, value in VALUES.items()}
    assert own.operations.keys() <= OPERANDS.keys()
    for name, text in own.operations.items():
        operands = OPERANDS[name].split("; ")
        code, expected = (
            source.format(*operands, axis=-1, dtype="float32") for source in (text, arrays.numpy.operations[name])
        )
        due = np.asarray(
            eval(expected, {"np": np, "scipy": SimpleNamespace(special=SPECIAL), **VALUES, "predictions": Z})
        )
        got = eval(
            code, {"np": np, "scipy": SimpleNamespace(special=special), **names, **natives, "predictions": natives["z"]}
        )
        found, dtype = own.numpy(got) if hasattr(got, "shape") else (np.asarray(got), "")
        assert found.shape == due.shape, code
        np.testing.assert_allclose(found.astype(np.float64), due, rtol=1e-5, err_msg=code)
        assert (np.dtype(dtype or due.dtype).kind == "f") == (due.dtype.kind == "f"), code

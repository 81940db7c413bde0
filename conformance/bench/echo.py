"""A framework that does nothing, so that what is measured is the way to it and back."""

from __future__ import annotations

import numpy as np

from conformance.adapters import arrays
from conformance.adapters.contract import Framework
from conformance.model.case import Array


def first(*tensors: Array, **options: object) -> Array:
    """The first element of the first tensor, whichever argument that is; 0 if it is empty."""
    x = next(value for value in (*tensors, *options.values()) if isinstance(value, np.ndarray))
    return np.asarray(x.reshape(-1)[:1].sum())


FRAMEWORK = Framework(
    name="echo",
    distributions=("numpy",),
    modules=("numpy",),
    functions=(),
    arrays=arrays.numpy,
    imports="import conformance.bench.echo",
)

"""Cases stated in a line, for tests: what is usual is left out."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.model.case import Case, Options


def case(predictions: Any, labels: Any, **stated: Any) -> Case:
    """A case from lists or arrays: categorical, logits, index labels, no options, unless it is said."""
    options = {
        name: np.array(value, dtype=np.float64) if isinstance(value, list | np.ndarray) else value
        for name, value in stated.pop("options", {}).items()
    }
    usual = {"id": "a/b/c", "why": "because", "about": "", "source": "", "loss": "categorical", "input_kind": "logits"}
    arrays = {"predictions": np.array(predictions, dtype=np.float64), "labels": np.array(labels)}
    return Case(**{**usual, "target": "index", **arrays, "options": Options(**options), **stated})

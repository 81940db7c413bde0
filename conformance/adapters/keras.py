"""Keras 3: the three cross-entropy losses, from probabilities or logits, on the backend of KERAS_BACKEND.

A loss casts to float32 unless it is given a dtype, so it is given one.  `mean_with_sample_weight` is a
second way to say mean, with another divisor, and a function of its own.
"""

from __future__ import annotations

import os
from functools import cache, partial
from typing import Any

from conformance import adapter
from conformance.adapter import Call, Framework, Function, Rule, Tensor
from conformance.case import Array, Loss, Problem
from conformance.convention import Convention

DOCUMENTATION = "https://keras.io/api/losses/probabilistic_losses/"
BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")
LOSSES: dict[str, tuple[Loss, frozenset[str], frozenset[str], frozenset[str], dict[str, Any]]] = {
    # name: loss, targets, options, layouts, convention
    "BinaryCrossentropy": (
        "binary",
        frozenset({"binary", "soft_binary"}),
        frozenset({"label_smoothing"}),
        frozenset({"labels_column"}),
        {"binary_outputs": "mean_of_last_axis", "accepts": frozenset({"trailing_axis", "invalid_target"})},
    ),
    "CategoricalCrossentropy": (
        "categorical",
        frozenset({"one_hot", "distribution"}),
        frozenset({"label_smoothing"}),
        frozenset({"class_axis", "class_axis_not_1"}),
        {"renormalise": "before_clip", "accepts": frozenset({"invalid_target"})},
    ),
    "SparseCategoricalCrossentropy": (
        "categorical",
        frozenset({"index"}),
        frozenset({"ignore_index"}),
        frozenset({"labels_column"}),
        {"renormalise": "after_clip", "accepts": frozenset({"trailing_axis"})},
    ),
}


def lower(name: str, mean: str, problem: Problem) -> Call:
    """Labels as the loss wants them; options that were not asked for are left at their defaults."""
    options = problem.options
    init: dict[str, Any] = {"reduction": {"none": None, "sum": "sum", "mean": mean}[problem.reduction]}
    if problem.given == "logits":
        init["from_logits"] = True
    if options.label_smoothing is not None:
        init["label_smoothing"] = options.label_smoothing
    if options.ignore_index is not None:
        init["ignore_class"] = options.ignore_index
    if problem.layout.class_axis != -1:
        init["axis"] = problem.layout.class_axis
    init["dtype"] = problem.dtype
    encoded = {"CategoricalCrossentropy": adapter.one_hot_labels, "SparseCategoricalCrossentropy": adapter.index_labels}
    args = {"y_true": encoded.get(name, adapter.labels)(problem), "y_pred": adapter.predictions(problem)}
    weighted = problem.predictions.shape[:-1]
    weights = adapter.sample_weights(problem, weighted)
    return Call(f"keras.losses.{name}", args, {} if weights is None else {"sample_weight": weights}, init)


def function(name: str, mean: str = "sum_over_batch_size") -> Function:
    loss, targets, options, layouts, choices = LOSSES[name]
    divisor = "kept" if mean == "sum_over_batch_size" else "sample_weight"
    accepts = choices["accepts"] | {"invalid_probability"}
    convention = Convention(
        **{
            **choices,
            "mean_divides_by": divisor,
            "clip": 1e-7,
            "empty_mean": "zero",
            "accepts": accepts,
            "empty_batch": "unreduced",
        }
    )
    return Function(
        name=f"keras.{name}" if divisor == "kept" else f"keras.{name}:{mean}",
        path=f"keras.losses.{name}",
        ranks={loss: range(1 if loss == "binary" else 2, 9)},
        takes=("logits", "probabilities"),
        targets=targets,
        options=options | {"sample_weights"},
        reductions=frozenset({"none", "sum", "mean"} if divisor == "kept" else {"mean"}),
        layouts=layouts | {"fortran", "strided", "broadcast", "readonly", "label_dtype"},
        excludes=(frozenset({"output_weights"}),),
        rules=(Rule(convention, ">=3", source=DOCUMENTATION),),
        source=f"{DOCUMENTATION}#{name.lower()}-class",
        lower=partial(lower, name, mean),
    )


def array(result: Any) -> tuple[Array, str]:
    import keras

    name = keras.backend.standardize_dtype(result.dtype)
    if name == "bfloat16":  # a scalar of TensorFlow has no way to numpy in this dtype
        result = keras.ops.cast(result, "float64")
    return keras.ops.convert_to_numpy(result), name


@cache
def quiet() -> None:
    """Import Keras with stderr closed to native code: TensorFlow logs before it can be told not to."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        import keras  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


FRAMEWORK = Framework(
    name="keras",
    distributions=("keras",),
    modules=("keras", BACKEND),
    imports="import keras",
    tensor=lambda tensor, memory: memory,
    literal=Tensor.source,
    array=array,
    prepare=quiet,
    functions=(*map(function, LOSSES), *(function(name, "mean_with_sample_weight") for name in LOSSES)),
)

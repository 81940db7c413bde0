"""Keras: inputs of the three cross-entropy losses in `losses_test.py`, on the backend of KERAS_BACKEND."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.model.case import DEFAULT_DTYPES, Reduction
from conformance.power.harvest.recorder import (
    Assertion,
    RecordedFunction,
    decimal_places,
    relative_tolerance,
    run_tests,
)
from conformance.power.harvest.records import CollectedRecords, Record
from conformance.power.harvest.source import Source
from conformance.power.harvest.translation import CaseDraft, UntranslatableError

FILE = "src/losses/losses_test.py"
LOSSES = ("BinaryCrossentropy", "CategoricalCrossentropy", "SparseCategoricalCrossentropy")
FUNCTIONS = ("binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy")
OF = dict(zip(FUNCTIONS, LOSSES, strict=True))
MODULE = "keras.src.losses.losses"
TESTCASE = "keras.src.testing.TestCase"
REDUCTIONS: dict[str | None, Reduction] = {
    "sum_over_batch_size": "mean",
    "mean": "mean",
    "mean_with_sample_weight": "mean",
    "sum": "sum",
    "none": "none",
    None: "none",
}


def collect() -> CollectedRecords:
    """Calls of the loss objects and of the loss functions."""
    watched = [RecordedFunction(f"{MODULE}.{name}", "__call__", name, configured) for name in LOSSES]
    watched += [RecordedFunction(MODULE, name) for name in FUNCTIONS]
    assertions = [
        Assertion(TESTCASE, "assertAllClose", relative_tolerance, method=True),
        Assertion(TESTCASE, "assertAlmostEqual", decimal_places, method=True),
    ]
    return run_tests(SOURCE.paths[0], f"keras/{FILE}", "CrossentropyTest and not Focal", watched, assertions)


def configured(passed: Mapping[str, Any]) -> dict[str, Any]:
    """Configuration of the object, and whether the arrays have a mask."""
    loss = passed["self"]
    config = {**loss._fn_kwargs, **loss.get_config()}  # the axis of classes is not in every configuration
    masked = any(getattr(passed[name], "_keras_mask", None) is not None for name in ("y_true", "y_pred"))
    known = ("from_logits", "label_smoothing", "ignore_class", "axis", "reduction")
    return {
        "dtype": loss.dtype if config.get("dtype") else None,
        "masked": masked,
        **{key: config[key] for key in known if key in config},
    }


def translate(record: Record) -> CaseDraft:
    """Options of the object; an axis of classes that is not the last is a layout; weights are one per sample."""
    arguments = record.arguments
    name = OF.get(record.function, record.function)
    if arguments.get("masked"):
        raise UntranslatableError("a mask that hangs on the arrays")
    reduction = arguments.get("reduction", "none")
    if reduction not in REDUCTIONS:
        raise UntranslatableError(f"the reduction {reduction}")
    categorical = name != "BinaryCrossentropy"
    axis = arguments.get("axis", -1)
    if not isinstance(axis, int):
        raise UntranslatableError("several axes of classes at once")
    dtype = arguments.get("dtype")
    mean = ":mean_with_sample_weight" if reduction == "mean_with_sample_weight" else ""
    return CaseDraft(
        loss="categorical" if categorical else "binary",
        input_kind="logits" if arguments.get("from_logits") else "probabilities",
        target={"BinaryCrossentropy": "binary", "CategoricalCrossentropy": "distribution"}.get(name, "index"),  # type: ignore[arg-type]
        predictions=arguments["y_pred"],
        labels=arguments["y_true"],
        reduction=REDUCTIONS[reduction],
        class_axis=axis if categorical else -1,
        is_axis_argument=True,
        sample_weights=arguments.get("sample_weight"),
        per_sample=True,
        label_smoothing=arguments.get("label_smoothing") or None,
        ignore_index=arguments.get("ignore_class"),
        narrow_dtype="" if dtype is None or dtype in DEFAULT_DTYPES else dtype,
        documented_function=f"keras.{name}{mean}",
    )


SOURCE = Source(
    name="keras",
    distribution="keras",
    modules={"keras": "keras"},
    files=(FILE,),
    collect=collect,
    translate=translate,
    url="https://github.com/keras-team/keras",
    variables={"TF_CPP_MIN_LOG_LEVEL": "3"},
    depends=("KERAS_BACKEND",),
)

"""Keras: what `losses_test.py` puts to the three cross-entropy losses, on the backend of KERAS_BACKEND."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.model.case import DEFAULT_DTYPES, Reduction
from conformance.power.harvest.recorder import Assertion, RecordedCall, decimal_places, relative_tolerance, run_tests
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
    """Calls of the losses as objects, and of the functions by those names."""
    watched = [RecordedCall(f"{MODULE}.{name}", "__call__", name, configured) for name in LOSSES]
    watched += [RecordedCall(MODULE, name) for name in FUNCTIONS]
    assertions = [
        Assertion(TESTCASE, "assertAllClose", relative_tolerance, method=True),
        Assertion(TESTCASE, "assertAlmostEqual", decimal_places, method=True),
    ]
    return run_tests(SOURCE.paths[0], f"keras/{FILE}", "CrossentropyTest and not Focal", watched, assertions)


def configured(passed: Mapping[str, Any]) -> dict[str, Any]:
    """What the object was made with, and whether a mask hangs on the arrays."""
    loss = passed["self"]
    config = {**loss._fn_kwargs, **loss.get_config()}  # the axis of classes is not in every configuration
    masked = any(getattr(passed[name], "_keras_mask", None) is not None for name in ("y_true", "y_pred"))
    known = ("from_logits", "label_smoothing", "ignore_class", "axis", "reduction")
    return {
        "dtype": loss.dtype if config.get("dtype") else None,
        "masked": masked,
        **{key: config[key] for key in known if key in config},
    }


def translate(found: Record) -> CaseDraft:
    """Options of the object; an axis of classes that is not the last is a layout; weights are one per sample."""
    said = found.arguments
    name = OF.get(found.function, found.function)
    if said.get("masked"):
        raise UntranslatableError("a mask that hangs on the arrays")
    reduction = said.get("reduction", "none")
    if reduction not in REDUCTIONS:
        raise UntranslatableError(f"the reduction {reduction}")
    categorical = name != "BinaryCrossentropy"
    axis = said.get("axis", -1)
    if not isinstance(axis, int):
        raise UntranslatableError("several axes of classes at once")
    dtype = said.get("dtype")
    mean = ":mean_with_sample_weight" if reduction == "mean_with_sample_weight" else ""
    return CaseDraft(
        loss="categorical" if categorical else "binary",
        input_kind="logits" if said.get("from_logits") else "probabilities",
        target={"BinaryCrossentropy": "binary", "CategoricalCrossentropy": "distribution"}.get(name, "index"),  # type: ignore[arg-type]
        predictions=said["y_pred"],
        labels=said["y_true"],
        reduction=REDUCTIONS[reduction],
        class_axis=axis if categorical else -1,
        asked_axis=True,
        sample_weights=said.get("sample_weight"),
        per_sample=True,
        label_smoothing=said.get("label_smoothing") or None,
        ignore_index=said.get("ignore_class"),
        narrow="" if dtype is None or dtype in DEFAULT_DTYPES else dtype,
        documented=f"keras.{name}{mean}",
    )


SOURCE = Source(
    name="keras",
    distribution="keras",
    modules={"keras": "keras"},
    files=(FILE,),
    collect=collect,
    translate=translate,
    home="https://github.com/keras-team/keras",
    variables={"TF_CPP_MIN_LOG_LEVEL": "3"},
    depends=("KERAS_BACKEND",),
)

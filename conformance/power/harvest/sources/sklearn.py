"""scikit-learn: the specific values of `_loss/tests/test_loss.py`, and inputs of `log_loss` in its tests.

The values are those of a test's parametrisation; calls of `log_loss` are recorded.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.model.case import Reduction
from conformance.power.harvest.recorder import Assertion, RecordedFunction, parameters, relative_tolerance, run_tests
from conformance.power.harvest.records import CollectedRecords, Record, StatedAnswer, first_line, to_plain
from conformance.power.harvest.source import Source
from conformance.power.harvest.translation import CaseDraft, UntranslatableError

SPECIFIC = "_loss/tests/test_loss.py"
METRICS = "metrics/tests/test_classification.py"
TESTED = "sklearn.metrics.tests.test_classification"
PARAMETERS = ("loss", "y_true", "raw_prediction", "loss_true", "gradient_true", "hessian_true")
BINARY, MULTINOMIAL = "HalfBinomialLoss", "HalfMultinomialLoss"
RTOL = ATOL = 1e-15
"""Tolerance of the test of specific values; `approx` uses the larger of the two."""


def collect() -> CollectedRecords:
    """The specific values, then the calls of `log_loss`."""
    specific = list(_specific())
    recorded = run_tests(
        SOURCE.paths[1],
        f"sklearn/{METRICS}",
        "test_log_loss",
        [RecordedFunction(TESTED, "log_loss")],
        [Assertion(TESTED, "assert_allclose", relative_tolerance)],
    )
    return CollectedRecords((*specific, *recorded.records), recorded.notes)


def _specific() -> Any:
    from sklearn._loss.tests import test_loss

    line = first_line(getattr(test_loss, "test_loss_on_specific_values", None))
    for number, values in enumerate(parameters(test_loss, "test_loss_on_specific_values", PARAMETERS)):
        loss, y_true, raw, answer = values[:4]
        function = type(loss).__name__
        if function not in (BINARY, MULTINOMIAL):
            continue  # losses of other families
        arguments = {"y_true": np.array([y_true]), "raw_prediction": np.array([raw])}
        stated = StatedAnswer(np.array([answer], dtype=np.float64), "float64", RTOL, ATOL)
        test_id = f"sklearn/{SPECIFIC}::test_loss_on_specific_values[{number}]"
        name = f"specific_values_{function}_{_number_name(y_true)}_{_number_name(raw)}"
        yield Record(test_id, name, function, {k: to_plain(v) for k, v in arguments.items()}, stated, line=line)


def _number_name(value: Any) -> str:
    """A number, or a row of numbers, as words of a name."""
    if isinstance(value, list):
        return "_".join(map(_number_name, value))
    return f"{value:g}".replace("-", "minus_").replace("+", "").replace(".", "_")


def translate(record: Record) -> CaseDraft:
    """Half losses accept logits; `log_loss` accepts probabilities, and labels of any kind, sorted by value."""
    arguments = record.arguments
    if record.function in (BINARY, MULTINOMIAL):
        binary = record.function == BINARY
        return CaseDraft(
            loss="binary" if binary else "categorical",
            input_kind="logits",
            target="binary" if binary else "index",
            predictions=arguments["raw_prediction"],
            labels=arguments["y_true"],
            reduction="none",
        )
    return _log_loss(record)


def _log_loss(record: Record) -> CaseDraft:
    arguments = record.arguments
    proba = arguments.get("y_pred") if arguments.get("y_proba") is None else arguments["y_proba"]
    if isinstance(proba, str) or not isinstance(proba, np.ndarray):
        raise UntranslatableError("probabilities that are not an array of numbers")
    reduction: Reduction = "mean" if arguments.get("normalize", True) else "sum"
    labels = np.asarray(arguments["y_true"])
    common: dict[str, Any] = {
        "input_kind": "probabilities",
        "predictions": proba,
        "reduction": reduction,
        "sample_weights": arguments.get("sample_weight"),
        "narrow_dtype": proba.dtype.name,
        "documented_function": "sklearn.log_loss",
    }
    if labels.ndim == 2:
        return CaseDraft(loss="categorical", target="distribution", labels=labels, **common)
    listed = arguments.get("labels")
    classes = np.unique(labels if listed is None else np.asarray(listed))
    binary = proba.ndim == 1
    count = 2 if binary else proba.shape[-1]
    if len(classes) != count:
        raise UntranslatableError("labels that name another number of classes than there are probabilities for")
    if not np.all(np.isin(labels, classes)):
        raise UntranslatableError("a label that is not among those that were listed")
    index = np.searchsorted(classes, labels)
    if binary:
        return CaseDraft(loss="binary", target="binary", labels=index, **common)
    return CaseDraft(loss="categorical", target="index", labels=index, **common)


SOURCE = Source(
    name="sklearn",
    distribution="scikit-learn",
    modules={"sklearn": "scikit-learn"},
    files=(SPECIFIC, METRICS),
    collect=collect,
    translate=translate,
    url="https://github.com/scikit-learn/scikit-learn",
)

"""scikit-learn: `log_loss`, a metric over probabilities, summed or averaged by weight.

Called by position: the second parameter was renamed from y_pred to y_proba in 1.9.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance import adapter
from conformance.adapter import Call, Framework, Function, Rule, Tensor
from conformance.case import Array, Problem
from conformance.convention import Convention

DOCUMENTATION = "https://scikit-learn.org/stable/modules/generated/sklearn.metrics.log_loss.html"
REFUSES = frozenset(
    {"nan_prediction", "infinite_prediction", "empty_batch", "one_class", "infinite_weight", "no_weight"}
)
UNCHECKED = frozenset({"invalid_probability"})


def log_loss(problem: Problem) -> Call:
    """Index and binary labels with the list of all classes; one-hot labels as an indicator matrix."""
    keywords: dict[str, Any] = {"normalize": problem.reduction == "mean"}
    if problem.target != "distribution":
        classes = problem.predictions.shape[-1] if problem.loss == "categorical" else 2
        keywords["labels"] = list(range(classes))
    if (weights := adapter.sample_weights(problem, problem.sample_shape)) is not None:
        keywords["sample_weight"] = weights
    args = {"y_true": adapter.labels(problem), "y_proba": adapter.predictions(problem)}
    return Call("sklearn.metrics.log_loss", args, keywords)


def array(result: Any) -> tuple[Array, str]:
    values = np.asarray(result)
    return values, values.dtype.name


def rule(versions: str, **choices: Any) -> Rule:
    return Rule(Convention(mean_divides_by="sample_weight", **choices), versions, source=DOCUMENTATION)


RULES = (
    rule(">=1.8", clip="dtype", rejects=REFUSES | {"nan_weight"}),
    rule(">=1.7,<1.8", clip="dtype", rejects=REFUSES),
    rule(">=1.5,<1.7", clip="dtype", accepts=UNCHECKED, rejects=REFUSES),
    rule(">=1.2,<1.5", clip="dtype", renormalise="after_clip", accepts=UNCHECKED, rejects=REFUSES),
    rule("<1.2", clip=1e-15, renormalise="after_clip", accepts=UNCHECKED, rejects=REFUSES),
)

FRAMEWORK = Framework(
    name="sklearn",
    distributions=("scikit-learn",),
    modules=("sklearn",),
    imports="import sklearn.metrics",
    tensor=lambda tensor, memory: memory,
    literal=Tensor.source,
    array=array,
    functions=(
        Function(
            name="sklearn.log_loss",
            path="sklearn.metrics.log_loss",
            ranks={"categorical": range(2, 3), "binary": range(1, 2)},
            takes=("probabilities",),
            targets=frozenset({"index", "one_hot", "binary"}),
            options=frozenset({"sample_weights"}),
            reductions=frozenset({"sum", "mean"}),
            dtypes=frozenset({"float16", "float32", "float64"}),
            rules=RULES,
            result_dtype="float64",
            source=DOCUMENTATION,
            lower=log_loss,
        ),
    ),
)

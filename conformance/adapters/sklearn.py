"""scikit-learn: `log_loss`, a metric over probabilities, summed or averaged by weight.

Called by position: the second parameter was renamed from y_pred to y_proba in 1.9.  Labels outside the classes,
and numbers that are no probabilities, are refused since 1.7; that earlier releases take them they document nowhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.adapters import contract
from conformance.adapters.contract import Call, Framework, Function, Parameter, Rule, Tensor
from conformance.model.case import Array, Problem
from conformance.model.convention import Convention

DOCUMENTATION = "https://scikit-learn.org/stable/modules/generated/sklearn.metrics.log_loss.html"
REFUSES = frozenset({"nan_prediction", "infinite_prediction", "empty_batch", "one_class"})
WEIGHED = REFUSES | {"nan_weight", "infinite_weight"}
PULLS = "https://github.com/scikit-learn/scikit-learn/pull/"


def log_loss(problem: Problem) -> Call:
    """Index and binary labels with the list of all classes; one-hot labels as an indicator matrix."""
    keywords: dict[str, Any] = {"normalize": problem.reduction == "mean"}
    if problem.target != "distribution":
        classes = problem.predictions.shape[-1] if problem.loss == "categorical" else 2
        keywords["labels"] = list(range(classes))
    if (weights := contract.sample_weights(problem)) is not None:
        keywords["sample_weight"] = weights
    args = {"y_true": contract.labels(problem), "y_proba": contract.predictions(problem)}
    return Call("sklearn.metrics.log_loss", args, keywords)


def array(result: Any) -> tuple[Array, str]:
    values = np.asarray(result)
    return values, values.dtype.name


def rule(versions: str, source: str, rejects: frozenset[str] = REFUSES, **choices: Any) -> Rule:
    return Rule(Convention(rejects=rejects, **choices), versions, source=source)


RULES = (
    rule(">=1.9", DOCUMENTATION, WEIGHED | {"no_weight"}, clip="dtype"),
    rule(">=1.8,<1.9", DOCUMENTATION, WEIGHED, clip="dtype"),
    rule(">=1.5,<1.8", PULLS + "28851", clip="dtype"),
    rule(">=1.2,<1.5", PULLS + "25299", clip="dtype", renormalise="after_clip"),
    rule(
        "<1.2",
        "https://scikit-learn.org/1.1/modules/generated/sklearn.metrics.log_loss.html",
        clip=1e-15,
        renormalise="after_clip",
    ),
)

PARAMETERS = (
    Parameter("y_true", "labels"),
    Parameter("normalize", "reduction"),
    Parameter("sample_weight", "sample_weights"),
    Parameter(
        "labels", "all classes", gap="classes that are called otherwise than 0 to C - 1", example="labels=[0, 1, 5]"
    ),
)
CLIP = Parameter("eps", gap="a clip of another epsilon than the default", example="eps=1e-3")


def function(versions: str, *own: Parameter) -> Function:
    return Function(
        name="sklearn.log_loss",
        path="sklearn.metrics.log_loss",
        ranks={"categorical": range(2, 3), "binary": range(1, 2)},
        takes=("probabilities",),
        targets=frozenset({"index", "one_hot", "binary"}),
        options=frozenset({"sample_weights"}),
        reductions=frozenset({"sum", "mean"}),
        dtypes=frozenset({"float16", "float32", "float64"}),
        layouts=Function.layouts | {"labels_column"},
        rules=RULES,
        result_dtype="float64",
        source=DOCUMENTATION,
        lower=log_loss,
        versions=versions,
        parameters=(*PARAMETERS, *own),
    )


FRAMEWORK = Framework(
    name="sklearn",
    distributions=("scikit-learn",),
    modules=("sklearn",),
    imports="import sklearn.metrics",
    tensor=lambda tensor, memory: memory,
    literal=Tensor.source,
    array=array,
    needs=(("<1.4.2", "numpy<2"),),
    functions=(
        function(">=1.9", Parameter("y_proba", "predictions"), Parameter("y_pred", neutral="deprecated alias")),
        function(">=1.5,<1.9", Parameter("y_pred", "predictions")),
        function("<1.5", Parameter("y_pred", "predictions"), CLIP),
    ),
)

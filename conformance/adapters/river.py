"""river: metrics that are updated sample by sample, and the losses of its optimisers with their gradients.

Metrics and the loss of classes accept probabilities as Python floats.  The binary loss accepts logits, either as Python
floats or numpy vectors, for which it has different formulas.
"""

from __future__ import annotations

from typing import Any

from conformance.adapters import arrays
from conformance.adapters.contract import DocumentedConvention, Framework, Function
from conformance.model.case import InputKind
from conformance.model.convention import Convention

PAGES = "https://riverml.xyz/0.26.1/api/"
SOURCE = "https://github.com/online-ml/river/blob/0.26.1/river/"
METRIC_CALL = """
metric = river.metrics.METRIC()
weights = {sample_weights|np.ones(len({labels}))}.tolist()
for y, {predictions}, weight in zip({labels}.tolist(), PREDICTIONS, weights, strict=True):
    metric.update(y, {predictions}, weight)
float(metric.get())
"""
BINARY_LOSS = "loss = river.optim.losses.Log(weight_pos=np.asarray({positive_weight|1.0}).tolist())"
VECTOR_CALL = f"""{BINARY_LOSS}
loss.METHOD(y_true={{labels}}, y_pred={{predictions}})
"""
NEGATIVE_CALL = """
loss = river.optim.losses.Log(weight_neg=np.asarray({positive_weight|1.0}).tolist())
{labels}, {predictions} = 1 - {labels}, -{predictions}
METHOD(y_true={labels}, y_pred={predictions})
"""
"""The same by symmetry: the loss of a negative at the negated logit is that of a positive."""
NUMBER_CALL = f"""{BINARY_LOSS.replace("tolist", "item")}
samples = zip({{labels}}.tolist(), {{predictions}}.tolist(), strict=True)
np.array([loss.METHOD(y_true=y, y_pred={{predictions}}) for y, {{predictions}} in samples], "float64")
"""
CLASS_SETUP = """shape = {predictions}.shape
weights = {class_weights|np.ones(shape[1])}.tolist()
loss = river.optim.losses.CrossEntropy(class_weight=dict(zip(range(shape[1]), weights, strict=True)))
samples = zip({labels}.tolist(), PREDICTIONS, strict=True)"""
CLASS_CALL = f"""{CLASS_SETUP}
np.array([loss(y_true=y, y_pred={{predictions}}) for y, {{predictions}} in samples], "float64")
"""
CLASS_GRADIENT_CALL = f"""{CLASS_SETUP}
slopes = [loss.gradient(y_true=y, y_pred={{predictions}}) for y, {{predictions}} in samples]
np.array([[slope[c] for c in range(shape[1])] for slope in slopes], "float64").reshape(shape)
"""
ROW_DICTS = "[dict(enumerate(row)) for row in {predictions}.tolist()]"
SOFTMAX_DICTS = "[loss.mean_func(dict(enumerate(row))) for row in {predictions}.tolist()]"
COMMON_FIELDS: dict[str, Any] = {"weight_dtypes": "", "differentiates": False, "result_dtype": "float64"}
FLOAT64: dict[str, Any] = {"dtypes": frozenset({"float64"})}
"""Dtypes of the functions that clamp probabilities, always in float64: in float32 a clip rounds 1 - 1e-15 to 1."""
FLOATS: dict[str, Any] = {"dtypes": frozenset({"float32", "float64"})}
BINARY: dict[str, Any] = {"ranks": {"binary": range(1, 2)}, "targets": {"binary": ""}}
VECTORS: dict[str, Any] = {
    "ranks": {"binary": range(1, 9)},
    "targets": {"binary": ""},
    "excludes": (frozenset({"positive_weight", "several_outputs"}),),
}
"""A weight is documented as one number, so there is none for each output."""
NEGATIVE_WEIGHT = VECTORS | {"default_files": frozenset({"binary/positive_weight", "binary/saturated_logits"})}
MULTICLASS: dict[str, Any] = {"ranks": {"categorical": range(2, 3)}, "targets": {"index": ""}}
LOSS: dict[str, Any] = {"reductions": {"none": "{result}", "sum": "{result}.sum()", "mean": "{result}.mean()"}}
GRADIENT: dict[str, Any] = {"reductions": {"sum": ""}, "quantity": "gradient"}


def metric(name: str, predictions: str, module: str, **fields: Any) -> Function:
    """A metric that is updated sample by sample.

    predictions: source of the predictions, one for each sample.  module: name of its module.
    """
    return Function(
        name,
        METRIC_CALL.replace("METRIC", name).replace("PREDICTIONS", predictions),
        input_kinds={"probabilities": ""},
        arguments={"sample_weights": "{}"},
        positional={"labels": "y_true", "predictions": "y_pred", "sample_weights": "w"},
        reductions={"mean": ""},
        conventions=(DocumentedConvention(METRIC_CONVENTION, documentation=f"{SOURCE}metrics/{module}.py"),),
        documentation=f"{PAGES}metrics/{name}/",
        signature=f"{PAGES}metrics/{name}/",
        **FLOAT64,
        **COMMON_FIELDS,
        **fields,
    )


def loss(name: str, call: str, kind: InputKind, convention: Convention, **fields: Any) -> Function:
    """A loss of the optimisers, or its gradient."""
    page = f"{PAGES}optim/losses/{name.partition(':')[0]}/"
    return Function(
        f"losses.{name}",
        call,
        input_kinds={kind: ""},
        conventions=(DocumentedConvention(convention, documentation=f"{SOURCE}optim/losses.py"),),
        documentation=page,
        signature=page,
        **COMMON_FIELDS,
        **fields,
    )


def binary(name: str, call: str, convention: Convention, **fields: Any) -> Function:
    """The binary loss or its gradient."""
    return loss(name, call, "logits", convention, arguments={"positive_weight": "{}"}, **FLOATS, **fields)


def categorical(
    name: str, call: str, kind: InputKind, convention: Convention, predictions: str, **fields: Any
) -> Function:
    """The loss of classes or its gradient.  predictions: source of the predictions, one for each sample."""
    call = call.replace("PREDICTIONS", predictions)
    return loss(name, call, kind, convention, arguments={"class_weights": "{}"}, **MULTICLASS, **fields)


METRIC_CONVENTION = Convention(clip=1e-15, accepts=frozenset({"invalid_probability"}))
"""Convention of the metrics, which clamp any number to a probability."""
CLASS_CONVENTION = Convention(clip=1e-15, accepts=frozenset({"invalid_probability"}), mean_divides_by="kept")
"""Convention of the loss of classes; its mean is that of the array of losses."""
SOFTMAX_CONVENTION = Convention(gradient_cancellation="targets")
FRAMEWORK = Framework(
    name="river",
    distributions=("river",),
    repository="https://github.com/online-ml/river",
    modules=("river",),
    arrays=arrays.numpy,
    imports="import numpy as np; import river.metrics; import river.optim",
    extra_requirements=(("<0.21", "numpy<2"), ("==0.23.*", "typing_extensions")),
    functions=(
        metric("LogLoss", "{predictions}.tolist()", "log_loss", **BINARY),
        metric("CrossEntropy", ROW_DICTS, "cross_entropy", **MULTICLASS),
        binary("Log", VECTOR_CALL.replace(".METHOD", ""), Convention(), **VECTORS, **LOSS),
        binary("Log:gradient", VECTOR_CALL.replace("METHOD", "gradient"), Convention(), **VECTORS, **GRADIENT),
        binary("Log:weight_neg", NEGATIVE_CALL.replace("METHOD", "loss"), Convention(), **NEGATIVE_WEIGHT, **LOSS),
        binary(
            "Log:weight_neg:gradient",
            NEGATIVE_CALL.replace("METHOD", "-loss.gradient"),
            Convention(),
            **NEGATIVE_WEIGHT,
            **GRADIENT,
        ),
        binary("Log:number", NUMBER_CALL.replace(".METHOD", ""), Convention(), **BINARY, **LOSS),
        binary("Log:number:gradient", NUMBER_CALL.replace("METHOD", "gradient"), Convention(), **BINARY, **GRADIENT),
        categorical("CrossEntropy", CLASS_CALL, "probabilities", CLASS_CONVENTION, ROW_DICTS, **FLOAT64, **LOSS),
        categorical(
            "CrossEntropy:gradient",
            CLASS_GRADIENT_CALL,
            "probabilities",
            Convention(clip=1e-15),
            ROW_DICTS,
            **FLOAT64,
            **GRADIENT,
        ),
        categorical(
            "CrossEntropy:mean_func:gradient",
            CLASS_GRADIENT_CALL,
            "logits",
            SOFTMAX_CONVENTION,
            SOFTMAX_DICTS,
            **FLOATS,
            **GRADIENT,
        ),
    ),
)

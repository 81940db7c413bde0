"""XGBoost: log losses as it evaluates them on given margins, and the derivatives with which it trains.

It holds everything in float32.  A metric is evaluated by a model without trees on the base margins of its data.
The derivatives of an objective are read from the root of a tree that is grown on one sample with constant features:
its weight is -gradient / hessian.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from conformance.adapters import arrays
from conformance.adapters.contract import DocumentedConvention, Framework, Function
from conformance.model.case import InputKind, ReturnedQuantity
from conformance.model.convention import Convention

SOURCE = "https://github.com/dmlc/xgboost/blob/v3.2.0/src/"
PARAMETERS = "https://xgboost.readthedocs.io/en/release_3.2.0/parameter.html#learning-task-parameters"
EPSILON = float(np.float32(1e-16))
DATA_SETUP = """
features = np.zeros((len({labels}), 1))
data = xgboost.DMatrix(data=features, label={labels}, base_margin={predictions}, {sample_weights})"""
METRIC_CALL = """
model = xgboost.train({"base_score": 0.5, "eval_metric": "METRIC", {options}}, data, 0)
float(model.eval(data).rpartition(":")[2])
"""
DERIVATIVE_CALL = """
rows = []
for i in range(len({labels})):
    root = {"base_score": 0.5, "eta": 1, "reg_lambda": 0, "min_child_weight": 0, PARAMETERS}
    model = json.loads(xgboost.train(root, data.slice([i]), 1).save_raw("json"))
    trees = model["learner"]["gradient_booster"]["model"]["trees"]
    rows.append([VALUE for tree in trees])
np.array(rows, "float32").reshape({predictions}.shape)
"""
HESSIAN = 'tree["sum_hessian"][0]'
EXPRESSIONS: dict[ReturnedQuantity, str] = {"gradient": f'-tree["base_weights"][0] * {HESSIAN}', "hessian": HESSIAN}
OBJECTIVE_OPTION = '**{{"objective": "{}"}}'
"""An objective determines what a metric is passed: the sigmoid of the margins, their softmax, or the margins."""
LOGISTIC = '"objective": "binary:logistic", {positive_weight}'
NUM_CLASS = ', "num_class": {predictions}.shape[1]'
SOFTPROB = f'"objective": "multi:softprob"{NUM_CLASS}'
REJECTED_INPUTS = frozenset({"negative_weight", "nan_weight", "infinite_weight", "nan_target"})
"""Inputs that a DMatrix rejects: https://github.com/dmlc/xgboost/blob/v3.2.0/src/data/data.cc#L563."""
COMMON_FIELDS: dict[str, Any] = {
    "arguments": {"sample_weights": "weight"},
    "dtypes": frozenset({"float16", "float32", "float64"}),
    "weight_dtypes": "",
    "documentation": PARAMETERS,
    "differentiates": False,
    "labels_column": True,
    "no_effect": dict.fromkeys(("feature_names", "feature_types"), "name") | {"nthread": "implementation"},
    "untested": {
        "missing=None": "the value that marks a missing feature",
        "silent=False": "deprecated, and without effect",
        "group=None": "for ranking",
        "qid=None": "for ranking",
        "label_lower_bound=None": "for survival analysis",
        "label_upper_bound=None": "for survival analysis",
        "feature_weights=None": "weights for drawing features",
        "enable_categorical=False": "properties of features",
        "data_split_mode=0": "for distributed training",
    },
}
BINARY_FIELDS: dict[str, Any] = {
    "ranks": {"binary": range(1, 3)},
    "targets": {"binary": "", "soft_binary": ""},
    "excludes": (frozenset({"output_weights"}), frozenset({"labels_column", "several_outputs"})),
}
MULTICLASS_FIELDS: dict[str, Any] = {"ranks": {"categorical": range(2, 3)}, "targets": {"index": ""}}


def metric(
    name: str, objective: str, convention: Convention, link: str, parameters: str = "", **fields: Any
) -> Function:
    """An evaluation metric of probabilities.

    objective: objective that converts margins to probabilities.  link: path of the source of its convention, relative
    to `SOURCE`.  parameters: entries of the parameters of the model, as source.
    """
    call = DATA_SETUP + METRIC_CALL.replace("METRIC", name).replace("{options}", f"{{options}}{parameters}")
    input_kinds: dict[InputKind, str] = {
        "logits": OBJECTIVE_OPTION.format(objective),
        "probabilities": OBJECTIVE_OPTION.format("reg:squarederror"),
    }
    conventions = (DocumentedConvention(convention, documentation=SOURCE + link),)
    return Function(
        name,
        call,
        input_kinds=input_kinds,
        reductions={"mean": ""},
        conventions=conventions,
        result_dtype="float64",
        **{**COMMON_FIELDS, **fields},
    )


def objective(
    name: str, quantity: ReturnedQuantity, parameters: str, convention: Convention, link: str, **fields: Any
) -> Function:
    """A derivative that an objective passes to a tree for each sample."""
    call = DATA_SETUP + DERIVATIVE_CALL.replace("PARAMETERS", parameters).replace("VALUE", EXPRESSIONS[quantity])
    return Function(
        f"{name}:{quantity}",
        call,
        quantity=quantity,
        input_kinds={"logits": ""},
        reductions={"sum": ""},
        conventions=(DocumentedConvention(convention, documentation=SOURCE + link),),
        result_dtype="float32",
        **{**COMMON_FIELDS, **fields},
    )


def documented(**choices: Any) -> Convention:
    """The handling of inputs in its source, and further choices."""
    return Convention(narrowed_to="float32", rejects=REJECTED_INPUTS, accepts=frozenset({"trailing_axis"}), **choices)


LOSS_CHOICES = {"logits_as": "probabilities", "log_floor": math.log(EPSILON)}
GRADIENT_CONVENTION = documented(gradient_cancellation="targets")
HESSIAN_CHOICES = {"hessian_floor": EPSILON, "hessian_cancellation": "complement"}
LOGISTIC_HESSIAN = documented(**HESSIAN_CHOICES)
SOFTPROB_HESSIAN = documented(**HESSIAN_CHOICES, hessian_factor=2.0, hessian_floor_of="weighted")
BINARY_METRIC, MULTICLASS_METRIC = "metric/elementwise_metric.cu#L160", "metric/multiclass_metric.cu#L219"
BINARY_OBJECTIVE, MULTICLASS_OBJECTIVE = "objective/regression_obj.cu#L180", "objective/multiclass_obj.cu#L119"
WEIGHTED_FIELDS: dict[str, Any] = {
    **BINARY_FIELDS,
    # Only labels that equal 1 are scaled, by one number.
    "excludes": (
        *BINARY_FIELDS["excludes"],
        *(frozenset({"positive_weight", with_}) for with_ in ("soft_binary", "several_outputs")),
    ),
    "arguments": {
        "sample_weights": "weight",
        "positive_weight": '"scale_pos_weight": float(np.broadcast_to({}, predictions.shape).reshape(-1)[i])',
    },
}
FRAMEWORK = Framework(
    name="xgboost",
    distributions=("xgboost", "xgboost-cpu"),
    requirements=("xgboost-cpu",),
    repository="https://github.com/dmlc/xgboost",
    modules=("xgboost",),
    arrays=arrays.numpy,
    imports="import json; import numpy as np; import xgboost",
    functions=(
        metric(
            "logloss", "binary:logistic", documented(**LOSS_CHOICES, empty_mean="zero"), BINARY_METRIC, **BINARY_FIELDS
        ),
        metric(
            "mlogloss",
            "multi:softprob",
            documented(**LOSS_CHOICES, empty_mean="nan"),
            MULTICLASS_METRIC,
            NUM_CLASS,
            **MULTICLASS_FIELDS,
        ),
        objective("binary:logistic", "gradient", LOGISTIC, GRADIENT_CONVENTION, BINARY_OBJECTIVE, **WEIGHTED_FIELDS),
        objective("binary:logistic", "hessian", LOGISTIC, LOGISTIC_HESSIAN, BINARY_OBJECTIVE, **WEIGHTED_FIELDS),
        objective(
            "multi:softprob", "gradient", SOFTPROB, GRADIENT_CONVENTION, MULTICLASS_OBJECTIVE, **MULTICLASS_FIELDS
        ),
        objective("multi:softprob", "hessian", SOFTPROB, SOFTPROB_HESSIAN, MULTICLASS_OBJECTIVE, **MULTICLASS_FIELDS),
    ),
)

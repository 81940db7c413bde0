"""XGBoost: log losses as it evaluates them on given margins, and the derivatives with which it trains.

It holds everything in float32.  A metric is evaluated by a model of no trees on the margins that its data come with.
The derivatives of an objective show in the root of a tree that is grown on one sample, whose features are constant:
its weight is -gradient / hessian.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from conformance.adapters import arrays
from conformance.adapters.contract import DocumentedConvention, Framework, Function
from conformance.model.case import InputKind, Returned
from conformance.model.convention import Convention

SOURCE = "https://github.com/dmlc/xgboost/blob/v3.2.0/src/"
PARAMETERS = "https://xgboost.readthedocs.io/en/release_3.2.0/parameter.html#learning-task-parameters"
EPSILON = float(np.float32(1e-16))
DATA = """
features = np.zeros((len({labels}), 1))
data = xgboost.DMatrix(data=features, label={labels}, base_margin={predictions}, {sample_weights})"""
EVALUATED = """
model = xgboost.train({"base_score": 0.5, "eval_metric": "METRIC", {options}}, data, 0)
float(model.eval(data).rpartition(":")[2])
"""
TRAINED = """
rows = []
for i in range(len({labels})):
    root = {"base_score": 0.5, "eta": 1, "reg_lambda": 0, "min_child_weight": 0, PARAMETERS}
    model = json.loads(xgboost.train(root, data.slice([i]), 1).save_raw("json"))
    trees = model["learner"]["gradient_booster"]["model"]["trees"]
    rows.append([VALUE for tree in trees])
np.array(rows, "float32").reshape({predictions}.shape)
"""
HESSIAN = 'tree["sum_hessian"][0]'
VALUES: dict[Returned, str] = {"gradient": f'-tree["base_weights"][0] * {HESSIAN}', "hessian": HESSIAN}
OBJECTIVE = '**{{"objective": "{}"}}'
"""An objective says what a metric gets of the margins: their sigmoid, their softmax, or themselves."""
LOGISTIC = '"objective": "binary:logistic", {positive_weight}'
CLASSES = ', "num_class": {predictions}.shape[1]'
SOFTPROB = f'"objective": "multi:softprob"{CLASSES}'
REFUSED = frozenset({"negative_weight", "nan_weight", "infinite_weight", "nan_target"})
"""What data reject: https://github.com/dmlc/xgboost/blob/v3.2.0/src/data/data.cc#L563."""
COMMON_FIELDS: dict[str, Any] = {
    "arguments": {"sample_weights": "weight"},
    "dtypes": frozenset({"float16", "float32", "float64"}),
    "weight_dtypes": "",
    "documentation": PARAMETERS,
    "differentiates": False,
    "labels_column": True,
    "no_effect": dict.fromkeys(("feature_names", "feature_types"), "name") | {"nthread": "implementation"},
    "untested": {
        "missing=None": "which value of a feature is missing",
        "silent=False": "deprecated, and without effect",
        "group=None": "for ranking",
        "qid=None": "for ranking",
        "label_lower_bound=None": "for survival analysis",
        "label_upper_bound=None": "for survival analysis",
        "feature_weights=None": "how often a feature is drawn",
        "enable_categorical=False": "about features",
        "data_split_mode=0": "for distributed training",
    },
}
BINARY: dict[str, Any] = {
    "ranks": {"binary": range(1, 3)},
    "targets": {"binary": "", "soft_binary": ""},
    "excludes": (frozenset({"output_weights"}), frozenset({"labels_column", "several_outputs"})),
}
MULTICLASS: dict[str, Any] = {"ranks": {"categorical": range(2, 3)}, "targets": {"index": ""}}


def metric(
    name: str, objective: str, convention: Convention, link: str, parameters: str = "", **fields: Any
) -> Function:
    """An evaluation metric of probabilities.

    objective: turns margins into probabilities.  link: what says its convention, below the source.
    parameters: of the training, as text.
    """
    call = DATA + EVALUATED.replace("METRIC", name).replace("{options}", f"{{options}}{parameters}")
    input_kinds: dict[InputKind, str] = {
        "logits": OBJECTIVE.format(objective),
        "probabilities": OBJECTIVE.format("reg:squarederror"),
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
    name: str, quantity: Returned, parameters: str, convention: Convention, link: str, **fields: Any
) -> Function:
    """A derivative that an objective hands to a tree for each sample."""
    call = DATA + TRAINED.replace("PARAMETERS", parameters).replace("VALUE", VALUES[quantity])
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
    """What its source says of inputs, and more."""
    return Convention(narrowed_to="float32", rejects=REFUSED, accepts=frozenset({"trailing_axis"}), **choices)


FLOORED = {"logits_as": "probabilities", "log_floor": math.log(EPSILON)}
CANCELS = documented(gradient_cancellation="targets")
FLOOR = {"hessian_floor": EPSILON, "hessian_cancellation": "complement"}
OF_LOGISTIC = documented(**FLOOR)
OF_SOFTPROB = documented(**FLOOR, hessian_factor=2.0, hessian_floor_of="weighted")
ELEMENTWISE, MULTI = "metric/elementwise_metric.cu#L160", "metric/multiclass_metric.cu#L219"
REGRESSION, SOFTMAX = "objective/regression_obj.cu#L180", "objective/multiclass_obj.cu#L119"
WEIGHTED: dict[str, Any] = {
    **BINARY,
    # Only labels that equal 1 are scaled, by one number.
    "excludes": (
        *BINARY["excludes"],
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
        metric("logloss", "binary:logistic", documented(**FLOORED, empty_mean="zero"), ELEMENTWISE, **BINARY),
        metric("mlogloss", "multi:softprob", documented(**FLOORED, empty_mean="nan"), MULTI, CLASSES, **MULTICLASS),
        objective("binary:logistic", "gradient", LOGISTIC, CANCELS, REGRESSION, **WEIGHTED),
        objective("binary:logistic", "hessian", LOGISTIC, OF_LOGISTIC, REGRESSION, **WEIGHTED),
        objective("multi:softprob", "gradient", SOFTPROB, CANCELS, SOFTMAX, **MULTICLASS),
        objective("multi:softprob", "hessian", SOFTPROB, OF_SOFTPROB, SOFTMAX, **MULTICLASS),
    ),
)

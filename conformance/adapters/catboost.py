"""CatBoost: log losses as it evaluates them on given raw values, and the derivatives that it trains with.

A metric computes in float64, with labels and weights in float32.  Training stores all inputs in float32.
The derivatives of a loss are read from the leaf of a single sample, in a tree that starts from given values: it is
-gradient / weight by the method `Gradient`, and -gradient / hessian by `Newton`.  Neither depends on the weight of the
sample, by which the call multiplies: how `class_weights` and `auto_class_weights` set it is not tested.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from conformance.adapters import arrays
from conformance.adapters.contract import DocumentedConvention, Framework, Function, family
from conformance.model.case import ReturnedQuantity
from conformance.model.convention import Convention

DOCUMENTATION = "https://catboost.ai/docs/en/concepts/"
SOURCE = "https://github.com/catboost/catboost/blob/v1.2.10/catboost/libs/metrics/metric.cpp"
METRIC_CALL = """
catboost.utils.eval_metric(label={labels}, approx={predictions}, metric="@", {options}, thread_count=1)[0]
"""
DERIVATIVE_CALL = """
shape, weights = {predictions}.shape, {sample_weights|np.ones(len({labels}))}
positive = np.broadcast_to(SCALES, len(weights))
scales = weights * np.where({labels}, positive, 1.0)
others = np.arange(max(2, {predictions}[..., np.newaxis].shape[1]))
features = np.append(np.zeros(len(weights)), np.ones(len(others)))[:, np.newaxis]
{predictions} = np.concatenate([{predictions}, np.zeros((len(others), *shape[1:]))])
data = catboost.Pool(data=features, label=np.append({labels}, others), baseline={predictions},
                     weight=np.append(weights, np.ones(len(others))))
tree = {"iterations": 1, "depth": 1, "learning_rate": 1, "l2_leaf_reg": 0, "leaf_estimation_iterations": 1}
fixed = {"random_strength": 0, "bootstrap_type": "No", "boosting_type": "Plain", "boost_from_average": False}
quiet = {"loss_function": "LOSS", "thread_count": 1, "verbose": False, "allow_writing_files": False}
def leaf(i, method):
    own = {"leaf_estimation_method": method, PARAMETERS}
    model = catboost.train(data.slice([i, *range(len(weights), len(features))]), tree | fixed | quiet | own)
    return np.reshape(model.predict([[0.0]], "RawFormulaVal"), -1)
def quotient(slope, newton):
    return np.divide(slope, newton, out=np.full(len(slope), added), where=newton != 0) - added
added = float(np.float32(1e-20))
np.array([VALUE for i in range(len(weights))]).reshape(shape)
"""
EXPRESSIONS: dict[ReturnedQuantity, str] = {
    "gradient": '-leaf(i, "Gradient") * scales[i]',
    "hessian": 'quotient(leaf(i, "Gradient"), leaf(i, "Newton")) * scales[i]',
}
RANKING_PARAMETERS = dict.fromkeys(
    ("group_id=None", "group_weight=None", "subgroup_id=None", "pairs=None"), "for ranking"
)
FEATURE_PARAMETERS = (
    *(f"{kind}_features" for kind in ("cat", "text", "embedding")),
    *("embedding_features_data", "column_description", "feature_tags"),
)
COMMON_FIELDS: dict[str, Any] = {
    "dtypes": frozenset({"float32", "float64"}),
    "weight_dtypes": "",
    "differentiates": False,
}
BINARY_FIELDS: dict[str, Any] = {"ranks": {"binary": range(1, 2)}, "targets": {"binary": ""}}
SOFT_FIELDS: dict[str, Any] = {"ranks": {"binary": range(1, 2)}, "targets": {"binary": "", "soft_binary": ""}}
OUTPUT_FIELDS: dict[str, Any] = {
    "ranks": {"binary": range(2, 3)},
    "targets": {"binary": ""},
    "excludes": (frozenset({"output_weights"}), frozenset({"labels_column", "several_outputs"})),
}
MULTICLASS_FIELDS: dict[str, Any] = {"ranks": {"categorical": range(2, 3)}, "targets": {"index": ""}}
SLOW_TO_TRAIN_FILES = frozenset(
    {
        "binary/generated",
        "categorical/generated",
        "categorical/labels_beyond_the_dtype",
        "categorical/vocabularies_rows",
    }
) | frozenset(
    f"{name}{kind}"
    for name in ("binary/outputs_in_blocks", "categorical/batches_in_blocks", "categorical/vocabularies")
    for kind in ("", "_probabilities")
)
"""Case files with many samples or classes: a model is trained for each sample, with a row for each class."""


metric = family(
    METRIC_CALL,
    source=SOURCE,
    input_kinds={"logits": ""},
    arguments={"sample_weights": "weight"},
    reductions={"mean": ""},
    result_dtype="float64",
    labels_column=True,
    untested=RANKING_PARAMETERS,
    **COMMON_FIELDS,
)
"""An evaluation metric of raw values."""


def derivative(
    name: str, quantity: ReturnedQuantity, convention: Convention, page: str, scales: bool = False, **fields: Any
) -> Function:
    """A derivative that a loss passes to a tree for each sample.  scales: whether labels of 1 may have a weight."""
    call = DERIVATIVE_CALL
    for placeholder, text in {
        "LOSS": name,
        "VALUE": EXPRESSIONS[quantity],
        "SCALES": "{positive_weight|1.0}" if scales else "1.0",
        "PARAMETERS": '"scale_pos_weight": float(positive[i])' if scales else "",
    }.items():
        call = call.replace(placeholder, text)
    return Function(
        f"{name}:{quantity}",
        call,
        quantity=quantity,
        input_kinds={"logits": ""},
        arguments={"sample_weights": "{}"} | ({"positive_weight": "{}"} if scales else {}),
        reductions={"sum": ""},
        conventions=(DocumentedConvention(convention, documentation=page),),
        documentation=page,
        result_dtype="float64",
        skipped_files=SLOW_TO_TRAIN_FILES,
        untested={
            **RANKING_PARAMETERS,
            "pairs_weight=None": "for ranking",
            "graph=None": "for ranking",
            "timestamp=None": "an order of the samples",
            "data_can_be_none=False": "a pool without data",
            **dict.fromkeys(
                ("delimiter='\\t'", "has_header=False", "ignore_csv_quoting=False"), "the format of data files"
            ),
            **dict.fromkeys(("log_cout=None", "log_cerr=None"), "the destination of messages"),
            **dict.fromkeys((f"{name}=None" for name in FEATURE_PARAMETERS), "properties of features"),
        },
        no_effect={"feature_names": "name", "thread_count": "implementation"},
        **COMMON_FIELDS,
        **fields,
    )


METRIC = Convention(
    weights_narrowed_to="float32", cancellation="logits", empty_mean="zero", accepts=frozenset({"trailing_axis"})
)
SOFT_METRIC = replace(METRIC, labels_narrowed_to="float32")
BINARY_PAGE, MULTICLASS_PAGE, MULTILABEL_PAGE = (
    f"{DOCUMENTATION}loss-functions-classification",
    f"{DOCUMENTATION}loss-functions-multiclassification",
    f"{DOCUMENTATION}loss-functions-multilabel-classification",
)
REJECTS = frozenset({"negative_weight"})
GRADIENT = Convention(narrowed_to="float32", gradient_cancellation="targets", rejects=REJECTS)
MULTICLASS_GRADIENT = Convention(
    narrowed_to="float32", gradient_cancellation="targets", rejects=REJECTS | {"one_class"}
)
HESSIAN = Convention(narrowed_to="float32", hessian_cancellation="complement", rejects=REJECTS)
FRAMEWORK = Framework(
    name="catboost",
    distributions=("catboost",),
    repository="https://github.com/catboost/catboost",
    modules=("catboost",),
    arrays=arrays.numpy,
    imports="import catboost; import catboost.utils; import numpy as np",
    extra_requirements=(("<1.2.7", "numpy<2"),),
    functions=(
        metric("Logloss", METRIC, documentation=BINARY_PAGE, **BINARY_FIELDS),
        metric("CrossEntropy", SOFT_METRIC, documentation=BINARY_PAGE, **SOFT_FIELDS),
        metric("MultiClass", METRIC, documentation=MULTICLASS_PAGE, **MULTICLASS_FIELDS),
        metric("MultiLogloss", METRIC, documentation=MULTILABEL_PAGE, **OUTPUT_FIELDS),
        metric(
            "MultiCrossEntropy",
            SOFT_METRIC,
            documentation=MULTILABEL_PAGE,
            **OUTPUT_FIELDS | {"targets": SOFT_FIELDS["targets"]},
        ),
        derivative("Logloss", "gradient", GRADIENT, BINARY_PAGE, scales=True, **BINARY_FIELDS),
        derivative("Logloss", "hessian", HESSIAN, BINARY_PAGE, scales=True, **BINARY_FIELDS),
        derivative("CrossEntropy", "gradient", GRADIENT, BINARY_PAGE, **SOFT_FIELDS),
        derivative("CrossEntropy", "hessian", HESSIAN, BINARY_PAGE, **BINARY_FIELDS),
        derivative("MultiClass", "gradient", MULTICLASS_GRADIENT, MULTICLASS_PAGE, **MULTICLASS_FIELDS),
    ),
)

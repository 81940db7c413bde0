"""LightGBM: log losses as it evaluates them on given scores, and the derivatives that it trains with.

It computes in float64, with labels, weights and derivatives in float32.  A metric is evaluated by a model without
trees on the initial scores of its data.  The derivatives of an objective are read from a tree with one leaf for
each sample after a refit: a leaf becomes -gradient / (hessian + lambda_l2), and two values of lambda_l2 give
both.  Weights are scaled by a power of two for this, which is exact, because 1e-15 is added to each hessian.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from conformance.adapters import arrays
from conformance.adapters.contract import DocumentedConvention, Framework, Function
from conformance.model.case import InputKind, ReturnedQuantity
from conformance.model.convention import Convention

SOURCE = "https://github.com/lightgbm-org/LightGBM/blob/v4.7.0/src/"
PARAMETERS = "https://lightgbm.readthedocs.io/en/v4.6.0/Parameters.html#"
REFIT = "https://lightgbm.readthedocs.io/en/v4.6.0/pythonapi/lightgbm.Booster.html#lightgbm.Booster.refit"
LOG_FLOOR = float(np.log(np.float32(1e-15)))
"""The logarithm of the lower bound of probabilities, computed in float32."""
METRIC_CALL = """
features = np.zeros((len({labels}), 1))
data = lightgbm.Dataset(data=features, label={labels}, init_score={predictions}, {sample_weights})
model = lightgbm.Booster({"verbosity": -1, "num_threads": 1, "metric": "METRIC", {options}}, data)
float(model.eval_train()[0][2])
"""
DERIVATIVE_CALL = """
shape = {predictions}.shape
rows = np.arange(shape[0] + 2.0)[:, np.newaxis]
alone = {"min_data_in_leaf": 1, "min_data_in_bin": 1, "min_sum_hessian_in_leaf": 0, "num_leaves": len(rows)}
tree = {"verbosity": -1, "num_threads": 1, "max_bin": len(rows) + 1, "boost_from_average": False} | alone
leaves = lightgbm.train(tree | {"learning_rate": 2**-10}, lightgbm.Dataset(rows, rows[:, 0]), TREES)
labels_of_rows = np.append({labels}, [0, 1])
weights_of_rows = np.append({sample_weights|np.ones(shape[0])}, [1, 1])
unit = 2.0 ** (80 - np.frexp(np.abs(weights_of_rows).max())[1])
{predictions} = np.concatenate([{predictions}, np.zeros((2, *shape[1:]))])
added = float(np.float32(1e-15))
def fitted(scale, l2):
    objective = {"objective": "NAME", PARAMETERS"lambda_l2": l2}
    model = leaves.refit(data=rows, label=labels_of_rows, decay_rate=0.0, weight=unit * weights_of_rows,
                         init_score={predictions}, dataset_params=objective)
    return model.predict(rows, raw_score=True)[:-2] * 2**10
def derivative(scale):
    newton, damped = fitted(scale, 0), fitted(scale, 2.0**60)
    sums = np.divide(2.0**60 * damped, newton - damped, out=np.full(shape, added), where=newton != damped)
    hessian = (sums - added) / unit
    return VALUE
scales = np.broadcast_to(SCALES, shape[:1]).tolist()
found = {scale: derivative(scale) for scale in scales}
np.array([found[scale][i] for i, scale in enumerate(scales)], "float32").reshape(shape)
"""
EXPRESSIONS: dict[ReturnedQuantity, str] = {"gradient": "-newton * sums / unit", "hessian": "hessian"}
OBJECTIVE_OPTION = '**{{"objective": "{}"}}'
"""An objective converts scores to probabilities; "none" leaves them unchanged."""
CLASS_COUNT = '"num_class": {predictions}.shape[1]'
COMMON_FIELDS: dict[str, Any] = {
    "dtypes": frozenset({"float32", "float64"}),
    "weight_dtypes": "",
    "differentiates": False,
    "labels_column": True,
}
DATASET_FIELDS: dict[str, Any] = {
    "arguments": {"sample_weights": "weight"},
    "no_effect": {"feature_name": "name"},
    "untested": {
        "reference=None": "data that define the bins of features",
        "group=None": "for ranking",
        "categorical_feature='auto'": "properties of features",
        "free_raw_data=True": "the use of memory",
        "params=None": "the binning of features",
        "position=None": "for ranking",
    },
}
BINARY_FIELDS: dict[str, Any] = {"ranks": {"binary": range(1, 2)}, "targets": {"binary": ""}}
SOFT_BINARY_FIELDS: dict[str, Any] = {"ranks": {"binary": range(1, 2)}, "targets": {"binary": "", "soft_binary": ""}}
MULTICLASS_FIELDS: dict[str, Any] = {"ranks": {"categorical": range(2, 3)}, "targets": {"index": ""}}
FILES_WITH_MANY_CLASSES = frozenset(f"categorical/vocabularies{of}" for of in ("", "_probabilities", "_rows"))
"""Case files for which a booster needs too much memory: for any metric it allocates num_class x num_class numbers for
auc_mu, which are 8 GiB for 32,768 classes.

See https://github.com/lightgbm-org/LightGBM/blob/v4.7.0/src/io/config.cpp#L229."""
SLOW_TO_TRAIN_FILES = FILES_WITH_MANY_CLASSES | {
    "binary/outputs_in_blocks",
    "categorical/generated",
    "categorical/batches_in_blocks",
    "categorical/batches_in_blocks_probabilities",
}
"""Case files with many samples or classes: a tree is grown for each class, with a leaf for each sample."""


def metric(
    name: str, objective: str, convention: Convention, link: str, parameters: str = "", **fields: Any
) -> Function:
    """An evaluation metric of probabilities.

    objective: objective that converts scores to probabilities.  link: path of the source of its convention, relative to
    `SOURCE`.  parameters: entries of the parameters of the model, as source.
    """
    input_kinds: dict[InputKind, str] = {
        "logits": OBJECTIVE_OPTION.format(objective),
        "probabilities": OBJECTIVE_OPTION.format("none"),
    }
    return Function(
        name,
        METRIC_CALL.replace("METRIC", name).replace("{options}", f"{{options}}{parameters}"),
        input_kinds=input_kinds,
        reductions={"mean": ""},
        conventions=(DocumentedConvention(convention, documentation=SOURCE + link),),
        documentation=PARAMETERS + "metric",
        result_dtype="float64",
        **COMMON_FIELDS,
        **DATASET_FIELDS,
        **fields,
    )


def objective(
    name: str, quantity: ReturnedQuantity, parameters: str, convention: Convention, link: str, **fields: Any
) -> Function:
    """A derivative that an objective passes to a tree for each sample."""
    call = DERIVATIVE_CALL
    scaled = parameters == SCALE_PARAMETER
    for placeholder, text in {
        "NAME": name,
        "PARAMETERS": parameters,
        "VALUE": EXPRESSIONS[quantity],
        "TREES": "shape[1]" if "categorical" in fields["ranks"] else "1",
        "SCALES": "{positive_weight|1.0}" if scaled else "1.0",
    }.items():
        call = call.replace(placeholder, text)
    return Function(
        f"{name}:{quantity}",
        call,
        quantity=quantity,
        input_kinds={"logits": ""},
        reductions={"sum": ""},
        arguments={"sample_weights": "{}"} | ({"positive_weight": "{}"} if scaled else {}),
        conventions=(DocumentedConvention(convention, documentation=SOURCE + link),),
        documentation=PARAMETERS + "objective",
        result_dtype="float32",
        signature=REFIT,
        no_effect={"feature_name": "name"},
        untested=UNTESTED_PARAMETERS if scaled else {},
        skipped_files=SLOW_TO_TRAIN_FILES,
        **{**COMMON_FIELDS, **fields, "dtypes": frozenset({"float32"})},
    )


def documented(*rejected: str, **choices: Any) -> Convention:
    """The handling of inputs in its source, and further choices.  rejected: input anomalies that it also rejects."""
    accepted = frozenset({"trailing_axis"})
    return Convention(accepts=accepted, rejects=frozenset({"empty_batch", *rejected}), **choices)


def floored(log_floor: float, *rejected: str, **choices: Any) -> Convention:
    """Logarithms of probabilities, and of at least `log_floor`."""
    narrow = {"weights_narrowed_to": "float32"}
    return documented(*rejected, logits_as="probabilities", log_floor=log_floor, **narrow, **choices)


UNTESTED_PARAMETERS = {
    '"sigmoid": 2.0': "a factor of the scores",
    '"is_unbalance": True': "a weight of the rarer label, computed from the labels",
}
REJECTED_WEIGHTS = ("no_weight", "negative_weight")
SCALE_PARAMETER = '"scale_pos_weight": scale, '
NUM_CLASS = '"num_class": shape[1], '
LABEL_CHOICES = {"labels_narrowed_to": "float32"}
MULTICLASS_HESSIAN = documented("one_class", hessian_factor="classes", hessian_cancellation="complement")
MULTICLASS_GRADIENT = documented("one_class", gradient_cancellation="targets")
SOFT_CONVENTION = documented("negative_weight")
BINARY_METRIC, MULTICLASS_METRIC = "metric/binary_metric.hpp#L120", "metric/multiclass_metric.hpp#L168"
SOFT_METRIC, SOFT_OBJECTIVE = "metric/xentropy_metric.hpp#L36", "objective/xentropy_objective.hpp#L78"
BINARY_OBJECTIVE, MULTICLASS_OBJECTIVE = "objective/binary_objective.hpp#L106", "objective/multiclass_objective.hpp#L87"
FRAMEWORK = Framework(
    name="lightgbm",
    distributions=("lightgbm",),
    repository="https://github.com/lightgbm-org/LightGBM",
    modules=("lightgbm",),
    arrays=arrays.numpy,
    imports="import lightgbm; import numpy as np",
    functions=(
        metric("binary_logloss", "binary", floored(LOG_FLOOR), BINARY_METRIC, **BINARY_FIELDS),
        metric(
            "multi_logloss",
            "multiclass",
            floored(LOG_FLOOR, "one_class"),
            MULTICLASS_METRIC,
            f", {CLASS_COUNT}",
            **MULTICLASS_FIELDS,
            skipped_files=FILES_WITH_MANY_CLASSES,
        ),
        metric(
            "cross_entropy",
            "cross_entropy",
            floored(math.log(1e-12), *REJECTED_WEIGHTS, **LABEL_CHOICES),
            SOFT_METRIC,
            **SOFT_BINARY_FIELDS,
        ),
        objective("binary", "gradient", SCALE_PARAMETER, documented(), BINARY_OBJECTIVE, **BINARY_FIELDS),
        objective("binary", "hessian", SCALE_PARAMETER, documented(), BINARY_OBJECTIVE, **BINARY_FIELDS),
        objective("multiclass", "gradient", NUM_CLASS, MULTICLASS_GRADIENT, MULTICLASS_OBJECTIVE, **MULTICLASS_FIELDS),
        objective("multiclass", "hessian", NUM_CLASS, MULTICLASS_HESSIAN, MULTICLASS_OBJECTIVE, **MULTICLASS_FIELDS),
        objective("cross_entropy", "gradient", "", SOFT_CONVENTION, SOFT_OBJECTIVE, **SOFT_BINARY_FIELDS),
        objective("cross_entropy", "hessian", "", SOFT_CONVENTION, SOFT_OBJECTIVE, **BINARY_FIELDS),
    ),
)

"""MLX: cross_entropy and nll_loss over classes, binary_cross_entropy from logits or probabilities.

Its mean divides by the number of losses.  cross_entropy counts the log-sum-exp of a row once, which assumes
targets that sum to 1.  Labels are looked up without a check of their bounds.
"""

from __future__ import annotations

from conformance.adapters import arrays
from conformance.adapters.contract import INTEGER_DTYPES, DocumentedConvention, Framework, family
from conformance.model.convention import Convention

DOCUMENTATION = "https://ml-explore.github.io/mlx/build/html/python/nn/_autosummary_functions/mlx.nn.losses."
SOURCE = "https://github.com/ml-explore/mlx/blob/v0.32.4/python/mlx/nn/losses.py"
INDEXING = "https://ml-explore.github.io/mlx/build/html/usage/indexing.html"
"""The page says that bounds are not checked, and that an index outside them is undefined behaviour."""


function = family(
    "mlx.nn.losses.@({predictions}, {labels}, {options})",
    documentation=f"{DOCUMENTATION}@.html",
    source=SOURCE,
    result_dtype="promoted",
    arguments={"sample_weights": "weights"},
    sample_weight_shape="per_loss",
)
CROSS_ENTROPY = function(
    "cross_entropy",
    Convention(
        mean_divides_by="kept",
        log_sum_exp="one",
        cancellation="logits",
        out_of_range="unspecified",
        gradient_cancellation="targets",
        empty_mean="nan",
        accepts=frozenset({"invalid_target"}),
    ),
    ranks={"categorical": range(1, 9)},
    input_kinds={"logits": ""},
    targets={"index": INTEGER_DTYPES, "one_hot": "", "distribution": ""},
    arguments={"sample_weights": "weights", "label_smoothing": "label_smoothing", "class_axis": "axis"},
    positional={"predictions": "logits", "labels": "targets"},
).since("0.32.1", choices={"cancellation": "none"})  # it subtracts the largest logit first
NLL = function(
    "nll_loss",
    Convention(out_of_range="unspecified", empty_mean="nan", accepts=frozenset({"invalid_probability"})),
    INDEXING,
    ranks={"categorical": range(1, 9)},
    input_kinds={"log_probabilities": ""},
    targets={"index": INTEGER_DTYPES},
    arguments={"class_axis": "axis"},
    positional={"predictions": "inputs", "labels": "targets"},
)
LOGITS_CONVENTION = Convention(
    mean_divides_by="kept",
    cancellation="logits",
    gradient_cancellation="targets",
    empty_mean="nan",
    accepts=frozenset({"invalid_target"}),
)
PROBABILITIES_CONVENTION = Convention(
    mean_divides_by="kept",
    log_floor=-100.0,
    empty_mean="nan",
    accepts=frozenset({"invalid_target", "invalid_probability"}),
)
BINARY = function(
    "binary_cross_entropy",
    ranks={"binary": range(9)},
    input_kinds={"logits": "", "probabilities": "with_logits=False"},
    targets={"binary": "", "soft_binary": "same"},
    positional={"predictions": "inputs", "labels": "targets"},
    conventions=(
        DocumentedConvention(LOGITS_CONVENTION, documentation=SOURCE, capabilities=frozenset({"logits"})),
        DocumentedConvention(PROBABILITIES_CONVENTION, capabilities=frozenset({"probabilities"})),
    ),
)
FRAMEWORK = Framework(
    name="mlx",
    distributions=("mlx",),
    repository="https://github.com/ml-explore/mlx",
    modules=("mlx",),
    requirements=("mlx", "mlx-cpu; sys_platform == 'linux'"),
    extra_requirements=(("", "mlx-cpu=={version}; sys_platform == 'linux'"),),
    arrays=arrays.mlx,
    imports="import mlx.nn",
    reductions={name: f"reduction={name!r}" for name in ("none", "sum", "mean")},
    functions=(CROSS_ENTROPY, NLL, BINARY),
)

"""transformers: the losses that its models compute from logits and labels of tokens or texts.

Those of tokens compute in float32, whatever the dtype of the logits.  They ignore the label -100.  The causal loss
compares position i with label i + 1.  The Trainer passes the divisor of the sum as `num_items_in_batch`, and computes a
loss with label smoothing by `LabelSmoother`.
"""

from __future__ import annotations

from typing import Any

from conformance.adapters import arrays
from conformance.adapters.contract import Framework, family
from conformance.model.convention import Convention

SOURCE = "https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/loss/loss_utils.py"
POSITIONS = "https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/utils/auto_docstring.py"
"""It says which positions of an answer count."""
CALL_TEMPLATE = (
    "transformers.loss.loss_utils.{}({{predictions}}, {{labels}}, vocab_size={{predictions}}.shape[-1], {{options}})"
)
TOKEN_CHOICES: dict[str, Any] = {
    "default_ignore_index": -100,
    "narrowed_to": "float32",
    "gradient_cancellation": "targets",
    "empty_mean": "nan",
}
function = family(
    CALL_TEMPLATE.format("@"),
    documentation=SOURCE,
    arguments={"ignore_index": "ignore_index"},
    positional={"predictions": "logits", "labels": "labels"},
    result_dtype="float32",
    ranks={"categorical": range(2, 9)},
    input_kinds={"logits": ""},
    targets={"index": "int64"},
    reductions={"sum": "num_items_in_batch=1", "mean": ""},
)
"""A loss of tokens."""
UNTESTED_PARAMETERS = {"kwargs={}": "arguments of other losses"}
FIXED_CROSS_ENTROPY = "transformers.loss.loss_utils.fixed_cross_entropy"
CAUSAL_LOSS = function("ForCausalLMLoss", Convention(**TOKEN_CHOICES, label_shift=1), untested=UNTESTED_PARAMETERS)
MASKED_LOSS = function(
    "ForMaskedLMLoss",
    Convention(**TOKEN_CHOICES, accepts=frozenset({"trailing_axis"})),  # it flattens labels
    first="4.48.0",
    untested=UNTESTED_PARAMETERS,
)
SHIFTED_LABELS_LOSS = CAUSAL_LOSS.like(
    "ForCausalLMLoss:shift_labels",
    first="4.50",
    call=CALL_TEMPLATE.format("ForCausalLMLoss").replace("{labels}", "None, shift_labels={labels}"),
    positional={"labels": "shift_labels"},
    choices={"label_shift": 0, "accepts": frozenset({"trailing_axis"})},
    default_files=frozenset({"categorical/ignore_index", "categorical/higher_rank"}),
)
COUNTED_LOSS = CAUSAL_LOSS.like(
    "ForCausalLMLoss:num_items_in_batch",
    reductions={"sum": None, "mean": "num_items_in_batch=labels.numel()"},
    choices={"mean_divides_by": "samples"},
)
CONFIG = "config=transformers.PretrainedConfig(num_labels={predictions}.shape[-1])"
TOKEN_CLASSIFICATION = MASKED_LOSS.like(
    "ForTokenClassification",
    first="4.48.0",
    call=f"transformers.loss.loss_utils.ForTokenClassification({{predictions}}, {{labels}}, {CONFIG}, {{options}})",
    keywords_of=FIXED_CROSS_ENTROPY,
    default_files=SHIFTED_LABELS_LOSS.default_files,
)
CLASSIFICATION_CALL = """
config = transformers.PretrainedConfig(num_labels={predictions}.shape[-1], problem_type="KIND_classification")
transformers.loss.loss_utils.ForSequenceClassificationLoss({labels}, {predictions}, config=config, {options})
"""
# The class of a whole text, image or video.
SEQUENCE_CLASSIFICATION = MASKED_LOSS.like(
    "ForSequenceClassificationLoss",
    first="4.48.0",
    call=CLASSIFICATION_CALL.replace("KIND", "single_label"),
    ranks={"categorical": range(2, 3)},
    positional={"predictions": "pooled_logits"},
    choices={"narrowed_to": None, "rejects": frozenset({"one_class"})},
    result_dtype="same",
    keywords_of=FIXED_CROSS_ENTROPY,
    default_files=frozenset({"categorical/ignore_index", "categorical/index_labels", "categorical/invalid_labels"}),
)
# The first and the last token of an answer in a text, here the same one.
QUESTION_ANSWERING = MASKED_LOSS.like(
    "ForQuestionAnsweringLoss",
    first="4.48.0",
    call="transformers.loss.loss_utils.ForQuestionAnsweringLoss(start_logits={predictions}, end_logits={predictions}, "
    "start_positions={labels}, end_positions={labels}, {options})",
    ranks={"categorical": range(2, 3)},
    arguments={"ignore_index": None},
    positional={"predictions": None, "labels": None},
    choices={"narrowed_to": None, "default_ignore_index": None, "out_of_range": "ignore"},
    documentation=POSITIONS,
    result_dtype="same",
    keywords_of=FIXED_CROSS_ENTROPY,
    default_files=frozenset({"categorical/columns", "categorical/index_labels", "categorical/invalid_labels"}),
)
MULTI_LABEL = function(
    "ForSequenceClassificationLoss:multi_label",
    Convention(
        accepts=frozenset({"invalid_target"}),
        cancellation="logits",
        gradient_cancellation="targets",
        empty_mean="nan",
    ),
    call=CLASSIFICATION_CALL.replace("KIND", "multi_label"),
    ranks={"binary": range(2, 3)},
    targets={"binary": "same", "soft_binary": "same"},
    arguments={},
    reductions={"mean": ""},
    positional={"predictions": "pooled_logits", "labels": "labels"},
    result_dtype="same",
    first="4.48.0",
    untested=UNTESTED_PARAMETERS,
    default_files=frozenset({"binary/logits", "binary/infinite_logits", "binary/invalid_labels"}),
)
SMOOTHER_SOURCE = "https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/trainer_pt_utils.py"
LABEL_SMOOTHER = function(
    "LabelSmoother",
    Convention(default_ignore_index=-100, gradient_cancellation="targets", empty_mean="nan"),
    call="{predictions} = [{predictions}]\n"
    "transformers.trainer_pt_utils.LabelSmoother("
    "{label_smoothing|epsilon=0.0}, {ignore_index})({predictions}, {labels}, {options})",
    arguments={"label_smoothing": "epsilon", "ignore_index": "ignore_index"},
    positional={"predictions": "model_output", "labels": "labels"},
    result_dtype="same_or_float32",
    documentation=SMOOTHER_SOURCE,
    first="5.24",
    untested={"shift_labels=False": "the shift of the causal loss"},
)
FRAMEWORK = Framework(
    name="transformers",
    distributions=("transformers",),
    repository="https://github.com/huggingface/transformers",
    modules=("transformers", "torch"),
    requirements=("transformers", "torch"),
    arrays=arrays.torch,
    imports="import transformers.loss.loss_utils, transformers.trainer_pt_utils",
    functions=(
        CAUSAL_LOSS,
        SHIFTED_LABELS_LOSS,
        MASKED_LOSS,
        COUNTED_LOSS,
        TOKEN_CLASSIFICATION,
        SEQUENCE_CLASSIFICATION,
        QUESTION_ANSWERING,
        MULTI_LABEL,
        LABEL_SMOOTHER,
    ),
)

"""torchmetrics: the perplexity of a batch of token sequences, as a metric and as a function.

It is the exponential of the mean of -log(p) over all tokens, with p from a softmax in the dtype of the logits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from conformance.adapters import arrays
from conformance.adapters.contract import DocumentedConvention, Framework, Function
from conformance.model.convention import Convention

PAGE = "https://lightning.ai/docs/torchmetrics/stable/text/perplexity.html"
SOURCE = "https://github.com/Lightning-AI/torchmetrics/blob/v1.9.0/src/torchmetrics/functional/text/perplexity.py"
METRIC_CALL = """
metric = torchmetrics.text.Perplexity({options}).to({predictions}.device)
metric.update(preds={predictions}, target={labels})
metric.compute()
"""
SOFTMAX_BACKWARD_SOURCE = "https://github.com/pytorch/pytorch/blob/v2.13.0/aten/src/ATen/native/cpu/SoftMaxKernel.cpp"
"""p * (g - sum(g * p)) for probabilities p and upstream gradient g.

Here g is -1 / p for the label and 0 for the other classes, so the gradient is p - y, up to a factor."""
LOSS_CONVENTION = Convention(logits_as="probabilities", empty_mean="nan")
GRADIENT_CONVENTION = replace(LOSS_CONVENTION, gradient_cancellation="targets")
COMMON_FIELDS: dict[str, Any] = {
    "ranks": {"categorical": range(3, 4)},
    "input_kinds": {"logits": ""},
    "targets": {"index": "int64"},
    "arguments": {"ignore_index": "ignore_index"},
    "reductions": {"mean": ""},
    "quantity": "perplexity",
    "documentation": PAGE,
}
FRAMEWORK = Framework(
    name="torchmetrics",
    distributions=("torchmetrics",),
    repository="https://github.com/Lightning-AI/torchmetrics",
    modules=("torchmetrics", "torch"),
    requirements=("torchmetrics", "torch"),
    arrays=arrays.torch,
    imports="import torchmetrics.text; import torchmetrics.functional.text",
    functions=(
        Function(
            "text.Perplexity",
            METRIC_CALL,
            result_dtype="float32",
            differentiates=False,
            signature=PAGE,
            conventions=(DocumentedConvention(LOSS_CONVENTION, documentation=SOURCE),),
            **COMMON_FIELDS,
        ),
        Function(
            "functional.text.perplexity",
            "torchmetrics.functional.text.perplexity(preds={predictions}, target={labels}, {options})",
            conventions=(DocumentedConvention(GRADIENT_CONVENTION, documentation=SOFTMAX_BACKWARD_SOURCE),),
            **COMMON_FIELDS,
        ),
    ),
)

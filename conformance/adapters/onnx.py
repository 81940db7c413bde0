"""The reference evaluator of onnx: SoftmaxCrossEntropyLoss and NegativeLogLikelihoodLoss, each as a model of one node.

Classes are on axis 1; the mean divides by the weights of the labels that are not ignored.  Nothing differentiates.
"""

from __future__ import annotations

from typing import Any

from conformance.adapters import arrays
from conformance.adapters.contract import DocumentedConvention, Framework, Function
from conformance.model.convention import DEFINITION, Convention

CALL = """\
def loss_of(scores, labels, *weights, **attributes):
    inputs = dict(zip(["scores", "labels", "weights"], [scores, labels, *weights]))
    node = onnx.helper.make_node("OPERATOR", list(inputs), ["loss"], **attributes)
    kinds = [onnx.helper.np_dtype_to_tensor_dtype(array.dtype) for array in inputs.values()]
    shapes = map(np.shape, inputs.values())
    values = [onnx.helper.make_tensor_value_info(*value) for value in zip(inputs, kinds, shapes)]
    loss = onnx.helper.make_tensor_value_info("loss", kinds[0], None)
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "loss", values, [loss]))
    model.ir_version, model.opset_import[0].version = 10, 13
    return onnx.reference.ReferenceEvaluator(model).run(None, inputs)[0]
loss_of({predictions}, {labels}, {class_weights}, {options})"""


def function(name: str, convention: Convention = DEFINITION, **fields: Any) -> Function:
    """An operator of ONNX, as a model of one node."""
    documentation = f"https://onnx.ai/onnx/operators/onnx__{name}.html"
    return Function(
        name,
        CALL.replace("OPERATOR", name),
        ranks={"categorical": range(2, 9)},
        targets={"index": "int64 int32"},
        arguments={"class_weights": "{}", "ignore_index": "ignore_index"},
        positional={"predictions": "scores", "labels": "labels"},
        class_axis=1,
        dtypes=frozenset({"float16", "bfloat16", "float32", "float64"}),
        conventions=(DocumentedConvention(convention, documentation=documentation),),
        signature=documentation,
        documentation=documentation,
        **fields,
    )


UNCHECKED = Convention(accepts=frozenset({"invalid_probability"}))
"""Nothing says that scores which are no log-probabilities are refused."""
FRAMEWORK = Framework(
    name="onnx",
    distributions=("onnx",),
    modules=("onnx",),
    by_default=False,
    arrays=arrays.numpy,
    imports="import numpy as np; import onnx.helper, onnx.reference",
    reductions={name: f"reduction={name!r}" for name in ("none", "sum", "mean")},
    functions=(
        function("SoftmaxCrossEntropyLoss", input_kinds={"logits": ""}),
        function("NegativeLogLikelihoodLoss", UNCHECKED, input_kinds={"log_probabilities": ""}),
    ),
)

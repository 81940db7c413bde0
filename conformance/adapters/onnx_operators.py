"""The losses of ONNX as snippets, for any runtime of a model with one node: the reference evaluator and ONNX Runtime.

The axes of its inputs have no stated length, as those of exported models whose batch may vary.
"""

from __future__ import annotations

from conformance.adapters.contract import Function, family
from conformance.model.convention import DEFINITION, Convention

CALL_TEMPLATE = """\
def loss_of(scores, labels, *weights, **attributes):
    inputs = dict(zip(["scores", "labels", "weights"], [scores, labels, *weights]))
    node = onnx.helper.make_node("@", list(inputs), ["loss"], **attributes)
    kinds = [onnx.helper.np_dtype_to_tensor_dtype(array.dtype) for array in inputs.values()]
    shapes = [[None] * np.ndim(array) for array in inputs.values()]
    values = [onnx.helper.make_tensor_value_info(*value) for value in zip(inputs, kinds, shapes)]
    loss = onnx.helper.make_tensor_value_info("loss", kinds[0], None)
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "loss", values, [loss]))
    model.ir_version, model.opset_import[0].version = 10, 13
    return RUN(None, inputs)[0]
loss_of({predictions}, {labels}, {class_weights}, {options})"""


DOCUMENTATION = "https://onnx.ai/onnx/operators/onnx__@.html"
UNCHECKED_CONVENTION = Convention(accepts=frozenset({"invalid_probability"}))
"""The documentation does not say that scores that are not log-probabilities are rejected."""


def operators(run: str, dtypes: frozenset[str]) -> tuple[Function, ...]:
    """The losses of ONNX, each as a model of one node.

    run: source of the method that runs `model`.  dtypes: accepted dtypes of the scores.
    """
    operator = family(
        CALL_TEMPLATE.replace("RUN", run),
        documentation=DOCUMENTATION,
        signature=DOCUMENTATION,
        ranks={"categorical": range(2, 9)},
        targets={"index": "int64 int32"},
        arguments={"class_weights": "{}", "ignore_index": "ignore_index"},
        positional={"predictions": "scores", "labels": "labels"},
        class_axis=1,
        dtypes=dtypes,
    )
    return (
        operator("SoftmaxCrossEntropyLoss", DEFINITION, input_kinds={"logits": ""}),
        operator("NegativeLogLikelihoodLoss", UNCHECKED_CONVENTION, input_kinds={"log_probabilities": ""}),
    )


REDUCTIONS = {name: f"reduction={name!r}" for name in ("none", "sum", "mean")}

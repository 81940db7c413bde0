"""The reference evaluator of onnx: SoftmaxCrossEntropyLoss and NegativeLogLikelihoodLoss, each as a model of one node.

Classes are on axis 1; the mean divides by the weights of the labels that are not ignored.  There are no gradients.
"""

from __future__ import annotations

from conformance.adapters import arrays, onnx_operators
from conformance.adapters.contract import Framework

FRAMEWORK = Framework(
    name="onnx",
    distributions=("onnx",),
    repository="https://github.com/onnx/onnx",
    modules=("onnx",),
    by_default=False,
    arrays=arrays.numpy,
    imports="import numpy as np; import onnx.helper, onnx.reference",
    reductions=onnx_operators.REDUCTIONS,
    functions=onnx_operators.operators(
        "onnx.reference.ReferenceEvaluator(model).run", frozenset({"float16", "bfloat16", "float32", "float64"})
    ),
)

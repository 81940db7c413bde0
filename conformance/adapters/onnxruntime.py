"""ONNX Runtime: SoftmaxCrossEntropyLoss and NegativeLogLikelihoodLoss of ONNX, each as a model of one node.

Classes are on axis 1; the mean divides by the weights of the labels that are not ignored.  Nothing differentiates.  Its
levels of optimisation are modes; eager is the default, all of them.
"""

from __future__ import annotations

from conformance.adapters import arrays, onnx_operators
from conformance.adapters.contract import Framework, Mode

LEVELS = {"unoptimized": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED"}
OPTIMIZATION = """\
optimization = onnxruntime.SessionOptions()
optimization.graph_optimization_level = onnxruntime.GraphOptimizationLevel."""
FRAMEWORK = Framework(
    name="onnxruntime",
    distributions=("onnxruntime",),
    repository="https://github.com/microsoft/onnxruntime",
    modules=("onnxruntime", "onnx"),
    requirements=("onnxruntime", "onnx"),
    arrays=arrays.numpy,
    imports="import numpy as np; import onnx.helper, onnxruntime; optimization = onnxruntime.SessionOptions()",
    reductions=onnx_operators.REDUCTIONS,
    modes={name: Mode(OPTIMIZATION + level + "\n{loss}") for name, level in LEVELS.items()},
    functions=onnx_operators.operators(
        "onnxruntime.InferenceSession(model.SerializeToString(), optimization).run",
        frozenset({"float16", "float32", "float64"}),
    ),
)

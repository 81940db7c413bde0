"""ONNX Runtime: SoftmaxCrossEntropyLoss and NegativeLogLikelihoodLoss of ONNX, each as a model of one node.

The operators are those of opset 13, https://onnx.ai/onnx/operators/onnx__SoftmaxCrossEntropyLoss.html: classes are on
axis 1, and the mean divides by the weights of the labels that are not ignored.  There are no gradients.  Each graph
optimization level below the default is a mode; the mode `eager` is the default, ORT_ENABLE_ALL.
"""

from __future__ import annotations

from conformance.adapters import arrays, onnx_operators
from conformance.adapters.contract import Framework, Mode

BELOW_DEFAULT = {"unoptimized": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED"}
# Without these lines, `optimization` is what `imports` makes of it: the options by default.
OPTIMIZATION = """\
optimization = onnxruntime.SessionOptions()
optimization.graph_optimization_level = onnxruntime.GraphOptimizationLevel."""
FRAMEWORK = Framework(
    name="onnxruntime",
    distributions=("onnxruntime",),  # one of them has the version
    repository="https://github.com/microsoft/onnxruntime",
    modules=("onnxruntime", "onnx"),  # what the calls import
    requirements=("onnxruntime", "onnx"),  # what pip installs
    arrays=arrays.numpy,
    imports="import numpy as np; import onnx.helper, onnxruntime; optimization = onnxruntime.SessionOptions()",
    reductions=onnx_operators.REDUCTIONS,
    modes={name: Mode(OPTIMIZATION + level + "\n{loss}") for name, level in BELOW_DEFAULT.items()},
    functions=onnx_operators.operators(
        "onnxruntime.InferenceSession(model.SerializeToString(), optimization).run",
        frozenset({"float16", "float32", "float64"}),
    ),
)

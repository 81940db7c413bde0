"""NumPy: hand-written cross-entropies, unreduced, so that `.sum()` and `.mean()` follow.

The handling of unusual input is that of NumPy's documented functions: shapes broadcast, a negative index counts from
the end, and the mean of nothing is nan.
"""

from __future__ import annotations

from functools import partial

from conformance.adapters import arrays
from conformance.adapters.contract import Framework
from conformance.adapters.idioms import (
    BROADCAST,
    LABEL_PARAMETERS,
    OUTPUT_TARGETS,
    REDUCTIONS,
    ROW_TARGETS,
    TAKE_LABEL,
    UNCHECKED,
    UNCHECKED_PROBABILITIES,
    idiom,
)

REFERENCE = "https://numpy.org/doc/2.4/reference/generated/numpy."
SHIFTED_LOGITS = "z = {predictions}\nz = z - z.max(axis=-1, keepdims=True)\n"
LOG_SUM_EXP = "numpy.log(numpy.exp(z).sum(axis=-1, keepdims=True))"
COMMON_FIELDS = {"dtypes": frozenset({"float16", "float32", "float64"}), "differentiates": False}
numpy_idiom = partial(idiom, fields=COMMON_FIELDS)
label_idiom = partial(numpy_idiom, **LABEL_PARAMETERS)
FRAMEWORK = Framework(
    name="numpy",
    distributions=("numpy",),
    repository="https://github.com/numpy/numpy",
    modules=("numpy",),
    by_default=False,
    arrays=arrays.numpy,
    imports="import numpy",
    reductions=REDUCTIONS,
    functions=(
        label_idiom(
            "log_of_label",
            f"p = {{predictions}}\n-numpy.log(p{TAKE_LABEL})",
            "probabilities",
            accepts=BROADCAST | {"invalid_probability"},
        ),
        numpy_idiom(
            "sum_of_q_log_p",
            "p = {predictions}\n-({labels} * numpy.log(p)).sum(axis=-1)",
            "probabilities",
            ROW_TARGETS,
            REFERENCE + "log.html",
            accepts=UNCHECKED_PROBABILITIES,
        ),
        numpy_idiom(
            "clip_then_sum_of_q_log_p",
            "p = {predictions}\n-({labels} * numpy.log(numpy.clip(p, 1e-15, 1 - 1e-15))).sum(axis=-1)",
            "probabilities",
            ROW_TARGETS,
            REFERENCE + "clip.html",
            clip=1e-15,
            accepts=UNCHECKED_PROBABILITIES,
        ),
        label_idiom(
            "log_softmax_of_label", f"{SHIFTED_LOGITS}({LOG_SUM_EXP} - z){TAKE_LABEL}", "logits", accepts=BROADCAST
        ),
        numpy_idiom(
            "sum_of_q_log_softmax",
            f"{SHIFTED_LOGITS}({{labels}} * ({LOG_SUM_EXP} - z)).sum(axis=-1)",
            "logits",
            ROW_TARGETS,
            REFERENCE + "exp.html",
            accepts=UNCHECKED,
        ),
        label_idiom(
            "naive_softmax_of_label",
            f"z = {{predictions}}\ne = numpy.exp(z)\n-numpy.log((e / e.sum(axis=-1, keepdims=True)){TAKE_LABEL})",
            "logits",
            accepts=BROADCAST,
        ),
        numpy_idiom(
            "binary_logs",
            "p = {predictions}\n-({labels} * numpy.log(p) + (1 - {labels}) * numpy.log(1 - p))",
            "probabilities",
            OUTPUT_TARGETS,
            REFERENCE + "log.html",
            ranks=range(9),
            accepts=UNCHECKED_PROBABILITIES,
        ),
        numpy_idiom(
            "logaddexp",
            "z = {predictions}\nnumpy.logaddexp(0, z) - {labels} * z",
            "logits",
            OUTPUT_TARGETS,
            REFERENCE + "logaddexp.html",
            ranks=range(9),
            cancellation="logits",
            accepts=UNCHECKED,
        ),
    ),
)

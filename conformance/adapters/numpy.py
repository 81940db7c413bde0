"""NumPy: cross-entropies as people write them by hand, unreduced, so that `.sum()` and `.mean()` follow.

What an idiom does to unusual input is what NumPy documents of its parts: shapes broadcast, a negative index counts from
the end, and the mean of nothing is nan.
"""

from __future__ import annotations

from functools import partial

from conformance.adapters import arrays
from conformance.adapters.contract import Framework
from conformance.adapters.idioms import (
    BROADCAST,
    BY_LABEL,
    OF_LABEL,
    OUTPUTS,
    REDUCTIONS,
    ROWS,
    UNCHECKED,
    UNCHECKED_PROBABILITIES,
    idiom,
)

REFERENCE = "https://numpy.org/doc/stable/reference/generated/numpy."
SHIFTED = "z = {predictions}\nz = z - z.max(axis=-1, keepdims=True)\n"
LOG_SUM_EXP = "numpy.log(numpy.exp(z).sum(axis=-1, keepdims=True))"
FIELDS = {"dtypes": frozenset({"float16", "float32", "float64"}), "differentiates": False}
own = partial(idiom, fields=FIELDS)
of_label = partial(own, **BY_LABEL)
FRAMEWORK = Framework(
    name="numpy",
    distributions=("numpy",),
    modules=("numpy",),
    by_default=False,
    arrays=arrays.numpy,
    imports="import numpy",
    reductions=REDUCTIONS,
    functions=(
        of_label(
            "log_of_label",
            f"p = {{predictions}}\n-numpy.log(p{OF_LABEL})",
            "probabilities",
            accepts=BROADCAST | {"invalid_probability"},
        ),
        own(
            "sum_of_q_log_p",
            "p = {predictions}\n-({labels} * numpy.log(p)).sum(axis=-1)",
            "probabilities",
            ROWS,
            REFERENCE + "log.html",
            accepts=UNCHECKED_PROBABILITIES,
        ),
        own(
            "clip_then_sum_of_q_log_p",
            "p = {predictions}\n-({labels} * numpy.log(numpy.clip(p, 1e-15, 1 - 1e-15))).sum(axis=-1)",
            "probabilities",
            ROWS,
            REFERENCE + "clip.html",
            clip=1e-15,
            accepts=UNCHECKED_PROBABILITIES,
        ),
        of_label("log_softmax_of_label", f"{SHIFTED}({LOG_SUM_EXP} - z){OF_LABEL}", "logits", accepts=BROADCAST),
        own(
            "sum_of_q_log_softmax",
            f"{SHIFTED}({{labels}} * ({LOG_SUM_EXP} - z)).sum(axis=-1)",
            "logits",
            ROWS,
            REFERENCE + "exp.html",
            accepts=UNCHECKED,
        ),
        of_label(
            "naive_softmax_of_label",
            f"z = {{predictions}}\ne = numpy.exp(z)\n-numpy.log((e / e.sum(axis=-1, keepdims=True)){OF_LABEL})",
            "logits",
            accepts=BROADCAST,
        ),
        own(
            "binary_logs",
            "p = {predictions}\n-({labels} * numpy.log(p) + (1 - {labels}) * numpy.log(1 - p))",
            "probabilities",
            OUTPUTS,
            REFERENCE + "log.html",
            range(9),
            accepts=UNCHECKED_PROBABILITIES,
        ),
        own(
            "logaddexp",
            "z = {predictions}\nnumpy.logaddexp(0, z) - {labels} * z",
            "logits",
            OUTPUTS,
            REFERENCE + "logaddexp.html",
            range(9),
            cancellation="logits",
            accepts=UNCHECKED,
        ),
    ),
)

"""SciPy: cross-entropies that people write with `scipy.special` and `scipy.stats.entropy`, unreduced."""

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

REFERENCE = "https://docs.scipy.org/doc/scipy/reference/generated/scipy."
own = partial(idiom, fields={"dtypes": frozenset({"float32", "float64"}), "differentiates": False})
of_label = partial(own, **BY_LABEL)
FRAMEWORK = Framework(
    name="scipy",
    distributions=("scipy",),
    modules=("scipy",),
    requirements=("scipy", "numpy"),
    by_default=False,
    arrays=arrays.numpy,
    imports="import numpy, scipy.special, scipy.stats",
    reductions=REDUCTIONS,
    functions=(
        of_label(
            "log_softmax_of_label",
            f"z = {{predictions}}\n-scipy.special.log_softmax(z, axis=-1){OF_LABEL}",
            "logits",
            accepts=BROADCAST,
        ),
        own(
            "sum_of_q_log_softmax",
            "z = {predictions}\n-({labels} * scipy.special.log_softmax(z, axis=-1)).sum(axis=-1)",
            "logits",
            ROWS,
            REFERENCE + "special.log_softmax.html",
            accepts=UNCHECKED,
        ),
        of_label(
            "logsumexp_of_label",
            f"z = {{predictions}}\nscipy.special.logsumexp(z, axis=-1) - z{OF_LABEL}",
            "logits",
            cancellation="logits",
            accepts=BROADCAST,
        ),
        own(
            "xlogy",
            "p = {predictions}\n-scipy.special.xlogy({labels}, p).sum(axis=-1)",
            "probabilities",
            ROWS,
            REFERENCE + "special.xlogy.html",
            accepts=UNCHECKED_PROBABILITIES,
        ),
        own(
            "entropy",
            "p = {predictions}\nscipy.stats.entropy({labels}, axis=-1) + scipy.stats.entropy({labels}, p, axis=-1)",
            "probabilities",
            ("one_hot",),
            REFERENCE + "stats.entropy.html",
            renormalise="before_clip",
            accepts=BROADCAST,
        ),
        own(
            "xlogy_xlog1py",
            "p = {predictions}\n-(scipy.special.xlogy({labels}, p) + scipy.special.xlog1py(1 - {labels}, -p))",
            "probabilities",
            OUTPUTS,
            REFERENCE + "special.xlog1py.html",
            range(9),
            accepts=UNCHECKED_PROBABILITIES,
        ),
        own(
            "log_expit",
            "y, z = {labels}, {predictions}\n-(y * scipy.special.log_expit(z) + (1 - y) * scipy.special.log_expit(-z))",
            "logits",
            OUTPUTS,
            REFERENCE + "special.log_expit.html",
            range(9),
            accepts=UNCHECKED,
        ),
    ),
)

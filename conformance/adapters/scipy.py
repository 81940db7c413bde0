"""SciPy: hand-written cross-entropies with `scipy.special` and `scipy.stats.entropy`, unreduced."""

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

REFERENCE = "https://docs.scipy.org/doc/scipy-1.17.1/reference/generated/scipy."
scipy_idiom = partial(idiom, fields={"dtypes": frozenset({"float32", "float64"}), "differentiates": False})
label_idiom = partial(scipy_idiom, **LABEL_PARAMETERS)
FRAMEWORK = Framework(
    name="scipy",
    distributions=("scipy",),
    repository="https://github.com/scipy/scipy",
    modules=("scipy",),
    requirements=("scipy", "numpy"),
    by_default=False,
    arrays=arrays.numpy,
    imports="import numpy, scipy.special, scipy.stats",
    reductions=REDUCTIONS,
    functions=(
        label_idiom(
            "log_softmax_of_label",
            f"z = {{predictions}}\n-scipy.special.log_softmax(z, axis=-1){TAKE_LABEL}",
            "logits",
            accepts=BROADCAST,
        ),
        scipy_idiom(
            "sum_of_q_log_softmax",
            "z = {predictions}\n-({labels} * scipy.special.log_softmax(z, axis=-1)).sum(axis=-1)",
            "logits",
            ROW_TARGETS,
            REFERENCE + "special.log_softmax.html",
            accepts=UNCHECKED,
        ),
        label_idiom(
            "logsumexp_of_label",
            f"z = {{predictions}}\nscipy.special.logsumexp(z, axis=-1) - z{TAKE_LABEL}",
            "logits",
            cancellation="logits",
            accepts=BROADCAST,
        ),
        scipy_idiom(
            "xlogy",
            "p = {predictions}\n-scipy.special.xlogy({labels}, p).sum(axis=-1)",
            "probabilities",
            ROW_TARGETS,
            REFERENCE + "special.xlogy.html",
            accepts=UNCHECKED_PROBABILITIES,
        ),
        scipy_idiom(
            "entropy",
            "p = {predictions}\nscipy.stats.entropy({labels}, axis=-1) + scipy.stats.entropy({labels}, p, axis=-1)",
            "probabilities",
            ("one_hot",),
            REFERENCE + "stats.entropy.html",
            renormalise="before_clip",
            accepts=BROADCAST,
        ),
        scipy_idiom(
            "xlogy_xlog1py",
            "p = {predictions}\n-(scipy.special.xlogy({labels}, p) + scipy.special.xlog1py(1 - {labels}, -p))",
            "probabilities",
            OUTPUT_TARGETS,
            REFERENCE + "special.xlog1py.html",
            ranks=range(9),
            accepts=UNCHECKED_PROBABILITIES,
        ),
        scipy_idiom(
            "log_expit",
            "y, z = {labels}, {predictions}\n-(y * scipy.special.log_expit(z) + (1 - y) * scipy.special.log_expit(-z))",
            "logits",
            OUTPUT_TARGETS,
            REFERENCE + "special.log_expit.html",
            ranks=range(9),
            accepts=UNCHECKED,
        ),
    ),
)

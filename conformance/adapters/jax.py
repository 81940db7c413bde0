"""JAX: cross-entropies that people write with `jax.nn`, unreduced; it has no losses of its own."""

from __future__ import annotations

from functools import partial

from conformance.adapters import arrays
from conformance.adapters.contract import Framework, Mode
from conformance.adapters.idioms import (
    BROADCAST,
    INDEX_TARGETS,
    OUTPUT_TARGETS,
    REDUCTIONS,
    ROW_TARGETS,
    UNCHECKED,
    idiom,
)

NN = "https://docs.jax.dev/en/latest/_autosummary/jax.nn."
INDEXING = "https://docs.jax.dev/en/latest/_autosummary/jax.numpy.take_along_axis.html"
TAKE_LABEL = "jnp.take_along_axis({}, {{labels}}[..., None], axis=-1)[..., 0]"
label_idiom = partial(
    idiom,
    input_kind="logits",
    targets=INDEX_TARGETS,
    documentation=INDEXING,
    gradient_cancellation="targets",
    out_of_range="nan",
    accepts=BROADCAST,
)
FRAMEWORK = Framework(
    name="jax",
    distributions=("jax",),
    repository="https://github.com/jax-ml/jax",
    modules=("jax",),
    by_default=False,
    arrays=arrays.jax,
    imports="import jax, jax.numpy as jnp",
    reductions=REDUCTIONS,
    modes={
        "jit": Mode("jax.jit({loss})"),
        "vmap": Mode("jax.vmap({loss})", unreduced=True, excludes=(frozenset({"unbatched"}),)),
        "x64_off": Mode(**arrays.JAX_X64_OFF),
    },
    functions=(
        label_idiom("log_softmax_of_label", "z = {predictions}\n-" + TAKE_LABEL.format("jax.nn.log_softmax(z)")),
        idiom(
            "sum_of_q_log_softmax",
            "z = {predictions}\n-({labels} * jax.nn.log_softmax(z)).sum(axis=-1)",
            "logits",
            ROW_TARGETS,
            NN + "log_softmax.html",
            gradient_cancellation="targets",
            accepts=UNCHECKED,
        ),
        label_idiom(
            "logsumexp_of_label",
            "z = {predictions}\njax.nn.logsumexp(z, axis=-1) - " + TAKE_LABEL.format("z"),
            cancellation="logits",
        ),
        idiom(
            "log_sigmoid",
            "z = {predictions}\n-({labels} * jax.nn.log_sigmoid(z) + (1 - {labels}) * jax.nn.log_sigmoid(-z))",
            "logits",
            OUTPUT_TARGETS,
            NN + "log_sigmoid.html",
            ranks=range(9),
            gradient_cancellation="logits",
            accepts=UNCHECKED,
        ),
    ),
)

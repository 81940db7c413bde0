"""JAX: cross-entropies that people write with `jax.nn`, unreduced; it has no losses of its own."""

from __future__ import annotations

from functools import partial

from conformance.adapters import arrays
from conformance.adapters.contract import Framework, Mode
from conformance.adapters.idioms import BROADCAST, INDEX, OUTPUTS, REDUCTIONS, ROWS, UNCHECKED, idiom

NN = "https://docs.jax.dev/en/latest/_autosummary/jax.nn."
INDEXING = "https://docs.jax.dev/en/latest/_autosummary/jax.numpy.take_along_axis.html"
OF_LABEL = "{labels}[..., None], axis=-1)[..., 0]"
of_label = partial(
    idiom,
    input_kind="logits",
    targets=INDEX,
    documentation=INDEXING,
    gradient_cancellation="targets",
    out_of_range="nan",
    accepts=BROADCAST,
)
FRAMEWORK = Framework(
    name="jax",
    distributions=("jax",),
    modules=("jax",),
    by_default=False,
    arrays=arrays.jax,
    imports="import jax, jax.numpy as jnp",
    reductions=REDUCTIONS,
    modes={"jit": Mode("jax.jit({loss})")},
    functions=(
        of_label(
            "log_softmax_of_label",
            f"z = {{predictions}}\n-jnp.take_along_axis(jax.nn.log_softmax(z), {OF_LABEL}",
        ),
        idiom(
            "sum_of_q_log_softmax",
            "z = {predictions}\n-({labels} * jax.nn.log_softmax(z)).sum(axis=-1)",
            "logits",
            ROWS,
            NN + "log_softmax.html",
            gradient_cancellation="targets",
            accepts=UNCHECKED,
        ),
        of_label(
            "logsumexp_of_label",
            f"z = {{predictions}}\njax.nn.logsumexp(z, axis=-1) - jnp.take_along_axis(z, {OF_LABEL}",
            cancellation="logits",
        ),
        idiom(
            "log_sigmoid",
            "z = {predictions}\n-({labels} * jax.nn.log_sigmoid(z) + (1 - {labels}) * jax.nn.log_sigmoid(-z))",
            "logits",
            OUTPUTS,
            NN + "log_sigmoid.html",
            range(9),
            gradient_cancellation="logits",
            accepts=UNCHECKED,
        ),
    ),
)

"""Keras: the three cross-entropy losses, from probabilities or logits, on the backend of KERAS_BACKEND.

A loss of Keras 3 casts to float32 unless it is given a dtype, which it takes since 3.4, so it is given one;
before, float32 is all that can be asked of it.  A loss of Keras 2 keeps the dtype of the predictions.
`mean_with_sample_weight` is a second way to say mean, with another divisor, and a function of its own.

Each backend computes the losses in its own words, and those of TensorFlow are the default.  The other backends
have computed in no more than 32 bits since 3.12, whatever dtype a loss is given.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from conformance.adapters import contract
from conformance.adapters.contract import Call, Framework, Function, Parameter, Rule, Tensor, Variant
from conformance.model.case import DTYPES, Array, Loss, Problem
from conformance.model.convention import Convention

DOCUMENTATION = "https://keras.io/api/losses/probabilistic_losses/"
BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")
LOSSES: dict[str, tuple[Loss, frozenset[str], frozenset[str], frozenset[str], dict[str, Any]]] = {
    # name: loss, targets, options, layouts, convention
    "BinaryCrossentropy": (
        "binary",
        frozenset({"binary", "soft_binary"}),
        frozenset({"label_smoothing"}),
        frozenset({"labels_column"}),
        {"binary_outputs": "mean_of_last_axis", "accepts": frozenset({"trailing_axis", "invalid_target"})},
    ),
    "CategoricalCrossentropy": (
        "categorical",
        frozenset({"one_hot", "distribution"}),
        frozenset({"label_smoothing"}),
        frozenset({"class_axis", "class_axis_not_1"}),
        {"renormalise": "before_clip", "accepts": frozenset({"invalid_target"})},
    ),
    "SparseCategoricalCrossentropy": (
        "categorical",
        frozenset({"index"}),
        frozenset({"ignore_index"}),
        frozenset({"labels_column", "class_axis", "class_axis_not_1"}),
        {"renormalise": "after_clip", "accepts": frozenset({"trailing_axis"})},
    ),
}


SOURCE = "https://github.com/keras-team/keras/blob/"
CLASS_AXES = frozenset({"class_axis", "class_axis_not_1"})
COLUMNS = tuple(frozenset({name, "labels_column"}) for name in sorted(CLASS_AXES))
"""The sparse loss looks for the axis too many of labels where the classes are, and so not behind the others."""
TENSORFLOW = frozenset({"tensorflow"})
OTHERS = frozenset({"jax", "torch", "numpy"})
BACKENDS: dict[str, dict[str, dict[str, Any]]] = {
    # loss: by backend, what is chosen in another way than on TensorFlow; since 3.0
    "BinaryCrossentropy": {"torch": {"cancellation": "logits", "log_floor": -100.0}},
    "SparseCategoricalCrossentropy": {name: {"renormalise": "before_clip"} for name in sorted(OTHERS)},
}


@dataclass(frozen=True)
class Era:
    """What the losses of some releases have in common.

    unreduced: how reduction none is said.  dtypes: in which they compute; cast: whether that is an argument.
    ignore: whether a class can be ignored.  axis: whether the sparse loss, too, takes the axis of the classes.
    weighted_mean: whether there are `mean` and `mean_with_sample_weight`.
    empty: what a reduction of an empty batch is, in the convention's words.
    variants: the backends that it is about, None for all.
    """

    versions: str
    unreduced: str | None = None
    cast: bool = True
    dtypes: tuple[str, ...] = DTYPES
    ignore: bool = True
    axis: bool = False
    weighted_mean: bool = True
    empty: str = "unreduced"
    source: str = DOCUMENTATION
    variants: frozenset[str] | None = None


CAPPED = Era(
    ">=3.12",
    axis=True,
    dtypes=tuple(dtype for dtype in DTYPES if dtype != "float64"),
    source="https://www.tensorflow.org/api_docs/python/tf/keras/config/set_x64_mode",
    variants=OTHERS,
)
ERAS = (
    Era(">=3.10", axis=True, variants=TENSORFLOW),
    CAPPED,
    Era(">=3.10,<3.12", axis=True, variants=OTHERS),
    Era(">=3.7,<3.10"),
    Era(">=3.4,<3.7", weighted_mean=False),
    Era(
        ">=3,<3.4",
        cast=False,
        weighted_mean=False,
        dtypes=("float32",),
        source=SOURCE + "v3.3.3/keras/src/losses/losses.py",
    ),
    Era(">=2.10,<3", "none", cast=False, empty="reduced", source=SOURCE + "v2.15.0/keras/losses.py"),
    Era("<2.10", "none", cast=False, ignore=False, empty="reduced", source=SOURCE + "v2.8.0/keras/losses.py"),
)
WEIGHTED = (
    Era(">=3.10", axis=True, source=f"{SOURCE}v3.7.0/keras/src/losses/loss.py", variants=TENSORFLOW),
    CAPPED,
    Era(">=3.10,<3.12", axis=True, source=f"{SOURCE}v3.7.0/keras/src/losses/loss.py", variants=OTHERS),
    Era(">=3.7,<3.10", source=f"{SOURCE}v3.7.0/keras/src/losses/loss.py"),
)


def lower(name: str, mean: str, era: Era, problem: Problem) -> Call:
    """Labels as the loss wants them; options that were not asked for are left at their defaults."""
    options = problem.options
    init: dict[str, Any] = {"reduction": {"none": era.unreduced, "sum": "sum", "mean": mean}[problem.reduction]}
    if problem.given == "logits":
        init["from_logits"] = True
    if options.label_smoothing is not None:
        init["label_smoothing"] = options.label_smoothing
    if options.ignore_index is not None:
        init["ignore_class"] = options.ignore_index
    if problem.layout.class_axis != -1:
        init["axis"] = problem.layout.class_axis
    if era.cast:
        init["dtype"] = problem.dtype
    encoded = {
        "CategoricalCrossentropy": contract.one_hot_labels,
        "SparseCategoricalCrossentropy": contract.index_labels,
    }
    args = {"y_true": encoded.get(name, contract.labels)(problem), "y_pred": contract.predictions(problem)}
    weights = contract.sample_weights(problem)
    return Call(f"keras.losses.{name}", args, {} if weights is None else {"sample_weight": weights}, init)


def parameters(name: str, era: Era, mean: str) -> Iterator[Parameter]:
    """Those of a loss in the releases of an era; the reductions that are not asked for say what others say, too."""
    sparse = name == "SparseCategoricalCrossentropy"
    yield Parameter("from_logits", "the kind of predictions")
    if not sparse:
        yield Parameter("label_smoothing", "label_smoothing")
    if sparse and era.ignore:
        yield Parameter("ignore_class", "ignore_index")
    if name == "BinaryCrossentropy":
        yield Parameter("axis", gap="a mean of the outputs over another axis than the last", example="axis=0")
    elif not sparse or era.axis:
        yield Parameter("axis", "the axis of the classes")
    if era.unreduced == "none":
        yield Parameter(
            "reduction", "reduction", gap="auto: for a loss alone, as sum_over_batch_size", example="reduction='auto'"
        )
    elif era.weighted_mean and mean == "sum_over_batch_size":
        yield Parameter("reduction", "reduction", gap="mean: as sum_over_batch_size", example="reduction='mean'")
    else:
        yield Parameter("reduction", "reduction")
    yield Parameter("name", neutral="name")
    if era.cast:
        yield Parameter(
            "dtype",
            "dtype",
            gap="a computation in another dtype than that of the predictions",
            example="dtype='float32'",
        )
    yield Parameter("y_true", "labels")
    yield Parameter("y_pred", "predictions")
    yield Parameter("sample_weight", "sample_weights")


def function(name: str, era: Era, mean: str = "sum_over_batch_size") -> Function:
    loss, targets, options, layouts, choices = LOSSES[name]
    sparse = name == "SparseCategoricalCrossentropy"
    if sparse and not era.axis:
        layouts = layouts - CLASS_AXES
    by_number = mean == "sum_over_batch_size"  # otherwise by the sample weights, as the definition has it
    usual: dict[str, Any] = {
        **choices,
        "mean_divides_by": "kept" if by_number else "weight",
        "clip": 1e-7,
        "empty_mean": "zero",
        "accepts": choices["accepts"] | {"invalid_probability"},
        "gradient_cancellation": "targets",
        "empty_batch": era.empty,
    }
    documented = (*on_backends(name, usual), *on_tensorflow(name, usual), Rule(Convention(**usual), source=era.source))
    return Function(
        name=f"keras.{name}" if by_number else f"keras.{name}:{mean}",
        path=f"keras.losses.{name}",
        ranks={loss: range(1 if loss == "binary" else 2, 9)},
        takes=("logits", "probabilities"),
        targets=targets,
        options=(options if era.ignore else options - {"ignore_index"}) | {"sample_weights"},
        reductions=frozenset({"none", "sum", "mean"} if by_number else {"mean"}),
        dtypes=frozenset(era.dtypes),
        layouts=layouts | {"fortran", "strided", "broadcast", "readonly", "label_dtype"},
        excludes=(frozenset({"output_weights"}), *(COLUMNS if sparse and era.axis else ())),
        rules=tuple(rule for usually in documented for rule in in_columns(name, usually)),
        source=f"{DOCUMENTATION}#{name.lower()}-class",
        lower=partial(lower, name, mean, era),
        versions=era.versions,
        variants=era.variants,
        differentiated="y_pred",
        parameters=tuple(parameters(name, era, mean)),
    )


def on_backends(name: str, usual: dict[str, Any]) -> Iterator[Rule]:
    """What a loss does in another way than usual on some backends; Keras 2 has none but TensorFlow."""
    for backend, choices in BACKENDS.get(name, {}).items():
        source = f"{SOURCE}v3.15.1/keras/src/backend/{backend}/nn.py"
        yield Rule(Convention(**(usual | choices)), ">=3", source=source, variants=frozenset({backend}))


def in_columns(name: str, usual: Rule) -> Iterator[Rule]:
    """Beside labels of shape (N, 1), predictions of rank 1 become (N, 1), too, since 3.0: each output is a sample."""
    if name == "BinaryCrossentropy":
        each = dataclasses.replace(usual.convention, binary_outputs="each")
        source = f"{SOURCE}v3.15.1/keras/src/losses/loss.py"
        features = frozenset({"labels_column", "rank_1"})
        yield dataclasses.replace(usual, convention=each, versions=">=3", source=source, features=features)
    yield usual


def on_tensorflow(name: str, usual: dict[str, Any]) -> Iterator[Rule]:
    """TensorFlow documents that its gradient takes the targets of a row for a distribution, whatever they sum to."""
    if name == "CategoricalCrossentropy":
        source = "https://www.tensorflow.org/api_docs/python/tf/nn/softmax_cross_entropy_with_logits"
        documented = Convention(**usual, gradient_total="one")
        yield Rule(documented, ">=3", source=source, variants=TENSORFLOW)
        yield Rule(documented, "<3", source=source)


def functions() -> Iterator[Function]:
    for era in ERAS:
        yield from (function(name, era) for name in LOSSES)
    for era in WEIGHTED:
        yield from (function(name, era, "mean_with_sample_weight") for name in LOSSES)


def tensor(tensor: Tensor, memory: Array) -> Any:
    """Arrays as they are; Keras 2 is handed bfloat16 as TensorFlow's, which numpy's of that name is not to it."""
    import keras

    if memory.dtype.name != "bfloat16" or not keras.__version__.startswith("2."):
        return memory
    import tensorflow

    return tensorflow.cast(memory.astype(np.float32), tensorflow.bfloat16)


def array(result: Any) -> tuple[Array, str]:
    import keras

    if keras.__version__.startswith("2."):
        import tensorflow

        name = result.dtype.name
        return (tensorflow.cast(result, "float64") if name == "bfloat16" else result).numpy(), name
    name = keras.backend.standardize_dtype(result.dtype)
    if name == "bfloat16":  # a scalar of TensorFlow has no way to numpy in this dtype
        result = keras.ops.cast(result, "float32")
    return keras.ops.convert_to_numpy(result), name


def gradient(of: Callable[[Any], Any], at: Any) -> Any:
    """By what each backend differentiates with; a loss that does not depend on the predictions has the gradient 0."""
    import keras

    backend = "tensorflow" if keras.__version__.startswith("2.") else keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow

        x = tensorflow.convert_to_tensor(at)
        with tensorflow.GradientTape() as tape:
            tape.watch(x)
            result = of(x)
        zero = tensorflow.UnconnectedGradients.ZERO
        return tensorflow.convert_to_tensor(tape.gradient(result, x, unconnected_gradients=zero))
    if backend == "jax":
        import jax

        return jax.grad(lambda x: of(x).sum())(jax.numpy.asarray(at))
    x = keras.ops.convert_to_tensor(at).detach().requires_grad_()
    of(x).sum().backward()
    return x.grad


def gradient_literal(expression: str, x: str) -> str:
    """As source text, by TensorFlow's tape; the other backends have their own."""
    tape = "import tensorflow; tape = tensorflow.GradientTape().__enter__()"
    slope = f"tape.gradient({expression}, x, unconnected_gradients='zero')"
    return f"{tape}; x = tensorflow.convert_to_tensor({x}); tape.watch(x); tensorflow.convert_to_tensor({slope})"


def jax_gradient_literal(expression: str, x: str) -> str:
    return f"import jax; jax.grad(lambda x: {expression}.sum())(jax.numpy.asarray({x}))"


def torch_gradient_literal(expression: str, x: str) -> str:
    return f"x = keras.ops.convert_to_tensor({x}).detach().requires_grad_(); {expression}.sum().backward(); x.grad"


@cache
def quiet() -> None:
    """Import Keras with stderr closed to native code: TensorFlow logs before it can be told not to."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        import keras  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


FRAMEWORK = Framework(
    name="keras",
    distributions=("keras",),
    modules=("keras", BACKEND),
    imports="import keras",
    tensor=tensor,
    literal=Tensor.source,
    array=array,
    gradient=gradient,
    gradient_literal=gradient_literal,
    prepare=quiet,
    needs=(("<2.15", "numpy<2"), ("<2.12", "protobuf<3.20")),
    functions=tuple(functions()),
    variants={
        "tensorflow": Variant(
            ("tensorflow-cpu; sys_platform == 'linux'", "tensorflow; sys_platform != 'linux'"),
            {"KERAS_BACKEND": "tensorflow"},
        ),
        "jax": Variant(
            ("jax",), {"KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1"}, gradient_literal=jax_gradient_literal
        ),
        "torch": Variant(("torch",), {"KERAS_BACKEND": "torch"}, gradient_literal=torch_gradient_literal),
        "numpy": Variant(("jax",), {"KERAS_BACKEND": "numpy"}, differentiates=False),
    },
)

"""Keras: the three cross-entropy losses, from probabilities or logits, on the backend of KERAS_BACKEND, the operations
that they call, the metrics of their names, and the losses as a compiled model has them.

A loss of Keras 3 casts to float32 unless it is given a dtype, which it takes since 3.4, so it is given one;
before, float32 is all that it has.  A loss of Keras 2 keeps the dtype of the predictions.
`mean_with_sample_weight` is a second way to say mean, with another divisor, and a function of its own.

Each backend computes the losses in its own words, and those of TensorFlow are the default.  The other backends
have computed in no more than 32 bits since 3.12, for any dtype of a loss.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from conformance.adapters import arrays
from conformance.adapters.arrays import Arrays, Device, Tensor
from conformance.adapters.contract import Backend, DocumentedConvention, Framework, Function, Mode
from conformance.model.case import DTYPES, Array, Loss, dtype_name
from conformance.model.convention import Convention, EmptyBatch

DOCUMENTATION = "https://keras.io/api/losses/probabilistic_losses/"
SOURCE = "https://github.com/keras-team/keras/blob/"
BACKEND_SOURCE = f"{SOURCE}v3.15.1/keras/src/backend/{{}}/nn.py"
BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")
TENSORFLOW = frozenset({"tensorflow"})
OTHER_BACKENDS = ("jax", "torch", "numpy")
NARROW_DTYPES = frozenset(DTYPES) - {"float64"}
NUMPY_DTYPES = NARROW_DTYPES - {"bfloat16"}
"""Dtypes that an operation keeps: numpy promotes bfloat16 with a Python number."""
SMOOTHING_ARGUMENT = {"label_smoothing": "label_smoothing"}
AXIS_ARGUMENT = {"class_axis": "axis"}
COLUMN_EXCLUDES = tuple(frozenset({name, "labels_column"}) for name in ("class_axis", "class_axis_not_1"))
"""The sparse loss expects the extra axis of labels on the class axis, and so not after the others."""
LOSS_SOURCE = f"{SOURCE}v3.15.1/keras/src/losses/loss.py"


def function(
    name: str, loss: Loss, targets: tuple[str, ...], arguments: dict[str, str], accepts: set[str], **choices: Any
) -> Function:
    """A loss of Keras 2.8, with the changes that all losses have in common."""
    usual = Convention(
        mean_divides_by="kept",
        clip=1e-7,
        empty_mean="zero",
        accepts=frozenset({*accepts, "invalid_probability"}),
        gradient_cancellation="targets",
        empty_batch="reduced",
        **choices,
    )
    conventions = (DocumentedConvention(usual, documentation=SOURCE + "v2.8.0/keras/losses.py"),)
    return (
        Function(
            name,
            f"keras.losses.{name}({{options}})({{labels}}, {{predictions}}, {{sample_weights}})",
            ranks={loss: range(1 if loss == "binary" else 2, 9)},
            input_kinds={"logits": "from_logits=True", "probabilities": ""},
            targets=dict.fromkeys(targets, ""),
            arguments={"sample_weights": "sample_weight", **arguments},
            reductions={
                "none": "reduction='none'",
                "sum": "reduction='sum'",
                "mean": "reduction='sum_over_batch_size'",
            },
            positional={"labels": "y_true", "predictions": "y_pred"},
            no_effect={"name": "name"},
            untested={"reduction='auto'": "auto: for a loss alone, as sum_over_batch_size"},
            weight_dtypes="",
            excludes=(frozenset({"output_weights"}),),
            conventions=conventions,
            documentation=f"{DOCUMENTATION}#{name.lower()}-class",
        )
        .since("2.10", documentation=SOURCE + "v2.15.0/keras/losses.py")
        .since(
            "3",
            ranks={loss: range(1, 9)},
            conventions=(*in_columns(usual), *conventions),
            dtypes=frozenset({"float32"}),
            reductions={"none": "reduction=None"},
            untested={"reduction='auto'": None},
            choices={"empty_batch": "unreduced"},
            documentation=SOURCE + "v3.3.3/keras/src/losses/losses.py",
        )
        .since(
            "3.4",
            dtypes=frozenset(DTYPES),
            arguments={"dtype": "dtype"},
            documentation=DOCUMENTATION,
        )
        .since("3.7", untested={"reduction='mean'": "mean: as sum_over_batch_size"})
        .since(
            "3.12",
            backends=OTHER_BACKENDS,
            dtypes=NARROW_DTYPES,
            documentation="https://www.tensorflow.org/api_docs/python/tf/keras/config/set_x64_mode",
        )
    )


def in_columns(usual: Convention) -> tuple[DocumentedConvention, ...]:
    """With labels of shape (N, 1), predictions of rank 1 also become (N, 1) since 3.0: each output is a sample."""
    if usual.binary_outputs == "each":
        return ()
    convention = replace(usual, binary_outputs="each")
    return (
        DocumentedConvention(
            convention, documentation=LOSS_SOURCE, capabilities=frozenset({"labels_column", "rank_1"})
        ),
    )


BINARY = function(
    "BinaryCrossentropy",
    "binary",
    ("binary", "soft_binary"),
    SMOOTHING_ARGUMENT,
    {"trailing_axis", "invalid_target"},
    binary_outputs="mean_of_last_axis",
)
BINARY = replace(BINARY, labels_column=True).since(
    "3",
    backends=("torch",),
    choices={"cancellation": "logits", "log_floor": -100.0},
    documentation=BACKEND_SOURCE.format("torch"),
)
# TensorFlow documents that its gradient assumes targets that sum to 1.
SOFT = (
    function(
        "CategoricalCrossentropy",
        "categorical",
        ("one_hot", "distribution"),
        {**SMOOTHING_ARGUMENT, **AXIS_ARGUMENT},
        {"invalid_target"},
        renormalise="before_clip",
        gradient_total="one",
    )
    .since("", documentation="https://www.tensorflow.org/api_docs/python/tf/nn/softmax_cross_entropy_with_logits")
    .since("3", backends=OTHER_BACKENDS, choices={"gradient_total": "targets"}, documentation=DOCUMENTATION)
)
SPARSE = (
    replace(
        function(
            "SparseCategoricalCrossentropy", "categorical", ("index",), {}, {"trailing_axis"}, renormalise="after_clip"
        ),
        labels_column=True,
    )
    .since("2.10", arguments={"ignore_index": "ignore_class"})
    .since("3.10", arguments=AXIS_ARGUMENT, excludes=(frozenset({"output_weights"}), *COLUMN_EXCLUDES))
)
for backend in OTHER_BACKENDS:
    SPARSE = SPARSE.since(
        "3", backends=(backend,), choices={"renormalise": "before_clip"}, documentation=BACKEND_SOURCE.format(backend)
    )


def weighted(loss: Function) -> Function:
    """The mean divided by the sample weights, as in the definition."""
    return loss.like(
        f"{loss.name}:mean_with_sample_weight",
        first="3.7",
        reductions={"none": None, "sum": None, "mean": "reduction='mean_with_sample_weight'"},
        untested={"reduction='mean'": None},
        choices={"mean_divides_by": "weight"},
        documentation=f"{SOURCE}v3.7.0/keras/src/losses/loss.py",
    )


UNTESTED_PARAMETERS = ("reduction='auto'", "reduction='mean'")
"""Parameters of the losses, in some release, that no case exercises."""
MEAN_ONLY = {"none": None, "sum": None, "mean": ""}
"""Reductions of functions that only return a mean."""


def without_dtype(loss: Function) -> Function:
    """A loss without a dtype argument: it casts float64 predictions, labels and weights to float32."""
    return replace(loss, backends=TENSORFLOW).like(
        f"{loss.name}:default_dtype",
        first="3.4",
        arguments={"dtype": None},
        dtypes=frozenset({"float64"}),
        result_dtype="float32",
        choices={"narrowed_to": "float32"},
        default_files=frozenset(MODEL_FILES[loss.name]),
        documentation=LOSS_SOURCE,
    )


# The outputs of a sample are on axis 1, like channels.
ALONG_AXIS_1 = BINARY.like(
    "BinaryCrossentropy:axis",
    first="3",
    call="""
{labels}, {predictions} = [keras.ops.moveaxis(x, -1, 1) for x in ({labels}, {predictions})]
keras.losses.BinaryCrossentropy({options}, axis=1)({labels}, {predictions}, {sample_weights})
""",
    ranks={"binary": range(3, 9)},
    labels_column=False,
    default_files=frozenset({"binary/higher_rank", "binary/label_smoothing"}),
)


def operation(
    loss: Function, name: str, targets: Mapping[str, str], arguments: dict[str, str], *files: str, **choices: Any
) -> Function:
    """The operation in `keras.ops` that a loss calls: unreduced, in the dtype of its arguments, without weights.

    targets: kind of target -> dtypes of the labels.
    files: case files of a plain run.
    """
    unknown = ("sample_weights", "label_smoothing", "ignore_index", "dtype")
    return loss.like(
        f"ops.{name}",
        first="3",
        call=f"keras.ops.{name}({{labels}}, {{predictions}}, {{options}})",
        targets=targets,
        arguments={**dict.fromkeys(unknown), **arguments},
        reductions={"none": "{result}", "sum": "keras.ops.sum({result})", "mean": "keras.ops.mean({result})"},
        positional={"labels": "target", "predictions": "output"},
        no_effect={"name": None},
        untested=dict.fromkeys(UNTESTED_PARAMETERS),
        excludes=COLUMN_EXCLUDES if "index" in loss.targets else (),
        dtypes=frozenset(DTYPES),
        choices={"mean_divides_by": "weight", "empty_mean": "nan", "empty_batch": "reduced", **choices},
        default_files=frozenset(files),
        documentation=f"https://keras.io/api/ops/nn/#{name}-function",
    ).since("3", backends=OTHER_BACKENDS, dtypes=NARROW_DTYPES)


METRICS_PAGE = "https://keras.io/api/metrics/probabilistic_metrics/#{}-class"
METRIC_FILES = {
    "binary": frozenset({"article/binary", "binary/sample_weights"}),
    "categorical": frozenset({"article/index_labels", "article/one_hot_labels", "categorical/sample_weights"}),
}


def metric(loss: Function, **choices: Any) -> Function:
    """The metric with the name of a loss: the mean of all updates, divided by the sample weights.

    Losses are computed in the dtype of the predictions, and summed in that of the metric.
    """
    (loss_kind,) = loss.ranks
    return loss.like(
        f"metrics.{loss.name}",
        first="3",
        call=f"keras.metrics.{loss.name}({{options}})({{labels}}, {{predictions}}, {{sample_weights}})",
        arguments={"dtype": "dtype", "ignore_index": None, **(AXIS_ARGUMENT if loss_kind == "categorical" else {})},
        reductions=MEAN_ONLY,
        untested=dict.fromkeys(UNTESTED_PARAMETERS),
        dtypes=frozenset(DTYPES),
        differentiates=False,
        modes=frozenset(),
        choices={
            "mean_divides_by": "weight",
            "empty_batch": "reduced",
            "gradient_cancellation": "none",
            "gradient_total": "targets",
            **choices,
        },
        default_files=METRIC_FILES[loss_kind],
        documentation=METRICS_PAGE.format(loss.name.lower()),
    ).since("3", backends=OTHER_BACKENDS, dtypes=NARROW_DTYPES)


IN_BATCHES_CALL = """
metric = keras.metrics.{name}({{options}})
for batch in slice(1), slice(1, None):
    metric.update_state({{labels}}[batch], {{predictions}}[batch], {{sample_weights}})
metric.result()
"""


def in_batches(metric: Function) -> Function:
    """A metric that is updated first with one sample and then with the others."""
    (loss,) = metric.ranks
    name = metric.name.removeprefix("metrics.")
    return metric.like(
        f"{metric.name}:in_batches",
        call=IN_BATCHES_CALL.format(name=name),
        ranks={loss: range(2, 9)},
        arguments={"sample_weights": "sample_weight={}[batch]", "class_axis": None},
        signature=METRICS_PAGE.format(name.lower()),
    )


IDENTITY_CALL = """
model = keras.Sequential([keras.layers.Identity()])
model.compile(loss=keras.losses.{name}({{options}}))
loss = model.{call}
keras.ops.convert_to_tensor(loss, "float32")
"""
BATCH_SIZE = "2 if len({predictions}) < 1000 else 1000"  # several batches, and not 500,000 of a million samples
EVALUATE_CALL = f"evaluate(x={{predictions}}, y={{labels}}, {{sample_weights}}, batch_size={BATCH_SIZE}, verbose=0)"
TRAIN_ON_BATCH = "train_on_batch(x={predictions}, y={labels}, {sample_weights}, {class_weights})"
MASKING_CALL = """
kept = {labels} != {ignore_index|None}
x, y = {predictions}.copy(), {labels}.copy()
x[~kept], y[~kept] = -1e9, 0
model = keras.Sequential([keras.layers.Masking(mask_value=-1e9)])
model.compile(loss=keras.losses.SparseCategoricalCrossentropy({options}))
loss = model.test_on_batch(x, y, {sample_weights})
keras.ops.convert_to_tensor(loss, "float32")
"""
TRAINING_BACKENDS = frozenset({"tensorflow", "jax", "torch"})
MODEL_FILES = {
    "BinaryCrossentropy": {"article/binary", "binary/sample_weights"},
    "CategoricalCrossentropy": {"article/one_hot_labels", "categorical/weights_rows"},
    "SparseCategoricalCrossentropy": {"article/index_labels", "categorical/sample_weights"},
}


def of_model(
    loss: Function,
    name: str,
    call: str,
    *files: str,
    arguments: Mapping[str, str] | None = None,
    empty_batch: EmptyBatch = "reduced",
    **fields: Any,
) -> Function:
    """A loss as computed by a model that returns its input: in float32, reduced for each batch.

    Not on numpy, which cannot train, and tries the loss of a new model on uninitialised labels.

    name: name of the method, followed after a colon by a distinguishing word.
    files: case files of a plain run, in addition to those of the loss.
    """
    (loss_kind,) = loss.ranks
    page = f"https://keras.io/api/models/model_training_apis/#{name.partition(':')[0]}-method"
    return replace(loss, backends=TRAINING_BACKENDS).like(
        f"Model.{name}",
        first="3",
        call=call,
        ranks={loss_kind: range(2, 9)},
        arguments={"dtype": None, "class_axis": None, **(arguments or {})},
        reductions=MEAN_ONLY,
        untested=dict.fromkeys(UNTESTED_PARAMETERS),
        dtypes=frozenset({"float32"}),
        differentiates=False,
        modes=frozenset(),
        choices={"empty_batch": empty_batch, "gradient_cancellation": "none", "gradient_total": "targets"},
        default_files=frozenset({*MODEL_FILES[loss.name], *files}),
        signature=page,
        documentation=page,
        **fields,
    )


def evaluated(loss: Function) -> Function:
    """The loss that `evaluate` returns for batches of two samples, or of a thousand of many; the last may have fewer.

    For a loss with reduction "sum" it is not a sum, but the mean of those of the batches.
    """
    call = IDENTITY_CALL.format(name=loss.name, call=EVALUATE_CALL)
    files = ("categorical/ignore_index",) if "index" in loss.targets else ()
    return of_model(loss, f"evaluate:{loss.name}", call, *files, empty_batch="unreduced")


def trained(loss: Function, *capabilities: str) -> Function:
    """The loss that `train_on_batch` returns, with class weights, for which each sample needs one label.

    capabilities: capabilities that it supports only without class weights.
    """
    return of_model(
        loss,
        f"train_on_batch:{loss.name}",
        IDENTITY_CALL.format(name=loss.name, call=TRAIN_ON_BATCH),
        "categorical/class_weights",
        arguments={"class_weights": "class_weight=dict(enumerate({}.tolist()))"},
        excludes=tuple(frozenset({"class_weights", name}) for name in ("sample_weights", "higher_rank", *capabilities)),
    )


def masked(loss: Function) -> Function:
    """The sparse loss of a batch in which the mask of a layer determines ignored samples."""
    name = f"test_on_batch:{loss.name}:Masking"
    files = ("categorical/ignore_index", "categorical/probabilities_options")
    return of_model(loss, name, MASKING_CALL, *files, arguments={"ignore_index": "{}"})


def to_native(memory: Array) -> Any:
    """Pass arrays unchanged, except bfloat16 to Keras 2, which accepts TensorFlow's type and not numpy's."""
    import keras

    if dtype_name(memory.dtype) != "bfloat16" or not keras.__version__.startswith("2."):
        return memory
    import tensorflow

    return tensorflow.cast(memory.astype(np.float32), tensorflow.bfloat16)


def to_numpy(result: Any) -> tuple[Array, str]:
    """A result as a numpy array, and the name of its dtype."""
    import keras

    if keras.__version__.startswith("2."):
        import tensorflow

        name = result.dtype.name
        return (tensorflow.cast(result, "float64") if name == "bfloat16" else result).numpy(), name
    name = keras.backend.standardize_dtype(result.dtype)
    if name == "bfloat16":  # TensorFlow cannot convert a scalar of this dtype to numpy
        result = keras.ops.cast(result, "float32")
    return keras.ops.convert_to_numpy(result), name


ARRAY_OPERATIONS = arrays.array_operations(
    "keras.ops",
    "keras.ops",
    size="float(keras.ops.size({0}))",
    take="keras.ops.take({0}, {1}, axis=0)",
    cast="keras.ops.cast({0}, '{dtype}')",
    as_dtype="keras.ops.cast({0}, '{1}')",
    one_hot="keras.ops.one_hot({0}, predictions.shape[{axis}], dtype='{dtype}')",
)


def keras_arrays(library: Arrays, *prepared: str) -> Arrays:
    """The arrays of a backend: inputs are numpy's, results its own.

    library: the arrays of its library; Keras itself uses an available GPU.  prepared: lines of source before the
    derivative.
    """
    derivatives = {
        name: "\n".join([*prepared, text]) for name, text in library.derivatives.items() if name == "gradient"
    }
    devices = {
        name: Device(is_available=device.is_available) for name, device in library.devices.items() if name == "cuda"
    }
    return Arrays(to_native, Tensor.source, to_numpy, "", derivatives, ARRAY_OPERATIONS, devices)


@cache
def quiet() -> None:
    """Import Keras with stderr closed to native code, as TensorFlow logs before it can be configured."""
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


GRAPH_WRAPPERS = {"graph": "tf.function({loss})", "xla": "tf.function({loss}, jit_compile=True)"}
LOSSES = (BINARY, SOFT, SPARSE)
OPERATIONS = (
    replace(
        operation(
            BINARY,
            "binary_crossentropy",
            {"binary": "same", "soft_binary": "same"},
            {},
            "article/binary",
            "binary/probabilities_edge",
            binary_outputs="each",
            accepts=frozenset({"invalid_probability", "invalid_target"}),
        ),
        labels_column=False,
    ).since("3", backends=("numpy",), dtypes=NUMPY_DTYPES),
    operation(
        SOFT,
        "categorical_crossentropy",
        {"one_hot": "same", "distribution": "same"},
        AXIS_ARGUMENT,
        "article/one_hot_labels",
        "categorical/masked_logits_rows",
    ).since("3", backends=("numpy",), dtypes=NUMPY_DTYPES),
    # Labels become one-hot vectors in the widest dtype of JAX, and in float32 on numpy.
    operation(
        SPARSE,
        "sparse_categorical_crossentropy",
        {},
        AXIS_ARGUMENT,
        "article/index_labels",
        "categorical/class_axis_index",
    )
    .since(
        "3",
        backends=("jax",),
        result_dtype="float64",
        documentation="https://docs.jax.dev/en/latest/_autosummary/jax.nn.one_hot.html",
    )
    .since(
        "3",
        backends=("numpy",),
        dtypes=NUMPY_DTYPES,
        result_dtype="float32",
        documentation=BACKEND_SOURCE.format("numpy"),
    ),
)
METRICS = (
    replace(metric(BINARY, accepts=frozenset({"invalid_probability", "invalid_target"})), labels_column=False),
    metric(SOFT),
    metric(SPARSE).since("3.14", arguments={"ignore_index": "ignore_class"}),
)
MODELS = (
    *map(evaluated, LOSSES),
    trained(SOFT, "distribution", "label_smoothing"),
    trained(SPARSE),
    masked(replace(SPARSE, labels_column=False)),
)
FRAMEWORK = Framework(
    name="keras",
    distributions=("keras",),
    repository="https://github.com/keras-team/keras",
    modules=("keras", BACKEND),
    arrays=keras_arrays(arrays.numpy),
    imports="import keras",
    prepare=quiet,
    extra_requirements=(("<2.15", "numpy<2"), ("<2.12", "protobuf<3.20")),
    functions=(
        *LOSSES,
        *map(weighted, LOSSES),
        *map(without_dtype, LOSSES),
        ALONG_AXIS_1,
        *OPERATIONS,
        *METRICS,
        *map(in_batches, METRICS),
        *MODELS,
    ),
    modes={
        name: Mode(f"import tensorflow as tf\n{wrap}", backends=TENSORFLOW) for name, wrap in GRAPH_WRAPPERS.items()
    },
    backends={
        "tensorflow": Backend(
            ("tensorflow-cpu; sys_platform == 'linux'", "tensorflow; sys_platform != 'linux'"),
            {"KERAS_BACKEND": "tensorflow"},
            keras_arrays(arrays.tensorflow, "import tensorflow as tf"),
        ),
        "jax": Backend(
            ("jax",),
            {"KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1"},
            keras_arrays(arrays.jax, "import jax", "{x} = jax.numpy.asarray({x})"),
        ),
        "torch": Backend(
            ("torch",),
            {"KERAS_BACKEND": "torch"},
            keras_arrays(arrays.torch, "{x} = keras.ops.convert_to_tensor({x})"),
        ),
        # keras.src.backend.numpy.nn imports jax.
        "numpy": Backend(("jax",), {"KERAS_BACKEND": "numpy"}),
    },
)

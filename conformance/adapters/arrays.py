"""Conversion of arrays to and from frameworks, and to source: one bundle per array library.

An array library is imported only when one of its arrays is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from conformance.model.case import Array, Order, dtype_name


@dataclass(frozen=True, eq=False)
class Tensor:
    """An array argument: its values, and the memory layout in which it is passed."""

    values: Array
    """Values, with the classes on `class_axis`."""
    order: Order = "c"
    """Memory order of the passed array."""
    class_axis: int = -1
    """Axis to which the classes were moved; in a problem they are on the last one."""

    def __post_init__(self) -> None:
        if self.values.ndim == 0 and self.order in ("fortran", "broadcast", "strided"):
            object.__setattr__(self, "order", "c")  # a scalar has no memory order

    @cached_property
    def digits(self) -> str:
        """The values as nested Python lists; see `nested`."""
        return nested(self.values)

    def laid_out(self) -> Array:
        """A new array with these values in this memory order; the caller may modify it."""
        values = self.values
        if self.order == "broadcast":
            return np.broadcast_to(values[_repeated(values)].copy(), values.shape)
        if self.order == "readonly" and values.size:
            return np.frombuffer(values.tobytes(), values.dtype).reshape(values.shape)
        if self.order == "strided":
            return np.repeat(values, 2, axis=-1)[..., ::2]
        return np.array(values, order="F" if self.order == "fortran" else "C")

    def source(self) -> str:
        """A numpy expression that rebuilds `laid_out()` bit for bit."""
        name = "bool" if self.values.dtype == np.bool_ else dtype_name(self.values.dtype)
        name = self.values.dtype.str if self.values.dtype.kind == "U" else name
        dtype = "ml_dtypes.bfloat16" if name == "bfloat16" else f"'{name}'"
        base = f"np.array({self.digits}, dtype={dtype})"
        if self.values.size == 0:
            base += f".reshape({self.values.shape})"
        if self.order == "broadcast":
            index = ", ".join(":1" if part.stop else ":" for part in _repeated(self.values))
            return f"np.broadcast_to({base}[{index}], {self.values.shape})"
        if self.order == "readonly" and self.values.size:
            return f"np.frombuffer({base}.tobytes(), {dtype}).reshape({self.values.shape})"
        if self.order == "strided":
            return f"np.repeat({base}, 2, axis=-1)[..., ::2]"
        return f"np.asfortranarray({base})" if self.order == "fortran" else base


def _repeated(values: Array) -> tuple[slice, ...]:
    """An index that keeps one element along each axis on which the values are constant."""
    first = [values[(slice(None),) * axis + (slice(0, 1),)] for axis in range(values.ndim)]
    same = [bool(np.all(identical(values, first_value))) for first_value in first]
    return tuple(slice(0, 1) if repeats else slice(None) for repeats in same)


def identical(a: Array, b: Array) -> Array:
    """Elementwise: equal, both nan, and zeros of one sign."""
    signs = np.signbit(a) == np.signbit(b) if a.dtype.kind in "fV" else np.True_
    return np.asarray(((a == b) & signs) | ((a != a) & (b != b)))


def nested(values: Array) -> str:
    """An array as nested Python lists whose numbers or strings parse to the same values."""
    if values.dtype.kind in "biuU":
        return str(values.tolist())
    # Shortest digits that parse to the same number: of the narrow type for float16 and float32, of float64 otherwise.
    wide = values.dtype not in (np.float16, np.float32)
    numbers = values.astype(np.float64) if wide else values
    finite = np.isfinite(numbers)
    if wide and bool(finite.all()):
        return str(numbers.tolist())
    flat = zip(numbers.ravel().tolist() if wide else numbers.ravel(), finite.ravel().tolist(), strict=True)
    texts = np.empty(numbers.shape, dtype=object)
    texts.ravel()[:] = [str(number) if is_finite else f"float('{number}')" for number, is_finite in flat]
    return _joined(texts.tolist())


def _joined(texts: Any) -> str:
    return texts if isinstance(texts, str) else f"[{', '.join(map(_joined, texts))}]"


@dataclass(frozen=True)
class Device:
    """A device other than the CPU that a library supports; results are copied back by `Arrays.numpy`."""

    place: str = "{array}"
    """Source of an array on it: `{array}.to('cuda')`; `{array}` alone if the library itself chooses the device."""
    is_available: Callable[[], bool] = lambda: True
    """Whether this machine has it, called after the import of the library; an exception counts as False."""
    excludes: tuple[frozenset[str], ...] = ()
    """Groups of capabilities that no function supports in combination on this device, as in `contract.Function`."""


@dataclass(frozen=True)
class Arrays:
    """Conversion of arrays to and from an array library, and its derivatives."""

    native: Callable[[Array], Any]
    """Convert a numpy array, already in its memory layout, to the type that the library's users pass."""
    literal: Callable[[Tensor], str]
    """The same as source; may use `np`, `ml_dtypes` and the names from `imports`."""
    numpy: Callable[[Any], tuple[Array, str]]
    """Convert a result to (numpy array, name of its original dtype)."""
    imports: str = ""
    """One line of source that the other texts need."""
    derivatives: Mapping[str, str] = field(default_factory=dict)
    """Quantity -> source that differentiates `{result}.sum()` with respect to `{x}`: `gradient`, and others such as a
    Hessian.

    `{result}` is an expression of the loss, `{x}` the name of the predictions; the last line is an expression."""
    operations: Mapping[str, str] = field(default_factory=dict)
    """Operation -> expression of its operands `{0}`, `{1}` ..., of the `{axis}` of the classes and the `{dtype}`.

    Source that users of the library write in addition to a call, as in `conformance recipe`; also the conversions of
    predictions, by their names in `reference.conversion`."""
    devices: Mapping[str, Device] = field(default_factory=dict)
    """Devices by name, except the CPU, which every library supports."""


def array_operations(module: str, nonlinear: str, sigmoid: str = "sigmoid", **operations: str) -> dict[str, str]:
    """Operations of a library whose functions are called like those of numpy.

    nonlinear: module of softmax and log_softmax.  sigmoid: name of the sigmoid in this module.  operations:
    other operations as source, "" for one that the library lacks.
    """
    table = {
        "sum": "@.sum({0})",
        "mean": "@.mean({0})",
        "sum_of_classes": "@.sum({0}, axis={axis})",
        "dot": "@.matmul({0}, {1})",
        "moveaxis": "@.moveaxis({0}, {1}, {2})",
        "reshape": "@.reshape({0}, {1})",
        "broadcast": "@.broadcast_to({0}, {1})",
        "as_dtype": "{0}.astype('{1}')",
        "array_of": "@.array({0})",
        "mean_of_last_axis": "@.mean({0}, axis=-1)",
        "last_axis": "{0}[..., None]",
        "size": "@.size({0})",
        "where": "@.where({0}, {1}, {2})",
        "clip": "@.clip({0}, {1}, {2})",
        "argmax": "@.argmax({0}, axis={axis})",
        "take": "{0}[{1}]",
        "cast": "{0}.astype('{dtype}')",
        "one_hot": "@.eye(predictions.shape[{axis}], dtype='{dtype}')[{0}]",
        "normalised": "{0} / @.sum({0}, axis={axis}, keepdims=True)",
        "softmax": f"{nonlinear}.softmax({{0}}, axis={{axis}})",
        "log_softmax": f"{nonlinear}.log_softmax({{0}}, axis={{axis}})",
        "sigmoid": f"{nonlinear}.{sigmoid}({{0}})",
        "log_sigmoid": f"{nonlinear}.log_{sigmoid}({{0}})",
        "log": "@.log({0})",
        "exp": "@.exp({0})",
        "logit": "@.log({0}) - @.log1p(-{0})",
        "logit of exp": "{0} - @.log(-@.expm1({0}))",
        **operations,
    }
    return {name: text.replace("@", module) for name, text in table.items() if text}


def _numpy_array(result: Any) -> tuple[Array, str]:
    values = np.asarray(result)
    return values, values.dtype.name


numpy = Arrays(
    native=lambda memory: memory,
    literal=Tensor.source,
    numpy=_numpy_array,
    operations=array_operations("np", "scipy.special", "expit"),
)
"""Arrays of numpy, which has no gradients."""


def _torch_tensor(memory: Array) -> Any:
    import torch

    if dtype_name(memory.dtype) == "bfloat16":
        return torch.from_numpy(memory.view(np.int16)).view(torch.bfloat16)  # unknown to torch in numpy's form
    if memory.ndim:
        return torch.from_numpy(memory)
    return torch.tensor(memory.item(), dtype=getattr(torch, memory.dtype.name))


def _torch_literal(tensor: Tensor) -> str:
    dtype = f"torch.{dtype_name(tensor.values.dtype)}"
    if tensor.order == "c" and tensor.values.size:
        return f"torch.tensor({tensor.digits}, dtype={dtype})"
    if dtype != "torch.bfloat16":
        return f"torch.from_numpy({tensor.source()})"
    return f"torch.from_numpy({tensor.source()}.view(np.int16)).view({dtype})"


def _torch_array(result: Any) -> tuple[Array, str]:
    name = str(result.dtype).removeprefix("torch.")
    array = result.detach().cpu()
    wide = array if name == "float64" else array.float()  # twice as fast as a direct cast of narrow dtypes to float64
    return wide.numpy().astype(np.float64, copy=False), name


TORCH_GRADIENT = "{x} = {x}.detach().requires_grad_()\n{result}.sum().backward()\n{x}.grad"
TORCH_OPERATIONS = array_operations(
    "torch",
    "torch",
    as_dtype="{0}.to(torch.{1})",
    array_of="torch.tensor({0})",
    mean_of_last_axis="torch.mean({0}, -1)",
    size="{0}.numel()",
    argmax="{0}.int().argmax({axis})",  # argmax does not accept booleans
    cast="{0}.to(predictions.dtype)",
    one_hot="torch.nn.functional.one_hot({0}, predictions.shape[{axis}]).to(predictions.dtype)",
    normalised="{0} / {0}.sum({axis}, keepdim=True)",
    softmax="torch.softmax({0}, {axis})",
    log_softmax="torch.log_softmax({0}, {axis})",
    log_sigmoid="torch.nn.functional.logsigmoid({0})",
)


def _torch_has_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _torch_has_mps() -> bool:
    import torch

    return bool(torch.backends.mps.is_available())


NOT_COPIED = tuple(frozenset({order}) for order in ("broadcast", "strided", "readonly"))
"""Memory orders that are lost when an array is copied to a device."""
torch = Arrays(
    _torch_tensor,
    _torch_literal,
    _torch_array,
    "import torch",
    {"gradient": TORCH_GRADIENT},
    TORCH_OPERATIONS,
    {
        "cuda": Device("{array}.to('cuda')", _torch_has_cuda, NOT_COPIED),
        "mps": Device("{array}.to('mps')", _torch_has_mps, (*NOT_COPIED, frozenset({"float64"}))),
    },
)


def _paddle_tensor(memory: Array) -> Any:
    import paddle

    return paddle.to_tensor(memory)


paddle = Arrays(
    native=_paddle_tensor,
    literal=lambda tensor: f"paddle.to_tensor({tensor.source()})",
    numpy=lambda result: (result.numpy(), str(result.dtype).removeprefix("paddle.")),
    imports="import paddle",
    derivatives={"gradient": "{x}.stop_gradient = False\n{result}.sum().backward()\n{x}.grad"},
    operations=array_operations(
        "paddle",
        "paddle.nn.functional",
        as_dtype="paddle.cast({0}, '{1}')",
        array_of="paddle.to_tensor({0})",
        size="{0}.size",
        cast="paddle.cast({0}, '{dtype}')",
        one_hot="paddle.cast(paddle.nn.functional.one_hot({0}, predictions.shape[{axis}]), '{dtype}')",
        normalised="{0} / @.sum({0}, axis={axis}, keepdim=True)",
    ),
)
"""Arrays of PaddlePaddle, which supports no narrow dtypes on the CPU."""


def _mlx_array(memory: Array) -> Any:
    import mlx.core

    name = dtype_name(memory.dtype)
    return mlx.core.array(memory, dtype=getattr(mlx.core, "bool_" if name == "bool" else name))


def _mlx_literal(tensor: Tensor) -> str:
    """Source; without a dtype, float64 would become float32."""
    name = dtype_name(tensor.values.dtype)
    return f"mx.array({tensor.source()}, dtype=mx.{'bool_' if name == 'bool' else name})"


def _mlx_values(result: Any) -> tuple[Array, str]:
    import mlx.core

    name = str(result.dtype).rpartition(".")[2]
    return np.array(result.astype(mlx.core.float32) if name == "bfloat16" else result), name


mlx = Arrays(
    native=_mlx_array,
    literal=_mlx_literal,
    numpy=_mlx_values,
    imports="import mlx.core as mx; mx.set_default_device(mx.cpu)",
    derivatives={"gradient": "mx.grad(lambda {x}: {result}.sum())({x})"},
    operations=array_operations(
        "mx",
        "mlx.nn",
        as_dtype="{0}.astype(mx.{1})",
        size="{0}.size",
        cast="{0}.astype(mx.{dtype})",
        one_hot="mx.eye(predictions.shape[{axis}], dtype=mx.{dtype})[{0}]",
    ),
)
"""Arrays of MLX on the CPU, where it supports float64."""


def _tinygrad_tensor(memory: Array) -> Any:
    import tinygrad

    return tinygrad.Tensor(memory.reshape(memory.shape or 1), dtype=dtype_name(memory.dtype)).reshape(memory.shape)


def _tinygrad_literal(tensor: Tensor) -> str:
    """Source of a tensor; a tensor without axes would be a constant, which has no gradient."""
    with_axis = tensor if tensor.values.ndim else Tensor(tensor.values.reshape(1))
    source = f"tinygrad.Tensor({with_axis.source()}, dtype={dtype_name(tensor.values.dtype)!r})"
    return source if tensor.values.ndim else f"{source}.reshape(())"


def _tinygrad_values(result: Any) -> tuple[Array, str]:
    import tinygrad

    values = result.numpy()
    return values, "bfloat16" if result.dtype == tinygrad.dtypes.bfloat16 else values.dtype.name


tinygrad = Arrays(
    native=_tinygrad_tensor,
    literal=_tinygrad_literal,
    numpy=_tinygrad_values,
    imports="import os; os.environ['DEV'] = 'CPU'; import tinygrad",
    derivatives={"gradient": "{result}.sum().backward()\n{x}.grad"},
    operations=array_operations(
        "tinygrad.Tensor",
        "tinygrad.Tensor",
        # The lengths of the axes are their numbers, so that a shape encodes an order of axes.
        moveaxis="{0}.permute(np.moveaxis(np.empty(range({0}.ndim)), {1}, {2}).shape)",
        broadcast="@.expand({0}, {1})",
        as_dtype="@.cast({0}, '{1}')",
        array_of="@({0})",
        size="{0}.numel()",
        cast="@.cast({0}, '{dtype}')",
        one_hot="@.one_hot({0}, predictions.shape[{axis}]).cast('{dtype}')",
        normalised="{0} / @.sum({0}, axis={axis}, keepdim=True)",
        log_sigmoid="@.logsigmoid({0})",
        logit="@.log({0}) - @.log(1 - {0})",
        **{"logit of exp": ""},
    ),
)
"""Arrays of tinygrad on the CPU, for which clang compiles."""


def _mindspore_tensor(memory: Array) -> Any:
    import mindspore

    if dtype_name(memory.dtype) == "bfloat16":
        return mindspore.Tensor(memory.astype(np.float32)).astype(mindspore.bfloat16)
    return mindspore.Tensor(memory)


def _mindspore_literal(tensor: Tensor) -> str:
    if dtype_name(tensor.values.dtype) == "bfloat16":
        return f"mindspore.Tensor({tensor.source()}.astype('float32')).astype(mindspore.bfloat16)"
    return f"mindspore.Tensor({tensor.source()})"


def _mindspore_values(result: Any) -> tuple[Array, str]:
    name = str(result.dtype).lower().removeprefix("mindspore.")
    return (result.float() if name == "bfloat16" else result).asnumpy(), name


mindspore = Arrays(
    native=_mindspore_tensor,
    literal=_mindspore_literal,
    numpy=_mindspore_values,
    derivatives={"gradient": "mindspore.grad(lambda {x}: {result}.sum())({x})"},
    operations=array_operations(
        "mindspore.ops",
        "mindspore.ops",
        moveaxis="@.movedim({0}, {1}, {2})",
        sum_of_classes="@.sum({0}, {axis})",
        as_dtype="@.cast({0}, mindspore.{1})",
        array_of="mindspore.Tensor({0})",
        size="{0}.size",
        argmax="@.argmax({0}, {axis})",
        cast="@.cast({0}, mindspore.{dtype})",
        one_hot="@.cast(@.one_hot({0}, predictions.shape[{axis}]), mindspore.{dtype})",
        normalised="{0} / @.sum({0}, {axis}, True)",
        log_sigmoid="@.logsigmoid({0})",
    ),
)
"""Arrays of MindSpore outside of graphs (PyNative mode)."""


def _jax_has_cuda() -> bool:
    import jax

    return bool(jax.devices("cuda"))


def _jax_array(memory: Array) -> Any:
    import jax

    return jax.numpy.asarray(memory)


jax = Arrays(
    native=_jax_array,
    literal=lambda tensor: f"jax.numpy.asarray({tensor.source()})",
    numpy=lambda result: (np.asarray(result).astype(np.float64), result.dtype.name),
    imports="import jax; jax.config.update('jax_enable_x64', True)",
    derivatives={
        "gradient": "jax.grad(lambda {x}: {result}.sum())({x})",
        "hessian": "jax.hessian(lambda {x}: {result}.sum())({x})",
    },
    operations=array_operations("jax.numpy", "jax.nn"),
    devices={"cuda": Device("jax.device_put({array}, jax.devices('cuda')[0])", _jax_has_cuda)},
)
"""Arrays of JAX with 64-bit types enabled; otherwise it computes in at most 32 bits."""
JAX_X64_OFF: dict[str, Any] = {
    "environment": {"JAX_ENABLE_X64": "0"},
    "imports": "import jax; jax.config.update('jax_enable_x64', False)",
    "narrowed_to": "float32",
}
"""Fields of the `contract.Mode` that is JAX's default: numbers of 64 bits are narrowed where they become its arrays.

https://github.com/jax-ml/jax/blob/jax-v0.10.2/docs/notebooks/Common_Gotchas_in_JAX.md
"""

TENSORFLOW_GRADIENT = """\
{x} = tf.convert_to_tensor({x})
with tf.GradientTape() as tape:
    tape.watch({x})
    result = {result}
tf.convert_to_tensor(tape.gradient(result, {x}, unconnected_gradients='zero'))"""


def _tensorflow_has_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def _tensorflow_tensor(memory: Array) -> Any:
    import tensorflow as tf

    return tf.convert_to_tensor(memory)


tensorflow = Arrays(
    native=_tensorflow_tensor,
    literal=lambda tensor: f"tf.convert_to_tensor({tensor.source()})",
    numpy=lambda result: (result.numpy().astype(np.float64), result.dtype.name),
    imports="import tensorflow as tf",
    derivatives={"gradient": TENSORFLOW_GRADIENT},
    operations=array_operations(
        "tf",
        "tf.nn",
        sum="tf.reduce_sum({0})",
        mean="tf.reduce_mean({0})",
        mean_of_last_axis="tf.reduce_mean({0}, -1)",
        sum_of_classes="tf.reduce_sum({0}, {axis})",
        dot="tf.linalg.matvec({0}, {1})",
        moveaxis="tf.experimental.numpy.moveaxis({0}, {1}, {2})",
        as_dtype="tf.cast({0}, '{1}')",
        array_of="tf.constant({0})",
        size="{0}.shape.num_elements()",
        clip="tf.clip_by_value({0}, {1}, {2})",
        argmax="tf.argmax({0}, {axis})",
        take="tf.gather({0}, {1})",
        cast="tf.cast({0}, '{dtype}')",
        one_hot="tf.one_hot({0}, predictions.shape[{axis}], dtype='{dtype}')",
        normalised="{0} / tf.reduce_sum({0}, {axis}, keepdims=True)",
        log_sigmoid="tf.math.log_sigmoid({0})",
        log="tf.math.log({0})",
        logit="tf.math.log({0}) - tf.math.log1p(-{0})",
        **{"logit of exp": "{0} - tf.math.log(-tf.math.expm1({0}))"},
    ),
    devices={"cuda": Device(is_available=_tensorflow_has_gpu)},
)

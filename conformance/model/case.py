"""A case: one exactly stated cross-entropy problem, independent of any framework.

A `Case` holds the content of a case file, in float64.  A `Problem` is that case with one dtype and one
reduction, with every array rounded once to the dtype: exactly the inputs of a function and of
the oracle.  In both, classes are on the last axis, in whatever layout the arrays are passed
to a function.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Result = TypeVar("Result")
_ABSENT: Any = object()
"""Stands for a result that is not in a cache, where None may be one."""
Loss = Literal["categorical", "binary"]
InputKind = Literal["logits", "probabilities", "log_probabilities"]
Target = Literal["index", "distribution", "binary"]
Reduction = Literal["none", "sum", "mean"]
Quantity = Literal[
    "loss", "gradient", "perplexity", "perplexity_gradient", "d2", "hidden_gradient", "weight_gradient",
    "bias_gradient", "hessian",
]  # fmt: skip
ReturnedQuantity = Literal["loss", "gradient", "hessian", "perplexity", "d2"]
Order = Literal["c", "fortran", "strided", "broadcast", "readonly"]

LOSSES: tuple[Loss, ...] = ("categorical", "binary")
INPUT_KINDS: tuple[InputKind, ...] = ("logits", "probabilities", "log_probabilities")
TARGETS: tuple[Target, ...] = ("index", "distribution", "binary")
FOLLOWS_FROM: Mapping[str, tuple[Quantity, ...]] = {
    "loss": (),
    **dict.fromkeys(("gradient", "perplexity", "d2"), ("loss",)),
    **dict.fromkeys(
        ("perplexity_gradient", "hidden_gradient", "weight_gradient", "bias_gradient", "hessian"), ("gradient", "loss")
    ),
}
"""Quantity -> quantities that it is computed from, the nearest first."""
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
"""Quantity of a row.  `loss`: the reduced loss.  `perplexity`: the exponential of its mean.  `d2`: 1 - a / b, where b
is the loss of predicting the frequency of each class among the labels.  Gradients are with respect to the
predictions, or to a factor of the logits for a function that multiplies them: `HEAD_GRADIENTS`.  `hessian`: the
diagonal of the second derivative of the sum of the losses in the logits."""
GRADIENT_OF: Mapping[Quantity, Quantity] = {"loss": "gradient", "perplexity": "perplexity_gradient"}
"""Quantity -> its gradient, if it has one."""
HEAD_GRADIENTS: Mapping[Quantity, str] = {
    "hidden_gradient": "hidden",
    "weight_gradient": "weight",
    "bias_gradient": "bias",
}
"""Quantity -> the factor with respect to which it is a gradient, for a function that computes the logits itself."""
REDUCTIONS: tuple[Reduction, ...] = ("none", "sum", "mean")
ORDERS: tuple[Order, ...] = ("c", "fortran", "strided", "broadcast", "readonly")
DTYPES: tuple[str, ...] = ("float16", "bfloat16", "float32", "float64")
LABEL_DTYPES: tuple[str, ...] = ("bool", "int8", "uint8", "int16", "int32", "int64", "float32", "float64")
WEIGHTS: tuple[str, ...] = ("class_weights", "sample_weights", "positive_weight")
"""Names of the options that hold arrays of weights."""
WEIGHT_DTYPES: tuple[str, ...] = tuple(dict.fromkeys((*DTYPES, *LABEL_DTYPES)))
DEFAULT_DTYPES: tuple[str, ...] = ("float32", "float64")
DATA = "data"
"""Id of the case for a user's own arrays, which are not written out in reproducers."""
OPTIONS: tuple[str, ...] = (
    "class_weights",
    "sample_weights",
    "positive_weight",
    "label_smoothing",
    "ignore_index",
)


def is_derivative(quantity: str) -> bool:
    """Whether a quantity is a derivative, shaped as the array that it is taken with respect to."""
    return quantity == "hessian" or quantity in GRADIENT_OF.values() or quantity in HEAD_GRADIENTS


@functools.cache
def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype with this name; bfloat16 is that of ml_dtypes, which must be installed."""
    if name == "bfloat16":
        import ml_dtypes

        name = ml_dtypes.bfloat16
    dtype: np.dtype[Any] = np.dtype(name)
    return dtype


@functools.cache
def dtype_name(dtype: np.dtype[Any]) -> str:
    """The name of a numpy dtype; cached, as numpy composes it at each access."""
    return dtype.name


def _frozen(values: Array) -> Array:
    view = values.view()
    view.flags.writeable = False
    return view


def _rounded(values: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return _frozen(values.astype(dtype, copy=False))


@dataclass(frozen=True, eq=False)
class Options:
    """What a case sets in addition to labels and predictions.  None: not set, and not passed to any function."""

    class_weights: Array | None = None
    """[C]."""
    sample_weights: Array | None = None
    """The shape of the samples, or its leading axes."""
    positive_weight: Array | None = None
    """A scalar, or any shape that broadcasts to the predictions."""
    label_smoothing: float | None = None
    """A number in [0, 1]; a Python float, as every function takes it."""
    ignore_index: int | None = None
    """An integer label."""

    def names(self) -> tuple[str, ...]:
        """The options that are set, in the order of `OPTIONS`."""
        return self._names

    @functools.cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(name for name in OPTIONS if getattr(self, name) is not None)

    def rounded(self, dtype: np.dtype[Any]) -> Options:
        """The same options with every array rounded to `dtype`."""
        arrays: dict[str, Any] = {
            name: _rounded(value, dtype) for name in WEIGHTS if (value := getattr(self, name)) is not None
        }
        return dataclasses.replace(self, **arrays)


@dataclass(frozen=True)
class Layout:
    """How arrays are passed; it does not change the problem."""

    class_axis: int = -1
    """Axis of the classes in the arrays as passed; in the case they are on the last axis."""
    labels: Literal["flat", "column"] = "flat"
    """`column`: labels of shape (N, 1) instead of (N,), or (1,) instead of a scalar."""
    order: Order = "c"
    label_dtype: str | None = None
    """dtype of the labels as passed; None for that of the labels in the case."""
    class_names: tuple[Any, ...] = ()
    """Names of the classes in the order of the columns, all strings or all integers; empty if labels are indices.

    In the case, labels are indices into it; a function that accepts names is passed names."""

    other_names: tuple[Any, ...] = ()
    """Label names that are not names of a class; in the case they are C, C + 1 and so on, outside the classes."""

    weight_dtype: str | None = None
    """dtype of all weights as passed; None for that of the predictions, to which they are rounded in any case."""

    @property
    def content(self) -> dict[str, Any]:
        """The fields for the digest of a case; fields of later releases only if they are set."""
        later = ("class_names", "other_names", "weight_dtype")
        return {name: value for name, value in dataclasses.asdict(self).items() if value or name not in later}

    @functools.cached_property
    def sorted_columns(self) -> tuple[int, ...]:
        """The column of each class if columns are sorted by the names of the classes; empty without names."""
        columns = {name: column for column, name in enumerate(sorted(self.class_names))}
        return tuple(columns[name] for name in self.class_names)

    @functools.cached_property
    def name_ranks(self) -> tuple[int, ...]:
        """The rank of each name, including names without a class, among all names in sorted order."""
        names = (*self.class_names, *self.other_names)
        ranks = {name: rank for rank, name in enumerate(sorted(names))}
        return tuple(ranks[name] for name in names)

    @property
    def is_sorted(self) -> bool:
        """Whether the columns are sorted by the names of their classes, or the classes have no names."""
        return list(self.sorted_columns) == sorted(self.sorted_columns)

    def name_labels(self, labels: Array) -> Array:
        """Return labels as the names of their classes; unchanged if classes have no names."""
        names = (*self.class_names, *self.other_names)
        return np.array(names)[labels] if self.class_names else labels

    def names(self) -> tuple[str, ...]:
        """Unusual properties of this layout, as the capability names that functions declare."""
        return self._names

    @functools.cached_property
    def _names(self) -> tuple[str, ...]:
        unusual = []
        if self.class_axis != -1:
            unusual.append("class_axis" if self.class_axis == 1 else "class_axis_not_1")
        if self.labels == "column":
            unusual.append("labels_column")
        if self.order != "c":
            unusual.append(self.order)
        if self.label_dtype is not None:
            unusual.append("label_dtype")
        if self.weight_dtype is not None:
            unusual.append("weight_dtype")
        return tuple(unusual)

    def words(self) -> dict[str, str]:
        """Each name of `names` -> its line in a case file."""
        words = {"class_axis": f"class_axis: {self.class_axis}", "labels_column": "labels: column"}
        words |= {name: f"{name}: {getattr(self, name)}" for name in ("label_dtype", "weight_dtype")}
        words |= {"class_axis_not_1": words["class_axis"], self.order: f"order: {self.order}"}
        return {name: words[name] for name in self.names()}


@dataclass(frozen=True)
class ByOracle:
    """The oracle's answer is expected."""


@dataclass(frozen=True)
class Digits:
    """Digits from an independent source, by reduction; they verify the oracle (float64 inputs)."""

    values: Mapping[str, Any]
    position: tuple[int, int] = field(default=(0, 0), compare=False)
    """Line and column in the file, counted from 1; 0 without a file."""


@dataclass(frozen=True)
class MustRaise:
    """An exception is the only right answer."""

    kind: str


@dataclass(frozen=True)
class NoRightAnswer:
    """The case has no right answer; the behaviour is only recorded."""

    why: str


Expectation = ByOracle | Digits | MustRaise | NoRightAnswer


@dataclass(frozen=True)
class Published:
    """A published number.  The oracle decides whether it holds to its printed digits."""

    value: Any
    """Digits as printed; nested lists for unreduced losses, or for a gradient in the axis order of its file."""
    source: str = ""
    """Where it is printed; empty if the file does not give a source."""
    note: str = ""
    reduction: Reduction = "mean"
    quantity: Quantity = "loss"


@dataclass(frozen=True, eq=False)
class Case:
    """One exactly stated problem of a case file, before it is expanded over dtypes and reductions.

    Arrays are read-only.
    """

    id: str
    """Path of its file below the case folder, and its name."""
    why: str
    """The fault that would go unnoticed without it."""
    about: str
    """Subject of its file."""
    source: str
    """Origin of the case."""
    loss: Loss
    """Categorical or binary."""
    input_kind: InputKind
    """Kind of the predictions."""
    target: Target
    """Kind of the labels."""
    predictions: Array
    """float64; categorical [N, d1, ..., C], or [C] for a single sample; binary any shape, also ()."""
    labels: Array
    """index: int64 [N, d1, ...] or (); distribution and binary: float64, int64 or bool, shaped as the predictions."""
    options: Options = Options()
    """Weights, smoothing and the ignored label."""
    layout: Layout = Layout()
    """How arrays are passed."""
    reductions: tuple[Reduction, ...] = ("mean",)
    """Reductions that it is expanded over."""
    dtypes: tuple[str, ...] = DEFAULT_DTYPES
    """dtypes that it is expanded over."""
    expect: Expectation = ByOracle()
    """The right answer: that of the oracle, stated digits, an exception, or none."""
    published: tuple[Published, ...] = ()
    """Numbers from publications."""
    no_gradient: str = ""
    """Why its gradient is not tested; "" if it is."""
    path: str = ""
    """Path of its file; "" if it is not from a file."""
    line: int = 0
    """Line in that file; 0 for none."""
    written_target: str = ""
    """The file's word for the kind of its labels, if it differs: one_hot or soft_binary."""
    written_class_axis: int = -1
    """Axis of the classes in the arrays and published gradients of its file, counted from 0; -1 for the last."""
    note: str = ""
    """Ambiguities of its file, with the position, and how they are resolved; empty if there are none."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "predictions", _frozen(self.predictions))
        object.__setattr__(self, "labels", _frozen(self.labels))

    @functools.cached_property
    def digest(self) -> str:
        """16 hex digits of SHA-256 over everything that affects the problem or its right answer."""
        options = {name: getattr(self.options, name) for name in self.options.names()}
        content = {
            "loss": self.loss,
            "given": self.input_kind,
            "target": self.target,
            "predictions": self.predictions,
            "labels": self.labels,
            "options": options,
            "layout": self.layout.content,
            "expect": [type(self.expect).__name__, getattr(self.expect, "kind", "")],
        }
        return content_digest(content)

    @property
    def predicted(self) -> int:
        """Number of predictions."""
        return int(self.predictions.size)

    @property
    def axis_note(self) -> str:
        """Note on the axis of the file's arrays that is shown last; empty if the order is unchanged."""
        axis = self.written_class_axis
        return "" if axis == -1 else f"classes are shown last; the file has them on axis {axis}"

    def published_value(self, number: Published) -> Any:
        """The digits of a published number; those of a gradient with the classes on the last axis."""
        if number.quantity == "loss" or self.written_class_axis == -1:
            return number.value
        return np.moveaxis(np.array(number.value, dtype=object), self.written_class_axis, -1).tolist()

    @property
    def representative(self) -> Case:
        """A case that a function supports if and only if it supports this one; small if its arrays are generated."""
        return self

    def problems(self) -> list[Problem]:
        """Every problem of this case: dtypes x reductions, in the order of the case."""
        unreduced = [self.problem(dtype, "none") for dtype in self.dtypes]
        return [problem.with_reduction(reduction) for problem in unreduced for reduction in self.reductions]

    def problem(self, dtype: str, reduction: Reduction) -> Problem:
        """The case with one dtype and reduction."""
        rounded = numpy_dtype(dtype)
        labels = self.labels
        if labels.dtype == np.float64 and self.target != "index":
            labels = _rounded(labels, rounded)
        return Problem(
            case=self.id,
            loss=self.loss,
            input_kind=self.input_kind,
            target=self.target,
            predictions=_rounded(self.predictions, rounded),
            labels=labels,
            options=self.options.rounded(rounded),
            layout=self.layout,
            dtype=dtype,
            reduction=reduction,
        )


@dataclass(frozen=True, eq=False)
class Problem:
    """A case with one dtype and one reduction: the inputs of a function and of the oracle."""

    case: str
    """Id of its case."""
    loss: Loss
    """See `Case`."""
    input_kind: InputKind
    """See `Case`."""
    target: Target
    """See `Case`."""
    predictions: Array
    """See `Case`, rounded to `dtype`."""
    labels: Array
    """See `Case`; floats are rounded to `dtype`."""
    options: Options
    """See `Case`, rounded to `dtype`."""
    layout: Layout
    """See `Case`."""
    dtype: str
    """dtype of the predictions."""
    reduction: Reduction
    """Reduction of the losses."""
    has_bias: bool = field(default=True)
    """Whether a function that computes the logits from factors is also passed a bias: see `contract.heads`."""

    def with_options(self, **changes: Any) -> Problem:
        """The same problem with other values of these options."""
        return dataclasses.replace(self, options=dataclasses.replace(self.options, **changes))

    def with_reduction(self, reduction: Reduction) -> Problem:
        """The same problem with another reduction; results that do not depend on the reduction are shared."""
        problem = dataclasses.replace(self, reduction=reduction)
        vars(problem)["unreduced"] = self.unreduced
        return problem

    def cast(self, dtype: str) -> Problem:
        """The same problem with its floats rounded to another dtype."""
        to = numpy_dtype(dtype)
        return dataclasses.replace(
            self,
            dtype=dtype,
            predictions=_rounded(self.predictions, to),
            labels=_rounded(self.labels, to) if self.labels.dtype.kind in "fV" else self.labels,
            options=self.options.rounded(to),
        )

    @property
    def unreduced(self) -> Problem:
        """The problem from which `with_reduction` created this one; it caches results that no reduction changes."""
        problem: Problem = vars(self).get("unreduced", self)
        return problem

    def derived(self, key: Hashable, make: Callable[[Problem], Problem | None]) -> Problem | None:
        """A problem derived from this one before its reduction; cached by `key`.

        make: function that derives it, called once for all reductions.  The result is None if `make` returns None or
        its argument.
        """

        def derive() -> Problem | None:
            if self.unreduced is not self:
                result = self.unreduced.derived(key, make)
                return result and result.with_reduction(self.reduction)
            result = make(self)
            return None if result is self else result

        return self.computed_once(key, derive)

    def computed_once(self, key: Hashable, compute: Callable[[], Result]) -> Result:
        """The result of `compute`, which is called once for each key and kept in `cache`."""
        cache = self.cache
        result: Result = cache.get(key, _ABSENT)
        if result is _ABSENT:
            result = cache[key] = compute()
        return result

    @functools.cached_property
    def cache(self) -> dict[Hashable, Any]:
        """Results computed from this problem alone; they live as long as the problem.

        Results that do not depend on the reduction are stored in `unreduced`.
        """
        return {}

    @functools.cached_property
    def digest(self) -> str:
        """32 hex digits of SHA-256 over everything that the exact answer depends on (not the layout)."""
        return content_digest({"content": self.unreduced._content, "reduction": self.reduction}, digits=32)

    @functools.cached_property
    def _content(self) -> str:
        columns = {} if self.layout.is_sorted else {"columns": self.layout.sorted_columns}
        if self.layout.other_names:
            columns["ranks"] = self.layout.name_ranks
        return content_digest(
            {
                **columns,
                "loss": self.loss,
                "given": self.input_kind,
                "target": self.target,
                "predictions": self.predictions,
                "labels": self.labels,
                "options": {name: getattr(self.options, name) for name in self.options.names()},
                "dtype": self.dtype,
            },
            digits=32,
        )

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one loss per sample (categorical) or per output (binary)."""
        shape = self.predictions.shape
        return shape[:-1] if self.loss == "categorical" else shape

    @functools.cached_property
    def target_kind(self) -> str:
        """`index`, `one_hot`, `multi_hot`, `distribution`, `binary` (all whole numbers) or `soft_binary`.

        Whole numbers other than 0 and 1 are labels that name no class, and not soft labels.
        Rows of zeros and ones, for two classes or more, are `multi_hot` unless each has exactly one 1.
        """
        if self.target == "index":
            return "index"
        if (unreduced := self.unreduced) is not self:
            return unreduced.target_kind
        labels = self.labels.astype(np.float64)
        if self.target == "binary":
            return "binary" if bool(np.all(labels == np.floor(labels))) else "soft_binary"
        if not bool(np.all((labels == 0) | (labels == 1))):
            return "distribution"
        if bool(np.all(labels.sum(axis=-1) == 1)):
            return "one_hot"
        return "multi_hot" if labels.ndim and labels.shape[-1] > 1 else "distribution"


_encode = json.JSONEncoder(default=repr).encode
"""JSON of a value; `json.dumps` would make an encoder for each."""


def content_digest(content: Mapping[str, Any], digits: int = 16) -> str:
    """SHA-256 over a mapping of builtin values and arrays; the same on every platform."""
    sha = hashlib.sha256()

    def feed(value: Any) -> None:
        if isinstance(value, np.ndarray):
            exact = "<f8" if value.dtype.kind in "fV" else "<i8"
            kind = "float" if value.dtype.kind in "fV" else value.dtype.kind
            sha.update(f"array:{kind}:{value.shape}:".encode())
            sha.update(np.ascontiguousarray(value, dtype=exact).data if value.size else b"")
        elif isinstance(value, dict):
            for key in sorted(value):
                sha.update(f"key:{key}:".encode())
                feed(value[key])
        else:
            sha.update(_encode(value).encode())

    feed(dict(content))
    return sha.hexdigest()[:digits]

"""What an adapter declares: a framework, its functions, and what they document, as tables."""

from __future__ import annotations

import functools
import json
import os
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from typing import Any, Literal

import numpy as np

from conformance.adapters.arrays import Arrays, Device, identical
from conformance.adapters.contract.declaration import MAX_RANK, declaration_errors
from conformance.adapters.contract.encoding import encodable
from conformance.adapters.contract.errors import DeclarationError
from conformance.adapters.contract.field_types import check_changes, check_types
from conformance.adapters.contract.heads import obstacle
from conformance.adapters.contract.releases import descriptions
from conformance.adapters.contract.source import FILE, called_path, fill_template, placeholders, render_argument
from conformance.model.case import (
    DTYPES,
    GRADIENT_OF,
    HEAD_GRADIENTS,
    OPTIONS,
    ORDERS,
    WEIGHTS,
    Array,
    InputKind,
    Loss,
    Order,
    Problem,
    Quantity,
    Returned,
    dtype_name,
    is_derivative,
    numpy_dtype,
)
from conformance.model.convention import DEFINITION, Convention
from conformance.model.row_key import CPU, EAGER

INTEGER_DTYPES = "int64 int32 int16 int8 uint8"
"""dtypes of labels, as in `Function.targets`, of a function that takes any integers."""
NoEffect = Literal["name", "device", "deprecated alias", "implementation"]
"""Kind of a parameter that does not affect results.

`name`: a label for messages.  `device`: where to compute.  `deprecated alias`: an older spelling of another parameter.
`implementation`: a choice among implementations of one formula.
"""


@dataclass(frozen=True)
class DocumentedConvention:
    """A documented convention and its scope: the kinds of target and the required capabilities it applies to."""

    convention: Convention
    """The choices that the documentation states."""
    targets: frozenset[str] | None = None
    """Kinds of target that reach the function; None for all."""
    documentation: str = ""
    """URL of the documentation; "" for that of the function."""
    capabilities: frozenset[str] = frozenset()
    """Capabilities that a problem must require (see `required_capabilities`)."""
    versions: str = ""
    """PEP 440 specifiers of framework releases, "" for all; computed from the changes of the function."""
    backends: frozenset[str] | None = None
    """Backends of the framework, None for all; computed from the changes of the function."""


@dataclass(frozen=True)
class ReleaseChange:
    """Fields of a function that are different from a release of the framework on."""

    since: str
    """First release with the change; "" for every release."""
    fields: Mapping[str, Any]
    """New values of fields of `Function`; tables are merged, and an entry of None is removed."""
    choices: Mapping[str, Any]
    """New values of fields of all documented conventions."""
    documentation: str = ""
    """URL of the documentation of the conventions that require no capabilities, from this release on."""
    backends: frozenset[str] = frozenset()
    """Backends that have the change; empty for all."""


@dataclass(frozen=True)
class Function:
    """One loss function: the source of its call, tables of its arguments, and its documented conventions.

    An entry of a table is the name of a keyword argument, or Python source in which `{}` stands for the value:
    `labels=list(range({}))`.  An option that is in no table is unsupported.
    """

    name: str
    """As written: without the framework; afterwards `framework.name`, as in reports."""
    call: str
    """Source of the call with the placeholders `{predictions}`, `{labels}` and, for all other arguments, `{options}`.

    A function that makes the logits itself has `{hidden}` and `{weight}` in place of `{predictions}`.
    A placeholder of its own, such as `{class_weights}`, takes an argument out of `{options}`; `{positive_weight|1.0}`
    has a default for problems without the option.  One after a colon (`class_weights:feed`) is a second entry for the
    same value.  There may be several statements; the last is an expression."""
    ranks: Mapping[Loss, range]
    """Loss that it computes -> ranks of the predictions it accepts."""
    input_kinds: Mapping[InputKind, str]
    """Input kind -> argument that selects it, or ""; other kinds are converted to the first."""
    targets: Mapping[str, str]
    """Kind of target (`Problem.target_kind`) -> dtypes of the labels, separated by blanks.

    Labels are cast to the first, unless the layout of the case names another one of them.  `same` is the dtype of the
    predictions; "" takes labels of any dtype as they are.
    """
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Option of a case, or one of the derived words (`source.DERIVED`) -> argument."""
    reductions: Mapping[str, str] = field(default_factory=dict)
    """Reduction -> argument, or an expression of the unreduced `{result}`; empty for those of the framework."""
    positional: Mapping[str, str] = field(default_factory=dict)
    """Placeholder in `call` that is a positional argument -> name of its parameter."""
    no_effect: Mapping[str, NoEffect] = field(default_factory=dict)
    """Parameter that does not affect results -> its kind."""
    untested: Mapping[str, str] = field(default_factory=dict)
    """Argument that no case exercises, as source such as `axis=0` -> description."""
    class_axis: int = -1
    """Axis of the classes by default; a case may name another one if the function has a parameter for it."""
    dtypes: frozenset[str] = frozenset(DTYPES)
    """dtypes of the predictions that it accepts."""
    orders: frozenset[Order] = frozenset(ORDERS) - {"c"}
    """Memory orders that it accepts in addition to C order."""
    labels_column: bool = False
    """Whether labels may have a trailing axis of length 1."""
    named_classes: bool = False
    """Whether labels may be the names of classes, strings or integers; other functions are passed indices."""
    weight_dtypes: str = "same"
    """dtypes of weights that it accepts, separated by blanks; `same` is that of the predictions, "" is any."""
    excludes: tuple[frozenset[str], ...] = ()
    """Groups of capabilities (see `required_capabilities`) that it does not support together; a group of one is not
    supported at all."""
    conventions: tuple[DocumentedConvention, ...] = (DocumentedConvention(DEFINITION),)
    """Documented conventions; the first one whose scope has the problem applies."""
    result_dtype: str = "same"
    """dtype of the result: `same` as the predictions, `promoted` from them and float labels, `promoted_with_weights`
    also from float class weights, one fixed dtype, or `same_or_` promoted or a fixed one."""
    documentation: str = ""
    """URL of its documentation."""
    quantity: Returned = "loss"
    """What it returns: `loss`, `gradient` or `hessian`, or `perplexity` or `d2`, which follow from the loss (see
    `model.case.QUANTITIES`)."""
    differentiates: bool = True
    """Whether its gradient is tested if the framework has gradients; False for a metric."""
    sample_weight_shape: Literal["as_stated", "per_loss"] = "as_stated"
    """Shape in which sample weights reach the call.

    `as_stated`: the shape in the case, [N] or more leading axes of the samples; the function broadcasts them.
    `per_loss`: one weight per loss, broadcast before the call; for a function that documents no broadcasting of
    weights per sample, or broadcasts as numpy does.
    """
    modes: frozenset[str] | None = None
    """Modes of the framework in which it can be called; None for all."""
    default_files: frozenset[str] = frozenset()
    """Shipped case files, such as `categorical/index_labels`, with whose cases a run calls it by default.

    Empty for all.  For a function that shares all but a part of its computation with another one, which is called with
    all.  A run that names it (see `selection.ItemFilter`), and one of all libraries, calls it with all, too."""
    skipped_files: frozenset[str] = frozenset()
    """Shipped case files with whose cases it is not called, as they take it too much time or memory."""
    placeholder_values: Callable[[Problem], Mapping[str, Any]] | None = None
    """Values of placeholders that no table can express: placeholder -> value, added to or replacing the usual ones."""
    signature: str = ""
    """URL of the parameters, for a function whose signature `inspect` cannot read."""
    first: str = ""
    """First release that has the function; "" for all."""
    changes: tuple[ReleaseChange, ...] = ()
    """Changes since its first release, in the order of the releases; see `since`."""
    versions: str = ""
    """PEP 440 specifiers of the releases that this description is for, "" for all; computed from the changes."""
    backends: frozenset[str] | None = None
    """Backends that have it, None for all; afterwards those that this description is for."""

    def since(
        self, version: str, *, backends: Iterable[str] = (), documentation: str = "", choices: Any = None, **fields: Any
    ) -> Function:
        """Return the function with a change from a release on; see `ReleaseChange` for the parameters."""
        change = ReleaseChange(version, fields, choices or {}, documentation, frozenset(backends))
        return replace(self, changes=(*self.changes, change))

    def like(
        self, name: str, *, documentation: str = "", choices: Any = None, first: str = "", **fields: Any
    ) -> Function:
        """Return a function of another name with the same history and some fields of its own in every release."""
        twin = replace(self, name=name, first=first or self.first)
        return twin.since("", documentation=documentation, choices=choices, **fields)

    @cached_property
    def framework_name(self) -> str:
        return self.name.partition(".")[0]

    @cached_property
    def options(self) -> frozenset[str]:
        """Options that it supports."""
        return frozenset(word.partition(":")[0] for word in self.arguments) & frozenset(OPTIONS)

    @cached_property
    def quantities(self) -> tuple[Quantity, ...]:
        """What is tested if it can be differentiated: what it returns, and the gradients of that."""
        return (self.quantity, *self.gradients) if self.differentiates else (self.quantity,)

    @cached_property
    def gradients(self) -> tuple[Quantity, ...]:
        """The gradients of what it returns, whether they are tested or not."""
        if self.has_head:
            return tuple(name for name, factor in HEAD_GRADIENTS.items() if factor in self.words)
        return (GRADIENT_OF[self.quantity],) if self.quantity in GRADIENT_OF else ()

    @cached_property
    def has_head(self) -> bool:
        """Whether it makes the logits itself, from hidden states and a weight matrix."""
        return "hidden" in placeholders(self.call)

    def derivative_for(self, quantity: Quantity) -> str:
        """The derivative of its result that yields a quantity: `gradient` or one of `HEAD_GRADIENTS`; "" for none."""
        return "" if quantity == self.quantity else quantity if quantity in HEAD_GRADIENTS else "gradient"

    @cached_property
    def has_independent_losses(self) -> bool:
        """Whether each of its losses depends on its own prediction, as passed, and its own label only."""
        own = (one.convention for one in self.conventions)
        others = ("label_shift", "narrowed_to", "labels_narrowed_to", "weights_narrowed_to", "logits_as")
        return self.quantity == "loss" and not any(one.choices().keys() & {*others} for one in own)

    @cached_property
    def layouts(self) -> frozenset[str]:
        """Layouts of the arrays that it supports."""
        named = "class_axis" in self.arguments
        has = {
            "class_axis": named or self.class_axis == 1,
            "class_axis_not_1": named,
            "labels_column": self.labels_column,
            "named_classes": self.named_classes,
            "label_dtype": any(len(names.split()) != 1 for names in self.targets.values()),
            "weight_dtype": self.weight_dtypes != "same" and any(name in self.options for name in WEIGHTS),
        }
        return self.orders | {name for name, supported in has.items() if supported}

    def label_dtypes(self, target: str, dtype: str) -> tuple[str, ...]:
        """Dtypes of labels that it accepts, the usual one first; () for any.

        target: the kind passed to it, see `target_kind_for`.  dtype: of the predictions.
        """
        return _dtypes(self.targets.get(target, self.targets.get("distribution", "")), dtype)

    def result_dtype_for(self, problem: Problem, quantity: str = "loss") -> str:
        """The dtype of a correct result."""
        if self.result_dtype.startswith("same") or (is_derivative(quantity) and quantity != self.quantity):
            return problem.dtype
        return self._promoted_dtype(problem) if self.result_dtype.startswith("promoted") else self.result_dtype

    def may_return(self, dtype: str, problem: Problem, quantity: str = "loss") -> bool:
        """Whether a correct result may have a dtype; "" is that of a number of Python, which has none."""
        if dtype in ("", self.result_dtype_for(problem, quantity)):
            return True
        if is_derivative(quantity) or not self.result_dtype.startswith("same_or_"):
            return False
        other = self.result_dtype.removeprefix("same_or_")
        return dtype == (self._promoted_dtype(problem) if other == "promoted" else other)

    def _promoted_dtype(self, problem: Problem) -> str:
        """The dtype that holds predictions, float labels and, unless `result_dtype` says otherwise, class weights."""
        names = [self.label_dtype_for(problem) or problem.layout.label_dtype or dtype_name(problem.labels.dtype)]
        if self.result_dtype != "promoted" and problem.options.class_weights is not None:
            names.append(problem.layout.weight_dtype or problem.dtype)
        floats = [name for name in names if numpy_dtype(name).kind not in "biu"]
        return functools.reduce(_promote, floats, problem.dtype)

    def label_dtype_for(self, problem: Problem) -> str | None:
        """The dtype to which the labels of a problem are cast for it; None for their own."""
        kind = self.target_kind_for(problem.target_kind) or problem.target_kind
        taken, stated = self.label_dtypes(kind, problem.dtype), problem.layout.label_dtype
        return stated if stated in taken else next(iter(taken), None)

    @cached_property
    def path(self) -> str:
        """The dotted path of what is called with the predictions, or of its class."""
        return called_path(self.call)

    def input_kind_for(self, input_kind: InputKind) -> InputKind:
        """The input kind to which predictions of `input_kind` are converted; `input_kind` itself if it is accepted."""
        return input_kind if input_kind in self.input_kinds else next(iter(self.input_kinds))

    def target_kind_for(self, kind: str) -> str | None:
        """The kind to which targets of `kind` are re-encoded for it; None if no re-encoding is exact.

        One-hot targets are passed as they are to a function that takes distributions.
        """
        if kind in self.targets:
            return kind
        equivalent = {"index": "one_hot", "one_hot": "index", "binary": "soft_binary"}.get(kind)
        if kind == "one_hot" and "distribution" in self.targets:
            return "one_hot"
        if kind == "multi_hot":
            return "distribution" if "distribution" in self.targets else None
        return equivalent if equivalent in self.targets else None

    def unsupported(self, problem: Problem) -> str | None:
        """Why this function does not support the problem, by its declaration; None if it does."""
        if problem.loss not in self.ranks:
            return f"it is no {problem.loss} loss"
        target = problem.target_kind
        encoded = self.target_kind_for(target)
        if encoded is None:
            return f"it takes no {target} targets"
        if encoded == "one_hot" and target == "index" and not encodable(problem):
            return "labels outside the classes have no one-hot encoding"
        for kind, names, have in (
            ("option", problem.options.names(), self.options),
            ("reduction", (problem.reduction,), self.reductions),
            ("dtype", (problem.dtype,), self.dtypes),
            ("layout", problem.layout.names(), self._all_layouts),
        ):
            if missing := [name for name in names if name not in have]:
                return f"it has no {kind}{'s' if len(missing) > 1 else ''} {', '.join(_stated(problem, missing))}"
        if (why := self._unsupported_arrays(problem, encoded)) is not None:
            return why
        if problem.predictions.ndim not in self.ranks[problem.loss]:
            return f"it takes no predictions of rank {problem.predictions.ndim}"
        for group in self.excludes:
            if group <= required_capabilities(problem, encoded):
                named = _stated(problem, group)
                return f"it does not combine {' and '.join(named)}" if len(group) > 1 else f"it takes no {named[0]}"
        return None

    @cached_property
    def _all_layouts(self) -> frozenset[str]:
        """Names of layouts, with those of the dtypes of labels and weights, which are looked at for themselves."""
        return self.layouts | {"label_dtype", "weight_dtype"}

    def _unsupported_arrays(self, problem: Problem, target: str) -> str | None:
        """Why it does not take labels or weights in the dtypes of the layout, labels that fit none of its dtypes, or
        logits that cannot be factored exactly into hidden states times a weight matrix.

        target: the kind that it is passed.
        """
        layout = problem.layout
        for what, stated, accepted in (
            ("labels", layout.label_dtype, self.label_dtypes(target, problem.dtype)),
            ("weights", layout.weight_dtype, _dtypes(self.weight_dtypes, problem.dtype)),
        ):
            if accepted and stated not in (None, *accepted):
                return f"it takes no {stated} {what}"
        if target == "index" == problem.target and not _holds(dtype := self.label_dtype_for(problem), problem.labels):
            return f"it takes no labels beyond {dtype}"
        return obstacle(problem) if self.has_head else None

    def has_mode(self, mode: str) -> bool:
        """Whether it can be called in a mode of its framework."""
        return mode == EAGER or self.modes is None or mode in self.modes

    def appends(self, reduction: str) -> bool:
        """Whether a reduction is an expression of the unreduced result, and no argument."""
        return "{result}" in self.reductions[reduction]

    @cached_property
    def words(self) -> frozenset[str]:
        """Words whose values its calls may need."""
        return frozenset(word.partition(":")[0] for word in (*self.arguments, *placeholders(self.call)))

    @cached_property
    def call_source(self) -> Callable[..., str]:
        """`_call_source` of this function, cached by its arguments."""
        return lru_cache(maxsize=1024)(partial(_call_source, self))


def _stated(problem: Problem, names: Iterable[str]) -> list[str]:
    """Names of capabilities, sorted, as they are stated in words."""
    words = SHAPE_WORDS | problem.layout.words()
    return [words.get(name, name) for name in sorted(names)]


def _holds(dtype: str | None, labels: Array) -> bool:
    """Whether integer labels fit a dtype; None is their own."""
    if dtype is None or labels.dtype.kind not in "iu" or (integer := numpy_dtype(dtype)).kind not in "iu":
        return True
    limits = np.iinfo(integer)
    return integer.itemsize >= labels.dtype.itemsize or bool(np.all((labels >= limits.min) & (labels <= limits.max)))


SHAPE_WORDS = {
    "several_outputs": "rows of several outputs",
    "output_weights": "weights per output",
    "weights_by_sample": "weights that are not the same for all samples",
    "unbatched": "samples without an axis",
    "higher_rank": "predictions of a higher rank",
}
"""Capabilities that no case file has a word for, in words."""


def _promote(one: str, other: str) -> str:
    """Return the narrowest float dtype that holds the numbers of two."""
    if {one, other} == {"float16", "bfloat16"}:
        return "float32"  # for which numpy has no rule
    return np.promote_types(numpy_dtype(one), numpy_dtype(other)).name


@functools.cache
def _dtypes(declared: str, dtype: str) -> tuple[str, ...]:
    """The dtypes that a text declares, where `same` is that of the predictions."""
    return tuple(dtype if name == "same" else name for name in declared.split())


def required_capabilities(problem: Problem, target: str) -> frozenset[str]:
    """Names of what a function must support: options, layout, reduction, dtype, rank, kinds of target and input."""
    key = "capabilities", target
    if key not in problem.cache:
        problem.cache[key] = _required_capabilities(problem, target)
    capabilities: frozenset[str] = problem.cache[key]
    return capabilities


def _required_capabilities(problem: Problem, target: str) -> frozenset[str]:
    capabilities = {*problem.options.names(), *problem.layout.names()}
    if problem.options.label_smoothing == 0:
        capabilities.discard("label_smoothing")  # nothing is smoothed, and no function documents that this does more
    if problem.layout.label_dtype is not None:
        capabilities.add(f"{problem.layout.label_dtype}_labels")
    if (weights_as := problem.layout.weight_dtype) is not None:
        capabilities = (
            capabilities - {"weight_dtype"} if weights_as == problem.dtype else capabilities | {f"{weights_as}_weights"}
        )
    capabilities |= {problem.reduction, problem.input_kind, target, problem.dtype}
    if target == "multi_hot":
        capabilities.add("distribution")
    rank = problem.predictions.ndim
    if not problem.sample_shape:
        capabilities.add("unbatched")
    elif rank != 2:
        capabilities.add("higher_rank" if rank > 2 else "rank_1")
    if problem.loss == "binary" and rank > 1 and problem.predictions.shape[-1] != 1:
        capabilities.add("several_outputs")
    if problem.target != "distribution" and problem.labels.shape == (*problem.sample_shape, 1):
        capabilities.add("labels_column")  # they are passed as the layout of that name passes flat ones
    if (weights := problem.options.sample_weights) is not None:
        capabilities |= _weight_capabilities(weights, rank)
    return frozenset(capabilities)


def _weight_capabilities(weights: Array, rank: int) -> set[str]:
    """Names of what sample weights require.  rank: of the predictions."""
    found = {"output_weights"} if weights.ndim == rank > 1 else set()
    is_full = weights.ndim == rank > 0
    if not is_full or not np.all(identical(weights, weights[(slice(0, 1),) * (rank - 1)])):
        found.add("weights_by_sample")
    return found


@dataclass(frozen=True)
class Backend:
    """A library that a framework can compute with, such as JAX for Keras."""

    requirements: tuple[str, ...] = ()
    """PEP 508 requirements in addition to the framework."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables to set; the first one selects the backend."""
    arrays: Arrays | None = None
    """Its array functions; None for those of the framework."""


@dataclass(frozen=True)
class Mode:
    """A way to call the functions of a framework other than as they stand, such as compiled or on one thread."""

    wrap: str = "{loss}"
    """Source of a function that is called instead of `{loss}`: `jax.jit({loss})`; statements may go before."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the process that makes the calls; calls of a mode with some need their own process."""
    unreduced: bool = False
    """Whether it wraps the unreduced loss, as `jax.vmap` does, so that `{result}` of a reduction is what it returns."""
    excludes: tuple[frozenset[str], ...] = ()
    """Groups of capabilities that no function supports together in this mode, as in `Function`."""
    result_dtype: str = ""
    """dtype of what every function returns in this mode, as in `Function`; that of eager calls if empty."""
    backends: frozenset[str] | None = None
    """Backends of the framework that have it; None for all."""
    devices: frozenset[str] | None = None
    """Devices on which it differs from eager calls; None for all."""
    obstacle: Callable[[], str] = lambda: ""
    """Why calls in this mode cannot be made on this machine, such as a missing compiler; "" if they can."""


@dataclass(frozen=True)
class Framework:
    """A library under test: how it is found, its arrays, and its functions.

    Raises `DeclarationError` with the field where the declaration contradicts itself.
    """

    name: str
    """Name in reports and options, in front of the names of its functions."""
    distributions: tuple[str, ...]
    """Distributions that it may be installed by."""
    modules: tuple[str, ...]
    """Import names that must be present; they are looked up, not imported."""
    functions: tuple[Function, ...]
    """Functions as declared; afterwards one description for each range of releases, the newest first."""
    arrays: Arrays
    """How arrays get into it and out of it, and its derivatives."""
    repository: str = ""
    """What the addresses of its sources and issues begin with; "" if nobody knows."""
    imports: str = ""
    """One line of source that the calls need."""
    reductions: Mapping[str, str] = field(default_factory=dict)
    """Reductions of functions that declare none, as in `Function`: how users reduce the result."""
    modes: Mapping[str, Mode] = field(default_factory=dict)
    """Mode by name, one word each; every framework has `eager`."""
    prepare: Callable[[], None] = lambda: None
    """Runs before each call, in the process that makes it, and before the first import."""
    backends: Mapping[str, Backend] = field(default_factory=dict)
    """Backend by name, as in brackets in a requirement: `keras[jax]`."""
    extra_requirements: tuple[tuple[str, str], ...] = ()
    """What the metadata of releases forgets to say, as (specifiers of its versions, requirement).

    `{version}` in a requirement is the release.
    """
    requirements: tuple[str, ...] = ()
    """What an environment for it alone needs, without the versions that `adapters/libraries.txt` pins; its first
    distribution if empty.  What a backend needs comes on top."""
    uses_upstream_gradient: bool = False
    """Whether its results are differentiated with an upstream gradient: see `contract.upstream`."""
    by_default: bool = True
    """Whether a run has it that names no framework; False for a library that others bring along, such as numpy."""
    adapter: str = ""
    """`module:attribute` that holds it, if it is made at run time and the registry does not know it."""

    def __post_init__(self) -> None:
        check_field_types(self)
        described: list[Function] = []
        for function in self.functions:
            complete = replace(
                function,
                name=function.name if function.framework_name == self.name else f"{self.name}.{function.name}",
                reductions=function.reductions or self.reductions,
            )
            described += map(_with_possible_ranks, descriptions(complete, tuple(self.backends)))
        object.__setattr__(self, "functions", tuple(described))
        for error in declaration_errors(self):
            raise DeclarationError(error)

    def backend(self, environment: Mapping[str, str]) -> str:
        """The backend that these variables select; the first if no variable selects one; "" if there are none."""
        for name, backend in self.backends.items():
            chooses, value = next(iter(backend.environment.items()))
            if environment.get(chooses) == value:
                return name
        return next(iter(self.backends), "")

    def arrays_of(self, backend: str) -> Arrays:
        """The arrays of a backend."""
        own = self.backends.get(backend)
        return self.arrays if own is None or own.arrays is None else own.arrays

    def differentiates(self, backend: str) -> bool:
        """Whether arrays of a backend have gradients."""
        return "gradient" in self.arrays_of(backend).derivatives

    def modes_in(self, backend: str, device: str = CPU) -> tuple[str, ...]:
        """The names of the modes that a backend has on a device, `eager` first."""
        return (
            EAGER,
            *(
                name
                for name, mode in self.modes.items()
                if (mode.backends is None or backend in mode.backends)
                and (mode.devices is None or device in mode.devices)
            ),
        )

    def mode(self, name: str) -> Mode:
        """The mode of a name; raises KeyError."""
        return Mode() if name == EAGER else self.modes[name]

    def devices_in(self, backend: str) -> tuple[str, ...]:
        """The names of the devices on which a backend computes, `cpu` first."""
        return (CPU, *self.arrays_of(backend).devices)

    def available_devices(self, backend: str) -> tuple[str, ...]:
        """Those of them that this machine has; imports the library."""

        def is_available(device: Device) -> bool:
            try:
                return device.is_available()
            except Exception:
                return False

        found = self.arrays_of(backend).devices
        return (CPU, *(name for name, device in found.items() if is_available(device)))

    def device(self, name: str, backend: str) -> Device:
        """The device of a name; raises KeyError."""
        return Device() if name == CPU else self.arrays_of(backend).devices[name]

    def environment_source(self, backend: str, mode: str = EAGER) -> str:
        """Source that sets the environment variables of a backend and a mode; it has to run before any import.

        "" if there are none.
        """
        environment = {**(self.backends[backend].environment if backend in self.backends else {})}
        environment |= self.mode(mode).environment
        lines = [f"os.environ[{json.dumps(name)}] = {json.dumps(value)}; " for name, value in environment.items()]
        return f"import os; {''.join(lines)}" if lines else ""

    def preamble(self, backend: str) -> str:
        """The imports that a call needs, on one line."""
        return "; ".join(dict.fromkeys(filter(None, (self.arrays_of(backend).imports, self.imports))))

    @cached_property
    def runtime(self) -> tuple[Arrays, dict[str, Any]]:
        """(arrays, names that the imports bring) in the backend that runs in this process."""
        backend = self.backend(os.environ)
        names: dict[str, Any] = {"__name__": FILE}
        exec(self.preamble(backend), names)  # noqa: S102 - the adapter's own source
        return self.arrays_of(backend), names


def check_field_types(framework: Framework) -> None:
    """Raise DeclarationError where a field of a framework, or of what it is made of, contradicts its annotation."""
    check_types(framework, Framework)
    for function in framework.functions:
        for change in function.changes:
            where = f"functions[{function.name.partition('.')[2] or function.name}].since({change.since!r})"
            check_changes(change.fields, Function, where)
            check_changes(change.choices, Convention, f"{where}.choices")


def _with_possible_ranks(function: Function) -> Function:
    """A function whose ranks are those that an array can have: `range(2, sys.maxsize)` says that there is no limit."""
    ranks = {loss: _among_possible(declared) for loss, declared in function.ranks.items()}
    return function if ranks == function.ranks else replace(function, ranks=ranks)


def _among_possible(ranks: range) -> range:
    possible = [rank for rank in range(MAX_RANK + 1) if rank in ranks]
    return range(possible[0], possible[-1] + 1, abs(ranks.step)) if possible else range(0)


def _call_source(
    function: Function,
    input_kind: InputKind,
    reduction: str,
    arrays: tuple[str, ...],
    plain: tuple[tuple[str, str], ...],
) -> str:
    """The source of a call, in which arrays stand under their names and plain values as source.

    Without a reduction that is an expression of the result.
    """
    known = {word: word for word in arrays} | dict(plain)
    own = set(placeholders(function.call))
    entries = {
        word: render_argument(entry, known[name]) if (name := word.partition(":")[0]) in known else ""
        for word, entry in function.arguments.items()
    }
    rest = [function.input_kinds[input_kind], *(text for word, text in entries.items() if word not in own)]
    options = ", ".join(filter(None, [*rest, "" if function.appends(reduction) else function.reductions[reduction]]))
    return fill_template(textwrap.dedent(function.call).strip(), {**known, **entries, "options": options})

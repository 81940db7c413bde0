"""The declaration of an adapter, as tables: a framework, its functions, and their documented conventions."""

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
from conformance.adapters.contract.heads import why_not_factorable
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
    ReturnedQuantity,
    dtype_name,
    is_derivative,
    numpy_dtype,
)
from conformance.model.convention import DEFINITION, Convention, Narrow
from conformance.model.row_key import CPU, EAGER

FunctionFactory = Callable[..., "Function"]
"""Creates a function from its name and some of its fields; see `family`."""
INTEGER_DTYPES = "int64 int32 int16 int8 uint8"
"""dtypes of the labels of a function that accepts any integers, as in `Function.targets`."""
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
    """Kinds of target, as passed to the function, to which it applies; None for all."""
    documentation: str = ""
    """URL of the documentation; "" to use that of the function."""
    capabilities: frozenset[str] = frozenset()
    """Capabilities that a problem must require (see `required_capabilities`)."""
    versions: str = ""
    """PEP 440 specifiers of framework releases, "" for all; computed from the changes of the function."""
    backends: frozenset[str] | None = None
    """Backends of the framework, None for all; computed from the changes of the function."""


@dataclass(frozen=True)
class ReleaseChange:
    """A change of a function from a release of the framework on."""

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

    An entry of "" means, in `input_kinds` and `reductions`, that no argument is needed: the call accepts this kind, or
    its result is reduced in this way; in `targets` and `weight_dtypes`, that any dtype is accepted.
    """

    name: str
    """Name of the function; in a `Framework` with the prefix `framework.`, as in reports."""
    call: str
    """Source of the call with the placeholders `{predictions}`, `{labels}` and, for all other arguments, `{options}`.

    A function that computes the logits itself has `{hidden}` and `{weight}` in place of `{predictions}`.
    A separate placeholder, such as `{class_weights}`, takes its argument out of `{options}`; `{positive_weight|1.0}`
    has a default for problems without the option.  A suffix after a colon (`class_weights:passed`, as in recipes)
    names a second entry for the same value.  There may be several statements; the last one is an expression."""
    ranks: Mapping[Loss, range]
    """Loss that the function computes -> ranks of the predictions that it accepts."""
    input_kinds: Mapping[InputKind, str]
    """Input kind -> argument that selects it, or ""; predictions of other kinds are converted to the first."""
    targets: Mapping[str, str]
    """Kind of target (`Problem.target_kind`) -> dtypes of the labels, separated by blanks.

    Labels are cast to the first dtype, unless the layout of the case names another one of them.  `same` is the dtype of
    the predictions; "" accepts labels of any dtype.
    """
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Option of a case, or one of the derived words (`source.DERIVED`) -> argument."""
    reductions: Mapping[str, str] = field(default_factory=dict)
    """Reduction -> argument, or expression of the unreduced `{result}`; empty to use those of the framework."""
    positional: Mapping[str, str] = field(default_factory=dict)
    """Placeholder of a positional argument in `call` -> name of its parameter."""
    no_effect: Mapping[str, NoEffect] = field(default_factory=dict)
    """Parameter that does not affect results -> its kind."""
    untested: Mapping[str, str] = field(default_factory=dict)
    """Argument that no case exercises, as source such as `axis=0`, or `"axis": 0` in a dict -> description."""
    class_axis: int = -1
    """Default axis of the classes; a case may name another one if the function has a parameter for it."""
    dtypes: frozenset[str] = frozenset(DTYPES)
    """dtypes of the predictions that it accepts."""
    orders: frozenset[Order] = frozenset(ORDERS) - {"c"}
    """Memory orders that it accepts in addition to C order."""
    labels_column: bool = False
    """Whether labels may have a trailing axis of length 1."""
    named_classes: bool = False
    """Whether labels may be the names of classes, strings or integers; other functions are passed indices."""
    weight_dtypes: str = "same"
    """dtypes of weights that it accepts, separated by blanks; `same` is that of the predictions, "" accepts any."""
    excludes: tuple[frozenset[str], ...] = ()
    """Groups of capabilities (see `required_capabilities`) that it does not support in combination; a capability in a
    group of its own is not supported at all."""
    conventions: tuple[DocumentedConvention, ...] = (DocumentedConvention(DEFINITION),)
    """Documented conventions; the first one whose scope includes the problem applies."""
    result_dtype: str = "same"
    """dtype of the result: `same` as the predictions, `promoted` from them and float labels, `promoted_with_weights`
    also from float class weights, one fixed dtype, or `same_or_` promoted or a fixed one."""
    documentation: str = ""
    """URL of its documentation."""
    quantity: ReturnedQuantity = "loss"
    """The returned quantity: `loss`, `gradient` or `hessian`, or `perplexity` or `d2`, which are computed from the loss
    (see `model.case.QUANTITIES`)."""
    differentiates: bool = True
    """Whether its gradient is tested if the framework has gradients; False for a metric."""
    sample_weight_shape: Literal["as_stated", "per_loss"] = "as_stated"
    """Shape in which sample weights reach the call.

    `as_stated`: the shape in the case, [N] or more leading axes of the samples; the function broadcasts them.
    `per_loss`: one weight per loss, broadcast before the call; for a function that does not document how it broadcasts
    weights per sample, or that broadcasts trailing axes as numpy does.
    """
    narrowed_to: Narrow | None = None
    """`Mode.narrowed_to` of the mode in which it is called; computed."""
    modes: frozenset[str] | None = None
    """Modes of the framework that it supports; None for all."""
    default_files: frozenset[str] = frozenset()
    """Shipped case files, such as `categorical/index_labels`, whose cases a run calls it on by default.

    Empty for all.  Meant for a function that shares most of its code with another one, which is called on all cases.
    A run that selects it by name (see `selection.ItemFilter`) or runs all libraries calls it on all cases."""
    skipped_files: frozenset[str] = frozenset()
    """Shipped case files whose cases need too much time or memory in this function; it is not called on them."""
    placeholder_values: Callable[[Problem], Mapping[str, Any]] | None = None
    """Values of placeholders that no table can express, by placeholder; they extend or replace the usual values."""
    signature: str = ""
    """URL of the parameters, for a function whose signature `inspect` cannot read."""
    keywords_of: str = ""
    """Path of the function that receives the keyword arguments that its own signature does not name; "" for none."""
    first: str = ""
    """First release in which the function is tested; "" for all.

    Usually that is the first release that has it; an adapter names a later one if earlier releases cannot be called in
    this way."""
    changes: tuple[ReleaseChange, ...] = ()
    """Changes since its first release, in the order of the releases; see `since`."""
    versions: str = ""
    """PEP 440 specifiers of the releases that this description applies to, "" for all; computed from the changes."""
    backends: frozenset[str] | None = None
    """Backends that have it, None for all; in a `Framework`, those that this description applies to."""

    def since(
        self, version: str, *, backends: Iterable[str] = (), documentation: str = "", choices: Any = None, **fields: Any
    ) -> Function:
        """Return the function with a change from a release on; see `ReleaseChange` for the parameters."""
        change = ReleaseChange(version, fields, choices or {}, documentation, frozenset(backends))
        return replace(self, changes=(*self.changes, change))

    def like(
        self, name: str, *, documentation: str = "", choices: Any = None, first: str = "", **fields: Any
    ) -> Function:
        """Return a copy under another name, with the same history and some fields replaced in every release."""
        twin = replace(self, name=name, first=first or self.first)
        return twin.since("", documentation=documentation, choices=choices, **fields)

    @cached_property
    def framework_name(self) -> str:
        return self.name.partition(".")[0]

    @cached_property
    def options(self) -> frozenset[str]:
        """Options that the function supports."""
        return frozenset(word.partition(":")[0] for word in self.arguments) & frozenset(OPTIONS)

    @cached_property
    def quantities(self) -> tuple[Quantity, ...]:
        """Tested quantities, if the framework differentiates: the returned quantity and its gradients."""
        return (self.quantity, *self.gradients) if self.differentiates else (self.quantity,)

    @cached_property
    def gradients(self) -> tuple[Quantity, ...]:
        """The gradients of the returned quantity, whether they are tested or not."""
        if self.has_head:
            return tuple(name for name, factor in HEAD_GRADIENTS.items() if factor in self.words)
        return (GRADIENT_OF[self.quantity],) if self.quantity in GRADIENT_OF else ()

    @cached_property
    def has_head(self) -> bool:
        """Whether it computes the logits itself, from hidden states and a weight matrix."""
        return "hidden" in placeholders(self.call)

    def derivative_for(self, quantity: Quantity) -> str:
        """The derivative of its result that yields a quantity: `gradient` or one of `HEAD_GRADIENTS`; "" for none."""
        return "" if quantity == self.quantity else quantity if quantity in HEAD_GRADIENTS else "gradient"

    @cached_property
    def has_independent_losses(self) -> bool:
        """Whether each loss depends only on its own prediction, as passed, and its own label."""
        conventions = (documented.convention for documented in self.conventions)
        joining = ("label_shift", "narrowed_to", "labels_narrowed_to", "weights_narrowed_to", "logits_as")
        return self.quantity == "loss" and not any(
            documented.choices().keys() & {*joining} for documented in conventions
        )

    @cached_property
    def layouts(self) -> frozenset[str]:
        """Layouts of the arrays that it supports."""
        has_argument = "class_axis" in self.arguments
        flags = {
            "class_axis": has_argument or self.class_axis == 1,
            "class_axis_not_1": has_argument,
            "labels_column": self.labels_column,
            "named_classes": self.named_classes,
            "label_dtype": any(len(names.split()) != 1 for names in self.targets.values()),
            "weight_dtype": self.weight_dtypes != "same" and any(name in self.options for name in WEIGHTS),
        }
        return self.orders | {name for name, supported in flags.items() if supported}

    def label_dtypes(self, target: str, dtype: str) -> tuple[str, ...]:
        """Accepted dtypes of labels, the default first; () for any.

        target: kind of target as passed, see `target_kind_for`.  dtype: dtype of the predictions.
        """
        return _dtypes(self.targets.get(target, self.targets.get("distribution", "")), dtype)

    def result_dtype_for(self, problem: Problem, quantity: str = "loss") -> str:
        """The dtype of a correct result."""
        dtype = self._own_result_dtype(problem, quantity)
        narrow = self.narrowed_to
        return narrow if narrow is not None and _promote(dtype, narrow) != narrow else dtype

    def _own_result_dtype(self, problem: Problem, quantity: str) -> str:
        if self.result_dtype.startswith("same") or (is_derivative(quantity) and quantity != self.quantity):
            return problem.dtype
        return self._promoted_dtype(problem) if self.result_dtype.startswith("promoted") else self.result_dtype

    def may_return(self, dtype: str, problem: Problem, quantity: str = "loss") -> bool:
        """Whether a correct result may have this dtype; "" stands for a Python number, which has no dtype."""
        if dtype in ("", self.result_dtype_for(problem, quantity)):
            return True
        if is_derivative(quantity) or not self.result_dtype.startswith("same_or_"):
            return False
        dtype_or_promoted = self.result_dtype.removeprefix("same_or_")
        return dtype == (self._promoted_dtype(problem) if dtype_or_promoted == "promoted" else dtype_or_promoted)

    def _promoted_dtype(self, problem: Problem) -> str:
        """The dtype to which predictions, float labels and, for `promoted_with_weights`, class weights are promoted."""
        names = [self.label_dtype_for(problem) or problem.layout.label_dtype or dtype_name(problem.labels.dtype)]
        if self.result_dtype != "promoted" and problem.options.class_weights is not None:
            names.append(problem.layout.weight_dtype or problem.dtype)
        floats = [name for name in names if numpy_dtype(name).kind not in "biu"]
        return functools.reduce(_promote, floats, problem.dtype)

    def label_dtype_for(self, problem: Problem) -> str | None:
        """The dtype to which the labels of a problem are cast; None if they are not cast."""
        kind = self.target_kind_for(problem.target_kind) or problem.target_kind
        accepted, stated = self.label_dtypes(kind, problem.dtype), problem.layout.label_dtype
        return stated if stated in accepted else next(iter(accepted), None)

    @cached_property
    def path(self) -> str:
        """The dotted path of the function or class that is called with the predictions."""
        return called_path(self.call)

    def input_kind_for(self, input_kind: InputKind) -> InputKind:
        """The input kind that predictions of `input_kind` are converted to; `input_kind` itself if it is accepted."""
        return input_kind if input_kind in self.input_kinds else next(iter(self.input_kinds))

    def target_kind_for(self, kind: str) -> str | None:
        """The kind that targets of `kind` are re-encoded as; None if no re-encoding is exact.

        One-hot targets are passed unchanged to a function that accepts distributions.
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
        """Why the function does not support the problem, by its declaration; None if it supports it."""
        if problem.loss not in self.ranks:
            return f"it is no {problem.loss} loss"
        target = problem.target_kind
        encoded = self.target_kind_for(target)
        if encoded is None:
            return f"it takes no {target} targets"
        if encoded == "one_hot" and target == "index" and not encodable(problem):
            return "labels outside the classes have no one-hot encoding"
        for kind, names, stated in (
            ("option", problem.options.names(), self.options),
            ("reduction", (problem.reduction,), self.reductions),
            ("dtype", (problem.dtype,), self.dtypes),
            ("layout", problem.layout.names(), self._all_layouts),
        ):
            if missing := [name for name in names if name not in stated]:
                return f"it has no {kind}{'s' if len(missing) > 1 else ''} {', '.join(_stated(problem, missing))}"
        if (why := self._unsupported_arrays(problem, encoded)) is not None:
            return why
        if problem.predictions.ndim not in self.ranks[problem.loss]:
            return f"it takes no predictions of rank {problem.predictions.ndim}"
        for group in self.excludes:
            if group <= required_capabilities(problem, encoded):
                options = _stated(problem, group)
                return f"it does not combine {' and '.join(options)}" if len(group) > 1 else f"it takes no {options[0]}"
        return None

    @cached_property
    def _all_layouts(self) -> frozenset[str]:
        """Names of layouts, and those of the dtypes of labels and weights, which are checked separately."""
        return self.layouts | {"label_dtype", "weight_dtype"}

    def _unsupported_arrays(self, problem: Problem, target: str) -> str | None:
        """Why it does not accept the dtypes that the layout names, or labels that fit none of its dtypes, or
        logits that cannot be factored exactly into hidden states times a weight matrix; None if it accepts them.

        target: kind of target as passed.
        """
        layout = problem.layout
        for arrays, stated, accepted in (
            ("labels", layout.label_dtype, self.label_dtypes(target, problem.dtype)),
            ("weights", layout.weight_dtype, _dtypes(self.weight_dtypes, problem.dtype)),
        ):
            if accepted and stated not in (None, *accepted):
                return f"it takes no {stated} {arrays}"
        if target == "index" == problem.target and not _holds(dtype := self.label_dtype_for(problem), problem.labels):
            return f"it takes no labels beyond {dtype}"
        return why_not_factorable(problem) if self.has_head else None

    def has_mode(self, mode: str) -> bool:
        """Whether it can be called in this mode of its framework."""
        return mode == EAGER or self.modes is None or mode in self.modes

    def appends(self, reduction: str) -> bool:
        """Whether a reduction is an expression of the unreduced result and not an argument."""
        return "{result}" in self.reductions[reduction]

    @cached_property
    def words(self) -> frozenset[str]:
        """Names of the values that its calls may need."""
        return frozenset(word.partition(":")[0] for word in (*self.arguments, *placeholders(self.call)))

    @cached_property
    def call_source(self) -> Callable[..., str]:
        """`_call_source` of this function, cached by its arguments."""
        return lru_cache(maxsize=1024)(partial(_call_source, self))


def family(call: str, *, source: str = "", **common: Any) -> FunctionFactory:
    """Return a factory of functions that are called alike, `function(name, convention, link, **fields)`.

    In the texts of all fields, @ stands for the name.

    call, common: fields of the functions; those that are passed to the factory replace them.  source: URL that
    documents the convention, unless the factory is passed a link; "" for that of the function.  convention: the only
    documented convention of a function; None if `fields` has its conventions.
    """

    def function(name: str, convention: Convention | None = None, link: str = "", **fields: Any) -> Function:
        fields = {"name": "@", "call": call, "documentation": "", **common, **fields}
        fields = {field: text.replace("@", name) if isinstance(text, str) else text for field, text in fields.items()}
        if convention is not None:
            link = link or source or fields["documentation"]
            fields["conventions"] = (DocumentedConvention(convention, documentation=link),)
        return Function(**fields)

    return function


def _stated(problem: Problem, names: Iterable[str]) -> list[str]:
    """Names of capabilities, sorted, as phrases for messages."""
    words = SHAPE_WORDS | problem.layout.words()
    return [words.get(name, name) for name in sorted(names)]


def _holds(dtype: str | None, labels: Array) -> bool:
    """Whether integer labels fit a dtype; None stands for their own."""
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
"""Phrases for the capabilities that have no name in case files."""


def _promote(dtype: str, other: str) -> str:
    """Return the narrowest float dtype that can represent all numbers of two dtypes."""
    if {dtype, other} == {"float16", "bfloat16"}:
        return "float32"  # numpy has no promotion rule for bfloat16
    return np.promote_types(numpy_dtype(dtype), numpy_dtype(other)).name


@functools.cache
def _dtypes(declared: str, dtype: str) -> tuple[str, ...]:
    """The dtypes in a declaration; `same` is replaced by that of the predictions."""
    return tuple(dtype if name == "same" else name for name in declared.split())


def required_capabilities(problem: Problem, target: str) -> frozenset[str]:
    """Names of the required capabilities: options, layout, reduction, dtype, rank, kinds of target and input."""
    return problem.computed_once(("capabilities", target), lambda: _required_capabilities(problem, target))


def _required_capabilities(problem: Problem, target: str) -> frozenset[str]:
    capabilities = {*problem.options.names(), *problem.layout.names()}
    if problem.options.label_smoothing == 0:
        capabilities.discard("label_smoothing")  # a label smoothing of 0 smooths nothing
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
        capabilities.add("labels_column")  # they are passed like flat labels in the layout `labels_column`
    if (weights := problem.options.sample_weights) is not None:
        capabilities |= _weight_capabilities(weights, rank)
    return frozenset(capabilities)


def _weight_capabilities(weights: Array, rank: int) -> set[str]:
    """Names of the capabilities that sample weights require.  rank: rank of the predictions."""
    capabilities = {"output_weights"} if weights.ndim == rank > 1 else set()
    is_full = weights.ndim == rank > 0
    if not is_full or not np.all(identical(weights, weights[(slice(0, 1),) * (rank - 1)])):
        capabilities.add("weights_by_sample")
    return capabilities


@dataclass(frozen=True)
class Backend:
    """A library that a framework can compute with, such as JAX for Keras."""

    requirements: tuple[str, ...] = ()
    """PEP 508 requirements in addition to the framework."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables to set; the first one selects the backend."""
    arrays: Arrays | None = None
    """Array functions of the backend; None to use those of the framework."""


@dataclass(frozen=True)
class Mode:
    """A variant of how functions of a framework are called, such as compiled or on one thread."""

    wrap: str = "{loss}"
    """Source of the function to call instead of `{loss}`, such as `jax.jit({loss})`; it may start with statements."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the worker process; a mode that has some needs a process of its own."""
    imports: str = ""
    """One line of source in place of `Arrays.imports`, for a mode that has an environment; "" for theirs."""
    unreduced: bool = False
    """Whether it wraps the unreduced loss, as `jax.vmap` does; the reduction is then applied to its result."""
    excludes: tuple[frozenset[str], ...] = ()
    """Groups of capabilities that no function supports in combination in this mode, as in `Function`."""
    result_dtype: str = ""
    """dtype of all results in this mode, as in `Function`; "" for that of eager calls."""
    narrowed_to: Narrow | None = None
    """dtype to which wider inputs are rounded, and in which their results are; None if no input is rounded."""
    backends: frozenset[str] | None = None
    """Backends of the framework that have it; None for all."""
    devices: frozenset[str] | None = None
    """Devices on which it differs from eager calls; None for all."""
    why_unavailable: Callable[[], str] = lambda: ""
    """Why calls in this mode cannot be made on this machine, such as a missing compiler; "" if they can."""


_EAGER = Mode()


@dataclass(frozen=True)
class Framework:
    """A library under test: its distributions, its arrays, and its functions.

    Raises `DeclarationError`, naming the field, if the declaration contradicts itself.
    """

    name: str
    """Name in reports and options; prefix of the names of its functions."""
    distributions: tuple[str, ...]
    """Names on PyPI of the distributions that contain it, such as `scikit-learn`; one of them is installed."""
    modules: tuple[str, ...]
    """Import names, such as `sklearn`, of modules that must be present; they are searched for, not imported."""
    functions: tuple[Function, ...]
    """In a declaration, the functions; afterwards one description per range of releases, the newest first."""
    arrays: Arrays
    """Conversion of arrays to and from the library, and its derivatives."""
    repository: str = ""
    """Prefix of the URLs of its sources and issues; "" if unknown."""
    imports: str = ""
    """One line of source with the imports that the calls need."""
    reductions: Mapping[str, str] = field(default_factory=dict)
    """Reductions for functions that declare none, as in `Function`: how users reduce the result."""
    modes: Mapping[str, Mode] = field(default_factory=dict)
    """Modes by name, one word each; every framework also has `eager`."""
    prepare: Callable[[], None] = lambda: None
    """Runs in the worker process before each call, and before the first import."""
    backends: Mapping[str, Backend] = field(default_factory=dict)
    """Backends by name, as in the brackets of a requirement: `keras[jax]`."""
    extra_requirements: tuple[tuple[str, str], ...] = ()
    """Requirements that the metadata of releases omits, as (specifiers of its versions, requirement).

    `{version}` in a requirement is the release.
    """
    requirements: tuple[str, ...] = ()
    """Requirements to install (names on PyPI, as for pip) for an environment with it alone; its first distribution if
    empty.  Versions are those that `adapters/libraries.txt` pins.  The requirements of a backend are added."""
    uses_upstream_gradient: bool = False
    """Whether its results are differentiated with an upstream gradient: see `contract.upstream`."""
    by_default: bool = True
    """Whether a run without selected frameworks includes it; False for a dependency of others, such as numpy."""
    adapter: str = ""
    """`module:attribute` that holds it, if it is created at run time and not in the registry."""

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
        """The backend that environment variables select; the first if none is selected; "" if there are no backends."""
        for name, backend in self.backends.items():
            chooses, value = next(iter(backend.environment.items()))
            if environment.get(chooses) == value:
                return name
        return next(iter(self.backends), "")

    def arrays_of(self, backend: str) -> Arrays:
        """The array functions of a backend."""
        entry = self.backends.get(backend)
        return self.arrays if entry is None or entry.arrays is None else entry.arrays

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
        """The mode with this name; raises KeyError."""
        return _EAGER if name == EAGER else self.modes[name]

    def devices_in(self, backend: str) -> tuple[str, ...]:
        """The names of the devices that a backend supports, `cpu` first."""
        return (CPU, *self.arrays_of(backend).devices)

    def available_devices(self, backend: str) -> tuple[str, ...]:
        """The names of the devices that this machine has; imports the library."""

        def is_available(device: Device) -> bool:
            try:
                return device.is_available()
            except Exception:
                return False

        devices = self.arrays_of(backend).devices
        return (CPU, *(name for name, device in devices.items() if is_available(device)))

    def device(self, name: str, backend: str) -> Device:
        """The device with this name; raises KeyError."""
        return Device() if name == CPU else self.arrays_of(backend).devices[name]

    def environment_source(self, backend: str, mode: str = EAGER) -> str:
        """Source that sets the environment variables of a backend and a mode; it must run before any import.

        "" if there are none.
        """
        environment = {**(self.backends[backend].environment if backend in self.backends else {})}
        environment |= self.mode(mode).environment
        lines = [f"os.environ[{json.dumps(name)}] = {json.dumps(value)}; " for name, value in environment.items()]
        return f"import os; {''.join(lines)}" if lines else ""

    def preamble(self, backend: str, mode: str = EAGER) -> str:
        """The imports that a call needs, on one line."""
        of_arrays = self.mode(mode).imports or self.arrays_of(backend).imports
        return "; ".join(dict.fromkeys(filter(None, (of_arrays, self.imports))))

    def runtime(self, mode: str = EAGER) -> tuple[Arrays, dict[str, Any]]:
        """(arrays, names that the imports bring) in a mode and in the backend that runs in this process."""
        key = mode if mode != EAGER and self.modes[mode].imports else EAGER
        if (runtime := self._runtimes.get(key)) is None:
            backend = self.backend(os.environ)
            names: dict[str, Any] = {"__name__": FILE}
            exec(self.preamble(backend, key), names)  # noqa: S102 - the adapter's own source
            runtime = self._runtimes[key] = self.arrays_of(backend), names
        return runtime

    @cached_property
    def _runtimes(self) -> dict[str, tuple[Arrays, dict[str, Any]]]:
        """What `runtime` returns, by the modes with imports of their own and `eager`."""
        return {}


def check_field_types(framework: Framework) -> None:
    """Raise DeclarationError if a field of a framework, or of an object in it, contradicts its annotation."""
    check_types(framework, Framework)
    for function in framework.functions:
        for change in function.changes:
            where = f"functions[{function.name.partition('.')[2] or function.name}].since({change.since!r})"
            check_changes(change.fields, Function, where)
            check_changes(change.choices, Convention, f"{where}.choices")


def _with_possible_ranks(function: Function) -> Function:
    """A function with ranks limited to those of an array: `range(2, sys.maxsize)` declares no upper limit."""
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
    """The source of a call, in which arrays appear by name and plain values as source.

    A reduction that is an expression of the result is not included.
    """
    known = {word: word for word in arrays} | dict(plain)
    words = set(placeholders(function.call))
    entries = {
        word: render_argument(entry, known[name]) if (name := word.partition(":")[0]) in known else ""
        for word, entry in function.arguments.items()
    }
    argument_entries = [
        function.input_kinds[input_kind],
        *(text for word, text in entries.items() if word not in words),
    ]
    options = ", ".join(
        filter(None, [*argument_entries, "" if function.appends(reduction) else function.reductions[reduction]])
    )
    return fill_template(textwrap.dedent(function.call).strip(), {**known, **entries, "options": options})

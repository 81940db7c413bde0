"""The contract with a framework: capability as data, one call as data, and `evaluate`, which makes it.

An adapter says what its functions can express (`Function`), and lowers a problem to a `Call`.  The
call is both what is executed and what is printed as the reproducer, so the two cannot drift apart.
Nothing here needs more than numpy, so that all of it runs where an old framework is installed.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

import numpy as np

from conformance.adapters.containment import Surroundings, cause
from conformance.model.case import Array, Given, Loss, Order, Problem, numpy_dtype
from conformance.model.convention import DEFINITION, Convention
from conformance.model.outcome import NonNumeric, Outcome, Raised, Returned, warning_text
from conformance.model.text import text_of, type_name

Neutral = Literal["name", "device", "deprecated alias", "implementation"]
"""What a parameter is whose argument changes no number: a name for messages, where to compute, another way to say what
a newer parameter says, a choice among implementations of the same formula."""
LITERAL_LIMIT = 1000
"""Arrays with more elements than this are not written out in a reproducer where the case can be named instead."""
LONGEST_LITERAL = 20_000
"""Elements of an array that is written out where nothing names it."""
SHARING = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Has the threads of a framework sleep while there is nothing for them, where somebody else wants the processor."""
MOST_WARNINGS = 1000
"""Warnings of one call that are looked at."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
"""Variables that say how many threads a framework computes in."""


def share_processors() -> None:
    """See to `SHARING` in this process, where no framework is imported yet and the user has not said otherwise."""
    for name, value in SHARING.items():
        os.environ.setdefault(name, value)


class LoweringError(Exception):
    """A bug of the harness: a problem could not be said to a function that declares it can take it.

    Never a finding about the framework.
    """


@dataclass(frozen=True, eq=False)
class Tensor:
    """An array argument: its values, and how they lie in memory when they are handed over."""

    values: Array
    order: Order = "c"
    class_axis: int = -1
    """Axis to which the classes were moved; they are on the last one in a problem."""

    def __post_init__(self) -> None:
        if self.values.ndim == 0 and self.order in ("fortran", "broadcast", "strided"):
            object.__setattr__(self, "order", "c")  # a scalar lies in memory one way

    def laid_out(self) -> Array:
        """A fresh array with these values in this memory order; the caller may break it."""
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
        name = "bool" if self.values.dtype == np.bool_ else self.values.dtype.name
        dtype = "ml_dtypes.bfloat16" if name == "bfloat16" else f"'{name}'"
        base = f"np.array({nested(self.values)}, dtype={dtype})"
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
    """An index that keeps one of each axis along which nothing changes."""
    first = [values[(slice(None),) * axis + (slice(0, 1),)] for axis in range(values.ndim)]
    same = [bool(np.all(_identical(values, one))) for one in first]
    return tuple(slice(0, 1) if repeats else slice(None) for repeats in same)


def nested(values: Array) -> str:
    """An array as nested Python lists whose numbers read back exactly."""
    if values.dtype.kind in "biu" or (values.dtype == np.float64 and bool(np.all(np.isfinite(values)))):
        return str(values.tolist())
    if values.ndim:
        return "[" + ", ".join(nested(value) for value in values) + "]"
    number = float(values)
    if not np.isfinite(number):
        return f"float('{number}')"
    # Shortest digits that read back: of the narrow type for float16 and float32, of float64 otherwise.
    return str(values[()]) if values.dtype in (np.float16, np.float32) else repr(number)


@dataclass(frozen=True)
class Call:
    """One call, as data: `path(**init)(*args, **keywords)`, or `path(*args, **keywords)` without init.

    Values are `Tensor` or plain Python; `args` are passed by position, named for messages only.  differentiated:
    the one of them with respect to which the result is differentiated, "" where the result itself is wanted.
    """

    path: str
    args: Mapping[str, Any]
    keywords: Mapping[str, Any] = field(default_factory=dict)
    init: Mapping[str, Any] | None = None
    differentiated: str = ""

    def tensors(self) -> dict[str, Tensor]:
        """Every array argument by name."""
        named = {**(self.init or {}), **self.args, **self.keywords}
        return {name: value for name, value in named.items() if isinstance(value, Tensor)}


@dataclass(frozen=True)
class Rule:
    """A documented convention and where it holds: the versions (PEP 440), the kinds of target, the variants.

    features: what a problem has to ask for beside (see `problem_features`).
    """

    convention: Convention
    versions: str = ""
    targets: frozenset[str] | None = None
    source: str = ""
    variants: frozenset[str] | None = None
    features: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function, accounted for: its argument carries a part of the problem, is neutral, or is a gap.

    A parameter that carries something may have a gap, too: arguments that say what no problem says.
    Raises ValueError if it is not accounted for, or twice.
    """

    name: str
    """As in the signature of the constructor or the call."""
    carries: str = ""
    """The part of the problem, in words: an option, the predictions, the reduction, the dtype, ..."""
    neutral: Neutral | Literal[""] = ""
    """Why its argument changes no number."""
    gap: str = ""
    """What cannot be asked for, in words."""
    example: str = ""
    """An argument that asks for it, as source: `axis=0`."""

    def __post_init__(self) -> None:
        accounted = bool(self.neutral) != bool(self.carries or self.gap)
        shown = self.example.startswith(f"{self.name}=") if self.gap else not self.example
        if not (accounted and shown):
            raise ValueError(f"{self.name}: it carries something, is neutral, or has a gap with an example")


@dataclass(frozen=True)
class Function:
    """One loss function of a framework: what it can express, what it documents, how it is called.

    name: id in reports, `framework.Function`.  ranks: the losses it computes, and the ranks of predictions
    it takes for each.  takes: kinds of prediction it takes itself, the first
    is the one that others are bridged to.  targets: kinds of target it takes itself (see
    `Problem.target_kind`).  excludes: groups of features that it takes alone but not together.
    result_dtype: `same` as the predictions, or the name of the dtype it always returns.  versions: PEP 440
    specifiers of the releases in which this description holds, "" for all; a function that was said or
    called otherwise in other releases is described once for each range, under one name.  variants: those of
    the framework in which it holds, None for all; the same goes for them.  differentiated: the argument of its
    call that holds the predictions, where their gradient can be had; "" where the function is no loss to train with.
    """

    name: str
    path: str
    ranks: Mapping[Loss, range]
    takes: tuple[Given, ...]
    targets: frozenset[str]
    lower: Callable[[Problem], Call]
    options: frozenset[str] = frozenset()
    reductions: frozenset[str] = frozenset({"none", "sum", "mean"})
    dtypes: frozenset[str] = frozenset({"float16", "bfloat16", "float32", "float64"})
    layouts: frozenset[str] = frozenset({"fortran", "strided", "broadcast", "readonly", "label_dtype"})
    excludes: tuple[frozenset[str], ...] = ()
    rules: tuple[Rule, ...] = (Rule(DEFINITION),)
    result_dtype: Literal["same", "float64"] = "same"
    source: str = ""
    versions: str = ""
    variants: frozenset[str] | None = None
    differentiated: str = ""
    weights_handed_over: Literal["as_stated", "per_loss"] = "as_stated"
    """Shape in which sample weights reach the call.

    `as_stated`: that of the case, [N] or more leading axes of the samples; the function broadcasts them itself.
    `per_loss`: one for each loss, broadcast before the call; for a function that documents no rule for weights per
    sample, or another one, such as numpy's.
    """

    parameters: tuple[Parameter, ...] = ()
    """Every parameter of the constructor and of the call, in the releases of `versions`; see `unaccounted`."""
    signature: str = ""
    """Where the parameters are documented, for a function without a signature that `inspect` can read."""

    @property
    def framework(self) -> str:
        return self.name.partition(".")[0]

    def native(self, given: Given) -> Given:
        """The kind of prediction that this function is handed when the case has `given`."""
        return given if given in self.takes else self.takes[0]

    def target_as(self, kind: str) -> str | None:
        """The kind of target this function is handed for `kind`, or None where there is no exact re-encoding."""
        if kind in self.targets:
            return kind
        equivalent = {"index": "one_hot", "one_hot": "index", "binary": "soft_binary"}.get(kind)
        if kind == "one_hot" and "distribution" in self.targets:
            return "one_hot"
        return equivalent if equivalent in self.targets else None

    def unsupported(self, problem: Problem) -> str | None:
        """Why this function cannot say the problem, from its declared capability; None if it can."""
        if problem.loss not in self.ranks:
            return f"it is no {problem.loss} loss"
        target = problem.target_kind
        handed = self.target_as(target)
        if handed is None:
            return f"it takes no {target} targets"
        if handed == "one_hot" and target == "index" and not encodable(problem):
            return "labels outside the classes have no one-hot encoding"
        for kind, names, have in (
            ("option", set(problem.options.names()), self.options),
            ("reduction", {problem.reduction}, self.reductions),
            ("dtype", {problem.dtype}, self.dtypes),
            ("layout", set(problem.layout.names()), self.layouts),
        ):
            if missing := names - have:
                return f"it has no {kind}{'s' if len(missing) > 1 else ''} {', '.join(sorted(missing))}"
        if problem.predictions.ndim not in self.ranks[problem.loss]:
            return f"it takes no predictions of rank {problem.predictions.ndim}"
        for group in self.excludes:
            if group <= problem_features(problem, handed):
                return f"it does not combine {' and '.join(sorted(group))}"
        return None


def problem_features(problem: Problem, target: str) -> frozenset[str]:
    """What a problem asks of a function, as names: options, layout, reduction, target, prediction."""
    found = {*problem.options.names(), *problem.layout.names(), problem.reduction, problem.given, target, problem.dtype}
    rank = problem.predictions.ndim
    if rank != 2:
        found.add("higher_rank" if rank > 2 else "rank_1")
    weights = problem.options.sample_weights
    if weights is not None and weights.ndim > 1 and weights.ndim == rank:
        found.add("output_weights")
    return frozenset(found)


@dataclass(frozen=True)
class Framework:
    """A library under test: how it is found, and how arrays get in and out of it.

    modules: import names that must be present (they are looked up, not imported).  tensor: numpy array
    to what the framework's users pass; literal: the same as source text; array: a result back to numpy
    with the name of its dtype.  prepare: runs once before the first import.  variants: ways in which one
    release can run (a backend), by the name that stands in brackets in a requirement: `keras[jax]`.
    needs: what the metadata of old releases forgets to say, as (specifiers of its versions, requirement).
    gradient: of the sum of what a call returns, as (the call as a function of one argument, that argument);
    gradient_literal: the same as source text, from the call's text, in which that argument is `x`, and the text of
    the argument; both None for a framework that does not differentiate.
    """

    name: str
    distributions: tuple[str, ...]
    modules: tuple[str, ...]
    functions: tuple[Function, ...]
    tensor: Callable[[Tensor, Array], Any]
    literal: Callable[[Tensor], str]
    array: Callable[[Any], tuple[Array, str]]
    imports: str
    extra: str = ""
    prepare: Callable[[], None] = lambda: None
    variants: Mapping[str, Variant] = field(default_factory=dict)
    needs: tuple[tuple[str, str], ...] = ()
    gradient: Callable[[Callable[[Any], Any], Any], Any] | None = None
    gradient_literal: Callable[[str, str], str] | None = None

    def variant(self, environment: Mapping[str, str]) -> str:
        """The variant that runs where these variables are set; the first where none says; "" where there are none."""
        for name, variant in self.variants.items():
            chooses, value = next(iter(variant.environment.items()))
            if environment.get(chooses) == value:
                return name
        return next(iter(self.variants), "")

    def settings(self, variant: str) -> str:
        """Source text that sets the environment variables of a variant, for before any import; "" if there are none."""
        environment = self.variants[variant].environment if variant in self.variants else {}
        lines = [f"os.environ[{json.dumps(name)}] = {json.dumps(value)}; " for name, value in environment.items()]
        return f"import os; {''.join(lines)}" if lines else ""


@dataclass(frozen=True)
class Variant:
    """One way to run a framework.

    requirements: PEP 508, of what it needs beside the framework.  environment: variables to be set, of which
    the first is the one that chooses it.  differentiates: whether gradients can be had.  gradient_literal: that of
    this variant, None for the framework's.
    """

    requirements: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    differentiates: bool = True
    gradient_literal: Callable[[str, str], str] | None = None


def evaluate(framework: Framework, function: Function, problem: Problem) -> Outcome:
    """Put one problem to one function, in this process, and say what happened.

    problem: already in a kind of prediction that the function takes.  Raises LoweringError.
    """
    return perform(framework, lowered(function, problem), described(function, problem))


def lowered(function: Function, problem: Problem) -> Call:
    """The call that puts a problem to a function; raises LoweringError where the adapter cannot say it."""
    try:
        return function.lower(broadcast_weights(problem) if function.weights_handed_over == "per_loss" else problem)
    except Exception as error:
        raise LoweringError(f"{described(function, problem)}: {type_name(error)}: {text_of(error)}") from cause(error)


def described(function: Function, problem: Problem) -> str:
    """What is asked, as a message names it."""
    return f"{function.name} on {problem.case}"


def perform(framework: Framework, call: Call, what: str, copied: bool = True) -> Outcome:
    """Make a call and say what happened.

    what: names the call in messages.  copied: whether arrays are copied, laid out as they should be, and those that
    the function changed in place are told; else they are handed over themselves, as they lie, and are its to break.
    Whatever the framework's own call raises becomes `Raised`, but for what a signal raised, such as Ctrl-C; whatever
    goes wrong before it raises `LoweringError`.  See `Surroundings` for what is put back after the call.
    """
    with Surroundings() as surroundings:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                framework.prepare()
                target = resolve(call.path)
                tensors = call.tensors()
                memory = {name: tensor.laid_out() if copied else tensor.values for name, tensor in tensors.items()}
                native = {name: framework.tensor(tensor, memory[name]) for name, tensor in tensors.items()}
        except BaseException as error:
            surroundings.pass_on(error)
            raise LoweringError(f"{what}: {type_name(error)}: {text_of(error)}") from cause(error)

        def passed(values: Mapping[str, Any], **instead: Any) -> dict[str, Any]:
            return {name: instead.get(name, native.get(name, _own(value))) for name, value in values.items()}

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                callee = target if call.init is None else target(**passed(call.init))

                def asked(**instead: Any) -> Any:
                    return callee(*passed(call.args, **instead).values(), **passed(call.keywords, **instead))

                if call.differentiated and framework.gradient is not None:
                    name = call.differentiated
                    result = framework.gradient(lambda x: asked(**{name: x}), native[name])
                else:
                    result = asked()
                read = _read(framework, result, surroundings, copied)
            except BaseException as error:
                surroundings.pass_on(error)
                return Raised(type_name(error), text_of(error)[:500], _texts(caught))
        if isinstance(read, NonNumeric):
            return replace(read, warnings=_texts(caught))
        mutated = tuple(name for name, tensor in tensors.items() if copied and not _same(memory[name], tensor.values))
        return Returned(*read, _texts(caught), mutated)


MOST_RETURNED = 1 << 27
"""Elements of the largest result that is looked at; as float64 it takes a gibibyte."""
_ARRAYS = ("__array__", "__array_interface__", "__dlpack__", "dtype")
"""Attributes of what says that it is an array."""


def _read(
    framework: Framework, result: Any, surroundings: Surroundings, copied: bool
) -> tuple[Array, str] | NonNumeric:
    """(values in float64, name of the dtype) of a result, or what it is instead.

    An exception of something that says it is an array is raised: it may have been computed only now.
    """
    try:
        if issubclass(type(result), np.ma.MaskedArray) and np.ma.is_masked(result):
            return NonNumeric("a masked array with masked elements")
        value, dtype = framework.array(result)
        found = np.asarray(value)
    except BaseException as error:
        surroundings.pass_on(error)
        if any(name in vars(kind) for kind in type(result).__mro__ for name in _ARRAYS):
            raise
        return NonNumeric(_named(result), f"{type_name(error)}: {text_of(error)[:500]}")
    if not (found.dtype.kind in "biuf" or (found.dtype.kind == "V" and found.dtype.name == "bfloat16")):
        is_array = issubclass(type(result), np.ndarray | np.generic)
        return NonNumeric(f"an array of {found.dtype.name}" if is_array else _named(result))
    if found.size > MOST_RETURNED:
        return NonNumeric(f"an array of shape {found.shape}")
    name = dtype if type(dtype) is str else text_of(dtype)[:100]
    # A copy, as the function may keep the array and write into it.
    return (np.array(found, dtype=np.float64) if copied else np.asarray(found, dtype=np.float64)), name


def _named(result: Any) -> str:
    """What a result is, with an article."""
    if result is None:
        return "None"
    name = type_name(result)
    return f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name}"


def _own(value: Any) -> Any:
    """A plain argument; a copy of what the function could change in place."""
    return value.copy() if type(value) in (list, dict) else value


def reproducer(
    framework: Framework,
    function: Function,
    problem: Problem,
    call: Call | None = None,
    variant: str = "",
    replay: Callable[[], str] | None = None,
) -> str:
    """The call that `evaluate` makes, as one line to paste into Python; its last expression is the result.

    call: the problem lowered, where that is at hand.  variant: of the framework, that the call is made in.  replay:
    gives an expression that makes the call again, for arrays of more than `LITERAL_LIMIT` elements; None where there
    is no such expression.  Where nothing names an array of more than `LONGEST_LITERAL` elements, a comment says so.
    """
    call = lowered(function, problem) if call is None else call
    largest = max((tensor.values.size for tensor in call.tensors().values()), default=0)
    if largest > LITERAL_LIMIT and replay is not None:
        return f"{framework.settings(variant)}import conformance; {replay()}"
    if largest > LONGEST_LITERAL:
        return f"# too long to write out: an array of {largest} elements that is in no case"

    def text(name: str, value: Any) -> str:
        if name == call.differentiated:
            return "x"
        return framework.literal(value) if isinstance(value, Tensor) else _plain_literal(value)

    def keywords(values: Mapping[str, Any]) -> list[str]:
        return [f"{name}={text(name, value)}" for name, value in values.items()]

    callee = call.path if call.init is None else f"{call.path}({', '.join(keywords(call.init))})"
    arguments = ", ".join([*(text(name, value) for name, value in call.args.items()), *keywords(call.keywords)])
    expression = f"{callee}({arguments})"
    own = framework.variants.get(variant)
    gradient_literal = (own and own.gradient_literal) or framework.gradient_literal
    if call.differentiated and gradient_literal is not None:
        expression = gradient_literal(expression, framework.literal(call.tensors()[call.differentiated]))
    modules = [framework.imports, "import numpy as np" if "np." in expression else ""]
    modules.append("import ml_dtypes" if "ml_dtypes." in expression else "")
    return framework.settings(variant) + "; ".join([*filter(None, modules), expression])


def _plain_literal(value: Any) -> str:
    """A plain value as source text; `repr` of a float that is no number is none."""
    return f"float('{value}')" if isinstance(value, float) and not np.isfinite(value) else repr(value)


@cache
def resolve(path: str) -> Any:
    """The object at a dotted path; imports the longest prefix that is a module."""
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError as error:
            if error.name is not None and ".".join(parts[:cut]).startswith(error.name):
                continue
            raise
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise LookupError(f"there is no {path}")


def signatures(path: str) -> tuple[inspect.Signature, ...]:
    """The signatures of a function: its call's, or its constructor's and that of calling what it constructs.

    Raises ValueError where there is none, as for some builtins.
    """
    target = resolve(path)
    if not inspect.isclass(target):
        return (inspect.signature(target),)
    call: Any = getattr(target, "forward", None) or target.__call__
    _, *rest = inspect.signature(call).parameters.values()  # without self
    return inspect.signature(target), inspect.Signature(rest)


def unaccounted(framework: Framework, function: Function) -> list[str]:
    """How a function's `parameters` differ from its signature in the installed release, one sentence each."""
    framework.prepare()
    declared = [parameter.name for parameter in function.parameters]
    try:
        found = [name for signature in signatures(function.path) for name in signature.parameters]
    except ValueError:
        listed = function.signature and declared
        return [] if listed else [f"{function.path} has no signature; list its parameters, with their source"]
    return [
        *(f"{function.path}({name}=) is not accounted for" for name in found if name not in declared),
        *(f"{function.path} has no parameter {name}" for name in declared if name not in found),
        *(f"{name} is declared twice" for name in sorted({name for name in declared if declared.count(name) > 1})),
    ]


def filled(call: Call) -> frozenset[str]:
    """The names of the parameters that a call passes; of arguments by position, as the signature has them."""
    try:
        found = signatures(call.path)
    except ValueError:
        return frozenset({*(call.init or {}), *call.args, *call.keywords})
    bound = found[-1].bind(*call.args.values(), **call.keywords)
    return frozenset({*(call.init or {}), *bound.arguments})


def _texts(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    """The first warnings, each once."""
    return tuple(dict.fromkeys(warning_text(warning) for warning in caught[:MOST_WARNINGS]))


def _same(now: Array, before: Array) -> bool:
    if now.shape != before.shape or now.dtype != before.dtype:
        return False
    together = now.nbytes % 8 == 0 and now.flags.c_contiguous and before.flags.c_contiguous
    pair = (now.reshape(-1), before.reshape(-1)) if together else (now, before)
    bits = "u8" if together else f"u{now.dtype.itemsize}"
    if bool((pair[0].view(bits) == pair[1].view(bits)).all()):
        return True
    return bool(np.all(_identical(now, before)))


def _identical(a: Array, b: Array) -> Array:
    """Elementwise: equal, both nan, and of one sign where they are zero."""
    signs = np.signbit(a) == np.signbit(b) if a.dtype.kind in "fV" else np.True_
    return np.asarray(((a == b) & signs) | ((a != a) & (b != b)))


# What lowerings share: exact re-encodings of labels, and arrays as the layout wants them.


def encodable(problem: Problem) -> bool:
    """Whether every index label names a class, so that a one-hot encoding exists."""
    classes = problem.predictions.shape[-1]
    fits = problem.labels.shape == problem.sample_shape
    return fits and bool(np.all((problem.labels >= 0) & (problem.labels < classes)))


def predictions(problem: Problem, axis: int = -1) -> Tensor:
    """The predictions, classes moved to the layout's axis, or to `axis` where the layout names none."""
    wanted = problem.layout.class_axis if problem.layout.class_axis != -1 else axis
    values = problem.predictions
    return Tensor(values if wanted == -1 else np.moveaxis(values, -1, wanted), problem.layout.order, wanted)


def labels(problem: Problem, dtype: str | None = None, axis: int = -1) -> Tensor:
    """The labels as the layout wants them; `dtype` is what the function requires, if it requires one."""
    values = problem.labels
    if problem.target == "distribution":
        wanted = problem.layout.class_axis if problem.layout.class_axis != -1 else axis
        values = values if wanted == -1 else np.moveaxis(values, -1, wanted)
    return Tensor(_as_laid_out(problem, values, dtype), _label_order(problem))


def one_hot_labels(problem: Problem, dtype: str | None = None, axis: int = -1) -> Tensor:
    """Distributions [..., C]: as given, or encoded from index labels."""
    if problem.target == "distribution":
        return labels(problem, dtype, axis)
    values = np.zeros((*problem.labels.shape, problem.predictions.shape[-1]), dtype=numpy_dtype(problem.dtype))
    np.put_along_axis(values, problem.labels[..., np.newaxis], 1, axis=-1)
    wanted = problem.layout.class_axis if problem.layout.class_axis != -1 else axis
    values = values if wanted == -1 else np.moveaxis(values, -1, wanted)
    return Tensor(values.astype(numpy_dtype(dtype)) if dtype else values, _label_order(problem))


def index_labels(problem: Problem, dtype: str | None = None) -> Tensor:
    """Index labels [...]: as given, or decoded from one-hot rows."""
    if problem.target == "index":
        return labels(problem, dtype)
    values = np.argmax(problem.labels.astype(np.float64), axis=-1)
    narrow = problem.layout.label_dtype
    if narrow is not None and dtype is None and not _holds(narrow, problem.predictions.shape[-1] - 1):
        dtype = values.dtype.name  # what holds 0 and 1 need not hold the index of a class
    return Tensor(_as_laid_out(problem, values, dtype), _label_order(problem))


def _holds(dtype: str, largest: int) -> bool:
    return int(np.array(largest).astype(numpy_dtype(dtype))) == largest


def sample_weights(problem: Problem) -> Tensor | None:
    """The sample weights in the shape that the case states; None where it states none."""
    weights = problem.options.sample_weights
    return None if weights is None else Tensor(weights)


def broadcast_weights(problem: Problem) -> Problem:
    """The problem with one sample weight for each loss, where weights are stated for leading axes only."""
    weights, shape = problem.options.sample_weights, problem.sample_shape
    if weights is None or weights.shape == shape or weights.shape != shape[: weights.ndim]:
        return problem
    spread = np.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape)
    return replace(problem, options=replace(problem.options, sample_weights=spread))


def _as_laid_out(problem: Problem, values: Array, dtype: str | None) -> Array:
    wanted = dtype or problem.layout.label_dtype
    values = values if wanted is None else values.astype(numpy_dtype(wanted), copy=False)
    return values[..., np.newaxis] if problem.layout.labels == "column" else values


def _label_order(problem: Problem) -> Order:
    return "c" if problem.layout.order == "broadcast" else problem.layout.order

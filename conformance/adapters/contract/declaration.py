"""Validate a `Framework` declaration when it is constructed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import filterfalse
from typing import TYPE_CHECKING

from conformance.adapters.contract.errors import LoweringError, unknown_name_message
from conformance.adapters.contract.signatures import passed_parameters
from conformance.adapters.contract.source import (
    ARRAYS,
    DERIVED,
    HEAD,
    TARGET_KINDS,
    keywords_of,
    parameter_of,
    parseable_example,
    placeholders,
    split_last_expression,
)
from conformance.model.case import (
    DTYPES,
    INPUT_KINDS,
    LOSSES,
    OPTIONS,
    ORDERS,
    REDUCTIONS,
    WEIGHT_DTYPES,
    WEIGHTS,
    is_derivative,
)
from conformance.model.row_key import EAGER

if TYPE_CHECKING:
    from conformance.adapters.arrays import Arrays
    from conformance.adapters.contract.framework import Framework, Function, Mode
    from conformance.model.convention import Convention

MAX_NAME = 200
"""Maximum number of characters in the name of a framework or of a function."""
MAX_RANK = 64
"""Maximum rank of a numpy array."""
_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_VERSIONS = re.compile(r"((^|,)\s*(<=?|>=?|==|!=|~=)\s*\d{1,9}(\.\d{1,9}){0,9}\s*)*", re.ASCII)
FOLLOWS_FROM_MEAN = ("perplexity", "d2")
"""Quantities that are defined only for the reduction `mean`."""


def _has_several_targets_per_row(function: Function) -> bool:
    """Whether a row of targets may have more than one class with a target above 0."""
    return bool({"one_hot", "distribution"} & function.targets.keys()) or "label_smoothing" in function.options


_EFFECTS: Mapping[str, Callable[[Function, Convention], bool]] = {
    "mean_divides_by": lambda f, _: "mean" in f.reductions,
    "logits_as": lambda f, _: "logits" in f.input_kinds and f.quantity != "hessian",
    "clip": lambda f, c: "probabilities" in _kinds(f, c),
    "renormalise": lambda f, c: "probabilities" in _kinds(f, c) and "categorical" in f.ranks,
    "log_offset": lambda f, c: "probabilities" in _kinds(f, c),
    "log_floor": lambda f, c: bool(_kinds(f, c) - {"logits"}),
    "cancellation": lambda f, _: "logits" in f.input_kinds and not is_derivative(f.quantity),
    "binary_outputs": lambda f, _: "binary" in f.ranks,
    "class_weighting": lambda f, _: "class_weights" in f.options and _has_several_targets_per_row(f),
    "log_sum_exp": lambda f, _: "logits" in f.input_kinds and bool({"one_hot", "distribution"} & f.targets.keys()),
    "unreduced_class_axis": lambda f, _: "none" in f.reductions and "categorical" in f.ranks,
    "gradient_cancellation": lambda f, _: _has_gradient(f),
    "gradient_total": lambda f, _: _has_gradient(f) and "logits" in f.input_kinds,
    "gradient_floor": lambda f, _: _has_gradient(f) and "binary" in f.ranks,
    "hessian_cancellation": lambda f, _: f.quantity == "hessian",
    "hessian_factor": lambda f, _: f.quantity == "hessian" and "categorical" in f.ranks,
    "hessian_floor": lambda f, _: f.quantity == "hessian",
    "hessian_floor_of": lambda f, c: f.quantity == "hessian" and c.hessian_floor is not None and bool(_weights(f)),
    "default_ignore_index": lambda f, _: "index" in f.targets,
    "label_shift": lambda f, _: "categorical" in f.ranks,
    "narrowed_to": lambda f, _: "float64" in f.dtypes or "float32" in f.dtypes,
    "labels_narrowed_to": lambda f, c: c.narrowed_to is None and bool({"distribution", "soft_binary"} & {*f.targets}),
    "weights_narrowed_to": lambda f, c: c.narrowed_to is None and bool(_weights(f)),
    "class_columns": lambda f, _: f.named_classes,
    "out_of_range": lambda f, _: "index" in f.targets,
    "empty_mean": lambda f, _: "mean" in f.reductions,
    "empty_batch": lambda f, _: bool({"sum", "mean"} & f.reductions.keys()),
}
"""Field of a convention -> whether it can have an effect on any answer of a function that declares the convention."""


def _kinds(function: Function, convention: Convention) -> set[str]:
    """Input kinds to which the choices about logarithms apply: none for a Hessian, except probabilities that
    are computed from logits.
    """
    kinds: set[str] = set(function.input_kinds) if function.quantity != "hessian" else set()
    return kinds | {"probabilities"} if convention.logits_as == "probabilities" else kinds


def _has_gradient(function: Function) -> bool:
    return function.differentiates or function.quantity == "gradient"


def _weights(function: Function) -> frozenset[str]:
    """The options of a function that are arrays of weights."""
    return function.options & set(WEIGHTS)


def without_effect(convention: Convention, function: Function) -> tuple[str, ...]:
    """The choices of a convention that have no effect on any answer of a function."""
    return tuple(name for name in convention.choices() if name in _EFFECTS and not _EFFECTS[name](function, convention))


def declaration_errors(framework: Framework) -> Iterator[str]:
    """Yield the errors in a declaration, each as `field: error`."""
    yield from _name_errors(framework)
    for name, mode in framework.modes.items():
        yield from _mode_errors(framework, name, mode)
    for name, backend in framework.backends.items():
        if not backend.environment:
            yield f"backends[{name}].environment: it is empty, so nothing chooses this backend"
    for name in framework.backends or ("",):
        yield from _array_errors(framework.arrays_of(name))
    for function in framework.functions:
        for field_name, error in _function_errors(framework, function):
            yield f"functions[{function.name.partition('.')[2]}].{field_name}: {error}"


def _array_errors(arrays: Arrays) -> Iterator[str]:
    sources = [(f"derivatives[{name}]", source, ["x", "result"]) for name, source in arrays.derivatives.items()]
    sources += [(f"devices[{name}].place", device.place, ["array"]) for name, device in arrays.devices.items()]
    for field, source, words in sources:
        for error in _source_errors(source, words, required=words):
            yield f"arrays.{field}: {error}"


def _name_errors(framework: Framework) -> Iterator[str]:
    """Names that the lines and tables of a report cannot hold, and distribution names that cannot be installed."""
    if not _is_word(framework.name) or "." in framework.name:
        yield f"name: {framework.name!r} must be one word of at most {MAX_NAME} characters without a dot"
    for function in framework.functions:
        name = function.name.partition(".")[2]
        if not _is_word(name):
            yield f"functions[{name!r}].name: it must be one word of at most {MAX_NAME} characters"
    newest = Counter(
        (function.name.partition(".")[2], backend)
        for function in framework.functions
        if "<" not in function.versions
        for backend in function.backends or framework.backends or ("",)
    )
    for name in dict.fromkeys(name for (name, _), count in newest.items() if count > 1):
        yield f"functions[{name}].name: two functions have it; describe other releases with since()"
    for field_name, pattern in (("distributions", _DISTRIBUTION), ("modules", _MODULE)):
        for name in getattr(framework, field_name):
            if not pattern.fullmatch(name):
                yield f"{field_name}: {name!r} is not the name of a {field_name[:-1]}"


def _is_word(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME and name.isprintable() and len(name.split()) == 1 and name == name.strip()


def _mode_errors(framework: Framework, name: str, mode: Mode) -> Iterator[str]:
    if not name.isidentifier() or name == EAGER:
        yield f"modes[{name}]: it must be one word, and not {EAGER}"
    for error in _source_errors(mode.wrap, ("loss",), required=("loss",)):
        yield f"modes[{name}].wrap: {error}"
    if mode.result_dtype not in ("", *DTYPES):
        yield f"modes[{name}].result_dtype: {unknown_name_message('dtype', mode.result_dtype, DTYPES)}"
    if mode.imports and not mode.environment:
        yield f"modes[{name}].imports: it has no environment, so that its calls may share a process with others"
    if unknown := sorted((mode.backends or frozenset()) - framework.backends.keys()):
        yield f"modes[{name}].backends: {unknown_name_message('backend', unknown[0], framework.backends)}"
    devices = {device for backend in framework.backends or ("",) for device in framework.devices_in(backend)}
    if unknown := sorted((mode.devices or frozenset()) - devices):
        yield f"modes[{name}].devices: {unknown_name_message('device', unknown[0], sorted(devices))}"
    for function in framework.functions if mode.unreduced else ():
        for reduction in filterfalse(function.appends, function.reductions if function.has_mode(name) else ()):
            problem = f"functions[{function.name.partition('.')[2]}] reduces by an argument, before the mode"
            yield f"modes[{name}].unreduced: {problem}: {reduction}"


def _source_errors(text: str, known: Iterable[str], required: Iterable[str] = ()) -> Iterator[str]:
    """Unknown and missing placeholders, and text that is not source with an expression as its last line."""
    present = placeholders(text)
    if unknown := [word for word in present if word not in known]:
        yield unknown_name_message("placeholder", f"{{{unknown[0]}}}", (f"{{{word}}}" for word in known))
    if missing := [word for word in required if word not in present]:
        yield f"it has no {{{missing[0]}}}"
    try:
        split_last_expression(parseable_example(text))
    except (SyntaxError, LoweringError) as error:
        yield str(error)


def _function_errors(framework: Framework, function: Function) -> Iterator[tuple[str, str]]:
    words = (*OPTIONS, *DERIVED)
    for name, table, known in (
        ("ranks", function.ranks, LOSSES),
        ("input_kinds", function.input_kinds, INPUT_KINDS),
        ("targets", function.targets, TARGET_KINDS),
        ("reductions", function.reductions, REDUCTIONS),
        ("dtypes", function.dtypes, DTYPES),
        ("orders", function.orders, ORDERS),
        ("modes", function.modes or (), tuple(framework.modes)),
    ):
        if not table and name not in ("orders", "modes"):
            yield name, "it is empty"
        if unknown := sorted(set(table) - set(known)):
            yield name, unknown_name_message(name.rstrip("s").replace("_", " "), unknown[0], known)
    if function.placeholder_values is None and (
        unknown := sorted({w.partition(":")[0] for w in function.arguments} - set(words))
    ):
        yield "arguments", unknown_name_message("option", unknown[0], words)
    yield from _range_errors(function)
    yield from _call_errors(function)
    yield from _parameter_errors(function)
    yield from _quantity_errors(function)
    for documented in function.conventions:
        for name in without_effect(documented.convention, function):
            yield "conventions", f"{name} has no effect on what it takes"
        if unknown := sorted((documented.targets or frozenset()) - set(TARGET_KINDS)):
            yield "conventions", unknown_name_message("target", unknown[0], TARGET_KINDS)


def _range_errors(function: Function) -> Iterator[tuple[str, str]]:
    for loss, ranks in function.ranks.items():
        if not ranks:
            yield f"ranks[{loss}]", "no array has such a rank"
    if not -MAX_RANK <= function.class_axis < MAX_RANK:
        yield "class_axis", f"no array has an axis {function.class_axis}"
    dtypes = {f"targets[{kind}]": names for kind, names in function.targets.items()}
    for name, stated in {**dtypes, "weight_dtypes": function.weight_dtypes}.items():
        if unknown := [dtype for dtype in stated.split() if dtype not in ("same", *WEIGHT_DTYPES)]:
            yield name, unknown_name_message("dtype", unknown[0], ("same", *WEIGHT_DTYPES))
    result_dtypes = ("same", "promoted", "promoted_with_weights", *DTYPES)
    result_dtypes += tuple(f"same_or_{dtype}" for dtype in ("promoted", *DTYPES))
    if function.result_dtype not in result_dtypes:
        yield "result_dtype", unknown_name_message("dtype", function.result_dtype, result_dtypes)
    for name, versions in (
        ("versions", function.versions),
        *(("conventions", c.versions) for c in function.conventions),
    ):
        if not _VERSIONS.fullmatch(versions):
            yield name, f"{versions!r} is not a range of releases, as >=2.4,<3 is"


def _quantity_errors(function: Function) -> Iterator[tuple[str, str]]:
    if function.quantity in FOLLOWS_FROM_MEAN and function.reductions.keys() != {"mean"}:
        yield "reductions", f"a {function.quantity} follows from the mean, and from nothing else"
    if is_derivative(function.quantity):
        if function.differentiates:
            yield "differentiates", f"it returns a {function.quantity}, which is not differentiated once more"
        if function.quantity == "hessian" and function.input_kinds.keys() != {"logits"}:
            yield "input_kinds", "a hessian is the second derivative in the logits"
    if function.quantity == "d2":
        if function.differentiates:
            yield "differentiates", "the gradient of d2 is not known here"
        if unsupported := sorted(function.options - {"sample_weights"}):
            yield "arguments", f"d2 is defined with sample_weights alone, not with {unsupported[0]}"


def _parameter_errors(function: Function) -> Iterator[tuple[str, str]]:
    for example in function.untested:
        if not re.match(r"\w+=.|\"\w+\": .", example):
            yield "untested", f'{example} is not an argument as source, as axis=0 or "axis": 0 is'
    declared = [*function.no_effect, *map(parameter_of, function.untested)]
    for name in sorted({*function.no_effect} & {*passed_parameters(function)}):
        yield "no_effect", f"{name} is passed"
    for name in sorted({name for name in declared if declared.count(name) > 1}):
        yield "no_effect", f"{name} is in untested, too"


def _call_errors(function: Function) -> Iterator[tuple[str, str]]:
    required = (*HEAD, "labels") if function.has_head else ARRAYS
    error = next(_source_errors(function.call, ("options", *required, *function.arguments, *DERIVED), required), None)
    if error is not None:
        yield "call", error
        return
    names = placeholders(function.call)
    entries = {f"arguments[{word}]": entry for word, entry in function.arguments.items() if word not in names}
    entries |= {f"input_kinds[{kind}]": entry for kind, entry in function.input_kinds.items()}
    for name, entry in function.reductions.items():
        if placeholders(entry):
            yield from ((f"reductions[{name}]", error) for error in _source_errors(entry, ("result",)))
        else:
            entries[f"reductions[{name}]"] = entry
    for field, entry in entries.items():
        if entry and "options" not in names:
            yield field, "its call has no {options} where the argument could go"
        try:
            keywords_of(entry)
        except SyntaxError:
            yield field, f"{entry} is not an argument as source"

"""A user's callable as a framework with one function, described like a known function and created at run time.

The callable is imported only in workers: `conformance.adapters.checked:{...}` contains its description
as JSON, and `python -m conformance.adapters.checked TARGET` prints the parameters of the callable.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import itertools
import json
import keyword
import os
import re
import subprocess
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from conformance.adapters import arrays, registry
from conformance.adapters.arrays import Arrays
from conformance.adapters.contract import DeclarationError, DocumentedConvention, Framework, Function
from conformance.adapters.contract.declaration import without_effect
from conformance.adapters.contract.errors import unknown_name_message
from conformance.adapters.contract.source import ARRAYS, DERIVED, HEAD, parameter_of
from conformance.adapters.registry import Installed
from conformance.model.case import DTYPES, INPUT_KINDS, OPTIONS, Array, InputKind
from conformance.model.errors import UserError
from conformance.model.text import truncate

NAME = "checked"
"""Name of the framework of every checked callable."""


def _without_dtype(bundle: Arrays) -> Arrays:
    """An array library that accepts a Python number as a result without a dtype and rejects tuples and lists."""

    def read(result: Any) -> tuple[Array, str]:
        if isinstance(result, tuple | list):
            raise TypeError(f"it holds {', '.join(type(item).__name__ for item in result[:4]) or 'nothing'}")
        return (np.array(result), "") if type(result) is float else bundle.numpy(result)

    return replace(bundle, numpy=read)


BUNDLES: Mapping[str, Arrays] = {name: getattr(arrays, name) for name in ("numpy", "torch", "jax", "tensorflow")}
"""Array libraries that a callable may use, by name."""
PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "predictions": (
        "predictions", "input", "inputs", "x", "z", "y_pred", "pred", "preds", "output", "outputs", "scores",
        "logits", "logit", "probabilities", "probs", "p", "y_proba", "log_probabilities", "log_probs", "logprobs",
    ),
    "hidden": ("hidden", "hidden_states", "h", "input", "inputs", "x", "features", "embeddings", "e"),
    "weight": ("weight", "weights", "linear_weight", "lm_head_weight", "lm_head", "w", "c", "kernel", "proj_weight"),
    "labels": ("labels", "label", "target", "targets", "y", "y_true", "true", "classes"),
}  # fmt: skip
"""Usual names of the parameters for the arrays of a call."""
KINDS: Mapping[str, InputKind] = {
    **dict.fromkeys(("logits", "logit", "z"), "logits"),
    **dict.fromkeys(("probabilities", "probs", "p", "y_proba"), "probabilities"),
    **dict.fromkeys(("log_probabilities", "log_probs", "logprobs"), "log_probabilities"),
}
"""Name of the parameter for predictions -> their kind."""
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
INSPECTION_SECONDS = 1800.0
"""Default timeout in seconds for the import of a callable."""
NOTICE_SECONDS = 10.0
"""Seconds after which a slow import is reported to the user."""
UNVERSIONED = "unversioned"
"""Version of a callable whose module has no `__version__`."""
OBJECTS = "callables"
"""Name of the module to which objects that are in no module are added."""
MAX_MESSAGE = 600
"""Maximum number of characters of an exception that are quoted."""


class CheckError(UserError):
    """A callable cannot be checked as requested; the message says what and why."""


@dataclass(frozen=True, kw_only=True)
class CheckedCallable:
    """A callable, a known function like it, and the fields in which they differ."""

    target: str
    """`package.module:attribute`, or `path/file.py:attribute`."""
    like: str
    """Name of a known function, installed or not."""
    arrays: str = ""
    """Array library of the callable, a key of `BUNDLES`; that of the known function if empty."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Parameter of the callable -> its meaning: `predictions` or their kind, or `hidden` and `weight`; `labels`,
    `reduction`, or an option."""
    reduction: str = ""
    """Reduction of a callable without such a parameter: `none`, `sum` or `mean`; mean if empty."""
    clip: float | None = None
    """Documented epsilon of the clip; that of the known function if None."""
    mean_divides_by: str = ""
    """Documented divisor of the mean; that of the known function if empty."""
    cancellation: bool = False
    """Accept cancellation in the usual formulas."""
    dtypes: tuple[str, ...] = ()
    """dtypes of the predictions; if empty, those of the known function that the arrays support."""
    targets: tuple[str, ...] = ()
    """Accepted kinds of target; those of the known function if empty."""
    ranks: tuple[int, ...] = ()
    """Accepted ranks of the predictions; those of the known function if empty."""
    result_dtype: str = ""
    """dtype of the result; if empty, that of the predictions, or the one that the known function always returns."""
    other_dtypes: bool = False
    """Also test labels and weights in other dtypes that the known function accepts; the result may be promoted."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a callable."""

    name: str
    positional: bool
    """Whether it can be passed by position."""
    required: bool


@dataclass(frozen=True)
class Inspection:
    """The result of importing a callable."""

    is_class: bool
    """Whether it is a class, whose instances are called."""
    constructor: tuple[Parameter, ...]
    call: tuple[Parameter, ...]
    version: str
    """Version of its distribution, or the `__version__` of its module; `UNVERSIONED` if there is neither."""

    def __post_init__(self) -> None:
        for name in ("constructor", "call"):
            listed = (
                Parameter(**parameter) if isinstance(parameter, dict) else parameter
                for parameter in getattr(self, name)
            )
            object.__setattr__(self, name, tuple(listed))


# Location of the callable


def split_target(target: str) -> tuple[str, str]:
    """(module or absolute path of a file, attribute) of a target.  Raises CheckError."""
    module, _, attribute = target.rpartition(":")
    if not module or not all(word.isidentifier() for word in attribute.split(".")):
        raise CheckError(f"{target}: name a callable as package.module:function or path/file.py:function")
    if module.endswith(".py"):
        path = Path(module).expanduser().resolve()
        if not path.is_file():
            raise CheckError(f"{target}: there is no file {path}")
        return str(path), attribute
    if Path(module).is_file() or not all(word.isidentifier() for word in module.split(".")):
        raise CheckError(f"{target}: {module} is neither the name of a module nor a file that ends with .py")
    return module, attribute


def _module_name(module: str) -> str:
    """The name under which a module or file is imported; a file never hides an installed module."""
    if not module.endswith(".py"):
        return module
    name = re.sub(r"\W", "_", Path(module).stem)
    is_name = name.isidentifier() and not keyword.iskeyword(name)
    spec = importlib.util.find_spec(name) if is_name else None
    is_unusable = not is_name or (spec is not None and spec.origin != module)
    return f"{NAME}_{name}" if is_unusable else name


def _imports(module: str) -> str:
    """Source that imports a module, or a file under its name."""
    if not module.endswith(".py"):
        return f"import {module}"
    name = _module_name(module)
    return (
        f"import importlib.util, sys; sys.path.append({str(Path(module).parent)!r}); "
        f"spec = importlib.util.spec_from_file_location({name!r}, {module!r}); "
        f"{name} = sys.modules[{name!r}] = importlib.util.module_from_spec(spec); spec.loader.exec_module({name})"
    )


def _find_current_folder() -> None:
    """Make modules of the current folder importable, after all others."""
    if os.getcwd() not in sys.path:  # noqa: PTH109
        sys.path.append(os.getcwd())  # noqa: PTH109


# Parameters


def inspect_callable(
    target: str, seconds: float = INSPECTION_SECONDS, progress: Callable[[str], None] = lambda text: None
) -> Inspection:
    """Import a callable in another process and return its parameters.

    seconds: the time limit of the import.  progress: called with a message if the import is slow.
    Raises CheckError if the import fails.
    """
    command = [sys.executable, "-P", "-m", __name__, ":".join(split_target(target))]
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        try:
            try:
                out, err = process.communicate(timeout=min(NOTICE_SECONDS, seconds))
            except subprocess.TimeoutExpired:
                progress(f"waiting for the import of {target}; it may take {seconds:g} s (--import-timeout)")
                out, err = process.communicate(timeout=max(seconds - NOTICE_SECONDS, 0))
        except subprocess.TimeoutExpired:
            raise CheckError(f"{target}: its import takes longer than {seconds:g} s (--import-timeout)") from None
        finally:
            process.kill()
    lines = out.splitlines()
    if process.returncode or not lines:
        last_line = (err.strip().splitlines() or [f"its process ended with status {process.returncode}"])[-1]
        raise CheckError(f"{target} cannot be imported: {truncate(last_line, MAX_MESSAGE)}")
    answer = json.loads(lines[-1])
    if "error" in answer:
        raise CheckError(f"{target}: {answer['error']}")
    return Inspection(**answer)


def _inspected(target: str) -> dict[str, Any]:
    """The fields of `Inspection` as builtin values; or the `error`."""
    module, attribute = split_target(target)
    _find_current_folder()
    names: dict[str, Any] = {}
    try:
        exec(_imports(module), names)  # noqa: S102
        value: Any = sys.modules[_module_name(module)]
    except (Exception, SystemExit) as error:
        why = f"{type(error).__name__}: {truncate(str(error), MAX_MESSAGE)}"
        advice = "; name it as package.module:attribute" if "relative import" in why else ""
        return {"error": f"{module} cannot be imported: {why}{advice}"}
    for word in attribute.split("."):
        if not hasattr(value, word):
            public = [name for name in vars(value) if not name.startswith("_") and callable(vars(value)[name])]
            return {"error": f"{module} has no {attribute}; it has {', '.join(public[:20]) or 'nothing to call'}"}
        if inspect.isclass(value) and inspect.isfunction(inspect.getattr_static(value, word)):
            return {"error": f"it is a method; name a function that calls it on an instance of {value.__name__}"}
        value = getattr(value, word)
    return _inspected_object(value, module)


def _inspected_object(target: Any, module: str) -> dict[str, Any]:
    """The same for an object of a module."""
    if not callable(target):
        return {"error": f"it is a {type(target).__name__}, which cannot be called"}
    is_class = inspect.isclass(target)
    if is_class and not any({"forward", "__call__"} & vars(base).keys() for base in target.__mro__):
        return {"error": f"instances of the class {target.__name__} cannot be called; it has no __call__"}
    method = getattr(target, "forward", None) or (target.__call__ if is_class else target)
    try:
        call = list(inspect.signature(method).parameters.values())[1 if is_class else 0 :]
        constructor = _constructor(target) if is_class else []
    except (TypeError, ValueError):
        return {"error": "its parameters cannot be read; wrap it in a function with parameters"}
    return {
        "is_class": is_class,
        "constructor": _listed(constructor),
        "call": _listed(call),
        "version": _version(module),
    }


def _version(module: str) -> str:
    """The version for `Inspection.version`.  module: name of the module, or path of its file."""
    try:
        distribution = importlib.metadata.packages_distributions().get(module.partition(".")[0], [""])[0]
        return importlib.metadata.version(distribution)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        stated = getattr(sys.modules.get(_module_name(module)), "__version__", "")
        return stated if isinstance(stated, str) and stated else UNVERSIONED


def _constructor(target: type) -> list[inspect.Parameter]:
    """The parameters of a constructor, and those of the base classes to which it passes keywords."""
    parameters: dict[str, inspect.Parameter] = {}
    for base in target.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        own_parameters = list(inspect.signature(base.__init__).parameters.values())[1:]  # type: ignore[misc]
        parameters = {parameter.name: parameter for parameter in own_parameters} | parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own_parameters):
            break
    return list(parameters.values())


def _listed(parameters: Iterable[inspect.Parameter]) -> list[dict[str, Any]]:
    return [
        asdict(Parameter(parameter.name, parameter.kind in POSITIONAL, parameter.default is parameter.empty))
        for parameter in parameters
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]


def describe_object(target: Any) -> tuple[str, Inspection]:
    """The target of an object of this process, and its parameters.  Raises CheckError if it cannot be called.

    An object that is not an attribute of its module, such as a lambda, is added to the module `OBJECTS`.
    """
    module, path = getattr(target, "__module__", None) or "", getattr(target, "__qualname__", "")
    if "<" in path or not path or _attribute(sys.modules.get(module), path) is not target:
        module, path = OBJECTS, path.rpartition(".")[2]
        path = path if path.isidentifier() and not keyword.iskeyword(path) else type(target).__name__
        place = vars(sys.modules.setdefault(OBJECTS, types.ModuleType(OBJECTS)))
        names = itertools.chain([path], (f"{path}_{count}" for count in itertools.count(2)))
        path = next(name for name in names if place.get(name, target) is target)
        place[path] = target
    inspected = _inspected_object(target, module)
    if "error" in inspected:
        raise CheckError(f"{target!r}: {inspected['error']}")
    return f"{module}:{path}", Inspection(**inspected)


def _attribute(module: Any, path: str) -> Any:
    return functools.reduce(lambda value, word: getattr(value, word, None), path.split("."), module)


# Description


def installed(checked: CheckedCallable, inspection: Inspection) -> Installed:
    """The framework of a callable, as an installed one.  Raises CheckError."""
    checked = replace(checked, target=":".join(split_target(checked.target)))
    framework = _framework(json.dumps({"checked": asdict(checked), "found": asdict(inspection)}))
    return Installed(framework, inspection.version, backend=framework.backend(os.environ))


@functools.cache
def _framework(name: str) -> Framework:
    """The framework for a description in JSON.  Raises CheckError."""
    answer = json.loads(name)
    described: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in answer["checked"].items()}
    checked = CheckedCallable(**described)
    inspection = Inspection(**answer["found"])
    known = registry.function_named(checked.like)
    like = next(framework for framework in registry.frameworks() if framework.name == known.framework_name)
    if checked.arrays and checked.arrays not in BUNDLES:
        raise CheckError(f"--arrays {checked.arrays}: expected one of {', '.join(BUNDLES)}")
    bundle = BUNDLES.get(checked.arrays)

    def prepare() -> None:
        _find_current_folder()
        if bundle is None:
            like.prepare()

    try:
        return Framework(
            name=NAME,
            distributions=(),
            modules=(),
            functions=(_function(checked, inspection, known),),
            arrays=_without_dtype(bundle or like.arrays),
            imports="; ".join(
                filter(None, ["" if bundle else like.imports, _imports(split_target(checked.target)[0])])
            ),
            modes={} if bundle else like.modes,
            backends={} if bundle else like.backends,
            prepare=prepare,
            uses_upstream_gradient=True,
            adapter=f"{__name__}:{name}",
        )
    except DeclarationError as error:
        raise CheckError(f"{checked.target} like {known.name}: {error}") from error


def __getattr__(name: str) -> Framework:
    if not name.startswith("{"):
        raise AttributeError(name)
    return _framework(name)


def _function(checked: CheckedCallable, inspection: Inspection, known: Function) -> Function:
    """The callable with the tables of a known function, as far as it has the parameters."""
    passed = _passed(checked, inspection, (*HEAD, "labels") if known.has_head else ARRAYS)
    entries = {word: entry for word, entry in known.arguments.items() if ":" not in word}
    entries = {**{name: name for name in OPTIONS}, **entries}
    parameters = {word: parameter for parameter, word in checked.arguments.items()}
    available = {parameter.name for parameter in (*inspection.constructor, *inspection.call)} - set(passed.values())

    def own(word: str, entry: str) -> str:
        """An entry with the callable's own parameter name; "" if there is none."""
        if word in parameters:
            return _renamed(entry, parameters[word])
        if parameter_of(entry) in available:
            return entry
        return word if word in available else ""

    arguments = {word: own_entry for word, entry in entries.items() if (own_entry := own(word, entry))}
    reductions = _reductions(checked, known, lambda entry: own("reduction", entry))
    input_kinds = _input_kinds(checked, known, passed.get("predictions", ""), available)
    in_tables = {parameter_of(text) for text in (*arguments.values(), *reductions.values(), *input_kinds.values())}
    required = [parameter.name for parameter in (*inspection.constructor, *inspection.call) if parameter.required]
    if unknown := sorted({*required} - in_tables - {*passed.values()}):
        raise CheckError(
            f"{checked.target}: it requires {', '.join(unknown)}, and nothing says what to pass; say it with "
            f"--arguments {unknown[0]}=OPTION, one of {', '.join((*OPTIONS, 'reduction'))}, or give it a default"
        )
    all_dtypes = checked.other_dtypes
    targets = {kind: dtypes if all_dtypes else _usual_dtype(kind, dtypes) for kind, dtypes in known.targets.items()}
    function = Function(
        split_target(checked.target)[1],
        _call(checked, inspection, passed, arguments),
        ranks={loss: _among(ranks, checked.ranks) for loss, ranks in known.ranks.items()},
        input_kinds=input_kinds,
        targets={kind: dtype for kind, dtype in targets.items() if not checked.targets or kind in checked.targets},
        arguments=arguments,
        reductions=reductions,
        class_axis=known.class_axis,
        dtypes=frozenset(checked.dtypes) or known.dtypes - ({"bfloat16"} if checked.arrays == "numpy" else set()),
        orders=known.orders,
        excludes=known.excludes,
        weight_dtypes=known.weight_dtypes if all_dtypes else "same",
        result_dtype=checked.result_dtype or _result_dtype(known, all_dtypes),
        sample_weight_shape=known.sample_weight_shape,
    )
    return replace(
        function, conventions=tuple(_convention(checked, documented, function) for documented in known.conventions)
    )


def _passed(checked: CheckedCallable, inspection: Inspection, arrays: tuple[str, ...]) -> dict[str, str]:
    """Array of the call, such as `predictions` or `labels` -> the parameter to which it is passed."""
    names = [candidate.name for candidate in inspection.call]
    passed: dict[str, str] = {}
    for parameter, word in checked.arguments.items():
        if parameter not in names and parameter not in [candidate.name for candidate in inspection.constructor]:
            raise CheckError(f"--arguments {parameter}={word}: {checked.target} has no parameter {parameter}")
        kinds = INPUT_KINDS if "predictions" in arrays else ()
        if word not in (*OPTIONS, *DERIVED, *kinds, *arrays, "reduction"):
            message = unknown_name_message("option", word, (*arrays, *kinds, "reduction", *OPTIONS))
            raise CheckError(f"--arguments {parameter}={word}: {message}")
        if word in arrays or word in kinds:
            passed["predictions" if word in kinds else word] = parameter
    for word in arrays:
        usual = PARAMETERS[word]
        match = next((name for name in names if name.lower() in usual and name not in passed.values()), None)
        if word not in passed and match is not None:
            passed[word] = match
    for word in arrays:  # arrays without a usual name, in the most common order
        unused = [
            candidate.name
            for candidate in inspection.call
            if candidate.positional and candidate.name not in passed.values()
        ]
        if word not in passed and unused:
            passed[word] = unused[0]
    if missing := {*arrays} - passed.keys():
        listed = ", ".join(names) or "none with a name; wrap it in a function that has them"
        raise CheckError(f"{checked.target}: it has no parameter for {' and '.join(sorted(missing))}; it has {listed}")
    return passed


def _call(
    checked: CheckedCallable, inspection: Inspection, passed: Mapping[str, str], arguments: Mapping[str, str]
) -> str:
    """The source of the call."""
    module, attribute = split_target(checked.target)
    path = f"{_module_name(module)}.{attribute}"
    words = {parameter: word for word, parameter in passed.items()}
    first = [entry.name for entry in inspection.call[: len(passed)]]
    if set(first) == set(words) and all(entry.positional for entry in inspection.call[: len(passed)]):
        both = [f"{{{words[name]}}}" for name in first]
    else:
        both = [f"{parameter}={{{word}}}" for word, parameter in passed.items()]
    if not inspection.is_class:
        return f"{path}({', '.join(both)}, {{options}})"
    call_names = {entry.name for entry in inspection.call}
    both += [f"{{{word}}}" for word, entry in arguments.items() if parameter_of(entry) in call_names]
    return f"{path}({{options}})({', '.join(both)})"


def _renamed(entry: str, parameter: str) -> str:
    return parameter + entry[len(parameter_of(entry)) :]


def _reductions(checked: CheckedCallable, known: Function, own: Callable[[str], str]) -> dict[str, str]:
    if checked.reduction:
        return {checked.reduction: ""}
    entries = {name: entry if "{result}" in entry else own(entry) for name, entry in known.reductions.items()}
    return {name: entry for name, entry in entries.items() if "=" in entry or "{result}" in entry} or {"mean": ""}


def _input_kinds(
    checked: CheckedCallable, known: Function, parameter: str, available: Iterable[str]
) -> dict[InputKind, str]:
    stated = checked.arguments.get(parameter, "predictions")
    kind = next((kind for kind in INPUT_KINDS if kind == stated), KINDS.get(parameter.lower()))
    kinds = {name: entry for name, entry in known.input_kinds.items() if not entry or parameter_of(entry) in available}
    if kind and len(kinds) < 2:
        return {kind: kinds.get(kind, "")}
    return kinds or {next(iter(known.input_kinds)): ""}


def _usual_dtype(target: str, dtypes: str) -> str:
    """The dtype of labels that every function of a kind accepts; "" for any."""
    return dtypes.split()[0] if dtypes else "int64" if target == "index" else ""


def _result_dtype(known: Function, all_dtypes: bool) -> str:
    """`Function.result_dtype` of a callable like a known function.

    all_dtypes: whether labels and weights of other dtypes are tested, to which the result may be promoted.
    """
    if known.result_dtype in DTYPES:
        return f"same_or_{known.result_dtype}"
    return "same_or_promoted" if all_dtypes else "same"


def _among(ranks: range, chosen: tuple[int, ...]) -> range:
    """The chosen ranks, as far as they are consecutive."""
    return range(min(chosen), max(chosen) + 1) if chosen else ranks


def _convention(checked: CheckedCallable, documented: DocumentedConvention, function: Function) -> DocumentedConvention:
    """The documented convention of a known function, without numeric choices, and with the fields that were set."""
    chosen: dict[str, Any] = {"cancellation": "none", "gradient_cancellation": "none"}
    if checked.cancellation:
        chosen = {"cancellation": "logits", "gradient_cancellation": "targets"}
    if checked.clip is not None:
        chosen["clip"] = checked.clip
    if checked.mean_divides_by:
        chosen["mean_divides_by"] = checked.mean_divides_by
    convention = replace(documented.convention, **chosen)
    idle = without_effect(convention, function)
    for name in ("clip", "mean_divides_by"):
        if name in idle and getattr(checked, name):
            raise CheckError(f"--{name.replace('_', '-')}: it has no effect on what {checked.target} takes and returns")
    convention = convention.restricted_to(tuple(name for name in convention.choices() if name not in idle))
    return replace(documented, convention=convention, versions="", backends=None)


def _main(target: str) -> None:
    """Print the fields of `Inspection` on one line; output of the import goes to stderr."""
    out = os.dup(1)
    os.dup2(2, 1)
    inspection = _inspected(target)
    os.write(out, f"\n{json.dumps(inspection)}\n".encode())
    os._exit(0)


if __name__ == "__main__":
    _main(sys.argv[1])

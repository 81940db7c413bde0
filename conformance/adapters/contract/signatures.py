"""Signatures of installed functions, and their differences from the tables of an adapter."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from functools import cache
from typing import TYPE_CHECKING, Any

from conformance.adapters.contract.source import (
    calls_with_predictions,
    keywords_of,
    parameter_of,
    parseable_example,
)

if TYPE_CHECKING:
    from conformance.adapters.contract.framework import Framework, Function


@cache
def resolve(path: str) -> Any:
    """Return the object at a dotted path; the longest prefix that is a module is imported.

    Raises LookupError if there is no such module, AttributeError for a missing attribute, and the errors of the import.
    """
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:cut])
        try:
            target: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is not None and f"{module}.".startswith(f"{error.name}."):
                continue
            raise
        for part in parts[cut:]:
            target = getattr(target, part)
        return target
    raise LookupError(f"there is no {path}")


def signatures(path: str) -> tuple[inspect.Signature, ...]:
    """Return the signatures of a function, or those of the constructor of a class and, if any, a call of its instances.

    Raises ValueError if there is none, as for some builtins.
    """
    target = resolve(path)
    if not inspect.isclass(target):
        return (inspect.signature(target),)
    ways = ("forward", "construct", "update_state", "__call__")  # the first of these that exists receives the arguments
    call: Any = next(getattr(target, name) for name in ways if hasattr(target, name))
    if not any("__call__" in vars(base) for base in target.__mro__):
        return (inspect.signature(target),)  # what is called is the class alone
    _, *parameters = inspect.signature(call).parameters.values()  # without self
    return inspect.signature(target), inspect.Signature(parameters)


def passed_parameters(function: Function) -> list[str]:
    """The names of the parameters that the calls of a function pass, from its tables."""
    entries = [*function.arguments.values(), *function.input_kinds.values(), *function.reductions.values()]
    names = dict.fromkeys(function.positional.values())
    calls = calls_with_predictions(parseable_example(function.call))
    names |= dict.fromkeys(keyword.arg for call in calls for keyword in call.keywords if keyword.arg)
    for entry in entries:
        with contextlib.suppress(SyntaxError):  # an argument that is not one of a call, such as a dict entry
            names |= dict.fromkeys(keywords_of(entry))
    return list(names)


def unaccounted(framework: Framework, function: Function) -> list[str]:
    """Differences between the tables of a function and its signature in the installed release, one sentence each.

    A parameter counts as passed if any function of the adapter with the same path passes it.  An expression that makes
    no call with the predictions has no parameters.
    """
    if not function.path and not function.arguments:
        return []
    framework.prepare()
    alias, dot, rest = function.path.partition(".")
    path = f"{getattr(framework.runtime()[1].get(alias), '__name__', alias)}{dot}{rest}"
    untested = (name for name in map(parameter_of, function.untested) if name.isidentifier())  # no entries of a dict
    declared = dict.fromkeys([*passed_parameters(function), *function.no_effect, *untested])
    try:
        parameters = [parameter for signature in signatures(path) for parameter in signature.parameters.values()]
    except (ValueError, LookupError) as error:
        if isinstance(error, LookupError) and not function.signature:
            raise
        listed = function.signature and declared
        return [] if listed else [f"{function.path} has no signature; list its parameters, with their source"]
    twins = (twin for twin in framework.functions if twin.path == function.path)
    available = [parameter.name for parameter in parameters]
    passed = {name for twin in twins for name in passed_parameters(twin)}
    forwarded = signatures(function.keywords_of)[0].parameters if function.keywords_of else {}
    return [
        *(f"{function.path}({name}=) is not accounted for" for name in available if name not in {*declared, *passed}),
        *(f"{function.path} has no parameter {name}" for name in declared if name not in {*available, *forwarded}),
    ]

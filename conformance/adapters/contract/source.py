"""Pieces of Python source with placeholders, and the words that may stand in them."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

import numpy as np

from conformance.adapters.contract.errors import LoweringError

TARGETS = ("index", "one_hot", "distribution", "binary", "soft_binary")
DERIVED = ("class_axis", "labels_column", "dtype", "classes", "target")
"""Words beside the options that a table of arguments may have; their values follow from the problem."""
ARRAYS = ("predictions", "labels")
FILE = "<call>"
"""The file name of compiled calls in tracebacks."""


def source_of(value: Any) -> str:
    """A plain value as source text; `repr` of a float that is no number is none."""
    return f"float('{value}')" if isinstance(value, float) and not np.isfinite(value) else repr(value)


def argument(entry: str, value: str) -> str:
    return f"{entry}={value}" if entry.isidentifier() else entry.replace("{}", value)


def parameter_of(argument: str) -> str:
    """The name of an argument as source."""
    return argument.partition("=")[0]


@cache
def placeholders(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(re.findall(r"\{([a-z_]\w*(?::\w+)?)\}", text)))


def filled(text: str, values: Mapping[str, str]) -> str:
    """Text with its placeholders filled; one that is empty goes with the comma beside it."""
    for name in placeholders(text):
        if not values.get(name):
            text = re.sub(rf",\s*\{{{name}\}}|\{{{name}\}},\s*|\{{{name}\}}", "", text)
    return re.sub(r"\{([a-z_]\w*(?::\w+)?)\}", lambda found: values.get(found[1], found[0]), text)


@cache
def sample(text: str) -> str:
    """Source with its placeholders filled in such a way that it can be parsed, if there is one."""
    text = textwrap.dedent(text).strip()
    values = {name: name.replace(":", "_") for name in placeholders(text) if name != "options"}
    try:
        ast.parse(found := filled(text, values))
    except SyntaxError:
        found = filled(text, {name: values[name] for name in (*ARRAYS, "loss", "x", "result") if name in values})
    return found


@lru_cache(maxsize=4096)
def split(text: str) -> tuple[str, str]:
    """(statements, the expression after them) of a piece of source."""
    last = ast.parse(text).body[-1]
    if not isinstance(last, ast.Expr):
        raise LoweringError(f"the last line is no expression: {text}")
    lines = text.encode().split(b"\n")
    before = [*lines[: last.lineno - 1], lines[last.lineno - 1][: last.col_offset]]
    after = [lines[last.lineno - 1][last.col_offset :], *lines[last.lineno :]]
    return tuple(b"\n".join(part).decode().strip().rstrip(";") for part in (before, after))  # type: ignore[return-value]


def joined(*parts: str) -> str:
    return "\n".join(filter(None, parts))


@cache
def atom(source: str) -> str:
    """An expression that binds as tightly as a name."""
    kinds = (ast.Call, ast.Name, ast.Attribute, ast.Subscript)
    return source if isinstance(ast.parse(source, mode="eval").body, kinds) else f"({source})"


def called(text: str) -> tuple[ast.Call, ...]:
    """The calls in source to which the predictions are passed: a function's, or an object's and, before it, its
    constructor's; () if they are passed otherwise.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            passed = [*node.args, *(keyword.value for keyword in node.keywords)]
            if any(isinstance(value, ast.Name) and value.id == "predictions" for value in passed):
                return (node.func, node) if isinstance(node.func, ast.Call) else (node,)
    return ()


@cache
def called_path(call: str) -> str:
    """The dotted path of what is called with the predictions in the source of a call; "" where there is none."""
    found = called(sample(call))
    return ast.unparse(found[0].func) if found else ""

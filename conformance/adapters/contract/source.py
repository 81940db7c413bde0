"""Templates of Python source, and the placeholders that they may contain."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

import numpy as np

from conformance.adapters.contract.errors import LoweringError

TARGET_KINDS = ("index", "one_hot", "multi_hot", "distribution", "binary", "soft_binary")
"""Kinds of target that a function may accept, see `Problem.target_kind`."""
HEAD = ("hidden", "weight")
"""Placeholders of a function that computes logits itself, in place of `predictions`: see `contract.heads`."""
DERIVED = ("class_axis", "labels_column", "soft_labels", "dtype", "classes", "class_names", "target", "bias")
"""Words besides the options that a table of arguments may contain; their values follow from the problem.

`soft_labels` is True if labels are rows of targets, and absent if they are class indices.
`classes` is the number of classes, `class_names` the list of their names; a call has one of the two.  `bias`
accompanies `HEAD`."""
ARRAYS = ("predictions", "labels")
_PLACEHOLDER = re.compile(r"\{([a-z_]\w*(?::\w+)?)(?=[|}])")
_WITH_DEFAULT = re.compile(r"\{([a-z_]\w*)\|((?:[^{}]|\{\w+\})*)\}")
FILE = "<call>"
"""The file name of compiled calls in tracebacks."""


def source_of(value: Any) -> str:
    """A plain value as source; the `repr` of nan or an infinity is not valid source."""
    return f"float('{value}')" if isinstance(value, float) and not np.isfinite(value) else repr(value)


def render_argument(entry: str, value: str) -> str:
    """The source of an argument, from its entry in a table and its value."""
    return f"{entry}={value}" if entry.isidentifier() else entry.replace("{}", value)


@cache
def keywords_of(entry: str) -> tuple[str, ...]:
    """The keywords in the entry of an argument in a table; raises SyntaxError if it is not an argument of a call."""
    nodes = ast.walk(ast.parse(f"f({render_argument(entry, '0')})"))
    calls = (node for node in nodes if isinstance(node, ast.Call))
    return tuple(keyword.arg for call in calls for keyword in call.keywords if keyword.arg)


def parameter_of(render_argument: str) -> str:
    """The name of the parameter that an argument, given as source, is passed to.

    That of an entry of a dict, such as `"sigmoid": 2.0`, is its key in quotes.
    """
    return render_argument.partition(":" if render_argument.startswith('"') else "=")[0]


@cache
def placeholders(text: str) -> tuple[str, ...]:
    """The names of the placeholders in text, in order."""
    return tuple(dict.fromkeys(_PLACEHOLDER.findall(text)))


def fill_template(text: str, values: Mapping[str, str]) -> str:
    """Fill the placeholders of text.

    An absent value is replaced by its default, as in `{positive_weight|1.0}`, or removed with an adjacent comma.
    """
    text = _WITH_DEFAULT.sub(lambda match: f"{{{match[1]}}}" if values.get(match[1]) else match[2], text)
    for name in placeholders(text):
        if not values.get(name):
            text = re.sub(rf",\s*\{{{name}\}}|\{{{name}\}},\s*|\{{{name}\}}", "", text)
    return re.sub(rf"{_PLACEHOLDER.pattern}\}}", lambda match: values.get(match[1], match[0]), text)


@cache
def parseable_example(text: str) -> str:
    """Fill the placeholders of source with values that make it parse, if there are any."""
    text = textwrap.dedent(text).strip()
    values = {name: name.replace(":", "_") for name in placeholders(text) if name != "options"}
    try:
        ast.parse(filled := fill_template(text, values))
    except SyntaxError:
        retained = (*ARRAYS, *HEAD, "loss", "x", "result")
        filled = fill_template(text, {name: values[name] for name in retained if name in values})
    return filled


@lru_cache(maxsize=4096)
def split_last_expression(text: str) -> tuple[str, str]:
    """Return (statements, last expression) of source.  Raises LoweringError if it does not end with an expression."""
    body = ast.parse(text).body
    last = body[-1] if body else None
    if not isinstance(last, ast.Expr):
        raise LoweringError(f"the last line is not an expression: {text}")
    lines = text.encode().split(b"\n")
    before = [*lines[: last.lineno - 1], lines[last.lineno - 1][: last.col_offset]]
    after = [lines[last.lineno - 1][last.col_offset :], *lines[last.lineno :]]
    return tuple(b"\n".join(part).decode().strip().rstrip(";") for part in (before, after))  # type: ignore[return-value]


def join_lines(*parts: str) -> str:
    """Join pieces of source by newlines; empty pieces are skipped."""
    return "\n".join(filter(None, parts))


@cache
def parenthesized(source: str) -> str:
    """Put an expression into parentheses, unless it binds as tightly as a name."""
    kinds = (ast.Call, ast.Name, ast.Attribute, ast.Subscript)
    return source if isinstance(ast.parse(source, mode="eval").body, kinds) else f"({source})"


@cache
def calls_with_predictions(text: str) -> tuple[ast.Call, ...]:
    """Return the call nodes that receive `predictions` or `hidden`: one for a function; for an object two, with that
    of its constructor first.

    () if no call receives them as an argument.  The nodes are shared with later calls: copy them before a change.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            passed = [*node.args, *(keyword.value for keyword in node.keywords)]
            if any(isinstance(value, ast.Name) and value.id in ("predictions", "hidden") for value in passed):
                return (node.func, node) if isinstance(node.func, ast.Call) else (node,)
    return ()


@cache
def called_path(call: str) -> str:
    """The dotted path of the function or class that the source calls with the predictions; "" if there is none."""
    calls = calls_with_predictions(parseable_example(call))
    return ast.unparse(calls[0].func) if calls else ""

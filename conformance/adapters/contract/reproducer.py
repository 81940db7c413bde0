"""The reproducer: the call of a row as source to paste into Python."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import lru_cache

from conformance.adapters.contract.framework import Framework, Function
from conformance.adapters.contract.lowering import Call, lower
from conformance.model.case import Problem, dtype_name

LITERAL_LIMIT = 1000
"""Arrays with more elements than this are replaced by a reference to the case, if there is one."""
MAX_WRITTEN = 24
"""Maximum number of elements written out for arrays that the reader has (`elided`)."""
LONGEST_LITERAL = 20_000
"""Maximum number of elements written out for an array that no case contains."""


def reproducer(
    framework: Framework,
    function: Function,
    problem: Problem,
    call: Call | None = None,
    backend: str = "",
    replay: Callable[[], str] | None = None,
    *,
    elided: bool = False,
) -> str:
    """The source of the call that `perform` makes, to paste into Python; its last expression is the result.

    It is one line unless the call has a compound statement.

    call: the lowered problem, if already computed.  backend: backend of the framework.  replay:
    returns an expression that repeats the call, used for arrays of more than `LITERAL_LIMIT` elements; None if there
    is none.  Without it, arrays of more than `LONGEST_LITERAL` elements are replaced by a comment.
    elided: whether the reader has the arrays; long ones are then written as `...` after a comment that describes them.
    """
    call = lower(function, problem) if call is None else call
    largest = max((tensor.values.size for tensor in call.arrays.values()), default=0)
    environment_source = framework.environment_source(backend, call.mode)
    elided = elided and largest > MAX_WRITTEN
    if largest > LITERAL_LIMIT and replay is not None:
        return f"{environment_source}import conformance; {replay()}"
    if largest > LONGEST_LITERAL and not elided:
        return f"# too long to write out: an array of {largest} elements that is in no case"
    preamble = framework.preamble(backend, call.mode)
    literal = framework.arrays_of(backend).literal
    short = {name for name, tensor in call.arrays.items() if not elided or tensor.values.size <= MAX_WRITTEN}
    place = framework.device(call.device, backend).place
    literals = [
        f"{name} = {place.replace('{array}', literal(tensor)) if name in short else '...'}"
        for name, tensor in call.arrays.items()
    ]
    source = "\n".join([*literals, call.text])
    prefixes = {"import numpy as np": "np.", "import ml_dtypes": "ml_dtypes."}
    needed = [line for line, use in prefixes.items() if use in source and line not in preamble]
    lines = "; ".join(filter(None, [preamble, *needed]))
    text = "; ".join(call.text.split("\n")) if _simple(call.text) else f"\n{call.text}"
    separator = "" if text.startswith("\n") else "; "
    shapes = [
        f"{name}: {dtype_name(tensor.values.dtype)} {list(tensor.values.shape)}"
        for name, tensor in call.arrays.items()
        if name not in short
    ]
    comment = f"# {'; '.join(shapes)}\n" if shapes else ""
    return comment + environment_source + "; ".join(filter(None, [lines, *literals])) + separator + text


@lru_cache(maxsize=4096)
def _simple(text: str) -> bool:
    """Whether source consists of one-line statements that can be joined by semicolons."""
    compound = (ast.FunctionDef, ast.With, ast.For, ast.While, ast.If, ast.Try, ast.ClassDef)
    return all(not isinstance(node, compound) and node.lineno == node.end_lineno for node in ast.parse(text).body)

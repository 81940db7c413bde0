"""The names of each option in each framework, derived from the calls that the adapters make.

For each concept, the adapter makes a call for a small problem with it and one without; the difference between the
calls is how the function expresses it. A table of names would be a second description of each call, and could differ
from the executed code.
"""

from __future__ import annotations

import ast
import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from conformance.adapters import registry
from conformance.adapters.contract import Framework, Function
from conformance.adapters.contract.lowering import Call, lower
from conformance.adapters.contract.source import calls_with_predictions
from conformance.docs.conventions import boundaries, version_ranges
from conformance.docs.markup import code_html, escaped, table
from conformance.judging.coverage import TARGET_KINDS_OF
from conformance.model.case import (
    DTYPES,
    INPUT_KINDS,
    LOSSES,
    OPTIONS,
    REDUCTIONS,
    InputKind,
    Layout,
    Loss,
    Options,
    Problem,
    Reduction,
)  # fmt: skip

NO_OPTION = "&mdash;"
UNCHANGED = "as it is"
VALUES: dict[str, Any] = {
    "class_weights": np.array([1.0, 2.0, 3.0]),
    "sample_weights": np.array([1.0, 2.0, 3.0, 4.0]),
    "positive_weight": np.array(2.0),
    "label_smoothing": 0.1,
    "ignore_index": -100,
}
NO_OPTIONS = Options()
KINDS = tuple(dict.fromkeys(kind for loss in TARGET_KINDS_OF for kind in sorted(TARGET_KINDS_OF[loss])))


def option_tables() -> str:
    """The expression of each concept in each function of the newest releases, as Markdown."""
    libraries = [
        registry.described(_newest(framework), lambda function: (function.name, option_words(function)))
        for framework in registry.frameworks()
    ]
    parts = []
    for title, columns in TABLES.items():
        lines = [
            line
            for library in libraries
            for line in _merge_lines((name, tuple(words[column] for column in columns)) for name, words in library)
        ]
        parts.append(f"## {title}\n\n{table(('functions', *columns), lines)}")
    return "\n".join(parts)


def _merge_lines(described: Iterable[tuple[str, tuple[str, ...]]]) -> Iterator[list[str]]:
    """Lines of a table, with functions that have the same cells in one line, in the order of the first of each."""
    names: dict[tuple[str, ...], list[str]] = {}
    for name, cells in described:
        names.setdefault(cells, []).append(code_html(name))
    return (["<br>".join(functions), *cells] for cells, functions in names.items())


def earlier_releases() -> str:
    """Descriptions for earlier releases and other backends, with the differences from the newest, as Markdown."""
    lines: list[list[str]] = []
    for framework in registry.frameworks():
        now = {function.name: function for function in _newest(framework)}
        earlier = [function for function in framework.functions if function not in now.values()]
        lines += _merge_lines(registry.described(earlier, partial(_differences, framework, now)))
    return table(("functions", "releases", "differences from the newest"), lines)


def undescribed_parameters() -> str:
    """Parameters of the newest releases that no case uses, as Markdown."""
    described = registry.described(
        registry.functions(),
        lambda function: [
            (function.name, (code_html(argument), escaped(description)))
            for argument, description in function.untested.items()
        ],
    )
    lines = _merge_lines(itertools.chain.from_iterable(described))
    return table(("functions", "argument", "what it selects"), lines)


def _differences(framework: Framework, now: Mapping[str, Function], function: Function) -> tuple[str, tuple[str, ...]]:
    """The name of a function, and releases of an earlier description with its differences from the newest one."""
    cells = option_words(function)
    newest = option_words(now[function.name]) if function.name in now else {}
    changes = [f"{escaped(name)}: {cell}" for name, cell in cells.items() if cell != newest.get(name)]
    return function.name, (_releases(framework, function), "<br>".join(changes) or "the same")


def option_words(function: Function) -> dict[str, str]:
    """How a function expresses each concept, as Markdown; `NO_OPTION` if it cannot."""
    return {column: word(function) for columns in TABLES.values() for column, word in columns.items()}


def _newest(framework: Framework) -> tuple[Function, ...]:
    return registry.functions_in(framework, registry.NEWEST)


def _releases(framework: Framework, function: Function) -> str:
    bounds = boundaries(framework.name)
    since = [bound for bound in bounds if registry.within(bound, function.versions)]
    backends = ", ".join(sorted(function.backends or ()))
    return escaped(" on ".join(filter(None, [version_ranges(framework.name, since, bounds) or "all", backends])))


def _positional(function: Function, argument: str) -> str:
    name = function.positional.get(argument)
    return code_html(name) if name else UNCHANGED


def _call_template(function: Function) -> str:
    """A call without options, with the names of its positional parameters, as Markdown."""
    text = lower(function, _problem(function)).text
    for word, name in function.positional.items():
        text = re.sub(rf"\b{word}\b(?!=)", name, text)  # a keyword may have the name of an array
    return _lines(text.split("\n"))


def _predictions(function: Function, input_kind: InputKind) -> str:
    if input_kind not in function.input_kinds:
        return NO_OPTION
    alternative = next((kind for kind in function.input_kinds if kind != input_kind), input_kind)
    return _call_difference(
        lower(function, _problem(function, input_kind=alternative)),
        lower(function, _problem(function, input_kind=input_kind)),
    )


def _labels(function: Function, kind: str) -> str:
    accepted = function.target_kind_for(kind)
    [loss] = [loss for loss in TARGET_KINDS_OF if kind in TARGET_KINDS_OF[loss]]
    if accepted is None or loss not in function.ranks:
        return NO_OPTION
    problem = _problem(function, loss=loss, kind=kind)
    tensor = lower(function, problem).arrays["labels"]
    shape = "N, C" if loss == "categorical" and tensor.values.ndim == 2 else ", ".join("NC"[: tensor.values.ndim])
    as_it_is = function.label_dtype_for(problem) is None and tensor.values.dtype == problem.labels.dtype
    label_type = "any type" if as_it_is else tensor.values.dtype.name
    dtype = "of the predictions' type" if label_type == problem.dtype else label_type
    return escaped(f"[{shape}], {dtype}" + ("" if accepted == kind else f", as {accepted.replace('_', '-')}"))


def _option(function: Function, name: str) -> str:
    for loss in function.ranks:
        for kind in sorted(TARGET_KINDS_OF[loss] & function.targets.keys()):
            plain = _problem(function, loss=loss, kind=kind)
            stated = dataclasses.replace(plain, options=Options(**{name: VALUES[name]}))
            for reduction in (name for name in reversed(REDUCTIONS) if name in function.reductions):
                problem = stated.with_reduction(reduction)
                if name in function.positional:  # passed whether it is stated or not
                    return code_html(function.positional[name])
                if function.unsupported(problem) is None:
                    return _call_difference(lower(function, plain.with_reduction(reduction)), lower(function, problem))
    return NO_OPTION


def _reduction(function: Function, reduction: Reduction) -> str:
    if reduction not in function.reductions:
        return NO_OPTION
    template = function.reductions[reduction]
    if "{result}" in template:
        return UNCHANGED if template == "{result}" else code_html(template.replace("{result}", "..."))
    without = dataclasses.replace(function, reductions={reduction: ""})
    problem = dataclasses.replace(_problem(function), reduction=reduction)
    return _call_difference(lower(without, problem), lower(function, problem))


def _class_axis(function: Function) -> str:
    ranks = function.ranks.get("categorical")
    if ranks is None:
        return NO_OPTION
    if 3 not in ranks or "class_axis" not in function.layouts:
        return "the last"
    usual = _problem(function, loss="categorical", rank=3)
    call = lower(function, usual)
    axis = call.arrays["predictions"].class_axis
    if axis != -1:
        return f"always {axis}"
    moved = dataclasses.replace(usual, layout=Layout(class_axis=1))
    return _call_difference(call, lower(function, moved))


def _dtype(function: Function) -> str:
    """How the dtype of the computation is selected."""
    narrow, wide = (dataclasses.replace(_problem(function), dtype=name) for name in ("float16", "float32"))
    argument = _call_difference(lower(function, narrow), lower(function, wide))
    return "that of the predictions" if argument == UNCHANGED else argument


def _problem(
    function: Function,
    loss: Loss | None = None,
    input_kind: InputKind | None = None,
    kind: str | None = None,
    options: Options = NO_OPTIONS,
    rank: int = 2,
) -> Problem:
    """A small problem of a kind that a function accepts.

    Predictions are [4, 3] or [4, 2, 3] for classes; for outputs [4], or with as many axes of length 1 as required.
    """
    chosen = next(name for name in LOSSES if name in function.ranks) if loss is None else loss
    kind = kind or next(name for name in KINDS if name in function.targets.keys() & TARGET_KINDS_OF[chosen])
    binary = chosen == "binary"
    shape = (
        (4, *(1,) * (max(1, function.ranks[chosen].start) - 1))
        if binary
        else (4, 3)
        if rank == 2 and 2 in function.ranks[chosen]
        else (4, 2, 3)
    )
    crisp = np.arange(np.prod(shape[:-1], dtype=int)).reshape(shape[:-1]) % shape[-1]
    one_hot = np.eye(shape[-1])[crisp]
    labels = {
        "index": crisp.astype(np.int32),
        "one_hot": one_hot,
        "distribution": 0.75 * one_hot + 0.25 / shape[-1],
        "binary": np.resize([0, 1, 1, 0], shape),
        "soft_binary": np.resize([0.25, 0.5, 0.75, 1.0], shape),
    }[kind]
    return Problem(
        case="",
        loss=chosen,
        input_kind=input_kind or function.input_kind_for(INPUT_KINDS[0]),
        target="index" if kind == "index" else "binary" if binary else "distribution",
        predictions=(np.arange(1, np.prod(shape) + 1).reshape(shape) / 32).astype(np.float32),
        labels=labels,
        options=options,
        layout=Layout(),
        dtype="float32" if "float32" in function.dtypes else min(function.dtypes),
        reduction=next(name for name in reversed(REDUCTIONS) if name in function.reductions),
    )


def _call_difference(without: Call, call: Call) -> str:
    """The part of a call that another call lacks, as Markdown; `UNCHANGED` if only arrays differ."""
    before, now = calls_with_predictions(without.text), calls_with_predictions(call.text)
    if [ast.unparse(node.func) for node in before[:1]] != [ast.unparse(node.func) for node in now[:1]]:
        return code_html(call.text)
    parts = []
    for step, earlier, later in zip(("constructor", "call")[2 - len(now) :], before, now, strict=True):
        known = {ast.unparse(keyword) for keyword in earlier.keywords}
        added = [text for keyword in later.keywords if (text := ast.unparse(keyword)) not in known]
        shown = [
            code_html(f"{name}=" if value in call.arrays else f"{name}={value}")
            for name, _, value in (text.partition("=") for text in added)
        ]
        parts += [f"{text} ({step})" if len(now) > 1 else text for text in shown]
    lines, earlier_lines = call.text.split("\n"), without.text.split("\n")
    elsewhere = [line for line in lines if line not in earlier_lines] if len(lines) > 1 else []
    return ", ".join(parts) or _lines(elsewhere) or UNCHANGED


def _lines(lines: Iterable[str]) -> str:
    """Lines of source in a cell of a table, as Markdown that keeps their indentation."""
    return "<br>".join("&nbsp;" * (len(line) - len(line.lstrip())) + code_html(line.lstrip()) for line in lines)


TABLES: dict[str, dict[str, Callable[[Function], str]]] = {
    "How it is called": {"call": _call_template},
    "Predictions": {
        "predictions": partial(_positional, argument="predictions"),
        **{kind: partial(_predictions, input_kind=kind) for kind in INPUT_KINDS},
    },
    "Labels": {
        "labels": partial(_positional, argument="labels"),
        **{kind: partial(_labels, kind=kind) for kind in KINDS},
    },
    "Options": {name: partial(_option, name=name) for name in OPTIONS},
    "Reductions": {name: partial(_reduction, reduction=name) for name in REDUCTIONS},
    "Axes and dtypes": {
        "class axis": _class_axis,
        "dtype": _dtype,
        "dtypes": lambda function: escaped(", ".join(name for name in DTYPES if name in function.dtypes)),
        "not together": lambda function: escaped("; ".join(" and ".join(sorted(group)) for group in function.excludes)),
    },
}
"""The concepts by table, each with how a function expresses it, as Markdown; `NO_OPTION` if it cannot."""

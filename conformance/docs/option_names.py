"""The names of each option in each framework: the tables of the adapters, from which calls are written."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from conformance.adapters import registry
from conformance.adapters.contract import Framework, Function
from conformance.adapters.contract.source import fill_template, placeholders, render_argument
from conformance.docs.conventions import boundaries, version_ranges
from conformance.docs.markup import code_html, escaped, table
from conformance.judging.coverage import TARGET_KINDS_OF
from conformance.model.case import DTYPES, INPUT_KINDS, OPTIONS, REDUCTIONS, Reduction

NO_OPTION = "&mdash;"
UNCHANGED = "as it is"
ROWS = frozenset({"one_hot", "distribution"})
"""Kinds of labels with an axis of classes."""
KINDS = tuple(dict.fromkeys(kind for loss in TARGET_KINDS_OF for kind in sorted(TARGET_KINDS_OF[loss])))


def option_tables() -> str:
    """The expression of each concept in each function of the newest releases, as Markdown."""
    libraries = [
        [(function.name, option_words(function)) for function in _newest(framework)]
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
        lines += _merge_lines(_differences(framework, now, function) for function in earlier)
    return table(("functions", "releases", "differences from the newest"), lines)


def undescribed_parameters() -> str:
    """Parameters of the newest releases that no case uses, as Markdown."""
    lines = _merge_lines(
        (function.name, (code_html(argument), escaped(description)))
        for function in registry.functions()
        for argument, description in function.untested.items()
    )
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


def _source(function: Function) -> str:
    """The call with the names of its positional parameters, and dots in place of its options."""
    words = {word: function.positional.get(word, word) for word in placeholders(function.call)}
    words |= {word: render_argument(entry, word) for word, entry in function.arguments.items() if word in words}
    return fill_template(textwrap.dedent(function.call).strip(), {**words, "options": "..."})


def _positional(function: Function, argument: str) -> str:
    name = function.positional.get(argument)
    return code_html(name) if name else UNCHANGED


def _argument(table: Mapping[Any, str], word: str) -> str:
    """The entry of a table for a word, as Markdown; `NO_OPTION` if it has none."""
    if (entry := table.get(word)) is None:
        return NO_OPTION
    return code_html(f"{entry}=" if entry.isidentifier() else entry.replace("{}", word)) or UNCHANGED


def _labels(function: Function, kind: str) -> str:
    accepted = function.target_kind_for(kind)
    [loss] = [loss for loss in TARGET_KINDS_OF if kind in TARGET_KINDS_OF[loss]]
    if accepted is None or loss not in function.ranks:
        return NO_OPTION
    shape = "N, C" if accepted in ROWS else "N"
    dtype = next(iter(function.label_dtypes(accepted, "of the predictions' type")), "any type")
    return escaped(f"[{shape}], {dtype}" + ("" if accepted == kind else f", as {accepted.replace('_', '-')}"))


def _option(function: Function, name: str) -> str:
    if name in function.positional:
        return code_html(function.positional[name])
    if function.arguments.get(name) == "{}":  # not an argument of the function itself
        lines = (line for line in _source(function).split("\n") if re.search(rf"\b{name}\b", line))
        return _lines("\n".join(map(str.strip, lines)))
    return _argument(function.arguments, name)


def _reduction(function: Function, reduction: Reduction) -> str:
    template = function.reductions.get(reduction, "")
    if "{result}" in template:
        return UNCHANGED if template == "{result}" else code_html(template.replace("{result}", "..."))
    return _argument(function.reductions, reduction)


def _class_axis(function: Function) -> str:
    ranks = function.ranks.get("categorical")
    if ranks is None:
        return NO_OPTION
    if 3 not in ranks or "class_axis" not in function.layouts:
        return "the last"
    return f"always {function.class_axis}" if function.class_axis != -1 else _argument(function.arguments, "class_axis")


def _dtype(function: Function) -> str:
    """How the dtype of the computation is selected."""
    return _argument(function.arguments, "dtype") if "dtype" in function.arguments else "that of the predictions"


def _lines(source: str) -> str:
    """Source in a cell of a table, as Markdown that keeps its indentation."""
    lines = source.split("\n")
    return "<br>".join("&nbsp;" * (len(line) - len(line.lstrip())) + code_html(line.lstrip()) for line in lines)


TABLES: dict[str, dict[str, Callable[[Function], str]]] = {
    "How it is called": {"call": lambda function: _lines(_source(function))},
    "Predictions": {
        "predictions": partial(_positional, argument="predictions"),
        **{
            kind: partial(lambda function, kind: _argument(function.input_kinds, kind), kind=kind)
            for kind in INPUT_KINDS
        },
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

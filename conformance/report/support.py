"""Tables of the capabilities and documentation of functions, from the adapters; for the command line and the README."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from conformance.adapters.contract import SHAPE_WORDS, Function
from conformance.judging.coverage import LAYOUTS, MEMORY_ORDERS, TARGET_KINDS_OF, declared
from conformance.model.case import DTYPES, LABEL_DTYPES, LOSSES, OPTIONS, REDUCTIONS

FUNCTION_COLUMNS = ("function", "predictions", "labels", "options", "reductions", "dtypes", "layouts")


def function_cells(function: Function) -> list[str]:
    """The cells of a function in the columns FUNCTION_COLUMNS: what it accepts, and which labels are re-encoded for it.

    Predictions of another kind are converted.
    """
    return [
        function.name,
        f"{', '.join(function.input_kinds)} ({_ranks(function)})",
        _labels(function),
        _options(function),
        _list_names(function.reductions, REDUCTIONS),
        _list_names(function.dtypes, DTYPES),
        _layouts(function),
    ]


def _ranks(function: Function) -> str:
    spans = {}
    for loss in LOSSES:
        if ranks := function.ranks.get(loss):
            low, high = min(ranks), max(ranks)
            spans[loss] = f"{loss}, rank {low}" if low == high else f"{loss}, rank {low} to {high}"
    return "; ".join(spans.values())


def _labels(function: Function) -> str:
    plain, encoded = [], []
    for loss in LOSSES:
        kinds = TARGET_KINDS_OF[loss] | ({"multi_hot"} & function.targets.keys())
        for kind in sorted(kinds if loss in function.ranks else ()):
            kind_passed = function.target_kind_for(kind)
            if kind_passed == kind:
                plain.append(kind)
            elif kind_passed is not None:
                encoded.append(f"{kind} as {kind_passed}")
    return ", ".join([*plain, *encoded])


def _options(function: Function) -> str:
    able = frozenset().union(*(declared(function, loss) for loss in function.ranks))
    able |= {"higher_rank", "several_outputs", *(f"{name}_labels" for name in LABEL_DTYPES), *REDUCTIONS}
    groups = [group for group in function.excludes if group <= able]
    words = SHAPE_WORDS | _axis_words(function)
    separate = [
        " with ".join(words.get(name, name) for name in sorted(group, key=lambda name: (name not in OPTIONS, name)))
        for group in groups
    ]
    return "; ".join([_list_names(function.options, OPTIONS), *(f"not {group}" for group in dict.fromkeys(separate))])


def _axis_words(function: Function) -> dict[str, str]:
    """The words of case files for the class axes that a function accepts: any, or axis 1 only."""
    anywhere = "class_axis_not_1" in function.layouts
    return {"class_axis": "class_axis" if anywhere else "class_axis: 1", "class_axis_not_1": "class_axis"}


def _layouts(function: Function) -> str:
    words = _axis_words(function)
    layouts = {words.get(name, name) for name in function.layouts}
    orders = layouts & set(MEMORY_ORDERS)
    if orders == set(MEMORY_ORDERS):
        layout_names = _list_names(layouts - orders, LAYOUTS)
        return "any memory order" if layout_names == "none" else f"any memory order, {layout_names}"
    return _list_names(layouts, LAYOUTS)


def _list_names(names: Iterable[str], order: Sequence[str]) -> str:
    """Names in a fixed order, unknown ones last; `none` for no names."""
    known = [name for name in order if name in set(names)]
    return ", ".join([*known, *sorted(set(names) - set(order))]) or "none"

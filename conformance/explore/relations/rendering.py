"""Rendering of relation results: a table for a terminal, and records for JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from conformance.explore.relations.catalogue import RELATIONS
from conformance.explore.relations.checker import RelationResult

WIDTH = 80
COLUMN_WIDTH = 5
"""Width in characters of a function's column."""
LEDGER_STATUSES = ("ok", "known", "unexpected", "stale")


def table(results: Iterable[RelationResult]) -> Iterator[str]:
    """Yield lines of at most 80 columns: a row for each relation, a column for each function."""
    counts: Counter[tuple[str, str, str]] = Counter()
    functions: dict[str, str] = {}
    for result in results:
        item = result.instance.item
        functions[item.function.name] = item.installed.version
        counts[result.instance.relation.name, item.function.name, result.expected] += 1
    indent = max(len(relation.name) for relation in RELATIONS)
    names = list(functions)
    for number, name in enumerate(names, 1):
        yield f"{number:>3}  {name} {functions[name]}"
    for block in _blocks(names, (WIDTH - indent) // COLUMN_WIDTH):
        yield ""
        yield " " * indent + "".join(f"{names.index(name) + 1:>{COLUMN_WIDTH}}" for name in block)
        for relation in RELATIONS:
            cells = [_cell(*(counts[relation.name, name, status] for status in LEDGER_STATUSES)) for name in block]
            yield f"{relation.name:<{indent}}" + "".join(f"{cell:>{COLUMN_WIDTH}}" for cell in cells)
    yield ""
    yield "N: N hold; N+K: K more fail as known; N!: N fail; -: none could be tested"


def _blocks(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]


def _cell(passed: int, known: int, unexpected: int, stale: int) -> str:
    if unexpected + stale:
        return f"{unexpected + stale}!"
    if known:
        return f"{passed}+{known}"
    return str(passed or "-")


def as_record(result: RelationResult) -> dict[str, Any]:
    """A result as builtin values.

    `error` is the absolute difference of the two sides at the worst element, `allowed` the tolerance there and `ratio`
    their quotient; None if nothing was compared.
    """
    item, comparison = result.instance.item, result.comparison
    return {
        "relation": result.instance.relation.name,
        "function": item.function.name,
        "version": item.installed.version,
        "environment": item.installed.environment,
        "case": item.case.id,
        "dtype": item.dtype,
        "reduction": item.reduction,
        "expected": result.expected,
        "why": result.violation,
        "error": comparison.error if comparison else None,
        "allowed": comparison.tolerance if comparison else None,
        "ratio": comparison.error_ratio if comparison else None,
        "known": result.known.summary if result.known else "",
        "calls": list(result.calls),
        "mode": item.installed.mode,
        "device": item.installed.device,
    }

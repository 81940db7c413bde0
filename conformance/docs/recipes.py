"""Tables of what makes one function return what another one does.

Contains all pairs of functions of the default frameworks, and each function of another library with one of PyTorch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from conformance.adapters import registry
from conformance.adapters.contract import Framework
from conformance.adapters.registry import NEWEST, Installed
from conformance.api.recipes import setting_of
from conformance.docs.markup import code_html, escaped, table
from conformance.explain.recipes import InstalledFunction, NoRecipeError, Setting, derive_recipes
from conformance.model.case import LOSSES, Loss, Reduction

FRAMEWORKS = ("sklearn", "keras", "torch")
OPTIONS: dict[Loss, tuple[tuple[str, ...], ...]] = {
    "categorical": ((), ("class_weights",)),
    "binary": ((), ("sample_weights",)),
}
"""Options for which each pair of a loss is described, for each reduction."""
REDUCTIONS: tuple[Reduction, ...] = ("mean", "sum", "none")
AS_IT_IS = "the arguments alone"
COMPARED_WITH: dict[Loss, str] = {"categorical": "torch.CrossEntropyLoss", "binary": "torch.BCEWithLogitsLoss"}
"""The function to which those of other libraries are compared."""


@dataclass(frozen=True)
class Entry:
    """A pair of functions in a setting."""

    first: InstalledFunction
    second: InstalledFunction
    setting: Setting

    def text(self) -> str:
        """Changes that make the first function return what the second does, besides its arguments."""
        try:
            recipes, _ = derive_recipes(self.first, self.second, self.setting)
        except NoRecipeError as error:
            return f"none: {error}"
        return "; ".join(recipes[0].changes) or AS_IT_IS


def functions(loss: Loss, frameworks: Iterable[Framework]) -> list[InstalledFunction]:
    """The functions of a loss in their newest release; of those that call the same function, the first.

    Functions that are called on only some cases by default compute the same as another one.
    """
    by_path: dict[str, InstalledFunction] = {}
    for framework in frameworks:
        newest = Installed(framework, NEWEST, backend=framework.backend({}))
        for candidate in (InstalledFunction(newest, function) for function in newest.functions):
            if loss in candidate.function.ranks and candidate.may_have_recipe and not candidate.function.default_files:
                by_path.setdefault(candidate.function.path, candidate)
    return list(by_path.values())


def _of_pair(first: InstalledFunction, second: InstalledFunction, loss: Loss, options: Sequence[str]) -> list[Entry]:
    """An entry for each reduction."""
    pair = (first, second)
    return [
        Entry(first, second, setting_of(pair, options=options, reduction=reduction, loss=loss))
        for reduction in REDUCTIONS
    ]


def entries(loss: Loss) -> Iterator[list[Entry]]:
    """Every pair of functions of a loss, in each order, with each of its `OPTIONS`; an entry for each reduction."""
    tested = functions(loss, (framework for framework in registry.frameworks() if framework.name in FRAMEWORKS))
    for second, first in itertools.product(tested, tested):
        if first.function.path != second.function.path:
            for options in OPTIONS[loss]:
                yield _of_pair(first, second, loss, options)


def entries_of_others(loss: Loss) -> Iterator[list[Entry]]:
    """Each function of another library with the one of `COMPARED_WITH`, without options."""
    torch = functions(loss, (framework for framework in registry.frameworks() if framework.name == "torch"))
    second = next(framework for framework in torch if framework.function.name == COMPARED_WITH[loss])
    for first in functions(
        loss, (framework for framework in registry.frameworks() if framework.name not in FRAMEWORKS)
    ):
        yield _of_pair(first, second, loss, ())


def recipe_tables() -> str:
    """Changes that make each function return what another one does, as Markdown."""
    parts = [f"## {loss.capitalize()} losses\n\n{_table(entries(loss))}" for loss in LOSSES]
    tables_of_others = "\n".join(_table(entries_of_others(loss)) for loss in LOSSES)
    parts.append(f"## Other libraries\n\nNo test executes these; `conformance recipe` does.\n\n{tables_of_others}")
    return "\n".join(parts)


def _table(rows: Iterable[list[Entry]]) -> str:
    header = ("to return what", "this function", "with", *REDUCTIONS)
    lines = []
    for row in rows:
        names = [
            f"[{code_html(function.name)}]({function.documentation})"
            for function in (row[0].second.function, row[0].first.function)
        ]
        options = ", ".join(row[0].setting.options) or "no options"
        lines.append([f"{names[0]} does", names[1], options, *(escaped(difference.text()) for difference in row)])
    return table(header, lines)

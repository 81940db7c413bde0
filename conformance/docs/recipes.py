"""What it takes to make one function return what another does, for all pairs of functions that are always tested."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from conformance.adapters import registry
from conformance.adapters.contract import Function
from conformance.adapters.registry import NEWEST, Installed
from conformance.api.recipes import setting_of
from conformance.docs.markup import code_html, escaped, table
from conformance.explain.recipes import NoRecipeError, Setting, is_loss_of_samples, recipe_pair
from conformance.model.case import LOSSES, Loss

FRAMEWORKS = ("sklearn", "keras", "torch")
OPTIONS: dict[Loss, tuple[tuple[str, ...], ...]] = {
    "categorical": ((), ("class_weights",)),
    "binary": ((), ("sample_weights",)),
}
"""Options with which each pair of a loss is described."""
AS_IT_IS = "the arguments alone"


@dataclass(frozen=True)
class Entry:
    """A pair of functions in a setting."""

    first: tuple[Installed, Function]
    second: tuple[Installed, Function]
    setting: Setting

    def text(self) -> str:
        """What the first function needs to return what the second does, besides its arguments."""
        try:
            recipes, _ = recipe_pair(self.first, self.second, self.setting)
        except NoRecipeError as error:
            return f"none: {error}"
        return "; ".join(recipes[0].changes) or AS_IT_IS


def functions(loss: Loss) -> list[tuple[Installed, Function]]:
    """The functions of a loss, in their newest release; of those that call the same one, the first."""
    found: dict[str, tuple[Installed, Function]] = {}
    for framework in registry.frameworks():
        if framework.name in FRAMEWORKS:
            for function in registry.functions_in(framework, NEWEST):
                if loss in function.ranks and is_loss_of_samples(function):
                    found.setdefault(
                        function.path, (Installed(framework, NEWEST, backend=framework.backend({})), function)
                    )
    return list(found.values())


def entries(loss: Loss) -> Iterator[list[Entry]]:
    """Every pair of functions of a loss, in each order, with each of its `OPTIONS`."""
    for second in functions(loss):
        for first in functions(loss):
            if first is not second and first[1].path != second[1].path:
                yield [
                    Entry(first, second, setting_of((first, second), options, loss=loss)) for options in OPTIONS[loss]
                ]


def recipe_tables() -> str:
    """What each function needs to return what another does, as Markdown."""
    parts = []
    for loss in LOSSES:
        header = ("to return what", "this function", *(", ".join(options) or "no options" for options in OPTIONS[loss]))
        lines = []
        for row in entries(loss):
            names = [f"[{code_html(of.name)}]({of.documentation})" for _, of in (row[0].second, row[0].first)]
            lines.append([f"{names[0]} does", names[1], *(escaped(one.text()) for one in row)])
        parts.append(f"## {loss.capitalize()} losses\n\n{table(header, lines)}")
    return "\n".join(parts)

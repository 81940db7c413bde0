"""The code that makes one function equal another, proved on the cases before it is returned."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from conformance.adapters import registry
from conformance.adapters.contract import Function
from conformance.adapters.registry import Installed
from conformance.api.cases import check_functions
from conformance.api.result import Result
from conformance.execution.targets import judge_of
from conformance.explain.proof import Proof, as_they_stand, cases_of, prove
from conformance.explain.recipes import NoRecipeError, Recipe, Setting, is_loss_of_samples, recipe_pair
from conformance.judging.case_set import load_suite
from conformance.judging.choice import one_of
from conformance.judging.judge import Assessment, Judge
from conformance.judging.selection import SelectionError
from conformance.model.case import (
    DTYPES,
    INPUT_KINDS,
    LOSSES,
    OPTIONS,
    REDUCTIONS,
    Case,
    InputKind,
    Loss,
    Problem,
    Reduction,
)  # fmt: skip
from conformance.model.meanings import meaning

TARGETS: dict[Loss, tuple[str, ...]] = {
    "categorical": ("index", "one_hot", "distribution", "multi_hot"),
    "binary": ("binary", "soft_binary"),
}
"""Kinds of target of each loss, the commonest first."""


FunctionPair = tuple[tuple[Installed, Function], tuple[Installed, Function]]


@dataclass(frozen=True)
class RecipeSide:
    """One of the two functions of a recipe."""

    function: str
    version: str
    code: str
    """Source; its last line is the loss.  It is what was executed, with numbers of a case for single numbers."""
    changes: tuple[str, ...]
    """What it does beside the call."""
    arguments: dict[str, str | None]
    """Option, kind of input and reduction -> argument of the function; "" if it needs none, None if it has none."""
    arrays: tuple[tuple[str, str, tuple[int, ...]], ...]
    """The arrays of the code: name, dtype and shape in a case."""


@dataclass(frozen=True, eq=False)
class RecipeResult(Result):
    """The code that makes two functions equal, and what remains."""

    command = "recipe"
    setting: Setting
    """What is computed."""
    first: RecipeSide | None
    """None if no code makes the functions equal."""
    second: RecipeSide | None
    differences: tuple[tuple[str, str, str], ...]
    """Choices in which the functions differ as they stand: the field, and what each of them does."""
    plain: tuple[str, ...]
    """A case, and what each function returns for it without the recipe; empty if one of them cannot be called so."""
    proof: Proof
    """The cases in which they are equal, and those in which they are not."""
    why: str
    """Why there is no recipe; empty if there is one."""

    @property
    def equal(self) -> bool:
        """Whether there is a recipe that holds."""
        return self.proof.holds

    def to_dict(self) -> dict[str, Any]:
        return {
            "setting": dataclasses.asdict(self.setting),
            "first": None if self.first is None else dataclasses.asdict(self.first),
            "second": None if self.second is None else dataclasses.asdict(self.second),
            "differences": [list(one) for one in self.differences],
            "plain": list(self.plain),
            "proof": dataclasses.asdict(self.proof),
            "why": self.why,
        }


def recipe(
    first: str,
    second: str,
    *,
    options: Sequence[str] = (),
    reduction: str = "mean",
    dtype: str = "float32",
    kind: str = "",
    target: str = "",
    loss: str = "",
    cases: Path | None = None,
) -> RecipeResult:
    """Return the code that makes one function equal another, proved on the cases.

    Parameters
    ----------
    first, second : str
        Names of installed functions.  The first is made to return what the second does.
    options : sequence of {"class_weights", "sample_weights", "positive_weight", "label_smoothing", "ignore_index"}
        What is set.
    reduction : {"mean", "sum", "none"}
    dtype : str
        Of the predictions.
    kind : {"", "logits", "probabilities", "log_probabilities"}
        What the predictions are; what both functions take, or the second, if empty.
    target : {"", "index", "one_hot", "distribution", "multi_hot", "binary", "soft_binary"}
        What the labels are; what both functions take, or the second, if empty.
    loss : {"", "categorical", "binary"}
        What both functions compute if empty.
    cases : Path, optional
        Folder of case files, or one file, on which it is proved; the shipped cases if None.

    Returns
    -------
    RecipeResult
        Also if no code makes them equal; it says why.

    Raises
    ------
    SelectionError
        If a function does not exist or is not installed, both are the same, no problem can be put to both, or an option
        is none.
    """
    available = registry.installed(registry.frameworks())[0]
    check_functions((first, second), available, "recipe")
    if first == second:
        raise SelectionError(f"recipe {first} {second}: a function equals itself; name two")
    pair = (_find(first, available), _find(second, available))
    setting = setting_of(pair, options, reduction, dtype, kind, target, loss)
    found, ledger = load_suite(cases)
    with judge_of(available, ledger) as judge:
        return proved(pair, setting, list(cases_of(found, setting)), judge)


def _find(name: str, available: Sequence[Installed]) -> tuple[Installed, Function]:
    return next((one, function) for one in available for function in one.functions if function.name == name)


def setting_of(
    pair: FunctionPair,
    options: Sequence[str] = (),
    reduction: str = "mean",
    dtype: str = "float32",
    kind: str = "",
    target: str = "",
    loss: str = "",
) -> Setting:
    """What is computed, with a choice for what is empty; see `recipe`."""
    functions = [function for _, function in pair]
    names = " ".join(function.name for function in functions)
    for name in options:
        one_of("--option", name, OPTIONS)
    shared = [name for name in LOSSES if all(name in function.ranks for function in functions)]
    if loss:
        shared = [one for one in shared if one == one_of("--loss", loss, LOSSES)]
    if not shared:
        computed = " and ".join(f"{one.name} computes {' and '.join(one.ranks)} losses" for one in functions)
        raise SelectionError(f"recipe {names}: no problem can be put to both: {computed}")
    for function in functions:
        if not is_loss_of_samples(function):
            raise SelectionError(f"recipe {names}: {function.name} returns no loss of predictions as they are")
    of = shared[0]
    kinds = [one for one in INPUT_KINDS if one in functions[1].input_kinds]
    both = [one for one in kinds if one in functions[0].input_kinds]
    targets = [one for one in TARGETS[of] if one in functions[1].targets]
    same = [one for one in targets if one in functions[0].targets]
    chosen = target and one_of("--target", target, TARGETS[of])
    return Setting(
        of,
        cast(InputKind, one_of("--kind", kind, INPUT_KINDS) if kind else (both or kinds)[0]),
        chosen or (same or targets)[0],
        tuple(name for name in OPTIONS if name in options),
        cast(Reduction, one_of("--reduction", reduction, REDUCTIONS)),
        one_of("--dtype", dtype, DTYPES),
        any(one.convention.binary_outputs != "each" for function in functions for one in function.conventions),
    )


def proved(pair: FunctionPair, setting: Setting, cases: list[tuple[Case, Problem]], judge: Judge) -> RecipeResult:
    """The recipe for a setting, proved on cases of it."""
    empty = Proof((), 0, 0.0, 0.0, (), (), ())
    try:
        recipes, reference = recipe_pair(pair[0], pair[1], setting)
    except NoRecipeError as error:
        return RecipeResult(setting, None, None, (), (), empty, f"{error}{_others(pair, setting)}")
    of = pair[1][0]
    tried = [(one, *prove((pair[0][0], one), (of, reference), cases, judge)) for one in recipes]
    best, proof, equal = max(tried, key=lambda one: (one[1].holds, len(one[1].equal)))
    why = ""
    if proof.refuted:
        why = f"the code that follows from what they document is wrong in {proof.refuted[0]}"
    elif not equal:
        why = "in no case do they return the same" if proof.remaining else "no case can be put to both"
    sides: list[RecipeSide | None] = [None, None]
    if proof.holds:
        example = equal[0]
        sides = [
            _side(installed, made, assessment, setting)
            for (installed, _), made, assessment in zip(
                pair, (best, reference), (example.first, example.second), strict=True
            )
        ]
    return RecipeResult(
        setting,
        sides[0],
        sides[1],
        _differences(pair, setting),
        as_they_stand(pair, equal, judge),
        proof,
        why,
    )


def _others(pair: FunctionPair, setting: Setting) -> str:
    """Other functions of the first one's framework for which there may be a recipe, as the end of a sentence."""
    installed, refused = pair[0]
    found = []
    for function in installed.functions:
        if function not in (refused, pair[1][1]) and setting.loss in function.ranks and is_loss_of_samples(function):
            with contextlib.suppress(NoRecipeError):
                recipe_pair((installed, function), pair[1], setting)
                found.append(function.name)
    return f"; try {' or '.join(found)}" if found else ""


def _arguments(function: Function, setting: Setting) -> dict[str, str | None]:
    arguments: dict[str, str | None] = {
        setting.input_kind: function.input_kinds.get(setting.input_kind),
        setting.reduction: function.reductions.get(setting.reduction),
    }
    return arguments | {name: function.arguments.get(name) for name in OPTIONS}


def _side(installed: Installed, made: Recipe, assessment: Assessment, setting: Setting) -> RecipeSide:
    function = next(one for one in installed.functions if one.name == made.function.name)
    call = assessment.prepared.call
    imports = installed.framework.preamble(installed.backend)
    return RecipeSide(
        function.name,
        installed.version,
        "\n".join(filter(None, [imports.replace("; ", "\n"), call.text])),
        made.changes,
        _arguments(function, setting),
        tuple((name, tensor.values.dtype.name, tensor.values.shape) for name, tensor in call.arrays.items()),
    )


def _differences(pair: FunctionPair, setting: Setting) -> tuple[tuple[str, str, str], ...]:
    """Choices with an effect in this setting in which two functions differ, in words."""
    conventions = []
    for installed, function in pair:
        target = function.target_as(setting.target) or setting.target
        found = registry.convention_for(function, installed.version, target, installed.backend).convention
        if function.input_kind_for(setting.input_kind) != "probabilities":
            found = dataclasses.replace(found, clip=None, renormalise="no", log_floor=None)
        conventions.append(found)
    first, second = conventions
    weighted = {"class_weights", "sample_weights", "ignore_index"} & set(setting.options)
    fields = ["mean_divides_by"] if weighted and setting.reduction == "mean" else []
    fields += ["clip", "renormalise", "log_floor"]
    fields += ["binary_outputs"] if setting.loss == "binary" else []
    fields += ["default_ignore_index"] if setting.target == "index" and "ignore_index" not in setting.options else []
    return tuple(
        (name, meaning(name, getattr(first, name)), meaning(name, getattr(second, name)))
        for name in fields
        if getattr(first, name) != getattr(second, name)
    )


__all__ = ["RecipeResult", "RecipeSide", "recipe"]

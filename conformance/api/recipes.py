"""Code that makes one function equal another, proved on the cases before it is returned."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict, Unpack, cast

from conformance.adapters import registry
from conformance.adapters.contract.lowering import Call
from conformance.adapters.contract.source import join_lines
from conformance.adapters.libraries import pinned_installations
from conformance.adapters.registry import Installed
from conformance.api.base import Result
from conformance.api.cases import check_functions
from conformance.casefiles.known_issues import Ledger
from conformance.execution.targets import open_judge
from conformance.explain.proof import Proof, both_support, call_of, cases_of, prove, values_without_recipe
from conformance.explain.recipes import UNUSUAL_LAYOUTS, InstalledFunction, NoRecipeError, Setting, derive_recipes
from conformance.judging.case_set import load_case_set
from conformance.judging.choice import check_choice
from conformance.judging.judge import Judge
from conformance.judging.plan import Item, check_modes, chosen_modes
from conformance.judging.selection import SelectionError
from conformance.model.case import (
    DTYPES,
    INPUT_KINDS,
    LABEL_DTYPES,
    LOSSES,
    OPTIONS,
    REDUCTIONS,
    WEIGHT_DTYPES,
    Case,
    InputKind,
    Loss,
    Problem,
    Quantity,
    Reduction,
)  # fmt: skip
from conformance.model.convention import Divisor
from conformance.model.meanings import meaning

PREFERRED_TARGETS: dict[Loss, tuple[str, ...]] = {
    "categorical": ("index", "one_hot", "distribution", "multi_hot"),
    "binary": ("binary", "soft_binary"),
}
"""Kinds of target of each loss, the commonest first."""


FunctionPair = tuple[InstalledFunction, InstalledFunction]

NOT_PROVED = Proof()


@dataclass(frozen=True)
class RecipeSide:
    """One of the two functions of a recipe."""

    function: str
    version: str
    code: str
    """Source whose last line is the loss.  It was executed, except that scalars are shown as numbers of a case."""
    changes: tuple[str, ...]
    """Steps in addition to the call."""
    arguments: dict[str, str | None]
    """Option, input kind and reduction -> argument of the function; "" if it needs none, None if it has none."""
    arrays: tuple[tuple[str, str, tuple[int, ...]], ...]
    """The arrays in the code: name, dtype and shape in a case."""


@dataclass(frozen=True, eq=False)
class RecipeResult(Result):
    """Code that makes two functions equal, and the remaining differences."""

    command = "recipe"
    setting: Setting
    """The loss to compute."""
    first: RecipeSide | None = None
    """Code that calls the first function; None if no code makes the functions equal."""
    second: RecipeSide | None = None
    """Code that calls the second function; None if no code makes the functions equal."""
    differences: tuple[tuple[str, str, str], ...] = ()
    """Choices in which the unmodified functions differ: the field, and what each of them does."""
    plain: tuple[str, ...] = ()
    """A case, and the result of each function without the recipe; empty if one of them cannot be called this way."""
    proof: Proof = NOT_PROVED
    """The cases in which they are equal, and those in which they are not."""
    why: str = ""
    """Why there is no recipe; empty if there is one."""
    needed: tuple[str, ...] = ()
    """Requirements of an environment in which it can be proved; empty if both functions are installed."""
    known: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    """For an unproved recipe, the known issues: the function, the reason with its link, and
    the cases of the setting.
    """

    @property
    def equal(self) -> bool:
        """Whether there is a recipe that holds."""
        return self.proof.holds

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class RecipeRequest(TypedDict, total=False):
    """The request for a recipe; the keys are keyword arguments of `recipe`, which documents them.

    An empty text is equivalent to an absent key.
    """

    options: Sequence[str]
    reduction: str
    dtype: str
    kind: str
    target: str
    loss: str
    quantity: str
    layout: Sequence[str]
    label_dtype: str
    weight_dtype: str


def recipe(
    first: str,
    second: str,
    *,
    modes: Sequence[str] = (),
    cases: Path | None = None,
    **request: Unpack[RecipeRequest],
) -> RecipeResult:
    """Return the code that makes one function equal another, proved on the cases.

    Parameters
    ----------
    first, second : str
        Names of functions.  The recipe makes the first return what the second returns.  If one is not installed, the
        recipe is that for its pinned release, and is not proved.
    options : sequence of {"class_weights", "sample_weights", "positive_weight", "label_smoothing", "ignore_index"}
        Options that are set.
    reduction : {"mean", "sum", "none"}
        Reduction of the losses; mean by default.
    dtype : str
        dtype of the predictions; float32 by default.
    kind : {"", "logits", "probabilities", "log_probabilities"}
        Kind of the predictions; by default one that both functions accept, or else the second.
    target : {"", "index", "one_hot", "distribution", "multi_hot", "binary", "soft_binary"}
        Kind of the labels; by default one that both functions accept, or else the second.
    loss : {"", "categorical", "binary"}
        Loss to compute; by default one that both functions compute.
    quantity : {"loss", "gradient"}
        What to compute: the loss, which is the default, or its gradient with respect to the predictions.
    layout : sequence of {"class_axis", "class_names", "unbatched", "leading_weights"}
        Unusual properties of the arrays: the classes on a stated axis, labels that are class names, a single sample
        without a batch axis, sample weights with only the leading axes of the samples.
    label_dtype : str
        dtype of the labels; the usual one of each function by default.
    weight_dtype : str
        dtype of all weights; that of the predictions by default.
    modes : sequence of str
        Modes of the calls, such as compile, jit or graph; each function is called in the first that its framework has,
        or else eagerly.
    cases : Path, optional
        Folder of case files, or one file, to prove it on; the shipped cases if None.

    Returns
    -------
    RecipeResult
        Also if no code makes them equal; `why` gives the reason.

    Raises
    ------
    SelectionError
        If a function does not exist, both are the same, no problem fits both, or an option is invalid.
    """
    available = registry.installed(registry.frameworks())[0]
    known = {function.name for function in registry.functions()}
    check_functions([name for name in (first, second) if name not in known], available, "recipe")
    if first == second:
        raise SelectionError(f"recipe {first} {second}: a function equals itself; name two")
    pair = (_find_function(first, available), _find_function(second, available))
    check_modes(modes, [(function.installed.framework, function.installed.backend) for function in pair])
    pair = (_switch_mode(pair[0], modes), _switch_mode(pair[1], modes))
    setting = setting_of(pair, **request)
    case_set = load_case_set(cases)
    if any(function.installed.framework not in [installed.framework for installed in available] for function in pair):
        return _write_unproved_recipe(pair, setting, list(cases_of(case_set.cases, setting)), case_set.ledger)
    with open_judge([function.installed for function in pair], case_set.ledger) as judge:
        return prove_recipe(pair, setting, list(cases_of(case_set.cases, setting)), judge)


def _find_function(name: str, available: Sequence[Installed]) -> InstalledFunction:
    """A function as installed, or else in its pinned release."""
    frameworks = (framework for framework in registry.frameworks() if name.startswith(f"{framework.name}."))
    pinned_ones = (installed for framework in frameworks for installed in islice(pinned_installations(framework), 1))
    for installed in itertools.chain(available, pinned_ones):
        for function in installed.functions:
            if function.name == name:
                return InstalledFunction(installed, function)
    raise SelectionError(f"recipe {name}: it is not installed, and no release that has it is pinned")


def _switch_mode(function: InstalledFunction, modes: Sequence[str]) -> InstalledFunction:
    """A function in the first of these modes that it has, or else unchanged."""
    for mode in chosen_modes(modes, function.installed.framework, function.installed.backend) if modes else ():
        moved = dataclasses.replace(function.installed, mode=mode)
        if function.function.has_mode(mode):
            return _find_function(function.function.name, [moved])
    return function


def setting_of(pair: FunctionPair, **request: Unpack[RecipeRequest]) -> Setting:
    """The loss to compute, with a default for each option that is not set; see `recipe`."""
    functions = [function.function for function in pair]
    names = " ".join(function.name for function in functions)
    options, loss = request.get("options", ()), request.get("loss", "")
    kind, target = request.get("kind", ""), request.get("target", "")
    for name in options:
        check_choice("--option", name, OPTIONS)
    shared = [name for name in LOSSES if all(name in function.ranks for function in functions)]
    if loss:
        shared = [loss_ for loss_ in shared if loss_ == check_choice("--loss", loss, LOSSES)]
    if not shared:
        computed = " and ".join(
            f"{function.name} computes {' and '.join(function.ranks)} losses" for function in functions
        )
        raise SelectionError(f"recipe {names}: no problem fits both: {computed}")
    for member in pair:
        if not member.may_have_recipe:
            raise SelectionError(f"recipe {names}: {member.function.name} returns no loss of predictions as they are")
    common_loss = shared[0]

    def taken(names: Iterable[str], table: str) -> str:
        """The first name that both functions accept, or else the second one."""
        first, second = ([name for name in names if name in getattr(function, table)] for function in functions)
        return next((name for name in second if name in first), second[0])

    return Setting(
        common_loss,
        cast(InputKind, check_choice("--kind", kind, INPUT_KINDS) if kind else taken(INPUT_KINDS, "input_kinds")),
        check_choice("--target", target, PREFERRED_TARGETS[common_loss])
        if target
        else taken(PREFERRED_TARGETS[common_loss], "targets"),
        tuple(name for name in OPTIONS if name in options),
        cast(Reduction, check_choice("--reduction", request.get("reduction") or "mean", REDUCTIONS)),
        check_choice("--dtype", request.get("dtype") or "float32", DTYPES),
        all(2 in function.ranks[common_loss] for function in functions)
        and any(
            documented.convention.binary_outputs != "each"
            for function in functions
            for documented in function.conventions
        ),
        cast(Quantity, check_choice("--quantity", request.get("quantity", "loss"), ("loss", "gradient"))),
        tuple(check_choice("--layout", name, UNUSUAL_LAYOUTS) for name in request.get("layout", ())),
        _dtype("--label-dtype", request.get("label_dtype", ""), LABEL_DTYPES),
        _dtype("--weight-dtype", request.get("weight_dtype", ""), WEIGHT_DTYPES),
    )


def _dtype(option: str, name: str, known: Sequence[str]) -> str:
    return name and check_choice(option, name, known)


def _write_unproved_recipe(
    pair: FunctionPair, setting: Setting, cases: Sequence[tuple[Case, Problem]], ledger: Ledger
) -> RecipeResult:
    """The recipe for a setting, written for the first case that both functions support, but not executed."""
    installed = [member.installed for member in pair]
    needed = tuple(f"{one.framework.distributions[0]}=={one.version.partition('+')[0]}" for one in installed)
    try:
        recipes, reference = derive_recipes(*pair, setting)
    except NoRecipeError as error:
        return RecipeResult(setting, why=f"{error}{_others(pair, setting)}", needed=needed)
    both = (recipes[0], reference)
    accepted = [(case, problem) for case, problem in cases if both_support(both, case, problem, setting.quantity)]
    if not accepted:
        return RecipeResult(setting, why="no case fits both", needed=needed)
    first, second = (
        _side(function, call_of(member, accepted[0][1], setting.quantity), member.changes, setting)
        for function, member in zip(pair, both, strict=True)
    )
    known = _list_known_issues(pair, setting, [case for case, _ in accepted], ledger)
    return RecipeResult(setting, first, second, _differences(pair, setting), needed=needed, known=known)


def _list_known_issues(
    pair: FunctionPair, setting: Setting, cases: Iterable[Case], ledger: Ledger
) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """The known issues of two functions on the cases of a setting, as in `RecipeResult.known`."""
    case_ids: dict[tuple[str, str], list[str]] = {}
    for function, case in itertools.product(pair, cases):
        item = Item(function.installed, function.function, case, setting.dtype, setting.reduction, setting.quantity)
        if (entry := ledger.find(item.key)) is not None:
            case_ids.setdefault((function.function.name, entry.summary), []).append(case.id)
    return tuple(
        (*wrong, tuple(ids))
        for wrong, ids in sorted(case_ids.items(), key=lambda entry_and_ids: -len(entry_and_ids[1]))
    )


def prove_recipe(pair: FunctionPair, setting: Setting, cases: list[tuple[Case, Problem]], judge: Judge) -> RecipeResult:
    """The recipe for a setting, proved on its cases."""
    try:
        recipes, reference = derive_recipes(*pair, setting)
    except NoRecipeError as error:
        return RecipeResult(setting, why=f"{error}{_others(pair, setting)}")
    tried = [(candidate, *prove(candidate, reference, cases, setting.quantity, judge)) for candidate in recipes]
    best, proof, equal = max(tried, key=lambda attempt: (attempt[1].holds, len(attempt[1].equal)))
    why = ""
    if proof.refuted:
        why = f"the code that follows from what they document is wrong in {proof.refuted[0]}"
    elif not equal:
        why = "in no case do they return the same" if proof.remaining else "no case fits both"
    sides: list[RecipeSide | None] = [None, None]
    if proof.holds:
        examples = (equal[0].first, equal[0].second)
        calls = [example.prepared.call for example in examples]
        sides = [_side(*side, setting) for side in zip(pair, calls, (best.changes, reference.changes), strict=True)]
    return RecipeResult(
        setting, sides[0], sides[1], _differences(pair, setting), values_without_recipe(pair, equal, judge), proof, why
    )


def _others(pair: FunctionPair, setting: Setting) -> str:
    """Other functions of the first one's framework for which there may be a recipe, as the end of a sentence."""
    alternatives = []
    for function in pair[0].installed.functions:
        candidate = InstalledFunction(pair[0].installed, function)
        if candidate not in pair and setting.loss in function.ranks and candidate.may_have_recipe:
            with contextlib.suppress(NoRecipeError):
                derive_recipes(candidate, pair[1], setting)
                alternatives.append(function.name)
    return f"; try {' or '.join(alternatives)}" if alternatives else ""


def _side(side: InstalledFunction, call: Call, changes: tuple[str, ...], setting: Setting) -> RecipeSide:
    function, installed = side.function, side.installed
    arguments: dict[str, str | None] = {
        setting.input_kind: function.input_kinds.get(setting.input_kind),
        setting.reduction: function.reductions.get(setting.reduction),
    }
    imports = installed.framework.preamble(installed.backend)
    return RecipeSide(
        function.name,
        installed.version,
        join_lines(imports.replace("; ", "\n"), call.text),
        changes,
        arguments | {name: function.arguments.get(name) for name in OPTIONS},
        tuple((name, tensor.values.dtype.name, tensor.values.shape) for name, tensor in call.arrays.items()),
    )


def _differences(pair: FunctionPair, setting: Setting) -> tuple[tuple[str, str, str], ...]:
    """Choices that matter in this setting and in which two functions differ, in words."""
    conventions = []
    for function in pair:
        convention = function.convention(function.function.target_kind_for(setting.target) or setting.target)
        if function.function.input_kind_for(setting.input_kind) != "probabilities":
            convention = dataclasses.replace(convention, clip=None, renormalise="no", log_offset=None, log_floor=None)
        conventions.append(
            dataclasses.replace(convention, mean_divides_by=_divisor(convention.mean_divides_by, setting))
        )
    first, second = conventions
    fields = ["mean_divides_by"] if setting.reduction == "mean" else []
    fields += ["clip", "renormalise", "log_offset", "log_floor"]
    fields += ["class_columns"] if "class_names" in setting.layout else []
    fields += ["gradient_cancellation", "gradient_total"] if setting.quantity != "loss" else []
    fields += ["binary_outputs"] if setting.loss == "binary" else []
    fields += ["default_ignore_index"] if setting.target == "index" and "ignore_index" not in setting.options else []
    return tuple(
        (name, meaning(name, getattr(first, name)), meaning(name, getattr(second, name)))
        for name in fields
        if getattr(first, name) != getattr(second, name)
    )


def _divisor(chosen: Divisor, setting: Setting) -> Divisor:
    """The divisor of a mean; "weight" if that is the same number in every problem of a setting."""
    options = set(setting.options)
    equivalent: set[Divisor] = {"target_weight"} if setting.target in ("index", "one_hot") else set()
    if "label_smoothing" not in options:
        equivalent.add("label_weight")
    if "class_weights" not in options:
        equivalent.add("sample_weight")
        if "sample_weights" not in options:
            equivalent |= {"kept", "samples"} if "ignore_index" not in options else {"kept"}
    return "weight" if chosen in equivalent else chosen

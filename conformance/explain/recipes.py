"""Recipes: source that makes one function return what another one documents.

A recipe is derived from what two functions declare, and is itself a `Function`: the same tables and the same call,
with statements before and after it, and with the convention of the other function.  So it is lowered, called and
judged like any function, and what is printed is what ran.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from conformance.adapters import registry
from conformance.adapters.contract import Function
from conformance.adapters.contract.framework import DocumentedConvention
from conformance.adapters.contract.source import render_argument
from conformance.adapters.registry import Installed
from conformance.model.case import InputKind, Loss, Reduction
from conformance.model.convention import Convention, Divisor
from conformance.reference.conversion import HANDED, NAMES
from conformance.reference.domain import dtype_info

PASSED = ("class_axis", "labels_column", "dtype", "target")
"""Derived words whose arguments are passed as in any call; that of the classes is an expression of the predictions."""


class NoRecipeError(Exception):
    """No code makes a function compute what is wanted; the message says why."""


@dataclass(frozen=True)
class Setting:
    """What is computed: the arrays that a user has, and the options."""

    loss: Loss
    input_kind: InputKind
    target: str
    """As `Problem.target_kind`."""
    options: tuple[str, ...]
    """Options that are set, in the order of `OPTIONS`."""
    reduction: Reduction
    dtype: str
    rows: bool = False
    """Whether predictions of a binary loss are [N, K], with K outputs for each sample."""


@dataclass(frozen=True)
class InstalledFunction:
    """A function in the release, backend and mode that is installed."""

    installed: Installed
    function: Function

    def convention(self, target: str) -> Convention:
        """What it documents for a kind of target that it is passed."""
        of = self.installed
        return registry.convention_for(self.function, of.version, target, of.backend).convention

    @property
    def is_loss_of_samples(self) -> bool:
        """Whether it takes predictions, and returns losses that each depend on their own sample."""
        return self.function.is_by_sample and not self.function.has_head


@dataclass(frozen=True)
class Recipe(InstalledFunction):
    """A function with what stands before and after its call; it declares the convention that it follows."""

    input_kind: InputKind
    """Kind of input that this convention is about."""
    changes: tuple[str, ...]
    """What is done beside the call, as sentences without a full stop."""


def derive_recipes(
    first: InstalledFunction, second: InstalledFunction, setting: Setting
) -> tuple[list[Recipe], Recipe]:
    """Recipes that make the first function follow the convention of the second, and that of the second itself.

    Each of the former hands the function another kind of input, the one that needs least first.  Raises
    NoRecipeError.
    """
    goal, goal_kind = second.convention(_passed_target(second.function, setting)), _kinds(second, setting)[0]
    if goal_kind != "probabilities":
        goal = dataclasses.replace(goal, clip=None, renormalise="no")
    reference = _Draft(second, setting, goal, goal_kind).recipe()
    found, refused = [], NoRecipeError("")
    for kind in _kinds(first, setting):
        try:
            found.append(_Draft(first, setting, goal, kind).recipe())
        except NoRecipeError as error:
            refused = error
    if not found:
        raise refused
    return found, reference


def _kinds(of: InstalledFunction, setting: Setting) -> list[InputKind]:
    """Kinds of input that a function takes, that of the setting first."""
    return sorted(of.function.input_kinds, key=lambda kind: kind != setting.input_kind)


def _smooths_itself(function: Function, setting: Setting) -> bool:
    """Whether a function smooths the targets, if they are smoothed; class weights that it lacks need smoothed ones."""
    options = frozenset(setting.options)
    return "label_smoothing" not in options or {"label_smoothing", *({"class_weights"} & options)} <= function.options


def _passed_target(function: Function, setting: Setting) -> str:
    """The kind of target that a function is passed; raises NoRecipeError."""
    soft = "soft_binary" if setting.loss == "binary" else "distribution"
    if not _smooths_itself(function, setting):
        if soft not in function.targets:
            raise NoRecipeError(f"{function.name} takes neither label_smoothing nor targets that are smoothed before")
        return soft
    target = function.target_as(setting.target)
    if target is None:
        raise NoRecipeError(f"{function.name} takes no {setting.target} targets")
    return target


@dataclass
class _Draft:
    """Writes the recipe of a function, statement by statement."""

    of: InstalledFunction
    setting: Setting
    goal: Convention
    """What is followed; its clip and its division by sums are about probabilities."""
    kind: InputKind
    """What the function is passed."""
    lines: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    routes: dict[str, Route] = field(default_factory=dict)
    """Option -> how it reaches the function."""
    weights: dict[str, str] = field(default_factory=dict)
    """Option that is a factor -> the factor."""
    clipped: bool = False

    def __post_init__(self) -> None:
        self.function = self.of.function
        self.options = self.setting.options
        self.binary = self.setting.loss == "binary"
        self.axis = -1 if self.binary else self.function.class_axis
        self.smooths = _smooths_itself(self.function, self.setting)
        self.target = _passed_target(self.function, self.setting)
        self.own = self.of.convention(self.target)
        self.is_index = self.setting.target == "index"
        self.weighs = "sample_weights" in self.function.options
        self.averages = self.binary and self.own.binary_outputs == "mean_of_last_axis"
        self.separates = self.averages and self.goal.binary_outputs == "each"
        self.spreads_weights = self.separates or self.function.sample_weight_shape == "per_loss"

    def recipe(self) -> Recipe:
        """The recipe; raises NoRecipeError."""
        predictions = self._predictions()
        self._choose_routes()
        labels = self._labels()
        if self.separates:
            predictions, labels = (self.op("last_axis", one) for one in (predictions, labels))
            self.changes.append("each output is a row of its own")
        expression, argument = self._reduced()
        text = self.function.call.strip()
        for name, route in self.routes.items():
            if route.by == "argument":
                text = text.replace(f"{{{name}}}", f"{{{name}:passed}}")
        text = text.replace("{predictions}", predictions).replace("{labels}", labels)
        argument = ", ".join(filter(None, (self.function.input_kinds[self.kind], argument)))
        text = text.replace("{options}", f"{argument}, {{options}}" if argument else "{options}")
        scalars = [f"{name} = {{{name}}}" for name in ("label_smoothing", "ignore_index") if name in self.options]
        result = expression.replace("{losses}", f"({text})" if "\n" in text else text)
        lines = [*scalars, *self.lines, result]
        modules = {"np.": "import numpy as np", "scipy.": "import scipy.special"}
        imports = [line for name, line in modules.items() if any(name in one for one in lines)]
        function = dataclasses.replace(
            self.function,
            call="\n".join([*imports, *lines]),
            input_kinds={self.setting.input_kind: ""},
            targets={self.setting.target: self.function.targets.get(self.setting.target, "")},
            arguments=self._arguments("\n".join(lines)),
            reductions={self.setting.reduction: ""},
            sample_weight_shape="as_stated",
            label_column=self.function.label_column and not self.changes,
            conventions=(DocumentedConvention(self._convention()),),
            changes=(),
        )
        kind = "probabilities" if self.clipped else self.kind
        return Recipe(self.of.installed, function, kind, tuple(self.changes))

    def takes(self, *options: str) -> bool:
        """Whether the function has arguments for these options, as far as they are set."""
        return {*options} & {*self.options} <= self.function.options

    def op(self, name: str, *values: str) -> str:
        """The source of an operation on arrays; raises NoRecipeError."""
        installed = self.of.installed
        operations = installed.framework.arrays_of(installed.backend).operations
        if name not in operations:
            raise NoRecipeError(f"{self.function.name}: its arrays have no {name} that is known here")
        return operations[name].format(*values, axis=self.axis, dtype=self.setting.dtype)

    def _write(self, name: str, value: str, change: str = "") -> str:
        """Assign a value to a name, which is returned.  change: what that does, in words."""
        self.lines.append(f"{name} = {value}")
        self.changes += [change] if change else []
        return name

    def _arguments(self, text: str) -> dict[str, str]:
        """The table of arguments of source: options by their names, derived words as in any call."""
        arguments = self.function.arguments
        table = {name: arguments[name] for name in PASSED if name in arguments}
        if "classes" in arguments:
            number = "2" if self.binary else f"predictions.shape[{self.axis}]"
            table["classes"] = arguments["classes"].replace("{}", number)
        for name in self.options:
            if f"{{{name}}}" in text:
                table[name] = "{}"
            if self.routes[name].by == "argument":
                table[f"{name}:passed"] = render_argument(arguments[name], name)
        return table

    def _predictions(self) -> str:
        """The predictions as the function takes them."""
        kind, given = self.kind, self.setting.input_kind
        name = "predictions"
        takes_all = self.own.clip is None and self.own.renormalise == "no"
        if (self.goal.clip is not None or self.goal.renormalise != "no") and (kind != "probabilities" or takes_all):
            name = self._clip(self._converted(given, "probabilities", name))
            given = "probabilities"
        return self._converted(given, kind, name)

    def _converted(self, given: InputKind, kind: InputKind, name: str) -> str:
        if given == kind:
            return name
        conversion = NAMES[self.setting.loss, given, kind]
        self.changes.append(f"it is passed {HANDED[conversion]}")
        return name if conversion == "as logits" else self._write(kind, self.op(conversion, name))

    def _clip(self, name: str) -> str:
        convention = self.goal
        steps = []
        if convention.clip is not None:
            epsilon = dtype_info(self.setting.dtype).epsilon if convention.clip == "dtype" else convention.clip
            steps.append(self.op("clip", "{0}", f"{epsilon!r}", f"1 - {epsilon!r}"))
            self.changes.append(f"probabilities are clipped to [{epsilon:g}, 1 - {epsilon:g}]")
        if convention.renormalise != "no" and not self.binary:
            at = 0 if convention.renormalise == "before_clip" else len(steps)
            steps.insert(at, self.op("normalised", "{0}"))
            self.changes.append("rows of probabilities are divided by their sums")
        for step in steps:
            name = self._write("probabilities", step.format(name))
        self.clipped = bool(steps)
        return name

    def _choose_routes(self) -> None:
        """Find the way of each option, and write what factors need."""
        for name in dict.fromkeys(route.option for route in ROUTES if route.option in self.options):
            route = next(one for one in ROUTES if one.option == name and one.when(self))
            if route.by == "refused":
                raise NoRecipeError(f"{self.function.name} {route.why}")
            self.routes[name] = route
            if route.by == "weight":
                if name == "ignore_index":
                    self._write("kept", "labels != ignore_index")
                    self._write("classes", self.op("where", "kept", "labels", "0"))
                self.weights[name] = FACTORS[name](self)
                self.changes += [route.why] if route.why else []

    @property
    def classes(self) -> str:
        """The class of each sample, by which arrays can be indexed."""
        if not self.is_index:
            return self.op("argmax", "labels")
        return "classes" if "ignore_index" in self.weights else "labels"

    def _in_targets(self, option: str) -> bool:
        return option in self.routes and self.routes[option].by == "target"

    def _labels(self) -> str:
        """The targets as the function takes them."""
        name, given = "labels", self.setting.target
        if given == "index":
            name = self.classes
            if self.target != "index":
                name = self._write("targets", self.op("one_hot", name), "labels become one-hot rows")
        elif given == "one_hot" and self.target == "index":
            name = self._write("targets", self.op("argmax", name), "one-hot rows become labels")
        if self._in_targets("label_smoothing"):
            name = self._write("targets", self._smoothed(name), "targets are smoothed before")
        if self._in_targets("class_weights"):
            change = "targets are multiplied by the class weights"
            name = self._write("targets", f"{name} * {{class_weights}}", change)
        return name

    def _smoothed(self, targets: str) -> str:
        number = "2" if self.binary else f"predictions.shape[{self.axis}]"
        return f"(1 - label_smoothing) * {targets} + label_smoothing / {number}"

    def _reduced(self) -> tuple[str, str]:
        """The expression of the result, in which `{losses}` is the call, and the argument of its reduction."""
        reduction, product = self.setting.reduction, self._product()
        outside = bool(product) and not self.weighs
        if product and self.weighs:
            self._pass_weights(product)
        averaging = self.goal.binary_outputs == "mean_of_last_axis" and self.binary
        divisor = self._divisor(self.goal.mean_divides_by, {name: name for name in self.options})
        averages = averaging and not self.averages and not (reduction == "mean" and not divisor)
        same = reduction != "mean" or self._own_divisor() == divisor
        if not outside and same and not averages:
            return self._native(reduction)
        if outside or averages:
            total, argument = self._native("none")
            if outside:
                total = f"{total} * {product}"
            if averages:
                total = self.op("mean_of_last_axis", total)
                self.changes.append("the outputs of the last axis are averaged")
            if reduction != "none":
                total = self.op("sum", total)
        elif "sum" in self.function.reductions:
            total, argument = self._native("sum")
        else:
            total, argument = self._native("none")
            total = self.op("sum", total)
        if reduction == "mean":
            total = f"{total} / {self._divided_by(divisor, averaging and (averages or self.averages))}"
            kind = "sum" if divisor - {"ignore_index"} else "kept" if divisor else "samples"
            self.changes.append(f"the sum is divided by {DIVISOR_WORDS[kind]}")
        return total, argument

    def _native(self, reduction: Reduction) -> tuple[str, str]:
        """A reduction that the function has, as an expression of `{losses}` and an argument."""
        if reduction not in self.function.reductions:
            raise NoRecipeError(f"{self.function.name} has no reduction {reduction}")
        if self.function.appends(reduction):
            return self.function.reductions[reduction].replace("{result}", "{losses}"), ""
        return "{losses}", self.function.reductions[reduction]

    def _product(self) -> str:
        """The product of the weights that have to be multiplied by code; empty if there are none."""
        if self.weights.keys() <= {"sample_weights"}:
            return "".join(self.weights.values())
        return self._write("weights", " * ".join(self.weights.values()))

    def _pass_weights(self, product: str) -> None:
        """Write the product where the function takes the weights of samples."""
        argument = render_argument(self.function.arguments["sample_weights"], product)
        name = "{sample_weights}" if "{sample_weights}" in self.function.call else "{options}"
        passed = argument if name == "{sample_weights}" else f"{argument}, {name}"
        self.function = dataclasses.replace(self.function, call=self.function.call.replace(name, passed))

    def _divisor(self, by: Divisor, roles: Mapping[str, str]) -> frozenset[str]:
        """The options of whose weights a mean divides by the sum; by the number of losses if there are none.

        roles: option -> what it is to whoever divides.
        """
        found = {name for name, role in roles.items() if role in DIVIDES_BY[by]}
        if "class_weights" not in found:
            return frozenset(found - {"label_smoothing"})
        sums = DIVIDES_BY[by] & {"sum of targets"} if self.setting.target in ("distribution", "multi_hot") else set()
        return frozenset(found | sums)

    def _own_divisor(self) -> frozenset[str]:
        """As `_divisor`, of the function's own mean."""
        roles = {name: name for name, route in self.routes.items() if name not in self.weights}
        if self._in_targets("class_weights"):
            del roles["class_weights"]
        return self._divisor(self.own.mean_divides_by, roles | dict.fromkeys(self.weights, "sample_weights"))

    def _divided_by(self, divisor: frozenset[str], per_row: bool) -> str:
        """The divisor of the mean.  per_row: whether the outputs of a row were averaged before."""
        kept = "kept" if "ignore_index" in self.weights else "(labels != ignore_index)"
        if not divisor:
            size = self.op("size", "labels" if self.is_index else "predictions")
            per_row |= not (self.binary or self.is_index)
            return f"({size} / predictions.shape[{self.axis}])" if per_row else size
        if {"ignore_index"} != divisor == self.weights.keys() != {"sample_weights"}:
            return self.op("sum", "weights")
        factors = [self._average_weights(divisor, kept)] if "class_weights" in divisor else []
        factors += ["{sample_weights}"] if "sample_weights" in divisor else []
        factors += [self.op("cast", kept)] if "ignore_index" in divisor else []
        return self.op("sum", " * ".join(factors))

    def _average_weights(self, divisor: frozenset[str], kept: str) -> str:
        """The class weight of each sample, averaged by its targets."""
        if self.setting.target in ("distribution", "multi_hot"):
            raise NoRecipeError("the divisor is an average of the class weights of each row, which no code here writes")
        classes = self.classes
        if "ignore_index" in divisor - self.weights.keys():
            classes = self.op("where", kept, "labels", "0")
        if "label_smoothing" in divisor:
            raise NoRecipeError("the divisor is an average of the class weights of each row, which no code here writes")
        return self.op("take", "{class_weights}", classes)

    def _convention(self) -> Convention:
        """What the recipe follows: the other's choices where code makes them hold, and the function's own elsewhere."""
        goal = self.goal
        changed: dict[str, Any] = {"mean_divides_by": goal.mean_divides_by, "binary_outputs": goal.binary_outputs}
        if self.clipped:
            renormalises = self.kind == "logits" and not self.binary
            after = "after_clip" if renormalises else goal.renormalise
            changed |= {"clip": goal.clip, "renormalise": after, "log_floor": None}
        return dataclasses.replace(self.own, **changed)


@dataclass(frozen=True)
class Route:
    """A way in which an option reaches a function."""

    option: str
    by: Literal["argument", "weight", "target", "refused"]
    """`argument`: the function has one.  `weight`: a factor of the loss of each sample.  `target`: in the targets."""
    when: Callable[[_Draft], bool] = lambda draft: True
    why: str = ""
    """What is done, or why it cannot be done."""


ROUTES = (
    Route("label_smoothing", "argument", lambda draft: draft.smooths),
    Route("label_smoothing", "target"),
    Route("ignore_index", "argument", lambda draft: draft.takes("ignore_index", "class_weights")),
    Route("ignore_index", "weight", lambda draft: draft.is_index, "ignored samples get the weight 0, and class 0"),
    Route("ignore_index", "refused", why="has no ignore_index"),
    Route("class_weights", "refused", lambda draft: draft.binary, "has no classes with weights"),
    Route("class_weights", "argument", lambda draft: draft.takes("class_weights")),
    Route(
        "class_weights",
        "weight",
        lambda draft: draft.smooths and draft.setting.target in ("index", "one_hot"),
        "class weights become weights of samples, those of their labels",
    ),
    Route("class_weights", "target", lambda draft: "invalid_target" in draft.own.accepts),
    Route("class_weights", "refused", why="has no class_weights, and takes no targets multiplied by them"),
    Route("positive_weight", "argument", lambda draft: draft.takes("positive_weight")),
    Route(
        "positive_weight",
        "weight",
        lambda draft: draft.setting.target == "binary",
        "the weight of the positive class becomes a weight of its labels",
    ),
    Route("positive_weight", "refused", why="has no positive_weight, which soft labels need"),
    Route("sample_weights", "weight", lambda draft: draft.setting.rows and draft.spreads_weights),
    Route("sample_weights", "argument", lambda draft: draft.weighs and not draft.weights),
    Route("sample_weights", "weight"),
)
"""The ways of each option, the first that is possible is taken; sample weights are the last, with which others go."""
FACTORS: Mapping[str, Callable[[_Draft], str]] = {
    "ignore_index": lambda draft: draft.op("cast", "kept"),
    "class_weights": lambda draft: draft.op("take", "{class_weights}", draft.classes),
    "positive_weight": lambda draft: "(labels * {positive_weight} + 1 - labels)",
    "sample_weights": lambda draft: "{sample_weights}" + "[:, None]" * (draft.setting.rows and draft.spreads_weights),
}
"""Option -> the weight of each sample that it is."""

_SAMPLES = frozenset({"sample_weights", "ignore_index"})
_LABELS = _SAMPLES | {"class_weights"}
DIVIDES_BY: Mapping[Divisor, frozenset[str]] = {
    "weight": _LABELS | {"label_smoothing"},
    "target_weight": _LABELS | {"label_smoothing", "sum of targets"},
    "label_weight": _LABELS,
    "sample_weight": _SAMPLES,
    "kept": frozenset({"ignore_index"}),
    "samples": frozenset(),
}
"""Divisor of a mean -> options of whose weights it is a sum; smoothing and sums of targets only with class weights."""
DIVISOR_WORDS = {
    "samples": "the number of losses",
    "kept": "the number of losses that are not ignored",
    "sum": "the sum of the weights",
}

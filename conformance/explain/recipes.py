"""Recipes: source that makes one function return what another one documents.

A recipe is derived from what two functions declare, and is itself a `Function`: the same tables and the same call,
with statements before and after it, and with the convention of the other function.  So it is lowered, called and
judged like any function, and what is printed is what ran.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from conformance.adapters import registry
from conformance.adapters.contract import DocumentedConvention, Function
from conformance.adapters.contract.source import render_argument
from conformance.adapters.registry import Installed
from conformance.model.case import InputKind, Loss, Reduction
from conformance.model.convention import Convention, Divisor
from conformance.reference.conversion import HANDED, NAMES
from conformance.reference.domain import dtype_info

PASSED = ("class_axis", "labels_column", "dtype", "target")
"""Derived words whose arguments are passed as in any call; that of the classes is an expression of the predictions."""
BY_WEIGHT: tuple[Divisor, ...] = ("weight", "label_weight", "target_weight")
"""Divisors that are sums of all weights, and differ for smoothed or unnormalised targets only."""


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
class Recipe:
    """A function with what stands before and after its call."""

    function: Function
    """Declares the convention that it follows."""
    input_kind: InputKind
    """What the function itself is passed."""
    changes: tuple[str, ...]
    """What is done beside the call, as sentences without a full stop."""

    @property
    def convention(self) -> Convention:
        """The convention that it follows."""
        return self.function.conventions[0].convention


@dataclass(frozen=True)
class _Known:
    """A function in the release that is installed."""

    installed: Installed
    function: Function

    def convention(self, target: str) -> Convention:
        """What it documents for a kind of target that it is passed."""
        of = self.installed
        return registry.convention_for(self.function, of.version, target, of.backend).convention


def is_loss_of_samples(function: Function) -> bool:
    """Whether a function takes predictions, and returns losses that each depend on their own sample."""
    return function.is_by_sample and not function.has_head


def recipe_pair(
    first: tuple[Installed, Function], second: tuple[Installed, Function], setting: Setting
) -> tuple[list[Recipe], Recipe]:
    """Recipes that make the first function follow the convention of the second, and that of the second itself.

    Each of the former hands the function another kind of input, the one that needs least first.  Raises
    NoRecipeError.
    """
    other = _Known(*second)
    kinds = _kinds(other.function, setting)
    convention = other.convention(_passed_target(other.function, setting))
    goal = _Goal(convention, kinds[0])
    reference = _Writer(other, setting, goal, kinds[0]).recipe()
    own = _Known(*first)
    found, refused = [], NoRecipeError("")
    for kind in _kinds(own.function, setting):
        try:
            found.append(_Writer(own, setting, goal, kind).recipe())
        except NoRecipeError as error:
            refused = error
    if not found:
        raise refused
    return found, reference


def _kinds(function: Function, setting: Setting) -> list[InputKind]:
    """Kinds of input that a function takes, that of the setting first."""
    return sorted(function.input_kinds, key=lambda kind: kind != setting.input_kind)


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


@dataclass(frozen=True)
class _Goal:
    """The convention that is followed, and the kind of input that it is about."""

    convention: Convention
    input_kind: InputKind

    @property
    def clips(self) -> bool:
        """Whether probabilities are clipped or divided by their sums."""
        return self.input_kind == "probabilities" and (
            self.convention.clip is not None or self.convention.renormalise != "no"
        )


Divided = tuple[Literal["samples", "kept", "sum"], frozenset[str]]
"""What a mean divides by: the number of losses, of those that are not ignored, or a sum of products of weights."""


@dataclass
class _Writer:
    """Writes the recipe of a function, statement by statement."""

    known: _Known
    setting: Setting
    goal: _Goal
    kind: InputKind
    """What the function is passed."""
    lines: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    factors: dict[str, str] = field(default_factory=dict)
    """Weights that the function has no argument for -> their expression."""
    clipped: bool = False

    def __post_init__(self) -> None:
        self.function = self.known.function
        self.options = self.setting.options
        self.binary = self.setting.loss == "binary"
        self.axis = self.function.class_axis if self.setting.loss == "categorical" else -1
        self.target = _passed_target(self.function, self.setting)
        self.own = self.known.convention(self.target)

    def recipe(self) -> Recipe:
        """The recipe; raises NoRecipeError."""
        predictions = self._predictions()
        self._ignored_samples()
        self._weights()
        labels = self._labels()
        if self._averages_outputs and self.goal.convention.binary_outputs == "each":
            predictions, labels = (self._op("last_axis", one) for one in (predictions, labels))
            self.changes.append("each output is a row of its own")
        expression, argument = self._reduced()
        text = self.function.call.strip()
        for name in {
            "sample_weights",
            "class_weights",
            "positive_weight",
        } & self._passed_options() - self.factors.keys():
            text = text.replace(f"{{{name}}}", f"{{{name}:passed}}")
        text = text.replace("{predictions}", predictions).replace("{labels}", labels)
        argument = ", ".join(filter(None, (self.function.input_kinds[self.kind], argument)))
        text = text.replace("{options}", f"{argument}, {{options}}" if argument else "{options}")
        result = f"({text})" if "\n" in text else text
        lines = [*self._assignments(), *self.lines]
        lines += [expression.replace("{losses}", result)]
        function = dataclasses.replace(
            self.function,
            call="\n".join([*self._imports("\n".join(lines)), *lines]),
            input_kinds={self.setting.input_kind: ""},
            targets={self.setting.target: self._label_dtypes()},
            arguments=self._arguments("\n".join(lines)),
            reductions={self.setting.reduction: ""},
            sample_weight_shape="as_stated",
            label_column=self.function.label_column and not self.changes,
            conventions=(DocumentedConvention(self._convention()),),
            changes=(),
        )
        return Recipe(function, self._judged_kind, tuple(self.changes))

    # Source

    def _op(self, name: str, *values: object) -> str:
        operations = self.known.installed.framework.arrays_of(self.known.installed.backend).operations
        if name not in operations:
            raise NoRecipeError(f"{self.function.name}: its arrays have no {name} that is known here")
        return operations[name].format(*values, axis=self.axis, dtype=self.setting.dtype)

    def _imports(self, text: str) -> list[str]:
        """The imports that statements need beside those of the framework."""
        own = {"np.": "import numpy as np", "scipy.": "import scipy.special"}
        return [line for name, line in own.items() if name in text]

    def _assignments(self) -> list[str]:
        scalars = [name for name in ("label_smoothing", "ignore_index") if name in self.options]
        return [f"{name} = {{{name}}}" for name in scalars]

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
            if name in self._passed_options() and name not in self.factors:
                table[f"{name}:passed"] = render_argument(arguments[name], name)
        return table

    def _passed_options(self) -> frozenset[str]:
        return (
            frozenset(self.options) & self.function.options
            if self._smooths()
            else frozenset(self.options) & (self.function.options - {"label_smoothing"})
        )

    def _smooths(self) -> bool:
        return _smooths_itself(self.function, self.setting)

    def _label_dtypes(self) -> str:
        return self.function.targets.get(self.setting.target, "")

    # Predictions

    def _predictions(self) -> str:
        """The predictions as the function takes them."""
        kind, given = self.kind, self.setting.input_kind
        name = "predictions"
        takes_all = self.own.clip is None and self.own.renormalise == "no"
        if self.goal.clips and (kind != "probabilities" or takes_all):
            name = self._clip(self._converted(given, "probabilities", name))
            given = "probabilities"
        return self._converted(given, kind, name)

    def _converted(self, given: InputKind, kind: InputKind, name: str) -> str:
        if given == kind:
            return name
        conversion = NAMES[self.setting.loss, given, kind]
        self.changes.append(f"it is passed {HANDED[conversion]}")
        if conversion == "as logits":
            return name
        self.lines.append(f"{kind} = {self._op(conversion, name)}")
        return kind

    def _clip(self, name: str) -> str:
        convention = self.goal.convention
        steps = []
        if convention.clip is not None:
            epsilon = dtype_info(self.setting.dtype).epsilon if convention.clip == "dtype" else convention.clip
            steps.append(self._op("clip", "{0}", f"{epsilon!r}", f"1 - {epsilon!r}"))
            self.changes.append(f"probabilities are clipped to [{epsilon:g}, 1 - {epsilon:g}]")
        if convention.renormalise != "no" and not self.binary:
            at = 0 if convention.renormalise == "before_clip" else len(steps)
            steps.insert(at, self._op("normalised", "{0}"))
            self.changes.append("rows of probabilities are divided by their sums")
        for step in steps:
            self.lines.append(f"probabilities = {step.format(name)}")
            name = "probabilities"
        self.clipped = bool(steps)
        return name

    @property
    def _judged_kind(self) -> InputKind:
        """The kind of input that the convention of the recipe is about."""
        return "probabilities" if self.clipped else self.kind

    # Labels and weights

    def _ignored_samples(self) -> None:
        if "ignore_index" not in self.options:
            return
        weighs_classes = "class_weights" not in self.options or "class_weights" in self.function.options
        if "ignore_index" in self.function.options and weighs_classes:
            return
        if self.setting.target != "index":
            raise NoRecipeError(f"{self.function.name} has no ignore_index")
        self.lines.append("kept = labels != ignore_index")
        self.lines.append(f"classes = {self._op('where', 'kept', 'labels', '0')}")
        self.factors["ignore_index"] = self._op("cast", "kept")
        self.changes.append("ignored samples get the weight 0, and class 0")

    @property
    def _classes(self) -> str:
        """The class of each sample."""
        if self.setting.target == "index":
            return "classes" if "ignore_index" in self.factors else "labels"
        return self._op("argmax", "labels")

    @property
    def _scales_targets(self) -> bool:
        """Whether class weights are multiplied into rows of targets, because they are no weights of samples."""
        return "class_weights" in self.factors and (self.setting.target == "distribution" or not self._smooths())

    def _weights(self) -> None:
        options, passed = self.options, self._passed_options()
        if "class_weights" in options and "class_weights" not in passed:
            if self.setting.target == "multi_hot":
                raise NoRecipeError(f"{self.function.name} has no class_weights for rows of several classes")
            self.factors["class_weights"] = self._op("take", "{class_weights}", self._classes)
            if not self._scales_targets:
                self.changes.append("class weights become weights of samples, those of their labels")
        if "positive_weight" in options and "positive_weight" not in passed:
            if self.setting.target != "binary":
                raise NoRecipeError(f"{self.function.name} has no positive_weight, which soft labels need")
            self.factors["positive_weight"] = "(labels * {positive_weight} + 1 - labels)"
            self.changes.append("the weight of the positive class becomes a weight of its labels")
        if "sample_weights" in options and ("sample_weights" not in passed or self._factors_of_samples):
            self.factors["sample_weights"] = "{sample_weights}"
        if "sample_weights" in options and self.setting.rows and self._spreads_weights:
            self.factors["sample_weights"] = "{sample_weights}[:, None]"

    @property
    def _spreads_weights(self) -> bool:
        """Whether the weights of samples have to get the axis of outputs by code."""
        separated = self._averages_outputs and self.goal.convention.binary_outputs == "each"
        return separated or self.function.sample_weight_shape == "per_loss"

    @property
    def _factors_of_samples(self) -> dict[str, str]:
        """Weights of samples that have to be multiplied by code."""
        scaled = {"class_weights"} if self._scales_targets else set()
        return {name: value for name, value in self.factors.items() if name not in scaled}

    @property
    def _weighs_inside(self) -> bool:
        """Whether the function takes the product of the weights."""
        return "sample_weights" in self.function.options

    def _labels(self) -> str:
        name, target = "labels", self.setting.target
        if target == "index":
            name = self._classes
        if target == "index" and self.target != "index":
            self.lines.append(f"targets = {self._op('one_hot', name)}")
            self.changes.append("labels become one-hot rows")
            name = "targets"
        elif target == "one_hot" and self.target == "index":
            self.lines.append(f"targets = {self._op('argmax', name)}")
            self.changes.append("one-hot rows become labels")
            name = "targets"
        if not self._smooths():
            each = "2" if self.binary else f"predictions.shape[{self.axis}]"
            self.lines.append(f"targets = (1 - label_smoothing) * {name} + label_smoothing / {each}")
            self.changes.append("targets are smoothed before")
            name = "targets"
        if self._scales_targets:
            if "invalid_target" not in self.own.accepts:
                raise NoRecipeError(
                    f"{self.function.name} has no class_weights, and takes no targets multiplied by them"
                )
            self.lines.append(f"targets = {name} * {{class_weights}}")
            self.changes.append("targets are multiplied by the class weights")
            name = "targets"
        return name

    # Reduction

    @property
    def _averages_outputs(self) -> bool:
        return self.binary and self.own.binary_outputs == "mean_of_last_axis"

    def _reduced(self) -> tuple[str, str]:
        """The expression of the result, in which `{losses}` is the call, and the argument of its reduction."""
        reduction, product = self.setting.reduction, self._product()
        outside = bool(product) and not self._weighs_inside
        if product and self._weighs_inside:
            self._pass_weights(product)
        averaging = self.goal.convention.binary_outputs == "mean_of_last_axis" and self.binary
        by_number = reduction == "mean" and self._divisor()[0] == "samples"
        averages = averaging and not self._averages_outputs and not by_number
        same = reduction != "mean" or self._own_divisor(outside) == self._divisor()
        if not outside and same and not averages:
            return self._native(reduction)
        if outside or averages:
            expression, argument = self._native("none")
            if outside:
                expression = f"{expression} * {product}"
            if averages:
                expression = self._op("mean_of_last_axis", expression)
                self.changes.append("the outputs of the last axis are averaged")
            total = expression if reduction == "none" else self._op("sum", expression)
        else:
            total, argument = self._total(reduction)
        if reduction == "mean":
            divisor = self._divisor_source(per_row=averaging and (averages or self._averages_outputs))
            total = f"{total} / {divisor}"
            self.changes.append(f"the sum is divided by {_DIVISOR_WORDS[self._divisor()[0]]}")
        return total, argument

    def _native(self, reduction: Reduction) -> tuple[str, str]:
        """A reduction that the function has, as an expression of `{losses}` and an argument."""
        if reduction not in self.function.reductions:
            raise NoRecipeError(f"{self.function.name} has no reduction {reduction}")
        if self.function.appends(reduction):
            return self.function.reductions[reduction].replace("{result}", "{losses}"), ""
        return "{losses}", self.function.reductions[reduction]

    def _total(self, reduction: Reduction) -> tuple[str, str]:
        if reduction == "none" or "sum" in self.function.reductions:
            return self._native("sum")
        losses, argument = self._native("none")
        return self._op("sum", losses), argument

    def _product(self) -> str:
        """The product of the weights that have to be multiplied by code; empty if there are none."""
        factors = self._factors_of_samples
        if factors.keys() <= {"sample_weights"}:
            return "".join(factors.values())
        self.lines.append(f"weights = {' * '.join(factors.values())}")
        return "weights"

    def _pass_weights(self, product: str) -> None:
        """Write the product where the function takes the weights of samples."""
        argument = render_argument(self.function.arguments["sample_weights"], product)
        call = self.function.call
        call = (
            call.replace("{sample_weights}", argument)
            if "{sample_weights}" in call
            else call.replace("{options}", f"{argument}, {{options}}")
        )
        self.function = dataclasses.replace(self.function, call=call)

    def _divisor(self) -> Divided:
        """By what the mean divides by the convention that is followed."""
        weights = frozenset(self.options) & {"class_weights", "sample_weights"}
        return self._divided(self.goal.convention.mean_divides_by, weights, weights & {"sample_weights"}, ignores=True)

    def _own_divisor(self, outside: bool) -> Divided:
        """By what the function's own mean divides."""
        weights = frozenset(self.options) & {"class_weights", "sample_weights", "positive_weight"}
        weights -= frozenset({"positive_weight"}) - self.factors.keys()
        weights -= frozenset({"class_weights"}) if self._scales_targets else frozenset()
        by_sample = (weights if self._weighs_inside else frozenset()) - (
            frozenset({"class_weights"}) - self.factors.keys()
        )
        ignores = "ignore_index" not in self.factors
        divided = self._divided(self.own.mean_divides_by, weights, by_sample, ignores)
        return divided if not outside else ("sum", frozenset({"unknown"}))

    def _divided(self, by: Divisor, weights: frozenset[str], by_sample: frozenset[str], ignores: bool) -> Divided:
        """ignores: whether ignored samples are no samples to it, and not samples of weight 0."""
        some_ignored = "ignore_index" in self.options
        summed = weights if by in BY_WEIGHT else by_sample if by == "sample_weight" else frozenset[str]()
        if by in BY_WEIGHT and summed and "class_weights" in summed and "label_smoothing" in self.options:
            summed |= {"label_smoothing"} if by != "label_weight" else frozenset()
        if summed:
            return "sum", summed
        if not some_ignored or by == "samples" or (by == "kept" and not ignores):
            return "samples", frozenset()
        return "kept", frozenset()

    def _divisor_source(self, per_row: bool) -> str:
        """The divisor of the mean.  per_row: whether the outputs of a row were averaged before."""
        kind, weights = self._divisor()
        if "label_smoothing" in weights or (weights & {"class_weights"} and self.setting.target == "distribution"):
            raise NoRecipeError("the divisor is an average of the class weights of each row, which no code here writes")
        ignored = "ignore_index" in self.options
        kept = "kept" if "ignore_index" in self.factors else "(labels != ignore_index)"
        if kind == "samples":
            size = self._op("size", "labels" if self.setting.target == "index" else "predictions")
            per_row |= self.setting.loss == "categorical" and self.setting.target != "index"
            return f"({size} / predictions.shape[{self.axis}])" if per_row else size
        if kind == "kept":
            return self._op("sum", self._op("cast", kept))
        if weights | ({"ignore_index"} if ignored else set()) == self._factors_of_samples.keys() != {"sample_weights"}:
            return self._op("sum", "weights")
        if "class_weights" in weights and "ignore_index" not in self.factors and ignored:
            classes = self._op("where", kept, "labels", "0")
        else:
            classes = self._classes
        each = {"class_weights": self._op("take", "{class_weights}", classes), "sample_weights": "{sample_weights}"}
        factors = [each[name] for name in sorted(weights)] + ([self._op("cast", kept)] if ignored else [])
        return self._op("sum", " * ".join(factors))

    def _convention(self) -> Convention:
        """What the recipe follows: the other's choices where code makes them hold, and the function's own elsewhere."""
        goal = self.goal.convention
        changed: dict[str, Any] = {"mean_divides_by": goal.mean_divides_by, "binary_outputs": goal.binary_outputs}
        if self.clipped:
            renormalises = self.kind == "logits" and not self.binary
            after = "after_clip" if renormalises else goal.renormalise
            changed |= {"clip": goal.clip, "renormalise": after, "log_floor": None}
        return dataclasses.replace(self.own, **changed)


_DIVISOR_WORDS = {
    "samples": "the number of losses",
    "kept": "the number of losses that are not ignored",
    "sum": "the sum of the weights",
}

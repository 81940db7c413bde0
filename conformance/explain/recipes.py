"""Recipes: source that makes one function return what another one documents.

A recipe is derived from the declarations of two functions, and is itself a `Function`: the same tables and the same
call, with statements before and after it, and with the convention of the other function.  It is therefore lowered,
called and judged like any function, and the printed code is the executed code.
"""

from __future__ import annotations

import ast
import dataclasses
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from conformance.adapters import registry
from conformance.adapters.contract import Function
from conformance.adapters.contract.framework import DocumentedConvention
from conformance.adapters.contract.source import ARRAYS, parseable_example, render_argument
from conformance.adapters.registry import Installed
from conformance.model.case import WEIGHTS, InputKind, Loss, Problem, Quantity, Reduction
from conformance.model.convention import Convention, Divisor
from conformance.reference.conversion import DESCRIPTIONS, NAMES
from conformance.reference.domain import dtype_info

ALWAYS_PASSED = ("labels_column", "dtype", "target")
"""Derived words that are passed as in any call."""
UNUSUAL_LAYOUTS = ("class_axis", "class_names", "unbatched", "leading_weights")
"""Unusual layouts: the classes on a stated axis, labels that are class names, a single sample without a batch axis,
and sample weights with only the leading axes of the samples."""


class NoRecipeError(Exception):
    """No code makes a function compute the setting; the message gives the reason."""


@dataclass(frozen=True)
class Setting:
    """The loss to compute: the user's arrays and options."""

    loss: Loss
    input_kind: InputKind
    target: str
    """Kind of target, see `Problem.target_kind`."""
    options: tuple[str, ...]
    """Options that are set, in the order of `OPTIONS`."""
    reduction: Reduction
    dtype: str
    rows: bool = False
    """Whether predictions of a binary loss are [N, K], with K outputs per sample."""
    quantity: Quantity = "loss"
    """The loss, or its gradient with respect to the predictions."""
    layout: tuple[str, ...] = ()
    """Entries of `UNUSUAL_LAYOUTS` that the arrays have."""
    label_dtype: str = ""
    """dtype of the labels; "" for the default of each function."""
    weight_dtype: str = ""
    """dtype of all weights; "" for that of the predictions."""


@dataclass(frozen=True)
class InstalledFunction:
    """A function of an installed framework, in one backend and mode."""

    installed: Installed
    function: Function

    def convention(self, target: str) -> Convention:
        """Its documented convention for a kind of target as passed."""
        installed = self.installed
        return registry.convention_for(self.function, installed.version, target, installed.backend).convention

    @property
    def may_have_recipe(self) -> bool:
        """Whether it accepts predictions, and each of its losses depends on its own sample only."""
        return self.function.has_independent_losses and not self.function.has_head


@dataclass(frozen=True)
class Recipe(InstalledFunction):
    """A function with statements before and after its call; it declares the convention that it follows."""

    input_kind: InputKind
    """Input kind to which this convention applies."""
    changes: tuple[str, ...]
    """Steps in addition to the call, as sentences without a full stop."""


def derive_recipes(
    first: InstalledFunction, second: InstalledFunction, setting: Setting
) -> tuple[list[Recipe], Recipe]:
    """Recipes that make the first function follow the convention of the second one, and a recipe for the second itself.

    Each of the former passes another input kind to the function; the one with the fewest changes comes first.  Raises
    NoRecipeError.
    """
    for function in (first, second):
        if setting.quantity != "loss" and not (function.function.differentiates and function.installed.differentiates):
            raise NoRecipeError(f"{function.function.name} does not differentiate")
    goal, goal_kind = second.convention(_passed_target(second.function, setting)), _kinds(second, setting)[0]
    if goal_kind != "probabilities":
        goal = dataclasses.replace(goal, clip=None, renormalise="no")
    reference = _Draft(second, setting, goal, goal_kind).recipe()
    recipes, impossible = [], NoRecipeError("")
    for kind, moves in itertools.product(_kinds(first, setting), (False, True)[: 1 + ("class_axis" in setting.layout)]):
        try:
            recipes.append(_Draft(first, setting, goal, kind, moves).recipe())
        except NoRecipeError as error:
            impossible = error
    if not recipes:
        raise impossible
    return recipes, reference


def _kinds(function: InstalledFunction, setting: Setting) -> list[InputKind]:
    """Input kinds that a function accepts, that of the setting first."""
    return sorted(function.function.input_kinds, key=lambda kind: kind != setting.input_kind)


def _smooths_itself(function: Function, setting: Setting) -> bool:
    """Whether a function smooths the targets, if they are smoothed; without class weights it needs smoothed targets."""
    options = frozenset(setting.options)
    return "label_smoothing" not in options or {"label_smoothing", *({"class_weights"} & options)} <= function.options


def _passed_target(function: Function, setting: Setting) -> str:
    """The kind of target that is passed to a function; raises NoRecipeError."""
    soft = "soft_binary" if setting.loss == "binary" else "distribution"
    if not _smooths_itself(function, setting):
        if soft not in function.targets:
            raise NoRecipeError(f"{function.name} takes neither label_smoothing nor targets that are smoothed before")
        return soft
    target = function.target_kind_for(setting.target)
    if target is None:
        raise NoRecipeError(f"{function.name} takes no {setting.target} targets")
    return target


@dataclass
class _Draft:
    """Builds the recipe of a function, statement by statement."""

    base: InstalledFunction
    """The function that the recipe calls."""
    setting: Setting
    goal: Convention
    """The convention to follow; its clip and its renormalisation apply to probabilities."""
    kind: InputKind
    """Input kind that is passed to the function."""
    moves_classes: bool = False
    """Whether to move the classes to the function's default axis, even if it has an argument for the axis."""
    lines: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    routes: dict[str, Route] = field(default_factory=dict)
    """Option -> how it is passed to the function."""
    weights: dict[str, str] = field(default_factory=dict)
    """Option that multiplies losses -> the factor."""
    clipped: bool = False
    arranged: set[str] = field(default_factory=set)
    """Words of the layout that are handled by statements."""
    placeholder_values: Callable[[Problem], Mapping[str, Any]] | None = None
    """See `Function`."""
    one_sample: bool = False
    """Whether a statement adds a batch axis to a single sample."""

    def __post_init__(self) -> None:
        self.function = self.base.function
        self.options = self.setting.options
        self.binary = self.setting.loss == "binary"
        self.axis: int | str = -1 if self.binary or "unbatched" in self.setting.layout else self.function.class_axis
        if "class_axis" in self.setting.layout:
            self.moves_classes |= "class_axis" not in self.function.arguments
            self.axis = self.axis if self.moves_classes else "class_axis"
        self.placeholder_values = self.function.placeholder_values
        self.smooths = _smooths_itself(self.function, self.setting)
        self.target = _passed_target(self.function, self.setting)
        self.own = self.base.convention(self.target)
        self.is_index = self.setting.target == "index"
        self.weighs = "sample_weights" in self.function.options
        words = {*self.options, self.target, self.setting.reduction, self.setting.dtype, *self.setting.layout}
        stated = {"label": self.setting.label_dtype, "weight": self.setting.weight_dtype}
        words |= {f"{name}_dtype" for name, dtype in stated.items() if dtype}
        self.capabilities = words | {f"{dtype}_{name}s" for name, dtype in stated.items()}
        self.averages = self.binary and self.own.binary_outputs == "mean_of_last_axis"
        self.separates = self.averages and self.goal.binary_outputs == "each"
        self.spreads_weights = self.separates or self.function.sample_weight_shape == "per_loss"

    def recipe(self) -> Recipe:
        """The recipe; raises NoRecipeError."""
        for word, arrange in ARRANGEMENTS.items():
            if word in self.capabilities:
                arrange(self)
        predictions = self._predictions()
        self._choose_routes()
        labels = self._labels()
        if self.separates:
            predictions, labels = (self.op("last_axis", variable) for variable in (predictions, labels))
            self.changes.append("each output is a row of its own")
        expression, argument = self._reduction_expression()
        text = self.function.call.strip()
        for name, route in self.routes.items():
            if route.by == "argument":
                text = text.replace(f"{{{name}}}", f"{{{name}:passed}}")
        text = text.replace("{predictions}", predictions).replace("{labels}", labels)
        argument = ", ".join(filter(None, (self.function.input_kinds[self.kind], argument)))
        text = text.replace("{options}", f"{argument}, {{options}}" if argument else "{options}")
        scalars = [f"{name} = {{{name}}}" for name in ("label_smoothing", "ignore_index") if name in self.options]
        scalars += [
            f"{name} = {{{name}:value}}" for name in ("class_axis", "class_names") if name in self.setting.layout
        ]
        statements, losses = _split(text)
        result = expression.replace("{losses}", losses)
        if self.one_sample and self.setting.reduction == "none":
            result = f"({result})[0]"
        lines = [*scalars, *self.lines, *statements, result]
        modules = {"np.": "import numpy as np", "scipy.": "import scipy.special"}
        imports = [line for name, line in modules.items() if any(name in code_line for code_line in lines)]
        function = dataclasses.replace(
            self.function,
            call="\n".join([*imports, *lines]),
            input_kinds={self.setting.input_kind: ""},
            targets={
                self.setting.target: self.setting.label_dtype or self.function.targets.get(self.setting.target, "")
            },
            weight_dtypes=self.setting.weight_dtype or self.function.weight_dtypes,
            ranks={
                loss: range(0 if self.one_sample else ranks.start, ranks.stop)
                for loss, ranks in self.function.ranks.items()
            },
            result_dtype=self._result_dtype(),
            excludes=tuple(group for group in self.function.excludes if not group & self.arranged),
            placeholder_values=self.placeholder_values,
            arguments=self._arguments("\n".join(lines)),
            reductions={self.setting.reduction: ""},
            sample_weight_shape="as_stated",
            labels_column=self.function.labels_column and not self.changes,
            conventions=(DocumentedConvention(self._convention()),),
            changes=(),
        )
        kind = "probabilities" if self.clipped else self.kind
        return Recipe(self.base.installed, function, kind, tuple(self.changes))

    def unsupported_together(self, word: str) -> bool:
        """Whether the function cannot combine the capability of a word with the other arrays and options."""
        return any(word in group and group <= self.capabilities for group in self.function.excludes)

    def takes(self, *options: str) -> bool:
        """Whether the function has arguments for these options, as far as they are set."""
        return {*options} & {*self.options} <= self.function.options

    def _result_dtype(self) -> str:
        """The function's own result dtype, which is not promoted from its cast inputs."""
        own = self.function.result_dtype
        return "same_or_promoted" if own.startswith("promoted") and self.arranged else own

    def placeholder(self, name: str) -> str:
        """The placeholder of an array: predictions, labels and assigned names by their own name."""
        assigned = any(line.startswith(f"{name} = ") for line in self.lines)
        return name if assigned or name in ARRAYS else f"{{{name}}}"

    def op(self, name: str, *values: str) -> str:
        """The source of an operation on arrays; raises NoRecipeError."""
        installed = self.base.installed
        operations = installed.framework.arrays_of(installed.backend).operations
        if name not in operations:
            raise NoRecipeError(f"{self.function.name}: its arrays have no {name} that is known here")
        return operations[name].format(*values, axis=self.axis, dtype=self.setting.dtype)

    def write(self, name: str, value: str, change: str = "") -> str:
        """Assign a value to a name, and return the name.  change: description of the step."""
        self.lines.append(f"{name} = {value}")
        self.changes += [change] if change else []
        return name

    def _arguments(self, text: str) -> dict[str, str]:
        """The table of arguments for source: options by their names, derived words as in any call."""
        arguments = self.function.arguments
        table = {name: arguments[name] for name in ALWAYS_PASSED if name in arguments}
        for name in ("class_axis", "class_names"):
            if name in self.setting.layout:
                value = f"sorted({name})" if name in self.arranged else name
                passed = render_argument(arguments[name], value) if name in arguments and not self.moves_classes else ""
                table |= {name: passed, f"{name}:value": "{}"}
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
        """The predictions as passed to the function."""
        kind, source = self.kind, self.setting.input_kind
        name = "predictions"
        takes_all = self.own.clip is None and self.own.renormalise == "no"
        if (self.goal.clip is not None or self.goal.renormalise != "no") and (kind != "probabilities" or takes_all):
            name = self._clip(self._write_conversion(source, "probabilities", name))
            source = "probabilities"
        return self._write_conversion(source, kind, name)

    def _write_conversion(self, source: InputKind, kind: InputKind, name: str) -> str:
        if source == kind:
            return name
        conversion = NAMES[self.setting.loss, source, kind]
        self.changes.append(f"it is passed {DESCRIPTIONS[conversion]}")
        return name if conversion == "as logits" else self.write(kind, self.op(conversion, name))

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
            name = self.write("probabilities", step.format(name))
        self.clipped = bool(steps)
        return name

    def _choose_routes(self) -> None:
        """Choose the route of each option, and write the statements for factors."""
        for name in dict.fromkeys(route.option for route in ROUTES if route.option in self.options):
            route = next(candidate for candidate in ROUTES if candidate.option == name and candidate.when(self))
            if route.by == "impossible":
                raise NoRecipeError(f"{self.function.name} {route.why}")
            self.routes[name] = route
            if route.by == "weight":
                if name == "ignore_index":
                    self.write("kept", "labels != ignore_index")
                    self.write("classes", self.op("where", "kept", "labels", "0"))
                self.weights[name] = FACTORS[name](self)
                self.changes += [route.why] if route.why else []

    @property
    def classes(self) -> str:
        """The class of each sample, for use as an index."""
        if not self.is_index:
            return self.op("argmax", "labels")
        is_named = "class_names" in self.setting.layout and self.function.named_classes
        return "classes" if is_named or "ignore_index" in self.weights else "labels"

    def _in_targets(self, option: str) -> bool:
        return option in self.routes and self.routes[option].by == "target"

    def _labels(self) -> str:
        """The targets as passed to the function."""
        name, kind = "labels", self.setting.target
        if kind == "index":
            name = "classes" if "ignore_index" in self.weights else "labels"
            if self.target != "index":
                name = self.write("targets", self.from_last(self.op("one_hot", name)), "labels become one-hot rows")
        elif kind == "one_hot" and self.target == "index":
            name = self.write("targets", self.op("argmax", name), "one-hot rows become labels")
        if self._in_targets("label_smoothing"):
            name = self.write("targets", self._smoothing_expression(name), "targets are smoothed before")
        if self._in_targets("class_weights"):
            change = "targets are multiplied by the class weights"
            name = self.write("targets", self.from_last(f"{self.to_last(name)} * {{class_weights}}"), change)
        return name

    def to_last(self, rows: str) -> str:
        """Rows with the classes moved to the last axis."""
        return rows if self.axis == -1 else self.op("moveaxis", rows, f"{self.axis}", "-1")

    def from_last(self, rows: str) -> str:
        """The inverse of `to_last`."""
        return rows if self.axis == -1 else self.op("moveaxis", rows, "-1", f"{self.axis}")

    def _smoothing_expression(self, targets: str) -> str:
        number = "2" if self.binary else f"predictions.shape[{self.axis}]"
        return f"(1 - label_smoothing) * {targets} + label_smoothing / {number}"

    def _reduction_expression(self) -> tuple[str, str]:
        """The expression of the result, with `{losses}` for the call, and the argument of its reduction."""
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
        """A reduction of the function itself, as an expression of `{losses}` and an argument."""
        if reduction not in self.function.reductions:
            raise NoRecipeError(f"{self.function.name} has no reduction {reduction}")
        if self.function.appends(reduction):
            return self.function.reductions[reduction].replace("{result}", "{losses}"), ""
        return "{losses}", self.function.reductions[reduction]

    def _product(self) -> str:
        """The product of the weights that statements have to multiply; "" if there are none."""
        if self.weights.keys() <= {"sample_weights"}:
            return "".join(self.weights.values())
        return self.write("weights", " * ".join(self.weights.values()))

    def _pass_weights(self, product: str) -> None:
        """Write the product to the argument for sample weights."""
        argument = render_argument(self.function.arguments["sample_weights"], product)
        name = "{sample_weights}" if "{sample_weights}" in self.function.call else "{options}"
        passed = argument if name == "{sample_weights}" else f"{argument}, {name}"
        self.function = dataclasses.replace(self.function, call=self.function.call.replace(name, passed))

    def _divisor(self, by: Divisor, roles: Mapping[str, str]) -> frozenset[str]:
        """The options whose weights are summed to the divisor of a mean; empty for the number of losses.

        roles: the role of each option for the divisor.
        """
        divisors = {name for name, role in roles.items() if role in DIVIDES_BY[by]}
        if "class_weights" not in divisors:
            return frozenset(divisors - {"label_smoothing"})
        sums = DIVIDES_BY[by] & {"sum of targets"} if self.setting.target in ("distribution", "multi_hot") else set()
        return frozenset(divisors | sums)

    def _own_divisor(self) -> frozenset[str]:
        """The `_divisor` of the function's own mean."""
        roles = {name: name for name, route in self.routes.items() if name not in self.weights}
        if self._in_targets("class_weights"):
            del roles["class_weights"]
        return self._divisor(self.own.mean_divides_by, roles | dict.fromkeys(self.weights, "sample_weights"))

    def _divided_by(self, divisor: frozenset[str], per_row: bool) -> str:
        """The divisor of the mean.  per_row: whether the outputs of a row have been averaged before."""
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
        """The class weight of each sample, averaged over its targets."""
        smoothed = "label_smoothing" in divisor
        if self.setting.target in ("distribution", "multi_hot"):
            rows = self.write("rows", self._smoothing_expression("labels") if smoothed else "labels")
            weights = self.op("dot", self.to_last(rows), "{class_weights}")
            return weights if "sum of targets" in divisor else f"{weights} / {self.op('sum_of_classes', rows)}"
        classes = self.classes
        if "ignore_index" in divisor - self.weights.keys():
            classes = self.op("where", kept, "labels", "0")
        weights = self.op("take", "{class_weights}", classes)
        mean = self.op("mean", "{class_weights}")
        return f"((1 - label_smoothing) * {weights} + label_smoothing * {mean})" if smoothed else weights

    def _convention(self) -> Convention:
        """The convention of the recipe: the other function's choices if code implements them, else its own."""
        goal = self.goal
        changed: dict[str, Any] = {"mean_divides_by": goal.mean_divides_by, "binary_outputs": goal.binary_outputs}
        if "class_names" in self.arranged:
            changed["class_columns"] = goal.class_columns
        if self.clipped:
            renormalises = self.kind == "logits" and not self.binary
            after = "after_clip" if renormalises else goal.renormalise
            changed |= {"clip": goal.clip, "renormalise": after, "log_floor": None}
        return dataclasses.replace(self.own, **changed)


@dataclass(frozen=True)
class Route:
    """A way to pass an option to a function."""

    option: str
    by: Literal["argument", "weight", "target", "impossible"]
    """`argument`: the function has one.  `weight`: a factor of the loss of each sample.  `target`: in the targets."""
    when: Callable[[_Draft], bool] = lambda draft: True
    why: str = ""
    """Description of the steps, or the reason why the function cannot be used."""


ROUTES = (
    Route("label_smoothing", "argument", lambda draft: draft.smooths),
    Route("label_smoothing", "target"),
    Route("ignore_index", "argument", lambda draft: draft.takes("ignore_index", "class_weights")),
    Route("ignore_index", "weight", lambda draft: draft.is_index, "ignored samples get the weight 0, and class 0"),
    Route("ignore_index", "impossible", why="has no ignore_index"),
    Route("class_weights", "impossible", lambda draft: draft.binary, "has no classes with weights"),
    Route("class_weights", "argument", lambda draft: draft.takes("class_weights")),
    Route(
        "class_weights",
        "weight",
        lambda draft: draft.smooths and draft.setting.target in ("index", "one_hot"),
        "class weights become weights of samples, those of their labels",
    ),
    Route(
        "class_weights",
        "impossible",
        lambda draft: draft.setting.quantity != "loss" and draft.own.gradient_total == "one",
        "has no class_weights, and its gradient takes all targets for distributions",
    ),
    Route("class_weights", "target", lambda draft: "invalid_target" in draft.own.accepts),
    Route("class_weights", "impossible", why="has no class_weights, and takes no targets multiplied by them"),
    Route("positive_weight", "argument", lambda draft: draft.takes("positive_weight")),
    Route(
        "positive_weight",
        "weight",
        lambda draft: draft.setting.target == "binary",
        "the weight of the positive class becomes a weight of its labels",
    ),
    Route("positive_weight", "impossible", why="has no positive_weight, which soft labels need"),
    Route("sample_weights", "weight", lambda draft: draft.setting.rows and draft.spreads_weights),
    Route("sample_weights", "argument", lambda draft: draft.weighs and not draft.weights),
    Route("sample_weights", "weight"),
)
"""Routes by option; the first possible one is taken.  Sample weights come last, as other factors join them."""
FACTORS: Mapping[str, Callable[[_Draft], str]] = {
    "ignore_index": lambda draft: draft.op("cast", "kept"),
    "class_weights": lambda draft: draft.op("take", "{class_weights}", draft.classes),
    "positive_weight": lambda draft: "(labels * {positive_weight} + 1 - labels)",
    "sample_weights": lambda draft: "{sample_weights}" + "[:, None]" * (draft.setting.rows and draft.spreads_weights),
}
"""Option -> source of the weight that it gives each sample."""


def _name_classes(draft: _Draft) -> None:
    """Columns in the order that a function which takes names expects, or index labels for other functions."""
    names = "class_names" if draft.goal.class_columns == "stated" else "sorted(class_names)"
    if draft.function.named_classes:
        if draft.own.class_columns != "stated" == draft.goal.class_columns:
            draft.arranged.add("class_names")
            draft.write("order", "[class_names.index(name) for name in sorted(class_names)]")
            draft.write("predictions", "predictions[..., order]", "columns are sorted by the names of their classes")
        if not draft.takes("class_weights"):
            draft.write("classes", draft.op("array_of", "[class_names.index(name) for name in labels]"))
        return
    draft.arranged.add("class_names")
    draft.placeholder_values = lambda problem: {
        "labels": problem.layout.name_labels(problem.labels).tolist(),
        "class_names": list(problem.layout.class_names),
    }
    draft.write("labels", "{labels}")
    indices = draft.op("array_of", f"[{names}.index(name) for name in labels]")
    draft.write("labels", indices, "names of classes become indices")


def _move_classes(draft: _Draft) -> None:
    """Move the classes to the axis of a function that has no argument for it."""
    if not draft.moves_classes:
        return
    draft.arranged |= {"class_axis", "class_axis_not_1"}
    for name in ("predictions",) if draft.is_index else ("predictions", "labels"):
        draft.write(name, draft.op("moveaxis", name, "class_axis", f"{draft.axis}"))
    draft.changes.append(f"the classes are moved to axis {draft.axis}")


def _add_sample_axis(draft: _Draft) -> None:
    """Add a batch axis for a function that does not accept a single sample."""
    if 1 in draft.function.ranks["categorical"] and not draft.unsupported_together("unbatched"):
        return
    draft.one_sample, draft.axis = True, draft.function.class_axis
    draft.arranged.add("unbatched")
    for name in ("predictions", "labels", *({"sample_weights"} & {*draft.options})):
        draft.write(name, f"{draft.placeholder(name)}[None]")
    draft.changes.append("the sample becomes a batch of one")


def _cast_labels(draft: _Draft) -> None:
    """Cast labels to a dtype that the function accepts, and that can index arrays if statements need that."""
    stated, accepted = draft.setting.label_dtype, draft.function.label_dtypes(draft.target, draft.setting.dtype)
    unchanged = draft.takes(*draft.options) and draft.target == draft.setting.target
    if (not accepted or stated in accepted) and unchanged and not draft.unsupported_together(f"{stated}_labels"):
        return
    draft.arranged |= {"label_dtype", f"{stated}_labels"}
    dtype = accepted[0] if accepted else "int64" if draft.is_index else draft.setting.dtype
    if dtype != stated:
        draft.write("labels", draft.op("as_dtype", "labels", dtype), f"labels are cast to {dtype}")


def _cast_weights(draft: _Draft) -> None:
    """Cast weights to the dtype of the predictions, if the function does not accept theirs."""
    stated, dtype = draft.setting.weight_dtype, draft.setting.dtype
    accepted = {dtype if name == "same" else name for name in draft.function.weight_dtypes.split()}
    words = ("weight_dtype", f"{stated}_weights")
    if (
        (not accepted or stated in accepted)
        and draft.takes(*draft.options)
        and not any(map(draft.unsupported_together, words))
    ):
        return
    draft.arranged |= {*words}
    for name in WEIGHTS:
        if name in draft.options:
            draft.write(name, draft.op("as_dtype", draft.placeholder(name), dtype))
    draft.changes.append(f"weights are cast to {dtype}")


def _spread_weights(draft: _Draft) -> None:
    """Repeat sample weights to one per loss: not all functions broadcast them as documented."""
    shape = "labels.shape" if draft.is_index else "predictions.shape"
    if not (draft.binary or draft.is_index):
        shape = f"{shape}[:-1]" if draft.axis == -1 else f"{shape}[:{draft.axis}] + {shape}[{draft.axis} + 1:]"
    weights = draft.placeholder("sample_weights")
    draft.write("shape", shape)
    padded_shape = f"tuple({weights}.shape) + (1,) * (len(shape) - {weights}.ndim)"
    draft.write("sample_weights", draft.op("broadcast", draft.op("reshape", weights, padded_shape), "shape"))
    draft.changes.append("weights of samples are repeated along the other axes")


ARRANGEMENTS: Mapping[str, Callable[[_Draft], None]] = {
    "class_names": _name_classes,
    "unbatched": _add_sample_axis,
    "class_axis": _move_classes,
    "label_dtype": _cast_labels,
    "weight_dtype": _cast_weights,
    "leading_weights": _spread_weights,
}
"""Unusual property of an array -> function that writes the statements for it, if any."""


def _split(text: str) -> tuple[list[str], str]:
    """The lines of the statements of a call, and its last expression, parenthesised if it has several lines."""
    first = ast.parse(parseable_example(text)).body[-1].lineno - 1
    lines = text.split("\n")
    last = "\n".join(lines[first:])
    return lines[:first], f"({last})" if "\n" in last else last


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
"""Divisor of a mean -> options whose weights it sums; smoothing and sums of targets only with class weights."""
DIVISOR_WORDS = {
    "samples": "the number of losses",
    "kept": "the number of losses that are not ignored",
    "sum": "the sum of the weights",
}

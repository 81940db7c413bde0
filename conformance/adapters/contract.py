"""The contract with a framework: a call as source over named arrays, tables of its arguments, and how it is made.

An adapter says what its functions take (`Function`) in tables of words to pieces of the framework's own source.  From
them `lowered` writes a `Call`: the text that `perform` compiles once and executes with the arrays bound to their
names, and that `reproducer` prints after the imports and the literals.  So what is printed is what ran.
Nothing here needs more than numpy, so that all of it runs where an old framework is installed.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import json
import os
import re
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache
from types import CodeType
from typing import Any, Literal

import numpy as np

from conformance.adapters.arrays import Arrays, Tensor, identical
from conformance.adapters.containment import Surroundings, cause
from conformance.model.case import (
    DTYPES,
    INPUT_KINDS,
    LOSSES,
    OPTIONS,
    ORDERS,
    REDUCTIONS,
    Array,
    InputKind,
    Loss,
    Order,
    Problem,
    numpy_dtype,
)  # fmt: skip
from conformance.model.convention import DEFINITION, Convention
from conformance.model.outcome import NonNumeric, Outcome, Raised, Returned, warning_text
from conformance.model.text import text_of, type_name

Table = Mapping[str, str]
Neutral = Literal["name", "device", "deprecated alias", "implementation"]
"""What a parameter is whose argument changes no number: a name for messages, where to compute, another way to say what
a newer parameter says, a choice among implementations of the same formula."""
EAGER = "eager"
"""The mode in which a call is made as it stands."""
LITERAL_LIMIT = 1000
"""Arrays with more elements than this are not written out in a reproducer where the case can be named instead."""
LONGEST_LITERAL = 20_000
"""Elements of an array that is written out where nothing names it."""
SHARING = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Has the threads of a framework sleep while there is nothing for them, where somebody else wants the processor."""
MOST_WARNINGS = 1000
"""Warnings of one call that are looked at."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
"""Variables that say how many threads a framework computes in."""
TARGETS = ("index", "one_hot", "distribution", "binary", "soft_binary")
DERIVED = ("class_axis", "labels_column", "dtype", "classes", "target")
"""Words beside the options that a table of arguments may have; their values follow from the problem."""
ARRAYS = ("predictions", "labels")
FILE = "<call>"
"""The file name of compiled calls in tracebacks."""


def share_processors() -> None:
    """See to `SHARING` in this process, where no framework is imported yet and the user has not said otherwise."""
    for name, value in SHARING.items():
        os.environ.setdefault(name, value)


class LoweringError(Exception):
    """A bug of the harness or of an adapter: a problem could not be said to a function that declares it can take it.

    Never a finding about the framework.
    """


class DeclarationError(ValueError):
    """An adapter contradicts itself; raised where it is defined, with the field that is wrong."""


@dataclass(frozen=True)
class Rule:
    """A documented convention and where it holds: the kinds of target, and what a problem asks for."""

    convention: Convention
    targets: frozenset[str] | None = None
    """Kinds of target, as they are handed over; None for all."""
    source: str = ""
    """Where the convention is documented."""
    features: frozenset[str] = frozenset()
    """What a problem has to ask for beside (see `problem_features`)."""
    versions: str = ""
    """PEP 440 specifiers, "" for all; follows from the changes of the function."""
    backends: frozenset[str] | None = None
    """Variants of the framework, None for all; follows from the changes of the function."""


@dataclass(frozen=True)
class Change:
    """What is otherwise in a function from a release on."""

    since: str
    """A release; "" for all of them."""
    fields: Mapping[str, Any]
    """Fields of `Function`; tables are merged, and an entry of None is removed."""
    choices: Mapping[str, Any]
    """Fields of the convention of every rule."""
    documented: str = ""
    """Where the rules without features are documented from then on."""
    on: frozenset[str] = frozenset()
    """Variants of the framework; empty for all."""


@dataclass(frozen=True)
class Function:
    """One loss function: how it is called, as tables of words to source, and what it documents.

    A piece of source in a table is the name of a keyword argument, which is then given the value, or any text, in
    which `{}` stands for the value: `labels=list(range({}))`.  What is in no table cannot be asked for.
    """

    name: str
    """Without the framework's, which goes before it in reports."""
    call: str
    """Source of the call: `{predictions}`, `{labels}`, and `{options}`, where the arguments of all tables go.

    A word in braces of its own takes that argument out of `{options}`; one after a colon (`class_weights:feed`) is a
    second entry for the same value.  Several statements are possible; the last is an expression."""
    ranks: Mapping[Loss, range]
    """The losses that it computes, and the ranks of predictions that it takes for each."""
    takes: Mapping[InputKind, str]
    """Kind of predictions -> argument that says so, "" where none does; others are converted to the first."""
    targets: Table
    """Kind of target (`Problem.target_kind`) -> dtypes of the labels, separated by blanks.

    Labels are cast to the first, unless the layout of the case names another one of them.  `same` is the dtype of the
    predictions; "" takes labels of any dtype as they are.
    """
    arguments: Table = field(default_factory=dict)
    """An option, `class_axis`, `labels_column`, `dtype`, `classes`, `target` -> argument."""
    reductions: Table = field(default_factory=dict)
    """Reduction -> argument, or what is done with an unreduced `{result}`; empty: those of the framework."""
    positional: Table = field(default_factory=dict)
    """Word in `call` -> name of the parameter that it is passed to by position."""
    neutral: Mapping[str, Neutral] = field(default_factory=dict)
    """Parameter -> why no argument of it changes a number."""
    gaps: Table = field(default_factory=dict)
    """Argument that asks for what no case asks for, as source -> what that is: `axis=0`."""
    class_axis: int = -1
    """Axis of the classes, unless the layout of the case says otherwise and the function can be told."""
    dtypes: frozenset[str] = frozenset(DTYPES)
    orders: frozenset[Order] = frozenset(ORDERS) - {"c"}
    """Memory orders that it takes beside C's."""
    label_column: bool = False
    """Whether labels may have an axis of length 1 behind the others."""
    excludes: tuple[frozenset[str], ...] = ()
    """Groups of features that it takes alone but not together."""
    rules: tuple[Rule, ...] = (Rule(DEFINITION),)
    """What it documents; the first that fits counts."""
    result_dtype: str = "same"
    """`same` as the predictions, `promoted` from them and float labels, or the dtype that it always returns."""
    source: str = ""
    """Where it is documented."""
    differentiates: bool = True
    """Whether its gradient is asked for, where the framework has one; False for a metric."""
    weights_handed_over: Literal["as_stated", "per_loss"] = "as_stated"
    """Shape in which sample weights reach the call.

    `as_stated`: that of the case, [N] or more leading axes of the samples; the function broadcasts them itself.
    `per_loss`: one for each loss, broadcast before the call; for a function that documents no rule for weights per
    sample, or another one, such as numpy's.
    """
    modes: frozenset[str] | None = None
    """Modes of the framework in which it can be called; None for all."""
    lower: Callable[[Problem], Mapping[str, Any]] | None = None
    """What a table cannot say: word -> value, instead of or beside what follows from the problem."""
    signature: str = ""
    """Where the parameters are documented, for a function without a signature that `inspect` can read."""
    first: str = ""
    """The first release that has it; "" for all."""
    changes: tuple[Change, ...] = ()
    versions: str = ""
    """PEP 440 specifiers of the releases in which this description holds, "" for all; follows from the changes."""
    backends: frozenset[str] | None = None
    """Variants of the framework in which it holds, None for all; follows from the changes."""

    def since(
        self, version: str, *, on: Iterable[str] = (), documented: str = "", choices: Any = None, **fields: Any
    ) -> Function:
        """Describe what is otherwise from a release on.

        Parameters
        ----------
        version: the release.
        on: backends of the framework, all if there is none.
        documented: where the rules without features are documented from then on.
        choices: fields of the convention of every rule.
        fields: fields of the function; tables are merged, and an entry of None is removed.
        """
        change = Change(version, fields, choices or {}, documented, frozenset(on))
        return replace(self, changes=(*self.changes, change))

    def like(self, name: str, *, documented: str = "", choices: Any = None, first: str = "", **fields: Any) -> Function:
        """A twin: the same history under another name, with what is otherwise in each of its releases."""
        twin = replace(self, name=name, first=first or self.first)
        return twin.since("", documented=documented, choices=choices, **fields)

    @property
    def framework(self) -> str:
        return self.name.partition(".")[0]

    @cached_property
    def options(self) -> frozenset[str]:
        """Options that it can be asked for."""
        return frozenset(word.partition(":")[0] for word in self.arguments) & frozenset(OPTIONS)

    @cached_property
    def layouts(self) -> frozenset[str]:
        """Layouts of the arrays that it can be asked for."""
        named = "class_axis" in self.arguments
        found = {
            "class_axis": named or self.class_axis == 1,
            "class_axis_not_1": named,
            "labels_column": self.label_column,
            "label_dtype": any(len(names.split()) != 1 for names in self.targets.values()),
        }
        return self.orders | {name for name, has in found.items() if has}

    def label_dtypes(self, target: str, dtype: str) -> tuple[str, ...]:
        """Dtypes of labels that it takes as they are, the usual one first; () for any.

        target: the kind that it is handed, see `target_as`.  dtype: of the predictions.
        """
        declared = self.targets.get(target, self.targets.get("distribution", ""))
        return tuple(dtype if name == "same" else name for name in declared.split())

    def returns(self, problem: Problem, quantity: str = "loss") -> str:
        """The dtype of a right result."""
        if self.result_dtype == "same" or quantity == "gradient":
            return problem.dtype
        if self.result_dtype != "promoted":
            return self.result_dtype
        labels = self.labels_as(problem) or problem.labels.dtype.name
        whole = numpy_dtype(labels).kind in "biu"
        return problem.dtype if whole else np.promote_types(numpy_dtype(problem.dtype), numpy_dtype(labels)).name

    def labels_as(self, problem: Problem) -> str | None:
        """The dtype in which it is handed the labels of a problem; None for the one that they have."""
        kind = self.target_as(problem.target_kind) or problem.target_kind
        taken, stated = self.label_dtypes(kind, problem.dtype), problem.layout.label_dtype
        return stated if stated in taken else next(iter(taken), None)

    @cached_property
    def path(self) -> str:
        """The dotted path of what is called with the predictions, or of its class."""
        return _path(self.call)

    def native(self, input_kind: InputKind) -> InputKind:
        """The kind of prediction that this function is handed when the case has `given`."""
        return input_kind if input_kind in self.takes else next(iter(self.takes))

    def target_as(self, kind: str) -> str | None:
        """The kind of target this function is handed for `kind`, or None where there is no exact re-encoding."""
        if kind in self.targets:
            return kind
        equivalent = {"index": "one_hot", "one_hot": "index", "binary": "soft_binary"}.get(kind)
        if kind == "one_hot" and "distribution" in self.targets:
            return "one_hot"
        return equivalent if equivalent in self.targets else None

    def unsupported(self, problem: Problem) -> str | None:
        """Why this function cannot say the problem, from its declared capability; None if it can."""
        if problem.loss not in self.ranks:
            return f"it is no {problem.loss} loss"
        target = problem.target_kind
        handed = self.target_as(target)
        if handed is None:
            return f"it takes no {target} targets"
        if handed == "one_hot" and target == "index" and not encodable(problem):
            return "labels outside the classes have no one-hot encoding"
        for kind, names, have in (
            ("option", set(problem.options.names()), self.options),
            ("reduction", {problem.reduction}, self.reductions.keys()),
            ("dtype", {problem.dtype}, self.dtypes),
            ("layout", set(problem.layout.names()), self.layouts | {"label_dtype"}),
        ):
            if missing := names - have:
                return f"it has no {kind}{'s' if len(missing) > 1 else ''} {', '.join(sorted(missing))}"
        labels = self.label_dtypes(handed, problem.dtype)
        if labels and problem.layout.label_dtype not in (None, *labels):
            return f"it takes no {problem.layout.label_dtype} labels"
        if problem.predictions.ndim not in self.ranks[problem.loss]:
            return f"it takes no predictions of rank {problem.predictions.ndim}"
        for group in self.excludes:
            if group <= problem_features(problem, handed):
                return f"it does not combine {' and '.join(sorted(group))}"
        return None

    @cached_property
    def words(self) -> frozenset[str]:
        """Words whose values its calls may need."""
        return frozenset(word.partition(":")[0] for word in (*self.arguments, *_placeholders(self.call)))

    @cached_property
    def text(self) -> Callable[..., str]:
        """`_text` of this function, remembered."""

        def text(*what: Any) -> str:
            return _text(self, *what)

        return lru_cache(maxsize=1024)(text)


def problem_features(problem: Problem, target: str) -> frozenset[str]:
    """What a problem asks of a function, as names: options, layout, reduction, target, prediction."""
    found = {*problem.options.names(), *problem.layout.names()}
    if problem.layout.label_dtype is not None:
        found.add(f"{problem.layout.label_dtype}_labels")
    found |= {problem.reduction, problem.input_kind, target, problem.dtype}
    rank = problem.predictions.ndim
    if rank != 2:
        found.add("higher_rank" if rank > 2 else "rank_1")
    weights = problem.options.sample_weights
    if weights is not None and weights.ndim > 1 and weights.ndim == rank:
        found.add("output_weights")
    return frozenset(found)


@dataclass(frozen=True)
class Backend:
    """One way to run a framework, such as a backend."""

    requirements: tuple[str, ...] = ()
    """PEP 508, of what it needs beside the framework."""
    environment: Table = field(default_factory=dict)
    """Variables to be set, of which the first is the one that chooses it."""
    arrays: Arrays | None = None
    """Its own imports, literals and derivatives; None for the framework's."""


@dataclass(frozen=True)
class Framework:
    """A library under test: how it is found, its arrays, and its functions.

    Raises `DeclarationError` with the field where the declaration contradicts itself.
    """

    name: str
    distributions: tuple[str, ...]
    modules: tuple[str, ...]
    """Import names that must be present; they are looked up, not imported."""
    functions: tuple[Function, ...]
    """As they are written down; afterwards one description for each range of releases, the newest first."""
    arrays: Arrays
    imports: str = ""
    """One line of source that the calls need."""
    reductions: Table = field(default_factory=dict)
    """As in `Function`, for functions that have none of their own: how users reduce what is returned."""
    modes: Table = field(default_factory=dict)
    """Mode -> source of a function that is called instead of `{loss}`: `jax.jit({loss})`; statements may go before."""
    prepare: Callable[[], None] = lambda: None
    """Runs before each call, in the process that makes it, and before the first import."""
    backends: Mapping[str, Backend] = field(default_factory=dict)
    """By the name that stands in brackets in a requirement: `keras[jax]`."""
    needs: tuple[tuple[str, str], ...] = ()
    """What the metadata of old releases forgets to say, as (specifiers of its versions, requirement)."""

    def __post_init__(self) -> None:
        found: list[Function] = []
        for function in self.functions:
            whole = replace(
                function,
                name=function.name if function.framework == self.name else f"{self.name}.{function.name}",
                reductions=function.reductions or self.reductions,
            )
            found += _descriptions(whole, tuple(self.backends))
        object.__setattr__(self, "functions", tuple(found))
        for fault in _faults(self):
            raise DeclarationError(fault)

    def backend(self, environment: Mapping[str, str]) -> str:
        """The backend that runs where these variables are set; the first where none says; "" where there are none."""
        for name, backend in self.backends.items():
            chooses, value = next(iter(backend.environment.items()))
            if environment.get(chooses) == value:
                return name
        return next(iter(self.backends), "")

    def bundle(self, backend: str) -> Arrays:
        """The arrays of a backend."""
        own = self.backends.get(backend)
        return self.arrays if own is None or own.arrays is None else own.arrays

    def differentiates(self, backend: str) -> bool:
        """Whether gradients can be had in a backend."""
        return "gradient" in self.bundle(backend).derivatives

    def settings(self, backend: str) -> str:
        """Source text that sets the environment variables of a backend, for before any import; "" if there are none."""
        environment = self.backends[backend].environment if backend in self.backends else {}
        lines = [f"os.environ[{json.dumps(name)}] = {json.dumps(value)}; " for name, value in environment.items()]
        return f"import os; {''.join(lines)}" if lines else ""

    def preamble(self, backend: str) -> str:
        """The imports that a call needs, on one line."""
        return "; ".join(dict.fromkeys(filter(None, (self.bundle(backend).imports, self.imports))))

    @cached_property
    def here(self) -> tuple[Arrays, dict[str, Any]]:
        """(arrays, names that the imports bring) in the backend that runs in this process."""
        backend = self.backend(os.environ)
        names: dict[str, Any] = {"__name__": FILE}
        exec(self.preamble(backend), names)  # noqa: S102 - the adapter's own source
        return self.bundle(backend), names


# Releases


def _release(version: str) -> tuple[int, ...]:
    """A release as numbers, without zeros at the end; nothing for ""."""
    found = [int(part) for part in version.split(".")] if version else []
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def _at(function: Function, version: str, backend: str) -> Function:
    """A function as a release and backend have it."""
    found = replace(function, changes=())
    for change in function.changes:
        if _release(version) >= _release(change.since) and (not change.on or backend in change.on):
            found = _changed(found, change)
    return found


def _changed(function: Function, change: Change) -> Function:
    new: dict[str, Any] = {}
    for name, value in change.fields.items():
        old = getattr(function, name, None)
        if isinstance(old, Mapping):
            new[name] = {k: v for k, v in {**old, **value}.items() if v is not None}
        else:
            new[name] = value
    rules = new.get("rules", function.rules)
    if change.choices or change.documented:
        new["rules"] = tuple(
            replace(
                rule,
                convention=replace(rule.convention, **change.choices),
                source=rule.source if rule.features else change.documented or rule.source,
            )
            for rule in rules
        )
    try:
        return replace(function, **new)
    except TypeError as error:
        name = function.name.partition(".")[2]
        raise DeclarationError(f"functions[{name}].since({change.since!r}): {error}") from None


Span = tuple[str, str]
"""The first release of a range and the first one after it; "" where it is open."""


def _descriptions(function: Function, backends: tuple[str, ...]) -> Iterator[Function]:
    """A function described once for each range of releases and the backends that share it, the newest first."""
    if not (function.changes or function.first):
        yield function
        return
    for change in function.changes:
        if unknown := sorted(change.on - set(backends)):
            where = f"functions[{function.name.partition('.')[2]}].since({change.since!r})"
            raise DeclarationError(f"{where}: there is no backend {unknown[0]}")
    bounds = sorted({c.since for c in function.changes} | {function.first}, key=_release)
    starts = [bound for bound in bounds if _release(bound) >= _release(function.first)]
    among = backends or ("",)
    states = {backend: [(start, _at(function, start, backend)) for start in starts] for backend in among}
    rules = _ranges({backend: [(start, state.rules) for start, state in found] for backend, found in states.items()})
    bare = {backend: [(start, replace(state, rules=())) for start, state in found] for backend, found in states.items()}
    for span, on, state in _ranges(bare):
        kept = [
            replace(rule, versions=_specifiers(within), backends=among)
            for within, among, documented in rules
            if _overlap(span, within) and (on is None or among is None or on & among)
            for rule in documented
        ]
        yield replace(state, rules=tuple(kept), versions=_specifiers(span), backends=on)


def _overlap(one: Span, other: Span) -> bool:
    return all(not end or _release(start) < _release(end) for start, end in ((one[0], other[1]), (other[0], one[1])))


def _ranges(states: Mapping[str, list[tuple[str, Any]]]) -> list[tuple[Span, frozenset[str] | None, Any]]:
    """Equal states of neighbouring releases as one range, with the backends that share it; the newest first."""
    found: list[tuple[Span, set[str], Any]] = []
    for backend, history in states.items():
        end = ""
        for number in reversed(range(len(history))):
            start, state = history[number]
            if number and history[number - 1][1] == state:
                continue
            same = next((on for span, on, other in found if span == (start, end) and other == state), None)
            if same is None:
                found.append(((start, end), {backend}, state))
            else:
                same.add(backend)
            end = start
    found.sort(key=lambda one: _release(one[0][0]), reverse=True)
    return [(span, None if on == set(states) else frozenset(on), state) for span, on, state in found]


def _specifiers(span: Span) -> str:
    return ",".join(f"{sign}{release}" for sign, release in zip((">=", "<"), span, strict=True) if release)


# Faults of a declaration

_EFFECTS: Mapping[str, Callable[[Function], bool]] = {
    "mean_divides_by": lambda f: "mean" in f.reductions,
    "clip": lambda f: "probabilities" in f.takes,
    "renormalise": lambda f: "probabilities" in f.takes and "categorical" in f.ranks,
    "log_floor": lambda f: bool(f.takes.keys() - {"logits"}),
    "cancellation": lambda f: "logits" in f.takes,
    "binary_outputs": lambda f: "binary" in f.ranks,
    "gradient_cancellation": lambda f: f.differentiates,
    "gradient_total": lambda f: f.differentiates and "logits" in f.takes,
    "gradient_floor": lambda f: f.differentiates and "binary" in f.ranks,
    "default_ignore_index": lambda f: "index" in f.targets,
    "out_of_range": lambda f: "index" in f.targets,
    "empty_mean": lambda f: "mean" in f.reductions,
    "empty_batch": lambda f: bool({"sum", "mean"} & f.reductions.keys()),
}
"""Field of a convention -> whether it can have an effect on any answer of a function."""


def _faults(framework: Framework) -> Iterator[str]:
    """What is wrong in a declaration, each as `field: what`."""
    for mode, text in framework.modes.items():
        if not mode.isidentifier() or mode == EAGER:
            yield f"modes[{mode}]: a mode is one word, and not {EAGER}"
        yield from _source_faults(f"modes[{mode}]", text, ("loss",), needed=("loss",))
    for backend in framework.backends or ("",):
        for name, text in framework.bundle(backend).derivatives.items():
            yield from _source_faults(f"arrays.derivatives[{name}]", text, ("x", "result"), needed=("x", "result"))
    for function in framework.functions:
        for field_name, fault in _function_faults(framework, function):
            yield f"functions[{function.name.partition('.')[2]}].{field_name}: {fault}"


def _source_faults(where: str, text: str, words: Iterable[str], needed: Iterable[str] = ()) -> Iterator[str]:
    """Unknown and missing placeholders, and text that is no source whose last line is an expression."""
    found = _placeholders(text)
    if unknown := [word for word in found if word not in words]:
        yield f"{where}: there is no {{{unknown[0]}}}; there is {', '.join(f'{{{word}}}' for word in words)}"
    if missing := [word for word in needed if word not in found]:
        yield f"{where}: it has no {{{missing[0]}}}"
    try:
        _split(_sample(text))
    except (SyntaxError, LoweringError) as error:
        yield f"{where}: {error}"


def _function_faults(framework: Framework, function: Function) -> Iterator[tuple[str, str]]:
    words = (*OPTIONS, *DERIVED)
    for name, table, known in (
        ("ranks", function.ranks, LOSSES),
        ("takes", function.takes, INPUT_KINDS),
        ("targets", function.targets, TARGETS),
        ("reductions", function.reductions, REDUCTIONS),
        ("dtypes", function.dtypes, DTYPES),
        ("orders", function.orders, ORDERS),
        ("modes", function.modes or (), tuple(framework.modes)),
    ):
        if not table and name not in ("orders", "modes"):
            yield name, "it is empty"
        if unknown := sorted(set(table) - set(known)):
            yield name, f"there is no {unknown[0]}; there is {', '.join(known) or 'none'}"
    if function.lower is None and (unknown := sorted({w.partition(":")[0] for w in function.arguments} - set(words))):
        yield "arguments", f"there is no {unknown[0]}; there is {', '.join(words)}"
    yield from _call_faults(function)
    yield from _parameter_faults(function)
    for rule in function.rules:
        for name in rule.convention.choices():
            if name in _EFFECTS and not _EFFECTS[name](function):
                yield "rules", f"{name} has no effect on what it takes"
        if unknown := sorted((rule.targets or frozenset()) - set(TARGETS)):
            yield "rules", f"there is no target {unknown[0]}"


def _parameter_faults(function: Function) -> Iterator[tuple[str, str]]:
    for example in function.gaps:
        if not re.match(r"\w+=.", example):
            yield "gaps", f"{example} is no argument as source, as axis=0 is"
    declared = [*function.neutral, *map(_parameter, function.gaps)]
    for name in sorted({*function.neutral} & {*passed(function)}):
        yield "neutral", f"{name} carries something"
    for name in sorted({name for name in declared if declared.count(name) > 1}):
        yield "neutral", f"{name} has a gap"


def _call_faults(function: Function) -> Iterator[tuple[str, str]]:
    own = ("options", *ARRAYS, *function.arguments, *DERIVED)
    for fault in _source_faults("", function.call, own, needed=ARRAYS):
        yield "call", fault.removeprefix(": ")
        return
    within = _placeholders(function.call)
    cells = {f"arguments[{word}]": entry for word, entry in function.arguments.items() if word not in within}
    cells |= {f"takes[{kind}]": entry for kind, entry in function.takes.items()}
    appended = {f"reductions[{name}]": entry for name, entry in function.reductions.items()}
    for where, entry in appended.items():
        if _placeholders(entry):
            yield from ((where, fault.removeprefix(": ")) for fault in _source_faults("", entry, ("result",)))
        else:
            cells[where] = entry
    for where, entry in cells.items():
        if entry and "options" not in within:
            yield where, "its call has no {options} where the argument could go"
        try:
            ast.parse(f"f({_argument(entry, '0')})")
        except SyntaxError:
            yield where, f"{entry} is no argument as source"


# Writing a call


@dataclass(frozen=True)
class Call:
    """One call: source whose last expression is the result, and the arrays that its names stand for."""

    text: str
    arrays: Mapping[str, Tensor]
    fresh: bool = False
    """Whether it is compiled anew each time: what compiles a function keeps its own results by the code object."""


def described(function: Function, problem: Problem) -> str:
    """What is asked, as a message names it."""
    return f"{function.name} on {problem.case}"


def lowered(function: Function, problem: Problem) -> Call:
    """The call that puts a problem to a function; raises LoweringError where the adapter cannot say it.

    problem: already in a kind of prediction that the function takes.
    """
    try:
        if function.weights_handed_over == "per_loss":
            problem = broadcast_weights(problem)
        values = _values(function, problem)
        arrays = {word: value for word, value in values.items() if isinstance(value, Tensor)}
        # As text, since 0.0 == -0.0 and 1 == True.
        plain = tuple((word, source_of(value)) for word, value in values.items() if word not in arrays)
        return Call(function.text(problem.input_kind, problem.reduction, tuple(arrays), plain), arrays)
    except Exception as error:
        raise LoweringError(f"{described(function, problem)}: {type_name(error)}: {text_of(error)}") from cause(error)


def _values(function: Function, problem: Problem) -> dict[str, Any]:
    """Word -> array or plain value that a call may need, in the order in which its arguments are written."""
    options = problem.options
    values: dict[str, Any] = {
        "predictions": predictions(problem, _axis(function, problem)),
        "labels": _labels(function, problem),
    }
    for word in function.arguments:
        name = word.partition(":")[0]
        value = getattr(options, name, None)
        if value is not None:
            values[name] = Tensor(value) if isinstance(value, np.ndarray) else value
    if missing := set(options.names()) - function.options:
        raise LoweringError(f"it has no argument for {', '.join(sorted(missing))}")
    layout = problem.layout
    derived = {
        "class_axis": None if layout.class_axis == -1 else layout.class_axis,
        "labels_column": True if layout.labels == "column" else None,
        "dtype": problem.dtype,
        "classes": None if problem.target == "distribution" else _classes(problem),
        "target": problem.target,
    }
    values |= {word: value for word, value in derived.items() if word in function.words and value is not None}
    return values if function.lower is None else {**values, **function.lower(problem)}


def _text(
    function: Function,
    input_kind: InputKind,
    reduction: str,
    arrays: tuple[str, ...],
    plain: tuple[tuple[str, str], ...],
) -> str:
    """The source of a call, in which arrays stand under their names and plain values as source."""
    known = {word: word for word in arrays} | dict(plain)
    own = set(_placeholders(function.call))
    entries = {
        word: _argument(entry, known[name]) if (name := word.partition(":")[0]) in known else ""
        for word, entry in function.arguments.items()
    }
    reduce = function.reductions[reduction]
    appended = "{result}" in reduce
    rest = [function.takes[input_kind], *(text for word, text in entries.items() if word not in own)]
    options = ", ".join(filter(None, [*rest, "" if appended else reduce]))
    text = _filled(textwrap.dedent(function.call).strip(), {**known, **entries, "options": options})
    if not appended:
        return text
    statements, result = _split(text)
    return _joined(statements, reduce.replace("{result}", _atom(result)))


def transformed(framework: Framework, call: Call, quantity: str = "loss", mode: str = EAGER, backend: str = "") -> Call:
    """A call in a mode, and of the derivative that a quantity is; the call itself for the loss as it stands.

    Raises LoweringError where the framework has no such mode or derivative.
    """
    if quantity == "loss" and mode == EAGER:
        return call
    derivatives = framework.bundle(backend).derivatives
    if mode != EAGER and mode not in framework.modes:
        raise LoweringError(f"{framework.name} has no mode {mode}; it has {', '.join([EAGER, *framework.modes])}")
    if quantity != "loss" and quantity not in derivatives:
        raise LoweringError(f"{framework.name} has no {quantity}")
    derivative = "" if quantity == "loss" else derivatives[quantity]
    text = _transformed(call.text, tuple(call.arrays), framework.modes.get(mode, ""), derivative)
    return replace(call, text=text, fresh=mode != EAGER)


@lru_cache(maxsize=4096)
def _transformed(text: str, names: tuple[str, ...], mode: str, derivative: str) -> str:
    statements, result = _split(text)
    if statements or mode:
        arguments = ", ".join(names)
        body = _joined(statements, f"return {result}")
        statements, function = f"def loss({arguments}):\n{textwrap.indent(body, '    ')}", "loss"
        if mode:
            before, function = _split(mode.replace("{loss}", "loss"))
            statements = _joined(statements, before)
        result = f"{_atom(function)}({arguments})"
    if derivative:
        result = derivative.replace("{x}", "predictions").replace("{result}", _atom(result))
    return _joined(statements, result)


def source_of(value: Any) -> str:
    """A plain value as source text; `repr` of a float that is no number is none."""
    return f"float('{value}')" if isinstance(value, float) and not np.isfinite(value) else repr(value)


def _argument(entry: str, value: str) -> str:
    return f"{entry}={value}" if entry.isidentifier() else entry.replace("{}", value)


def _parameter(argument: str) -> str:
    """The name of an argument as source."""
    return argument.partition("=")[0]


@cache
def _placeholders(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(re.findall(r"\{([a-z_]\w*(?::\w+)?)\}", text)))


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Text with its placeholders filled; one that is empty goes with the comma beside it."""
    for name in _placeholders(text):
        if not values.get(name):
            text = re.sub(rf",\s*\{{{name}\}}|\{{{name}\}},\s*|\{{{name}\}}", "", text)
    return re.sub(r"\{([a-z_]\w*(?::\w+)?)\}", lambda found: values.get(found[1], found[0]), text)


@cache
def _sample(text: str) -> str:
    """Source with its placeholders filled in such a way that it can be parsed, if there is one."""
    text = textwrap.dedent(text).strip()
    values = {name: name.replace(":", "_") for name in _placeholders(text) if name != "options"}
    try:
        ast.parse(found := _filled(text, values))
    except SyntaxError:
        found = _filled(text, {name: values[name] for name in (*ARRAYS, "loss", "x", "result") if name in values})
    return found


@lru_cache(maxsize=4096)
def _split(text: str) -> tuple[str, str]:
    """(statements, the expression after them) of a piece of source."""
    last = ast.parse(text).body[-1]
    if not isinstance(last, ast.Expr):
        raise LoweringError(f"the last line is no expression: {text}")
    lines = text.encode().split(b"\n")
    before = [*lines[: last.lineno - 1], lines[last.lineno - 1][: last.col_offset]]
    after = [lines[last.lineno - 1][last.col_offset :], *lines[last.lineno :]]
    return tuple(b"\n".join(part).decode().strip().rstrip(";") for part in (before, after))  # type: ignore[return-value]


def _joined(*parts: str) -> str:
    return "\n".join(filter(None, parts))


@cache
def _atom(source: str) -> str:
    """An expression that binds as tightly as a name."""
    kinds = (ast.Call, ast.Name, ast.Attribute, ast.Subscript)
    return source if isinstance(ast.parse(source, mode="eval").body, kinds) else f"({source})"


def called(text: str) -> tuple[ast.Call, ...]:
    """The calls in the source of a call by which the predictions are handed over: a function's, or an object's and,
    before it, its constructor's; nothing where they are handed over otherwise.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            handed = [*node.args, *(keyword.value for keyword in node.keywords)]
            if any(isinstance(value, ast.Name) and value.id == "predictions" for value in handed):
                return (node.func, node) if isinstance(node.func, ast.Call) else (node,)
    return ()


@cache
def _path(call: str) -> str:
    """The dotted path of what is called with the predictions in the source of a call; "" where there is none."""
    found = called(_sample(call))
    return ast.unparse(found[0].func) if found else ""


# Making a call


def evaluate(framework: Framework, function: Function, problem: Problem) -> Outcome:
    """Put one problem to one function, in this process, and say what happened.

    problem: already in a kind of prediction that the function takes.  Raises LoweringError.
    """
    return perform(framework, lowered(function, problem), described(function, problem))


def _compiled(text: str) -> tuple[CodeType | None, CodeType]:
    tree = ast.parse(text, FILE)
    last = tree.body.pop()
    if not isinstance(last, ast.Expr):
        raise LoweringError(f"the last line is no expression: {text}")
    statements = compile(tree, FILE, "exec") if tree.body else None
    return statements, compile(ast.Expression(last.value), FILE, "eval")


_compiled_once = lru_cache(maxsize=4096)(_compiled)


def perform(framework: Framework, call: Call, what: str, copied: bool = True) -> Outcome:
    """Make a call and say what happened.

    what: names the call in messages.  copied: whether arrays are copied, laid out as they should be, and those that
    the function changed in place are told; else they are handed over themselves, as they lie, and are its to break.
    Whatever the framework's own call raises becomes `Raised`, but for what a signal raised, such as Ctrl-C; whatever
    goes wrong before it, or in the text of the call itself, raises `LoweringError`.  See `Surroundings` for what is
    put back after the call.
    """
    with Surroundings() as surroundings:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                framework.prepare()
                statements, result = (_compiled if call.fresh else _compiled_once)(call.text)
                arrays, imported = framework.here
                tensors = call.arrays
                memory = {name: tensor.laid_out() if copied else tensor.values for name, tensor in tensors.items()}
                names = imported | {name: arrays.native(values) for name, values in memory.items()}
        except BaseException as error:
            surroundings.pass_on(error)
            raise LoweringError(f"{what}: {type_name(error)}: {text_of(error)}") from cause(error)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                if statements is not None:
                    exec(statements, names)  # noqa: S102 - the adapter's own source
                read = _read(arrays, eval(result, names), surroundings, copied)  # noqa: S307
            except BaseException as error:
                surroundings.pass_on(error)
                if fault := _fault(error, call.text):
                    raise LoweringError(f"{what}: {fault}") from cause(error)
                return Raised(type_name(error), text_of(error)[:500], _texts(caught))
        if isinstance(read, NonNumeric):
            return replace(read, warnings=_texts(caught))
        mutated = tuple(name for name, tensor in tensors.items() if copied and not _same(memory[name], tensor.values))
        return Returned(*read, _texts(caught), mutated)


_KEYWORD = re.compile(r"unexpected keyword argument '(\w+)'")
_MODULE = re.compile(r"module '[\w.]+' has no attribute '(\w+)'")
_BINDING = re.compile(r"required (positional|keyword-only) argument|positional arguments? but|multiple values for")


def _fault(error: BaseException, text: str) -> str:
    """Why an exception is the fault of a call's text and no finding; "" where it is none.

    Names, attributes, imports and arguments that are not there, where the text itself asks for them.
    """
    if type(error) not in (TypeError, NameError, AttributeError, ImportError, ModuleNotFoundError):
        return ""
    message = f"{type_name(error)}: {text_of(error)}"
    if type(error) is TypeError and (named := _KEYWORD.search(message)) and re.search(rf"\b{named[1]}=", text):
        return message
    if (missing := _MODULE.search(message)) and re.search(rf"\.{missing[1]}\b", text):
        return message  # raised in the `__getattr__` of the module
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    if frame is None or frame.tb_frame.f_code.co_filename != FILE:
        return ""
    return message if type(error) is not TypeError or _BINDING.search(message) else ""


MOST_RETURNED = 1 << 27
"""Elements of the largest result that is looked at; as float64 it takes a gibibyte."""
_ARRAYS = ("__array__", "__array_interface__", "__dlpack__", "dtype")
"""Attributes of what says that it is an array."""


def _read(arrays: Arrays, result: Any, surroundings: Surroundings, copied: bool) -> tuple[Array, str] | NonNumeric:
    """(values in float64, name of the dtype) of a result, or what it is instead.

    An exception of something that says it is an array is raised: it may have been computed only now.
    """
    try:
        if issubclass(type(result), np.ma.MaskedArray) and np.ma.is_masked(result):
            return NonNumeric("a masked array with masked elements")
        value, dtype = arrays.numpy(result)
        found = np.asarray(value)
    except BaseException as error:
        surroundings.pass_on(error)
        if any(name in vars(kind) for kind in type(result).__mro__ for name in _ARRAYS):
            raise
        return NonNumeric(_named(result), f"{type_name(error)}: {text_of(error)[:500]}")
    if not (found.dtype.kind in "biuf" or (found.dtype.kind == "V" and found.dtype.name == "bfloat16")):
        is_array = issubclass(type(result), np.ndarray | np.generic)
        return NonNumeric(f"an array of {found.dtype.name}" if is_array else _named(result))
    if found.size > MOST_RETURNED:
        return NonNumeric(f"an array of shape {found.shape}")
    name = dtype if type(dtype) is str else text_of(dtype)[:100]
    # A copy, as the function may keep the array and write into it.
    return (np.array(found, dtype=np.float64) if copied else np.asarray(found, dtype=np.float64)), name


def _named(result: Any) -> str:
    """What a result is, with an article."""
    if result is None:
        return "None"
    name = type_name(result)
    return f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name}"


def reproducer(
    framework: Framework,
    function: Function,
    problem: Problem,
    call: Call | None = None,
    backend: str = "",
    replay: Callable[[], str] | None = None,
) -> str:
    """The call that `perform` makes, to paste into Python; its last expression is the result.

    It is one line where the text of the call has no compound statement.

    call: the problem lowered, where that is at hand.  backend: of the framework, that the call is made in.  replay:
    gives an expression that makes the call again, for arrays of more than `LITERAL_LIMIT` elements; None where there
    is no such expression.  Where nothing names an array of more than `LONGEST_LITERAL` elements, a comment says so.
    """
    call = lowered(function, problem) if call is None else call
    largest = max((tensor.values.size for tensor in call.arrays.values()), default=0)
    if largest > LITERAL_LIMIT and replay is not None:
        return f"{framework.settings(backend)}import conformance; {replay()}"
    if largest > LONGEST_LITERAL:
        return f"# too long to write out: an array of {largest} elements that is in no case"
    preamble = framework.preamble(backend)
    literal = framework.bundle(backend).literal
    literals = [f"{name} = {literal(tensor)}" for name, tensor in call.arrays.items()]
    source = "\n".join([*literals, call.text])
    own = {"import numpy as np": "np.", "import ml_dtypes": "ml_dtypes."}
    needed = [line for line, use in own.items() if use in source and line not in preamble]
    lines = "; ".join(filter(None, [preamble, *needed]))
    text = "; ".join(call.text.split("\n")) if _simple(call.text) else f"\n{call.text}"
    separator = "" if text.startswith("\n") else "; "
    return framework.settings(backend) + "; ".join(filter(None, [lines, *literals])) + separator + text


@lru_cache(maxsize=4096)
def _simple(text: str) -> bool:
    """Whether source is statements of one line each that may stand behind one another."""
    compound = (ast.FunctionDef, ast.With, ast.For, ast.While, ast.If, ast.Try, ast.ClassDef)
    return all(not isinstance(node, compound) and node.lineno == node.end_lineno for node in ast.parse(text).body)


# Signatures


@cache
def resolve(path: str) -> Any:
    """The object at a dotted path; imports the longest prefix that is a module."""
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError as error:
            if error.name is not None and ".".join(parts[:cut]).startswith(error.name):
                continue
            raise
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise LookupError(f"there is no {path}")


def signatures(path: str) -> tuple[inspect.Signature, ...]:
    """The signatures of a function: its call's, or its constructor's and that of calling what it constructs.

    Raises ValueError where there is none, as for some builtins.
    """
    target = resolve(path)
    if not inspect.isclass(target):
        return (inspect.signature(target),)
    call: Any = getattr(target, "forward", None) or target.__call__
    _, *rest = inspect.signature(call).parameters.values()  # without self
    return inspect.signature(target), inspect.Signature(rest)


def passed(function: Function) -> list[str]:
    """The names of the parameters that some call of a function passes, from its tables."""
    entries = [*function.arguments.values(), *function.takes.values(), *function.reductions.values()]
    found = dict.fromkeys(function.positional.values())
    for text in (*(f"f({_argument(entry, '0')})" for entry in entries), _sample(function.call)):
        with contextlib.suppress(SyntaxError):  # a piece that stands in no call, such as an entry of a dict
            nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
            found |= dict.fromkeys(keyword.arg for node in nodes for keyword in node.keywords if keyword.arg)
    return list(found)


def unaccounted(framework: Framework, function: Function) -> list[str]:
    """How the tables of a function differ from its signature in the installed release, one sentence each."""
    framework.prepare()
    declared = dict.fromkeys([*passed(function), *function.neutral, *map(_parameter, function.gaps)])
    try:
        found = [name for signature in signatures(function.path) for name in signature.parameters]
    except ValueError:
        listed = function.signature and declared
        return [] if listed else [f"{function.path} has no signature; list its parameters, with their source"]
    return [
        *(f"{function.path}({name}=) is not accounted for" for name in found if name not in declared),
        *(f"{function.path} has no parameter {name}" for name in declared if name not in found),
    ]


def _texts(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    """The first warnings, each once."""
    return tuple(dict.fromkeys(warning_text(warning) for warning in caught[:MOST_WARNINGS]))


def _same(now: Array, before: Array) -> bool:
    if now.shape != before.shape or now.dtype != before.dtype:
        return False
    together = now.nbytes % 8 == 0 and now.flags.c_contiguous and before.flags.c_contiguous
    pair = (now.reshape(-1), before.reshape(-1)) if together else (now, before)
    bits = "u8" if together else f"u{now.dtype.itemsize}"
    if bool((pair[0].view(bits) == pair[1].view(bits)).all()):
        return True
    return bool(np.all(identical(now, before)))


# Arrays of a problem: exact re-encodings of labels, and arrays as the layout wants them.


def encodable(problem: Problem) -> bool:
    """Whether every index label names a class, so that a one-hot encoding exists."""
    classes = problem.predictions.shape[-1]
    fits = problem.labels.shape == problem.sample_shape
    return fits and bool(np.all((problem.labels >= 0) & (problem.labels < classes)))


def _classes(problem: Problem) -> int:
    return int(problem.predictions.shape[-1]) if problem.loss == "categorical" else 2


def _axis(function: Function, problem: Problem) -> int:
    return function.class_axis if problem.loss == "categorical" else -1


def predictions(problem: Problem, axis: int = -1) -> Tensor:
    """The predictions, classes moved to the layout's axis, or to `axis` where the layout names none."""
    wanted = problem.layout.class_axis if problem.layout.class_axis != -1 else axis
    values = problem.predictions
    return Tensor(values if wanted == -1 else np.moveaxis(values, -1, wanted), problem.layout.order, wanted)


def _labels(function: Function, problem: Problem) -> Tensor:
    """The labels in a kind and dtype that a function takes; raises LoweringError for one that does not fit."""
    kind = function.target_as(problem.target_kind) or problem.target_kind
    dtype = function.labels_as(problem)
    if kind == "index":
        return index_labels(problem, dtype)
    encode = one_hot_labels if problem.target == "index" and kind == "one_hot" else labels
    return encode(problem, dtype, _axis(function, problem))


def labels(problem: Problem, dtype: str | None = None, axis: int = -1) -> Tensor:
    """The labels as the layout wants them; `dtype` is what the function requires, if it requires one."""
    values = problem.labels
    if problem.target == "distribution":
        wanted = problem.layout.class_axis if problem.layout.class_axis != -1 else axis
        values = values if wanted == -1 else np.moveaxis(values, -1, wanted)
    return Tensor(_as_laid_out(problem, values, dtype), _label_order(problem))


def one_hot_labels(problem: Problem, dtype: str | None = None, axis: int = -1) -> Tensor:
    """Distributions [..., C]: as given, or encoded from index labels."""
    if problem.target == "distribution":
        return labels(problem, dtype, axis)
    values = np.zeros((*problem.labels.shape, problem.predictions.shape[-1]), dtype=numpy_dtype(problem.dtype))
    np.put_along_axis(values, problem.labels[..., np.newaxis], 1, axis=-1)
    wanted = problem.layout.class_axis if problem.layout.class_axis != -1 else axis
    values = values if wanted == -1 else np.moveaxis(values, -1, wanted)
    return Tensor(values.astype(numpy_dtype(dtype)) if dtype else values, _label_order(problem))


def index_labels(problem: Problem, dtype: str | None = None) -> Tensor:
    """Index labels [...]: as given, or decoded from one-hot rows."""
    if problem.target == "index":
        return labels(problem, dtype)
    values = np.argmax(problem.labels.astype(np.float64), axis=-1)
    narrow = problem.layout.label_dtype
    if narrow is not None and dtype in (None, narrow) and not _holds(narrow, problem.predictions.shape[-1] - 1):
        dtype = values.dtype.name  # what holds 0 and 1 need not hold the index of a class
    return Tensor(_as_laid_out(problem, values, dtype), _label_order(problem))


def _holds(dtype: str, largest: int) -> bool:
    return int(np.array(largest).astype(numpy_dtype(dtype))) == largest


def broadcast_weights(problem: Problem) -> Problem:
    """The problem with one sample weight for each loss, where weights are stated for leading axes only."""
    weights, shape = problem.options.sample_weights, problem.sample_shape
    if weights is None or weights.shape == shape or weights.shape != shape[: weights.ndim]:
        return problem
    spread = np.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape)
    return replace(problem, options=replace(problem.options, sample_weights=spread))


def _as_laid_out(problem: Problem, values: Array, dtype: str | None) -> Array:
    wanted = dtype or problem.layout.label_dtype
    if wanted is not None:
        found = values.astype(numpy_dtype(wanted), copy=False)
        if dtype and found.dtype.kind in "iu" and values.dtype.kind in "iu" and not np.array_equal(found, values):
            raise LoweringError(f"labels do not fit {dtype}")
        values = found
    return values[..., np.newaxis] if problem.layout.labels == "column" else values


def _label_order(problem: Problem) -> Order:
    return "c" if problem.layout.order == "broadcast" else problem.layout.order

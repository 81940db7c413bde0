"""What an adapter declares: a framework, its functions, and what they document, as tables."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np

from conformance.adapters.arrays import Arrays
from conformance.adapters.contract.declaration import faults
from conformance.adapters.contract.encoding import encodable
from conformance.adapters.contract.errors import DeclarationError
from conformance.adapters.contract.releases import descriptions
from conformance.adapters.contract.source import FILE, argument, atom, called_path, filled, joined, placeholders, split
from conformance.model.case import (
    DTYPES,
    OPTIONS,
    ORDERS,
    InputKind,
    Loss,
    Order,
    Problem,
    numpy_dtype,
)  # fmt: skip
from conformance.model.convention import DEFINITION, Convention

Table = Mapping[str, str]
Neutral = Literal["name", "device", "deprecated alias", "implementation"]
"""What a parameter is whose argument changes no number: a name for messages, where to compute, another way to say what
a newer parameter says, a choice among implementations of the same formula."""


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
        return called_path(self.call)

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
        return frozenset(word.partition(":")[0] for word in (*self.arguments, *placeholders(self.call)))

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
            found += descriptions(whole, tuple(self.backends))
        object.__setattr__(self, "functions", tuple(found))
        for fault in faults(self):
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


def _text(
    function: Function,
    input_kind: InputKind,
    reduction: str,
    arrays: tuple[str, ...],
    plain: tuple[tuple[str, str], ...],
) -> str:
    """The source of a call, in which arrays stand under their names and plain values as source."""
    known = {word: word for word in arrays} | dict(plain)
    own = set(placeholders(function.call))
    entries = {
        word: argument(entry, known[name]) if (name := word.partition(":")[0]) in known else ""
        for word, entry in function.arguments.items()
    }
    reduce = function.reductions[reduction]
    appended = "{result}" in reduce
    rest = [function.takes[input_kind], *(text for word, text in entries.items() if word not in own)]
    options = ", ".join(filter(None, [*rest, "" if appended else reduce]))
    text = filled(textwrap.dedent(function.call).strip(), {**known, **entries, "options": options})
    if not appended:
        return text
    statements, result = split(text)
    return joined(statements, reduce.replace("{result}", atom(result)))

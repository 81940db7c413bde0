"""Plan a run: the functions to call on each case, for each dtype, reduction and quantity."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from conformance.adapters import registry
from conformance.adapters.contract import DocumentedConvention, Framework, Function, required_capabilities
from conformance.adapters.registry import Installed
from conformance.casefiles.loading import is_shipped
from conformance.judging.selection import ItemFilter, SelectionError
from conformance.model.case import Case, MustRaise, NoRightAnswer, Problem, Quantity, Reduction, is_derivative
from conformance.model.convention import Convention
from conformance.model.row_key import CPU, EAGER, RowKey, item_id
from conformance.reference.cache import DerivedCache, code_digest
from conformance.reference.conversion import convert_weights, why_not_convertible

MAX_DIFFERENTIATED = 20_000
"""Maximum number of predictions of a case whose gradient is tested: larger cases test long sums."""
MIN_REMEMBERED = 100
"""Minimum number of cases for which declarations are cached on disk; for fewer, opening the cache takes longer."""


@dataclass(frozen=True, eq=False)
class Item:
    """One function on one case with one dtype, reduction and quantity: one test, one row."""

    installed: Installed
    function: Function
    case: Case
    dtype: str
    reduction: Reduction
    quantity: Quantity = "loss"

    @property
    def framework(self) -> Framework:
        return self.installed.framework

    @property
    def id(self) -> str:
        """See `row_key.item_id`, as pytest shows it."""
        parts = (self.function.name, self.case.id, self.dtype, self.reduction)
        return item_id(*parts, self.quantity, self.installed.mode, self.installed.device)

    @functools.cached_property
    def key(self) -> RowKey:
        """The key of its row."""
        installed, case = self.installed, self.case
        return RowKey(
            case.id,
            case.digest,
            self.function.name,
            self.dtype,
            self.reduction,
            self.quantity,
            installed.environment,
            installed.version,
            installed.backend,
            installed.mode,
            installed.device,
        )


def plan(cases: Iterable[Case], available: Sequence[Installed], item_filter: ItemFilter | None = None) -> list[Item]:
    """The selected items that the functions of the available frameworks declare to support, case by case."""
    cases = list(cases)
    items: list[Item] = []
    with Declarations.on(cases) as declarations:
        for case, functions in candidates(cases, available, item_filter):
            declared = declarations.of_all(case, functions)
            for number, pair in enumerate(itertools.product(case.dtypes, case.reductions) if declared else ()):
                items += _items(
                    case,
                    *pair,
                    ((candidate, declarations_of[number]) for candidate, declarations_of in declared),
                    item_filter,
                )
    return items


VARIANT_STRIDE = 4
"""Relations and generated cases call a thinned function (see `is_thinned`) on one of this many: each call of a method
of a model traces it anew, and six such functions took as long as all others."""


class CandidateFunction(NamedTuple):
    """A function that may be called on a case."""

    installed: Installed
    function: Function
    is_whole: bool = True
    """Whether a filter selects all its items on the case."""

    def selects(
        self, item_filter: ItemFilter | None, case: Case, dtype: str, reduction: Reduction, quantity: Quantity = "loss"
    ) -> bool:
        """Whether a filter selects an item of it on the case."""
        if self.is_whole or item_filter is None:
            return True
        names = (self.function.name, case.id, dtype, reduction, quantity, self.installed.mode, self.installed.device)
        return item_filter(self.function.framework_name, item_id(*names))


def candidates(
    cases: Sequence[Case], available: Sequence[Installed], item_filter: ItemFilter | None = None
) -> Iterator[tuple[Case, list[CandidateFunction]]]:
    """Each case with the functions for which an item on it may be selected."""
    ids = "\n".join(case.id for case in cases)  # a word is in one of them or in none
    functions = [
        (installed, function)
        for installed in available
        for function in installed.functions
        if item_filter is None
        or item_filter.may_select(function.framework_name, function.name, ids, installed.mode, installed.device)
    ]
    for case in cases:
        selected = []
        for installed, function in functions:
            parts = (function.framework_name, function.name, case.id, installed.mode, installed.device)
            if is_selected(function, case, item_filter) and (item_filter is None or item_filter.may_select(*parts)):
                selected.append(
                    CandidateFunction(installed, function, item_filter is None or item_filter.must_select(*parts))
                )
        yield case, selected


def is_selected(function: Function, case: Case, item_filter: ItemFilter | None) -> bool:
    """Whether a function is called on a case: by default, or because the filter names the function."""
    return not is_thinned(function, item_filter) or _is_in(case, function.default_files) or not _is_shipped(case)


def is_thinned(function: Function, item_filter: ItemFilter | None) -> bool:
    """Whether a function is called on a part of the problems only: it has `default_files` and is not named."""
    return bool(function.default_files) and not (item_filter and item_filter.is_named(function.name))


def _is_in(case: Case, files: Container[str]) -> bool:
    """Whether a case is a shipped one from one of these files."""
    return case.id.rpartition("/")[0] in files


def _is_shipped(case: Case) -> bool:
    return bool(case.path) and is_shipped(case.path)


def items_of(case: Case, problem: Problem, functions: Iterable[CandidateFunction]) -> Iterator[Item]:
    """The items of a problem of a case, in the order of the functions; see `plan`."""
    declared = (
        (candidate, _declared(case, problem, candidate.installed, candidate.function)) for candidate in functions
    )
    return _items(case, problem.dtype, problem.reduction, declared, None)


def _items(
    case: Case,
    dtype: str,
    reduction: Reduction,
    declared: Iterable[tuple[CandidateFunction, Declaration]],
    item_filter: ItemFilter | None,
) -> Iterator[Item]:
    for candidate, declaration in declared:
        if declaration.unsupported is None:
            for quantity in candidate.function.quantities:
                is_tested = declaration.is_differentiated or not is_derivative(quantity)
                if is_tested and candidate.selects(item_filter, case, dtype, reduction, quantity):
                    yield Item(candidate.installed, candidate.function, case, dtype, reduction, quantity)


class Declaration(NamedTuple):
    """Whether a function supports a problem, by its declaration."""

    unsupported: str | None
    """Why it is not called on the problem; None if it is."""
    is_differentiated: bool
    """Whether its gradients are tested."""


def _declared(case: Case, problem: Problem, installed: Installed, function: Function) -> Declaration:
    why = unsupported(function, case, problem)
    derivatives = why is None and any(map(is_derivative, function.quantities))
    return Declaration(why, derivatives and not not_differentiated(installed, function, case, problem))


class Declarations:
    """Whether functions support the problems of cases, by their declarations.

    Those for many shipped cases are cached on disk in the user's cache folder: a look-up takes less time than to check
    a function against some thousand problems at each start.
    """

    def __init__(self, remembered: DerivedCache | None = None, facts: str = "") -> None:
        self._remembered = remembered
        self._facts = facts
        self._problems: tuple[Case, list[Problem]] | None = None
        """Problems of the most recent case."""
        self._tables: dict[tuple[int, int], _Table] = {}
        """Tables by the identities of the installed framework and of the function, which its backends share."""

    @classmethod
    @contextlib.contextmanager
    def on(cls, cases: Sequence[Case]) -> Iterator[Declarations]:
        """The declarations of functions for these cases; new ones are written to the cache on exit."""
        if len(cases) < MIN_REMEMBERED or not all(map(_is_shipped, cases)):
            yield cls()
            return
        with DerivedCache() as remembered:
            declarations = cls(remembered, deciding_facts(cases))
            yield declarations
            for table in declarations._tables.values():
                table.remember()

    def of_all(
        self, case: Case, functions: Iterable[CandidateFunction]
    ) -> list[tuple[CandidateFunction, Sequence[Declaration]]]:
        """Functions, each with its declarations for the problems of a case: for each dtype, one for each reduction."""
        return [(candidate, self._of(case, candidate.installed, candidate.function)) for candidate in functions]

    def _of(self, case: Case, installed: Installed, function: Function) -> Sequence[Declaration]:
        key = id(installed), id(function)
        if (table := self._tables.get(key)) is None:
            remembered = self._remembered if registry.is_shipped_framework(installed.framework) else None
            table = self._tables[key] = _Table(installed, function, remembered, self._facts)
        numbers = table.numbers.get(case.id)
        if numbers is None or len(numbers) != len(case.dtypes) * len(case.reductions):
            if self._problems is None or self._problems[0] is not case:
                self._problems = case, case.representative.problems()
            numbers = table.add(case, self._problems[1])
        return [table.distinct[number] for number in numbers]


class _Table:
    """The declarations of one function: the distinct ones, and for each problem of a case the index of its own."""

    def __init__(self, installed: Installed, function: Function, remembered: DerivedCache | None, facts: str) -> None:
        self._of = installed, function
        self._remembered = remembered
        names = (function.name, installed.environment, installed.backend, installed.mode, installed.device)
        self._name, self._facts = f"declarations of {names}", (installed.version, facts)
        known = remembered and remembered.get(self._name, *self._facts, read=_table_of)
        self.distinct: list[Declaration]
        self.numbers: dict[str, list[int]]
        self.distinct, self.numbers = known or ([], {})
        self._is_new = False

    def add(self, case: Case, problems: Iterable[Problem]) -> list[int]:
        """Indices into `distinct` for the problems of a case."""
        numbers: list[int] = []
        for problem in problems:
            if (declaration := _declared(case, problem, *self._of)) not in self.distinct:
                self.distinct.append(declaration)
            numbers.append(self.distinct.index(declaration))
        self.numbers[case.id] = numbers
        self._is_new = True
        return numbers

    def remember(self) -> None:
        """Write new declarations to the cache."""
        if self._is_new and self._remembered is not None:
            self._remembered.put(self._name, (self.distinct, self.numbers), *self._facts)


def _table_of(value: Any) -> tuple[list[Declaration], dict[str, list[int]]]:
    """Parse the value that `_Table.remember` wrote; raises an exception if it is malformed."""
    distinct = [Declaration(*fields) for fields in value[0]]
    for numbers in value[1].values():
        if not set(numbers) <= set(range(len(distinct))):
            raise ValueError("an index of no declaration")
    return distinct, value[1]


def deciding_facts(cases: Iterable[Case]) -> str:
    """Cache key of the declarations in a release: code, numpy, and the relevant fields of the cases."""
    facts = [
        (case.id, case.digest, case.dtypes, case.reductions, case.no_gradient, _is_shipped(case)) for case in cases
    ]
    return f"{code_digest('model', 'adapters', 'reference', 'casefiles', 'judging')} {np.__version__} {facts}"


def expand_modes(available: Sequence[Installed], modes: Sequence[str], device: str = CPU) -> list[Installed]:
    """Each framework on a device, once for each of the given modes that it has there; eager if no modes are given.

    Raises SelectionError for a mode or device that none of the frameworks has.
    """
    check_modes(modes, [(installation.framework, installation.backend) for installation in available], device)
    return [
        dataclasses.replace(installation, mode=mode, device=device)
        for installation in available
        for mode in chosen_modes(modes, installation.framework, installation.backend, device)
    ]


def chosen_modes(modes: Sequence[str], framework: Framework, backend: str, device: str = CPU) -> list[str]:
    """The given modes that a framework has in a backend on a device; eager if no modes are given.

    Empty if the backend does not support the device.
    """
    if device not in framework.devices_in(backend):
        return []
    return [mode for mode in dict.fromkeys(modes or (EAGER,)) if mode in framework.modes_in(backend, device)]


def check_modes(
    modes: Sequence[str], frameworks: Iterable[tuple[Framework, str]], device: str = CPU, *, local: bool = True
) -> None:
    """Raise SelectionError for a mode or device that none of these frameworks, each with its backend, has.

    local: whether calls are made on this machine; a mode that is unavailable there is then an error, too.
    """
    frameworks = tuple(frameworks)
    placed = [(framework, backend) for framework, backend in frameworks if device in framework.devices_in(backend)]
    if frameworks and not placed:
        listed = "; ".join(
            f"{framework.name} has {', '.join(framework.devices_in(backend))}" for framework, backend in frameworks
        )
        raise SelectionError(f"--device {device}: no selected framework has it; {listed}")
    frameworks = placed
    available = {framework.name: framework.modes_in(backend, device) for framework, backend in frameworks}
    for mode in modes:
        if available and not any(mode in names for names in available.values()):
            listed = "; ".join(f"{name} has {', '.join(names)}" for name, names in available.items())
            raise SelectionError(f"--mode {mode}: no selected framework has it; {listed}")
        for framework, _ in frameworks if local else ():
            if mode in available[framework.name] and (why := framework.mode(mode).why_unavailable()):
                raise SelectionError(f"--mode {mode}: {framework.name} cannot be called in it on this machine: {why}")


def not_differentiated(installed: Installed, function: Function, case: Case, problem: Problem) -> str | None:
    """Why the gradient of a function is not tested; None if it is."""
    returned = is_derivative(function.quantity)
    if not returned and not (function.differentiates and installed.differentiates):
        return "it does not differentiate"
    if case.no_gradient:
        return case.no_gradient
    if isinstance(case.expect, MustRaise | NoRightAnswer):
        return "there is no loss to differentiate"
    if function.input_kind_for(problem.input_kind) != problem.input_kind:
        return "it takes other predictions than the case has"
    if function.unsupported(problem) is not None:
        return "it takes other weights than the case has"
    if case.predicted > MAX_DIFFERENTIATED:
        return f"it has more than {MAX_DIFFERENTIATED} predictions"
    return None


def unsupported(function: Function, case: Case, problem: Problem, *, as_stated: bool = False) -> str | None:
    """Why a function is not called on a problem; None if it is.

    as_stated: whether it must support the weights of the case without converting them.
    """
    if _is_in(case, function.skipped_files) and _is_shipped(case):
        return "it is called with only some of the shipped cases"
    why = function.unsupported(problem)
    if why is not None and not as_stated and _has_convertible_weights(function, case, problem):
        why = None
    input_kind = function.input_kind_for(problem.input_kind)
    if why is not None or input_kind == problem.input_kind:
        return why
    if function.quantity != "loss":  # the derivative of the conversion would be the harness's
        return f"a conversion of predictions is tested by their loss, and it returns a {function.quantity}"
    if isinstance(case.expect, MustRaise) and case.expect.kind == "invalid_probability":
        return "a conversion would hide what is wrong with the predictions"
    return why_not_convertible(problem, input_kind)


def _has_convertible_weights(function: Function, case: Case, problem: Problem) -> bool:
    """Whether a function can be called with the weights of a problem converted.

    False for invalid input, for quantities computed from the loss, and for large cases, which test something else: in
    these, weights would add nothing.
    """
    if function.quantity != "loss" or isinstance(case.expect, MustRaise) or case.representative is not case:
        return False
    converted, name = convert_weights(problem, function.options)
    return bool(name) and function.unsupported(converted) is None


def documented_convention(item: Item, problem: Problem) -> DocumentedConvention:
    """The documented convention of the item's function for the kind of target that is passed to it."""
    target = item.function.target_kind_for(problem.target_kind) or problem.target_kind
    capabilities = required_capabilities(problem, target)
    return registry.convention_for(item.function, item.installed.version, target, item.installed.backend, capabilities)


def alternatives(item: Item, problem: Problem) -> Iterator[tuple[Function, Convention]]:
    """The functions of the item's framework that support its problem, each with its documented convention."""
    for function in item.installed.functions:
        if function.quantity == item.function.quantity and function.unsupported(problem) is None:
            yield function, documented_convention(dataclasses.replace(item, function=function), problem).convention

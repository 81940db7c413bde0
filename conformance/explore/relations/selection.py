"""Select the relations to check for each function and case: few, but with each kind of problem among them.

For each relation and function, the cases are visited in order, and one is selected if it has a feature that no
selected one has: an option, a layout, a kind of target or prediction, a pair of these kinds, a rank, an unusual input,
a probability of 0, a size, or a pair of dtype and reduction. Each combination of traits is assigned to every fourth
relation, with a different first relation for the next combination. A function that shares all but a part of its
computation with another one is checked by every fourth relation, unless it is named (see `plan.is_thinned`).
Problems without follow-ups are skipped before they count. The selection is deterministic, transforms each combination
of traits in the cases, and does not grow with redundant cases.

Cases with generated arrays are used in their small form: two samples, drawn with the same seed.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from conformance.adapters import registry
from conformance.adapters.contract import Function, required_capabilities
from conformance.adapters.registry import Installed
from conformance.explore.relations.catalogue import RELATIONS
from conformance.explore.relations.checker import Instance, has_no_losses
from conformance.explore.relations.relation import Relation
from conformance.judging.plan import VARIANT_STRIDE, Item, deciding_facts, is_selected, is_thinned, unsupported
from conformance.judging.prepare import Problems
from conformance.judging.selection import ItemFilter
from conformance.model.case import DTYPES, Case, MustRaise, NoRightAnswer, Problem, Reduction
from conformance.reference.cache import DerivedCache, code_digest
from conformance.reference.domain import examine

MAX_PREDICTIONS = 700
"""Maximum number of predictions of a case that is used."""
COMBINATION_STRIDE = 4
"""A combination is assigned to one of this many relations."""


def select_instances(
    cases: Iterable[Case],
    available: Sequence[Installed],
    item_filter: ItemFilter | None = None,
    relations: Sequence[Relation] = RELATIONS,
) -> list[Instance]:
    """Select the relations to check for the installed functions, function by function.

    item_filter: whether an instance, given by its framework and id, is requested. It is applied after the selection, so
    that it does not change what is selected; a relation without any requested instance is skipped early.
    """
    cases = list(cases)
    chosen: list[Instance] = []
    by_sample = (
        (installed, function)
        for installed in available
        for function in installed.functions
        if function.has_independent_losses
    )
    with DerivedCache() as remembered:
        earlier = _Selections(remembered, cases, relations)
        candidates = functools.cache(lambda: list(_candidates(cases, relations)))
        for installed, function in by_sample:  # relations hold for their sums
            if named_ids := _named_cases(item_filter, installed, function, cases):
                thinned = is_thinned(function, item_filter)
                instances = earlier.get(installed, function, thinned)
                if instances is None:
                    checked = _few(relations, function) if thinned else relations
                    instances, is_whole = _of_function(
                        installed, function, candidates(), named_ids, checked, item_filter
                    )
                    if is_whole and len(named_ids) == len(cases):
                        earlier.put(installed, function, thinned, instances)
                chosen += instances
    return [
        instance
        for instance in chosen
        if item_filter is None or item_filter(instance.item.function.framework_name, instance.id)
    ]


def _few(relations: Sequence[Relation], function: Function) -> Sequence[Relation]:
    """Every fourth relation; which is first depends on the name of the function."""
    return relations[zlib.crc32(function.name.encode()) % VARIANT_STRIDE :: VARIANT_STRIDE]


def _of_function(
    installed: Installed,
    function: Function,
    candidates: Sequence[_Candidate],
    named_ids: set[str],
    relations: Sequence[Relation],
    item_filter: ItemFilter | None,
) -> tuple[list[Instance], bool]:
    """(the instances of a function, whether none of the relations was skipped).

    named_ids: ids of the cases for which an instance may be requested.
    """
    chosen: list[Instance] = []
    last = next(
        (number for number, candidate in enumerate(reversed(candidates)) if candidate.case.id in named_ids),
        len(candidates),
    )
    expressible = [
        candidate
        for candidate in candidates[: len(candidates) - last]  # later ones do not affect the selection
        if is_selected(function, candidate.case, item_filter)
        and unsupported(function, candidate.case, candidate.problem, as_stated=True) is None
    ]
    numbers = {
        combination: number for number, combination in enumerate(dict.fromkeys(f.combination for f in expressible))
    }
    transformable = [
        candidate
        for candidate in expressible
        if not has_no_losses(_item(installed, function, candidate), candidate.problem)
    ]
    is_whole = True
    for relation_number, relation in enumerate(relations):
        if not relation.is_supported(function):
            continue
        eligible = [
            candidate
            for candidate in transformable
            if relation.name in candidate.relations and relation.is_callable(candidate.problem, function)
        ]
        instance_of = functools.partial(_instance, relation, installed, function)
        requested = [candidate for candidate in eligible if candidate.case.id in named_ids]
        if item_filter is None or any(
            item_filter(function.framework_name, instance_of(candidate).id) for candidate in requested
        ):
            assigned = {
                combination
                for combination, number in numbers.items()
                if (relation_number + number) % COMBINATION_STRIDE == 0
            }
            chosen += _cover_traits(eligible, requested, assigned, instance_of)
        else:
            is_whole = is_whole and not eligible
    return chosen, is_whole


class _Selections:
    """Cached selections of earlier runs by function, in the user's cache folder.

    Preparing each candidate of a function to see whether it can be called takes most of the time of a selection.
    """

    def __init__(self, remembered: DerivedCache, cases: Sequence[Case], relations: Sequence[Relation]) -> None:
        self._remembered = remembered
        self._cases = {case.id: case for case in cases}
        self._names = {relation.name: relation for relation in relations}
        self._problems = Problems(len(DTYPES) * len(cases))
        self._is_whole = relations is RELATIONS  # only these belong to the code in the cache key

    def get(self, installed: Installed, function: Function, thinned: bool) -> list[Instance] | None:
        """The instances of a function; None if they are unknown.

        thinned: whether only every fourth relation is checked; see `plan.is_thinned`.
        """
        if not (self._is_whole and registry.is_shipped_framework(installed.framework)):
            return None
        return self._remembered.get(
            _entry(installed, function, thinned),
            installed.version,
            self._facts,
            read=lambda records: [self._instance(installed, function, *fields) for fields in records],
        )

    def put(self, installed: Installed, function: Function, thinned: bool, selected: Iterable[Instance]) -> None:
        """Cache all instances of a function."""
        if self._is_whole and registry.is_shipped_framework(installed.framework):
            records = [
                (instance.relation.name, instance.item.case.id, instance.item.dtype, instance.item.reduction)
                for instance in selected
            ]
            self._remembered.put(_entry(installed, function, thinned), records, installed.version, self._facts)

    def _instance(
        self, installed: Installed, function: Function, relation: str, case: str, dtype: str, reduction: Reduction
    ) -> Instance:
        representative = self._cases[case].representative
        item = Item(installed, function, representative, dtype, reduction)
        return Instance(self._names[relation], item, self._problems.of(representative, dtype, reduction))

    @functools.cached_property
    def _facts(self) -> str:
        """Cache key of the selections: everything that affects them for any function."""
        return f"{code_digest('explore')} {deciding_facts(self._cases.values())}"


def _entry(installed: Installed, function: Function, thinned: bool) -> str:
    """The name of the cache entry of a function."""
    parts = (function.name, installed.environment, installed.backend, installed.mode, installed.device, thinned)
    return f"relations of {parts}"


def _named_cases(
    item_filter: ItemFilter | None, installed: Installed, function: Function, cases: Iterable[Case]
) -> set[str]:
    """The ids of cases for which an instance of a function may be requested, for any relation."""
    if item_filter is None:
        return {case.id for case in cases}
    names = "\n".join(relation.name for relation in RELATIONS)
    may_select = functools.partial(item_filter.may_select, function.framework_name, function.name)
    parts = (installed.mode, installed.device, names)
    if not may_select("\n".join(case.id for case in cases), *parts):  # a word is in one of the ids or in none
        return set()
    return {case.id for case in cases if may_select(case.id, *parts)}


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A problem that may be selected."""

    case: Case
    problem: Problem
    combination: frozenset[str]
    """The traits of the problem other than dtype and reduction."""
    features: frozenset[object]
    """The combination, the problem's unusual properties, and its dtype and reduction."""
    relations: frozenset[str]
    """Names of the relations that apply to the problem."""


def _item(installed: Installed, function: Function, candidate: _Candidate) -> Item:
    """The item of a function on a candidate."""
    return Item(installed, function, candidate.case, candidate.problem.dtype, candidate.problem.reduction)


def _instance(relation: Relation, installed: Installed, function: Function, candidate: _Candidate) -> Instance:
    """The instance that checks a relation for a function on a candidate."""
    return Instance(relation, _item(installed, function, candidate), candidate.problem)


def exclusion_reason(case: Case) -> str:
    """Why no relation is checked on a case; "" if relations may be."""
    case = case.representative
    if isinstance(case.expect, MustRaise | NoRightAnswer):
        return "a case without an answer has nothing to compare"
    if case.predictions.size > MAX_PREDICTIONS:
        return f"a case of more than {MAX_PREDICTIONS} predictions is left out"
    if case.layout.class_names:
        return "a case with classes is left out, as relations change the classes and names do not follow"
    return ""


def _candidates(cases: Iterable[Case], relations: Sequence[Relation]) -> Iterator[_Candidate]:
    for case in (case.representative for case in cases if not exclusion_reason(case)):
        described: dict[str, tuple[frozenset[str], frozenset[str], frozenset[str]]] = {}  # the same for all reductions
        for problem in case.problems():
            dtype, reduction = problem.dtype, problem.reduction
            if dtype not in described:
                combination = required_capabilities(problem, problem.target_kind) - {dtype, reduction}
                traits = combination | _kinds(problem) | _size_traits(problem) | _pair_traits(problem)
                names = frozenset(relation.name for relation in relations if relation.is_about(problem))
                described[dtype] = combination, traits, names
            combination, traits, names = described[dtype]
            yield _Candidate(case, problem, combination, frozenset({*traits, (dtype, reduction)}), names)


def _kinds(problem: Problem) -> frozenset[str]:
    """The kinds of unusual input, except the one of every small problem."""
    return examine(problem) - {"missing_class"}


def _pair_traits(problem: Problem) -> frozenset[str]:
    """The kind of predictions with the kind of target, and whether a probability is 0, whose loss may be infinite."""
    pair = f"{problem.input_kind} and {problem.target_kind}"
    is_zero = problem.input_kind == "probabilities" and bool(np.any(problem.predictions == 0))
    return frozenset({pair, "zero_probability"} if is_zero else {pair})


def _size_traits(problem: Problem) -> frozenset[str]:
    """Magnitudes of predictions in steps of 2**8, the kind of ignored label, and whether there are many classes."""
    x = np.abs(problem.predictions.astype(np.float64))
    x = x[np.isfinite(x) & (x > 0)]
    exponents = {int(np.log2(end)) // 8 for end in (x.min(), x.max())} if x.size else set()
    traits = {f"2**{8 * end}" for end in exponents}
    ignored = problem.options.ignore_index
    if ignored is not None:
        traits.add("ignored_class_0" if ignored == 0 else "ignored_class" if ignored > 0 else "ignored_label")
    if problem.loss == "categorical" and problem.predictions.shape[-1] > np.iinfo(np.int8).max:
        traits.add("many_classes")
    return frozenset(traits)


def _cover_traits(
    candidates: Iterable[_Candidate],
    requested: Sequence[_Candidate],
    assigned: set[frozenset[str]],
    instance_of: Callable[[_Candidate], Instance],
) -> Iterator[Instance]:
    """Yield the instances of candidates that have a new feature, or a combination in `assigned` that is new.

    requested: candidates whose instances are needed.  Features that none of them has are ignored, so that other
    candidates, which only determine whether the features of a requested one are new, are rarely prepared.
    """
    required = frozenset().union(*(candidate.features for candidate in requested))
    covered: set[object] = set()
    uncovered = assigned & {candidate.combination for candidate in requested}
    for candidate in candidates:
        if candidate.features & required <= covered and candidate.combination not in uncovered:
            continue
        instance = instance_of(candidate)
        if instance.prepared is not None:
            covered |= candidate.features
            uncovered.discard(candidate.combination)
            yield instance

"""Relations: those that are right keep every one, and which faults they catch without an exact answer."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
import sys
from fractions import Fraction
from typing import ClassVar

import numpy as np
import pytest

from conformance import cli
from conformance.adapters import registry
from conformance.adapters.contract import encoding
from conformance.adapters.contract.calling import perform
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import KnownIssue, Ledger
from conformance.explore.relations import checker, rendering, selection
from conformance.explore.relations.catalogue import RELATIONS, check_relation_names
from conformance.explore.relations.checker import Checker, Instance, RelationResult, check, stale_entries
from conformance.explore.relations.selection import exclusion_reason, select_instances
from conformance.judging.effects import has_effect
from conformance.judging.selection import ItemFilter, function_filter, keyword_filter
from conformance.model.case import REDUCTIONS
from conformance.model.convention import DEFINITION, INVALID
from conformance.model.errors import CaseErrors
from conformance.model.outcome import Crashed, Raised
from conformance.reference.domain import examine
from conformance.reference.oracle import divisor
from conformance.tests import miniatures
from conformance.tests.stated import case, shipped

CASES = shipped()
NARROW = [dataclasses.replace(c.representative, dtypes=("float32",)) for c in CASES if "float32" in c.dtypes]
CAUGHT = {
    "ClipsAt1e8": "clipped_beforehand",
    "ClipsBelowOnly": "clipped_beforehand",
    "ClipsAboveOnly": "clipped_beforehand",
    "RenormalisesUnasked": "other_probabilities",
    "MeanOverKept": "scaled_class_weights",
    "MeanOverSamples": "left_out_ignored",
    "MeanOverLabelWeight": "sum_of_mean",
    "SingleForDouble": "shifted_logits",
    "HalfForSingle": "shifted_logits",
    "SingleLogarithm": "as_log_probabilities",
    "Noisy": "in_float64",
    "SlightlyNoisy": "in_float64",
    "NoisyInOnePlace": "permuted_samples",
    "Unshifted": "shifted_logits",
    "LogOfSoftmax": "as_log_probabilities",
    "AddsEpsilon": "as_probabilities",
    "NormalisesLogs": "permuted_classes",
    "SoftmaxTwice": "as_probabilities",
    "DividesByOneLess": "repeated_row",
    "MeanOverTheBatch": "one_axis",
    "CountsIgnoredInTheMean": "left_out_ignored",
    "CountsIgnoredLosses": "left_out_ignored",
    "IgnoreIndexIsFalsy": "left_out_label",
    "DropsSampleWeights": "left_out_sample",
    "ForgetsWeightsInSums": "sum_of_losses",
    "DropsClassWeights": "left_out_class",
    "WeighsTheLabelOnly": "smoothed_labels",
    "BroadcastsColumns": "labels_in_a_column",
    "DropsSmoothing": "smoothed_labels",
    "SmoothsOverTheOthers": "smoothed_labels",
    "SmoothsTwice": "smoothed_labels",
    "HardensTargets": "mixed_labels",
    "NormalisesTargets": "smoothed_labels",
    "SwapsTwoClasses": "permuted_classes",
    "SwapsWeightsOfTwoClasses": "weighted_classes",
    "CountsLabelsFromOne": "other_encoding",
    "LabelsInBytes": "permuted_classes",
    "TransposesSquares": "repeated_row",
    "MixesUpAxes": "classes_first",
    "ReadsMemoryInOrder": "fortran_arrays",
    "WritesIntoItsInput": "asked_again",
    "WritesIntoItsLabels": "asked_again",
    "RemembersWeights": "permuted_classes",
    "IsARunningMean": "asked_again",
    "ReturnsDouble": "in_float64",
    "ReturnsSingle": "in_float64",
    "ReturnsColumns": "permuted_samples",
    "ReturnsVectors": "sum_of_mean",
    "ReturnsFlat": "permuted_samples",
    "SumsTheBatchOnly": "sum_of_losses",
    "SwallowsNan": "mixed_labels",
    "SwallowsInfinity": "sum_of_losses",
    "NanForZeroTimesInfinity": "mixed_labels",
    "RaisesOnCertainty": "as_logits",
    "RaisesOnColumns": "labels_in_a_column",
    "ForgetsTheSign": "sum_of_losses",
    "SingleForDoubleBinary": "as_probabilities",
    "LogOfSigmoid": "in_float64",
    "DropsTheTail": "as_probabilities",
    "CancelsLogits": "opposite_outputs",
    "BinaryMeanOverSamples": "left_out_sample",
    "PositiveWeightOnNegatives": "weighted_positives",
    "PositiveWeightInTheMean": "weighted_positives",
    "DropsBinarySmoothing": "smoothed_labels",
    "SmoothsTowardsOne": "smoothed_labels",
    "HardensBinaryTargets": "mixed_labels",
}
"""The relation that each of these breaks; most break several."""
NEEDS_AN_ANSWER = {
    "ClipsUnasked": "the clip is the same whichever way a probability is said",
    "RenormalisesTooEarly": "what it clips afterwards is where it would have clipped before",
    "FloorsAtFifty": "the floor is the same whichever way a probability is said",
    "FloorsOneTerm": "only numbers below the floor show it, and their complements are 1",
    "IgnoresUnasked": "a label that is not a class has no second way to be said",
    "WrapsMinusOne": "it is about what must be rejected",
    "TakesAnyLabel": "it is about what must be rejected",
    "LosesLabelsOutside": "it is about what must be rejected",
    "TakesAnyProbability": "it is about what must be rejected",
    "TakesAnyTarget": "it is about what must be rejected",
    "TakesAnyBinaryTarget": "it is about what must be rejected",
    "BroadcastsShapes": "it is about what must be rejected",
    "HalfAccumulator": "only tens of thousands of samples show it",
    "LabelsInTheDtype": "only thousands of classes show it",
    "IgnoredInTheDtype": "only thousands of classes show it",
}
"""Faults that relations do not see on the cases that they are held against, and why."""


LEFT_OUT = {
    loss.__name__ for loss in miniatures.RIGHT if not miniatures.installed(loss).functions[0].has_independent_losses
}
"""Those that are right whose results are not losses of each prediction as it is."""
DEFINED = (miniatures.Categorical, miniatures.Binary)
WITH_CONVENTION = [loss for loss in miniatures.RIGHT if loss.__name__ not in LEFT_OUT and loss not in DEFINED]


def named(*names):
    return [relation for relation in RELATIONS if relation.name in names]


def findings(loss, cases=CASES, among=RELATIONS, ledger=None):
    checker = Checker(perform, ledger or Ledger())
    for instance in select_instances(cases, [miniatures.installed(loss)], relations=among):
        yield checker.check(instance)


def is_affected(of, convention):
    """Whether a convention can change an answer to a case."""
    return any(
        divisor(problem, convention) != divisor(problem) if name == "mean_divides_by" else True
        for problem in of.problems()
        for name in convention.choices()
        if has_effect(name, convention, problem, "loss")
    )


@pytest.mark.parametrize("loss", WITH_CONVENTION, ids=lambda loss: loss.__name__)
def test_relations_hold_for_documented_conventions(loss):
    """On the cases that the convention can change, and an eighth of the others: there the function computes the
    definition, which is checked on all of them."""
    cases = [of for of in NARROW if not exclusion_reason(of)]
    checked = [of for number, of in enumerate(cases) if number % 8 == 0 or is_affected(of, loss.documented)]
    found = list(findings(loss, checked))
    assert len(found) > 200
    assert [str(finding) for finding in found if finding.violation] == []


def test_relations_hold_for_definition_in_each_dtype():
    found = [finding for loss in DEFINED for finding in findings(loss)]
    assert [str(finding) for finding in found if finding.violation] == []
    everywhere = {finding.instance.relation.name for finding in found}
    documented = {"clipped_beforehand", "halved_rows"}
    assert everywhere == {relation.name for relation in RELATIONS} - documented - {"two_classes"}


@pytest.mark.parametrize("name", CAUGHT)
def test_relation_detects_fault(name):
    loss, among = getattr(miniatures, name), named(CAUGHT[name])
    found = (found for cases in (CASES[::8], CASES) for found in findings(loss, cases, among))  # few show most faults
    broken = next((found for found in found if found.violation), None)
    assert broken is not None
    assert broken.expected == "unexpected"


def test_expected_faults_exist():
    assert CAUGHT.keys() | NEEDS_AN_ANSWER.keys() <= {loss.__name__ for loss in miniatures.FAULTY}
    assert not CAUGHT.keys() & NEEDS_AN_ANSWER.keys()
    assert not CAUGHT.keys() & NEEDS_AN_ANSWER.keys()


def test_most_relations_are_violated_by_fault_or_convention():
    names = {relation.name for relation in RELATIONS}
    assert set(CAUGHT.values()) <= names
    assert len(set(CAUGHT.values())) > len(names) / 2


# What is chosen


def test_selection_covers_options_layouts_and_targets():
    chosen = select_instances(CASES, [miniatures.installed(miniatures.Categorical)], relations=named("asked_again"))
    asked = [instance.problem for instance in chosen]
    have = [c for c in CASES if c.loss == "categorical" and type(c.expect).__name__ in ("Digits", "ByOracle")]
    for shows in (
        lambda c: c.options.names(),
        lambda c: c.layout.names(),
        lambda c: [c.input_kind],
        lambda c: [c.target],
        lambda c: getattr(c, "dtypes", None) or [c.dtype],
        lambda c: getattr(c, "reductions", None) or [c.reduction],
    ):
        assert {x for c in asked for x in shows(c)} == {
            x for c in have for x in shows(c.representative if c in have else c)
        }


def test_variant_is_checked_by_every_fourth_relation_unless_named():
    there = miniatures.installed(miniatures.Categorical)
    files = frozenset(case.id.rpartition("/")[0] for case in CASES)
    (variant,) = (dataclasses.replace(function, default_files=files) for function in there.functions)
    there = dataclasses.replace(there, framework=dataclasses.replace(there.framework, functions=(variant,)))
    filters = None, function_filter([variant.name])
    few, every = ({one.relation.name for one in select_instances(CASES, [there], of)} for of in filters)
    assert few < every
    assert 0 < len(few) <= len(RELATIONS) // 4 + 1


def test_selection_is_independent_of_filter():
    here = [miniatures.installed(miniatures.Categorical)]
    among = RELATIONS[::6]
    everything = [instance.id for instance in select_instances(CASES, here, relations=among)]
    some = select_instances(CASES, here, ItemFilter(lambda _, name: "float64-none" in name), among)
    assert [instance.id for instance in some] == [name for name in everything if "float64-none" in name]
    assert len(everything) == len(set(everything))


def test_selection_is_cached_until_its_inputs_change(tmp_path, monkeypatch):
    monkeypatch.setenv("CONFORMANCE_CACHE", str(tmp_path))
    few = CASES[: len(CASES) // 20]
    sklearn = Installed(next(one for one in registry.frameworks() if one.name == "sklearn"), "1.9.0")
    selected = [instance.id for instance in select_instances(few, [sklearn])]
    monkeypatch.setattr(selection, "_candidates", lambda *_: pytest.fail("selects"))
    again = select_instances(few, [sklearn], keyword_filter("float64"))
    assert [instance.id for instance in again] == [name for name in selected if "float64" in name]
    assert again
    assert all(instance.prepared is not None for instance in again)
    for cases, installed in (few[1:], sklearn), (few, dataclasses.replace(sklearn, version="1.8.0")):
        with pytest.raises(pytest.fail.Exception, match="selects"):
            select_instances(cases, [installed])
    monkeypatch.setattr(selection, "code_digest", lambda *_: "another")
    with pytest.raises(pytest.fail.Exception, match="selects"):
        select_instances(few, [sklearn])


def test_damaged_selection_cache_is_rebuilt(tmp_path, monkeypatch):
    monkeypatch.setenv("CONFORMANCE_CACHE", str(tmp_path))
    sklearn = Installed(next(one for one in registry.frameworks() if one.name == "sklearn"), "1.9.0")
    few = CASES[: len(CASES) // 20]
    selected = [instance.id for instance in select_instances(few, [sklearn])]
    with contextlib.closing(sqlite3.connect(tmp_path / "remembered.sqlite")) as database, database:
        assert database.execute("UPDATE answers SET value = substr(value, 1, 40)").rowcount
    assert [instance.id for instance in select_instances(few, [sklearn])] == selected


@pytest.mark.parametrize("keyword", [CASES[len(CASES) // 2].id, "unweighted or plain", "Categorical and not plain"])
def test_selection_of_cases_is_subset_of_full_selection(keyword):
    here = [miniatures.installed(miniatures.Categorical)]
    among = RELATIONS[1::6]
    item_filter = keyword_filter(keyword)
    everything = [instance.id for instance in select_instances(CASES, here, relations=among)]
    some = [instance.id for instance in select_instances(CASES, here, item_filter, among)]
    assert some == [name for name in everything if item_filter("miniature", name)]


def test_follow_ups_of_all_reductions_share_their_arrays():
    problems = {problem.reduction: problem for problem in dataclasses.replace(PLAIN, reductions=REDUCTIONS).problems()}
    relation = named("permuted_classes")[0]
    groups = {name: relation.group_of(problem, DEFINITION) for name, problem in problems.items()}
    for name, group in groups.items():
        assert group.source is problems[name]
        assert {follow_up.reduction for follow_up in group.follow_ups} == {name}
        assert group.follow_ups[0].predictions is groups["none"].follow_ups[0].predictions


def test_relation_declares_change_of_reduction():
    functions = [miniatures.installed(loss).functions[0] for loss in (miniatures.Categorical, miniatures.Binary)]
    cases = [of for of in CASES if not exclusion_reason(of)][::9]
    problems = [problem for of in cases for problem in of.problems() if not examine(problem) & INVALID]
    supported = [(f, problem) for f in functions for problem in problems if f.unsupported(problem) is None]
    for relation in RELATIONS:
        about = [problem for function, problem in supported if relation.applies(problem, function)]
        groups = filter(None, (relation.group(problem, DEFINITION) for problem in about))
        members = [(group.source.reduction, follow_up.reduction) for group in groups for follow_up in group.follow_ups]
        assert relation.changes_reduction == any(source != other for source, other in members), relation.name


def test_instance_with_identical_calls_is_skipped():
    class OneEncoding(miniatures.Categorical):
        @classmethod
        def placeholder_values(cls, problem):
            return {"labels": encoding.one_hot_labels(problem), "target": "distribution"}

    plain = case([[0.5, -1.5, 0.25], [2.0, 0.25, -1.0]], [1, 0])
    asked = select_instances([plain], [miniatures.installed(miniatures.Categorical)], relations=named("other_encoding"))
    assert asked
    assert select_instances([plain], [miniatures.installed(OneEncoding)], relations=named("other_encoding")) == []


# What is exact


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_shift_of_logits_is_exact(dtype):
    plain = case([[0.1, -1.7, 0.3], [2.9, 0.2, -1.1]], [1, 0]).problem(dtype, "none")
    both = named("shifted_logits")[0].group(plain, miniatures.Categorical.documented)
    start, moved = (side.predictions.astype(np.float64) for side in (both.source, both.follow_ups[0]))
    shifts = moved - start
    assert np.all(shifts == shifts[:, :1])
    assert np.all(np.abs(shifts) >= 64)
    assert np.all(np.abs(start - plain.predictions.astype(np.float64)) <= 0.25)


def test_divisor_of_mean_is_exact():
    weighted = case([[0.1, 0.2]] * 3, [0, 1, 1], options={"class_weights": [0.1, 0.7], "sample_weights": [1, 2, 0.5]})
    problem = weighted.problem("float64", "mean")
    exact = divisor(problem, miniatures.Categorical.documented)
    assert exact == Fraction(0.1) + Fraction(2.5) * Fraction(0.7)
    assert divisor(problem, miniatures.DividesByKept.documented) == 3
    assert divisor(problem, miniatures.DividesBySampleWeight.documented) == 3.5
    soft = case([[0.1, 0.2]], [[0.5, 0.25]], target="distribution", options={"class_weights": [1.0, 3.0]})
    problem = soft.problem("float64", "mean")
    assert float(divisor(problem, miniatures.Categorical.documented)) == 5 / 3
    assert divisor(problem, miniatures.DividesByTargetWeight.documented) == Fraction(5, 4)
    assert divisor(case([[0.1, 0.2]], [[0.5, 0.25]], target="distribution").problem("float64", "mean")) == 1


@pytest.mark.parametrize("input_kind", ["logits", "probabilities"])
def test_scaled_class_weights_keep_the_mean(input_kind):
    predictions = {"logits": [[0.5, -1.0, 2.0]] * 3, "probabilities": [[0.2, 0.5, 0.3]] * 3}[input_kind]
    labels = [[0.2, 0.3, 0.0], [0.5, 0.25, 0.75], [0.0, 0.0, 1.0]]
    soft = case(
        predictions, labels, input_kind=input_kind, target="distribution", reductions=("mean",),
        options={"class_weights": [0.7, 1.9, 0.4]},
    )  # fmt: skip
    for loss in (miniatures.Categorical, miniatures.DividesByTargetWeight, miniatures.DividesByKept):
        held = list(findings(loss, [soft], named("scaled_class_weights")))
        assert held
        assert [finding.violation for finding in held] == [""] * len(held)


# What is said


SMALL = {"dtypes": ("float32",), "reductions": ("none",), "id": "a/b/plain"}
PLAIN = case([[0.5, -1.5, 0.25], [2.0, 0.25, -1.0]], [1, 0], **SMALL)


def one(loss, relation, plain=PLAIN, ledger=None, performer=perform) -> RelationResult:
    (instance,) = select_instances([plain], [miniatures.installed(loss)], relations=named(relation))
    return check(instance, performer, ledger or Ledger())


def test_result_text_has_values_error_and_both_calls():
    text = str(one(miniatures.SwapsTwoClasses, "permuted_classes"))
    lines = [line.split()[0] for line in text.splitlines()]
    assert lines[1:] == ["relation", "case", "got", "want", "how", "because", "one", "the", "again"]
    assert "x the tolerance" in text
    calls = one(miniatures.SwapsTwoClasses, "permuted_classes").calls
    values = []
    for call in calls:
        *imports, expression = call.split("; ")
        scope = {}
        exec("\n".join(imports), scope)
        values.append(eval(expression, scope))
    assert not np.allclose(*values)


def test_exception_on_one_side_only_violates_relation():
    broken = one(miniatures.RaisesOnColumns, "labels_in_a_column")
    assert broken.violation == "one side raised ValueError: labels have two axes, and another did not"
    raises = one(miniatures.Categorical, "permuted_samples", performer=lambda *_: Raised("ValueError", "no"))
    assert (raises.violation, raises.expected) == ("", "ok")


def test_crash_violates_relation():
    broken = one(miniatures.Categorical, "permuted_samples", performer=lambda *_: Crashed("was killed by SIGSEGV"))
    assert broken.violation == "one side ended its process, which was killed by SIGSEGV"


@pytest.mark.parametrize(
    ("entry", "faulty", "right"),
    [
        ("a/b/plain", "known", "ok"),
        ("relation/permuted_classes/a/b/plain", "known", "stale"),
        ("relation/permuted_classes/a/*", "known", "ok"),
        ("relation/permuted_samples/a/b/plain", "unexpected", "ok"),
        ("relation/*/asks*", "known", "ok"),
        ("relation/permuted_classes/asks/*label_smoothing*", "unexpected", "ok"),
    ],
)
def test_result_quotes_known_issue(entry, faulty, right):
    ledger = Ledger([KnownIssue(entry, "miniature.*", reason="It swaps.")])
    broken = one(miniatures.SwapsTwoClasses, "permuted_classes", ledger=ledger)
    held = one(miniatures.Categorical, "permuted_classes", ledger=ledger)
    assert (broken.expected, held.expected) == (faulty, right)
    assert stale_entries([broken, held]) == []
    globbed = "*" in entry and faulty == "known"
    assert [known.case for known in stale_entries([held])] == ([entry] if globbed else [])


def test_known_issue_matches_traits_of_a_side():
    ledger = Ledger([KnownIssue("relation/*/asks/*label_smoothing*", "miniature.*", reason="It forgets.")])
    broken = one(miniatures.DropsSmoothing, "smoothed_labels", case(np.eye(4), [0, 1, 2, 3], **SMALL), ledger=ledger)
    assert broken.expected == "known"


def test_check_names_rejects_unknown_relation():
    check_relation_names(Ledger([KnownIssue("relation/*/*", "miniature.*"), KnownIssue("a/b", "miniature.*")]))
    with pytest.raises(CaseErrors, match=r'x.yaml:3:1: permuted_class is not .*; did you mean "permuted_classes"\?'):
        check_relation_names(Ledger([KnownIssue("relation/permuted_class/*", "miniature.*", path="x.yaml", line=3)]))


def test_relation_entry_names_existing_case():
    ledger = Ledger(
        [KnownIssue("relation/permuted_classes/a/*", "lib.Loss"), KnownIssue("relation/permuted_classes/b", "lib.Loss")]
    )
    assert [entry.case for entry in ledger.unmatched({"a/x"}, {"lib.Loss"})] == ["relation/permuted_classes/b"]


def test_table_fits_80_columns():
    every = [
        found for loss in (miniatures.Categorical, miniatures.SwapsTwoClasses) for found in findings(loss, [PLAIN])
    ]
    lines = list(rendering.table(every))
    assert max(map(len, lines)) <= 80
    assert "permuted_classes" in "\n".join(lines)
    (line,) = [line for line in lines if line.startswith("permuted_classes")]
    assert line.split()[1:] == ["1", "1!"]
    assert json.loads(json.dumps(rendering.as_record(every[0])))["expected"] == "ok"


# The command


@pytest.fixture
def conformance(monkeypatch, capsys, tmp_path):
    """`conformance relations` of one miniature on two cases: (exit status, standard output, standard error)."""
    text = (
        "# yaml-language-server: $schema=../../conformance/case.schema.json\nabout: Rows.\nsource: none\n"
        "loss: categorical\ngiven: logits\ntarget: index\ndtypes: [float32]\ncases:\n"
        "  plain:\n    why: Nothing is asked.\n"
        "    predictions: [[0.5, -1.5, 0.25], [2.0, 0.25, -1.0]]\n    labels: [1, 0]\n"
    )
    (tmp_path / "mine" / "categorical").mkdir(parents=True)
    (tmp_path / "mine" / "categorical" / "x.yaml").write_text(text)

    def run(*arguments, loss=miniatures.Categorical):
        made = miniatures.framework(loss)
        monkeypatch.setattr(registry, "frameworks", lambda: (made,))
        monkeypatch.setattr(sys, "argv", ["conformance", "relations", "--cases", str(tmp_path / "mine"), *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


def test_relations_command_exit_statuses(conformance):
    status, out, err = conformance()
    assert status == 0
    assert "1  miniature.Categorical 1.0" not in out  # the version is that of this package
    assert "miniature.Categorical" in out
    assert "left out" not in err
    status, out, _ = conformance("-k", "permuted_classes", loss=miniatures.SwapsTwoClasses)
    assert status == 1
    assert "breaks permuted_classes" in out
    assert "1!" in out
    assert conformance("-k", "nothing_of_that_name")[0] == 2
    assert conformance("--framework", "nobody")[0] == 2


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_relations_command_lists_excluded_functions(conformance, name):
    status, _, err = conformance(loss=getattr(miniatures, name))
    assert status == 2
    assert f"left out, what they return is not a loss of each prediction and its label: miniature.{name}" in err
    assert "nothing is selected" in err


def test_relations_command_prints_json(conformance):
    status, out, _ = conformance("--json", "-k", "permuted", loss=miniatures.SwapsTwoClasses)
    rows = json.loads(out)["findings"]
    assert status == 1
    assert {row["relation"] for row in rows} == {"permuted_samples", "permuted_classes"}
    assert [len(row["calls"]) for row in rows] == [2] * len(rows)


def test_interrupted_relations_command_reports_partial_results(conformance, monkeypatch):
    asked = []

    def interrupted(*arguments) -> RelationResult:
        asked.append(arguments)
        if len(asked) > 2:
            raise KeyboardInterrupt
        return check(*arguments)

    monkeypatch.setattr(checker, "check", interrupted)
    status, out, err = conformance()
    assert status == 130, err
    assert "miniature.Categorical" in out
    assert "interrupted; 2 of" in err


def test_checker_makes_identical_calls_once():
    made = []

    def counted(framework, call, what):
        made.append(call)
        return perform(framework, call, what)

    for loss in (miniatures.Categorical, miniatures.SwapsTwoClasses):
        instances = select_instances(NARROW[::8], [miniatures.installed(loss)])
        alone = [check(instance, counted, Ledger()) for instance in instances]
        each = len(made)
        checked = list(map(Checker(counted, Ledger()).check, instances))
        assert len(made) - each < 0.75 * each
        assert [finding.violation for finding in checked] == [finding.violation for finding in alone]
        made.clear()


def test_instance_id_names_function_relation_and_case():
    (instance,) = select_instances(
        [PLAIN], [miniatures.installed(miniatures.Categorical)], relations=named("asked_again")
    )
    assert isinstance(instance, Instance)
    assert instance.id == "miniature.Categorical-asked_again-a/b/plain-float32-none"


class Unsteady(miniatures.Categorical):
    """Every other result is one unit in the last place larger, which any budget allows."""

    calls: ClassVar[list[int]] = []

    def reduce(self, loss, weight, kept):
        result = super().reduce(loss, weight, kept)
        self.calls.append(1)
        return np.nextafter(result, np.inf, dtype=loss.dtype) if len(self.calls) % 3 == 0 else result


def test_nondeterminism_is_detected_within_tolerance():
    chosen = select_instances([PLAIN], [miniatures.installed(Unsteady)], relations=named("asked_again"))
    findings = [Checker(perform, Ledger()).check(instance) for instance in chosen]
    assert {finding.violation for finding in findings} >= {
        "it is not deterministic: called again, it returned another number"
    }
    steady = select_instances([PLAIN], [miniatures.installed(miniatures.Categorical)], relations=named("asked_again"))
    assert not any(check(instance, perform, Ledger()).violation for instance in steady)

"""Explanations: their numbers are the oracle's and add up, and their advice was followed before it was given."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import sys

import numpy as np
import pytest

from conformance import api, cli, report
from conformance.adapters import registry
from conformance.casefiles.document import schema_line
from conformance.casefiles.known_issues import KnownIssue, Ledger
from conformance.explain import rendering
from conformance.explain.explainer import explain
from conformance.explain.explanation import Explanation, FunctionResult
from conformance.explain.number_format import format_number
from conformance.explain.page_explanations import explain_report
from conformance.explain.rendering import function_blocks, render_blocks
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.judging.selection import SelectionError
from conformance.model import meanings
from conformance.model.case import Case, MustRaise, NoRightAnswer, Options, Published
from conformance.model.convention import DEFINITION, Convention, literal_choices
from conformance.model.floats import distinguishing_digits
from conformance.reference import oracle
from conformance.reference.oracle import Oracle
from conformance.tests import miniatures
from conformance.tests.stated import shipped

NARROW = [case for case in shipped() if "float32" in case.dtypes and case.predicted <= 200]
LOGITS = ((2.3, -0.7, 0.4), (-1.1, 0.9, 1.6), (0.2, 3.1, -0.8))


def case(
    input_kind="logits", labels=(0, 2, 1), predictions=LOGITS, target="index", loss="categorical", **changes
) -> Case:
    options = Options(
        **{name: np.array(v) if isinstance(v, tuple) else v for name, v in changes.pop("options", {}).items()}
    )
    said = {"id": "categorical/a/case", "why": "It shows.", "about": "", "source": "", "reductions": ("mean",)}
    return Case(
        loss=loss,
        input_kind=input_kind,
        target=target,
        predictions=np.array(predictions),
        labels=np.array(labels),
        options=options,
        dtypes=("float32", "float64"),
        **(said | changes),
    )


def explained(of: Case, *losses, dtype="float32", quantity="loss", ledger=None) -> Explanation:
    here = [miniatures.installed(*losses, differentiates=True)] if losses else []
    suite = Judge(Oracle(), ledger or Ledger())
    return explain(of, dtype, of.reductions[0], here, suite, quantity)


def answered(of: Case, loss, **how) -> FunctionResult:
    (found,) = explained(of, loss, **how).functions
    return found


def text(explanation: Explanation) -> str:
    return "\n".join(line for _, line in rendering.terminal(explanation))


# The definition's side.


def test_sample_losses_sum_to_the_oracles_answer():
    of = case(options={"class_weights": (0.7, 1.9, 0.4), "label_smoothing": 0.1})
    derivation = explained(of).derivation
    total = sum(sample.loss for sample in derivation.samples)
    weight = sum(sample.weight for sample in derivation.samples)
    exact = oracle.evaluate(of.problem("float32", "mean"))
    assert total / weight == pytest.approx(float(exact.hi), rel=1e-14)
    assert derivation.answer == repr(float(exact.hi))
    assert [line.name for line in derivation.reduction] == ["sum", "divisor", "mean"]


@pytest.mark.parametrize(
    "of",
    [
        case(),
        case(options={"class_weights": (0.7, 1.9, 0.4), "sample_weights": (1.5, 0.25, 3.0)}),
        case(options={"label_smoothing": 0.3, "class_weights": (2.0, 1.0, 0.5)}),
        case("probabilities", predictions=((0.2, 0.5, 0.3), (0.1, 0.1, 0.8), (0.6, 0.3, 0.1))),
        case("log_probabilities", predictions=((-0.2, -3.0, -4.0), (-1.0, -2.0, -1.5), (-3.0, -0.1, -5.0))),
        case(labels=((0.2, 0.8, 0.0), (0.5, 0.25, 0.25), (0.0, 0.0, 1.0)), target="distribution"),
        case(labels=(1.0, 0.0, 0.4), predictions=(0.3, -2.0, 1.5), target="binary", loss="binary"),
        case(
            "probabilities",
            labels=(1.0, 0.0, 0.4),
            predictions=(0.3, 0.1, 0.9),
            target="binary",
            loss="binary",
            options={"positive_weight": (3.0,), "sample_weights": (2.0, 1.0, 0.5), "label_smoothing": 0.2},
        ),
    ],
)
def test_loss_line_evaluates_to_its_value(of):
    for sample in explained(of).derivation.samples:
        (loss,) = [line for line in sample.steps if line.name == "loss"]
        assert eval(loss.filled) == pytest.approx(sample.loss, rel=2e-4)
        assert float(loss.value) == pytest.approx(sample.loss, rel=1e-4)


SOFT = ((0.2, 0.3, 0.0), (0.5, 0.25, 0.75), (0.0, 0.6, 0.0))


@pytest.mark.parametrize(
    ("options", "labels", "formula"),
    [
        ({"class_weights": (0.7, 1.9, 0.4)}, SOFT, "sum_c w_c q_c / sum_c q_c"),
        ({"class_weights": (0.7, 1.9, 0.4), "label_smoothing": 0.3}, SOFT, "sum_c w_c q'_c / sum_c q'_c"),
        ({"class_weights": (0.7, 1.9, 0.4), "sample_weights": (1.5, 2.0, 3.0)}, SOFT, "s sum_c w_c q_c / sum_c q_c"),
        ({"class_weights": (0.7, 1.9, 0.4)}, ((1, 0, 0), (0, 1, 0), (0, 0, 1)), "w_y"),
        ({"sample_weights": (1.5, 2.0, 3.0)}, SOFT, "s"),
    ],
)
def test_weight_line_evaluates_to_its_value(options, labels, formula):
    derivation = explained(case(options=options, labels=labels, target="distribution")).derivation
    for sample in derivation.samples:
        (weight,) = [line for line in sample.steps if line.name == "weight"]
        assert weight.formula == formula
        assert eval(weight.filled or weight.value) == pytest.approx(sample.weight, rel=2e-4)
    (divisor,) = [line for line in derivation.reduction if line.name == "divisor"]
    assert float(divisor.value) == pytest.approx(sum(sample.weight for sample in derivation.samples), rel=1e-4)


def test_derivation_of_large_case_shows_leading_samples_and_largest_loss():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(50, 4))
    logits[37, 2] = -30.0
    of = case(predictions=logits, labels=[*range(4)] * 9 + [0, 2] + [1] * 12)
    derivation = explained(of).derivation
    assert [sample.index[0] for sample in derivation.samples] == [0, 1, 2, 3, 37]
    assert derivation.omitted == 45
    assert "samples that are not shown: 45" in text(explained(of))


def test_derivation_of_very_large_case_computes_leading_losses_only(monkeypatch):
    of = case(predictions=np.tile(LOGITS, (4, 1)), labels=[0, 2, 1] * 4)
    whole = explained(of).derivation
    monkeypatch.setattr("conformance.explain.derivation.MAX_SAMPLES_SEARCHED", 10)
    part = explained(of).derivation
    assert part.samples == whole.samples[:4]
    assert part.reduction == whole.reduction
    assert part.answer == whole.answer


@pytest.mark.parametrize(("value", "verdict"), [("0.19", "does not hold"), ("0.2338", "holds")])
def test_published_number_is_compared_with_the_exact_one(value, verdict):
    of = case(published=(Published(value, "a paper"),))
    (number,) = explained(of).published
    assert (number["value"], number["holds"]) == (value, verdict == "holds")
    assert f"Published is {value}, which {verdict}" in text(explained(of))


def test_ignored_sample_has_zero_loss_and_weight():
    derivation = explained(case(labels=(0, -5, 1), options={"ignore_index": -5})).derivation
    assert (derivation.samples[1].loss, derivation.samples[1].weight) == (0.0, 0.0)
    assert "ignored" in derivation.samples[1].about


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (case(labels=(0, 7, 1)), "a label that names no class"),
        (
            case(expect=MustRaise("shape_mismatch"), labels=(0, 1)),
            "labels or weights whose shape does not fit the predictions",
        ),
        (case(expect=NoRightAnswer("nobody can say")), "nobody can say"),
        (case(labels=(3, 3, 3), options={"ignore_index": 3}), "the mean divides by zero"),
        (case("probabilities", predictions=((0.0, 0.5, 0.5),), labels=(0,)), "log 0 is -inf"),
        (case(predictions=((math.nan, 0.5, 0.5),), labels=(0,)), "hands a nan on"),
    ],
)
def test_derivation_states_reason_for_undefined_answer(of, said):
    assert said in explained(of).derivation.why


@pytest.mark.parametrize("input_kind", ["logits", "probabilities", "log_probabilities"])
def test_gradient_closed_form_evaluates_to_its_element(input_kind):
    of = case(
        input_kind, predictions=-np.log(np.abs(LOGITS) + 3) if input_kind == "log_probabilities" else np.abs(LOGITS) / 4
    )
    of = dataclasses.replace(of, options=Options(class_weights=np.array([0.5, 1.5, 2.0]), label_smoothing=0.1))
    lines = explained(of, quantity="gradient").derivation.reduction
    values = {line.name: float(line.value) for line in lines}
    (name,) = [name for name in values if name.startswith("gradient at")]
    assert values["factor"] * values["slope"] == pytest.approx(values[name], rel=2e-4)
    where = tuple(json.loads(name.removeprefix("gradient at ")))
    problem = of.problem("float64", "mean")
    moved = problem.predictions.copy()
    moved[where] += 1e-6
    after = oracle.evaluate(dataclasses.replace(problem, predictions=moved))
    assert (float(after.hi) - float(oracle.evaluate(problem).hi)) / 1e-6 == pytest.approx(values[name], rel=1e-3)


# The functions' side.


@pytest.mark.parametrize("loss", miniatures.DOCUMENTED, ids=lambda loss: loss.__name__)
def test_each_documented_choice_is_explained_with_its_effect(loss):
    """Case after case, until every choice of the miniature is explained.

    A mean over nothing is undefined, whatever a function documents of it, so that nothing is left to explain.
    """
    left = set(loss.documented.choices()) - {"empty_mean"}
    here = [miniatures.installed(loss, differentiates=any(name.startswith("gradient_") for name in left))]
    suite = Judge(Oracle(), Ledger())
    dtype = "float64" if any(name.endswith("narrowed_to") for name in left) else "float32"
    for item in plan(NARROW, here):
        if not left:
            return
        if item.dtype != dtype or suite.assess(item).verdict.status != "diverges":
            continue
        (found,) = explain(item.case, item.dtype, item.reduction, here, suite, item.quantity).functions
        assert found.differences, item.id
        for difference in found.differences:
            left.discard(difference.field)
            assert difference.meaning[:40] in said(found)
            assert difference.steps or difference.field in ("rejects", "accepts", "empty_batch")
        _leads_on(found.differences)
        _adds_up(found)
    assert left == set()


def said(found: FunctionResult) -> str:
    return " ".join(block.text for block in function_blocks(found))


def _leads_on(differences) -> None:
    """Each choice starts where the one before it ended, and together they change the answer."""
    moving = [difference for difference in differences if difference.before]
    assert all(a.after == b.before for a, b in itertools.pairwise(moving))
    assert not moving or moving[0].before != moving[-1].after


def _adds_up(found: FunctionResult) -> None:
    split = found.decomposition
    if split is None or None in (split.total, split.semantic, split.numeric):
        return
    assert split.semantic + split.numeric == pytest.approx(split.total, rel=1e-9)
    assert split.error_ratio <= 1


def test_divisor_is_substituted_step_by_step():
    of = case(options={"sample_weights": (1.0, 2.0, 3.0)})
    found = answered(of, miniatures.DividesBySamples)
    (difference,) = found.differences
    lines = {line.name: line for line in difference.steps}
    assert lines["definition divides by"].filled == "1 + 2 + 3"
    assert lines["it divides by"].value.startswith("3 ")
    total = oracle.evaluate(of.problem("float32", "sum"))
    assert lines["its mean"].filled == f"{format_number(total.hi)} / 3"
    assert float(difference.after) == pytest.approx(float(total.hi) / 3, rel=1e-4)
    assert found.decomposition.semantic == pytest.approx(float(total.hi) * (1 / 3 - 1 / 6), rel=1e-12)


def test_cumulative_choices_lead_from_one_answer_to_the_next():
    of = case("probabilities", predictions=((1e-9, 0.2, 0.2), (0.1, 0.1, 0.3), (0.3, 0.3, 0.1)))
    found = answered(of, miniatures.ClipsAndRenormalises)
    first, second = found.differences
    assert (first.field, second.field) == ("clip", "renormalise")
    assert first.after == second.before
    exact = oracle.evaluate(of.problem("float32", "mean"))
    assert float(first.before) == pytest.approx(float(exact.hi), rel=1e-4)
    assert float(second.after) == pytest.approx(float(found.decomposition.by_convention), rel=1e-4)


class Cancels(miniatures.Binary):
    """Adds what a cancellation may lose, and documents that one does."""

    documented = Convention(cancellation="logits")

    def combine(self, y, on, off):
        return y.dtype.type(1e-7) + super().combine(y, on, off)


def test_numeric_choice_keeps_the_answer_and_shows_the_tolerance():
    of = case(labels=(1.0, 0.0), predictions=(20.0, -20.0), target="binary", loss="binary")
    found = answered(of, Cancels)
    (difference,) = found.differences
    assert (difference.field, difference.numeric) == ("cancellation", True)
    without, with_it = (float(line.value) for line in difference.steps)
    assert without < 1e-7 < with_it
    assert found.decomposition.semantic == 0
    assert found.decomposition.numeric == pytest.approx(1e-7, rel=1e-3)


def test_unexplained_difference_is_decomposed():
    found = answered(case(options={"label_smoothing": 0.2}), miniatures.DropsSmoothing)
    assert (found.status, found.differences) == ("disagrees", ())
    assert found.decomposition.semantic == 0
    assert found.decomposition.numeric == found.decomposition.total != 0
    assert found.decomposition.error_ratio > 1
    assert "no known convention explains it" in found.message


def test_decomposition_without_definition_value_names_documented_value():
    outputs = {"predictions": ((0.5, -1.0), (2.0, 0.1)), "labels": ((1, 0), (0, 1)), "target": "binary"}
    averaged = answered(case(loss="binary", reductions=("none",), **outputs), miniatures.AveragesTheLastAxis)
    assert averaged.decomposition.undefined_text == "an answer of shape (2, 2)"
    assert averaged.decomposition.error_ratio <= 1
    ignored = answered(case(labels=(0, -100, 1)), miniatures.IgnoresMinus100)
    assert ignored.decomposition.undefined_text == "an exception (a label that names no class)"


@pytest.mark.parametrize(
    ("factor", "words"), [(math.nan, "= not a number"), (math.inf, "= no finite number")], ids=["nan", "inf"]
)
def test_undefined_difference_has_no_ulps(factor, words):
    class Lost(miniatures.DropsSmoothing):
        def losses(self, x, y):
            loss, weight = super().losses(x, y)
            return loss * factor, weight

    globals()["Lost"] = Lost
    found = answered(case(), Lost)
    assert found.status == "disagrees"
    text = " ".join(" ".join(map(str, block)) for block in function_blocks(found))
    assert words in text
    assert "inf x" not in text
    assert "inf ulp" not in text


def test_difference_beyond_the_convention_is_decomposed_by_it():
    class Wrong(miniatures.AveragesTheLastAxis):
        def losses(self, x, y):
            loss, weight = super().losses(x, y)
            return loss * 2, weight

    globals()["Wrong"] = Wrong
    found = answered(
        case(loss="binary", target="binary", predictions=(0.5, -1.0), labels=(1, 0), reductions=("none",)), Wrong
    )
    assert found.status == "disagrees"
    assert found.decomposition.numeric == pytest.approx(float(found.decomposition.by_convention), rel=1e-4)
    assert found.decomposition.error_ratio > 1


# Advice.


def advice(found: FunctionResult) -> str:
    return " | ".join(remedy.advice for remedy in found.remedies)


def test_remedy_divides_the_sum():
    found = answered(case(options={"sample_weights": (1.0, 2.0, 3.0)}), miniatures.DividesBySamples)
    assert "compute the sum and divide it by the weight, 6" in advice(found)
    call = found.remedies[0].call
    assert call.endswith(" / 6.0")
    *imports, expression = call.split("; ")
    space: dict[str, object] = {}
    exec("; ".join(imports), space)
    exact = oracle.evaluate(case(options={"sample_weights": (1.0, 2.0, 3.0)}).problem("float32", "mean"))
    assert eval(expression, space) == pytest.approx(float(exact.hi), rel=1e-6)


@pytest.mark.parametrize(
    ("of", "loss", "said"),
    [
        (case("probabilities", predictions=np.full((3, 3), 0.2)), miniatures.Renormalises, "divide each row"),
        (case("probabilities", predictions=((1e-9, 0.5, 0.5),), labels=(0,)), miniatures.Clips, "log p as logits"),
        (case("probabilities", predictions=((0.0, 0.5, 0.5),), labels=(0,)), miniatures.Clips, "clip the prob"),
        (case(labels=(0, -100, 1)), miniatures.IgnoresMinus100, "ignore_index=-100"),
        (
            case(labels=((0.9, 0.4, 0.2), (0.3, 0.8, 0.6), (0.5, 0.7, 1.0)), target="distribution"),
            miniatures.DividesByTargetWeight,
            "divide each row of targets",
        ),
        (case(labels=(0, -1, 1)), miniatures.WrapsLabels, "write the labels as the classes they stand for, [0, 2, 1]"),
        (
            case(
                predictions=((0.5, -1.0), (2.0, 0.1)),
                labels=((1, 0), (0, 1)),
                target="binary",
                loss="binary",
                reductions=("sum",),
            ),
            miniatures.AveragesTheLastAxis,
            "multiply what it returns by the 2 outputs",
        ),
    ],
)
def test_remedy_changes_inputs_or_result(of, loss, said):
    assert said in advice(answered(of, loss))


def test_logarithm_of_zero_is_a_remedy_where_it_agrees():
    zero = case("probabilities", predictions=((0.0, 0.5, 0.5),), labels=(0,))
    assert "hand it log p as logits" in advice(answered(zero, miniatures.Clips))


def test_remedy_that_fails_is_not_listed():
    assert answered(case(options={"label_smoothing": 0.2}), miniatures.DropsSmoothing).remedies == ()
    assert answered(case(), miniatures.DividesBySamples).remedies == ()


def test_uncallable_function_is_listed_as_skipped():
    class Unsaid(miniatures.Categorical):
        @classmethod
        def placeholder_values(cls, problem):
            raise KeyError("no such word")

    globals()["Unsaid"] = Unsaid
    found = explained(case(), miniatures.Categorical, Unsaid)
    assert [function.function for function in found.functions] == ["miniature.Categorical"]
    assert [(name, "no such word" in why) for name, why in found.skipped] == [("miniature.Unsaid", True)]


def test_explanation_quotes_the_ledger_entry():
    entry = KnownIssue(
        "categorical/a/case", "miniature.DropsSmoothing", reason="It forgets.", see="https://example.org/1", line=3
    )
    of = case(options={"label_smoothing": 0.2})
    explanation = explained(of, miniatures.DropsSmoothing, ledger=Ledger([entry]))
    assert explanation.functions[0].ledger_status == "known"
    assert "It forgets." in text(explanation)
    assert "https://example.org/1" in text(explanation)


# Words.


def test_each_choice_of_each_field_has_its_own_sentence():
    known = [DEFINITION, *registry.conventions(), *(loss.documented for loss in miniatures.RIGHT)]
    for field in dataclasses.fields(Convention):
        choices = dict.fromkeys(
            [*literal_choices(field.name), *(getattr(convention, field.name) for convention in known)]
        )
        sentences = [meanings.meaning(field.name, choice) for choice in choices]
        assert all(sentences)
        assert len(set(sentences)) == len(sentences), field.name
    assert {field.name for field in dataclasses.fields(Convention)} == set(meanings.CHOICE_MEANINGS)


def test_distinguishing_digits_is_minimal():
    assert format_number(1.23456789, distinguishing_digits([1.23456789, 2.0])) == "1.2346"
    a, b = 1.2345678, 1.2345679
    assert [format_number(value, distinguishing_digits([a, b])) for value in (a, b)] == ["1.2345678", "1.2345679"]


# Looks.


@pytest.mark.parametrize("of", NARROW[::40], ids=lambda of: of.id)
@pytest.mark.parametrize("quantity", ["loss", "gradient"])
def test_terminal_lines_fit_80_columns(of, quantity):
    explanation = explained(
        of, miniatures.Clips, miniatures.AveragesTheLastAxis, miniatures.Renormalises, quantity=quantity
    )
    wide = [line for style, line in rendering.terminal(explanation) if style != "dim" and len(line) > 80]
    assert wide == []


def test_copyable_code_has_its_own_line():
    explanation = explained(case(options={"sample_weights": (1.0, 2.0, 3.0)}), miniatures.DividesBySamples)
    lines = [line.strip() for _, line in rendering.terminal(explanation)]
    assert all(block.text in lines for block in render_blocks(explanation) if block.kind == "code")
    assert explanation.functions[0].reproduce in lines


def test_markdown_escapes_foreign_text():
    strange = dataclasses.replace(case(), why="<script>alert(1)</script> \x1b[31m ``` [x](http://y)")
    shown = rendering.markdown(explained(strange, miniatures.Categorical))
    assert "<script>" not in shown.replace("\\<script\\>", "")
    assert "\x1b" not in shown
    assert "\x1b" not in text(explained(strange))


def test_functions_with_equal_behaviour_are_explained_once():
    of = case("probabilities", predictions=((1e-9, 0.5, 0.5),), labels=(0,))

    class ClipsToo(miniatures.Clips):
        pass

    globals()["ClipsToo"] = ClipsToo
    shown = text(explained(of, miniatures.Clips, ClipsToo))
    assert shown.count("It clips probabilities") == 1
    assert "Just as miniature.Clips above." in shown


# The command.

FILE = f"""\
{schema_line(None, "case.schema.json")}
about: Weights.
source: https://example.org
loss: categorical
given: logits
target: index
cases:
  weighted:
    why: The divisor is a weight.
    predictions: [[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]]
    labels: [0, 1]
    options: {{sample_weights: [1.0, 3.0]}}
"""


@pytest.fixture
def conformance(monkeypatch, capsys, tmp_path):
    """Runs the command on a case of its own with two miniatures: (exit status, stdout, stderr)."""
    folder = tmp_path / "cases" / "categorical"
    folder.mkdir(parents=True)
    (folder / "a.yaml").write_text(FILE)
    here = [miniatures.installed(miniatures.Categorical, miniatures.DividesBySamples)]
    monkeypatch.setattr(registry, "installed", lambda candidates=None: (here, []))
    monkeypatch.setenv("CONFORMANCE_CACHE", "off")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["conformance", "explain", *arguments, "--cases", str(tmp_path / "cases")])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return run


def test_explain_command_lists_agreeing_and_differing_functions(conformance):
    status, out, _ = conformance("categorical/a/weighted")
    assert status == 0
    assert re.search(r"miniature\.Categorical 1\.0 returns", out)
    assert "It divides the sum by the number of losses" in out
    assert all(len(line) <= 80 or line.lstrip().startswith(("import ", "https://")) for line in out.splitlines())


def test_explain_json_can_be_parsed(conformance):
    _, out, _ = conformance("categorical/a/weighted", "--json")
    found = json.loads(out, parse_constant=pytest.fail)
    by = {function["function"]: function for function in found["functions"]}
    assert by["miniature.DividesBySamples"]["differences"][0]["field"] == "mean_divides_by"
    assert by["miniature.Categorical"]["differs"] is False


def test_explain_json_keeps_its_published_keys(conformance):
    _, out, _ = conformance("categorical/a/weighted", "--json")
    found = json.loads(out)
    assert {"place", "facts", "derivation", "functions", "unasked", "published"} <= set(found)
    assert set(found["derivation"]) == {"rule", "samples", "left_out", "reduction", "answer", "why"}
    divides = next(one for one in found["functions"] if one["function"] == "miniature.DividesBySamples")
    assert {"because", "bridge", "split", "conversion", "reproduce"} <= set(divides)
    assert {"allowed", "ratio", "instead", "by_convention"} <= set(divides["split"])


def test_explain_selects_one_function(conformance):
    _, out, _ = conformance("categorical/a/weighted", "--function", "miniature.Categorical", "--json")
    assert [function["function"] for function in json.loads(out)["functions"]] == ["miniature.Categorical"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("categorical/a/weihgted",), 'did you mean "categorical/a/weighted"?'),
        (("categorical/a/weighted", "--function", "miniature.Categorica"), "there is no such function; did you mean"),
        (("categorical/a/weighted", "--dtype", "float16"), "--dtype float16: expected one of float32, float64"),
        (("categorical/a/weighted", "--reduction", "sum"), "--reduction sum: expected one of mean"),
        (
            ("categorical/a/weighted", "--quantity", "jacobian"),
            "--quantity jacobian: expected one of loss, gradient, perplexity",
        ),
    ],
)
def test_explain_of_unknown_name_exits_with_status_2(conformance, arguments, said):
    status, out, err = conformance(*arguments)
    assert (status, out) == (2, "")
    assert said in err


# For a report's page


def asked_of(of: Case, *losses):
    """(a report's frame of a case, the frameworks, a suite), of functions that stand in."""
    here = [miniatures.installed(*losses, differentiates=True)]
    suite = Judge(Oracle(), Ledger())
    return report.frame(suite.assess(item).row for item in plan([of], here)), here, suite


def test_page_explains_each_cause_once():
    of = case(options={"sample_weights": (1.0, 2.0, 4.0)})
    results, here, suite = asked_of(of, miniatures.Categorical, miniatures.DividesBySamples)
    found, rows = explain_report(results, {of.id: of}, here, suite, 10)
    assert list(found) == ["categorical/a/case,float32,mean,loss"]
    functions, blocks = found["categorical/a/case,float32,mean,loss"]
    assert functions == ["miniature.DividesBySamples"]
    own = list(render_blocks(explain(of, "float32", "mean", here, suite, functions=functions)))
    assert [text for _, text, _ in blocks] == [block.text for block in own]
    assert rows == (4, 4)  # of both dtypes, and their gradients


def test_page_explains_unexpected_and_then_common_causes():
    of = case(options={"sample_weights": (1.0, 2.0, 4.0)})
    results, here, suite = asked_of(of, miniatures.DividesBySamples)
    rare = results.index == 0
    common_first = results.assign(known=np.where(rare, "rare", ""))
    assert explain_report(common_first, {of.id: of}, here, suite, 1)[1] == (3, 4)
    unexpected_first = common_first.assign(expected=np.where(rare, "unexpected", "ok"))
    assert explain_report(unexpected_first, {of.id: of}, here, suite, 1)[1] == (1, 4)


def test_page_repeats_only_uncrashed_calls_of_same_version():
    of = case(options={"sample_weights": (1.0, 2.0, 4.0)})
    results, here, suite = asked_of(of, miniatures.Categorical, miniatures.DividesBySamples)
    for changed in ({"version": "another"}, {"status": "crashed"}, {"digest": "changed"}):
        assert explain_report(results.assign(**changed), {of.id: of}, here, suite, 10)[0] == {}
    assert explain_report(results, {}, here, suite, 10) == ({}, (0, 4))
    assert explain_report(results, {of.id: of}, here, suite, 0) == ({}, (0, 4))


def test_show_calls_only_named_functions():
    pytest.importorskip("torch")
    shown = api.show("article/binary/four_outputs", dtype="float32", functions=["torch.BCELoss"])
    assert {row.key.function for answers in shown.answers for row in answers.rows} == {"torch.BCELoss"}
    with pytest.raises(SelectionError, match=re.escape('did you mean "torch.BCELoss"')):
        api.show("article/binary/four_outputs", functions=["torch.BCELos"])
    shown = api.show("article/binary/four_outputs", dtype="float32", frameworks=["torch"])
    assert {row.key.function.partition(".")[0] for answers in shown.answers for row in answers.rows} == {"torch"}
    with pytest.raises(SelectionError, match='did you mean "torch"'):
        api.show("article/binary/four_outputs", frameworks=["torhc"])

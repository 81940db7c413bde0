"""What no function can take: told with the reason of each, in every form that a run is told in."""

import csv
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from conformance import report
from conformance.adapters import registry
from conformance.adapters.registry import NEWEST, Installed
from conformance.casefiles.known_issues import Ledger
from conformance.casefiles.loading import shipped_cases
from conformance.cli import app
from conformance.comparison.baseline import check_baseline
from conformance.comparison.changes import compare_results
from conformance.execution.run_info import RunInfo
from conformance.judging import plan as planning
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.judging.selection import ItemFilter, keyword_filter
from conformance.judging.unsupported import problem_cells, render_unsupported, unsupported_problems, unsupported_rows
from conformance.model.case import Layout
from conformance.reference import cache
from conformance.reference.oracle import Oracle
from conformance.tests import miniatures
from conformance.tests.stated import case, shipped

PLAIN = case([[0.5, -1.0]], [0], id="a/b/plain", dtypes=("float32", "float64"), reductions=("none", "mean"))
BINARY = case([0.5], [1], id="a/b/binary", loss="binary", target="binary", dtypes=("float32", "float64"))
HERE = [miniatures.installed(miniatures.Categorical)]


def narrow():
    """The categorical miniature, which takes float32 only."""
    framework = HERE[0].framework
    functions = tuple(replace(function, dtypes=frozenset({"float32"})) for function in framework.functions)
    return replace(HERE[0], framework=replace(framework, functions=functions))


def rows_of(cases, here=HERE, wanted=None):
    return unsupported_rows(cases, plan(cases, here, wanted), here, wanted)


def test_backends_sharing_function_are_planned_separately():
    (keras,) = (framework for framework in registry.frameworks() if framework.name == "keras")
    backends = {name: Installed(keras, "3.15.1", f"keras[{name}]", backend=name) for name in ("jax", "numpy")}
    derived = {
        item.installed.backend for item in plan(shipped()[:3], list(backends.values())) if item.quantity == "gradient"
    }
    assert {name for name, one in backends.items() if one.differentiates} == derived == {"jax"}


def test_plan_from_remembered_declarations_is_the_same(tmp_path, monkeypatch):
    cases = shipped()[: planning.MIN_REMEMBERED + 10]
    here = [Installed(one, NEWEST) for one in registry.frameworks() if one.name in ("sklearn", "optax")]

    def planned(here):
        rows = unsupported_rows(cases, [], here, answers=False)
        return [item.id for item in plan(cases, here)], [(row.key.id, row.explanation) for row in rows]

    monkeypatch.setenv("CONFORMANCE_CACHE", "off")
    plain = planned(here)
    monkeypatch.setenv("CONFORMANCE_CACHE", str(tmp_path))
    assert planned(here) == plain
    assert all(plain)
    monkeypatch.setattr(planning, "_declared", lambda *_: pytest.fail("asks"))
    assert planned(here) == plain
    with pytest.raises(pytest.fail.Exception, match="asks"):
        planned([replace(one, version="0") for one in here])


@pytest.mark.parametrize("value", [b"{not", b"7", b"null", b'[[["no", true]], {"a": [5]}]', b"[" * 100_000])
def test_undecodable_cached_value_is_none(value, tmp_path, monkeypatch):
    monkeypatch.setenv("CONFORMANCE_CACHE", str(tmp_path))
    monkeypatch.setattr(cache.json, "dumps", lambda _: value.decode())
    with cache.DerivedCache() as remembered:
        remembered.put("declarations", None, "fact")
    with cache.DerivedCache() as remembered:
        assert remembered.get("declarations", "fact", read=planning._table_of) is None


def rendered(rows, **options):
    return render_unsupported(unsupported_problems(map(problem_cells, rows)), **options)


def test_unsupported_case_has_row_per_function_with_reason_and_exact_answer():
    (row,) = rows_of([PLAIN, BINARY])
    assert (row.key.case, row.key.function, row.status, row.expected) == (
        "a/b/binary", "miniature.Categorical", "unsupported", "ok",
    )  # fmt: skip
    assert row.explanation == "it is no binary loss"
    assert float(row.want.values) == pytest.approx(np.log1p(np.exp(-0.5)), rel=1e-15)
    assert (row.got, row.call, row.known) == (None, "", "")


def test_unsupported_row_without_answer_equals_others_otherwise():
    (whole,) = rows_of([PLAIN, BINARY])
    (row,) = unsupported_rows([PLAIN, BINARY], plan([PLAIN], HERE), HERE, answers=False)
    assert row.want == "undefined: not computed"
    assert {**row.cells, "want": ""} == {**whole.cells, "want": ""}


def test_supported_case_has_no_unsupported_row():
    assert rows_of([PLAIN]) == []
    both = [*HERE, miniatures.installed(miniatures.Binary)]
    assert rows_of([PLAIN, BINARY], both) == []


def test_unsupported_row_has_reason_of_each_function():
    stated = case([[0.5, -1.0]], [0], dtypes=("bfloat16",))
    text = rows_of([stated], [narrow(), miniatures.installed(miniatures.Binary)])
    assert {row.key.function: row.explanation for row in text} == {
        "miniature.Categorical": "it has no dtype bfloat16",
        "miniature.Binary": "it is no categorical loss",
    }


def test_unsupported_dtype_has_rows_of_its_first_reduction_only():
    stated = case([[0.5, -1.0]], [0], dtypes=("float32", "bfloat16"), reductions=("none", "sum", "mean"))
    text = rows_of([stated], [narrow()])
    assert [(row.key.dtype, row.key.reduction) for row in text] == [("bfloat16", "none")]
    supported = replace(text[0], status="agrees")
    assert rendered([supported, *text])[0] == "no selected function supports a/b/c as bfloat16, none"


def test_unsupported_case_gives_each_reason_once_with_its_reductions():
    function = replace(narrow().framework.functions[0], reductions={"mean": "{result}"})
    lacks_reductions = replace(HERE[0], framework=replace(HERE[0].framework, functions=(function,)))
    stated = case([[0.5, -1.0]], [0], dtypes=("bfloat16", "float64"), reductions=("none", "sum", "mean"))
    assert rendered(rows_of([stated], [lacks_reductions, miniatures.installed(miniatures.Binary)])) == [
        "no selected function supports a/b/c",
        "    it has no reduction none (bfloat16, none; float64, none): miniature.Categorical",
        "    it has no reduction sum (bfloat16, sum; float64, sum): miniature.Categorical",
        "    it has no dtype bfloat16 (bfloat16, mean): miniature.Categorical",
        "    it has no dtype float64 (float64, mean): miniature.Categorical",
        "    it is no categorical loss: miniature.Binary",
    ]


def test_unsupported_case_has_one_row_for_each_function_whatever_problems_are_selected():
    stated = replace(BINARY, dtypes=("float32", "float64"), reductions=("sum", "mean"))
    losses = [miniatures.Categorical, miniatures.DropsSmoothing]
    sums_of_one = ItemFilter(lambda function, name: "Categorical" in name or name.endswith("sum"))
    text = rows_of([stated], [miniatures.installed(*losses)], sums_of_one)
    assert [(row.key.dtype, row.key.reduction, row.key.function) for row in text] == [
        ("float32", "sum", "miniature.Categorical"), ("float32", "sum", "miniature.DropsSmoothing")
    ]  # fmt: skip


def test_unsupported_rows_respect_selection():
    both = [*HERE, miniatures.installed(miniatures.Binary)]
    assert rows_of([PLAIN, BINARY], both, ItemFilter(lambda function, name: "plain" in name)) == []
    text = rows_of([PLAIN, BINARY], both, ItemFilter(lambda function, name: "Categorical" in name))
    assert [(row.key.case, row.key.function) for row in text] == [("a/b/binary", "miniature.Categorical")]
    assert rows_of([PLAIN, BINARY], HERE, ItemFilter(lambda function, name: "Nobody" in name)) == []


def frame_of(cases, here=HERE) -> pd.DataFrame:
    suite_rows = [Judge(Oracle(), Ledger()).assess(item).row for item in plan(cases, here)]
    return report.frame([*suite_rows, *rows_of(cases, here)])


def test_report_lists_unsupported_problems(tmp_path):
    results = frame_of([PLAIN, BINARY])
    record = report.write(tmp_path, results, RunInfo(planned=len(results)))
    assert record["complete"]
    assert record["status"]["unsupported"] == 1
    summary = (tmp_path / "summary.md").read_text()
    assert "1 function on 4 problems (1 of 2 cases): 5 rows" in summary
    assert "## Unsupported problems" in summary
    assert "| `a/b/binary` | all | it is no binary loss: miniature.Categorical |" in summary
    with (tmp_path / "results.csv").open() as file:
        text = [row for row in csv.DictReader(file) if row["status"] == "unsupported"]
    assert [row["explanation"] for row in text] == ["it is no binary loss"]
    comment = report.comment(results, RunInfo(planned=len(results)), [])
    assert "nothing fails" in comment
    assert "No selected function supports `a/b/binary`" in comment


def test_unsupported_rows_change_nothing_in_comparisons():
    old, new = frame_of([PLAIN, BINARY]), frame_of([PLAIN])
    for before, after in ((old, new), (new, old), (old, old)):
        check = check_baseline(before, after)
        assert check.ok
        assert not any("gone" in line or "new" in line for line in check.notes)
        assert set(compare_results(before, after)["severity"]) == {"unchanged"}


def test_baseline_reports_lost_support_as_vanished():
    takes = frame_of([PLAIN, BINARY], [*HERE, miniatures.installed(miniatures.Binary)])
    check = check_baseline(takes, frame_of([PLAIN, BINARY]))
    assert not check.ok
    assert set(check.failures["reason"]) == {"vanished"}


def test_render_unsupported_shows_five_problems_and_counts():
    cases = [case([0.5], [1], id=f"a/b/c{n}", loss="binary", target="binary") for n in range(7)]
    lines = rendered(rows_of(cases))
    assert lines[:2] == ["no selected function supports a/b/c0", "    it is no binary loss: miniature.Categorical"]
    assert lines[-1] == "and 2 more; 7 cases have rows with status unsupported in the report"
    assert json.dumps([row.cells for row in rows_of(cases)])
    assert rendered(rows_of(cases), narrowed=True) == [
        "7 cases have problems that no function here supports: rows with status unsupported say why"
    ]
    assert rendered([], narrowed=True) == []


@pytest.mark.parametrize(
    ("lacks", "of", "why"),
    [
        ({"arguments": {}}, {"options": {"label_smoothing": 0.1, "ignore_index": 0}},
         "it has no options ignore_index, label_smoothing"),
        ({"reductions": {}}, {"reductions": ("none",)}, "it has no reduction none"),
        ({"dtypes": frozenset()}, {"dtypes": ("float64",)}, "it has no dtype float64"),
        ({"labels_column": False}, {"layout": Layout(class_axis=0)}, "it has no layout class_axis: 0"),
        ({"labels_column": False}, {"layout": Layout(labels="column")}, "it has no layout labels: column"),
    ],
)  # fmt: skip
def test_reason_names_kind_of_missing_capability(lacks, of, why):
    (problem,) = case(
        [[0.5, -1.0], [1.0, 0.0]], [0, 1], **{"dtypes": ("float32",), "reductions": ("mean",), **of}
    ).problems()
    function = replace(HERE[0].functions[0], arguments={name: name for name in ("ignore_index", "label_smoothing")})
    assert replace(function, **lacks).unsupported(problem) == why


NOBODYS = """\
# yaml-language-server: $schema=../../conformance/case.schema.json
about: Two rows of three classes.
source: none
loss: categorical
given: logits
target: index
dtypes: [float32]
cases:
  plain:
    why: Nothing is asked.
    predictions: [[0.5, -1.5, 0.25], [2.0, 0.25, -1.0]]
    labels: [1, 0]
"""


def test_run_lists_wrong_published_numbers_at_end(tmp_path, monkeypatch):
    file = tmp_path / "mine" / "x.yaml"
    file.parent.mkdir()
    words = ["run", "--in-process", "--cases", str(file.parent), "--report", str(tmp_path / "r")]
    monkeypatch.setattr(
        registry, "installed", lambda candidates=None: ([miniatures.installed(miniatures.Categorical)], [])
    )

    def ran(*values):
        numbers = "".join(f"      - {{value: '{value}', source: s}}\n" for value in values)
        file.write_text(f"{NOBODYS}    published:\n{numbers}")
        return " ".join(CliRunner().invoke(app, words).output.split())  # lines are wrapped between words

    file.write_text(NOBODYS)
    exact = CliRunner().invoke(app, ["expect", "x/plain", "--cases", str(file.parent), "--json"]).stdout
    right = json.loads(exact)["expect"]["value"]["mean"][:6]
    where = f"see {tmp_path / 'r' / 'summary.md'}, or conformance show --cases {file.parent} x/plain"
    assert f" 1 of 2 published numbers does not hold: {where} " in ran(right, "9.25")
    assert f" 2 of 2 published numbers do not hold: {where} " in ran("7.5", "9.25")
    assert "not hold" not in ran(right)


def test_run_of_unsupported_cases_writes_report_and_fails(tmp_path, monkeypatch):
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "x.yaml").write_text(NOBODYS)
    words = ["run", "--in-process", "--cases", str(tmp_path / "cases"), "--report", str(tmp_path / "r")]

    def ran(loss, *more):
        here = [miniatures.installed(loss)]
        monkeypatch.setattr(registry, "installed", lambda candidates=None: (here, []))
        return CliRunner().invoke(app, [*words, *more])

    def text():
        return report.read(tmp_path / "r")[0][["function", "status"]].values.tolist()

    assert ran(miniatures.Categorical).exit_code == 0
    assert text() == [["miniature.Categorical", "agrees"]]
    nobody = ran(miniatures.Binary)
    assert nobody.exit_code == 2
    assert "no selected function supports any of the cases" in nobody.output
    assert text() == [["miniature.Binary", "unsupported"]]
    assert "it is no categorical loss: miniature.Binary" in (tmp_path / "r" / "summary.md").read_text()
    as_json = ran(miniatures.Binary, "--json")
    assert as_json.exit_code == 2
    facts = json.loads(as_json.stdout)
    assert (facts["status"], facts["unsupported"][0]["explanation"]) == (
        {"unsupported": 1}, "it is no categorical loss",
    )  # fmt: skip
    assert ran(miniatures.Categorical, "-k", "nobody").exit_code != 0
    assert text() == [["miniature.Binary", "unsupported"]]


def test_twin_is_called_on_default_files_unless_named():
    framework = HERE[0].framework
    twin = replace(framework.functions[0], name="miniature.twin", default_files=frozenset({"categorical/index_labels"}))
    here = [replace(HERE[0], framework=replace(framework, functions=(*framework.functions, twin)))]
    shipped = shipped_cases()
    first = replace(PLAIN, id="categorical/index_labels/a", path=str(shipped / "categorical/index_labels.yaml"))
    other = replace(PLAIN, id="categorical/small_losses/b", path=str(shipped / "categorical/small_losses.yaml"))
    users = replace(other, path="mine/small_losses.yaml")

    def called(item_filter=None):
        return [item.case for item in plan([first, other, users], here, item_filter) if item.function.name == twin.name]

    assert {*map(id, called())} == {id(first), id(users)}
    assert {*map(id, called(keyword_filter("float32")))} == {id(first), id(users)}
    assert {*map(id, called(keyword_filter("twin")))} == {id(first), id(other), id(users)}
    assert {*map(id, called(keyword_filter("", whole=True)))} == {id(first), id(other), id(users)}

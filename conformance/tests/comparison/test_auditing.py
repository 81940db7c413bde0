"""Upgrades audited, bisected and told as a history: a library of ours in several versions, each in a real worker."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import html
import io
import json
import re
import sys
import textwrap

import pandas as pd
import pytest
from packaging.version import Version
from typer.testing import CliRunner

from conformance import api, report
from conformance.adapters import registry
from conformance.adapters.contract import DocumentedConvention
from conformance.adapters.registry import Origin
from conformance.cli import app
from conformance.comparison import audit_page, audit_rendering, bisection, causes, history, reports, signatures, upgrade
from conformance.comparison import changes as changes_module
from conformance.comparison.causes import sections
from conformance.comparison.changes import SAME_QUESTIONS, compare_results
from conformance.comparison.distance import drift
from conformance.comparison.errors import ComparisonError
from conformance.comparison.reports import ReportDifference, Side
from conformance.comparison.signatures import SignatureParameter, compare_signatures
from conformance.execution import environments
from conformance.execution.assessing import NotExecuted
from conformance.execution.environments import Environment, EnvironmentFailure
from conformance.execution.journal import read_journal
from conformance.judging.plan import plan
from conformance.judging.verdict import FAILING
from conformance.model.convention import Convention
from conformance.model.errors import UserError
from conformance.report import RunInfo
from conformance.tests import miniatures
from conformance.tests.libraries import write_metadata
from conformance.tests.report.test_report import raised, row
from conformance.tests.stated import case

EVIL = "=cmd|' /C x'!A0 | x |\n\n# big `a` <script> [l](u) [bold]x[/] \x1b[31m"

# A library: 1.0 clips at 1e-15; 2.0 clips at 1e-7, as its notes say; 3.0 also doubles every loss, as nothing says;
# 4.0 does not.  2.5 cannot be installed.

SOURCE = """
import warnings
import numpy as np

VERSION = {version}
EPS = 1e-15 if VERSION < 2 else 1e-7

def compute(y, p):
    p = np.clip(p, EPS, 1 - EPS)
    loss = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    if VERSION == 3:
        warnings.warn("log_loss will go", FutureWarning)
        return 2 * loss
    return loss

if VERSION < 2:
    def log_loss(y_true, y_pred, *, eps=1e-15):
        if np.any(p_bad(y_pred)):
            raise TypeError("bad " + str(VERSION))
        return compute(y_true, y_pred)
else:
    def log_loss(y_true, y_proba, *, base=None):
        if np.any(p_bad(y_proba)):
            raise ValueError("bad " + str(VERSION))
        return compute(y_true, y_proba)

def p_bad(p):
    return (p < 0) | (p > 1)
"""
CASES = """\
# yaml-language-server: $schema=https://raw.githubusercontent.com/cross-entropy-conformance/cross-entropy-conformance/main/conformance/case.schema.json
about: What a library of ours does.
source: https://example.org/
loss: binary
given: probabilities
target: binary
cases:
  plain:
    why: Nothing special.
    predictions: [0.25, 0.5, 0.75]
    labels: [1.0, 0.0, 1.0]
    dtypes: [float64]
  clipped:
    why: Every clip shows.
    predictions: [0.0, 0.5]
    labels: [1.0, 0.0]
    dtypes: [float64]
  beyond:
    why: It is no probability.
    predictions: [1.5, 0.5]
    labels: [1.0, 0.0]
    dtypes: [float64]
    expect: {error: invalid_probability}
"""


ADAPTER = """
from conformance.adapters import arrays
from conformance.adapters.contract import DocumentedConvention, Framework, Function
from conformance.model.convention import Convention

FRAMEWORK = Framework(
    name="fake",
    distributions=("fake-losses",),
    modules=("fakelosses",),
    functions=(
        Function(
            "log_loss",
            "fakelosses.log_loss({labels}, {predictions})",
            ranks={"binary": range(1, 2)},
            input_kinds={"probabilities": ""},
            targets={"binary": "same"},
            reductions={"mean": ""},
            dtypes=frozenset({"float64"}),
            conventions=(DocumentedConvention(Convention(clip=1e-15), documentation="https://example.org/1"),),
        ).since("2", choices={"clip": 1e-7}, documentation="https://example.org/2"),
    ),
    arrays=arrays.numpy,
    imports="import fakelosses",
)
"""
SPACE: dict[str, object] = {}
exec(ADAPTER, SPACE)
FRAMEWORK = SPACE["FRAMEWORK"]
NEW_DOCUMENTS = "https://example.org/2"
RELEASES = [Version(text) for text in ("1.0", "1.1", "2.0", "2.1", "2.5", "2.6", "3.0", "4.0")]


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Environments of that library, made here; gives the list of those that were made."""
    made = []

    def build(expected, told=print):
        version = next(one.partition("==")[2] for one in expected.requirements if one.startswith("fake-losses=="))
        if version in ("2.5", "9.9"):
            raise EnvironmentFailure(expected, "it cannot be resolved")
        folder = tmp_path / "environments" / version
        write_metadata(folder, "fake-losses", version)
        number = int(version.partition(".")[0])
        (folder / "fakelosses.py").write_text(SOURCE.replace("{version}", str(number)))
        made.append(version)
        return Environment(expected.name, sys.executable, {"PYTHONPATH": str(folder)}, {"fake-losses": version}, "3")

    adapter = tmp_path / "fakeadapter.py"
    adapter.write_text(ADAPTER)
    conventions = tuple(documented.convention for documented in FRAMEWORK.functions[0].conventions)
    monkeypatch.setattr(registry, "frameworks", lambda: (FRAMEWORK,))
    monkeypatch.setattr(registry, "origin", lambda _: Origin("fakeadapter:FRAMEWORK", str(adapter)))
    monkeypatch.setattr(registry, "conventions", lambda: conventions)
    monkeypatch.setattr(environments, "build", build)
    monkeypatch.setattr(environments, "releases", lambda _: list(RELEASES))
    return made


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "cases" / "binary"
    folder.mkdir(parents=True)
    (folder / "fake.yaml").write_text(CASES)
    return folder.parent


def invoke(*words):
    """What a command did; a UserError, which `main` prints, is its exception."""
    return CliRunner().invoke(app, [str(word) for word in words])


def audited(corpus, tmp_path, old, new, *more):
    folder = tmp_path / "audit"
    result = invoke("audit", f"fake-losses=={old}", f"fake-losses=={new}", "--cases", corpus, "--report", folder, *more)
    return result, folder


# An audit


def test_audit_separates_documented_and_other_changes(library, corpus, tmp_path):
    result, folder = audited(corpus, tmp_path, "1.0", "3.0")
    assert result.exit_code == 1, result.output
    assert library == ["1.0", "3.0"]
    said = json.loads((folder / "audit.json").read_text())
    told = [(cause["section"], cause["severity"], cause["what"], cause["rows"]) for cause in said["causes"]]
    assert told == [
        ("undocumented", "regression", "right, returns a number -> wrong, returns a number", 1),
        ("undocumented", "regression", "right, returns a number -> wrong, returns a number", 1),
        ("wording", "change", "raises ValueError, and raised TypeError", 1),
    ]
    assert said["answer"][2] == "From fake 1.0 to 3.0 fake.log_loss answers 2 of 3 questions otherwise."
    assert said["versions"] == {"fake": ["1.0", "3.0"]}


def test_audit_names_choice_release_and_source_of_a_documented_change(library, corpus, tmp_path):
    result, folder = audited(corpus, tmp_path, "1.0", "4.0")
    assert result.exit_code == 0, result.output
    (cause,) = (cause for cause in json.loads((folder / "audit.json").read_text())["causes"] if cause["announced"])
    assert cause["what"] == "clip 1e-15 -> 1e-07 (since 2)"
    assert cause["announced"][0]["source"] == NEW_DOCUMENTS
    assert (cause["worst"]["case"], cause["rows"]) == ("binary/fake/clipped", 1)
    assert float(cause["worst"]["before"]) > float(cause["worst"]["after"])
    assert f"[\\>=2]({NEW_DOCUMENTS})" in (folder / "audit.md").read_text()
    assert "Edges: documented changes" in result.output
    assert not [line for line in result.output.splitlines() if line.endswith("  ")]  # nothing is padded to the width


@pytest.mark.parametrize(
    ("old", "new", "keyword", "first", "second"),
    [
        ("1.0", "1.1", "", "Ordinary inputs: no difference in 1 row.", "Edges: no difference in 2 rows."),
        ("1.0", "2.0", "", "Ordinary inputs: no difference in 1 row.", "Edges: 1 row of 1 function changed, 1 row"),
        ("2.0", "3.0", "", "Ordinary inputs: 1 row of 1 function changed, of 1 row.", "Edges: 1 row of 1 function"),
        ("1.0", "3.0", "clipped", "Ordinary inputs: none was called.", "Edges: 1 row of 1 function changed, of 1 row."),
        ("1.0", "2.0", "plain", "Ordinary inputs: no difference in 1 row.", "Edges: none was called."),
    ],
)
def test_audit_begins_with_effect_on_ordinary_inputs(library, corpus, tmp_path, old, new, keyword, first, second):
    result, folder = audited(corpus, tmp_path, old, new, "-k", keyword, "--fail-on", "never")
    said = json.loads((folder / "audit.json").read_text())
    assert said["answer"][0] == first
    assert said["answer"][1].startswith(second)
    assert result.output.startswith(first)
    assert (folder / "audit.md").read_text().split("\n\n")[1].startswith(first)
    assert said["ordinary"]["total"] + said["edges"]["total"] == (1 if keyword else 3)


def test_audit_lists_causes_of_ordinary_inputs_before_edges(library, corpus, tmp_path):
    _, folder = audited(corpus, tmp_path, "1.0", "3.0", "--fail-on", "never")
    said = json.loads((folder / "audit.json").read_text())
    assert [(cause["ordinary"], cause["worst"]["case"]) for cause in said["causes"]] == [
        (True, "binary/fake/plain"),
        (False, "binary/fake/clipped"),
        (False, "binary/fake/beyond"),
    ]
    headings = [line for line in (folder / "audit.md").read_text().splitlines() if line.startswith("## ")]
    assert [heading.partition(":")[0] for heading in headings] == [
        "## Ordinary inputs",
        "## Edges",
        "## Edges",
        "## Signatures",
    ]
    lines = list(csv.DictReader(io.StringIO((folder / "audit.csv").read_text())))
    assert {line["case"]: line["ordinary"] for line in lines} == {
        "binary/fake/plain": "yes",
        "binary/fake/clipped": "no",
        "binary/fake/beyond": "no",
    }
    assert list(lines[0])[-1] == "ordinary"


@pytest.mark.parametrize(
    ("new", "verdict", "colour", "articles"),
    [
        ("1.1", "Ordinary inputs are not affected", "agrees", 0),
        ("2.0", "Ordinary inputs are not affected", "agrees", 2),
        ("3.0", "Ordinary inputs are affected", "disagrees", 3),
    ],
)
def test_audit_page_has_ordinary_inputs_first_and_answers_side_by_side(
    library, corpus, tmp_path, new, verdict, colour, articles
):
    result, folder = audited(corpus, tmp_path, "1.0", new, "--fail-on", "never")
    assert str(folder / "audit.html") in " ".join(result.stderr.split())
    page = (folder / "audit.html").read_text(encoding="utf-8").replace("<wbr>", "")
    assert f'class="verdict {colour}"><b><span class="en" lang="en">{verdict}</span>' in page
    ordinary, edges = (
        page.index(f'<h2><span class="en" lang="en">{name}</span>') for name in ("Ordinary inputs", "Edges")
    )
    assert page.index(verdict) < ordinary < edges
    sections = page[:edges], page[edges:]
    assert sum(part.count("<dt>") for part in sections) == 2 * articles
    assert sections[0].count("<dt>") == 2 * (colour == "disagrees")
    said = json.loads((folder / "audit.json").read_text())
    for cause in said["causes"]:
        part = sections[not cause["ordinary"]]
        assert f"之前</span> 1.0</dt><dd><code>{html.escape(cause['worst']['before'])}" in part
        assert f"之后</span> {new}</dt><dd><code>{html.escape(cause['worst']['after'])}" in part
        said_in_both = re.escape(html.escape(cause["what"])) + '</span><span class="zh" lang="zh-CN">(.*?)</span>'
        assert re.search(r"[\u4e00-\u9fff]", re.search(said_in_both, part)[1])
    english, chinese = (
        re.search(f'<div class="{language}" lang="[^"]+">(.*?)</div>', page)[1] for language in ("en", "zh")
    )
    assert english.count("<p>") == chinese.count("<p>") > 2
    assert [html.unescape(text) for text in re.findall("<p>(.*?)</p>", english)] == said["answer"][
        : english.count("<p>")
    ]
    assert sorted(re.findall(r"\d[\d.]*\d|\d", english)) == sorted(re.findall(r"\d[\d.]*\d|\d", chinese))
    for address in re.findall('href="([^"#]+)"', page):
        assert address.startswith("https://example.org/") or (folder / address).is_file(), address


def test_audit_page_has_both_languages():
    assert all(english != chinese for english, chinese in audit_page.WORDS.values())
    assert audit_page.CHINESE.keys() == audit_rendering.ENGLISH.keys()
    assert {*causes.REPORTED_SECTIONS, *changes_module.SEVERITIES} <= {*audit_page.WORDS, "unchanged"}
    failing = map(causes.status_text, FAILING)
    tables = (causes.SUPPORT_TEXT, causes.STATUS_JUDGEMENT, signatures.SENTENCES)
    assert {text for table in tables for text in table.values()} | {*failing} <= audit_page.DESCRIPTIONS.keys()
    for english, chinese in audit_page.DESCRIPTIONS.items():
        fields = [sorted(re.findall(r"\{\w*\}", text)) for text in (english, chinese)]
        assert fields[0] == fields[1], english
        assert not re.search("[a-z]", re.sub(r"\{\w*\}", "", chinese)), english


@pytest.mark.parametrize(
    ("change", "english", "chinese"),
    [
        ({"kind": "removed", "old": "eps"}, "parameter eps is gone", "参数 eps 已不存在"),
        (
            {"kind": "default", "name": "eps", "new": "1"},
            "parameter eps has the default 1, and had none, so it was required",
            "参数 eps 有默认值 1，以前必填",
        ),
        (
            {"kind": "default", "name": "eps", "old": "1"},
            "parameter eps has no default any more, and had 1",
            "参数 eps 不再有默认值，以前是 1",
        ),
        (
            {"kind": "deprecated", "name": "eps", "new": "parameter eps"},
            "deprecated: parameter eps",
            "已弃用：参数 eps",
        ),
    ],
)
def test_audit_page_has_signature_changes_in_both_languages(change, english, chinese):
    found = signatures.SignatureChange("f", ("f",), **change)
    assert str(found) == english
    assert found.text(audit_page.DESCRIPTIONS.__getitem__) == chinese


def test_audit_writes_both_reports_and_their_difference(library, corpus, tmp_path):
    _, folder = audited(corpus, tmp_path, "1.0", "4.0")
    found = reports.difference(folder / "old", folder / "new")
    assert found.old.versions == {"fake": "1.0"}
    assert len(found.changes) == 3
    lines = list(csv.DictReader(io.StringIO((folder / "audit.csv").read_text())))
    assert sorted(line["section"] for line in lines) == ["documented", "wording"]


def test_audit_lists_changed_signatures(library, corpus, tmp_path):
    _, folder = audited(corpus, tmp_path, "1.0", "3.0", "--fail-on", "never")
    told = [change["what"] for change in json.loads((folder / "audit.json").read_text())["signatures"]]
    assert told == [
        "parameter eps=1e-15 is gone",
        "parameter y_pred is now called y_proba",
        "parameter base=None is new",
        "deprecated: FutureWarning: log_loss will go",
    ]


@pytest.mark.parametrize(
    ("old", "new", "level", "status"),
    [
        ("1.0", "1.1", "any", 0),
        ("1.0", "4.0", "regression", 0),
        ("1.0", "4.0", "change", 1),
        ("2.0", "3.0", "never", 0),
        ("2.0", "3.0", "regression", 1),
        ("3.0", "2.0", "regression", 0),
    ],
)
def test_audit_exit_status_depends_on_fail_on(library, corpus, tmp_path, old, new, level, status):
    result, _ = audited(corpus, tmp_path, old, new, "--fail-on", level, "-k", "plain or clipped")
    assert result.exit_code == status, result.output


def test_audit_reports_no_change(library, corpus, tmp_path):
    result, _ = audited(corpus, tmp_path, "1.0", "1.1")
    assert "From fake 1.0 to 1.1 no answer changes." in result.output


@pytest.mark.parametrize("form", ["markdown", "json"])
def test_audit_prints_written_summary(library, corpus, tmp_path, form):
    result, folder = audited(corpus, tmp_path, "1.0", "2.0", "--format", form, "-k", "clipped")
    text = (folder / f"audit.{'md' if form == 'markdown' else form}").read_text()
    assert result.stdout == text


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("1.0", "9.9", "fake-losses==9.9: it cannot be resolved"),
        ("1.0", "1.0", "both sides are fake-losses==1.0"),
        ("1.0", "1.1 -k", "is not a requirement"),
    ],
)
def test_audit_rejects_with_one_message(library, corpus, tmp_path, old, new, why):
    result, _ = audited(corpus, tmp_path, old, new)
    assert isinstance(result.exception, UserError)
    assert why in str(result.exception)


@pytest.fixture
def lose(monkeypatch):
    """Have the items of the release 1.0 whose cases have a name not be executed."""

    def lose(name):
        def judge_items(items, judge, pool):
            for made in real(items, judge, pool):
                lost = made.key.case.endswith(name) and made.key.version == "1.0"
                yield NotExecuted("", f"fake.log_loss-{made.key.case}-float64-mean", "no") if lost else made

        monkeypatch.setattr(upgrade.assessing, "judge_items", judge_items)

    real = upgrade.assessing.judge_items
    return lose


def test_audit_excludes_item_that_one_side_cannot_execute(library, corpus, tmp_path, lose):
    lose("plain")
    result, folder = audited(corpus, tmp_path, "1.0", "1.1")
    assert result.exit_code == 2
    assert "not executed, and left out on both sides" in result.output
    assert json.loads((folder / "new" / "run.json").read_text())["complete"] is False
    assert json.loads((folder / "audit.json").read_text())["edges"]["total"] == 2


def test_audit_reports_why_one_side_has_no_answer(library, corpus, tmp_path, lose):
    lose("")
    result, _ = audited(corpus, tmp_path, "1.0", "1.1")
    assert "have no answer in common: fake.log_loss-" in str(result.exception)
    assert str(result.exception).endswith(": no")


# Causes


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (RuntimeError("broken"), 1)])
def test_interrupted_audit_leaves_rows_and_no_complete_report(library, corpus, tmp_path, monkeypatch, error, status):
    _, folder = audited(corpus, tmp_path, "1.0", "1.1")
    assert report.read(folder / "old")[1]["complete"]
    assert not list(folder.glob("*/journal.jsonl"))
    real = upgrade.assessing.judge_items

    def judge_items(*arguments):
        for count, made in enumerate(real(*arguments)):
            if count == 3:
                raise error
            yield made

    monkeypatch.setattr(upgrade.assessing, "judge_items", judge_items)
    result, folder = audited(corpus, tmp_path, "1.0", "1.1")
    assert result.exit_code == status  # in this test there is no `main`, which makes 3 of an exception
    rows = 0
    for side in ("old", "new"):
        table, record = report.read(folder / side)
        assert not record["complete"]
        assert report.read(folder / side / "previous")[1]["complete"]
        assert len(read_journal(folder / side).rows) == len(table)
        rows += len(table)
    assert rows == 3


def changes(old, new, **versions):
    stays = row("keras.Stays", case="binary/stays")
    return compare_results(
        report.from_records([*old, stays]), report.from_records([*new, stays]), scopes=SAME_QUESTIONS
    )


def told(old, new):
    return causes.causes(changes([old], [new]))


BAD = {"status": "disagrees", "expected": "unexpected", "explanation": "off"}


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (row(), row(got="9.0", **BAD), "right, returns a number -> wrong, returns a number"),
        (row(got="nan", **BAD), row(), "wrong, returns nan -> right, returns a number"),
        (row(), raised("torch.A"), "right, returns a number -> wrong, raises ValueError"),
        (row(), row(got="1.5"), "right, returns a number, different value"),
        (row(), row(got="[1.0, Infinity]", **BAD), "right, returns a number -> wrong, returns inf"),
        (row(), raised("torch.A", status="crashed", exception=""), "right, returns a number -> crashed"),
        (row(), row(warnings="UserWarning: x"), "warns: UserWarning: x"),
        (raised("torch.A"), raised("torch.A", exception="TypeError: no"), "raises TypeError, and raised ValueError"),
        (raised("torch.A"), raised("torch.A", exception="ValueError: yes"), "words its ValueError otherwise"),
        (row(result_dtype="float32"), row(result_dtype="float64"), "dtype float32 -> float64"),
    ],
)
def test_cause_description_states_change(old, new, what):
    (cause,) = told(old, new)
    assert cause.description == what


@pytest.mark.parametrize(
    ("old", "new", "section"),
    [
        (row(), row(), "unchanged"),
        (row(), row(got="1.01"), "rounding"),
        (row(), row(got="1.5"), "undocumented"),
        (row(), row(status="diverges", convention="clip=1e-15"), "judgement"),
        (row(), row(status="diverges", convention="clip=1e-15", warnings="UserWarning: x"), "wording"),
        (row(), row(warnings="UserWarning: x"), "wording"),
        (row(), raised("torch.A", status="agrees"), "undocumented"),
        (raised("torch.A"), raised("torch.A", exception="TypeError: no"), "wording"),
    ],
)
def test_sections_of_rows(old, new, section):
    table = changes([old], [new])
    assert sections(table)[table["function"] == "torch.A"].tolist() == [section]


def test_cause_of_gained_rows_is_support():
    table = changes([row()], [row(), row("torch.B"), row(dtype="float16")])
    assert [(cause.function, cause.description) for cause in causes.causes(table)] == [
        ("torch.A", "can be called now, float16"),
        ("torch.B", "the function is new"),
    ]


def test_cause_of_one_sided_row_states_earlier_call():
    few, more = [row()], [row(), row(reduction="sum"), row("torch.B")]
    asked = [causes.causes(compare_results(*map(report.from_records, sides))) for sides in ((few, more), (more, few))]
    assert [[(cause.function, cause.description) for cause in found] for found in asked] == [
        [("torch.A", "was not called before, float32"), ("torch.B", "the function is new")],
        [("torch.A", "is not called any more, float32"), ("torch.B", "the function is gone")],
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("1.0", "2.0", "1 -> 2 (x 2)"),
        ("1.2039728043259361", "0.5108256237659907", "1.204 -> 0.5108 (x 0.4243)"),
        ("1e-9", "2e-9", "1e-09 -> 2e-09 (x 2)"),
        ("1347.013916015625", "1347.0140142567425", "1347.0139 -> 1347.014 (x 1.0000001)"),
        ("1.0", "1.0000000000000002", "1 -> 1.0000000000000002 (x 1.0000000000000002)"),
        ("0.0", "1.5", "0 -> 1.5"),
        ("1.5", "0.0", "1.5 -> 0 (x 0)"),
        ("-1.0", "2.0", "-1 -> 2 (x -2)"),
        ("-Infinity", "1.0", "-inf -> 1"),
        ("nan", "1.0", "nan -> 1"),
        ("16.1", "inf", "16.1 -> inf"),
        ("1e308", "-1e308", "1e+308 -> -1e+308 (x -1)"),
        ("[0.0, 4.0]", "[0.0, 3.0]", "4 -> 3 (x 0.75) at [1]"),
        ("[[1.0, 2.0], [3.0, 4.0]]", "[[1.0, 2.0], [9.0, 4.0]]", "3 -> 9 (x 3) at [1, 0]"),
        ("[NaN, 4.0]", "[1.0, 3.0]", "4 -> 3 (x 0.75) at [1]"),
        ("[NaN, 4.0]", "[1.0, 4.0]", "nan -> 1 at [0]"),
        ("1.0", "[1.0]", ""),
        ("", "1.0", ""),
        ("nan", "nan", ""),
        ("0.0", "-0.0", ""),
        ("5e-324", "1e308", "4.941e-324 -> 1e+308"),
    ],
)
def test_drift_text(old, new, told):
    move = drift(old, new)
    assert ("" if move is None else str(move)) == told


def test_cause_names_the_changed_member_of_a_set_with_its_release(monkeypatch):
    def documented(versions, *names):
        return DocumentedConvention(
            Convention(rejects=frozenset(names)), versions=versions, documentation=f"https://example.org/{versions}"
        )

    many = (
        documented("<2", "one_class"),
        documented(">=2,<3", "one_class", "nan_weight"),
        documented(">=3", "one_class", "nan_weight", "no_weight"),
    )
    described = dataclasses.replace(FRAMEWORK.functions[0], name="setty.loss", conventions=many, versions="")
    framework = dataclasses.replace(FRAMEWORK, name="setty", functions=(described,))
    monkeypatch.setattr(registry, "frameworks", lambda: (framework,))
    said = {"status": "diverges", "convention": "rejects=nan_weight", "exception": "ValueError: no"}
    new = raised("setty.loss", version="3.1", **said)
    (cause,) = told(row("setty.loss", version="1.0"), new)
    assert cause.description == "rejects nan_weight (since 2)"
    assert cause.sources == ("https://example.org/>=2,<3",)


# Signatures


def parameters(text):
    """`a b=1 | c=2`: what follows the bar is keyword-only."""
    found, kind = [], "positional or keyword"
    for word in text.split():
        if word == "|":
            kind = "keyword-only"
        else:
            name, _, default = word.partition("=")
            found.append(SignatureParameter(name, kind, default))
    return found


@pytest.mark.parametrize(
    ("old", "new", "kinds"),
    [
        ("a b=1", "a b=1", []),
        ("a b=1", "a", ["removed"]),
        ("a", "a b=1", ["added"]),
        ("a b", "a c", ["renamed"]),
        ("a b=1", "a c=2", ["removed", "added"]),
        ("a b", "a c=None | b='deprecated'", ["renamed", "default", "deprecated"]),
        ("a b=1", "a b=2", ["default"]),
        ("a b=1", "a | b=1", ["kind"]),
        ("a b", "b a", ["place", "place"]),
        ("a b", "a x b", ["place", "added"]),
        ("a | b=1 c=2", "a | c=2 b=1", []),
        ("a | b=1", "a | b='deprecated'", ["deprecated"]),
        ("a b=1 c=2", "a d=1 e=2", ["renamed", "renamed"]),
    ],
)
def test_compare_signatures_finds_kinds(old, new, kinds):
    found = compare_signatures("p", ["f"], parameters(old), parameters(new))
    assert [change.kind for change in found] == kinds
    assert all(str(change) for change in found)


def test_compare_signatures_of_a_missing_path_is_a_lost_function():
    assert [change.kind for change in compare_signatures("p", ["f"], [], None)] == ["function lost"]
    assert [change.kind for change in compare_signatures("p", ["f"], None, [])] == ["function gained"]
    assert compare_signatures("p", ["f"], None, None) == []


def test_compare_signatures_ignores_addresses_in_defaults():
    told = ([["x", "keyword-only", f"<object object at 0x7f{digit}0>"]] for digit in "ab")
    assert compare_signatures("p", ["f"], *map(signatures.parameters, told)) == []


def test_audit_json_is_the_written_file(library, corpus, tmp_path):
    result, folder = audited(corpus, tmp_path, "1.0", "2.0", "--json")
    said = json.loads(result.stdout, parse_constant=pytest.fail)
    assert (said["schema"], said["difference"]["schema"]) == ("conformance.audit/2", "conformance.diff/1")
    assert result.stdout == (folder / "audit.json").read_text()
    result, _ = audited(corpus, tmp_path, "1.0", "2.0", "--json", "--format", "markdown")
    assert "--json and --format markdown do not go together" in str(result.exception)


# Bisecting


def bisected(corpus, good, bad, *more):
    return invoke("bisect", "fake-losses", good, bad, "--cases", corpus, *more)


def test_bisect_finds_the_release_with_few_environments(library, corpus):
    result = bisected(corpus, "1.0", "2.6", "--case", "binary/fake/clipped")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("fake-losses 2.0 is the first release in which the answer is another, after 1.1")
    assert f"documented: {NEW_DOCUMENTS}" in result.output
    assert "import fakelosses" in result.output
    assert len(library) <= 5


def test_bisect_steps_around_a_broken_release(library, corpus):
    result = bisected(corpus, "2.0", "4", "--case", "binary/fake/plain")
    assert result.exit_code == 1
    assert "2.0 and 4.0 answer alike to the bit" in str(result.output)
    result = bisected(corpus, "2.1", "3.0", "--case", "binary/fake/plain")
    assert "fake-losses 3.0 is the first" in result.output
    assert "no adapter documents it" in result.output
    assert "2.5: fake-losses==2.5: it cannot be resolved" in result.output


def test_bisect_json_has_releases_and_changes(library, corpus):
    result = bisected(corpus, "1.0", "2.6", "--case", "binary/fake/clipped", "--json")
    said = json.loads(result.stdout, parse_constant=pytest.fail)
    assert (result.exit_code, said["schema"]) == (0, "conformance.bisect/1")
    assert said["found"] == {"before": "1.1", "after": "2.0"}
    assert said["documented"] == [NEW_DOCUMENTS]
    assert {line["old_got"] != line["new_got"] for line in said["changes"]} == {True}
    result = bisected(corpus, "2.0", "4", "--case", "binary/fake/plain", "--json")
    said = json.loads(result.stdout)
    assert (result.exit_code, said["found"]) == (1, None)
    assert len(said["tried"]) >= 2


def test_bisect_moves_a_broken_end_inwards(library, corpus):
    result = bisected(corpus, "2.5", "3.0", "--case", "binary/fake/plain")
    assert result.output.startswith("fake-losses 3.0 is the first release in which the answer is another, after 2.6")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("1.0", "3.0", "--case", "binary/fake/plane"), "there is no case binary/fake/plane in "),
        (("1.0", "3.0", "--case", "binary/fake/plain", "--function", "fake.loss"), "there is no such function"),
        (("1.0", "3.0", "--case", "binary/fake/plain", "--dtype", "float32"), "is not called as float32 there, but as"),
        (("0.9", "3.0", "--case", "binary/fake/plain"), "there is no release 0.9 of fake-losses on the package index"),
        (("new", "3.0", "--case", "binary/fake/plain"), "new is not a version"),
        (("3.0", "1.0", "--case", "binary/fake/plain"), "3.0 is not before 1.0"),
    ],
)
def test_bisect_rejects_with_one_message(library, corpus, words, why):
    result = bisected(corpus, *words)
    assert isinstance(result.exception, UserError), result.output
    assert why in str(result.exception)


def test_releases_between_resolves_a_prefix_to_its_first_release():
    releases = [Version(text) for text in ("1.0", "1.0.2", "1.1.1", "1.1.3", "1.10")]
    assert bisection.releases_between("1.0", "1.1", releases, "x") == releases[:3]
    with pytest.raises(UserError, match="the nearest are"):
        bisection.releases_between("1.0", "1.2", releases, "x")


def search(answers, broken=()):
    """A search through releases 0, 1, 2 ... with these answers."""
    asked = []

    def probe(release):
        asked.append(release.major)
        if release.major in broken:
            raise UserError(f"{release}: no")
        got = answers[release.major]
        return report.from_records([row(got=got, version=str(release), budget=0.1)])

    case = type("Case", (), {"id": "categorical/a/case"})
    wish = bisection.Query("x", case)
    return bisection.bisect(wish, [Version(str(n)) for n in range(len(answers))], probe, lambda _: None), asked


@pytest.mark.parametrize("boundary", [1, 17, 32])
def test_bisect_needs_log2_steps(boundary):
    found, asked = search(["1.0"] * boundary + ["5.0"] * (33 - boundary))
    assert (found.before.major, found.after.major) == (boundary - 1, boundary)
    assert len(asked) == len(set(asked)) <= 2 + 5
    assert not found.changes_again


def test_bisect_searches_rounding_if_nothing_else_differs():
    found, _ = search(["1.0"] * 3 + ["1.001"] * 4)
    assert found.rounding
    assert found.after.major == 3


def test_bisect_ignores_rounding_beside_a_change():
    found, _ = search(["1.0", "1.001", "1.0", "5.0", "5.001"])
    assert not found.rounding
    assert found.after.major == 3


def test_bisect_reports_small_steps_that_add_up():
    found, _ = search(["1.0", "1.06", "1.12"])
    assert len(found.changes) == 1


def test_bisect_mentions_a_second_change():
    found, _ = search(["1.0", "1.0", "5.0", "5.0", "9.0"])
    assert found.changes_again
    assert any("changes again" in line for line in bisection.lines(found))


def test_bisect_names_untried_releases_in_a_gap():
    found, _ = search(["1.0", "1.0", "1.0", "5.0", "5.0"], broken=(2,))
    assert [version.major for version in found.untried] == [2]
    assert any("could not be installed or called" in line for line in bisection.lines(found))


def test_bisect_rejects_broken_ends():
    with pytest.raises(UserError, match="no two releases can be installed and executed"):
        search(["1.0", "2.0"], broken=(1,))


# A history


def multi(tmp_path, *rows):
    results = report.from_records(rows)
    report.write(tmp_path, results, RunInfo(planned=len(results)))
    return tmp_path


def at(version, got="1.0", **rest):
    return row("torch.A", got=got, version=version, environment=rest.pop("environment", f"torch=={version}"), **rest)


def test_history_names_the_release_of_each_change(tmp_path):
    path = multi(tmp_path, at("1.9"), at("1.10", "5.0", **BAD), at("1.11", "5.0", **BAD), at("2.0"))
    found = history.history(path)
    assert [(step.before, step.after, len(step.causes)) for step in found.steps] == [
        ("1.9", "1.10", 1),
        ("1.10", "1.11", 0),
        ("1.11", "2.0", 1),
    ]
    lines = list(csv.DictReader(io.StringIO(history.as_csv(found))))
    assert [(line["release"], line["kind"], line["documented"]) for line in lines] == [
        ("1.10", "regression", "no"),
        ("2.0", "improvement", "no"),
    ]
    assert "Nothing changed in 1.11" in history.markdown(found)


def test_history_has_a_series_for_each_backend(tmp_path):
    rows = [at(version, environment=f"torch[{name}]=={version}") for version in ("1", "2") for name in ("a", "b")]
    found = history.history(multi(tmp_path, *rows))
    assert [(step.place, step.before, step.after) for step in found.steps] == [("[a]", "1", "2"), ("[b]", "1", "2")]


def test_history_rejects_a_repeated_release(tmp_path):
    rows = [at("1", environment="torch==1"), at("1", environment="torch==1.0"), at("2")]
    with pytest.raises(ComparisonError, match="cannot be distinguished"):
        history.history(multi(tmp_path, *rows))


def test_history_rejects_a_single_release(tmp_path):
    with pytest.raises(ComparisonError, match="there is no history in it"):
        history.history(multi(tmp_path, at("1")))


def test_history_escapes_text_of_reports(tmp_path):
    path = multi(tmp_path, at("1"), raised("torch.A", version="2", environment="torch==2", exception=f"E: {EVIL}"))
    text = history.markdown(history.history(path))
    assert "\x1b" not in text
    assert "<script>" not in text.replace("`", "").replace("\\<script\\>", "") or "`" in text
    assert "\n# big" not in text
    assert all(not line.startswith("=") for line in history.as_csv(history.history(path)).splitlines())


def test_history_files_are_reproducible(tmp_path):
    path = multi(tmp_path / "report", at("1"), at("2", "5.0", **BAD))
    texts = []
    for name in ("a", "b"):
        result = invoke("history", path, "-o", tmp_path / name)
        assert result.exit_code == 0, result.output
        texts.append([(tmp_path / name / f"history.{kind}").read_text() for kind in ("md", "csv")])
    assert texts[0] == texts[1]


def test_history_lists_failed_environments(library, tmp_path, corpus):
    words = [word for version in ("1.0", "2.0", "2.5") for word in ("--with", f"fake-losses=={version}")]
    invoke("run", *words, "--cases", corpus, "--report", tmp_path / "run")
    result = invoke("history", tmp_path / "run")
    assert "clip 1e-15 -\\> 1e-07 (since 2)" in result.output
    assert "it cannot be resolved" in result.output


def test_audit_renderings_escape_text_of_reports():
    table = changes([row()], [raised("torch.A", exception=f"E: {EVIL}", warnings=f"FutureWarning: {EVIL}")])
    side = Side(EVIL, {})
    said = signatures.deprecations(table, {})
    found = upgrade.Audit(
        ReportDifference(side, side, table),
        {"torch": ("1", "2")},
        sections(table),
        pd.Series(True, index=table.index),
        causes.causes(table, ordinary=True),
        said,
        (EVIL,),
    )
    text = audit_rendering.markdown(found)
    assert "\x1b" not in text
    assert "\n# big" not in text
    assert audit_rendering.as_dict(found)["signatures"][0]["kind"] == "deprecated"
    page = audit_page.page(found)
    assert "\x1b" not in page
    assert "<script" not in page
    assert html.escape(EVIL.splitlines()[0]) in page.replace("<wbr>", "")
    assert 'href="u"' not in page
    style = re.search("<style>(.*)</style>", page, re.DOTALL)[1]
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in page
    assert all("\x1b" not in str(getattr(piece, "renderable", piece)) for piece in audit_rendering.terminal(found))


# For real


def test_audit_of_two_scikit_learn_releases(tmp_path):
    try:
        for text in ("scikit-learn==1.1.3", "scikit-learn==1.9.1"):
            environments.build(environments.parse(text), lambda _: None)
    except UserError as error:
        pytest.skip(f"no environment can be made here: {error}")
    folder = tmp_path / "audit"
    result = invoke("audit", "scikit-learn==1.1.3", "scikit-learn==1.9.1", "-k", "article", "--report", folder)
    assert result.exit_code == 0, result.output
    said = json.loads((folder / "audit.json").read_text())
    assert said["versions"] == {"sklearn": ["1.1.3", "1.9.1"]}
    kinds = {(change["kind"], change["name"]) for change in said["signatures"]}
    assert {("removed", "eps"), ("renamed", "y_pred")} <= kinds
    assert textwrap.shorten(said["answer"][0], 200) in " ".join(result.output.split())


def test_api_returns_audit_and_bisection_as_values(library, corpus, tmp_path):
    found = api.audit("fake-losses==1.0", "fake-losses==1.1", tmp_path / "audit", corpus)
    assert found.audit is not None
    assert found.audit.versions == {"fake": ("1.0", "1.1")}
    assert found.not_executed == ()
    assert json.loads(found.to_json()) == json.loads((tmp_path / "audit" / "audit.json").read_text())
    bisected = api.bisect("fake-losses", "1.0", "2.6", "binary/fake/clipped", cases=corpus)
    assert bisected.found is not None
    assert bisected.found.before < bisected.found.after
    assert bisected.to_dict()["found"]["after"] == str(bisected.found.after)


def test_unanswered_question_is_not_ordinary():
    item = plan([case([[0.5, 1.5], [2.0, 0.25]], [1, 0])], [miniatures.installed(miniatures.Categorical)])[0]
    question = {name: getattr(item.key, name) for name in upgrade.QUESTION}
    sides = [("agrees", "diverges"), ("undefined", "undefined"), ("undefined", "agrees")]
    table = pd.DataFrame([{**question, "old_status": old, "new_status": new} for old, new in sides])
    assert upgrade.ordinary_rows(table, [item]).tolist() == [True, False, False]

"""Reports held against each other, against a baseline, and joined: with rows written by hand."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from conformance import report
from conformance.adapters import arrays, registry
from conformance.adapters.contract import DocumentedConvention, Framework, Function
from conformance.comparison import acceptance, difference_rendering, merging, reports
from conformance.comparison.baseline import ALWAYS_ALLOWED_RATIO, Baseline, ExpectedRows, check_baseline, limit
from conformance.comparison.changes import CAUSES, COLUMNS, KINDS, SEVERITIES, Level, compare_results, fails
from conformance.comparison.distance import distances
from conformance.comparison.errors import ComparisonError
from conformance.comparison.merging import Part, merge_reports
from conformance.comparison.reports import by_severity, group_changes, read_complete
from conformance.execution import report_folder
from conformance.execution.run_info import fingerprint, host
from conformance.model.convention import Convention
from conformance.model.serialization import to_json
from conformance.report import ReportError, RunInfo
from conformance.report.frames import PackedFrame
from conformance.tests.report.test_report import raised, row

EVIL = "=cmd|' /C x'!A0 | x |\n\n# big `a` <script> [l](u) [bold]x[/] \x1b[31m"
KNOWN = {"status": "disagrees", "expected": "known", "known": "a bug"}
BAD = {
    "status": "disagrees",
    "expected": "unexpected",
    "explanation": "error of 9 times the tolerance; no known convention explains it",
    "reason_code": "wrong_value",
}
HOST = {"conformance": "1", "python": "3.11", "numpy": "2.0"}


def changed(old, new):
    return compare_results(report.from_records(old), report.from_records(new))


def change(old, new):
    """What became of one row, beside one that stays."""
    stays = row("torch.Stays", case="binary/stays")
    found = changed([old, stays], [new, stays])
    return found[found["function"] != "torch.Stays"].iloc[0]


def died(status="crashed"):
    return raised(
        "torch.A", status=status, exception="", expected="unexpected", explanation="the process died: SIGSEGV"
    )


UNDEFINED = {"status": "undefined", "budget": None, "ratio": None, "error": None, "ulps": None}


# changes: kinds and severities


@pytest.mark.parametrize(
    ("old", "new", "kinds", "severity"),
    [
        (row(), row(), "unchanged", "unchanged"),
        (row(), row(got="1.05"), "drifted", "note"),
        (row(), row(got="1.2"), "drifted", "change"),
        (row(got="nan"), row(got="nan"), "unchanged", "unchanged"),
        (row(got="0.0"), row(got="-0.0"), "drifted", "note"),
        (row(), row(got="5.0", **BAD), "status; drifted", "regression"),
        (row(got="5.0", **BAD), row(), "status; drifted", "improvement"),
        (row(), row(got="5.0", **KNOWN), "status; drifted", "regression"),
        (row(got="5.0", **BAD), row(got="5.0", **BAD), "unchanged", "unchanged"),
        (row(got="5.0", **BAD), row(got="5.01", **BAD), "drifted", "note"),
        (row(got="5.0", **BAD), row(got="9.0", **BAD), "drifted", "change"),
        (row(got="5.0", **BAD), raised("torch.A"), "exception", "regression"),
        (raised("torch.A"), row(got="5.0", **BAD), "exception", "change"),
        (row(), raised("torch.A", status="agrees"), "exception", "change"),
        (row(), raised("torch.A"), "status; exception", "regression"),
        (row(), died(), "status", "regression"),
        (row(got="5.0", **BAD), died("timed_out"), "status", "regression"),
        (died(), row(got="5.0", **BAD), "status", "improvement"),
        (died(), died("timed_out"), "status", "change"),
        (died(), row(**UNDEFINED), "status", "improvement"),
        (row(**UNDEFINED), died(), "status", "regression"),
        (row(**UNDEFINED), row(), "status", "change"),
        (row(**UNDEFINED), raised("torch.A", status="undefined"), "exception", "change"),
        (row(**UNDEFINED), row(got=repr(1 + 2.0**-23), **UNDEFINED), "drifted", "note"),
        (row(**UNDEFINED), row(got="nan", **UNDEFINED), "drifted", "change"),
        (row(), row(got="2.0", status="diverges", convention="clip=1"), "status; convention; drifted", "change"),
        (
            row(status="diverges", convention="clip=1"),
            row(status="diverges", convention="clip=2"),
            "convention",
            "change",
        ),
        (raised("torch.A"), raised("torch.A", exception="TypeError: no"), "exception", "change"),
        (raised("torch.A"), raised("torch.A", exception="ValueError: never"), "message", "note"),
        (row(), row(warnings="FutureWarning: soon"), "warning", "note"),
        (row(result_dtype="float32"), row(result_dtype="float64"), "dtype", "change"),
        (row(got="1.0"), row(got="[1.0]"), "shape", "change"),
        (row(got="[1.0]"), row(got="[[1.0]]"), "shape", "change"),
        (row(got="[1.0]"), row(got="[1.0, 1.0]", **BAD), "status; shape", "regression"),
    ],
)
def test_changes_of_a_row_on_both_sides_have_kinds_and_severity(old, new, kinds, severity):
    found = change(old, new)
    assert (found["kinds"], found["severity"]) == (kinds, severity)
    assert found["what"]
    assert "\n" not in found["what"]


@pytest.mark.parametrize(
    ("old", "new", "kinds", "severity"),
    [
        ([row("torch.B")], [], "function lost; removed", "regression"),
        ([], [row("torch.B")], "function gained; added", "improvement"),
        ([], [row("torch.B", **BAD)], "function gained; added", "regression"),
        ([], [row("torch.B", **KNOWN)], "function gained; added", "note"),
        ([row(dtype="float16")], [], "support lost; removed", "regression"),
        ([row(dtype="float16", **BAD)], [], "support lost; removed", "regression"),
        ([], [row(dtype="float16")], "support gained; added", "improvement"),
        ([row(reduction="sum")], [], "no longer asked; removed", "change"),
        ([], [row(reduction="sum")], "newly asked; added", "note"),
        ([], [row(reduction="sum", **BAD)], "newly asked; added", "regression"),
        ([], [row(reduction="sum", **KNOWN)], "newly asked; added", "note"),
        ([row(case="binary/b")], [], "case removed; removed", "change"),
        ([], [row(case="binary/b")], "case added; added", "note"),
        ([], [row(case="binary/b", **BAD)], "case added; added", "regression"),
        ([], [row(case="binary/b", **KNOWN)], "case added; added", "note"),
    ],
)
def test_changes_of_a_row_on_one_side_have_kinds_and_severity(old, new, kinds, severity):
    both = [row(), row("torch.Float16", dtype="float16")]
    found = changed([*both, *old], [*both, *new])
    one = found[found["severity"] != "unchanged"]
    assert one[["kinds", "severity"]].values.tolist() == [[kinds, severity]]
    assert one["call"].tolist() == [(old or new)[0]["call"]]


def test_changes_never_compare_rows_of_a_changed_case():
    found = changed([row(), row(case="binary/b")], [row(), row(case="binary/b", digest="e", got="7.0")])
    assert found["kinds"].tolist()[:2] == ["case changed; removed", "case changed; added"]
    assert found["severity"].tolist() == ["change", "change", "unchanged"]
    assert found["cause"].tolist() == ["suite", "suite", ""]
    assert found["budgets"].isna().all()


def test_changes_new_row_of_a_changed_case_is_a_regression_if_it_fails():
    found = changed([row(), row(case="binary/b")], [row(), row(case="binary/b", digest="e", **BAD)])
    assert found["severity"].tolist() == ["regression", "change", "unchanged"]


def test_changes_have_the_columns_of_both_rows():
    old = row(version="1.0", environment="a", call="old()", got="1.0")
    new = row(version="2.0", environment="b", call="new()", got="2.0", status="diverges", convention="clip=1")
    found = change(old, new)
    assert list(found.index) == list(COLUMNS)
    both = ("version", "environment", "status", "got", "convention")
    told = [(found[f"old_{name}"], found[f"new_{name}"]) for name in both]
    assert told == [("1.0", "2.0"), ("a", "b"), ("agrees", "diverges"), ("1.0", "2.0"), ("", "clip=1")]
    assert found["call"] == "new()"
    assert found["budgets"] == pytest.approx(10)


def test_changes_of_a_lost_row_name_the_version_that_lacks_it():
    old = [row(version="1.0"), row(version="1.0", dtype="float16")]
    takes = row("torch.Float16", dtype="float16")
    found = changed([*old, takes], [row(version="2.0", environment="b"), takes]).iloc[0]
    assert (found["old_version"], found["new_version"], found["new_environment"]) == ("1.0", "2.0", "b")
    assert found["what"] == "it no longer accepts such input in 2.0"


# changes: distance


def apart(old, new, dtype="float32", **rest):
    frames = [report.from_records([row(got=got, dtype=dtype, **rest)]) for got in (old, new)]
    found = distances(*frames)
    return found.ulps[0], found.budgets[0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_distances_in_ulps_are_of_the_dtype_at_the_old_value(dtype):
    bits = {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}[dtype]
    assert apart("1.0", repr(1 + 3 * 2.0**-bits), dtype)[0] == 3
    assert apart("-4.0", repr(-4 - 2.0 ** (3 - bits)), dtype)[0] == 2


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
def test_distances_of_nan_and_infinities_are_zero_or_infinite(value, dtype):
    assert apart(value, "1.0", dtype) == (np.inf, np.inf)
    assert apart("1.0", value, dtype) == (np.inf, np.inf)
    assert apart(f"[{value}]".replace("inf", "Infinity").replace("nan", "NaN"), "[1.0]", dtype)[0] == np.inf
    assert apart(value, value, dtype) == (0, 0)


def test_distances_beyond_the_dtype_use_the_ulp_of_its_largest_number():
    assert apart("70000.0", "70032.0", "float16")[0] == 2


def test_distances_of_arrays_are_of_the_worst_element_with_its_budget():
    budgets = "[0.5, 0.001, 10.0]"
    assert apart("[1.0, 1.0, 1.0]", "[1.25, 1.001, 2.0]", budget=10.0, budgets=budgets)[1] == pytest.approx(1.0)
    assert apart("[1.0, 1.0, 1.0]", "[1.25, 1.001, 2.0]", budget=10.0)[1] == pytest.approx(0.1)


def test_distances_use_the_larger_budget_of_both_sides():
    frames = [report.from_records([row(got="1.0", budget=0.1)]), report.from_records([row(got="2.0", budget=0.5)])]
    assert distances(*frames).budgets[0] == distances(*frames[::-1]).budgets[0] == 2


@pytest.mark.parametrize("text", ["[1.0, [2.0]]", "[", "=1+1", "[" * 5000, '["a"]', "[{}]"])
def test_changes_of_unreadable_answers_count_as_drifted(text):
    found = change(row(), row(got=text))
    assert (found["kinds"], found["severity"]) == ("drifted", "change")


def test_distances_in_an_unknown_dtype_have_no_ulps():
    found = apart("1.0", "2.0", "float8")
    assert np.isnan(found[0])
    assert found[1] == 10


def test_changes_compare_empty_arrays_by_shape():
    assert change(row(got="[]"), row(got="[[]]"))["kinds"] == "shape"
    assert change(row(got="[]"), row(got="[ ]"))["kinds"] == "drifted"


# changes: alignment


def test_alignment_ignores_environments_if_each_side_has_one():
    old, new = row(environment="python3.11", version="1"), row(environment="python3.12", version="2")
    assert changed([old], [new])["kinds"].tolist() == ["unchanged"]


def test_alignment_matches_several_environments_by_name():
    sides = [
        [row(environment=e, version=v, got=g) for e, v, g in zip("ab", "12", side, strict=True)]
        for side in ("34", "35")
    ]
    found = changed(*sides)
    assert found[["old_environment", "new_environment", "kinds"]].values.tolist() == [
        ["b", "b", "drifted"],
        ["a", "a", "unchanged"],
    ]


def test_alignment_reports_a_missing_one_of_several_environments():
    found = changed([row(environment="a"), row(environment="b")], [row(environment="b")])
    assert found["kinds"].tolist() == ["function lost; removed", "unchanged"]


def test_alignment_rejects_several_environments_without_a_match():
    with pytest.raises(
        ComparisonError, match=r"torch\.A: .* which differ in environment, and none matches: in the old"
    ):
        changed([row(environment="a"), row(environment="b")], [row(environment="c")])


def test_alignment_distinguishes_versions_in_one_environment():
    found = changed([row(version="1"), row(version="2")], [row(version="1"), row(version="2", got="1.01")])
    assert sorted(found["kinds"]) == ["drifted", "unchanged"]


def test_alignment_is_decided_for_each_function():
    keras = [row("keras.B", environment=e) for e in "ab"]
    found = changed([row(environment="old"), *keras], [row(environment="new"), *keras])
    assert found["kinds"].tolist() == ["unchanged"] * 3


@pytest.mark.parametrize("side", [0, 1])
def test_alignment_rejects_a_repeated_question(side):
    sides = [[row()], [row()]]
    sides[side].append(row(got="2.0"))
    which = ["the old report", "the new report"][side]
    with pytest.raises(ComparisonError, match=rf"{which}: it repeats 1 row, torch\.A categorical/a/case"):
        changed(*sides)


@pytest.mark.parametrize(
    ("other", "what"),
    [(row(case="binary/z"), "case"), (row(digest="z"), "unchanged case"), (row("keras.Z"), "function")],
)
def test_changes_reject_reports_with_nothing_in_common(other, what):
    with pytest.raises(ComparisonError, match=f"no {what} in common, so nothing can be compared; compare reports of"):
        changed([row()], [other])


def test_changes_reject_an_empty_report_with_a_reason():
    with pytest.raises(ComparisonError, match="no case in common"):
        changed([], [row()])


# changes: as a whole

NUMBERS = st.sampled_from(["1.0", "1.0000001", "1.5", "nan", "inf", "[1.0]", "[1.0, 2.0]", ""])
ROWS = st.builds(
    lambda function, case, dtype, got, status, convention, exception, warnings: row(
        function,
        case=case,
        dtype=dtype,
        got=got,
        status=status,
        convention=convention,
        exception="" if got else exception,
        warnings=warnings,
        expected="unexpected" if status in ("disagrees", "crashed") else "ok",
    ),
    st.sampled_from(["torch.A", "torch.B", "keras.C"]),
    st.sampled_from([f"binary/{number}" for number in range(6)]),
    st.sampled_from(["float32", "float16"]),
    NUMBERS,
    st.sampled_from(["agrees", "diverges", "disagrees", "crashed", "undefined"]),
    st.sampled_from(["", "clip=1e-07"]),
    st.sampled_from(["", "ValueError: a", "ValueError: b", "TypeError: a"]),
    st.sampled_from(["", "UserWarning: w"]),
)
# Comparing takes as long for one row as for many, so that few large reports show more than many small ones.
REPORTS = st.lists(ROWS, min_size=8, max_size=30, unique_by=lambda r: (r["function"], r["case"], r["dtype"])).map(
    lambda rows: report.from_records([*rows, row("torch.S", case="binary/s")])
)
MIRROR = {"added": "removed", "gained": "lost", "newly": "no_longer"}
MIRROR |= {after: before for before, after in MIRROR.items()}


@settings(max_examples=6, deadline=None)
@given(REPORTS)
def test_changes_of_a_report_against_itself_are_unchanged(results):
    found = compare_results(results, results)
    assert len(found) == len(results)
    assert set(found["kinds"]) == set(found["severity"]) == {"unchanged"}
    assert not fails(found, "any")


@settings(max_examples=15, deadline=None)
@given(REPORTS, REPORTS)
def test_changes_have_each_question_once_and_are_mirrored_when_sides_are_swapped(one, other):
    key = ["function", "case", "dtype"]
    found = compare_results(one, other)
    check_questions(found, one, other)
    there, back = (table.set_index(key).sort_index() for table in (found, compare_results(other, one)))
    for name in ("got", "status", "convention", "exception", "version"):
        assert there[f"old_{name}"].tolist() == back[f"new_{name}"].tolist()
    kinds, words = (table["kinds"].str.replace("no longer", "no_longer").str.split("; ") for table in (there, back))
    mirrored = [[" ".join(MIRROR.get(word, word) for word in kind.split()) for kind in row] for row in words]
    assert kinds.tolist() == mirrored
    np.testing.assert_array_equal(there["budgets"], back["budgets"])
    both = ~there["kinds"].str.contains("added|removed")
    raises = there["kinds"].str.contains("exception")
    turned = back["severity"].replace({"regression": "improvement", "improvement": "regression"})
    assert (there["severity"] == turned)[both & ~raises].all()


def check_questions(found, one, other):
    """Each question is there once, with severity, cause and kinds."""
    questions = {tuple(line) for side in (one, other) for line in side[["function", "case", "dtype"]].to_numpy()}
    assert len(found) == len(questions)
    assert set(found["severity"]) <= set(SEVERITIES)
    assert {kind for text in found["kinds"] for kind in text.split("; ")} <= set(KINDS)
    assert set(found["cause"]) <= {*CAUSES, ""}
    assert found["severity"].map(SEVERITIES.index).is_monotonic_increasing
    assert sum(by_severity(found).values()) == len(found)
    assert group_changes(found)["rows"].sum() == (found["severity"] != "unchanged").sum()
    assert found["what"].ne("").all()


def test_changes_are_sorted_worst_first():
    old = [row(f"torch.{name}", case="binary/x") for name in "ABCDE"]
    new = [
        row("torch.A", case="binary/x"),
        row("torch.B", case="binary/x", got="1.01"),
        row("torch.C", case="binary/x", got="3.0"),
        row("torch.D", case="binary/x", got="9.0", **BAD),
        died() | {"function": "torch.E", "case": "binary/x"},
    ]
    found = changed(old, new)
    assert found["severity"].tolist() == ["regression", "regression", "change", "note", "unchanged"]
    assert found["function"].iloc[0] == "torch.D"


def test_changes_of_twelve_thousand_rows_take_seconds():
    rows = [row(f"torch.{n % 20}", case=f"binary/{n // 20}", got=repr(1 + n / 7)) for n in range(12_000)]
    old = report.from_records(rows)
    new = report.from_records([r | {"got": repr(float(r["got"]) + 1e-3), "version": "2"} for r in rows])
    started = time.process_time()
    assert len(compare_results(old, new)) == 12_000
    assert time.process_time() - started < 6  # of this process, whatever else the machine does


@pytest.mark.parametrize(
    ("old", "new", "failing"),
    [
        (row(), row(got="5.0", **BAD), {"regression", "change", "drift", "any"}),
        (row(), row(got="5.0"), {"change", "drift", "any"}),
        (row(), row(got="1.01"), {"drift", "any"}),
        (row(), row(warnings="UserWarning: x"), {"any"}),
        (row(got="5.0", **BAD), raised("torch.A", status="agrees"), {"any"}),
        (row(), row(), set()),
    ],
)
def test_fails_at_each_level(old, new, failing):
    found = changed([old], [new])
    assert {level for level in get_args(Level) if fails(found, level)} == failing


# changes: documented or not


@pytest.fixture
def miniature(monkeypatch):
    """An adapter whose function clips to 1e-7 before 2.0 and by the dtype from then on, and takes less from 3.0 on."""

    loss = (
        Function(
            "Loss",
            "mini.Loss({options})({predictions}, {labels})",
            ranks={"categorical": range(2, 4)},
            input_kinds={"probabilities": ""},
            targets={"index": ""},
            reductions={"mean": ""},
            dtypes=frozenset({"float32", "float64"}),
            conventions=(DocumentedConvention(Convention(clip=1e-7)),),
        )
        .since("2", choices={"clip": "dtype"})
        .since("3", dtypes=frozenset({"float32"}))
    )
    framework = Framework(
        name="mini",
        modules=("mini",),
        distributions=("mini",),
        functions=(loss,),
        arrays=arrays.numpy,
    )
    monkeypatch.setattr(registry, "frameworks", lambda: (framework,))
    return framework


def cause_of(old, new, before="1.0", after="2.0"):
    told = [{"function": "mini.Loss", "framework": "mini", "version": version} for version in (before, after)]
    return change(old | told[0], new | told[1])["cause"]


CLIPPED = {"status": "diverges", "convention": "clip=1e-07"}
BY_DTYPE = {"status": "diverges", "convention": "clip=dtype", "got": "1.5"}


@pytest.mark.parametrize(
    ("old", "new", "before", "after", "cause"),
    [
        (row(**CLIPPED), row(**BY_DTYPE), "1.0", "2.0", "documented"),
        (row(), row(**BY_DTYPE), "1.0", "2.0", "documented"),
        (row(**CLIPPED), row(got="1.5"), "1.0", "2.0", "documented"),
        (row(**CLIPPED), row(**BY_DTYPE), "1.0", "1.5", "undocumented"),
        (row(), row(got="1.5", status="diverges", convention="log_floor=-100.0"), "1.0", "2.0", "undocumented"),
        (row(**CLIPPED), row(got="5.0", **BAD), "1.0", "2.0", "undocumented"),
        (row(got="5.0", **BAD), row(), "1.0", "2.0", "undocumented"),
        (row(**UNDEFINED), row(got="2.0", **UNDEFINED), "1.0", "2.0", "undocumented"),
        (row(), row(got="1.5"), "1.0", "2.0", "undocumented"),
        (row(), row(got="1.01"), "1.0", "2.0", "rounding"),
        (row(), row(warnings="FutureWarning: x"), "1.0", "2.0", "undocumented"),
        (row(), row(**CLIPPED), "1.0", "1.0", "judgement"),
        (row(), row(**BAD), "1.0", "2.0", "judgement"),
        (row(), row(), "1.0", "2.0", ""),
    ],
)
def test_cause_is_documented_if_the_adapter_declares_the_change(miniature, old, new, before, after, cause):
    assert cause_of(old, new, before, after) == cause


def test_cause_without_an_adapter_is_decided_by_the_conventions_of_rows():
    assert change(row(), row(**CLIPPED, got="1.5"))["cause"] == "documented"
    assert change(row(), row(got="1.5"))["cause"] == "undocumented"


@pytest.mark.parametrize(("after", "cause"), [("2.5", "suite"), ("3.0", "documented")])
def test_lost_support_is_documented_if_the_adapter_declares_less(miniature, after, cause):
    rows = [row("mini.Loss", framework="mini", version="1.0", dtype=dtype) for dtype in ("float32", "float64")]
    takes = row("mini.Other", framework="mini", dtype="float64")
    found = changed([*rows, takes], [rows[0] | {"version": after}, takes])
    assert found[["kinds", "cause"]].values.tolist()[0] == ["support lost; removed", cause]


# difference: read, refused, shown


WRITTEN = tempfile.TemporaryDirectory()
"""Has each report that `written` has made in this process: copying one takes a hundredth of the time."""


def written(folder, rows, **about):
    said = {"planned": len(rows), "host": HOST, "versions": {"torch": "1.0"}, **about}
    made = Path(WRITTEN.name) / hashlib.sha256(repr((rows, said)).encode()).hexdigest()
    if folder.exists() or not made.exists():
        fresh = not folder.exists()
        report.write(folder, report.from_records(rows), RunInfo(**said))
        if fresh:
            shutil.copytree(folder, made)
    else:
        shutil.copytree(made, folder)
    return folder


@pytest.fixture
def sides(tmp_path):
    old = written(tmp_path / "old", [row(), row("keras.B"), row(case="binary/b")])
    hostile = raised("torch.A", exception=EVIL, warnings=EVIL, explanation=EVIL, expected="unexpected", call=EVIL)
    new = written(
        tmp_path / "new", [hostile, row("keras.B", got="1.01"), row(case="binary/b")], versions={"torch": "2.0"}
    )
    return old, new


@pytest.mark.parametrize("about", [{"planned": 9}, {"interrupted": "Ctrl-C"}])
@pytest.mark.parametrize("which", [0, 1])
def test_difference_rejects_an_incomplete_report(tmp_path, about, which):
    paths = [written(tmp_path / str(n), [row()], **(about if n == which else {})) for n in range(2)]
    with pytest.raises(
        ComparisonError, match=rf"{paths[which]}: is incomplete \(1 of \d rows were finished.*\), so what"
    ):
        reports.difference(*paths)


def test_difference_rejects_a_folder_without_report(tmp_path):
    with pytest.raises(ReportError, match=r"has no run\.json"):
        reports.difference(tmp_path, tmp_path)


def test_difference_reads_a_results_file_like_its_folder(sides):
    whole, file = reports.difference(*sides), reports.difference(*(side / "results.csv" for side in sides))
    pd.testing.assert_frame_equal(whole.changes, file.changes)


def test_difference_markdown_escapes_text_of_reports(sides):
    text = difference_rendering.markdown(reports.difference(*sides))
    assert "**1 regression, 1 note, 1 unchanged**" in text
    assert r"torch 1.0 -\> 2.0" in text
    assert text.index("## Regressions") < text.index("## Notes")
    assert "<script>" not in text.replace(r"\<script", "")
    assert "\x1b" not in text
    assert "\n# big" not in text
    lines = [line for line in text.splitlines() if line.startswith("| `torch.A` | status")]
    assert len(lines) == 1
    assert lines[0].replace(r"\|", "").count("|") == 9


def test_difference_csv_has_every_changed_row_and_no_formula(sides):
    found = reports.difference(*sides)
    table = pd.read_csv(io.StringIO(difference_rendering.as_csv(found)), dtype=str, keep_default_na=False)
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == 2
    assert not table.map(lambda text: text.startswith(("=", "+", "@", "\t"))).any(axis=None)
    assert table["call"][0] == "'" + report.from_records([row(call=EVIL)])["call"][0]
    assert "\x1b" not in difference_rendering.as_csv(found)


def test_difference_json_is_strict_and_complete(sides):
    found = reports.difference(*sides)
    told = json.loads(
        to_json("diff", difference_rendering.as_dict(found)), parse_constant=lambda name: pytest.fail(name)
    )
    assert told["severity"] == {"regression": 1, "note": 1, "unchanged": 1}
    assert [line["function"] for line in told["changes"]] == ["torch.A", "keras.B"]
    assert told["changes"][0]["ulps"] is None
    assert told["functions"]["keras.B"]["note"] == 1
    assert (told["old"]["versions"], told["new"]["versions"]) == ({"torch": "1.0"}, {"torch": "2.0"})
    assert told["groups"][0]["rows"] == 1


def test_difference_context_names_selections_and_other_programs(tmp_path):
    part = written(tmp_path / "part", [row()], selected="-k binary", host=HOST | {"conformance": "2"})
    told = difference_rendering.context(reports.difference(written(tmp_path / "old", [row(), row("torch.B")]), part))
    assert "the new report is a part (-k binary), so what lies outside of it was not called there" in told
    assert "conformance 1 -> 2, so the judgement may differ" in told


def test_difference_json_has_infinities_as_text(tmp_path):
    paths = [written(tmp_path / got, [row(got=got)]) for got in ("1.0", "inf")]
    assert difference_rendering.as_dict(reports.difference(*paths))["changes"][0]["budgets"] == "inf"


def shown(found, width=80):
    page = io.StringIO()
    console = Console(file=page, width=width, no_color=True, highlight=False)
    for piece in difference_rendering.terminal(found):
        console.print(piece)
    return page.getvalue()


def test_difference_terminal_fits_80_columns_without_colour(sides):
    text = shown(reports.difference(*sides))
    assert max(map(len, text.splitlines())) <= 80
    assert "1 regression, 1 note, 1 unchanged" in " ".join(text.split())
    assert "Regressions, by cause" in text
    assert "[bold]x[/]" in " ".join(text.split())
    assert "\x1b" not in text
    assert "…" not in text


def test_difference_without_changes_is_short(sides):
    assert [
        line for line in shown(reports.difference(sides[0], sides[0])).split() if line in ("kinds:", "cause:")
    ] == []
    assert "Nothing changed." in difference_rendering.markdown(reports.difference(sides[0], sides[0]))


def test_groups_have_a_count_and_the_worst_row(tmp_path):
    old = [row(case=f"binary/{n}") for n in range(9)]
    new = [row(case=f"binary/{n}", got=f"{n}.5", **BAD) for n in range(9)]
    found = group_changes(changed(old, new))
    assert found[["function", "rows", "cases", "case"]].values.tolist() == [["torch.A", 9, 9, "binary/8"]]
    assert found["transition"][0] == "agrees -> disagrees; wrong value"
    assert found["budgets"][0] == pytest.approx(75)


def test_groups_are_formed_by_code_and_candidate_not_sentence():
    old = [row(case=f"binary/{n}") for n in range(4)]
    said = [BAD, {"explanation": "in other words; 3.5"}, {"candidate": "clip=1e-07"}, {"reason_code": "not_finite"}]
    new = [row(case=f"binary/{n}", got="9.0", **BAD | more) for n, more in enumerate(said)]
    found = group_changes(changed(old, new))
    assert sorted(zip(found["transition"], found["rows"], strict=True)) == [
        ("agrees -> disagrees; not finite", 1),
        ("agrees -> disagrees; wrong value", 2),
        ("agrees -> disagrees; wrong value, as by clip=1e-07", 1),
    ]


def test_report_without_backends_is_compared_with_several_backends():
    lacking = [row(environment=name) for name in ("x [jax]", "x [torch]")]
    having = [line | {"backend": name} for line, name in zip(lacking, ("jax", "torch"), strict=True)]
    assert changed(lacking, having)["severity"].tolist() == ["unchanged"] * 2
    assert changed(having, having)["severity"].tolist() == ["unchanged"] * 2
    assert changed(having, having[::-1])["backend"].tolist() == ["jax", "torch"]


def test_modes_of_one_item_are_distinguished():
    modes = [row(mode=name) for name in ("eager", "jit")]
    assert changed(modes, modes)["mode"].tolist() == ["eager", "jit"]
    (told,) = report.pairs(report.from_records(modes))[["function_a", "function_b"]].to_numpy().tolist()
    assert told == ["torch.A (here, 1.0, eager)", "torch.A (here, 1.0, jit)"]


def test_difference_markdown_is_bounded(tmp_path):
    old = [row(f"torch.{n}{'é' * 90}", case=f"binary/{n % 7}") for n in range(300)]
    new = [line | {"got": "9.0", **BAD, "explanation": "é|" * 200} for line in old]
    paths = [written(tmp_path / name, rows) for name, rows in (("a", old), ("b", new))]
    text = difference_rendering.markdown(reports.difference(*paths))
    assert len(text.encode()) < 60_000
    assert "more" in text


# baseline


def checked(old, new, **asked):
    return check_baseline(report.from_records(old), report.from_records(new), ExpectedRows(**asked))


def reasons(found):
    return found.failures["reason"].tolist()


def told(found):
    return "\n".join(found.notes)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (row(), row(), None),
        (row(), row(got="1.05", ratio=0.4), None),
        (row(), row(got="1.05", ratio=0.9, ulps=3.0), "drifted past its ratchet"),
        (row(ratio=0.8), row(got="1.05", ratio=0.9, ulps=6.0), None),
        (row(ratio=0.8), row(got="1.05", ratio=0.95, ulps=95.0), "drifted past its ratchet"),
        (row(ratio=0.1), row(ratio=0.9), None),
        (row(), row(got="5.0", **BAD), "new disagreement"),
        (row(), row(got="5.0", **KNOWN), None),
        (row(got="5.0", **KNOWN), row(got="5.0", **KNOWN), None),
        (row(got="5.0", **KNOWN), row(got="9.0", **KNOWN), None),
        (row(got="5.0", **KNOWN), row(), None),
        (row(got="5.0", **KNOWN), died(), "new disagreement"),
        (row(), died(), "new disagreement"),
        (row(), row(**CLIPPED), "status or convention changed"),
        (row(**CLIPPED), row(**BY_DTYPE), "status or convention changed"),
        (row(**CLIPPED), row(), "status or convention changed"),
        (row(**UNDEFINED), row(got="nan", **UNDEFINED), None),
        (row(), row(warnings="UserWarning: x"), None),
        (raised("torch.A", status="agrees"), raised("torch.A", status="agrees", exception="TypeError: x"), None),
    ],
)
def test_check_fails_rows_that_got_worse_with_a_reason(old, new, why):
    found = checked([old], [new])
    assert reasons(found) == ([] if why is None else [why])
    assert found.ok is (why is None)


LOST = {"status": "diverges", "convention": "gradient_cancellation=targets", "ratio": 0.9}
ELSEWHERE = "the baseline was made on A, this is B"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (row(), row(got="1.05", ratio=0.9, ulps=3.0), None),
        (row(), row(got="1.05", **LOST), None),
        (row(**LOST), row(got="1.05"), None),
        (row(), row(got="1.05", **CLIPPED), "status or convention changed"),
        (row(**LOST), row(got="1.05", **CLIPPED), "status or convention changed"),
        (
            row(result_dtype="float32"),
            row(got="1.05", ratio=0.9, ulps=3.0, result_dtype="float64"),
            "drifted past its ratchet",
        ),
        (row(), row(got="5.0", **BAD), "new disagreement"),
    ],
)
def test_check_notes_other_roundings_of_another_processor(old, new, why):
    found = checked([old], [new], other_processor=ELSEWHERE)
    assert reasons(found) == ([] if why is None else [why])
    assert (f"1 row rounded otherwise, which may be: {ELSEWHERE}" in found.notes) is (why is None)


def test_processor_of_a_baseline_is_compared_with_this_one():
    hosts = (dict(host()), {"processor": "Z80"}, {})
    same, other, unknown = (
        Baseline("", {"host": one}, PackedFrame(report.frame([]))).processor_difference for one in hosts
    )
    assert same == ""
    assert "made on Z80, this is" in other
    assert "an unknown processor" in unknown


def test_limit_is_its_minimum_or_old_error_plus_one_ulp():
    numbers = [pd.Series([value]) for value in (0.75, 0.9, 9.0)]
    assert limit(*numbers)[0] == pytest.approx(0.85)
    assert limit(pd.Series([0.0]), pd.Series([0.4]), pd.Series([4.0]))[0] == ALWAYS_ALLOWED_RATIO
    assert limit(pd.Series([np.nan]), pd.Series([np.nan]), pd.Series([np.nan]))[0] == ALWAYS_ALLOWED_RATIO


def test_check_notes_a_grown_largest_error():
    old = [row(ratio=0.1), row(ratio=0.1, quantity="gradient"), row(ratio=0.6, dtype="float16")]
    new = [
        *old[1:],
        row(case="binary/new", ratio=0.7, ulps=9.0),
        row(case="binary/new", ratio=0.4, ulps=9.0, quantity="gradient"),
        row(case="binary/new", ratio=0.61, ulps=9.0, dtype="float16"),
    ]
    found = checked(old, new)
    assert [note for note in found.notes if "largest" in note] == [
        "the largest error of torch.A (loss, float32) is 0.70 budgets, in the baseline 0.10: binary/new"
    ]


def test_check_fails_requested_rows_that_vanished():
    found = checked([row(), row(case="binary/b"), row("torch.B"), row(dtype="float16")], [row()])
    assert reasons(found) == ["vanished"] * 2
    assert set(found.failures["kinds"]) == {"function lost; removed", "support lost; removed"}


def test_check_notes_rows_that_the_suite_no_longer_has():
    old = [row(), row(case="binary/b"), row("torch.B", case="binary/b"), row(dtype="float16"), row(reduction="sum")]
    suite = {("categorical/a/case", "float32", "mean")}
    found = checked(old, [row()], suite=suite)
    assert found.ok
    assert "no longer called, because the suite no longer has their cases: 2 rows of 1 case (binary/b)" in told(found)
    why = "no longer called, because their cases no longer have that dtype or reduction"
    assert f"{why}: 2 rows of 1 case (categorical/a/case)" in told(found)
    assert "gone" not in told(found)
    assert not any("vanished" in line for line in found.lines())


def test_check_fails_unanswered_rows_of_the_suite():
    old = [row(), row(case="binary/b"), row("torch.B"), row(dtype="float16")]
    suite = {(line["case"], line["dtype"], line["reduction"]) for line in old}
    assert reasons(checked(old, [row()], suite=suite)) == ["vanished"] * 3
    nobody = row(case="binary/b", status="unsupported", got="")
    assert reasons(checked(old[:2], [row(), nobody])) == ["vanished"]
    assert checked(old[:2], [row()]).ok


def test_difference_from_larger_suite_reports_rows_no_longer_called(tmp_path):
    old = written(tmp_path / "old", [row(), row("torch.B"), row(case="binary/b"), row(dtype="float16")])
    new = written(tmp_path / "new", [row(), row("torch.B")])
    found = reports.difference(old, new)
    lost = found.changes[found.changes["severity"] != "unchanged"].set_index("kinds")
    assert lost["severity"].to_dict() == {"case removed; removed": "change", "no longer asked; removed": "change"}
    assert lost["what"].tolist() == [
        "the new report does not have this case",
        "removed from the selection: no function is called with this case, dtype and reduction",
    ]  # fmt: skip
    assert not found.fails("regression")
    gained = reports.difference(new, old).changes
    gained = gained[gained["severity"] != "unchanged"].set_index("kinds")
    assert gained["severity"].to_dict() == {"case added; added": "note", "newly asked; added": "note"}
    assert gained["what"].tolist() == [
        "the old report does not have this case",
        "added to the selection: the old report has no such row",
    ]
    part = written(tmp_path / "part", [row()], selected="-k torch.A")
    assert not reports.difference(old, part).fails("regression")
    assert set(reports.difference(part, new).changes["severity"]) == {"note", "unchanged"}
    assert reports.difference(old, written(tmp_path / "less", [row()])).fails("regression")


def test_changes_of_formerly_unsupported_rows_are_gained_support():
    nobody = row(case="binary/b", status="unsupported", got="")
    found = changed([row(), nobody], [row(), row(case="binary/b")])
    assert found["kinds"].tolist() == ["support gained; added", "unchanged"]
    assert found["severity"].tolist() == ["improvement", "unchanged"]


def test_check_fails_new_rows_only_if_they_fail():
    found = checked([row()], [row(), row(case="binary/b", **BAD), row(case="binary/c"), row(case="binary/d", **KNOWN)])
    assert found.failures[["case", "reason"]].values.tolist() == [["binary/b", "new disagreement"]]
    assert "1 row new" in told(found)
    assert "1 row changed or new, and are known issues" in told(found)


def test_check_notes_frameworks_that_were_not_run():
    rows = [row(), row("keras.B")]
    assert reasons(checked(rows, rows[:1])) == ["vanished"]
    found = checked(rows, rows[:1], frameworks=frozenset({"torch"}))
    assert found.ok
    assert "not run, so not compared: keras (1 row of the baseline)" in told(found)


def test_check_notes_rows_that_were_not_selected():
    rows = [row(), row(case="binary/b"), row("torch.B", case="binary/b")]
    found = checked(rows, rows[1:2], selects=lambda framework, item: item != "torch.A-categorical/a/case-float32-mean")
    assert found.failures["function"].tolist() == ["torch.B"]
    assert "not selected, so not compared: 1 row of the baseline" in told(found)


def test_check_notes_rows_that_an_interrupted_run_lacks():
    found = checked([row(), row(case="binary/b")], [row()], finished=False)
    assert found.ok
    assert "1 row not there, because the run ended early" in told(found)


def test_check_fails_a_framework_that_ran_without_rows():
    rows = [row(), row("keras.B"), row("keras.B", environment="else", version="0.1")]
    found = checked(rows, rows[:1], frameworks=frozenset({"torch", "keras"}))
    assert found.failures[["function", "old_version"]].values.tolist() == [["keras.B", "1.0"]]


def test_check_notes_changed_cases_unless_they_fail():
    old, new = row(case="binary/b"), row(case="binary/b", digest="e")
    assert checked([row(), old], [row(), new]).ok
    found = checked([row(), old], [row(), new | BAD])
    assert reasons(found) == ["new disagreement"]


def test_check_compares_and_notes_another_version():
    found = checked([row()], [row(version="2.0", environment="python3.12.1", got="5.0", **BAD)])
    assert reasons(found) == ["new disagreement"]
    assert "torch is 2.0, in the baseline 1.0" in told(found)


@pytest.mark.parametrize(("name", "old", "new"), [("device", "cpu", "cuda"), ("mode", "eager", "compile")])
def test_check_notes_another_device_or_mode(name, old, new):
    found = checked([row(**{name: old})], [row(**{name: new})])
    assert found.ok
    assert f"torch ran with {name} {new}, in the baseline with {name} {old}" in told(found)
    assert "ran with" not in told(checked([row()], [row()]))


@pytest.mark.parametrize(
    ("place", "nearest"),
    [
        ({"environment": "b", "version": "1"}, "b"),
        ({"environment": "z", "version": "2"}, "b"),
        ({"environment": "z", "version": "3", "python": "3.12.4"}, "c"),
        ({"environment": "z", "version": "9", "python": "3.10.1"}, "d"),
    ],
)
def test_check_uses_the_nearest_of_several_environments(place, nearest):
    places = [("a", "1", "3.11.1"), ("b", "2", "3.11.1"), ("c", "3", "3.12.1"), ("d", "10", "3.13.1")]
    old = [
        row(environment=environment, version=version, python=python, got=f"1.00{n}")
        for n, (environment, version, python) in enumerate(places)
    ]
    found = checked(old, [row(got=f"1.00{'abcd'.index(nearest)}", **place)])
    assert found.ok
    assert "1 row as in the baseline" in told(found)
    assert "not run, so not compared: 3 rows of the baseline in" in told(found)


def test_check_compares_several_environments_with_one():
    found = checked([row()], [row(environment="x"), row(environment="y", version="2", got="5.0", **BAD)])
    assert found.failures["new_environment"].tolist() == ["y"]


def test_check_rejects_a_baseline_of_another_suite():
    with pytest.raises(ComparisonError, match="no case in common with this run; name a baseline of the same suite"):
        checked([row(case="binary/x")], [row()])


def test_check_counts_questions_beyond_the_baseline_as_new():
    assert checked([row(case="binary/x")], [row()], selects=lambda framework, item: "a/case" in item).ok


def test_check_rejects_a_repeated_question():
    with pytest.raises(ComparisonError, match="the run: it repeats 1 row, "):
        checked([row()], [row(), row(got="2.0")])


def test_check_lines_are_failures_by_cause_then_notes():
    old = [row(case=f"binary/{n}") for n in range(30)]
    new = [row(case=f"binary/{n}", got="5.0", **BAD) for n in range(20)]
    nobody = [line | {"status": "unsupported", "got": ""} for line in old[20:25]]
    lines = checked(old, [*new, *nobody, *old[25:]]).lines()
    assert lines[0] == "baseline: 25 rows got worse: 20 new disagreement, 5 vanished"
    assert lines[1].startswith("  new disagreement: torch.A: status; drifted (undocumented), 20 rows of 20 cases")
    assert sum(line.startswith("  vanished: ") for line in lines) == 1
    assert "`conformance accept`" in lines[-2]
    assert lines[-1] == "  5 rows as in the baseline"


def test_check_lines_without_failures_report_success():
    assert checked([row(got="5.0", **KNOWN), row("torch.B")], [row(got="5.0", **KNOWN), row("torch.B")]).lines() == [
        "baseline: nothing got worse",
        "  2 rows as in the baseline, 1 of which fail there, too",
    ]


def test_check_lines_are_bounded():
    old = [row(f"torch.{n}") for n in range(50)]
    lines = checked(old, [line | {"got": "5.0", **BAD} for line in old]).lines(max_groups=5)
    assert sum(line.startswith("  new disagreement") for line in lines) == 5
    assert "  ... and 45 more" in lines


def test_read_complete_rejects_an_unreadable_or_incomplete_report(tmp_path):
    path = written(tmp_path / "baseline", [row()])
    assert check_baseline(read_complete(path)[0], report.from_records([row()])).ok
    with pytest.raises(ComparisonError, match="is incomplete"):
        read_complete(written(tmp_path / "half", [row()], planned=2))
    with pytest.raises(ReportError):
        read_complete(tmp_path / "none")


# merge

PUBLISHED = ({"value": "0.2", "exact": "0.3", "holds": False, "source": "an article", "case": "binary/0"},)
SUITE = fingerprint([("binary/0", "d"), ("binary/1", "d")])
FILES = (*report_folder.FILES, "run.json")


def many():
    """Rows of three frameworks, of which one ran in two environments."""
    places = [
        ("torch.A", "here", "2.0"),
        ("keras.B", "here", "3.0"),
        ("sklearn.C", "old", "1.1"),
        ("sklearn.C", "new", "1.9"),
    ]
    return [
        row(function, environment=environment, version=version, case=f"binary/{n}", dtype=dtype, got=f"{n}.5")
        for function, environment, version in places
        for n in range(3)
        for dtype in ("float32", "float16")
    ]


def about(rows, **rest):
    versions = {}
    for line in rows:
        versions.setdefault(line["framework"], set()).add(line["version"])
    told = {name: ", ".join(sorted(found)) for name, found in sorted(versions.items())}
    said = {
        "host": HOST,
        "suite": SUITE,
        "published": PUBLISHED,
        "coverage": "all",
        "started": "2026-01-01T00:00:00+00:00",
    }
    return {**said, "versions": told, "missing": ("paddle",), **rest}


def content(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 5), st.integers(0, 10**6))
def test_merge_restores_any_split_in_any_order_to_the_byte(tmp_path_factory, count, seed):
    chance = random.Random(seed)
    tmp_path = tmp_path_factory.mktemp("merge")
    rows = many()
    info = about(rows)
    report.write(tmp_path / "whole", report.from_records(rows), RunInfo(len(rows), **info))
    belongs = [chance.randrange(count) for _ in rows]
    paths = []
    for part in range(count):
        mine = [line for line, whose in zip(rows, belongs, strict=True) if whose == part]
        paths.append(written(tmp_path / str(part), mine, **about(mine)))
    for attempt in range(2):
        chance.shuffle(paths)
        merge_reports(paths, tmp_path / f"joined{attempt}")
        assert content(tmp_path / f"joined{attempt}") == content(tmp_path / "whole")


def parts(*sides):
    return [
        Part(
            f"part{n}",
            report.from_records(rows),
            {"planned": len(rows), **RunInfo(len(rows), **about(rows, **rest)).__dict__},
        )
        for n, (rows, rest) in enumerate(sides)
    ]


def test_merge_joins_differing_versions_in_any_order():
    rows = many()
    hosts = [HOST | {"python": python} for python in ("3.9.1", "3.10.2", "3.9.1")]
    ends = [{"interrupted": "Ctrl-C"}, {}, {"missing": ("paddle", "torch")}]
    starts = ["2026-01-02T01:00:00+02:00", "2026-01-02T00:30:00+00:00", ""]
    told = [
        (rows[n::3], {"host": host, "started": start, "duration": 0.1, **end})
        for n, (host, end, start) in enumerate(zip(hosts, ends, starts, strict=True))
    ]
    wholes = [merging.merge(order)[1] for order in itertools.permutations(parts(*told))]
    assert all(whole == wholes[0] for whole in wholes)
    whole = wholes[0]
    assert whole.host["python"] == "3.9.1, 3.10.2"
    assert whole.versions == {"keras": "3.0", "sklearn": "1.1, 1.9", "torch": "2.0"}
    assert whole.missing == ("paddle",)
    assert (whole.planned, whole.interrupted, whole.duration) == (24, "Ctrl-C", 0.3)
    assert whole.started == starts[0]
    assert not whole.complete(24)


def test_merge_takes_a_merged_report(tmp_path):
    rows = many()
    three = [written(tmp_path / str(n), rows[n::3], **about(rows[n::3])) for n in range(3)]
    merge_reports(three, tmp_path / "at once")
    merge_reports(three[1:], tmp_path / "two")
    merge_reports([tmp_path / "two", three[0]], tmp_path / "later")
    assert content(tmp_path / "later") == content(tmp_path / "at once")


@pytest.mark.parametrize(
    ("other", "rest", "why"),
    [
        (
            [row(case="binary/b", digest="e"), row("torch.B", digest="e")],
            {},
            "content of the case categorical/a/case differs",
        ),
        ([row("torch.B")], {"suite": "another"}, "they are of different suites"),
        ([row("torch.B")], {"host": HOST | {"conformance": "2"}}, "written by different versions of conformance"),
        ([row("torch.B"), row()], {}, "they share 1 row, torch.A categorical/a/case float32 mean loss here"),
    ],
)
def test_merge_rejects_parts_that_do_not_fit(other, rest, why):
    told = parts(([row()], {}), (other, rest))
    for order in (told, told[::-1]):
        with pytest.raises(ComparisonError, match="part") as caught:
            merging.merge(order)
        assert why in str(caught.value)
        assert "part0" in str(caught.value)
        assert "part1" in str(caught.value)


def test_merge_rejects_no_parts():
    with pytest.raises(ComparisonError, match="no report was named"):
        merging.merge([])


def test_merge_rejects_to_replace_a_part(tmp_path):
    path = written(tmp_path / "a", [row()])
    before = content(path)
    with pytest.raises(ComparisonError, match="would replace one of its parts"):
        merge_reports([path / "results.csv"], path)
    assert content(path) == before


@pytest.mark.parametrize("name", ["missing", "published"])
def test_run_info_rejects_a_text_where_a_list_is_due(name):
    with pytest.raises(TypeError, match=name):
        RunInfo.of({"planned": 1, name: "torch"})


def test_run_info_reads_an_earlier_run_json(tmp_path):
    info = RunInfo(1, versions={"torch": "1.0"}, host=HOST)
    record = report.write(tmp_path, report.from_records([row()]), info)
    old = {name: value for name, value in record.items() if name not in ("suite", "selected", "published")}
    assert RunInfo.of(old) == RunInfo.of(record) == info


def test_fingerprint_ignores_the_order_of_cases():
    cases = [("binary/a", "1"), ("binary/b", "2")]
    assert fingerprint(cases) == fingerprint(reversed(cases)) != fingerprint([("binary/a", "1"), ("binary/b", "3")])


# accept


def accepted(path, baseline, **rest):
    proposed = acceptance.proposal(path, baseline, **rest)
    acceptance.accept(proposed)
    return proposed


def test_accept_makes_the_first_baseline(tmp_path):
    path = written(tmp_path / "r", many(), **about(many()))
    proposed = accepted(path, tmp_path / "baseline")
    assert proposed.difference is None
    assert "is new: 24 rows" in "\n".join(proposed.lines())
    assert content(tmp_path / "baseline")["results.csv"] == content(path)["results.csv"]
    assert report.read(tmp_path / "baseline")[1]["complete"] is True
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["baseline", "r"]


def test_accept_replaces_the_baseline_and_keeps_other_files(tmp_path):
    baseline = written(tmp_path / "baseline", [row()])
    (baseline / "README.md").write_text("mine")
    proposed = accepted(written(tmp_path / "r", [row(got="1.01")]), baseline)
    assert proposed.difference.changes["kinds"].tolist() == ["drifted"]
    assert report.read(baseline)[0]["got"].tolist() == ["1.01"]
    assert (baseline / "README.md").read_text() == "mine"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["baseline", "r"]


def test_accept_keeps_frameworks_that_were_not_run(tmp_path):
    baseline = written(tmp_path / "baseline", [row(), row("keras.B", version="3.0"), row("keras.C", version="3.0")])
    path = written(
        tmp_path / "r", [row(got="1.01", version="2.0")], versions={"torch": "2.0"}, missing=("keras", "sklearn")
    )
    proposed = accepted(path, baseline)
    assert proposed.kept == {"keras": 2}
    assert "kept, because the report did not run it: 2 rows of keras" in proposed.lines()
    results, run = report.read(baseline)
    assert results["function"].tolist() == ["keras.B", "keras.C", "torch.A"]
    assert (run["complete"], run["planned"], run["missing"]) == (True, 3, ["sklearn"])
    assert run["versions"] == {"keras": "3.0", "torch": "2.0"}
    assert "regression" not in set(proposed.difference.changes["severity"])


def test_accept_keeps_environments_that_were_not_run(tmp_path):
    baseline = written(tmp_path / "baseline", [row(environment="a"), row(environment="b")])
    accepted(written(tmp_path / "r", [row(environment="b", got="1.01")]), baseline)
    assert report.read(baseline)[0][["environment", "got"]].values.tolist() == [["a", "1.0"], ["b", "1.01"]]


def test_accept_replaces_the_only_environment(tmp_path):
    baseline = written(tmp_path / "baseline", [row(environment="python3.11")])
    accepted(written(tmp_path / "r", [row(environment="python3.12")]), baseline)
    assert report.read(baseline)[0]["environment"].tolist() == ["python3.12"]


def test_accept_keeps_rows_outside_of_a_selection(tmp_path):
    baseline = written(tmp_path / "baseline", [row(), row(case="binary/b"), row(case="binary/c")])
    rows = [row(case="binary/b", got="1.01"), row(case="binary/c", digest="e", dtype="float16")]
    proposed = accepted(written(tmp_path / "r", rows, selected="-k binary"), baseline)
    assert (proposed.kept, proposed.dropped) == ({"torch": 1}, 1)
    assert report.read(baseline)[0]["case"].tolist() == ["binary/b", "binary/c", "categorical/a/case"]
    assert report.read(baseline)[1]["selected"] == ""


def test_accept_drops_and_shows_rows_missing_in_complete_run(tmp_path):
    baseline = written(tmp_path / "baseline", [row(), row(case="binary/b")])
    proposed = accepted(written(tmp_path / "r", [row()]), baseline)
    assert proposed.difference.changes["kinds"].tolist() == ["case removed; removed", "unchanged"]
    assert len(report.read(baseline)[0]) == 1


def test_accept_of_fewer_questions_shows_no_loss(tmp_path):
    keras = [row("keras.B", case=name, dtype=dtype) for name in ("binary/b", "categorical/a/case")
             for dtype in ("float16", "float32")]  # fmt: skip
    old = [row(), row(dtype="float16"), row(case="binary/b"), row("torch.C", case="binary/b")]
    baseline = written(tmp_path / "baseline", [*old, *keras], versions={"torch": "1.0", "keras": "1.0"})
    path = written(tmp_path / "r", [row(), row(dtype="float64")], versions={"torch": "1.0"})
    proposed = acceptance.proposal(path, baseline)
    table = proposed.difference.changes
    assert proposed.kept == {"keras": 4}
    assert table[table["severity"] != "unchanged"].groupby(["severity", "kinds"]).size().to_dict() == {
        ("change", "case removed; removed"): 2,
        ("change", "no longer asked; removed"): 1,
        ("note", "newly asked; added"): 1,
    }
    less = acceptance.proposal(written(tmp_path / "less", [*old[:2]], versions={"torch": "1.0"}), baseline)
    assert set(less.difference.changes["severity"]) == {"change", "unchanged"}
    lost = acceptance.proposal(written(tmp_path / "lost", [*old[:3]], versions={"torch": "1.0"}), baseline)
    assert lost.difference.changes["kinds"].tolist()[0] == "function lost; removed"


@pytest.mark.parametrize("surprise", [BAD, {"expected": "stale"}])
def test_proposal_rejects_unexpected_rows_by_default(tmp_path, surprise):
    path = written(tmp_path / "r", [row(), row("torch.B", **surprise)])
    with pytest.raises(ComparisonError, match=r"has 1 row unexpected or stale: torch\.B .*; look into them"):
        acceptance.proposal(path, tmp_path / "baseline")
    accepted(path, tmp_path / "baseline", even_unexpected=True)
    assert len(report.read(tmp_path / "baseline")[0]) == 2


def test_proposal_rejects_an_incomplete_report(tmp_path):
    with pytest.raises(ComparisonError, match="is incomplete"):
        acceptance.proposal(written(tmp_path / "r", [row()], planned=2), tmp_path / "baseline")


def test_proposal_rejects_the_baseline_itself(tmp_path):
    baseline = written(tmp_path / "baseline", [row()])
    with pytest.raises(ComparisonError, match="is the baseline itself"):
        acceptance.proposal(baseline / "results.csv", baseline)


def test_proposal_rejects_an_unreadable_baseline(tmp_path):
    baseline = written(tmp_path / "baseline", [row()])
    (baseline / "run.json").unlink()
    with pytest.raises(
        ComparisonError, match=r"the old baseline has no run\.json.*; remove it to accept without comparing"
    ):
        acceptance.proposal(written(tmp_path / "r", [row()]), baseline)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ComparisonError, match="is a file, and a baseline is a folder"):
        acceptance.proposal(tmp_path / "r", file)


def test_proposal_states_if_baseline_has_the_rows(tmp_path):
    baseline = written(tmp_path / "baseline", [row()])
    assert acceptance.proposal(written(tmp_path / "same", [row()]), baseline).same
    later = written(tmp_path / "later", [row(reason_code="refused_invalid")])
    assert not acceptance.proposal(later, baseline).same  # though nothing that it was asked changed
    assert not acceptance.proposal(written(tmp_path / "newer", [row(version="2.0")]), baseline).same


def test_accept_keeps_the_old_baseline_if_renaming_fails(tmp_path, monkeypatch):
    baseline = written(tmp_path / "baseline", [row()])
    before = content(baseline)
    proposed = acceptance.proposal(written(tmp_path / "r", [row(got="1.01")]), baseline)
    rename = Path.rename

    def fails(self, target):
        if self.name.endswith(".new"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(ReportError, match=r"cannot be replaced \(Input/output error\)"):
        acceptance.accept(proposed)
    assert content(baseline) == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["baseline", "r"]


def test_accept_keeps_the_old_baseline_if_writing_fails(tmp_path, monkeypatch):
    baseline = written(tmp_path / "baseline", [row()])
    before = content(baseline)
    proposed = acceptance.proposal(written(tmp_path / "r", [row(got="1.01")]), baseline)

    def fails(*_):
        raise ReportError(tmp_path, "no space", "free some")

    monkeypatch.setattr(acceptance.report, "write", fails)
    with pytest.raises(ReportError, match="no space"):
        acceptance.accept(proposed)
    assert content(baseline) == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["baseline", "r"]

"""The report held against rows written by hand."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import sys
from pathlib import Path

import pandas as pd
import pytest

from conformance import __main__, api, report
from conformance.adapters.contract import DocumentedConvention, Function
from conformance.cli.terminal import Terminal
from conformance.execution.journal import Journal
from conformance.execution.report_folder import check_replaceable
from conformance.judging.row import COLUMNS, MAX_ELEMENTS, Row
from conformance.model.convention import Convention
from conformance.report import ReportError, RunInfo, agreement, files, frames, markdown, recording, support

NAN, INF = float("nan"), float("inf")


def row(function="torch.A", got="1.0", want="1.0", budget=0.1, status="agrees", **rest):
    """A row that agrees, unless told otherwise."""
    said = {
        "case": "categorical/a/case",
        "digest": "d",
        "framework": function.partition(".")[0],
        "version": "1.0",
        "environment": "here",
        "device": "cpu",
        "dtype": "float32",
        "reduction": "mean",
        "quantity": "loss",
        "expected": "ok",
        "error": 0.0,
        "ratio": 0.5,
        "ulps": 1.0,
    }
    input_kind = {"function": function, "got": got, "want": want, "budget": budget, "status": status, **rest}
    return {name: {**said, **input_kind}.get(name, "") for name in COLUMNS}


def raised(function, status="disagrees", **rest):
    none = dict.fromkeys(("budget", "error", "ratio", "ulps"))
    said = {"exception": "ValueError: no", "explanation": "it said no"}
    return row(function, got="", status=status, **none | said | rest)


def paired(*rows):
    return report.pairs(report.from_records(rows))


def pair(a, b):
    """The one pair of two rows."""
    return paired({**a, "function": "torch.A"}, {**b, "function": "torch.B"}).iloc[0]


def both_ways(relation, a, b):
    return pair(a, b)["relation"] == pair(b, a)["relation"] == relation


# frame


def test_frame_does_not_depend_on_the_order_of_rows():
    rows = [row(f, case=f"binary/{c}", dtype=d) for f in ("torch.A", "keras.B") for c in "zy" for d in ("x", "w")]
    pd.testing.assert_frame_equal(report.from_records(rows), report.from_records(reversed(rows)))
    assert report.from_records(rows)["case"].is_monotonic_increasing


def test_frame_without_rows_has_the_same_dtypes():
    assert report.from_records([]).dtypes.to_dict() == report.from_records([raised("torch.A")]).dtypes.to_dict()


def test_frame_has_nan_for_missing_numbers():
    assert report.from_records([raised("torch.A")])[["error", "budget", "ratio", "ulps"]].isna().all(axis=None)


def test_frame_escapes_control_characters_and_surrogates():
    assert (
        report.from_records([row(exception="\x1b[31m\udc80\r\nend\0")])["exception"][0]
        == r"\x1b[31m\udc80" + "\nend\\x00"
    )


# pairs


@pytest.mark.parametrize(
    ("got", "relation"),
    [("1.2", "agree"), *((got, "unexplained") for got in ("1.2000001", "0.79", "nan", "inf"))],
)
def test_pairs_agree_within_the_sum_of_their_budgets(got, relation):
    assert both_ways(relation, row(), row(got=got, status="disagrees"))


@pytest.mark.parametrize("got", ["nan", "inf", "-inf", "[]", "[NaN, Infinity, 1.0]"])
def test_pairs_agree_on_the_same_special_value(got):
    assert both_ways("agree", row(got=got), row(got=got))


def test_pairs_with_infinities_of_different_signs_do_not_agree():
    assert both_ways("unexplained", row(got="inf", status="disagrees"), row(got="-inf", status="disagrees"))


def test_pairs_split_the_difference_into_semantic_and_numeric():
    other = row(got="1.55", status="diverges", want_by_convention="1.5", convention="clip=1e-07; mean_divides_by=kept")
    found = pair(other, row(got="0.95", status="diverges", want_by_convention="1.0", convention="mean_divides_by=kept"))
    assert found["relation"] == "explained"
    assert found["difference"] == pytest.approx(0.6)
    assert found["semantic"] == pytest.approx(0.5)
    assert found["numeric"] == pytest.approx(0.1)
    assert found["allowed"] == pytest.approx(0.2)
    assert found["conventions"] == "torch.A: clip=1e-07"


def test_pairs_are_unexplained_beyond_the_semantic_part():
    assert both_ways("unexplained", row(got="2.0", status="disagrees", want_by_convention="1.5"), row())


def test_pairs_are_unexplained_by_a_convention_without_effect():
    last_bit = repr(1 + 2.0**-52)
    assert both_ways("unexplained", row(budget=0.0), row(got=last_bit, budget=0.0, status="disagrees"))


def test_pairs_explain_an_infinity_by_convention():
    clipped = row(got="16.1", want="inf", status="diverges", want_by_convention="16.1")
    assert both_ways("explained", row(got="inf", want="inf"), clipped)


def test_pairs_explain_an_overflow_of_the_dtype():
    found = pair(row(got="inf", want="70000.0", dtype="float16"), row(got="70000.0", want="70000.0", dtype="float16"))
    assert (found["relation"], found["explanation"]) == ("explained", "beyond the largest float16")


def test_pairs_do_not_explain_an_unforced_overflow():
    assert both_ways("unexplained", row(got="inf", want="2.0", status="disagrees"), row(got="2.0", want="2.0"))


def test_pairs_compare_elements_with_their_own_budgets():
    a = row(got="[[1.0, 5.0]]", want="[[1.0, 5.0]]", budgets="[[0.1, 1.0]]", budget=1.0)
    assert pair(a, {**a, "got": "[[1.0, 6.9]]"})["relation"] == "agree"
    found = pair(a, {**a, "got": "[[1.3, 5.5]]", "status": "disagrees"})
    assert (found["relation"], found["where"]) == ("unexplained", "[0, 0]")
    assert found["difference"] == pytest.approx(-0.3)
    assert found["allowed"] == pytest.approx(0.2)


def test_pairs_are_unexplained_if_one_element_is():
    a = row(got="[3.0, 1.0]", want="[1.0, 1.0]", status="diverges", want_by_convention="[3.0, 1.0]")
    assert both_ways("explained", a, row(got="[1.0, 1.0]", want="[1.0, 1.0]"))
    found = pair(a, row(got="[1.0, 1.5]", want="[1.0, 1.0]", status="disagrees"))
    assert (found["relation"], found["where"]) == ("unexplained", "[1]")


def test_pairs_with_different_shapes_are_incomparable():
    found = pair(row(got="[1.0, 1.0]"), row(got="[[1.0], [1.0]]"))
    assert found["relation"] == "incomparable"
    assert "shape (2,), torch.B (2, 1)" in found["explanation"]


def test_pairs_of_subsampled_arrays_of_different_rank_are_incomparable():
    thinned = json.dumps([1.0] * MAX_ELEMENTS)
    flat, square = row(got=thinned, want=thinned, where="[7]"), row(got=thinned, want=thinned, where="[3, 1]")
    assert both_ways("incomparable", flat, square)
    assert both_ways("agree", square, square)


def test_pairs_of_subsampled_arrays_index_the_full_shape():
    thinned = json.dumps([1.0] * MAX_ELEMENTS)
    square, flat = ({"got": thinned, "want": thinned, "shape": f"{shape}: {MAX_ELEMENTS} of 2500 elements"}
                    for shape in ("(50, 50)", "(2500,)"))  # fmt: skip
    found = pair(row(**square), row(**flat))
    assert found["relation"] == "incomparable"
    assert "shape (50, 50), torch.B (2500,)" in found["explanation"]
    assert both_ways("agree", row(**square), row(**square))
    off = json.dumps([*[1.0] * (MAX_ELEMENTS - 1), 5.0])
    last = pair(row(**square), row(**square | {"got": off}, status="disagrees"))
    assert (last["relation"], last["where"]) == ("unexplained", "[49, 49]")


@pytest.mark.parametrize(
    "shape", ["(50, 50): 7 of 2500 elements", "(0, 9): 2 of 0 elements", "(9): x", "(,): 2 of 9 elements"]
)
def test_pairs_ignore_a_shape_that_does_not_fit_its_array(shape):
    believed = row(got="[1.0, 1.0]", want="[1.0, 1.0]", shape=f"{shape} elements")
    found = pair(believed, row(got="[1.0, 7.0]", want="[1.0, 1.0]"))
    assert found["where"] == "[1]"


def test_read_takes_a_report_without_shapes(tmp_path):
    report.write(tmp_path, report.from_records([row()]), RunInfo(1))
    table = pd.read_parquet(tmp_path / "results.parquet").drop(columns="shape")
    table.to_parquet(tmp_path / "results.parquet")
    record = json.loads((tmp_path / "run.json").read_text())
    record["files"] = {"results.parquet": hashlib.sha256((tmp_path / "results.parquet").read_bytes()).hexdigest()}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert report.read(tmp_path / "results.parquet")[0]["shape"].tolist() == [""]


def test_pairs_are_incomparable_if_one_raised():
    found = pair(raised("torch.A"), row())
    assert found["relation"] == "incomparable"
    assert found["explanation"] == "torch.A raised ValueError: no; torch.B returned"
    assert both_ways("agree", raised("torch.A"), raised("torch.B", exception="TypeError: neither"))


def test_pairs_explain_a_documented_exception():
    assert both_ways("explained", raised("torch.A", status="diverges", convention="rejects=x"), row())
    assert both_ways("explained", raised("torch.A", status="agrees"), row(status="diverges", convention="accepts=x"))
    assert both_ways("incomparable", raised("torch.A"), row(status="diverges"))


def test_pairs_that_differ_without_a_right_answer_are_undefined():
    nothing = {"status": "undefined", "want": "undefined: why", "budget": None}
    assert both_ways("undefined", row(got="nan", **nothing), row(got="0.0", **nothing))
    assert both_ways("undefined", raised("torch.A", status="undefined"), row(got="0.0", **nothing))
    assert both_ways("agree", row(got="nan", **nothing), row(got="nan", **nothing))


def test_pairs_use_the_budget_of_the_other_row_if_one_is_missing():
    assert both_ways("agree", row(got="1.15", budget=None, status="disagrees"), row())
    assert both_ways("unexplained", row(got="1.25", budget=None, status="disagrees"), row())


def test_pairs_leave_out_functions_without_answer():
    silent = [row(f"torch.{status}", got="", status=status) for status in ("crashed", "timed_out")]
    assert paired(row("torch.A"), *silent).empty


def test_pairs_skip_rows_of_different_problems():
    assert len(paired(*(row(f) for f in ("torch.A", "torch.B", "torch.C")))) == 3
    assert paired(row("torch.A"), row("torch.B", dtype="float64")).empty
    assert paired(row("torch.A"), row("torch.B", digest="other")).empty


def test_pairs_name_environments_of_a_repeated_function():
    found = paired(row("torch.A", environment="old", version="1.0"), row("torch.A", environment="new", version="2.0"))
    assert found[["function_a", "function_b"]].values.tolist() == [["torch.A (new, 2.0)", "torch.A (old, 1.0)"]]


def test_pairs_do_not_depend_on_chunk_size(monkeypatch):
    several = [
        row(name, case=f"categorical/a/{case}", environment=environment)
        for case, count in (("x", 3), ("y", 1), ("z", 4))
        for name in ("torch.A", "keras.B", "sklearn.C", "jax.D")[:count]
        for environment in (("1.0", "2.0") if case == "z" else ("1.0",))
    ]
    table = report.from_records(several)
    whole = report.pairs(table)
    assert len(whole) == 3 + 28
    for count in (1, 2, 3, 5):
        monkeypatch.setattr(agreement, "CHUNK_ROWS", count)
        pd.testing.assert_frame_equal(report.pairs(table), whole)


def test_agreement_matrix_has_the_share_of_common_problems():
    got = [("a.A", 1, "1"), ("b.B", 1, "1"), ("a.A", 2, "1"), ("b.B", 2, "9")]
    cases = [row(function, case=f"binary/{case}", got=value) for function, case, value in got]
    matrix = agreement.agreement_matrix(paired(*cases, row("c.C", case="binary/3")))
    assert matrix.loc["a.A", "b.B"] == matrix.loc["b.B", "a.A"] == 0.5
    assert pd.isna(matrix.loc["a.A", "a.A"])


# What is read off rows


def faulty():
    """One of everything, on one problem or more."""
    return report.from_records(
        [
            row("torch.Good"),
            row("torch.Diverges", got="1.5", status="diverges", want_by_convention="1.5", convention="clip=1e-07"),
            row("keras.Bad", got="9.0", status="disagrees", expected="unexpected", error=8.0, ratio=80.0),
            raised("keras.Known", status="disagrees", expected="known", known="a bug | with a `link`"),
            row("keras.Stale", expected="stale", known="was a bug"),
            row("keras.Dead", got="", status="crashed", expected="unexpected", budget=None, ratio=None),
        ]
    )


def test_discrepancies_are_worst_first_without_agreement():
    results = faulty()
    found = report.discrepancies(results, report.pairs(results))
    functions = found[found["kind"] == "function"]
    assert list(functions["function"]) == ["keras.Bad", "keras.Dead", "keras.Stale", "keras.Known", "torch.Diverges"]
    assert found["status"].iloc[3] == "unexplained"
    assert set(found.loc[found["kind"] == "pair", "status"]) == {"unexplained", "explained", "incomparable"}


def test_discrepancies_split_the_difference_from_the_definition():
    results = faulty()
    found = report.discrepancies(results, report.pairs(results))
    mine = found[(found["function"] == "torch.Diverges") & (found["kind"] == "function")]
    columns = ["difference", "semantic", "numeric", "allowed", "ratio"]
    assert mine[columns].values.tolist() == [[0.5, 0.5, 0.0, 0.1, 5.0]]


def test_largest_ratios_name_the_case_and_skip_disagreements():
    rows = [row(case=f"binary/{n}", ratio=n / 10, status="disagrees" if n == 9 else "agrees") for n in range(10)]
    found = frames.largest_ratios(report.from_records([*rows, row(case="binary/inf", ratio=INF, status="diverges")]))
    columns = ["function", "dtype", "ratio", "case", "rows"]
    assert found[columns].values.tolist() == [["torch.A", "float32", 0.8, "binary/8", 9]]


def test_status_table_fits_80_columns_without_colour():
    long = "keras.SparseCategoricalCrossentropy:mean_with_sample_weight"
    results = report.from_records([*faulty().to_dict("records"), row(long), row("keras.T", got="", status="timed_out")])
    screen = io.StringIO()
    Terminal(file=screen, width=80, force_terminal=True, color_system=None).print(report.status_table(results))
    text = screen.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "SparseCategoricalCrossentropy:mean_with_sample_weight" in text
    assert text.split("Bad\n")[1].splitlines()[0].split() == ["1", "1", "!"]


# summary


def told(results, **about):
    return report.summary(results, report.pairs(results), RunInfo(**{"planned": len(results), **about}))


def test_summary_has_unexpected_rows_before_known_ones():
    text = told(faulty())
    assert text.index("## Unexpected") < text.index("`keras.Bad`", text.index("## Unexpected")) < text.index("## Known")
    assert "**3 are unexpected**; 1 is known" in text
    assert "Incomplete" not in text


def test_summary_reports_incomplete_run():
    assert "**Incomplete**: 6 of 9 rows" in told(faulty(), planned=9)
    assert "**Incomplete**: 6 rows were finished (Ctrl-C)" in told(faulty(), interrupted="Ctrl-C")


def test_summary_escapes_text_of_others():
    evil = "| x |\n\n# big `a` <script> [l](u) \x1b[31m"
    told_by = {"explanation": evil, "exception": evil, "want": "a`|b"}
    results = report.from_records([row(status="disagrees", expected="unexpected", got="", **told_by)])
    line = next(line for line in told(results).splitlines() if line.startswith("| `torch.A` | `cat"))
    assert r"\| x \| \# big \`a\` \<script\> \[l\](u) \\x1b\[31m |" in line
    assert r"| ``a`\|b`` |" in line
    assert line.replace(r"\|", "").count("|") == 9


def test_summary_is_bounded():
    rows = [
        row(f"torch.{n}{'é' * 100}", case=f"binary/{n % 7}", convention=f"{n}|" * 200, status=status, expected=expected)
        for n, (status, expected) in enumerate(
            100 * [("diverges", "ok"), ("disagrees", "unexpected"), ("crashed", "known")]
        )
    ]
    assert len(told(report.from_records(rows)).encode()) < markdown.MAX_BYTES
    cut = markdown.bounded("é\n" * markdown.MAX_BYTES)
    assert markdown.MAX_BYTES - 100 < len(cut.encode()) < markdown.MAX_BYTES
    assert cut.endswith("é\n\n*Cut here: the rest is in results.csv and discrepancies.csv.*\n")


def test_summary_lists_wrong_published_numbers():
    published = [
        {
            "value": "0.2162",
            "exact": "0.2393",
            "holds": False,
            "source": "an article",
            "case": "article/a",
            "explanations": ["1 explanation fits", "the sum"],
        },
        {"value": "0.1054", "exact": "0.10536", "holds": True, "source": "an article", "case": "article/b"},
        {"value": "0.7", "exact": "0.8", "holds": False, "source": "an article", "case": "article/not_selected"},
    ]
    results = report.from_records([row(case="article/a"), row(case="article/b")])
    text = report.summary(results, report.pairs(results), RunInfo(2, published=published))
    assert "1 of 2 published numbers hold" in text
    assert "not_selected" not in text
    assert "| `0.2162` | `0.2393` | `article/a` | 1 explanation fits; the sum | an article |" in text
    assert "0.1054" not in text


def test_summary_has_coverage_of_complete_runs_only():
    results = report.from_records([row()])
    covered = "option pairs: 3 of 3 covered"
    assert covered in told(results, coverage=covered)
    assert "option pairs" not in told(results, coverage=covered, selected="-k torch")


def test_summary_without_rows_counts_none():
    assert "0 rows" in told(report.from_records([]))


# write and read


def test_read_returns_what_was_written(tmp_path):
    results = faulty().assign(error=[NAN, INF, 5e-324, 1 / 3, 0.1 + 0.2, -0.0])
    folder = tmp_path / "new" / "report"
    report.write(folder, results, RunInfo(6, versions={"torch": "1.0"}, missing=("keras",)))
    for path in (folder, folder / "results.csv", folder / "results.parquet"):
        found, run = report.read(path)
        pd.testing.assert_frame_equal(found, results, check_exact=True)
        pd.testing.assert_frame_equal(report.pairs(found), report.pairs(results), check_exact=True)
        assert run["complete"] is True
        assert (run["finished"], run["status"]["disagrees"], run["expected"]["unexpected"]) == (6, 2, 2)
        assert (run["versions"], run["missing"]) == ({"torch": "1.0"}, ["keras"])


def test_write_is_reproducible(tmp_path):
    results = faulty()
    morning, evening = "2026-01-31T08:00:00+00:00", "2026-01-31T20:00:00+00:00"
    for name, info in (("a", RunInfo(6, started=morning)), ("b", RunInfo(6, started=evening, duration=9.0))):
        report.write(tmp_path / name, results, info)
    for name in (
        "results.csv",
        "discrepancies.csv",
        "summary.md",
        "badge.json",
        "index.html",
        "results.parquet",
        "pairs.parquet",
    ):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert b"\r" not in (tmp_path / "a" / "results.csv").read_bytes()


@pytest.mark.parametrize("about", [{"planned": 7}, {"planned": 6, "interrupted": "Ctrl-C"}])
def test_write_flags_a_run_that_ended_early(tmp_path, about):
    report.write(tmp_path, faulty(), RunInfo(**about))
    assert report.read(tmp_path)[1]["complete"] is False


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd", "-cmd", "@SUM(A1)", "\tx", "'=1", "''+x", 'a "b", c\nd', "é", "NA", ""]
)
def test_write_guards_formulas_and_read_restores_them(tmp_path, text):
    results = report.from_records([row(explanation=text, got="-1.5", want="-inf")])
    report.write(tmp_path, results, RunInfo(1))
    written = pd.read_csv(tmp_path / "results.csv", dtype=str, keep_default_na=False)
    assert not written["explanation"][0].startswith(("=", "+", "-", "@", "\t"))
    assert (written["got"][0], written["want"][0]) == ("-1.5", "-inf")
    pd.testing.assert_frame_equal(report.read(tmp_path / "results.csv")[0], results)


def test_read_rejects_a_folder_without_run_json(tmp_path):
    report.write(tmp_path, faulty(), RunInfo(6))
    (tmp_path / "run.json").unlink()
    with pytest.raises(ReportError, match=r"has no run\.json"):
        report.read(tmp_path)


@pytest.mark.parametrize("name", ["results.csv", "results.parquet", "summary.md"])
def test_read_rejects_an_edited_file(tmp_path, name):
    report.write(tmp_path, faulty(), RunInfo(6))
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b" ")
    with pytest.raises(ReportError, match=r"is not the file that run\.json describes") as caught:
        report.read(tmp_path)
    intact = next(other for other in ("results.parquet", "results.csv") if other != name)
    assert f"name {tmp_path / intact} instead, which is intact" in str(caught.value)
    pd.testing.assert_frame_equal(report.read(tmp_path / intact)[0], faulty())


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"finished": 10**6}, "finished in another way than the 6 rows"),
        ({"planned": 7}, "complete in another way"),
        ({"complete": "yes"}, "complete in another way"),
        ({"status": {"agrees": 6}}, "status in another way"),
        ({"status": ["agrees"]}, "status in another way"),
        ({"expected": {"ok": -1}}, "expected in another way"),
        ({"largest": []}, "largest in another way"),
        ({"largest": {"a": [1]}}, "largest in another way"),
        ({"relations": {"agree": "many"}}, "relations in another way"),
        ({"planned": -1}, "it says planned in another way"),
        ({"planned": 10**400}, "it says planned in another way"),
        ({"planned": 6.0}, "it says planned in another way"),
        ({"duration": NAN}, "it says duration in another way"),
        ({"duration": 1e300}, "it says duration in another way"),
        ({"duration": -1}, "it says duration in another way"),
        ({"started": "yesterday"}, "it says started in another way"),
        ({"interrupted": "x" * 10**6}, "it says interrupted in another way"),
        ({"versions": {"torch": {"a": {}}}}, "it says versions in another way"),
        ({"published": [{"case": 1, "value": 2, "exact": 3, "holds": 4, "source": 5}]}, "it says published"),
    ],
)
def test_read_rejects_invalid_metadata(tmp_path, said, why):
    report.write(tmp_path, faulty(), RunInfo(6))
    file = tmp_path / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | said))
    with pytest.raises(ReportError, match=why) as caught:
        report.read(tmp_path)
    assert len(str(caught.value)) < 1000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no FIFOs")
@pytest.mark.parametrize("name", ["run.json", "results.parquet", "results.csv"])
@pytest.mark.parametrize("kind", ["fifo", "huge", "device"])
def test_read_rejects_irregular_or_large_file(tmp_path, name, kind):
    report.write(tmp_path, faulty(), RunInfo(6))
    (tmp_path / name).unlink()
    if kind == "fifo":
        os.mkfifo(tmp_path / name)
    elif kind == "huge":
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, 1 << 40)
    else:
        (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(ReportError, match=r"and no file|1099511627776 bytes"):
        report.read(tmp_path)
    if kind != "huge":  # what a report is to replace
        check_replaceable(tmp_path)


@pytest.mark.parametrize(
    ("damaged", "run_json"), [("", None), ("results.parquet", None), ("", "<html>"), ("", "[" * 9)]
)
def test_recover_makes_report_of_rows_without_run_json(tmp_path, damaged, run_json):
    report.write(tmp_path, faulty(), RunInfo(6))
    (tmp_path / "run.json").unlink()
    if run_json is not None:
        (tmp_path / "run.json").write_text(run_json)
    if damaged:
        (tmp_path / damaged).write_bytes(b"PAR1")
    with pytest.raises(ReportError, match="conformance recover"):
        report.read(tmp_path)
    warnings = []
    record = recording.recover(tmp_path, warnings.append)
    found, run = report.read(tmp_path)
    pd.testing.assert_frame_equal(found, faulty(), check_exact=True)
    assert (record["complete"], run["finished"]) == (False, 6)
    assert "its run.json was lost" in warnings[0]
    assert api.RecoverResult(tmp_path, record).planned is None


@pytest.mark.parametrize("command", ["page report", "diff report report"])
@pytest.mark.parametrize("name", ["report/run.json", "report/index.html", "mine.yaml"])
def test_output_replaces_no_file_of_a_report_or_case_file(command, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    report.write(Path("report"), faulty(), RunInfo(6))
    Path("mine.yaml").write_text("about: mine\n")
    before = Path(name).read_bytes()
    monkeypatch.setattr(sys, "argv", ["conformance", *command.split(), "--output", name])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 2
    assert f"--output {name}: " in capsys.readouterr().err
    assert Path(name).read_bytes() == before


def test_recover_leaves_files_of_others(tmp_path):
    (tmp_path / "results.csv").write_text("name,result\nsomebody,1\n")
    with pytest.raises(ReportError, match="has no column"):
        recording.recover(tmp_path, pytest.fail)
    assert [file.name for file in tmp_path.iterdir()] == ["results.csv"]


def test_run_removes_leftover_parts_of_killed_process(tmp_path):
    report.write(tmp_path, faulty(), RunInfo(6))
    (tmp_path / ".results.csv.4711.tmp").write_bytes(b"half of")
    Journal.begin(tmp_path, "2026-01-31T08:00:00+00:00", pytest.fail).close(complete=True)
    assert not list(tmp_path.glob(".*.tmp"))


def test_write_removes_run_json_first_and_writes_it_last(tmp_path, monkeypatch):
    report.write(tmp_path, faulty(), RunInfo(6))
    monkeypatch.setattr(files, "summary", lambda *_: pytest.fail("stopped here"))
    with pytest.raises(pytest.fail.Exception):
        report.write(tmp_path, faulty(), RunInfo(6))
    assert not (tmp_path / "run.json").exists()
    assert (tmp_path / "results.csv").exists()
    assert not list(tmp_path.glob(".*"))


class Full(io.FileIO):
    """A file on a disk that has no room for all of it."""

    def write(self, content):
        super().write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")


def opened(kind):
    """`Path.open` that has `kind(path)` write a file, if that is not None."""
    open_file = Path.open

    def opens(self, mode="r", *rest, **options):
        found = kind(self) if mode == "wb" else None
        return open_file(self, mode, *rest, **options) if found is None else found

    return opens


def full(*folders):
    """`Path.open` for a disk that has no room below these folders."""
    return opened(lambda path: Full(path, "wb") if any(map(path.is_relative_to, folders)) else None)


def test_write_renames_a_temporary_file(tmp_path, monkeypatch):
    names = []
    monkeypatch.setattr(Path, "open", opened(lambda path: names.append(path.name)))
    report.write(tmp_path, faulty(), RunInfo(6))
    assert names[-1].startswith(".run.json.")
    assert all(name.endswith(".tmp") for name in names)


@pytest.fixture
def refuge(tmp_path, monkeypatch):
    folder = tmp_path / "refuge"
    folder.mkdir()
    monkeypatch.setattr(files.tempfile, "tempdir", str(folder))
    return folder


def test_write_falls_back_to_a_temporary_folder(tmp_path, monkeypatch, refuge):
    folder = tmp_path / "report"
    report.write(folder, report.from_records([row()]), RunInfo(1))
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "run.json"}
    monkeypatch.setattr(Path, "open", full(folder))
    with pytest.raises(ReportError, match="No space left on device") as caught:
        report.write(folder, faulty(), RunInfo(6))
    (kept,) = refuge.iterdir()
    assert str(folder) in str(caught.value)
    assert str(kept) in str(caught.value)
    pd.testing.assert_frame_equal(report.read(kept)[0], faulty())
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_write_names_lost_rows(tmp_path, monkeypatch, refuge):
    monkeypatch.setattr(Path, "open", full(tmp_path))
    with pytest.raises(ReportError, match="lost are 6 rows") as caught:
        report.write(tmp_path / "report", faulty(), RunInfo(6))
    assert list(refuge.iterdir()) == []
    assert "keras.Bad categorical/a/case float32 mean loss disagrees" in str(caught.value)
    assert str(refuge) in str(caught.value)
    pd.testing.assert_frame_equal(caught.value.results, faulty())


@pytest.mark.parametrize(("num_kept", "message"), [(0, "lost are 6 rows"), (2, "2 of its 6 rows are in journal.jsonl")])
def test_write_promises_only_rows_of_the_journal(tmp_path, monkeypatch, refuge, num_kept, message):
    journal = Journal.begin(tmp_path, "2026-01-01T00:00:00+00:00", print)
    for record in faulty().to_dict("records")[:num_kept]:
        journal.append(Row.of({name: None if pd.isna(cell) else cell for name, cell in record.items()}))
    monkeypatch.setattr(Path, "open", full(tmp_path))
    with pytest.raises(ReportError, match=message):
        report.write(tmp_path, faulty(), RunInfo(6))
    journal.close(complete=False)


def test_check_writable_rejects_a_bad_folder(tmp_path, monkeypatch):
    report.check_writable(tmp_path / "a" / "b")
    assert not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ReportError, match="is not a folder, or lies in a file; choose another"):
            report.check_writable(path)
    monkeypatch.setattr(Path, "open", full(tmp_path))
    with pytest.raises(ReportError, match=r"cannot be written \(No space left on device\)"):
        report.check_writable(tmp_path)


# What supports what

MINIATURE = Function(
    "mini.Loss",
    "mini.Loss({options})({predictions}, {labels})",
    ranks={"categorical": range(2, 4)},
    input_kinds={"logits": ""},
    targets={"index": "int64"},
    arguments={"ignore_index": "ignored", "class_weights": "weights"},
    reductions={"sum": "sum", "mean": "mean"},
    class_axis=1,
    dtypes=frozenset({"float64", "float32"}),
    orders=frozenset(),
    excludes=(frozenset({"class_axis", "ignore_index"}), frozenset({"soft_binary", "sample_weights"})),
    conventions=(
        DocumentedConvention(Convention(clip=1e-7), versions=">=2"),
        DocumentedConvention(Convention(), versions="<2", targets=frozenset({"index"})),
    ),
    documentation="https://mini",
)


def test_function_cells_list_supported_inputs():
    assert support.function_cells(MINIATURE) == [
        "mini.Loss",
        "logits (categorical, rank 2 to 3)",
        "index, one_hot as index",
        "class_weights, ignore_index; not ignore_index with class_axis: 1",
        "sum, mean",
        "float32, float64",
        "class_axis: 1",
    ]


def test_check_writable_rejects_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ReportError, match=r"results.parquet cannot be written .*; install a pyarrow"):
        report.check_writable(tmp_path)


@pytest.mark.parametrize("rows_at_a_time", [1, 2, files.CSV_ROWS])
def test_csv_equals_that_of_the_standard_library(tmp_path, monkeypatch, rows_at_a_time):
    monkeypatch.setattr(files, "CSV_ROWS", rows_at_a_time)
    texts = ["", "a,b", 'say "it"', "two\nlines", "plain", "=1+1", "é", "'", " x ", "-1.5", "-a,b", "＝1", "'=1"]
    results = report.from_records([row(case=f"c{n}", call=text, ratio=n / 3) for n, text in enumerate(texts)])
    report.write(tmp_path, results, RunInfo(len(results)))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(results.columns)
    for line in results.itertuples(index=False):
        writer.writerow(
            ["" if isinstance(cell, float) and cell != cell else files.guard_formula(str(cell)) for cell in line]
        )
    assert (tmp_path / "results.csv").read_text(encoding="utf-8") == text.getvalue()


# The badge


@pytest.mark.parametrize(
    ("rows", "planned", "message", "colour"),
    [
        ([row(), row("torch.B"), row(case="x/y/z")], 3, "2 cases, nothing unexpected", "brightgreen"),
        ([row(expected="known", status="disagrees")], 1, "1 case, nothing unexpected", "brightgreen"),
        ([row(expected="unexpected", status="disagrees")], 1, "1 case, 1 answer unexpected", "red"),
        ([row(expected="stale"), row("a.B", expected="unexpected")], 2, "1 case, 2 answers unexpected", "red"),
        ([row(case="", expected="unexpected", status="crashed")], 1, "0 cases, 1 answer unexpected", "red"),
        ([row()], 2, "incomplete", "lightgrey"),
        ([], 0, "nothing executed", "lightgrey"),
    ],
)
def test_badge_message_and_colour(tmp_path, rows, planned, message, colour):
    report.write(tmp_path, report.from_records(rows), RunInfo(planned))
    said = json.loads((tmp_path / "badge.json").read_text(encoding="utf-8"))
    assert said == {"schemaVersion": 1, "label": "cross-entropy", "message": message, "color": colour}

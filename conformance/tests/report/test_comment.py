"""A run as a comment on a pull request: found again, short enough, and others' text in it is text."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt

from conformance import report
from conformance.report import RunInfo
from conformance.report.comment import MAX_ROWS
from conformance.report.sarif import Failure
from conformance.tests.comparison.test_audit import BAD
from conformance.tests.report.test_report import row

GITHUB = 65_536
"""Characters that GitHub takes."""
EVIL = "</details> <!-- x --> <script>alert(1)</script> | `x` [a](https://evil.example) @owner #1 \n# head ![i](j)"


def comment_of(rows, planned=None, said=(), name="latest", **info):
    results = report.from_records(rows)
    run = RunInfo(len(rows) if planned is None else planned, **info)
    found = [Failure(one["status"], one, one["explanation"]) for one in rows if one["expected"] == "unexpected"]
    return report.comment(results, run, found, said, name)


def test_comment_begins_with_result():
    marker, head, *_ = comment_of([row(), row("torch.B")], versions={"torch": "1.0"}).splitlines()
    assert (marker, head) == (
        "<!-- cross-entropy-conformance: latest -->",
        "### Cross-entropy conformance: nothing fails",
    )
    text = comment_of([row(), row("torch.B", **BAD)])
    assert "### Cross-entropy conformance: 1 failure\n" in text
    assert "`torch.B`" in text
    assert text.index("<details open>") < text.index("<details><summary>Functions")
    assert "**Incomplete**: 1 of 3 rows" in comment_of([row()], planned=3)


def test_comment_folds_the_baseline():
    text = comment_of([row()], said=["baseline: nothing got worse", "  1 row as in the baseline"])
    assert "<details><summary>Against the baseline</summary>\n\n* `baseline: nothing got worse`\n" in text


@pytest.mark.parametrize("name", ["latest", "a b--> <script>", "x" * 500, ""])
def test_comment_marker_escapes_name(name):
    first = comment_of([row()], name=name).splitlines()[0]
    assert re.fullmatch(r"<!-- cross-entropy-conformance: [A-Za-z0-9_.]* -->", first)
    assert len(first) < 120


def test_comment_escapes_text_of_others():
    said = dict.fromkeys(("explanation", "exception", "got", "want", "case", "function", "environment"), EVIL)
    text = comment_of([row(**{**BAD, **said}), row()], said=[EVIL], versions={EVIL: EVIL})
    html = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    assert "<script" not in html
    assert not re.search(r"<(a|img|h1)\b", html)
    assert html.count("<details") == html.count("</details>") == 3
    assert html.count("<!--") == 1
    assert "@owner" not in re.sub(r"<code>.*?</code>", "", html)


def test_comment_is_bounded_and_well_formed():
    evil = "|`<*[" * 400
    rows = [row(f"torch.F{evil}{n}", case=f"x/y/c{n}{evil}", **{**BAD, "explanation": evil}) for n in range(500)]
    text = comment_of(rows, said=[evil] * 500)
    assert len(text) < GITHUB
    assert text.count("<details") == text.count("</details>\n") >= 1
    text = comment_of([row(f"torch.F{n}", case=f"x/y/c{n}", **BAD) for n in range(500)])
    assert f"*... and {500 - MAX_ROWS} more.*" in text

"""The page of a report: what is in its file, and what a browser makes of it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from urllib.parse import quote

import pandas as pd
import pytest

from conformance import report
from conformance.report import RunInfo
from conformance.report.page import DETAIL, INDEX, LONG, embedded, packed, page, unpacked
from conformance.suite import COLUMNS
from conformance.tests.test_report import INF, NAN, raised, row
from conformance.verdict import STATUSES

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><svg onload=alert(1)> <!-- & \u2028\u2029 \x1b[31m"
LINK = "javascript:document.title='owned' (https://example.org/a?b=1&c=2)"


def rows():
    """Two functions on three cases, one row of each kind that the page treats in its own way."""
    kept = {"status": "diverges", "convention": "mean_divides_by=kept; clip=1e-07", "want_by_convention": "1.5"}
    return [
        row("torch.A", ratio=0.25, call="import torch; f(1)"),
        row("keras.B", got="1.5", explanation="as documented", **kept),
        row("keras.B", quantity="gradient", got="[1.0, 2.0]", want="[1.0, 2.0]", ratio=0.01),
        row("torch.A", case="binary/b/wrong", got="nan", status="disagrees", expected="known", known=LINK, ratio=INF),
        row("torch.A", case="binary/b/lost", status="disagrees", expected="unexpected", ratio=NAN, explanation="off"),
        raised("keras.B", case="binary/b/lost", status="crashed"),
    ]


def hostile():
    return [row(**{name: HOSTILE for name in (*INDEX, *DETAIL) if name not in ("error", "budget", "ratio", "ulps")})]


def paged(lines, **about):
    return page(report.frame(lines), RunInfo(len(lines), **about))


class Elements(HTMLParser):
    """Every element, and the text of each script and style."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.texts.append((dict(attrs), ""))

    def handle_data(self, data):
        if self.cdata_elem:
            attrs, text = self.texts[-1]
            self.texts[-1] = (attrs, text + data)


def blocks(text):
    """The JSON in a page by the id of its element, decompressed."""
    found = {attrs["id"]: json.loads(inside) for attrs, inside in Elements(text).texts if "id" in attrs}
    return {name: json.loads(gzip.decompress(base64.b64decode(one["gzip"]))) if "gzip" in one else one
            for name, one in found.items()}  # fmt: skip


def shape(text):
    return [(tag, sorted(attrs)) for tag, attrs in Elements(text).tags]


# the file


@pytest.mark.parametrize("copies", [1, 400])
def test_the_rows_in_a_page_are_those_of_the_frame(copies):
    lines = [{**line, "case": f"{line['case']}_{n}", "call": f"f({n})"} for n in range(copies) for line in rows()]
    results = report.frame([*lines, *hostile()])
    found = blocks(page(results, RunInfo(len(results))))
    index, detail = found["index"]["columns"], found["detail"]
    assert sorted([*index, *detail, "python", "numpy"]) == sorted(COLUMNS)
    both = pd.concat([unpacked(index, len(results)), unpacked(detail, len(results))], axis=1)
    pd.testing.assert_frame_equal(both.astype(results[both.columns].dtypes), results[both.columns], check_exact=True)


def test_a_long_text_is_cut_and_says_how_much_is_missing():
    cut = packed(report.frame([row(got="1" * (LONG + 5))]), ["got"])["got"]["values"][0]
    assert cut == "1" * LONG + " … (+5)"


def test_text_from_rows_adds_nothing_to_the_structure_of_a_page():
    assert shape(paged(hostile(), interrupted=HOSTILE, missing=(HOSTILE,))) == shape(paged([row()]))
    run = {"versions": {HOSTILE: HOSTILE}, "host": {HOSTILE: HOSTILE}}
    assert shape(paged(hostile(), **run)) == shape(paged([row()]))


def test_embedded_json_has_no_character_that_means_something_in_html():
    text = embedded([HOSTILE, "\ud800"])
    assert not re.search("[<>&\u2028\u2029\x00-\x1f]", text)
    assert text.isascii()
    assert json.loads(text) == [HOSTILE, "\ud800"]


def test_the_policy_admits_the_pages_own_script_and_style_and_nothing_else():
    text = paged(hostile())
    elements = Elements(text)
    metas = [attrs for tag, attrs in elements.tags if tag == "meta"]
    policy = next(meta["content"] for meta in metas if meta.get("http-equiv") == "Content-Security-Policy")
    said = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    code = [inside for attrs, inside in elements.texts if attrs.get("type") != "application/json"]
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in code]
    assert [said.pop("style-src"), said.pop("script-src")] == hashes
    assert said == {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'"}


def test_a_page_asks_nothing_of_a_network_and_has_no_inline_handler_or_style():
    for tag, attrs in Elements(paged(rows())).tags:
        assert tag not in ("link", "img", "iframe", "object", "base")
        assert not {"src", "style"} & set(attrs)
        assert not [name for name in attrs if name.startswith("on")]
        assert attrs.get("href", "#").startswith("#")


def test_the_script_never_makes_markup_of_text():
    script = Elements(paged([row()])).texts[-1][1]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", script)


def test_every_word_is_there_in_both_languages():
    strings = blocks(paged([row()]))["strings"]
    english, chinese = strings["en"], strings["zh"]
    assert english.keys() == chinese.keys()
    assert set(STATUSES) <= english.keys()
    for name, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", chinese[name])), name
    said = set(re.findall(r'data-(?:text|label|placeholder)="(\w+)"', paged([row()])))
    said |= set(re.findall(r'\bword\("(\w+)"', Elements(paged([row()])).texts[-1][1]))
    assert said <= english.keys()


def test_a_report_has_a_page_and_is_read_with_or_without_one(tmp_path):
    results = report.frame(rows())
    record = report.write(tmp_path, results, RunInfo(len(results)))
    content = (tmp_path / "index.html").read_bytes()
    assert record["files"]["index.html"] == hashlib.sha256(content).hexdigest()
    (tmp_path / "index.html").unlink()
    pd.testing.assert_frame_equal(report.read(tmp_path)[0], results)
    (tmp_path / "index.html").write_bytes(content + b" ")
    with pytest.raises(report.ReportError, match=r"index\.html: is not the file"):
        report.read(tmp_path)


def many(count):
    """As many rows as a large report has, no two of them alike."""
    kinds = rows()
    return [
        {**kinds[n % 6], "case": f"drawn/f{n % 40}/case_{n}", "digest": f"{n:016x}", "ratio": n / count / 2,
         "error": n / 7, "got": str(n / 3), "want": str(n / 3 + 1e-9), "call": f"import torch; f({n / 11}, {n / 13})"}
        for n in range(count)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    file = tmp_path_factory.mktemp("large") / "index.html"
    file.write_text(paged(many(50_000)), encoding="utf-8")
    return file


def test_a_page_takes_less_than_300_bytes_a_row(large):
    assert large.stat().st_size < 50_000 * 300


# in a browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, to open the page in")


def opened(file, fragment="", *flags):
    """The document after the page's script has run, as HTML."""
    sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [CHROMIUM, "--headless", *sandbox, "--disable-gpu", "--virtual-time-budget=20000", "--lang=en-US", *flags]
    url = f"{file.as_uri()}#{fragment}"
    home = f"--user-data-dir={file.parent / 'profile'}"
    done = subprocess.run([*command, home, "--dump-dom", url], capture_output=True, timeout=120, check=True)
    text = done.stdout.decode()
    return re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    file = tmp_path_factory.mktemp("small") / "index.html"
    file.write_text(paged([*rows(), *hostile()]), encoding="utf-8")
    return file


def lines_of(text):
    return re.findall(r'<div role="row" class="row(?: current)?" id="row-\d+".*?</div></div>', text)


@in_browser
def test_an_address_is_a_view_filtered_and_sorted(small):
    text = opened(small, "view=table&status=disagrees&sort=-case&lang=en")
    assert "2 of 7 rows" in text
    assert [re.search(r"binary/b/\w+", line)[0] for line in lines_of(text)] == ["binary/b/wrong", "binary/b/lost"]
    assert "1 of 7 rows" in opened(small, "view=table&convention=clip%3D1e-07&lang=en")
    assert "2 of 7 rows" in opened(small, "view=table&q=b/lost+binary&lang=en")


@in_browser
def test_the_matrix_counts_rows_by_family_and_function(small):
    text = opened(small, "lang=en")
    assert 'aria-label="keras.B, categorical/a (gradient): agrees 1"' in text
    assert 'aria-label="torch.A, binary/b: disagrees 2"' in text


@in_browser
def test_a_cause_says_how_many_rows_and_leads_to_them(small):
    text = opened(small, "view=causes&lang=en")
    assert re.search(r'href="#convention=mean_divides_by%3Dkept&amp;view=table[^"]*" aria-label="Show the 1 rows', text)


@in_browser
def test_a_case_shows_every_answer_its_difference_and_its_reproducer(small):
    text = opened(small, "case=categorical/a/case&at=float32,mean,loss&lang=en")
    assert "import torch; f(1)" in text
    assert "by convention 0.5; by rounding 0" in text
    assert text.count("<article") == 2  # the gradient's answers come when they are asked for
    assert "has no case" in opened(small, "case=nowhere&lang=en")


@in_browser
def test_a_hostile_row_stays_text(small):
    for view in ("view=table", "view=causes", "view=known_view", f"case={quote(report.frame(hostile())['case'][0])}"):
        text = opened(small, f"{view}&lang=en")
        assert "<title>Cross-entropy conformance</title>" in text
        assert "onerror" in html.unescape(text)
        assert not re.search(r"<img|<svg [^>]*onload", text)
    hrefs = set(re.findall(r'href="([^"]*)"', opened(small, "view=known_view&lang=en")))
    assert "https://example.org/a?b=1&amp;c=2" in hrefs
    assert all(href.startswith(("#", "https://")) for href in hrefs)


@in_browser
def test_the_page_speaks_chinese(small):
    text = opened(small, "lang=zh")
    assert '<html lang="zh-CN">' in text
    assert "交叉熵一致性报告" in text


@in_browser
@pytest.mark.parametrize("view", ["matrix", "causes", "errors", "known_view", "table"])
def test_fifty_thousand_rows_render_as_few_elements(large, view):
    text = opened(large, f"view={view}&lang=en")
    assert f'data-ready="{view}"' in text
    assert "50,000 of 50,000 rows" in text
    assert text.count("<") < 20_000

"""The page of a report: what is in its file, and what a browser makes of it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shutil
import struct
from html.parser import HTMLParser
from itertools import pairwise
from urllib.parse import quote

import pandas as pd
import pytest

from conformance import report
from conformance.docs import picture
from conformance.judging.row import COLUMNS, FLOATS
from conformance.judging.verdict import STATUSES
from conformance.model.case import QUANTITIES
from conformance.report import RunInfo
from conformance.report.page import packing, page
from conformance.report.page import supplement as page_supplement
from conformance.report.page.packing import DETAIL, INDEX, MAX_TEXT, embed_json, pack_columns
from conformance.report.page.supplement import PageExplanation
from conformance.tests.examples import PAGES
from conformance.tests.report.test_report import INF, NAN, raised, row

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><svg onload=alert(1)> <!-- & \u2028\u2029 \x1b[31m"
VIEWS = ("overview", "matrix", "causes", "errors", "known_view", "table")
BESIDE = ("changes", "sweep", "history")
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


def supplement(evil=HOSTILE):
    """A supplement with one record of each kind, and one in which every text is hostile."""
    swept = {
        "function": "torch.A", "version": "1.0", "dtype": "float16", "case": "sweep/binary", "given": "logits",
        "target": "binary", "label": 1, "region": "zero", "exhaustive": True, "status": "agrees", "expected": "ok",
        "count": 65536, "disagrees": 0, "convention": "", "ulps": 0.75, "ulps_at": 1.5, "ulps_at_hex": "0x1.8p+0",
        "ulps_got": 1.0, "ulps_want": 1.25, "ratio": "inf", "ratio_at": 2.0, "ratio_at_hex": "0x1.0p+1",
        "ratio_got": "nan", "ratio_want": 3.0, "histogram": [60000, 5536, *[0] * 41], "why": "",
        "known": LINK, "call": "f(1.5)",
    }  # fmt: skip
    means = [{**swept, "length": 10**k, "ratio": 0.1 * k} for k in (1, 2, 3)]
    change = {
        "severity": "regression", "kinds": "status", "cause": "undocumented", "framework": "torch",
        "function": "torch.A", "case": "binary/b/wrong", "dtype": "float32", "reduction": "mean", "quantity": "loss",
        "old_version": "0.9", "new_version": "1.0", "old_status": "agrees", "new_status": "disagrees", "old_got": "1.0",
        "new_got": "nan", "old_convention": "", "new_convention": "", "old_exception": "", "new_exception": "",
        "budgets": None, "ulps": None, "what": "right before", "call": "f(1)",
    }  # fmt: skip
    step = {
        "framework": "torch", "release": "1.0", "after": "0.9", "function": "torch.A", "kind": "regression",
        "what": "right -> wrong", "rows": "3", "cases": "1", "shift": "5 %", "case": "binary/b/wrong float32 mean",
        "before": "1.0", "answer": "nan", "documented": "no", "source": LINK,
    }  # fmt: skip
    hostile_too = [
        [line, {name: evil if isinstance(cell, str) else cell for name, cell in line.items()}]
        for line in (swept, means[0], step, change)
    ]
    return report.PageSupplement(
        problems={"categorical/a/case": f"about: as it was asked {evil}"},
        sizes={"categorical/a/case": (4, 3), "binary/b/wrong": (10, 1), evil: (1, 1)},
        explanations={
            "categorical/a/case,float32,mean,loss": PageExplanation(["torch.A"], [
                ("heading", "categorical/a/case", 1), ("heading", "How the answer comes about", 2),
                ("heading", "x" * 90, 2),
                ("prose", f"It clips {evil} {LINK}", 0), ("formula", "loss = 1 + 2 = 3", 2),
                ("code", f"f(1) {evil}", 1),
            ])
        },
        explained_rows=(3, 1234),
        sweep=hostile_too[0], means=[*means, *hostile_too[1]], history=hostile_too[2], changes=hostile_too[3],
        against=["old -> new: 2 regressions", evil],
    )  # fmt: skip


def paged(lines, **about):
    return page(report.from_records(lines), RunInfo(len(lines), **about))


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


def unpacked(columns, rows):
    """The columns that were `pack_columns`, read as the script of the page reads them."""
    return pd.DataFrame({name: _values(column, rows, name in FLOATS) for name, column in columns.items()})


def _values(column, rows, number):
    values = [float(value) for value in column["values"]] if number else column["values"]
    codes = column["codes"]
    if codes is None:
        return values * rows if len(values) == 1 else values
    return [values[code] for code in codes]


@pytest.mark.parametrize("copies", [1, 400])
def test_packed_columns_hold_the_rows_of_the_frame(copies):
    lines = [{**line, "case": f"{line['case']}_{n}", "call": f"f({n})"} for n in range(copies) for line in rows()]
    results = report.from_records([*lines, *hostile()])
    found = blocks(page(results, RunInfo(len(results))))
    index, detail = found["index"]["columns"], found["detail"]["columns"]
    assert sorted([*index, *detail, "python", "numpy"]) == sorted(COLUMNS)
    both = pd.concat([unpacked(index, len(results)), unpacked(detail, len(results))], axis=1)
    pd.testing.assert_frame_equal(both.astype(results[both.columns].dtypes), results[both.columns], check_exact=True)


def test_packed_shortens_long_texts_and_counts_the_rest():
    cut = dict(pack_columns(report.from_records([row(got="1" * (MAX_TEXT + 5))]), ["got"]))["got"]["values"][0]
    assert cut == "1" * MAX_TEXT + " … (+5)"


def test_page_shortens_texts_more_if_there_are_many(monkeypatch):
    lines = [
        row(case=f"binary/b/{n}", got=str([n / k for k in range(3, 60)]), call=str([n / k for k in range(3, 120)]))
        for n in range(1, 400)
    ]
    whole = len(paged(lines))
    monkeypatch.setattr(packing, "MAX_BYTES", 100_000)
    cut = paged(lines)
    assert whole > len(cut) + 50_000
    columns = blocks(cut)["detail"]["columns"]
    assert all(re.search(r" … \(\+\d+\)$", got) for got in columns["got"]["values"])
    assert all(re.fullmatch(r"# \d+ characters, left out here", call) for call in columns["call"]["values"])


def test_page_has_no_markup_from_rows():
    assert shape(paged(hostile(), interrupted=HOSTILE, missing=(HOSTILE,))) == shape(paged([row()]))
    run = {"versions": {HOSTILE: HOSTILE}, "host": {HOSTILE: HOSTILE}}
    assert shape(paged(hostile(), **run)) == shape(paged([row()]))


def test_embedded_json_has_no_html_characters():
    text = embed_json([HOSTILE, "\ud800"])
    assert not re.search("[<>&\u2028\u2029\x00-\x1f]", text)
    assert text.isascii()
    assert json.loads(text) == [HOSTILE, "\ud800"]


@pytest.mark.parametrize("count", [0, 1, 1000, 1001, 20_000])
def test_embedded_json_does_not_depend_on_chunks(count):
    value = {"a": list(range(count)), "b": {}, "c": {"d": [["x"] * count], "e": None}}
    found = json.loads(embed_json(iter(value.items())))
    if "gzip" in found:
        found = json.loads(gzip.decompress(base64.b64decode(found["gzip"])))
    assert found == value


def test_page_policy_admits_only_its_script_and_style():
    text = paged(hostile())
    elements = Elements(text)
    metas = [attrs for tag, attrs in elements.tags if tag == "meta"]
    policy = next(meta["content"] for meta in metas if meta.get("http-equiv") == "Content-Security-Policy")
    said = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    code = [inside for attrs, inside in elements.texts if attrs.get("type") != "application/json"]
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in code]
    assert [said.pop("style-src"), said.pop("script-src")] == hashes
    assert said == {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'"}


def test_page_has_no_requests_and_no_inline_handlers():
    for tag, attrs in Elements(paged(rows())).tags:
        assert tag not in ("link", "img", "iframe", "object", "base")
        assert not {"src", "style"} & set(attrs)
        assert not [name for name in attrs if name.startswith("on")]
        assert attrs.get("href", "#").startswith("#")


def test_page_script_makes_no_markup_of_text():
    script = Elements(paged([row()])).texts[-1][1]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", script)


def test_page_has_each_string_in_both_languages():
    strings = blocks(paged([row()]))["strings"]
    english, chinese = strings["en"], strings["zh"]
    assert english.keys() == chinese.keys()
    assert set(STATUSES) <= english.keys()
    for name, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", chinese[name])), name
    said = set(re.findall(r'data-(?:text|label|placeholder)="(\w+)"', paged([row()])))
    said |= set(re.findall(r'\btranslate\("(\w+)"', Elements(paged([row()])).texts[-1][1]))
    assert said <= english.keys()


def test_read_takes_a_report_with_or_without_page(tmp_path):
    results = report.from_records(rows())
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


def test_page_takes_less_than_300_bytes_a_row(large):
    assert large.stat().st_size < 50_000 * 300


# in a browser


@pytest.fixture(scope="module")
def chromium():
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, to drive a browser")
    found = next(filter(None, map(shutil.which, picture.BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if not found or not driver:
        pytest.skip("needs chromium and chromedriver, to open the page in")
    options = webdriver.ChromeOptions()
    options.binary_location = found
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--lang=en-US"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as browser:
        browser.set_window_size(1300, 1000)
        yield browser


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A page of everything that a page can have."""
    file = tmp_path_factory.mktemp("whole") / "index.html"
    lines = [*rows(), *hostile()]
    file.write_text(page(report.from_records(lines), RunInfo(7), supplement=supplement()), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    file = tmp_path_factory.mktemp("small") / "index.html"
    lines = [*rows(), *hostile()]
    text = {"categorical/a/case": "about: as it was asked"}
    file.write_text(
        page(report.from_records(lines), RunInfo(7), supplement=report.PageSupplement(problems=text)), encoding="utf-8"
    )
    return file


class Page:
    """A page in a browser, opened at an address, and what a reader does with it."""

    def __init__(self, browser, file, fragment=""):
        self.browser = browser
        browser.get("about:blank")
        browser.get(f"{file.as_uri()}#{fragment}&lang=en")  # the first one counts
        self.wait("return document.body.dataset.ready !== undefined || !document.getElementById('failure').hidden")

    def run(self, script, *values):
        return self.browser.execute_script(script, *values)

    def wait(self, script):
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser, 20, poll_frequency=0.05).until(lambda _: self.run(script))

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def texts(self, selector):
        """At once, so that none of the elements is drawn again in between."""
        return self.run("return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText)", selector)

    def one(self, selector):
        (found,) = self.all(selector)
        return found

    def press(self, *keys):
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def unfold(self):
        """Open everything in a view that opens, and wait for what is in it."""
        for summary in self.all("#view > details > summary"):
            summary.click()
        self.wait("return [...document.querySelectorAll('#view > details')].every((one) => one.childElementCount > 1)")

    @property
    def count(self):
        (count,) = self.texts("#count")
        return count

    @property
    def cases(self):
        return self.texts("#grid .body .case")

    @property
    def complaints(self):
        return [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_page_address_sets_view_filter_and_order(chromium, small):
    found = Page(chromium, small, "view=table&status=disagrees&sort=-case")
    assert found.count == "2 of 7 rows"
    assert found.cases == ["binary/b/wrong", "binary/b/lost"]
    assert Page(chromium, small, "view=table&convention=clip%3D1e-07").count == "1 of 7 rows"
    assert Page(chromium, small, "view=table&q=b/lost+binary").count == "2 of 7 rows"


def test_page_filter_search_and_order_set_the_address(chromium, small):
    found = Page(chromium, small, "view=table")
    found.run(
        "const s = document.getElementById('by-function');s.value = '=torch.A'; s.dispatchEvent(new Event('change'))"
    )
    found.one("#query").send_keys("binary")
    found.one(".case button").click()
    assert found.cases == ["binary/b/lost", "binary/b/wrong"]
    fragment = found.run("return location.hash")
    assert all(part in fragment for part in ("function=torch.A", "q=binary", "sort=case"))
    found.one("#clear").click()
    assert found.count == "7 of 7 rows"


def test_page_overview_has_the_verdict_functions_and_findings(chromium, small):
    found = Page(chromium, small)
    results = report.from_records([*rows(), *hostile()])
    assert found.texts(".verdict.disagrees b") == ["✗3 unexpected rows;"]  # one disagrees, one crashed, one is hostile
    ranked = [name.replace("\u200b", "") for name in found.texts(".overview tbody th")]
    unexpected = (results["expected"] == "unexpected") | ~results["status"].isin({*STATUSES} - {"crashed"})
    failing = unexpected.groupby(results["function"]).mean()
    assert [failing[name] for name in ranked] == sorted(failing)
    assert sorted(ranked) == sorted(failing.index)
    counts = dict(zip(ranked, found.texts(".overview tbody td:nth-child(4)"), strict=True))
    asked = (results["status"] != "unsupported").groupby(results["function"]).sum()
    assert {name: int(count) for name, count in counts.items()} == asked.to_dict()
    found.one('.findings a[aria-label*="mean_divides_by"]').click()
    found.wait("return document.getElementById('grid')")
    assert found.cases == ["categorical/a/case"]


def test_page_ranks_functions_by_rows_with_answer(chromium, tmp_path):
    known = {"status": "disagrees", "expected": "known", "known": "told"}
    lines = [row("a.Asked", case=f"binary/{n}", status="unsupported") for n in range(2)]
    lines += [row("a.Bad", **known), row("a.Bad", case="binary/b")]
    lines += [row("a.Better", **known), *(row("a.Better", case=f"binary/{n}") for n in range(3))]
    # one known row in two answered ones is more than one in four, whatever else could not be asked
    lines += [row("a.Bad", case=f"binary/{n}", status="unsupported") for n in range(9)]
    (tmp_path / "index.html").write_text(page(report.from_records(lines), RunInfo(len(lines))), encoding="utf-8")
    found = Page(chromium, tmp_path / "index.html")
    ranked = [name.replace("\u200b", "") for name in found.texts(".overview tbody th")]
    assert ranked == ["a.Better", "a.Bad", "a.Asked"]
    assert found.texts(".overview tbody td:nth-child(4)") == ["4", "2", "0"]


def test_page_links_each_status_to_its_meaning(chromium, small):
    found = Page(chromium, small)
    links = [link.get_attribute("href") for link in found.all(".meanings dt a")]
    place, _, anchors = map(set, zip(*(link.partition("#") for link in links), strict=True))
    assert anchors >= {"agrees", "diverges", "disagrees", "known", "unexpected"}
    [path] = {address.partition("/conformance/docs/pages/")[2] for address in place}
    page = (PAGES / path).read_text(encoding="utf-8")
    assert anchors <= {*re.findall(r"^### (\w+)$", page, re.MULTILINE)}
    assert {*STATUSES, "known", "unexpected"} <= {*re.findall(r"^### (\w+)$", page, re.MULTILINE)}


def test_page_without_unexpected_rows_has_colour_of_agreement(chromium, tmp_path):
    results = report.from_records(
        [row(), row(case="binary/b", status="disagrees", expected="known", known="as is told")]
    )
    info = RunInfo(planned=len(results), started="2026-01-31T23:00:00+00:00")
    (tmp_path / "index.html").write_text(page(results, info), encoding="utf-8")
    found = Page(chromium, tmp_path / "index.html")
    assert found.texts(".verdict.agrees b") == ["✓Nothing unexpected:"]
    assert found.texts(".tile.agrees") == ["✓1agrees", "✓0unexpected"]
    assert found.texts("#about time") == ["2026-01-31"]
    assert found.run("return document.getElementById('narrow').open") is False
    found.one(".meanings summary").click()
    assert "the ledger of known discrepancies says why" in found.one(".meanings").text


def test_page_rows_have_returned_and_exact_values(chromium, small):
    found = Page(chromium, small, "view=table&q=torch.A categorical/a/case")
    found.wait("return document.querySelector('.body .returned').innerText !== '…'")
    lines = report.from_records([*rows(), *hostile()]).set_index(["case", "function"]).sort_index()
    (line,) = lines.loc[[("categorical/a/case", "torch.A")]].to_dict("records")
    assert list(map(float, found.texts(".body .returned"))) == [float(line["got"])]
    assert list(map(float, found.texts(".body .want"))) == [float(line["want"])]


def test_page_is_as_long_as_its_content(chromium, tmp_path):
    lines = [
        row(case=f"family_{n}/case", function=f"torch.F{n % 7}") for n in range(200)
    ]  # most functions are asked for few of the families
    results = report.from_records(lines)
    (tmp_path / "index.html").write_text(page(results, RunInfo(planned=len(results))), encoding="utf-8")
    found = Page(chromium, tmp_path / "index.html", "view=matrix")
    found.wait("return document.querySelector('.scroll').getAttribute('aria-busy') === 'false'")
    last = found.run("return document.querySelector('footer').getBoundingClientRect().bottom + scrollY")
    assert found.run("return document.documentElement.scrollHeight") <= max(last + 20, 1000)


def test_page_matrix_counts_rows_and_leads_to_them(chromium, small):
    found = Page(chromium, small, "view=matrix")
    assert found.one('[aria-label="keras.B, categorical/a (gradient): agrees 1"]')
    found.one('[aria-label="torch.A, binary/b: disagrees 2; unexpected 1"]').click()
    found.wait("return document.getElementById('grid')")
    assert sorted(found.cases) == ["binary/b/lost", "binary/b/wrong"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_page_has_words_for_each_quantity(chromium, tmp_path, language):
    lines = [row(quantity=quantity) for quantity in QUANTITIES]
    (tmp_path / "index.html").write_text(page(report.from_records(lines), RunInfo(len(lines))), encoding="utf-8")
    found = Page(chromium, tmp_path / "index.html", f"lang={language}&view=matrix")
    families = " ".join(found.texts(".matrix tbody th")).replace("\u200b", "")
    assert "_" not in families
    assert families.count("(") == len(QUANTITIES) - 1
    if language == "zh":
        assert not re.search(r"[a-z]{3,}", families.replace("categorical", "").replace("/a", ""))


def test_page_causes_count_rows_and_lead_to_them(chromium, small):
    found = Page(chromium, small, "view=causes")
    found.one('a[href*="mean_divides_by"]').click()
    found.wait("return document.getElementById('grid')")
    assert found.cases == ["categorical/a/case"]
    assert found.count == "1 of 7 rows"


def test_page_groups_rows_by_reason_code_not_explanation(chromium, tmp_path):
    bad = {"status": "disagrees", "expected": "unexpected", "reason_code": "wrong_value"}
    rows = [row(case=f"binary/{n}", explanation=f"error of {n} times the tolerance", **bad) for n in range(3)]
    rows.append(row(case="binary/3", explanation="off", candidate="clip=1e-07", **bad))
    results = report.from_records(rows)
    (tmp_path / "index.html").write_text(page(results, RunInfo(planned=len(results))), encoding="utf-8")
    found = Page(chromium, tmp_path / "index.html", "view=causes")
    titles = [title.replace("\u200b", "") for title in found.texts(".by-finding tbody th code")]
    assert titles == ["wrong_value", "wrong_value: clip=1e-07"]
    assert "times the tolerance" in found.texts(".by-finding tbody th")[0]
    found.all(".by-finding tbody a[href*='view=table']")[0].click()
    found.wait("return document.getElementById('grid')")
    assert found.count == "3 of 4 rows"


def test_page_draws_errors_by_function_and_dtype(chromium, small):
    found = Page(chromium, small, "view=errors&function=torch.A")
    assert [strip.get_attribute("aria-label") for strip in found.all(".line button")] == [
        "torch.A float32: 2 rows, median 0.25, 95 % under 0.25, largest 0.25"
    ]
    assert len(found.all("svg.strip .ticks")) == 1


def test_page_works_with_the_keyboard(chromium, small):
    found = Page(chromium, small, "view=table&q=binary&sort=case")
    found.run("document.getElementById('grid').focus()")
    found.press("\ue015", "\ue015", "\ue007")  # down, down, Enter
    found.wait("return document.body.dataset.ready === 'case'")
    assert found.one("#opened h2").text == "binary/b/wrong"
    found.press("\ue00c")  # Escape
    assert found.run("return document.activeElement.id") == "grid"
    assert found.one("#grid").get_attribute("aria-activedescendant") == "row-2"
    found.run("document.querySelector('[role=tab][aria-selected=true]').focus()")
    found.press("\ue014")  # right
    assert found.run("return document.activeElement.id") == "tab-overview"
    assert found.all(".overview")


def test_page_case_has_problem_answers_differences_and_reproducers(chromium, small):
    found = Page(chromium, small, "case=categorical/a/case&at=float32,mean,loss")
    text = found.one("#opened").text
    assert "about: as it was asked" in text
    assert "by convention 0.5; by rounding 0" in text
    assert [name.split()[0] for name in found.texts("details[open] .side-by-side tbody th")] == [
        "keras.\u200bB",
        "torch.\u200bA",
    ]
    assert len(found.all("article")) == 2  # the gradient's answers come when they are asked for
    found.one('[aria-label="Copy: reproducer torch.A 1.0"]').click()
    found.wait("return document.getElementById('announcement').textContent")
    assert found.one("#announcement").get_attribute("textContent") == "Copied."
    found.run("document.querySelector('#opened details:not([open]) summary').click()")
    found.wait("return document.querySelectorAll('article').length === 3")
    assert "no case of that name" in Page(chromium, small, "case=nowhere").one("#opened").text


@pytest.mark.parametrize("view", [*VIEWS, *BESIDE, "case", "explained"])
def test_page_shows_hostile_rows_as_text(chromium, whole, view):
    case = "categorical/a/case" if view == "explained" else report.from_records(hostile())["case"][0]
    found = Page(chromium, whole, f"case={quote(case)}" if view in ("case", "explained") else f"view={view}")
    found.unfold()
    assert "onerror" in found.run("return document.body.textContent")
    assert found.browser.title == "Cross-entropy conformance"
    assert not found.all("img, svg[onload], iframe")
    hrefs = {link.get_attribute("href") for link in found.all("#view a, #opened a")}
    assert all(re.match("https://|file://[^#]*#", href) for href in hrefs)
    assert view != "known_view" or "https://example.org/a?b=1&c=2" in hrefs
    assert not found.complaints


def test_page_policy_stops_other_scripts(chromium, small, tmp_path):
    text = small.read_text(encoding="utf-8")
    (tmp_path / "index.html").write_text(text.replace("<body>", "<body><script>document.title = 'owned'</script>"))
    found = Page(chromium, tmp_path / "index.html")
    assert found.browser.title == "Cross-entropy conformance"
    assert any("Content Security Policy" in line for line in found.complaints)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_passes_axe(chromium, whole, scheme):
    axe = pytest.importorskip("axe_core_python.base", reason="needs axe-core-python").AXE_FILE_PATH.read_text()
    rules = "{runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']}"
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    views = (f"view={name}" for name in (*VIEWS, *BESIDE))
    for view in (*views, "case=categorical/a/case", "lang=zh&q=nothing+of+the+kind"):
        opened = Page(chromium, whole, view)
        opened.unfold()
        opened.run(axe)
        found = chromium.execute_async_script(
            f"const done = arguments[0]; axe.run({rules}).then((found) => done(found.violations.map("
            "(one) => [one.id, one.nodes[0].html, one.nodes[0].failureSummary])))"
        )
        assert found == [], view


def test_page_case_has_its_explanation(chromium, whole, small):
    found = Page(chromium, whole, "case=categorical/a/case")
    text = found.one(".explanation").text
    assert "Explained: float32, mean, loss" in text
    assert "loss = 1 + 2 = 3" in text
    assert "3 of 1,234 rows that do not plainly agree have an explanation" in found.one("#opened").text
    assert found.one('.explanation a[href="https://example.org/a?b=1&c=2"]')
    assert Page(chromium, small, "case=categorical/a/case").one('[aria-label="conformance explain categorical/a/case"]')


def test_page_case_leads_to_the_explanation_of_its_cause(chromium, tmp_path):
    cause = {"status": "diverges", "convention": "clip=1e-07"}
    lines = [row("keras.B", case=f"binary/a/{name}", **cause) for name in ("explained", "other")]
    key = "binary/a/explained,float32,mean,loss"
    known = report.PageSupplement(explanations={key: PageExplanation(["keras.B"], [("prose", "It clips.", 0)])})
    file = tmp_path / "page.html"
    file.write_text(page(report.from_records(lines), RunInfo(2), supplement=known), encoding="utf-8")
    for case, links in (("other", ["binary/a/explained"]), ("explained", [])):
        found = Page(chromium, file, f"case=binary/a/{case}")
        found.unfold()
        assert [link.get_attribute("textContent") for link in found.all("#opened > details ul a")] == links


def test_page_sweep_has_histograms_and_worst_inputs(chromium, whole):
    found = Page(chromium, whole, "view=sweep&function=torch.A")
    sections = found.all("#view > details")
    assert len(sections) == 2  # the regions of one dtype, and its means
    assert "65,536 inputs, at most 0.75 ulps, ∞ budgets" in sections[0].text
    assert found.all(".histogram")[0].get_attribute("aria-label") == "up to 0.5 ulps: 91.6 %, up to 1 ulps: 8.45 %"
    for section in sections:
        section.find_element("css selector", "summary").click()
    assert "0.75 at 1.5 = 0x1.8p+0, returned 1, exact is 1.25" in sections[0].text
    sections[0].find_element("css selector", "button").click()
    found.wait("return document.getElementById('announcement').textContent === 'Copied.'")
    assert len(sections[1].find_elements("css selector", ".plane .curve")) == 1


def test_page_changes_come_first_side_by_side(chromium, whole):
    found = Page(chromium, whole)
    assert found.one("[role=tab][aria-selected=true]").text == "Changes"
    assert "old -> new: 2 regressions" in found.one("#view").text
    first = found.all(".changed tbody tr")[0]
    assert [cell.text for cell in first.find_elements("css selector", ".side")] == ["✓\n1.0", "✗\nnan"]
    first.find_element("css selector", "a").click()
    found.wait("return document.body.dataset.ready === 'case'")
    assert found.one("#opened h2").text == "binary/b/wrong"


def test_page_history_counts_changes_of_each_release(chromium, whole):
    found = Page(chromium, whole, "view=history&framework=torch")
    cell = found.one(".drift a.cell")
    assert cell.text == "regression 3"
    assert cell.get_attribute("aria-label") == "torch.A 1.0: regression: right -> wrong (3)"
    found.unfold()
    assert "5 %" in found.one(".drifted").text


def test_page_draws_errors_against_sizes(chromium, whole):
    found = Page(chromium, whole, "view=errors")
    samples, classes = (one.get_attribute("aria-label") for one in found.all("svg.plane"))
    assert samples == "samples (N): 1–9: 3, largest 0.5"
    assert classes == "classes (C): 1–9: 3, largest 0.5"


def test_supplement_is_bounded():
    line = supplement().sweep[0]
    many = report.PageSupplement(
        sweep=[line] * 9000,
        explanations={f"c{n},a,b,c": PageExplanation(["f"], [("prose", "x" * 9000, 0)]) for n in range(4000)},
    )
    said = blocks(page(report.from_records(rows()), RunInfo(6), supplement=many))["supplement"]
    assert (len(said["sweep"]), said["omitted"]["sweep"]) == (4000, 5000)
    assert sum(len(text) for _, blocks in said["explanations"].values() for _, text, _ in blocks) < 3_000_000


def test_page_is_bounded(monkeypatch):
    monkeypatch.setattr(packing, "MAX_BYTES", 200_000)
    monkeypatch.setattr(page_supplement, "MAX_CHARACTERS", 200_000)
    long = [row(case=f"c{n}", **dict.fromkeys(("explanation", "call", "got"), f"{n} {'é' * 5000}")) for n in range(400)]
    line = dict.fromkeys(supplement().changes[0], HOSTILE * 300)
    many = report.PageSupplement(
        changes=[line] * 5000, against=["x"], problems={f"c{n}": "y" * 9000 for n in range(400)}
    )
    text = page(report.from_records(long), RunInfo(400), supplement=many)
    assert len(text) < 1_000_000
    assert blocks(text)["supplement"]["omitted"]["changes"] > 4900


def test_page_reports_browser_without_decompression(chromium, large):
    added = chromium.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": "delete globalThis.DecompressionStream"}
    )
    try:
        failure = Page(chromium, large).one("#failure").text
    finally:
        chromium.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    assert "this browser cannot decompress" in failure
    assert "results.csv" in failure


def test_screenshots_show_page_in_each_language(chromium, tmp_path):
    report.write(tmp_path, report.from_records([row()]), RunInfo(planned=1))
    picture.take_screenshots(tmp_path, tmp_path)
    taken = [(tmp_path / name).read_bytes() for name in picture.PICTURES.values()]
    assert taken[0] != taken[1]
    for content in taken:
        assert content.startswith(b"\x89PNG")
        assert struct.unpack(">II", content[16:24]) == picture.SIZE


def test_page_in_chinese(chromium, small):
    found = Page(chromium, small)
    found.one('[data-language="zh"]').click()
    assert found.run("return document.documentElement.lang") == "zh-CN"
    assert found.browser.title == "交叉熵一致性报告"


@pytest.mark.parametrize("view", [*VIEWS, *BESIDE, "case"])
def test_page_fits_a_phone(chromium, whole, view):
    chromium.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    )
    try:
        found = Page(chromium, whole, "case=categorical/a/case" if view == "case" else f"view={view}")
        found.unfold()
        wide = (
            "return [...document.querySelectorAll('body *')].filter((one) => one.getBoundingClientRect().right > 360)"
            ".map((one) => one.outerHTML.slice(0, 100))"
        )
        assert found.run("return document.documentElement.scrollWidth") <= 360, found.run(wide)
        beyond = "const tabs = document.getElementById('tabs'); return tabs.scrollWidth - tabs.clientWidth"
        assert found.run(beyond) <= 0  # tabs wrap
    finally:
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("width", [360, 1280])
def test_page_axis_labels_do_not_touch(chromium, whole, width):
    chromium.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        found = Page(chromium, whole, "view=errors")
        labels = (
            "return [...document.querySelectorAll('.axis text')].map((one) => one.getBoundingClientRect())"
            ".filter((one) => one.width > 0).map((one) => [one.left, one.right])"
        )
        ends = found.run(labels)
        assert len(ends) >= 4
        assert all(right + 2 < left for (_, right), (left, _) in pairwise(ends)), ends
    finally:
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


LONG_CASE = "categorical/probabilities_unnormalised/sample_weights_losses_weighted_one_two_three"
BROKEN_WORDS = """
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), broken = [];
for (let node; (node = walker.nextNode());) {
  if (!node.parentElement.offsetParent) continue;
  for (const found of node.textContent.matchAll(/[A-Za-z]{2,}|-?[0-9][0-9.,e-]+/g)) {
    const range = document.createRange();
    range.setStart(node, found.index);
    range.setEnd(node, found.index + found[0].length);
    const tops = [...range.getClientRects()].filter((one) => one.width > 0).map((one) => Math.round(one.top));
    if (new Set(tops).size > 1) broken.push(`${node.parentElement.outerHTML.slice(0, 60)}: ${found[0]}`);
  }
}
return broken;
"""


@pytest.fixture(scope="module")
def long_names(tmp_path_factory):
    """A page with names, ids, links and numbers that are as long as real ones."""
    file = tmp_path_factory.mktemp("long") / "index.html"
    link = "It is so. (https://github.com/tensorflow/tensorflow/blob/master/tensorflow/python/ops/nn_implementation.py)"
    functions = [f"keras.SparseCategoricalCrossentropy:mean_with_sample_{name}" for name in ("weight", "weights", "w")]
    kinds = ({"known": link, "expected": "known"}, {"expected": "unexpected"})
    lines = [
        row(function, case=LONG_CASE, ratio=1234.5678, ulps=12345.678, call="import torch", **kind)
        for function in functions
        for kind in ({}, {"status": "diverges", "convention": "binary_outputs=mean_of_last_axis; clip=1e-07"})
    ]
    lines += [
        row(function, case=f"{LONG_CASE}_{number}", got="nan", status="disagrees", ratio=INF, **kind)
        for number, kind in enumerate(kinds)
        for function in functions
    ]
    file.write_text(page(report.from_records(lines), RunInfo(len(lines))), encoding="utf-8")
    return file


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_page_breaks_no_word_and_no_number(chromium, long_names, width, language):
    chromium.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    try:
        for view in [*(f"view={name}" for name in VIEWS), f"case={LONG_CASE}"]:
            found = Page(chromium, long_names, f"lang={language}&{view}")
            found.unfold()
            assert found.run(BROKEN_WORDS) == [], view
    finally:
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("view", VIEWS)
def test_page_renders_few_elements_of_many_rows(chromium, large, view):
    found = Page(chromium, large, f"view={view}")
    assert found.count == "50,000 of 50,000 rows"
    assert found.run("return document.querySelectorAll('*').length") < 5_000


def test_page_reaches_the_last_of_many_rows(chromium, large):
    found = Page(chromium, large, "view=table&sort=ulps")
    found.run("document.getElementById('grid').focus()")
    found.press("\ue010")  # End
    found.wait("return document.getElementById('row-49999')?.getAttribute('aria-rowindex') === '50001'")

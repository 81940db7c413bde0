"""The documentation: what is generated covers everything there is, and both READMEs keep in step."""

from __future__ import annotations

import dataclasses
import html
import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt

from conformance.adapters import registry
from conformance.casefiles import known_issues, loading
from conformance.casefiles.document import schema_of
from conformance.casefiles.known_issues import KnownIssue
from conformance.casefiles.loading import shipped_cases
from conformance.docs import (
    commands,
    conventions,
    findings,
    markup,
    option_names,
    ranking,
    readme,
    reports,
    schema,
)
from conformance.docs.markup import GENERATED, anchor_line, to_site
from conformance.docs.readme import Checkout
from conformance.judging.verdict import STATUSES
from conformance.model.case import OPTIONS, QUANTITIES, REDUCTIONS
from conformance.model.convention import DEFINITION, EDGE, INVALID
from conformance.reference import error_bound
from conformance.reference.oracle import Oracle
from conformance.report.frames import largest_ratios
from conformance.report.markdown import fenced_block
from conformance.tests import links
from conformance.tests.examples import PAGES

HOSTILE = (
    "</code><script>alert(1)</script> <img src=x onerror=alert(1)> [x](javascript:alert(1)) ![y](http://evil.example/y)"
    " | `a` ``b`` **bold** _under_ ~~gone~~ &lt; {{ x }} <!-- generated: kinds --> {#id}"
    " \x1b[31m\n# heading\n- list\n```\n"
)
MARKDOWN = MarkdownIt("commonmark").enable("table")


class Shown(links.Page):
    """What a reader is shown of some Markdown: its text, and every element."""

    def __init__(self, markdown):
        self.tags, self.texts = [], []
        super().__init__(MARKDOWN.render(markdown))
        self.text = " ".join("".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        super().handle_starttag(tag, attrs)
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


def tables(markdown):
    """Every table as (header, rows) of cells, as text."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE):
        lines = [[legible(cell) for cell in line.strip("| \n").split(" | ")] for line in block.splitlines()]
        found.append((lines[0], lines[2:]))
    return found


def legible(cell):
    return html.unescape(re.sub(r"<(?:/?code|wbr)>", "", cell)).strip()


def whole(markdown):
    return Shown(markdown).text


@pytest.fixture(scope="module")
def site(checkout):
    return Checkout(checkout)


# Text that others wrote


@pytest.mark.parametrize("made", [markup.escaped, markup.code_html, markup.prose_html])
def test_markup_escapes_hostile_text(made):
    page = Shown(made(HOSTILE))
    assert not set(page.tags) - {"p", "code", "wbr"}
    assert not page.links
    assert not page.resources
    assert "<script>alert(1)</script>" in page.text
    assert "\x1b" not in page.text
    assert GENERATED.search(made(HOSTILE)) is None


def test_table_keeps_hostile_text_in_one_cell():
    page = Shown(markup.table(("a", "b"), [[markup.escaped(HOSTILE), markup.code_html(HOSTILE)]]))
    assert page.tags.count("td") == 2
    assert not set(page.tags) & {"script", "img", "a", "strong", "em", "h1", "ul", "li"}


@pytest.mark.parametrize(
    "source", ["javascript:alert(1)", "https://a.example/) [x](y", "https://a.example/<b>", "/etc", "http:"]
)
def test_link_rejects_other_schemes(source):
    assert Shown(markup.link("x", source)).links == []


def test_link_accepts_http_addresses():
    assert Shown(markup.link("x", "https://example.org/a?b=1#c")).links == ["https://example.org/a?b=1#c"]


@pytest.mark.parametrize("source", ["a\n```\n# out\n", "````\n", "~~~\n```"])
def test_block_fence_is_longer_than_any_in_source(source):
    page = Shown(fenced_block(source, "python") + "\nafter\n")
    assert page.tags == ["pre", "code", "p"]


def test_paragraphs_keep_every_word():
    page = Shown(markup.paragraphs(error_bound.__doc__))
    assert {"strong", "p", "code"} <= set(page.tags) <= {"strong", "p", "code", "wbr"}
    said = " ".join(error_bound.__doc__.partition("\n\n")[2].split())
    assert re.sub(r"[`*]", "", page.text) == re.sub(r"[`*]", "", said)


# Conventions


def test_conventions_page_has_section_per_field():
    page = (PAGES / "conventions.md").read_text(encoding="utf-8")
    for name in conventions.FIELDS:
        assert f"\n## {name}\n" in page
        assert f"<!-- generated: convention {name} -->" in page
        before = page[: page.index(f"<!-- generated: convention {name} -->")]
        why = before.rpartition(f"## {name}\n")[2]
        assert len(why.split()) > 15, f"{name} does not say why it exists"


def documented():
    """(field, choice, function) of every choice that an adapter documents."""
    for framework in registry.frameworks():
        for function in framework.functions:
            for documented in function.conventions:
                for name, choice in documented.convention.choices().items():
                    for one in choice if isinstance(choice, frozenset) else [choice]:
                        yield name, one, function.name


def test_choice_section_lists_documenting_functions():
    found = {
        (name, line[0], function)
        for name in conventions.FIELDS
        for _, lines in tables(conventions.choice_section(name))
        for line in lines
        for function in re.findall(r"[a-z]+\.[\w.]+(?::\w+)*(?=[ ,])", line[2])
    }
    text = {(name, shown(choice), function) for name, choice, function in documented()}
    assert {one for one in found if one[2] in {function for _, _, function in text}} == text


def shown(choice):
    if not isinstance(choice, float):
        return str(choice)
    text = f"{choice:.4g}"
    return f"float32({text})" if choice in map(float, np.float32([1e-12, 1e-16])) else text


def test_choice_section_lists_every_choice():
    for name in conventions.FIELDS:
        [(_, lines)] = tables(conventions.choice_section(name))
        if name not in ("accepts", "rejects"):
            assert sum(line[2] == "the definition" for line in lines) == 1
            assert lines[0][0] == shown(getattr(DEFINITION, name))


def test_boundaries_are_releases_in_adapters():
    lines = {line[0]: line[2] for line in tables(conventions.choice_section("clip"))[0][1]}
    assert "sklearn.log_loss (from 1.2)" in lines["dtype"]
    assert "sklearn.log_loss (below 1.2)" in lines["1e-15"]
    lines = {line[0]: line[2] for line in tables(conventions.choice_section("mean_divides_by"))[0][1]}
    assert "torch.CrossEntropyLoss (from 1.10, index labels)" in lines["label_weight"]
    assert "torch.CrossEntropyLoss (from 1.10, distribution, one_hot labels)" in lines["kept"]
    lines = {line[0]: line[2] for line in tables(conventions.choice_section("renormalise"))[0][1]}
    assert "keras.SparseCategoricalCrossentropy (below 3; from 3, on tensorflow)" in lines["after_clip"]


def test_version_ranges_cover_every_range():
    """`boundaries` knows ranges from one release to below another."""
    for framework in registry.frameworks():
        for described in (
            *framework.functions,
            *(documented for one in framework.functions for documented in one.conventions),
        ):
            assert re.fullmatch(r"(?:(?:>=|<)[\d.]+,?)*", described.versions), described.versions


def test_anomalies_table_lists_every_input_anomaly():
    [(_, lines)] = tables(conventions.anomalies_table())
    assert {line[0] for line in lines} == INVALID | EDGE


# Options across frameworks


def test_option_tables_have_every_function():
    names = sorted(function.name for function in registry.functions())
    found = tables(option_names.option_tables())
    assert [header for header, _ in found] == [["functions", *columns] for columns in option_names.TABLES.values()]
    for header, lines in found:
        assert sorted(name for line in lines for name in line[0].split("<br>")) == names
        assert all(len(line) == len(header) for line in lines)


def test_option_tables_merge_functions_of_a_library_with_equal_cells():
    described = [("a", ("x", "y")), ("b", ("x", "z")), ("c", ("x", "y"))]
    assert list(option_names._merge_lines(described)) == [
        ["<code>a</code><br><code>c</code>", "x", "y"], ["<code>b</code>", "x", "z"]
    ]  # fmt: skip


@pytest.mark.parametrize("function", registry.functions(), ids=lambda function: function.name)
def test_option_words_name_every_supported_option(function):
    words = option_names.option_words(function)
    assert {name for name in OPTIONS if words[name] != option_names.NO_OPTION} == function.options
    assert {name for name in REDUCTIONS if words[name] != option_names.NO_OPTION} == function.reductions.keys()
    assert not {words[name] for name in function.options} & {"", option_names.UNCHANGED}
    for group in function.excludes:
        assert " and ".join(sorted(group)) in legible(words["not together"])


def test_calls_of_several_statements_keep_their_indentation():
    assert option_names._lines("def f(x):\n    return x") == (
        "<code>def f(<wbr>x):</code><br>&nbsp;&nbsp;&nbsp;&nbsp;<code>return x</code>"
    )


def test_option_words_match_known_calls():
    words = {
        function.name: {name: legible(cell) for name, cell in option_names.option_words(function).items()}
        for framework in registry.frameworks()
        for function in registry.functions_in(framework, registry.NEWEST)
    }
    entropy, bce = words["torch.CrossEntropyLoss"], words["torch.BCEWithLogitsLoss"]
    sparse, sklearn = words["keras.SparseCategoricalCrossentropy"], words["sklearn.log_loss"]
    assert entropy["call"] == "torch.nn.CrossEntropyLoss(...)(input, target)"
    assert entropy["class_weights"] == bce["sample_weights"] == "weight="
    assert bce["positive_weight"] == "pos_weight="
    assert sparse["ignore_index"] == "ignore_class="
    assert sparse["logits"] == "from_logits=True"
    assert sparse["mean"] == "reduction='sum_over_batch_size'"
    assert (sklearn["predictions"], sklearn["sum"], sklearn["mean"]) == ("y_proba", "normalize=False", "normalize=True")
    assert sklearn["call"] == "sklearn.metrics.log_loss(y_true, y_proba, ...)"
    assert entropy["class axis"] == "always 1"
    assert entropy["index"] == "[N], int64"


def test_earlier_releases_list_differences():
    [(_, lines)] = tables(option_names.earlier_releases())
    newest = {id(function) for function in registry.functions()}
    others = [function for one in registry.frameworks() for function in one.functions if id(function) not in newest]
    text = {(name, line[1]): line[2] for line in lines for name in line[0].split("<br>")}
    assert sorted(name for name, _ in text) == sorted(function.name for function in others)
    assert "label_smoothing: —" in text["torch.CrossEntropyLoss", "below 1.10"]
    assert "reduction='none'" in text["keras.BinaryCrossentropy", "below 3"]


# Findings


def test_findings_list_every_ledger_entry(site):
    entries = findings.group_by_issue(known_issues.load(shipped_cases()).entries)
    assert len(entries) > 60
    assert sum(len(entry) for entry in entries) == len(site.ledger)
    pages = {name: site.findings.page(name) for name in site.findings.libraries}
    shown = {name: Shown(page) for name, page in pages.items()}
    for entry in entries:
        first, name = entry[0], entry[0].function.partition(".")[0]
        assert " ".join(first.reason.split()).replace("`", "") in shown[name].text.replace("`", "")
        assert not first.see or first.see in shown[name].links
        assert all(one.case in shown[name].text for one in entry)
        assert f"#L{first.line})" in pages[name]
    for name, page in pages.items():
        anchors = re.findall(r'<a id="(.*)"></a>', page)
        assert len(set(anchors)) == len(anchors)
        assert re.findall(r"\(#([^)]*)\)", page) == anchors, name


def test_finding_is_written_once_for_all_its_functions(site):
    page = site.findings.page("paddle")
    assert not re.search(r"^###.*&#42;", page, re.MULTILINE)
    assert page.count("The label smoothing is kept in float32") == 3  # in the list, in its section, in a new issue
    sections = len(re.findall(r"^### ", page, re.MULTILINE))
    line = next(line for line in site.findings.overview().splitlines() if line.startswith("| [paddle]"))
    assert sum(int(cell) for cell in line.split("|")[3:] if cell.strip().isdigit()) == sections
    assert sections == len({entry.reason for entry in site.ledger if entry.function.startswith("paddle.")})


def test_issue_texts_state_expected_result(site):
    for name in site.findings.libraries:
        texts = site.findings.page(name).split("Text for a new issue")[1:]
        assert all(
            re.search(r"^Expected: |is expected\.$", text.partition("</details>")[0], re.MULTILINE) for text in texts
        )


def test_findings_have_a_page_for_each_library(site):
    overview = site.findings.overview()
    for name in site.findings.libraries:
        text = (PAGES / "findings" / f"{name}.md").read_text(encoding="utf-8")
        assert f"<!-- generated: findings {name} -->" in text, "write the page of a new library"
        assert f"(findings/{name}.md)" in overview
    assert {path.stem for path in (PAGES / "findings").iterdir()} == set(site.findings.libraries)


RANKED = (
    ("number", {"symptoms": ("too_small",)}, True),
    ("edge", {"symptoms": ("too_small",)}, False),
    ("gradient", {"symptoms": ("zero",), "quantities": ("gradient", "hessian")}, True),
    ("precision", {"symptoms": ("imprecise",)}, False),
    ("acceptance", {"symptoms": ("accepted_invalid",)}, False),
    ("crash", {"symptoms": ("raised ValueError",)}, True),
    ("crash", {"status": "crashed"}, True),
    ("number", {"symptoms": ("raised ValueError", "too_large")}, True),
    ("edge", {"symptoms": ("nan",), "when": ("infinite_prediction",)}, None),
    ("number", {"symptoms": ("nan",), "when": ("index",)}, None),
    ("precision", {"symptoms": ("too_large", "zero"), "kind": "precision"}, True),
)


@pytest.mark.parametrize(("kind", "fields", "ordinary"), RANKED)
def test_findings_are_ranked(kind, fields, ordinary):
    example = None if ordinary is None else ranking.Example(None, ordinary)
    assert ranking.kind_of([KnownIssue("a/b", "mini.Loss", **fields)], example) == kind


def test_finding_has_the_plainest_example_with_its_exact_answer(site):
    page = site.findings.page("paddle")
    assert page.index(ranking.KINDS["number"]) < page.index(ranking.KINDS["gradient"]) < page.index("Edge cases")
    masked = "categorical/logits_edge_rows/one_hot_minus_infinity_elsewhere"
    entry = [KnownIssue(case, "torch.CrossEntropyLoss") for case in (masked, "categorical/class_weights/four_by_three")]
    (example,) = ranking.examples([entry], loading.load(shipped_cases()), lambda item: item.reduction == "mean")
    assert (example.item.case.id, example.ordinary) == (entry[1].case, True)
    assert (example.item.dtype, example.item.reduction) == ("float32", "mean")
    assert float(example.exact(Oracle())) > 0


def test_findings_without_issue_have_issue_text(monkeypatch):
    mini = SimpleNamespace(name="mini", functions=(), repository="https://github.com/mini/mini")
    monkeypatch.setattr(registry, "frameworks", lambda: (mini,))
    monkeypatch.setattr(ranking, "pinned_installations", lambda _: ())

    def page(see):
        entry = KnownIssue(
            "a/b", "mini.Loss", reason="It is off.", reproducer="import mini", shows="1", expected="2", see=see
        )
        return findings.Findings([entry], {"mini": "2.0"}, "https://example.org").page("mini")

    text = page("https://github.com/mini/mini/blob/main/mini.py")
    assert "Text for a new issue" in text
    assert "seen in mini 2.0" in text
    assert "Expected: 2" in text
    assert text.count("import mini") == 2
    assert "Text for a new issue" not in page("https://github.com/mini/mini/issues/7")
    of_others = page("https://github.com/maxi/maxi/issues/7")
    assert "Text for a new issue" in of_others
    assert "[the same in maxi/maxi]" in of_others


def test_findings_mark_fixed_entries():
    entry = [KnownIssue("a/b", "sklearn.log_loss", versions="<1.2")]
    assert findings.fixed_in(entry, {"sklearn": "1.9.1"})
    assert not findings.fixed_in(entry, {"sklearn": "1.1.3"})
    assert not findings.fixed_in([KnownIssue("a/b", "sklearn.log_loss")], {"sklearn": "1.9.1"})
    assert not findings.fixed_in(entry, {})


def test_findings_escape_hostile_ledger():
    hostile = {
        "reason": HOSTILE,
        "reproducer": HOSTILE,
        "shows": HOSTILE,
        "see": "https://a.example/)[x](javascript:1)",
    }
    entry = KnownIssue("a/b", "mini.Loss", when=(HOSTILE,), path="cases/known/mini.yaml", line=3, **hostile)
    page = Shown(findings.Findings([entry], {}, "https://example.org").page("mini"))
    assert not set(page.tags) & {"script", "img", "strong", "em", "h1"}
    assert all(lead.startswith(("https://example.org/", "#", findings.TRAITS_PAGE)) for lead in page.links)


# Releases


@pytest.mark.parametrize("name", ["keras", "sklearn", "torch"])
def test_releases_list_every_change_of_a_library(site, name):
    history = site.histories[name]
    page = reports.releases(history)
    found = [line for header, lines in tables(page) for line in lines if header == list(reports.COLUMNS)]
    assert len(found) == len(history.changes) > 20
    text = sorted((line[0], line[1].partition(":")[0], line[3]) for line in found)
    assert text == sorted(
        (row["function"], row["kind"], " ".join(f"{row['case']}<br>{row['before']} → {row['answer']}".split()))
        for row in history.changes.to_dict("records")
    )
    for framework, release in history.changes[["framework", "release"]].drop_duplicates().itertuples(index=False):
        assert f"## {framework} {release}, after" in page


def test_releases_overview_counts_changes_of_each_library(site):
    [(header, lines)] = tables(reports.releases_overview(site.histories))
    assert header == ["library", "from", "to", *reports.KINDS.values()]
    assert [line[0] for line in lines] == [f"[{name}]({reports.FOLDER}/{name}.md)" for name in site.histories]
    for line, history in zip(lines, site.histories.values(), strict=True):
        assert set(history.changes["kind"]) <= reports.KINDS.keys()
        assert sum(int(cell) for cell in line[3:] if cell.isdigit()) == len(history.changes)
        assert history.run[0].startswith(f"Run were {line[1]}, ")


def test_libraries_of_history_have_a_page(site):
    folder = site.folder / "conformance" / "docs" / "pages" / reports.FOLDER
    assert {file.stem for file in folder.glob("*.md")} == set(site.histories)


def test_releases_escape_hostile_history(site):
    row = dict.fromkeys(site.histories["torch"].changes.columns, HOSTILE)
    for documented, source in (
        ("yes", "javascript:alert(1)"),
        ("no", f"{HOSTILE} (https://example.org/)"),
        ("no", HOSTILE),
    ):
        changes = pd.DataFrame([{**row, "documented": documented, "source": source}])
        page = Shown(reports.releases(reports.LibraryHistory(changes, f"Run were {HOSTILE}")))
        assert not set(page.tags) & {"script", "img", "strong", "em", "h1"}
        assert set(page.links) <= {"https://example.org/", "http://evil.example/y"}


# Accuracy


def test_accuracy_table_has_every_function_and_dtype(site):
    found = largest_ratios(site.baseline[0])
    page = reports.case_table(site.baseline[0])
    quantities = [name for name in QUANTITIES if name in set(found["quantity"])]
    assert {"loss", "gradient", "perplexity"} <= set(quantities)
    text = {
        (line[0], quantity, dtype): cell
        for quantity, (header, lines) in zip(quantities, tables(page), strict=True)
        for line in lines
        for dtype, cell in zip(header[1:], line[1:], strict=True)
        if cell.strip("\xa0")
    }
    assert text == {
        (row["function"], row["quantity"], row["dtype"]): f"{row['ratio']:.3g} ({row['rows']})"
        for row in found.to_dict("records")
    }


def test_sweep_table_lowers_headings(site):
    report = (site.folder / "reports" / "accuracy" / "sweep.md").read_text(encoding="utf-8")
    page = reports.sweep_table(report)
    assert not re.search(r"^##? ", page, re.MULTILINE)
    assert len(tables(page)) == len(tables(report)) > 20
    names = {line[0] for line in tables(page)[0][1]}
    frameworks = {name.partition(".")[0] for name in names}
    assert frameworks >= {"sklearn", "keras", "torch"}
    swept = [one for one in registry.functions() if one.framework_name in frameworks and not one.default_files]
    swept_at_all = {function.name for function in swept if "none" in function.reductions}
    assert swept_at_all | {"sklearn.log_loss"} == names


# Schemas and commands


def properties(part):
    """The name of every property anywhere in a schema that may stand in a file."""
    if isinstance(part, dict):
        for name, inner in part.items():
            if name == "properties":
                yield from (key for key, value in inner.items() if value is not False)
            yield from properties(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from properties(inner)


@pytest.mark.parametrize("name", ["case.schema.json", known_issues.SCHEMA])
def test_schema_reference_has_every_property(name):
    described = schema_of(name)
    page = schema.reference(described, "x")
    text = [line[0].strip("[]").partition("]")[0] for _, lines in tables(page) for line in lines]
    assert sorted(set(text)) == sorted(set(properties(described)))
    assert all(line[2] for _, lines in tables(page) for line in lines)
    anchors = set(re.findall(r'^<a id="([\w-]+)"></a>$', page, re.MULTILINE))
    assert set(re.findall(r"\]\(#([\w-]+)\)", page)) <= anchors


def test_schema_reference_shows_types_defaults_and_enums():
    lines = {
        line[0]: line for _, found in tables(schema.reference(schema_of("case.schema.json"), "x")) for line in found
    }
    assert lines["loss"][1] == "string, required"
    assert "One of categorical, binary." in lines["loss"][2]
    assert "Default: 3.0." in lines["scale"][2]
    assert "At least 0, at most 1." in lines["label_smoothing"][2]


def test_command_reference_has_every_option():
    page = commands.reference()
    found = dict(commands.commands())
    assert ("run",) in found
    assert ("list", "cases") in found
    for words, command in found.items():
        section = page.partition(anchor_line(f"conformance-{'-'.join(words)}"))[2].partition("\n<a id=")[0]
        [(_, lines)] = tables(section)
        text = " ".join(line[0] for line in lines)
        assert len(lines) == len(command.params)
        options = [name for one in command.params if one.param_type_name == "option" for name in one.opts]
        assert set(options) == {name for name in re.split(r"[ ,]+", text) if name.startswith("-")}, words
        assert " ".join(command.help.split()).replace("`", "") in whole(section).replace("`", "")


# The site


def test_generated_parts_are_on_a_page(site):
    pages = [file.read_text(encoding="utf-8") for file in PAGES.rglob("*.md")]
    used = [found["name"] for page in pages for found in GENERATED.finditer(page)]
    assert sorted(used) == sorted(site.parts())


def test_generated_parts_of_pages_are_up_to_date(site):
    for file in PAGES.rglob("*.md"):
        page = file.read_text(encoding="utf-8")
        assert site.fill_page(page) == page, f"{file}: run python -m conformance.docs.readme"
        for found in GENERATED.finditer(page):
            assert found["part"], f"{file}: {found['name']} is not there"


def test_pages_can_be_read_in_the_repository():
    for file in PAGES.rglob("*.md"):
        page = file.read_text(encoding="utf-8")
        assert re.findall(r"^(?:`{3,}\{|:::|\{[#.]|\([\w-]+\)=$)", page, re.MULTILINE) == [], file


def test_links_of_pages_lead_to_files_and_anchors_of_the_repository():
    check_links(PAGES.rglob("*.md"))


def check_links(files):
    for file in files:
        links = re.findall(
            r"(?<!\\)\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)", prose_of(file.read_text("utf-8"))
        )
        for path, anchor in links:
            target = file.parent / path if path else file
            assert target.exists(), f"{file}: {path}"
            page = target.read_text("utf-8") if anchor else ""
            titles = re.findall("^#+ (.*)$", page, re.MULTILINE)
            names = [re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles]
            assert not anchor or anchor_line(anchor) in page or anchor in names, f"{file}: #{anchor}"


def test_site_has_anchors_and_table_of_contents():
    page = f"{anchor_line('a-b')}## B\n\n<!-- contents\none\nTwo <two>\n-->\n"
    assert to_site(page) == "{#a-b}\n## B\n\n```{toctree}\n:hidden:\n\none\nTwo <two>\n```\n"


def test_fill_page_rejects_unknown_part(site):
    with pytest.raises(LookupError, match="no generated part called 'nothing'"):
        site.fill_page("# x\n\n<!-- generated: nothing -->\n")


# The READMEs


def code_blocks(page):
    return re.findall(r"^(?:<!-- example: (\w+) -->\n)?```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def prose_of(page):
    return re.sub(r"^```\w+\n.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)


def uncommented(source):
    return [re.sub(r"\s+# .*", "", line) for line in source.splitlines()]


@pytest.fixture(scope="module")
def both(checkout):
    return [(checkout / name).read_text(encoding="utf-8") for name in readme.READMES]


def test_readmes_have_the_same_sections(both):
    levels = [re.findall(r"^(#+) ", prose_of(page), re.MULTILINE) for page in both]
    assert levels[0] == levels[1]
    assert len(levels[0]) > 8


def test_readmes_have_the_same_commands_per_section(both):
    english, chinese = (re.split(r"^## ", page, flags=re.MULTILINE) for page in both)
    for one, other in zip(english, chinese, strict=True):
        assert [(mark, language, uncommented(body)) for mark, language, body in code_blocks(one)] == [
            (mark, language, uncommented(body)) for mark, language, body in code_blocks(other)
        ]


def test_readmes_have_the_same_links(both):
    english, chinese = ({*re.findall(r"\]\(([^)]+)\)", page)} for page in both)
    pictures = {link.replace(".zh.png", ".png") for link in chinese}  # each in the language of its page
    assert english - {"README.zh-CN.md"} == pictures - {"README.md"}


def test_links_of_readmes_lead_to_files_and_anchors(checkout):
    check_links(checkout / name for name in readme.READMES)


def test_readmes_are_short(both):
    for page in both:
        prose = re.sub(r"<!--[^>]*-->|^\|.*$|\]\([^)]*\)", "", prose_of(page), flags=re.MULTILINE)
        characters = re.findall(r"[\u4e00-\u9fff]", prose)
        words = re.findall(r"[^\s\u4e00-\u9fff]+", prose)
        assert 300 < len(words) + len(characters) / 2 <= 900, "two Chinese characters are a word"


def test_readmes_have_the_same_code_spans(both):
    english, chinese = ({*re.findall(r"`([^`]+)`", " ".join(prose_of(page).split()))} for page in both)
    assert english - chinese == set()


def test_readmes_explain_every_status(both):
    for page in both:
        (lines,) = (lines for head, lines in tables(page) if head[0] in ("status", "状态"))
        assert {status for line in lines for status in line[0].split(", ")} == {*STATUSES}


def test_readmes_have_tables_of_the_same_shape(both):
    english, chinese = ([(len(head), len(lines)) for head, lines in tables(page)] for page in both)
    assert english == chinese


def test_readmes_have_the_same_generated_numbers(both, site):
    for page, words in zip(both, readme.READMES.values(), strict=True):
        assert readme.replace_parts(page, readme.blocks(site.baseline[0], words)) == page
    found = [re.search(r"<!-- findings -->(.*?)<!-- /findings -->", page, re.DOTALL)[1] for page in both]
    numbers = [re.findall(r"\*{0,2}[\d.]+\*{0,2} `|\*nan\* `", one) for one in found]
    assert numbers[0] == numbers[1]
    assert len(numbers[0]) > 10


def test_chinese_readme_shows_the_example(both):
    """The four probabilities and losses that it prints are those of the case."""
    said = both[1]
    losses = [-math.log(p) for p in (0.9, 0.7, 0.6, 0.85)]
    assert "、".join(f"{loss:.5f}" for loss in losses) in said
    assert f"{sum(losses):.4f} / 4 = {sum(losses) / 4:.4f}" in said


def test_readme_page_rewrites_links():
    page = "[a](conformance/docs/pages/how-to/index.md) [b](README.zh-CN.md) [c](cases/known) [d](#x) [e](https://example.org)"
    assert readme.to_page(page, "https://h/blob/main") == (
        "[a](how-to/index.md) [b](zh.md) [c](https://h/blob/main/cases/known) [d](#x) [e](https://example.org)"
    )


def test_chinese_words_are_not_english():
    english, chinese = readme.READMES.values()
    assert len(chinese.questions) == len(english.questions) == len(readme.QUESTIONS)
    assert all(
        dataclasses.asdict(chinese)[name] != dataclasses.asdict(english)[name] for name in dataclasses.asdict(english)
    )


def test_schemas_are_json(checkout):
    for name in ("case.schema.json", known_issues.SCHEMA):
        assert json.loads((checkout / "conformance" / name).read_text(encoding="utf-8")) == schema_of(name)

"""Write the generated parts of READMEs, CONTRIBUTING and pages: `python -m conformance.docs.readme`.

`--check` compares them instead.  They are committed, so that pages can be read in the repository; a page has each
between `<!-- generated: NAME -->` and `<!-- /generated -->`.

Libraries come from the adapters' declarations; findings come from the committed baseline; the table of
packages comes from the import contract that the linter checks. Both READMEs have the same parts, each in its language.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import tomllib

from conformance import report, testing
from conformance.adapters import registry
from conformance.adapters.libraries import pinned_installations
from conformance.casefiles import known_issues, loading
from conformance.casefiles.document import schema_of
from conformance.docs import (
    commands,
    conventions,
    findings,
    markup,
    option_names,
    python_api,
    recipes,
    reports,
    schema,
)
from conformance.judging.row import SCHEMA
from conformance.judging.traits import SHAPE_TRAITS, VALUE_TRAITS
from conformance.reference import error_bound
from conformance.report.markdown import code, fenced_block, table

TEMPLATE = Path(__file__).parent / "templates" / "audit-upgrade.yml"
QUESTIONS = (
    ("the article's 4 x 3 example, printed as 0.2162", "article/index_labels/four_pictures", "mean"),
    (
        "weights 1, 2, 3 on three binary outputs, mean",
        "binary/probabilities_options/sample_weights_losses_weighted_one_two_three",
        "mean",
    ),
    ("class weights, index labels, mean", "categorical/class_weights/four_by_three", "mean"),
    ("the same, one-hot labels", "categorical/weights_rows/class_weights_one_hot_four_by_three", "mean"),
    ("p = 0 on the true class, mean", "categorical/probabilities_edge/zero_on_the_true_class", "mean"),
    ("probabilities that sum to 0.5, mean", "categorical/probabilities_unnormalised/rows_of_half", "mean"),
    (
        "a class masked by a logit of -inf, one-hot labels",
        "categorical/logits_edge_rows/one_hot_minus_infinity_elsewhere",
        "mean",
    ),
    ("[2, 3] binary outputs, sum", "binary/logits/two_by_three", "sum"),
)
"""(question, case, reduction): the rows of the table of findings, answered in float32."""
DTYPE = "float32"
FUNCTIONS = (
    "sklearn.log_loss", "keras.BinaryCrossentropy", "keras.CategoricalCrossentropy",
    "keras.SparseCategoricalCrossentropy", "torch.CrossEntropyLoss", "torch.NLLLoss", "torch.BCELoss",
    "torch.BCEWithLogitsLoss",
)  # fmt: skip
"""Functions in the table of findings; most of the others, which are in the report, return what one of these does."""


@dataclass(frozen=True)
class Words:
    """The texts of the generated parts in a language."""

    questions: tuple[str, ...]
    """Texts of `QUESTIONS`, in order."""
    findings: tuple[str, str, str]
    """Header of the table of findings."""
    libraries: tuple[str, ...]
    """Header of the table of libraries."""
    exception: str


ENGLISH = Words(
    tuple(question for question, _, _ in QUESTIONS),
    ("question", "the definition", f"what is returned ({DTYPE})"),
    ("library", "release", "functions", "agrees", "diverges", "known", "unexpected"),
    "an exception",
)
CHINESE = Words(
    (
        "文章中 4 x 3 的例子，文中给出 0.2162",
        "三个二元输出，权重 1、2、3，均值",
        "类别权重，索引标签，均值",
        "同上，one-hot 标签",
        "真实类别上 p = 0，均值",
        "总和为 0.5 的概率，均值",
        "被 -inf 的 logit 屏蔽的类别，one-hot 标签",
        "[2, 3] 的二元输出，求和",
    ),
    ("问题", "定义", f"返回值（{DTYPE}）"),
    ("库", "版本", "函数", "agrees", "diverges", "known", "unexpected"),
    "异常",
)
READMES = {"README.md": ENGLISH, "README.zh-CN.md": CHINESE}
PAGES = {"README.md": "index.md", "README.zh-CN.md": "zh.md"}
"""The site page of each README."""
_LINK = re.compile(r"(?<=\]\()(?!https?://|#)([^)\s#]+)(#[^)\s]*)?(?=\))")


def to_page(text: str, source: str) -> str:
    """Convert a README to a page of the site, with links to pages, or to files below the URL `source`."""

    def target(match: re.Match[str]) -> str:
        path = match[1].removeprefix("conformance/docs/pages/")
        path = PAGES.get(path, path if path != match[1] else f"{source}/{path}")
        return f"{path}{match[2] or ''}"

    return _LINK.sub(target, text)


def readme_findings(results: pd.DataFrame, words: Words = ENGLISH) -> str:
    """The results of functions for the same problems, from a report's rows, as a Markdown table.

    A number in bold differs from the definition's; in italics, one that neither documentation nor a conversion
    explains. These come first.
    """
    is_listed = results["function"].str.partition(":")[0].isin(FUNCTIONS)  # also called with another `reduction=`
    chosen = results[(results["dtype"] == DTYPE) & (results["quantity"] == "loss") & is_listed]
    lines = []
    for question, (_, case, reduction) in zip(words.questions, QUESTIONS, strict=True):
        rows = chosen[(chosen["case"] == case) & (chosen["reduction"] == reduction)]
        if rows.empty:
            raise LookupError(f"the report has no {DTYPE} {reduction} of {case}")
        answers: dict[str, list[str]] = {}
        for function, number, status in zip(rows["function"], rows["got"], rows["status"], strict=True):
            same = answers.setdefault(_answer(str(number), str(status), words), [])
            if code(str(function).partition(":")[0]) not in same:  # else: another way to say mean, the same number
                same.append(code(function))
        differing_first = sorted(answers.items(), key=lambda item: not item[0].startswith("*"))
        returned = "; ".join(f"{answer} {', '.join(names)}" for answer, names in differing_first)
        lines.append([question, _number(str(rows["want"].iloc[0])), returned])
    return table(words.findings, lines)


def libraries(results: pd.DataFrame, words: Words = ENGLISH) -> str:
    """The known libraries with the results of their functions, from a report's rows, as a Markdown table.

    A row that is `known` or `unexpected` counts as such, for any status.  A cell is empty if the report has no
    rows of a library.
    """
    lines = []
    for framework in registry.frameworks():
        release = next((library.version for library in pinned_installations(framework)), "")
        functions = registry.functions_in(framework, registry.NEWEST)
        rows = results[results["framework"] == framework.name]
        statuses = rows["status"].where(~rows["expected"].isin(["known", "unexpected"]), rows["expected"])
        counts = [f"{(statuses == status).sum():,}" if len(rows) else "" for status in words.libraries[3:]]
        lines.append([code(framework.name), release, str(len(functions)), *counts])
    return table(words.libraries, lines)


def packages(checkout: Path) -> str:
    """The packages in the order of the import contract, lowest first, as a Markdown table.

    checkout: path of a checkout of this repository.  The description of a package is the docstring of its
    `__init__.py`, up to a blank line.
    """
    settings = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    lines = []
    for module in (name.strip() for layer in reversed(layers) for name in layer.split("|")):
        path = checkout / module.replace(".", "/")
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        purpose = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
        name = module.removeprefix("conformance.") + ("/" if path.is_dir() else ".py")
        lines.append([f"`{name}`", " ".join(purpose.partition("\n\n")[0].split())])
    return table(("package", "what it is for"), lines)


def blocks(results: pd.DataFrame, words: Words = ENGLISH) -> dict[str, str]:
    """The generated parts of a README by name, from the rows of a report."""
    return {"libraries": libraries(results, words), "findings": readme_findings(results, words)}


def replace_parts(text: str, blocks: Mapping[str, str]) -> str:
    """Replace the generated parts of a page; raises LookupError if a mark is missing."""
    for name, block in blocks.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise LookupError(f"the page has no <!-- {name} --> ... <!-- /{name} -->")
        text = pattern.sub(lambda match, block=block: f"{match[1]}{block}\n{match[2]}", text)  # type: ignore[misc]
    return text


def _answer(answer: str, status: str, words: Words) -> str:
    shown = _number(answer) if answer else words.exception
    return {"agrees": shown, "diverges": f"**{shown}**"}.get(status, f"*{shown}*")


def _number(text: str) -> str:
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


# Parts of pages.


@dataclass(frozen=True)
class Checkout:
    """The documented repository."""

    folder: Path
    """Root folder of the repository."""

    @functools.cached_property
    def address(self) -> str:
        """URL of the repository."""
        settings = tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))
        return str(settings["project"]["urls"]["Source"])

    @property
    def source(self) -> str:
        """URL prefix of the repository's files."""
        return f"{self.address}/blob/main"

    @functools.cached_property
    def baseline(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Rows and run metadata of the committed report."""
        return report.read(self.folder / "reports" / "baseline")

    @functools.cached_property
    def ledger(self) -> tuple[known_issues.KnownIssue, ...]:
        """Every entry of the ledger."""
        return known_issues.load(self.folder / "cases").entries

    @functools.cached_property
    def findings(self) -> findings.Findings:
        """The ledger, ranked."""
        results, run = self.baseline
        cases = loading.load(self.folder / "cases")
        return findings.Findings(self.ledger, run["versions"], self.source, cases, results)

    @functools.cached_property
    def histories(self) -> dict[str, reports.LibraryHistory]:
        """The committed history of each library."""
        return {
            file.parent.name: reports.LibraryHistory(
                pd.read_csv(file, dtype=str, keep_default_na=False), file.with_suffix(".md").read_text(encoding="utf-8")
            )
            for file in sorted((self.folder / "reports" / "history").glob("*/history.csv"))
        }

    def readme(self, name: str) -> str:
        """A README as a page."""
        return to_page((self.folder / name).read_text(encoding="utf-8"), self.source)

    def parts(self) -> dict[str, Callable[[], str]]:
        """The renderer of each generated part, by name."""
        sweeps = self.folder / "reports" / "accuracy"
        return {
            **{
                f"convention {name}": functools.partial(conventions.choice_section, name) for name in conventions.FIELDS
            },
            "readme": lambda: self.readme("README.md"),
            "readme in chinese": lambda: self.readme("README.zh-CN.md"),
            "functions": _functions,
            "error bound": lambda: markup.paragraphs(error_bound.__doc__ or ""),
            "input anomalies": conventions.anomalies_table,
            "option names": option_names.option_tables,
            "recipes": recipes.recipe_tables,
            "earlier releases": option_names.earlier_releases,
            "undescribed parameters": option_names.undescribed_parameters,
            "findings": self.findings.overview,
            **{f"findings {name}": functools.partial(self.findings.page, name) for name in self.findings.libraries},
            "releases": lambda: reports.releases_overview(self.histories),
            **{
                f"releases {name}": functools.partial(reports.releases, history)
                for name, history in self.histories.items()
            },
            "accuracy": lambda: reports.case_table(self.baseline[0]),
            "sweep": lambda: reports.sweep_table((sweeps / "sweep.md").read_text(encoding="utf-8")),
            "every float32": lambda: reports.summary((sweeps / "float32" / "sweep.md").read_text(encoding="utf-8")),
            "case schema": lambda: schema.reference(schema_of("case.schema.json"), "case"),
            "traits": _traits,
            "ledger schema": lambda: schema.reference(schema_of(known_issues.SCHEMA), "ledger"),
            "report columns": _report_columns,
            "commands": commands.reference,
            **{f"api {name}": functools.partial(python_api.function_section, name) for name in python_api.functions()},
            **{
                f"testing {name}": functools.partial(python_api.function_section, name, testing)
                for name in testing.__all__
            },
            "api values": python_api.value_sections,
            "template audit upgrade": lambda: fenced_block(TEMPLATE.read_text(encoding="utf-8"), "yaml"),
        }

    def fill_page(self, page: str) -> str:
        """A page with its generated parts replaced, between their marks. Raises LookupError for an unknown part."""
        return self._with_parts(
            page, lambda name, part: f"<!-- generated: {name} -->\n\n{part.strip()}\n\n<!-- /generated -->\n"
        )

    def site_page(self, page: str) -> str:
        """A page for the site, with its generated parts replaced. Raises LookupError for an unknown part."""
        return markup.to_site(self._with_parts(page, lambda _, part: part))

    def _with_parts(self, page: str, insert: Callable[[str, str], str]) -> str:
        """Replace the generated parts of a page.  insert: returns the text for the name and the content of a part."""
        parts = self.parts()

        def render(match: re.Match[str]) -> str:
            if match["name"] not in parts:
                raise LookupError(f"there is no generated part called {match['name']!r}")
            return insert(match["name"], parts[match["name"]]())

        return markup.GENERATED.sub(render, page)


def _functions() -> str:
    """A section for each library: its environments, and the capabilities of its functions."""
    sections = []
    for framework in registry.frameworks():
        libraries = list(pinned_installations(framework))
        environments = ", ".join(markup.code_html(library.environment) for library in libraries)
        devices = dict.fromkeys(name for library in libraries for name in framework.devices_in(library.backend))
        environments += f"; on {', '.join(devices)}" if len(devices) > 1 else ""
        rows = map(report.function_cells, registry.functions_in(framework, registry.NEWEST))
        supported = markup.table(report.FUNCTION_COLUMNS, [[markup.code_html(name), *cells] for name, *cells in rows])
        sections.append(f"{markup.anchor_line(framework.name)}\n## {framework.name}\n\n{environments}\n\n{supported}")
    return "\n\n".join(sections)


def _traits() -> str:
    """Traits other than options, layouts, capabilities or input anomalies, with their meaning."""
    lines = [[markup.code_html(name), markup.escaped(text)] for name, text in (SHAPE_TRAITS | VALUE_TRAITS).items()]
    return markup.table(("trait", "what a problem with it has"), lines)


def _report_columns() -> str:
    """The columns of a report: name, type, meaning, and the default for reports without the column."""
    lines = []
    for column in SCHEMA:
        kind = "number" if column.number else "text"
        default = markup.code_html(column.default) if column.default else "" if column.default is None else "empty"
        lines.append([markup.code_html(column.name), kind, column.meaning.replace("|", "\\|"), default])
    return markup.table(("column", "type", "meaning", "default for reports without it"), lines)


if __name__ == "__main__":
    baseline = report.read(Path("reports/baseline"))[0]
    parts = {name: blocks(baseline, words) for name, words in READMES.items()}
    parts["CONTRIBUTING.md"] = {"packages": packages(Path())}
    written: dict[Path, Callable[[str], str]] = {
        Path(name): functools.partial(replace_parts, blocks=function) for name, function in parts.items()
    }
    written |= dict.fromkeys(sorted(Path("conformance/docs/pages").rglob("*.md")), Checkout(Path()).fill_page)
    for page, render in written.items():
        old = page.read_text(encoding="utf-8")
        new = render(old)
        if "--check" not in sys.argv[1:]:
            page.write_text(new, encoding="utf-8")
        elif new != old:
            sys.exit(f"{page} is not what is generated: run python -m conformance.docs.readme")

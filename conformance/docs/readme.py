"""Generated parts of READMEs, CONTRIBUTING and pages: `python -m conformance.docs.readme` writes them.

`--check` checks them.

Libraries come from the adapters' own data; what the suite finds comes from the committed baseline; the table of
packages comes from the contract that the linter checks. Both READMEs have the same parts, each in its language.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import tomllib

from conformance.adapters import registry
from conformance.adapters.libraries import pinned
from conformance.report import read
from conformance.report.markdown import code, table

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
SHOWN = ("sklearn", "keras", "torch")
"""Libraries in the table of findings."""


@dataclass(frozen=True)
class Words:
    """The texts of the generated parts in a language."""

    questions: tuple[str, ...]
    """In the order of `QUESTIONS`."""
    findings: tuple[str, str, str]
    """Header of the table of findings."""
    libraries: tuple[str, ...]
    """Header of the table of libraries."""
    exception: str


ENGLISH = Words(
    tuple(question for question, _, _ in QUESTIONS),
    ("question", "the definition", f"what is returned ({DTYPE})"),
    ("library", "release", "functions", "agrees", "diverges", "known", "disagrees"),
    "an exception",
)
CHINESE = Words(
    (
        "原文的 4 x 3 例子，印作 0.2162",
        "三个二元输出，权重 1、2、3，均值",
        "类别权重，索引标签，均值",
        "同上，one-hot 标签",
        "真实类别上 p = 0，均值",
        "总和为 0.5 的概率，均值",
        "被 -inf 的 logit 屏蔽的类别，one-hot 标签",
        "[2, 3] 的二元输出，求和",
    ),
    ("问题", "定义", f"返回值（{DTYPE}）"),
    ("库", "版本", "函数", "agrees", "diverges", "known", "disagrees"),
    "异常",
)
READMES = {"README.md": ENGLISH, "README.zh-CN.md": CHINESE}
PAGES = {"README.md": "index.md", "README.zh-CN.md": "zh.md"}
"""The page of the site for each README."""
_LINK = re.compile(r"(?<=\]\()(?!https?://|#)([^)\s#]+)(#[^)\s]*)?(?=\))")


def to_page(text: str, source: str) -> str:
    """A README as a page of the site, with links to pages, or to files below the URL `source`."""

    def target(found: re.Match[str]) -> str:
        path = found[1].removeprefix("conformance/docs/pages/")
        path = PAGES.get(path, path if path != found[1] else f"{source}/{path}")
        return f"{path}{found[2] or ''}"

    return _LINK.sub(target, text)


def findings(results: pd.DataFrame, words: Words = ENGLISH) -> str:
    """What functions return for the same problem, from a report's rows, as a Markdown table.

    A number in bold is not the definition's; in italics, one that neither documentation nor a conversion explains.
    """
    chosen = results[(results["dtype"] == DTYPE) & (results["quantity"] == "loss") & results["framework"].isin(SHOWN)]
    lines = []
    for question, (_, case, reduction) in zip(words.questions, QUESTIONS, strict=True):
        rows = chosen[(chosen["case"] == case) & (chosen["reduction"] == reduction)]
        if rows.empty:
            raise LookupError(f"the report has no {DTYPE} {reduction} of {case}")
        answers: dict[str, list[str]] = {}
        for function, got, status in zip(rows["function"], rows["got"], rows["status"], strict=True):
            same = answers.setdefault(_answer(str(got), str(status), words), [])
            if code(str(function).partition(":")[0]) not in same:  # else: another way to say mean, the same number
                same.append(code(function))
        returned = "; ".join(f"{answer} {', '.join(who)}" for answer, who in answers.items())
        lines.append([question, _number(str(rows["want"].iloc[0])), returned])
    return table(words.findings, lines)


def libraries(results: pd.DataFrame, words: Words = ENGLISH) -> str:
    """The known libraries with what came out of their functions, from a report's rows, as a Markdown table.

    A row that the ledger knows counts as `known`, whatever its status.  A cell is empty if the report has no rows of
    a library.
    """
    lines = []
    for framework in registry.frameworks():
        release = next((one.version for one in pinned(framework)), "")
        functions = registry.functions_in(framework, registry.NEWEST)
        rows = results[results["framework"] == framework.name]
        statuses = rows["status"].where(rows["expected"] != "known", "known")
        counts = [f"{(statuses == status).sum():,}" if len(rows) else "" for status in words.libraries[3:]]
        lines.append([code(framework.name), release, str(len(functions)), *counts])
    return table(words.libraries, lines)


def packages(checkout: Path) -> str:
    """The packages in the order of the contract for imports, lowest first, as a Markdown table.

    checkout: of this repository.  What a package is for is the docstring of its `__init__.py`, up to a blank line.
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
    return {"libraries": libraries(results, words), "findings": findings(results, words)}


def rendered(text: str, blocks: Mapping[str, str]) -> str:
    """A page with its generated parts made anew; raises LookupError if it has no place for one of them."""
    for name, block in blocks.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise LookupError(f"the page has no <!-- {name} --> ... <!-- /{name} -->")
        text = pattern.sub(lambda found, block=block: f"{found[1]}{block}\n{found[2]}", text)  # type: ignore[misc]
    return text


def _answer(got: str, status: str, words: Words) -> str:
    shown = _number(got) if got else words.exception
    return {"agrees": shown, "diverges": f"**{shown}**"}.get(status, f"*{shown}*")


def _number(text: str) -> str:
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


if __name__ == "__main__":
    from conformance.docs.generated_parts import Checkout

    baseline = read(Path("reports/baseline"))[0]
    parts = {name: blocks(baseline, words) for name, words in READMES.items()}
    parts["CONTRIBUTING.md"] = {"packages": packages(Path())}
    written: dict[Path, Callable[[str], str]] = {
        Path(name): functools.partial(rendered, blocks=made) for name, made in parts.items()
    }
    written |= dict.fromkeys(sorted(Path("conformance/docs/pages").rglob("*.md")), Checkout(Path()).fill_page)
    for page, render in written.items():
        old = page.read_text(encoding="utf-8")
        new = render(old)
        if "--check" not in sys.argv[1:]:
            page.write_text(new, encoding="utf-8")
        elif new != old:
            sys.exit(f"{page} is not what is generated: run python -m conformance.docs.readme")

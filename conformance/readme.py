"""The parts of the README that are generated: `python -m conformance.readme` writes them, `--check` checks them.

What supports what comes from the adapters' own data; what the suite finds comes from the committed baseline.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pandas as pd

from conformance import registry
from conformance.report import markdown_table, read
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


def findings(results: pd.DataFrame) -> str:
    """What functions return for the same problem, from a report's rows, as a Markdown table.

    A number in bold is not the definition's; a number in italics is one that nothing documents.
    """
    chosen = results[(results["dtype"] == DTYPE) & (results["quantity"] == "loss")]
    lines = []
    for question, case, reduction in QUESTIONS:
        rows = chosen[(chosen["case"] == case) & (chosen["reduction"] == reduction)]
        if rows.empty:
            raise LookupError(f"the report has no {DTYPE} {reduction} of {case}")
        answers: dict[str, list[str]] = {}
        for function, got, status in zip(rows["function"], rows["got"], rows["status"], strict=True):
            same = answers.setdefault(_answer(str(got), str(status)), [])
            if code(str(function).partition(":")[0]) not in same:  # else: another way to say mean, the same number
                same.append(code(function))
        said = "; ".join(f"{answer} {', '.join(who)}" for answer, who in answers.items())
        lines.append([question, _number(str(rows["want"].iloc[0])), said])
    return table(("question", "the definition", "what is returned (float32)"), lines)


def rendered(text: str, results: pd.DataFrame) -> str:
    """A README with its generated parts made anew."""
    blocks = {"functions": markdown_table(registry.functions()), "findings": findings(results)}
    for name, block in blocks.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise LookupError(f"the README has no <!-- {name} --> ... <!-- /{name} -->")
        text = pattern.sub(lambda found, block=block: f"{found[1]}{block}\n{found[2]}", text)  # type: ignore[misc]
    return text


def _answer(got: str, status: str) -> str:
    shown = _number(got) if got else "an exception"
    return {"agrees": shown, "diverges": f"**{shown}**"}.get(status, f"*{shown}*")


def _number(text: str) -> str:
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


if __name__ == "__main__":
    readme = Path("README.md")
    old = readme.read_text(encoding="utf-8")
    new = rendered(old, read(Path("reports/baseline"))[0])
    if "--check" in sys.argv[1:]:
        sys.exit(None if new == old else f"{readme} is not what is generated: run python -m conformance.readme")
    readme.write_text(new, encoding="utf-8")

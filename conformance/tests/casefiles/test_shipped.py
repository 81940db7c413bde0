"""What ships: the corpus, the ledger, and the generated parts of the README."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pandas as pd
import pytest

from conformance.adapters import registry
from conformance.adapters.registry import NEWEST, Installed
from conformance.casefiles import known_issues
from conformance.casefiles.loading import expectation_errors, shipped_cases
from conformance.docs import readme
from conformance.judging.case_set import load_case_set
from conformance.judging.coverage import coverage
from conformance.judging.plan import documented_convention, plan
from conformance.judging.published import published
from conformance.judging.selection import compile_expression, substring_of
from conformance.model.row_key import CPU
from conformance.tests.stated import shipped

CASES = shipped()
ENTRIES, WRONG = known_issues.read(shipped_cases())


def test_at_least_120_cases_are_shipped_with_why() -> None:
    assert len(CASES) >= 120
    assert all(len(case.why) > 20 for case in CASES)


def test_cases_cover_each_pair_of_capabilities_of_a_function() -> None:
    assert coverage(CASES, registry.functions()).lacking == []


def test_stated_digits_agree_with_oracle() -> None:
    stated = [case for case in CASES if type(case.expect).__name__ == "Digits"]
    assert len(stated) >= 40
    assert [error for case in stated for error in expectation_errors(case)] == []


def test_wrong_published_number_of_article_is_explained() -> None:
    verdicts = {number.published.value: number.holds for case in CASES for number in published(case)}
    assert verdicts["0.2162"] is False
    assert verdicts["0.21616"] is True


def test_shipped_ledger_entries_name_case_and_function() -> None:
    assert WRONG == []
    assert ENTRIES
    load_case_set()


def test_shipped_ledger_entries_have_symptoms() -> None:
    assert [str(entry) for entry in ENTRIES if entry.status == "disagrees" and not entry.symptoms] == []


@pytest.mark.parametrize("backend", ["jax", "torch", "numpy"])
def test_slice_of_a_backend_has_each_known_issue_and_each_kind_of_call(checkout: Path, backend: str) -> None:
    """CI runs the slice of the environment `backends`; what it leaves out must be like something that it has."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(checkout / "tox.ini", encoding="utf-8")
    chosen = compile_expression(settings["testenv:backends"]["slice"].replace("\\\n", " "))
    (keras,) = (framework for framework in registry.frameworks() if framework.name == "keras")
    items = plan(CASES, [Installed(keras, NEWEST, backend=backend)])
    among = [item for item in items if chosen(substring_of(item.id))]
    assert 0 < len(among) < len(items) / 2
    ledger = known_issues.Ledger(ENTRIES)
    matched, all_matched = ({id(ledger.find(item.key)) for item in of} for of in (among, items))
    assert matched == all_matched
    calls, all_calls = ({(i.function.name, i.dtype, i.reduction, i.quantity) for i in of} for of in (among, items))
    assert calls == all_calls
    conventions, all_conventions = (
        {documented_convention(i, i.case.representative.problem(i.dtype, i.reduction)) for i in of}
        for of in (among, items)
    )
    assert conventions == all_conventions


def test_each_mode_of_a_processor_is_run_by_the_environment_modes(checkout: Path) -> None:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(checkout / "tox.ini", encoding="utf-8")
    modes = [one for framework in registry.frameworks() for one in framework.modes.items()]
    of_processor = {name for name, mode in modes if mode.devices is None or CPU in mode.devices}
    assert set(re.findall(r"--mode (\w+)", settings["testenv:modes"]["commands"])) == of_processor


def test_readme_findings_show_answers_of_report() -> None:
    rows = [
        {
            "case": case,
            "reduction": reduction,
            "quantity": "loss",
            "dtype": "float32",
            "want": "0.5",
            "framework": "torch",
            "expected": "ok",
            **row,
        }
        for _, case, reduction in readme.QUESTIONS
        for row in (
            {"function": "torch.NLLLoss", "got": "0.5", "status": "agrees"},
            {"function": "torch.BCELoss", "got": "0.25", "status": "diverges"},
            {"function": "torch.CrossEntropyLoss", "got": "nan", "status": "disagrees", "expected": "unexpected"},
            {"function": "sklearn.log_loss", "got": "", "status": "diverges"},
        )
    ]
    text = "<!-- findings -->\nold\n<!-- /findings -->\n<!-- libraries -->\n<!-- /libraries -->\n"
    new = readme.replace_parts(text, readme.blocks(pd.DataFrame(rows)))
    differing = "**0.25** `torch.BCELoss`; *nan* `torch.CrossEntropyLoss`; **an exception** `sklearn.log_loss`"
    assert f"| {differing}; 0.5 `torch.NLLLoss` |" in new
    assert "old" not in new
    asked = len(readme.QUESTIONS)
    for framework in registry.frameworks():
        (line,) = (line for line in new.splitlines() if line.startswith(f"| `{framework.name}` |"))
        functions = len(registry.functions_in(framework, registry.NEWEST))
        counts = [asked, 2 * asked, 0, asked] if framework.name == "torch" else [""] * 4
        assert [cell.strip() for cell in line.split("|")[3:-1]] == [str(cell) for cell in (functions, *counts)]


def test_replace_parts_rejects_page_without_marker() -> None:
    with pytest.raises(LookupError, match="packages"):
        readme.replace_parts("", {"packages": "| a |"})


def test_packages_are_listed_lowest_first_with_their_purpose(tmp_path: Path) -> None:
    layers = 'layers = ["conformance.high", "conformance.left | conformance.right", "conformance.low"]'
    (tmp_path / "pyproject.toml").write_text(f'[[tool.importlinter.contracts]]\ntype = "layers"\n{layers}\n')
    for name in ("high", "left", "low"):
        (tmp_path / "conformance" / name).mkdir(parents=True)
        (tmp_path / "conformance" / name / "__init__.py").write_text(f'"""Purpose of {name}.\n\nDetails."""\n')
    (tmp_path / "conformance" / "right.py").write_text('"""Purpose of right."""\n')
    table = readme.packages(tmp_path).splitlines()[2:]
    assert [line.split("|")[1].strip() for line in table] == ["`low/`", "`left/`", "`right.py`", "`high/`"]
    assert "Details" not in "".join(table)
    assert [line.split("|")[2].strip() for line in table][2] == "Purpose of right."

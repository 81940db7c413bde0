"""What ships: the corpus, the ledger, and the generated parts of the README."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from packaging.requirements import Requirement

from conformance.adapters import registry
from conformance.adapters.contract import Framework
from conformance.casefiles import known_issues
from conformance.casefiles.loading import expectation_errors, load, shipped_cases
from conformance.docs import readme
from conformance.judging.case_set import load_suite
from conformance.judging.coverage import coverage
from conformance.judging.published import published

CASES = load(shipped_cases())
ENTRIES, WRONG = known_issues.read(shipped_cases())
HERE = {installed.framework.name: installed for installed in registry.installed()[0]}


def test_it_has_at_least_a_hundred_and_twenty_cases_that_say_why() -> None:
    assert len(CASES) >= 120
    assert all(len(case.why) > 20 for case in CASES)


def test_cases_cover_each_pair_of_capabilities_of_a_function() -> None:
    assert coverage(CASES, registry.functions()).lacking == []


def test_it_agrees_with_digits_from_an_independent_derivation() -> None:
    stated = [case for case in CASES if type(case.expect).__name__ == "Digits"]
    assert len(stated) >= 40
    assert [error for case in stated for error in expectation_errors(case)] == []


def test_it_says_that_the_number_the_article_prints_does_not_hold() -> None:
    verdicts = {number.published.value: number.holds for case in CASES for number in published(case)}
    assert verdicts["0.2162"] is False
    assert verdicts["0.21616"] is True


def test_it_ships_a_ledger_in_which_every_entry_names_a_case_and_a_function() -> None:
    assert WRONG == []
    assert ENTRIES
    load_suite()


def test_it_ships_a_ledger_that_says_in_which_way_each_row_is_wrong() -> None:
    assert [str(entry) for entry in ENTRIES if not entry.symptoms] == []


@pytest.mark.parametrize("entry", {(entry.path, entry.line): entry for entry in ENTRIES}.values(), ids=str)
def test_it_shows_each_known_discrepancy_with_its_reproducer(entry: known_issues.KnownIssue) -> None:
    name = entry.function.partition(".")[0]
    there = HERE.get(name)
    if there is None or not registry.within(there.version, entry.versions):
        pytest.skip(f"{name} {entry.versions} is not installed")
    if entry.variants and there.backend not in entry.variants:
        said = elsewhere(there.framework, entry)
    else:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(entry.reproducer, str(entry), "exec"), {})
        said = printed.getvalue()
    assert said.strip() == entry.shows


def elsewhere(framework: Framework, entry: known_issues.KnownIssue) -> str:
    """What a reproducer prints that chooses another variant than runs here: one process has one."""
    for needed in map(Requirement, framework.backends[entry.variants[0]].requirements):
        if needed.marker is not None and not needed.marker.evaluate():
            continue
        try:
            importlib.metadata.version(needed.name)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{framework.name} runs on {entry.variants[0]} where {needed.name} is installed")
    return subprocess.run([sys.executable, "-c", entry.reproducer], capture_output=True, text=True, check=True).stdout


def test_it_writes_the_answers_of_a_report_into_the_readme() -> None:
    rows = [
        {"case": case, "reduction": reduction, "quantity": "loss", "dtype": "float32", "want": "0.5", **row}
        for _, case, reduction in readme.QUESTIONS
        for row in (
            {"function": "a.Loss", "got": "0.5", "status": "agrees"},
            {"function": "b.Loss", "got": "0.25", "status": "diverges"},
            {"function": "c.Loss", "got": "nan", "status": "disagrees"},
            {"function": "d.Loss", "got": "", "status": "diverges"},
        )
    ]
    text = "<!-- findings -->\nold\n<!-- /findings -->\n<!-- functions -->\n<!-- /functions -->\n"
    new = readme.rendered(text, readme.blocks(pd.DataFrame(rows)))
    assert "0.5 `a.Loss`; **0.25** `b.Loss`; *nan* `c.Loss`; **an exception** `d.Loss`" in new
    assert "old" not in new
    assert all(function.name in new for function in registry.functions())


def test_rendered_refuses_a_page_without_the_marker() -> None:
    with pytest.raises(LookupError, match="packages"):
        readme.rendered("", {"packages": "| a |"})


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

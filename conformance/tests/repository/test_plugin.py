"""pytest runs of other people's folders: what is collected, what passes, what is said, and what is written."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import conformance
from conformance.tests.fork_server import interpreter
from conformance.tests.libraries import write_metadata

pytest_plugins = ["pytester"]

CASES = """\
# yaml-language-server: $schema=../../conformance/case.schema.json
about: Two rows of three classes.
source: none
loss: categorical
given: logits
target: index
dtypes: [float32]
cases:
  plain:
    why: Nothing is asked.
    predictions: [[0.5, -1.5, 0.25], [2.0, 0.25, -1.0]]
    labels: [1, 0]
  smoothed:
    why: Smoothing is asked.
    predictions: [[0.5, -1.5, 0.25], [2.0, 0.25, -1.0]]
    labels: [1, 0]
    options: {label_smoothing: 0.5}
    reduction: [none, mean]
"""
FRAMEWORKS = """
from conformance.adapters import registry
from conformance.tests import miniatures

FRAMEWORK = miniatures.framework({losses})
registry.frameworks = lambda: (FRAMEWORK,)
"""
INTERRUPTS = """
import signal

signal.signal(signal.SIGINT, signal.default_int_handler)  # it may have been inherited as ignored


class Interrupts(miniatures.Categorical):
    def check(self, x, y):
        if self.smoothing:
            signal.raise_signal(signal.SIGINT)
        super().check(x, y)


import conformance.tests.miniatures
miniatures.Interrupts = Interrupts
Interrupts.__module__ = miniatures.__name__
"""


class Folder:
    """Somebody's folder with cases, and fake frameworks in place of the real ones."""

    def __init__(self, pytester: pytest.Pytester, cases: str = CASES) -> None:
        self.pytester = pytester
        self.file = pytester.path / "mine" / "categorical" / "x.yaml"
        self.file.parent.mkdir(parents=True)
        self.file.write_text(cases, encoding="utf-8")

    def run(
        self, *arguments: str, losses: str = "Categorical", more: str = "", cases: bool = True, fresh: bool = False
    ) -> Any:
        """Run pytest.  fresh: in a process that has imported nothing yet."""
        names = ", ".join(f"miniatures.{name}" for name in losses.split())
        source = FRAMEWORKS.format(losses=names)
        head, _, tail = source.partition("FRAMEWORK = ")
        self.pytester.makepyfile(fakes=f"{head}{more}\nFRAMEWORK = {tail}")
        folder = ["--cases", "mine"] if cases else []
        words = ("-p", "fakes", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *folder, *arguments)
        if fresh:
            return self.pytester.runpytest_subprocess(*words)
        return interpreter().run_pytest(self.pytester.path, *words)

    def ids(self, *arguments: str, **said: Any) -> list[str]:
        """The ids that are collected."""
        found = self.run("--collect-only", "-q", *arguments, **said)
        return re.findall(r"::test_conformance\[(.*)\]$", found.stdout.str(), re.MULTILINE)


@pytest.fixture
def folder(pytester, monkeypatch):
    monkeypatch.setenv("CONFORMANCE_CACHE", str(pytester.path / "cache"))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    return Folder(pytester)


# What is collected


def test_plugin_runs_cases_of_folder_without_tests(folder):
    result = folder.run(fresh=True)
    result.assert_outcomes(passed=3)
    assert result.ret == 0


def test_ids_have_function_case_dtype_and_reduction(folder):
    assert folder.ids() == [
        "miniature.Categorical-categorical/x/plain-float32-mean",
        "miniature.Categorical-categorical/x/smoothed-float32-none",
        "miniature.Categorical-categorical/x/smoothed-float32-mean",
    ]


def test_cases_option_takes_one_file(folder):
    result = folder.run("--cases", "mine/categorical/x.yaml", cases=False)
    result.assert_outcomes(passed=3)


def test_cases_folder_is_read_from_ini_file(folder):
    folder.pytester.makeini("[pytest]\nconformance_cases = mine\n")
    folder.run(cases=False).assert_outcomes(passed=3)
    inner = folder.pytester.mkdir("inner")
    folder.run("--rootdir", str(folder.pytester.path), str(inner), cases=False).assert_outcomes(passed=3)


def test_plugin_runs_cases_beside_tests(folder):
    folder.pytester.makepyfile(test_own="def test_own(): pass")
    folder.run().assert_outcomes(passed=4)
    folder.run("test_own.py").assert_outcomes(passed=4)


def test_plugin_loads_by_name_without_autoload(folder, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    folder.run("-p", "conformance", fresh=True).assert_outcomes(passed=3)


def test_plugin_is_inactive_without_cases(folder):
    folder.pytester.makepyfile(test_own="def test_own(): pass")
    result = folder.run(cases=False, fresh=True)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("conformance:*")
    result.stdout.no_fnmatch_line("*= cross-entropy conformance =*")


# Two packages of one name: one is installed, the other lies in a clone.


def installed_copy(folder: Path) -> Path:
    """A copy of the package, as a wheel would install it."""
    package = Path(conformance.__file__).parent
    ignored = shutil.ignore_patterns("pages", "test_[a-z]*.py")  # with what is compiled: it stays valid
    copy = Path(shutil.copytree(package, folder / "conformance", ignore=ignored))
    for name in ("test_conformance.py", "test_relations.py", "tests/judging/test_selection.py"):
        shutil.copy(package / name, copy / name)
    return copy


@pytest.fixture
def clone(folder, monkeypatch):
    """A clone in which pytest runs while another copy of the package is the installed one; returns what runs it."""
    root = folder.pytester.path
    checkout, installed = installed_copy(root), installed_copy(root / "site")
    (checkout / "tests" / "test_new.py").write_text("def test_new(): pass", encoding="utf-8")
    folder.pytester.makepyprojecttoml("""
        [tool.pytest.ini_options]
        testpaths = ["conformance/test_conformance.py", "conformance/test_relations.py"]
        addopts = ["--strict-markers", "--strict-config"]
        filterwarnings = ["error::pytest.PytestUnknownMarkWarning"]
        conformance_cases = "mine"
    """)
    folder.pytester.makepyfile(fakes=FRAMEWORKS.format(losses="miniatures.Categorical"))
    monkeypatch.setenv("PYTHONPATH", f"{installed.parent}{os.pathsep}{root}/fake")
    (root / "fake").mkdir()
    (root / "fakes.py").rename(root / "fake" / "fakes.py")
    options = ("-p", "fakes", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")

    def run(*arguments: str, script: bool = True) -> Any:
        """script: without the current folder on the path, as the command `pytest` has it."""
        command = [sys.executable, *(["-P"] if script else []), "-m", "pytest", *options, *arguments]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    return run


INSTALLED = re.compile("^conformance: the package in .*site is tested; that in .* is not; `python -m pytest`", re.M)


@pytest.mark.parametrize(
    "arguments",
    [
        "-k miniature",
        "-m miniature",
        "-m miniature -n 2",
        "conformance -m miniature",
        ". -m miniature",
        "--pyargs conformance -m miniature",
        "--pyargs conformance.test_conformance conformance.test_relations",
        "conformance/test_conformance.py conformance/test_relations.py",
        "mine/.. -k 'plain or smoothed'",
    ],
)
def test_installed_package_is_tested_in_a_clone(clone, folder, arguments):
    result = clone(*shlex.split(arguments), "--report", "report")
    assert result.returncode == 0, result.stdout
    assert len(INSTALLED.findall(result.stdout)) == 2
    assert len(written(folder, "report")[0]) == 3


def test_package_by_name_has_own_tests_only_if_named(pytester):
    def collected(*arguments):
        result = pytester.runpytest_subprocess("--collect-only", "-q", "-p", "no:cacheprovider", "--pyargs", *arguments)
        assert result.ret == 0, result.stdout.str()
        return result.stdout.str()

    found = collected("conformance", "-k", "sklearn and article and float32")
    assert "sklearn.log_loss-" in found
    assert "conformance/tests" not in found
    assert "test_selection.py" in collected("conformance.tests", "-k", "test_selection")


def test_installed_package_is_tested_in_a_folder_of_a_clone(clone, folder, monkeypatch):
    monkeypatch.chdir(folder.pytester.path / "conformance" / "tests" / "judging")
    result = clone("test_selection.py")
    assert result.returncode == 0, result.stdout
    monkeypatch.chdir(folder.pytester.path / "conformance")
    result = clone("-m", "miniature")
    assert result.returncode == 0, result.stdout
    assert INSTALLED.search(result.stdout)


def test_package_of_the_clone_is_tested_from_its_root_by_python(clone):
    result = clone("-m", "miniature", script=False)
    assert result.returncode == 0
    assert not INSTALLED.search(result.stdout)
    assert clone("conformance/tests/test_new.py", script=False).returncode == 0


def test_file_that_only_the_clone_has_is_rejected(clone):
    result = clone("conformance/tests/test_new.py::test_new")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "test_new.py::test_new: the installed package" in result.stderr
    assert "`python -m pytest`" in result.stderr


def test_repository_is_tested_from_its_root(checkout, monkeypatch):
    """As `tox run -e tests` runs it, the installed package is that of a wheel and the repository a clone."""
    pytest.importorskip("sklearn")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    selection = ("-m", "sklearn", "-k", "article")
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *selection]
    result = subprocess.run(command, cwd=checkout, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"[1-9]\d* passed", result.stdout)
    package = Path(conformance.__file__).parent
    assert (f"the package in {package.parent} is tested" in result.stdout) == (package.parent != checkout)


# Markers


def test_markers_are_listed_where_frameworks_are_known(folder):
    result = folder.run("--markers", cases=False)
    result.stdout.fnmatch_lines(["@pytest.mark.miniature: functions of miniature"])


@pytest.mark.parametrize("options", ["", "-n 2", "--strict-markers"])
def test_marker_that_does_not_exist_is_rejected(folder, options):
    result = folder.run("-m", "minature", *options.split())
    assert result.ret == (pytest.ExitCode.NO_TESTS_COLLECTED if options == "-n 2" else pytest.ExitCode.USAGE_ERROR)
    folder.pytester.path.joinpath("mine").rename("cases")
    arguments = ("--pyargs", "conformance.test_conformance", "--cases", "cases", "-m", "minature or not x")
    result = folder.run(*arguments, *options.split(), cases=False)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: -m minature or not x: there is no marker minature, x; frameworks: miniature"])


def test_marker_of_other_tests_is_not_rejected(folder):
    folder.pytester.makepyfile(test_own="import pytest\n@pytest.mark.slow\ndef test_own(): pass")
    folder.run("-m", "slow or miniature").assert_outcomes(passed=4, warnings=1)
    folder.run("-m", "slow").assert_outcomes(passed=1, warnings=1, deselected=1)
    folder.run("-m", "slow and not wrong(x=1)").assert_outcomes(passed=1, warnings=1, deselected=3)


def test_function_is_deselected_even_if_no_function_supports_the_first_case(folder):
    first = CASES.replace("loss: categorical", "loss: binary").replace("target: index", "target: binary")
    folder.file.with_name("a.yaml").write_text(
        first.partition("  smoothed:")[0].replace("[1, 0]", "[[1, 0, 1], [0, 1, 0]]")
    )
    folder.run("-m", "not miniature").assert_outcomes(deselected=1)


@pytest.mark.parametrize(
    ("keyword", "count"),
    [
        ("MINIATURE and smoothed", 4),
        ("not DropsSmoothing", 3),
        ("DropsSmoothing and (plain or none)", 2),
        ("categorical/x/plain", 2),
        ("torch", 0),
    ],
)
def test_keyword_selects_by_words_of_id(folder, keyword, count):
    assert len(folder.ids("-k", keyword, losses="Categorical DropsSmoothing")) == count


def test_keyword_ignores_name_of_folder(folder, monkeypatch):
    above = folder.pytester.mkdir("test_smoothed")
    folder.file.parents[1].rename(above / "mine")
    monkeypatch.chdir(above)
    monkeypatch.setenv("PYTHONPATH", str(folder.pytester.path))
    for word, count in (("smoothed", 2), ("not smoothed", 1)):
        assert len(folder.ids("-k", word)) == count, word


def test_keyword_ignores_name_of_checkout(folder):
    checkout = Path(conformance.__file__).parents[1]
    ids = folder.ids()
    seen = [f"conformance test_conformance.py test_conformance[{name}] miniature" for name in ids]
    expected = [name for name, text in zip(ids, seen, strict=True) if checkout.name.lower() not in text.lower()]
    assert folder.ids("--rootdir", str(checkout), "-k", f"not {checkout.name}") == expected


def test_terminal_summary_is_the_same_without_report(folder):
    losses = "Categorical DividesBySamples"
    said = []
    for options in ((), ("--report", "r")):
        lines = folder.run("-v", *options, losses=losses).stdout.lines
        begin = next(number for number, line in enumerate(lines) if line.startswith("largest error / budget"))
        end = next(number for number, line in enumerate(lines) if line.startswith("option pairs: "))
        said.append(lines[begin : end + 1])
    assert said[0] == said[1]
    assert said[0][1::2] == ["  miniature.Categorical", "  miniature.DividesBySamples", said[0][-1]]


@pytest.mark.parametrize("called", ["mine", "my own"])
@pytest.mark.parametrize("path", ["", "/categorical", "/categorical/x.yaml"])
def test_failure_has_command_to_rerun(folder, called, path):
    folder.file.parents[1].rename(folder.pytester.path / called)
    failed = folder.run("--cases", f"{called}{path}", losses="DropsSmoothing", cases=False)
    failed.assert_outcomes(passed=1, failed=2)
    lines = re.findall(r"^ +again +pytest (.*)$", failed.stdout.str(), re.MULTILINE)
    assert len(set(lines)) == 2
    for line in lines:
        folder.run(*shlex.split(line), losses="DropsSmoothing", cases=False).assert_outcomes(failed=1)


def test_tests_are_marked_with_framework(folder):
    assert len(folder.ids("-m", "miniature")) == 3
    assert len(folder.ids("-m", "not miniature")) == 0
    assert folder.run("-m", "mini").ret == pytest.ExitCode.USAGE_ERROR
    folder.run("--strict-markers", "-m", "miniature").assert_outcomes(passed=3)


def test_invalid_expression_is_left_to_pytest(folder):
    result = folder.run("-k", "smoothed and")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in result.stderr.str()


@pytest.mark.parametrize("option", ["-k", "-m"])
@pytest.mark.parametrize(
    "deep", ["(" * 20_000 + "plain" + ")" * 20_000, "not " * 20_000 + "plain", "plain and " * 10_000 + "plain"]
)
def test_expression_that_pytest_cannot_read_is_rejected_before_collection(folder, option, deep):
    result = folder.run(option, deep)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.str().count("nested so deeply; write fewer parentheses and words") == 1
    assert len(result.stderr.str()) < 200


def test_nested_expression_that_pytest_can_read_selects(folder):
    assert len(folder.ids("-k", "(" * 120 + "smoothed" + ")" * 120)) == 2


def test_plugin_calls_frameworks_of_other_packages(folder):
    write_metadata(folder.pytester.path, "mini", "1.5", "mini")
    folder.pytester.makepyfile(
        mini="""
        import dataclasses
        from conformance.tests import miniatures

        FRAMEWORK = miniatures.framework(miniatures.Categorical)
        FRAMEWORK = dataclasses.replace(FRAMEWORK, distributions=("mini",), modules=("mini",))
        """
    )
    result = folder.pytester.runpytest_subprocess("--cases", "mine", "-m", "miniature", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["conformance:*miniature 1.5*"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("FRAMEWORK = 3", "the adapter mini (mini:FRAMEWORK) is not a conformance.adapters.contract.Framework"),
        (
            "import nowhere_at_all",
            "the adapter mini (mini:FRAMEWORK) cannot be loaded: ModuleNotFoundError: No module named 'nowhere_at_all'",
        ),
        ("raise SystemExit(3)", "the adapter mini (mini:FRAMEWORK) cannot be loaded: it exits with 3"),
    ],
)
def test_broken_adapter_is_named(folder, source, message):
    write_metadata(folder.pytester.path, "mini", "1.5", "mini")
    folder.pytester.makepyfile(mini=source)
    result = interpreter().run_pytest(folder.pytester.path, "--cases", "mine", "-p", "no:cacheprovider")
    assert result.ret not in (0, pytest.ExitCode.INTERNAL_ERROR)
    assert_said(result, message)


def test_broken_adapter_does_not_stop_named_tests(folder):
    write_metadata(folder.pytester.path, "mini", "1.5", "mini")
    result = folder.run("-k", "miniature", more="open('mini.py', 'w').write('raise SystemExit(3)')")
    result.assert_outcomes(passed=3)
    assert_said(result, "the adapter mini (mini:FRAMEWORK) cannot be loaded: it exits with 3")


# What passes and what fails


def test_failure_has_message_without_traceback(folder):
    result = folder.run(losses="DropsSmoothing")
    result.assert_outcomes(passed=1, failed=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "miniature.DropsSmoothing * disagrees with the definition and with what it documents",
            "  case       categorical/x/smoothed (float32, none): Smoothing is asked.",
            "  file       mine/categorical/x.yaml:*",
            "  how far    * x the tolerance *",
            "  because    error of * times the tolerance*",
            "  reproduce  import conformance.power.mutants.*",
            '  again      pytest --cases mine -k "miniature.DropsSmoothing and categorical/x/smoothed and float32 '
            'and none and not gradient"',
        ]
    )
    assert "test_conformance.py:" not in result.stdout.str().partition("short test summary")[0]


KNOWN = """\
# yaml-language-server: $schema=../../conformance/known.schema.json
about: What miniatures return.
known:
  - case: categorical/x/{case}
    function: miniature.{function}
    versions: ">=0"
    reason: It forgets.
    see: https://example.org/1
    reproducer: print(1)
    shows: "1"
"""


def test_ledger_of_folder_makes_failure_expected(folder):
    folder.pytester.mkdir("mine/known").joinpath("miniature.yaml").write_text(
        KNOWN.format(case="smoothed", function="DropsSmoothing")
    )
    result = folder.run("-rx", losses="DropsSmoothing")
    result.assert_outcomes(passed=1, xfailed=2)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["XFAIL *miniature.DropsSmoothing*It forgets.*"])
    result = folder.run("--strict-known", losses="DropsSmoothing")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*ledger     mine/known/miniature.yaml:4: It forgets. (https://example.org/1)",
            "  again      pytest --strict-known --cases mine -k *",
        ]
    )
    result = folder.run(
        losses="Categorical DropsSmoothing", more="miniatures.DropsSmoothing.smooth = miniatures.Categorical.smooth"
    )
    result.assert_outcomes(passed=4, failed=2)
    result.stdout.fnmatch_lines(["*although the ledger knows it as a discrepancy*", "*remove the entry*"])


def test_ledger_entry_without_match_is_rejected(folder):
    folder.pytester.mkdir("mine/known").joinpath("miniature.yaml").write_text(
        KNOWN.format(case="nothing", function="DropsSmoothing")
    )
    result = folder.run(losses="DropsSmoothing")
    assert result.ret not in (0, pytest.ExitCode.INTERNAL_ERROR)
    assert_said(result, "miniature.yaml:4", "no such case or no such function")


# What goes wrong


def assert_said(result: Any, *words: str) -> None:
    """One clear message, nothing like a traceback."""
    text = result.stdout.str() + result.stderr.str()
    for word in words:
        assert word in text
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text
    assert not re.search(r"^\S+\.py:\d+: in ", text, re.MULTILINE)


def test_run_without_framework_fails(folder):
    nobody = "registry.installed = lambda candidates=None: ([], [FRAMEWORK])"
    folder.pytester.makepyfile(nobody=f"import fakes\nfrom fakes import *\n{nobody}")
    result = folder.run("-p", "nobody")
    assert result.ret not in (0, pytest.ExitCode.INTERNAL_ERROR)
    assert_said(result, "none of miniature is installed", 'pip install "cross-entropy-conformance[all]"')


@pytest.mark.parametrize("flags", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_run_without_items_fails(folder, flags):
    folder.run("--report", "r")
    result = folder.run("--report", "r", *flags, losses="Binary")
    assert result.ret not in (0, pytest.ExitCode.INTERNAL_ERROR)
    assert_said(result, "no installed function can express any of the cases")
    for case in ("plain", "smoothed"):
        assert_said(result, f"no selected function supports categorical/x/{case}")
    assert_said(result, "it is no categorical loss: miniature.Binary")
    with Path("r", "results.csv").open(encoding="utf-8") as file:
        assert [(row["function"], row["status"]) for row in csv.DictReader(file)] == [
            ("miniature.Binary", "unsupported"), ("miniature.Binary", "unsupported"),
        ]  # fmt: skip
    assert json.loads(Path("r", "run.json").read_text(encoding="utf-8"))["complete"]
    assert not Path("r", "previous").exists()


def test_empty_selection_keeps_older_report(folder):
    folder.run("--report", "r")
    folder.run("--report", "r", "-k", "nobody")
    with Path("r", "results.csv").open(encoding="utf-8") as file:
        assert {row["function"] for row in csv.DictReader(file)} == {"miniature.Categorical"}


@pytest.mark.parametrize("flags", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_invalid_case_file_is_reported(folder, flags):
    folder.file.write_text(CASES.replace("label_smoothing: 0.5", "label_smoothing: 1.5"), encoding="utf-8")
    result = folder.run(*flags)
    assert result.ret not in (0, pytest.ExitCode.INTERNAL_ERROR)
    assert_said(result, "mine/categorical/x.yaml:17:", "$.cases.smoothed.options.label_smoothing")
    assert result.stdout.str().count("$.cases.smoothed.options.label_smoothing") <= 2


def test_missing_folder_is_reported(folder):
    result = folder.run("--cases", "nowhere", cases=False)
    assert result.ret not in (0, pytest.ExitCode.INTERNAL_ERROR)
    assert_said(result, "nowhere: there is no such folder")


# The report


def written(folder: Folder, name: str) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The rows and the record of a report."""
    report = folder.pytester.path / name
    with (report / "results.csv").open(encoding="utf-8", newline="") as rows:
        return list(csv.DictReader(rows)), json.loads((report / "run.json").read_text(encoding="utf-8"))


def test_report_is_the_same_under_xdist(folder):
    losses = "Categorical DropsSmoothing ReturnsDouble"
    folder.run("--report", "one", losses=losses).assert_outcomes(passed=4, failed=5)
    folder.run("--report", "two", "-n", "2", losses=losses).assert_outcomes(passed=4, failed=5)
    (one, alone), (two, spread) = written(folder, "one"), written(folder, "two")
    assert one == two
    assert len(one) == 9
    assert alone["complete"]
    assert spread["complete"]
    assert alone["status"] == spread["status"] == {"agrees": 4, "disagrees": 5}


def test_report_after_first_failure_is_incomplete(folder):
    folder.run("--report", "stopped", "-x", losses="DropsSmoothing").assert_outcomes(passed=1, failed=1)
    rows, run = written(folder, "stopped")
    assert (len(rows), run["planned"], run["finished"], run["complete"]) == (2, 3, 2, False)


@pytest.mark.parametrize("inherited", ["default", "ignored"])
def test_report_of_interrupted_run_is_incomplete(folder, request, inherited):
    if inherited == "ignored":
        request.getfixturevalue("ignored_signals")
    result = folder.run("--report", "stopped", losses="Interrupts", more=INTERRUPTS)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    rows, run = written(folder, "stopped")
    assert len(rows) == 1
    assert not run["complete"]


def test_report_of_selection_is_complete(folder):
    folder.run("--report", "part", "-k", "plain").assert_outcomes(passed=1, deselected=0)
    rows, run = written(folder, "part")
    assert (len(rows), run["complete"]) == (1, True)


def test_unwritable_report_is_reported(folder):
    (folder.pytester.path / "taken").write_text("")
    result = folder.run("--report", "taken")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert_said(result, "taken")


@pytest.mark.parametrize(
    "options", [("--call-timeout", "inf"), ("--call-timeout", "0"), ("--report", ""), ("--cases", "")]
)
def test_invalid_option_values_are_rejected(folder, options):
    result = folder.run(*options, losses="Categorical", cases=False)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"argument {options[0]}: invalid" in result.stderr.str()


def test_terminal_summary_has_wrong_published_numbers(folder):
    stated = folder.file.read_text(encoding="utf-8")
    number = '    published: [{value: "9.25", source: s}]\n    why:'
    folder.file.write_text(stated.replace("    why:", number, 1), encoding="utf-8")
    text = folder.run("--report", "r", losses="Categorical").stdout.str()
    assert "1 of 1 published number does not hold: see r/summary.md, or conformance show --cases " in text


def test_unknown_keyword_has_suggestion(folder):
    result = folder.run("-k", "Categoricl", losses="Categorical")
    result.stdout.fnmatch_lines(['nothing is selected by -k Categoricl; did you mean "categorical"?'])
    assert "did you mean" not in folder.run("-k", "nobody", losses="Categorical").stdout.str()
    collected = folder.run("--collect-only", "-k", "Categorical or Categoricl", losses="Categorical").stdout.str()
    assert "nothing is selected" not in collected


def test_empty_collection_names_options(folder):
    hint = "pytest --pyargs conformance -k 'a or torch' runs the shipped cases, pytest --cases DIR -k 'a or torch'"
    assert hint in folder.run("-k", "a or torch", cases=False).stdout.str()
    assert "pytest --pyargs conformance runs the shipped cases" in folder.run(cases=False).stdout.str()
    folder.pytester.makepyfile(test_own="def test_own(): pass")
    assert "--pyargs" not in folder.run(cases=False).stdout.str()
    assert "--pyargs" not in folder.run("-k", "other", cases=False).stdout.str()
    assert "--pyargs conformance -k 'other or miniature'" in (
        folder.run("-k", "other or miniature", cases=False).stdout.str()
    )


def test_terminal_summary_counts_statuses(folder):
    result = folder.run(losses="DropsSmoothing")
    verdict = "2 unexpected rows: 1 agree"
    result.stdout.fnmatch_lines(["*= cross-entropy conformance =*", verdict])
    assert "largest error" not in result.stdout.str()
    detailed = folder.run("-v", losses="DropsSmoothing")
    detailed.stdout.fnmatch_lines(
        ["  miniature.DropsSmoothing", "    float32 *categorical/x/plain", "option pairs: *", verdict]
    )


# Relations


def test_relations_run_if_their_file_is_named(folder):
    relations = ["--pyargs", "conformance.test_relations"]
    found = folder.run("--collect-only", "-q", *relations, "-k", "test_relations").stdout.str()
    ids = re.findall(r"::test_relations\[(.*)\]$", found, re.MULTILINE)
    assert "miniature.Categorical-shifted_logits-categorical/x/plain-float32-mean" in ids
    assert "::test_relations" not in folder.run("--collect-only", "-q").stdout.str()


def test_broken_relation_fails_without_row(folder):
    asked = ["--pyargs", "conformance.test_relations", "-k", "permuted_classes or plain and not test_relations"]
    result = folder.run("--report", "rows", *asked, losses="SwapsTwoClasses")
    text = result.stdout.str()
    assert re.search(r"miniature.SwapsTwoClasses \S+ breaks permuted_classes", text)
    assert "test_relations.py:" not in text.partition("short test summary")[0]
    rows, run = written(folder, "rows")
    assert (len(rows), run["planned"], run["complete"]) == (1, 1, True)


def test_ledger_of_relations_makes_failure_expected(folder):
    folder.pytester.mkdir("mine/known").joinpath("miniature.yaml").write_text(
        KNOWN.format(case="*", function="SwapsTwoClasses").replace("categorical/x/", "relation/*/categorical/x/")
    )
    asked = ["--pyargs", "conformance.test_relations", "-k", "permuted_classes"]
    result = folder.run(*asked, losses="SwapsTwoClasses")
    assert result.ret == 0
    assert result.parseoutcomes()["xfailed"] >= 1


def test_ledger_of_unknown_relation_is_rejected(folder):
    folder.pytester.mkdir("mine/known").joinpath("miniature.yaml").write_text(
        KNOWN.format(case="*", function="Categorical").replace("categorical/x/", "relation/permuted_class/")
    )
    result = folder.run("--pyargs", "conformance.test_relations")
    assert result.ret not in (0, pytest.ExitCode.INTERNAL_ERROR)
    assert_said(result, "miniature.yaml:4", 'permuted_class is not a relation; did you mean "permuted_classes"?')


THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
SURROUNDINGS = {
    "another hash seed, locale, time zone and number of threads": {
        "PYTHONHASHSEED": "12345",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "TZ": "Pacific/Kiritimati",
        **dict.fromkeys(THREADS, "3"),
    },
    "processes of one thread": dict.fromkeys(THREADS, "1"),
}
LOCAL = CASES.replace("Nothing is asked.", "Nothing is asked, İıéß 交叉熵.")


def test_report_is_byte_identical_in_any_process(folder, monkeypatch):
    folder.file.write_text(LOCAL, encoding="utf-8")
    losses = "Categorical DropsSmoothing DividesBySamples ReturnsDouble"
    folder.run("--report", "here", losses=losses)
    names = (
        "results.csv",
        "results.parquet",
        "pairs.parquet",
        "discrepancies.csv",
        "summary.md",
        "badge.json",
        "index.html",
    )
    for number, (where, surroundings) in enumerate(SURROUNDINGS.items()):
        with monkeypatch.context() as there:
            for name, value in surroundings.items():
                there.setenv(name, value)
            flags = ("-n", "2") if where.startswith("processes") else ()
            folder.run("--report", str(number), *flags, losses=losses, fresh=True)
        for name in names:
            here, other = (folder.pytester.path / of / name for of in ("here", str(number)))
            assert here.read_bytes() == other.read_bytes(), (where, name)


def test_case_cannot_colour_or_clear_terminal(folder):
    folder.file.write_text(CASES.replace("Nothing is asked.", r'"\x1b[2J \x9b31m owned"'), encoding="utf-8")
    said = folder.run("--color=no", losses="DividesBySamples ReturnsDouble").stdout.str()
    assert r"\x1b[2J \x9b31m owned" in said
    assert "\x1b" not in said
    assert "\x9b" not in said


def test_failure_gives_no_command_to_github(folder, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    commands = json.dumps("a\n::error::owned\n  ::add-mask::b ##[error]c")
    for text in (CASES.replace("Smoothing is asked.", commands), f"{CASES}{commands}: 1\n"):
        folder.file.write_text(text, encoding="utf-8")
        result = folder.run(losses="DropsSmoothing")
        assert result.ret != 0
        said = result.outlines + result.errlines
        assert any("owned" in line for line in said)
        assert [line for line in said if line.lstrip().startswith("::") or "##[" in line] == []


@pytest.mark.parametrize("processes", [(), ("-n", "1")])
def test_junit_has_properties_and_location_of_each_test(folder, processes):
    folder.run("--junit-xml", "junit.xml", *processes, losses="DropsSmoothing")
    found = ElementTree.parse(folder.pytester.path / "junit.xml").findall(".//testcase")
    assert len(found) == 3
    for test in found:
        said = {one.get("name"): one.get("value") for one in test.findall("properties/property")}
        assert (said["file"], said["function"]) == ("mine/categorical/x.yaml", "miniature.DropsSmoothing")
        assert CASES.splitlines()[int(said["line"]) - 1] == f"  {said['case'].rpartition('/')[2]}:"
        name = f"{said['function']}-{said['case']}-{said['dtype']}-{said['reduction']}"
        assert test.get("name") == f"test_conformance[{name}]"
        assert test.get("classname") == "mine.categorical.x.yaml"
        failed = test.find("failure")
        assert (failed is not None) == (said["expected"] == "unexpected") == (said["status"] == "disagrees")
        if failed is not None:
            assert "reproduce" in failed.text


MODULES = ("conformance.test_conformance", "conformance.test_relations")


@pytest.mark.parametrize("processes", [(), ("-n", "1")])
def test_invalid_files_are_each_reported_once_under_their_names(folder, processes):
    broken = CASES.replace("logits", "logitz")
    folder.file.write_text(broken, encoding="utf-8")
    (folder.file.parent / "y.yaml").write_text(broken + "x: 1\n", encoding="utf-8")
    said = folder.run("--junit-xml", "j.xml", *processes, "--pyargs", *MODULES).stdout.str()
    files = [f"mine/categorical/{name}.yaml" for name in "xy"]
    assert [said.count(f"ERROR {file}::invalid") for file in files] == [1, 1]
    assert [line for line in said.splitlines() if line.strip() == "ERROR"] == []
    found = ElementTree.parse(folder.pytester.path / "j.xml").findall(".//testcase")
    errors = {test.get("classname"): test.find("error").text for test in found}
    assert errors.keys() == {file.replace("/", ".") for file in files}
    assert {test.get("name") for test in found} == {"invalid"}
    assert [text.count("logitz") for text in errors.values()] == [1, 1]
    assert "mine/categorical/y.yaml" not in errors["mine.categorical.x.yaml"]


@pytest.mark.parametrize("processes", [(), ("-n", "1")])
@pytest.mark.parametrize("passed", [3, 0])
def test_junit_has_unsupported_rows_as_skipped_tests(folder, processes, passed):
    head, _, _ = CASES.partition("    predictions:")
    binary = head.replace("categorical", "binary").replace("index", "binary")
    (folder.file.parents[1] / "other.yaml").write_text(
        f"{binary}    predictions: [0.5, 2.0]\n    labels: [1, 0]\n", encoding="utf-8"
    )
    if not passed:
        folder.file.unlink()
    said = folder.run("--junit-xml", "j.xml", *processes, "--report", "r").stdout.str()
    assert ("3 passed" in said) == bool(passed)
    assert " skipped" not in said
    tests = ElementTree.parse(folder.pytester.path / "j.xml").findall(".//testcase")
    (skipped,) = (test for test in tests if test.find("skipped") is not None)
    assert skipped.find("skipped").get("message") == "it is no binary loss"
    assert skipped.get("name") == "test_conformance[miniature.Categorical-other/plain-float32-mean]"
    assert skipped.get("classname") == "mine.other.yaml"
    properties = {one.get("name"): one.get("value") for one in skipped.findall("properties/property")}
    assert (properties["status"], properties["line"]) == ("unsupported", "9")
    assert sum(test.find("error") is None for test in tests) == passed + 1
    with Path("r", "results.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == passed + 1

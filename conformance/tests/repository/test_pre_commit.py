"""Hooks before a commit: this repository's check what CI checks; the one for others finds what is wrong with a case."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest
import tomllib
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conformance.tests.repository.test_plugin import CASES


def pins_of(lines):
    expected = [Requirement(line) for line in lines]
    return {canonicalize_name(one.name): str(one.specifier) for one in expected}


@pytest.fixture(scope="session")
def pins(checkout):
    text = (checkout / ".github" / "constraints.txt").read_text(encoding="utf-8")
    return pins_of(
        line for line in (line.partition("#")[0].strip() for line in text.splitlines()) if line[:1] not in ("", "-")
    )


@pytest.fixture(scope="session")
def own(checkout):
    """The hooks of this repository by id."""
    (local,) = yaml.safe_load((checkout / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert local["repo"] == "local", "a hook from elsewhere would have a version of its own"
    return {hook["id"]: hook for hook in local["hooks"]}


@pytest.fixture(scope="session")
def offered(checkout):
    """The one hook that other repositories can use."""
    (hook,) = yaml.safe_load((checkout / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    return hook


def test_hooks_run_the_versions_that_continuous_integration_runs(own, pins):
    for name, hook in own.items():
        asked = pins_of(hook["additional_dependencies"])
        assert asked, name
        assert asked == {package: pins[package] for package in asked}, name


def test_case_lint_hook_has_all_dependencies(own, checkout):
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(pins_of(own["conformance-lint"]["additional_dependencies"])) == set(pins_of(project["dependencies"]))


def test_hooks_equal_checks_of_lint_environment(own, checkout):
    commands = (checkout / "tox.ini").read_text(encoding="utf-8")
    assert re.search(r"^    ruff check$", commands, re.MULTILINE)
    assert re.search(r"^    ruff format --check$", commands, re.MULTILINE)
    assert {own["ruff"]["entry"], own["ruff-format"]["entry"]} == {"ruff check", "ruff format"}
    assert re.match(own["conformance-lint"]["files"], "cases/known/torch.yaml")
    assert not re.match(own["conformance-lint"]["files"], "conformance/tests/cases/x.yaml")


@pytest.mark.parametrize(("folder", "arguments"), [("cases", None), ("my_cases", ["my_cases"])])
def test_hook_accepts_valid_and_rejects_invalid_cases(offered, tmp_path, folder, arguments):
    """As pre-commit runs it: at the top of the repository, the entry and its args, no file names."""
    file = tmp_path / folder / "categorical" / "x.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(CASES, encoding="utf-8")
    assert offered["pass_filenames"] is False
    assert offered["language"] == "python"
    command, *rest = shlex.split(offered["entry"])
    assert command == "conformance"
    words = [sys.executable, "-P", "-m", command, *rest, *(offered["args"] if arguments is None else arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "GITHUB_ACTIONS"}

    def run():
        return subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    right = run()
    assert right.returncode == 0, right.stdout + right.stderr
    file.write_text(CASES.replace("loss: categorical", "loss: categorial"), encoding="utf-8")
    wrong = run()
    assert wrong.returncode != 0
    assert re.search(r"x\.yaml:\d+:\d+: \$\.loss", wrong.stdout)

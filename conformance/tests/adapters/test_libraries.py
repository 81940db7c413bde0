"""The libraries: the releases that are pinned, `run --all`, and each library's own tests in its environment."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conformance import report
from conformance.adapters import arrays, libraries, registry
from conformance.adapters.contract import Backend, Framework
from conformance.adapters.libraries import pinned_installations, pinned_releases
from conformance.docs import readme
from conformance.execution import targets
from conformance.execution.environments import EnvironmentRequest, build, parse
from conformance.execution.environments.interpreters import site_packages
from conformance.judging.choice import installed_among
from conformance.tests.libraries import environment, write_library

PINNED = [one for framework in registry.frameworks() for one in pinned_installations(framework)]
BY_OTHERS = {"jaxlib", "mlx-cpu", "numpy", "opt-einsum", "scipy", "tensorflow", "tensorflow-cpu"}
"""Distributions that are pinned because others need them, or on some systems only."""
FULL = {"sklearn", "keras", "torch"}
"""Libraries whose tests run with all others, in the environment `tests`."""


def texts(framework: Framework) -> list[str]:
    return [one.environment for one in pinned_installations(framework)]


def test_each_shipped_framework_has_pinned_environments():
    for framework in registry.frameworks():
        assert len(texts(framework)) == max(1, len(framework.backends)), framework.name


def test_each_pin_is_of_some_environment():
    named = {Requirement(word).name for one in PINNED for word in one.environment.split()}
    assert set(pinned_releases()) - {canonicalize_name(name) for name in named} <= BY_OTHERS


def test_environment_name_is_accepted_by_with_and_selects_backend():
    for one in PINNED:
        request = parse(one.environment)
        assert all(requirement.partition("==")[2] for requirement in request.requirements)
        assert one.framework.backend(request.variables) == one.backend


def test_environment_has_requirements_of_backend_on_this_platform(monkeypatch):
    monkeypatch.setattr(libraries, "pinned_releases", lambda: {"backed": "2.0", "fast-cpu": "1.5", "helper": "3"})
    plain = Framework("plain", ("helper",), ("helper",), (), arrays.numpy)
    assert texts(plain) == ["helper==3"]
    assert texts(dataclasses.replace(plain, requirements=("backed", "helper"))) == ["backed==2.0 helper==3"]
    assert texts(dataclasses.replace(plain, requirements=("backed==9", "other==1"))) == ["backed==9 other==1"]
    backends = {
        "fast": Backend(("fast-cpu; sys_platform != 'none'", "fast; sys_platform == 'none'"), {"BACKEND": "fast"}),
        "slow": Backend(("slow",), {"BACKEND": "slow"}),
    }
    backed = dataclasses.replace(plain, distributions=("backed",), backends=backends)
    assert texts(backed) == ["backed[fast]==2.0 fast-cpu==1.5"]
    assert not texts(dataclasses.replace(plain, distributions=("unpinned",)))


@pytest.mark.parametrize(
    ("names", "keyword", "found"),
    [
        ((), "", ["usual"]),
        ((), "brought and not usual", ["brought", "usual"]),
        (("brought",), "", ["brought"]),
        (("brought", "usual"), "", ["brought", "usual"]),
    ],
)
def test_library_installed_by_others_is_run_only_if_named(monkeypatch, names, keyword, found):
    usual = Framework("usual", ("numpy",), ("numpy",), (), arrays.numpy)
    brought = dataclasses.replace(usual, name="brought", by_default=False)
    monkeypatch.setattr(registry, "frameworks", lambda: (brought, usual))
    assert [one.framework.name for one in installed_among(names, keyword=keyword)[0]] == found
    everything = {"numpy": "2"}
    request = EnvironmentRequest("numpy==2")
    assert [one.name for one in targets._frameworks_in(request, everything, names)] == (found if names else ["usual"])


def test_table_of_libraries_counts_rows_of_each():
    rows = [("optax", "agrees", "ok")] * 2 + [("optax", "diverges", "ok"), ("optax", "disagrees", "known")]
    rows += [("torch", "disagrees", "unexpected"), ("torch", "crashed", "known")]
    lines = readme.libraries(pd.DataFrame(rows, columns=["framework", "status", "expected"])).splitlines()
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[4:8]] for line in lines}
    assert cells["library"] == ["agrees", "diverges", "known", "unexpected"]
    assert cells["`optax`"] == ["2", "1", "1", "0"]
    assert cells["`torch`"] == ["0", "0", "1", "1"]
    assert cells["`sklearn`"] == ["", "", "", ""]
    assert set(cells) >= {f"`{framework.name}`" for framework in registry.frameworks()}


# `run --all`

LIBRARY = """
import os, sys
import numpy as np
print("{name}: hello")
os.write(1, b"{name}: hello from C\\n")
{fault}

def loss(z, y, reduction):
    top = z.max(-1, keepdims=True)
    found = (top + np.log(np.exp(z - top).sum(-1, keepdims=True)) - np.take_along_axis(z, y[..., None], -1))[..., 0]
    {call}
    return getattr(found, reduction)()
"""
ADAPTER = """
from conformance.adapters import arrays
from conformance.adapters.contract import Framework, Function, Mode

FRAMEWORK = Framework(
    name="{name}",
    distributions=("{name}",),
    modules=("{name}_library",),
    requirements=("{name}==1.0",),
    imports="import {name}_library",
    arrays=arrays.numpy,
    modes={modes},
    functions=(
        Function(
            "loss",
            "{name}_library.loss({{predictions}}, {{labels}}, {{options}})",
            ranks={{"categorical": range(2, 9)}},
            input_kinds={{"logits": ""}},
            targets={{"index": "int64"}},
            reductions={{name: f"reduction={{name!r}}" for name in ("sum", "mean")}},
        ),
    ),
)
"""
CASES = """
about: rows
loss: categorical
given: logits
target: index
cases:
  plain:
    source: x
    why: a row
    predictions: [[1.0, 2.0, 0.5], [0.25, 0.0, 3.0]]
    labels: [1, 0]
    reduction: [sum, mean]
    dtypes: [float64]
"""
COMMAND = """
import sys
from pathlib import Path
from conformance.execution import environments

def build(request, progress):
    print(f"making {request.name}", file=sys.stderr)
    if "absent" in request.name:
        raise environments.EnvironmentFailure(request, "there is no package absent on the package index")
    packages = {request.name.partition("==")[0]: "1.0"}
    return environments.Environment(request.name, Path(sys.executable), request.variables, packages, "3.11")

environments.build = build
from conformance.cli import main

main()
"""
"""The command line, whose environments are this interpreter."""
FAULTS = {
    "good": ("", "", "{}"),
    "modal": ("", "", '{"plainly": Mode("{loss}")}'),
    "absent": ("", "", "{}"),
    "unloadable": ("raise ImportError('its C extension is not there')", "", "{}"),
    "aborting": ("os.abort()", "", "{}"),
    "dying": ("", "os.abort()", "{}"),
    "compiling": ("", "raise RuntimeError('no compiler: clang')", "{}"),
}
"""Fault at import, fault of a call, and modes, by library."""


@pytest.fixture
def outside(tmp_path):
    """Libraries with adapters elsewhere, of which some cannot be used."""
    for name, (fault, call, modes) in FAULTS.items():
        library, adapter = LIBRARY.format(name=name, fault=fault, call=call), ADAPTER.format(name=name, modes=modes)
        folder = tmp_path / name
        write_library(folder, name, library, adapter, CASES)
        for path in (folder / "packages").iterdir():
            (tmp_path / "packages").mkdir(exist_ok=True)
            path.rename(tmp_path / "packages" / path.name)
    return tmp_path


def run_all(folder: Path, *words: str, names: tuple[str, ...] = tuple(FAULTS)) -> tuple[Any, pd.DataFrame | None]:
    chosen = [word for name in names for word in ("--framework", name)]
    cases = ["--cases", str(folder / "good" / "cases"), "--report", str(folder / "report")]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "run", "--all", *chosen, *cases, *words],
        cwd=folder, env=environment(folder, PYTHONUNBUFFERED=""), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return done, report.read(folder / "report")[0] if (folder / "report" / "run.json").exists() else None


def test_failed_libraries_have_rows_and_others_continue(outside):
    done, found = run_all(outside)
    assert done.returncode == 1, done.stderr
    by_library = {name: sorted(rows["status"]) for name, rows in found.groupby("framework")}
    assert by_library == {
        "good": ["agrees", "agrees"],
        "modal": ["agrees", "agrees"],
        "absent": ["crashed"],
        "unloadable": ["crashed"],
        "aborting": ["crashed"],
        "dying": ["crashed", "crashed"],
        "compiling": ["disagrees", "disagrees"],
    }
    why = dict(zip(found["framework"], found["explanation"], strict=True))
    assert "there is no package absent" in why["absent"]
    assert "its C extension is not there" in why["unloadable"]
    assert "SIGABRT" in why["aborting"]
    assert "hello" not in done.stdout
    assert found.loc[found["framework"] == "good", "environment"].unique().tolist() == ["good==1.0"]
    assert "7 unexpected" in done.stdout.splitlines()[-2]


def test_passing_libraries_exit_with_0_in_several_processes(outside):
    for words in ([], ["-n", "2"], ["-n", "1"]):
        done, found = run_all(outside, *words, names=("good", "modal"))
        assert done.returncode == 0, done.stderr
        assert len(found) == 4
        assert "nothing unexpected" in done.stdout


@pytest.mark.parametrize(
    ("words", "made", "rows"),
    [
        (["-k", "good and mean"], {"good==1.0"}, 1),
        (["--mode", "plainly"], {"modal==1.0"}, 2),
        (["-k", "good.", "--with", "modal==1.0"], {"good==1.0", "modal==1.0"}, 2),
    ],
)
def test_only_environments_with_selected_items_are_made(outside, words, made, rows):
    names = ("good", "modal", "absent")
    done, found = run_all(outside, *words, names=names)
    assert done.returncode == 0, done.stderr
    assert {line.partition("making ")[2].strip() for line in done.stderr.splitlines() if "making " in line} == made
    assert len(found) == rows


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-k", "nothing_at_all"], "nothing is selected by -k"),
        (["--mode", "sideways"], "--mode sideways: no selected framework has it"),
        (["--framework", "nowhere"], "--framework nowhere: there is no such framework"),
        (["--in-process"], "leave out --isolate, --all, --with and -n"),
    ],
)
def test_request_for_nothing_is_a_usage_error(outside, words, said):
    done, found = run_all(outside, *words, names=("good", "absent"))
    assert done.returncode == 2
    assert said in done.stderr
    assert found is None


def test_baseline_is_compared_library_by_library(outside):
    run_all(outside, names=("good",))
    (outside / "report").rename(outside / "accepted")
    against = ["--baseline", str(outside / "accepted")]
    done, _ = run_all(outside, *against, names=("good",))
    assert done.returncode == 0, done.stderr
    assert "2 rows as in the baseline" in done.stdout
    done, _ = run_all(outside, *against, names=("good", "unloadable"))
    assert done.returncode == 1
    assert "its C extension is not there" in done.stdout


# Each library's own tests


@pytest.mark.skipif("CONFORMANCE_LIBRARIES" not in os.environ, reason="`tox run -e libraries` makes the environments")
@pytest.mark.parametrize("one", PINNED, ids=lambda one: one.environment.replace(" ", ","))
def test_library_passes_its_tests_in_its_environment(one):
    """Its operations, parameters, reproducers and `test_NAME.py`, beside what this interpreter has."""
    name = one.framework.name
    if name in FULL:
        pytest.skip("the environment `tests` has it")
    made = build(parse(one.environment))
    site = site_packages(made.interpreter.parents[1])
    folder = Path(__file__).parent
    files = [folder / f"test_{file}.py" for file in ("operations", "parameters", "shipped_reproducers", name)]
    words = ["-q", "-p", "no:cacheprovider", "--rootdir", str(folder.parent), "-k", f"{name} or {name}."]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *(str(file) for file in files if file.exists())],
        env={**os.environ, **made.variables, "PYTHONPATH": str(site)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr

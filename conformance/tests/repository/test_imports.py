"""What is imported when: frameworks not at all, and beside an old framework nothing but numpy."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import conformance
from conformance import adapters
from conformance.adapters.registry import SHARED

PACKAGE = Path(conformance.__file__).parent
ADAPTERS = sorted(
    f"conformance.adapters.{file.stem}"
    for file in Path(adapters.__path__[0]).glob("[a-z]*.py")
    if file.stem not in SHARED
)
WORKERS = [
    "conformance.execution.workers.loop",
    "conformance.execution.workers.serve",
    "conformance.execution.workers.wire",
]
FOREIGN = [
    *(f"conformance.model.{path.stem}" for path in sorted((PACKAGE / "model").glob("[!_]*.py"))),
    *(
        f"conformance.adapters.contract.{path.stem}"
        for path in sorted((PACKAGE / "adapters/contract").glob("[!_]*.py"))
    ),
    *ADAPTERS,
    *WORKERS,
]
"""Modules that run beside an old framework, in its environment."""
FRAMEWORKS = {"sklearn", "torch", "keras", "tensorflow", "jax", "scipy"}


def run(source: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(
        [sys.executable, "-c", source],
        cwd=folder, env={**known, **environment}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def imported(source: str, folder: Path) -> set[str]:
    """The top-level packages that a script imported, by its own last line."""
    script = (
        f"{source}\nimport json, sys\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    done = run(script, folder, CONFORMANCE_CACHE="off")
    assert done.returncode == 0, done.stdout + done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


COLLECT = """
from collections import Counter
import pytest
from conformance.adapters import registry
from conformance.tests import miniatures

real = registry.frameworks()
registry.frameworks = lambda: (*real, miniatures.framework(miniatures.Categorical))


class Count:
    def pytest_collection_finish(self, session):
        self.tests = Counter(item.path.name for item in session.items)


count = Count()
code = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *{arguments}], plugins=[count])
assert code == 0, code
assert len(count.tests) == 2 and min(count.tests.values()) > 100, count.tests
"""


def test_collection_imports_no_framework(tmp_path):
    """Tests of every function on a few files of cases, with options and layouts."""
    files = [str(PACKAGE / name) for name in ("test_conformance.py", "test_relations.py")]
    chosen = ["-k", "article/ or categorical/ignore_index/ or binary/columns/"]
    names = imported(COLLECT.format(arguments=[*files, *chosen, "--rootdir", str(tmp_path)]), tmp_path)
    assert "flint" in names
    assert not names & FRAMEWORKS


def test_registry_finds_installed_frameworks_without_importing_them(tmp_path):
    names = imported("from conformance.adapters import registry\nregistry.installed()", tmp_path)
    assert not names & FRAMEWORKS


def test_importing_package_imports_no_dependency(tmp_path):
    names = imported("import conformance", tmp_path)
    assert not names & {"numpy", "pytest", "flint", "pandas", *FRAMEWORKS}


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["nope"]])
def test_help_and_version_import_no_numpy(tmp_path, words):
    source = f"import sys\nsys.argv[1:] = {words}\nfrom conformance.__main__ import main\n"
    names = imported(f"{source}try:\n    main()\nexcept SystemExit:\n    pass", tmp_path)
    assert "typer" in names
    assert not names & {"numpy", "yaml", "flint", "pandas", *FRAMEWORKS}


EVERY_COMMAND = """
import typer
from conformance.cli import app

for name, command in typer.main.get_command(app).commands.items():
    for words in [[name], *([name, inner] for inner in getattr(command, "commands", ()))]:
        for option in ("--help", "--nope"):
            try:
                app([*words, option])
            except SystemExit as ended:
                assert ended.code == (2 if option == "--nope" else 0), words
"""


def test_help_and_usage_errors_of_commands_import_nothing_that_runs(tmp_path):
    names = imported(EVERY_COMMAND, tmp_path)
    assert not names & {"numpy", "yaml", "flint", "pandas", "ml_dtypes", "hypothesis", *FRAMEWORKS}


BLOCKED = """
import importlib, sys


class OnlyNumpy:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in {{"numpy", "conformance"}}:
            return None
        raise ImportError(f"{{name}} is not there")


sys.meta_path.insert(0, OnlyNumpy())
for module in {modules}:
    for name in [name for name in sys.modules if name.partition(".")[0] == "conformance"]:
        del sys.modules[name]  # each module by itself, as if it were the first
    importlib.import_module(module)
"""


def test_worker_modules_need_numpy_only(tmp_path):
    names = imported(BLOCKED.format(modules=FOREIGN), tmp_path)
    assert "conformance" in names
    assert not names & {"flint", "pandas", "yaml", "pytest", "packaging", "ml_dtypes"}


def test_blocked_imports_are_detected(tmp_path):
    done = run(BLOCKED.format(modules=["conformance.reference.oracle"]), tmp_path)
    assert done.returncode == 1
    assert "is not there" in done.stderr


@pytest.mark.parametrize("module", FOREIGN)
def test_worker_modules_parse_on_python_3_10(module):
    source = PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 10))
    # Names that came after 3.10 would parse.
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert not names & {
        "assert_never",
        "Self",
        "StrEnum",
        "override",
        "assert_type",
        "LiteralString",
        "UTC",
        "reveal_type",
    }
    assert not {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & {
        "ExceptionGroup",
        "BaseExceptionGroup",
    }
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert "tomllib" not in imported


PLAIN = """
import sys


def test_plain():
    assert "conformance.plugin" in sys.modules
    ours = {"conformance.judging.judge", "conformance.adapters.registry"}
    assert not {"numpy", "flint", "pandas", *ours} & set(sys.modules)
"""


def test_plugin_imports_no_numpy_without_cases(tmp_path):
    (tmp_path / "test_plain.py").write_text(PLAIN)
    source = "import sys, pytest\nsys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', 'test_plain.py']))"
    done = run(source, tmp_path, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTEST_PLUGINS="conformance.plugin")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "conformance" not in done.stdout

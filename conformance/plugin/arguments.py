"""Tests among the arguments of pytest: which are requested, and from which package they are taken.

The executed tests are those of the imported package, even if an argument or `testpaths` names those of a checkout:
pytest has imported this plugin before it reads either, and a process can import only one package of a name.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from conformance.plugin.options import case_folder, harvested_sources

DISTRIBUTION = "cross-entropy-conformance"
PACKAGE = Path(__file__).parents[1]
TESTS = PACKAGE / "tests"
TEST_FILE = PACKAGE / "test_conformance.py"
TEST_NAME = "test_conformance"
RELATIONS_FILE = PACKAGE / "test_relations.py"
RELATIONS_NAME = "test_relations"
CHECKOUTS = pytest.StashKey[set[Path]]()


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Do not load conftest files from a checkout whose package is not the imported one."""
    known = early_config.known_args_namespace
    folder = early_config.invocation_params.dir
    if known.file_or_dir or checkout_of(folder):
        known.file_or_dir = redirected(early_config, known.file_or_dir or [str(folder)])


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore the package of a checkout, for which the imported one stands in (see `redirected`), and internal tests.

    `--pyargs conformance` tests the frameworks.  This package's internal tests need dependencies that only a checkout
    installs; they are named by `--pyargs conformance.tests`.
    """
    unnamed = (
        collection_path == TESTS
        and config.getoption("pyargs")
        and not any(TESTS in (path, *path.parents) for path in (argument_path(config, name) for name in config.args))
    )
    return True if unnamed or collection_path in config.stash.get(CHECKOUTS, ()) else None


def redirected(config: pytest.Config, arguments: list[str]) -> list[str]:
    """Arguments of pytest, with the files of a checkout's package replaced by those of the imported one.

    Raises UsageError for a file that the imported package does not have.
    """
    checkouts = config.stash.setdefault(CHECKOUTS, set())
    redirected = []
    for argument in arguments:
        if is_conformance_test(argument):  # its name contains the file of its case; see `pytest_itemcollected`
            argument = f"{TEST_FILE}::{argument.partition('::')[2]}"
        path = argument_path(config, argument)
        checkout = checkout_of(path) or checkout_of(path / PACKAGE.name)
        if checkout is None:
            module = config.known_args_namespace.pyargs and _module(argument.partition("::")[0])
            redirected.append(argument.replace(argument.partition("::")[0], str(path), 1) if module else argument)
            continue
        checkouts.add(checkout)
        if checkout in (path, *path.parents):
            file = PACKAGE.resolve() / path.relative_to(checkout)
            if not file.exists():
                raise pytest.UsageError(
                    f"{argument}: the installed package, {PACKAGE}, has no such file; "
                    f"`python -m pytest`, started in {checkout.parent}, runs the tests of the package there"
                )
            redirected.append(str(file) + argument[len(argument.partition("::")[0]) :])
        else:
            redirected += [argument, str(PACKAGE)]
    return redirected


def checkout_of(path: Path) -> Path | None:
    """The package with this name that contains a path, if it is not the imported one."""
    with contextlib.suppress(OSError):  # a name may be too long for a path
        for folder in (path, *path.parents):
            test = folder / TEST_FILE.name
            if folder.name == PACKAGE.name and test.is_file():
                return None if test.samefile(TEST_FILE) else folder
    return None


def _module(name: str) -> Path | None:
    """The file or folder of a module of the imported package; None if there is none."""
    if name.partition(".")[0] != PACKAGE.name:
        return None
    path = PACKAGE.resolve().parent.joinpath(*name.split("."))
    return next((candidate for candidate in (path, path.with_suffix(".py")) if candidate.exists()), None)


def argument_path(config: pytest.Config, argument: str) -> Path:
    """The file or folder named by an argument of pytest, which with `--pyargs` may be a module of this package."""
    name = argument.partition("::")[0]
    if config.known_args_namespace.pyargs and (module := _module(name)) is not None:
        return module
    return (config.invocation_params.dir / name).resolve()


def is_requested(config: pytest.Config) -> bool:
    """Whether conformance tests are requested: by cases, or by one of the package's test files."""
    return (
        case_folder(config) is not None
        or harvested_sources(config) is not None
        or requests_file(config, TEST_FILE, RELATIONS_FILE)
    )


def requests_file(config: pytest.Config, *files: Path) -> bool:
    """Whether pytest's arguments include one of these files of the package, or a folder that contains it."""
    folders = {parent.resolve() for file in files for parent in (file, *file.parents)}
    return any(argument_path(config, argument) in folders for argument in config.args)


def is_conformance_test(nodeid: str) -> bool:
    return f"::{TEST_NAME}[" in nodeid

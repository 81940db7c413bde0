"""What several test files share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from conformance.tests import signals

FIGURE = "figure"
"""Property of a test with a measurement, which the summary prints."""


def pytest_configure():
    """Messages of commands are whole lines: tox says how wide the terminal is, and they would be wrapped to that."""
    os.environ.pop("COLUMNS", None)


def pytest_terminal_summary(terminalreporter):
    """Print what the tests of the bench measured."""
    passed = (one for one in terminalreporter.stats.get("passed", ()) if one.when == "call")
    figures = [value for one in passed for name, value in one.user_properties if name == FIGURE]
    if figures:
        terminalreporter.section("bench, short form")
        for figure in figures:
            terminalreporter.line(figure)


@pytest.fixture(scope="session")
def checkout(pytestconfig):
    """The repository, which is where pytest's settings lie; what is not installed is read from there."""
    root = pytestconfig.inipath.parent if pytestconfig.inipath else Path()
    if not (root / "README.zh-CN.md").is_file():
        pytest.skip("the READMEs are not installed, and this is not the repository")
    return root


@pytest.fixture
def ignored_signals():
    """Signals are ignored in this process for the time of a test, as where the tests run in the background."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in signals.STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)

"""The pytest plugin: options, parametrisation, and a recorder that writes the report (also with xdist).

It is installed as an entry point, but inactive in a test run without cases: neither
`--cases`, nor the ini option `conformance_cases`, nor one of this package's own test files.  Relations are tested
if their test file is named; they are ordinary tests and add no rows to the report.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from conformance.execution.marking import mark
from conformance.model.errors import UserError
from conformance.plugin.arguments import TEST_FILE, is_requested, redirected, requests_file
from conformance.plugin.collection import mark_frameworks
from conformance.plugin.options import case_folder, check_expressions, harvested_sources
from conformance.plugin.recorder import Recorder
from conformance.plugin.session import SESSION

EXIT_SECONDS = 30.0
"""Seconds granted to threads and exit handlers after pytest has ended, including those of other plugins."""
pytest_plugins = tuple(f"{__name__}.{name}" for name in ("options", "arguments", "session", "collection", "checking"))


def pytest_configure(config: pytest.Config) -> None:
    check_expressions(config)
    config.args = redirected(config, config.args)
    has_cases = case_folder(config) is not None or harvested_sources(config) is not None
    if has_cases and not requests_file(config, TEST_FILE):
        config.args.append(str(TEST_FILE))
    if is_requested(config) or config.getoption("markers"):
        with contextlib.suppress(UserError):  # reported during collection
            mark_frameworks(config)
    if not hasattr(config, "workerinput"):
        if (report := config.getoption("report")) is not None:
            mark(Path(report))
        config.pluginmanager.register(Recorder(config), "conformance-recorder")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Keep a thread that a framework started from blocking the exit of pytest."""
    from conformance.execution.ending import ensure_exit

    if (session := config.stash.get(SESSION, None)) is not None:
        ensure_exit(int(session.exitstatus), EXIT_SECONDS)

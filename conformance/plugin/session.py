"""What a session reads once: cases with their ledger, harvests, the accepted report, and the installed frameworks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance.model.errors import UserError
from conformance.model.text import loggable
from conformance.plugin.options import case_folder, harvested_sources

if TYPE_CHECKING:
    from conformance.adapters.registry import Installed
    from conformance.comparison.baseline import Baseline
    from conformance.judging.case_set import CaseSet
    from conformance.judging.selection import ItemFilter
    from conformance.model.case import Case
    from conformance.power.harvest.pipeline import Harvests

SESSION = pytest.StashKey[pytest.Session]()
_LOADED = pytest.StashKey["CaseSet"]()
_HARVEST = pytest.StashKey["Harvests"]()
_CHECKED = pytest.StashKey[bool]()
"""Set once the device of --device has been checked."""
_BASELINE = pytest.StashKey["Baseline"]()
"""The accepted report."""


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[SESSION] = session


def expression_filter(config: pytest.Config, parents: list[str]) -> ItemFilter | None:
    """A filter for -k and -m, so that deselected items are never created, which would take longer than `-k sklearn`.

    parents: names of the modules and the function of the tests.  pytest selects again among the remaining tests, and
    alone if the expression cannot be parsed here.
    """
    from conformance.judging.selection import SelectionError, keyword_filter

    try:
        return keyword_filter(config.getoption("keyword"), config.getoption("markexpr"), "\n".join(parents))
    except SelectionError:
        return None


def accepted_report(config: pytest.Config) -> Baseline | None:
    """The accepted report, read once per session; None if none is given."""
    if (path := config.getoption("baseline")) is not None and _BASELINE not in config.stash:
        from conformance.comparison.baseline import Baseline

        config.stash[_BASELINE] = Baseline.read(Path(path))
    return config.stash.get(_BASELINE, None)


def read_harvests(config: pytest.Config) -> Harvests:
    """The harvested cases, read once per session together with other cases; raises what `load_harvest` raises."""
    if _HARVEST not in config.stash:
        from conformance.power.harvest.pipeline import load_harvest

        config.stash[_LOADED], config.stash[_HARVEST] = load_harvest(
            harvested_sources(config) or [], case_folder(config)
        )
    return config.stash[_HARVEST]


def case_set(config: pytest.Config) -> CaseSet:
    """The cases with their ledger, read once per session; errors in them end collection with a message."""
    if _LOADED not in config.stash:
        from conformance.judging.case_set import load_case_set

        with ending_collection():
            if harvested_sources(config) is not None:
                read_harvests(config)
            else:
                config.stash[_LOADED] = load_case_set(case_folder(config))
    return config.stash[_LOADED]


@contextlib.contextmanager
def ending_collection() -> Iterator[None]:
    """Make a user error end the collection of tests with its message."""
    try:
        yield
    except UserError as error:
        raise pytest.Collector.CollectError(loggable(str(error))) from None


def cases_of(config: pytest.Config) -> list[Case]:
    return case_set(config).cases


def installed_frameworks(config: pytest.Config) -> list[Installed]:
    """The installed frameworks, each in the modes of --mode and on the device of --device; if there are
    none, collection ends with a message.
    """
    from conformance.execution.targets import check_devices
    from conformance.judging.choice import installed_among

    with ending_collection():
        expressions = f"{config.getoption('keyword')} {config.getoption('markexpr')}"
        available, _ = installed_among((), config.getoption("mode") or (), expressions, config.getoption("device"))
        if _CHECKED not in config.stash:
            check_devices(available)
            config.stash[_CHECKED] = True
        return available

"""Fixtures that check an item or a relation, and the row that the report of a test carries."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from conformance.plugin.arguments import is_conformance_test
from conformance.plugin.options import repeated_options, timeouts
from conformance.plugin.session import accepted_report, case_set, installed_frameworks

if TYPE_CHECKING:
    from conformance.explore.relations.checker import Instance, RelationResult
    from conformance.judging.judge import Assessment, Judge
    from conformance.judging.plan import Item
    from conformance.judging.row import Row
    from conformance.model.case import Case

ROW = "conformance_row"
FAULT = "conformance_fault"
_PROPERTIES = ("case", "function", "version", "environment", "dtype", "reduction", "quantity", "status", "expected")
IDENTITY = ["function", "case", "digest", "dtype", "reduction", "quantity", "mode", "device", "status", "expected"]


@pytest.fixture(scope="session")
def judge(request: pytest.FixtureRequest) -> Iterator[Judge]:
    """The judge of the session, with the user's cache and the ledger."""
    from conformance.judging.judge import Judge
    from conformance.reference.oracle import cached_oracle

    with cached_oracle() as oracle:
        yield Judge(oracle, case_set(request.config).ledger)


@dataclass
class CaseCheck:
    """The dependencies of the test of an item, in one fixture because pytest looks up each fixture for each item."""

    execute: Callable[[Item], Assessment]
    """Calls the function of an item, in this process or in a worker, and judges the outcome."""
    accepted: Callable[[Assessment], bool]
    """Whether the baseline has the same discrepancy."""
    strict_known: bool
    """Whether known discrepancies fail."""
    options: str
    """The options that affect outcomes or failures, as given, each followed by a blank."""
    assessment: Assessment | None = None
    """The assessment of the last item; None once it is in a report."""

    def assess(self, item: Item) -> Assessment:
        """Call the function of an item and judge the outcome."""
        self.assessment = None
        assessment = self.execute(item)
        assessment.row  # noqa: B018 - fail the test, not the report, if there is no reproducer
        self.assessment = assessment
        return assessment


@pytest.fixture(scope="session")
def case_check(request: pytest.FixtureRequest, judge: Judge) -> Iterator[CaseCheck]:
    """Check items, with calls in this process or in a worker."""
    config = request.config
    make = functools.partial(
        CaseCheck,
        accepted=_accepted_predicate(config),
        strict_known=bool(config.getoption("strict_known")),
        options=repeated_options(config),
    )
    if not config.getoption("isolate"):
        yield make(judge.assess)
        return
    from conformance.execution.assessing import PipelinedCalls
    from conformance.execution.targets import local_pool

    # Under xdist each process receives its tests in small batches, so that later tests are unknown.
    alone = not hasattr(config, "workerinput")
    items = [item for test in request.session.items if (item := item_of(test)) is not None] if alone else []
    frameworks = {item.framework.name for item in items}
    available = installed_frameworks(config)
    selected = [installation for installation in available if installation.framework.name in frameworks or not alone]
    with local_pool(selected, timeouts(config)) as pool:
        calls = PipelinedCalls(pool, items)
        yield make(lambda item: judge.judge(*calls.outcome(item)))


@pytest.fixture(scope="session")
def check_relation(request: pytest.FixtureRequest, judge: Judge) -> Iterator[Callable[[Instance], RelationResult]]:
    """Check relations, with calls in this process or in a worker."""
    from conformance.explore.relations.checker import Checker

    if not request.config.getoption("isolate"):
        yield Checker(judge.performer, judge.ledger).check
        return
    from conformance.execution.targets import local_pool, performer

    available = installed_frameworks(request.config)
    with local_pool(available, timeouts(request.config)) as pool:
        yield Checker(performer(pool, available), judge.ledger).check


def item_of(test: pytest.Item) -> Item | None:
    """The item of a test; None for other tests."""
    callspec = getattr(test, "callspec", None) if is_conformance_test(test.nodeid) else None
    return None if callspec is None else callspec.params["item"]


@pytest.fixture(scope="session")
def strict_known(request: pytest.FixtureRequest) -> bool:
    """Whether known discrepancies fail."""
    return bool(request.config.getoption("strict_known"))


def _accepted_predicate(config: pytest.Config) -> Callable[[Assessment], bool]:
    """Return a predicate: whether the baseline has the same discrepancy."""
    if (baseline := accepted_report(config)) is None:
        return lambda _: False
    from conformance.judging.verdict import FAILING_ROWS

    rows = baseline.rows[IDENTITY]
    failures = set(rows[rows["expected"].isin(FAILING_ROWS)].itertuples(index=False, name=None))
    return lambda assessment: tuple(assessment.row.cells[name] for name in IDENTITY) in failures


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    assessment = _assessment(item) if call.when == "call" else None
    if assessment is not None and item.config.getoption("xmlpath", None):
        item.user_properties += row_properties(assessment.item.case, assessment.row)
    report = yield
    if call.when == "call" and (why := _fault(item, call)):
        setattr(report, FAULT, why)
    if assessment is not None:
        setattr(report, ROW, assessment.row.cells)  # builtin values: xdist and other plugins serialise the report
    return report


def _assessment(item: pytest.Item) -> Assessment | None:
    """The assessment by the test of an item, returned once; None for other tests and for calls that were not judged."""
    check = getattr(item, "funcargs", {}).get("case_check")
    if not isinstance(check, CaseCheck):
        return None
    assessment, check.assessment = check.assessment, None
    return assessment


def row_properties(case: Case, row: Row) -> Iterator[tuple[str, str]]:
    """Properties that identify a row in `--junit-xml`."""
    cells = row.cells
    properties = {
        "file": case.path,
        "line": case.line if case.path else "",
        **{name: cells[name] for name in _PROPERTIES},
    }
    return ((name, str(value)) for name, value in properties.items() if value != "")


def _fault(item: pytest.Item, call: pytest.CallInfo[None]) -> str:
    """The exception of this package that ended a conformance test, an internal error; "" if there is none."""
    if call.excinfo is None or not is_conformance_test(item.nodeid) or not isinstance(call.excinfo.value, Exception):
        return ""
    kinds = (pytest.fail.Exception, pytest.skip.Exception, pytest.xfail.Exception)
    return "" if isinstance(call.excinfo.value, kinds) else call.excinfo.typename

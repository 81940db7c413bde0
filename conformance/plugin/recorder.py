"""The recorder: rows of tests as they arrive (also with xdist), their report, and the summary in the terminal."""

from __future__ import annotations

import contextlib
import functools
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conformance.execution.marking import unmark
from conformance.model.errors import ISSUES, UserError
from conformance.model.row_key import CPU
from conformance.model.text import format_count, loggable, truncate
from conformance.plugin.arguments import (
    CHECKOUTS,
    DISTRIBUTION,
    PACKAGE,
    TEST_FILE,
    TEST_NAME,
    argument_path,
    checkout_of,
    is_conformance_test,
    is_requested,
    requests_file,
)
from conformance.plugin.checking import FAULT, ROW, item_of, row_properties
from conformance.plugin.collection import check_marks, relative_path
from conformance.plugin.options import EXPRESSIONS, MAX_SHOWN, case_folder, harvested_sources
from conformance.plugin.session import (
    SESSION,
    accepted_report,
    case_set,
    cases_of,
    expression_filter,
    installed_frameworks,
    read_harvests,
)

if TYPE_CHECKING:
    import pandas as pd

    from conformance.comparison.baseline import Baseline
    from conformance.execution.run import Run
    from conformance.judging.plan import Item
    from conformance.judging.row import Row

MAX_FAULTS = 5
"""Maximum number of exceptions of this package that are shown."""


class Recorder:
    """Collects rows as reports arrive, and writes the report when the session ends, complete or not.

    With `--report`, rows are journaled as they arrive, and SIGTERM and SIGHUP act like Ctrl-C.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.run: Run | None = None
        """Contains the rows; with `--report` a `RecordedRun` from the start, else None until something is planned."""
        self.planned = 0
        """Number of rows."""
        self.pending: Callable[[], Sequence[Row]] = tuple
        """Returns the rows of unsupported cases, if they are not among the rows yet."""
        self.written: dict[str, Any] = {}
        self.regressions: list[str] = []
        self.problem = ""
        self.notes: list[str] = []
        """Messages on older reports in the folder, and on the journal."""
        self.stopped = ""
        """Why the session ended early, according to pytest."""
        self.signalled = False
        """Whether the cause was external, and not a failed collection."""
        self.faults: list[str] = []
        """Exceptions of this package."""
        self.signals = contextlib.ExitStack()

    @property
    def results(self) -> pd.DataFrame:
        """A `report.frame` of the rows so far."""
        from conformance import report

        return report.frame([] if self.run is None else self.run.rows)

    def pytest_sessionstart(self) -> None:
        if all(PACKAGE.resolve() in argument_path(self.config, argument).parents for argument in self.config.args):
            check_marks(self.config)  # before collection, which happens in xdist's processes

        try:
            accepted_report(self.config)
            if (sources := harvested_sources(self.config)) is not None:
                from conformance.power.harvest.source import select_sources

                select_sources(sources)
        except UserError as error:
            raise pytest.UsageError(loggable(str(error))) from None
        if (folder := self.config.getoption("report")) is not None:
            from conformance.execution.interruption import TERMINATION_SIGNALS, interruptible
            from conformance.report import ReportError
            from conformance.report.recording import RecordedRun

            try:
                self.run = RecordedRun(Path(folder), self.notes.append)
            except ReportError as error:
                raise pytest.UsageError(loggable(str(error))) from None
            self.signals.enter_context(interruptible(TERMINATION_SIGNALS[1:]))  # pytest handles Ctrl-C

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self.stopped = "interrupted"
        self.signalled = not isinstance(excinfo.value, pytest.Session.Interrupted)

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self.stopped = f"pytest had an internal error: {excinfo.typename}"

    def pytest_unconfigure(self) -> None:
        self.signals.close()
        if (folder := self.config.getoption("report")) is not None:
            unmark(Path(folder))

    def pytest_report_header(self) -> list[str]:
        if not is_requested(self.config):
            return []
        from conformance.adapters import registry
        from conformance.judging.choice import without_device

        available, missing = registry.installed()
        lines = [
            "conformance: "
            + (", ".join(f"{i.framework.name} {i.version}" for i in available) or "no framework installed")
        ]
        if missing:
            lines.append("conformance: left out, not installed: " + ", ".join(f.name for f in missing))
        device = self.config.getoption("device")
        if device != CPU and (elsewhere := without_device((), device)):
            lines.append(f"conformance: left out, no {device} for them here: {', '.join(elsewhere)}")
        lines += [loggable(f"conformance: {note}") for note in [*registry.broken_adapters(), *self.notes]]
        self.notes.clear()
        return [*lines, *self._other_packages(), *self._harvest_header()]

    def _other_packages(self) -> list[str]:
        """State which package is tested if there is another one of its name."""
        import importlib.metadata

        folder = self.config.invocation_params.dir
        checkouts = {*self.config.stash[CHECKOUTS], checkout_of(folder), checkout_of(folder / PACKAGE.name)}
        notes = {
            checkout: f"that in {checkout.parent} is not; `python -m pytest`, started there, tests it"
            for checkout in checkouts
            if checkout is not None
        }
        with contextlib.suppress(importlib.metadata.PackageNotFoundError, OSError):
            installed = Path(str(importlib.metadata.distribution(DISTRIBUTION).locate_file(PACKAGE.name)))
            file = installed / TEST_FILE.name
            if file.is_file() and not file.samefile(TEST_FILE):  # an editable installation has none
                notes[installed] = f"that installed in {installed.parent} is not"
        return [loggable(f"conformance: the package in {PACKAGE.parent} is tested; {text}") for text in notes.values()]

    def _harvest_header(self) -> list[str]:
        """Print the harvested projects; reading them here fills the cache for the processes of xdist."""
        if harvested_sources(self.config) is None:
            return []

        try:
            harvests = read_harvests(self.config)
        except UserError as error:
            return [f"conformance: {line}" for line in loggable(str(error)).splitlines()]
        lines = [
            f"conformance: harvested {format_count(len(harvest.cases), 'case')} of {harvest.source} {harvest.version}"
            for harvest in harvests.harvests
        ]
        return [*lines, *(loggable(f"conformance: left out: {notice}") for notice in harvests.missing)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        check_marks(self.config, items)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if self.config.getoption("collectonly"):
            return  # nothing is executed, so there are no rows
        losses = [item for test in session.items if (item := item_of(test)) is not None and item.quantity == "loss"]
        self._plan_tests((test.nodeid for test in session.items), losses)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        self._plan_tests(ids)

    def _plan_tests(self, nodeids: Iterable[str], losses: Sequence[Item] = ()) -> None:
        """Plan a row for each conformance test, and those of unsupported cases, once it is known which tests run.

        losses: the items of losses among the tests, if this process has them; their problems are known to be supported.
        """
        tested = [nodeid.partition("[")[2].split("-")[1] for nodeid in nodeids if is_conformance_test(nodeid)]
        if tested and not self.planned:  # all processes of xdist have collected the same tests
            self._plan(tested, functools.cache(functools.partial(self._unsupported_rows, losses)))

    def _plan(self, tested: Sequence[str], unsupported: Callable[[], Sequence[Row]]) -> None:
        """Plan the run.

        tested: id of the case of each test.  unsupported: returns the rows of unsupported cases; without a report
        it is called at the end, so that tests start earlier.
        """
        from conformance.adapters import registry
        from conformance.execution.run import Run

        if self.config.getoption("xmlpath", None):
            self._report_skips(unsupported())
        self.planned = len(tested)
        if self.run is None:
            self.run, self.pending = Run(), unsupported
            return
        row_cases = [*tested, *(row.key.case for row in unsupported())]
        self.planned = len(row_cases)
        from conformance.report import recording  # imports pandas

        assert isinstance(self.run, recording.RecordedRun)
        loaded = case_set(self.config)
        planned = recording.make_plan(
            loaded.cases,
            row_cases,
            self.run.started,
            [framework.name for framework in registry.installed()[1]],
            self._selected_options(),
            loaded.ledger,
            installed_frameworks(self.config),
            self.config.getoption("call_timeout"),
        )
        self.run.plan(planned, uncalled=unsupported())

    def _add_pending(self) -> None:
        """Add the rows of unsupported cases to the rows."""
        rows, self.pending = self.pending(), tuple
        if self.run is not None and rows:
            self.planned += len(rows)
            self.run.rows.extend(rows)

    def _report_skips(self, unsupported: Sequence[Row]) -> None:
        """Make `--junit-xml` list rows of unsupported cases as skipped tests, for which no tests exist.

        The terminal reports unsupported cases at the end.
        """
        manager = self.config.pluginmanager
        log = manager.subset_hook_caller("pytest_runtest_logreport", [manager.get_plugin("terminalreporter")])
        cases = {case.id: case for case in cases_of(self.config)}
        for row in unsupported:
            case = cases[row.key.case]
            name = f"{TEST_NAME}[{row.key.id}]"
            path = loggable(relative_path(self.config, case.path)) if case.path else f"{PACKAGE.name}/{TEST_FILE.name}"
            why = (path, case.line, f"Skipped: {loggable(row.explanation)}")
            make_report = functools.partial(pytest.TestReport, f"{path}::{name}", (path, case.line, name), {})
            log(report=make_report("skipped", why, "setup"))
            log(report=make_report("passed", None, "teardown", user_properties=list(row_properties(case, row))))

    def _nothing_can_be_called(self) -> bool:
        """Whether no function supports any of the cases; then each case gets a row with the reason."""
        from conformance.judging.plan import plan

        if not is_requested(self.config) or expression_filter(self.config, [str(TEST_FILE), TEST_NAME]) is not None:
            return False
        try:
            available = installed_frameworks(self.config)
            return not any(plan([case], available) for case in cases_of(self.config))
        except pytest.Collector.CollectError:
            return False

    def _unsupported_rows(self, losses: Sequence[Item] = ()) -> list[Row]:
        """The rows of selected cases that no function supports; empty if tests are named one by one."""
        from conformance.judging.unsupported import unsupported_rows

        if any(map(is_conformance_test, self.config.args)):
            return []
        item_filter = expression_filter(self.config, [str(TEST_FILE), TEST_NAME])
        available = installed_frameworks(self.config)
        answers = any(self.config.getoption(name) is not None for name in ("report", "baseline"))
        return unsupported_rows(cases_of(self.config), losses, available, item_filter, answers=answers)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.run is not None and (cells := getattr(report, ROW, None)) is not None:
            from conformance.judging.row import Row

            self.run.accept(Row.of(cells))
        if (fault := getattr(report, FAULT, "")) != "":
            self.faults.append(f"{report.nodeid}: {fault}")

    @pytest.hookimpl(wrapper=True, trylast=True)  # runs inside the hook of the terminal, which prints the summary
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        finished = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        nothing_called = not self.planned and not self.signalled and self._nothing_can_be_called()
        if nothing_called and (unsupported := self._unsupported_rows()):
            self._plan((), lambda: unsupported)
            finished = True
        self._add_pending()
        yield
        if self.faults and finished:
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        if not nothing_called and self.planned and (baseline := accepted_report(self.config)) is not None:
            self._compare_with_baseline(baseline, session)
        if self.config.getoption("report") is not None:
            self._end(finished, session)

    def _end(self, finished: bool, session: pytest.Session) -> None:
        """Write the report; the session fails if writing fails or is interrupted.

        finished: whether all tests ran.
        """
        from conformance.report import ReportError
        from conformance.report.recording import RecordedRun

        if not isinstance(run := self.run, RecordedRun):  # its folder is not writable
            return
        if not self.planned and not (self.stopped and is_requested(self.config)):
            run.abandon()
            return
        ended = run.stopped = "" if finished else self.stopped or "interrupted"
        try:
            self.written = run.write()
        except ReportError as error:
            self.problem = str(error)
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        if run.stopped != ended:
            session.exitstatus = pytest.ExitCode.INTERRUPTED

    def _compare_with_baseline(self, baseline: Baseline, session: pytest.Session) -> None:
        """Compare the rows with the baseline; the session fails if there are regressions."""
        from conformance.comparison.baseline import ExpectedRows

        finished = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        item_filter = expression_filter(self.config, [str(TEST_FILE), TEST_NAME])
        requested = {argument.partition("[")[2][:-1] for argument in self.config.args if is_conformance_test(argument)}
        has_case = self._case_filter()
        results = self.results
        scope = ExpectedRows(
            frozenset(results["framework"]),
            lambda of, name: (
                (not requested or name in requested)
                and (item_filter is None or item_filter(of, name))
                and has_case(name)
            ),
            finished,
            {(case.id, *of) for case in cases_of(self.config) for of in product(case.dtypes, case.reductions)},
            baseline.processor_difference,
        )
        try:
            check = baseline.check(results, scope)
        except UserError as error:
            self.problem = str(error)
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
            return
        self.regressions = check.lines()
        if not check.ok and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.faults:
            terminalreporter.section("cross-entropy conformance: the suite itself failed")
            for fault in self.faults[:MAX_FAULTS]:
                terminalreporter.line(loggable(fault), red=True)
            terminalreporter.line(f"{len(self.faults)} tests; please report it: {ISSUES}")
        has_rows = self.run is not None and len(self.run.rows) > 0
        hint = "" if has_rows else self._similar() or self._option_hint(terminalreporter)
        if not has_rows and not hint:
            return
        terminalreporter.section("cross-entropy conformance")
        if hint:
            terminalreporter.line(loggable(hint))
            return
        lines = [*self._closing_lines(), *self._other_packages(), *self.regressions]
        if self.written:
            lines.append(f"report: {Path(self.config.getoption('report')) / 'index.html'}")
        for line in (*lines, *self.notes):
            terminalreporter.line(loggable(line))
        if self.problem:
            terminalreporter.line(loggable(f"ERROR: {self.problem}"), red=True)

    def _similar(self) -> str:
        """A suggestion if -k selected no conformance test because a word is in no id; "" if there is none."""
        from conformance.judging.plan import plan
        from conformance.judging.selection import SelectionError, similar

        keyword = self.config.getoption("keyword")
        is_selected = self.planned or any(map(item_of, self.config.stash[SESSION].items))  # none with `--collect-only`
        if not keyword or is_selected or not requests_file(self.config, TEST_FILE):
            return ""
        try:
            suggestion = similar(
                keyword, [item.id for item in plan(cases_of(self.config), installed_frameworks(self.config))]
            )
        except (SelectionError, pytest.Collector.CollectError):
            return ""
        return suggestion and f"nothing is selected by -k {keyword}; {suggestion}"

    def _option_hint(self, terminalreporter: Any) -> str:
        """A hint on the options that request conformance tests, if there were no tests, or -k names a framework."""
        from conformance.adapters import registry

        session = self.config.stash[SESSION]
        if is_requested(self.config) or session.exitstatus != pytest.ExitCode.NO_TESTS_COLLECTED:
            return ""
        keyword = self.config.getoption("keyword")
        if terminalreporter.stats.get("deselected") and not any(
            framework.name in keyword for framework in registry.frameworks()
        ):
            return ""
        selection = f" -k {shlex.quote(truncate(keyword, MAX_SHOWN))}" if keyword else ""
        return (
            "no conformance test was requested; "
            f"pytest --pyargs {PACKAGE.name}{selection} runs the shipped cases, pytest --cases DIR{selection} your own"
        )

    def _closing_lines(self) -> list[str]:
        """The lines at the end of a run, with the unsupported cases and the verdict."""
        from conformance.adapters.registry import installed
        from conformance.judging.unsupported import PROBLEM_COLUMNS, render_unsupported, unsupported_problems
        from conformance.report import frames, recording

        results = self.results
        details = []
        if self.config.get_verbosity() > 0:
            partly = self.config.getoption("keyword") or self.config.getoption("markexpr") or self._is_harvested()
            coverage = "" if partly else recording.coverage_line(cases_of(self.config))
            largest = frames.records(frames.largest_ratios(results))
            details = recording.closing_lines(largest, coverage)
        narrowed = bool(self.config.getoption("markexpr") or self.config.getoption("keyword") or installed()[1])
        unsupported = unsupported_problems(results[PROBLEM_COLUMNS].itertuples(index=False, name=None))
        lines = [*details, *render_unsupported(unsupported, narrowed=narrowed), recording.skipped_line(results)]
        lines.append(recording.verdict_line(results, self.planned))
        if self.written and case_folder(self.config) is not None:
            report = Path(self.config.getoption("report"))
            lines.append(recording.published_line(self.written, cases_of(self.config), report))
        return list(filter(None, lines))

    def _is_harvested(self) -> bool:
        return harvested_sources(self.config) is not None

    def _case_filter(self) -> Callable[[str], bool]:
        """Return a predicate: whether an id is of a case of this session; always true unless all are harvested."""
        if not self._is_harvested() or case_folder(self.config) is not None:
            return lambda _: True
        ids = {case.id for case in cases_of(self.config)}
        return lambda name: any(f"-{part}-" in name for part in ids if part in name)

    def _selected_options(self) -> str:
        """The options that excluded items, as given."""
        options = [f"{flag} {value}" for flag in ("-k", "-m") if (value := self.config.getoption(EXPRESSIONS[flag]))]
        return " ".join([*options, *filter(is_conformance_test, self.config.args)])

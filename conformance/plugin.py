"""The pytest plugin: options, parametrisation, and a recorder that writes the report (also with xdist).

It is installed as an entry point, but inactive in a test run without cases: neither
`--cases`, nor the ini option `conformance_cases`, nor one of this package's own test files.  Relations are tested
if their test file is named; they are ordinary tests and add no rows to the report.

The executed tests are those of the imported package, even if an argument or `testpaths` names those of a checkout:
pytest has imported this plugin before it reads either, and a process can import only one package of a name.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import math
import re
import shlex
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conformance.execution.marking import mark, unmark
from conformance.model.errors import ISSUES, UserError, file_errors
from conformance.model.row_key import CPU, unusual
from conformance.model.text import counted, loggable, truncate

if TYPE_CHECKING:
    import pandas as pd

    from conformance.adapters.registry import Installed
    from conformance.comparison.baseline import Baseline
    from conformance.execution.run import Run
    from conformance.execution.workers.pool import Timeouts
    from conformance.explore.relations.checker import Instance, RelationResult
    from conformance.judging.judge import Assessment, Judge
    from conformance.judging.plan import Item
    from conformance.judging.row import Row
    from conformance.judging.selection import ItemFilter
    from conformance.model.case import Case
    from conformance.power.harvest.pipeline import Harvests

DISTRIBUTION = "cross-entropy-conformance"
PACKAGE = Path(__file__).parent
INVALID = "invalid"
"""Follows the file in the id of an error in that file, in place of a test function."""
TESTS = PACKAGE / "tests"
TEST_FILE = PACKAGE / "test_conformance.py"
TEST_NAME = "test_conformance"
RELATIONS_FILE = PACKAGE / "test_relations.py"
RELATIONS_NAME = "test_relations"
ROW = "conformance_row"
FAULT = "conformance_fault"
MAX_FAULTS = 5
"""Maximum number of exceptions of this package that are shown."""
MAX_SHOWN = 80
"""Maximum number of characters of an expression in a message."""
EXIT_SECONDS = 30.0
"""Seconds granted to threads and exit handlers after pytest has ended, including those of other plugins."""
_OPTIONS = {"-k": "keyword", "-m": "markexpr"}


def _seconds(text: str) -> float:
    """Parse a positive, finite duration; raises ValueError, for which pytest rejects the option."""
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise ValueError(text)
    return seconds


def _path(text: str) -> str:
    """Parse a non-empty path; raises ValueError, for which pytest rejects the option."""
    if not text.strip():
        raise ValueError(text)
    return text


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance", "cross-entropy conformance")
    group.addoption(
        "--cases",
        metavar="DIR",
        type=_path,
        help="folder of case files (or one file) to run instead of the shipped ones",
    )
    group.addoption(
        "--mode",
        metavar="NAME",
        action="append",
        help="call functions in this mode, such as compile, if their framework has it (may be repeated); else eager",
    )
    group.addoption(
        "--device",
        metavar="NAME",
        default=CPU,
        help="place arrays there, such as on cuda or mps, for frameworks that compute there; others are left out",
    )
    group.addoption(
        "--isolate", action="store_true", help="make each framework's calls in a process of its own, which may die"
    )
    group.addoption(
        "--call-timeout", metavar="SECONDS", type=_seconds, default=120.0, help="what a call may take with --isolate"
    )
    group.addoption(
        "--import-timeout",
        metavar="SECONDS",
        type=_seconds,
        default=1800.0,
        help="what the import of a framework may take with --isolate",
    )
    group.addoption(
        "--baseline",
        metavar="REPORT",
        type=_path,
        help="an accepted report: what got worse against it fails, what it has does not",
    )
    group.addoption("--strict-known", action="store_true", help="what the ledger knows fails, too")
    group.addoption(
        "--harvest",
        metavar="SOURCE",
        nargs="?",
        const="",
        action="append",
        help="run cases read from the tests that other projects ship in their wheels, of all that are installed or of "
        "SOURCE (may be repeated), instead of the shipped ones or beside those of --cases",
    )
    group.addoption("--report", metavar="DIR", type=_path, help="folder to write the discrepancy report to")
    parser.addini("conformance_cases", "folder of case files to run, relative to the ini file")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Do not load conftest files from a checkout whose package is not the imported one."""
    known = early_config.known_args_namespace
    folder = early_config.invocation_params.dir
    if known.file_or_dir or _checkout_of(folder):
        known.file_or_dir = _redirected(early_config, known.file_or_dir or [str(folder)])


def pytest_configure(config: pytest.Config) -> None:
    _check_expressions(config)
    config.args = _redirected(config, config.args)
    if (_folder(config) is not None or _harvested(config) is not None) and not _requests_file(config, TEST_FILE):
        config.args.append(str(TEST_FILE))
    if _is_requested(config) or config.getoption("markers"):
        with contextlib.suppress(UserError):  # reported during collection
            _mark_frameworks(config)
    if not hasattr(config, "workerinput"):
        if (report := config.getoption("report")) is not None:
            mark(Path(report))
        config.pluginmanager.register(Recorder(config), "conformance-recorder")


def _check_expressions(config: pytest.Config) -> None:
    """Raise UsageError if -k or -m is too deep for pytest's own parser, which fails only once all is collected."""
    marks = config.pluginmanager.get_plugin("mark")
    try:
        if marks is not None:
            marks.pytest_collection_modifyitems(items=[], config=config)
    except pytest.UsageError:
        return  # pytest says what is wrong, after its collection
    except RecursionError:
        raise pytest.UsageError(
            "-k and -m: pytest cannot read an expression that is nested so deeply; write fewer parentheses and words"
        ) from None


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[_SESSION] = session


def pytest_unconfigure(config: pytest.Config) -> None:
    """Keep a thread that a framework started from blocking the exit of pytest."""
    from conformance.execution.ending import ensure_exit

    if (session := config.stash.get(_SESSION, None)) is not None:
        ensure_exit(int(session.exitstatus), EXIT_SECONDS)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore the package of a checkout, for which the imported one stands in (see `_redirected`), and internal tests.

    `--pyargs conformance` tests the frameworks.  This package's internal tests need dependencies that only a checkout
    installs; they are named by `--pyargs conformance.tests`.
    """
    unnamed = (
        collection_path == TESTS
        and config.getoption("pyargs")
        and not any(TESTS in (path, *path.parents) for path in (_path_of(config, name) for name in config.args))
    )
    return True if unnamed or collection_path in config.stash.get(_CHECKOUTS, ()) else None


def _redirected(config: pytest.Config, arguments: list[str]) -> list[str]:
    """Arguments of pytest, with the files of a checkout's package replaced by those of the imported one.

    Raises UsageError for a file that the imported package does not have.
    """
    checkouts = config.stash.setdefault(_CHECKOUTS, set())
    redirected = []
    for argument in arguments:
        if _is_conformance_test(argument):  # its name contains the file of its case; see `pytest_itemcollected`
            argument = f"{TEST_FILE}::{argument.partition('::')[2]}"
        path = _path_of(config, argument)
        checkout = _checkout_of(path) or _checkout_of(path / PACKAGE.name)
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


def _checkout_of(path: Path) -> Path | None:
    """The package with this name that contains a path, if it is not the imported one."""
    with contextlib.suppress(OSError):  # a name may be too long for a path
        for folder in (path, *path.parents):
            plugin = folder / Path(__file__).name
            if folder.name == PACKAGE.name and plugin.is_file():
                return None if plugin.samefile(__file__) else folder
    return None


def _module(name: str) -> Path | None:
    """The file or folder of a module of the imported package; None if there is none."""
    if name.partition(".")[0] != PACKAGE.name:
        return None
    path = PACKAGE.resolve().parent.joinpath(*name.split("."))
    return next((candidate for candidate in (path, path.with_suffix(".py")) if candidate.exists()), None)


def _path_of(config: pytest.Config, argument: str) -> Path:
    """The file or folder named by an argument of pytest, which with `--pyargs` may be a module of this package."""
    name = argument.partition("::")[0]
    if config.known_args_namespace.pyargs and (module := _module(name)) is not None:
        return module
    return (config.invocation_params.dir / name).resolve()


def _check_marks(config: pytest.Config, items: Sequence[pytest.Item] = ()) -> None:
    """Raise UsageError if `-m` has a word that marks no test and is not registered: probably a misspelling."""
    if not (expression := config.getoption("markexpr")) or not _is_requested(config):
        return
    from conformance.judging.selection import SelectionError, words_of  # imports numpy

    try:
        words = words_of(expression)
    except SelectionError:
        return  # pytest reports it
    registered = {re.split(r"[:(]", line)[0].strip() for line in config.getini("markers")}
    if unknown := words - registered - {mark.name for item in items for mark in item.iter_markers()}:
        names = ", ".join(sorted(config.stash.get(_MARKED, ())))
        raise pytest.UsageError(
            loggable(f"-m {expression}: there is no marker {', '.join(sorted(unknown))}; frameworks: {names}")
        )


def _is_requested(config: pytest.Config) -> bool:
    """Whether conformance tests are requested: by cases, or by one of the package's test files."""
    return (
        _folder(config) is not None
        or _harvested(config) is not None
        or _requests_file(config, TEST_FILE, RELATIONS_FILE)
    )


def _requests_file(config: pytest.Config, *files: Path) -> bool:
    """Whether pytest's arguments include one of these files of the package, or a folder that contains it."""
    folders = {parent.resolve() for file in files for parent in (file, *file.parents)}
    return any(_path_of(config, argument) in folders for argument in config.args)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Exclude collected tests from garbage collection.

    They exist until the end of the session; scanning them takes as long as many tests.
    """
    if not _is_requested(session.config) or not gc.isenabled():
        return (yield)
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Name a conformance test by its file in messages, for `--last-failed` and as the classname of `--junit-xml`.

    This is the file of its case, or else its own; pytest has no names for files outside of its root.
    """
    if (of := _item(item)) is not None and of.case.path:
        _rename(item, f"{loggable(_relative_path(item.config, of.case.path))}::{item.name}")
    elif item.nodeid.startswith("::") and item.path.parent == PACKAGE:
        _rename(item, f"{PACKAGE.name}/{item.path.name}{item.nodeid}")


def _rename(item: Any, nodeid: str) -> None:
    """Change the node id of a test, which pytest derives from the file of the function without an option."""
    if hasattr(item, "id"):  # pytest 9.2 or newer
        item._id = type(item.id).parse(nodeid)
    else:
        item._nodeid = nodeid


def _relative_path(config: pytest.Config, file: str) -> str:
    """The path of a case file, relative to pytest's root folder, or for a shipped one to the case folder."""
    from conformance.casefiles.loading import shipped_cases

    known = config.stash.setdefault(_RELATIVE_PATHS, {})
    if file not in known:
        path = Path.cwd() / file
        roots = (config.rootpath, shipped_cases().parent)
        relative_paths = (path.relative_to(root).as_posix() for root in roots if path.is_relative_to(root))
        known[file] = next(relative_paths, file)
    return known[file]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Report errors in case files once per file, not for each test module that reads them."""
    report = yield
    if not report.failed or not isinstance(collector, pytest.Module) or collector.path.parent != PACKAGE:
        return report
    raised = report.call.excinfo.value
    texts: dict[str, list[str]] = {}
    for error in file_errors(raised.__context__):
        name = loggable(_relative_path(collector.config, error.path))
        texts.setdefault(f"{name}::{INVALID}", []).append(loggable(str(error)))
    if not texts:
        texts = {f"{PACKAGE.name}/{collector.path.name}::collection": [str(report.longrepr)]}
    reported = collector.config.stash.setdefault(_INVALID, set())
    reports = [
        pytest.CollectReport(nodeid, "failed", "\n".join(lines), None)
        for nodeid, lines in texts.items()
        if nodeid not in reported
    ]
    *earlier_reports, last = reports or [pytest.CollectReport(report.nodeid, "passed", None, [])]
    reported.update(texts)
    for earlier in earlier_reports:
        collector.ihook.pytest_collectreport(report=earlier)
    return last


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.startswith("conformance.test_"):
        from conformance.adapters.contract.calling import share_processors

        share_processors()
        with _ending_collection():
            _mark_frameworks(metafunc.config)
    match metafunc.module.__name__:
        case "conformance.test_conformance" if "item" in metafunc.fixturenames:
            _parametrize(metafunc, "item", TEST_NAME, _items)
        case "conformance.test_relations" if "instance" in metafunc.fixturenames:
            _parametrize(metafunc, "instance", RELATIONS_NAME, _instances)
        case "conformance.test_fuzz" if "installed" in metafunc.fixturenames:
            _parametrize_frameworks(metafunc)


def _parametrize(metafunc: pytest.Metafunc, argument: str, name: str, make: Maker) -> None:
    config = metafunc.config
    parents = [
        node.name for node in metafunc.definition.listchain()[1:-1] if not isinstance(node.parent, pytest.Session)
    ]
    values = make(config, _item_filter(config, [*parents, name]))
    marked = [
        pytest.param(value, id=value.id, marks=getattr(pytest.mark, value.function.framework_name)) for value in values
    ]
    metafunc.parametrize(argument, marked)


def _parametrize_frameworks(metafunc: pytest.Metafunc) -> None:
    available = _installed_frameworks(metafunc.config)
    marked = [
        pytest.param(
            i,
            id="-".join([i.framework.name, *unusual(mode=i.mode, device=i.device)]),
            marks=getattr(pytest.mark, i.framework.name),
        )
        for i in available
    ]
    metafunc.parametrize("installed", marked)


def _mark_frameworks(config: pytest.Config) -> None:
    """Register a marker for each framework, once.

    Raises AdapterError for an adapter that cannot be used, unless -k or -m say which tests are run.
    """
    from conformance.adapters import registry

    if _MARKED not in config.stash:
        if not (config.getoption("keyword") or config.getoption("markexpr")):
            registry.check()
        config.stash[_MARKED] = names = {framework.name for framework in registry.frameworks()}
        for name in sorted(names):
            config.addinivalue_line("markers", f"{name}: functions of {name}")


Maker = Callable[[pytest.Config, "ItemFilter | None"], "Sequence[Item | Instance]"]


def _item_filter(config: pytest.Config, parents: list[str]) -> ItemFilter | None:
    """A filter for -k and -m, so that deselected items are never created, which would take longer than `-k sklearn`.

    parents: names of the modules and the function of the tests.  pytest selects again among the remaining tests, and
    alone if the expression cannot be parsed here.
    """
    from conformance.judging.selection import SelectionError, keyword_filter

    try:
        return keyword_filter(config.getoption("keyword"), config.getoption("markexpr"), "\n".join(parents))
    except SelectionError:
        return None


@pytest.fixture(scope="session")
def judge(request: pytest.FixtureRequest) -> Iterator[Judge]:
    """The judge of the session, with the user's cache and the ledger."""
    from conformance.judging.judge import Judge
    from conformance.reference.oracle import cached_oracle

    with cached_oracle() as oracle:
        yield Judge(oracle, _case_set(request.config)[1])


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
        accepted=_accepted(config),
        strict_known=bool(config.getoption("strict_known")),
        options=_options_again(config),
    )
    if not config.getoption("isolate"):
        yield make(judge.assess)
        return
    from conformance.execution.assessing import PipelinedCalls
    from conformance.execution.targets import local_pool

    # Under xdist each process receives its tests in small batches, so that later tests are unknown.
    alone = not hasattr(config, "workerinput")
    items = [item for test in request.session.items if (item := _item(test)) is not None] if alone else []
    frameworks = {item.framework.name for item in items}
    available = _installed_frameworks(config)
    selected = [installation for installation in available if installation.framework.name in frameworks or not alone]
    with local_pool(selected, _timeouts(config)) as pool:
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

    available = _installed_frameworks(request.config)
    with local_pool(available, _timeouts(request.config)) as pool:
        yield Checker(performer(pool, available), judge.ledger).check


def _timeouts(config: pytest.Config) -> Timeouts:
    from conformance.execution.workers.pool import Timeouts

    return Timeouts(config.getoption("call_timeout"), config.getoption("import_timeout"))


def _item(test: pytest.Item) -> Item | None:
    """The item of a test; None for other tests."""
    callspec = getattr(test, "callspec", None) if _is_conformance_test(test.nodeid) else None
    return None if callspec is None else callspec.params["item"]


@pytest.fixture(scope="session")
def strict_known(request: pytest.FixtureRequest) -> bool:
    """Whether known discrepancies fail."""
    return bool(request.config.getoption("strict_known"))


def _options_again(config: pytest.Config) -> str:
    """The options that affect outcomes or failures, as given, each followed by a blank."""
    from conformance.execution.workers.pool import TIMEOUT

    words = [f"--{name}" for name in ("isolate", "strict-known") if config.getoption(name.replace("-", "_"))]
    if config.getoption("isolate") and config.getoption("call_timeout") != TIMEOUT:
        words.append(f"--call-timeout={config.getoption('call_timeout'):g}")
    if (baseline := config.getoption("baseline")) is not None:
        words.append(f"--baseline={shlex.quote(baseline)}")
    return "".join(f"{word} " for word in words)


def _accepted(config: pytest.Config) -> Callable[[Assessment], bool]:
    """Return a predicate: whether the baseline has the same discrepancy."""
    if (baseline := _baseline(config)) is None:
        return lambda _: False
    from conformance.judging.verdict import FAILING_ROWS

    rows = baseline.rows[_IDENTITY]
    failures = set(rows[rows["expected"].isin(FAILING_ROWS)].itertuples(index=False, name=None))
    return lambda assessment: tuple(assessment.row.cells[name] for name in _IDENTITY) in failures


_SESSION = pytest.StashKey[pytest.Session]()
_PROPERTIES = ("case", "function", "version", "environment", "dtype", "reduction", "quantity", "status", "expected")
_IDENTITY = ["function", "case", "digest", "dtype", "reduction", "quantity", "mode", "device", "status", "expected"]
_LOADED = pytest.StashKey[Any]()
_HARVEST = pytest.StashKey["Harvests"]()
_CHECKOUTS = pytest.StashKey[set[Path]]()
_CHECKED = pytest.StashKey[bool]()
"""Set once the device of --device has been checked."""
_MARKED = pytest.StashKey[set[str]]()
_BASELINE = pytest.StashKey["Baseline"]()
"""The accepted report."""
_RELATIVE_PATHS = pytest.StashKey[dict[str, str]]()
_INVALID = pytest.StashKey[set[str]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    assessment = _assessment(item) if call.when == "call" else None
    if assessment is not None and item.config.getoption("xmlpath", None):
        item.user_properties += _properties(assessment.item.case, assessment.row)
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


def _properties(case: Case, row: Row) -> Iterator[tuple[str, str]]:
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
    if call.excinfo is None or not _is_conformance_test(item.nodeid) or not isinstance(call.excinfo.value, Exception):
        return ""
    kinds = (pytest.fail.Exception, pytest.skip.Exception, pytest.xfail.Exception)
    return "" if isinstance(call.excinfo.value, kinds) else call.excinfo.typename


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
        if all(PACKAGE.resolve() in _path_of(self.config, argument).parents for argument in self.config.args):
            _check_marks(self.config)  # before collection, which happens in xdist's processes

        try:
            _baseline(self.config)
            if (sources := _harvested(self.config)) is not None:
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
        if not _is_requested(self.config):
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
        checkouts = {*self.config.stash[_CHECKOUTS], _checkout_of(folder), _checkout_of(folder / PACKAGE.name)}
        notes = {
            checkout: f"that in {checkout.parent} is not; `python -m pytest`, started there, tests it"
            for checkout in checkouts
            if checkout is not None
        }
        with contextlib.suppress(importlib.metadata.PackageNotFoundError, OSError):
            installed = Path(str(importlib.metadata.distribution(DISTRIBUTION).locate_file(PACKAGE.name)))
            file = installed / Path(__file__).name
            if file.is_file() and not file.samefile(__file__):  # an editable installation has none
                notes[installed] = f"that installed in {installed.parent} is not"
        return [loggable(f"conformance: the package in {PACKAGE.parent} is tested; {text}") for text in notes.values()]

    def _harvest_header(self) -> list[str]:
        """Print the harvested projects; reading them here fills the cache for the processes of xdist."""
        if _harvested(self.config) is None:
            return []

        try:
            harvests = _harvests(self.config)
        except UserError as error:
            return [f"conformance: {line}" for line in loggable(str(error)).splitlines()]
        lines = [
            f"conformance: harvested {counted(len(harvest.cases), 'case')} of {harvest.source} {harvest.version}"
            for harvest in harvests.harvests
        ]
        return [*lines, *(loggable(f"conformance: left out: {notice}") for notice in harvests.missing)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        _check_marks(self.config, items)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if self.config.getoption("collectonly"):
            return  # nothing is executed, so there are no rows
        losses = [item for test in session.items if (item := _item(test)) is not None and item.quantity == "loss"]
        self._plan_tests((test.nodeid for test in session.items), losses)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        self._plan_tests(ids)

    def _plan_tests(self, nodeids: Iterable[str], losses: Sequence[Item] = ()) -> None:
        """Plan a row for each conformance test, and those of unsupported cases, once it is known which tests run.

        losses: the items of losses among the tests, if this process has them; their problems are known to be supported.
        """
        tested = [nodeid.partition("[")[2].split("-")[1] for nodeid in nodeids if _is_conformance_test(nodeid)]
        if tested and not self.planned:  # all processes of xdist have collected the same tests
            self._plan(tested, functools.cache(functools.partial(self._unsupported, losses)))

    def _plan(self, tested: Sequence[str], unsupported: Callable[[], Sequence[Row]]) -> None:
        """Plan the run.

        tested: the id of the case of each test.  unsupported: returns the rows of unsupported cases; without a report
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
        cases, ledger = _case_set(self.config)
        planned = recording.make_plan(
            cases,
            row_cases,
            self.run.started,
            [framework.name for framework in registry.installed()[1]],
            self._selected(),
            ledger,
            _installed_frameworks(self.config),
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
        cases = {case.id: case for case in _cases_of(self.config)}
        for row in unsupported:
            case = cases[row.key.case]
            name = f"{TEST_NAME}[{row.key.id}]"
            path = loggable(_relative_path(self.config, case.path)) if case.path else f"{PACKAGE.name}/{TEST_FILE.name}"
            why = (path, case.line, f"Skipped: {loggable(row.explanation)}")
            make_report = functools.partial(pytest.TestReport, f"{path}::{name}", (path, case.line, name), {})
            log(report=make_report("skipped", why, "setup"))
            log(report=make_report("passed", None, "teardown", user_properties=list(_properties(case, row))))

    def _nothing_can_be_called(self) -> bool:
        """Whether no function supports any of the cases; then each case gets a row with the reason."""
        from conformance.judging.plan import plan

        if not _is_requested(self.config) or _item_filter(self.config, [str(TEST_FILE), TEST_NAME]) is not None:
            return False
        try:
            available = _installed_frameworks(self.config)
            return not any(plan([case], available) for case in _cases_of(self.config))
        except pytest.Collector.CollectError:
            return False

    def _unsupported(self, losses: Sequence[Item] = ()) -> list[Row]:
        """The rows of selected cases that no function supports; empty if tests are named one by one."""
        from conformance.judging.unsupported import unsupported_rows

        if any(map(_is_conformance_test, self.config.args)):
            return []
        item_filter = _item_filter(self.config, [str(TEST_FILE), TEST_NAME])
        available = _installed_frameworks(self.config)
        answers = any(self.config.getoption(name) is not None for name in ("report", "baseline"))
        return unsupported_rows(_cases_of(self.config), losses, available, item_filter, answers=answers)

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
        if nothing_called and (unsupported := self._unsupported()):
            self._plan((), lambda: unsupported)
            finished = True
        self._add_pending()
        yield
        if self.faults and finished:
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        if not nothing_called and self.planned and (baseline := _baseline(self.config)) is not None:
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
        if not self.planned and not (self.stopped and _is_requested(self.config)):
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
        from conformance.comparison.baseline import RunScope

        finished = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        item_filter = _item_filter(self.config, [str(TEST_FILE), TEST_NAME])
        requested = {argument.partition("[")[2][:-1] for argument in self.config.args if _is_conformance_test(argument)}
        has_case = self._case_filter()
        results = self.results
        scope = RunScope(
            frozenset(results["framework"]),
            lambda of, name: (
                (not requested or name in requested)
                and (item_filter is None or item_filter(of, name))
                and has_case(name)
            ),
            finished,
            {(case.id, *of) for case in _cases_of(self.config) for of in product(case.dtypes, case.reductions)},
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
        is_selected = self.planned or any(map(_item, self.config.stash[_SESSION].items))  # none with `--collect-only`
        if not keyword or is_selected or not _requests_file(self.config, TEST_FILE):
            return ""
        try:
            suggestion = similar(
                keyword, [item.id for item in plan(_cases_of(self.config), _installed_frameworks(self.config))]
            )
        except (SelectionError, pytest.Collector.CollectError):
            return ""
        return suggestion and f"nothing is selected by -k {keyword}; {suggestion}"

    def _option_hint(self, terminalreporter: Any) -> str:
        """A hint on the options that request conformance tests, if there were no tests, or -k names a framework."""
        from conformance.adapters import registry

        session = self.config.stash[_SESSION]
        if _is_requested(self.config) or session.exitstatus != pytest.ExitCode.NO_TESTS_COLLECTED:
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
            partly = self.config.getoption("keyword") or self.config.getoption("markexpr") or self._harvested()
            coverage = "" if partly else recording.coverage_line(_cases_of(self.config))
            largest = frames.records(frames.largest_ratios(results))
            details = recording.closing_lines(largest, coverage)
        narrowed = bool(self.config.getoption("markexpr") or self.config.getoption("keyword") or installed()[1])
        unsupported = unsupported_problems(results[PROBLEM_COLUMNS].itertuples(index=False, name=None))
        lines = [*details, *render_unsupported(unsupported, narrowed=narrowed), recording.skipped_line(results)]
        lines.append(recording.verdict_line(results, self.planned))
        if self.written and _folder(self.config) is not None:
            report = Path(self.config.getoption("report"))
            lines.append(recording.published_line(self.written, _cases_of(self.config), report))
        return list(filter(None, lines))

    def _harvested(self) -> bool:
        return _harvested(self.config) is not None

    def _case_filter(self) -> Callable[[str], bool]:
        """Return a predicate: whether an id is of a case of this session; always true unless all are harvested."""
        if not self._harvested() or _folder(self.config) is not None:
            return lambda _: True
        ids = {case.id for case in _cases_of(self.config)}
        return lambda name: any(f"-{part}-" in name for part in ids if part in name)

    def _selected(self) -> str:
        """The options that excluded items, as given."""
        options = [f"{flag} {value}" for flag in ("-k", "-m") if (value := self.config.getoption(_OPTIONS[flag]))]
        return " ".join([*options, *filter(_is_conformance_test, self.config.args)])


def _is_conformance_test(nodeid: str) -> bool:
    return f"::{TEST_NAME}[" in nodeid


def _baseline(config: pytest.Config) -> Baseline | None:
    """The accepted report, read once per session; None if none is given."""
    if (path := config.getoption("baseline")) is not None and _BASELINE not in config.stash:
        from conformance.comparison.baseline import Baseline

        config.stash[_BASELINE] = Baseline.read(Path(path))
    return config.stash.get(_BASELINE, None)


def _folder(config: pytest.Config) -> Path | None:
    """The folder of cases, by option or ini file."""
    if (value := config.getoption("cases")) is not None:
        return Path(value)
    if ini := config.getini("conformance_cases"):
        return (config.inipath.parent if config.inipath else config.rootpath) / str(ini)
    return None


def _harvested(config: pytest.Config) -> list[str] | None:
    """The sources to harvest, [] for all; None for no harvest."""
    value = config.getoption("harvest")
    return None if value is None else [name for name in value if name]


def _harvests(config: pytest.Config) -> Harvests:
    """The harvested cases, read once per session together with other cases; raises what `load_harvest` raises."""
    if _HARVEST not in config.stash:
        from conformance.power.harvest.pipeline import load_harvest

        cases, ledger, harvests = load_harvest(_harvested(config) or [], _folder(config))
        config.stash[_LOADED] = cases, ledger
        config.stash[_HARVEST] = harvests
    return config.stash[_HARVEST]


def _case_set(config: pytest.Config) -> tuple[list[Case], Any]:
    """(cases, ledger), read once per session; errors in them end collection with a message."""
    if _LOADED not in config.stash:
        from conformance.judging.case_set import load_suite

        with _ending_collection():
            if _harvested(config) is not None:
                _harvests(config)
            else:
                config.stash[_LOADED] = load_suite(_folder(config))
    loaded: tuple[list[Case], Any] = config.stash[_LOADED]
    return loaded


@contextlib.contextmanager
def _ending_collection() -> Iterator[None]:
    """Make a user error end the collection of tests with its message."""
    try:
        yield
    except UserError as error:
        raise pytest.Collector.CollectError(loggable(str(error))) from None


def _cases_of(config: pytest.Config) -> list[Case]:
    return _case_set(config)[0]


def _installed_frameworks(config: pytest.Config) -> list[Installed]:
    """The installed frameworks, each in the modes of --mode and on the device of --device; if there are
    none, collection ends with a message.
    """
    from conformance.execution.targets import check_devices
    from conformance.judging.choice import installed_among

    with _ending_collection():
        expressions = f"{config.getoption('keyword')} {config.getoption('markexpr')}"
        available, _ = installed_among((), config.getoption("mode") or (), expressions, config.getoption("device"))
        if _CHECKED not in config.stash:
            check_devices(available)
            config.stash[_CHECKED] = True
        return available


def _items(config: pytest.Config, item_filter: ItemFilter | None) -> list[Item]:
    from conformance.judging.plan import plan

    available = _installed_frameworks(config)
    items = plan(_cases_of(config), available, item_filter)
    if not items and item_filter is not None:
        return plan(_cases_of(config)[:1], available)  # for pytest to deselect
    if not items:
        raise pytest.Collector.CollectError(
            "no installed function can express any of the cases: install more, or add cases"
        )
    return items


def _instances(config: pytest.Config, item_filter: ItemFilter | None) -> list[Instance]:
    from conformance.explore.relations.catalogue import check_names
    from conformance.explore.relations.selection import select_instances

    available = _installed_frameworks(config)
    cases, ledger = _case_set(config)
    with _ending_collection():
        check_names(ledger)
    instances = select_instances(cases, available, item_filter)
    if not instances and item_filter is not None:
        return select_instances(cases[:1], available)[:1]  # for pytest to deselect
    if not instances:
        raise pytest.Collector.CollectError(
            "no installed function supports two forms of any of the cases: install more, or add cases"
        )
    return instances

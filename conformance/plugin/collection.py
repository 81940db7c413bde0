"""Collection: conformance tests are parametrised, marked and named, and invalid case files are reported."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from conformance.model.errors import file_errors
from conformance.model.row_key import unusual
from conformance.model.text import loggable
from conformance.plugin.arguments import PACKAGE, RELATIONS_NAME, TEST_NAME, is_requested
from conformance.plugin.checking import item_of
from conformance.plugin.session import case_set, cases_of, ending_collection, expression_filter, installed_frameworks

if TYPE_CHECKING:
    from conformance.explore.relations.checker import Instance
    from conformance.judging.plan import Item
    from conformance.judging.selection import ItemFilter
    from conformance.model.case import Case

T = TypeVar("T")
INVALID = "invalid"
"""Follows the file in the id of an error in that file, in place of a test function."""
ParameterFactory = Callable[[pytest.Config, "ItemFilter | None"], "Sequence[Item | Instance]"]
MARKER_NAMES = pytest.StashKey[set[str]]()
_RELATIVE_PATHS = pytest.StashKey[dict[str, str]]()
_INVALID = pytest.StashKey[set[str]]()


def check_marks(config: pytest.Config, items: Sequence[pytest.Item] = ()) -> None:
    """Raise UsageError if `-m` has a word that marks no test and is not registered: probably a misspelling."""
    if not (expression := config.getoption("markexpr")) or not is_requested(config):
        return
    from conformance.judging.selection import SelectionError, words_of  # imports numpy

    try:
        words = words_of(expression)
    except SelectionError:
        return  # pytest reports it
    registered = {re.split(r"[:(]", line)[0].strip() for line in config.getini("markers")}
    if unknown := words - registered - {mark.name for item in items for mark in item.iter_markers()}:
        names = ", ".join(sorted(config.stash.get(MARKER_NAMES, ())))
        raise pytest.UsageError(
            loggable(f"-m {expression}: there is no marker {', '.join(sorted(unknown))}; frameworks: {names}")
        )


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Exclude collected tests from garbage collection.

    They exist until the end of the session; scanning them takes as long as many tests.
    """
    if not is_requested(session.config) or not gc.isenabled():
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
    if (of := item_of(item)) is not None and of.case.path:
        _rename(item, f"{loggable(relative_path(item.config, of.case.path))}::{item.name}")
    elif item.nodeid.startswith("::") and item.path.parent == PACKAGE:
        _rename(item, f"{PACKAGE.name}/{item.path.name}{item.nodeid}")


def _rename(item: Any, nodeid: str) -> None:
    """Change the node id of a test, which pytest derives from the file of the function without an option."""
    if hasattr(item, "id"):  # pytest 9.2 or newer
        item._id = type(item.id).parse(nodeid)
    else:
        item._nodeid = nodeid


def relative_path(config: pytest.Config, file: str) -> str:
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
        name = loggable(relative_path(collector.config, error.path))
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
        with ending_collection():
            mark_frameworks(metafunc.config)
    match metafunc.module.__name__:
        case "conformance.test_conformance" if "item" in metafunc.fixturenames:
            _parametrize(metafunc, "item", TEST_NAME, _items)
        case "conformance.test_relations" if "instance" in metafunc.fixturenames:
            _parametrize(metafunc, "instance", RELATIONS_NAME, _instances)
        case "conformance.test_fuzz" if "installed" in metafunc.fixturenames:
            _parametrize_frameworks(metafunc)


def _parametrize(metafunc: pytest.Metafunc, argument: str, name: str, make: ParameterFactory) -> None:
    config = metafunc.config
    parents = [
        node.name for node in metafunc.definition.listchain()[1:-1] if not isinstance(node.parent, pytest.Session)
    ]
    values = make(config, expression_filter(config, [*parents, name]))
    marked = [
        pytest.param(value, id=value.id, marks=getattr(pytest.mark, value.function.framework_name)) for value in values
    ]
    metafunc.parametrize(argument, marked)


def _parametrize_frameworks(metafunc: pytest.Metafunc) -> None:
    available = installed_frameworks(metafunc.config)
    marked = [
        pytest.param(
            i,
            id="-".join([i.framework.name, *unusual(mode=i.mode, device=i.device)]),
            marks=getattr(pytest.mark, i.framework.name),
        )
        for i in available
    ]
    metafunc.parametrize("installed", marked)


def mark_frameworks(config: pytest.Config) -> None:
    """Register a marker for each framework, once.

    Raises AdapterError for an adapter that cannot be used, unless -k or -m say which tests are run.
    """
    from conformance.adapters import registry

    if MARKER_NAMES not in config.stash:
        if not (config.getoption("keyword") or config.getoption("markexpr")):
            registry.check()
        config.stash[MARKER_NAMES] = names = {framework.name for framework in registry.frameworks()}
        for name in sorted(names):
            config.addinivalue_line("markers", f"{name}: functions of {name}")


def _items(config: pytest.Config, item_filter: ItemFilter | None) -> list[Item]:
    from conformance.judging.plan import plan

    available = installed_frameworks(config)
    return _selected(
        lambda cases, item_filter: plan(cases, available, item_filter),
        cases_of(config),
        item_filter,
        "no installed function can express any of the cases",
    )


def _instances(config: pytest.Config, item_filter: ItemFilter | None) -> list[Instance]:
    from conformance.explore.relations.catalogue import check_relation_names
    from conformance.explore.relations.selection import select_instances

    available = installed_frameworks(config)
    with ending_collection():
        check_relation_names(case_set(config).ledger)
    return _selected(
        lambda cases, item_filter: select_instances(cases, available, item_filter),
        cases_of(config),
        item_filter,
        "no installed function supports two forms of any of the cases",
    )


def _selected(
    select: Callable[[Sequence[Case], ItemFilter | None], list[T]],
    cases: Sequence[Case],
    item_filter: ItemFilter | None,
    nothing: str,
) -> list[T]:
    """The selected values; if the filter excludes all, one of them, which pytest deselects in place of a skipped test.

    Raises CollectError, with the message `nothing`, if there is no value without the filter either.
    """
    values = select(cases, item_filter)
    if not values and item_filter is not None:
        values = next((found[:1] for case in cases if (found := select([case], None))), [])
    if not values:
        raise pytest.Collector.CollectError(f"{nothing}: install more, or add cases")
    return values

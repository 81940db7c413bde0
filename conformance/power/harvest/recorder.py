"""Records inputs that exist only inside test functions: runs the tests with recorders in place of the loss functions.

A recorder copies the arguments, calls the real function, and returns its result.  A number that a test compares a
result with is a stated answer, with the tolerance of that comparison.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import random
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance.adapters.contract.signatures import resolve
from conformance.power.harvest.records import CollectedRecords, Record, StatedAnswer, to_plain
from conformance.power.harvest.source import SourceMovedError

SEED = 0
"""Seed of numpy's and Python's generators before each test, so that each run records the same inputs."""


@dataclass(frozen=True)
class RecordedFunction:
    """A function whose calls are recorded."""

    holder: str
    """Dotted path of the module or class in which tests look it up."""
    attribute: str
    """Name of the attribute of `holder`."""
    name: str = ""
    """Name of the function in records; the attribute if empty."""
    equivalents: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda _: {}
    """Computes additional arguments from the passed ones."""


@dataclass(frozen=True)
class Assertion:
    """An assertion on (actual, desired, ...).  tolerance: computes (rtol, atol) from its bound arguments."""

    holder: str
    attribute: str
    tolerance: Callable[[Mapping[str, Any]], tuple[float, float]]
    method: bool = False


def relative_tolerance(bound: Mapping[str, Any]) -> tuple[float, float]:
    """Tolerance of `assert_allclose` and similar functions; rtol is numpy's default if it is not passed."""
    return float(1e-7 if bound.get("rtol") is None else bound["rtol"]), float(bound.get("atol") or 0.0)


def decimal_places(bound: Mapping[str, Any]) -> tuple[float, float]:
    """Tolerance of numpy's `assert_almost_equal`: 1.5 units of a decimal place."""
    return 0.0, 1.5 * 10.0 ** -int(bound["decimal"])


NUMPY = (
    Assertion("numpy.testing", "assert_allclose", relative_tolerance),
    Assertion("numpy.testing", "assert_almost_equal", decimal_places),
)


def run_tests(
    file: Path,
    label: str,
    keyword: str,
    watched: Sequence[RecordedFunction],
    assertions: Sequence[Assertion] = (),
) -> CollectedRecords:
    """Run the tests of `file` that -k `keyword` selects, and return the calls of the watched functions.

    label: the file in ids of tests.
    Raises SourceMovedError if no test runs, or if a function does not exist.
    """
    if not file.exists():
        raise SourceMovedError(f"there is no {file}")
    recorder = _Recorder(label, watched, assertions)
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:conformance", "-o", "addopts="]
    with tempfile.TemporaryDirectory() as empty, _pytest_options(Path(empty)) as settings:
        status = pytest.main([*options, "-c", str(settings), "-k", keyword, str(file)], plugins=[recorder])
    if recorder.failures:
        raise SourceMovedError("; ".join(recorder.failures))
    if not recorder.ran or status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise SourceMovedError(f"{recorder.ran} tests of {file.name} ran where 1 were expected")
    failed = f"{recorder.failed} of {recorder.ran} tests fail there" if recorder.failed else ""
    return CollectedRecords(tuple(recorder.records), (failed,) if failed else ())


def parameters(module: Any, test: str, names: tuple[str, ...]) -> Iterator[Sequence[Any]]:
    """Yield the values with which a test is parametrised, without running it.

    names: names of the parameters.  Raises SourceMovedError if the test has others or does not exist.
    """
    marks = [m for m in getattr(getattr(module, test, None), "pytestmark", ()) if m.name == "parametrize"]
    stated = marks[0].args[0] if len(marks) == 1 else ()
    stated = tuple(part.strip() for part in stated.split(",")) if isinstance(stated, str) else tuple(stated)
    if stated != names:
        raise SourceMovedError(f"{test} has the parameters {', '.join(stated) or 'none'}, not {', '.join(names)}")
    for values in marks[0].args[1]:
        yield getattr(values, "values", values)


@contextlib.contextmanager
def _pytest_options(folder: Path) -> Iterator[Path]:
    """An empty settings file for pytest, instead of those of the user and of the source."""
    path = folder / "pytest.ini"
    path.write_text("[pytest]\n")
    options = os.environ.pop("PYTEST_ADDOPTS", None)
    try:
        yield path
    finally:
        if options is not None:
            os.environ["PYTEST_ADDOPTS"] = options


class _Recorder:
    """A plugin that replaces functions after the tests are imported, and records the arguments of calls."""

    def __init__(self, label: str, watched: Sequence[RecordedFunction], assertions: Sequence[Assertion]) -> None:
        self.label, self.watched, self.assertions = label, watched, assertions
        self.records: list[Record] = []
        self.failures: list[str] = []
        self.ran = self.failed = 0
        self._test: pytest.Item | None = None
        self._inside = False
        self._results: list[tuple[Any, int]] = []
        """(result, index of its record), to find the call that an assertion is about."""

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            last = str(report.longrepr).strip().splitlines()[-1:]
            self.failures.append(f"{self.label} cannot be imported: {' '.join(last)}")

    def pytest_collection_finish(self) -> None:
        for function in self.watched:
            self._patch(function.holder, function.attribute, functools.partial(self._record_call, function))
        for assertion in self.assertions:
            self._patch(assertion.holder, assertion.attribute, functools.partial(self._record_assertion, assertion))

    def pytest_runtest_call(self, item: pytest.Item) -> None:
        self._test = item
        random.seed(SEED)
        np.random.seed(SEED)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and not report.skipped:
            self.ran += 1
            self.failed += report.failed
        if report.when == "teardown":
            self._results.clear()

    def _patch(self, holder: str, attribute: str, make: Callable[[Any], Any]) -> None:
        try:
            owner = sys.modules[holder] if holder in sys.modules else resolve(holder)
            setattr(owner, attribute, make(getattr(owner, attribute)))
        except (LookupError, AttributeError, ImportError):
            self.failures.append(f"there is no {holder}.{attribute}")

    def _record_call(self, function: RecordedFunction, real: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(real)

        @functools.wraps(real)
        def recorder(*args: Any, **kwargs: Any) -> Any:
            if self._inside or self._test is None:
                return real(*args, **kwargs)
            try:
                bound = signature.bind(*args, **kwargs)
                bound.apply_defaults()
            except TypeError:
                return real(*args, **kwargs)  # a call that the function rejects is not an input
            place = len(self.records)
            self.records.append(self._add_record(function, bound.arguments, self._test))
            self._inside = True
            try:
                result = real(*args, **kwargs)
            except Exception as error:
                self.records[place] = replace(self.records[place], raised=type(error).__name__)
                raise
            finally:
                self._inside = False
            self._results.append((result, place))
            return result

        return recorder

    def _add_record(self, function: RecordedFunction, passed: Mapping[str, Any], test: pytest.Item) -> Record:
        values = {
            name: to_plain(value)
            for name, value in {**passed, **function.equivalents(passed)}.items()
            if name != "self"
        }
        nodeid = f"{self.label}::{test.nodeid.partition('::')[2]}"
        name = re.sub(r"^test_", "", test.name)
        return Record(nodeid, name, function.name or function.attribute, values, line=(test.location[1] or 0) + 1)

    def _record_assertion(self, assertion: Assertion, real: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(real)

        @functools.wraps(real)
        def asserted(*args: Any, **kwargs: Any) -> Any:
            with contextlib.suppress(TypeError, ValueError):
                bound = signature.bind(*args, **kwargs)
                bound.apply_defaults()
                actual, desired = list(bound.arguments.values())[assertion.method :][:2]
                self._match_result(actual, desired, assertion.tolerance(bound.arguments))
            return real(*args, **kwargs)

        return asserted

    def _match_result(self, actual: Any, desired: Any, tolerance: tuple[float, float]) -> None:
        """Record the number that a result is compared with, if the test states it."""
        written = isinstance(desired, int | float | list | tuple | np.ndarray | np.generic)
        for result, place in self._results if written else ():
            if result is actual and self.records[place].stated is None and desired is not actual:
                shape = np.shape(to_plain(result))
                values = np.broadcast_to(np.asarray(desired, dtype=np.float64), shape)
                dtype = str(desired.dtype) if isinstance(desired, np.ndarray | np.generic) else ""
                self.records[place] = replace(self.records[place], stated=StatedAnswer(values, dtype, *tolerance))

"""Options of pytest, and what they say."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance.model.row_key import CPU

if TYPE_CHECKING:
    from conformance.execution.workers.pool import Timeouts

MAX_SHOWN = 80
"""Maximum number of characters of an expression in a message."""
EXPRESSIONS = {"-k": "keyword", "-m": "markexpr"}


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


def check_expressions(config: pytest.Config) -> None:
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


def timeouts(config: pytest.Config) -> Timeouts:
    from conformance.execution.workers.pool import Timeouts

    return Timeouts(config.getoption("call_timeout"), config.getoption("import_timeout"))


def repeated_options(config: pytest.Config) -> str:
    """The options that affect outcomes or failures, as given, each followed by a blank."""
    from conformance.execution.workers.pool import TIMEOUT

    words = [f"--{name}" for name in ("isolate", "strict-known") if config.getoption(name.replace("-", "_"))]
    if config.getoption("isolate") and config.getoption("call_timeout") != TIMEOUT:
        words.append(f"--call-timeout={config.getoption('call_timeout'):g}")
    if (baseline := config.getoption("baseline")) is not None:
        words.append(f"--baseline={shlex.quote(baseline)}")
    return "".join(f"{word} " for word in words)


def case_folder(config: pytest.Config) -> Path | None:
    """The folder of cases, by option or ini file."""
    if (value := config.getoption("cases")) is not None:
        return Path(value)
    if ini := config.getini("conformance_cases"):
        return (config.inipath.parent if config.inipath else config.rootpath) / str(ini)
    return None


def harvested_sources(config: pytest.Config) -> list[str] | None:
    """The sources to harvest, [] for all; None for no harvest."""
    value = config.getoption("harvest")
    return None if value is None else [name for name in value if name]

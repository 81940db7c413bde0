"""Repeat the call of a row, from the names in its key."""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from conformance.adapters import registry
from conformance.adapters.contract import Framework
from conformance.adapters.contract.calling import perform
from conformance.casefiles.known_issues import HARVEST_PREFIX
from conformance.casefiles.loading import cases_argument, resolve_links, shipped_cases
from conformance.casefiles.loading import read as read_cases
from conformance.judging.plan import expand_modes, plan
from conformance.judging.prepare import prepare
from conformance.judging.row import Row
from conformance.model.case import Case, Quantity, Reduction
from conformance.model.errors import CaseErrors
from conformance.model.outcome import Outcome, Raised, Returned
from conformance.model.row_key import CPU, EAGER

LONG_CALL = 1000
"""Maximum number of characters of a reproducer in a terminal if a shorter call of `replay` does the same."""


def replay_call(
    case: Case,
    function: str,
    dtype: str,
    reduction: str,
    quantity: str,
    mode: str = EAGER,
    adapter: str = "",
    device: str = CPU,
) -> str:
    """The call of `conformance.replay` that repeats a row of a shipped or harvested case, or of a case in a folder.

    adapter: `module:attribute` of a framework created at run time, else "".  The path of a folder is absolute, so that
    the call can be pasted into Python in any working directory.
    """
    words = [repr(word) for word in (function, case.id, dtype, reduction, quantity)]
    if quantity == "loss":
        del words[-1]
    if mode != EAGER:
        words.append(f"mode={mode!r}")
    if device != CPU:
        words.append(f"device={device!r}")
    if adapter:
        words.append(f"adapter={adapter!r}")
    if not case.id.startswith(HARVEST_PREFIX) and (folder := cases_argument(case)) is not None:
        words.append(f"cases={str(resolve_links(Path(folder)))!r}")
    return f"conformance.replay({', '.join(words)})"


def can_be_named(case: Case) -> bool:
    """Whether `conformance.replay` finds a case: it is shipped, harvested, or from a file."""
    return bool(case.path) or case.id.startswith(HARVEST_PREFIX)


def reproducer_of(row: Row, cases: Iterable[Case], framework: Framework | None = None) -> str:
    """A row's reproducer for a terminal: that of the report, or, if it is long, a call of `conformance.replay`.

    framework: framework of the row, if it is not in the registry.
    """
    key = row.key
    case = next((case for case in cases if case.id == key.case), None)
    if len(row.call) <= LONG_CALL or case is None or not can_be_named(case):
        return row.call
    framework = framework or next(candidate for candidate in registry.frameworks() if candidate.name == row.framework)
    environment_source = framework.environment_source(key.backend, key.mode)
    names = (key.function, key.dtype, key.reduction, key.quantity, key.mode)
    call = replay_call(case, *names, framework.adapter, key.device)
    return f"{environment_source}import conformance; {call}"


def replay(
    function: str,
    case: str,
    dtype: str,
    reduction: Reduction,
    quantity: Quantity = "loss",
    cases: Path | Iterable[Case] | None = None,
    mode: str = EAGER,
    adapter: str = "",
    device: str = CPU,
) -> Any:
    """See `conformance.replay`.  cases: a folder or file of cases, or the cases; by default the shipped ones."""
    folder = shipped_cases() if cases is None else cases
    all_cases, errors = read_cases(folder) if isinstance(folder, Path) else (folder, [])
    selected_case = next((candidate for candidate in all_cases if candidate.id == case), None)
    if selected_case is None and errors:
        raise CaseErrors(tuple(errors))
    if selected_case is None:
        location = (
            "among the shipped cases" if cases is None else f"in {cases}" if isinstance(cases, Path) else "harvested"
        )
        advice = "; `cases` names your own folder" if cases is None else ""
        raise LookupError(f"there is no case {case} {location}{advice}")
    available = [registry.create_installed(adapter)] if adapter else registry.installed(registry.frameworks())[0]
    selected = [installation for installation in available if installation.framework.name == function.partition(".")[0]]
    for item in plan([selected_case], expand_modes(selected, [mode], device)):
        requested = (item.function.name, item.dtype, item.reduction, item.quantity)
        if requested == (function, dtype, reduction, quantity):
            prepared = prepare(item)
            outcome = perform(item.framework, prepared.call, prepared.description)
            if isinstance(outcome, Returned):
                return outcome.value
            raise _raised_again(outcome)
    raise LookupError(f"no installed {function} takes {case} as {dtype}, {reduction}")


def _raised_again(outcome: Outcome) -> BaseException:
    """Recreate an exception that a function raised: same type name, same message."""
    if not isinstance(outcome, Raised):
        return RuntimeError(str(outcome))
    kind: Any = getattr(builtins, outcome.exception, None)
    if isinstance(kind, type) and issubclass(kind, BaseException):
        with contextlib.suppress(TypeError):  # UnicodeDecodeError takes more than a message
            raised: BaseException = kind(outcome.message)
            return raised
    exception_type: type[RuntimeError] = type(outcome.exception, (RuntimeError,), {})
    return exception_type(outcome.message)

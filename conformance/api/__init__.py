"""The commands as functions that return values.  Nothing here prints.

Each value is frozen; `to_dict` converts it to builtin values, and `to_json` to the output of the command with `--json`.
A name is imported on first use, because some need libraries that take long to import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformance.api.base import *  # noqa: F403
    from conformance.api.cases import *  # noqa: F403
    from conformance.api.checking import *  # noqa: F403
    from conformance.api.comparing import *  # noqa: F403
    from conformance.api.data import *  # noqa: F403
    from conformance.api.data_arrays import *  # noqa: F403
    from conformance.api.data_files import *  # noqa: F403
    from conformance.api.exploration import *  # noqa: F403
    from conformance.api.measures import *  # noqa: F403
    from conformance.api.recipes import *  # noqa: F403
    from conformance.api.reports import *  # noqa: F403
    from conformance.api.running import *  # noqa: F403
    from conformance.api.upgrades import *  # noqa: F403

_MODULES = {
    "base": ("Advance", "Observer", "Result"),
    "cases": (
        "CaseAnswers", "CaseList", "ExpectResult", "ExplainResult", "FunctionEntry", "FunctionList", "LibraryEntry",
        "LibraryList", "LintResult", "ShowResult", "expect", "explain", "lint", "list_cases", "list_functions",
        "list_libraries", "show",
    ),
    "comparing": ("CompareResult", "ObservedNumber", "compare"),
    "data": ("Data",),
    "data_arrays": ("DataError",),
    "data_files": ("read_file",),
    "checking": ("Cell", "CheckRequest", "CheckResult", "CheckedCallable", "Mistake", "check"),
    "exploration": (
        "FuzzResult", "RelationsResult", "SweepRequest", "SweepResult", "fuzz", "relations", "sweep",
    ),
    "measures": (
        "FalseAlarms", "HarvestResult", "MutantList", "MutationResult",
        "check_correct", "harvest", "list_mutants", "mutants",
    ),
    "recipes": ("RecipeRequest", "RecipeResult", "RecipeSide", "recipe"),
    "reports": (
        "AcceptResult", "DiffResult", "HistoryResult", "MergeResult", "PageResult", "RecoverResult",
        "accept", "diff", "history", "merge", "page", "recover",
    ),
    "running": ("RunRequest", "RunResult", "run"),
    "upgrades": ("AuditResult", "BisectResult", "audit", "bisect"),
}  # fmt: skip
"""Public names by module."""


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [name for names in _MODULES.values() for name in names]

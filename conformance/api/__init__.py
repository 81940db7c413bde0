"""What the commands do, as functions that return values.  Nothing here prints.

A name is imported when it is first used, because some need libraries that take long to import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformance.api.cases import expect, explain, lint, show
    from conformance.api.checks import RelationsResult, relations
    from conformance.api.observing import Observer
    from conformance.api.running import RunRequest, RunResult, run
    from conformance.api.upgrades import AuditResult, audit, bisect

_MODULES = {
    "cases": ("explain", "expect", "lint", "show"),
    "observing": ("Observer",),
    "checks": ("RelationsResult", "relations"),
    "upgrades": ("AuditResult", "audit", "bisect"),
    "running": ("RunRequest", "RunResult", "run"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "AuditResult",
    "Observer",
    "RelationsResult",
    "RunRequest",
    "RunResult",
    "audit",
    "bisect",
    "expect",
    "explain",
    "lint",
    "relations",
    "run",
    "show",
]

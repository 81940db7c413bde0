"""What is said about a run as a whole, beside its rows."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import pandas as pd

from conformance import __version__

FORMAT = 1
"""Version of the layout of a report's folder; raised when an older reader would misread it."""


def host() -> dict[str, str]:
    """Versions of what the run itself stands on."""
    libraries = {name: version(name) for name in ("numpy", "pandas", "python-flint")}
    system = f"{platform.system()} {platform.machine()}"
    return {"conformance": __version__, "python": platform.python_version(), **libraries, "platform": system}


@dataclass(frozen=True)
class RunInfo:
    """A run as a whole.

    planned: how many rows were to be made.  versions: framework to version.  missing: frameworks that are
    not installed.  interrupted: why the run ended early, empty if it did not.  started: ISO 8601 with
    zone; duration: seconds.  coverage: `str` of a `Coverage`.
    """

    planned: int
    versions: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    interrupted: str = ""
    started: str = ""
    duration: float = 0.0
    coverage: str = ""
    host: Mapping[str, str] = field(default_factory=host)

    def complete(self, finished: int) -> bool:
        """Whether nothing is missing when so many rows were finished."""
        return not self.interrupted and finished == self.planned

    def record(self, results: pd.DataFrame, pairs: pd.DataFrame, digests: Mapping[str, str]) -> dict[str, Any]:
        """What `run.json` says: builtin values only.  digests: SHA-256 of the other files by name."""

        def tally(column: pd.Series) -> dict[str, int]:
            return {str(name): int(count) for name, count in sorted(column.value_counts().items())}

        return {
            "format": FORMAT,
            "complete": self.complete(len(results)),
            "interrupted": self.interrupted,
            "planned": self.planned,
            "finished": len(results),
            "status": tally(results["status"]),
            "expected": tally(results["expected"]),
            "relations": tally(pairs["relation"]),
            "versions": dict(sorted(self.versions.items())),
            "missing": list(self.missing),
            "host": dict(self.host),
            "coverage": self.coverage,
            "started": self.started,
            "duration": self.duration,
            "files": dict(digests),
        }

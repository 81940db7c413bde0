"""Metadata of a run, stored in a report in addition to its rows."""

from __future__ import annotations

import functools
import hashlib
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from importlib.metadata import version
from typing import Any

from conformance import __version__
from conformance.casefiles.document import error_paths

FORMAT = 1
"""Version of the layout of a report's folder; increased when an older reader would misread it."""

SCHEMA = "run.schema.json"
"""JSON Schema of the fields of a run."""


@functools.cache
def host() -> Mapping[str, str]:
    """The machine, and the versions of Python and of the libraries that the harness uses.

    `processor` is its brand and its instruction set, by which math libraries select kernels.
    """
    from archspec import cpu

    libraries = {name: version(name) for name in ("numpy", "pandas", "python-flint")}
    return {
        "conformance": __version__,
        "python": platform.python_version(),
        **libraries,
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": f"{cpu.brand_string() or 'unknown brand'}: {cpu.host().name}".replace(",", ""),
    }


def is_moment(text: str) -> bool:
    """Whether a text is a time in ISO 8601 that can be converted to seconds since the epoch."""
    try:
        datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return False
    return True


def fingerprint(cases: Iterable[tuple[str, str]]) -> str:
    """Digest of a set of cases, given as (id, digest) pairs; independent of their order."""
    text = "".join(f"{case} {digest}\n" for case, digest in sorted(cases))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class RunInfo:
    """Metadata of a run."""

    planned: int
    """Number of planned rows."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Framework -> version, or several versions joined by `, `."""
    missing: tuple[str, ...] = ()
    """Frameworks that are not installed."""
    interrupted: str = ""
    """Why the run ended early; "" if it did not."""
    started: str = ""
    """Start time, ISO 8601 with time zone."""
    duration: float = 0.0
    """Seconds."""
    coverage: str = ""
    """`str` of a `Coverage`; "" for a part of the items."""
    host: Mapping[str, str] = field(default_factory=host)
    suite: str = ""
    """`fingerprint` of the cases that the run could choose from."""
    selected: str = ""
    """The selection to which the run was restricted; "" for none."""
    published: tuple[Mapping[str, Any], ...] = ()
    """Published numbers for the summary; a merged report cannot compute them without the cases."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> RunInfo:
        """Parse the content of a `run.json`; fields that an older one lacks get their defaults.

        Raises TypeError for a field with an impossible value, as a file may contain anything.
        """
        values: dict[str, Any] = {item.name: record[item.name] for item in fields(cls) if item.name in record}
        wrong = {str(path[0]) if path else "planned" for path in error_paths(SCHEMA, values)}
        if "started" not in wrong and (started := values.get("started")) and not is_moment(started):
            wrong.add("started")
        if isinstance(values.get("planned"), float):  # JSON Schema accepts 6.0 as an integer
            wrong.add("planned")
        if wrong:
            raise TypeError(f"it says {', '.join(sorted(wrong))} in another way")
        values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**values)

    def complete(self, finished: int) -> bool:
        """Whether this number of finished rows makes the run complete."""
        return not self.interrupted and finished == self.planned

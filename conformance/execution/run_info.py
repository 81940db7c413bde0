"""Metadata of a run, which a report has in addition to its rows."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from conformance import __version__

FORMAT = 1
"""Version of the layout of a report's folder; raised when an older reader would misread it."""


def host() -> dict[str, str]:
    """Versions of the interpreter and the libraries that the harness itself uses."""
    libraries = {name: version(name) for name in ("numpy", "pandas", "python-flint")}
    system = f"{platform.system()} {platform.machine()}"
    return {"conformance": __version__, "python": platform.python_version(), **libraries, "platform": system}


def fingerprint(cases: Iterable[tuple[str, str]]) -> str:
    """Digest of a set of cases, each an (id, digest) pair, independent of their order."""
    text = "".join(f"{case} {digest}\n" for case, digest in sorted(cases))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class RunInfo:
    """Metadata of a run."""

    planned: int
    """Number of rows planned."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Framework -> version, or several joined by `, `."""
    missing: tuple[str, ...] = ()
    """Frameworks that are not installed."""
    interrupted: str = ""
    """Why the run ended early; "" if it did not."""
    started: str = ""
    """Start time, ISO 8601 with time zone."""
    duration: float = 0.0
    """Seconds."""
    coverage: str = ""
    """`str` of a `Coverage`."""
    host: Mapping[str, str] = field(default_factory=host)
    suite: str = ""
    """`fingerprint` of the cases that the run could choose from."""
    selected: str = ""
    """The selection that the run was restricted to; "" for none."""
    shards: tuple[str, ...] = ()
    """Shards that the report has, such as `2/3`; empty if the run was not divided."""
    partial: str = ""
    """Shards that are missing from a merged report."""
    published: tuple[Mapping[str, Any], ...] = ()
    """Published numbers of the summary; a merged report cannot compute them again without the cases."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> RunInfo:
        """Read the content of a `run.json`; fields that an older one lacks have their defaults."""
        names = ("planned", "versions", "interrupted", "started", "duration", "coverage", "host", "suite", "selected")
        said = {name: record[name] for name in (*names, "partial") if name in record}
        for name in ("missing", "shards", "published"):
            found = record.get(name, ())
            said[name] = tuple(found) if isinstance(found, list) else found
        return cls(**said)

    def check(self) -> None:
        """Raise TypeError if a field has a value of the wrong type, as a file may."""
        kinds: dict[str, type | tuple[type, ...]] = {
            "planned": int, "versions": Mapping, "interrupted": str, "started": str, "duration": (int, float),
            "coverage": str, "host": Mapping, "suite": str, "selected": str, "partial": str,
            "missing": tuple, "shards": tuple, "published": tuple,
        }  # fmt: skip
        wrong = [name for name, kind in kinds.items() if not isinstance(getattr(self, name), kind)]
        texts = {
            "versions": [*self.versions, *self.versions.values()] if "versions" not in wrong else [],
            "host": [*self.host, *self.host.values()] if "host" not in wrong else [],
            **{name: getattr(self, name) for name in ("missing", "shards") if name not in wrong},
        }
        wrong += [name for name, found in texts.items() if not all(isinstance(text, str) for text in found)]
        needed = {"case", "value", "exact", "holds", "source"}
        numbers = self.published if "published" not in wrong else ()
        if not all(isinstance(number, Mapping) and needed <= set(number) for number in numbers):
            wrong.append("published")
        if wrong:
            raise TypeError(f"it says {', '.join(wrong)} in another way")

    def complete(self, finished: int) -> bool:
        """Whether nothing is missing when so many rows were finished."""
        return not self.interrupted and not self.partial and finished == self.planned

"""What is said about a run as a whole, beside its rows."""

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
    """Versions of what the run itself stands on."""
    libraries = {name: version(name) for name in ("numpy", "pandas", "python-flint")}
    system = f"{platform.system()} {platform.machine()}"
    return {"conformance": __version__, "python": platform.python_version(), **libraries, "platform": system}


def fingerprint(cases: Iterable[tuple[str, str]]) -> str:
    """What tells one suite from another: a digest of all its cases, each an id and a digest, in any order."""
    text = "".join(f"{case} {digest}\n" for case, digest in sorted(cases))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class RunInfo:
    """A run as a whole.

    planned: how many rows were to be made.  versions: framework to version, or to several joined by `, `.
    missing: frameworks that are not installed.  interrupted: why the run ended early, empty if it did not.
    started: ISO 8601 with zone; duration: seconds.  coverage: `str` of a `Coverage`.  suite: `fingerprint`
    of the cases that there were to choose from.  selected: what only was asked for, empty if everything
    was.  shards: which parts of how many this is, `2/3`; empty where it is not divided.  partial: which
    other parts a report lacks that was put together from some.  published: the numbers in the summary,
    which a merged report has no cases to find again.
    """

    planned: int
    versions: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    interrupted: str = ""
    started: str = ""
    duration: float = 0.0
    coverage: str = ""
    host: Mapping[str, str] = field(default_factory=host)
    suite: str = ""
    selected: str = ""
    shards: tuple[str, ...] = ()
    partial: str = ""
    published: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> RunInfo:
        """What a `run.json` says, also one that was written before it said all of it."""
        names = ("planned", "versions", "interrupted", "started", "duration", "coverage", "host", "suite", "selected")
        said = {name: record[name] for name in (*names, "partial") if name in record}
        for name in ("missing", "shards", "published"):
            found = record.get(name, ())
            said[name] = tuple(found) if isinstance(found, list) else found
        return cls(**said)

    def check(self) -> None:
        """Raise TypeError for what another kind of value was written for; a file may say anything."""
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

"""Metadata of a run, which a report has in addition to its rows."""

from __future__ import annotations

import functools
import hashlib
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from typing import Any

from conformance import __version__

FORMAT = 1
"""Version of the layout of a report's folder; raised when an older reader would misread it."""

MAX_TEXT = 1 << 16
"""Characters of a text that a report may have about its run."""
MAX_DURATION = 1e10
"""Seconds that no run takes: three hundred years."""


@functools.cache
def host() -> Mapping[str, str]:
    """The machine, and the versions of the interpreter and of the libraries that the harness itself uses.

    `processor` is its brand and its instruction set, by which math libraries choose their kernels.
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
    """Whether a text is a time in ISO 8601 that can be told in seconds since the epoch."""
    try:
        datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return False
    return True


def _is_published(number: object) -> bool:
    """Whether a value is a published number as a report has it; some fields are newer than others."""
    if not isinstance(number, Mapping) or not {"case", "value", "exact", "holds", "source"} <= set(number):
        return False
    texts = [number["case"], number["source"], number.get("quantity", ""), number.get("dtype", "")]
    explanations = number.get("explanations")
    if explanations is not None and not isinstance(explanations, list):
        return False
    return all(isinstance(text, str) for text in [*texts, *(explanations or ())])


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
        """Raise TypeError if a field has a value that no run has, as a file may."""
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
        texts |= {name: [getattr(self, name)] for name, kind in kinds.items() if kind is str and name not in wrong}
        wrong += [
            name for name, found in texts.items() if any(len(text) > MAX_TEXT for text in found if name not in wrong)
        ]
        if "planned" not in wrong and not 0 <= self.planned < 2**63:
            wrong.append("planned")
        if "duration" not in wrong and not 0 <= self.duration < MAX_DURATION:
            wrong.append("duration")
        if "started" not in wrong and self.started and not is_moment(self.started):
            wrong.append("started")
        if "published" not in wrong and not all(map(_is_published, self.published)):
            wrong.append("published")
        if wrong:
            raise TypeError(f"it says {', '.join(wrong)} in another way")

    def complete(self, finished: int) -> bool:
        """Whether nothing is missing when so many rows were finished."""
        return not self.interrupted and not self.partial and finished == self.planned

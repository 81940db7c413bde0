"""The key of a row: the function, the problem, and the environment of the call."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

EAGER = "eager"
"""The mode of a plain call."""
CPU = "cpu"
"""The default device."""
MAX_INTERNED = 100
"""Maximum number of characters of a text that is interned."""


def set_interned(value: object, state: Sequence[Any]) -> None:
    """`__setstate__` of a frozen dataclass with slots that interns texts, as many objects share them."""
    for field, inner in zip(dataclasses.fields(value), state, strict=True):  # type: ignore[arg-type]
        shared = isinstance(inner, str) and len(inner) <= MAX_INTERNED
        object.__setattr__(value, field.name, sys.intern(inner) if shared else inner)


@dataclass(frozen=True, slots=True)
class RowKey:
    """The unique key of a row of a report.

    The fields are text columns of a report.
    """

    case: str
    """Id of the case."""
    digest: str
    """Digest of the content of the case."""
    function: str
    """Name of the function, with its framework: `torch.CrossEntropyLoss`."""
    dtype: str
    """Name of the dtype of the problem."""
    reduction: str
    """`none`, `sum` or `mean`."""
    quantity: str = "loss"
    """One of `case.QUANTITIES`."""
    environment: str = ""
    """Name of the environment in which the framework ran."""
    version: str = ""
    """Version of the framework."""
    backend: str = ""
    """Backend of a framework that has several; else empty."""
    mode: str = EAGER
    """How the call was made, such as `eager` or `compile`."""
    device: str = CPU
    """Device of its arrays."""

    __setstate__ = set_interned

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> RowKey:
        """Create a key from columns; absent columns get their defaults."""
        return cls(**{name: str(columns[name]) for name in KEY if name in columns})

    @property
    def id(self) -> str:
        """See `item_id`."""
        return item_id(self.function, self.case, self.dtype, self.reduction, self.quantity, self.mode, self.device)

    @property
    def fingerprint(self) -> str:
        """A digest that does not depend on the answer, the content or location of the case, or the release."""
        parts = [self.case, self.function, self.dtype, self.reduction, self.quantity]
        parts += unusual(mode=self.mode, device=self.device)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    def across_versions(self) -> RowKey:
        """The key of the same question in the same environment, for any content of the case and any version."""
        return dataclasses.replace(self, digest="", version="")


def item_id(
    function: str, case: str, dtype: str, reduction: str, quantity: str = "loss", mode: str = EAGER, device: str = CPU
) -> str:
    """The name of an item in messages, which `-k` matches against.

    `torch.CrossEntropyLoss-categorical/seed/plain-float32-mean`; a non-default quantity, mode or device is
    appended.
    """
    return "-".join([function, case, dtype, reduction, *unusual(quantity, mode, device)])


def unusual(quantity: str = "loss", mode: str = EAGER, device: str = CPU) -> list[str]:
    """The arguments that are neither the default nor empty."""
    settings = ((quantity, "loss"), (mode, EAGER), (device, CPU))
    return [value for value, usual in settings if value not in ("", usual)]


KEY = tuple(field.name for field in dataclasses.fields(RowKey))
"""Columns that identify a row of a report."""
PROBLEM = ("case", "digest", "dtype", "reduction", "quantity")
"""Columns that identify the problem, without the function."""
QUESTION = (*PROBLEM, "function")
"""Columns that identify a problem and a function, in any environment."""
PLACE = ("environment", "version", "backend", "mode", "device")
"""Columns that identify the environment of a call."""

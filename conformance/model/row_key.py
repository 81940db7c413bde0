"""The key of a row: which function was called on which problem, and where."""

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
"""Characters of a text that many rows may have in common."""


def set_interned(value: object, state: Sequence[Any]) -> None:
    """`__setstate__` of a frozen dataclass with slots: texts that many objects have in common are in memory once."""
    for field, inner in zip(dataclasses.fields(value), state, strict=True):  # type: ignore[arg-type]
        shared = isinstance(inner, str) and len(inner) <= MAX_INTERNED
        object.__setattr__(value, field.name, sys.intern(inner) if shared else inner)


@dataclass(frozen=True, slots=True)
class RowKey:
    """What no two rows of a report have in common.

    The fields are columns of a report, all of them text.
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
    """Backend of the framework, for a framework that has several; else empty."""
    mode: str = EAGER
    """How the call was made."""
    device: str = CPU
    """Where its arrays were."""

    __setstate__ = set_interned

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> RowKey:
        """The key of a row that is given by column; absent columns get their defaults."""
        return cls(**{name: str(columns[name]) for name in KEY if name in columns})

    @property
    def id(self) -> str:
        """See `item_id`."""
        return item_id(self.function, self.case, self.dtype, self.reduction, self.quantity, self.mode, self.device)

    @property
    def fingerprint(self) -> str:
        """A digest that does not depend on the answer, the place of the case or the release."""
        parts = [self.case, self.function, self.dtype, self.reduction, self.quantity]
        parts += unusual(mode=self.mode, device=self.device)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    def across_versions(self) -> RowKey:
        """The same question in the same environment, for any content of the case and any version."""
        return dataclasses.replace(self, digest="", version="")


def item_id(
    function: str, case: str, dtype: str, reduction: str, quantity: str = "loss", mode: str = EAGER, device: str = CPU
) -> str:
    """The name of an item in messages, and what `-k` selects from.

    `torch.CrossEntropyLoss-categorical/seed/plain-float32-mean`; a quantity, a mode or a device other than the default
    follows.
    """
    return "-".join([function, case, dtype, reduction, *unusual(quantity, mode, device)])


def unusual(quantity: str = "loss", mode: str = EAGER, device: str = CPU) -> list[str]:
    """Those of the three that are neither the default nor empty."""
    others = ((quantity, "loss"), (mode, EAGER), (device, CPU))
    return [value for value, usual in others if value not in ("", usual)]


KEY = tuple(field.name for field in dataclasses.fields(RowKey))
"""Columns that tell all rows of a report apart."""
PROBLEM = ("case", "digest", "dtype", "reduction", "quantity")
"""Columns that identify the question, without the function that answers it."""
QUESTION = (*PROBLEM, "function")
"""Columns that name the question to one function, wherever it runs."""
PLACE = ("environment", "version", "backend", "mode", "device")
"""Columns that name where and how a function ran."""

"""Base class of the values that the functions of this package return."""

from __future__ import annotations

from typing import Any, ClassVar

from conformance.model.serialization import to_json


class Result:
    """A frozen value returned by a function of this package, and printed by the command with `--json`."""

    command: ClassVar[str]
    """Words of the command, joined by dots."""
    version: ClassVar[int] = 1
    """Version of the keys of `to_dict`; increased when the meaning of a key changes."""

    def to_dict(self) -> dict[str, Any]:
        """Convert to builtin values: dicts, lists, strings, numbers and None."""
        raise NotImplementedError

    def to_json(self) -> str:
        """Convert to JSON, the output of the command with `--json`; see `conformance.model.serialization.to_json`."""
        return to_json(self.command, self.to_dict(), self.version)

"""Base class of the values that the functions of this package return."""

from __future__ import annotations

from typing import Any, ClassVar

from conformance.model.serialization import to_json


class Result:
    """A frozen value that a function of this package returns, and that the command with `--json` prints."""

    command: ClassVar[str]
    """Words of the command, joined by dots."""
    version: ClassVar[int] = 1
    """Version of the keys of `to_dict`; increased when a key gets another meaning."""

    def to_dict(self) -> dict[str, Any]:
        """Convert to builtin values: dicts, lists, strings, numbers and None."""
        raise NotImplementedError

    def to_json(self) -> str:
        """Convert to JSON, as the command with `--json` prints it; see `conformance.model.serialization.to_json`."""
        return to_json(self.command, self.to_dict(), self.version)

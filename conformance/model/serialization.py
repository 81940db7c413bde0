"""The JSON format of `--json` output and of saved audits and sweeps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def to_json(command: str, values: Mapping[str, Any], version: int = 1) -> str:
    """One JSON object in ASCII whose `schema` is `conformance.<command>/<version>`, with a newline at its end.

    Parameters
    ----------
    command : str
        Words of the command, joined by dots.
    values : mapping
        Builtin values. NaN and infinities become the strings `nan`, `inf` and `-inf`.
    version : int
        Version of the keys: a key keeps its meaning within one version; keys may be added.
    """
    return json.dumps(serialize(command, values, version), indent=1, allow_nan=False) + "\n"


def serialize(command: str, values: Mapping[str, Any], version: int = 1) -> dict[str, Any]:
    """The object of `to_json` as builtin values."""
    return {"schema": f"conformance.{command}/{version}", **_finite(values)}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value

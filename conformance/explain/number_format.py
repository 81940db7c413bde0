"""Format numbers in explanations: exact values rounded to as few digits as distinguish them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from flint import arb

from conformance.adapters.arrays import nested
from conformance.explain.explanation import Step

DEFAULT_DIGITS = 5
"""Significant digits, unless more are needed to distinguish values."""
MAX_TERMS = 6
"""Maximum number of terms of a sum, or elements of a row, that are written out."""
FLOAT32_DIGITS = 9
"""Significant digits that distinguish any two float32 values."""


def format_number(value: Any, digits: int = DEFAULT_DIGITS) -> str:
    """Format a number, a ball (its midpoint) or a fraction to `digits` significant digits."""
    number = float(value.mid()) if isinstance(value, arb) else float(value)
    if math.isnan(number) or math.isinf(number):
        return str(number)
    return f"{number + 0.0:.{digits}g}"


def format_element(value: Any) -> str:
    """Format an array element with the shortest digits that parse to the same value in its dtype."""
    array = np.asarray(value)
    text = nested(array)
    if array.dtype.kind not in "fV":
        return text
    return text.replace("float('", "").replace("')", "").removesuffix(".0")


def format_row(values: Any) -> str:
    """Format a row of an array; the tail is elided."""
    shown = [format_element(value) for value in values[:MAX_TERMS]]
    return f"[{', '.join(shown)}{_ellipsis(len(values) - MAX_TERMS)}]"


def format_numbers(values: Sequence[Any], digits: int = DEFAULT_DIGITS) -> str:
    """Format a row of computed numbers; the tail is elided."""
    return f"[{', '.join(format_number(v, digits) for v in values[:MAX_TERMS])}{_ellipsis(len(values) - MAX_TERMS)}]"


def format_sum(terms: Sequence[Any], digits: int = DEFAULT_DIGITS) -> str:
    """Write out a sum of texts or numbers; terms beyond the first `MAX_TERMS` are only counted."""
    shown = [term if isinstance(term, str) else format_number(term, digits) for term in terms[:MAX_TERMS]]
    shown = [f"({text})" if text.startswith("-") and index else text for index, text in enumerate(shown)]
    remainder = f" + ... ({len(terms) - MAX_TERMS} more)" if len(terms) > MAX_TERMS else ""
    return " + ".join(shown) + remainder or "0"


def step(name: str, value: Any, formula: str = "", filled: str = "", digits: int = DEFAULT_DIGITS) -> Step:
    """A step of a derivation; a number is formatted, a text is used unchanged."""
    return Step(name, formula, filled, value if isinstance(value, str) else format_number(value, digits))


def _ellipsis(omitted: int) -> str:
    return f", ... ({omitted} more)" if omitted > 0 else ""

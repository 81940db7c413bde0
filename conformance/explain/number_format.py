"""Numbers as explanations print them: rounded from exact ones, to as few digits as tell them apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from flint import arb

from conformance.adapters.contract import nested

DIGITS = 5
"""Significant digits, where fewer would not tell apart what differs."""
SHOWN = 6
"""Terms of a sum, or elements of a row, that are written out."""
EXACT = 17
"""Digits that tell any two float64 numbers apart."""


def figure(value: Any, digits: int = DIGITS) -> str:
    """A number, a ball or a fraction to that many significant digits."""
    number = float(value.mid()) if isinstance(value, arb) else float(value)
    if math.isnan(number) or math.isinf(number):
        return str(number)
    return f"{number + 0.0:.{digits}g}"


def apart(values: Iterable[float], least: int = DIGITS) -> int:
    """How many digits tell different numbers apart; more where they are, up to what float64 has."""
    different = {float(value) for value in values if math.isfinite(value)}
    for digits in range(least, EXACT):
        if len({figure(value, digits) for value in different}) == len(different):
            return digits
    return EXACT


def element(value: Any) -> str:
    """An element of an array as the shortest digits that read back in its dtype."""
    array = np.asarray(value)
    text = nested(array)
    if array.dtype.kind not in "fV":
        return text
    return text.replace("float('", "").replace("')", "").removesuffix(".0")


def row(values: Any) -> str:
    """A row of an array, its tail left out where it is long."""
    shown = [element(value) for value in values[:SHOWN]]
    return f"[{', '.join(shown)}{_more(len(values) - SHOWN)}]"


def figures(values: Sequence[Any], digits: int = DIGITS) -> str:
    """A row of computed numbers."""
    return f"[{', '.join(figure(v, digits) for v in values[:SHOWN])}{_more(len(values) - SHOWN)}]"


def added(terms: Sequence[str], sign: str = " + ") -> str:
    """Terms of a sum, written out; those after the first few only counted."""
    if not terms:
        return "0"
    shown = [f"({term})" if term.startswith("-") and index else term for index, term in enumerate(terms[:SHOWN])]
    return sign.join(shown) + (f"{sign}... ({len(terms) - SHOWN} more)" if len(terms) > SHOWN else "")


def _more(left: int) -> str:
    return f", ... ({left} more)" if left > 0 else ""

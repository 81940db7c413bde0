"""Every fake framework function by name: the faulty ones in families, and the correct ones.

The fault of a mutant is one that some case can show.  These are none: the sign of a zero (-0.0 equals 0.0 here), a
documented choice that is not made (the definition is always right, as where a gradient passes a documented clip), and
the mean over nothing (it is undefined).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from conformance.judging.selection import SelectionError, compiled, substring_of
from conformance.power.mutants import arithmetic, reference, tables
from conformance.power.mutants.reference import Binary, Categorical, Implementation
from conformance.reference import error_bound

GRADIENTS = "gradients"
"""The family whose losses are right."""
FAMILIES = (
    "precision", "logarithms", "clipping", "means", "weights", "smoothing", "labels", "ignoring", "axes", "blocks",
    "state", "returned", "errors", "hessians", GRADIENTS,
)  # fmt: skip

_namespace: dict[str, Any] = {**vars(reference), **vars(arithmetic), "error_bound": error_bound, "__name__": __name__}

DOCUMENTED = tables.read("documented", _namespace)
"""Correct implementations that depart from the definition by a choice that they document."""
ALTERNATIVES = tables.read("alternatives", _namespace)
"""Correct implementations that compute the definition in other ways; a suite that reports one is wrong itself."""
CORRECT: tuple[type[Implementation], ...] = (Categorical, Binary, *DOCUMENTED, *ALTERNATIVES)
FAULTY = tuple(mutant for family in FAMILIES for mutant in tables.read(family, _namespace))
BY_NAME = {loss.__name__: loss for loss in (*CORRECT, *FAULTY)}


def __getattr__(name: str) -> type[Implementation]:
    """A class by its name, so that the source of a call can be `{module}.{name}(...)`."""
    try:
        return BY_NAME[name]
    except KeyError:
        raise AttributeError(name) from None


def select_by_name(names: Iterable[str]) -> list[type[Implementation]]:
    """The implementations of these names."""
    return [BY_NAME[name] for name in names]


def select(
    among: Iterable[type[Implementation]], families: Iterable[str] = (), keyword: str = ""
) -> list[type[Implementation]]:
    """Those of some families (all, if none is named) whose `family.Name` a -k expression matches.

    Raises SelectionError if there is no such family, or nothing is left.
    """
    families = tuple(families)
    for family in families:
        if family not in FAMILIES:
            raise SelectionError(f"--family {family}: there is no such family; there are {', '.join(FAMILIES)}")
    matches = compiled(keyword) if keyword else None
    found = [
        loss
        for loss in among
        if (not families or loss.family in families)
        and (matches is None or matches(substring_of(f"{loss.family}.{loss.__name__}")))
    ]
    if not found:
        raise SelectionError(
            f"nothing is selected by -k {keyword!r}; `conformance mutants --list` prints what there is"
        )
    return found

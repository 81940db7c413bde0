"""Faulty implementations, one fault each, in families: every suite of cases has to catch every one of them.

A mutant's docstring says its fault, and the module that it stands in is its family.  What no case could show is
no mutant: the sign of a zero (-0.0 equals 0.0 here), a documented choice that is not made (the definition is
always right, as where a gradient passes a documented clip), what a mean over nothing is (it is undefined).
"""

from __future__ import annotations

import importlib

from conformance.power.mutants.losses import Loss

GRADIENTS = "gradients"
"""The family whose losses are right."""
FAMILIES = (
    "precision",
    "logarithms",
    "clipping",
    "means",
    "weights",
    "smoothing",
    "labels",
    "ignoring",
    "axes",
    "state",
    "returned",
    "errors",
    GRADIENTS,
)


def family_of(mutant: type[Loss]) -> str:
    """The family that a mutant belongs to."""
    return mutant.__module__.rpartition(".")[2]


def _members(family: str) -> list[type[Loss]]:
    module = importlib.import_module(f"{__name__}.{family}")
    return [
        found
        for name, found in vars(module).items()
        if isinstance(found, type) and found.__module__ == module.__name__ and not name.startswith("_")
    ]


FAULTY: tuple[type[Loss], ...] = tuple(mutant for family in FAMILIES for mutant in _members(family))

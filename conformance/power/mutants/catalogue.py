"""Every miniature by name: the faulty ones in families, and the right ones."""

from __future__ import annotations

from collections.abc import Iterable

from conformance.judging.selection import SelectionError, compiled, substring_of
from conformance.power.mutants.alternatives import ALTERNATIVES
from conformance.power.mutants.documented import DOCUMENTED
from conformance.power.mutants.faulty import FAMILIES, FAULTY, family_of
from conformance.power.mutants.losses import Binary, Categorical, Loss

CORRECT: tuple[type[Loss], ...] = (Categorical, Binary, *DOCUMENTED, *ALTERNATIVES)
BY_NAME = {loss.__name__: loss for loss in (*CORRECT, *FAULTY)}


def select_by_name(names: Iterable[str]) -> list[type[Loss]]:
    """The miniatures of these names."""
    return [BY_NAME[name] for name in names]


def select(among: Iterable[type[Loss]], families: Iterable[str] = (), keyword: str = "") -> list[type[Loss]]:
    """Those of some families (all, if none is named) whose `family.Name` a -k expression matches.

    Raises SelectionError where there is no such family, or nothing is left.
    """
    families = tuple(families)
    for family in families:
        if family not in FAMILIES:
            raise SelectionError(f"--family {family}: there is no such family; there are {', '.join(FAMILIES)}")
    matches = compiled(keyword) if keyword else None
    found = [
        loss
        for loss in among
        if (not families or family_of(loss) in families)
        and (matches is None or matches(substring_of(f"{family_of(loss)}.{loss.__name__}")))
    ]
    if not found:
        raise SelectionError(
            f"nothing is selected by -k {keyword!r}; `conformance mutants --list` prints what there is"
        )
    return found

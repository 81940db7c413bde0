"""Metamorphic testing: relations between the results for a source problem and for follow-up problems made from it.

No exact answer is needed.

`relation` defines relations, `RELATIONS` lists them, `select_instances` selects what is checked, `check` makes the
calls and compares, `rendering` formats the results.
"""

from conformance.explore.relations.catalogue import RELATIONS, check_names
from conformance.explore.relations.checker import Instance, RelationResult, check, stale_entries
from conformance.explore.relations.relation import MetamorphicGroup, Relation
from conformance.explore.relations.selection import exclusion_reason, select_instances

__all__ = [
    "RELATIONS",
    "Instance",
    "MetamorphicGroup",
    "Relation",
    "RelationResult",
    "check",
    "check_names",
    "exclusion_reason",
    "select_instances",
    "stale_entries",
]

"""Metamorphic relations: properties that the answers to two statements of a problem must share, checked without the
oracle.

`relation` defines relations, `RELATIONS` lists them, `select_instances` selects what is checked, `check` calls both
sides and compares, `rendering` formats the results.
"""

from conformance.explore.relations.catalogue import RELATIONS, check_names
from conformance.explore.relations.checker import Instance, RelationResult, check, stale_entries
from conformance.explore.relations.relation import Relation, Restatement
from conformance.explore.relations.selection import select_instances

__all__ = [
    "RELATIONS",
    "Instance",
    "Relation",
    "RelationResult",
    "Restatement",
    "check",
    "check_names",
    "select_instances",
    "stale_entries",
]

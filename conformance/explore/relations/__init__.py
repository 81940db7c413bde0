"""Metamorphic relations: what two answers must have in common, held against every function, without the oracle.

A relation says one problem in two ways and how the two answers hang together (`relation`); `RELATIONS` is all of them.
`instances` chooses what is asked, `check` asks both sides and judges, `shown` prints.
"""

from conformance.explore.relations.catalogue import RELATIONS, check_names
from conformance.explore.relations.checker import Finding, Instance, check, gone
from conformance.explore.relations.relation import Relation, Restated
from conformance.explore.relations.selection import instances

__all__ = ["RELATIONS", "Finding", "Instance", "Relation", "Restated", "check", "check_names", "gone", "instances"]

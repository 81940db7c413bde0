"""Every relation there is, in the order in which tables show them."""

from __future__ import annotations

from conformance.relations import batches, labels, layouts, predictions, weights
from conformance.relations.relation import Relation

RELATIONS: tuple[Relation, ...] = (
    *predictions.RELATIONS,
    *labels.RELATIONS,
    *weights.RELATIONS,
    *batches.RELATIONS,
    *layouts.RELATIONS,
)

"""All relations, in the order of the tables."""

from __future__ import annotations

import difflib
import fnmatch

from conformance.casefiles.known_issues import KnownIssue, Ledger
from conformance.explore.relations import batches, labels, layouts, predictions, weights
from conformance.explore.relations.relation import Relation
from conformance.model.errors import CaseErrors, CaseFileError

RELATIONS: tuple[Relation, ...] = (
    *predictions.RELATIONS,
    *labels.RELATIONS,
    *weights.RELATIONS,
    *batches.RELATIONS,
    *layouts.RELATIONS,
)


def check_names(ledger: Ledger) -> None:
    """Raise CaseErrors if the ledger names a relation that does not exist."""
    names = [relation.name for relation in RELATIONS]
    wrong = [
        entry for entry in ledger.entries if entry.relation_name and not fnmatch.filter(names, entry.relation_name)
    ]
    if wrong:
        raise CaseErrors(tuple(map(_unknown, wrong)))


def _unknown(entry: KnownIssue) -> CaseFileError:
    near = difflib.get_close_matches(entry.relation_name, [relation.name for relation in RELATIONS], n=1)
    advice = f"did you mean {near[0]}?" if near else "`conformance relations` prints those that there are"
    return CaseFileError(entry.path, entry.line, 1, "", f"{entry.relation_name} is no relation", advice)

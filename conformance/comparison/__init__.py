"""Reports and environments held against each other: what changed, what got worse than accepted, what an upgrade does.

Two reports --difference--> changes --markdown, as_csv, as_json, terminal--> people and machines.
A run's results --against(baseline)--> Check.  A report --proposal--> --accept--> the baseline.
Reports --joined--> one report.
Two environments --sides_of--> sides --answers--> rows --audited--> Audit --pages--> people and machines.
"""

from conformance.comparison.accepting import Proposal, accept, proposal
from conformance.comparison.baseline import Check, RunScope, against, check
from conformance.comparison.changes import CAUSES, KINDS, LEVELS, SEVERITIES, changes, documented, everything, fails
from conformance.comparison.comparing import (
    Difference,
    Side,
    by_cause,
    by_function,
    by_kind,
    by_severity,
    difference,
    groups,
)
from conformance.comparison.joining import Part, join, joined
from conformance.comparison.refusal import AuditError
from conformance.comparison.shown import Format, as_csv, as_json, headline, markdown, paged, terminal

__all__ = [
    "CAUSES",
    "KINDS",
    "LEVELS",
    "SEVERITIES",
    "AuditError",
    "Check",
    "Difference",
    "Format",
    "Part",
    "Proposal",
    "RunScope",
    "Side",
    "accept",
    "against",
    "as_csv",
    "as_json",
    "by_cause",
    "by_function",
    "by_kind",
    "by_severity",
    "changes",
    "check",
    "difference",
    "documented",
    "everything",
    "fails",
    "groups",
    "headline",
    "join",
    "joined",
    "markdown",
    "paged",
    "proposal",
    "terminal",
]

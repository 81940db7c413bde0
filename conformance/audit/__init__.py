"""Reports held against each other: what changed, what got worse than accepted, and parts joined into one.

Two reports --difference--> changes --markdown, as_csv, as_json, terminal--> people and machines.
A run's results --against(baseline)--> Check.  A report --proposal--> --accept--> the baseline.
Reports --joined--> one report.
"""

from conformance.audit.accepting import Proposal, accept, proposal
from conformance.audit.baseline import Asked, Check, against, check
from conformance.audit.changes import CAUSES, KINDS, LEVELS, SEVERITIES, changes, documented, everything, fails
from conformance.audit.comparing import (
    Difference,
    Side,
    by_cause,
    by_function,
    by_kind,
    by_severity,
    difference,
    groups,
)
from conformance.audit.joining import Part, join, joined
from conformance.audit.refusal import AuditError
from conformance.audit.shown import Format, as_csv, as_json, headline, markdown, paged, terminal

__all__ = [
    "CAUSES",
    "KINDS",
    "LEVELS",
    "SEVERITIES",
    "Asked",
    "AuditError",
    "Check",
    "Difference",
    "Format",
    "Part",
    "Proposal",
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

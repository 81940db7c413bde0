"""Comparison of reports and environments: what changed, what got worse than accepted, what an upgrade does.

Two reports --difference--> changes --markdown, as_csv, as_json, terminal--> people and programs.
A run's results --against(baseline)--> Check.  A report --proposal--> --accept--> the baseline.
Reports --merge_reports--> one report.
Two environments --open_sides--> sides --Answers--> rows --audit--> Audit --audit_rendering--> people and programs.
"""

from conformance.comparison.acceptance import Proposal, accept, proposal
from conformance.comparison.baseline import Check, RunScope, against, check
from conformance.comparison.changes import (
    CAUSES,
    KINDS,
    LEVELS,
    SAME_QUESTIONS,
    SEVERITIES,
    changes,
    documented,
    fails,
)
from conformance.comparison.difference_rendering import Format, as_csv, as_json, for_page, headline, markdown, terminal
from conformance.comparison.errors import AuditError
from conformance.comparison.merging import Part, merge, merge_reports
from conformance.comparison.reports import (
    Difference,
    Side,
    by_cause,
    by_function,
    by_kind,
    by_severity,
    difference,
    groups,
    read_complete,
)

__all__ = [
    "CAUSES",
    "KINDS",
    "LEVELS",
    "SAME_QUESTIONS",
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
    "fails",
    "for_page",
    "groups",
    "headline",
    "markdown",
    "merge",
    "merge_reports",
    "proposal",
    "read_complete",
    "terminal",
]

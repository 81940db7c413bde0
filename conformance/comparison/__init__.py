"""Comparison of reports and environments: what changed, what got worse than accepted, what an upgrade does.

Two reports --difference--> changes --markdown, as_csv, as_dict, terminal--> people and programs.
A baseline's and a run's results --check_baseline--> Check.  A report --proposal--> --accept--> the baseline.
Reports --merge_reports--> one report.
Two environments --open_sides--> sides --Answers--> rows --audit--> Audit --audit_rendering--> people and programs.
"""

from conformance.comparison.acceptance import Proposal, accept, proposal
from conformance.comparison.baseline import Check, RunScope, check_baseline
from conformance.comparison.changes import (
    CAUSES,
    KINDS,
    LEVELS,
    SAME_QUESTIONS,
    SEVERITIES,
    compare_results,
    fails,
)
from conformance.comparison.difference_rendering import as_csv, as_dict, for_page, headline, markdown, terminal
from conformance.comparison.errors import AuditError
from conformance.comparison.merging import Part, merge, merge_reports
from conformance.comparison.reports import (
    Difference,
    Side,
    by_severity,
    difference,
    group_changes,
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
    "Part",
    "Proposal",
    "RunScope",
    "Side",
    "accept",
    "as_csv",
    "as_dict",
    "by_severity",
    "check_baseline",
    "compare_results",
    "difference",
    "fails",
    "for_page",
    "group_changes",
    "headline",
    "markdown",
    "merge",
    "merge_reports",
    "proposal",
    "read_complete",
    "terminal",
]

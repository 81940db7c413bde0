"""Comparison of reports and environments: what changed, what got worse than accepted, what an upgrade does.

Two reports --difference--> changes --markdown, as_csv, as_dict, terminal--> people and programs.
A baseline's and a run's results --check_baseline--> Check.  A report --proposal--> --accept--> the baseline.
Reports --merge_reports--> one report.
Two environments --open_sides--> sides --AuditRun--> rows --audit--> Audit --audit_rendering--> people and programs.
"""

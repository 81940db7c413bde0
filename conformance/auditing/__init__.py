"""Upgrades: what changes between two environments, in which release it did, and what changed over many of them.

Two environments --sides_of--> sides --answers--> rows --audited--> Audit --pages--> people and machines.
"""

from conformance.auditing.causes import Announced, Cause
from conformance.auditing.upgrade import Answers, Audit, Journals, Sides, answers, audited, sides_of

__all__ = ["Announced", "Answers", "Audit", "Cause", "Journals", "Sides", "answers", "audited", "sides_of"]

"""Errors of comparing or merging reports."""

from __future__ import annotations

from conformance.model.errors import LocatedError


class ComparisonError(LocatedError):
    """Reports cannot be compared or merged as requested; the message says which, why, and what to do."""

"""Why reports are not compared or joined."""

from __future__ import annotations

from conformance.model.errors import LocatedError


class AuditError(LocatedError):
    """Reports cannot be compared or joined as requested: which, why, and what to do."""

"""Why reports are not compared or joined."""

from __future__ import annotations

from pathlib import Path

from conformance.model.errors import UserError


class AuditError(UserError):
    """Reports cannot be compared or joined as requested: which, why, and what to do."""

    def __init__(self, which: str | Path, why: str, advice: str) -> None:
        super().__init__(str(which), why, advice)
        self.which = str(which)
        self.why = why
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.which}: {self.why}; {self.advice}"

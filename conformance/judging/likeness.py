"""Judge a callable that is like a known function: known issues of that function explain wrong rows, and excuse none."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from conformance.adapters import registry
from conformance.casefiles.known_issues import KnownIssue, Ledger
from conformance.judging.judge import Assessment, Judge
from conformance.judging.prepare import PreparedCall
from conformance.judging.verdict import FAILING, expected_status
from conformance.model.outcome import Outcome


def issues_of(like: str, name: str, entries: Iterable[KnownIssue]) -> Ledger:
    """The known issues of a function as those of a callable that is like it.

    like: name of the function, of which the installed release counts if there is one.  name: name of the callable.
    """
    known = registry.function_named(like)
    version = registry.version_of(
        next(framework for framework in registry.frameworks() if framework.name == known.framework_name)
    )
    return Ledger(
        dataclasses.replace(
            entry, function=name, twins=(), versions="", reason=f"{known.name} has this known issue: {entry.reason}"
        )
        for entry in entries
        if entry.matches_function(known.name) and (version is None or registry.within(version, entry.versions))
    )


class UnexcusedAssessment(Assessment):
    """An assessment whose `known` is an issue of another function, so that a wrong row stays unexpected."""

    @property
    def expected(self) -> str:
        return expected_status(self.verdict.status, known=False)


class LikenessJudge(Judge):
    """Judges the calls of a callable by the ledger of `issues_of`."""

    def judge(self, prepared: PreparedCall, outcome: Outcome) -> Assessment:
        assessment = super().judge(prepared, outcome)
        return UnexcusedAssessment(
            assessment.prepared, assessment.verdict, assessment.known if assessment.verdict.status in FAILING else None
        )

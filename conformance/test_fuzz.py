"""A fixed set of 300 generated cases, run on every function of a framework.

Losses and, if the framework has them, gradients.
"""

from __future__ import annotations

import pytest

from conformance.adapters.registry import Installed
from conformance.casefiles import known_issues
from conformance.casefiles.loading import shipped_cases
from conformance.explore.fuzz.search import Search, restrict_limits
from conformance.model.text import loggable

SEED, CASES = 0, 300


def test_fuzz(installed: Installed) -> None:
    """It answers every case as the definition, its documentation or the ledger says."""
    search = Search(
        [installed],
        known_issues.load(shipped_cases()),
        restrict_limits(functions=installed.functions),
        SEED,
        shrinks=False,
    )
    while search.state.position < CASES:
        search.step()
    assert search.state.not_executed == []
    assert search.state.cases > CASES / 3
    if search.findings:
        shown = "\n\n".join(finding.message for finding in search.findings)
        again = f"conformance fuzz --framework {installed.framework.name} --seed {SEED} --cases-count {CASES}"
        pytest.fail(loggable(f"{shown}\n\nshrink them with: {again}"), pytrace=False)

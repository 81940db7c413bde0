"""A badge, as shields.io reads it from an address: https://shields.io/badges/endpoint-badge."""

from __future__ import annotations

import json

import pandas as pd

from conformance.execution.run_info import RunInfo
from conformance.judging.verdict import FAILING_ROWS
from conformance.model.text import counted


def badge(results: pd.DataFrame, run: RunInfo) -> str:
    """`cross-entropy | 526 cases, nothing unexpected`, as JSON; the same text for the same rows.

    It has numbers and fixed words only, no text of others.
    """
    cases = results.loc[results["case"] != "", "case"].nunique()
    unexpected = int(results["expected"].isin(FAILING_ROWS).sum())
    if not run.complete(len(results)):
        message, colour = "incomplete", "lightgrey"
    elif unexpected:
        message, colour = f"{counted(cases, 'case')}, {counted(unexpected, 'answer')} unexpected", "red"
    elif cases:
        message, colour = f"{counted(cases, 'case')}, nothing unexpected", "brightgreen"
    else:
        message, colour = "nothing executed", "lightgrey"
    facts = {"schemaVersion": 1, "label": "cross-entropy", "message": message, "color": colour}
    return json.dumps(facts, indent=2) + "\n"

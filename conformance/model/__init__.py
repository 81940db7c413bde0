"""Frozen values that everything else is about: case, problem, convention, outcome, errors, text; numpy only."""

"""Frozen values used by all other packages: case, problem, convention, outcome, errors, text; numpy only."""

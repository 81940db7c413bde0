"""Checks of the suite's own tools: the bench, the mutants, and the documentation."""

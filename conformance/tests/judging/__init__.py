"""Tests of plans, rows, verdicts and their reasons."""

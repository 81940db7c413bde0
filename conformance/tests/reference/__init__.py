"""Tests of the exact answers: the oracle, derivatives, error bounds and conversions."""

"""Tests of relations, fuzzing and sweeps."""

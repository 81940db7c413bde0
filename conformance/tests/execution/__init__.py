"""Tests of runs: workers, environments, Ray, the journal, and what calls may do to a process."""

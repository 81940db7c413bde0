"""Tests of comparing reports and environments: diff, baseline, audit, bisect and history."""

"""Tests of the pytest plugin, the documentation, and what belongs to the repository."""

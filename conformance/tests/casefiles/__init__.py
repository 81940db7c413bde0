"""Tests of case files: loading, generation, layouts, the shipped cases and the ledger."""

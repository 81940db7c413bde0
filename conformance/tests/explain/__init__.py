"""Tests of explanations and recipes."""

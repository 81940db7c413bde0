"""Tests of reports: files, page, SARIF and comment."""

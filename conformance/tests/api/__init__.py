"""Tests of what Python users import: `conformance.api` and `conformance.testing`."""

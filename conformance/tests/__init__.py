"""The tests of the harness; `conftest` has their fixtures, `miniatures` the fake frameworks."""

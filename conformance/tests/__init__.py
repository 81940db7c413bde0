"""The tests of the harness, in a folder for each package; `conftest` has fixtures, `miniatures` the fake frameworks."""

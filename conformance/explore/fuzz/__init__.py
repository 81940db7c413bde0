"""Random cases: generated, called, shrunk if a function is wrong, and written as case files."""

"""YAML in and out: cases and known issues, their validation, generated arrays, stated and published values."""

"""Problems beyond the shipped cases: metamorphic relations, drawn cases, exhaustive sweeps."""

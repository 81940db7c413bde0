"""Problems beyond the shipped cases: metamorphic relations, random cases, exhaustive sweeps."""

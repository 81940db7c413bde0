"""Cases read at run time from the tests that other projects ship inside their own wheels; nothing is copied.

`sources/` is the registry: one file per project.  A source is read in a process of its own (`collecting`), by a
host that may see it hang or die (`gathering`); what it found is said in this suite's words, or counted with the
reason why that cannot be done (`saying`); and how much there must be is on record (`counts.toml`).
"""

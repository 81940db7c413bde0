"""Cases extracted at run time from the tests that other projects ship in their wheels; nothing is copied.

`sources/` is the registry, with one file per project.  A source is read in a process of its own (`collector`), started
by a parent that tolerates a hang or a crash (`collection`).  Each record is translated into a case, or counted with the
reason why no case can express it (`translation`).  `counts.toml` states how many records each source must yield.
"""

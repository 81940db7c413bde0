"""Metamorphic testing: relations between the results for a source problem and for follow-up problems derived from it.

No exact answer is needed.

`relation` defines relations, `RELATIONS` lists them, `select_instances` selects the instances to check, `check` makes
the calls and compares, `rendering` formats the results.
"""

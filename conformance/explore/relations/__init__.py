"""Metamorphic testing: relations between the results for a source problem and for follow-up problems made from it.

No exact answer is needed.

`relation` defines relations, `RELATIONS` lists them, `select_instances` selects what is checked, `check` makes the
calls and compares, `rendering` formats the results.
"""

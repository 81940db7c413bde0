"""Sweeps: many inputs in one call, every loss held against an exact answer, region by region.

Inputs --truth--> exact answers and budgets --judging--> tallies --lines--> lines --shown--> tables and files.
"""

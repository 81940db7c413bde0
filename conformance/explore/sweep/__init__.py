"""Sweeps: many inputs per call, each loss compared with an exact answer, with statistics per region of inputs.

Inputs --reference_values--> exact losses, tolerances --comparer--> counts --table--> rows --rendering--> tables, files.
"""

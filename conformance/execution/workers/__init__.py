"""Calls in other processes, interpreters and environments.

`wire`, `serve` and `loop` run in the worker, where only numpy and a framework are installed; `pool` runs in the run's
process, and `on_ray` has workers on other machines.
"""

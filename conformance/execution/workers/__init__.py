"""`evaluate` in another process, interpreter or environment: a call goes out, an outcome comes back.

`wire`, `serve` and `loop` run over there, where only numpy and a framework are installed; `crew` runs here, and
`on_ray` has crews on other machines.
"""

"""`evaluate` in another process, interpreter or environment: a call goes out, an outcome comes back.

`wire` and `loop` run over there as well, where only numpy and a framework are installed; `crew` runs here.
"""

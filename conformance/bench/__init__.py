"""What the harness costs in addition to the frameworks it calls, compared with limits: `python -m conformance.bench`.

Every figure is a difference or a ratio of times, or of memory, taken in one run on one machine, each by a
fresh process (`probe`).  Nothing here is a test: a slow machine is not a defect.
"""

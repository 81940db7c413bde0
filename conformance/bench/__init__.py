"""The overhead of the harness over the frameworks it calls, compared with limits: `python -m conformance.bench`.

Every figure is a difference or ratio of times or memory, measured in one run on one machine, each in a
fresh process (`probe`).  Nothing here is a test: a slow machine is not a defect.
"""

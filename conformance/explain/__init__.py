"""Explanations: how the definition reaches its answer, and why each function returns a different one.

    Case -> explain -> Explanation -> terminal | markdown | serialize_explanation

An explanation consists of frozen values. Each number in it comes from the oracle or from a call of the function; each
remedy has been tried and judged before it is listed.
"""

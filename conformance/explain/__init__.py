"""Explanations: how the definition reaches its answer, and why each function returns another one.

    Case -> explain -> Explanation -> terminal | markdown | as_data

An explanation consists of frozen values. Each number in it comes from the oracle or from a call of the function; each
remedy was tried and judged before it is listed.
"""

from conformance.explain.explainer import explain
from conformance.explain.explanation import Explanation
from conformance.explain.page_explanations import explain_report
from conformance.explain.rendering import as_data, markdown, terminal
from conformance.model.meanings import meaning

__all__ = ["Explanation", "as_data", "explain", "explain_report", "markdown", "meaning", "terminal"]

"""Why an answer is what it is: the definition's way to it, and each function's, in words and with the numbers.

    Case -> explain -> Explanation -> terminal | markdown | as_data

An explanation is made of frozen values.  Every number in it comes from the oracle, or from a function; every
advice in it was followed once before it is given.
"""

from conformance.explain.explainer import explain
from conformance.explain.explanation import Explanation
from conformance.explain.meanings import meaning
from conformance.explain.page_explanations import explained
from conformance.explain.rendering import as_data, markdown, terminal

__all__ = ["Explanation", "as_data", "explain", "explained", "markdown", "meaning", "terminal"]

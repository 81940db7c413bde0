"""`conformance explain`: why a case has its answer, and why functions return something else."""

from __future__ import annotations

from typing import Any

from conformance import api
from conformance.cli.shared import options, print_notes, print_styled
from conformance.cli.terminal import out
from conformance.explain import rendering
from conformance.judging.plan import MAX_DIFFERENTIATED
from conformance.model.case import Case


@options
def explain(
    case: str,
    as_markdown: bool = False,
    as_json: bool = False,
    **request: Any,
) -> None:
    """How the answer to a case is derived, what each function does differently, and what makes them equal."""
    result = api.explain(case, **request)
    explanation = result.explanation
    print_notes([result.case])
    if as_json:
        out.write(result.to_json())
    elif as_markdown:
        out.print(rendering.markdown(explanation), markup=False, soft_wrap=True, end="")
    else:
        print_styled(rendering.terminal(explanation, out.width))
        _print_other_options(result.case, explanation.dtype, explanation.reduction, explanation.quantity)


def _print_other_options(case: Case, dtype: str, reduction: str, quantity: str) -> None:
    """Print further options that can be explained."""
    options = {"--dtype": (case.dtypes, dtype), "--reduction": (case.reductions, reduction)}
    alternatives = [f"{name} {value}" for name, (values, used) in options.items() for value in values if value != used]
    differentiated = not case.no_gradient and case.predicted <= MAX_DIFFERENTIATED
    alternatives += ["--quantity gradient"] if quantity == "loss" and differentiated else []
    if alternatives:
        out.print("\n".join(["", "Also:", *(f"    {option}" for option in alternatives)]), soft_wrap=True)

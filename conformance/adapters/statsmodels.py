"""statsmodels: the log-likelihood of a logit model, whose negative is a sum of cross-entropies.

The logits are an offset, which is added to the linear predictor as it is; the only regressor is 0.  Its factors of the
score and of the Hessian are documented as derivatives in the linear predictor.
"""

from __future__ import annotations

from typing import Any

from conformance.adapters import arrays
from conformance.adapters.contract import DocumentedConvention, Framework, Function
from conformance.model.convention import Convention

DOCUMENTATION = "https://www.statsmodels.org/v0.15.0/generated/statsmodels.discrete.discrete_model.Logit."
SOURCE = "https://github.com/statsmodels/statsmodels/blob/v0.15.0/statsmodels/discrete/discrete_model.py"
MODEL = """
regressor = np.zeros((*{predictions}.shape, 1))
model = statsmodels.api.Logit(endog={labels}, exog=regressor, offset={predictions})
-model.METHOD([0.0])
"""


def function(method: str, convention: Convention, **fields: Any) -> Function:
    """The negative of what a method of the model returns, for its one coefficient being 0."""
    return Function(
        f"Logit.{method}",
        MODEL.replace("METHOD", method),
        ranks={"binary": range(1, 2)},
        input_kinds={"logits": ""},
        targets={"binary": ""},
        conventions=(DocumentedConvention(convention, documentation=SOURCE),),
        documentation=f"{DOCUMENTATION}{method}.html",
        dtypes=frozenset({"float32", "float64"}),
        result_dtype="float64",
        differentiates=False,
        label_column=True,
        untested={"kwargs={}": "what is done about nan", "check_rank=True": "about regressors"},
        **fields,
    )


TAKES: dict[str, Any] = {"accepts": frozenset({"trailing_axis"}), "rejects": frozenset({"empty_batch"})}
"""A column is squeezed; a design without rows has no rank."""
ROUNDED = Convention(logits_as="probabilities", **TAKES)
SLOPE = Convention(gradient_cancellation="targets", **TAKES)
CURVE = Convention(hessian_cancellation="complement", **TAKES)
EACH = {"none": "{result}", "sum": "{result}.sum()", "mean": "{result}.mean()"}
SUM = {"sum": ""}
FRAMEWORK = Framework(
    name="statsmodels",
    distributions=("statsmodels",),
    modules=("statsmodels",),
    arrays=arrays.numpy,
    imports="import numpy as np; import statsmodels.api",
    functions=(
        function("loglike", ROUNDED, reductions=SUM),
        function("loglikeobs", ROUNDED, reductions=EACH),
        function("score_factor", SLOPE, quantity="gradient", reductions=SUM),
        function("hessian_factor", CURVE, quantity="hessian", reductions=SUM),
    ),
)

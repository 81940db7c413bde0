"""statsmodels: the log-likelihood of a logit model, whose negative is a sum of cross-entropies.

The logits are passed as `offset`, with one all-zero regressor, so the linear predictor equals them.  `score_factor` and
`hessian_factor` are documented as derivatives with respect to the linear predictor.
"""

from __future__ import annotations

from typing import Any

from conformance.adapters import arrays
from conformance.adapters.contract import Framework, family
from conformance.model.convention import Convention

DOCUMENTATION = "https://www.statsmodels.org/v0.15.0/generated/statsmodels.discrete.discrete_model.Logit."
SOURCE = "https://github.com/statsmodels/statsmodels/blob/v0.15.0/statsmodels/discrete/discrete_model.py"
CALL_TEMPLATE = """
regressor = np.zeros((*{predictions}.shape, 1))
model = statsmodels.api.Logit(endog={labels}, exog=regressor, offset={predictions})
-model.@([0.0])
"""


function = family(
    CALL_TEMPLATE,
    name="Logit.@",
    documentation=f"{DOCUMENTATION}@.html",
    source=SOURCE,
    ranks={"binary": range(1, 2)},
    input_kinds={"logits": ""},
    targets={"binary": ""},
    dtypes=frozenset({"float32", "float64"}),
    result_dtype="float64",
    differentiates=False,
    labels_column=True,
    first="0.14.0",  # earlier releases have the method but ignore `offset`
    untested={"kwargs={}": "the handling of nan", "check_rank=True": "a rank check of the regressors"},
)
"""The negative of a method of the model, evaluated at coefficient 0."""
INPUT_HANDLING: dict[str, Any] = {"accepts": frozenset({"trailing_axis"}), "rejects": frozenset({"empty_batch"})}
"""Labels of shape [N, 1] are squeezed.

An empty batch raises, because the rank of an empty design matrix is undefined.
"""
LOSS_CONVENTION = Convention(logits_as="probabilities", **INPUT_HANDLING)
# score_factor computes y - p, which loses digits if p is close to y.
GRADIENT_CONVENTION = Convention(gradient_cancellation="targets", **INPUT_HANDLING)
# hessian_factor computes p * (1 - p); 1 - p loses digits if p is close to 1.
HESSIAN_CONVENTION = Convention(hessian_cancellation="complement", **INPUT_HANDLING)
UNREDUCED_RESULT = {"none": "{result}", "sum": "{result}.sum()", "mean": "{result}.mean()"}
SUMMED_RESULT = {"sum": ""}
FRAMEWORK = Framework(
    name="statsmodels",
    distributions=("statsmodels",),
    repository="https://github.com/statsmodels/statsmodels",
    modules=("statsmodels",),
    arrays=arrays.numpy,
    imports="import numpy as np; import statsmodels.api",
    extra_requirements=(("<0.14.2", "numpy<2"), ("<0.14.5", "scipy<1.16"), ("<0.14.6", "pandas<3")),
    functions=(
        function("loglike", LOSS_CONVENTION, reductions=SUMMED_RESULT),
        function("loglikeobs", LOSS_CONVENTION, reductions=UNREDUCED_RESULT),
        function("score_factor", GRADIENT_CONVENTION, quantity="gradient", reductions=SUMMED_RESULT),
        function("hessian_factor", HESSIAN_CONVENTION, quantity="hessian", reductions=SUMMED_RESULT),
    ),
)

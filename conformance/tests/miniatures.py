"""The fake frameworks of `conformance.power.mutants`, by the names under which the tests know them."""

from __future__ import annotations

from conformance.power.mutants.catalogue import BY_NAME, DOCUMENTED, FAULTY  # noqa: F401
from conformance.power.mutants.numpy_losses import *  # noqa: F403
from conformance.power.mutants.numpy_losses import Binary, Categorical, Implementation

RIGHT: tuple[type[Implementation], ...] = (Categorical, Binary, *DOCUMENTED)

globals().update(BY_NAME)

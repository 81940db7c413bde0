"""The fake frameworks of `conformance.power.mutants`, by the names under which the tests know them."""

from __future__ import annotations

from conformance.power.mutants.documented import *  # noqa: F403
from conformance.power.mutants.documented import DOCUMENTED
from conformance.power.mutants.faulty import FAULTY
from conformance.power.mutants.losses import *  # noqa: F403
from conformance.power.mutants.losses import Binary, Categorical, Loss

RIGHT: tuple[type[Loss], ...] = (Categorical, Binary, *DOCUMENTED)

globals().update({mutant.__name__: mutant for mutant in FAULTY})

"""The contract of an adapter: calls as source over named arrays, tables of their arguments, and their execution.

In tables (`Function`) an adapter declares the arguments of its functions as pieces of the framework's own source.
From them `lowering` writes a `Call`: the source that `calling.perform` compiles once and executes with the arrays
bound to their names.  `reproducer` prints the same source after the imports and the literals, so that the printed code
is the executed code.
These modules need only numpy, so that they run beside old releases of frameworks.
"""

from conformance.adapters.contract.errors import DeclarationError, LoweringError
from conformance.adapters.contract.framework import (
    INTEGER_DTYPES,
    SHAPE_WORDS,
    Backend,
    DocumentedConvention,
    Framework,
    Function,
    Mode,
    NoEffect,
    family,
    required_capabilities,
)

__all__ = [
    "INTEGER_DTYPES",
    "SHAPE_WORDS",
    "Backend",
    "DeclarationError",
    "DocumentedConvention",
    "Framework",
    "Function",
    "LoweringError",
    "Mode",
    "NoEffect",
    "family",
    "required_capabilities",
]

"""The contract with a framework: a call as source over named arrays, tables of its arguments, and how it is made.

An adapter says in tables what its functions take (`Function`), as pieces of the framework's own source.  From them
`lowering` writes a `Call`: the text that `calling.perform` compiles once and executes with the arrays bound to their
names, and that `reproducer` prints after the imports and the literals.  So what is printed is what ran.
Nothing here needs more than numpy, so that all of it runs where an old framework is installed.
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
    "required_capabilities",
]

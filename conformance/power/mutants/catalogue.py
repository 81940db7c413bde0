"""All fake framework functions by name, read from tables: mutants in families, and correct implementations.

A mutant's fault is one that some case can detect.  Not mutants: the sign of a zero (-0.0 equals 0.0 here), a
documented choice that is not applied (the definition is always correct, even if a gradient passes a documented clip),
and the mean over nothing, which is undefined.

A table contains changes to the reference implementation, one class per entry.  An entry is `[Name]` with a sentence
(`fault`, or `how` for a correct one); `of`, the changed classes if not `Categorical`; and changes.  A change
is a step of the class and its replacement: a Python expression over the parameters of the step, or statements.
`original` is what the unchanged step returns. An attribute of the class, such as `documented`, is changed in the same
way.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tomllib

from conformance.judging.selection import SelectionError, compile_expression, substring_of
from conformance.power.mutants import arithmetic, numpy_losses
from conformance.power.mutants.numpy_losses import BiasedHead, Binary, Categorical, Head, Implementation
from conformance.reference import error_bound

GRADIENTS = "gradients"
"""The family whose losses are correct and whose gradients are not."""
DIFFERENTIATED = (GRADIENTS, "heads")
"""The families whose gradients are tested."""
FAMILIES = (
    "precision", "logarithms", "clipping", "means", "weights", "smoothing", "labels", "ignoring", "axes", "blocks",
    "state", "returned", "errors", "hessians", *DIFFERENTIATED,
)  # fmt: skip
FOLDER = Path(__file__).with_name("tables")
DESCRIPTION = ("fault", "how", "of")


def read_table(family: str, namespace: dict[str, Any]) -> tuple[type[Implementation], ...]:
    """The classes of a table in order.  Each is added to `namespace`, so that later entries can refer to it.

    Raises ValueError with the name of the entry if it is invalid Python or changes a step that does not exist.
    """
    table: dict[str, dict[str, Any]] = tomllib.loads((FOLDER / f"{family}.toml").read_text("utf-8"))
    return tuple(_class(name, family, entry, namespace) for name, entry in table.items())


def _class(name: str, family: str, entry: dict[str, Any], namespace: dict[str, Any]) -> type[Implementation]:
    base = entry.get("of", "Categorical")
    try:
        bases = eval(f"({base},)", namespace)  # noqa: S307
        changes = [_change(bases, key, entry[key]) for key in entry if key not in DESCRIPTION]
        source = "\n".join([f"class {name}({base}):", f"family = {family!r}", "call_state = {}", *changes])
        exec(source.replace("\n", "\n    "), namespace)  # noqa: S102
    except (SyntaxError, NameError) as error:
        raise ValueError(f"{family}.toml: {name}: {error}") from error
    implementation: type[Implementation] = namespace[name]
    implementation.__doc__ = entry.get("fault") or entry["how"]
    return implementation


def _change(bases: tuple[type[Implementation], ...], key: str, value: Any) -> str:
    """Source of an attribute or a method.  Raises NameError if no base has it."""
    step = next((inspect.getattr_static(base, key) for base in bases if hasattr(base, key)), None)
    if step is None:
        raise NameError(f"there is no step or attribute {key}")
    function = step.__func__ if isinstance(step, classmethod) else step
    if not inspect.isfunction(function):
        return f"{key} = {value}"
    parameters = [*inspect.signature(function).parameters]
    body = re.sub(r"\boriginal\b", f"super().{key}({', '.join(parameters[1:])})", value.strip())
    if _is_expression(body):
        body = f"return ({body})"
    decorator = "@classmethod\n" if isinstance(step, classmethod) else ""
    return f"{decorator}def {key}({', '.join(parameters)}):\n{textwrap.indent(body, '    ')}"


def _is_expression(text: str) -> bool:
    try:
        compile(f"({text})", "", "eval")
    except SyntaxError:
        return False
    return True


_namespace: dict[str, Any] = {
    **vars(numpy_losses),
    **vars(arithmetic),
    "error_bound": error_bound,
    "__name__": __name__,
}

DOCUMENTED = read_table("documented", _namespace)
"""Correct implementations that differ from the definition by a documented choice."""
ALTERNATIVES = read_table("alternatives", _namespace)
"""Correct implementations that compute the definition in other ways; reporting one is an error of the suite."""
CORRECT: tuple[type[Implementation], ...] = (Categorical, Binary, Head, BiasedHead, *DOCUMENTED, *ALTERNATIVES)
FAULTY = tuple(mutant for family in FAMILIES for mutant in read_table(family, _namespace))
BY_NAME = {loss.__name__: loss for loss in (*CORRECT, *FAULTY)}


def __getattr__(name: str) -> type[Implementation]:
    """A class by its name; the source of a call can thus be `{module}.{name}(...)`."""
    try:
        return BY_NAME[name]
    except KeyError:
        raise AttributeError(name) from None


def select_by_name(names: Iterable[str]) -> list[type[Implementation]]:
    """The implementations with these names."""
    return [BY_NAME[name] for name in names]


def select(
    among: Iterable[type[Implementation]], families: Iterable[str] = (), keyword: str = ""
) -> list[type[Implementation]]:
    """Implementations of the given families (default: all) whose `family.Name` matches a -k expression.

    Raises SelectionError for an unknown family or an empty selection.
    """
    families = tuple(families)
    for family in families:
        if family not in FAMILIES:
            raise SelectionError(f"--family {family}: there is no such family; expected one of {', '.join(FAMILIES)}")
    matches = compile_expression(keyword) if keyword else None
    mutants = [
        loss
        for loss in among
        if (not families or loss.family in families)
        and (matches is None or matches(substring_of(f"{loss.family}.{loss.__name__}")))
    ]
    if not mutants:
        raise SelectionError(
            f"nothing is selected by -k {keyword!r}; `conformance mutants --list` prints what there is"
        )
    return mutants

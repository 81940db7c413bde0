"""Reads tables of changes to the reference implementation into classes, one for each entry.

An entry is `[Name]` with a sentence (`fault`, or `how` for a correct one); `of`, the classes that it changes if not
`Categorical`; and changes.  A change is a step of the class and what it does instead: a Python expression over the
parameters of the step, or statements.  `original` is what the unchanged step returns.  An attribute of the class,
such as `documented`, is changed in the same way.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import tomllib

from conformance.power.mutants.reference import Implementation

FOLDER = Path(__file__).with_name("tables")
DESCRIPTION = ("fault", "how", "of")


def read(family: str, namespace: dict[str, Any]) -> tuple[type[Implementation], ...]:
    """The classes of a table, in its order.  Each is added to `namespace`, where the entries after it find it.

    Raises ValueError, naming the entry, if it is not valid Python or changes a step that there is not.
    """
    table: dict[str, dict[str, Any]] = tomllib.loads((FOLDER / f"{family}.toml").read_text("utf-8"))
    return tuple(_class(name, family, entry, namespace) for name, entry in table.items())


def _class(name: str, family: str, entry: dict[str, Any], namespace: dict[str, Any]) -> type[Implementation]:
    of = entry.get("of", "Categorical")
    try:
        bases = eval(f"({of},)", namespace)  # noqa: S307
        changes = [_change(bases, key, entry[key]) for key in entry if key not in DESCRIPTION]
        source = "\n".join([f"class {name}({of}):", f"family = {family!r}", "memory = {}", *changes])
        exec(source.replace("\n", "\n    "), namespace)  # noqa: S102
    except (SyntaxError, NameError) as error:
        raise ValueError(f"{family}.toml: {name}: {error}") from error
    found: type[Implementation] = namespace[name]
    found.__doc__ = entry.get("fault") or entry["how"]
    return found


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

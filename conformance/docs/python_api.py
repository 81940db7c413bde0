"""The reference of `conformance.api` and `conformance.testing`, generated from signatures and docstrings."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any

from conformance import api
from conformance.docs.markup import anchor_line, code_html, prose_html, slug, table
from conformance.report.markdown import fenced_block

_SECTION = re.compile(r"^(\w+)\n-+\n", re.MULTILINE)
_ENTRY = re.compile(r"^(\S.*)\n((?: +.*\n|\n)*)", re.MULTILINE)


def functions() -> list[str]:
    """Names of the public functions."""
    return [name for name in api.__all__ if inspect.isfunction(getattr(api, name))]


def function_section(name: str, module: Any = api) -> str:
    """A function: its signature, description, parameters, and exceptions, as Markdown."""
    function = getattr(module, name)
    about, *sections = _SECTION.split(inspect.getdoc(function) or "")
    texts = dict(zip(sections[::2], sections[1::2], strict=True))
    module_name = module.__name__.rpartition(".")[2]
    parts = [
        f"{anchor_line(slug(f'{module_name} {name}'))}### {code_html(f'{module_name}.{name}')}\n",
        prose_html(about.strip()) + "\n",
    ]
    parts.append(fenced_block(_signature(name, inspect.signature(function)), "text"))
    for title, first in (("Parameters", "parameter"), ("Raises", "raises")):
        if title in texts:
            parts.append(
                table(
                    (first, "meaning"), [[code_html(head), prose_html(text)] for head, text in _entries(texts[title])]
                )
            )
    return "\n".join(parts)


def value_sections() -> str:
    """The public classes with their descriptions and fields, as Markdown."""
    classes = [name for name in api.__all__ if inspect.isclass(getattr(api, name))]
    return "\n".join(_class_section(name, getattr(api, name)) for name in sorted(classes))


def _class_section(name: str, class_: Any) -> str:
    lines = [
        f"{anchor_line(slug(f'api {name}'))}### {code_html(f'api.{name}')}\n",
        prose_html(inspect.getdoc(class_) or "") + "\n",
    ]
    members = [[code_html(f"{field}: {kind}"), prose_html(text)] for field, kind, text in class_fields(class_)]
    members += [
        [
            code_html(method + str(inspect.signature(member)) if callable(member) else method),
            prose_html(inspect.getdoc(member) or ""),
        ]
        for method, member in vars(class_).items()
        if not method.startswith("_")
        and method != "to_dict"
        and isinstance(member, property) | inspect.isfunction(member)
    ]
    return "\n".join([*lines, table(("field or method", "meaning"), members)] if members else lines)


def class_fields(class_: type[Any]) -> Iterator[tuple[str, str, str]]:
    """(name, type, text) of the fields of a dataclass; the text is the string after the field."""
    if not dataclasses.is_dataclass(class_):
        return
    source: Any = class_
    (tree,) = ast.parse(inspect.getsource(source)).body
    assert isinstance(tree, ast.ClassDef)
    for statement, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign):
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            yield ast.unparse(statement.target), ast.unparse(statement.annotation), str(text)


def _entries(section: str) -> list[tuple[str, str]]:
    return [(head, " ".join(text.split())) for head, text in _ENTRY.findall(f"{section.rstrip()}\n")]


def _signature(name: str, signature: inspect.Signature) -> str:
    """A call with one parameter per line; a default without a literal is `...`."""
    lines = []
    for parameter in signature.parameters.values():
        default = "" if parameter.default is inspect.Parameter.empty else f" = {_literal(parameter.default)}"
        stars = "**" if parameter.kind is inspect.Parameter.VAR_KEYWORD else ""
        lines.append(f"    {stars}{parameter.name}: {parameter.annotation}{default},\n")
    return f"{name}(\n{''.join(lines)}) -> {signature.return_annotation}"


def _literal(value: Any) -> str:
    return repr(value) if value is None or isinstance(value, str | int | float | tuple) else "..."

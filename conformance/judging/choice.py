"""Select frameworks by name and items by expression, as for the commands."""

from __future__ import annotations

import re
from collections.abc import Sequence

from conformance.adapters import registry
from conformance.adapters.contract import Framework
from conformance.adapters.registry import Installed
from conformance.judging.plan import Item, expand_modes, plan
from conformance.judging.selection import MAX_SHOWN, SelectionError, keyword_filter, similar
from conformance.judging.unsupported import problem_cells, render_unsupported, unsupported_problems, unsupported_rows
from conformance.model.case import Case
from conformance.model.row_key import CPU
from conformance.model.text import suggest, truncate


def installed_among(
    names: Sequence[str], modes: Sequence[str] = (), keyword: str = "", device: str = CPU
) -> tuple[list[Installed], list[str]]:
    """Return the installed frameworks with some names, and the names of those that are not installed.

    Without names: the frameworks that a run has by default, and those that a word of `keyword` (-k) names.
    modes, device: see `expand_modes`.  Raises SelectionError for an unknown framework, and if none is installed.
    """
    words = re.findall(r"\w+", keyword)
    candidates = tuple(
        framework for framework in frameworks_among(names) if names or framework.by_default or framework.name in words
    )
    available, missing = registry.installed(candidates)
    if not available:
        listed = ", ".join(framework.name for framework in missing)
        raise SelectionError(
            f'none of {listed} is installed, so there is nothing to run: pip install "cross-entropy-conformance[all]", '
            "or one of its extras"
        )
    return expand_modes(available, modes, device), [framework.name for framework in missing]


def without_device(names: Sequence[str], device: str) -> list[str]:
    """The names of installed frameworks that do not support a device; see `installed_among`."""
    candidates = tuple(framework for framework in frameworks_among(names) if names or framework.by_default)
    installed = registry.installed(candidates)[0]
    return [
        installation.framework.name
        for installation in installed
        if device not in installation.framework.devices_in(installation.backend)
    ]


def frameworks_among(names: Sequence[str]) -> tuple[Framework, ...]:
    """The frameworks with some names; all without names.  Raises SelectionError for an unknown framework.

    Adapters that cannot be used are left out; without names, that is logged.
    """
    check_sequence("--framework", names)
    if not names:
        registry.warn_of_broken_adapters()
    known = {framework.name: framework for framework in registry.frameworks()}
    for name in names:
        if name not in known:
            hint = suggest(name, known, "conformance list libraries")
            unknown = f"--framework {name}: there is no such framework; {hint}"
            raise SelectionError("\n".join([unknown, *registry.broken_adapters()]))
    return tuple(framework for framework in known.values() if not names or framework.name in names)


def check_choice(option: str, value: str, choices: Sequence[str]) -> str:
    """Return the value of an option if it is one of the choices; raises SelectionError otherwise."""
    if value not in choices:
        raise SelectionError(f"{option} {value}: expected one of {', '.join(choices)}")
    return value


def check_sequence(option: str, names: Sequence[str]) -> None:
    """Raise SelectionError for a string in place of a sequence of strings, whose elements are its letters."""
    if isinstance(names, str):
        raise SelectionError(f"{option} {names}: expected a list, [{names!r}]")


def selected(cases: list[Case], available: list[Installed], keyword: str) -> list[Item]:
    """The items that -k selects; raises SelectionError if there are none."""
    items = plan(cases, available, keyword_filter(keyword))
    if not items:
        scope = f"by -k {truncate(keyword, MAX_SHOWN)!r}" if keyword else "of what the installed functions can express"
        suggestion = similar(keyword, [item.id for item in plan(cases, available)]) if keyword else ""
        unsupported = unsupported_rows(cases, [], available, keyword_filter(keyword), answers=False)
        why = "".join(f"\n{line}" for line in render_unsupported(unsupported_problems(map(problem_cells, unsupported))))
        suggestion = suggestion or "`conformance list cases` and `conformance list functions` print what there is"
        raise SelectionError(f"nothing is selected {scope}; {suggestion}{why}")
    return items

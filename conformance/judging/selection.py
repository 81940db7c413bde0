"""Select items by expressions with the grammar of pytest's `-k` and `-m`, by id and before items are created.

    -k "keras and label_smoothing and not float16"

`and`, `or`, `not` and parentheses combine words.  With `-k` a word matches as a case-insensitive substring;
with `-m` it matches a marker.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from conformance.model.case import DTYPES, QUANTITIES, REDUCTIONS
from conformance.model.errors import UserError
from conformance.model.text import truncate

Matcher = Callable[[str], bool]
"""Whether a word matches."""
Selection = Callable[[Matcher], bool]
"""Whether an expression holds, given a predicate that tells which words match."""

MAX_DEPTH = 100
"""Maximum nesting of parentheses and `not`."""
MAX_SHOWN = 80
"""Maximum number of characters of an expression in a message."""
_OPEN_PARTS = "-".join((*DTYPES, *REDUCTIONS, *QUANTITIES))
"""Parts of item ids that vary for one case and function."""
_TOKEN = re.compile(r"\s*(\(|\)|[^\s()]+)")


class SelectionError(UserError, ValueError):
    """A malformed expression; the message gives the position."""


@dataclass(frozen=True)
class ItemFilter:
    """Predicates that select items, and tell which functions are named."""

    selects: Callable[[str, str], bool] = lambda framework, item: True
    """Whether an item is selected, by the name of its framework and its id."""
    may_select: Callable[..., bool] = lambda framework, *parts: True
    """Whether an item may be selected, by parts of its id without dtype, reduction and quantity."""
    must_select: Callable[..., bool] = lambda framework, *parts: False
    """Whether such parts suffice to select an item, with any dtype, reduction and quantity."""
    is_named: Callable[[str], bool] = lambda function: False
    """Whether a function is named, and is therefore called on more than its `default_files`."""

    def __call__(self, framework: str, item: str) -> bool:
        """See `selects`."""
        return self.selects(framework, item)


def function_filter(names: Iterable[str]) -> ItemFilter | None:
    """A filter of items by the names of their functions; None without names."""
    requested = frozenset(names)
    if not requested:
        return None
    return ItemFilter(
        may_select=lambda framework, function, *rest: function in requested, is_named=requested.__contains__
    )


def keyword_filter(keyword: str, markers: str = "", names: str = "", whole: bool = False) -> ItemFilter | None:
    """A filter of items by `-k` and `-m`; None if all are selected.  Raises SelectionError.

    names: names of test modules and functions, in which words of `-k` also match, like in the name of a framework.
    whole: whether every function counts as named if there is no expression.  `-k` names functions that match a word by
    a part of their name, such as `nll_loss` or `functional` for torch.functional.nll_loss.
    """
    if not keyword and not markers:
        return ItemFilter(is_named=lambda function: True) if whole else None
    keywords = compile_expression(keyword) if keyword else lambda matches: True
    marker = compile_expression(markers) if markers else lambda matches: True
    marked = functools.cache(lambda framework: marker(framework.__eq__))

    def selects(framework: str, item: str) -> bool:
        text = f"{names}\n{item}\n{framework}" if names else item
        return marked(framework) and keywords(substring_of(text))

    words = {word: word.lower() for word in words_of(keyword)} if keyword else {}
    matched = functools.cache(lambda text: frozenset(word for word, lower in words.items() if lower in text.lower()))
    is_true = functools.cache(lambda matching: keywords(matching.__contains__))
    # A word with a dash may span parts.  Extra matching words never make an expression without `not` false.
    undecided = {word for word, lower in words.items() if "-" in lower or lower in f"{_OPEN_PARTS}\n{names.lower()}"}
    decides = "not" not in _TOKEN.findall(keyword)

    def may_select(framework: str, *parts: str) -> bool:
        words = (*parts, framework) if names else parts
        return marked(framework) and (not decides or is_true(frozenset(undecided).union(*map(matched, words))))

    def must_select(framework: str, *parts: str) -> bool:
        return marked(framework) and decides and is_true(frozenset().union(*map(matched, parts)))

    named_parts = frozenset(re.findall(r"\w+", keyword))
    is_named = functools.cache(lambda function: not named_parts.isdisjoint(_own_parts(function)))
    return ItemFilter(selects, may_select, must_select, is_named)


def _own_parts(function: str) -> list[str]:
    """The parts of the name of a function, without its framework."""
    return re.split("[.:]", function)[1:]


def substring_of(text: str) -> Matcher:
    """The matcher of `-k` for a text."""
    lowered = text.lower()
    return lambda word: len(word) <= len(lowered) and word.lower() in lowered


def words_of(expression: str) -> set[str]:
    """The words of an expression; raises SelectionError if it is malformed."""
    compile_expression(expression)
    return {word for word in _TOKEN.findall(expression) if word not in ("(", ")", "and", "or", "not")}


def similar(expression: str, ids: Iterable[str]) -> str:
    """A suggestion for words that no id contains, such as `did you mean "torch"?`; "" if there is none."""
    known = list(ids)
    parts = {part.lower(): part for name in known for part in re.split(r"[-/.:]", name) if part}
    lower = [name.lower() for name in known]
    for word in sorted({word.lower() for word in words_of(expression)}):
        if not any(word in name for name in lower):
            matches = difflib.get_close_matches(word, parts, n=1, cutoff=0.7)
            if matches:
                return f'did you mean "{parts[matches[0]]}"?'
    return ""


def compile_expression(expression: str) -> Selection:
    """Compile an expression.  Raises SelectionError with the position of the first error.

    The grammar is Python's, with a call of the matcher for each word.  Errors are detected here, to be reported
    in plain words.
    """
    shown = truncate(expression, MAX_SHOWN)
    negations = [0]  # for each open parenthesis, how often `not` precedes the next word
    wants_word = True
    source = []
    for word in [*map(str, _TOKEN.findall(expression)), ""]:
        if wants_word:
            expected, is_expected = "a word", word not in ("", ")", "and", "or")
        elif len(negations) > 1:
            expected, is_expected = "a closing parenthesis", word in (")", "and", "or")
        else:
            expected, is_expected = "and, or, or the end", word in ("", "and", "or")
        if not is_expected:
            actual = f'"{truncate(word, MAX_SHOWN)}"' if word else "its end"
            raise SelectionError(f'the selection "{shown}": {expected} should stand where {actual} is')
        wants_word = word in ("(", "not", "and", "or")
        if word == "(":
            negations.append(0)
        elif word == ")":
            negations.pop()
        negations[-1] = negations[-1] + 1 if word == "not" else 0
        if sum(negations) + len(negations) > MAX_DEPTH:
            advice = "write fewer parentheses and `not`"
            raise SelectionError(f'the selection "{shown}" is nested deeper than {MAX_DEPTH} levels; {advice}')
        source.append(word if word in ("", "(", ")", "and", "or", "not") else f"matches({word!r})")
    selection: Selection = eval(f"lambda matches: {' '.join(source)}")  # noqa: S307 - of five such words, and others in quotes
    return selection

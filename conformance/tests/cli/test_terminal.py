"""What is printed to a pipe: tables of a sensible width, whose ids and numbers are whole."""

from __future__ import annotations

import io

import pytest
from rich.table import Table
from rich.text import Text

from conformance.cli.run import print_groups
from conformance.cli.terminal import COLUMN_WIDTH, Terminal
from conformance.judging.row import Row
from conformance.model.outcome import Raised
from conformance.model.row_key import RowKey
from conformance.model.text import truncate_list

NAME = "framework.Function:" + "_".join(["of_a_long_name"] * 6)
NUMBERS = [f"{number / 7:.17g}" for number in range(1, 30)]


@pytest.fixture
def printed(monkeypatch):
    """The lines that a pipe gets of a table with one row."""
    monkeypatch.delenv("COLUMNS", raising=False)

    def lines(*cells):
        table = Table("name", "numbers", "why", box=None, title="[bold]title[/]")
        table.add_row(*cells)
        stream = io.StringIO()
        Terminal(file=stream).print(table)
        return stream.getvalue().splitlines()

    return lines


def test_table_in_a_pipe_is_wrapped_between_words(printed):
    lines = printed(NAME, ", ".join(NUMBERS), "a word " * 500)
    assert max(map(len, lines)) <= len(NAME) + 2 * COLUMN_WIDTH + 6
    assert any(NAME in line for line in lines)
    assert [number for line in lines for number in NUMBERS if number in line.replace(",", " ").split()] == NUMBERS


def test_table_in_pipe_accepts_any_cell(printed):
    assert any("[/] [red]" in line for line in printed("", Text("[/] [red]"), r"\[x]"))
    assert any(len(line) < 3 * COLUMN_WIDTH for line in printed("", "", "漢字 " * 100))


def test_columns_variable_sets_width_of_pipe(printed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    assert max(map(len, printed("name", ", ".join(NUMBERS), "a word " * 500))) <= 70


def test_list_is_truncated_between_elements():
    text = f"[{', '.join(NUMBERS)}]"
    short = truncate_list(text, 100)
    assert len(short) <= 103
    assert short.startswith("[0.14")
    assert short.removesuffix("...").strip("[, ").split(", ") == NUMBERS[: short.count(",")]
    assert truncate_list(text, 10_000) == text
    assert truncate_list("9" * 200, 100) == "9" * 97 + "..."


def test_unexpected_rows_are_grouped_by_exception_over_functions_and_else_by_function(capsys):
    def row(function, number, exception=None):
        key = RowKey("a/b", "", f"torch.{function}", "float32", str(number), "loss", "here")
        fields = {"status": "disagrees", "expected": "unexpected", "explanation": f"{function} said no"}
        return Row(key=key, framework="torch", reason_code="raised", exception=exception, **fields)

    error = Raised("TypeError", "expected an array")
    print_groups([row(function, number, error) for function in "AB" for number in range(120)], ())
    print_groups([row("A", 0, Raised("TypeError", "another")), row("A", 0), row("B", 0), row("B", 1)], ())
    headed = [line for line in capsys.readouterr().out.splitlines() if "said no" in line]
    assert [line.strip() for line in headed] == [
        "A said no (and 239 rows more; 2 functions in all)",
        "A said no",
        "A said no",
        "B said no (and 1 row more)",
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_terminal_of_any_width_breaks_no_word_of_a_table_or_text(width, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    words = [*NUMBERS, "torch.Loss:mean_of_all", "a/case_of_a_file float32", "https://example.org/page"]
    table = Table("function", "returned", "why", box=None, pad_edge=False)
    table.add_row(words[-3], ", ".join(NUMBERS), f"{words[-2]} {words[-1]}", end_section=True)
    table.add_row("all", "", "agrees")
    stream = io.StringIO()
    terminal = Terminal(file=stream, width=width, force_terminal=True, color_system=None)
    terminal.print(table)
    terminal.paragraphs(["    " + ", ".join(words)])
    lines = stream.getvalue().splitlines()
    printed = [word.strip(",") for line in lines for word in line.split()]
    assert all(printed.count(word) == 2 for word in " ".join(words).split())
    assert all(len(line) <= width or len(line.split()) == 1 for line in lines)

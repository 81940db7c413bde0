"""`compile_expression` means what pytest's `-k` means, and says where an expression stops being one."""

from __future__ import annotations

import itertools

import pytest
from _pytest.mark.expression import Expression
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.judging.selection import SelectionError, compile_expression, keyword_filter, similar, substring_of

IDS = (
    "torch.CrossEntropyLoss-categorical/label_smoothing/one_tenth-float32-mean",
    "keras.BinaryCrossentropy:mean_with_sample_weight-binary/sizes/one_output-float64-none",
    "sklearn.log_loss-documentation/log_loss/three-float16-sum",
)


def ours(expression: str, name: str) -> bool:
    return compile_expression(expression)(substring_of(name))


def pytests(expression: str, name: str) -> bool:
    """What pytest selects by `-k` where the id is all there is."""
    return Expression.compile(expression).evaluate(lambda word, **_: word.lower() in name.lower())


@pytest.mark.parametrize(
    ("expression", "selected"),
    [
        ("torch", [0]),
        ("TORCH", [0]),
        ("not torch", [1, 2]),
        ("torch or sklearn", [0, 2]),
        ("keras and float32", []),
        ("keras and binary/sizes", [1]),
        ("float and not (float32 or float64)", [2]),
        ("not not torch", [0]),
        ("torch or keras and none", [0, 1]),
        ("(torch or keras) and none", [1]),
        ("not torch and not keras", [2]),
        ("not(torch)", [1, 2]),
        ("keras.BinaryCrossentropy:mean_with_sample_weight", [1]),
        ("  torch  ", [0]),
        ("android", []),
        ("((sklearn))", [2]),
    ],
)
def test_expression_selects_as_pytest_does(expression, selected):
    assert [i for i, name in enumerate(IDS) if ours(expression, name)] == selected
    assert [i for i, name in enumerate(IDS) if pytests(expression, name)] == selected


WORDS = st.sampled_from(["torch", "keras", "mean", "float", "nothing", "label_smoothing", "log_loss"])
EXPRESSIONS = st.recursive(
    WORDS,
    lambda inner: st.one_of(
        inner.map("not {}".format),
        inner.map("({})".format),
        st.tuples(inner, inner).map(" and ".join),
        st.tuples(inner, inner).map(" or ".join),
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(EXPRESSIONS)
def test_random_expressions_select_as_pytest_does(expression):
    for name in IDS:
        assert ours(expression, name) == pytests(expression, name), expression


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.one_of(EXPRESSIONS, st.sampled_from(["one_output-float64", "binary/sizes", "tests and none", "loss-doc"])))
def test_filter_decides_by_parts_as_by_ids(expression):
    for names in ("", "tests.py"):
        chosen = keyword_filter(expression, names=names)
        for name in IDS:
            function, case, *_ = name.split("-")
            framework = function.partition(".")[0]
            assert chosen.may_select(framework, function, case) or not chosen(framework, name), expression
            assert not chosen.must_select(framework, function, case) or chosen(framework, name), expression


def test_filter_rules_items_out_by_their_parts():
    def may_select(*expressions, function="torch.NLLLoss"):
        return keyword_filter(*expressions).may_select("torch", function, "binary/sizes/one")

    assert [may_select(one) for one in ("torch", "keras", "torch and keras", "keras or SIZES")] == [1, 0, 0, 1]
    assert [may_select(one) for one in ("float16", "keras and float16", "not torch", "keras-", "mean")] == [
        1,
        0,
        1,
        1,
        1,
    ]
    assert [may_select("", one) for one in ("torch", "keras", "not torch")] == [1, 0, 0]
    assert keyword_filter("") is None


def test_filter_selects_items_by_their_parts():
    def must_select(*expressions):
        return keyword_filter(*expressions).must_select("torch", "torch.NLLLoss", "binary/sizes/one")

    assert [must_select(one) for one in ("torch", "TORCH and sizes", "keras or nll")] == [True] * 3
    assert [must_select(one) for one in ("keras", "torch and mean", "not keras", "torch.NLLLoss-")] == [False] * 4
    assert [must_select("", one) for one in ("torch", "keras")] == [True, False]


@pytest.mark.parametrize(
    ("keyword", "named"),
    [
        ("torch and not slow", False),
        ("loss", False),
        ("functional", True),
        ("torch.functional.nll_loss or keras", True),
        ("chunked", True),
    ],
)
def test_filter_names_functions_by_parts_of_their_own_names(keyword, named):
    of_keyword = keyword_filter(keyword)
    assert of_keyword.is_named("torch.functional.nll_loss:chunked") is named
    assert not of_keyword.is_named("torch.functional_loss")


def test_filter_without_expression_names_every_function():
    assert keyword_filter("", whole=True).is_named("torch.NLLLoss")
    assert not keyword_filter("torch", whole=True).is_named("torch.NLLLoss")


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", 'the selection "": a word should stand where its end is'),
        ("torch and", 'the selection "torch and": a word should stand where its end is'),
        ("and torch", 'the selection "and torch": a word should stand where "and" is'),
        ("torch keras", 'the selection "torch keras": and, or, or the end should stand where "keras" is'),
        ("(torch", 'the selection "(torch": a closing parenthesis should stand where its end is'),
        ("torch)", 'the selection "torch)": and, or, or the end should stand where ")" is'),
        ("not", 'the selection "not": a word should stand where its end is'),
        ("()", 'the selection "()": a word should stand where ")" is'),
        ("torch or or keras", 'the selection "torch or or keras": a word should stand where "or" is'),
    ],
)
def test_syntax_error_states_position(expression, message):
    with pytest.raises(SelectionError) as caught:
        compile_expression(expression)
    assert str(caught.value) == message
    assert isinstance(caught.value, ValueError)


def test_expression_calls_matcher_for_each_word():
    assert compile_expression("torch and not slow")({"torch", "fast"}.__contains__)
    assert not compile_expression("torch and not slow")({"torch", "slow"}.__contains__)
    assert not compile_expression("torch")({"torchvision"}.__contains__)


def test_expressions_of_two_words():
    for (left, right), join in itertools.product(itertools.product(["torch", "not torch"], repeat=2), ["and", "or"]):
        expression = f"{left} {join} {right}"
        assert [ours(expression, name) for name in IDS] == [pytests(expression, name) for name in IDS]


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("torhc", 'did you mean "torch"?'),
        ("TORHC and mean", 'did you mean "torch"?'),
        ("torch and label_smothing", 'did you mean "label_smoothing"?'),
        ("CrosEntropyLoss", 'did you mean "CrossEntropyLoss"?'),
        ("not (flaot32)", 'did you mean "float32"?'),
        ("torch and mean", ""),
        ("somethingelse", ""),
    ],
)
def test_similar_suggests_for_unknown_word(expression, said):
    ids = ["torch.CrossEntropyLoss-categorical/label_smoothing/plain-float32-mean", "keras.Loss-a/b-float64-none"]
    assert similar(expression, ids) == said


@pytest.mark.parametrize("token", ["(", "not "])
def test_deep_and_long_expressions_are_rejected_with_truncated_echo(token):
    with pytest.raises(SelectionError, match="nested deeper than 100 levels") as caught:
        compile_expression(f"{token * 50_000}torch{')' * 50_000 if token == '(' else ''}")
    assert len(str(caught.value)) < 200
    with pytest.raises(SelectionError) as caught:
        compile_expression(f"torch {'x' * 1_000_000}")
    assert len(str(caught.value)) < 300
    assert compile_expression("not " * 99 + "torch")({"keras"}.__contains__)

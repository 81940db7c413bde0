"""Reasons: one code each, an identity without numbers, and one place that phrases them."""

import dataclasses
import math

import pytest

from conformance.casefiles.known_issues import KnownIssue
from conformance.judging import reasons
from conformance.judging.reasons import (
    AcceptedInvalid,
    Alternative,
    AnswerChange,
    CannotExpress,
    Conversion,
    Converted,
    DocumentedDivergence,
    DocumentedRejection,
    InfiniteWeightOnRoundedZero,
    MutatedArgument,
    NoAnswerInTime,
    NoNumber,
    NotCalled,
    NotDeterministic,
    NotFinite,
    ProcessDied,
    RaisedException,
    RejectedInvalid,
    RowSum,
    Unavailable,
    UndefinedAnswer,
    UndocumentedConvention,
    WrongDtype,
    WrongShape,
    WrongValue,
)
from conformance.model.outcome import Raised

RAISED = Raised("ValueError", "no; not 3 at [1]")
CONVERSION = Conversion(
    ("renormalised",),
    "log",
    "probabilities",
    ("logits",),
    "float32",
    "definition",
    RowSum(0.5, several=False, exponentials=False),
    AnswerChange(1.0, 2.0, (1,)),
    alternative=Alternative("lib.Other", "log_probabilities"),
)
SAID = (
    "it accepts only logits and is called with the logarithms of the probabilities. Softmax renormalises a row that "
    "sums to 0.5, which changes the definition's answer at [1] from 1 to 2. Instead, lib.Other accepts "
    "log-probabilities: log p"
)
CHOICES = (("clip", 1e-7), ("accepts", frozenset({"one_class", "empty_batch"})))
CONCRETE = {one for one in vars(reasons).values() if isinstance(one, type) and "code" in vars(one)}
RENDERED = [
    (RejectedInvalid("invalid_target"), "refused_invalid", "rejected, as required: invalid_target"),
    (
        DocumentedDivergence(CHOICES),
        "documented_convention",
        "as documented: clip=1e-07; accepts=empty_batch+one_class",
    ),
    (
        DocumentedDivergence(CHOICES[:1], CONVERSION),
        "documented_convention",
        f"conversion: {SAID}; as documented: clip=1e-07",
    ),
    (
        DocumentedRejection((("rejects", frozenset({"one_class"})),), RAISED),
        "documented_refusal",
        "it documents that it rejects such input; raised ValueError: no; not 3 at [1]",
    ),
    (Converted(CONVERSION), "conversion", f"conversion: {SAID}"),
    (UndefinedAnswer("nobody says", "case"), "no_right_answer", "nobody says"),
    (
        UndefinedAnswer("no weight", "definition", RAISED),
        "no_right_answer",
        "no weight; it raised ValueError: no; not 3 at [1]",
    ),
    (UndefinedAnswer("no weight", "documentation"), "no_right_answer", "as documented, no weight"),
    (
        UndefinedAnswer("no weight", "documentation", conversion=CONVERSION),
        "no_right_answer",
        f"conversion: {SAID}",
    ),
    (
        InfiniteWeightOnRoundedZero(),
        "lost_in_rounding",
        "an infinite weight on a loss that rounding may make 0",
    ),
    (CannotExpress("it takes no weights"), "unsupported", "it takes no weights"),
    (Unavailable("lib==1: no wheel"), "unavailable", "lib==1: no wheel"),
    (WrongValue(ratio=3.14159, where=(1,)), "wrong_value", "error of 3.14 times the tolerance at [1]"),
    (
        WrongValue(
            ratio=3.14159, by_documentation=True, conversion=CONVERSION, candidate=UndocumentedConvention(CHOICES[:1])
        ),
        "wrong_value",
        f"error of 3.14 times the tolerance, compared with the documented answer; conversion: {SAID}; clip=1e-07 would "
        "explain it, but is not documented",
    ),
    (
        NotFinite(got=math.nan, want=1.5, candidate=UndocumentedConvention()),
        "not_finite",
        "returned nan, where 1.5 is expected; no known convention explains it",
    ),
    (
        WrongShape(got=(2,), want=(), candidate=UndocumentedConvention(searched=False)),
        "wrong_shape",
        "returned shape (2,), where () is expected; the problem is too large to search the known conventions for an "
        "explanation",
    ),
    (
        AcceptedInvalid(kind="invalid_target"),
        "accepted_invalid",
        "returned a value for invalid input: invalid_target",
    ),
    (
        AcceptedInvalid(kind="invalid_target", what="a str", note="no number"),
        "accepted_invalid",
        "returned a str for invalid input: invalid_target (no number)",
    ),
    (WrongDtype("float64", "float32"), "wrong_dtype", "returned float64, where float32 is expected"),
    (NoNumber("a str", array=False), "no_number", "returned a str, where a number is expected"),
    (
        NoNumber("a list", array=True, note="ragged"),
        "no_number",
        "returned a list, where an array of numbers is expected (ragged)",
    ),
    (
        RaisedException(RAISED),
        "raised",
        "it raised ValueError, although there is an answer: no; not 3 at [1]",
    ),
    (MutatedArgument(("x", "w")), "mutated_argument", "the call changed its argument x, w in place"),
    (
        NotDeterministic(),
        "not_deterministic",
        "it is not deterministic: called again, it returned another number",
    ),
    (
        ProcessDied("exited with status 3", "a\nb"),
        "crashed",
        "the process exited with status 3; its output: a | b",
    ),
    (NoAnswerInTime(2.5), "timed_out", "it did not return within 2.5 s"),
    (NotCalled(2.5, 5), "skipped", "skipped: 5 calls in a row did not return within 2.5 s"),
]


@pytest.mark.parametrize(("reason", "code", "text"), RENDERED)
def test_reason_has_its_code_and_one_rendering(reason, code, text):
    assert (reason.code, str(reason)) == (code, text)
    assert text.startswith(reason.brief) or reason.code == "crashed"
    hash(reason)  # so that findings can be counted by it


def test_reasons_have_their_own_sentence_and_code():
    assert {type(reason) for reason, *_ in RENDERED} == CONCRETE
    assert len({one.code for one in CONCRETE}) == len(CONCRETE)


@pytest.mark.parametrize(("reason", "code", "text"), RENDERED)
def test_symptoms_are_allowed_in_ledger(reason, code, text):
    symptoms = dataclasses.replace(reason, elements=frozenset({"nan"})).symptoms if code == "not_finite" else ()
    for symptom in (*reason.symptoms, *symptoms):
        assert KnownIssue("a", "b", symptoms=(symptom,)).explains({symptom}) or symptom in ("crashed", "timed_out")
    if code in ("crashed", "timed_out", "accepted_invalid", "wrong_dtype", "mutated_argument", "not_deterministic"):
        assert reason.symptoms == {code}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (WrongValue(ratio=2.0, where=(1,)), WrongValue(ratio=9.0, candidate=UndocumentedConvention(CHOICES))),
        (NotFinite(got=math.nan, want=1.0), NotFinite(got=math.nan, want=7.0, where=(3,))),
        (WrongShape(got=(2,), want=()), WrongShape(got=(3, 4), want=(3,))),
        (RaisedException(RAISED), RaisedException(Raised("ValueError", "another message"))),
        (NoAnswerInTime(1.0), NoAnswerInTime(2.0)),
    ],
)
def test_identity_omits_numbers_positions_and_messages(one, other):
    assert one.identity == other.identity


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (WrongValue(ratio=2.0), WrongValue(ratio=2.0, by_documentation=True)),
        (NotFinite(got=math.nan, want=1.0), NotFinite(got=math.inf, want=1.0)),
        (NotFinite(got=math.inf, want=1.0), NotFinite(got=-math.inf, want=1.0)),
        (NotFinite(got=1.0, want=math.nan), NotFinite(got=math.nan, want=1.0)),
        (WrongDtype("float64", "float32"), WrongDtype("float16", "float32")),
        (RaisedException(RAISED), RaisedException(Raised("TypeError", RAISED.message))),
        (AcceptedInvalid(kind="invalid_target"), AcceptedInvalid(kind="label_out_of_range")),
        (MutatedArgument(("x",)), MutatedArgument(("w",))),
        (ProcessDied("was killed by SIGSEGV"), ProcessDied("exited with status 3")),
    ],
)
def test_identity_distinguishes_kinds_of_faults(one, other):
    assert one.identity != other.identity


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"effects": ("rounded",)}, "the logarithms of the probabilities, each value rounded once to float32. Instead"),
        ({"effects": ("refused",), "kinds": ("one_class",)}, ", which are input that it rejects: one_class. Instead"),
        (
            {
                "effects": ("rounded_away",),
                "lost": ("zero_probability", "certain_probability"),
                "rounding": AnswerChange(),
            },
            ". Rounded to float32, a probability becomes 0 and a probability becomes 1, and 1 - p becomes 0, "
            "which changes the definition's answer. Instead",
        ),
        ({"renormalisation": AnswerChange(undefined="no weight")}, "which makes the answer undefined: no weight."),
        ({"subject": "documentation"}, "which changes the documented answer at [1]"),
        ({"subject": CHOICES[:1]}, "which changes the answer with clip=1e-07 alone at [1]"),
        ({"row_sum": RowSum(None, several=True, exponentials=False)}, "Softmax renormalises rows, which"),
        ({"row_sum": RowSum(1 + 2**-40, several=False, exponentials=True)}, "exponentials sum to 1.000000000001, wh"),
        ({"renormalisation": AnswerChange(1.0, 1 + 2**-40)}, "answer from 1 to 1.000000000001."),
        ({"alternative": Alternative("lib.Other", "probabilities")}, ". Instead, lib.Other accepts probabilities"),
        ({"alternative": Alternative()}, "No loss of this framework accepts such probabilities without conversion"),
        (
            {"alternative": Alternative(remedy="divide_by_sum")},
            "without conversion: divide each row by its sum first; ",
        ),
        ({"alternative": Alternative(remedy="subtract_log_sum_exp")}, ": subtract logsumexp from each row first"),
        ({"alternative": Alternative(remedy="float64")}, ": float64 keeps more digits"),
        ({"alternative": None}, "from 1 to 2"),
    ],
)
def test_conversion_is_rendered_with_its_effects(changed, text):
    assert text in str(dataclasses.replace(CONVERSION, **changed))

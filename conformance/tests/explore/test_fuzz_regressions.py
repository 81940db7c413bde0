"""What random cases found wrong with the suite itself, each with the numbers that showed it."""

import numpy as np
import pytest

from conformance.adapters.contract import encoding
from conformance.casefiles.known_issues import Ledger
from conformance.explore.fuzz.generation import Limits
from conformance.explore.fuzz.strategies import drop_samples_and_classes
from conformance.judging.verdict import judge
from conformance.model.case import Layout
from conformance.model.convention import DEFINITION, Convention
from conformance.model.outcome import Returned
from conformance.model.row_key import RowKey
from conformance.reference import error_bound
from conformance.reference.conversion import why_not_convertible
from conformance.reference.dtype_range import beyond_range, may_be_beyond_range
from conformance.reference.oracle import Exact, Oracle, evaluate
from conformance.tests import miniatures
from conformance.tests import stated as written

BINARY = {"loss": "binary", "target": "binary"}
ARRAYS = ("class_weights", "sample_weights", "positive_weight")


def case(predictions, labels, **stated):
    """A case, its options among everything else that is said."""
    options = {name: np.array(stated.pop(name)) for name in ARRAYS if name in stated}
    return written.case(predictions, labels, options=options, **stated)


def within(problem, got, convention=DEFINITION):
    answer = evaluate(problem, convention)
    assert isinstance(answer, Exact)
    return bool(np.all(np.abs(got - answer.hi) <= error_bound.tolerance(problem, convention)))


def test_tolerance_allows_weighted_loss_to_underflow():
    stated = case([[-6.103515625e-05, -5.375]], [0], input_kind="log_probabilities", sample_weights=[0.000390625])
    assert within(stated.problem("float16", "none"), [0.0])
    assert not within(stated.problem("float16", "none"), [1e-3])


def test_tolerance_allows_half_a_subnormal_step_in_quotient():
    renormalised = Convention(renormalise="before_clip", clip=1e-7)
    stated = case([[5.960464477539063e-08, 0.42857142857142855]], [0], input_kind="probabilities")
    assert within(stated.problem("float16", "none"), [15.9453125], renormalised)
    assert not within(stated.problem("float16", "none"), [16.6], renormalised)


def test_tolerance_covers_rounding_of_one_plus_small_positive_weight():
    stated = case([-4.8125], [1.0], **BINARY, positive_weight=0.0146484375)
    cancelling = Convention(cancellation="logits")
    assert within(stated.problem("bfloat16", "none"), [0.0751953125], cancelling)
    assert not within(stated.problem("bfloat16", "none"), [0.0751953125])


def test_tolerance_of_logarithm_is_taken_after_renormalisation():
    problem = case([[1.0, 1.0, 1.0]], [0], input_kind="probabilities").problem("float32", "none")
    tolerance = error_bound.tolerance(problem, Convention(renormalise="before_clip"))
    assert tolerance >= np.log(3) * 8 * 2.0**-24


def test_unused_nan_weight_leaves_tolerance_finite():
    stated = case([[1.0, 2.0, 0.5]], [0], class_weights=[1.0, np.nan, np.inf])
    assert error_bound.tolerance(stated.problem("float32", "none"), DEFINITION) > 0
    stated = case([1.0, 2.0], [0.0, 1.0], **BINARY, positive_weight=[np.nan, 2.0])
    assert bool(np.all(error_bound.tolerance(stated.problem("float32", "none"), DEFINITION) > 0))


def test_mean_over_single_output_keeps_shape_under_weight():
    stated = case([0.75], [1.0], **BINARY, input_kind="probabilities", sample_weights=[0.25])
    answer = evaluate(stated.problem("float64", "none"), Convention(binary_outputs="mean_of_last_axis"))
    assert answer.hi.shape == ()
    assert answer.hi == pytest.approx(-0.25 * np.log(0.75))


def test_narrow_label_dtype_of_one_hot_is_not_that_of_index():
    stated = case([[0.0, 1.0, 2.0]], [[0, 0, 1]], target="distribution", layout=Layout(label_dtype="bool"))
    assert encoding.index_labels(stated.problem("float32", "mean")).values.tolist() == [2]
    stated = case([[0.0, 1.0]], [[0, 1]], target="distribution", layout=Layout(label_dtype="uint8"))
    assert encoding.index_labels(stated.problem("float32", "mean")).values.dtype == np.uint8


def test_log_probability_beyond_dtype_is_not_converted():
    stated = case([[-65504.0, 65504.0]], [0])
    assert why_not_convertible(stated.problem("float16", "none"), "log_probabilities")
    assert why_not_convertible(stated.problem("float32", "none"), "log_probabilities") is None
    masked = case([[-np.inf, 65504.0]], [0])
    assert why_not_convertible(masked.problem("float16", "none"), "log_probabilities") is None


def test_answer_undefined_under_convention_has_status_undefined():
    stated = case([[np.inf, 1.0]], [[1.5, 0.0]], target="distribution")
    problem = stated.problem("float32", "mean")
    documented = Convention(accepts=frozenset({"invalid_target"}))
    outcome = Returned(np.array(np.nan), "float32")
    function = miniatures.Categorical.function()
    assert judge(problem, problem, stated.expect, function, documented, outcome, Oracle()).status == "undefined"
    assert judge(problem, problem, stated.expect, function, DEFINITION, outcome, Oracle()).status == "disagrees"


# Ranges, and the last steps to the smallest case


@pytest.mark.parametrize(
    ("stated", "beyond"),
    [
        (case([[0.0, 30000.0]], [0], dtypes=("float16",)), False),
        (case([[0.0, 30000.0], [0.0, 30000.0]], [0, 0], dtypes=("float16",)), True),
        (case([[0.0, 30000.0], [0.0, 30000.0]], [0, 0], dtypes=("float32",)), False),
        (case([[0.0, 0.0], [0.0, 0.0]], [0, 0], dtypes=("float16",), class_weights=[30000.0, 30000.0]), True),
        (case([[0.0, 0.0]] * 3, [0, 0, 0], dtypes=("float16",), sample_weights=[30000.0] * 3), True),
        (case([0.0, 0.0], [0, 0], **BINARY, dtypes=("float16",), positive_weight=30000.0), True),
        (case([[-np.inf, 0.0]], [0], dtypes=("float16",)), False),
    ],
    ids=range(7),
)
def test_range_check_detects_possible_overflow_of_sums(stated, beyond):
    assert beyond_range(stated.problem(stated.dtypes[0], "mean")) == beyond
    assert may_be_beyond_range(stated) == beyond


def test_shrinking_drops_irrelevant_samples_and_classes():
    stated = case(
        [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0], [9.0, 1.0, 2.0, 3.0]], [3, 1, 3],
        class_weights=[1.0, 2.0, 3.0, 4.0], sample_weights=[0.1, 0.2, 0.3],
    )  # fmt: skip
    small = drop_samples_and_classes(stated, lambda case: bool(np.any(case.predictions == 6.0)))
    assert small.predictions.tolist() == [[6.0, 8.0]]
    assert small.labels.tolist() == [0]
    assert small.options.class_weights.tolist() == [2.0, 4.0]
    assert small.options.sample_weights.tolist() == [0.2]
    square = drop_samples_and_classes(stated, lambda case: case.predictions.shape[0] + 1 == case.predictions.shape[1])
    assert square.predictions.shape == (1, 2)


def test_default_limits_exclude_unusual_weights():
    assert "beyond_range" not in Limits().kinds
    assert (
        Ledger().find_by_traits(lambda: frozenset({"beyond_range"}), RowKey("a/b", "", "f.g", "float16", "mean"))
        is None
    )

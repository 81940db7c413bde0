"""Exact cross-entropy for tests in other projects: the certified answer, a derived tolerance, and an assertion.

    from conformance.testing import assert_cross_entropy

    def test_my_kernel():
        loss, gradient = my_kernel(logits, labels, smoothing=0.1)
        assert_cross_entropy(loss, logits=logits, labels=labels, label_smoothing=0.1, gradient=gradient)

The answer is that of the definition, computed from the passed numbers in arithmetic that bounds its own
error; the tolerance is derived, element by element, and not chosen.  Arrays may be from NumPy, PyTorch, JAX,
TensorFlow, or nested lists; no framework is imported, and none needs to be installed.
"""

from __future__ import annotations

from typing import Any, Unpack

from conformance.model.case import Quantity
from conformance.model.floats import Floats
from conformance.testing import questions
from conformance.testing.arrays import Argument
from conformance.testing.callables import checks
from conformance.testing.inputs import ProblemArguments, read_flag, read_inputs, read_returned, with_problem_arguments
from conformance.testing.strategies import cross_entropy_problems


@with_problem_arguments
def exact_cross_entropy(
    *,
    gradient: bool = False,
    dtype: Any = None,
    with_radius: bool = False,
    **problem: Unpack[ProblemArguments],
) -> Any:
    """Compute the exact cross-entropy of the passed numbers, or its exact gradient.

    Up to 16,384 predictions the answer is computed in ball arithmetic and is the exact one, rounded to float64.  For
    larger problems in float32 and narrower dtypes, the losses of rows are computed in float64, with an error that is
    proved to be below 2^-12 of `tolerance` (for 32,768 classes in float32 below 2^-19; the proof is in
    `conformance.reference.enclosure`) and is checked in balls on some rows.  Values that are not finite, and float64
    problems, are evaluated in balls, at some 3 microseconds a prediction.

    Parameters
    ----------
    logits, probabilities, log_probabilities : array
        The predictions, one of the three: floats of shape [N, ..., C], or of any shape for a binary loss.
    labels : array
        Class indices of the shape of the predictions without the classes, or targets of the shape of the predictions:
        distributions for a categorical loss, numbers from 0 to 1 for a binary one.
    class_weights : array of shape [C], optional
        Weight of each class, for a categorical loss.
    sample_weights : array, optional
        Weight of each sample, in the shape of the samples or of their leading axes.
    positive_weight : array, optional
        Weight of the positive label of a binary loss; it broadcasts against the predictions.
    label_smoothing : float, optional
        From 0 to 1.
    ignore_index : int, optional
        Class index of samples that are ignored.
    reduction : {"mean", "sum", "none"}
        The mean divides by the sum of the weights.
    class_axis : int, optional
        The axis of the predictions that holds the classes: the last, or that of `like`.
    loss : {"categorical", "binary"}, optional
        Inferred from the other arguments if possible.  Targets of the shape of the predictions are categorical if each
        row sums to 1, and binary if they are 0 and 1 only.
    like : str, optional
        A known function such as "torch.CrossEntropyLoss", installed or not, whose documented conventions apply
        (divisors, ignored labels, clips, the class axis), in its newest release.
    gradient : bool
        Compute the gradient with respect to the predictions instead, in their shape; for unreduced losses it is the
        gradient of their sum.
    dtype : str or dtype, optional
        Round each array to it first, as a function that computes in it does; by default, arrays are not rounded.
    with_radius : bool
        Return the answer and a bound on its distance from the exact one.

    Returns
    -------
    ndarray of float64, or a pair of them
        A number as an array of shape [] for the sum and the mean.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, or there is no exact answer, as for a mean of nothing.
    """
    inputs = read_inputs(**problem)
    read_flag("gradient", gradient)
    read_flag("with_radius", with_radius)
    question = questions.prepare(inputs, dtype)
    answer = question.exact_gradient(certified=True) if gradient else question.exact_loss
    return (answer.hi, questions.radius(answer)) if with_radius else answer.hi


@with_problem_arguments
def tolerance(
    actual: Any = None,
    *,
    gradient: bool = False,
    dtype: Any = None,
    cancellation: bool = False,
    **problem: Unpack[ProblemArguments],
) -> Floats:
    """Compute the largest error of a correct floating-point implementation, in absolute units of the loss.

    The bound is derived from the operations of an accurate implementation, and depends on the data
    (`conformance.reference.error_bound` has the derivation).

    Parameters
    ----------
    actual : array, optional
        The result of an implementation; its dtype is used if `dtype` is not given.
    logits, probabilities, log_probabilities, labels, class_weights, sample_weights, positive_weight, label_smoothing, \
ignore_index, reduction, class_axis, loss, like, gradient
        Arguments of `exact_cross_entropy`.
    dtype : str or dtype, optional
        The dtype of the computation: float64, float32, float16 or bfloat16; by default that of `actual`, or of the
        predictions.
    cancellation : bool
        Accept cancellation in the usual formulas: a log-sum-exp from which the logit is subtracted after the largest
        logit was added back, and a gradient that subtracts the targets from the softmax.  Both lose digits that other
        formulas keep.

    Returns
    -------
    ndarray of float64
        Tolerance of each element, in the shape of the answer; 0 where the answer is not finite and must be met exactly.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
    """
    returned = None if actual is None else read_returned("actual", actual)
    inputs = read_inputs(**problem)
    read_flag("gradient", gradient)
    read_flag("cancellation", cancellation)
    computed = dtype or (returned and returned.dtype) or inputs.predictions.dtype or "float64"
    question = questions.prepare(inputs, computed, cancellation)
    return question.gradient_tolerance() if gradient else question.loss_tolerance()


@with_problem_arguments
def assert_cross_entropy(
    actual: Any,
    *,
    gradient: Any = None,
    dtype: Any = None,
    cancellation: bool = False,
    **problem: Unpack[ProblemArguments],
) -> None:
    """Assert that a loss, and its gradient, are exact within the error that rounding explains.

    Shape and dtype are compared before values; nan and infinities must be where the exact answer has them.

    Parameters
    ----------
    actual : array or number
        The result of the implementation: of the shape for the reduction, in the dtype of the predictions or a
        wider one, whose tolerance then applies.
    logits, probabilities, log_probabilities, labels, class_weights, sample_weights, positive_weight, label_smoothing, \
ignore_index, reduction, class_axis, loss, like
        The arguments that it was called with, as in `exact_cross_entropy`.
    gradient : array, optional
        Gradient of the loss, in the shape of the predictions.
    dtype : str or dtype, optional
        The dtype of the computation, if it is not that of `actual`: each array is rounded to it, as
        the implementation does, and its tolerance applies.
    cancellation : bool
        Whether cancellation in the usual formulas is accepted; see `tolerance`.

    Raises
    ------
    AssertionError
        If the result is wrong; the message has the returned and the exact value, the index, the error, the tolerance,
        and known conventions and mistakes that explain it.
    TypeError, ValueError
        If an argument is invalid, or there is no exact answer.
    """
    inputs = read_inputs(**problem)
    returned: dict[Quantity, Argument] = {"loss": read_returned("actual", actual)}
    if gradient is not None:
        returned["gradient"] = read_returned("gradient", gradient)
    failures = questions.failures(inputs, returned, dtype, cancellation)
    if failures:
        raise AssertionError("\n".join(failures))


__all__ = ["assert_cross_entropy", "checks", "cross_entropy_problems", "exact_cross_entropy", "tolerance"]

"""Factor the logits of a problem exactly into hidden states times a weight matrix, for losses that multiply them.

    logits = hidden @ weight.T           (+ bias, if the function is passed one)

Shapes: logits [samples, classes], hidden [samples, H], weight [classes, H], bias [classes].

Each logit is the sum of three terms: the bias of its class, which is a power of two or 0; the upper half of the binary
digits of the rest; and their lower half.  The halves have the same sign and no digit in common, so summing them in any
order is exact in the dtype.  The factor with fewer rows is a block of powers of two and zeros, which selects the terms
in the other factor.  For the float16 logits [[2.5, -1], [3.015625, 4]], whose biases are 2 and 0:

    feature     0      1     2      3        4     5     6     7
    hidden  [[  2,     0,    0.5,   0,       0,    0.5,  0,    1],
             [  0,    -2,    0,    -0.5,     0,   -1,    0,    1]]
    weight  [[  0.25, -0.5,  0,    -0.03125, 0.5,  0,    0.5,  2],
             [ -0.5,  -2,    0,     0,      -1,    0,   -1,    0]]

    3.015625 = -2 * -0.5 (upper half of 1.015625) + -0.5 * -0.03125 (lower half) + 1 * 2 (bias)

Features 0 and 1 select the upper halves, 2 and 3 the lower halves.  Features 4 to 6 are padding, up to a multiple of
eight.  Padding features are nonzero in one factor and 0 in the other: they add 0 to every logit but make the other
factor's gradient test a sum.  The last feature has the biases as weights; in `hidden` it is 1, or 0 if the function is
passed the biases separately.

Unreduced losses are differentiated with an upstream gradient, `upstream_gradient`, whose elements differ.  A function
that ignores it, or multiplies all losses by one number, is found to be wrong.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from conformance.model.case import Array, Problem, numpy_dtype

FEATURE_MULTIPLE = 8
"""The number of features is a multiple of this, as kernels require."""
SMALLEST_BIAS = 2.0**-8
CHUNK = 1 << 12
"""Rows of terms computed in one step, which bounds the memory in addition to the factors."""
DIGITS = {"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53}
"""Binary digits of the significand, by dtype."""


@dataclass(frozen=True, eq=False)
class HeadArrays:
    """Factors of the logits, `hidden @ weight.T` plus `bias` if there is one, in the dtype of the problem."""

    hidden: Array
    """[..., H], with the leading axes of the logits; the last feature is 0 with a bias, and 1 without."""
    weight: Array
    """[classes, H]; the weights of the last feature are the biases."""
    bias: Array | None
    """[classes]; None for a function without a bias."""


def why_not_factorable(problem: Problem) -> str | None:
    """Why the predictions of a problem cannot be written as a product; None if they can."""
    if problem.input_kind != "logits":
        return "it takes hidden states, which are made of logits only"
    if not np.isfinite(problem.predictions).all():
        return "it takes hidden states, of which no product is infinite or nan"
    return None


def with_bias(problem: Problem, has_bias: bool) -> Problem:
    """The problem for a function that is or is not passed a bias; cached in the problem."""
    if problem.has_bias == has_bias:
        return problem
    derived = problem.derived(("bias", has_bias), lambda unreduced: dataclasses.replace(unreduced, has_bias=has_bias))
    return derived or problem


def upstream_gradient(shape: tuple[int, ...]) -> Array:
    """The upstream gradient of unreduced losses: +-1 and +-2, in an order without a short period.

    A product with one of them is exact, unless it overflows.
    """
    at = np.arange(math.prod(shape))
    return np.asarray(np.take([2.0, -1.0, 1.0, -2.0], (at + at // 4 + at // 16) % 4).reshape(shape))


def head_of(problem: Problem) -> HeadArrays:
    """Factors of the logits of a problem, which must be finite."""
    return problem.unreduced.computed_once("head", lambda: _head(problem))


def _head(problem: Problem) -> HeadArrays:
    dtype, digits = numpy_dtype(problem.dtype), DIGITS[problem.dtype]
    classes = problem.predictions.shape[-1]
    z = problem.predictions.reshape(-1, classes)
    samples = len(z)
    bias = _bias(z, digits)
    if samples > classes:
        weight, hidden = _block_and_terms(z, bias, digits, dtype)
    else:
        hidden, weight = _block_and_terms(z.T, bias[:, np.newaxis], digits, dtype)
    padded_in_hidden = np.arange(hidden.shape[1] - 2 * min(samples, classes) - 1) % 2
    for factor, is_padded, last_feature in (
        (hidden, padded_in_hidden, 0.0 if problem.has_bias else 1.0),
        (weight, 1 - padded_in_hidden, bias),
    ):
        padding = _padding_values(len(factor))[:, np.newaxis] * is_padded + 0.0  # no zero is negative
        factor[:, -1 - padding.shape[1] : -1] = padding
        factor[:, -1] = last_feature
    passed_bias = bias.astype(dtype) if problem.has_bias else None
    return HeadArrays(hidden.reshape(*problem.sample_shape, hidden.shape[1]), weight, passed_bias)


def _bias(z: Array, digits: int) -> Array:
    """For each class: +-2^k if all its logits share a sign and subtracting it is exact; otherwise 0."""
    if not len(z):
        return np.zeros(z.shape[1])
    lower, upper = z.min(axis=0).astype(np.float64), z.max(axis=0).astype(np.float64)
    smallest, largest = np.minimum(np.abs(lower), np.abs(upper)), np.maximum(np.abs(lower), np.abs(upper))
    power = np.exp2(np.frexp(smallest)[1] - 1.0)
    is_separated = ((lower > 0) | (upper < 0)) & (smallest >= SMALLEST_BIAS) & (largest < power * 2.0 ** (digits - 1))
    return np.where(is_separated, np.where(lower > 0, power, -power), 0.0)


def _upper_half(values: Array, digits: int) -> Array:
    """Numbers truncated to the upper half of their digits."""
    mantissa, exponent = np.frexp(values)
    places = 2.0 ** ((digits + 1) // 2)
    return np.asarray(np.ldexp(np.trunc(mantissa * places) / places, exponent))


def _block_and_terms(z: Array, bias: Array, digits: int, dtype: np.dtype[np.generic]) -> tuple[Array, Array]:
    """(block [columns, features] of powers of two, terms [rows, features] divided by them) for z [rows, columns].

    z: logits with the samples or the classes as rows.  bias: bias of each logit, broadcast to z.  Features from
    2 * columns on, padding and bias, are 0; the caller fills them.
    """
    rows, columns = z.shape
    features = 2 * columns
    features += 3 + -(features + 3) % FEATURE_MULTIPLE
    signs = np.where(np.arange(columns) % 2, -1.0, 1.0)
    terms, bias = np.zeros((rows, features), dtype), np.broadcast_to(bias, z.shape)
    for magnitudes in ((2.0, 0.5), (1.0, 1.0)):  # dividing by 2 may underflow, by 0.5 overflow
        powers = np.multiply.outer(magnitudes, signs)
        chunks = (slice(start, start + CHUNK) for start in range(0, rows, CHUNK))
        exact = [_write_terms(terms[chunk], z[chunk], bias[chunk], digits, powers) for chunk in chunks]
        if all(exact):
            break
    block = np.zeros((columns, features), dtype)
    block[:, : 2 * columns] = np.concatenate([np.diag(power) for power in powers], axis=1)
    return block, terms


def _write_terms(terms: Array, z: Array, bias: Array, digits: int, powers: Array) -> bool:
    """Write the halves of z - bias, divided by the powers of two; return whether all are exact in the dtype.

    powers: [2, columns], the divisors of the upper and of the lower halves.
    """
    remainder = z.astype(np.float64) - bias
    upper = _upper_half(remainder, digits)
    divided = np.concatenate([upper / powers[0], (remainder - upper) / powers[1]], axis=1) + 0.0  # no zero is negative
    with np.errstate(all="ignore"):
        terms[:, : divided.shape[1]] = divided
    return np.array_equal(terms[:, : divided.shape[1]].astype(np.float64), divided)


def _padding_values(count: int) -> Array:
    """Small numbers of both signs that are exact in every dtype."""
    at = np.arange(count)
    return np.where(at % 2, -0.5, 0.5) * (1 + at % 3)

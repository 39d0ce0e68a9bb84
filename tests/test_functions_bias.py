"""Sums, of a bias and of two arrays: one rounding an element, and none backward but the sum's.

The average halves a sum, which rounds nothing.
"""

import numpy as np
from functions_support import (
    DTYPES,
    LEADING,
    SEEDS,
    WIDTHS,
    assert_adds_into,
    assert_derivative,
    assert_like,
    assert_within,
    in_float64,
    normal,
    whole,
)
from hypothesis import given

from albert_np.functions.bias import (
    add_backward,
    add_forward,
    average_backward,
    average_forward,
    bias_backward,
    bias_forward,
)


@given(SEEDS, DTYPES, LEADING, WIDTHS)
def test_bias_is_added_to_every_row(seed, dtype, leading, n):
    rng = np.random.default_rng(seed)
    x, bias = normal(rng, (*leading, n), dtype), normal(rng, (n,), dtype)
    y, _ = bias_forward(x, bias)
    assert y.dtype == dtype
    for row in np.ndindex(leading):
        np.testing.assert_array_equal(y[row], x[row] + bias)


@given(SEEDS, DTYPES, LEADING, WIDTHS)
def test_bias_backward_sums_the_rows(seed, dtype, leading, n):
    rng = np.random.default_rng(seed)
    dy = whole(rng, (*leading, n), dtype)
    dx, dbias = bias_backward(dy, None)
    np.testing.assert_array_equal(dx, dy)
    np.testing.assert_array_equal(dbias, sum(dy[row] for row in np.ndindex(leading)))
    assert_like((dx, dbias), (dy, np.empty(n, dtype)))
    assert_adds_into(rng, lambda slots: bias_backward(dy, None, into=slots)[1:], (dbias,))


@given(SEEDS, LEADING, WIDTHS)
def test_backward_is_the_derivative(seed, leading, n):
    rng = np.random.default_rng(seed)
    x, bias, dy = (normal(rng, shape) for shape in [(*leading, n), (n,), (*leading, n)])
    assert_derivative(
        rng,
        lambda x, bias: bias_forward(x, bias)[0],
        (x, bias),
        dy,
        bias_backward(dy, None),
        bias_backward(np.abs(dy), None),
    )
    assert_derivative(
        rng,
        lambda a, b: add_forward(a, b)[0],
        (x, x),
        dy,
        add_backward(dy, None),
        add_backward(np.abs(dy), None),
    )
    assert_derivative(
        rng,
        lambda a, b: average_forward(a, b)[0],
        (x, x),
        dy,
        average_backward(dy, None),
        average_backward(np.abs(dy), None),
    )


@given(SEEDS, WIDTHS)
def test_float32_agrees_with_float64(seed, n):
    """Each sum of float32 numbers is rounded once, by half a unit; a sum of R rows R times."""
    rng = np.random.default_rng(seed)
    x, bias = normal(rng, (50, n), np.float32), normal(rng, (n,), np.float32)
    exact = x.astype(np.float64) + bias
    assert_within(bias_forward(x, bias)[0], exact, 1 / 2, np.abs(exact))
    (wide,) = in_float64(x)
    assert_within(bias_backward(x, None)[1], wide.sum(axis=0), 50 / 2, np.abs(wide).sum(axis=0))


@given(SEEDS, DTYPES, LEADING, WIDTHS)
def test_add_is_the_sum(seed, dtype, leading, n):
    rng = np.random.default_rng(seed)
    a, b, dy = (normal(rng, (*leading, n), dtype) for _ in range(3))
    y, cache = add_forward(a, b)
    np.testing.assert_array_equal(y, a + b)
    for gradient in add_backward(dy, cache):
        np.testing.assert_array_equal(gradient, dy)
        assert gradient.dtype == dtype


@given(SEEDS, DTYPES, LEADING, WIDTHS)
def test_average_lies_in_the_middle(seed, dtype, leading, n):
    rng = np.random.default_rng(seed)
    a, b, dy = (whole(rng, (*leading, n), dtype) for _ in range(3))
    y, cache = average_forward(a, b)
    np.testing.assert_array_equal(y - a, b - y)
    for gradient in average_backward(dy, cache):
        np.testing.assert_array_equal(2 * gradient, dy)
        assert gradient.dtype == y.dtype == dtype

"""Softmax: a distribution, blind to a shift, and exact to the rounding of exp."""

import mpmath
import numpy as np
from functions_support import (
    DTYPES,
    LEADING,
    SEEDS,
    WIDTHS,
    assert_derivative,
    assert_like,
    assert_within,
    in_float64,
    normal,
    softmax_terms,
)
from hypothesis import given
from hypothesis import strategies as st

from albert_np.functions.softmax import softmax_backward, softmax_forward

SCALES = st.sampled_from([1e-30, 1e-3, 1.0, 30.0, 1e4, 1e30])


def units(n):
    """Roundings of y apart from that of x − m: NumPy's exp is good to 4 units, a sum of N terms
    rounds N times, a quotient once."""
    return 2 * 4 + n + 1


@given(SEEDS, DTYPES, LEADING, WIDTHS, SCALES)
def test_rows_are_distributions(seed, dtype, leading, n, scale):
    x = normal(np.random.default_rng(seed), (*leading, n), dtype, scale)
    y, _ = softmax_forward(x)
    assert_like((y,), (x,))
    assert np.all(y >= 0)
    assert_within(y.sum(axis=-1), np.ones(leading), 2 * n, 1)


@given(SEEDS, DTYPES, LEADING, WIDTHS, st.integers(-1000, 1000))
def test_does_not_see_a_shift(seed, dtype, leading, n, shift):
    """Eighths plus a whole number are not rounded, so the result may not differ in one bit."""
    x = (np.random.default_rng(seed).integers(-99, 99, (*leading, n)) / 8).astype(dtype)
    np.testing.assert_array_equal(softmax_forward(x)[0], softmax_forward(x + dtype(shift))[0])


@given(SEEDS, DTYPES, WIDTHS, st.sampled_from([1e-3, 1.0, 10.0]))
def test_equals_the_closed_form(seed, dtype, n, scale):
    """Against 50 digits. Rounding x − m moves the exponential by its own size times that."""
    x = normal(np.random.default_rng(seed), (n,), dtype, scale)
    with mpmath.workdps(50):
        exponentials = [mpmath.exp(mpmath.mpf(float(value))) for value in x]
        expected = np.array([float(e / mpmath.fsum(exponentials)) for e in exponentials])
    steepness = 1 + 2 * np.ptp(x.astype(np.float64))
    assert_within(softmax_forward(x)[0], expected, units(n) * steepness, expected)


@given(DTYPES, WIDTHS)
def test_at_the_ends_of_the_range(dtype, n):
    """The largest entries share everything equally, however far the others lie below."""
    largest = np.finfo(dtype).max
    x = np.repeat(np.array([largest, -largest], dtype), n)
    y, cache = softmax_forward(x)
    np.testing.assert_array_equal(y, np.repeat(np.array([1 / dtype(n), 0], dtype), n))
    dy = np.sign(x)  # the same for all that share
    assert_within(softmax_backward(dy, cache), 0 * x, 2 * n + 3, softmax_terms(dy, y))
    np.testing.assert_array_equal(softmax_forward(-x)[0], y[::-1])


@given(SEEDS, LEADING, WIDTHS, st.sampled_from([1e-3, 1.0, 30.0]))
def test_backward_is_the_derivative(seed, leading, n, scale):
    rng = np.random.default_rng(seed)
    x, dy = normal(rng, (*leading, n), scale=scale), normal(rng, (*leading, n))
    y, cache = softmax_forward(x)
    dx = softmax_backward(dy, cache)
    assert_derivative(
        rng, lambda x: softmax_forward(x)[0], (x,), dy, (dx,), (softmax_terms(dy, y),)
    )


@given(SEEDS, DTYPES, LEADING, WIDTHS, SCALES)
def test_backward_equals_the_closed_form(seed, dtype, leading, n, scale):
    """dx = (diag(y) − y yᵀ) dy: N + 3 roundings. Its sum is zero, as the sum of y is constant: the
    roundings of dx and those of the sum of y."""
    rng = np.random.default_rng(seed)
    x, dy = normal(rng, (*leading, n), dtype, scale), normal(rng, (*leading, n), dtype)
    y, cache = softmax_forward(x)
    dx = softmax_backward(dy, cache)
    assert_like((dx,), (x,))
    y, dy = in_float64(y, dy)
    jacobian = np.eye(n) * y[..., None] - y[..., None] * y[..., None, :]
    terms = softmax_terms(dy, y)
    assert_within(dx, np.einsum("...ij,...j->...i", jacobian, dy), n + 3, terms)
    assert_within(dx.sum(axis=-1), np.zeros(leading), 4 * n + 3, terms.sum(axis=-1))


@given(SEEDS, LEADING, WIDTHS, st.sampled_from([1.0, 10.0]))
def test_float32_agrees_with_float64(seed, leading, n, scale):
    rng = np.random.default_rng(seed)
    x, dy = (normal(rng, (*leading, n), np.float32, s) for s in (scale, 1))
    y, cache = softmax_forward(x)
    exact, exact_cache = softmax_forward(x.astype(np.float64))
    steepness = 1 + 2 * np.ptp(x.astype(np.float64), axis=-1, keepdims=True)
    assert_within(y, exact, units(n) * steepness, exact)
    (dy_wide,) = in_float64(dy)
    dx, exact_dx = softmax_backward(dy, cache), softmax_backward(dy_wide, exact_cache)
    assert_within(dx, exact_dx, 2 * units(n) * steepness + n + 3, softmax_terms(dy_wide, exact))

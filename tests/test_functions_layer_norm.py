"""Layer normalization: mean 0, variance 1, and a gradient without the two directions it ignores.

Bounds: a mean of N terms rounds N times and some; a handful of roundings beside it are the 8.
"""

import mpmath
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
    layer_norm_condition,
    layer_norm_terms,
    normal,
)
from hypothesis import given
from hypothesis import strategies as st

from albert_np.functions.layer_norm import layer_norm_backward, layer_norm_forward

EPS = st.sampled_from([1e-12, 1e-5])


def draw(seed, dtype, leading, n, scale=1.0):
    """x, weight, bias, and a gradient of y."""
    rng = np.random.default_rng(seed)
    x = normal(rng, (*leading, n), dtype, scale)
    return x, normal(rng, (n,), dtype), normal(rng, (n,), dtype), normal(rng, x.shape, dtype)


@given(SEEDS, DTYPES, LEADING, WIDTHS, EPS, st.sampled_from([1e-30, 1e-6, 1.0, 1e15]))
def test_mean_and_variance(seed, dtype, leading, n, eps, scale):
    """The mean of x̂ is 0, and its variance var(x) / (var(x) + eps)."""
    x, weight, _, _ = draw(seed, dtype, leading, n, scale)
    normalized, _ = layer_norm_forward(x, np.ones_like(weight), np.zeros_like(weight), eps)
    assert_like((normalized,), (x,))
    (wide,) = in_float64(x)
    condition = layer_norm_condition(wide, eps)[..., 0]
    variance = wide.var(axis=-1)
    mean_of_squares = (normalized * normalized).mean(axis=-1)
    assert_within(normalized.mean(axis=-1), np.zeros(leading), n + 8, condition)
    assert_within(mean_of_squares, variance / (variance + eps), 2 * (n + 8), condition)


@given(SEEDS, WIDTHS, EPS, st.integers(0, 6))
def test_equals_the_closed_form(seed, n, eps, digits_of_mean):
    """Against 50 digits, up to a mean of 10⁶ with a deviation of 1."""
    rng = np.random.default_rng(seed)
    x = 10.0**digits_of_mean + rng.standard_normal(n)
    _, weight, bias, _ = draw(seed, np.float64, (), n)
    with mpmath.workdps(50):
        centred = [mpmath.mpf(value) - mpmath.fsum(x) / n for value in x]
        variance = mpmath.fsum(value * value for value in centred) / n
        normalized = np.array([float(value / mpmath.sqrt(variance + eps)) for value in centred])
    y, _ = layer_norm_forward(x, weight, bias, eps)
    terms = (layer_norm_condition(x, eps) + np.abs(normalized)) * np.abs(weight) + np.abs(bias)
    assert_within(y, normalized * weight + bias, n + 8, terms)


@given(SEEDS, DTYPES, LEADING, WIDTHS, st.integers(-30, 30))
def test_does_not_see_a_scale(seed, dtype, leading, n, exponent):
    """A power of 2 rounds nothing, so y may not differ in one bit, and dx is that power smaller."""
    x, weight, bias, dy = draw(seed, dtype, leading, n)
    scale = 2.0**exponent
    y, cache = layer_norm_forward(x, weight, bias, 1e-12)
    scaled, scaled_cache = layer_norm_forward(x * scale, weight, bias, 1e-12 * scale * scale)
    np.testing.assert_array_equal(scaled, y)
    dx, *_ = layer_norm_backward(dy, cache)
    scaled_dx, *_ = layer_norm_backward(dy, scaled_cache)
    np.testing.assert_array_equal(scaled_dx * scale, dx)


@given(SEEDS, DTYPES, LEADING, WIDTHS)
def test_rows_of_zeros_give_the_bias(seed, dtype, leading, n):
    _, weight, bias, dy = draw(seed, dtype, leading, n)
    y, cache = layer_norm_forward(np.zeros_like(dy), weight, bias, 1e-12)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, y.shape))
    assert all(np.all(np.isfinite(gradient)) for gradient in layer_norm_backward(dy, cache))


@given(SEEDS, DTYPES, LEADING, WIDTHS)
def test_dx_is_orthogonal_to_ones_and_to_the_normalized_input(seed, dtype, leading, n):
    """With eps = 0, y is unmoved by a shift and by a stretch of x, so dx has no such component."""
    n += 1  # the variance of one number is 0
    x, weight, bias, dy = draw(seed, dtype, leading, n)
    _, cache = layer_norm_forward(x, weight, bias, 0)
    dx, _, _ = in_float64(*layer_norm_backward(dy, cache))
    normalized, x, weight, dy = in_float64(cache.normalized, x, weight, dy)
    terms, _, _ = layer_norm_terms(dy, x, weight, 0)
    for direction in np.ones_like(x), normalized:
        bound = (2 * n + 8) * np.finfo(dtype).eps * (terms * np.abs(direction)).sum(axis=-1)
        assert np.all(np.abs((dx * direction).sum(axis=-1)) <= bound)


@given(SEEDS, LEADING, WIDTHS, EPS)
def test_backward_is_the_derivative(seed, leading, n, eps):
    *inputs, dy = draw(seed, np.float64, leading, n)
    _, cache = layer_norm_forward(*inputs, eps)
    assert_derivative(
        np.random.default_rng(seed),
        lambda *moved: layer_norm_forward(*moved, eps)[0],
        inputs,
        dy,
        layer_norm_backward(dy, cache),
        layer_norm_terms(dy, inputs[0], inputs[1], eps),
    )


@given(SEEDS, DTYPES, LEADING, WIDTHS)
def test_adds_into_slots(seed, dtype, leading, n):
    x, weight, bias, dy = draw(seed, dtype, leading, n)
    _, cache = layer_norm_forward(x, weight, bias, 1e-12)
    _, *gradients = layer_norm_backward(dy, cache)
    assert_like(gradients, (weight, bias))
    assert_adds_into(
        np.random.default_rng(seed),
        lambda slots: layer_norm_backward(dy, cache, into=slots)[1:],
        gradients,
    )


@given(SEEDS, LEADING, st.integers(3, 100))
def test_float32_agrees_with_float64(seed, leading, n):
    """Backward goes through x̂ twice, and through sums over the rows."""
    x, weight, bias, dy = draw(seed, np.float32, leading, n)
    wide_x, wide_weight, wide_bias, wide_dy = in_float64(x, weight, bias, dy)
    y, cache = layer_norm_forward(x, weight, bias, 1e-12)
    exact, exact_cache = layer_norm_forward(wide_x, wide_weight, wide_bias, 1e-12)
    terms = np.abs(exact_cache.normalized) + layer_norm_condition(wide_x, 1e-12)
    assert_within(y, exact, n + 8, terms * np.abs(wide_weight) + np.abs(wide_bias))
    for gradient, expected, terms in zip(
        layer_norm_backward(dy, cache),
        layer_norm_backward(wide_dy, exact_cache),
        layer_norm_terms(wide_dy, wide_x, wide_weight, 1e-12),
        strict=True,
    ):
        assert_within(gradient, expected, 2 * (n + 8) + np.prod(leading), terms)

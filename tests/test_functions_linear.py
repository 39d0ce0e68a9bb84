"""The linear map: exact on whole numbers, and within the bound of a dot product otherwise."""

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
from hypothesis import strategies as st

from albert_np.functions.linear import linear_backward, linear_forward


def absolute_gradients(dy, x, weight, bias):
    """The sum of the absolute values of the terms of each gradient."""
    _, cache = linear_forward(np.abs(x), np.abs(weight), bias)
    return linear_backward(np.abs(dy), cache)


@given(SEEDS, DTYPES, LEADING, WIDTHS, WIDTHS, st.booleans())
def test_is_the_matrix_product(seed, dtype, leading, n, m, has_bias):
    rng = np.random.default_rng(seed)
    x, weight = whole(rng, (*leading, n), dtype), whole(rng, (m, n), dtype)
    bias = whole(rng, (m,), dtype) if has_bias else None
    dy = whole(rng, (*leading, m), dtype)

    y, cache = linear_forward(x, weight, bias)
    np.testing.assert_array_equal(
        y, np.einsum("...n,mn->...m", x, weight) + (bias if has_bias else 0)
    )
    assert y.dtype == dtype

    dx, dweight, dbias = linear_backward(dy, cache)
    np.testing.assert_array_equal(dx, np.einsum("...m,mn->...n", dy, weight))
    rows = list(np.ndindex(leading))
    np.testing.assert_array_equal(dweight, sum(np.outer(dy[row], x[row]) for row in rows))
    assert_like((dx, dweight), (x, weight))
    if has_bias:
        np.testing.assert_array_equal(dbias, sum(dy[row] for row in rows))
        assert dbias.dtype == dtype
    else:
        assert dbias is None


@given(SEEDS, LEADING, WIDTHS, WIDTHS)
def test_backward_is_the_derivative(seed, leading, n, m):
    rng = np.random.default_rng(seed)
    inputs = normal(rng, (*leading, n)), normal(rng, (m, n)), normal(rng, (m,))
    dy = normal(rng, (*leading, m))
    _, cache = linear_forward(*inputs)
    assert_derivative(
        rng,
        lambda *moved: linear_forward(*moved)[0],
        inputs,
        dy,
        linear_backward(dy, cache),
        absolute_gradients(dy, *inputs),
    )


@given(SEEDS, DTYPES, LEADING, WIDTHS, WIDTHS)
def test_adds_into_slots(seed, dtype, leading, n, m):
    rng = np.random.default_rng(seed)
    x, weight, bias = (normal(rng, s, dtype) for s in [(*leading, n), (m, n), (m,)])
    dy = normal(rng, (*leading, m), dtype)
    _, cache = linear_forward(x, weight, bias)
    dx, *gradients = linear_backward(dy, cache)
    assert_adds_into(rng, lambda slots: linear_backward(dy, cache, into=slots)[1:], gradients)
    np.testing.assert_array_equal(linear_backward(dy, cache, into=(0 * weight, 0 * bias))[0], dx)


def test_without_a_bias_its_slot_is_none():
    x, weight, dy = np.ones((2, 3)), np.ones((4, 3)), np.ones((2, 4))
    slot = np.ones((4, 3))
    _, dweight, dbias = linear_backward(dy, linear_forward(x, weight)[1], into=(slot, None))
    assert dweight is slot and dbias is None
    np.testing.assert_array_equal(slot, np.full((4, 3), 3.0))


@given(SEEDS, st.integers(1, 300), st.sampled_from([1e-12, 1.0, 1e12]))
def test_float32_agrees_with_float64(seed, n, scale):
    """A dot product of length N rounds each term at most N times, by half a unit; a bias once more.
    The same bound holds for the sums over rows."""
    rng = np.random.default_rng(seed)
    inputs = [normal(rng, shape, np.float32, scale) for shape in [(3, n), (4, n), (4,)]]
    dy = normal(rng, (3, 4), np.float32)
    y, cache = linear_forward(*inputs)
    exact, exact_cache = linear_forward(*in_float64(*inputs))
    assert_within(y, exact, (n + 1) / 2, linear_forward(*map(np.abs, in_float64(*inputs)))[0])
    for gradient, expected, terms in zip(
        linear_backward(dy, cache),
        linear_backward(dy.astype(np.float64), exact_cache),
        absolute_gradients(*in_float64(dy, *inputs)),
        strict=True,
    ):
        assert_within(gradient, expected, 4 / 2, terms)

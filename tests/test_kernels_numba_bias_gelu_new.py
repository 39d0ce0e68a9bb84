"""Bias and gelu_new in one pass: against the reference in the widest dtype.

Sizes of what is rounded, and units, are those of test_functions_activations.py.
"""

import numpy as np
import pytest
from functions_support import DTYPES, SEEDS, assert_adds_into, assert_like, assert_within
from hypothesis import given

pytest.importorskip("numba")

from numba_support import COLUMNS, ROWS, assert_same_bits_on_any_threads, wide  # noqa: E402

from albert_np.functions import fused  # noqa: E402
from albert_np.functions.activations import CUBIC, TWO_ROOT_2_OVER_PI  # noqa: E402
from albert_np.kernels.numba.bias_gelu_new import (  # noqa: E402
    bias_gelu_new_backward,
    bias_gelu_new_forward,
    bias_gelu_new_output,
)

UNITS = 8


def draw(seed, dtype, leading, n):
    """x, bias, and a gradient of y; the sums lie where σ(2u) is a normal number, from −9 to 9."""
    rng = np.random.default_rng(seed)
    x, bias = rng.uniform(-7, 7, (*leading, n)), rng.uniform(-2, 2, n)
    return [array.astype(dtype) for array in (x, bias, rng.standard_normal(x.shape))]


def terms_of(z, eps):
    """What is rounded on the way to y, and to its derivative."""
    two_u = TWO_ROOT_2_OVER_PI * (z + CUBIC * z**3)
    slope = TWO_ROOT_2_OVER_PI * (1 + 3 * CUBIC * z**2)
    s, rest = 1 / (1 + np.exp(-two_u)), 1 / (1 + np.exp(two_u))
    steepness = 1 + rest * np.abs(two_u)
    derivative = s * (1 + np.abs(z) * slope * np.minimum(1, rest / eps)) * steepness
    return np.abs(z) * s * steepness, derivative


@given(SEEDS, DTYPES, ROWS, COLUMNS)
def test_equals_the_reference(seed, dtype, leading, n):
    x, bias, dy = draw(seed, dtype, leading, n)
    y, cache = bias_gelu_new_forward(x, bias)
    gradients = bias_gelu_new_backward(dy, cache)
    assert_like((y, *gradients), (x, x, bias))

    wide_x, wide_bias, wide_dy = wide(x, bias, dy)
    expected, wide_cache = fused.bias_gelu_new_forward(wide_x, wide_bias)
    dx, dbias = fused.bias_gelu_new_backward(wide_dy, wide_cache)
    value_terms, derivative_terms = terms_of(wide_x + wide_bias, np.finfo(dtype).eps)
    terms = np.abs(wide_dy) * derivative_terms
    assert_within(y, expected, UNITS, value_terms)
    assert_within(gradients[0], dx, UNITS, terms)
    rows = x.size // n
    assert_within(gradients[1], dbias, UNITS + rows, terms.reshape(-1, n).sum(axis=0))


@given(SEEDS, DTYPES, ROWS, COLUMNS)
def test_gives_its_output_again_and_adds_into_slots(seed, dtype, leading, n):
    x, bias, dy = draw(seed, dtype, leading, n)
    y, cache = bias_gelu_new_forward(x, bias)
    np.testing.assert_array_equal(bias_gelu_new_output(cache), y)
    gradients = bias_gelu_new_backward(dy, cache)
    assert_adds_into(
        np.random.default_rng(seed),
        lambda slots: bias_gelu_new_backward(dy, cache, into=slots)[1:],
        gradients[1:],
    )
    assert_same_bits_on_any_threads(lambda: bias_gelu_new_backward(dy, cache))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_out_and_not_a_number(dtype):
    """Bit for bit: y is x where σ(2u) is 1, and nothing where it is 0; and no derivative is NaN."""
    largest = np.finfo(dtype).max / 2
    x = np.array([40, 1e10, largest, -40, -1e10, -largest, np.nan], dtype)
    y, cache = bias_gelu_new_forward(x, np.zeros_like(x))
    np.testing.assert_array_equal(y, [*x[:3], 0, 0, 0, np.nan])
    dx, _ = bias_gelu_new_backward(np.ones_like(x), cache)
    np.testing.assert_array_equal(dx, [1, 1, 1, 0, 0, 0, np.nan])


def test_reads_any_layout():
    """Rows that are not contiguous, in arrays that may not be written to."""
    x, bias, dy = draw(1, np.float32, (6,), 14)
    y, cache = bias_gelu_new_forward(x[::2, ::2].copy(), bias[::2].copy())
    expected = bias_gelu_new_backward(dy[::2, ::2].copy(), cache)
    for array in x, bias, dy:
        array.flags.writeable = False
    other, cache = bias_gelu_new_forward(x[::2, ::2], bias[::2])
    np.testing.assert_array_equal(other, y)
    for gradient, same in zip(bias_gelu_new_backward(dy[::2, ::2], cache), expected, strict=True):
        np.testing.assert_array_equal(gradient, same)

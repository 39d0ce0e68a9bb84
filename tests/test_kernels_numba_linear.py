"""The linear map in Numba: exact on whole numbers, at every edge of a tile, a strip and a block."""

import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from functions_support import (
    DTYPES,
    LEADING,
    SEEDS,
    assert_like,
    assert_within,
    in_float64,
    normal,
    whole,
)
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("numba")

from albert_np.functions.linear import linear_backward as reference_backward
from albert_np.functions.linear import linear_forward as reference_forward
from albert_np.kernels.numba.linear import linear_backward, linear_forward

# 8, 16 and 48: a block that is transposed, a vector or strip, a panel; each with its neighbours.
SIZES = st.sampled_from([1, 2, 7, 8, 9, 15, 16, 17, 24, 31, 33, 47, 48, 49, 63, 95, 97, 100])


def inputs(rng, leading, n, m, dtype, draw=whole):
    return (draw(rng, shape, dtype) for shape in [(*leading, n), (m, n), (m,), (*leading, m)])


@given(SEEDS, DTYPES, SIZES, SIZES, SIZES, st.booleans())
@example(0, np.float32, 200, 48, 16, True)  # tokens are shared among the threads
@example(0, np.float32, 1100, 33, 17, True)  # a weight's gradient is summed in parts
@example(0, np.float64, 1100, 33, 17, True)
@example(0, np.float32, 50, 8, 1300, True)  # a token's gradient is summed in parts
@example(0, np.float64, 17, 100, 2070, True)
@example(0, np.float32, 50, 4100, 33, True)  # an output is summed in parts
@example(0, np.float64, 19, 8200, 17, False)
@example(0, np.float32, 400, 3072, 24, True)  # tokens of more than one block
@example(0, np.float32, 24, 400, 3072, True)  # inputs of more than one block
def test_is_the_matrix_product(seed, dtype, tokens, n, m, has_bias):
    x, weight, bias, dy = inputs(np.random.default_rng(seed), (tokens,), n, m, dtype)
    bias = bias if has_bias else None
    y, cache = linear_forward(x, weight, bias)
    expected, expected_cache = reference_forward(x, weight, bias)
    np.testing.assert_array_equal(y, expected)
    gradients = linear_backward(dy, cache)
    expected_gradients = reference_backward(dy, expected_cache)
    assert_like((y, *gradients[:2]), (dy, x, weight))
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_array_equal(gradient, expected)
    assert has_bias or gradients[2] is None


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names features of x86 processors")
def test_is_the_matrix_product_without_avx512():
    """The tile is another there, and a vector of float64 shorter than a block is."""
    features = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+64bit,+avx,+avx2,+fma"}
    name = f"{__file__}::{test_is_the_matrix_product.__name__}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name]
    run = subprocess.run(command, env=os.environ | features, capture_output=True, text=True)
    assert run.returncode == 0 and "1 passed" in run.stdout, run.stdout + run.stderr


@given(SEEDS, DTYPES, LEADING)
def test_any_leading_shape(seed, dtype, leading):
    x, weight, bias, dy = inputs(np.random.default_rng(seed), leading, 5, 3, dtype)
    y, cache = linear_forward(x, weight, bias)
    np.testing.assert_array_equal(y, reference_forward(x, weight, bias)[0])
    gradients = linear_backward(dy, cache)
    assert_like(gradients, (x, weight, bias))
    for gradient, expected in zip(gradients, reference_backward(dy, cache), strict=True):
        np.testing.assert_array_equal(gradient, expected)


@given(SEEDS, DTYPES, SIZES, SIZES)
def test_adds_into_slots(seed, dtype, tokens, n):
    rng = np.random.default_rng(seed)
    x, weight, bias, dy = inputs(rng, (tokens,), n, 20, dtype)
    held = rng.integers(-8, 9, weight.shape).astype(dtype), rng.integers(-8, 9, 20).astype(dtype)
    slots = tuple(array.copy() for array in held)
    cache = linear_forward(x, weight, bias)[1]
    _, *gradients = linear_backward(dy, cache, into=slots)
    _, *expected = reference_backward(dy, cache)
    for slot, gradient, before, added in zip(slots, gradients, held, expected, strict=True):
        assert gradient is slot
        np.testing.assert_array_equal(slot, before + added)


def test_adds_into_rows_of_a_larger_array():
    """The gradients of query, key and value are views of one array."""
    x, weight, bias, dy = inputs(np.random.default_rng(0), (20,), 10, 6, np.float32)
    large = np.ones((18, 10), np.float32)
    cache = linear_forward(x, weight, bias)[1]
    slot = large[6:12]
    _, dweight, _ = linear_backward(dy, cache, into=(slot, np.zeros(6, np.float32)))
    assert dweight is slot
    np.testing.assert_array_equal(large[6:12], 1 + dy.T @ x)
    np.testing.assert_array_equal(large[:6], 1)
    np.testing.assert_array_equal(large[12:], 1)


def test_adds_into_a_slot_of_any_layout():
    x, weight, bias, dy = inputs(np.random.default_rng(0), (20,), 10, 6, np.float32)
    slots = np.ones((10, 6), np.float32).T, np.ones((6, 2), np.float32)[:, 0]
    linear_backward(dy, linear_forward(x, weight, bias)[1], into=slots)
    np.testing.assert_array_equal(slots[0], 1 + dy.T @ x)
    np.testing.assert_array_equal(slots[1], 1 + dy.sum(axis=0))


@given(SEEDS, DTYPES, st.integers(1, 700), st.sampled_from([1e-12, 1.0, 1e12]))
def test_rounds_as_a_dot_product(seed, dtype, size, scale):
    """A sum of N terms rounds each at most N times, by half a unit; a bias once more.
    NumPy's float64 result may be as far off, so float64 is given twice the bound."""
    rng = np.random.default_rng(seed)
    x, weight, bias, dy = inputs(
        rng, (size,), size, 20, dtype, lambda rng, shape, dtype: normal(rng, shape, dtype, scale)
    )
    y, cache = linear_forward(x, weight, bias)
    results = y, *linear_backward(dy, cache)
    wide = in_float64(x, weight, bias, dy)
    expected, expected_cache = reference_forward(*wide[:3])
    terms, terms_cache = reference_forward(*map(np.abs, wide[:3]))
    expected = expected, *reference_backward(wide[3], expected_cache)
    terms = terms, *reference_backward(np.abs(wide[3]), terms_cache)
    units = (1 if dtype == np.float64 else 1 / 2) * (np.array([size, 20, size, size]) + 1)
    for result, exact, absolute, unit in zip(results, expected, terms, units, strict=True):
        assert_within(result, exact, unit, absolute)


def test_the_same_bits_alone_and_beside_another_thread():
    x, weight, bias, dy = inputs(np.random.default_rng(0), (300,), 200, 100, np.float32, normal)

    def run(_):
        y, cache = linear_forward(x, weight, bias)
        return y, *linear_backward(dy, cache)

    alone = run(None)
    with ThreadPoolExecutor(2) as pool:
        for together in pool.map(run, range(8)):
            for result, expected in zip(together, alone, strict=True):
                np.testing.assert_array_equal(result, expected)


def test_no_tokens():
    x, weight, bias, dy = inputs(np.random.default_rng(0), (0,), 5, 3, np.float32)
    y, cache = linear_forward(x, weight, bias)
    assert y.shape == (0, 3)
    dx, dweight, dbias = linear_backward(dy, cache)
    assert dx.shape == (0, 5)
    assert not dweight.any() and not dbias.any()


@pytest.mark.parametrize("dtype", [np.float16, np.int32, np.complex128])
def test_says_which_dtypes_it_takes(dtype):
    with pytest.raises(TypeError, match="x has dtype .*; expected float32 or float64"):
        linear_forward(np.ones((2, 3), dtype), np.ones((4, 3), dtype))


def test_says_whose_dtype_differs():
    x, weight, bias, dy = inputs(np.random.default_rng(0), (2,), 5, 3, np.float32)
    with pytest.raises(TypeError, match="weight has dtype float64; expected float32"):
        linear_forward(x, weight.astype(np.float64), bias)
    with pytest.raises(TypeError, match="bias has dtype float64; expected float32"):
        linear_forward(x, weight, bias.astype(np.float64))
    with pytest.raises(TypeError, match="dy has dtype float64; expected float32"):
        linear_backward(dy.astype(np.float64), linear_forward(x, weight, bias)[1])

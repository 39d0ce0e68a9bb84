"""exp inside kernels: within 1 unit in the last place of 50 digits, from 0 to ∞."""

import numpy as np
import pytest
from functions_support import DTYPES, SEEDS
from hypothesis import given
from hypothesis import strategies as st
from mpmath import exp, frexp, mpf, workdps

numba = pytest.importorskip("numba")

from albert_np.kernels.numba.exponential import exponential, exponential_flushed  # noqa: E402


@numba.njit
def exponentials(x):
    y = np.empty_like(x)
    for i in range(x.size):
        y[i] = exponential(x[i])
    return y


@numba.njit
def flushed_exponentials(x):
    y = np.empty_like(x)
    for i in range(x.size):
        y[i] = exponential_flushed(x[i])
    return y


def assert_within_a_unit(x):
    """|y − exp(x)| < 1 unit in the last place of exp(x), or of the smallest normal number."""
    y = exponentials(x)
    assert y.dtype == x.dtype
    info = np.finfo(x.dtype)
    with workdps(50):
        for argument, computed in zip(x, y, strict=True):
            exact = exp(mpf(float(argument)))
            exponent = max(frexp(exact)[1] - 1, info.minexp)
            if np.isinf(computed):
                assert exact > float(info.max)
            else:
                assert abs(mpf(float(computed)) - exact) < mpf(2) ** (exponent - info.nmant)


@given(SEEDS, DTYPES, st.sampled_from([1.0, 0.5, 1e-3, 1e-12]))
def test_is_within_a_unit_in_the_last_place(seed, dtype, fraction):
    """Over the whole range: what rounds to 0, what is below the smallest normal number, and ∞."""
    info = np.finfo(dtype)
    lowest, highest = np.log(info.smallest_subnormal) - 2, np.log(info.max) + 2
    uniform = np.random.default_rng(seed).uniform(lowest, highest, 100)
    assert_within_a_unit((fraction * uniform).astype(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_next_to_the_ends_and_to_the_halves(dtype):
    """Where 0, the smallest normal number and ∞ begin, and where n steps to the next."""
    info = np.finfo(dtype)
    exponents = np.array([info.minexp - info.nmant - 1, info.minexp, info.maxexp])
    ends = (exponents * np.log(2)).astype(dtype)
    halves = ((np.arange(info.minexp, info.maxexp) + 0.5) * np.log(2)).astype(dtype)
    middle = np.concatenate([ends, halves[:: len(halves) // 50], dtype([0, -0.0])])
    below, above = (np.nextafter(middle, dtype(limit)) for limit in (-np.inf, np.inf))
    assert_within_a_unit(np.concatenate([below, middle, above]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_out_and_not_a_number(dtype):
    largest = np.finfo(dtype).max
    x = np.array([-np.inf, -largest, -1e5, 1e5, largest, np.inf, np.nan], dtype)
    np.testing.assert_array_equal(exponentials(x), [0, 0, 0, np.inf, np.inf, np.inf, np.nan])


@given(SEEDS, DTYPES, st.sampled_from([1.0, 0.5, 1e-3, 1e-12]))
def test_flushed_is_the_same_down_to_the_smallest_normal_number_and_then_0(seed, dtype, fraction):
    """The same series, to which the exponent is added instead of multiplied: bit for bit."""
    smallest = np.nextafter(dtype(np.log(float(np.finfo(dtype).tiny))), dtype(0))
    uniform = np.random.default_rng(seed).uniform(1.2 * smallest, 1, 100)
    ends = [smallest, np.nextafter(smallest, dtype(-np.inf)), 0, -np.inf, np.nan]
    x = np.concatenate([fraction * uniform, ends]).astype(dtype)
    expected = np.where(x < smallest, dtype(0), exponentials(x))
    np.testing.assert_array_equal(flushed_exponentials(x), expected)

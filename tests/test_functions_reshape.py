"""The same numbers in another shape, and their gradients back."""

import numpy as np
from functions_support import DTYPES, SEEDS, assert_derivative, normal
from hypothesis import given
from hypothesis import strategies as st

from albert_np.functions.reshape import reshape_backward, reshape_forward

SIZES = st.tuples(st.integers(1, 4), st.integers(1, 5))


@given(SEEDS, DTYPES, SIZES)
def test_numbers_stay_in_order(seed, dtype, sizes):
    rng = np.random.default_rng(seed)
    B, C = sizes
    x = normal(rng, (B * C, 1), dtype)
    y, cache = reshape_forward(x, (-1, C))
    assert y.shape == (B, C) and y.dtype == dtype
    for place in range(B * C):
        assert y[place // C, place % C] == x[place, 0]
    dy = normal(rng, (B, C), dtype)
    dx = reshape_backward(dy, cache)
    assert dx.shape == x.shape and dx.dtype == dtype
    np.testing.assert_array_equal(dx[:, 0], dy.ravel())


@given(SEEDS, SIZES)
def test_backward_is_the_derivative(seed, sizes):
    rng = np.random.default_rng(seed)
    B, C = sizes
    x = normal(rng, (B * C, 1))
    dy = normal(rng, (B, C))
    _, cache = reshape_forward(x, (B, C))
    dx = reshape_backward(dy, cache)
    assert_derivative(rng, lambda x: reshape_forward(x, (B, C))[0], (x,), dy, (dx,), (np.abs(dx),))

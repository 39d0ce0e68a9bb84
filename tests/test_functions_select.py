"""Picking rows, and putting their gradients back."""

import numpy as np
from functions_support import DTYPES, SEEDS, assert_derivative, normal
from hypothesis import given
from hypothesis import strategies as st

from albert_np.functions.select import select_backward, select_forward

SIZES = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6))


def indices(rng, shape):
    """The first token of each sequence, as the pooler picks it; some positions, as a loss; and one
    logit of each, as question answering."""
    last = (slice(None), slice(None), shape[2] - 1)
    return [(slice(None), 0), np.nonzero(rng.random(shape[:2]) < 0.5), last]


@given(SEEDS, DTYPES, SIZES)
def test_picks_and_puts_back(seed, dtype, shape):
    rng = np.random.default_rng(seed)
    x = normal(rng, shape, dtype)
    for index in indices(rng, shape):
        y, cache = select_forward(x, index)
        np.testing.assert_array_equal(y, x[index])
        assert y.dtype == dtype

        dy = normal(rng, y.shape, dtype)
        dx = select_backward(dy, cache)
        assert dx.shape == shape and dx.dtype == dtype
        np.testing.assert_array_equal(dx[index], dy)
        assert np.count_nonzero(dx) == np.count_nonzero(dy)


@given(SEEDS, SIZES)
def test_backward_is_the_derivative(seed, shape):
    rng = np.random.default_rng(seed)
    x = normal(rng, shape)
    for index in indices(rng, shape):
        y, cache = select_forward(x, index)
        dy = normal(rng, y.shape)
        assert_derivative(
            rng,
            lambda x, index=index: select_forward(x, index)[0],
            (x,),
            dy,
            (select_backward(dy, cache),),
            (select_backward(np.abs(dy), cache),),
        )

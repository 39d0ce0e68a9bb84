"""Chunks of a sequence: cutting and joining are each other's inverse, and each other's adjoint."""

import numpy as np
from functions_support import DTYPES, SEEDS, assert_derivative, assert_like, normal
from hypothesis import given
from hypothesis import strategies as st

from albert_np.functions.chunks import join_backward, join_forward, split_backward, split_forward

SIZES = st.tuples(*[st.integers(1, 4)] * 4)  # B, number of chunks, size, H


@given(SEEDS, DTYPES, SIZES)
def test_chunks_are_columns_in_order(seed, dtype, sizes):
    B, number, size, H = sizes
    x = normal(np.random.default_rng(seed), (B, number * size, H), dtype)
    chunks, _ = split_forward(x, size)
    assert [chunk.shape for chunk in chunks] == [(B, size, H)] * number
    for i in range(number * size):
        np.testing.assert_array_equal(chunks[i // size][:, i % size], x[:, i])
    assert_like(chunks, [x[:, :size]] * number)


@given(SEEDS, DTYPES, SIZES)
def test_join_undoes_split(seed, dtype, sizes):
    B, number, size, H = sizes
    x = normal(np.random.default_rng(seed), (B, number * size, H), dtype)
    joined, cache = join_forward(split_forward(x, size)[0])
    np.testing.assert_array_equal(joined, x)
    assert cache == size


@given(SEEDS, SIZES)
def test_backward_is_the_derivative(seed, sizes):
    B, number, size, H = sizes
    rng = np.random.default_rng(seed)
    x, dy = (normal(rng, (B, number * size, H)) for _ in range(2))
    chunks, _ = split_forward(x, size)
    dchunks, _ = split_forward(dy, size)
    dx = split_backward(dchunks, None)
    assert_derivative(
        rng,
        lambda x: np.stack(split_forward(x, size)[0]),
        (x,),
        np.stack(dchunks),
        (dx,),
        (np.abs(dx),),
    )
    gradients = join_backward(dy, join_forward(chunks)[1])
    terms = [np.abs(gradient) for gradient in gradients]
    assert_derivative(rng, lambda *xs: join_forward(list(xs))[0], chunks, dy, gradients, terms)

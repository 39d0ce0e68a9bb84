"""Packed batches: where tokens lie, and putting them back."""

import numpy as np
from functions_support import DTYPES, SEEDS, assert_derivative, normal
from hypothesis import given
from hypothesis import strategies as st

from albert_np.functions.dropout import Dropout, keep_mask
from albert_np.functions.packing import packed_batch, unpack_backward, unpack_forward

SIZES = st.tuples(st.integers(1, 4), st.integers(1, 6))  # B, S


def random_mask(rng, shape):
    """A mask with holes anywhere, some of whose rows may be empty."""
    return rng.random(shape) < rng.random()


@given(SEEDS, SIZES)
def test_tokens_lie_sequence_by_sequence_in_order(seed, shape):
    mask = random_mask(np.random.default_rng(seed), shape)
    packed = packed_batch(mask)
    assert packed.shape == shape
    assert packed.offsets[0] == 0 and packed.offsets[-1] == len(packed.columns)
    for b, row in enumerate(mask):
        here = slice(packed.offsets[b], packed.offsets[b + 1])
        columns = row.nonzero()[0] if row.any() else np.arange(shape[1])
        np.testing.assert_array_equal(packed.columns[here], columns)
        assert (packed.sequences[here] == b).all()
    np.testing.assert_array_equal(packed.real, mask | ~mask.any(axis=1, keepdims=True))


@given(SEEDS, DTYPES, SIZES, st.sampled_from([(), (3,), (2, 3)]))
def test_unpacking_undoes_packing(seed, dtype, shape, rest):
    rng = np.random.default_rng(seed)
    packed = packed_batch(random_mask(rng, shape))
    x = normal(rng, (*shape, *rest), dtype)
    y, cache = unpack_forward(x[packed.places], packed, fill=-7)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y[packed.real], x[packed.real])
    assert (y[~packed.real] == -7).all()
    np.testing.assert_array_equal(unpack_backward(x, cache), x[packed.places])


@given(SEEDS, SIZES)
def test_backward_is_the_derivative(seed, shape):
    rng = np.random.default_rng(seed)
    packed = packed_batch(random_mask(rng, shape))
    x = normal(rng, (len(packed.columns), 2))
    dy = normal(rng, (*shape, 2))
    dx = unpack_backward(dy, packed)
    assert_derivative(rng, lambda x: unpack_forward(x, packed)[0], (x,), dy, (dx,), (np.abs(dx),))


@given(SEEDS, SIZES, st.integers(1, 9))
def test_a_token_meets_the_same_dropout_packed_and_padded(seed, shape, columns):
    rng = np.random.default_rng(seed)
    packed = packed_batch(random_mask(rng, shape))
    dropout = Dropout(0.5, seed, int(rng.integers(0, 9)))
    keep = keep_mask((len(packed.columns), columns), dropout._replace(packed=packed))
    np.testing.assert_array_equal(keep, keep_mask((*shape, columns), dropout)[packed.places])

"""The embedding: the product of one-hot rows and the table."""

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
    whole,
)
from hypothesis import given
from hypothesis import strategies as st

from albert_np.functions.embedding import embedding_backward, embedding_forward

ID_DTYPES = st.sampled_from([np.int32, np.int64, np.uint8])
PADDING = st.sampled_from([None, 0])


def draw(seed, dtype, leading, vocabulary, width, id_dtype=np.int64):
    """Ids (which repeat), a table, and a gradient of what is looked up."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, vocabulary, leading).astype(id_dtype)
    ids.flags.writeable = False
    return ids, whole(rng, (vocabulary, width), dtype), whole(rng, (*leading, width), dtype)


def one_hot(ids, weight):
    return (ids[..., None] == np.arange(len(weight))).astype(weight.dtype)


@given(SEEDS, DTYPES, LEADING, WIDTHS, WIDTHS, ID_DTYPES, PADDING)
def test_looks_up_rows(seed, dtype, leading, vocabulary, width, id_dtype, padding_idx):
    ids, weight, _ = draw(seed, dtype, leading, vocabulary, width, id_dtype)
    y, _ = embedding_forward(ids, weight, padding_idx)
    np.testing.assert_array_equal(y, one_hot(ids, weight) @ weight)
    assert y.dtype == dtype


@given(SEEDS, DTYPES, LEADING, WIDTHS, WIDTHS, ID_DTYPES, PADDING)
def test_backward_scatters(seed, dtype, leading, vocabulary, width, id_dtype, padding_idx):
    ids, weight, dy = draw(seed, dtype, leading, vocabulary, width, id_dtype)
    expected = sum(np.outer(one_hot(ids, weight)[i], dy[i]) for i in np.ndindex(leading))
    if padding_idx is not None:
        expected[padding_idx] = 0

    _, cache = embedding_forward(ids, weight, padding_idx)
    dweight = embedding_backward(dy, cache)
    np.testing.assert_array_equal(dweight, expected)
    assert_like((dweight,), (weight,))

    slot = np.full_like(weight, 3)
    assert embedding_backward(dy, cache, into=(slot,)) is slot
    np.testing.assert_array_equal(slot, expected + 3)


@given(SEEDS, LEADING, WIDTHS, WIDTHS)
def test_backward_is_the_derivative(seed, leading, vocabulary, width):
    rng = np.random.default_rng(seed)
    ids, weight, dy = draw(seed, np.float64, leading, vocabulary, width)
    _, cache = embedding_forward(ids, weight)
    assert_derivative(
        rng,
        lambda weight: embedding_forward(ids, weight)[0],
        (weight,),
        dy,
        (embedding_backward(dy, cache),),
        (embedding_backward(np.abs(dy), cache),),
    )


@given(SEEDS)
def test_float32_agrees_with_float64(seed):
    """A row that is looked up R times is a sum of R terms, rounded at most R times."""
    rng = np.random.default_rng(seed)
    ids = np.zeros(100, int)
    weight, dy = normal(rng, (1, 5), np.float32), normal(rng, (100, 5), np.float32)
    (wide,) = in_float64(dy)
    dweight = embedding_backward(dy, embedding_forward(ids, weight)[1])
    terms = np.abs(wide).sum(axis=0, keepdims=True)
    assert_within(dweight, wide.sum(axis=0, keepdims=True), 100 / 2, terms)

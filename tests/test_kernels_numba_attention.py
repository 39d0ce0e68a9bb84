"""Attention in blocks, against the reference in float64: closed forms, block bounds, packing."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from functions_support import DTYPES, SEEDS, assert_like, assert_within, normal, softmax_terms
from hypothesis import given
from hypothesis import strategies as st

from albert_np.functions import attention as reference
from albert_np.functions.dropout import Dropout, dropout_backward
from albert_np.functions.packing import PackedBatch

numba = pytest.importorskip("numba")
from albert_np.kernels.numba.attention import (  # noqa: E402
    BLOCK,
    attention_backward,
    attention_forward,
)

SIZES = st.tuples(*[st.integers(1, high) for high in (3, 3, 40, 20)])  # B, A, S, D
MASKS = st.sampled_from(["none", "some", "some rows all"])
DROPOUTS = st.sampled_from([None, Dropout(0.3, 2**63 + 7, 5), Dropout(1.0, 7, 5)])


def draw_mask(rng, B, S, kind):
    """No mask; one that masks some keys of each sequence; or also one that masks all of some."""
    if kind == "none":
        return None
    mask = rng.random((B, S)) < 0.6
    mask[np.arange(B), rng.integers(0, S, B)] = True
    if kind == "some rows all":
        mask[rng.random(B) < 0.5] = False
    return mask


def expected(query_key_value, dcontext, A, mask=None, dropout=None):
    """Context and gradient in float64, the absolute terms of both, and the roundings of a term.

    A score of D products rounds D + 2 times, and moves a probability by as much relative to
    itself, twice: its own score, and the sum's. exp is good to 1 unit, twice, and once more where
    a later block rescales; the log-sum-exp is rounded by its own size, at most that of the scores
    and log S. Products over keys, and sums of exponentials, are S terms long; backward has two
    products of D or S terms after another.
    """
    query_key_value, dcontext = query_key_value.astype(np.float64), dcontext.astype(np.float64)
    context, cache = reference.attention_forward(query_key_value, A, mask, dropout)
    gradient = reference.attention_backward(dcontext, cache)

    heads, _ = reference.split_heads_forward(np.abs(query_key_value), A)
    probabilities, D, S = cache.attend.softmax, heads.query.shape[-1], heads.query.shape[-2]
    dropped = probabilities if dropout is None else dropout_backward(probabilities, dropout)
    terms, _ = reference.merge_heads_forward(dropped @ heads.value)
    dmerged = reference.merge_heads_backward(np.abs(dcontext), A)
    dweights = dmerged @ heads.value.swapaxes(-1, -2)
    if dropout is not None:
        dweights = dropout_backward(dweights, dropout)
    dscores = softmax_terms(dweights, probabilities)
    gradient_terms = reference.split_heads_backward(
        reference.Heads(
            *reference.attention_scores_backward(
                dscores, reference.ScoresCache(heads.query, heads.key)
            ),
            dropped.swapaxes(-1, -2) @ dmerged,
        ),
        None,
    )
    sizes = reference.attention_scores_forward(heads.query, heads.key)[0]
    units = 2 * (D + 3) * sizes.max() + 2 * S + 2 * math.log(S) + 8
    return context, gradient, terms, gradient_terms, units, units + 2 * D + 2 * S + 8


def assert_equals_the_reference(query_key_value, dcontext, A, mask=None, dropout=None):
    context, cache = attention_forward(query_key_value, A, mask, dropout)
    gradient = attention_backward(dcontext, cache)
    assert_like((context, gradient), (dcontext, query_key_value))
    context64, gradient64, terms, gradient_terms, units, gradient_units = expected(
        query_key_value, dcontext, A, mask, dropout
    )
    assert_within(context, context64, units, terms)
    assert_within(gradient, gradient64, gradient_units, gradient_terms)


def draw_inputs(seed, dtype, sizes, scale=1.0):
    """query_key_value and the gradient of the context."""
    B, A, S, D = sizes
    rng = np.random.default_rng(seed)
    return normal(rng, (B, S, 3 * A * D), dtype, scale), normal(rng, (B, S, A * D), dtype), rng


@given(SEEDS, DTYPES, SIZES, MASKS, DROPOUTS)
def test_equals_the_reference(seed, dtype, sizes, kind, dropout):
    B, A, S, D = sizes
    query_key_value, dcontext, rng = draw_inputs(seed, dtype, sizes)
    mask = draw_mask(rng, B, S, kind)
    assert_equals_the_reference(query_key_value, dcontext, A, mask, dropout)


@pytest.mark.parametrize("S", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 1, 512])
@pytest.mark.parametrize("kind", ["none", "some rows all"])
@pytest.mark.parametrize("dropout", [None, Dropout(0.1, 3, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lengths_around_a_block(S, kind, dropout, dtype):
    query_key_value, dcontext, rng = draw_inputs(S, dtype, (3, 2, S, 20))
    mask = draw_mask(rng, 3, S, kind)
    assert_equals_the_reference(query_key_value, dcontext, 2, mask, dropout)


@pytest.mark.parametrize("D", [1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 64, 80, 128])
def test_head_sizes(D):
    query_key_value, dcontext, _ = draw_inputs(D, np.float32, (1, 2, 19, D))
    assert_equals_the_reference(query_key_value, dcontext, 2)


@pytest.mark.parametrize("first", [0, BLOCK - 1, BLOCK, 2 * BLOCK])
def test_keys_masked_up_to_and_from_a_block_bound(first):
    """The first blocks, or the last, hold no key that is attended to."""
    S = 2 * BLOCK + 7
    query_key_value, dcontext, _ = draw_inputs(first, np.float32, (2, 1, S, 8))
    mask = np.arange(S) >= first
    mask = np.stack([mask, ~mask])  # of the second sequence of the first case, all are masked
    assert_equals_the_reference(query_key_value, dcontext, 1, mask)


@given(SEEDS, DTYPES, st.integers(1, 300), st.data())
def test_one_real_token_in_a_row_of_padding(seed, dtype, S, data):
    """Every query gets that token's value, bit for bit; its key and query get no gradient."""
    query_key_value, dcontext, _ = draw_inputs(seed, dtype, (1, 2, S, 8))
    mask = np.arange(S)[None] == data.draw(st.integers(0, S - 1))
    context, cache = attention_forward(query_key_value, 2, mask)
    np.testing.assert_array_equal(context, query_key_value[:, mask[0], 32:].repeat(S, axis=1))
    gradient = attention_backward(dcontext, cache)
    assert np.all(gradient[:, ~mask[0], 16:] == 0)


@given(SEEDS, DTYPES, SIZES, st.sampled_from([1e2, 1e4]))
def test_extreme_scores(seed, dtype, sizes, size):
    """Scores of ±size in every row, with and without keys that hide the largest of them."""
    B, A, S, D = sizes
    query_key_value, dcontext, rng = draw_inputs(seed, dtype, sizes)
    heads = query_key_value.reshape(B, S, 3, A, D).copy()
    heads[:, :, :2] = np.sqrt(size) * rng.choice([-1, 1], (B, S, 2, A, 1)) / D**0.25
    extreme = heads.reshape(B, S, -1)
    for kind in "none", "some":
        mask = draw_mask(rng, B, S, kind)
        context, cache = attention_forward(extreme, A, mask)
        assert np.all(np.isfinite(context))
        assert np.all(np.isfinite(attention_backward(dcontext, cache)))
        assert_equals_the_reference(extreme, dcontext, A, mask)


@pytest.mark.parametrize("step", [-1e4, 1e4])
def test_scores_that_rise_or_fall_from_block_to_block(step):
    """The running maximum moves by 10⁴ with every block, or never again."""
    S = 3 * BLOCK
    query_key_value, dcontext, _ = draw_inputs(1, np.float64, (1, 1, S, 4))
    query_key_value = query_key_value.copy()
    query_key_value[..., :4] = [1, 0, 0, 0]
    query_key_value[0, :, 4] = step * (np.arange(S) // BLOCK)
    assert_equals_the_reference(query_key_value, dcontext, 1)


@given(SEEDS, DTYPES, SIZES)
def test_equal_scores_give_the_mean_of_the_values(seed, dtype, sizes):
    """Of all, or of those not masked: S roundings of each sum, and four more."""
    B, A, S, D = sizes
    query_key_value, _, rng = draw_inputs(seed, dtype, sizes)
    query_key_value = query_key_value.copy()
    query_key_value[..., : A * D] = 0
    value = query_key_value[..., 2 * A * D :].astype(np.float64)
    for kind in "none", "some", "some rows all":
        mask = draw_mask(rng, B, S, kind)
        weights = np.ones((B, S)) if mask is None else np.where(mask.any(1)[:, None], mask, 1)
        weights = (weights / weights.sum(axis=1, keepdims=True))[..., None]
        context, _ = attention_forward(query_key_value, A, mask)
        mean, terms = ((weights * v).sum(1, keepdims=True) for v in (value, np.abs(value)))
        assert_within(context, np.broadcast_to(mean, context.shape), 2 * S + 4, terms)


@given(SEEDS, DTYPES, SIZES)
def test_the_order_of_keys_does_not_matter(seed, dtype, sizes):
    B, A, S, D = sizes
    query_key_value, dcontext, rng = draw_inputs(seed, dtype, sizes)
    mask, order = draw_mask(rng, B, S, "some"), rng.permutation(S)
    moved = query_key_value.copy()
    moved[..., A * D :] = query_key_value[:, order, A * D :]
    context, _ = attention_forward(moved, A, mask[:, order])
    context64, _, terms, _, units, _ = expected(query_key_value, dcontext, A, mask)
    assert_within(context, context64, units, terms)


@given(SEEDS, DTYPES, SIZES, st.sampled_from([1.0, 1e3, 1e12]))
def test_cannot_see_masked_keys(seed, dtype, sizes, scale):
    """Not a bit of what masked keys and values hold, and none of the gradient goes to them."""
    B, A, S, D = sizes
    query_key_value, dcontext, rng = draw_inputs(seed, dtype, sizes)
    mask = draw_mask(rng, B, S, "some")
    other = query_key_value.copy()
    other[~mask, A * D :] = normal(rng, other[~mask, A * D :].shape, dtype, scale)
    context, cache = attention_forward(query_key_value, A, mask)
    np.testing.assert_array_equal(attention_forward(other, A, mask)[0], context)
    assert np.all(attention_backward(dcontext, cache)[~mask, A * D :] == 0)


@given(SEEDS, DTYPES, SIZES, DROPOUTS, st.sampled_from([1, BLOCK]))
def test_packed_equals_padded_on_real_tokens(seed, dtype, sizes, dropout, factor):
    """Wherever padding lies; with the dropout of the padded places; a sequence may be empty."""
    B, A, S, D = sizes
    S = min(S * factor, 2 * BLOCK + 3)
    query_key_value, dcontext, rng = draw_inputs(seed, dtype, (B, A, S, D))
    real = rng.random((B, S)) < rng.choice([0.1, 0.5, 1.0], (B, 1))
    dcontext = dcontext * real[..., None]  # no gradient comes from padding
    sequences, columns = np.nonzero(real)
    offsets = np.concatenate([[0], np.cumsum(real.sum(axis=1))])
    packed = PackedBatch(offsets, sequences, columns, (B, S))
    context, cache = attention_forward(query_key_value[real], A, None, dropout, packed)
    gradient = attention_backward(dcontext[real], cache)
    assert_like((context, gradient), (dcontext[real], query_key_value[real]))
    context64, gradient64, terms, gradient_terms, units, gradient_units = expected(
        query_key_value, dcontext, A, real, dropout
    )
    assert_within(context, context64[real], units, terms[real])
    assert_within(gradient, gradient64[real], gradient_units, gradient_terms[real])


@given(SEEDS, DTYPES, MASKS)
def test_a_packed_batch_has_masks(seed, dtype, kind):
    """Sequences of 5 and 9 tokens, and what each gives alone: bit for bit."""
    query_key_value, dcontext, rng = draw_inputs(seed, dtype, (1, 2, 14, 4))
    mask = draw_mask(rng, 1, 14, kind)
    offsets = np.array([0, 5, 14])
    packed = PackedBatch(offsets, np.r_[[0] * 5, [1] * 9], np.r_[:5, :9], (2, 9))
    tokens = query_key_value[0], 2, None if mask is None else mask[0], None, packed
    context, cache = attention_forward(*tokens)
    gradient = attention_backward(dcontext[0], cache)
    for part in slice(0, 5), slice(5, 14):
        alone, cache = attention_forward(
            query_key_value[:, part], 2, None if mask is None else mask[:, part]
        )
        np.testing.assert_array_equal(context[part], alone[0])
        dalone = attention_backward(dcontext[:, part], cache)
        np.testing.assert_array_equal(gradient[part], dalone[0])


@pytest.fixture
def several_blocks():
    """A call that has work for every thread."""
    query_key_value, dcontext, rng = draw_inputs(0, np.float32, (3, 4, BLOCK + 5, 16))
    mask = draw_mask(rng, 3, BLOCK + 5, "some rows all")

    def call(seed=1):
        context, cache = attention_forward(query_key_value, 4, mask, Dropout(0.1, seed, 2))
        return context, attention_backward(dcontext, cache)

    return call


def test_two_threads_at_once_get_what_they_get_alone(several_blocks):
    alone = [several_blocks(seed) for seed in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            for got, expected in zip(pool.map(several_blocks, (1, 2)), alone, strict=True):
                for left, right in zip(got, expected, strict=True):
                    np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("threads", [1, numba.config.NUMBA_NUM_THREADS])
def test_the_same_bits_every_time_with_any_number_of_threads(several_blocks, threads):
    first = several_blocks()
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        for left, right in zip(several_blocks(), first, strict=True):
            np.testing.assert_array_equal(left, right)
    finally:
        numba.set_num_threads(before)


@pytest.mark.parametrize("shape", [(0, 3, 6), (2, 0, 6)])
def test_no_tokens(shape):
    context, cache = attention_forward(np.ones(shape), 1)
    assert context.shape == (*shape[:2], 2)
    assert attention_backward(context, cache).shape == shape


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.ones((1, 2, 6), np.float16), 1), TypeError, "query_key_value is float16"),
        ((np.ones((1, 2, 6)), 4), ValueError, r"shape \(1, 2, 6\); .* = 12"),
        ((np.ones((2, 6)), 1), ValueError, "expected 3 axes"),
        ((np.ones((1, 2, 6)), 1, np.ones((1, 2))), TypeError, "attention_mask is float64"),
        ((np.ones((1, 2, 6)), 1, np.ones((1, 1, 2, 2), bool)), ValueError, r"\(1, 1, 2, 2\)"),
        (
            (np.ones((2, 6)), 1, None, None, PackedBatch(np.array([0, 3]), None, None, (1, 3))),
            ValueError,
            "2 rows; packed.offsets ends at 3",
        ),
    ],
)
def test_refuses_what_does_not_fit(arguments, error, message):
    with pytest.raises(error, match=message):
        attention_forward(*arguments)

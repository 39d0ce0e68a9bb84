"""Attention: a weighted mean of values, blind to masked keys and to the order of the others."""

import math

import numpy as np
import pytest
from functions_support import (
    DTYPES,
    SEEDS,
    assert_derivative,
    assert_like,
    assert_within,
    normal,
    recorder,
    softmax_terms,
    whole,
)
from hypothesis import given
from hypothesis import strategies as st

from albert_np.functions.attention import (
    ContextCache,
    Heads,
    ScoresCache,
    attention_backward,
    attention_context_backward,
    attention_context_forward,
    attention_forward,
    attention_scores_backward,
    attention_scores_forward,
    mask_heads_backward,
    mask_heads_forward,
    mask_scores_backward,
    mask_scores_forward,
    merge_heads_backward,
    merge_heads_forward,
    split_heads_backward,
    split_heads_forward,
)
from albert_np.functions.dropout import Dropout, dropout_backward

SIZES = st.tuples(*[st.integers(1, high) for high in (3, 3, 5, 4)])  # B, A, S, D


def draw_mask(rng, B, S):
    """Some keys masked, but in no sequence all."""
    mask = rng.random((B, S)) < 0.6
    mask[np.arange(B), rng.integers(0, S, B)] = True
    mask.flags.writeable = False
    return mask


def heads_of(query_key_value, A):
    """Query, key and value in float64, cut out column by column: (B, A, S, D) each."""
    D = query_key_value.shape[-1] // (3 * A)
    columns = [slice(i * D, (i + 1) * D) for i in range(3 * A)]
    heads = [query_key_value[..., column].astype(np.float64) for column in columns]
    return [np.stack(heads[i * A : (i + 1) * A], axis=1) for i in range(3)]


def closed_form(query_key_value, A, mask):
    """Scores, probabilities and context (B, A, S, D), in float64, as the formula has them."""
    query, key, value = heads_of(query_key_value, A)
    scores = np.einsum("baid,bajd->baij", query, key) / math.sqrt(query.shape[-1])
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True)) * mask[:, None, None, :]
    probabilities = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return scores, probabilities, np.einsum("baij,bajd->baid", probabilities, value)


def bound_of(query_key_value, A, mask):
    """Units and terms of the context, (B, A, S, D).

    A score of D products rounds D + 2 times; that moves a probability by as much relative to
    itself, twice (its own score and the sum's). exp is good to 4 units; S terms are summed twice.
    """
    query, key, value = heads_of(query_key_value, A)
    D, S = query.shape[-1], query.shape[-2]
    sizes = np.einsum("baid,bajd->baij", np.abs(query), np.abs(key)) / math.sqrt(D)
    _, probabilities, _ = closed_form(query_key_value, A, mask)
    terms = np.einsum("baij,bajd->baid", probabilities, np.abs(value))
    return 2 * (D + 2) * sizes.max() + 8 + 2 * S, terms


def by_heads(context, A):
    """(B, S, H) as (B, A, S, D)."""
    return np.stack(np.split(context, A, axis=-1), axis=1)


def gradient_terms(
    dcontext, query_key_value, A, mask, dprobabilities=0, dropout=None, head_mask=None
):
    """Absolute terms of the gradient of query_key_value: the chain of the steps' absolute terms."""
    query, key, value = (np.abs(head) for head in heads_of(query_key_value, A))
    _, probabilities, _ = closed_form(query_key_value, A, mask)
    dmerged = np.abs(by_heads(dcontext, A))
    dweights, _ = attention_context_backward(dmerged, ContextCache(probabilities, value))
    dweights = dweights + np.abs(dprobabilities)
    dropped = probabilities
    if head_mask is not None:
        dweights = dweights * head_mask[:, None, None]
        dropped = dropped * head_mask[:, None, None]
    if dropout is not None:
        dweights = dropout_backward(dweights, dropout)
        dropped = dropout_backward(dropped, dropout)
    _, dvalue = attention_context_backward(dmerged, ContextCache(dropped, value))
    dscores = softmax_terms(dweights, probabilities)
    dquery, dkey = attention_scores_backward(dscores, ScoresCache(query, key))
    return split_heads_backward(Heads(dquery, dkey, dvalue), None)


@given(SEEDS, DTYPES, SIZES, st.sampled_from([0.1, 1.0, 3.0]))
def test_equals_the_closed_form(seed, dtype, sizes, scale):
    B, A, S, D = sizes
    rng = np.random.default_rng(seed)
    query_key_value, mask = normal(rng, (B, S, 3 * A * D), dtype, scale), draw_mask(rng, B, S)
    context, cache = attention_forward(query_key_value, A, mask)
    assert context.shape == (B, S, A * D) and context.dtype == dtype
    _, probabilities, expected = closed_form(query_key_value, A, mask)
    units, terms = bound_of(query_key_value, A, mask)
    assert_within(by_heads(context, A), expected, units, terms)
    assert_within(cache.probabilities, probabilities, units, probabilities)


@given(SEEDS, DTYPES, SIZES)
def test_equal_scores_give_the_mean_of_the_values(seed, dtype, sizes):
    """Of those whose keys are not masked, and of all where all keys are: S + 3 roundings."""
    B, A, S, D = sizes
    H = A * D
    rng = np.random.default_rng(seed)
    query_key_value = np.array(normal(rng, (B, S, 3 * H), dtype))
    query_key_value[..., :H] = 0
    mask = draw_mask(rng, B, S)
    value = query_key_value[..., 2 * H :].astype(np.float64)
    everything = np.ones((B, S))
    for chosen, weights in [(None, everything), (mask, mask), (np.zeros_like(mask), everything)]:
        context, _ = attention_forward(query_key_value, A, chosen)
        share = weights / weights.sum(axis=-1, keepdims=True)
        mean = np.broadcast_to(np.einsum("bs,bsh->bh", share, value)[:, None], (B, S, H))
        terms = np.broadcast_to(np.einsum("bs,bsh->bh", share, np.abs(value))[:, None], (B, S, H))
        assert_within(context, mean, S + 3, terms)


@given(SEEDS, DTYPES, SIZES, st.sampled_from([1.0, 100.0, 1e14]))
def test_fully_masked_rows_give_the_mean_of_all_values(seed, dtype, sizes, scale):
    """Whatever the scores: the lowest number swallows any below 10³¹."""
    B, A, S, D = sizes
    rng = np.random.default_rng(seed)
    query_key_value = normal(rng, (B, S, 3 * A * D), dtype, scale)
    context, cache = attention_forward(query_key_value, A, np.zeros((B, S), bool))
    value = query_key_value[..., 2 * A * D :].astype(np.float64)
    mean = np.broadcast_to(value.mean(axis=1, keepdims=True), value.shape)
    assert_within(context, mean, S + 3, np.abs(value).mean(axis=1, keepdims=True))
    assert np.all(cache.probabilities == 1 / dtype(S))


@given(SEEDS, DTYPES, SIZES, st.booleans())
def test_each_query_may_have_a_mask_of_its_own(seed, dtype, sizes, by_head):
    """A query sees what it would see if its row masked the whole sequence: bit for bit."""
    B, A, S, D = sizes
    rng = np.random.default_rng(seed)
    query_key_value = normal(rng, (B, S, 3 * A * D), dtype)
    mask = rng.random((B, A if by_head else 1, S, S)) < 0.6
    context, _ = attention_forward(query_key_value, A, mask)
    for a in range(A):
        for i in range(S):
            row = mask[:, a if by_head else 0, i]
            expected, _ = attention_forward(query_key_value, A, row)
            head = slice(a * D, (a + 1) * D)
            np.testing.assert_array_equal(context[:, i, head], expected[:, i, head])


@given(SEEDS, DTYPES, SIZES)
def test_head_mask_multiplies_the_heads(seed, dtype, sizes):
    """1 leaves a head bit for bit, 0 silences it; and the rest of each is its share."""
    B, A, S, D = sizes
    rng = np.random.default_rng(seed)
    query_key_value, mask = normal(rng, (B, S, 3 * A * D), dtype), draw_mask(rng, B, S)
    dropout = Dropout(0.3, 7, 2)
    plain, _ = attention_forward(query_key_value, A, mask, dropout)
    head_mask = rng.choice([0, 0.25, 1], A).astype(dtype)
    context, cache = attention_forward(query_key_value, A, mask, dropout, head_mask)
    # A quarter is a power of two, so that nothing is rounded.
    np.testing.assert_array_equal(context, plain * np.repeat(head_mask, D))
    assert not cache.probabilities[:, head_mask == 0].any()


@given(SEEDS, DTYPES, SIZES)
def test_moves_with_a_permutation_of_keys_and_values(seed, dtype, sizes):
    """The context stays; and where the queries move along, it moves as they do."""
    B, A, S, D = sizes
    H = A * D
    rng = np.random.default_rng(seed)
    query_key_value, mask = normal(rng, (B, S, 3 * H), dtype), draw_mask(rng, B, S)
    order = rng.permutation(S)
    moved = np.array(query_key_value)
    moved[..., H:] = query_key_value[:, order, H:]
    units, terms = bound_of(query_key_value, A, mask)

    expected = by_heads(attention_forward(query_key_value, A, mask)[0], A)
    context, cache = attention_forward(moved, A, mask[:, order])
    assert_within(by_heads(context, A), expected.astype(np.float64), 2 * units, terms)
    context, _ = attention_forward(query_key_value[:, order], A, mask[:, order])
    assert_within(
        by_heads(context, A),
        expected[:, :, order].astype(np.float64),
        2 * units,
        terms[:, :, order],
    )


@given(SEEDS, DTYPES, SIZES, st.sampled_from([1.0, 1e3, 1e12]))
def test_cannot_see_masked_keys(seed, dtype, sizes, scale):
    """Not a bit of what masked keys and values hold, and none of the gradient goes to them."""
    B, A, S, D = sizes
    H = A * D
    rng = np.random.default_rng(seed)
    # The same layout for both: it decides the order in which a matrix product adds up.
    query_key_value = np.array(normal(rng, (B, S, 3 * H), dtype), order="C")
    mask = draw_mask(rng, B, S)
    other = query_key_value.copy()
    other[~mask, H:] = normal(rng, other[~mask, H:].shape, dtype, scale)
    context, cache = attention_forward(query_key_value, A, mask)
    np.testing.assert_array_equal(attention_forward(other, A, mask)[0], context)
    dquery_key_value = attention_backward(normal(rng, context.shape, dtype), cache)
    assert np.all(dquery_key_value[~mask, H:] == 0)


@given(SEEDS, DTYPES, SIZES, st.sampled_from([1e-15, 1.0, 1e3, 1e14]))
def test_stays_within_the_values(seed, dtype, sizes, scale):
    """A mean lies between the least and the greatest, at any scale, and its gradient is finite."""
    B, A, S, D = sizes
    rng = np.random.default_rng(seed)
    query_key_value, mask = normal(rng, (B, S, 3 * A * D), dtype, scale), draw_mask(rng, B, S)
    context, cache = attention_forward(query_key_value, A, mask)
    value = query_key_value[..., 2 * A * D :]
    rounding = (2 * S + 1) * np.finfo(dtype).eps * np.abs(value).max()
    assert np.all(context <= value.max(axis=1, keepdims=True) + rounding)
    assert np.all(context >= value.min(axis=1, keepdims=True) - rounding)
    dquery_key_value = attention_backward(normal(rng, context.shape, dtype), cache)
    assert_like((dquery_key_value,), (query_key_value,))
    assert np.all(np.isfinite(dquery_key_value))


@given(SEEDS, SIZES, st.booleans(), st.sampled_from([None, Dropout(0.3, 7, 2)]), st.booleans())
def test_backward_is_the_derivative(seed, sizes, masked, dropout, weakened):
    """Of the context, and of the probabilities beside it."""
    B, A, S, D = sizes
    rng = np.random.default_rng(seed)
    head_mask = rng.random(A) if weakened else None
    query_key_value = normal(rng, (B, S, 3 * A * D))
    mask = draw_mask(rng, B, S) if masked else np.ones((B, S), bool)
    dcontext, dprobabilities = normal(rng, (B, S, A * D)), normal(rng, (B, A, S, S))

    def both(query_key_value):
        context, cache = attention_forward(
            query_key_value, A, mask if masked else None, dropout, head_mask
        )
        return np.concatenate([context.ravel(), cache.probabilities.ravel()])

    _, cache = attention_forward(query_key_value, A, mask if masked else None, dropout, head_mask)
    for dleft in dprobabilities, None:
        dleft_or_0 = np.zeros_like(dprobabilities) if dleft is None else dleft
        assert_derivative(
            rng,
            both,
            (query_key_value,),
            np.concatenate([dcontext.ravel(), dleft_or_0.ravel()]),
            (attention_backward(dcontext, cache, dleft),),
            (gradient_terms(dcontext, query_key_value, A, mask, dleft_or_0, dropout, head_mask),),
        )


@given(SEEDS, SIZES, st.booleans())
def test_float32_agrees_with_float64(seed, sizes, masked):
    """Backward goes through each probability's error once more, and sums D, S and S terms."""
    B, A, S, D = sizes
    rng = np.random.default_rng(seed)
    query_key_value = normal(rng, (B, S, 3 * A * D), np.float32)
    dcontext = normal(rng, (B, S, A * D), np.float32)
    mask = draw_mask(rng, B, S) if masked else np.ones((B, S), bool)
    context, cache = attention_forward(query_key_value, A, mask)
    wide = query_key_value.astype(np.float64)
    exact, exact_cache = attention_forward(wide, A, mask)
    units, terms = bound_of(wide, A, mask)
    assert_within(by_heads(context, A), by_heads(exact, A), units, terms)
    assert_within(
        attention_backward(dcontext, cache),
        attention_backward(dcontext.astype(np.float64), exact_cache),
        3 * units + D + 2 * S,
        gradient_terms(dcontext.astype(np.float64), wide, A, mask),
    )


@given(SEEDS, DTYPES, SIZES)
def test_heads_are_columns(seed, dtype, sizes):
    """Splitting and merging move numbers and change none, so backward is the way back."""
    B, A, S, D = sizes
    rng = np.random.default_rng(seed)
    query_key_value = normal(rng, (B, S, 3 * A * D), dtype)
    heads, cache = split_heads_forward(query_key_value, A)
    for head, expected in zip(heads, heads_of(query_key_value, A), strict=True):
        np.testing.assert_array_equal(head, expected)
        assert head.dtype == dtype
    np.testing.assert_array_equal(split_heads_backward(heads, cache), query_key_value)

    merged, cache = merge_heads_forward(heads.value)
    np.testing.assert_array_equal(merged, query_key_value[..., 2 * A * D :])
    np.testing.assert_array_equal(merge_heads_backward(merged, cache), heads.value)


@given(SEEDS, DTYPES, SIZES)
def test_scores_and_context_are_products(seed, dtype, sizes):
    """Bit for bit, on whole numbers, with a head size of 4ᵏ, whose root is exact."""
    B, A, S, k = sizes
    D, root = 4**k, 2**k
    rng = np.random.default_rng(seed)
    query, key, value = (whole(rng, (B, A, S, D), dtype) for _ in range(3))
    weights, dcontext = whole(rng, (B, A, S, S), dtype), whole(rng, (B, A, S, D), dtype)

    scores, cache = attention_scores_forward(query, key)
    np.testing.assert_array_equal(scores, np.einsum("baid,bajd->baij", query, key) / root)
    dquery, dkey = attention_scores_backward(weights, cache)
    np.testing.assert_array_equal(dquery, np.einsum("baij,bajd->baid", weights, key) / root)
    np.testing.assert_array_equal(dkey, np.einsum("baij,baid->bajd", weights, query) / root)

    context, cache = attention_context_forward(weights, value)
    np.testing.assert_array_equal(context, np.einsum("baij,bajd->baid", weights, value))
    dweights, dvalue = attention_context_backward(dcontext, cache)
    np.testing.assert_array_equal(dweights, np.einsum("baid,bajd->baij", dcontext, value))
    np.testing.assert_array_equal(dvalue, np.einsum("baij,baid->bajd", weights, dcontext))
    assert_like(
        (scores, context, dquery, dkey, dweights, dvalue), (weights, *[query] * 3, weights, value)
    )


@given(SEEDS, SIZES)
def test_backward_of_each_step_is_the_derivative(seed, sizes):
    B, A, S, D = sizes
    rng = np.random.default_rng(seed)
    query, key, dcontext = (normal(rng, (B, A, S, D)) for _ in range(3))
    weights, dscores = (normal(rng, (B, A, S, S)) for _ in range(2))
    mask = draw_mask(rng, B, S)
    scores_pair = (attention_scores_forward, attention_scores_backward, ScoresCache)
    context_pair = (attention_context_forward, attention_context_backward, ContextCache)
    for (forward, backward, cache), inputs, dy in [
        (scores_pair, (query, key), dscores),
        (context_pair, (weights, key), dcontext),
    ]:
        assert_derivative(
            rng,
            lambda *moved, forward=forward: forward(*moved)[0],
            inputs,
            dy,
            backward(dy, cache(*inputs)),
            backward(np.abs(dy), cache(*map(np.abs, inputs))),
        )
    dmasked = mask_scores_backward(dscores, None)
    assert_derivative(
        rng,
        lambda scores: mask_scores_forward(scores, mask)[0],
        (weights,),
        dscores,
        (dmasked,),
        (np.abs(dmasked),),
    )


@given(SEEDS, SIZES)
def test_backward_of_the_head_mask_is_the_derivative(seed, sizes):
    B, A, S, _ = sizes
    rng = np.random.default_rng(seed)
    inputs, dy = (normal(rng, (B, A, S, S)), normal(rng, (A,))), normal(rng, (B, A, S, S))
    _, cache = mask_heads_forward(*inputs)
    _, absolute = mask_heads_forward(*map(np.abs, inputs))
    assert_derivative(
        rng,
        lambda *moved: mask_heads_forward(*moved)[0],
        inputs,
        dy,
        mask_heads_backward(dy, cache),
        mask_heads_backward(np.abs(dy), absolute),
    )


@given(SEEDS, DTYPES, SIZES, st.sampled_from([1e-30, 1.0, 1e30]))
def test_mask_replaces_the_scores_of_masked_keys(seed, dtype, sizes, scale):
    B, A, S, _ = sizes
    rng = np.random.default_rng(seed)
    scores, mask = normal(rng, (B, A, S, S), dtype, scale), draw_mask(rng, B, S)
    masked, _ = mask_scores_forward(scores, mask)
    np.testing.assert_array_equal(
        masked, np.where(mask[:, None, None, :], scores, np.finfo(dtype).min)
    )
    assert masked.dtype == dtype


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dropout", [None, Dropout(0.5, 1, 2)])
@pytest.mark.parametrize("head_mask", [None, np.ones(1)])
def test_call_is_given_every_step(masked, dropout, head_mask):
    optional = (
        ["mask"] * masked,
        ["dropout"] * (dropout is not None) + ["mask_heads"] * (head_mask is not None),
    )
    names = []
    query_key_value, mask = np.ones((1, 2, 6)), np.ones((1, 2), bool) if masked else None
    context, cache = attention_forward(
        query_key_value, 1, mask, dropout, head_mask, call=recorder(names)
    )
    assert names == [
        *["split_heads", "scores", *optional[0], "softmax", *optional[1], "context", "merge_heads"]
    ]
    backward_names = []
    attention_backward(context, cache, call=recorder(backward_names))
    assert backward_names == names[::-1]

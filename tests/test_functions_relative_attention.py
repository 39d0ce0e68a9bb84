"""Relative attention: attention, and scores that depend on the distance from query to key alone."""

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

from albert_np.functions.attention import attention_backward, attention_forward
from albert_np.functions.dropout import Dropout, dropout_backward
from albert_np.functions.relative_attention import (
    DistanceScoresCache,
    distance_ids,
    key_distance_scores_backward,
    key_distance_scores_forward,
    query_distance_scores_backward,
    query_distance_scores_forward,
    relative_attention_backward,
    relative_attention_forward,
)

SIZES = st.tuples(*[st.integers(1, high) for high in (3, 3, 5, 4)])  # B, A, S, D
PAIRS = {
    "query": (query_distance_scores_forward, query_distance_scores_backward),
    "key": (key_distance_scores_forward, key_distance_scores_backward),
}


def draw(rng, sizes, longer=0, dtype=np.float64):
    """Query, key and value side by side; and an embedding of the distances of S + longer places."""
    B, A, S, D = sizes
    query_key_value = normal(rng, (B, S, 3 * A * D), dtype)
    return query_key_value, normal(rng, (2 * (S + longer) - 1, D), dtype)


def closed_form(query_key_value, A, embedding, keys_too, mask, head_mask):
    """Scores' sums of absolute terms, probabilities and context, one query and key at a time."""
    B, S, width = query_key_value.shape
    D = width // (3 * A)
    q, k, v = query_key_value.astype(np.float64).reshape(B, S, 3, A, D).transpose(2, 0, 3, 1, 4)
    middle = len(embedding) // 2  # distance 0
    scores, sizes = np.zeros((B, A, S, S)), np.zeros((B, A, S, S))
    for i in range(S):
        for j in range(S):
            distance = embedding[middle + i - j].astype(np.float64)
            products = [q[:, :, i] * k[:, :, j] / math.sqrt(D), q[:, :, i] * distance]
            if keys_too:
                products.append(k[:, :, j] * distance)
            scores[:, :, i, j] = sum(product.sum(axis=-1) for product in products)
            sizes[:, :, i, j] = sum(np.abs(product).sum(axis=-1) for product in products)
    scores = np.where(mask[:, None, None, :], scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights *= head_mask[:, None, None] / weights.sum(axis=-1, keepdims=True)
    return sizes, weights, np.einsum("baij,bajd->baid", weights, v)


def draw_mask(rng, B, S):
    """Some keys masked, but in no sequence all."""
    mask = rng.random((B, S)) < 0.6
    mask[np.arange(B), rng.integers(0, S, B)] = True
    return mask


@given(SEEDS, DTYPES, SIZES, st.integers(0, 3), st.booleans())
def test_equals_the_closed_form(seed, dtype, sizes, longer, keys_too):
    """A score of 3D products rounds 3D + 4 times; the rest is as in attention."""
    B, A, S, D = sizes
    rng = np.random.default_rng(seed)
    query_key_value, embedding = draw(rng, sizes, longer, dtype)
    mask, head_mask = draw_mask(rng, B, S), rng.random(A).astype(dtype)
    context, cache = relative_attention_forward(
        query_key_value, A, embedding, keys_too, mask, head_mask=head_mask
    )
    assert context.shape == (B, S, A * D) and context.dtype == dtype
    scores, weights, expected = closed_form(
        query_key_value, A, embedding, keys_too, mask, head_mask.astype(np.float64)
    )
    units = 2 * (3 * D + 4) * scores.max() + 9 + 2 * S
    value = np.abs(query_key_value[..., 2 * A * D :]).reshape(B, S, A, D).transpose(0, 2, 1, 3)
    by_heads = context.reshape(B, S, A, D).transpose(0, 2, 1, 3)
    assert_within(by_heads, expected, units, weights @ value.astype(np.float64))
    assert_within(cache.probabilities, weights, units, weights)


@given(SEEDS, DTYPES, SIZES, st.booleans())
def test_distances_of_zero_leave_attention(seed, dtype, sizes, keys_too):
    B, A, S, D = sizes
    rng = np.random.default_rng(seed)
    query_key_value, embedding = draw(rng, sizes, dtype=dtype)
    mask, dropout = draw_mask(rng, B, S), Dropout(0.3, 5, 2)
    context, cache = relative_attention_forward(
        query_key_value, A, np.zeros_like(embedding), keys_too, mask, dropout
    )
    expected, expected_cache = attention_forward(query_key_value, A, mask, dropout)
    np.testing.assert_array_equal(context, expected)
    dcontext = normal(rng, context.shape, dtype)
    dquery_key_value, _ = relative_attention_backward(dcontext, cache)
    np.testing.assert_array_equal(dquery_key_value, attention_backward(dcontext, expected_cache))


@given(st.integers(1, 8), st.integers(0, 5))
def test_distance_ids_count_the_distances_from_the_least(S, longer):
    M = S + longer
    ids = distance_ids(S, M)
    assert ids.shape == (S, S)
    assert ids[0, S - 1] == M - S and ids[S - 1, 0] == M + S - 2
    for i in range(S):
        for j in range(S):
            assert ids[i, j] == range(1 - M, M).index(i - j)


@pytest.mark.parametrize("side", PAIRS)
@given(seed=SEEDS, dtype=DTYPES, sizes=SIZES)
def test_distance_scores_are_products(side, seed, dtype, sizes):
    """Bit for bit, on whole numbers."""
    B, A, S, D = sizes
    rng = np.random.default_rng(seed)
    x, distances = whole(rng, (B, A, S, D), dtype), whole(rng, (S, S, D), dtype)
    dscores = whole(rng, (B, A, S, S), dtype)
    forward, backward = PAIRS[side]
    scores, cache = forward(x, distances)
    dx, ddistances = backward(dscores, cache)
    assert_like((scores, dx, ddistances), (dscores, x, distances))
    expected_dx, expected_ddistances = np.zeros_like(dx), np.zeros_like(ddistances)
    for i in range(S):
        for j in range(S):
            place = i if side == "query" else j
            ds = dscores[:, :, i, j, None]
            np.testing.assert_array_equal(
                scores[:, :, i, j], (x[:, :, place] * distances[i, j]).sum(axis=-1)
            )
            expected_dx[:, :, place] += ds * distances[i, j]
            expected_ddistances[i, j] = (ds * x[:, :, place]).sum(axis=(0, 1))
    np.testing.assert_array_equal(dx, expected_dx)
    np.testing.assert_array_equal(ddistances, expected_ddistances)


@pytest.mark.parametrize("side", PAIRS)
@given(seed=SEEDS, sizes=SIZES)
def test_backward_of_distance_scores_is_the_derivative(side, seed, sizes):
    B, A, S, D = sizes
    rng = np.random.default_rng(seed)
    inputs = normal(rng, (B, A, S, D)), normal(rng, (S, S, D))
    dscores = normal(rng, (B, A, S, S))
    forward, backward = PAIRS[side]
    absolute = DistanceScoresCache(*map(np.abs, inputs))
    assert_derivative(
        rng,
        lambda *moved: forward(*moved)[0],
        inputs,
        dscores,
        backward(dscores, DistanceScoresCache(*inputs)),
        backward(np.abs(dscores), absolute),
    )


def gradient_terms(dcontext, dprobabilities, cache, A, dropout, head_mask):
    """Absolute terms of the gradients: the chain of the steps' absolute terms."""
    B, S, _ = dcontext.shape
    dmerged = np.abs(dcontext).reshape(B, S, A, -1).transpose(0, 2, 1, 3)
    value = np.abs(cache.attend.context.value)
    dweights = dmerged @ value.swapaxes(-1, -2) + np.abs(dprobabilities)
    dweights = dweights * head_mask[:, None, None]
    if dropout is not None:
        dweights = dropout_backward(dweights, dropout)
    dvalue = cache.probabilities.swapaxes(-1, -2) @ dmerged
    dscores = softmax_terms(dweights, cache.attend.softmax)
    query, key = map(np.abs, cache.scores)
    distances = np.abs(cache.query_distance_scores.distances)
    D = query.shape[-1]
    dquery = dscores @ key / math.sqrt(D) + np.einsum("baij,ijd->baid", dscores, distances)
    dkey = dscores.swapaxes(-1, -2) @ query / math.sqrt(D)
    ddistances = np.einsum("baij,baid->ijd", dscores, query)
    if cache.key_distance_scores is not None:
        dkey += np.einsum("baij,ijd->bajd", dscores, distances)
        ddistances += np.einsum("baij,bajd->ijd", dscores, key)
    ids, weight, _ = cache.distances
    dembedding = np.zeros_like(weight)
    np.add.at(dembedding, ids, ddistances)
    rows = [dhead.transpose(0, 2, 1, 3) for dhead in (dquery, dkey, dvalue)]
    return np.stack(rows, axis=2).reshape(B, S, -1), dembedding


@given(SEEDS, SIZES, st.booleans(), st.sampled_from([None, Dropout(0.3, 7, 2)]))
def test_backward_is_the_derivative(seed, sizes, keys_too, dropout):
    """Of the context, and of the probabilities beside it."""
    B, A, S, D = sizes
    rng = np.random.default_rng(seed)
    inputs = draw(rng, sizes, longer=1)
    mask, head_mask = draw_mask(rng, B, S), rng.random(A)
    dcontext, dprobabilities = normal(rng, (B, S, A * D)), normal(rng, (B, A, S, S))

    def run(query_key_value, embedding):
        return relative_attention_forward(
            query_key_value, A, embedding, keys_too, mask, dropout, head_mask
        )

    def both(*inputs):
        context, cache = run(*inputs)
        return np.concatenate([context.ravel(), cache.probabilities.ravel()])

    _, cache = run(*inputs)
    assert_derivative(
        rng,
        both,
        inputs,
        np.concatenate([dcontext.ravel(), dprobabilities.ravel()]),
        relative_attention_backward(dcontext, cache, dprobabilities),
        gradient_terms(dcontext, dprobabilities, cache, A, dropout, head_mask),
    )


@given(SEEDS, SIZES, st.booleans())
def test_gradient_of_the_distances_is_added_to_its_slot(seed, sizes, keys_too):
    _, A, S, _ = sizes
    rng = np.random.default_rng(seed)
    query_key_value, embedding = draw(rng, sizes)
    context, cache = relative_attention_forward(query_key_value, A, embedding, keys_too)
    dcontext = normal(rng, context.shape)

    def backward(slots):
        return relative_attention_backward(dcontext, cache, into=slots)[1:]

    held = rng.standard_normal(embedding.shape)
    slot = held.copy()
    (returned,) = backward((slot,))
    _, gradient = relative_attention_backward(dcontext, cache)
    assert returned is slot
    # A distance's S terms at most are added to the slot one by one, so in another order.
    _, terms = gradient_terms(dcontext, np.zeros(1), cache, A, None, np.ones(A))
    assert_within(slot, held + gradient, 2 * (S + 1), np.abs(held) + terms)


@pytest.mark.parametrize("keys_too", [False, True])
def test_call_is_given_every_step(keys_too):
    names = []
    context, cache = relative_attention_forward(
        np.ones((1, 2, 6)), 1, np.ones((3, 2)), keys_too, call=recorder(names)
    )
    by_key = ["key_distance_scores", "add_key_distance_scores"] * keys_too
    assert names == [
        *["split_heads", "distance_embedding", "scores", "query_distance_scores"],
        *["add_query_distance_scores", *by_key, "softmax", "context", "merge_heads"],
    ]
    backward_names = []
    relative_attention_backward(context, cache, call=recorder(backward_names))
    assert sorted(backward_names) == sorted(names)

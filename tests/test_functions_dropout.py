"""Dropout: the generator against its published answers, and the mask against the stated layout."""

import numpy as np
import pytest
from functions_support import DTYPES, SEEDS, assert_derivative, assert_like, normal
from hypothesis import given
from hypothesis import strategies as st

from albert_np.functions.dropout import (
    CLASSIFIER_SITE,
    EMBEDDINGS_SITE,
    Dropout,
    attention_output_site,
    attention_probabilities_site,
    dropout_backward,
    dropout_forward,
    keep_mask,
    philox_4x32_10,
)

SHAPES = st.one_of(
    st.tuples(*[st.integers(1, 5)] * 3, st.integers(1, 10)),
    st.tuples(*[st.integers(1, 5)] * 2, st.integers(1, 10)),
    st.tuples(st.integers(1, 5), st.integers(1, 10)),
)
DROPOUTS = st.builds(
    Dropout, st.floats(0, 1), st.integers(0, 2**64 - 1), st.integers(0, 60), st.none()
)
WORD = 0xFFFFFFFF


def philox_one_block(counter, key):
    """Philox 4×32-10 in Python's whole numbers, one block of four words."""
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * counter[0], 2**32)
        high1, low1 = divmod(0xCD9E8D57 * counter[2], 2**32)
        counter = (high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0)
        key = ((key[0] + 0x9E3779B9) & WORD, (key[1] + 0xBB67AE85) & WORD)
    return counter


def words(text):
    return tuple(int(word, 16) for word in text.split())


@pytest.mark.parametrize("philox", [philox_4x32_10, philox_one_block])
@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        (
            "00000000 00000000 00000000 00000000",
            "00000000 00000000",
            "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
        ),
        (
            "ffffffff ffffffff ffffffff ffffffff",
            "ffffffff ffffffff",
            "408f276d 41c83b0e a20bc7c6 6d5451fd",
        ),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_published_answers(philox, counter, key, answer):
    """The known-answer vectors of the authors' library, Random123."""
    assert tuple(int(word) for word in philox(words(counter), words(key))) == words(answer)


@given(SHAPES, DROPOUTS)
def test_each_element_is_kept_by_the_word_of_its_place(shape, dropout):
    """Word column % 4 of the counter (column // 4, row, sequence, site · 2¹⁶ + head)."""
    keep = keep_mask(shape, dropout)
    assert keep.shape == shape and keep.dtype == bool
    for place in np.ndindex(shape):
        sequence, *between, column = place
        head, row = {0: (0, 0), 1: (0, *between), 2: between}[len(between)]
        counter = (column // 4, row, sequence, dropout.site * 2**16 + head)
        key = (dropout.seed % 2**32, dropout.seed // 2**32)
        word = philox_one_block(counter, key)[column % 4]
        assert keep[place] == (word >= int(dropout.probability * 2**32))


@given(SHAPES, DROPOUTS, st.data())
def test_a_smaller_mask_is_the_corner_of_a_larger_one(shape, dropout, data):
    """So the mask does not depend on how far a batch is padded."""
    corner = tuple(data.draw(st.integers(1, size)) for size in shape)
    whole_mask = keep_mask(shape, dropout)
    np.testing.assert_array_equal(
        keep_mask(corner, dropout), whole_mask[tuple(slice(size) for size in corner)]
    )


@given(DROPOUTS, st.floats(0, 1))
def test_a_higher_probability_drops_the_same_and_more(dropout, other):
    shape = (2, 3, 4, 9)
    lower, higher = sorted([dropout.probability, other])
    kept = [keep_mask(shape, dropout._replace(probability=p)) for p in (lower, higher)]
    assert np.all(kept[0] | ~kept[1])


def assert_binomial(count, trials, probability):
    """Within six standard deviations: a right one fails here twice in 10⁹ draws."""
    deviation = np.sqrt(trials * probability * (1 - probability))
    assert abs(count - trials * probability) <= 6 * deviation


@given(st.floats(0.05, 0.95), st.integers(0, 2**64 - 1), st.integers(0, 60))
def test_rate_of_keeping(probability, seed, site):
    keep = keep_mask((4, 4, 16, 64), Dropout(probability, seed, site))
    assert_binomial(keep.sum(), keep.size, 1 - probability)


@given(st.integers(0, 2**64 - 1), st.integers(0, 20))
def test_places_seeds_and_sites_are_independent(seed, repetition):
    """Two masks of a half agree in half of their elements, whatever tells them apart."""
    site = attention_probabilities_site(repetition)
    dropout = Dropout(0.5, seed, site)
    mask = keep_mask((2, 2, 32, 32), dropout)
    others = [mask[1, 0], mask[0, 1], mask[0, 0].T, ~mask[0, 0, ::-1]]
    others += [
        keep_mask((1, 1, 32, 32), dropout._replace(site=other))[0, 0]
        for other in (EMBEDDINGS_SITE, CLASSIFIER_SITE, attention_output_site(repetition), site + 2)
    ]
    others += [
        keep_mask((1, 1, 32, 32), dropout._replace(seed=other))[0, 0]
        for other in (seed ^ 1, seed ^ 2**32, seed ^ 2**63)
    ]
    for other in others:
        assert_binomial(np.sum(mask[0, 0] == other), other.size, 0.5)


def test_every_site_is_its_own():
    sites = [EMBEDDINGS_SITE, CLASSIFIER_SITE]
    for repetition in range(12):
        sites += [attention_probabilities_site(repetition), attention_output_site(repetition)]
    assert len(set(sites)) == len(sites)


@given(SEEDS, DTYPES, SHAPES, DROPOUTS)
def test_forward_scales_what_it_keeps_and_backward_does_the_same(seed, dtype, shape, dropout):
    """x times 1 / (1 − p): three roundings of half a unit."""
    x = normal(np.random.default_rng(seed), shape, dtype)
    y, cache = dropout_forward(x, dropout)
    assert_like((y,), (x,))
    keep = keep_mask(shape, dropout)
    if dropout.probability < 1:
        expected = x[keep].astype(np.float64) / (1 - dropout.probability)
        np.testing.assert_allclose(y[keep], expected, rtol=1.5 * np.finfo(dtype).eps)
    assert np.all(y[~keep] == 0)
    np.testing.assert_array_equal(dropout_backward(x, cache), y)


@given(SEEDS, DTYPES, SHAPES, st.integers(0, 2**64 - 1))
def test_none_and_all(seed, dtype, shape, dropout_seed):
    x = normal(np.random.default_rng(seed), shape, dtype)
    np.testing.assert_array_equal(dropout_forward(x, Dropout(0.0, dropout_seed, 0))[0], x)
    nothing, cache = dropout_forward(x, Dropout(1.0, dropout_seed, 0))
    for zeros in nothing, dropout_backward(x, cache):
        assert_like((zeros,), (x,))
        assert np.all(zeros == 0)


@given(SEEDS, SHAPES, DROPOUTS)
def test_backward_is_the_derivative(seed, shape, dropout):
    rng = np.random.default_rng(seed)
    x, dy = normal(rng, shape), normal(rng, shape)
    dx = dropout_backward(dy, dropout_forward(x, dropout)[1])
    assert_derivative(rng, lambda x: dropout_forward(x, dropout)[0], (x,), dy, (dx,), (np.abs(dx),))

"""N-gram masking: what may be chosen, how much of it, how long the runs are, what becomes of it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from albert_np.training.masking import (
    Pieces,
    choose_ngrams,
    mask_ngrams,
    ngram_probabilities,
    pieces_of,
)

# Ids 0 to 4 are special; of the others, the even ones start a word.
PIECES = Pieces(np.arange(40) < 5, np.arange(40) % 2 == 0, 4)

rows = st.lists(st.lists(st.integers(0, 39), min_size=12, max_size=12), min_size=1, max_size=6).map(
    np.array
)
seeds = st.integers(0, 2**32 - 1)


def hoeffding(count, chance=1e-9):
    """How far a mean of `count` independent values in [0, 1] may lie from its expectation.

    Hoeffding: P(|mean − expectation| ≥ t) ≤ 2 exp(−2 count t²), solved for t at `chance`. The
    seeds are fixed, so a test that passes once passes always; the bound says that it should.
    """
    return math.sqrt(math.log(2 / chance) / (2 * count))


def words_of(ids):
    """The words of a row of PIECES, spelled out here once more: a list of lists of positions."""
    words, previous_special = [], True
    for position, piece in enumerate(ids.tolist()):
        special = piece < 5
        if not special and (previous_special or piece % 2 == 0):
            words.append([])
        if not special:
            words[-1].append(position)
        previous_special = special
    return words


@given(rows, seeds)
def test_labels_are_the_originals_and_only_ordinary_tokens_have_them(ids, seed):
    masked, labels = mask_ngrams(ids, PIECES, np.random.default_rng(seed))
    chosen = labels != -100
    np.testing.assert_array_equal(labels[chosen], ids[chosen])
    np.testing.assert_array_equal(masked[~chosen], ids[~chosen])
    assert (ids[chosen] >= 5).all()


@given(rows, seeds)
def test_a_word_is_chosen_whole_or_not_at_all(ids, seed):
    _, labels = mask_ngrams(ids, PIECES, np.random.default_rng(seed))
    for row, chosen in zip(ids, labels != -100, strict=True):
        for word in words_of(row):
            assert len(set(chosen[word])) == 1


@given(rows, seeds)
def test_the_budget_is_kept_and_used(ids, seed):
    _, labels = mask_ngrams(ids, PIECES, np.random.default_rng(seed))
    for row, chosen in zip(ids, labels != -100, strict=True):
        lengths = [len(word) for word in words_of(row)]
        budget = max(1, round(0.15 * sum(lengths)))
        if not lengths:
            assert not chosen.any()
        elif min(lengths) > budget:
            assert chosen.sum() in lengths
        else:
            left = [len(word) for word in words_of(row) if not chosen[word[0]]]
            assert 1 <= chosen.sum() <= budget
            assert all(length > budget - chosen.sum() for length in left)


def test_the_same_seed_gives_the_same_masks_and_another_seed_others():
    ids = np.random.default_rng(0).integers(5, 40, (8, 64))
    first, again, other = (
        mask_ngrams(ids, PIECES, np.random.default_rng(seed)) for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(first, again)
    assert (first[1] != other[1]).any()


def test_the_probabilities_are_the_papers():
    np.testing.assert_allclose(ngram_probabilities(), np.array([6, 3, 2]) / 11, rtol=1e-15)


def test_lengths_of_runs_follow_the_formula():
    # Of 2000 words at most 300 are chosen, in 100 runs at least, so the first 100 runs are free
    # draws: neither the budget nor want of room shortens one.
    words = [(i, i + 1) for i in range(2000)]
    rng = np.random.default_rng(1)
    lengths = np.array(
        [end - first for _ in range(40) for first, end in choose_ngrams(words, 300, rng)[:100]]
    )
    assert len(lengths) == 4000
    for n, probability in enumerate(ngram_probabilities(), start=1):
        assert abs((lengths == n).mean() - probability) <= hoeffding(len(lengths))


def test_every_word_is_chosen_as_often_as_any_other_but_near_the_ends():
    # Sequences of 40 words with a budget of 1: one word each, at a uniform place.
    words = [(i, i + 1) for i in range(40)]
    rng = np.random.default_rng(2)
    count = 5_000
    places = [choose_ngrams(words, 1, rng)[0][0] for _ in range(count)]
    frequencies = np.bincount(places, minlength=40) / count
    np.testing.assert_array_less(abs(frequencies - 1 / 40), hoeffding(count))


def test_runs_do_not_cross_special_tokens():
    ids = np.array([[2, 6, 3, 8, 3] * 40])  # words of one token, each between special tokens
    for seed in range(20):
        _, labels = mask_ngrams(ids, PIECES, np.random.default_rng(seed))
        assert (labels != -100).sum() == round(0.15 * 80)
        assert not np.isin(ids[labels != -100], [2, 3]).any()


def test_four_fifths_are_masked_a_tenth_random_a_tenth_kept():
    ids = np.full((150, 100), 6)
    masked, labels = mask_ngrams(ids, PIECES, np.random.default_rng(3))
    fates = masked[labels != -100]
    bound = hoeffding(len(fates))
    random_same = 0.1 / 35  # a random piece is the same one once in 35 times
    assert abs((fates == 4).mean() - 0.8) <= bound
    assert abs((fates == 6).mean() - 0.1 - random_same) <= bound
    assert abs((fates == 9).mean() - random_same) <= bound
    assert (fates >= 4).all()


class FourTokens:
    """As much of a tokenizer as `pieces_of` asks for."""

    all_special_ids = (0, 4)
    mask_token_id = 4

    def __len__(self):
        return 5

    def convert_ids_to_tokens(self, ids):
        return [("<pad>", "▁paris", "s", ".", "[MASK]")[i] for i in ids]


def test_punctuation_and_pieces_with_a_space_start_words():
    pieces = pieces_of(FourTokens())
    assert pieces.special.tolist() == [True, False, False, False, True]
    assert pieces.starts_word.tolist()[1:4] == [True, False, True]
    assert pieces.mask_token_id == 4


@pytest.mark.parametrize("budget", [1, 2, 3])
def test_where_every_word_is_too_long_one_word_is_chosen(budget):
    words = [(0, 5), (5, 10)]
    runs = choose_ngrams(words, budget, np.random.default_rng(0))
    assert len(runs) == 1
    assert runs[0] in words

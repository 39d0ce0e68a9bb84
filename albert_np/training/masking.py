"""Masked tokens to predict: n-gram masking, as section 4.1 of the ALBERT paper has it.

Whole words are masked, in runs of n = 1, 2 or 3 words with probability

    p(n) = (1/n) / Σ_k 1/k,   k = 1 … 3

until 15% of a sequence's tokens are chosen. Of the chosen tokens 80% become [MASK], 10% a random
piece and 10% stay as they are (section 3.1 of the BERT paper, which ALBERT follows).
"""

from typing import NamedTuple

import numpy as np

from albert_np.functions.cross_entropy import IGNORE_INDEX

MASKED_SHARE = 0.15
LONGEST_NGRAM = 3
SPACE = "▁"  # what SentencePiece writes for the space before a word


class Pieces(NamedTuple):
    """What masking needs to know of a vocabulary.

    Attributes
    ----------
    special : bool array, shape (V,)
        Never masked, and never put in the place of another piece.
    starts_word : bool array, shape (V,)
        Pieces that begin with a space, and punctuation, each mark of which is a word.
    mask_token_id : int
    """

    special: np.ndarray
    starts_word: np.ndarray
    mask_token_id: int


def pieces_of(tokenizer):
    """The `Pieces` of a tokenizer's vocabulary.

    Parameters
    ----------
    tokenizer : AlbertTokenizer

    Returns
    -------
    Pieces
    """
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    special = np.zeros(len(tokens), bool)
    special[list(tokenizer.all_special_ids)] = True
    starts_word = [
        token.startswith(SPACE) or not any(char.isalnum() for char in token) for token in tokens
    ]
    return Pieces(special, np.array(starts_word), tokenizer.mask_token_id)


def ngram_probabilities():
    """p(1), p(2) and p(3), as an array of shape (3,)."""
    weights = 1 / np.arange(1, LONGEST_NGRAM + 1)
    return weights / weights.sum()


def mask_ngrams(input_ids, pieces, rng, masked_share=MASKED_SHARE):
    """Mask a batch, and label what was masked.

    Parameters
    ----------
    input_ids : int array, shape (B, S)
    pieces : Pieces
    rng : numpy.random.Generator
    masked_share : float, optional
        Of the ordinary tokens.

    Returns
    -------
    masked_ids : int array, shape (B, S)
    labels : int array, shape (B, S)
        The ids that were there at the chosen tokens, −100 at the others. A sequence of n ordinary
        tokens has max(1, round(masked_share · n)) of them at most, unless its every word is longer.
    """
    chosen = np.zeros(input_ids.shape, bool)
    for row, ids in zip(chosen, input_ids, strict=True):
        words = _words(ids, pieces)
        tokens = sum(end - first for first, end in words)
        budget = max(1, round(masked_share * tokens))
        for first, end in choose_ngrams(words, budget, rng):
            row[first:end] = True
    labels = np.where(chosen, input_ids, IGNORE_INDEX)
    fate = rng.random(input_ids.shape)
    random_ids = rng.choice(np.flatnonzero(~pieces.special), input_ids.shape)
    masked_ids = np.where(chosen & (fate < 0.8), pieces.mask_token_id, input_ids)
    masked_ids = np.where(chosen & (fate >= 0.8) & (fate < 0.9), random_ids, masked_ids)
    return masked_ids, labels


def _words(ids, pieces):
    """The (first token, end) of each word of a row; special tokens belong to none."""
    words = []
    for position, (special, starts) in enumerate(
        zip(pieces.special[ids].tolist(), pieces.starts_word[ids].tolist(), strict=True)
    ):
        if special:
            continue
        if starts or not words or words[-1][1] != position:
            words.append((position, position + 1))
        else:
            words[-1] = (words[-1][0], position + 1)
    return words


def choose_ngrams(words, budget, rng):
    """Choose runs of words until no word fits the rest of the budget.

    The length of a run is drawn before its place, and shortened only where it fits nowhere: if
    the place came first, crowded places would make long runs too rare.

    Parameters
    ----------
    words : list of (int, int)
        First token and end of each word, in order.
    budget : int
        The most tokens to choose. If every word is longer than that, one word is chosen all the
        same, so that there is something to learn from the sequence.
    rng : numpy.random.Generator

    Returns
    -------
    list of (int, int)
        First token and end of each run. Runs do not overlap.
    """
    bounds = np.cumsum(ngram_probabilities())
    firsts, ends = np.array(words, int).reshape(-1, 2).T
    free = np.ones(len(words), bool)
    runs = []
    while True:
        length = 1 + int(np.searchsorted(bounds[:-1], rng.random(), side="right"))
        places = _places(firsts, ends, free, length, budget)
        while not places.size and length > 1:
            length -= 1
            places = _places(firsts, ends, free, length, budget)
        if not places.size:
            break
        start = places[rng.integers(places.size)]
        free[start : start + length] = False
        runs.append((int(firsts[start]), int(ends[start + length - 1])))
        budget -= runs[-1][1] - runs[-1][0]
    return runs or [tuple(word) for word in rng.permutation(words)[:1].tolist()]


def _places(firsts, ends, free, length, budget):
    """The first words of runs of `length` free neighbours that fit the budget: int array."""
    count = max(len(firsts) - length + 1, 0)
    fits = ends[length - 1 :] - firsts[:count] <= budget
    for word in range(length):
        fits &= free[word : word + count]
    for word in range(length - 1):  # no special token between them
        fits &= ends[word : word + count] == firsts[word + 1 : word + 1 + count]
    return np.flatnonzero(fits)

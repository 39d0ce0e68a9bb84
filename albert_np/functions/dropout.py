"""Dropout whose mask is a function of a seed and a place, and of nothing else.

The mask comes from Philox 4×32-10, a counter-based generator (Salmon et al. 2011, "Parallel random
numbers: as easy as 1, 2, 3"): it turns a 128-bit counter and a 64-bit key into 128 random bits,
with no state between calls. The key is the seed. The counter says where the element lies:

    counter = (column // 4, row, sequence, site · 2¹⁶ + head)

and the four 32-bit words that come back belong to columns 4k, 4k + 1, 4k + 2, 4k + 3. So backward
draws the mask of forward again instead of storing it, and any back end draws the same mask, bit
for bit, in any order.
"""

import math
from typing import NamedTuple

import numpy as np

from albert_np.functions.choose import choose

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
LOW_32_BITS = 0xFFFFFFFF

# The sites of a model; each repetition of the layer has two of its own.
EMBEDDINGS_SITE = 0
CLASSIFIER_SITE = 1


def attention_probabilities_site(repetition):
    """The site of the dropout on one repetition's attention probabilities."""
    return 2 + 2 * repetition


def attention_output_site(repetition):
    """The site of the dropout on one repetition's attention output."""
    return 3 + 2 * repetition


class Dropout(NamedTuple):
    """One dropout of one call.

    `probability` is that of an element being dropped; `seed` is the call's; `site` tells the
    dropouts of one call apart. `packed` says where the rows of a packed batch lie, if they are
    of one, so that a token meets the same mask in a packed batch and in a padded one.
    """

    probability: float
    seed: int
    site: int
    packed: object = None


def philox_4x32_10(counter, key):
    """Philox 4×32 with ten rounds.

    Parameters
    ----------
    counter : four of (int or integer array), each below 2³²
        Arrays broadcast against each other.
    key : two of int, each below 2³²

    Returns
    -------
    words : four of uint64 array, each below 2³²
    """
    c0, c1, c2, c3 = map(_as_uint64, counter)
    k0, k1 = key
    for _ in range(10):
        product0 = c0 * np.uint64(MULTIPLIERS[0])
        product1 = c2 * np.uint64(MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (product1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            product1 & np.uint64(LOW_32_BITS),
            (product0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            product0 & np.uint64(LOW_32_BITS),
        )
        k0 = (k0 + KEY_INCREMENTS[0]) & LOW_32_BITS
        k1 = (k1 + KEY_INCREMENTS[1]) & LOW_32_BITS
    return c0, c1, c2, c3


def _as_uint64(word):
    return np.uint64(word) if isinstance(word, int) else word.astype(np.uint64)


def keep_mask(shape, dropout, like=None):
    """Draw which elements stay.

        keep = word ≥ ⌊p · 2³²⌋

    Parameters
    ----------
    shape : tuple of int
        (B, A, S, S), whose axes are sequence, head, row, column; (B, S, H), with head 0; (B, H),
        with head 0 and row 0; or, of a packed batch, (T, H).
    dropout : Dropout
    like : array, optional
        Of the library that the result is to be of.

    Returns
    -------
    keep : bool array of that shape
    """
    sequence, head, row = _coordinates(shape, dropout.packed, like)
    columns = shape[-1]
    counter = (np.arange(-(-columns // 4), like=like), row, sequence, (dropout.site << 16) + head)
    words = philox_4x32_10(counter, (dropout.seed & LOW_32_BITS, dropout.seed >> 32))
    threshold = np.uint64(math.floor(dropout.probability * 2**32))
    keep = np.zeros((*words[0].shape, 4), bool, like=like)  # (..., columns / 4, 4)
    for i, word in enumerate(words):
        keep[..., i] = word >= threshold
    return keep.reshape(*keep.shape[:-2], -1)[..., :columns].reshape(shape)


def _coordinates(shape, packed, like):
    """The sequence, head and row of every row of an array, to broadcast against its columns."""
    if packed is not None:
        return packed.sequences[:, None], 0, packed.columns[:, None]
    sequences, heads, rows = {
        4: shape[:3],
        3: (shape[0], 1, shape[1]),
        2: (shape[0], 1, 1),
    }[len(shape)]
    return (
        np.arange(sequences, like=like)[:, None, None, None],
        np.arange(heads, like=like)[:, None, None],
        np.arange(rows, like=like)[:, None],
    )


def _scaled(x, dropout):
    """x / (1 − p) where x stays, and 0 where it is dropped."""
    if dropout.probability == 1:
        return np.zeros_like(x)
    kept = x * x.dtype.type(1 / (1 - dropout.probability))
    return choose(keep_mask(x.shape, dropout, x), kept, x.dtype.type(0), x.dtype)


def dropout_forward(x, dropout):
    """Drop elements with probability p, and scale the others so that the mean stays.

        y = x ∘ keep / (1 − p)

    Parameters
    ----------
    x : array, shape (B, A, S, S), (B, S, H), (B, H) or (T, H)
    dropout : Dropout

    Returns
    -------
    y : array, shape of x
    cache : Dropout
    """
    return _scaled(x, dropout), dropout


def dropout_backward(dy, cache):
    """Backward pass of `dropout_forward`: the same mask, drawn again.

        dx = dy ∘ keep / (1 − p)

    Parameters
    ----------
    dy : array, shape of x
    cache : Dropout

    Returns
    -------
    dx : array, shape of x
    """
    return _scaled(dy, cache)

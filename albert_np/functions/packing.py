"""Packed batches: the real tokens of all sequences end to end, without the padding between them.

A padded batch is (B, S, …); a packed one (T, …), T being the number of real tokens. What works on
each token by itself need not know which of the two it is given. The others are told by a
`PackedBatch` where the tokens lie.
"""

from typing import NamedTuple

import numpy as np


class PackedBatch(NamedTuple):
    """Where the tokens of a packed batch lie.

    Attributes
    ----------
    offsets : int64 array, shape (B + 1,)
        Where each sequence starts among the T tokens; and T. Each has one token or more.
    sequences, columns : int64 array, shape (T,)
        Where each token stands in the padded batch.
    shape : (int, int)
        (B, S), of the padded batch.
    attended : bool array, shape (T,), or None
        False for the tokens of sequences with every token masked; None where there are none.
    """

    offsets: object
    sequences: object
    columns: object
    shape: tuple
    attended: object = None

    @property
    def places(self):
        """The index of the packed tokens in an array of the padded batch: `x[places]` packs it."""
        return self.sequences, self.columns

    @property
    def real(self):
        """Where the padded batch has tokens, bool, shape (B, S)."""
        real = np.zeros_like(self.sequences, bool, shape=self.shape)
        real[self.places] = True
        return real


def packed_batch(attention_mask):
    """Where the tokens lie that a mask attends to.

    A sequence with every token masked keeps them all, since each of them attends to all of them
    alike.

    Parameters
    ----------
    attention_mask : bool array, shape (B, S)

    Returns
    -------
    PackedBatch
    """
    real = attention_mask | ~attention_mask.any(axis=1, keepdims=True)
    sequences, columns = real.nonzero()
    offsets = np.concatenate([[0], real.sum(axis=1).cumsum()])
    attended = attention_mask[sequences, columns]
    return PackedBatch(
        offsets, sequences, columns, attention_mask.shape, None if attended.all() else attended
    )


def unpack_forward(x, packed, fill=0):
    """Packed tokens back in their places.

        y[sequence of t, column of t] = x_t,   and `fill` at the padding

    Parameters
    ----------
    x : array, shape (T, ...)
    packed : PackedBatch
    fill : float, optional

    Returns
    -------
    y : array, shape (B, S, ...)
    cache : PackedBatch
    """
    y = np.full_like(x, fill, shape=(*packed.shape, *x.shape[1:]))
    y[packed.places] = x
    return y, packed


def unpack_backward(dy, cache):
    """Backward pass of `unpack_forward`: the padding was made of nothing.

        dx_t = dy[sequence of t, column of t]

    Parameters
    ----------
    dy : array, shape (B, S, ...)
    cache : PackedBatch

    Returns
    -------
    dx : array, shape (T, ...)
    """
    return dy[cache.places]

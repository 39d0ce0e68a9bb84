"""The embedding: rows of a table, looked up by number."""

from typing import NamedTuple

import numpy as np


class EmbeddingCache(NamedTuple):
    """What backward needs, of every back end."""

    ids: object  # (...)
    weight: object  # (V, E)
    padding_idx: object  # int or None

    @property
    def skipped(self):
        """The id whose lookups give no gradient; −1, which is none, where all of them do."""
        return -1 if self.padding_idx is None else self.padding_idx


def gradient_slot(cache, into):
    """Where the lookups' gradients are added up: the slot, or a table of zeros.

    They are scattered straight into it: a table of the vocabulary's size is worth not making twice.

    Parameters
    ----------
    cache : EmbeddingCache
    into : (array (V, E),) or None

    Returns
    -------
    dweight : array, shape (V, E)
    """
    return np.zeros_like(cache.weight, order="C") if into is None else into[0]


def embedding_forward(ids, weight, padding_idx=None):
    """Look up rows of a table.

        y[i] = W[ids[i]]

    Parameters
    ----------
    ids : integer array, shape (...)
        Row numbers in [0, V).
    weight : array, shape (V, E)
    padding_idx : int, optional
        The row whose lookups give no gradient (as `padding_idx` of `torch.nn.Embedding`).

    Returns
    -------
    y : array, shape (..., E)
    cache : EmbeddingCache
    """
    return weight[ids], EmbeddingCache(ids, weight, padding_idx)


def embedding_backward(dy, cache, into=None):
    """Backward pass of `embedding_forward`.

        dW[v] = Σ over i with ids[i] = v of dy[i],   and 0 for v = padding_idx

    Parameters
    ----------
    dy : array, shape (..., E)
    cache : EmbeddingCache
    into : (array (V, E),), optional
        The slot that dweight is added to, in place.

    Returns
    -------
    dweight : array, shape (V, E)
    """
    ids, _, padding_idx = cache
    if padding_idx is not None:
        dy = np.where((ids == padding_idx)[..., None], 0, dy)
    dweight = gradient_slot(cache, into)
    np.add.at(dweight, ids, dy)
    return dweight

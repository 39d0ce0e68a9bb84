"""The embedding: rows of a table, looked up by number."""

from typing import NamedTuple

import numpy as np


class EmbeddingCache(NamedTuple):
    ids: object  # (...)
    weight: object  # (V, E)
    padding_idx: object  # int or None


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
    ids, weight, padding_idx = cache
    if padding_idx is not None:
        dy = np.where((ids == padding_idx)[..., None], 0, dy)
    # Scattered straight into the slot: a table of the vocabulary's size is worth not making twice.
    dweight = np.zeros_like(weight) if into is None else into[0]
    np.add.at(dweight, ids, dy)
    return dweight

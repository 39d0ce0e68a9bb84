"""The gradient of the embedding, summed in wide numbers by the arrays' own library.

The library adds atomically: on a GPU, in an order of its own each time.
"""

import numpy as np

from albert_np.kernels.cuda.arrays import Argument, checked, wide


def embedding_backward(executor, dy, cache, into=None):
    """Backward pass of `albert_np.functions.embedding.embedding_forward`.

        dW[v] (+)= Σ over i with ids[i] = v of dy[i],   and 0 for v = padding_idx

    Parameters
    ----------
    executor
    dy : array, shape (..., E)
    cache : EmbeddingCache
    into : (array (V, E),), optional
        The slot that dweight is added to, in place.

    Returns
    -------
    dweight : array, shape (V, E)
    """
    ids, weight, padding_idx = cache
    _, dy = checked(
        executor,
        Argument("weight", weight, weight.shape),
        Argument("dy", dy, (*ids.shape, weight.shape[-1])),
    )
    dy = dy.astype(wide(dy.dtype), copy=False)
    if padding_idx is not None:
        dy = np.where((ids == padding_idx)[..., None], 0, dy)
    total = executor.zeros(weight.shape, dy.dtype)
    np.add.at(total, ids, dy)
    if into is None:
        return total.astype(weight.dtype, copy=False)
    (slot,) = into
    slot[...] = (slot + total).astype(slot.dtype, copy=False)
    return slot

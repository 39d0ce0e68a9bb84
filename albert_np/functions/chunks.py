"""Sequences, or a packed batch of them, cut into chunks, and put together again."""

import numpy as np


def split_forward(x, size):
    """Cut the axis of tokens into chunks of one size, but for the last. Nothing is copied.

        y_k = x[…, k·size : (k + 1)·size, :]

    Parameters
    ----------
    x : array, shape (..., S, N)
    size : int

    Returns
    -------
    y : list of array, shape (..., size, N)
    cache : None
    """
    S = x.shape[-2]
    return [x[..., start : start + size, :] for start in range(0, S, size)], None


def split_backward(dy, cache):
    """Backward pass of `split_forward`: the gradients, put together.

    Parameters
    ----------
    dy : list of array, shape (..., size, N)
    cache : None

    Returns
    -------
    dx : array, shape (..., S, N)
    """
    return np.concatenate(dy, axis=-2)


def join_forward(chunks):
    """Put chunks together: the inverse of `split_forward`.

    Parameters
    ----------
    chunks : list of array, shape (..., size, N)

    Returns
    -------
    y : array, shape (..., S, N)
    cache : int
        size.
    """
    return np.concatenate(chunks, axis=-2), chunks[0].shape[-2]


def join_backward(dy, cache):
    """Backward pass of `join_forward`: the gradient, cut into chunks.

    Parameters
    ----------
    dy : array, shape (..., S, N)
    cache : int

    Returns
    -------
    dchunks : list of array, shape (..., size, N)
    """
    return split_forward(dy, cache)[0]

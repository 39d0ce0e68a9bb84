"""A sequence cut into chunks, and put together again."""

import numpy as np


def split_forward(x, size):
    """Cut the sequences into chunks of one size. Nothing is copied.

        y_k = x[:, k·size : (k + 1)·size]

    Parameters
    ----------
    x : array, shape (B, S, ...)
    size : int
        A divisor of S.

    Returns
    -------
    y : list of array, shape (B, size, ...)
    cache : None
    """
    return [x[:, start : start + size] for start in range(0, x.shape[1], size)], None


def split_backward(dy, cache):
    """Backward pass of `split_forward`: the gradients, put together.

    Parameters
    ----------
    dy : list of array, shape (B, size, ...)
    cache : None

    Returns
    -------
    dx : array, shape (B, S, ...)
    """
    return np.concatenate(dy, axis=1)


def join_forward(chunks):
    """Put chunks together: the inverse of `split_forward`.

    Parameters
    ----------
    chunks : list of array, shape (B, size, ...)

    Returns
    -------
    y : array, shape (B, S, ...)
    cache : int
        size.
    """
    return np.concatenate(chunks, axis=1), chunks[0].shape[1]


def join_backward(dy, cache):
    """Backward pass of `join_forward`: the gradient, cut into chunks.

    Parameters
    ----------
    dy : array, shape (B, S, ...)
    cache : int

    Returns
    -------
    dchunks : list of array, shape (B, size, ...)
    """
    return split_forward(dy, cache)[0]

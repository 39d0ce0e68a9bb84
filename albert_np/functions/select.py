"""Picking rows: the first token of each sequence, or the labelled positions."""

from typing import NamedTuple

import numpy as np


class SelectCache(NamedTuple):
    x: object  # only its shape and dtype are needed, and a reference costs nothing
    index: object


def select_forward(x, index):
    """Rows of an array, by NumPy's indexing.

        y = x[index]

    Parameters
    ----------
    x : array, shape (B, S, ...)
    index : tuple of slice, int or integer array
        Must not name one place twice.

    Returns
    -------
    y : array, shape of x[index]
    cache : SelectCache
    """
    return x[index], SelectCache(x, index)


def select_backward(dy, cache):
    """Backward pass of `select_forward`.

        dx[index] = dy,   and 0 elsewhere

    Parameters
    ----------
    dy : array, shape of x[index]
    cache : SelectCache

    Returns
    -------
    dx : array, shape (B, S, ...)
    """
    x, index = cache
    dx = np.zeros_like(x)
    dx[index] = dy
    return dx

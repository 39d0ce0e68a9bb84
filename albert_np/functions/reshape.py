"""The same numbers in another shape."""


def reshape_forward(x, shape):
    """Read an array row by row as an array of another shape.

    Parameters
    ----------
    x : array, shape (...)
    shape : tuple of int
        With −1 for one size that follows from the others.

    Returns
    -------
    y : array, shape `shape`
    cache : tuple of int
        The shape of x.
    """
    return x.reshape(shape), x.shape


def reshape_backward(dy, cache):
    """Backward pass of `reshape_forward`: each gradient back in its place.

    Parameters
    ----------
    dy : array, shape `shape`
    cache : tuple of int
        The shape of x.

    Returns
    -------
    dx : array, shape (...)
    """
    return dy.reshape(cache)

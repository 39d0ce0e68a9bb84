"""Sums: of a bias, and of two arrays of one shape; and the average of these."""

from albert_np.functions.accumulate import accumulate


def bias_forward(x, bias):
    """Add one vector to every row.

        y = x + b

    Parameters
    ----------
    x : array, shape (..., N)
    bias : array, shape (N,)

    Returns
    -------
    y : array, shape (..., N)
    cache : None
    """
    return x + bias, None


def bias_backward(dy, cache, into=None):
    """Backward pass of `bias_forward`.

        dx = dy          db = Σ_rows dy

    Parameters
    ----------
    dy : array, shape (..., N)
    cache : None
    into : (array (N,),), optional
        The slot that dbias is added to, in place.

    Returns
    -------
    dx : array, shape (..., N)
    dbias : array, shape (N,)
    """
    dbias = dy.reshape(-1, dy.shape[-1]).sum(axis=0)
    return dy, *accumulate((dbias,), into)


def add_forward(a, b):
    """Add two arrays of one shape, as at a residual connection.

        y = a + b

    Parameters
    ----------
    a, b : array, shape (...)

    Returns
    -------
    y : array, shape (...)
    cache : None
    """
    return a + b, None


def add_backward(dy, cache):
    """Backward pass of `add_forward`.

        da = dy          db = dy

    Parameters
    ----------
    dy : array, shape (...)
    cache : None

    Returns
    -------
    da, db : array, shape (...)
        Both are `dy` itself, not copies of it.
    """
    return dy, dy


def average_forward(a, b):
    """The average of two arrays of one shape.

        y = ½ (a + b)

    Parameters
    ----------
    a, b : array, shape (...)

    Returns
    -------
    y : array, shape (...)
    cache : None
    """
    return (a + b) / 2, None


def average_backward(dy, cache):
    """Backward pass of `average_forward`.

        da = ½ dy          db = ½ dy

    Parameters
    ----------
    dy : array, shape (...)
    cache : None

    Returns
    -------
    da, db : array, shape (...)
        One array, twice.
    """
    half = dy / 2
    return half, half

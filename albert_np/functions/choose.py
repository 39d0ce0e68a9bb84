"""Choosing between two values, element by element."""

import numpy as np


def choose(condition, x, y, dtype):
    """`np.where`, in a dtype.

        z = x where the condition holds, else y

    CuPy's `where` knows no bfloat16, and answers in float32.

    Parameters
    ----------
    condition : bool array
    x, y : array or number
        Broadcast against the condition.
    dtype : dtype

    Returns
    -------
    z : array
    """
    return np.where(condition, x, y).astype(dtype, copy=False)

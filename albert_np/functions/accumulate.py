"""Sums of gradients: of shared parameters, and of a value that several functions read."""


def accumulate(gradients, into):
    """Add each gradient to its slot, in place, if slots are given.

    Parameters
    ----------
    gradients : tuple of (array or None)
        What one use of the parameters contributes; None where there is no such parameter.
    into : tuple of (array or None), or None
        The running sums, in the same order, of the same shapes and dtypes.

    Returns
    -------
    tuple of (array or None)
        `into`, or `gradients` as they are when `into` is None.
    """
    if into is None:
        return gradients
    for slot, gradient in zip(into, gradients, strict=True):
        if gradient is not None:
            slot += gradient
    return into


def add_gradients(*gradients):
    """The sum of those gradients that are there; None where there is none.

    Parameters
    ----------
    *gradients : array or None
        All of one shape.

    Returns
    -------
    array or None
    """
    present = [gradient for gradient in gradients if gradient is not None]
    return sum(present[1:], start=present[0]) if present else None

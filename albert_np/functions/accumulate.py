"""Where gradients of shared parameters are summed."""


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

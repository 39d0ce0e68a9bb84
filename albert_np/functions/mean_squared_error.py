"""Mean squared error, the loss of a regression."""


def mean_squared_error_forward(x, labels):
    """Mean of the squared differences, as `torch.nn.MSELoss` has it.

        loss = 1/n Σ (x − t)²

    Parameters
    ----------
    x, labels : array, shape (...)
        The predictions, and the numbers t that they should be; n of each.

    Returns
    -------
    loss : array, shape ()
    cache : array, shape (...)
        x − t.
    """
    difference = x - labels
    return (difference * difference).mean(), difference


def mean_squared_error_backward(dloss, cache):
    """Backward pass of `mean_squared_error_forward`.

        dx = dloss · 2 (x − t) / n          dt = −dx

    Parameters
    ----------
    dloss : array, shape ()
    cache : array, shape (...)
        x − t.

    Returns
    -------
    dx, dlabels : array, shape (...)
    """
    difference = cache
    dx = 2 * dloss / difference.size * difference
    return dx, -dx

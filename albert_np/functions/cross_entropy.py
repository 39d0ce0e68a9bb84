"""Cross-entropy of a softmax against labels."""

from typing import NamedTuple

import numpy as np

from albert_np.functions.choose import choose

IGNORE_INDEX = -100


class CrossEntropyCache(NamedTuple):
    logits: object  # (..., V)
    labels: object  # (...)
    shift: object  # (..., 1), the largest logit of each row
    log_sum_exp: object  # (..., 1), of the shifted logits


def _subtract(logits, shift):
    """z − m; where that overflows, exp(−∞) = 0 is the right answer."""
    with np.errstate(over="ignore"):
        return logits - shift


def cross_entropy_forward(logits, labels):
    """Mean negative log-likelihood of the labels, as `torch.nn.CrossEntropyLoss` has it.

        loss = 1/n Σ_rows (log Σ_v exp(z_v − m) − (z_label − m)),   m = max_v z_v

    n is the number of rows with a label. m cancels; it is there so that no exponential overflows,
    and is taken from z_label too: log Σ exp z would be rounded to the last place of m.

    Parameters
    ----------
    logits : array, shape (..., V)
    labels : integer array, shape (...)
        In [0, V); rows labelled −100 are left out.

    Returns
    -------
    loss : array, shape ()
        Not a number where no row has a label: the mean of nothing.
    cache : CrossEntropyCache
    """
    shift = logits.real.max(axis=-1, keepdims=True)
    shifted = _subtract(logits, shift)
    labelled = labels != IGNORE_INDEX
    own = np.take_along_axis(shifted, np.where(labelled, labels, 0)[..., None], axis=-1)
    log_sum_exp = np.log(np.exp(shifted, out=shifted).sum(axis=-1, keepdims=True))
    losses = choose(labelled[..., None], log_sum_exp - own, 0, shifted.dtype)
    # The sum over the count, in the order of torch: an unlabelled batch is 0/0.
    with np.errstate(invalid="ignore"):
        loss = losses.sum() / labelled.sum().astype(losses.real.dtype)
    return loss, CrossEntropyCache(logits, labels, shift, log_sum_exp)


def cross_entropy_backward(dloss, cache):
    """Backward pass of `cross_entropy_forward`.

        dz = dloss · (softmax(z) − one-hot(label)) / n   in rows with a label, 0 in the others

    The key step: ∂ log Σ exp z / ∂z_v = exp z_v / Σ exp z, the softmax.

    Parameters
    ----------
    dloss : array, shape ()
    cache : CrossEntropyCache

    Returns
    -------
    dlogits : array, shape (..., V)
    """
    logits, labels, shift, log_sum_exp = cache
    labelled = (labels != IGNORE_INDEX)[..., None]
    label = np.where(labelled, labels[..., None], 0)
    dlogits = _subtract(logits, shift)
    dlogits -= log_sum_exp
    np.exp(dlogits, out=dlogits)
    own = np.take_along_axis(dlogits, label, axis=-1)
    np.put_along_axis(dlogits, label, own - 1, axis=-1)
    dlogits *= np.where(labelled, dloss / np.maximum(labelled.sum(), 1), 0).astype(dlogits.dtype)
    return dlogits

"""Binary cross-entropy: of each label on its own, where a text may have several or none."""

from typing import NamedTuple

import numpy as np

from albert_np.functions.choose import choose


class BinaryCrossEntropyCache(NamedTuple):
    logits: object  # (...)
    labels: object  # (...)


def binary_cross_entropy_forward(logits, labels):
    """Mean negative log-likelihood of yes or no, as `torch.nn.BCEWithLogitsLoss` has it.

        loss = −1/n Σ (t log σ(z) + (1 − t) log σ(−z)) = 1/n Σ (log(1 + exp z) − t z)

    log(1 + exp z) = z + log(1 + exp −z): of these two forms of one function, the one whose
    exponential is at most 1 is evaluated, so that none overflows; and z meets t before anything is
    rounded, so that a certain prediction that is right keeps the digits of its small loss.

    Parameters
    ----------
    logits : array, shape (...)
        z, n of them.
    labels : array, shape (...)
        t: 1 for yes, 0 for no, or a probability between them.

    Returns
    -------
    loss : array, shape ()
    cache : BinaryCrossEntropyCache
    """
    positive = logits.real > 0
    log_terms = np.log1p(np.exp(choose(positive, -logits, logits, logits.dtype)))
    losses = (positive - labels) * logits + log_terms
    return losses.mean(), BinaryCrossEntropyCache(logits, labels)


def binary_cross_entropy_backward(dloss, cache):
    """Backward pass of `binary_cross_entropy_forward`.

        dz = dloss · ((1 − t) σ(z) − t σ(−z)) / n          dt = −dloss · z / n

    The key step: d/dz log(1 + exp z) = σ(z). σ(z) − t is the same as what stands above, but would
    lose the digits of σ(−z) where t is 1.

    Parameters
    ----------
    dloss : array, shape ()
    cache : BinaryCrossEntropyCache

    Returns
    -------
    dlogits, dlabels : array, shape (...)
    """
    logits, labels = cache
    positive = logits > 0
    # At most 1, as in forward.
    exponential = np.exp(choose(positive, -logits, logits, logits.dtype))
    yes = choose(positive, 1, exponential, logits.dtype) / (1 + exponential)
    no = choose(positive, exponential, 1, logits.dtype) / (1 + exponential)
    scale = dloss / logits.size
    return scale * ((1 - labels) * yes - labels * no), -scale * logits

"""Fine-tuning: a model with a head, on the rows of a data set."""

import numpy as np

from albert_np.training.loop import train
from albert_np.training.optimizers import AdamW, biases_and_layer_norms, linear_schedule

WARMUP_SHARE = 0.1


def fine_tune(model, rows, steps, batch_size=8, learning_rate=1e-3, seed=0):
    """Train a model in place on labelled rows, every round in another order.

    Parameters
    ----------
    model : AlbertPreTrainedModel
    rows : dict of str to array, shape (N, ...)
        Arguments of `model.loss_and_gradients`, for all rows.
    steps, batch_size : int
    learning_rate : float
        The highest one: it rises for the first tenth of the steps, then falls to 0.
    seed : int
        Draws the order of the rows.

    Returns
    -------
    list of float
        The loss of each step, before the step.
    """
    batches = shuffled_batches(rows, batch_size, np.random.default_rng(seed))
    return train(
        AdamW(model.parameters, undecayed=biases_and_layer_norms(model.parameters)),
        ((model, batch) for batch in batches),
        linear_schedule(learning_rate, steps, round(WARMUP_SHARE * steps)),
        "fine-tuning",
    )


def batches_in_order(rows, batch_size):
    """The rows in batches, in their order.

    Parameters
    ----------
    rows : dict of str to array, shape (N, ...)
        Arguments of a model's call.
    batch_size : int

    Yields
    ------
    dict of str to array, shape (batch_size or fewer, ...)
    """
    for start in range(0, _count(rows), batch_size):
        yield {name: array[start : start + batch_size] for name, array in rows.items()}


def shuffled_batches(rows, batch_size, rng):
    """The rows in batches without end, each once a round, every round in another order.

    Parameters
    ----------
    rows, batch_size
        As for `batches_in_order`.
    rng : numpy.random.Generator

    Yields
    ------
    dict of str to array, shape (batch_size or fewer, ...)
    """
    while True:
        order = rng.permutation(_count(rows))
        yield from batches_in_order({name: a[order] for name, a in rows.items()}, batch_size)


def _count(rows):
    return len(next(iter(rows.values())))

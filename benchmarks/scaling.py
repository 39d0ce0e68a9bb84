"""How time and memory grow with the sequence length, the batch, and the model's size."""

import math

from albert_np import AlbertConfig
from albert_np.config import SIZES
from benchmarks import model
from benchmarks.batches import random_batch
from benchmarks.resident import available_bytes

SHARE = 0.8  # of the memory that is free, which may be counted on
SERIES = {
    "sequence_length": [("base", 4, S) for S in (64, 128, 256, 512)],
    "batch_size": [("base", B, 128) for B in (1, 2, 4, 8, 16, 32)],
    "hidden_size": [(size, 1, 128) for size in SIZES],
}
WORKS = ("forward", "training")


def cases():
    """Each work at each point of the series once: (work, size, B, S)."""
    points = dict.fromkeys(point for series in SERIES.values() for point in series)
    return [(work, *point) for work in WORKS for point in points]


def needed_bytes(work, config, batch_size, sequence_length, contenders):
    """About what the processes of one measurement hold, at the most.

    Parameters
    ----------
    work : {"forward", "training"}
    config : AlbertConfig
    batch_size, sequence_length : int
    contenders : int

    Returns
    -------
    int
        The float64 reference runs alone, the others lie beside each other in float32. Training
        has gradients, and keeps what every layer computes; forward what one does.
    """
    B, S, A = batch_size, sequence_length, config.num_attention_heads
    H, I = config.hidden_size, config.intermediate_size  # noqa: E741
    shapes = model.CLASSES[work].parameter_shapes(config).values()
    weights = sum(math.prod(shape) for shape in shapes)
    layer = B * S * (12 * H + 4 * I) + 3 * B * A * S * S
    is_training = work == "training"
    elements = weights * (1 + is_training) + layer * (config.num_hidden_layers**is_training)
    return elements * max(8, 4 * contenders)


def layers_that_fit(work, config, batch_size, sequence_length, contenders, available):
    """The most layers, up to the configuration's, for which memory suffices; 0 if for none.

    Parameters
    ----------
    work, config, batch_size, sequence_length, contenders
        As for `needed_bytes`.
    available : int
        Bytes.
    """

    def fits(layers):
        smaller = config.changed(num_hidden_layers=layers)
        needed = needed_bytes(work, smaller, batch_size, sequence_length, contenders)
        return needed <= SHARE * available

    return next((n for n in range(config.num_hidden_layers, 0, -1) if fits(n)), 0)


def measure(work, size, batch_size, sequence_length, run):
    """One point, with fewer layers where the machine is too small for all.

    Returns
    -------
    dict
        Of `model.measure`, with `size` and `layers_of_size`, the layers it should have; where not
        even one layer fits, `layers` is 0, and there are no contenders.
    """
    config = AlbertConfig(**SIZES[size])
    count = len(run.back_ends) + len(model.able_peers(work, run))
    shape = batch_size, sequence_length
    layers = layers_that_fit(work, config, *shape, count, available_bytes())
    named = {"size": size, "layers_of_size": config.num_hidden_layers}
    if layers == 0:
        left_out = {"work": work, "dtype": run.dtype, "layers": 0, "contenders": {}}
        sizes = {"batch_size": batch_size, "sequence_length": sequence_length}
        return named | sizes | left_out
    smaller = config.changed(num_hidden_layers=layers)
    return named | model.measure(work, smaller, random_batch(smaller, *shape), run)


def steps(run):
    """How many steps `measure` reports for all the cases."""
    return sum(model.steps(work, 1, run) for work, *_ in cases())

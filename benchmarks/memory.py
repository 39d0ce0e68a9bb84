"""Memory: ALBERT-xxlarge, one sentence, forward."""

import numpy as np

from albert_np import AlbertConfig, AlbertModel
from benchmarks.resident import peak_bytes, reset_peak, resident_bytes

SEQUENCE_LENGTH = 128
SEED = 0


def measure(config, sequence_length):
    """The resident memory that one sentence's forward pass takes above the weights.

    Parameters
    ----------
    config : AlbertConfig
    sequence_length : int

    Returns
    -------
    dict
        `weights_bytes`; `resident_bytes` after the weights were built; `peak_bytes` of the
        forward pass, which includes them.
    """
    model = AlbertModel(config, seed=SEED)
    generator = np.random.default_rng(SEED)
    input_ids = generator.integers(config.pad_token_id + 1, config.vocab_size, (1, sequence_length))
    reset_peak()
    resident = resident_bytes()
    model(input_ids=input_ids)
    return {
        "batch_size": 1,
        "sequence_length": sequence_length,
        "dtype": str(model.dtype),
        "weights_bytes": sum(array.nbytes for array in model.parameters.values()),
        "resident_bytes": resident,
        "peak_bytes": peak_bytes(),
    }


def measure_xxlarge():
    """What `python -m benchmarks memory` measures: AlbertConfig's defaults are xxlarge's."""
    return measure(AlbertConfig(), SEQUENCE_LENGTH)

"""Calls of a small model that reach every kernel of a back end."""

from itertools import product

import numpy as np

from albert_np.config import AlbertConfig
from albert_np.models import AlbertForMaskedLM

DTYPES = ("float32", "float64")


def warm_up(backend):
    """Run every kernel of a back end once, so that those that are compiled are.

    Parameters
    ----------
    backend : str or Backend

    Raises
    ------
    ValueError, ImportError
        If there is no such back end, or a library that it needs is missing.
    """
    config = AlbertConfig(
        vocab_size=50,
        embedding_size=8,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        max_position_embeddings=8,
    )
    ids = np.arange(16).reshape(2, 8)
    masks = (None, ids < 12)
    for dtype in DTYPES:
        model = AlbertForMaskedLM(config, dtype=dtype, backend=backend)
        for mask, packed, seed in product(masks, (False, True), (None, 0)):
            call = {"attention_mask": mask, "packed": packed, "seed": seed}
            model(ids, **call)
            model.loss_and_gradients(input_ids=ids, labels=ids, **call)

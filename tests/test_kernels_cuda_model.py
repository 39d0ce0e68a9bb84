"""A small ALBERT on the CUDA kernels, on the CPU, forward and backward, against the reference."""

from itertools import product

import numpy as np
import pytest
from cuda_support import FLOAT64, NEEDS_COMPILER, sample
from models_support import random_batch

from albert_np import AlbertConfig, AlbertForMaskedLM, AlbertForPreTraining
from albert_np.backend import Backend
from albert_np.kernels import cuda
from albert_np.kernels.cuda.host import HostExecutor

pytestmark = NEEDS_COMPILER

# The longest chain of roundings: 4 repetitions of sums of up to 72 terms, forward and backward.
TOLERANCE = 1e-11

SMALL = AlbertConfig(
    vocab_size=50,
    embedding_size=8,
    hidden_size=24,
    num_hidden_layers=4,
    num_hidden_groups=2,
    num_attention_heads=2,
    intermediate_size=72,
    hidden_dropout_prob=0.2,
    attention_probs_dropout_prob=0.2,
    max_position_embeddings=40,
    initializer_range=0.3,
)


class Counting(HostExecutor):
    """Remembers which kernels ran."""

    def __init__(self):
        super().__init__(seed=1)
        self.kernels = set()

    def launch(self, launch):
        self.kernels.add(launch.kernel.split("<")[0])
        super().launch(launch)


BOTH = (AlbertForMaskedLM, AlbertForPreTraining)
KINDS = list(product(BOTH, (False, True), (None, 7)))


@pytest.mark.parametrize(
    ("model_class", "packed", "seed"),
    sample(KINDS, [(AlbertForMaskedLM, False, None), (AlbertForPreTraining, True, 7)]),
)
def test_small_model(model_class, packed, seed):
    """Loss and every gradient, with dropout and without, padded and packed."""
    executor = Counting()
    backend = Backend("cuda", **cuda.functions(executor))
    batch = random_batch(model_class, SMALL, np.random.default_rng(3), (3, 37))
    expected, ours = (
        model_class(SMALL, seed=5, dtype=FLOAT64.name, backend=which).loss_and_gradients(
            **batch, seed=seed, packed=packed
        )
        for which in ("numpy", backend)
    )
    np.testing.assert_allclose(ours[0], expected[0], rtol=TOLERANCE)
    scale = max(np.abs(gradient).max() for gradient in expected[1].parameters.values())
    for name, gradient in expected[1].parameters.items():
        np.testing.assert_allclose(
            ours[1].parameters[name], gradient, rtol=0, atol=TOLERANCE * scale, err_msg=name
        )
    for part in ("attention_forward", "attention_backward_key", "layer_norm_backward", "gelu_new"):
        assert any(kernel.startswith(part) for kernel in executor.kernels), part


def test_relative_positions():
    """Attention is the plain pairs'; what adds up the distances is a kernel, as for words."""
    backend = Backend("cuda", **cuda.functions(HostExecutor(seed=1)))
    config = SMALL.changed(position_embedding_type="relative_key_query")
    batch = random_batch(AlbertForMaskedLM, config, np.random.default_rng(3), (2, 19))
    expected, ours = (
        AlbertForMaskedLM(config, seed=5, dtype=FLOAT64.name, backend=which)
        .loss_and_gradients(**batch)[1]
        .parameters
        for which in ("numpy", backend)
    )
    scale = max(np.abs(gradient).max() for gradient in expected.values())
    for name, gradient in expected.items():
        np.testing.assert_allclose(
            ours[name], gradient, rtol=0, atol=TOLERANCE * scale, err_msg=name
        )

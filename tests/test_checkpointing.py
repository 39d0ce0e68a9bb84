"""Computing again in the pullback what was not kept."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models_support import CLASSES, WITH_A_LOSS, random_batch, random_like, random_model, suited_to
from options_support import configs_with_options

from albert_np import AlbertConfig, AlbertForMaskedLM
from albert_np.backend import NUMPY
from albert_np.functions.fused import bias_dropout_residual_layer_norm_forward
from albert_np.functions.linear import linear_forward

pytestmark = pytest.mark.usefixtures("each_backend")

SEEDS = st.integers(0, 2**32 - 1)
EVERY = st.integers(1, 5)


def assert_same_gradients(gradients, expected):
    for name, gradient in expected.parameters.items():
        np.testing.assert_array_equal(gradients.parameters[name], gradient)
    np.testing.assert_array_equal(gradients.inputs_embeds, expected.inputs_embeds)


@pytest.mark.parametrize("model_class", CLASSES)
@given(config=configs_with_options(), seed=SEEDS, every=EVERY, drop=st.booleans())
def test_gradients_are_the_same_to_the_last_bit(model_class, config, seed, every, drop):
    generator = np.random.default_rng(seed)
    config = suited_to(model_class, config)
    model = random_model(model_class, config, seed)
    chunk = config.chunk_size_feed_forward or 1
    batch = random_batch(model_class, config, generator, (2, 2 * chunk))
    batch |= {"output_hidden_states": True, "output_attentions": True}
    batch |= {"seed": seed if drop else None, "packed": bool(generator.integers(2))}
    outputs, pullback = model.vjp(**batch)
    again, pullback_again = model.vjp(**batch, checkpoint_every=every)
    gradients = random_like(outputs, generator)
    for name in gradients:
        for value, expected in zip(again[name], outputs[name], strict=True):
            np.testing.assert_array_equal(value, expected)
    assert_same_gradients(pullback_again(gradients), pullback(gradients))
    assert_same_gradients(pullback_again(gradients), pullback(gradients))  # and once more


@pytest.mark.parametrize("model_class", WITH_A_LOSS)
@given(config=configs_with_options(), seed=SEEDS, every=EVERY)
def test_loss_and_gradients_are_the_same_to_the_last_bit(model_class, config, seed, every):
    generator = np.random.default_rng(seed)
    config = suited_to(model_class, config)
    model = random_model(model_class, config, seed)
    chunk = config.chunk_size_feed_forward or 1
    batch = random_batch(model_class, config, generator, (2, 2 * chunk)) | {"seed": seed}
    loss, gradients = model.loss_and_gradients(**batch)
    loss_again, again = model.loss_and_gradients(**batch, checkpoint_every=every)
    assert loss_again == loss
    assert_same_gradients(again, gradients)


def small_model():
    config = AlbertConfig(
        vocab_size=12,
        embedding_size=4,
        hidden_size=6,
        num_hidden_layers=5,
        num_attention_heads=2,
        intermediate_size=5,
    )
    return random_model(AlbertForMaskedLM, config)


@pytest.mark.parametrize("every, again", [(None, 0), (1, 5), (2, 5), (9, 5)])
def test_each_layer_runs_once_more(every, again):
    """Four linear maps a layer; three others, and the decoder inside its loss."""
    calls = []

    def watched(x, weight, bias=None):
        calls.append(weight.shape)
        return linear_forward(x, weight, bias)

    model = small_model()
    model.backend = replace(NUMPY, linear_forward=watched)
    batch = {"input_ids": [[1, 2, 3]], "labels": [[3, 2, 1]]}
    model.loss_and_gradients(**batch, checkpoint_every=every)
    assert calls.count((18, 6)) == 5 + again


@pytest.mark.parametrize("every, kept", [(None, [True] * 10), (2, [False] * 10 + [True] * 10)])
def test_layer_norms_keep_what_a_backward_pass_will_read(every, kept):
    """Two a layer. A forward pass alone keeps nothing, nor one that is run again in backward."""
    asked = []

    def watched(*arguments, keep):
        asked.append(keep)
        return bias_dropout_residual_layer_norm_forward(*arguments, keep=keep)

    model = small_model()
    model.backend = replace(NUMPY, bias_dropout_residual_layer_norm_forward=watched)
    model(input_ids=[[1, 2, 3]])
    assert asked == [False] * 10
    asked.clear()
    batch = {"input_ids": [[1, 2, 3]], "labels": [[3, 2, 1]]}
    model.loss_and_gradients(**batch, checkpoint_every=every)
    assert asked == kept


@pytest.mark.parametrize(
    "every, error, message",
    [
        (0, ValueError, "checkpoint_every is 0; expected 1 or more"),
        (-1, ValueError, "checkpoint_every is -1; expected 1 or more"),
        (1.0, TypeError, "checkpoint_every is 1.0; expected an integer or None"),
        (True, TypeError, "checkpoint_every is True; expected an integer or None"),
    ],
)
def test_bad_intervals(every, error, message):
    model = small_model()
    batch = {"input_ids": [[1, 2, 3]], "labels": [[3, 2, 1]]}
    with pytest.raises(error, match=message):
        model.loss_and_gradients(**batch, checkpoint_every=every)
    with pytest.raises(error, match=message):
        model.vjp(**batch, checkpoint_every=every)


def peak_bytes(model, batch, every):
    """The most memory that a loss and its gradients need at a time."""
    tracemalloc.start()
    try:
        model.loss_and_gradients(**batch, checkpoint_every=every)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_one_segment_is_held_at_a_time():
    """Four repetitions at a time need what three more keep; all eight, what seven more do.

    So to half a repetition, since what is held for a moment is not of the layers alone.
    """
    config = AlbertConfig(
        vocab_size=12,
        embedding_size=4,
        hidden_size=32,
        num_hidden_layers=8,
        num_attention_heads=2,
        intermediate_size=64,
    )
    model = random_model(AlbertForMaskedLM, config)
    ids = np.ones((4, 128), int)
    batch = {"input_ids": ids, "labels": ids}
    model.loss_and_gradients(**batch)
    one, four, eight = (peak_bytes(model, batch, every) for every in (1, 4, None))
    assert four - one < 3.5 / 7 * (eight - one)

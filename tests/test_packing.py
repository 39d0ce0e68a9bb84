"""Packed and padded batches give the same to rounding, wherever there is a token."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models_support import CLASSES, WITH_A_LOSS, random_batch, random_like, random_model, suited_to
from options_support import configs_with_options

from albert_np import (
    AlbertConfig,
    AlbertForMultipleChoice,
    AlbertForPreTraining,
    AlbertForQuestionAnswering,
    AlbertForSequenceClassification,
    AlbertModel,
)
from albert_np.backend import NUMPY
from albert_np.functions.linear import linear_forward

pytestmark = pytest.mark.usefixtures("each_backend")

SEEDS = st.integers(0, 2**32 - 1)
PADDING_APART = [c for c in CLASSES if c is not AlbertForQuestionAnswering]
POOLED = (AlbertForSequenceClassification, AlbertForMultipleChoice)
# Two orders of the same sums, up to eight repetitions deep: see `gradient_noise`.
TOLERANCE = 1e-9


def random_call(model_class, config, generator, from_embeds=False):
    """A batch with holes anywhere in its mask, some of whose rows are empty; and what is real.

    No token that is padding is labelled, or the first of a sequence.
    """
    chunk = config.chunk_size_feed_forward or 1
    S = chunk * int(generator.integers(1, config.max_position_embeddings // chunk + 1))
    shape = (int(generator.integers(1, 4)), S)
    batch = random_batch(model_class, config, generator, shape, from_embeds)
    mask = generator.random(batch["token_type_ids"].shape) < 0.6
    mask[..., 0] |= mask.any(axis=-1)
    real = mask | ~mask.any(axis=-1, keepdims=True)
    batch["attention_mask"] = mask.astype(np.int64)
    if model_class.token_labels:
        batch["labels"] = np.where(real, batch["labels"], -100)
    if generator.integers(2):
        batch["head_mask"] = generator.random(config.num_attention_heads)
    return batch, real


def without_padding(model_class, name, value, real):
    """An output, or a gradient of it, with 0 where a padded batch has padding."""
    if isinstance(value, tuple):
        return tuple(without_padding(model_class, name, part, real) for part in value)
    rows = real.reshape(-1, real.shape[-1])  # (B, S), or (B·C, S)
    if name == "hidden_states" or name in model_class.token_outputs:
        return value * rows[..., None]
    return value * rows[:, None, :, None] if name == "attentions" else value


def assert_near(value, expected, scale=None):
    scale = np.abs(expected).max() if scale is None else scale
    np.testing.assert_allclose(value, expected, rtol=0, atol=TOLERANCE * scale)


def assert_near_gradients(gradients, expected):
    scale = max(np.abs(gradient).max() for gradient in expected.parameters.values())
    for name, gradient in expected.parameters.items():
        assert_near(gradients.parameters[name], gradient, scale)
    assert_near(gradients.inputs_embeds, expected.inputs_embeds, scale)


@pytest.mark.parametrize("model_class", PADDING_APART)
@given(config=configs_with_options(), seed=SEEDS, drop=st.booleans(), from_embeds=st.booleans())
def test_outputs_and_gradients_are_those_of_the_padded_batch(
    model_class, config, seed, drop, from_embeds
):
    """Of every class and option, with 0 at the padding."""
    generator = np.random.default_rng(seed)
    config = suited_to(model_class, config)
    model = random_model(model_class, config, seed)
    batch, real = random_call(model_class, config, generator, from_embeds)
    batch |= {"output_hidden_states": True, "output_attentions": True}
    batch |= {"seed": seed if drop else None}
    padded, padded_pullback = model.vjp(**batch, packed=False)
    packed, packed_pullback = model.vjp(**batch, packed=True)
    assert packed.keys() == padded.keys()
    for name in padded.keys():  # noqa: SIM118 (iterating gives the values)
        expected = without_padding(model_class, name, padded[name], real)
        values = [v if isinstance(v, tuple) else (v,) for v in (packed[name], expected)]
        for value, its_expected in zip(*values, strict=True):
            assert_near(value, its_expected)

    gradients = random_like(padded, generator)
    if model_class.label_names:
        gradients["loss"] = generator.normal()
    expected = padded_pullback(
        {name: without_padding(model_class, name, g, real) for name, g in gradients.items()}
    )
    assert_near_gradients(packed_pullback(gradients), expected)


@given(config=configs_with_options(prune=False), seed=SEEDS, drop=st.booleans())
def test_answers_are_those_of_each_sequence_alone(config, seed, drop):
    """The softmax of question answering spans real tokens, so its loss is another than padded."""
    generator = np.random.default_rng(seed)
    config = suited_to(AlbertForQuestionAnswering, config)
    model = random_model(AlbertForQuestionAnswering, config, seed)
    batch, real = random_call(AlbertForQuestionAnswering, config, generator)
    batch |= {"seed": seed if drop else None}
    outputs, pullback = model.vjp(**batch, packed=True)
    padded = model(**batch, packed=False)
    losses = []
    for name in ("start", "end"):
        logits = padded[f"{name}_logits"]
        assert_near(outputs[f"{name}_logits"], logits * real)
        positions = batch[f"{name}_positions"]
        rows = [b for b, at in enumerate(positions) if at < real.shape[1] and real[b, at]]
        assert rows  # the first has one
        each = [np.log(np.exp(logits[b] - logits[b, positions[b]])[real[b]].sum()) for b in rows]
        losses.append(np.mean(each))
    assert abs(outputs.loss - np.mean(losses)) <= TOLERANCE * max(losses)
    assert_near_gradients(
        model.loss_and_gradients(**batch, packed=True)[1], pullback({"loss": 1.0})
    )


def small_model(model_class, **settings):
    config = AlbertConfig(
        vocab_size=20,
        embedding_size=5,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=9,
        max_position_embeddings=8,
        num_labels=2,
    )
    return random_model(model_class, config, **settings)


def rows_of_linear_maps(model, method, batch):
    """How many rows the first map to the hidden size is given."""
    rows = []

    def watched(x, weight, bias=None):
        rows.append(x.size // x.shape[-1])
        return linear_forward(x, weight, bias)

    model.backend = replace(NUMPY, linear_forward=watched)
    getattr(model, method)(**batch)
    return rows[0]


SIX_OF_TEN = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])


@pytest.mark.parametrize("model_class", WITH_A_LOSS)
def test_a_batch_is_packed_unasked_where_nobody_can_tell(model_class):
    generator = np.random.default_rng(0)
    model = small_model(model_class)
    shape = (1, 2, 5) if model_class is AlbertForMultipleChoice else (2, 5)
    batch = random_batch(model_class, model.config, generator, shape[-2:])
    batch = {name: array for name, array in batch.items() if name in model_class.label_names}
    batch["input_ids"] = generator.integers(1, 20, shape)
    if model_class is AlbertForMultipleChoice:
        batch["labels"] = [1]
    if model_class.token_labels:
        batch["labels"] = np.where(SIX_OF_TEN, 1, -100)
    batch["attention_mask"] = SIX_OF_TEN.reshape(shape)
    whole = model_class is AlbertForQuestionAnswering
    pooled = model_class in POOLED
    assert rows_of_linear_maps(model, "loss_and_gradients", batch) == (10 if whole else 6)
    for method in ("__call__", "vjp"):
        assert rows_of_linear_maps(model, method, batch) == (6 if pooled else 10)
        asked = batch | {"output_hidden_states": True}
        assert rows_of_linear_maps(model, method, asked) == 10
        assert rows_of_linear_maps(model, method, asked | {"packed": True}) == 6
        assert rows_of_linear_maps(model, method, batch | {"packed": False}) == 10
    left = batch | {"attention_mask": SIX_OF_TEN[:, ::-1].reshape(shape)}
    if "labels" in batch and model_class.token_labels:
        left["labels"] = np.where(SIX_OF_TEN[:, ::-1], 1, -100)
    first_needed = pooled or whole or model_class is AlbertForPreTraining
    rows = 10 if first_needed else 6
    assert rows_of_linear_maps(model, "loss_and_gradients", left) == rows
    if model_class.token_labels:
        batch["labels"] = np.ones((2, 5), int)
        assert rows_of_linear_maps(model, "loss_and_gradients", batch) == 10


@pytest.mark.parametrize("model_class", (AlbertModel, *POOLED, AlbertForPreTraining))
def test_the_pooler_takes_the_first_token_that_is_not_padding(model_class):
    """Left padding, packed, is right padding with the same positions."""
    generator = np.random.default_rng(0)
    model = small_model(model_class, dtype="float64")
    ids, positions = generator.integers(1, 20, (2, 2, 5))
    positions %= 8
    left = SIX_OF_TEN[:, ::-1]
    batches = []
    for mask, order in ((left, left), (SIX_OF_TEN, SIX_OF_TEN)):
        batch = {"attention_mask": mask}
        for name, tokens in (("input_ids", ids), ("position_ids", positions)):
            row = np.zeros((2, 5), int)
            row[order == 1] = tokens[SIX_OF_TEN == 1]
            batch[name] = row
        if model_class is AlbertForMultipleChoice:
            batch = {name: array[:, None] for name, array in batch.items()}
        batches.append(model(**batch, packed=True))
    name = {AlbertModel: "pooler_output", AlbertForPreTraining: "sop_logits"}.get(
        model_class, "logits"
    )
    assert_near(*[outputs[name] for outputs in batches])


@pytest.mark.parametrize("packed", [1, "yes", 0.0])
def test_packed_of_another_type(packed):
    with pytest.raises(TypeError, match=f"packed is {packed!r}; expected True, False or None"):
        small_model(AlbertModel)([[1, 2]], packed=packed)


def test_a_mask_for_each_query_leaves_a_batch_as_it_is():
    model = small_model(AlbertForQuestionAnswering)
    ids = [[1, 2, 3]]
    mask = np.tri(3)[None]
    for name in ("start_logits", "end_logits"):
        np.testing.assert_array_equal(
            model(ids, attention_mask=mask, packed=True)[name],
            model(ids, attention_mask=mask)[name],
        )

"""Small models and batches, drawn at random, that the tests of the models share."""

import numpy as np
from hypothesis import strategies as st

from albert_np import AlbertConfig, AlbertForMaskedLM, AlbertForPreTraining, AlbertModel

CLASSES = (AlbertModel, AlbertForMaskedLM, AlbertForPreTraining)


@st.composite
def configs(draw, dropout=False, activations=("gelu_new", "gelu", "relu", "silu")):
    """Draw a configuration: every structural parameter, in small sizes."""
    heads = draw(st.integers(1, 4))
    layers = draw(st.integers(1, 4))
    groups = draw(st.integers(1, layers))
    # The peer slices its (empty) head mask by layers per group, and runs past its end otherwise.
    inner = draw(st.integers(1, max(1, min(2, layers // groups))))
    vocab_size = draw(st.integers(8, 40))
    probabilities = st.sampled_from([0.0, 0.1, 0.5]) if dropout else st.just(0.0)
    return AlbertConfig(
        vocab_size=vocab_size,
        embedding_size=draw(st.integers(3, 9)),
        hidden_size=heads * draw(st.integers(3, 6)),
        num_hidden_layers=layers,
        num_hidden_groups=groups,
        num_attention_heads=heads,
        intermediate_size=draw(st.integers(3, 20)),
        inner_group_num=inner,
        hidden_act=draw(st.sampled_from(activations)),
        hidden_dropout_prob=draw(probabilities),
        attention_probs_dropout_prob=draw(probabilities),
        classifier_dropout_prob=draw(probabilities),
        max_position_embeddings=draw(st.integers(8, 12)),
        type_vocab_size=draw(st.integers(1, 3)),
        layer_norm_eps=draw(st.sampled_from([1e-12, 1e-5])),
        pad_token_id=draw(st.integers(0, vocab_size - 1)),
        initializer_range=0.5,
    )


def random_model(model_class, config, seed=0, dtype="float64", **settings):
    """A model none of whose parameters is 0 or 1, so that none can be left out unnoticed."""
    model = model_class(config, seed=seed, dtype=dtype, **settings)
    generator = np.random.default_rng(seed + 1)
    for name, array in model.parameters.items():
        if array.ndim == 1:
            array += generator.normal(0, 0.3, array.shape)
        elif "word_embeddings" in name:
            array[config.pad_token_id] = generator.normal(0, 0.5, array.shape[1])
    return model


def random_batch(model_class, config, generator, shape=None, from_embeds=False):
    """Arguments for a call: ids (or embeddings), a mask with padding, types, positions, labels."""
    if shape is None:
        longest = config.max_position_embeddings
        shape = (int(generator.integers(1, 4)), int(generator.integers(1, longest + 1)))
    B, S = shape
    ids = generator.integers(0, config.vocab_size, shape)
    lengths = generator.integers(1, S + 1, B)
    batch = {
        "attention_mask": (np.arange(S) < lengths[:, None]).astype(np.int64),
        "token_type_ids": generator.integers(0, config.type_vocab_size, shape),
        "position_ids": generator.integers(0, config.max_position_embeddings, shape),
    }
    if from_embeds:
        batch["inputs_embeds"] = generator.normal(size=(B, S, config.embedding_size))
    else:
        batch["input_ids"] = ids
    if "labels" in model_class.label_names:
        labels = np.where(generator.random(shape) < 0.4, ids, -100)
        labels[0, 0] = ids[0, 0]  # a loss of nothing would be not a number
        batch["labels"] = labels
    if "sentence_order_label" in model_class.label_names:
        batch["sentence_order_label"] = generator.integers(0, 2, B)
    return batch


def random_like(outputs, generator):
    """A random gradient for every output but the loss."""
    return {
        name: tuple(generator.normal(size=value.shape) for value in outputs[name])
        if isinstance(outputs[name], tuple)
        else generator.normal(size=outputs[name].shape)
        for name in outputs.keys()  # noqa: SIM118 (iterating gives the values)
        if name != "loss"
    }

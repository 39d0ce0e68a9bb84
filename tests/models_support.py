"""Small models and batches, drawn at random, that the tests of the models share."""

import numpy as np
from hypothesis import strategies as st

from albert_np import (
    AlbertConfig,
    AlbertForMaskedLM,
    AlbertForMultipleChoice,
    AlbertForPreTraining,
    AlbertForQuestionAnswering,
    AlbertForSequenceClassification,
    AlbertForTokenClassification,
    AlbertModel,
)
from albert_np.config import MULTI_LABEL, PROBLEM_TYPES, REGRESSION, SINGLE_LABEL
from albert_np.schedule import layer_schedule

TESTED = {"backend": "numpy"}  # which the fixture `each_backend` changes
LABEL_MAPS = ("id2label", "label2id")
WITH_A_LOSS = (
    AlbertForMaskedLM,
    AlbertForPreTraining,
    AlbertForSequenceClassification,
    AlbertForTokenClassification,
    AlbertForMultipleChoice,
    AlbertForQuestionAnswering,
)
CLASSES = (AlbertModel, *WITH_A_LOSS)


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
        # Wide, so that attention is far from even. With half of everything dropped, such a model is
        # chaotic: errors grow twentyfold a layer, and two that are right differ by 1e-11.
        initializer_range=0.3 if dropout else 0.5,
        num_labels=draw(st.integers(1, 4)),
        problem_type=draw(st.sampled_from([None, *PROBLEM_TYPES])),
    )


def suited_to(model_class, config):
    """A configuration that a class can be made with: answers have two ends; pairs, two orders."""
    if model_class not in (AlbertForPreTraining, AlbertForQuestionAnswering):
        return config
    values = {name: v for name, v in config.to_dict().items() if name not in LABEL_MAPS}
    return AlbertConfig(**values, num_labels=2)


def random_model(model_class, config, seed=0, dtype="float64", **settings):
    """A model none of whose parameters is 0 or 1, so that none can be left out unnoticed.

    It runs on the back end that is being tested, where the fixture `each_backend` is used.
    """
    model = model_class(config, seed=seed, dtype=dtype, **TESTED | settings)
    generator = np.random.default_rng(seed + 1)
    for name, array in model.parameters.items():
        if array.ndim == 1:
            array += generator.normal(0, 0.3, array.shape)
        elif "word_embeddings" in name:
            array[config.pad_token_id] = generator.normal(0, 0.5, array.shape[1])
    return model


def random_batch(model_class, config, generator, shape=None, from_embeds=False):
    """Arguments for a call: ids (or embeddings), a mask with padding, types, positions, labels.

    `shape` is (B, S), to which multiple choice adds two or three choices.
    """
    if shape is None:
        longest = config.max_position_embeddings
        shape = (int(generator.integers(1, 4)), int(generator.integers(1, longest + 1)))
    if model_class is AlbertForMultipleChoice:
        shape = (shape[0], int(generator.integers(2, 4)), shape[1])
    S = shape[-1]
    ids = generator.integers(0, config.vocab_size, shape)
    lengths = generator.integers(1, S + 1, shape[:-1])
    batch = {
        "attention_mask": (np.arange(S) < lengths[..., None]).astype(np.int64),
        "token_type_ids": generator.integers(0, config.type_vocab_size, shape),
        "position_ids": generator.integers(0, config.max_position_embeddings, shape),
    }
    if from_embeds:
        batch["inputs_embeds"] = generator.normal(size=(*shape, config.embedding_size))
    else:
        batch["input_ids"] = ids
    return batch | random_labels(model_class, config, generator, ids)


def random_labels(model_class, config, generator, ids):
    """Labels, some of them to be ignored, but not the first: a loss of nothing is not a number."""
    B, S = ids.shape[0], ids.shape[-1]
    if model_class is AlbertForMaskedLM:
        return {"labels": _some_ignored(ids, generator)}
    if model_class is AlbertForPreTraining:
        words = _some_ignored(ids, generator)
        return {"labels": words, "sentence_order_label": generator.integers(0, 2, B)}
    if model_class is AlbertForSequenceClassification:
        return {"labels": _classification_labels(config, generator, B)}
    if model_class is AlbertForTokenClassification:
        labels = generator.integers(0, config.num_labels, ids.shape)
        return {"labels": _some_ignored(labels, generator)}
    if model_class is AlbertForMultipleChoice:
        return {"labels": _some_ignored(generator.integers(0, ids.shape[1], B), generator)}
    if model_class is AlbertForQuestionAnswering:
        positions = generator.integers(0, S + 2, (2, B))  # some behind the end: ignored
        positions[:, 0] = 0  # which is never padding
        return {"start_positions": positions[0], "end_positions": positions[1]}
    return {}


def _some_ignored(labels, generator):
    kept = np.where(generator.random(labels.shape) < 0.4, labels, -100)
    kept.flat[0] = labels.flat[0]
    return kept


def _classification_labels(config, generator, B):
    """Of the problem that the configuration names, or of any that may be inferred."""
    n = config.num_labels
    inferred = REGRESSION if n == 1 else [SINGLE_LABEL, MULTI_LABEL][generator.integers(2)]
    problem_type = config.problem_type or inferred
    if problem_type == SINGLE_LABEL:
        return _some_ignored(generator.integers(0, n, B), generator)
    if problem_type == MULTI_LABEL:
        certain = generator.integers(0, 2, (B, n)).astype(np.float64)
        return np.where(generator.random((B, n)) < 0.7, certain, generator.random((B, n)))
    return generator.normal(size=(B,) if n == 1 and generator.integers(2) else (B, n))


def random_like(outputs, generator):
    """A random gradient for every output but the loss."""
    return {
        name: tuple(generator.normal(size=value.shape) for value in outputs[name])
        if isinstance(outputs[name], tuple)
        else generator.normal(size=outputs[name].shape)
        for name in outputs.keys()  # noqa: SIM118 (iterating gives the values)
        if name != "loss"
    }


def unshared(model):
    """The same model with a group of its own for each layer; and whose parameter each copies.

    Returns the model, and a function from a name in it to that in the model that was given.
    """
    config = model.config
    groups = [places[0][0] for places in layer_schedule(config)]
    inner = config.inner_group_num
    settings = {
        "num_hidden_groups": config.num_hidden_layers,
        "pruned_heads": {
            layer * inner + i: config.pruned_heads.get(group * inner + i, [])
            for layer, group in enumerate(groups)
            for i in range(inner)
        },
    }
    unshared_config = AlbertConfig(**(config.to_dict() | settings))
    copy = type(model)(unshared_config, dtype=model.dtype, backend=model.backend)

    def shared_name(name):
        prefix, found, rest = name.partition("albert_layer_groups.")
        if not found:
            return name
        layer, _, rest = rest.partition(".")
        return f"{prefix}{found}{groups[int(layer)]}.{rest}"

    for name, array in copy.parameters.items():
        array[...] = model.parameters[shared_name(name)]
    return copy, shared_name

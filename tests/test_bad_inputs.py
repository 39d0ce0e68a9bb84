"""Wrong arguments: one clear error each, which names the thing, what was given, what expected."""

import numpy as np
import pytest

from albert_np import (
    AlbertConfig,
    AlbertForMaskedLM,
    AlbertForMultipleChoice,
    AlbertForPreTraining,
    AlbertModel,
)

CONFIG = AlbertConfig(
    vocab_size=20,
    embedding_size=5,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=9,
    max_position_embeddings=8,
)
IDS = [[1, 2, 3], [4, 5, 6]]
EMBEDS = np.zeros((2, 3, 5))
NINE = [list(range(9))]

WRONG_VALUES = [
    ({}, "neither of input_ids and inputs_embeds given; expected exactly one"),
    ({"input_ids": IDS, "inputs_embeds": EMBEDS}, "both of input_ids and inputs_embeds given"),
    ({"input_ids": [1, 2]}, r"input_ids has shape \(2,\); expected \(batch, sequence\)"),
    ({"input_ids": [[1, 2], [3]]}, "input_ids is ragged"),
    ({"input_ids": np.zeros((0, 3), int)}, r"input_ids is empty: its shape is \(0, 3\)"),
    ({"input_ids": np.zeros((2, 0), int)}, r"input_ids is empty: its shape is \(2, 0\)"),
    ({"input_ids": []}, r"input_ids is empty: its shape is \(0,\)"),
    ({"input_ids": IDS, "attention_mask": [[1], [1, 1]]}, "attention_mask is ragged"),
    (
        {"input_ids": [[1, 20]]},
        r"input_ids has the value 20; expected 0 to 19 \(vocab_size is 20\)",
    ),
    ({"input_ids": [[1, -1]]}, "input_ids has the value -1; expected 0 to 19"),
    ({"input_ids": NINE}, "input_ids has 9 columns; max_position_embeddings is 8"),
    ({"inputs_embeds": np.zeros((1, 9, 5))}, "inputs_embeds has 9 columns; max_position_emb"),
    ({"inputs_embeds": np.zeros((2, 3, 8))}, "inputs_embeds has shape .*embedding_size being 5"),
    ({"inputs_embeds": np.zeros((2, 5))}, r"inputs_embeds has shape \(2, 5\)"),
    ({"input_ids": IDS, "attention_mask": [[1, 1, 0]]}, r"attention_mask has shape \(1, 3\); .*"),
    (
        {"input_ids": IDS, "attention_mask": [[1, 2, 0], [1, 1, 1]]},
        "attention_mask has the value 2",
    ),
    ({"input_ids": IDS, "attention_mask": np.full((2, 3), np.nan)}, "value nan; expected 0 or 1"),
    ({"input_ids": IDS, "token_type_ids": [[0, 1, 0]]}, "token_type_ids has shape"),
    ({"input_ids": IDS, "token_type_ids": [[0, 2, 0]] * 2}, "token_type_ids has the value 2"),
    ({"input_ids": IDS, "position_ids": [[0, 1]]}, r"position_ids has shape \(1, 2\)"),
    ({"input_ids": IDS, "position_ids": [[0, 1, 8]]}, "position_ids has the value 8"),
    (
        {"input_ids": IDS, "attention_mask": np.ones((2, 3, 2))},
        r"attention_mask has shape \(2, 3, 2\); "
        r"expected \(2, 3\), \(2, 3, 3\), \(2, 1, 3, 3\) or \(2, 2, 3, 3\)",
    ),
    ({"input_ids": IDS, "attention_mask": np.ones((2, 3, 3, 3))}, "attention_mask has shape"),
    ({"input_ids": IDS, "attention_mask": np.ones((1, 1, 3, 3))}, "attention_mask has shape"),
    ({"input_ids": IDS, "attention_mask": np.full((2, 3, 3), -np.inf)}, "has the value -inf"),
    (
        {"input_ids": IDS, "head_mask": [1]},
        r"head_mask has shape \(1,\); expected \(2,\) or \(2, 2\)",
    ),
    ({"input_ids": IDS, "head_mask": np.ones((1, 2))}, r"head_mask has shape \(1, 2\)"),
    ({"input_ids": IDS, "head_mask": np.ones((2, 2, 1))}, r"head_mask has shape \(2, 2, 1\)"),
    ({"input_ids": IDS, "head_mask": [[1, 1], [1]]}, "head_mask is ragged"),
    ({"input_ids": IDS, "head_mask": []}, "head_mask is empty"),
    ({"input_ids": IDS, "head_mask": [1, 1.5]}, "head_mask has the value 1.5; expected 0 to 1"),
    ({"input_ids": IDS, "head_mask": [0, -1]}, "head_mask has the value -1; expected 0 to 1"),
    ({"input_ids": IDS, "head_mask": [1, np.nan]}, "head_mask has the value nan"),
    ({"input_ids": IDS, "seed": -1}, r"seed is -1; expected 0 to 2\*\*64 - 1"),
    ({"input_ids": IDS, "seed": 2**64}, "seed is 18446744073709551616"),
]
WRONG_TYPES = [
    ({"input_ids": [[1.0, 2.0]]}, "input_ids has dtype float64; expected integers"),
    ({"input_ids": [["a"]]}, "input_ids has dtype <U1; expected integers"),
    ({"input_ids": IDS, "position_ids": [[0.0, 1.0, 2.0]]}, "position_ids has dtype float64"),
    ({"inputs_embeds": np.zeros((2, 3, 5), int)}, "inputs_embeds has dtype int64"),
    ({"inputs_embeds": EMBEDS + 1j}, "inputs_embeds has dtype complex128"),
    ({"input_ids": IDS, "attention_mask": [["1"] * 3] * 2}, "attention_mask has dtype <U1"),
    ({"input_ids": IDS, "attention_mask": np.ones((2, 3), complex)}, "attention_mask has dtype"),
    ({"input_ids": IDS, "head_mask": ["1", "1"]}, "head_mask has dtype <U1; expected numbers"),
    ({"input_ids": IDS, "head_mask": [1j, 1]}, "head_mask has dtype complex128; expected numbers"),
    ({"input_ids": IDS, "seed": 1.5}, "seed is 1.5; expected an integer"),
    ({"input_ids": IDS, "seed": True}, "seed is True; expected an integer"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG_VALUES)
def test_wrong_values(arguments, message):
    model = AlbertModel(CONFIG)
    for run in (model, lambda **a: model.vjp(**a), lambda **a: model.trace(**a)):
        with pytest.raises(ValueError, match=message):
            run(**arguments)


@pytest.mark.parametrize(("arguments", "message"), WRONG_TYPES)
def test_wrong_types(arguments, message):
    with pytest.raises(TypeError, match=message):
        AlbertModel(CONFIG)(**arguments)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[1, 2, 3]], r"labels has shape \(1, 3\); expected \(2, 3\)"),
        ([[1, 2, 20], [1, 1, 1]], "labels has the value 20; expected -100, or 0 to 19"),
        ([[1, 2, -1], [1, 1, 1]], "labels has the value -1"),
        ([[1, 2], [1]], "labels is ragged"),
    ],
)
def test_wrong_labels(labels, message):
    model = AlbertForMaskedLM(CONFIG)
    for run in (model, model.vjp, model.loss_and_gradients):
        with pytest.raises(ValueError, match=message):
            run(input_ids=IDS, labels=labels)


@pytest.mark.parametrize(
    ("label", "message"),
    [([0, 2], "sentence_order_label has the value 2"), ([0], "sentence_order_label has shape")],
)
def test_wrong_sentence_order_labels(label, message):
    with pytest.raises(ValueError, match=message):
        AlbertForPreTraining(CONFIG)(IDS, labels=IDS, sentence_order_label=label)


def test_labels_of_floating_numbers():
    with pytest.raises(TypeError, match="labels has dtype float64; expected integers"):
        AlbertForMaskedLM(CONFIG)(IDS, labels=[[1.0, 2.0, 3.0]] * 2)


def config_with(**options):
    return AlbertConfig(**(CONFIG.to_dict() | options))


def test_a_length_that_chunks_do_not_divide():
    model = AlbertModel(config_with(chunk_size_feed_forward=2))
    for run in (model, lambda **a: model.vjp(**a), lambda **a: model.trace(**a)):
        message = "has 3 columns; expected a multiple of chunk_size_feed_forward, 2"
        with pytest.raises(ValueError, match=f"input_ids {message}"):
            run(input_ids=IDS)
        with pytest.raises(ValueError, match=f"inputs_embeds {message}"):
            run(inputs_embeds=EMBEDS)


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
def test_a_sequence_longer_than_the_known_distances(kind):
    """Whatever its position_ids, which relative attention does not look at."""
    model = AlbertModel(config_with(position_embedding_type=kind))
    with pytest.raises(ValueError, match="input_ids has 9 columns; max_position_embeddings is 8"):
        model(NINE, position_ids=np.zeros((1, 9), int))


@pytest.mark.parametrize(
    ("heads", "error", "message"),
    [
        ({0: [2]}, ValueError, "heads_to_prune has the head 2 of layer 0; expected 0 to 1"),
        ({1: [0]}, ValueError, "heads_to_prune has the layer 1; expected 0 to 0"),
        ({0: [0, 1]}, ValueError, "heads_to_prune has all 2 heads of layer 0"),
        ([0], TypeError, r"heads_to_prune is \[0\]; expected heads by layer"),
    ],
)
def test_pruning_what_is_not_there_changes_nothing(heads, error, message):
    model = AlbertModel(CONFIG)
    before = dict(model.parameters)
    with pytest.raises(error, match=message):
        model.prune_heads(heads)
    assert model.config is CONFIG and model.config.pruned_heads == {}
    assert all(model.parameters[name] is array for name, array in before.items())


def test_a_pair_of_functions_is_not_saved_and_nothing_written(tmp_path):
    model = AlbertModel(config_with(hidden_act=(np.sin, np.cos)))
    with pytest.raises(ValueError, match="hidden_act is a pair of functions"):
        model.save_pretrained(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_unknown_arguments():
    model = AlbertModel(CONFIG)
    for run in (model.vjp, model.trace):
        with pytest.raises(TypeError, match="AlbertModel takes no argument 'atention_mask'"):
            run(input_ids=IDS, atention_mask=IDS)
    for run in (model, model.vjp):
        with pytest.raises(TypeError, match="AlbertModel takes no argument 'labels'"):
            run(input_ids=IDS, labels=IDS)


def test_a_model_without_a_loss():
    with pytest.raises(ValueError, match="AlbertModel has no loss without a head"):
        AlbertModel(CONFIG).loss_and_gradients(input_ids=IDS)
    with pytest.raises(ValueError, match="AlbertForMaskedLM has no loss without labels"):
        AlbertForMaskedLM(CONFIG).loss_and_gradients(input_ids=IDS)


@pytest.mark.parametrize(
    ("gradients", "message"),
    [
        (None, "the outputs have no loss"),
        ({"logit": 0}, "a gradient of 'logit' was given; the outputs are logits, hidden_states"),
        ({"loss": 1}, "a gradient of 'loss' was given"),
        ({"logits": np.zeros((2, 3))}, r"the gradient of logits has shape \(2, 3\)"),
        ({"hidden_states": [None]}, "1 gradients of hidden_states given; expected 3"),
        (
            {"hidden_states": [None, np.zeros(2), None]},
            r"the gradient of hidden_states\[1\] has shape \(2,\); expected \(2, 3, 8\)",
        ),
    ],
)
def test_wrong_output_gradients(gradients, message):
    _, pullback = AlbertForMaskedLM(CONFIG).vjp(input_ids=IDS, output_hidden_states=True)
    with pytest.raises(ValueError, match=message):
        pullback(gradients)


@pytest.mark.parametrize(
    ("gradients", "message"),
    [
        (np.zeros((2, 3, 20)), "the gradients are of type ndarray; expected a dict"),
        (
            {"hidden_states": 1},
            "the gradient of hidden_states is of type int; expected a list of 3",
        ),
        ({"logits": [["a"]]}, "the gradient of logits has dtype <U1; expected float32"),
    ],
)
def test_output_gradients_of_wrong_types(gradients, message):
    _, pullback = AlbertForMaskedLM(CONFIG).vjp(input_ids=IDS, output_hidden_states=True)
    with pytest.raises(TypeError, match=message):
        pullback(gradients)


def test_output_gradients_of_none_stand_for_zeros():
    _, pullback = AlbertForMaskedLM(CONFIG).vjp(input_ids=IDS, labels=IDS)
    for gradient in pullback({"loss": None, "logits": None}).parameters.values():
        assert not gradient.any()


@pytest.mark.parametrize("dtype", ["int32", "float16", np.longdouble, None, "foo"])
def test_unknown_dtypes(dtype):
    with pytest.raises(ValueError, match="dtype is .*; expected float32 or float64"):
        AlbertModel(CONFIG, dtype=dtype)


def test_unknown_back_ends_and_configurations():
    for backend in ("tpu", ["numpy"]):
        with pytest.raises(ValueError, match="backend .* is not one of numpy"):
            AlbertModel(CONFIG, backend=backend)
    with pytest.raises(TypeError, match="config is of type str; expected AlbertConfig"):
        AlbertModel("base")


def test_a_trace_of_gradients_needs_labels():
    with pytest.raises(ValueError, match="AlbertForMaskedLM has no loss without labels"):
        AlbertForMaskedLM(CONFIG).trace(input_ids=IDS, gradients=True)


def test_masks_of_choices_of_wrong_shapes():
    model = AlbertForMultipleChoice(CONFIG)
    ids = np.ones((2, 2, 3), int)
    assert model(ids, np.ones((2, 2, 2, 3, 3))).logits.shape == (2, 2)
    for shape in ((2, 3), (2, 2, 2), (2, 1, 3, 3), (2, 2, 3, 2), (2, 2, 3, 3, 3)):
        with pytest.raises(ValueError, match="attention_mask has shape"):
            model(ids, np.ones(shape))

"""Configurations and checkpoints, against transformers."""

import inspect
import json

import numpy as np
import pytest

transformers = pytest.importorskip("transformers", reason="the extra `parity` is not installed")

from albert_np import config as ours  # noqa: E402
from albert_np.checkpoint import (  # noqa: E402
    BIAS,
    DECODER_BIAS,
    DECODER_WEIGHT,
    WORD_EMBEDDING,
    load_parameters,
    save_parameters,
)
from albert_np.shards import read_tensors  # noqa: E402

SMALL = {
    "vocab_size": 11,
    "embedding_size": 4,
    "hidden_size": 6,
    "num_hidden_layers": 3,
    "num_hidden_groups": 2,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "inner_group_num": 2,
    "hidden_act": "silu",
    "hidden_dropout_prob": 0.25,
    "attention_probs_dropout_prob": 0.125,
    "max_position_embeddings": 7,
    "type_vocab_size": 3,
    "initializer_range": 0.5,
    "layer_norm_eps": 1e-7,
    "classifier_dropout_prob": 0.75,
    "pad_token_id": 1,
    "bos_token_id": 5,
    "eos_token_id": None,
}
OPTIONS = {
    "output_attentions": True,
    "output_hidden_states": True,
    "return_dict": False,
    "chunk_size_feed_forward": 3,
    "pruned_heads": {2: [0]},
}
OF_EVERY_MODEL = ["num_labels", "id2label", "label2id", "problem_type", *OPTIONS]


def parameters_of(config):
    names = [*inspect.signature(transformers.AlbertConfig).parameters][:-1]
    return {name: getattr(config, name) for name in names + OF_EVERY_MODEL}


def test_parameters_and_defaults():
    theirs = inspect.signature(transformers.AlbertConfig).parameters
    here = inspect.signature(ours.AlbertConfig).parameters
    assert [*here][:-1] == [*theirs][:-1] + OF_EVERY_MODEL
    assert inspect.signature(transformers.PretrainedConfig).parameters.keys() >= {*OF_EVERY_MODEL}
    assert parameters_of(ours.AlbertConfig()) == parameters_of(transformers.AlbertConfig())


LABELS = {0: "no", 1: "perhaps", 2: "yes"}
LABELLED = [
    {"num_labels": 1},
    {"num_labels": 12},
    {
        "id2label": LABELS,
        "label2id": {label: i for i, label in LABELS.items()},
        "problem_type": "multi_label_classification",
    },
]


@pytest.mark.parametrize(
    "values",
    [
        {},
        SMALL,
        SMALL | OPTIONS,
        {"pad_token_id": None},
        *LABELLED,
        *ours.PUBLISHED.values(),
    ],
)
def test_what_we_write_they_read(tmp_path, values):
    config = ours.AlbertConfig(**values)
    config.save_pretrained(tmp_path, architectures=["AlbertForMaskedLM"], dtype="float32")
    theirs = transformers.AlbertConfig.from_pretrained(tmp_path)
    assert parameters_of(theirs) == parameters_of(config)
    assert parameters_of(theirs) == parameters_of(transformers.AlbertConfig(**values))
    assert theirs.architectures == ["AlbertForMaskedLM"]
    assert type(transformers.AutoConfig.from_pretrained(tmp_path)) is transformers.AlbertConfig


@pytest.mark.parametrize(
    "values",
    [
        {"output_hidden_states": True},
        SMALL,
        SMALL | OPTIONS | {"position_embedding_type": "relative_key"},
        {"pad_token_id": None},
    ],
)
def test_what_they_write_we_read_and_write_back(tmp_path, values):
    labels = {i: f"label {i}" for i in (2, 10, 9, 0, 1, 3, 4, 5, 6, 7, 8)}
    theirs = transformers.AlbertConfig(
        **values,
        id2label=labels,
        label2id={label: i for i, label in labels.items()},
        architectures=["AlbertForMaskedLM"],
        problem_type="regression",
        dtype="float64",
        something_of_the_users={"nested": [1, 2.5, None, True]},
    )
    theirs.save_pretrained(tmp_path / "theirs")
    config = ours.AlbertConfig.from_pretrained(tmp_path / "theirs")
    assert parameters_of(config) == parameters_of(theirs)
    config.save_pretrained(tmp_path / "ours")
    written, original = (
        json.loads((tmp_path / name / "config.json").read_text()) for name in ("ours", "theirs")
    )
    assert written == original
    read, expected = (
        transformers.AlbertConfig.from_pretrained(tmp_path / name) for name in ("ours", "theirs")
    )
    assert read.to_dict() == expected.to_dict()


@pytest.mark.parametrize("values", LABELLED)
def test_labels_they_write_we_read_and_write_back(tmp_path, values):
    transformers.AlbertConfig(**values).save_pretrained(tmp_path / "theirs")
    config = ours.AlbertConfig.from_pretrained(tmp_path / "theirs")
    assert parameters_of(config) == parameters_of(transformers.AlbertConfig(**values))
    config.save_pretrained(tmp_path / "ours")
    written, original = (
        json.loads((tmp_path / name / "config.json").read_text()) for name in ("ours", "theirs")
    )
    assert written == original


def test_num_labels_is_set_as_there():
    config, theirs = ours.AlbertConfig(**LABELLED[2]), transformers.AlbertConfig(**LABELLED[2])
    for number in (3, 2, 5, 5):
        config.num_labels = theirs.num_labels = number
        assert parameters_of(config) == parameters_of(theirs)


@pytest.mark.parametrize("name", ["AlbertForMaskedLM", "AlbertForPreTraining", "AlbertModel"])
def test_tensors_go_both_ways(tmp_path, name):
    model_class = getattr(transformers, name)
    model_class(transformers.AlbertConfig(**SMALL)).save_pretrained(tmp_path / "theirs")
    tensors = read_tensors(tmp_path / "theirs" / "model.safetensors")
    parameters = {name: np.zeros_like(tensor) for name, tensor in tensors.items()}
    load_parameters(tmp_path / "theirs", parameters)
    save_parameters(tmp_path / "ours", parameters)
    ours.AlbertConfig(**SMALL).save_pretrained(tmp_path / "ours")
    model, loading = model_class.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(loading.values())
    state = model.state_dict()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(state[name].numpy(), tensor)


@pytest.mark.parametrize("without_bias", [False, True])
def test_decoder_that_differs_is_resolved_as_they_do(tmp_path, without_bias):
    config = transformers.AlbertConfig(**SMALL)
    transformers.AlbertForMaskedLM(config).save_pretrained(tmp_path)
    tensors = read_tensors(tmp_path / "model.safetensors")
    parameters = {name: np.zeros_like(tensor) for name, tensor in tensors.items()}
    tensors[DECODER_WEIGHT] = tensors[WORD_EMBEDDING] + 1
    tensors[DECODER_BIAS] = tensors[BIAS] + 2
    if without_bias:
        del tensors[BIAS]
    save_parameters(tmp_path, tensors)
    with pytest.warns(UserWarning, match="differs from"):
        load_parameters(tmp_path, parameters)
    state = transformers.AlbertForMaskedLM.from_pretrained(tmp_path).state_dict()
    for name, array in parameters.items():
        np.testing.assert_array_equal(array, state[name].numpy(), err_msg=name)
    assert parameters[BIAS].max() == 2

"""Checkpoints of one class loaded into another: what is new, and what is left out."""

import json
import re
import warnings

import numpy as np
import pytest
from models_support import CLASSES, random_model, suited_to
from safetensors.numpy import save_file

from albert_np import (
    AlbertConfig,
    AlbertForMaskedLM,
    AlbertForPreTraining,
    AlbertForSequenceClassification,
    AlbertModel,
)
from albert_np.errors import FileFormatError
from albert_np.shards import read_tensors

CONFIG = AlbertConfig(
    vocab_size=20,
    embedding_size=4,
    hidden_size=6,
    num_hidden_layers=2,
    num_hidden_groups=2,
    num_attention_heads=2,
    intermediate_size=5,
    max_position_embeddings=8,
)


def base_name(name):
    return name.removeprefix("albert.")


def warnings_of(action):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = action()
    assert all(warning.filename == __file__ for warning in caught)
    return result, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("saved_class", CLASSES)
@pytest.mark.parametrize("loaded_class", CLASSES)
def test_one_class_from_anothers_checkpoint(tmp_path, saved_class, loaded_class):
    one_label = CONFIG.changed(num_labels=1)  # as a multiple choice's classifier always has
    config = suited_to(loaded_class, suited_to(saved_class, one_label))
    saved = random_model(saved_class, config, dtype="float32")
    saved.save_pretrained(tmp_path)
    loaded, messages = warnings_of(lambda: loaded_class.from_pretrained(tmp_path, seed=7))
    there = {base_name(name): array for name, array in saved.parameters.items()}
    new = [name for name in loaded.parameters if base_name(name) not in there]
    unused = sorted(set(there) - {base_name(name) for name in loaded.parameters})
    for name, array in loaded.parameters.items():
        if name not in new:
            np.testing.assert_array_equal(array, there[base_name(name)])
        elif name.endswith("bias"):
            assert not array.any()
        else:
            assert array.all()
            assert array.std() < (1e-9 if "Norm" in name else 0.06)
    assert len(messages) == bool(new) + bool(unused)
    if unused:
        names = messages.pop(0).partition(": the model has no use for ")[2].split(", ")
        assert sorted(map(base_name, names)) == unused
    if new:
        hint = " (without it: add_pooling_layer=False)" if loaded_class is AlbertModel else ""
        assert messages == [
            f"{tmp_path} lacks {', '.join(new)}: newly initialized{hint}, and of no meaning "
            "before training"
        ]
    again, _ = warnings_of(lambda: loaded_class.from_pretrained(tmp_path, seed=7))
    other, _ = warnings_of(lambda: loaded_class.from_pretrained(tmp_path, seed=8))
    for name, array in loaded.parameters.items():
        np.testing.assert_array_equal(array, again.parameters[name])
        drawn = name in new and name.endswith("weight") and "Norm" not in name
        assert np.array_equal(array, other.parameters[name]) != drawn


def test_no_pooler_asked_for_and_none_missed(tmp_path):
    AlbertForMaskedLM(CONFIG).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="no use for predictions.LayerNorm.bias, ") as caught:
        model = AlbertModel.from_pretrained(tmp_path, add_pooling_layer=False)
    assert len(caught) == 1
    assert "pooler.weight" not in model.parameters


@pytest.mark.parametrize("model_class", CLASSES)
@pytest.mark.parametrize("prefix", ["", "albert."])
def test_a_prefix_missing_or_superfluous(tmp_path, model_class, prefix):
    """Every name with it or without, heads too."""
    model = random_model(model_class, CONFIG, dtype="float32")
    model.save_pretrained(tmp_path)
    tensors = read_tensors(tmp_path / "model.safetensors")
    renamed = {prefix + base_name(name): tensor for name, tensor in tensors.items()}
    save_file(renamed, tmp_path / "model.safetensors")
    loaded = model_class.from_pretrained(tmp_path)  # a warning is an error here
    for name, array in model.parameters.items():
        np.testing.assert_array_equal(loaded.parameters[name], array)


def test_a_checkpoint_without_its_trunk(tmp_path):
    AlbertModel(CONFIG).save_pretrained(tmp_path)
    tensors = read_tensors(tmp_path / "model.safetensors")
    name = "encoder.albert_layer_groups.1.albert_layers.0.ffn.bias"
    del tensors[name]
    save_file(tensors, tmp_path / "model.safetensors")
    for model_class in CLASSES:
        with pytest.raises(FileFormatError, match=f"lacks (albert.)?{name}; expected a tensor"):
            model_class.from_pretrained(tmp_path)


def test_a_head_of_another_size(tmp_path):
    AlbertForPreTraining(CONFIG).save_pretrained(tmp_path)
    tensors = read_tensors(tmp_path / "model.safetensors")
    tensors["sop_classifier.classifier.bias"] = np.zeros(3, "float32")
    save_file(tensors, tmp_path / "model.safetensors")
    message = r"sop_classifier.classifier.bias is of shape \(3,\); expected \(2,\)"
    with pytest.raises(FileFormatError, match=message):
        AlbertForPreTraining.from_pretrained(tmp_path)


@pytest.mark.parametrize("model_class", CLASSES)
@pytest.mark.parametrize("size", [1, 500, "5GB"])
def test_sharded_round_trip(tmp_path, model_class, size):
    model = random_model(model_class, CONFIG)
    model.save_pretrained(tmp_path, max_shard_size=size)
    loaded = model_class.from_pretrained(tmp_path, dtype="float64")
    assert list(loaded.parameters) == list(model.parameters)
    for name, array in model.parameters.items():
        np.testing.assert_array_equal(loaded.parameters[name], array)


def test_values_in_place_of_those_in_the_file(tmp_path):
    AlbertModel(CONFIG).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="no use for pooler.bias, pooler.weight$"):
        model = AlbertModel.from_pretrained(tmp_path, hidden_act="relu", add_pooling_layer=False)
    assert model.config.hidden_act == "relu"
    assert model.config.vocab_size == 20
    assert AlbertConfig.from_pretrained(tmp_path, hidden_act="relu").hidden_act == "relu"
    assert AlbertConfig.from_pretrained(tmp_path).hidden_act == "gelu_new"


def test_other_labels_than_in_the_file(tmp_path):
    """As the documentation's examples begin: a base model, and so many labels."""
    AlbertModel(CONFIG.changed(id2label={0: "no", 1: "yes"})).save_pretrained(tmp_path)

    def load(**labels):
        with pytest.warns(UserWarning, match="lacks classifier.weight, classifier.bias: newly"):
            return AlbertForSequenceClassification.from_pretrained(tmp_path, **labels)

    assert load().config.id2label == load(num_labels=2).config.id2label == {0: "no", 1: "yes"}
    model = load(num_labels=3, problem_type="multi_label_classification")
    assert model.config.problem_type == "multi_label_classification"
    assert model.config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert model.parameters["classifier.weight"].shape == (3, 6)
    assert load(id2label={0: "one"}).config.label2id == {"one": 0}
    assert load(label2id={"a": 0, "b": 1, "c": 2}).config.num_labels == 3
    others = {0: "false", 1: "true"}
    assert load(num_labels=2, id2label=others).config.label2id == {"false": 0, "true": 1}
    with pytest.raises(ValueError, match="num_labels is 3; id2label has 1 labels"):
        AlbertForSequenceClassification.from_pretrained(tmp_path, num_labels=3, id2label={0: "a"})


def test_a_configuration_in_place_of_the_file(tmp_path):
    AlbertModel(CONFIG).save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    model = AlbertModel.from_pretrained(tmp_path, config=CONFIG)
    assert model.config is CONFIG
    with pytest.raises(TypeError, match="config is given, and hidden_act"):
        AlbertModel.from_pretrained(tmp_path, config=CONFIG, hidden_act="relu")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"hiden_act": "relu"}, TypeError, "a configuration has no 'hiden_act'"),
        ({"to_dict": 1}, TypeError, "a configuration has no 'to_dict'"),
        ({"hidden_act": "tanh"}, ValueError, "hidden_act is 'tanh'"),
        ({"dtype": "float16"}, ValueError, "dtype is 'float16'"),
        ({"seed": "0"}, TypeError, "seed is '0'"),
        ({"seed": -1}, ValueError, "seed is -1"),
    ],
)
def test_wrong_settings(tmp_path, settings, error, message):
    AlbertModel(CONFIG).save_pretrained(tmp_path)
    with pytest.raises(error, match=message):
        AlbertModel.from_pretrained(tmp_path, **settings)


def test_a_configuration_that_cannot_be_written_leaves_the_older_checkpoint(tmp_path):
    model = AlbertModel(CONFIG, seed=1)
    model.save_pretrained(tmp_path)
    other = AlbertModel(CONFIG, seed=2)
    other.config = AlbertConfig.from_dict(CONFIG.to_dict() | {"mine": object()})
    with pytest.raises(TypeError):
        other.save_pretrained(tmp_path)
    other.config = CONFIG
    other.parameters["pooler.bias"][0] = np.nan
    with pytest.raises(ValueError, match="pooler.bias holds NaN or infinity in 1 of 6"):
        other.save_pretrained(tmp_path)
    other.parameters["pooler.bias"][0] = 0
    with pytest.raises(ValueError, match="max_shard_size"):
        other.save_pretrained(tmp_path, max_shard_size="large")
    assert json.loads((tmp_path / "config.json").read_text())["vocab_size"] == 20
    loaded = AlbertModel.from_pretrained(tmp_path)
    for name, array in model.parameters.items():
        np.testing.assert_array_equal(loaded.parameters[name], array)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_a_configuration_of_a_gigabyte_of_brackets(tmp_path):
    with open(tmp_path / "config.json", "wb") as file:
        file.write(b"[" * 1000)
        file.truncate(2**30)
    message = re.escape(f"{tmp_path / 'config.json'} has more than 16,777,216 bytes")
    with pytest.raises(FileFormatError, match=message):
        AlbertModel.from_pretrained(tmp_path)

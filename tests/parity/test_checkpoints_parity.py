"""Checkpoints to and from transformers 4.56.2: every class, no missing and no unexpected tensor."""

import json
import os
import sys
import types
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `parity` is not installed")
transformers = pytest.importorskip("transformers", reason="the extra `parity` is not installed")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from models_support import CLASSES, configs, random_model, suited_to  # noqa: E402
from peer_support import peer_of  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402
from tensorflow_support import release_arrays, write_archive, write_config  # noqa: E402

from albert_np import (  # noqa: E402
    AlbertConfig,
    AlbertForMultipleChoice,
    AlbertForPreTraining,
    AlbertForSequenceClassification,
    AlbertModel,
)
from albert_np.errors import FileFormatError  # noqa: E402

CONFIG = AlbertConfig(
    vocab_size=30,
    embedding_size=6,
    hidden_size=12,
    num_hidden_layers=4,
    num_hidden_groups=2,
    num_attention_heads=3,
    intermediate_size=20,
    inner_group_num=2,
    max_position_embeddings=10,
    id2label={0: "no", 1: "perhaps", 2: "yes"},
    problem_type="multi_label_classification",
)
SIZES = pytest.mark.parametrize("max_shard_size", ["5GB", "2KB", 1])


def peer_class(model_class):
    return getattr(transformers, model_class.__name__)


def random_peer(model_class, dtype="float32"):
    """A model of the peer's none of whose parameters is 0 or 1."""
    model = random_model(model_class, suited_to(model_class, CONFIG), dtype=dtype)
    return peer_of(model).to(getattr(torch, dtype))


def assert_same_parameters(model, peer):
    theirs = dict(peer.named_parameters())
    assert set(model.parameters) == set(theirs)
    for name, parameter in theirs.items():
        expected = parameter.detach().double().numpy()
        np.testing.assert_array_equal(model.parameters[name], expected, err_msg=name)


@SIZES
@pytest.mark.parametrize("model_class", CLASSES)
def test_what_we_save_they_load(model_class, max_shard_size, tmp_path):
    model = random_model(model_class, suited_to(model_class, CONFIG), dtype="float32")
    model.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    peer, loading = peer_class(model_class).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading.values()), loading
    assert_same_parameters(model, peer)
    for name in ("id2label", "label2id", "problem_type"):
        assert getattr(peer.config, name) == getattr(model.config, name)


@SIZES
@pytest.mark.parametrize("model_class", CLASSES)
def test_what_they_save_we_load(model_class, max_shard_size, tmp_path):
    peer = random_peer(model_class)
    peer.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    model = model_class.from_pretrained(tmp_path)  # any warning is an error
    assert_same_parameters(model, peer)
    assert model.config.to_dict().items() >= suited_to(model_class, CONFIG).to_dict().items()


@SIZES
@pytest.mark.parametrize("model_class", CLASSES)
def test_the_files_are_those_that_they_write(model_class, max_shard_size, tmp_path):
    peer = random_peer(model_class)
    peer.save_pretrained(tmp_path / "theirs", max_shard_size=max_shard_size)
    model = model_class.from_pretrained(tmp_path / "theirs")
    model.save_pretrained(tmp_path / "ours", max_shard_size=max_shard_size)
    names = sorted(os.listdir(tmp_path / "theirs"))
    assert sorted(os.listdir(tmp_path / "ours")) == names
    if len(names) > 2:
        ours, theirs = (
            json.loads((tmp_path / directory / "model.safetensors.index.json").read_text())
            for directory in ("ours", "theirs")
        )
        assert ours == theirs


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
@pytest.mark.parametrize("wanted", ["float32", "float64"])
def test_files_of_any_dtype(dtype, wanted, tmp_path):
    peer = random_peer(AlbertForPreTraining, "float32" if dtype != "float64" else dtype)
    peer = peer.to(getattr(torch, dtype))
    peer.save_pretrained(tmp_path)
    model = AlbertForPreTraining.from_pretrained(tmp_path, dtype=wanted)
    assert model.dtype == wanted
    assert_same_parameters(model, peer.to(getattr(torch, wanted)))


@pytest.mark.parametrize("model_class", CLASSES)
def test_older_names_and_stray_constants(model_class, tmp_path):
    model = random_model(model_class, suited_to(model_class, CONFIG), dtype="float32")
    model.save_pretrained(tmp_path)
    tensors = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): array
        for name, array in model.parameters.items()
    }
    prefix = "" if model_class is AlbertModel else "albert."
    tensors[f"{prefix}embeddings.position_ids"] = np.arange(10)[None]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    peer, loading = peer_class(model_class).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading.values()), loading
    assert_same_parameters(model, peer)
    assert_same_parameters(model_class.from_pretrained(tmp_path), peer)  # no warning


@pytest.mark.parametrize("saved_class", CLASSES)
@pytest.mark.parametrize("loaded_class", CLASSES)
def test_another_class_has_new_and_unused_what_they_say(saved_class, loaded_class, tmp_path):
    one_label = CONFIG.changed(num_labels=1)  # as a multiple choice's classifier always has
    config = suited_to(loaded_class, suited_to(saved_class, one_label))
    random_model(saved_class, config, dtype="float32").save_pretrained(tmp_path)
    peer, loading = peer_class(loaded_class).from_pretrained(tmp_path, output_loading_info=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = loaded_class.from_pretrained(tmp_path)
    text = " ".join(str(warning.message) for warning in caught)
    unused = text.partition("no use for ")[2].split(" ")[: len(loading["unexpected_keys"])]
    # They name what is in the file as it would be named in the model.
    assert {name.rstrip(",").removeprefix("albert.") for name in unused} == {
        name.removeprefix("albert.") for name in loading["unexpected_keys"]
    }
    # They name the decoder too, which is tied.
    missing = {name for name in loading["missing_keys"] if "decoder" not in name}
    names = text.partition(" lacks ")[2].partition(": newly")[0]
    assert set(filter(None, names.split(", "))) == missing
    for name, parameter in peer.named_parameters():
        if name not in missing:
            np.testing.assert_array_equal(model.parameters[name], parameter.detach().numpy())


def test_a_head_of_another_size_is_refused_by_both(tmp_path):
    AlbertForSequenceClassification(CONFIG).save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="size mismatch"):
        transformers.AlbertForMultipleChoice.from_pretrained(tmp_path)
    with pytest.raises(FileFormatError, match="classifier.weight is of shape"):
        AlbertForMultipleChoice.from_pretrained(tmp_path)


@given(
    config=configs(),
    model_class=st.sampled_from(CLASSES),
    added=st.integers(-8, 8),
    multiple=st.one_of(st.none(), st.integers(1, 9)),
    mean_resizing=st.booleans(),
)
def test_resized_as_they_do(config, model_class, added, multiple, mean_resizing):
    """The same but for the new rows, which are drawn: theirs are as near the mean as ours."""
    model = random_model(model_class, suited_to(model_class, config))
    peer = peer_of(model)
    old = model.get_input_embeddings().copy()
    size = max(config.vocab_size + added, config.pad_token_id + 1)
    ours = model.resize_token_embeddings(size, multiple, mean_resizing)
    theirs = peer.resize_token_embeddings(size, multiple, mean_resizing).weight
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    assert model.config.vocab_size == peer.config.vocab_size
    np.testing.assert_array_equal(ours[: len(old)], theirs[: len(old)])
    if mean_resizing:
        # Their statistics are of float32.
        bound = 8 * np.sqrt(1e-9) * old.std(axis=0) + 1e-6 * abs(old).max()
        for new in (ours[len(old) :], theirs[len(old) :]):
            assert (abs(new - old.mean(axis=0)) <= bound).all()
    for name, parameter in peer.named_parameters():
        if "word_embeddings" not in name:
            np.testing.assert_array_equal(model.parameters[name], parameter.detach().numpy())


@given(config=configs(), model_class=st.sampled_from(CLASSES), exclude=st.booleans())
def test_counted_as_they_do(config, model_class, exclude):
    model = random_model(model_class, suited_to(model_class, config))
    theirs = peer_of(model).num_parameters(exclude_embeddings=exclude)
    assert model.num_parameters(exclude_embeddings=exclude) == theirs


def test_a_release_of_tensorflows_is_read_as_they_read_it(tmp_path, monkeypatch):
    """Their reader, given the arrays by a stand-in for TensorFlow."""
    from transformers.models.albert.modeling_albert import load_tf_weights_in_albert

    config = suited_to(AlbertForPreTraining, CONFIG)
    arrays = release_arrays(config, np.random.default_rng(0))
    train = types.SimpleNamespace(
        list_variables=lambda path: [(name, array.shape) for name, array in arrays.items()],
        load_variable=lambda path, name: arrays[name],
    )
    monkeypatch.setitem(sys.modules, "tensorflow", types.SimpleNamespace(train=train))
    peer = transformers.AlbertForPreTraining(transformers.AlbertConfig(**config.to_dict()))
    load_tf_weights_in_albert(peer, peer.config, str(tmp_path))
    write_config(tmp_path, config)
    model = AlbertForPreTraining.from_tensorflow(write_archive(tmp_path, arrays))
    assert_same_parameters(model, peer)

"""AlbertConfig: its defaults, what it refuses, and what it reads and writes."""

import inspect
import json
import os
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from albert_np.config import ACTIVATIONS, PUBLISHED, AlbertConfig
from albert_np.errors import FileFormatError

# The documentation's parameters, in its order.
DOCUMENTED = {
    "vocab_size": 30000,
    "embedding_size": 128,
    "hidden_size": 4096,
    "num_hidden_layers": 12,
    "num_hidden_groups": 1,
    "num_attention_heads": 64,
    "intermediate_size": 16384,
    "inner_group_num": 1,
    "hidden_act": "gelu_new",
    "hidden_dropout_prob": 0,
    "attention_probs_dropout_prob": 0,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "classifier_dropout_prob": 0.1,
    "position_embedding_type": "absolute",
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
SIZES = (
    "vocab_size",
    "embedding_size",
    "hidden_size",
    "num_hidden_layers",
    "num_hidden_groups",
    "num_attention_heads",
    "intermediate_size",
    "inner_group_num",
    "max_position_embeddings",
    "type_vocab_size",
)
PROBABILITIES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout_prob")
AT_LEAST_ZERO = ("initializer_range", "layer_norm_eps")
TOKEN_IDS = ("pad_token_id", "bos_token_id", "eos_token_id")

sizes = st.integers(1, 10**6)
probabilities = st.floats(0, 1) | st.sampled_from([0, 1])
numbers = st.floats(0, allow_infinity=False) | st.integers(0, 10**400)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=8,
)


@st.composite
def parameters(draw):
    """Any values that AlbertConfig accepts."""
    vocab_size, layers, heads = draw(sizes), draw(sizes), draw(sizes)
    values = {name: draw(sizes) for name in SIZES}
    values |= {name: draw(probabilities) for name in PROBABILITIES}
    values |= {name: draw(numbers) for name in AT_LEAST_ZERO}
    values |= {name: draw(st.none() | st.integers(0, vocab_size - 1)) for name in TOKEN_IDS}
    return values | {
        "vocab_size": vocab_size,
        "num_hidden_layers": layers,
        "num_hidden_groups": draw(st.integers(1, layers)),
        "num_attention_heads": heads,
        "hidden_size": heads * draw(sizes),
        "hidden_act": draw(st.sampled_from(ACTIVATIONS)),
    }


@st.composite
def other_keys(draw):
    """Any keys of a config.json that are no parameters."""
    other = draw(st.dictionaries(st.text(), json_values, max_size=4))
    assume(not other.keys() & {*DOCUMENTED, "model_type", "tie_word_embeddings"})
    return other


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


# Parameters


def test_defaults_and_order_are_those_documented():
    signature = inspect.signature(AlbertConfig).parameters
    assert [*signature][:-1] == [*DOCUMENTED]
    assert {name: getattr(AlbertConfig(), name) for name in DOCUMENTED} == DOCUMENTED
    assert AlbertConfig().to_dict() == DOCUMENTED | {"model_type": "albert"}


def test_default_is_xxlarge_v2():
    assert AlbertConfig() == AlbertConfig.published("albert-xxlarge-v2")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations(name):
    config = AlbertConfig.published(name)
    size, version = name.split("-")[1:]
    sizes = (
        config.hidden_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.intermediate_size,
    )
    published = {
        "base": (768, 12, 12, 3072),
        "large": (1024, 24, 16, 4096),
        "xlarge": (2048, 24, 16, 8192),
        "xxlarge": (4096, 12, 64, 16384),
    }
    assert sizes == published[size]
    assert config.hidden_act == {"v1": "gelu", "v2": "gelu_new"}[version]
    dropout = 0.1 if version == "v1" and size != "xxlarge" else 0
    assert config.hidden_dropout_prob == config.attention_probs_dropout_prob == dropout
    assert (config.embedding_size, config.vocab_size, config.num_hidden_groups) == (128, 30000, 1)
    assert AlbertConfig.published(f"albert/{name}") == config


@pytest.mark.parametrize("name", ["albert-base", "albert-base-v3", "bert-base-v1", "", None, []])
def test_unpublished_name_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match="albert-base-v1.*albert-xxlarge-v2"):
        AlbertConfig.published(name)


def test_numpy_numbers_become_python_numbers():
    config = AlbertConfig(hidden_size=np.int64(128), classifier_dropout_prob=np.float32(0.5))
    assert (type(config.hidden_size), config.hidden_size) == (int, 128)
    assert (type(config.classifier_dropout_prob), config.classifier_dropout_prob) == (float, 0.5)


# What is refused


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [True, "768", 768.0, None, [768], np.True_])
def test_size_of_wrong_type(name, value):
    message = re.escape(f"{name} is {value!r}; expected a positive integer")
    with pytest.raises(TypeError, match=message):
        AlbertConfig(**{name: value})


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [0, -1, np.int64(-3)])
def test_size_that_is_not_positive(name, value):
    message = re.escape(f"{name} is {value!r}; expected a positive integer")
    with pytest.raises(ValueError, match=message):
        AlbertConfig(**{name: value})


@pytest.mark.parametrize("name", PROBABILITIES + AT_LEAST_ZERO)
@pytest.mark.parametrize("value", [True, "0.1", None, [0.1], 1j])
def test_number_of_wrong_type(name, value):
    with pytest.raises(TypeError, match=re.escape(f"{name} is {value!r}; expected a number")):
        AlbertConfig(**{name: value})


@pytest.mark.parametrize("name", PROBABILITIES)
@pytest.mark.parametrize("value", [-1e-9, 1.0000001, 2, -1, float("nan"), float("inf")])
def test_probability_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"{name} is .*; expected a probability, from 0 to 1"):
        AlbertConfig(**{name: value})


@pytest.mark.parametrize("name", AT_LEAST_ZERO)
@pytest.mark.parametrize("value", [-1e-300, -1, float("nan"), float("inf"), float("-inf")])
def test_number_below_zero_or_not_finite(name, value):
    with pytest.raises(ValueError, match=f"{name} is .*; expected a finite number, at least 0"):
        AlbertConfig(**{name: value})


@pytest.mark.parametrize("name", TOKEN_IDS)
def test_token_ids(name):
    assert getattr(AlbertConfig(**{name: None}), name) is None
    for value in (True, "0", 0.0, [0]):
        with pytest.raises(TypeError, match=f"{name} is .*; expected a token id or None"):
            AlbertConfig(**{name: value})
    with pytest.raises(ValueError, match=f"{name} is -1; expected a token id"):
        AlbertConfig(**{name: -1})


def test_padding_token_outside_the_vocabulary():
    assert AlbertConfig(vocab_size=5, pad_token_id=4).pad_token_id == 4
    with pytest.raises(ValueError, match="pad_token_id is 5; expected an id below vocab_size, 5"):
        AlbertConfig(vocab_size=5, pad_token_id=5)


def test_hidden_size_that_heads_do_not_divide():
    message = "hidden_size 770 is not a multiple of num_attention_heads 12"
    with pytest.raises(ValueError, match=f"^{message}$"):
        AlbertConfig(hidden_size=770, num_attention_heads=12)


def test_more_groups_than_layers():
    assert AlbertConfig(num_hidden_layers=3, num_hidden_groups=3).num_hidden_groups == 3
    message = "num_hidden_groups is 4; expected at most num_hidden_layers, 3"
    with pytest.raises(ValueError, match=message):
        AlbertConfig(num_hidden_layers=3, num_hidden_groups=4)


def test_activations():
    for name in ("gelu_new", "gelu", "relu", "silu"):
        assert AlbertConfig(hidden_act=name).hidden_act == name
    message = "hidden_act is 'tanh'; expected one of gelu_new, gelu, relu, silu"
    with pytest.raises(ValueError, match=message):
        AlbertConfig(hidden_act="tanh")
    for value in (None, abs, ["gelu"]):
        with pytest.raises(TypeError, match="hidden_act is .*; expected one of gelu_new"):
            AlbertConfig(hidden_act=value)


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
def test_relative_positions_are_not_supported_yet(kind):
    message = f"position_embedding_type '{kind}' is not supported yet; expected 'absolute'"
    with pytest.raises(ValueError, match=message):
        AlbertConfig(position_embedding_type=kind)


def test_unknown_positions():
    with pytest.raises(ValueError, match="position_embedding_type is 'rotary'; expected.*absolute"):
        AlbertConfig(position_embedding_type="rotary")
    with pytest.raises(TypeError, match="position_embedding_type is None; expected.*absolute"):
        AlbertConfig(position_embedding_type=None)


def test_another_model_is_refused():
    with pytest.raises(ValueError, match="model_type is 'bert'; expected one of albert"):
        AlbertConfig(model_type="bert")
    with pytest.raises(ValueError, match="model_type is 'bert'; expected one of albert"):
        AlbertConfig.from_dict({"model_type": "bert"})


def test_untied_decoder_is_refused():
    for make in (AlbertConfig.from_dict, lambda values: AlbertConfig(**values)):
        with pytest.raises(ValueError, match="tie_word_embeddings is False; expected True"):
            make({"tie_word_embeddings": False})
    config = AlbertConfig.from_dict({"tie_word_embeddings": True})
    assert config.to_dict()["tie_word_embeddings"] is True


def test_unknown_keyword_is_kept_with_a_warning():
    with pytest.warns(UserWarning, match="keeps hiden_size, and makes no use of it") as caught:
        config = AlbertConfig(hiden_size=768)
    assert caught[0].filename == __file__
    assert config.hidden_size == 4096
    assert config.other == {"hiden_size": 768}
    assert config.to_dict()["hiden_size"] == 768


# Reading and writing


@given(values=parameters(), other=other_keys())
def test_dictionary_round_trip(values, other):
    config = AlbertConfig.from_dict(values | other)
    assert {name: getattr(config, name) for name in values} == values
    assert config.other == other
    assert config.to_dict() == DOCUMENTED | values | other | {"model_type": "albert"}
    assert AlbertConfig.from_dict(config.to_dict()) == config


@given(values=parameters(), other=other_keys())
def test_file_round_trip(tmp_path_factory, values, other):
    directory = tmp_path_factory.mktemp("config")
    config = AlbertConfig.from_dict(values | other)
    config.save_pretrained(directory)
    read = AlbertConfig.from_pretrained(directory)
    assert read == config
    # Python takes 1 for equal to 1.0 and to True; its representations differ.
    assert sorted(map(repr, read.to_dict().items())) == sorted(map(repr, config.to_dict().items()))


def test_configurations_differ():
    assert AlbertConfig(hidden_size=128) != AlbertConfig(hidden_size=256)
    assert AlbertConfig.from_dict({"id2label": {}}) != AlbertConfig()
    assert AlbertConfig() != AlbertConfig().to_dict()


def test_reads_a_directory_a_file_and_a_string(tmp_path):
    config = AlbertConfig(hidden_size=128)
    config.save_pretrained(tmp_path / "new" / "directory")
    for place in ("new/directory", "new/directory/config.json"):
        assert AlbertConfig.from_pretrained(tmp_path / place) == config
        assert AlbertConfig.from_pretrained(str(tmp_path / place)) == config


def test_reads_a_published_file_of_2019(tmp_path):
    """The first config.json files name no model_type, and hold keys that nothing reads."""
    text = """{
      "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
      "embedding_size": 128, "hidden_size": 768, "initializer_range": 0.02,
      "intermediate_size": 3072, "max_position_embeddings": 512, "num_attention_heads": 12,
      "num_hidden_layers": 12, "num_hidden_groups": 1, "net_structure_type": 0, "gap_size": 0,
      "num_memory_blocks": 0, "inner_group_num": 1, "down_scale_factor": 1, "type_vocab_size": 2,
      "vocab_size": 30000
    }"""
    config = AlbertConfig.from_pretrained(write(tmp_path / "config.json", text))
    assert config.other == {
        "net_structure_type": 0,
        "gap_size": 0,
        "num_memory_blocks": 0,
        "down_scale_factor": 1,
    }
    assert config.to_dict() == AlbertConfig.published("albert-base-v1").to_dict() | config.other


def test_keys_are_written_in_alphabetical_order_and_labels_in_theirs(tmp_path):
    labels = {"10": "ten", "9": "nine", "2": "two"}
    AlbertConfig.from_dict({"id2label": labels}).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert [*written] == sorted(written)
    assert [*written["id2label"]] == [*labels]


def test_architectures_and_dtype_are_written(tmp_path):
    config = AlbertConfig.from_dict({"torch_dtype": "float16", "architectures": ["AlbertModel"]})
    config.save_pretrained(tmp_path)
    assert AlbertConfig.from_pretrained(tmp_path).other == config.other
    config.save_pretrained(tmp_path, architectures=["AlbertForMaskedLM"], dtype="float32")
    written = AlbertConfig.from_pretrained(tmp_path).other
    assert written == {"architectures": ["AlbertForMaskedLM"], "dtype": "float32"}
    assert config.other["architectures"] == ["AlbertModel"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ('{"vocab_size": 30000', "is not JSON"),
        ("vocab_size: 30000", "is not JSON"),
        ("\ufeff{}", "is not JSON"),
        ("[]", "holds a JSON list; expected an object"),
        ('"albert"', "holds a JSON str; expected an object"),
        ("null", "holds a JSON NoneType; expected an object"),
        ('{"hidden_size": "768"}', "hidden_size is '768'; expected a positive integer"),
        ('{"hidden_size": 770}', "hidden_size 770 is not a multiple of num_attention_heads 64"),
        ('{"vocab_size": true}', "vocab_size is True; expected a positive integer"),
        ('{"vocab_size": null}', "vocab_size is None; expected a positive integer"),
        ('{"vocab_size": 3e4}', "vocab_size is 30000.0; expected a positive integer"),
        ('{"layer_norm_eps": NaN}', "layer_norm_eps is nan; expected a finite number"),
        ('{"hidden_act": {"gelu": 1}}', "hidden_act is {'gelu': 1}; expected one of"),
        ('{"model_type": "bert"}', "model_type is 'bert'; expected one of albert"),
        ('{"model_type": null}', "model_type is None; expected one of albert"),
    ],
)
def test_wrong_file_is_named(tmp_path, text, message):
    path = write(tmp_path / "config.json", text)
    with pytest.raises(FileFormatError, match=f"^{re.escape(str(path))}:? .*({message})"):
        AlbertConfig.from_pretrained(tmp_path)


def test_file_that_is_not_utf_8(tmp_path):
    (tmp_path / "config.json").write_bytes(b'{"hidden_act": "gel\xff"}')
    with pytest.raises(FileFormatError, match="config.json is not JSON"):
        AlbertConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a": ', "}")])
def test_deeply_nested_file(tmp_path, opening, closing):
    depth = 200_000
    text = '{"id2label": ' + opening * depth + "0" + closing * depth + "}"
    path = write(tmp_path / "config.json", text)
    with pytest.raises(FileFormatError, match=re.escape(f"{path} is nested too deeply")):
        AlbertConfig.from_pretrained(tmp_path)


def test_missing_file_or_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "config.json"))):
        AlbertConfig.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "other.json"))):
        AlbertConfig.from_pretrained(tmp_path / "other.json")
    with pytest.raises(FileNotFoundError, match="nowhere.*tiny"):
        AlbertConfig.from_pretrained(tmp_path / "nowhere")


def test_unwritable_output(tmp_path):
    write(tmp_path / "file", "")
    with pytest.raises(OSError, match="file"):
        AlbertConfig().save_pretrained(tmp_path / "file")
    with pytest.raises(OSError, match="file"):
        AlbertConfig().save_pretrained(tmp_path / "file" / "directory")
    assert os.listdir(tmp_path) == ["file"]


def test_interrupted_writing_keeps_the_old_file(tmp_path, monkeypatch):
    AlbertConfig(hidden_size=128).save_pretrained(tmp_path)

    def interrupt(*names):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        AlbertConfig(hidden_size=256).save_pretrained(tmp_path)
    assert os.listdir(tmp_path) == ["config.json"]
    assert AlbertConfig.from_pretrained(tmp_path).hidden_size == 128


def test_value_that_json_cannot_hold_leaves_the_old_file(tmp_path):
    AlbertConfig().save_pretrained(tmp_path)
    with pytest.raises(TypeError):
        AlbertConfig.from_dict({"dtype": np.float32}).save_pretrained(tmp_path)
    assert os.listdir(tmp_path) == ["config.json"]
    assert AlbertConfig.from_pretrained(tmp_path) == AlbertConfig()


def test_representation_shows_the_values():
    assert '"hidden_size": 128' in repr(AlbertConfig(hidden_size=128))

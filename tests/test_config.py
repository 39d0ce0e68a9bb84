"""AlbertConfig: its defaults, what it refuses, and what it reads and writes."""

import inspect
import json
import os
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from albert_np.config import ACTIVATIONS, PROBLEM_TYPES, PUBLISHED, AlbertConfig
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
# What PretrainedConfig documents for every model.
OF_EVERY_MODEL = {
    "id2label": {0: "LABEL_0", 1: "LABEL_1"},
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "problem_type": None,
    "output_attentions": False,
    "output_hidden_states": False,
    "return_dict": True,
    "chunk_size_feed_forward": 0,
    "pruned_heads": {},
}
POSITIONS = ("absolute", "relative_key", "relative_key_query")
FLAGS = ("output_attentions", "output_hidden_states", "return_dict")
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
    some_heads = st.sets(st.integers(0, heads - 1), min_size=1, max_size=4).map(sorted)
    values = {name: draw(sizes) for name in SIZES}
    values |= {name: draw(st.booleans()) for name in FLAGS}
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
        "problem_type": draw(st.sampled_from([None, *PROBLEM_TYPES])),
        "position_embedding_type": draw(st.sampled_from(POSITIONS)),
        "chunk_size_feed_forward": draw(st.integers(0, 10)),
        "pruned_heads": {} if heads <= 4 else {0: draw(some_heads)},
        **draw(label_maps()),
    }


@st.composite
def label_maps(draw):
    labels = draw(st.lists(st.text(), min_size=1, max_size=12, unique=True))
    id2label = dict(enumerate(labels))
    return {"id2label": id2label, "label2id": {label: i for i, label in id2label.items()}}


@st.composite
def other_keys(draw):
    """Any keys of a config.json that are no parameters."""
    other = draw(st.dictionaries(st.text(), json_values, max_size=4))
    assume(not other.keys() & {*signature_names(), "model_type", "tie_word_embeddings"})
    return other


def signature_names():
    return [*inspect.signature(AlbertConfig).parameters][:-1]


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


# Parameters


def test_defaults_and_order_are_those_documented():
    assert signature_names() == [*DOCUMENTED, "num_labels", *OF_EVERY_MODEL]
    default = DOCUMENTED | OF_EVERY_MODEL
    assert {name: getattr(AlbertConfig(), name) for name in default} == default
    assert AlbertConfig().to_dict() == default | {"model_type": "albert"}
    assert AlbertConfig().num_labels == 2


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
    if name == "classifier_dropout_prob" and value is None:
        assert AlbertConfig(**{name: value}).classifier_dropout_prob is None
        return
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
    for value in (None, abs, ["gelu"], (abs,), (abs, "gelu"), (abs, abs, abs), [abs, abs]):
        with pytest.raises(TypeError, match="hidden_act is .*; expected one of gelu_new"):
            AlbertConfig(hidden_act=value)


def test_a_pair_of_functions_is_an_activation_that_cannot_be_saved(tmp_path):
    pair = (np.sin, np.cos)
    config = AlbertConfig(hidden_act=pair)
    assert config.hidden_act == pair and config == AlbertConfig.from_dict(config.to_dict())
    with pytest.raises(ValueError, match="hidden_act is a pair of functions, which config.json"):
        config.save_pretrained(tmp_path / "new")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", FLAGS)
def test_flags(name):
    for value in (True, False):
        assert getattr(AlbertConfig(**{name: value}), name) is value
    for value in (None, 1, "yes", np.True_):
        with pytest.raises(TypeError, match=f"{name} is .*; expected True or False"):
            AlbertConfig(**{name: value})


def test_use_return_dict_is_return_dict():
    assert AlbertConfig().use_return_dict is True
    assert AlbertConfig(return_dict=False).use_return_dict is False


def test_chunk_size():
    assert AlbertConfig(chunk_size_feed_forward=np.int64(4)).chunk_size_feed_forward == 4
    for value in (True, 4.0, "4", None):
        with pytest.raises(TypeError, match="chunk_size_feed_forward is .*; expected a number"):
            AlbertConfig(chunk_size_feed_forward=value)
    with pytest.raises(ValueError, match="chunk_size_feed_forward is -1; expected a number"):
        AlbertConfig(chunk_size_feed_forward=-1)


FEW_LAYERS = {"num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2}
FEW_HEADS = FEW_LAYERS | {"num_attention_heads": 4}


def test_pruned_heads():
    config = AlbertConfig(pruned_heads={"3": [2, 0, 2], 1: (3,), 0: []}, **FEW_HEADS)
    assert config.pruned_heads == {1: [3], 3: [0, 2]}
    more = config.with_pruned_heads({3: [2, 1], 0: {1}})
    assert more.pruned_heads == {0: [1], 1: [3], 3: [0, 1, 2]}
    assert config.pruned_heads == {1: [3], 3: [0, 2]}
    assert AlbertConfig(pruned_heads=None).pruned_heads == {}


@pytest.mark.parametrize(
    ("error", "heads", "message"),
    [
        (ValueError, {4: [0]}, "has the layer 4; expected 0 to 3"),
        (ValueError, {-1: [0]}, "has the layer -1; expected 0 to 3"),
        (ValueError, {0: [4]}, "has the head 4 of layer 0; expected 0 to 3"),
        (ValueError, {0: [1, -1]}, "has the head -1 of layer 0; expected 0 to 3"),
        (ValueError, {2: [0, 1, 2, 3]}, "has all 4 heads of layer 2; expected at least one"),
        (TypeError, [[0]], r"is \[\[0\]\]; expected heads by layer, a dictionary"),
        (TypeError, {"first": [0]}, "has the layer 'first'; expected an integer"),
        (TypeError, {0.0: [0]}, "has the layer 0.0; expected an integer"),
        (TypeError, {0: 1}, "has 1 for layer 0; expected a list of integers"),
        (TypeError, {0: ["1"]}, r"has \['1'\] for layer 0; expected a list of integers"),
        (TypeError, {0: [True]}, r"has \[True\] for layer 0; expected a list of integers"),
    ],
)
def test_wrong_pruned_heads(error, heads, message):
    with pytest.raises(error, match=f"pruned_heads {message}"):
        AlbertConfig(pruned_heads=heads, **FEW_HEADS)
    with pytest.raises(error, match=f"heads_to_prune {message}"):
        AlbertConfig(**FEW_HEADS).with_pruned_heads(heads)


def test_heads_pruned_one_after_the_other_leave_one():
    config = AlbertConfig(pruned_heads={0: [0, 1]}, **FEW_HEADS)
    with pytest.raises(ValueError, match="heads_to_prune has all 4 heads of layer 0"):
        config.with_pruned_heads({0: [2, 3]})
    with pytest.raises(TypeError, match="heads_to_prune is None; expected heads by layer"):
        config.with_pruned_heads(None)


def test_unknown_positions():
    with pytest.raises(ValueError, match="position_embedding_type is 'rotary'; expected.*absolute"):
        AlbertConfig(position_embedding_type="rotary")
    with pytest.raises(TypeError, match="position_embedding_type is None; expected.*absolute"):
        AlbertConfig(position_embedding_type=None)


# Labels


def test_each_of_the_three_gives_the_others():
    names = {0: "no", 1: "perhaps", 2: "yes"}
    ids = {"no": 0, "perhaps": 1, "yes": 2}
    for settings in (
        {"id2label": names},
        {"id2label": {str(i): name for i, name in names.items()}},
        {"label2id": ids},
        {"id2label": names, "label2id": ids, "num_labels": 3},
        {"label2id": ids, "num_labels": 3},
        {"id2label": {np.int64(i): name for i, name in reversed(names.items())}},
    ):
        config = AlbertConfig(**settings)
        assert (config.id2label, config.label2id, config.num_labels) == (names, ids, 3)
        assert {type(i) for i in [*config.id2label, *config.label2id.values()]} == {int}
        assert [*config.id2label] == [0, 1, 2]
    config = AlbertConfig(num_labels=1)
    assert (config.id2label, config.label2id) == ({0: "LABEL_0"}, {"LABEL_0": 0})


def test_one_label_may_have_several_ids():
    config = AlbertConfig(id2label={0: "other", 1: "name", 2: "other"})
    assert config.label2id == {"other": 2, "name": 1}
    again = AlbertConfig(id2label=config.id2label, label2id={"other": 0, "name": 1})
    assert again.label2id == {"other": 0, "name": 1}


def test_num_labels_can_be_set():
    """Another number makes the labels' names the default; the same one leaves them."""
    config = AlbertConfig(id2label={0: "no", 1: "yes"})
    config.num_labels = 2
    assert config.id2label == {0: "no", 1: "yes"}
    config.num_labels = 3
    assert config == AlbertConfig(num_labels=3)
    with pytest.raises(ValueError, match="num_labels is 0; expected a positive integer"):
        config.num_labels = 0
    assert config == AlbertConfig(num_labels=3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_labels": 0}, "num_labels is 0; expected a positive integer"),
        ({"num_labels": 3, "id2label": {0: "a"}}, "num_labels is 3; id2label has 1 labels"),
        ({"num_labels": 3, "label2id": {"a": 0}}, "num_labels is 3; id2label has 1 labels"),
        ({"id2label": {}}, "id2label is empty; expected at least one label"),
        ({"label2id": {}}, "label2id is empty; expected at least one label"),
        (
            {"id2label": {0: "a", 2: "c"}},
            "id2label has no label for 1; expected one for each of 0 to 1",
        ),
        ({"id2label": {1: "a", 2: "b"}}, "id2label has no label for 0"),
        ({"id2label": {"1": "a", "01": "b"}}, "id2label has no label for 0"),
        ({"label2id": {"a": 0, "b": 0}}, "label2id has 'a', which is missing from id2label"),
        (
            {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "c": 1}},
            "label2id has 'c', which is missing from id2label",
        ),
        (
            {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0}},
            "id2label has 'b', which is missing from label2id",
        ),
        (
            {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 1, "b": 0}},
            "label2id has 1 for 'a'; id2label has 0",
        ),
        ({"problem_type": "tagging"}, "problem_type is 'tagging'; expected one of regression, sin"),
    ],
)
def test_wrong_labels(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        AlbertConfig(**settings)
    path = write(tmp_path / "config.json", json.dumps(settings))
    with pytest.raises(FileFormatError, match=f"^{re.escape(str(path))}: {message}"):
        AlbertConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_labels": True}, "num_labels is True; expected a positive integer"),
        ({"num_labels": "3"}, "num_labels is '3'; expected a positive integer"),
        ({"id2label": ["a", "b"]}, r"id2label is \['a', 'b'\]; expected a dictionary"),
        ({"label2id": ["a", "b"]}, r"label2id is \['a', 'b'\]; expected a dictionary"),
        ({"id2label": {"zero": "a"}}, "id2label has a label for 'zero'; expected an integer"),
        ({"id2label": {0.5: "a"}}, "id2label has a label for 0.5; expected an integer"),
        ({"id2label": {True: "a"}}, "id2label has a label for True; expected an integer"),
        ({"id2label": {0: 7}}, "id2label has the label 7 for 0; expected a string"),
        ({"label2id": {"a": "0"}}, "label2id has '0' for 'a'; expected an integer"),
        ({"label2id": {"a": [0]}}, r"label2id has \[0\] for 'a'; expected an integer"),
        ({"label2id": {7: 0}}, "id2label has the label 7 for 0; expected a string"),
        ({"problem_type": 1}, "problem_type is 1; expected one of regression"),
    ],
)
def test_labels_of_wrong_types(settings, message):
    with pytest.raises(TypeError, match=message):
        AlbertConfig(**settings)


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
    assert config.num_labels == len(values["id2label"])
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
    assert AlbertConfig.from_dict({"architectures": []}) != AlbertConfig()
    assert AlbertConfig(num_labels=3) != AlbertConfig()
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
    labels = {str(i): f"label {i}" for i in (2, 10, 9, *range(2), *range(3, 9))}
    AlbertConfig(id2label=labels).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert [*written] == sorted(written)
    assert [*written["id2label"]] == [str(i) for i in range(11)]
    assert [*written["label2id"]] == [f"label {i}" for i in range(11)]


def test_labels_are_written_only_where_they_are_not_the_default(tmp_path):
    AlbertConfig().save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert written == DOCUMENTED | {"model_type": "albert"}


def test_what_every_model_has_is_written_where_it_is_not_the_default(tmp_path):
    AlbertConfig().save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert written == DOCUMENTED | {"model_type": "albert"}
    AlbertConfig(pruned_heads={0: [1]}, return_dict=False).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    more = {"pruned_heads": {"0": [1]}, "return_dict": False, "model_type": "albert"}
    assert written == DOCUMENTED | more


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
        ('{"return_dict": 1}', "return_dict is 1; expected True or False"),
        ('{"chunk_size_feed_forward": -2}', "chunk_size_feed_forward is -2; expected a number"),
        ('{"pruned_heads": {"1": [0]}}', "pruned_heads has the layer 1; expected 0 to 0"),
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

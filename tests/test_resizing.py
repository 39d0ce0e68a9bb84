"""The word embeddings given out, replaced and resized; parameters counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models_support import CLASSES, configs, random_batch, random_model, suited_to

from albert_np import AlbertConfig, AlbertForMaskedLM, AlbertForPreTraining, AlbertModel

CONFIG = AlbertConfig(
    vocab_size=20,
    embedding_size=4,
    hidden_size=6,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=5,
    max_position_embeddings=8,
)


def name_of_embeddings(model):
    (name,) = (name for name in model.parameters if "word_embeddings" in name)
    return name


@pytest.mark.parametrize("model_class", CLASSES)
def test_embeddings_are_the_parameter_itself(model_class):
    model = random_model(model_class, CONFIG)
    embeddings = model.get_input_embeddings()
    assert embeddings is model.parameters[name_of_embeddings(model)]
    has_decoder = model_class in (AlbertForMaskedLM, AlbertForPreTraining)
    assert model.get_output_embeddings() is (embeddings if has_decoder else None)


@pytest.mark.parametrize("model_class", CLASSES)
def test_embeddings_are_replaced_and_the_decoder_with_them(model_class):
    model = random_model(model_class, CONFIG)
    embeddings = model.get_input_embeddings()
    batch = random_batch(model_class, CONFIG, np.random.default_rng(0))
    before = model(**batch)[-1]
    value = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    model.set_input_embeddings(value)
    assert model.get_input_embeddings() is embeddings
    np.testing.assert_array_equal(embeddings, value)
    after = model(**batch)[-1]
    assert (before != after).all()
    value[:] = 0
    np.testing.assert_array_equal(after, model(**batch)[-1])
    model.set_input_embeddings(value.astype(int).tolist())
    assert not embeddings.any()


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.zeros((21, 4)), ValueError, r"value is of shape \(21, 4\); expected \(20, 4\)"),
        (np.zeros((4, 20)), ValueError, r"value is of shape \(4, 20\)"),
        (0.0, ValueError, r"value is of shape \(\); expected"),
        (np.zeros((20, 4), complex), TypeError, "value is of dtype complex128"),
        (np.zeros((20, 4), bool), TypeError, "value is of dtype bool"),
        ([["a"] * 4] * 20, TypeError, "value is of dtype <U1"),
        (np.full((20, 4), np.nan), ValueError, "value holds NaN or infinity as float32"),
        (np.full((20, 4), 1e300), ValueError, "value holds NaN or infinity as float32"),
    ],
)
def test_wrong_embeddings_change_nothing(value, error, message):
    model = AlbertModel(CONFIG)
    before = model.get_input_embeddings().copy()
    with pytest.raises(error, match=message):
        model.set_input_embeddings(value)
    np.testing.assert_array_equal(model.get_input_embeddings(), before)


@given(
    config=configs(),
    model_class=st.sampled_from(CLASSES),
    added=st.integers(-8, 8),
    multiple=st.one_of(st.none(), st.integers(1, 9)),
    mean_resizing=st.booleans(),
    seed=st.integers(0, 9),
)
def test_resized(config, model_class, added, multiple, mean_resizing, seed):
    """The old rows stay, the new ones are as said, and the model runs with the new words."""
    config = suited_to(model_class, config)
    model = random_model(model_class, config)
    old = {name: array.copy() for name, array in model.parameters.items()}
    name, old_size = name_of_embeddings(model), config.vocab_size
    wanted = max(old_size + added, config.pad_token_id + 1)
    embeddings = model.resize_token_embeddings(wanted, multiple, mean_resizing, seed=seed)
    size = len(embeddings)
    assert size == model.config.vocab_size == wanted + (-wanted % (multiple or 1))
    assert config.vocab_size == old_size
    assert embeddings is model.parameters[name]
    assert embeddings.dtype == np.float64
    assert {n: a.shape for n, a in model.parameters.items()} == model.parameter_shapes(model.config)
    for other, array in model.parameters.items():
        kept = min(size, old_size)
        if other == "predictions.bias":
            np.testing.assert_array_equal(array[:kept], old[other][:kept])
            assert not array[kept:].any()
        elif other == name:
            np.testing.assert_array_equal(array[:kept], old[name][:kept])
        else:
            np.testing.assert_array_equal(array, old[other])
    new = embeddings[old_size:]
    if mean_resizing and size > old_size:
        # A normal number is within 8 standard deviations but for one in 10^15.
        deviation = np.sqrt(1e-9) * old[name].std(axis=0)
        assert (abs(new - old[name].mean(axis=0)) <= 8 * deviation + 1e-15).all()
    elif size > old_size:
        assert (abs(new) <= 8 * config.initializer_range).all()
    batch = random_batch(model_class, model.config, np.random.default_rng(0))
    model(**batch)


def test_new_rows_have_the_old_ones_mean_and_covariance():
    """Of 200,000 rows, to 6 standard errors."""
    model = random_model(AlbertModel, CONFIG)
    old = model.get_input_embeddings().copy()
    count = 200_000
    new = model.resize_token_embeddings(20 + count)[20:]
    covariance = np.cov(old, rowvar=False, bias=True)
    deviation = np.sqrt(np.diag(covariance) * 1e-9)
    assert (abs(new.mean(0) - old.mean(0)) <= 6 * deviation / np.sqrt(count)).all()
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)) + covariance**2)
    error = abs(np.cov(new, rowvar=False) / 1e-9 - covariance)
    assert (error <= 6 * scale / np.sqrt(count)).all()
    model = random_model(AlbertModel, CONFIG)
    initial = model.resize_token_embeddings(20 + count, mean_resizing=False)[20:]
    assert abs(initial.std() / CONFIG.initializer_range - 1) < 6 / np.sqrt(2 * initial.size)
    assert abs(initial.mean()) < 6 * CONFIG.initializer_range / np.sqrt(initial.size)


def test_rows_of_fewer_words_than_dimensions():
    """Their covariance is singular."""
    config = AlbertConfig.from_dict(CONFIG.to_dict() | {"vocab_size": 2, "embedding_size": 5})
    model = random_model(AlbertModel, config, dtype="float32")
    first, second = model.get_input_embeddings().astype(float)
    new = model.resize_token_embeddings(4)[2:]
    assert new.dtype == np.float32
    np.testing.assert_allclose(new, np.tile((first + second) / 2, (2, 1)), atol=1e-4)


def test_the_seed_draws_the_rows():
    def new_rows(**settings):
        return AlbertModel(CONFIG).resize_token_embeddings(25, **settings)[20:]

    np.testing.assert_array_equal(new_rows(), new_rows(seed=0))
    assert (new_rows() != new_rows(seed=1)).all()
    assert (new_rows(seed=None) != new_rows(seed=None)).any()


def test_nothing_to_resize():
    model = AlbertModel(CONFIG)
    embeddings, config = model.get_input_embeddings(), model.config
    for arguments in ((), (20,), (None, 5), (16, 10)):
        assert model.resize_token_embeddings(*arguments) is embeddings
        assert model.config is config


def test_a_resized_model_is_saved_and_loaded(tmp_path):
    model = random_model(AlbertForMaskedLM, CONFIG, dtype="float32")
    model.resize_token_embeddings(23)
    model.save_pretrained(tmp_path)
    loaded = AlbertForMaskedLM.from_pretrained(tmp_path)
    assert loaded.config.vocab_size == 23
    np.testing.assert_array_equal(loaded([[22, 1]]).logits, model([[22, 1]]).logits)
    with pytest.raises(ValueError, match="vocab_size"):
        model([[23]])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"new_num_tokens": 0}, ValueError, "new_num_tokens is 0; expected a positive"),
        ({"new_num_tokens": -3}, ValueError, "new_num_tokens is -3"),
        ({"new_num_tokens": 20.0}, TypeError, "new_num_tokens is 20.0; expected a positive"),
        ({"new_num_tokens": True}, TypeError, "new_num_tokens is True"),
        ({"pad_to_multiple_of": 0}, ValueError, "pad_to_multiple_of is 0; expected a positive"),
        ({"pad_to_multiple_of": "8"}, TypeError, "pad_to_multiple_of is '8'"),
        ({"new_num_tokens": 25, "seed": -1}, ValueError, "seed is -1"),
        ({"new_num_tokens": 9}, ValueError, "new_num_tokens is 9; expected more than pad_token"),
    ],
)
def test_wrong_sizes_change_nothing(arguments, error, message):
    model = AlbertModel(AlbertConfig.from_dict(CONFIG.to_dict() | {"pad_token_id": 9}))
    embeddings = model.get_input_embeddings()
    with pytest.raises(error, match=message):
        model.resize_token_embeddings(**arguments)
    assert model.get_input_embeddings() is embeddings
    assert model.config.vocab_size == 20


@given(config=configs(), model_class=st.sampled_from(CLASSES))
def test_parameters_are_counted(config, model_class):
    model = model_class(suited_to(model_class, config))
    total = sum(array.size for array in model.parameters.values())
    assert model.num_parameters() == model.num_parameters(only_trainable=True) == total
    rows = config.vocab_size + config.max_position_embeddings + config.type_vocab_size
    without = total - rows * config.embedding_size
    assert model.num_parameters(exclude_embeddings=True) == without

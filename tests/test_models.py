"""What the models promise, apart from their numbers."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models_support import CLASSES, configs, random_batch, random_model, suited_to

from albert_np import AlbertConfig, AlbertForMaskedLM, AlbertForPreTraining, AlbertModel
from albert_np.backend import NUMPY
from albert_np.schedule import layer_schedule

pytestmark = pytest.mark.usefixtures("each_backend")

SEEDS = st.integers(0, 2**32 - 1)


def small_config(**settings):
    sizes = {
        "vocab_size": 30,
        "embedding_size": 6,
        "hidden_size": 12,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 20,
        "max_position_embeddings": 10,
    }
    return AlbertConfig(**(sizes | settings))


@given(config=configs(), seed=SEEDS)
def test_outputs_have_the_documented_shapes(config, seed):
    config = suited_to(AlbertForPreTraining, config)
    model = random_model(AlbertForPreTraining, config, dtype="float32")
    batch = random_batch(AlbertForPreTraining, config, np.random.default_rng(seed))
    outputs = model(**batch, output_hidden_states=True, output_attentions=True)
    B, S = batch["input_ids"].shape
    A, L = config.num_attention_heads, config.num_hidden_layers
    assert outputs.loss.shape == ()
    assert outputs.prediction_logits.shape == (B, S, config.vocab_size)
    assert outputs.sop_logits.shape == (B, 2)
    assert [x.shape for x in outputs.hidden_states] == [(B, S, config.hidden_size)] * (L + 1)
    repetitions = L * config.inner_group_num
    assert [x.shape for x in outputs.attentions] == [(B, A, S, S)] * repetitions
    assert {x.dtype for x in outputs.hidden_states + outputs.attentions} == {np.dtype("float32")}
    assert outputs.loss.dtype == outputs.prediction_logits.dtype == np.float32


@pytest.mark.parametrize("model_class", CLASSES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_have_the_parameters_names_shapes_and_dtypes(model_class, dtype):
    model = random_model(model_class, small_config(), dtype=dtype)
    batch = random_batch(model_class, model.config, np.random.default_rng(0))
    outputs, pullback = model.vjp(**batch)
    gradients = pullback({outputs.keys()[-1]: np.ones_like(outputs[-1])})
    assert list(gradients.parameters) == list(model.parameters)
    for name, parameter in model.parameters.items():
        assert gradients.parameters[name].shape == parameter.shape
        assert gradients.parameters[name].dtype == parameter.dtype == dtype
    shape = (*batch["input_ids"].shape, model.config.embedding_size)
    assert gradients.inputs_embeds.shape == shape


@pytest.mark.parametrize("model_class", CLASSES)
def test_float32_differs_from_float64_by_rounding(model_class):
    """By a few dozen units in the last place of float32 after 3 layers of layer norms."""
    config = small_config()
    double = random_model(model_class, config)
    single = model_class(config, dtype="float32")
    for name, parameter in double.parameters.items():
        single.parameters[name][...] = parameter
        parameter[...] = single.parameters[name]
    batch = random_batch(model_class, config, np.random.default_rng(0), (3, 8))
    for value, expected in zip(single(**batch), double(**batch), strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(value, expected, atol=64 * np.finfo(np.float32).eps * scale)


@given(config=configs(), seed=SEEDS)
def test_padding_cannot_be_seen(config, seed):
    """Real tokens get the same from any ids under the mask, and from a shorter batch."""
    generator = np.random.default_rng(seed)
    model = random_model(AlbertModel, config)
    S = config.max_position_embeddings
    ids = generator.integers(0, config.vocab_size, (2, S))
    length = int(generator.integers(1, S))
    mask = np.broadcast_to(np.arange(S) < length, (2, S))
    other = np.where(mask, ids, generator.integers(0, config.vocab_size, (2, S)))
    padded = model(ids, mask).last_hidden_state[:, :length]
    np.testing.assert_array_equal(padded, model(other, mask).last_hidden_state[:, :length])
    alone = model(ids[:, :length]).last_hidden_state
    np.testing.assert_allclose(padded, alone, atol=1e-11 * np.abs(alone).max())


def test_sequences_of_a_batch_do_not_see_each_other():
    model = random_model(AlbertModel, small_config())
    ids = np.random.default_rng(0).integers(0, 30, (3, 7))
    together = model(ids).last_hidden_state
    for row, alone in zip(ids, together, strict=True):
        np.testing.assert_allclose(model(row[None]).last_hidden_state[0], alone, atol=1e-12)


def test_inputs_embeds_take_the_place_of_input_ids():
    model = random_model(AlbertModel, small_config())
    ids = np.random.default_rng(0).integers(0, 30, (2, 7))
    embeds = model.parameters["embeddings.word_embeddings.weight"][ids]
    by_ids, by_embeds = model(ids), model(inputs_embeds=embeds)
    np.testing.assert_array_equal(by_embeds.pooler_output, by_ids.pooler_output)


def test_defaults_are_those_written_out():
    model = random_model(AlbertModel, small_config())
    ids = np.random.default_rng(0).integers(0, 30, (2, 7))
    written_out = model(
        ids,
        attention_mask=np.ones((2, 7)),
        token_type_ids=np.zeros((2, 7), int),
        position_ids=np.arange(7)[None],
    )
    np.testing.assert_array_equal(model(ids).last_hidden_state, written_out.last_hidden_state)


def test_outputs_are_read_by_attribute_key_index_and_unpacking():
    model = random_model(AlbertForMaskedLM, small_config())
    outputs = model([[1, 2, 3]], labels=[[4, -100, 5]])
    loss, logits = outputs
    assert outputs.keys() == ["loss", "logits"] and len(outputs) == 2
    assert loss is outputs.loss is outputs["loss"] is outputs[0]
    assert logits is outputs["logits"] is outputs[1]
    assert outputs.hidden_states is None
    assert [type(x) for x in outputs[:1]] == [type(loss)]
    with pytest.raises(KeyError, match="hidden_states"):
        outputs["hidden_states"]
    assert isinstance(model([[1, 2]], return_dict=False), tuple)


def test_the_pooler_may_be_left_out():
    model = AlbertModel(small_config(), add_pooling_layer=False)
    assert not [name for name in model.parameters if name.startswith("pooler")]
    assert model([[1, 2]]).pooler_output is None


def test_the_loss_of_pretraining_needs_both_labels():
    model = random_model(AlbertForPreTraining, small_config())
    ids = [[1, 2, 3]]
    assert model(ids, labels=ids).loss is None
    assert model(ids, sentence_order_label=[0]).loss is None
    assert model(ids, labels=ids, sentence_order_label=[0]).loss > 0
    with pytest.raises(ValueError, match="sentence_order_label"):
        model.loss_and_gradients(input_ids=ids, labels=ids)


def test_dropout_is_on_if_and_only_if_there_is_a_seed():
    model = random_model(
        AlbertModel, small_config(hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)
    )
    ids = [[1, 2, 3, 4]]
    plain = model(ids).last_hidden_state
    np.testing.assert_array_equal(plain, model(ids).last_hidden_state)
    dropped = model(ids, seed=1).last_hidden_state
    np.testing.assert_array_equal(dropped, model(ids, seed=1).last_hidden_state)
    assert (dropped != plain).any()
    assert (dropped != model(ids, seed=2).last_hidden_state).any()


def test_each_dropout_matters():
    ids = [[1, 2, 3, 4]]
    for name in (
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "classifier_dropout_prob",
    ):
        rates = dict.fromkeys(
            ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout_prob"), 0
        )
        model = random_model(AlbertForPreTraining, small_config(**(rates | {name: 0.5})))
        assert (model(ids, seed=1).sop_logits != model(ids).sop_logits).any(), name


def test_two_threads_may_share_a_model():
    model = random_model(AlbertForMaskedLM, small_config())
    generator = np.random.default_rng(0)
    batches = [random_batch(AlbertForMaskedLM, model.config, generator) for _ in range(16)]
    alone = [model.loss_and_gradients(**batch) for batch in batches]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda batch: model.loss_and_gradients(**batch), batches))
    for (loss, gradients), (loss_too, gradients_too) in zip(alone, together, strict=True):
        assert loss == loss_too
        for name, gradient in gradients.parameters.items():
            np.testing.assert_array_equal(gradient, gradients_too.parameters[name])


def test_a_call_leaves_parameters_and_arguments_as_they_were():
    model = random_model(AlbertForPreTraining, small_config())
    batch = random_batch(AlbertForPreTraining, model.config, np.random.default_rng(0))
    parameters = {name: array.copy() for name, array in model.parameters.items()}
    arguments = {name: array.copy() for name, array in batch.items()}
    state = set(vars(model))
    model.loss_and_gradients(**batch, seed=3)
    assert set(vars(model)) == state
    for name, array in parameters.items():
        np.testing.assert_array_equal(model.parameters[name], array)
    for name, array in arguments.items():
        np.testing.assert_array_equal(batch[name], array)


def test_query_key_and_value_lie_in_one_array():
    model = AlbertModel(small_config())
    attention = "encoder.albert_layer_groups.0.albert_layers.0.attention"
    for kind, shape in (("weight", (36, 12)), ("bias", (36,))):
        thirds = [model.parameters[f"{attention}.{m}.{kind}"] for m in ("query", "key", "value")]
        assert all(third.base is thirds[0].base for third in thirds)
        assert thirds[0].base.shape == shape


def test_replaced_query_key_and_value_are_used():
    """One may put another array in the dictionary, or exchange two: the names decide."""
    attention = "encoder.albert_layer_groups.0.albert_layers.0.attention"
    model = random_model(AlbertModel, small_config())
    exchanged = random_model(AlbertModel, small_config())
    for kind in ("weight", "bias"):
        query, key = f"{attention}.query.{kind}", f"{attention}.key.{kind}"
        p = exchanged.parameters
        p[query], p[key] = p[key], p[query]
    ids = [[1, 2, 3]]
    a = model(ids, output_attentions=True).attentions[0]
    b = exchanged(ids, output_attentions=True).attentions[0]
    assert (a != b).any()
    replaced = random_model(AlbertModel, small_config())
    replaced.parameters = {name: array.copy() for name, array in model.parameters.items()}
    np.testing.assert_array_equal(replaced(ids).pooler_output, model(ids).pooler_output)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model, 4))]
)
def test_copies_of_a_model_compute_the_same(copied):
    """Their query, key and value lie in memory as the copying left them."""
    model = random_model(AlbertForMaskedLM, small_config())
    batch = random_batch(AlbertForMaskedLM, model.config, np.random.default_rng(0))
    loss, gradients = model.loss_and_gradients(**batch)
    copied_loss, copied_gradients = copied(model).loss_and_gradients(**batch)
    assert loss == copied_loss
    for name, gradient in gradients.parameters.items():
        np.testing.assert_array_equal(gradient, copied_gradients.parameters[name])


def test_a_batch_may_be_refilled_before_the_pullback():
    model = random_model(AlbertForMaskedLM, small_config())
    batch = random_batch(AlbertForMaskedLM, model.config, np.random.default_rng(0))
    _, pullback = model.vjp(**batch)
    before = pullback().parameters
    for array in batch.values():
        array[...] = 0
    for name, gradient in pullback().parameters.items():
        np.testing.assert_array_equal(gradient, before[name])


def test_a_sequence_whose_positions_are_given_may_have_more_tokens_than_there_are_positions():
    model = random_model(AlbertModel, small_config())
    ids = np.arange(2 * model.config.max_position_embeddings)[None]
    forth, back = (
        model(x, position_ids=np.zeros_like(x)).last_hidden_state for x in (ids, ids[:, ::-1])
    )
    # Rounding, of sums in another order through a few layers of layer norms.
    np.testing.assert_allclose(forth, back[:, ::-1], rtol=0, atol=1e-11 * np.abs(back).max())


def test_schedule_shares_layers_among_groups_in_order():
    config = small_config(num_hidden_layers=4, num_hidden_groups=2, inner_group_num=2)
    first, second = ((0, 0), (0, 1)), ((1, 0), (1, 1))
    assert layer_schedule(config) == (first, first, second, second)
    assert layer_schedule(small_config()) == (((0, 0),),) * 3


def test_layers_that_groups_do_not_divide_fall_as_hugging_face_rounds():
    """9 / (18 / 14) is 7 but for rounding, which makes it 6.999…"""
    schedule = layer_schedule(small_config(num_hidden_layers=18, num_hidden_groups=14))
    assert schedule[8:11] == (((6, 0),), ((6, 0),), ((7, 0),))


def test_initial_parameters_are_hugging_faces():
    """Normal weights; zero biases and padding row; layer norms of weight one."""
    model = AlbertForPreTraining(small_config(hidden_size=48, pad_token_id=3), seed=7)
    for name, array in model.parameters.items():
        if name.endswith("bias"):
            assert not array.any()
        elif "orm.weight" in name:
            assert (array == 1).all()
        else:
            # The standard deviation of n draws is off by about 1/√(2n); five times that.
            assert abs(array.std() / 0.02 - 1) < 5 / np.sqrt(2 * array.size) + 0.1
    assert not model.parameters["albert.embeddings.word_embeddings.weight"][3].any()
    again = AlbertForPreTraining(small_config(hidden_size=48, pad_token_id=3), seed=7)
    for name, array in model.parameters.items():
        np.testing.assert_array_equal(array, again.parameters[name])


def test_an_operation_of_the_back_end_can_be_replaced():
    calls = []

    def counted(*arguments, **settings):
        calls.append(1)
        return NUMPY.linear_forward(*arguments, **settings)

    model = random_model(AlbertModel, small_config())
    model.backend = replace(NUMPY, linear_forward=counted)
    model([[1, 2]])
    assert len(calls) == 1 + 3 * 4 + 1


@pytest.mark.parametrize("model_class", CLASSES)
def test_save_and_load(model_class, tmp_path):
    model = random_model(model_class, small_config(), dtype="float32")
    model.save_pretrained(tmp_path / "model")
    loaded = model_class.from_pretrained(tmp_path / "model", dtype="float64")
    assert loaded.config.to_dict().items() >= model.config.to_dict().items()
    assert loaded.config.other == {"architectures": [model_class.__name__], "dtype": "float32"}
    assert list(loaded.parameters) == list(model.parameters)
    for name, array in model.parameters.items():
        np.testing.assert_array_equal(loaded.parameters[name], array)
        assert loaded.parameters[name].dtype == np.float64

"""Every option of a call and of a configuration, on every class, alone and together."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import scipy.special
from functions_support import whole
from hypothesis import given
from hypothesis import strategies as st
from models_support import (
    CLASSES,
    WITH_A_LOSS,
    configs,
    random_like,
    random_model,
    suited_to,
    unshared,
)
from options_support import configs_with_options, gradient_noise, heads_to_prune, random_call
from test_derivatives import (
    assert_close_gradients,
    assert_matches_complex_step,
    random_directions,
)

from albert_np import AlbertConfig, AlbertForMaskedLM, AlbertModel
from albert_np.backend import NUMPY
from albert_np.feed_forward import (
    chunked_feed_forward_backward,
    chunked_feed_forward_forward,
    feed_forward_backward,
    feed_forward_forward,
)
from albert_np.functions.activations import gelu_backward, gelu_forward
from albert_np.run import Run
from albert_np.schedule import layer_schedule

pytestmark = pytest.mark.usefixtures("each_backend")

SEEDS = st.integers(0, 2**32 - 1)
ATTENTION = "encoder.albert_layer_groups.0.albert_layers.0.attention"


def small_config(**options):
    sizes = {
        "vocab_size": 30,
        "embedding_size": 6,
        "hidden_size": 12,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 20,
        "max_position_embeddings": 10,
    }
    return AlbertConfig(**(sizes | options))


def drawn(model_class, config, seed, drop=False, from_embeds=False):
    """A random model, a call of it, and the generator that drew them."""
    generator = np.random.default_rng(seed)
    config = suited_to(model_class, config)
    model = random_model(model_class, config, seed)
    call = random_call(model_class, config, generator, from_embeds)
    return model, call | {"seed": seed if drop else None}, generator


def assert_close(outputs, expected):
    """Rounding, of sums in another order through a few layers of layer norms."""
    for name in expected.keys():  # noqa: SIM118 (iterating gives the values)
        values = [outputs[name], expected[name]]
        if not isinstance(values[1], tuple):
            values = [(value,) for value in values]
        for a, b in zip(*values, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * np.abs(b).max(), err_msg=name)


# All of them together


@pytest.mark.parametrize("model_class", CLASSES)
@given(config=configs_with_options(), seed=SEEDS, drop=st.booleans(), from_embeds=st.booleans())
def test_gradients_of_all_outputs_are_those_of_the_complex_step(
    model_class, config, seed, drop, from_embeds
):
    model, batch, generator = drawn(model_class, config, seed, drop, from_embeds)
    call = {"output_hidden_states": True, "output_attentions": True}
    output_gradients = random_like(model(**batch, **call), generator)
    if model_class.label_names:
        output_gradients["loss"] = generator.normal()
    dinputs = generator.normal(size=batch["inputs_embeds"].shape) if from_embeds else None
    directions = random_directions(model, generator)
    assert_matches_complex_step(model, batch, output_gradients, directions, dinputs, call)


@pytest.mark.parametrize("model_class", WITH_A_LOSS)
@given(config=configs_with_options(), seed=SEEDS, drop=st.booleans())
def test_gradient_of_shared_parameters_is_the_sum_over_the_unshared(
    model_class, config, seed, drop
):
    shared, call, _ = drawn(model_class, config, seed, drop)
    copies, shared_name = unshared(shared)
    loss, gradients = shared.loss_and_gradients(**call)
    loss_of_copies, gradients_of_copies = copies.loss_and_gradients(**call)
    assert loss == loss_of_copies
    sums = {name: np.zeros_like(array) for name, array in shared.parameters.items()}
    for name, gradient in gradients_of_copies.parameters.items():
        sums[shared_name(name)] += gradient
    assert_close_gradients(gradients, gradients_of_copies._replace(parameters=sums))


@pytest.mark.parametrize("model_class", WITH_A_LOSS)
@given(config=configs_with_options(), seed=SEEDS, drop=st.booleans())
def test_loss_and_gradients_are_those_of_vjp(model_class, config, seed, drop):
    model, call, _ = drawn(model_class, config, seed, drop)
    outputs, pullback = model.vjp(**call)
    loss, gradients = model.loss_and_gradients(**call)
    np.testing.assert_allclose(loss, outputs.loss, rtol=1e-12)
    assert_close_gradients(gradients, pullback())


@pytest.mark.parametrize("model_class", CLASSES)
@given(config=configs_with_options(), seed=SEEDS, drop=st.booleans())
def test_a_trace_has_the_outputs_of_the_model_and_each_operation_runs_again(
    model_class, config, seed, drop
):
    model, call, generator = drawn(model_class, config, seed, drop)
    model.backend = NUMPY  # which traces run on, whatever the model does
    call["packed"] = False  # as they do
    outputs, pullback = model.vjp(**call)
    output_gradients = random_like(outputs, generator)
    if model_class.label_names:
        output_gradients["loss"] = generator.normal()
    trace = model.trace(**call, gradients=output_gradients)
    for name in outputs.keys():  # noqa: SIM118 (iterating gives the values)
        np.testing.assert_array_equal(trace.outputs[name], outputs[name])
    assert_close_gradients(trace.gradients, pullback(output_gradients))
    names = [operation.name for operation in trace]
    assert len(set(names)) == len(names)
    for operation in trace:
        assert_all_equal(operation.run(), operation.outputs)
        assert_all_equal(operation.pullback(operation.output_gradients), operation.input_gradients)


def assert_all_equal(values, expected):
    """Arrays, or lists of arrays, by name."""
    assert values.keys() == expected.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(value, expected[name])


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
def test_nothing_is_computed_between_the_operations_of_a_trace(kind):
    config = small_config(
        position_embedding_type=kind,
        chunk_size_feed_forward=2,
        pruned_heads={0: [1]},
        hidden_act=(gelu_forward, gelu_backward),
    )
    model = random_model(AlbertModel, config)
    trace = model.trace(input_ids=[[1, 2, 3, 4]], head_mask=[1, 1, 0.5])
    known = {id(array) for array in model.parameters.values()}
    known |= {id(array.base) for array in model.parameters.values() if array.base is not None}
    for operation in trace:
        for name, value in operation.inputs.items():
            for array in value if isinstance(value, list) else [value]:
                if (
                    isinstance(array, np.ndarray)
                    and array.dtype.kind == "f"
                    and name != "head_mask"
                ):
                    assert id(array) in known, f"{operation.name} reads an unknown {name}"
        known |= {id(value) for value in operation.outputs.values()}


class Refused(Exception):
    """What a back end raises that is asked for attention."""


def refuse(*arguments, **settings):
    raise Refused


@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({}, {"output_attentions": True}),
        ({"output_attentions": True}, {}),
        ({}, {"head_mask": [1, 0, 1]}),
        ({}, {"attention_mask": np.tri(4)[None]}),
        ({}, {"attention_mask": np.tri(4)[None, None]}),
        ({"position_embedding_type": "relative_key"}, {}),
        ({"position_embedding_type": "relative_key_query"}, {}),
    ],
)
def test_what_a_kernel_need_not_know_runs_through_the_plain_pairs(options, call):
    model = random_model(AlbertModel, small_config(**options))
    call = {"input_ids": [[1, 2, 3, 4]]} | call
    expected = model(**call)
    _, pullback = model.vjp(**call)
    ones = {"last_hidden_state": np.ones_like(expected.last_hidden_state)}
    expected_gradients = pullback(ones)
    model.backend = replace(model.backend, attention_forward=refuse, attention_backward=refuse)
    outputs, pullback = model.vjp(**call)
    np.testing.assert_array_equal(outputs.last_hidden_state, expected.last_hidden_state)
    for name, gradient in pullback(ones).parameters.items():
        np.testing.assert_array_equal(gradient, expected_gradients.parameters[name])


@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({}, {}),
        ({}, {"head_mask": [1, 1, 1]}),
        ({}, {"attention_mask": [[1, 1, 1, 0]]}),
        ({}, {"attention_mask": np.ones((1, 4, 4))}),
        ({"output_attentions": True}, {"output_attentions": False}),
        ({"chunk_size_feed_forward": 2, "pruned_heads": {0: [1]}}, {}),
    ],
)
def test_what_a_kernel_knows_runs_through_it(options, call):
    model = random_model(AlbertModel, small_config(**options))
    model.backend = replace(model.backend, attention_forward=refuse)
    with pytest.raises(Refused):
        model(**({"input_ids": [[1, 2, 3, 4]]} | call))


# head_mask


@given(config=configs(), seed=SEEDS)
def test_a_head_mask_of_one_row_is_that_of_every_layer(config, seed):
    model, call, generator = drawn(AlbertModel, config, seed)
    row = generator.random(config.num_attention_heads)
    rows = np.tile(row, (config.num_hidden_layers, 1))
    by_row, by_rows = (model(**(call | {"head_mask": mask})) for mask in (row, rows))
    np.testing.assert_array_equal(by_row.last_hidden_state, by_rows.last_hidden_state)


@given(config=configs(), seed=SEEDS, data=st.data())
def test_a_row_of_the_head_mask_is_of_its_layer(config, seed, data):
    """Layers below are what they were, bit for bit; the layer's own heads are silent."""
    model, call, _ = drawn(AlbertModel, config, seed)
    layer = data.draw(st.integers(0, config.num_hidden_layers - 1))
    head = data.draw(st.integers(0, config.num_attention_heads - 1))
    rows = np.ones((config.num_hidden_layers, config.num_attention_heads), int)
    rows[layer, head] = 0
    call |= {"output_attentions": True, "output_hidden_states": True}
    plain = model(**(call | {"head_mask": None}))
    masked = model(**(call | {"head_mask": rows}))
    for below in range(layer + 1):
        np.testing.assert_array_equal(masked.hidden_states[below], plain.hidden_states[below])
    for repetition, probabilities in enumerate(masked.attentions):
        silent = ~probabilities.any(axis=(0, 2, 3))
        own = repetition // config.inner_group_num == layer
        assert [*silent] == [own and a == head for a in range(config.num_attention_heads)]


# attention_mask


@given(config=configs(), seed=SEEDS)
def test_attention_masks_of_all_shapes_mean_the_same(config, seed):
    model, call, generator = drawn(AlbertModel, config, seed)
    B, S = call["input_ids"].shape
    A = config.num_attention_heads
    call |= {"attention_mask": generator.random((B, S)) < 0.5, "output_attentions": True}
    by_key = model(**call)
    by_query = np.repeat(call["attention_mask"][:, None], S, axis=1)
    for mask in (
        by_query,
        by_query[:, None].astype(np.float32),
        np.repeat(by_query[:, None], A, axis=1).astype(np.int8),
    ):
        outputs = model(**(call | {"attention_mask": mask}))
        np.testing.assert_array_equal(outputs.last_hidden_state, by_key.last_hidden_state)


@given(config=configs(), seed=SEEDS)
def test_masks_of_queries_and_heads_are_obeyed(config, seed):
    """No attention to what is masked; the mean of all where all is."""
    model, call, generator = drawn(AlbertModel, config, seed)
    B, S = call["input_ids"].shape
    mask = generator.random((B, config.num_attention_heads, S, S)) < 0.5
    call.pop("head_mask", None)
    call |= {"attention_mask": mask, "output_attentions": True}
    empty = ~mask.any(axis=-1)
    for probabilities in model(**call).attentions:
        assert not probabilities[~mask & ~empty[..., None]].any()
        np.testing.assert_array_equal(probabilities[empty], 1 / S)


# chunk_size_feed_forward


@given(seed=SEEDS, sizes=st.tuples(*[st.integers(1, 4)] * 5))
def test_chunks_change_no_number(seed, sizes):
    """Bit for bit, forward and backward, on whole numbers, whose sums are not rounded."""
    B, number, size, H, width = sizes
    rng = np.random.default_rng(seed)
    shapes = {"ffn.weight": (width, H), "ffn.bias": (width,), "ffn_output.weight": (H, width)}
    parameters = {name: whole(rng, shape, np.float64) for name, shape in shapes.items()}
    x, dy = (whole(rng, (B, number * size, H), np.float64) for _ in range(2))
    config = small_config(hidden_act="relu", chunk_size_feed_forward=size)
    run = Run(config, layer_schedule(config), NUMPY, keep=True)
    slots, chunked_slots = ({n: np.ones(shape) for n, shape in shapes.items()} for _ in range(2))
    y, cache = feed_forward_forward(x, parameters, run)
    chunked_y, chunked_cache = chunked_feed_forward_forward(x, parameters, run)
    np.testing.assert_array_equal(chunked_y, y)
    dx = feed_forward_backward(dy, x, cache, slots, run)
    chunked_dx = chunked_feed_forward_backward(dy, x, chunked_cache, chunked_slots, run)
    np.testing.assert_array_equal(chunked_dx, dx)
    assert_all_equal(chunked_slots, slots)


def test_chunks_run_one_after_the_other():
    model = random_model(AlbertModel, small_config(chunk_size_feed_forward=2))
    names = [operation.name for operation in model.trace(input_ids=[[1, 2, 3, 4, 5, 6]])]
    layer = [name for name in names if name.startswith("encoder.layers.0.")]
    chunks = [name.split(".")[4] for name in layer if ".chunks." in name and name.endswith(".ffn")]
    assert chunks == ["0", "1", "2"]
    assert "encoder.layers.0.ffn" not in names


# memory

ROWS, COLUMNS, WIDE = 4, 64, 1024


def peak(**options):
    """The most bytes that a forward pass holds at a time, of a model with a wide inner layer."""
    sizes = {"hidden_size": 32, "intermediate_size": WIDE, "num_attention_heads": 2}
    config = small_config(max_position_embeddings=COLUMNS, **(sizes | options))
    model = AlbertModel(config)
    ids = np.ones((ROWS, COLUMNS), int)
    model(ids)  # what is made once, such as tables, is not counted
    tracemalloc.start()
    try:
        model(ids)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_forward_pass_holds_one_repetition_at_a_time():
    hidden_state = ROWS * COLUMNS * 32 * np.float32().nbytes
    assert peak(num_hidden_layers=4) < peak(num_hidden_layers=1) + hidden_state


def test_a_forward_pass_holds_one_chunk_at_a_time():
    """Where all is one chunk, two arrays of the inner width are there, or more: of each, half."""
    inner = ROWS * COLUMNS * WIDE * np.float32().nbytes
    assert peak(chunk_size_feed_forward=COLUMNS // 2) < peak() - inner


# position_embedding_type


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
def test_relative_positions_take_the_place_of_absolute_ones(kind):
    model = random_model(AlbertModel, small_config(position_embedding_type=kind))
    call = {"input_ids": [[1, 2, 3, 4]]}
    outputs, pullback = model.vjp(**call)
    gradients = pullback({"last_hidden_state": np.ones((1, 4, 12))}).parameters
    assert not gradients["embeddings.position_embeddings.weight"].any()
    distances = gradients[f"{ATTENTION}.distance_embedding.weight"]
    assert distances.shape == (19, 4)
    met = np.abs(np.arange(19) - 9) < 4
    assert [*distances.any(axis=1)] == [*met]
    elsewhere = model(**call, position_ids=[[3, 1, 0, 2]])
    np.testing.assert_array_equal(elsewhere.last_hidden_state, outputs.last_hidden_state)
    model.parameters[f"{ATTENTION}.distance_embedding.weight"][9 + 3] += 1
    assert (model(**call).last_hidden_state != outputs.last_hidden_state).any()


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
def test_keys_meet_the_distances_where_the_kind_says_so(kind):
    """Then alone: the score of query and key is the sum of its terms, no more of them."""
    model = random_model(AlbertModel, small_config(position_embedding_type=kind))
    trace = model.trace(input_ids=[[1, 2, 3, 4]])
    prefix = "encoder.layers.0.attention.self"
    heads, distances = (
        trace[f"{prefix}.{name}"].outputs for name in ("split_heads", "distance_embedding")
    )
    scores = heads["query"] @ heads["key"].swapaxes(-1, -2) / np.sqrt(heads["key"].shape[-1])
    scores = scores + np.einsum("baid,ijd->baij", heads["query"], distances["y"])
    if kind == "relative_key_query":
        scores = scores + np.einsum("bajd,ijd->baij", heads["key"], distances["y"])
    np.testing.assert_allclose(
        trace[f"{prefix}.softmax"].outputs["y"], scipy.special.softmax(scores, axis=-1), rtol=1e-12
    )


# hidden_act


@pytest.mark.parametrize("model_class", CLASSES)
@given(config=configs_with_options(activations=("gelu",)), seed=SEEDS)
def test_a_pair_of_functions_is_as_good_as_a_name(model_class, config, seed):
    named, call, generator = drawn(model_class, config, seed)
    options = {"hidden_act": (gelu_forward, gelu_backward)}
    config = named.config.changed(**options)
    given_model = model_class(config, dtype="float64", backend=named.backend)
    for name, array in given_model.parameters.items():
        array[...] = named.parameters[name]
    (outputs, pullback), (expected, expected_pullback) = given_model.vjp(**call), named.vjp(**call)
    output_gradients = random_like(outputs, generator)
    for name, gradient in output_gradients.items():
        np.testing.assert_array_equal(outputs[name], expected[name], err_msg=str(gradient.shape))
    gradients, expected_gradients = pullback(output_gradients), expected_pullback(output_gradients)
    for name, gradient in gradients.parameters.items():
        np.testing.assert_array_equal(gradient, expected_gradients.parameters[name])


# The configuration's flags


@pytest.mark.parametrize("flag", ["output_attentions", "output_hidden_states"])
def test_outputs_are_those_that_the_configuration_asks_for_or_else_the_call(flag):
    field = flag.removeprefix("output_")
    for in_config in (True, False):
        model = AlbertModel(small_config(**{flag: in_config}))
        for in_call, expected in ((None, in_config), (True, True), (False, False)):
            call = {"input_ids": [[1, 2]], flag: in_call}
            for outputs in (model(**call), model.vjp(**call)[0], model.trace(**call).outputs):
                assert (getattr(outputs, field) is not None) == expected


@pytest.mark.parametrize("model_class", CLASSES)
def test_a_tuple_where_the_configuration_or_the_call_says_so(model_class):
    batch = random_call(model_class, small_config(), np.random.default_rng(0), head_rows=0)
    for in_config in (True, False):
        model = random_model(model_class, small_config(return_dict=in_config))
        as_dict = model(**batch, return_dict=True)
        as_tuple = model(**batch, return_dict=False)
        assert isinstance(as_tuple, tuple) and not isinstance(as_dict, tuple)
        assert isinstance(model(**batch), tuple) == (not in_config)
        for value, expected in zip(as_tuple, as_dict, strict=True):
            np.testing.assert_array_equal(value, expected)
        outputs, _ = model.vjp(**batch)
        assert outputs.keys() == as_dict.keys()


# prune_heads


@given(config=configs_with_options(prune=False), seed=SEEDS, data=st.data())
def test_pruned_heads_are_as_masked_ones(config, seed, data):
    """Outputs, and the gradients of all that stays."""
    config = AlbertConfig(**(config.to_dict() | {"inner_group_num": 1}))
    config.attention_probs_dropout_prob = 0  # whose masks count the heads that are there
    pruned = data.draw(heads_to_prune(config))
    masked, call, generator = drawn(AlbertModel, config, seed, drop=True)
    head_mask = np.ones((config.num_hidden_layers, config.num_attention_heads))
    for layer, ((group, _),) in enumerate(layer_schedule(config)):
        head_mask[layer, pruned.get(group, [])] = 0
    smaller = random_model(AlbertModel, config, seed)
    smaller.prune_heads(pruned)
    call.pop("head_mask", None)
    outputs, pullback = smaller.vjp(**call)
    expected, expected_pullback = masked.vjp(**call, head_mask=head_mask)
    assert_close(outputs, expected)
    output_gradients = random_like(outputs, generator)
    gradients = pullback(output_gradients)
    expected_gradients = expected_pullback(output_gradients)
    full = AlbertModel(config, dtype="float64")
    full.parameters = expected_gradients.parameters
    full.prune_heads(pruned)
    noise = gradient_noise(smaller, call, output_gradients)
    assert_close_gradients(
        gradients,
        expected_gradients._replace(parameters=full.parameters),
        ulps=1000 + 2 * noise / np.finfo(np.float64).eps,
    )


def pruned_twice(model):
    """By their first numbers: what was pruned before does not count the others anew."""
    model.prune_heads({0: [1]})
    model.prune_heads({0: [2], 1: [0]})


@pytest.mark.parametrize("model_class", CLASSES)
def test_pruning_twice_is_pruning_at_once(model_class):
    config = small_config(num_attention_heads=4, num_hidden_groups=2)
    at_once, twice = (random_model(model_class, config) for _ in range(2))
    parameters = twice.parameters
    pruned_twice(twice)
    at_once.prune_heads({0: [2, 1], 1: [0]})
    assert twice.parameters is parameters
    assert twice.config == at_once.config
    assert twice.config.pruned_heads == {0: [1, 2], 1: [0]}
    assert config.pruned_heads == {}
    shapes = {name: array.shape for name, array in twice.parameters.items()}
    assert shapes == model_class.parameter_shapes(twice.config)
    assert list(shapes) == list(model_class.parameter_shapes(config))
    for name, array in at_once.parameters.items():
        np.testing.assert_array_equal(twice.parameters[name], array)


def test_pruning_takes_the_rows_and_columns_of_the_head():
    model, whole = (random_model(AlbertModel, small_config()) for _ in range(2))
    model.prune_heads({0: [1]})
    stays = [0, 1, 2, 3, 8, 9, 10, 11]  # D is 4
    for name, array in whole.parameters.items():
        if name.startswith(tuple(f"{ATTENTION}.{m}." for m in ("query", "key", "value"))):
            array = array[stays]
        if name == f"{ATTENTION}.dense.weight":
            array = array[:, stays]
        np.testing.assert_array_equal(model.parameters[name], array)


def test_query_key_and_value_still_lie_in_one_array():
    model = random_model(AlbertModel, small_config())
    model.prune_heads({0: [0, 2]})
    for kind, shape in (("weight", (12, 12)), ("bias", (12,))):
        thirds = [model.parameters[f"{ATTENTION}.{m}.{kind}"] for m in ("query", "key", "value")]
        assert all(third.base is thirds[0].base for third in thirds)
        assert thirds[0].base.shape == shape


def test_a_head_that_was_pruned_is_passed_over():
    model = random_model(AlbertModel, small_config())
    model.prune_heads({0: [1]})
    before = dict(model.parameters)
    model.prune_heads({0: [1]})
    model.prune_heads({})
    assert model.config.pruned_heads == {0: [1]}
    assert all(model.parameters[name] is array for name, array in before.items())


def test_models_of_one_configuration_are_pruned_apart():
    config = small_config()
    pruned, other = random_model(AlbertModel, config), random_model(AlbertModel, config)
    pruned.prune_heads({0: [1]})
    call = {"input_ids": [[1, 2]], "head_mask": [1, 0.5, 0], "output_attentions": True}
    assert [p.shape[1] for p in pruned(**call).attentions] == [2, 2, 2]
    assert [p.shape[1] for p in other(**call).attentions] == [3, 3, 3]
    # The head mask counts the pruned head: the two that stay have its first and last number.
    np.testing.assert_array_equal(pruned(**call).attentions[0].any(axis=(2, 3)), [[True, False]])


def test_an_attention_mask_of_each_head_counts_pruned_heads_too():
    model = random_model(AlbertModel, small_config())
    model.prune_heads({0: [0]})
    mask = np.ones((1, 3, 2, 2), bool)
    mask[0, 1], mask[0, 2] = np.eye(2), np.eye(2)[::-1]
    probabilities = model([[1, 2]], mask, output_attentions=True).attentions[0]
    np.testing.assert_array_equal(probabilities, mask[:, 1:])


@pytest.mark.parametrize("model_class", CLASSES)
def test_what_was_pruned_is_saved_and_loaded(model_class, tmp_path):
    config = small_config(
        num_attention_heads=4, num_hidden_groups=2, position_embedding_type="relative_key"
    )
    model = random_model(model_class, config)
    pruned_twice(model)
    model.save_pretrained(tmp_path)
    loaded = model_class.from_pretrained(tmp_path, dtype="float64")
    assert loaded.config.pruned_heads == {0: [1, 2], 1: [0]}
    call = random_call(model_class, config, np.random.default_rng(0))
    assert_close(loaded(**call), model(**call))
    loaded.prune_heads({1: [3]})
    assert loaded.config.pruned_heads == {0: [1, 2], 1: [0, 3]}


def test_a_pruned_masked_language_model_learns():
    """One step down the gradient of the loss: the views, the slots and the shapes agree."""
    model = random_model(AlbertForMaskedLM, small_config())
    model.prune_heads({0: [1]})
    batch = {"input_ids": [[1, 2, 3]], "labels": [[1, 2, 3]]}
    before, gradients = model.loss_and_gradients(**batch)
    for name, gradient in gradients.parameters.items():
        model.parameters[name] -= 1e-3 * gradient
    assert model.loss_and_gradients(**batch)[0] < before

"""Traces: complete, in order, and each operation able to run again alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models_support import (
    CLASSES,
    WITH_A_LOSS,
    configs,
    random_batch,
    random_like,
    random_model,
    suited_to,
)

from albert_np import AlbertConfig, AlbertForMaskedLM, AlbertForPreTraining, AlbertModel
from albert_np.functions.softmax import softmax_forward

SEEDS = st.integers(0, 2**32 - 1)


def small_config(**settings):
    return AlbertConfig(
        vocab_size=20,
        embedding_size=5,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=9,
        max_position_embeddings=8,
        **settings,
    )


def traced(model_class, config, seed, drop=False, packed=False):
    """A random model, a batch, a gradient for each output, and the trace of all that."""
    generator = np.random.default_rng(seed)
    config = suited_to(model_class, config)
    model = random_model(model_class, config, seed)
    batch = random_batch(model_class, config, generator) | {"seed": seed if drop else None}
    batch["packed"] = packed
    outputs = model(**batch)
    gradients = random_like(outputs, generator)
    if model_class.label_names:
        gradients["loss"] = generator.normal()
    return model, batch, gradients, model.trace(**batch, gradients=gradients)


@pytest.mark.parametrize("model_class", CLASSES)
@given(config=configs(dropout=True), seed=SEEDS, drop=st.booleans(), packed=st.booleans())
def test_a_trace_has_the_outputs_and_gradients_of_the_model(
    model_class, config, seed, drop, packed
):
    model, batch, gradients, trace = traced(model_class, config, seed, drop, packed)
    outputs, pullback = model.vjp(**batch)
    for name in outputs.keys():  # noqa: SIM118 (iterating gives the values)
        np.testing.assert_array_equal(trace.outputs[name], outputs[name])
    expected = pullback(gradients)
    for name, gradient in expected.parameters.items():
        np.testing.assert_allclose(trace.gradients.parameters[name], gradient, rtol=1e-12)
    np.testing.assert_array_equal(trace.gradients.inputs_embeds, expected.inputs_embeds)


@pytest.mark.parametrize("model_class", CLASSES)
@given(config=configs(dropout=True), seed=SEEDS, drop=st.booleans(), packed=st.booleans())
def test_every_operation_runs_again_alone(model_class, config, seed, drop, packed):
    *_, trace = traced(model_class, config, seed, drop, packed)
    names = [operation.name for operation in trace]
    assert len(set(names)) == len(names) == len(trace)
    for operation in trace:
        outputs = operation.run()
        assert outputs.keys() == operation.outputs.keys()
        for name, value in outputs.items():
            np.testing.assert_array_equal(value, operation.outputs[name])
        input_gradients = operation.pullback(operation.output_gradients)
        assert input_gradients.keys() == operation.input_gradients.keys()
        for name, gradient in input_gradients.items():
            assert gradient.shape == operation.inputs[name].shape
            np.testing.assert_array_equal(gradient, operation.input_gradients[name])


@pytest.mark.parametrize("model_class", WITH_A_LOSS)
def test_every_floating_input_of_an_operation_is_a_parameter_or_came_out_of_an_earlier_one(
    model_class,
):
    """So the trace is complete: nothing is computed between the operations."""
    model = random_model(model_class, small_config())
    batch = random_batch(model_class, model.config, np.random.default_rng(0), (2, 5))
    trace = model.trace(**batch, gradients=True)
    known = {id(array) for array in model.parameters.values()}
    known |= {id(array.base) for array in model.parameters.values() if array.base is not None}
    for operation in trace:
        for name, value in operation.inputs.items():
            if name != "labels" and getattr(value, "dtype", np.dtype(int)).kind == "f":
                assert id(value) in known, f"{operation.name} reads an unknown {name}"
        known |= {id(value) for value in operation.outputs.values()}
    assert {id(value) for value in trace.outputs} <= known


def test_the_logits_are_the_decoders():
    model = random_model(AlbertForMaskedLM, small_config())
    trace = model.trace(input_ids=[[1, 2, 3]])
    assert trace.outputs.logits is trace["predictions.decoder"].outputs["y"]


def test_gradients_of_an_intermediate_add_up():
    """What an operation is given is the sum of what those that read its output gave back."""
    _, _, gradients, trace = traced(AlbertModel, small_config(), 0)
    given_back = {id(trace.outputs[name]): gradient for name, gradient in gradients.items()}
    for operation in trace:
        for name, gradient in operation.input_gradients.items():
            key = id(operation.inputs[name])
            given_back[key] = given_back.get(key, 0) + gradient
    for operation in trace:
        for name, value in operation.outputs.items():
            if id(value) in given_back:
                np.testing.assert_allclose(
                    operation.output_gradients[name], given_back[id(value)], atol=1e-13
                )


def test_gradients_of_shared_parameters_are_those_of_one_use():
    *_, trace = traced(AlbertModel, small_config(), 0)
    uses = [operation for operation in trace if operation.name.endswith(".ffn")]
    assert len(uses) == 2
    total = sum(use.input_gradients["weight"] for use in uses)
    name = "encoder.albert_layer_groups.0.albert_layers.0.ffn.weight"
    np.testing.assert_allclose(trace.gradients.parameters[name], total, atol=1e-14)
    assert (uses[0].input_gradients["weight"] != uses[1].input_gradients["weight"]).any()


def test_an_operation_takes_other_inputs():
    model = random_model(AlbertModel, small_config())
    trace = model.trace(input_ids=[[1, 2, 3]])
    softmax = trace["encoder.layers.1.attention.self.softmax"]
    assert softmax.function is softmax_forward
    assert softmax.output_gradients is softmax.input_gradients is trace.gradients is None
    equal = softmax.run(x=np.zeros_like(softmax.inputs["x"]))
    np.testing.assert_allclose(equal["y"], 1 / 3)
    with pytest.raises(TypeError, match="'scores'"):
        softmax.run(scores=0)
    with pytest.raises(KeyError, match="no operation is named 'softmax'"):
        trace["softmax"]


def test_every_dropout_of_a_call_draws_a_mask_of_its_own():
    rates = {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5}
    model = random_model(AlbertForPreTraining, small_config(**rates))
    trace = model.trace(input_ids=[[1, 2]], seed=1)
    sites = [op.inputs["dropout"].site for op in trace if "dropout" in op.inputs]
    assert len(sites) == 2 + 2 * model.config.num_hidden_layers
    assert len(set(sites)) == len(sites)


def test_dropout_stands_in_the_trace_where_it_is_applied():
    model = random_model(AlbertModel, small_config(hidden_dropout_prob=0.5))
    dropouts = [op.name for op in model.trace(input_ids=[[1, 2]], seed=1) if "dropout" in op.name]
    assert dropouts == [
        "embeddings.dropout",
        "encoder.layers.0.attention.output.dropout",
        "encoder.layers.1.attention.output.dropout",
    ]

"""The backward pass of every model, proven without another implementation.

The complex step: f(x + ih v) = f(x) + ih ∂f/∂v + O(h²), so Im f(x + ih v) / h is the derivative
along v, with no subtraction and so no cancellation; with h = 1e-30 the O(h²) term is far below
rounding.
"""

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
    unshared,
)

from albert_np import AlbertConfig, AlbertForMaskedLM, AlbertForPreTraining, AlbertModel

pytestmark = pytest.mark.usefixtures("each_backend")

STEP = 1e-30
SEEDS = st.integers(0, 2**32 - 1)


def weighted_sum(outputs, gradients):
    """What `pullback(gradients)` differentiates: the sum of output ∘ gradient."""
    total = 0
    for name, gradient in gradients.items():
        if isinstance(outputs[name], tuple):
            total += sum(
                (value * g).sum() for value, g in zip(outputs[name], gradient, strict=True)
            )
        else:
            total += (outputs[name] * gradient).sum()
    return total


def assert_matches_complex_step(model, batch, output_gradients, directions, dinputs, call):
    """Compare the pullback with the complex step along one direction of everything at once.

    The error is measured against the sum of the absolute values of the terms of ⟨gradient, v⟩.
    """
    _, pullback = model.vjp(**batch, **call)
    gradients = pullback(output_gradients)
    terms = [(gradients.parameters[name] * v).ravel() for name, v in directions.items()]
    if dinputs is not None:
        terms.append((gradients.inputs_embeds * dinputs).ravel())
    terms = np.concatenate(terms)

    moved = type(model)(model.config, seed=None, dtype=model.dtype)
    moved.parameters = {
        name: array + 1j * STEP * directions[name] for name, array in model.parameters.items()
    }
    if dinputs is not None:
        batch = batch | {"inputs_embeds": batch["inputs_embeds"] + 1j * STEP * dinputs}
    outputs = moved(**batch, **call)
    derivative = weighted_sum(outputs, output_gradients or {"loss": 1}).imag / STEP
    assert abs(derivative - terms.sum()) <= 1e-12 * np.abs(terms).sum()


def random_directions(model, generator):
    """A direction for every parameter; none in the padding row, whose lookups give no gradient."""
    directions = {name: generator.normal(size=a.shape) for name, a in model.parameters.items()}
    for name, direction in directions.items():
        if name.endswith("word_embeddings.weight"):
            direction[model.config.pad_token_id] = 0
    return directions


@pytest.mark.parametrize("model_class", CLASSES)
@given(
    config=configs(dropout=True),
    seed=SEEDS,
    from_embeds=st.booleans(),
    drop=st.booleans(),
    packed=st.booleans(),
)
def test_gradients_of_all_outputs_are_those_of_the_complex_step(
    model_class, config, seed, from_embeds, drop, packed
):
    generator = np.random.default_rng(seed)
    config = suited_to(model_class, config)
    model = random_model(model_class, config, seed)
    batch = random_batch(model_class, config, generator, from_embeds=from_embeds)
    call = {
        "output_hidden_states": True,
        "output_attentions": True,
        "seed": seed if drop else None,
        "packed": packed,
    }
    output_gradients = random_like(model(**batch, **call), generator)
    if model_class.label_names:
        output_gradients["loss"] = generator.normal()
    dinputs = generator.normal(size=batch["inputs_embeds"].shape) if from_embeds else None
    directions = random_directions(model, generator)
    assert_matches_complex_step(model, batch, output_gradients, directions, dinputs, call)


@pytest.mark.parametrize("model_class", WITH_A_LOSS)
@given(config=configs(dropout=True), seed=SEEDS, drop=st.booleans())
def test_gradient_of_the_loss_is_that_of_the_complex_step(model_class, config, seed, drop):
    generator = np.random.default_rng(seed)
    config = suited_to(model_class, config)
    model = random_model(model_class, config, seed)
    batch = random_batch(model_class, config, generator)
    call = {"seed": seed if drop else None}
    directions = random_directions(model, generator)
    assert_matches_complex_step(model, batch, None, directions, None, call)


@pytest.mark.parametrize("model_class", WITH_A_LOSS)
@given(config=configs(dropout=True), seed=SEEDS, drop=st.booleans())
def test_loss_and_gradients_are_those_of_vjp(model_class, config, seed, drop):
    """Labelled rows alone, or all: the same sums, in another order."""
    generator = np.random.default_rng(seed)
    config = suited_to(model_class, config)
    model = random_model(model_class, config, seed)
    batch = random_batch(model_class, config, generator)
    batch["seed"] = seed if drop else None
    outputs, pullback = model.vjp(**batch)
    expected = pullback()
    loss, gradients = model.loss_and_gradients(**batch)
    np.testing.assert_allclose(loss, outputs.loss, rtol=1e-13)
    assert_close_gradients(gradients, expected)


def assert_close_gradients(gradients, expected, ulps=1000):
    """Compare gradients on the scale of the model's largest.

    A sum of n products may be off by n units in the last place of the sum of their absolute
    values; here n is a few hundred, and that sum of the order of the largest gradient.
    """
    scale = max(np.abs(gradient).max() for gradient in expected.parameters.values())
    atol = ulps * np.finfo(np.float64).eps * scale
    for name, gradient in expected.parameters.items():
        np.testing.assert_allclose(
            gradients.parameters[name], gradient, rtol=0, atol=atol, err_msg=name
        )
    np.testing.assert_allclose(gradients.inputs_embeds, expected.inputs_embeds, rtol=0, atol=atol)


@pytest.mark.parametrize("model_class", WITH_A_LOSS)
@given(config=configs(dropout=True), seed=SEEDS, drop=st.booleans())
def test_gradient_of_shared_parameters_is_the_sum_over_the_unshared(
    model_class, config, seed, drop
):
    """The same model with a group of its own for each layer, all groups alike."""
    generator = np.random.default_rng(seed)
    config = suited_to(model_class, config)
    shared = random_model(model_class, config, seed)
    batch = random_batch(model_class, config, generator)
    batch["seed"] = seed if drop else None
    copies, shared_name = unshared(shared)
    loss, gradients = shared.loss_and_gradients(**batch)
    unshared_loss, unshared_gradients = copies.loss_and_gradients(**batch)
    assert loss == unshared_loss
    sums = {name: np.zeros_like(array) for name, array in shared.parameters.items()}
    for name, gradient in unshared_gradients.parameters.items():
        sums[shared_name(name)] += gradient
    assert_close_gradients(gradients, unshared_gradients._replace(parameters=sums))


def test_padding_row_has_a_gradient_from_the_decoder_alone():
    config = AlbertConfig(
        vocab_size=12, embedding_size=4, hidden_size=6, num_attention_heads=2, intermediate_size=5
    )
    batch = {"input_ids": [[0, 3, 0]]}
    plain = random_model(AlbertModel, config)
    _, pullback = plain.vjp(**batch)
    gradients = pullback({"last_hidden_state": np.ones((1, 3, 6))}).parameters
    assert not gradients["embeddings.word_embeddings.weight"][0].any()
    assert gradients["embeddings.word_embeddings.weight"][3].any()

    masked = random_model(AlbertForMaskedLM, config)
    _, gradients = masked.loss_and_gradients(**batch, labels=[[1, 2, 3]])
    assert gradients.parameters["albert.embeddings.word_embeddings.weight"][0].any()


def test_pullback_may_be_called_again_and_for_one_output_at_a_time():
    config = AlbertConfig(
        vocab_size=12, embedding_size=4, hidden_size=6, num_attention_heads=2, intermediate_size=5
    )
    generator = np.random.default_rng(0)
    model = random_model(AlbertForPreTraining, config)
    batch = random_batch(AlbertForPreTraining, config, generator, (2, 4))
    outputs, pullback = model.vjp(**batch, output_hidden_states=True, output_attentions=True)
    output_gradients = random_like(outputs, generator)
    together = pullback(output_gradients)
    one_by_one = [pullback({name: g}) for name, g in output_gradients.items()]
    sums = {name: sum(part.parameters[name] for part in one_by_one) for name in together.parameters}
    inputs_embeds = sum(part.inputs_embeds for part in one_by_one)
    assert_close_gradients(
        together, together._replace(parameters=sums, inputs_embeds=inputs_embeds)
    )
    none_but_one = [None] * 13
    none_but_one[4] = output_gradients["hidden_states"][4]
    early = pullback({"hidden_states": none_but_one}).parameters
    assert not early["predictions.dense.weight"].any()
    assert early["albert.encoder.embedding_hidden_mapping_in.weight"].any()

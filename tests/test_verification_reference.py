"""What is verified, and the reference: names, order, and the model's own results."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models_support import CLASSES, configs, suited_to

from albert_np import AlbertForMaskedLM
from albert_np.verification.case import Case, draw_case
from albert_np.verification.reference import reference

SEEDS = st.integers(0, 2**32 - 1)
PARTS = ["parameters", "inputs", "forward", "outputs", "backward", "gradients"]


def outputs_and_gradients(case):
    """What the public calls of the model return."""
    outputs, pullback = case.model().vjp(**case.arguments)
    return outputs, pullback(None if case.gradients is True else case.gradients)


@pytest.mark.parametrize("model_class", CLASSES)
@given(config=configs(dropout=True), seed=SEEDS)
def test_the_reference_is_the_model(model_class, config, seed):
    case = draw_case(model_class, suited_to(model_class, config), seed, (2, 5))
    outputs, gradients = outputs_and_gradients(case)
    tensors = reference(case)
    assert list(dict.fromkeys(name.partition("/")[0] for name in tensors)) == PARTS
    for name in outputs.keys():  # noqa: SIM118 (iterating gives the values)
        np.testing.assert_array_equal(tensors[f"outputs/{name}"], outputs[name])
    # A trace adds up what repetitions contribute in another order, which rounds otherwise.
    scale = max(np.abs(gradient).max() for gradient in gradients.parameters.values())
    for name, gradient in gradients.parameters.items():
        given = tensors[f"gradients/{name}"]
        np.testing.assert_allclose(given, gradient, rtol=1e-12, atol=2**-50 * scale)
        np.testing.assert_array_equal(tensors[f"parameters/{name}"], case.parameters[name])
    forward = {name.partition("/")[2] for name in tensors if name.startswith("forward/")}
    backward = {name.partition("/")[2] for name in tensors if name.startswith("backward/")}
    assert backward == forward


@pytest.mark.parametrize(
    ("dtype", "bits"), [("float64", 53), ("float32", 24), ("float16", 11), ("bfloat16", 8)]
)
def test_every_result_is_rounded_to_the_precision(dtype, bits, small_case):
    tensors = reference(small_case, dtype)
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not name.startswith("inputs/"):
            lowest = np.abs(array) >= 1e38  # masked scores
            significand, _ = np.frexp(np.where(lowest, 0, array))
            if dtype != "float16":  # whose small numbers have fewer digits
                assert (significand * 2.0**bits % 1 == 0).all(), name
    exact = reference(small_case)["outputs/logits"]
    error = np.abs(tensors["outputs/logits"] - exact).max() / np.abs(exact).max()
    assert error <= 2.0**-bits * 100
    assert (error > 0) == (dtype != "float64")


@pytest.fixture
def small_case():
    from albert_np import AlbertConfig

    config = AlbertConfig(
        vocab_size=30,
        embedding_size=6,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=8,
        initializer_range=0.3,
    )
    return draw_case(AlbertForMaskedLM, config)


def test_a_case_without_labels_has_no_backward_pass(small_case):
    inputs = {name: value for name, value in small_case.inputs.items() if name != "labels"}
    tensors = reference(small_case._replace(inputs=inputs))
    assert not any(name.startswith(("backward/", "gradients/")) for name in tensors)


def test_outputs_stand_in_order_of_computation(small_case):
    """A call returns the loss first; it is computed last."""
    outputs = [name for name in reference(small_case) if name.startswith("outputs/")]
    assert outputs == ["outputs/logits", "outputs/loss"]


def test_the_same_seed_draws_the_same_case(small_case):
    again = draw_case(AlbertForMaskedLM, small_case.config)
    assert isinstance(again, Case)
    for name, array in small_case.parameters.items():
        np.testing.assert_array_equal(again.parameters[name], array)
        assert np.unique(array).size == array.size > 1
        np.testing.assert_array_equal(array.astype(np.float32), array)

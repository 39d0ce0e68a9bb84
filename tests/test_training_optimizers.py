"""AdamW against its formula, clipping, and the schedule."""

import math

import numpy as np
import pytest

from albert_np.outputs import Gradients
from albert_np.training.loop import MAX_NORM, train
from albert_np.training.optimizers import (
    AdamW,
    biases_and_layer_norms,
    clip_gradients,
    linear_schedule,
)


def adamw_by_formula(parameter, gradients, lr, beta1, beta2, eps, weight_decay):
    """Algorithm 2 of the paper for one number, in Python's own arithmetic."""
    mean = square = 0.0
    for t, gradient in enumerate(gradients, start=1):
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient**2
        step = mean / (1 - beta1**t) / (math.sqrt(square / (1 - beta2**t)) + eps)
        parameter = parameter - lr * (step + weight_decay * parameter)
    return parameter


def test_adamw_follows_its_formula():
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=5), rng.normal(size=(20, 5))
    parameters = {"weight": start.copy()}
    optimizer = AdamW(parameters, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1)
    for gradient in gradients:
        optimizer.step({"weight": gradient}, lr=0.01)
    expected = [
        adamw_by_formula(x, column, 0.01, 0.8, 0.95, 1e-3, 0.1)
        for x, column in zip(start, gradients.T, strict=True)
    ]
    # 20 steps of about ten roundings each, of values of order one.
    np.testing.assert_allclose(parameters["weight"], expected, rtol=0, atol=200 * 2.0**-52 * 4)
    assert optimizer.steps == {"weight": 20}


def test_the_first_step_is_the_rate_whatever_the_gradients_size():
    parameters = {"weight": np.array([1.0, 1.0])}
    AdamW(parameters, eps=0, weight_decay=0).step({"weight": np.array([1e-9, -1e9])}, lr=0.25)
    np.testing.assert_allclose(parameters["weight"], [0.75, 1.25], rtol=1e-15)


def test_decay_shrinks_what_it_is_not_told_to_leave_alone():
    parameters = {"weight": np.ones((2, 2)), "bias": np.ones(2)}
    optimizer = AdamW(parameters, weight_decay=0.5, undecayed=biases_and_layer_norms(parameters))
    optimizer.step({name: np.zeros_like(array) for name, array in parameters.items()}, lr=0.1)
    np.testing.assert_array_equal(parameters["weight"], 0.95 * np.ones((2, 2)))
    np.testing.assert_array_equal(parameters["bias"], np.ones(2))


def test_a_parameter_without_a_gradient_waits():
    """Its steps are counted from its own first one, so that step is as long as any first step."""
    parameters = {"one": np.zeros(2), "other": np.zeros(2)}
    optimizer = AdamW(parameters, eps=0, weight_decay=0)
    for _ in range(5):
        optimizer.step({"one": np.ones(2)}, lr=0.25)
    np.testing.assert_array_equal(parameters["other"], np.zeros(2))
    optimizer.step({"other": np.ones(2)}, lr=0.25)
    np.testing.assert_allclose(parameters["other"], [-0.25, -0.25], rtol=1e-15)


def test_arrays_are_changed_in_place_and_keep_their_dtype():
    array = np.ones(3, np.float32)
    AdamW({"weight": array}).step({"weight": np.ones(3, np.float32)}, lr=0.1)
    assert array.dtype == np.float32
    assert (array < 1).all()


def test_clipping_keeps_directions_and_bounds_the_common_norm():
    gradients = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    assert clip_gradients(gradients, 1.0) == 5.0
    np.testing.assert_allclose(gradients["a"], [0.6, 0.0], rtol=1e-15)
    np.testing.assert_allclose(gradients["b"], [[0.8]], rtol=1e-15)


def test_clipping_leaves_small_gradients_alone():
    gradients = {"a": np.array([0.3])}
    assert clip_gradients(gradients, 1.0) == pytest.approx(0.3, rel=1e-15)
    assert gradients["a"][0] == 0.3


def test_training_clips_before_each_step():
    class Model:
        def loss_and_gradients(self, size):
            return 1.0, Gradients({"a": np.array([size, 0.0])}, None)

    class Recorder:
        def __init__(self):
            self.seen = []

        def step(self, gradients, lr):
            self.seen.append((gradients["a"].tolist(), lr))

    optimizer = Recorder()
    turns = iter([(Model(), {"size": 5.0}), (Model(), {"size": 0.5})])
    assert train(optimizer, turns, [0.1, 0.2]) == [1.0, 1.0]
    assert optimizer.seen == [([MAX_NORM, 0.0], 0.1), ([0.5, 0.0], 0.2)]


def test_the_schedule_rises_to_the_rate_and_falls_to_its_last_step():
    rates = linear_schedule(2.0, steps=10, warmup_steps=4)
    np.testing.assert_allclose(rates[:4], [0.5, 1.0, 1.5, 2.0], rtol=1e-15)
    np.testing.assert_allclose(np.diff(rates[3:]), -2.0 / 7, rtol=1e-14)
    assert rates[-1] == pytest.approx(2.0 / 7, rel=1e-14)


@pytest.mark.parametrize("warmup_steps", [0, 1, 5])
def test_rates_are_positive_and_at_most_the_highest(warmup_steps):
    rates = linear_schedule(1.0, steps=5, warmup_steps=warmup_steps)
    assert rates.shape == (5,)
    assert (rates > 0).all()
    assert rates.max() <= 1.0

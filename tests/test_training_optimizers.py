"""AdamW against its formula, clipping, and the schedule."""

import math

import ml_dtypes
import numpy as np
import pytest
from strict_arrays import StrictArray, strict

from albert_np.outputs import Gradients
from albert_np.training.loop import MAX_NORM, train
from albert_np.training.optimizers import (
    AdamW,
    biases_and_layer_norms,
    clip_gradients,
    linear_schedule,
)

HALVES = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]


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


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_parameters_in_halves_are_the_rounded_ones_of_float32(dtype):
    """Steps too small for a half's last digit add up; g² and eps too small for float16 count."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=50).astype(dtype)
    gradients = (1e-4 * rng.normal(size=(20, 50))).astype(dtype)
    parameters = {"weight": start.copy()}, {"weight": start.astype(np.float32)}
    half, single = map(AdamW, parameters)
    for gradient in gradients:
        half.step({"weight": gradient}, lr=1e-4)
        single.step({"weight": gradient.astype(np.float32)}, lr=1e-4)
    ours, expected = (each["weight"] for each in parameters)
    assert ours.dtype == dtype and np.any(ours != start)
    np.testing.assert_array_equal(ours, expected.astype(dtype))


def test_a_gradient_of_zero_moves_no_parameter_of_float16():
    """eps is 0 in float16: the step would be 0 / 0."""
    parameters = {"weight": np.ones(2, np.float16)}
    AdamW(parameters, weight_decay=0).step({"weight": np.zeros(2, np.float16)}, lr=0.1)
    np.testing.assert_array_equal(parameters["weight"], np.ones(2))


def test_clipping_keeps_directions_and_bounds_the_common_norm():
    gradients = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    assert clip_gradients(gradients, 1.0) == 5.0
    np.testing.assert_allclose(gradients["a"], [0.6, 0.0], rtol=1e-15)
    np.testing.assert_allclose(gradients["b"], [[0.8]], rtol=1e-15)


def test_clipping_leaves_small_gradients_alone():
    gradients = {"a": np.array([0.3])}
    assert clip_gradients(gradients, 1.0) == pytest.approx(0.3, rel=1e-15)
    assert gradients["a"][0] == 0.3


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_clipping_in_halves(dtype):
    """Neither squares beyond float16's largest number, nor a scale below its smallest, are lost."""
    gradients = {"a": np.full(1000, 3e4).astype(dtype), "b": np.ones(7, dtype)}
    exact = np.concatenate([array.astype(np.float64) for array in gradients.values()])
    norm, max_norm = np.linalg.norm(exact), 1e-3
    # A square and a sum of a thousand in float32, halved by the root.
    assert clip_gradients(gradients, max_norm) == pytest.approx(norm, rel=1000 * 2.0**-24)
    actual = np.concatenate(list(gradients.values()))
    # The floor: half a unit in the last place, of float16's numbers below the normal ones too.
    info = ml_dtypes.finfo(dtype)
    eps, smallest = float(info.eps), float(info.smallest_subnormal)
    expected = exact * max_norm / norm
    assert actual.dtype == dtype
    np.testing.assert_allclose(
        actual.astype(np.float64), expected, rtol=0.51 * eps, atol=0.51 * smallest
    )


def test_clipping_waits_once(monkeypatch):
    waits = []
    show = StrictArray.__float__
    monkeypatch.setattr(StrictArray, "__float__", lambda self: waits.append(1) or show(self))
    gradients = {name: strict([3.0, 4.0]) for name in "abc"}
    assert clip_gradients(gradients, 1.0) == pytest.approx(5 * 3**0.5, rel=1e-15)
    assert len(waits) == 1


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

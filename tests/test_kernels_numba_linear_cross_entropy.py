"""The decoder and its loss, in blocks of the vocabulary: against the reference in the widest dtype.

A logit is a sum of E products and a bias, so off by E + 2 roundings of its absolute terms; softmax
and log Σ exp move by at most twice that of the row's largest, and sum over V; 8 roundings more are
of the exponential, the logarithm and the shifts.
"""

from unittest.mock import patch

import numpy as np
import pytest
from functions_support import DTYPES, SEEDS, WIDTHS, assert_like, assert_within
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba")

from numba_support import wide  # noqa: E402

from albert_np.functions import fused  # noqa: E402
from albert_np.functions.cross_entropy import IGNORE_INDEX  # noqa: E402
from albert_np.kernels.numba import linear_cross_entropy as kernel  # noqa: E402

VOCABULARIES = st.sampled_from([1, 2, 31, 33, 64, 65, 130])
BLOCKS = st.sampled_from([1, 33, 64, 2048])


def draw(seed, dtype, T, V, E):
    """x, weight, bias, and labels of which some are left out."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(T) < 0.3, IGNORE_INDEX, rng.integers(0, V, T))
    labels[:1] = rng.integers(V)
    return [rng.standard_normal(shape).astype(dtype) for shape in [(T, E), (V, E), (V,)]], labels


def forward(inputs, labels, block):
    with patch.object(kernel, "VOCABULARY_BLOCK", block):
        return kernel.linear_cross_entropy_forward(*inputs, labels)


def backward(dloss, cache, block, into=None):
    with patch.object(kernel, "VOCABULARY_BLOCK", block):
        return kernel.linear_cross_entropy_backward(dloss, cache, into)


@given(SEEDS, DTYPES, st.integers(1, 6), VOCABULARIES, WIDTHS, BLOCKS)
def test_equals_the_reference(seed, dtype, T, V, E, block):
    inputs, labels = draw(seed, dtype, T, V, E)
    loss, cache = forward(inputs, labels, block)
    gradients = backward(dtype(0.5), cache, block)
    assert loss.dtype == dtype and loss.shape == ()
    assert_like(gradients, inputs)

    x, weight, bias = wide(*inputs)
    expected, wide_cache = fused.linear_cross_entropy_forward(x, weight, bias, labels)
    expected_gradients = fused.linear_cross_entropy_backward(np.longdouble(0.5), wide_cache)

    labelled = labels != IGNORE_INDEX
    logit_terms = (np.abs(x) @ np.abs(weight).T + np.abs(bias)).max(axis=1)
    row_units = 2 * (E + 2) * logit_terms + V + 8
    assert_within(loss, expected, 1, (row_units + 2 * logit_terms)[labelled].mean() + T * expected)

    logits = x @ weight.T + bias
    softmax = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax /= softmax.sum(axis=1, keepdims=True)
    one_hot = np.arange(V) == labels[:, None]
    factor = 0.5 * labelled[:, None] / labelled.sum()
    dlogit_units = factor * (softmax * row_units[:, None] + 8 * one_hot)
    dlogit_terms = factor * (softmax + one_hot)
    for gradient, exact, off in zip(
        gradients,
        expected_gradients,
        (
            (dlogit_units + (V + 8) * dlogit_terms) @ np.abs(weight),
            (dlogit_units + (T + 8) * dlogit_terms).T @ np.abs(x),
            (dlogit_units + (T + 8) * dlogit_terms).sum(axis=0),
        ),
        strict=True,
    ):
        assert_within(gradient, exact, 1, off)


@given(SEEDS, DTYPES, st.integers(1, 6), VOCABULARIES, WIDTHS, BLOCKS)
def test_adds_into_slots(seed, dtype, T, V, E, block):
    """To one rounding of the sum: the products are added to the slot term by term."""
    inputs, labels = draw(seed, dtype, T, V, E)
    _, cache = forward(inputs, labels, block)
    _, *gradients = backward(dtype(0.5), cache, block)
    slots = tuple(np.ones_like(gradient) for gradient in gradients)
    _, *returned = backward(dtype(0.5), cache, block, into=slots)
    for slot, same, gradient in zip(slots, returned, gradients, strict=True):
        assert same is slot
        assert_within(
            slot, 1 + gradient.astype(np.longdouble), T + 8, 1 + T * np.abs(inputs[0]).max()
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("T", [0, 3])
def test_without_a_label(dtype, T):
    """No loss, and gradients of zeros."""
    inputs, labels = draw(0, dtype, T, 5, 3)
    labels[:] = IGNORE_INDEX
    loss, cache = forward(inputs, labels, 2)
    assert np.isnan(loss)
    for gradient in backward(dtype(1), cache, 2):
        np.testing.assert_array_equal(gradient, 0 * gradient)


@pytest.mark.parametrize("block", [2, 2048])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_keeps_its_digits_far_from_zero(dtype, block):
    """Logits of 10000 and 9999: the loss is that of 1 and 0; −∞ is no part of the sum."""
    x, weight = np.ones((1, 1), dtype), np.zeros((5, 1), dtype)
    bias = np.array([-np.inf, -np.inf, 9999, 10000, -np.inf], dtype)
    loss, cache = forward((x, weight, bias), np.array([3]), block)
    small = np.log1p(np.exp(np.longdouble(-1)))
    assert_within(loss, small, 4, small)
    _, _, dbias = backward(dtype(1), cache, block)
    other = 1 / (1 + np.exp(np.longdouble(1)))
    assert_within(dbias, np.array([0, 0, other, -other, 0]), 4, np.array([0, 0, 1, 1, 0]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_not_a_number_stays_so(dtype):
    (x, weight, bias), labels = draw(0, dtype, 2, 70, 3)
    bias[66] = np.nan
    loss, _ = forward((x, weight, bias), labels, 64)
    assert np.isnan(loss)

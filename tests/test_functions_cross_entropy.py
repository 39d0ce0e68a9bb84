"""Cross-entropy: its gradient is the softmax minus one-hot, over the number of labelled rows."""

import mpmath
import numpy as np
import pytest
from functions_support import (
    DTYPES,
    LEADING,
    SEEDS,
    WIDTHS,
    assert_derivative,
    assert_like,
    assert_within,
    normal,
)
from hypothesis import given
from hypothesis import strategies as st

from albert_np.functions.cross_entropy import (
    IGNORE_INDEX,
    cross_entropy_backward,
    cross_entropy_forward,
)

SCALES = st.sampled_from([1e-3, 1.0, 10.0, 1e3])


def draw_labels(rng, leading, V):
    """Labels of which some are left out, but not the first."""
    labels = np.where(rng.random(leading) < 0.4, IGNORE_INDEX, rng.integers(0, V, leading))
    labels.flat[0] = rng.integers(0, V)
    labels.flags.writeable = False
    return labels


def one_hot(labels, V):
    return (labels[..., None] == np.arange(V)).astype(np.float64)


def closed_form(logits, labels):
    """The loss and the probabilities to 50 digits, rounded once."""
    V = logits.shape[-1]
    losses, probabilities = [], []
    with mpmath.workdps(50):
        for row, label in zip(logits.reshape(-1, V).tolist(), labels.flat, strict=True):
            exponentials = [mpmath.exp(value) for value in row]
            total = mpmath.fsum(exponentials)
            probabilities.append([float(e / total) for e in exponentials])
            if label != IGNORE_INDEX:
                losses.append(mpmath.log(total) - row[label])
        loss = float(mpmath.fsum(losses) / len(losses))
    return loss, np.array(probabilities).reshape(logits.shape)


@given(SEEDS, DTYPES, LEADING, WIDTHS, SCALES)
def test_equals_the_closed_form(seed, dtype, leading, V, scale):
    """Rounding z − m moves an exponential by that much relative to itself, exp and log are good to
    4 units, and a sum of N terms rounds N times."""
    rng = np.random.default_rng(seed)
    logits, labels = normal(rng, (*leading, V), dtype, scale), draw_labels(rng, leading, V)
    expected_loss, probabilities = closed_form(logits, labels)
    below = np.ptp(logits.astype(np.float64), axis=-1, keepdims=True)  # how far z lies below m
    rows, n = labels.size, np.sum(labels != IGNORE_INDEX)

    loss, cache = cross_entropy_forward(logits, labels)
    assert loss.shape == () and loss.dtype == dtype
    assert_within(loss, expected_loss, 8 + V + rows, 2 + below.max() + np.log(V))

    dlogits = cross_entropy_backward(dtype(3), cache)
    labelled = (labels != IGNORE_INDEX)[..., None]
    expected = np.where(labelled, 3 * (probabilities - one_hot(labels, V)) / n, 0)
    steepness = 1 + 2 * below + np.log(V)
    terms = 3 * (probabilities * steepness + one_hot(labels, V)) / n
    assert_like((dlogits,), (logits,))
    assert_within(dlogits, expected, 8 + V, terms)
    assert np.all(dlogits[labels == IGNORE_INDEX] == 0)


@given(SEEDS, DTYPES, LEADING, WIDTHS, st.integers(-1000, 1000))
def test_does_not_see_a_shift(seed, dtype, leading, V, shift):
    """Eighths plus a whole number are not rounded, so the results may not differ in one bit."""
    rng = np.random.default_rng(seed)
    logits = (rng.integers(-99, 99, (*leading, V)) / 8).astype(dtype)
    labels = draw_labels(rng, leading, V)
    loss, cache = cross_entropy_forward(logits, labels)
    shifted_loss, shifted_cache = cross_entropy_forward(logits + dtype(shift), labels)
    assert shifted_loss == loss
    np.testing.assert_array_equal(
        cross_entropy_backward(1.0, shifted_cache), cross_entropy_backward(1.0, cache)
    )


@given(SEEDS, LEADING, WIDTHS, st.sampled_from([1e-3, 1.0, 30.0]))
def test_backward_is_the_derivative(seed, leading, V, scale):
    rng = np.random.default_rng(seed)
    logits, labels = normal(rng, (*leading, V), scale=scale), draw_labels(rng, leading, V)
    _, cache = cross_entropy_forward(logits, labels)
    dlogits = cross_entropy_backward(-2.0, cache)
    terms = np.abs(dlogits) + 4 * one_hot(labels, V) / np.sum(labels != IGNORE_INDEX)
    assert_derivative(
        rng, lambda z: cross_entropy_forward(z, labels)[0], (logits,), -2.0, (dlogits,), (terms,)
    )


@pytest.mark.parametrize("shape", [(2, 3), (0,)])
@given(dtype=DTYPES)
def test_without_a_label_there_is_no_loss_and_no_gradient(shape, dtype):
    """The mean of nothing is not a number, whether rows are left out or there are none."""
    logits, labels = np.ones((*shape, 5), dtype), np.full(shape, IGNORE_INDEX)
    loss, cache = cross_entropy_forward(logits, labels)
    assert np.isnan(loss) and loss.dtype == dtype
    dlogits = cross_entropy_backward(dtype(1), cache)
    assert_like((dlogits,), (logits,))
    assert np.all(dlogits == 0)


@given(DTYPES)
def test_at_the_ends_of_the_range(dtype):
    """A certain prediction that is right costs nothing, and one that is wrong costs its margin."""
    most = np.finfo(dtype).max / 2
    logits = np.array([[most, -most], [most, -most]], dtype)
    for labels, expected_loss, expected in [
        ([0, IGNORE_INDEX], 0, [[0, 0], [0, 0]]),
        ([IGNORE_INDEX, 1], 2 * most, [[0, 0], [1, -1]]),
    ]:
        loss, cache = cross_entropy_forward(logits, np.array(labels))
        assert loss == expected_loss
        np.testing.assert_array_equal(cross_entropy_backward(dtype(1), cache), expected)
    # Twice as far, the loss is too large for the dtype; its gradient is not.
    loss, cache = cross_entropy_forward(2 * logits, np.array([1, IGNORE_INDEX]))
    assert loss == np.inf
    np.testing.assert_array_equal(cross_entropy_backward(dtype(1), cache), [[1, -1], [0, 0]])

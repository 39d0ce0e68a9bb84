"""Binary cross-entropy: its gradient is the probability of yes, less the label."""

import mpmath
import numpy as np
from functions_support import (
    DTYPES,
    SEEDS,
    SHAPES,
    assert_derivative,
    assert_like,
    assert_within,
    in_some_layout,
    normal,
)
from hypothesis import given
from hypothesis import strategies as st

from albert_np.functions.binary_cross_entropy import (
    binary_cross_entropy_backward,
    binary_cross_entropy_forward,
)
from albert_np.functions.cross_entropy import cross_entropy_backward, cross_entropy_forward

SCALES = st.sampled_from([1e-3, 1.0, 30.0, 1e3])


def draw_labels(rng, shape, dtype=np.float64):
    """Yes, no, and probabilities between."""
    certain = rng.integers(0, 2, shape)
    labels = np.where(rng.random(shape) < 0.6, certain, rng.random(shape))
    return in_some_layout(rng, labels.astype(dtype))


def closed_form(logits, labels):
    """Each loss, t log(1 + exp −z) + (1 − t) log(1 + exp z); and each σ(z), and σ(−z); all to 50
    digits, rounded once."""
    values = []
    with mpmath.workdps(50):
        for z, t in zip(logits.ravel().tolist(), labels.ravel().tolist(), strict=True):
            z, t = mpmath.mpf(z), mpmath.mpf(t)
            loss = t * mpmath.log1p(mpmath.exp(-z)) + (1 - t) * mpmath.log1p(mpmath.exp(z))
            yes, no = 1 / (1 + mpmath.exp(-z)), 1 / (1 + mpmath.exp(z))
            values.append([float(loss), float(yes), float(no), float((1 - t) * yes - t * no)])
    return np.moveaxis(np.reshape(values, (*logits.shape, 4)), -1, 0)


@given(SEEDS, DTYPES, SHAPES, SCALES)
def test_equals_the_closed_form(seed, dtype, shape, scale):
    """exp and log1p are good to 4 units, and none of their arguments was rounded; what is added to
    them is not negative, so that nothing cancels; the mean of n rounds n times."""
    rng = np.random.default_rng(seed)
    logits, labels = normal(rng, shape, dtype, scale), draw_labels(rng, shape, dtype)
    losses, yes, no, difference = closed_form(logits, labels)
    n = logits.size

    loss, cache = binary_cross_entropy_forward(logits, labels)
    assert loss.shape == () and loss.dtype == dtype
    assert_within(loss, losses.mean(), n + 12, losses.mean())

    dlogits, dlabels = binary_cross_entropy_backward(dtype(3), cache)
    assert_like((dlogits, dlabels), (logits, labels))
    terms = 3 * ((1 - labels.astype(np.float64)) * yes + labels * no) / n
    assert_within(dlogits, 3 * difference / n, 12, terms)
    expected = -3 * logits.astype(np.float64) / n
    assert_within(dlabels, expected, 4, np.abs(expected))


@given(SEEDS, SHAPES, SCALES)
def test_of_certain_labels_is_cross_entropy_of_two_classes(seed, shape, scale):
    """log σ(z) is the log-softmax of (0, z) at its second place."""
    rng = np.random.default_rng(seed)
    logits = normal(rng, shape, scale=scale)
    labels = rng.integers(0, 2, shape)
    pairs = np.stack([np.zeros_like(logits), logits], axis=-1)
    loss, cache = binary_cross_entropy_forward(logits, labels.astype(np.float64))
    expected, expected_cache = cross_entropy_forward(pairs, labels)
    np.testing.assert_allclose(loss, expected, rtol=0, atol=1e-13 * (1 + scale))
    dlogits, _ = binary_cross_entropy_backward(2.0, cache)
    dpairs = cross_entropy_backward(2.0, expected_cache)
    np.testing.assert_allclose(dlogits, dpairs[..., 1], rtol=0, atol=1e-12)


@given(SEEDS, SHAPES, st.sampled_from([1e-3, 1.0, 30.0]))
def test_backward_is_the_derivative(seed, shape, scale):
    rng = np.random.default_rng(seed)
    logits, labels = normal(rng, shape, scale=scale), draw_labels(rng, shape)
    _, cache = binary_cross_entropy_forward(logits, labels)
    gradients = binary_cross_entropy_backward(-2.0, cache)
    n = logits.size
    terms = np.full(logits.shape, 4 / n), 2 * np.abs(logits) / n
    assert_derivative(
        rng,
        lambda z, t: binary_cross_entropy_forward(z, t)[0],
        (logits, labels),
        -2.0,
        gradients,
        terms,
    )


@given(DTYPES)
def test_at_the_ends_of_the_range(dtype):
    """A certain prediction that is right costs nothing, and one that is wrong costs its margin."""
    most = np.finfo(dtype).max / 2
    logits = np.array([most, -most], dtype)
    for labels, expected_loss, expected in [([1, 0], 0, [0, 0]), ([1, 1], most / 2, [0, -0.5])]:
        loss, cache = binary_cross_entropy_forward(logits, np.array(labels, dtype))
        assert loss == expected_loss
        dlogits, _ = binary_cross_entropy_backward(dtype(1), cache)
        np.testing.assert_array_equal(dlogits, expected)

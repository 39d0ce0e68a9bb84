"""Mean squared error: a variance about the labels, whose gradient is twice the mean difference."""

import numpy as np
from functions_support import (
    DTYPES,
    SEEDS,
    SHAPES,
    assert_derivative,
    assert_like,
    assert_within,
    in_float64,
    normal,
    whole,
)
from hypothesis import given

from albert_np.functions.mean_squared_error import (
    mean_squared_error_backward,
    mean_squared_error_forward,
)


@given(SEEDS, DTYPES, SHAPES)
def test_equals_the_closed_form(seed, dtype, shape):
    """A difference, a product and a sum of n terms: n + 2 roundings, that of x − t counted twice
    for its square; its own size is what it is of x and t, as the difference is rounded once."""
    rng = np.random.default_rng(seed)
    x, labels = normal(rng, shape, dtype), normal(rng, shape, dtype)
    wide_x, wide_labels = in_float64(x, labels)
    difference, n = wide_x - wide_labels, x.size

    loss, cache = mean_squared_error_forward(x, labels)
    assert loss.shape == () and loss.dtype == dtype
    assert_within(loss, np.mean(difference**2), n + 4, np.mean(difference**2))

    gradients = mean_squared_error_backward(dtype(3), cache)
    assert_like(gradients, (x, labels))
    expected = 6 * difference / n
    assert_within(gradients[0], expected, 4, np.abs(expected))
    np.testing.assert_array_equal(gradients[1], -gradients[0])


@given(SEEDS, DTYPES, SHAPES)
def test_is_the_variance_and_the_squared_mean_of_the_error(seed, dtype, shape):
    """mean d² = var d + (mean d)², in whole numbers, times n² so that nothing is rounded."""
    rng = np.random.default_rng(seed)
    x, labels = whole(rng, shape, dtype), whole(rng, shape, dtype)
    loss, _ = mean_squared_error_forward(x, labels)
    d = (x - labels).astype(int).ravel()
    n = d.size
    variance = (n * d - d.sum()) @ (n * d - d.sum())  # n³ var d
    assert np.rint(loss * n) * n * n == variance + n * d.sum() ** 2
    assert_within(loss, (d @ d) / n, 2, (d @ d) / n)


@given(SEEDS, SHAPES)
def test_backward_is_the_derivative(seed, shape):
    rng = np.random.default_rng(seed)
    x, labels = normal(rng, shape), normal(rng, shape)
    _, cache = mean_squared_error_forward(x, labels)
    gradients = mean_squared_error_backward(-2.0, cache)
    terms = 4 * (np.abs(x) + np.abs(labels)) / x.size
    assert_derivative(
        rng,
        lambda x, labels: mean_squared_error_forward(x, labels)[0],
        (x, labels),
        -2.0,
        gradients,
        (terms, terms),
    )


@given(DTYPES, SHAPES)
def test_is_nothing_where_every_prediction_is_right(dtype, shape):
    x = np.full(shape, 0.1, dtype)
    loss, cache = mean_squared_error_forward(x, x)
    assert loss == 0
    for gradient in mean_squared_error_backward(dtype(1), cache):
        assert not gradient.any()

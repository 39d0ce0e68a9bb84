"""Layer norm and what comes before it: against the reference in the widest dtype.

Bounds are those of test_functions_layer_norm.py: a mean of N terms rounds N times and some, what
comes before rounds once or twice, a sum over rows as often as there are rows.
"""

import numpy as np
import pytest
from functions_support import (
    DTYPES,
    SEEDS,
    assert_adds_into,
    assert_like,
    assert_within,
    layer_norm_condition,
    layer_norm_terms,
)
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba")

from numba_support import COLUMNS, ROWS, assert_same_bits_on_any_threads, wide  # noqa: E402

from albert_np.functions import fused, layer_norm  # noqa: E402
from albert_np.functions.dropout import Dropout, dropout_forward, keep_mask  # noqa: E402
from albert_np.functions.packing import packed_batch  # noqa: E402
from albert_np.kernels.numba.layer_norm import (  # noqa: E402
    arguments_of,
    backward,
    bias_dropout_residual_layer_norm_backward,
    bias_dropout_residual_layer_norm_forward,
    bias_dropout_residual_layer_norm_output,
    forward_of_layer_end,
    layer_norm_backward,
    layer_norm_forward,
    layer_norm_output,
)

EPS = 1e-12
BATCH = st.sampled_from([(1, 1), (2, 3), (1, 33), (2, 40)])
DROPOUTS = st.sampled_from(
    [None, Dropout(0.0, 1, 3), Dropout(0.4, 2**40 + 5, 3), Dropout(1.0, 1, 3)]
)


def draw(seed, dtype, shape):
    """x, bias, residual, weight, shift, and a gradient of y."""
    rng = np.random.default_rng(seed)
    n = shape[-1]
    shapes = [shape, (n,), shape, (n,), (n,), shape]
    return [np.asarray(rng.standard_normal(each).astype(dtype)) for each in shapes]


def output_terms(x, weight, bias, eps):
    normalized = layer_norm.layer_norm_forward(x, weight, bias, eps)[1].normalized
    return (layer_norm_condition(x, eps) + np.abs(normalized)) * np.abs(weight) + np.abs(bias)


@given(SEEDS, DTYPES, ROWS, COLUMNS)
def test_layer_norm_equals_the_reference(seed, dtype, leading, n):
    x, _, _, weight, bias, dy = draw(seed, dtype, (*leading, n))
    y, cache = layer_norm_forward(x, weight, bias, EPS)
    gradients = layer_norm_backward(dy, cache)
    assert_like((y, cache.normalized, *gradients), (x, x, x, weight, bias))
    np.testing.assert_array_equal(layer_norm_output(cache), y)
    x, weight, bias, dy = wide(x, weight, bias, dy)
    expected, wide_cache = layer_norm.layer_norm_forward(x, weight, bias, EPS)
    assert_within(y, expected, n + 8, output_terms(x, weight, bias, EPS))
    rows = x.size // n
    for gradient, exact, terms, units in zip(
        gradients,
        layer_norm.layer_norm_backward(dy, wide_cache),
        layer_norm_terms(dy, x, weight, EPS),
        (2 * n + 8, n + 8 + rows, rows),
        strict=True,
    ):
        assert_within(gradient, exact, units, terms)


@given(SEEDS, DTYPES, COLUMNS)
def test_a_large_mean_costs_no_digits(seed, dtype, n):
    """Whole numbers about 2²⁰ are no more rounded than those about 0."""
    rng = np.random.default_rng(seed)
    small = rng.integers(-4, 5, (3, n)).astype(dtype)
    small[:, 0] = 5  # lest the deviation be 0
    weight, bias = np.ones(n, dtype), np.zeros(n, dtype)
    y, _ = layer_norm_forward(small + dtype(2**20), weight, bias, EPS)
    (x,) = wide(small)
    assert_within(
        y, layer_norm.layer_norm_forward(x, weight, bias, EPS)[0], n + 8, output_terms(x, 1, 0, EPS)
    )


@given(SEEDS, DTYPES, BATCH, COLUMNS, DROPOUTS)
def test_layer_end_equals_the_reference(seed, dtype, batch, n, dropout):
    *inputs, dy = draw(seed, dtype, (*batch, n))
    y, cache = bias_dropout_residual_layer_norm_forward(*inputs, EPS, dropout)
    gradients = bias_dropout_residual_layer_norm_backward(dy, cache)
    assert_like((y, *gradients), (inputs[0], *inputs))
    np.testing.assert_array_equal(bias_dropout_residual_layer_norm_output(cache), y)
    same, nothing = bias_dropout_residual_layer_norm_forward(*inputs, EPS, dropout, keep=False)
    np.testing.assert_array_equal(same, y)
    assert nothing is None

    *inputs, dy = wide(*inputs, dy)
    x, bias, residual, weight, shift = inputs
    expected, wide_cache = fused.bias_dropout_residual_layer_norm_forward(*inputs, EPS, dropout)
    dropped = x + bias if dropout is None else dropout_forward(x + bias, dropout)[0]
    total = residual + dropped
    # x + b and its scaling are rounded as large as they are, which is more than their sum may be.
    largest = (np.abs(residual) + np.abs(dropped)).max(axis=-1, keepdims=True)
    more = 1 + largest / np.abs(total).max(axis=-1, keepdims=True)
    assert_within(y, expected, n + 8, output_terms(total, weight, shift, EPS) * more)

    dtotal, dweight, dshift = layer_norm_terms(dy, total, weight, EPS)
    dtotal = dtotal * more
    dx = dtotal if dropout is None else dropout_forward(dtotal, dropout)[0]
    rows = x.size // n
    for gradient, exact, terms, units in zip(
        gradients,
        fused.bias_dropout_residual_layer_norm_backward(dy, wide_cache),
        (dx, dx.reshape(-1, n).sum(axis=0), dtotal, dweight * more.max(), dshift),
        (2 * n + 8, 2 * n + 8 + rows, 2 * n + 8, n + 8 + rows, rows),
        strict=True,
    ):
        assert_within(gradient, exact, units, terms)


@given(SEEDS, DTYPES, BATCH, COLUMNS, st.sampled_from([0.0, 0.3, 1.0]))
def test_drops_what_the_reference_drops(seed, dtype, batch, n, probability):
    """Bit for bit, and in a packed batch what the padded one drops."""
    *inputs, dy = draw(seed, dtype, (*batch, n))
    mask = np.random.default_rng(seed).random(batch) < 0.6
    dropout = Dropout(probability, seed * 2**20, 7)
    _, cache = bias_dropout_residual_layer_norm_forward(*inputs, EPS, dropout)
    dx, _, dresidual, _, _ = bias_dropout_residual_layer_norm_backward(dy, cache)
    scale = dtype(0 if probability == 1 else 1 / (1 - probability))
    expected = np.where(keep_mask(dy.shape, dropout), dresidual * scale, 0)
    np.testing.assert_array_equal(dx, expected)

    packed = packed_batch(mask)
    x, bias, residual, *others = inputs
    places = packed.places
    y, cache = bias_dropout_residual_layer_norm_forward(
        x[places], bias, residual[places], *others, EPS, dropout._replace(packed=packed)
    )
    padded, _ = bias_dropout_residual_layer_norm_forward(*inputs, EPS, dropout)
    np.testing.assert_array_equal(y, padded[places])
    packed_dx, *_ = bias_dropout_residual_layer_norm_backward(dy[places], cache)
    np.testing.assert_array_equal(packed_dx, dx[places])


@given(SEEDS, DTYPES, BATCH, COLUMNS, DROPOUTS)
def test_adds_into_slots_with_the_same_bits_on_any_threads(seed, dtype, batch, n, dropout):
    *inputs, dy = draw(seed, dtype, (*batch, n))
    _, cache = bias_dropout_residual_layer_norm_forward(*inputs, EPS, dropout)

    def parameters_only(slots=None):
        _, dbias, _, dweight, dshift = bias_dropout_residual_layer_norm_backward(dy, cache, slots)
        return dbias, dweight, dshift

    rng = np.random.default_rng(seed)
    assert_adds_into(rng, parameters_only, parameters_only())
    assert_same_bits_on_any_threads(parameters_only)
    assert_adds_into(
        rng,
        lambda slots: layer_norm_backward(dy, cache.layer_norm, slots)[1:],
        layer_norm_backward(dy, cache.layer_norm)[1:],
    )


def test_without_dropout_two_gradients_are_one_array():
    *inputs, dy = draw(0, np.float32, (2, 3, 4))
    _, cache = bias_dropout_residual_layer_norm_forward(*inputs, EPS)
    dx, _, dresidual, _, _ = bias_dropout_residual_layer_norm_backward(dy, cache)
    assert dx is dresidual


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_one_number_give_the_bias(dtype):
    """The mean of 0.1 is rounded, and what is left of 0.1 is taken out."""
    x = np.full((2, 768), 0.1, dtype)
    y, _ = layer_norm_forward(x, np.ones(768, dtype), np.full(768, 2, dtype), EPS)
    np.testing.assert_allclose(y, 2, rtol=np.finfo(dtype).eps)


@pytest.mark.parametrize("n", [9, 70])
def test_bits_do_not_depend_on_where_arrays_lie(n):
    """Of arrays a few numbers apart, a compiled loop may take the one that is not of vectors."""
    x, bias, residual, weight, shift, dy = draw(0, np.float64, (1, n))
    nowhere = arguments_of(None, x.shape, x.dtype)

    def results(gap):
        memory = iter(np.zeros((9, n + gap)))

        def placed(array):
            place = next(memory)[:n].reshape(array.shape)
            place[...] = array
            return place

        w, s, b, u, r = (placed(array) for array in (weight, shift, bias, x, residual))
        normalized, y, inverse = placed(x), placed(x), np.zeros((1, 1))
        forward_of_layer_end(u, b, r, w, s, EPS, *nowhere, normalized, inverse, y)
        dy_placed, dx, sums = placed(dy), placed(x), np.zeros((1, 3, n))
        backward(dy_placed, normalized, inverse, w, *nowhere, dx, dx, sums)
        return y.copy(), normalized.copy(), inverse, dx.copy(), sums

    expected = results(1000)
    for gap in range(40):
        for result, far_apart in zip(results(gap), expected, strict=True):
            np.testing.assert_array_equal(result, far_apart)

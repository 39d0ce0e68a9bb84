"""What a kernel may take over equals its plain pairs, bit for bit, and its gradient is exact."""

import numpy as np
import pytest
from functions_support import (
    DTYPES,
    LEADING,
    SEEDS,
    WIDTHS,
    assert_adds_into,
    assert_derivative,
    assert_like,
    layer_norm_terms,
    normal,
    recorder,
)
from hypothesis import given
from hypothesis import strategies as st

from albert_np.functions.activations import gelu_new_backward, gelu_new_forward
from albert_np.functions.calling import call, within
from albert_np.functions.cross_entropy import (
    IGNORE_INDEX,
    cross_entropy_backward,
    cross_entropy_forward,
)
from albert_np.functions.dropout import Dropout, dropout_backward, dropout_forward
from albert_np.functions.fused import (
    bias_dropout_residual_layer_norm_backward,
    bias_dropout_residual_layer_norm_forward,
    bias_gelu_new_backward,
    bias_gelu_new_forward,
    linear_cross_entropy_backward,
    linear_cross_entropy_forward,
)
from albert_np.functions.layer_norm import layer_norm_backward, layer_norm_forward

EPS = 1e-12
BATCH = st.tuples(st.integers(1, 4), st.integers(1, 4))  # B, S: dropout knows no other shapes
DROPOUTS = st.sampled_from([None, Dropout(0.0, 1, 3), Dropout(0.4, 2**40, 3)])


def assert_all_equal(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, e)


@given(SEEDS, DTYPES, LEADING, WIDTHS)
def test_bias_gelu_new_equals_its_pairs(seed, dtype, leading, n):
    rng = np.random.default_rng(seed)
    x, bias, dy = (normal(rng, shape, dtype) for shape in [(*leading, n), (n,), (*leading, n)])
    y, cache = bias_gelu_new_forward(x, bias)
    np.testing.assert_array_equal(y, gelu_new_forward(x + bias)[0])
    gradients = bias_gelu_new_backward(dy, cache)
    dbiased = gelu_new_backward(dy, x + bias)
    assert_all_equal(gradients, (dbiased, dbiased.reshape(-1, n).sum(axis=0)))
    assert_like((y, *gradients), (x, x, bias))
    assert_adds_into(
        rng, lambda slots: bias_gelu_new_backward(dy, cache, into=slots)[1:], gradients[1:]
    )


@given(SEEDS, LEADING, WIDTHS)
def test_bias_gelu_new_backward_is_the_derivative(seed, leading, n):
    """The absolute terms of gelu_new′, σ and |x σ (1 − σ) 2u′|, sum to less than 2 everywhere."""
    rng = np.random.default_rng(seed)
    x, bias, dy = (normal(rng, shape) for shape in [(*leading, n), (n,), (*leading, n)])
    _, cache = bias_gelu_new_forward(x, bias)
    terms = 2 * np.abs(dy)
    assert_derivative(
        rng,
        lambda x, bias: bias_gelu_new_forward(x, bias)[0],
        (x, bias),
        dy,
        bias_gelu_new_backward(dy, cache),
        (terms, terms.reshape(-1, n).sum(axis=0)),
    )


def draw_layer_end(seed, dtype, batch, n):
    """x, bias, residual, weight, shift, and a gradient of y."""
    rng = np.random.default_rng(seed)
    shapes = [(*batch, n), (n,), (*batch, n), (n,), (n,), (*batch, n)]
    return [normal(rng, shape, dtype) for shape in shapes]


@given(SEEDS, DTYPES, BATCH, WIDTHS, DROPOUTS)
def test_bias_dropout_residual_layer_norm_equals_its_pairs(seed, dtype, batch, n, dropout):
    x, bias, residual, weight, shift, dy = draw_layer_end(seed, dtype, batch, n)
    y, cache = bias_dropout_residual_layer_norm_forward(
        x, bias, residual, weight, shift, EPS, dropout
    )
    dropped = x + bias if dropout is None else dropout_forward(x + bias, dropout)[0]
    expected, norm_cache = layer_norm_forward(residual + dropped, weight, shift, EPS)
    np.testing.assert_array_equal(y, expected)
    same, nothing = bias_dropout_residual_layer_norm_forward(
        x, bias, residual, weight, shift, EPS, dropout, keep=False
    )
    np.testing.assert_array_equal(same, y)
    assert nothing is None

    gradients = bias_dropout_residual_layer_norm_backward(dy, cache)
    dresidual, dweight, dshift = layer_norm_backward(dy, norm_cache)
    dx = dresidual if dropout is None else dropout_backward(dresidual, dropout)
    dbias = dx.reshape(-1, n).sum(axis=0)
    assert_all_equal(gradients, (dx, dbias, dresidual, dweight, dshift))
    assert_like(gradients, (x, bias, residual, weight, shift))

    def parameters_only(slots):
        _, dbias, _, dweight, dshift = bias_dropout_residual_layer_norm_backward(
            dy, cache, into=slots
        )
        return dbias, dweight, dshift

    assert_adds_into(np.random.default_rng(seed), parameters_only, (dbias, dweight, dshift))


@given(SEEDS, BATCH, st.integers(3, 9), DROPOUTS)
def test_bias_dropout_residual_layer_norm_backward_is_the_derivative(seed, batch, n, dropout):
    *inputs, dy = draw_layer_end(seed, np.float64, batch, n)
    x, bias, residual, weight, _ = inputs
    _, cache = bias_dropout_residual_layer_norm_forward(*inputs, EPS, dropout)
    dropped = x + bias if dropout is None else dropout_forward(x + bias, dropout)[0]
    dtotal, dweight, dshift = layer_norm_terms(dy, residual + dropped, weight, EPS)
    dx = dtotal if dropout is None else dropout_backward(dtotal, dropout)
    assert_derivative(
        np.random.default_rng(seed),
        lambda *moved: bias_dropout_residual_layer_norm_forward(*moved, EPS, dropout)[0],
        inputs,
        dy,
        bias_dropout_residual_layer_norm_backward(dy, cache),
        (dx, dx.reshape(-1, n).sum(axis=0), dtotal, dweight, dshift),
    )


def draw_decoder(seed, dtype, T, V, E):
    """x, weight, bias, and labels of which some are left out."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(T) < 0.3, IGNORE_INDEX, rng.integers(0, V, T))
    labels[:1] = 0
    return [normal(rng, shape, dtype) for shape in [(T, E), (V, E), (V,)]], labels


@given(SEEDS, DTYPES, st.integers(1, 6), WIDTHS, WIDTHS)
def test_linear_cross_entropy_equals_its_pairs(seed, dtype, T, V, E):
    (x, weight, bias), labels = draw_decoder(seed, dtype, T, V, E)
    loss, cache = linear_cross_entropy_forward(x, weight, bias, labels)
    expected, loss_cache = cross_entropy_forward(x @ weight.T + bias, labels)
    assert loss == expected and loss.dtype == dtype
    gradients = linear_cross_entropy_backward(dtype(0.5), cache)
    dlogits = cross_entropy_backward(dtype(0.5), loss_cache)
    assert_all_equal(gradients, (dlogits @ weight, dlogits.T @ x, dlogits.sum(axis=0)))
    assert_like(gradients, (x, weight, bias))
    assert_adds_into(
        np.random.default_rng(seed),
        lambda slots: linear_cross_entropy_backward(dtype(0.5), cache, into=slots)[1:],
        gradients[1:],
    )


@given(SEEDS, st.integers(1, 6), WIDTHS, WIDTHS)
def test_linear_cross_entropy_backward_is_the_derivative(seed, T, V, E):
    """The absolute terms of softmax − one-hot sum to at most 2."""
    (x, weight, bias), labels = draw_decoder(seed, np.float64, T, V, E)
    _, cache = linear_cross_entropy_forward(x, weight, bias, labels)
    terms = np.full((T, V), 2.0)
    assert_derivative(
        np.random.default_rng(seed),
        lambda *moved: linear_cross_entropy_forward(*moved, labels)[0],
        (x, weight, bias),
        1.0,
        linear_cross_entropy_backward(1.0, cache),
        (terms @ np.abs(weight), terms.T @ np.abs(x), terms.sum(axis=0)),
    )


def test_linear_cross_entropy_of_no_rows():
    """As where no position is labelled: no loss, and gradients of zeros."""
    x, weight, bias = np.ones((0, 3)), np.ones((5, 3)), np.ones(5)
    loss, cache = linear_cross_entropy_forward(x, weight, bias, np.zeros(0, int))
    assert np.isnan(loss)
    gradients = linear_cross_entropy_backward(1.0, cache)
    assert_all_equal(gradients, (x, 0 * weight, 0 * bias))


@pytest.mark.parametrize("dropout", [None, Dropout(0.5, 1, 2)])
def test_call_is_given_every_step(dropout):
    x, vector = np.ones((1, 2, 3)), np.ones(3)
    steps = ["bias", *["dropout"] * (dropout is not None), "add", "layer_norm"]
    for forward, backward, arguments, expected in [
        (bias_gelu_new_forward, bias_gelu_new_backward, (x, vector), ["bias", "gelu_new"]),
        (
            bias_dropout_residual_layer_norm_forward,
            bias_dropout_residual_layer_norm_backward,
            (x, vector, x, vector, vector, EPS, dropout),
            steps,
        ),
        (
            linear_cross_entropy_forward,
            linear_cross_entropy_backward,
            (x[0], np.ones((4, 3)), np.ones(4), np.array([1, 2])),
            ["linear", "cross_entropy"],
        ),
    ]:
        names, backward_names = [], []
        y, cache = forward(*arguments, call=recorder(names))
        backward(np.ones_like(y), cache, call=recorder(backward_names))
        assert names == expected
        assert backward_names == expected[::-1]


def test_calls_run_their_function_and_names_nest():
    names = []
    assert call("anything", divmod, 7, 2) == (3, 1)
    inner = within(within(recorder(names), "layer.0"), "attention")
    assert inner("scores", int, "11", base=2) == 3
    assert names == ["layer.0.attention.scores"]

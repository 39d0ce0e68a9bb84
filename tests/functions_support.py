"""Random arrays, bounds and the complex step, which the tests of the functions share."""

import numpy as np
from hypothesis import strategies as st

SEEDS = st.integers(0, 2**32 - 1)
DTYPES = st.sampled_from([np.float32, np.float64])
LEADING = st.lists(st.integers(1, 4), max_size=3).map(tuple)  # what a docstring writes as `...`
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
WIDTHS = st.integers(1, 9)
STEP = 1e-30


def in_some_layout(rng, values):
    """The same values, read-only: rows or columns first, or with gaps between the elements.

    Read-only, so that a function that writes into its input is found out wherever it is tested.
    """
    with_gaps = np.zeros((*values.shape, 2), values.dtype)
    with_gaps[..., 0] = values
    x = [values.copy("C"), values.copy("F"), with_gaps[..., 0]][rng.integers(3)]
    x.flags.writeable = False
    return x


def normal(rng, shape, dtype=np.float64, scale=1.0):
    """Standard normal numbers times `scale`."""
    return in_some_layout(rng, (scale * rng.standard_normal(shape)).astype(dtype))


def whole(rng, shape, dtype):
    """Whole numbers from −8 to 8: their products and sums are not rounded, so may be compared
    bit for bit with another order of the same sums."""
    return in_some_layout(rng, rng.integers(-8, 9, shape).astype(dtype))


def in_float64(*arrays):
    return tuple(array.astype(np.float64) for array in arrays)


def assert_within(actual, expected, units, terms):
    """|actual − expected| ≤ units · eps · terms, element by element, in eps of actual's dtype.

    `terms` is the sum of the absolute values of the terms that make the result up, and `units`
    the number of roundings that each of them goes through. Numbers below the smallest normal one
    are rounded as it is.
    """
    assert np.shape(actual) == np.shape(expected)
    info = np.finfo(actual.dtype)
    error = np.abs(np.asarray(actual, dtype=np.float64) - expected)
    bound = units * info.eps * (terms + info.tiny)
    assert np.all(error <= bound), f"off by {np.max(error / bound)} times the bound"


def assert_like(gradients, arrays):
    """Each gradient has the shape and the dtype of what it is the gradient of."""
    for gradient, array in zip(gradients, arrays, strict=True):
        assert gradient.shape == array.shape
        assert gradient.dtype == array.dtype


def assert_adds_into(rng, backward, gradients):
    """`backward(slots)` adds to what the slots held, and returns the slots."""
    held = [rng.standard_normal(g.shape).astype(g.dtype) for g in gradients]
    slots = tuple(array.copy() for array in held)
    for slot, returned, before, gradient in zip(
        slots, backward(slots), held, gradients, strict=True
    ):
        assert returned is slot
        np.testing.assert_array_equal(slot, before + gradient)


def assert_derivative(rng, function, inputs, dy, gradients, terms):
    """Prove a backward pass by the complex step, for one input after the other.

    f(x + ihv) = f(x) + ih ∂f/∂v + O(h²), so ⟨dy, Im f(x + ihv) / h⟩ is ⟨dx, v⟩ for a right dx, with
    no subtraction and so no cancellation; h = 1e-30 leaves the O(h²) far below rounding.

    `terms` are the gradients' sums of absolute terms. 1e-12 of them is 4500 roundings; the longest
    chain tested here has some hundred.
    """
    assert_like(gradients, inputs)
    for i, (x, gradient, term) in enumerate(zip(inputs, gradients, terms, strict=True)):
        v = rng.standard_normal(x.shape)
        moved = [array.astype(np.complex128) for array in inputs]
        moved[i] = x + 1j * STEP * v
        derivative = (dy * function(*moved).imag).sum() / STEP
        assert abs(derivative - (gradient * v).sum()) <= 1e-12 * (term * np.abs(v)).sum()


def recorder(names):
    """A `call` that writes down the name of each step it runs."""

    def call(name, function, *arguments, **settings):
        names.append(name)
        return function(*arguments, **settings)

    return call


def softmax_terms(dy, y):
    """Absolute terms of y ∘ (dy − Σ dy ∘ y)."""
    return y * (np.abs(dy) + (np.abs(dy) * y).sum(axis=-1, keepdims=True))


def layer_norm_condition(x, eps):
    """How many roundings of x̂ the rounding of mean(x) is worth: max|x| / √(var(x) + eps)."""
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    return 1 + np.abs(x).max(axis=-1, keepdims=True) / deviation


def layer_norm_terms(dy, x, weight, eps):
    """Absolute terms of dx, dweight and dbias of a layer norm, times the condition of x̂."""
    condition = layer_norm_condition(x, eps)
    inverse_deviation = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    normalized = np.abs(x - x.mean(axis=-1, keepdims=True)) * inverse_deviation
    g = np.abs(dy * weight)
    along = g.mean(axis=-1, keepdims=True), (g * normalized).mean(axis=-1, keepdims=True)
    dx = (g + along[0] + normalized * along[1]) * inverse_deviation * condition
    rows = tuple(range(x.ndim - 1))
    return dx, (np.abs(dy) * condition).sum(axis=rows), np.abs(dy).sum(axis=rows)

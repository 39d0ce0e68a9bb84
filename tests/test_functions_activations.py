"""The activations and their derivatives, against 50 digits from tail to tail.

A reference gives, at one x, the value and the derivative, and the size of what is rounded on the
way to each. The argument of an exponential is rounded to its last place, which moves the result by
that much relative to itself: a far tail is steep. Each bound is a few units of those sizes: four
roundings, and a library's function good to 4 units.
"""

from typing import NamedTuple

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
    in_float64,
    in_some_layout,
    normal,
)
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mpf

from albert_np.functions.activations import (
    ACTIVATIONS,
    given_backward,
    given_forward,
    tanh_backward,
    tanh_forward,
)

UNITS = 8
PAIRS = ACTIVATIONS | {"tanh": (tanh_forward, tanh_backward)}


class Precision(NamedTuple):
    eps: object
    tiny: object


class Reference(NamedTuple):
    value: object
    derivative: object
    value_terms: object
    derivative_terms: object


def of_sigmoid(x, argument, slope, precision):
    """The reference of y = x s, s = σ(argument), where slope is the argument's derivative.

    The derivative's second term, x s (1 − s) slope, has 1 − s from s: it is off by a rounding of s,
    and at most by all of itself. Below the smallest normal number, s has no digits left.
    """
    s, rest = 1 / (1 + mpmath.exp(-argument)), 1 / (1 + mpmath.exp(argument))
    steepness = 1 + rest * abs(argument) if s >= precision.tiny else 1 / precision.eps
    return Reference(
        x * s,
        s + x * s * rest * slope,
        abs(x) * s * steepness,
        s * (1 + abs(x) * slope * min(1, rest / precision.eps)) * steepness,
    )


def gelu_new(x, precision):
    twice = 2 * mpmath.sqrt(2 / mpmath.pi)
    cubic = mpf("0.044715")
    return of_sigmoid(x, twice * (x + cubic * x**3), twice * (1 + 3 * cubic * x**2), precision)


def silu(x, precision):
    return of_sigmoid(x, x, 1, precision)


def gelu(x, precision):
    area, density = mpmath.ncdf(max(x, -1000)), mpmath.npdf(x)  # 0 long before mpmath gives up
    steepness = 1 + x * x if area >= precision.tiny else 1 / precision.eps
    left_tail = steepness if x < 0 else 1
    return Reference(
        x * area,
        area + x * density,
        abs(x) * area * left_tail,
        area * left_tail + abs(x) * density * steepness,
    )


def relu(x, precision):
    return Reference(max(x, 0), int(x > 0), 0, 0)


def tanh(x, precision):
    """1 − y² is off by a rounding of y."""
    return Reference(mpmath.tanh(x), mpmath.sech(x) ** 2, abs(mpmath.tanh(x)), 1)


REFERENCES = {"gelu_new": gelu_new, "gelu": gelu, "relu": relu, "silu": silu, "tanh": tanh}


def reference(name, x):
    """The four fields of a `Reference` as arrays of the shape of x."""
    info = np.finfo(x.dtype)
    precision = Precision(mpf(float(info.eps)), mpf(float(info.tiny)))
    with mpmath.workdps(50):
        rows = [REFERENCES[name](mpf(float(value)), precision) for value in x.flat]
        columns = np.array([[float(field) for field in row] for row in rows]).T
    return Reference(*columns.reshape(4, *x.shape))


@st.composite
def arguments(draw):
    """Twelve numbers: about 0, in both tails, and at the ends of the range of the dtype."""
    dtype = draw(DTYPES)
    info, width = np.finfo(dtype), 8 * np.dtype(dtype).itemsize
    ends = [0, info.smallest_subnormal, info.tiny, 1e-30, 1e-10, 1e10, 1e30, info.max / 4]
    numbers = (
        st.floats(-4, 4, width=width)
        | st.floats(-45, 45, width=width)
        | st.sampled_from([sign * end for sign in (1, -1) for end in ends])
    )
    shape = draw(st.sampled_from([(12,), (3, 4), (2, 1, 6), (12, 1)]))
    return np.array(draw(st.lists(numbers, min_size=12, max_size=12)), dtype).reshape(shape)


@pytest.mark.parametrize("name", PAIRS)
@given(seed=SEEDS, x=arguments())
def test_equals_the_closed_form(name, seed, x):
    """Value and derivative; and no overflow, which would be a warning and so an error here."""
    rng = np.random.default_rng(seed)
    forward, backward = PAIRS[name]
    dy = normal(rng, x.shape, x.dtype)
    expected = reference(name, x)
    y, cache = forward(in_some_layout(rng, x))
    dx = backward(dy, cache)
    assert_like((y, dx), (x, x))
    (dy,) = in_float64(dy)
    assert_within(y, expected.value, UNITS, expected.value_terms)
    assert_within(dx, dy * expected.derivative, UNITS, np.abs(dy) * expected.derivative_terms)


@pytest.mark.parametrize("name", PAIRS)
@given(seed=SEEDS, leading=LEADING, n=WIDTHS)
def test_backward_is_the_derivative(name, seed, leading, n):
    """For moderate x: exp of a large complex number is not a number. And relu has none at 0."""
    rng = np.random.default_rng(seed)
    x, dy = normal(rng, (*leading, n), scale=2.0), normal(rng, (*leading, n))
    forward, backward = PAIRS[name]
    dx = backward(dy, forward(x)[1])
    terms = np.abs(dy) * (1 + reference(name, x).derivative_terms)
    assert_derivative(rng, lambda x: forward(x)[0], (x,), dy, (dx,), (terms,))


@pytest.mark.parametrize(("name", "least"), [("gelu_new", 40), ("gelu", 40), ("silu", 750)])
@given(dtype=DTYPES, exponent=st.floats(0, 35))
def test_far_out_is_the_identity_or_nothing(name, least, dtype, exponent):
    """Bit for bit: y is x where σ or Φ is 1, and nothing where they are 0."""
    forward, backward = PAIRS[name]
    x = np.array([least * 10**exponent, -least * 10**exponent], dtype)
    y, cache = forward(x)
    np.testing.assert_array_equal(y, [x[0], 0])
    np.testing.assert_array_equal(backward(np.ones_like(x), cache), [1, 0])


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_not_a_number_stays_so(name):
    y, _ = PAIRS[name][0](np.array([np.nan, 1.0]))
    np.testing.assert_array_equal(np.isnan(y), [True, False])


@pytest.mark.parametrize("name", PAIRS)
@given(seed=SEEDS, x=arguments())
def test_a_pair_that_is_given_is_run_as_it_is(name, seed, x):
    forward, backward = PAIRS[name]
    y, cache = given_forward(x, PAIRS[name])
    expected, expected_cache = forward(x)
    np.testing.assert_array_equal(y, expected)
    dy = normal(np.random.default_rng(seed), x.shape, x.dtype)
    np.testing.assert_array_equal(given_backward(dy, cache), backward(dy, expected_cache))

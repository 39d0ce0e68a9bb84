"""The floating types that a candidate may compute in, and the reference run in each of them."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from albert_np.libraries import import_library
from albert_np.trace import Trace

SOFTMAX, CONTEXT = "attention.self.softmax", "attention.self.context"


class Precision(NamedTuple):
    """A floating type.

    Attributes
    ----------
    name : str
    computed_in : str
        The dtype of the arrays that hold its numbers, and of sums: hardware sums the products of
        float16 and bfloat16 in float32.
    unit_roundoff : float
        The largest relative error of rounding a number to it: half of its epsilon.
    """

    name: str
    computed_in: str
    unit_roundoff: float

    def rounded(self, array):
        """An array, rounded to this type; what is too large becomes the largest number.

        Parameters
        ----------
        array : floating array

        Returns
        -------
        array of dtype `computed_in`
        """
        if np.can_cast(array.dtype, self.dtype):  # it loses nothing
            return array.astype(self.computed_in, copy=False)
        return (
            np.clip(array, -self.largest, self.largest)
            .astype(self.dtype)
            .astype(self.computed_in, copy=False)
        )

    def with_another_error(self, array, generator):
        """An array, each number off by at most two unit roundoffs, but for masked scores.

        By less, and rounding would leave most numbers as they were.

        Parameters
        ----------
        array : floating array
        generator : numpy.random.Generator

        Returns
        -------
        array of the same dtype
        """
        return array + self._another_error(array, generator)

    def with_another_row_sum(self, dscores, probabilities, context, dcontext, generator):
        """A gradient of attention's scores, as of a kernel that sums rows in another way.

            ds = p ∘ (dp − δ)          δ_i = Σ_j p_ij dp_ij = Σ_d dcontext_id context_id

        Kernels without the array of all scores sum the latter (Dao et al. 2022, FlashAttention).
        With the former a row of ds adds up to zero whatever the errors of dp; with the latter it
        adds up to the errors of its terms, each here off by at most two unit roundoffs. Where all
        keys are nearly equal, dq = ds k / √D is that sum, and little else.

        Parameters
        ----------
        dscores, probabilities : array, shape (B, A, S, S)
        context, dcontext : array, shape (B, A, S, D)
        generator : numpy.random.Generator

        Returns
        -------
        array, shape (B, A, S, S)
        """
        errors = self._another_error(dcontext * context, generator)
        return dscores - probabilities * errors.sum(axis=-1, keepdims=True)

    def _another_error(self, array, generator):
        error = generator.random(array.shape, array.dtype)
        error = (error - array.dtype.type(0.5)) * array.dtype.type(4 * self.unit_roundoff)
        lowest = array.min() < -self.largest / 2
        if lowest:
            error = np.where(array < -self.largest / 2, 0, error)
        return array * error

    @property
    def dtype(self):
        """The type itself; bfloat16 is that of the library ml_dtypes."""
        if self.name != "bfloat16":
            return np.dtype(self.name)
        return np.dtype(bfloat16_library().bfloat16)

    @property
    def largest(self):
        """The largest finite number."""
        if self.name != "bfloat16":
            return float(np.finfo(self.name).max)
        return float(bfloat16_library().finfo("bfloat16").max)


PRECISIONS = {
    name: Precision(name, computed_in, 2.0**-bits)
    for name, computed_in, bits in (
        ("float64", "float64", 53),
        ("float32", "float32", 24),
        ("float16", "float32", 11),
        ("bfloat16", "float32", 8),
    )
}


def bfloat16_library():
    """The library ml_dtypes, which gives NumPy the type bfloat16.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    return import_library("ml_dtypes", "bfloat16", "albert-np[verify]")


def get_precision(name):
    """The precision of a name.

    Raises
    ------
    ValueError
        If there is none.
    """
    if name not in PRECISIONS:
        raise ValueError(f"precision is {name!r}; expected one of {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


@dataclass
class RoundedTrace(Trace):
    """A trace in which what every operation is given, and what it returns, is rounded.

    Attributes
    ----------
    precision : Precision
    parameters : dict
        Those of the model that is traced.
    generator : numpy.random.Generator or None
        Draws one more rounding error for every result, of either direction and at most two unit
        roundoffs (Monte Carlo arithmetic, Parker 1997): another computation, as right as the first.
    """

    precision: Precision = PRECISIONS["float64"]
    parameters: dict = field(default_factory=dict)
    generator: object = None

    def compute(self, name, function, *arguments, **settings):
        arguments = [self._rounded(argument) for argument in arguments]
        results = super().compute(name, function, *arguments, **settings)
        if function.__name__.endswith("_backward"):
            return self._given_back(name, results)
        y, cache = results
        return self._result(y), cache

    def _record_backward(self, name, function, dy, cache, into=None):
        # Where several contributions meet, their sum has not been rounded yet.
        gradients = super()._record_backward(name, function, self._rounded(dy), cache, into)
        self[name].input_gradients = None  # each use's own: as large as all parameters together
        return gradients

    def _rounded(self, value):
        return map_arrays(self.precision.rounded, value)

    def _given_back(self, name, gradients):
        """What an operation's backward pass returns, with its rounding errors."""
        if self.generator is not None and name.endswith(SOFTMAX):
            context = self[name.replace(SOFTMAX, CONTEXT)]
            if context.output_gradients is not None:
                attention = (self[name].outputs["y"], context.outputs["y"])
                (dcontext,) = context.output_gradients.values()
                gradients = map_arrays(
                    lambda dscores: self.precision.with_another_row_sum(
                        dscores, *attention, dcontext, self.generator
                    ),
                    gradients,
                )
        return self._result(gradients)

    def _result(self, value):
        if self.generator is not None:
            value = map_arrays(
                lambda array: self.precision.with_another_error(array, self.generator), value
            )
        return self._rounded(value)


def map_arrays(function, value):
    """A value with a function applied to every floating array that it is or holds.

    Parameters
    ----------
    function : callable
    value : array, list, tuple or dict of values, or anything else, which is returned as it is

    Returns
    -------
    value
    """
    if isinstance(value, dict):
        return {name: map_arrays(function, item) for name, item in value.items()}
    if isinstance(value, list):
        return [map_arrays(function, item) for item in value]
    if isinstance(value, tuple):
        items = (map_arrays(function, item) for item in value)
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    is_floating = getattr(value, "dtype", np.dtype(int)).kind == "f"
    return function(value) if is_floating else value

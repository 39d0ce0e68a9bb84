"""How large rounding errors are, and how an error compares with them.

The noise floor of a tensor is the difference between the reference in the candidate's precision,
every product and sum rounded as such, and the reference in float64. One such run is one draw from
what rounding can do, and in a tensor of one number, such as a loss, it may happen to be tiny. So
there are several draws: the first is that run; in the others each result has one more rounding
error, of random size and direction (Monte Carlo arithmetic, D. S. Parker, 1997), so that what
follows it, and how well conditioned that is, enlarges it as it would enlarge any other's. And no
floor is less than half a unit in the last place of the tensor itself, which storing it costs.

Numbers that lie near each other differ by a few units in the last place or by nothing. So the sum
of a few of them, where it should be zero, may be zero in every draw, as if it had no noise. Of a
small tensor whose draws all agree, and not with the candidate, there are more draws.
"""

from typing import NamedTuple

import numpy as np

DRAWS = 4
MOST_DRAWS = 32
# Of a smaller tensor one draw of its rounding errors says too little of how large they are.
SMALL = 64

# A right implementation may differ from the reference in the order of its sums, in how it rounds
# them and in its exponential. Summing n terms one after the other, the worst of the usual orders,
# has an error of about 0.4 √n unit roundoffs (each partial sum is rounded, and grows as √k for
# terms of either sign), which is 22 for the widest sum of ALBERT-base (n = 3072) and 51 of the
# xxlarge one (n = 16 384); BLAS, with its blocks and several accumulators, has 2 to 4. The ratio
# of the two is at most 16.
LIMIT = 16

DECADES = tuple(10.0**power for power in range(-3, 7))  # of the noise: a histogram's edges

MASKED = 1e30  # scores beyond it are masked ones; nothing else in a model comes near


class Errors(NamedTuple):
    """How far one array is from another.

    Attributes
    ----------
    scale : float
        The root mean square of the exact array.
    largest_value : float
        Its largest absolute value.
    rms, largest : float
        The error's root mean square, and its largest absolute value; infinite for NaN.
    place : tuple of int
        Where it is largest.
    cosine : float
        Of the angle between the two; NaN where one is zero.
    """

    scale: float
    largest_value: float
    rms: float
    largest: float
    place: tuple
    cosine: float


class Floor(NamedTuple):
    """The size of rounding errors: root mean square and largest."""

    rms: float
    largest: float

    def at_least(self, unit_roundoff, errors):
        """This floor; but no less than one rounding of the tensor that the errors are of."""
        return Floor(
            max(self.rms, unit_roundoff * errors.scale),
            max(self.largest, unit_roundoff * errors.largest_value),
        )

    def times(self, share):
        """The floor of a tensor so many times as large."""
        return Floor(self.rms * share, self.largest * share)

    def multiple(self, errors):
        """The errors as a multiple of this floor: the larger of the two ratios."""
        return max(_ratio(errors.rms, self.rms), _ratio(errors.largest, self.largest))


def errors_between(given, exact):
    """How far an array is from the exact one. Masked scores of the latter are left out.

    Parameters
    ----------
    given, exact : array
        Of one shape.

    Returns
    -------
    Errors
    """
    exact = np.asarray(exact, np.float64)
    with np.errstate(invalid="ignore"):
        error = given - exact
    if has_masked_scores(exact):
        counted = np.abs(exact) <= MASKED
        error = np.where(counted, error, 0)
        given = np.where(counted, given, 0)
        exact = np.where(counted, exact, 0)
    size = np.abs(error)
    size = np.where(np.isfinite(size), size, np.inf)
    place = np.unravel_index(int(size.argmax()), size.shape)
    largest = float(size[place])
    is_finite = np.isfinite(largest)
    scale = root_mean_square(exact)
    given_scale = root_mean_square(given) if is_finite else np.nan
    product = given_scale * scale
    return Errors(
        scale=scale,
        largest_value=largest_value(exact),
        rms=root_mean_square(error) if is_finite else np.inf,
        largest=largest,
        place=tuple(map(int, place)),
        cosine=float((given * exact).mean() / product) if product > 0 else np.nan,
    )


def has_masked_scores(exact):
    """Whether some of the numbers are scores that a mask has pushed out of the way.

    Parameters
    ----------
    exact : array

    Returns
    -------
    bool
    """
    return largest_value(exact) > MASKED


def histogram(given, exact, floor):
    """How many elements have an error of which size, as a multiple of the noise.

    Parameters
    ----------
    given, exact : array
        Of one shape.
    floor : Floor

    Returns
    -------
    tuple of int
        One count below the first of `DECADES`, one between each two, one beyond the last. Masked
        scores are left out; NaN is beyond the last.
    """
    exact = np.asarray(exact, np.float64)
    with np.errstate(invalid="ignore"):
        error = np.abs(given - exact)[np.abs(exact) <= MASKED]
    error = np.where(np.isnan(error), np.inf, error)
    multiples = error / floor.rms if floor.rms > 0 else np.where(error > 0, np.inf, 0)
    bins = np.searchsorted(DECADES, multiples, side="right")
    return tuple(map(int, np.bincount(bins, minlength=len(DECADES) + 1)))


def is_hidden(floors, errors, size):
    """Whether a small tensor has the same error in every draw, and the candidate another.

    Parameters
    ----------
    floors : list of Floor
        Of each draw.
    errors : Errors
        The candidate's.
    size : int
        Of the tensor.

    Returns
    -------
    bool
    """
    return size < SMALL and errors.largest > 0 and len(set(floors)) == 1


def combined(floors):
    """The floor that several draws show together.

    Parameters
    ----------
    floors : list of Floor

    Returns
    -------
    Floor
    """
    return Floor(
        float(np.sqrt(np.mean([floor.rms**2 for floor in floors]))),
        max(floor.largest for floor in floors),
    )


def deviation(rounded, exact):
    """The size of the rounding errors of one draw; masked scores are left out.

    Parameters
    ----------
    rounded, exact : array
        Of one shape.

    Returns
    -------
    Floor
    """
    error = np.subtract(rounded, exact, dtype=np.float64)
    if has_masked_scores(exact):
        error = np.where(np.abs(exact) <= MASKED, error, 0)
    return Floor(root_mean_square(error), largest_value(error))


def largest_value(array):
    """The largest absolute value, without an array of them all."""
    return float(max(array.max(), -array.min()))


def root_mean_square(array):
    """√(mean of squares), whatever the size of the numbers.

    Parameters
    ----------
    array : array

    Returns
    -------
    float
    """
    largest = largest_value(array)
    if largest == 0:
        return 0.0
    values = np.asarray(array, np.float64).ravel()
    unit = 1.0 if 1e-100 < largest < 1e100 else largest  # squares must not leave the range
    values = values if unit == 1.0 else values / unit
    return unit * float(np.sqrt(values @ values / values.size))


def _ratio(error, floor):
    return error / floor if floor > 0 else (0.0 if error == 0 else np.inf)

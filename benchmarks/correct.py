"""Correctness, before a clock starts."""

from dataclasses import fields, replace

import numpy as np

from albert_np.backend import NUMPY

# Two right float32 results of the same formulas differ from the float64 one by the same kind of
# noise, drawn twice. Sums in another order or an exp of another library make one noisier than the
# other by a small factor. A lower precision (bfloat16, TF32) or a wrong term is hundreds of times
# noisier.
NOISE_MULTIPLE = 4


def largest_error(outputs, reference, dtype):
    """How far outputs are from the reference, in the array where they are farthest.

    Parameters
    ----------
    outputs, reference : dict of str to array
    dtype : str
        That outputs must have.

    Returns
    -------
    error : float
        The largest ‖output − reference‖ / ‖reference‖; one wrong element of n would make it about
        1/√n. Infinite where an array is missing, of another shape or dtype, or not finite.
    """
    return max(errors_of(outputs, reference, dtype).values())


def errors_of(outputs, reference, dtype):
    """The same of each array, by name."""

    def error(name):
        output = outputs.get(name)
        if output is None or output.shape != reference[name].shape or output.dtype != dtype:
            return np.inf
        # A key's bias moves all scores of a query alike, which softmax does not see. Its gradient
        # is zero but for rounding, which is judged by the scale of the query's.
        scale = np.linalg.norm(reference[name.replace("key.bias", "query.bias")])
        difference = np.linalg.norm((output - reference[name]).ravel())
        if difference == 0:
            return 0.0  # an array of zeros has no scale
        return float(difference / scale) if np.isfinite(difference) else np.inf

    return {name: error(name) for name in reference}


def farthest_row(output, reference, dtype):
    """How far an array is from the reference, in the row where it is farthest.

    Parameters
    ----------
    output, reference : array
        Of one library; the reference in float64.
    dtype : str
        That the output must have.

    Returns
    -------
    error : float
        The largest ‖row of output − row of reference‖, over the norm of that row or, if that is
        larger, over the root of the mean square of the rows' norms: the rounding of a small row may
        be that of the larger terms which made it up. A single wrong row among thousands is found.
        Infinite as for `largest_error`.
    """
    if output is None or output.shape != reference.shape or output.dtype != dtype:
        return np.inf
    columns = reference.shape[-1] if reference.ndim else 1
    wanted = reference.reshape(-1, columns)
    difference = output.reshape(-1, columns).astype("float64") - wanted
    norms, errors = (np.sqrt((rows * rows).sum(axis=-1)) for rows in (wanted, difference))
    scale = np.maximum(norms, np.sqrt((norms * norms).mean()))
    if not np.isfinite(errors).all():
        return np.inf
    if not errors.any():
        return 0.0  # rows of zeros have no scale
    return float((errors / scale).max()) if scale.all() else np.inf


def rounding_backend(dtype):
    """The reference, with the results of each of its functions rounded to a type.

    In float32 it computes as kernels of that type do, which sum in float32 and keep what they give
    in the type: its distance from float64 is the noise floor.

    Parameters
    ----------
    dtype : str

    Returns
    -------
    Backend
    """

    def rounding(function):
        is_forward = function.__name__.endswith("_forward")

        def rounded_function(*arguments, **settings):
            returned = function(*arguments, **settings)
            if is_forward:
                return rounded(returned[0], dtype), returned[1]
            if isinstance(returned, tuple):
                return tuple(rounded(each, dtype) for each in returned)
            return rounded(returned, dtype)

        return rounded_function

    functions = {
        field.name: rounding(getattr(NUMPY, field.name))
        for field in fields(NUMPY)
        if callable(getattr(NUMPY, field.name))
    }
    return replace(NUMPY, name=f"numpy rounded to {dtype}", **functions)


def rounded(result, dtype):
    """A result rounded to a type, in its own place: it may be a slot."""
    if result is None or np.ndim(result) == 0:
        return result
    result[...] = result.astype(dtype)
    return result


def judged(error, limit):
    """What the results say of a contender's check."""
    is_right = error <= limit
    return {"error": error if np.isfinite(error) else None, "limit": limit, "correct": is_right}


def unit_roundoff(dtype):
    """u: how much rounding to the type changes a number, relative to it, at the most."""
    if dtype == "bfloat16":
        return 2.0**-8  # of 8 significant bits; NumPy itself does not know it
    return float(np.finfo(dtype).eps / 2)


def rounding_limit(length, dtype):
    """The relative error that rounding may cause in sums, one after the other, of this length.

        u √length,   u the unit roundoff

    Each addition rounds by at most u of what is summed, now up, now down: k of them add up like a
    random walk, to u √k (Higham, Mary 2019), and so do the sums that follow each other.
    """
    return float(unit_roundoff(dtype) * np.sqrt(length))


def limits(names, floor, limit, dtype):
    """How far each contender may be from the float64 reference.

    Parameters
    ----------
    names : iterable of str
        The contenders.
    floor : float
        The error of the NumPy reference in the contenders' dtype: the noise floor.
    limit : float
        `rounding_limit`.
    dtype : str

    Returns
    -------
    dict of str to float
        In float32 the NumPy reference, "numpy", must keep within `limit`, and the others within
        NOISE_MULTIPLE of the noise floor, which is never below the unit roundoff: a single number
        may be near by chance. In float64 the reference rounds as they do: each of the two may be
        off by `limit`.
    """
    if dtype == "float64":
        return dict.fromkeys(names, 2 * limit)
    others = NOISE_MULTIPLE * min(max(floor, unit_roundoff(dtype)), limit)
    return {name: limit if name == "numpy" else others for name in names}

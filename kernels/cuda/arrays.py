"""What every function of the back end does at its door, and the sums that end a backward pass."""

import math
from typing import NamedTuple

import numpy as np

from albert_np.functions.dropout import Dropout
from albert_np.kernels.cuda.launch import TYPES, Launch, Struct
from albert_np.kernels.cuda.launcher import PACK_BYTES, Problem, sums_of_parts

# `Dropout` of philox.cuh.
DROPOUT = np.dtype(
    [
        ("packed_sequences", np.uintp),
        ("packed_columns", np.uintp),
        ("seed", np.uint64),
        ("scale", np.float64),
        ("threshold", np.uint32),
        ("site", np.uint32),
        ("tokens", np.int32),
        ("enabled", np.int32),
    ],
    align=True,
)
LARGEST_INT = 2**31 - 1


class Argument(NamedTuple):
    """An array argument: its name, itself, and the shape that it must have."""

    name: str
    array: object
    shape: tuple


def columns_of(executor, name, array):
    """The length of the last axis of what must be an array."""
    executor.check(name, array)
    if array.ndim == 0:
        raise ValueError(f"{name} has no axes; expected one or more")
    return array.shape[-1]


def checked(executor, *arguments):
    """The arrays, C-contiguous; the first one's dtype is that of all.

    Parameters
    ----------
    executor
    *arguments : Argument

    Raises
    ------
    TypeError
        If one is not an array that the executor runs on, or has a dtype that there is no kernel of.
    ValueError
        If one has another shape or dtype than it must.
    """
    for name, array, _ in arguments:
        executor.check(name, array)
    first_name, first, _ = arguments[0]
    if first.dtype.name not in TYPES:
        raise TypeError(
            f"{first_name} has dtype {first.dtype}; the kernels take {', '.join(TYPES)}"
        )
    for name, array, shape in arguments:
        if array.dtype != first.dtype:
            raise ValueError(
                f"{name} has dtype {array.dtype}; {first_name} has {first.dtype}; expected one"
            )
        if tuple(array.shape) != tuple(shape):
            raise ValueError(f"{name} has shape {array.shape}; expected {tuple(shape)}")
        if array.size > LARGEST_INT:
            raise ValueError(f"{name} has {array.size} elements; the kernels take 2³¹ − 1 at most")
    return [executor.contiguous(array) for _, array, _ in arguments]


def checked_slots(executor, into, dtype, **shapes):
    """Arrays that gradients are added to, in place, in the order of the names; or None.

    Parameters
    ----------
    executor
    into : sequence of array, or None
    dtype : numpy.dtype
    **shapes : tuple
        Of each slot, by the name of its gradient.

    Raises
    ------
    TypeError
        If one is not an array that the executor runs on.
    ValueError
        If there are more or fewer, or one has another shape or dtype, or is not contiguous.
    """
    if into is None:
        return None
    if len(into) != len(shapes):
        raise ValueError(f"into has {len(into)} slots; expected {len(shapes)}: {', '.join(shapes)}")
    for slot, (name, shape) in zip(into, shapes.items(), strict=True):
        what = f"into's slot for {name}"
        executor.check(what, slot)
        if slot.dtype != dtype:
            raise ValueError(f"{what} has dtype {slot.dtype}; expected {dtype}")
        if tuple(slot.shape) != tuple(shape):
            raise ValueError(f"{what} has shape {slot.shape}; expected {tuple(shape)}")
        if not slot.flags.c_contiguous:
            raise ValueError(f"{what} is not C-contiguous; it is added to in place")
    return tuple(into)


def problem_of(executor, columns, *arrays):
    """Rows and columns of the first array, and whether all of them begin at 16 bytes."""
    first = arrays[0]
    return Problem(
        rows=first.size // columns if columns else 0,
        columns=columns,
        dtype=first.dtype,
        aligned=all(executor.pointer(array) % PACK_BYTES == 0 for array in arrays),
        multiprocessors=executor.multiprocessors,
        shared_limit=executor.shared_limit,
    )


def wide(dtype):
    """What sums, statistics and softmax of a dtype are computed in."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def rounded_to_tf32(x):
    """float32 numbers rounded as `round_to_tf32` of device.cuh does.

    To 11 significant bits, halves away from zero.

    Parameters
    ----------
    x : float32 array

    Returns
    -------
    float32 array
    """
    nearest = (x.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return np.where(np.isnan(x), x, nearest.view(np.float32))


def dropout_struct(executor, dropout, shape, tokens):
    """`Dropout` of philox.cuh, of an array of shape (…, columns); or of so many packed tokens."""
    if dropout is None:
        return Struct(DROPOUT, (None, None, 0, 1.0, 0, 0, 1, 0))
    sequences, columns = None, None
    rows = shape[1] if len(shape) == 3 else 1
    if dropout.packed is not None:
        sequences, columns = (
            checked_places(executor, f"packed.{name}", getattr(dropout.packed, name), tokens)
            for name in ("sequences", "columns")
        )
    scale, threshold = dropout_numbers(dropout)
    return Struct(
        DROPOUT,
        (sequences, columns, dropout.seed, scale, threshold, dropout.site, max(rows, 1), 1),
    )


def checked_places(executor, name, places, tokens):
    """One of a packed batch's numbers for each token, on the device.

    Raises
    ------
    ValueError
        If they are not as many, or not int64.
    """
    if tuple(places.shape) != (tokens,) or places.dtype != np.int64:
        raise ValueError(
            f"{name} has shape {tuple(places.shape)} and dtype {places.dtype}; "
            f"expected ({tokens},) and int64"
        )
    return executor.uploaded(places)


def dropout_numbers(dropout: Dropout):
    """1 / (1 − p), and the smallest word that stays. With p = 1 all stay, and are scaled by 0."""
    if dropout.probability == 1:
        return 0.0, 0
    return 1 / (1 - dropout.probability), math.floor(dropout.probability * 2**32)


def launch(executor, file, plan, *arguments):
    """Run a plan, unless its grid is empty: there is nothing to compute then."""
    if all(plan.grid):
        executor.launch(
            Launch(file, plan.kernel, plan.grid, plan.block, arguments, plan.shared_bytes)
        )


def finish_sums(executor, file, problem, partial, parts, into, shapes):
    """Sum the parts; into the slots, in place, or into new arrays.

    Parameters
    ----------
    partial : array, shape (parts, stride)
        Arrays of `columns` sums end to end; all that there are, or the first of them.
    into : tuple of array, or None
    shapes : int
        How many arrays.

    Returns
    -------
    tuple of array (columns,)
    """
    outputs = into
    if into is None:
        outputs = tuple(executor.empty(problem.columns, problem.dtype) for _ in range(shapes))
    plan = sums_of_parts(problem, shapes)
    launch(
        executor,
        file,
        plan,
        partial,
        *outputs,
        *(None,) * (3 - shapes),
        np.int32(parts),
        np.int32(partial.shape[1]),
        np.int32(shapes),
        np.int32(problem.columns),
        np.int32(into is not None),
    )
    return tuple(outputs)

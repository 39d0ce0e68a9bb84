"""A function's arguments, from the arrays of a file."""

import numpy as np

from benchmarks.functions import DIRECTIONS, FUNCTIONS


def split_work(work):
    """The function and the direction of such as "attention_backward"."""
    function, _, direction = work.rpartition("_")
    if function not in FUNCTIONS or direction not in DIRECTIONS:
        raise ValueError(f"work is {work!r}; expected a function and its direction")
    return function, direction


def arguments_of(batch, dtype):
    """The arguments of a forward pass by name: floating arrays in `dtype`, numbers as such."""
    return {name: _argument(array, dtype) for name, array in batch.items() if name != "dy"}


def _argument(array, dtype):
    if array.ndim == 0:
        return array.item()
    return array.astype(dtype) if array.dtype.kind == "f" else array


def with_separate_heads(arguments):
    """The same with query, key and value apart, as the peers have them."""
    if "query_key_value" not in arguments:
        return arguments
    parts = np.split(arguments["query_key_value"], 3, axis=-1)
    others = {name: value for name, value in arguments.items() if name != "query_key_value"}
    names = ("query", "key", "value")
    return dict(zip(names, map(np.ascontiguousarray, parts), strict=True)) | others

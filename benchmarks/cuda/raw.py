"""A CUDA kernel of the user's own, launched like ours, on a GPU or on the stand-in.

    template <class T>
    __global__ void layer_norm_forward(const T* x, const T* weight, const T* bias, float eps, T* y,
                                       int rows, int columns, int sequence_length)

The arguments are the reference's, in its order: an array is a `const T*` (a mask `const bool*`,
null without padding), a number an `int` or a `float`. Then the result, the rows and columns of the
result, and the columns of the batch. Backward is given dy, forward's arguments, and the gradients:
of parameters as `float*`, zeros that it adds to. T is `float`, or `Half` or `BFloat16` of
`device.cuh`. A block of THREADS threads does ROWS_A_BLOCK rows (`#define` them; by default 256, and
1); of attention, blockIdx is (rows of the sequence, head, sequence).
"""

import math
import re

import numpy as np

from albert_np.kernels.cuda.launch import TYPES, Launch, ceil_div
from benchmarks.functions import DIRECTIONS, FUNCTIONS

RAW_FUNCTIONS = ("attention", "bias_gelu_new", "layer_norm", "bias_dropout_residual_layer_norm")
DEFAULTS = {"THREADS": 256, "ROWS_A_BLOCK": 1}


def directions(path, function):
    """Which of the two kernels a file has.

    Parameters
    ----------
    path : Path
    function : str
        Of RAW_FUNCTIONS.

    Returns
    -------
    dict of str to str
        By the functions' names, the kernels' names.

    Raises
    ------
    ValueError
        If it has no forward kernel, or the function is one that no kernel alone can do.
    """
    if function not in RAW_FUNCTIONS:
        raise ValueError(f"--add: {path} can hold one of {', '.join(RAW_FUNCTIONS)}")
    text = path.read_text(encoding="utf-8")
    names = [f"{function}_{direction}" for direction in DIRECTIONS]
    found = {name: name for name in names if re.search(rf"\b{name}\s*\(", text)}
    if names[0] not in found:
        raise ValueError(f"--add: {path} has no kernel {names[0]}")
    return found


def pair(path, function, executor):
    """The kernels as a pair of functions, of the reference's names and arguments.

    Parameters
    ----------
    path : Path
    function : str
    executor : CupyExecutor or HostExecutor

    Returns
    -------
    (callable, callable)
    """
    text = path.read_text(encoding="utf-8")
    threads, rows_a_block = (defined(text, name) for name in DEFAULTS)
    described = FUNCTIONS[function]

    def launch(direction, arguments, outputs, y):
        rows, sequence_length = math.prod(y.shape[:-1]), y.shape[1]
        grid = (ceil_div(rows, rows_a_block),)
        if function == "attention":
            heads = arguments["num_attention_heads"]
            grid = (ceil_div(sequence_length, rows_a_block), heads, y.shape[0])
            arguments = {"attention_mask": None} | arguments
            arguments["attention_mask"] = arguments.pop("attention_mask")  # the last
        kernel = f"{function}_{direction}<{TYPES[y.dtype.name]}>"
        sizes = map(np.int32, (rows, y.shape[-1], sequence_length))
        values = (*map(value_of, arguments.values()), *outputs, *sizes)
        executor.launch(Launch(str(path), kernel, grid, (threads,), values))

    def forward(**arguments):
        first = next(iter(arguments.values()))
        columns = first.shape[-1] // (3 if function == "attention" else 1)
        y = executor.empty((*first.shape[:-1], columns), first.dtype)
        launch("forward", arguments, (y,), y)
        return y, arguments

    def backward(dy, arguments, into=None):
        outputs = [
            executor.zeros(arguments[name].shape, np.dtype("float32"))
            if name in described.parameters
            else executor.empty(arguments[name].shape, dy.dtype)
            for name in described.gradients
        ]
        launch("backward", {"dy": dy} | arguments, outputs, dy)
        slots = iter(into or ())
        gradients = [
            added_to(next(slots, None), gradient, dy.dtype)
            if name in described.parameters
            else gradient
            for name, gradient in zip(described.gradients, outputs, strict=True)
        ]
        return gradients[0] if len(gradients) == 1 else tuple(gradients)

    return forward, backward


def added_to(slot, gradient, dtype):
    """A parameter's gradient, in its slot."""
    if slot is None:
        return gradient.astype(dtype)
    slot += gradient.astype(dtype)
    return slot


def defined(text, name):
    """What a file defines a macro as; its default where it does not."""
    found = re.search(rf"^\s*#define\s+{name}\s+(\d+)\s*$", text, flags=re.MULTILINE)
    return int(found[1]) if found else DEFAULTS[name]


def value_of(argument):
    """A number as the kernel has it; an array as it is."""
    if isinstance(argument, int):
        return np.int32(argument)
    return np.float32(argument) if isinstance(argument, float) else argument

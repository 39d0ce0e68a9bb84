"""Cases for a single kernel, drawn by Hypothesis: each is the code that makes its arrays.

The code that is printed for a failing case is the code that made it. Hypothesis shrinks towards
small sizes and towards what stands first in the lists below.
"""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from albert_np.verification.kernel_operations import float_info

LARGEST_WIDTH = 1100
EDGES = (16, 17, 32, 33, 64, 65, 128, 129, 256, 257, 512, 513, 768, 1024, 1025)


class KernelCase(NamedTuple):
    """One set of arguments.

    Attributes
    ----------
    lines : tuple of str
        Python statements that assign the arguments, and `dy`.
    """

    lines: tuple

    def values(self):
        """The arguments by name, made anew."""
        names = {"np": np}
        exec("\n".join(self.lines), names)  # our own lines, of the strategies below
        return {name: names[name] for name in names if name not in HELPERS}


HELPERS = ("np", "ml_dtypes", "rng", "dtype", "query_", "key_", "value_", "__builtins__")


def widths(largest):
    """Sizes of an axis: small ones, any, and those about the edges of blocks."""
    edges = [edge for edge in EDGES if edge <= largest]
    return st.integers(1, 9) | st.integers(1, largest) | st.sampled_from(edges)


def numbers(shape, dtype, huge):
    """An expression for an array of numbers, ordinary ones first."""
    info = float_info(dtype)
    mean = min(1e4, float(info.max) / 64)
    drawn = f"rng.standard_normal({shape})"
    kinds = [
        f"rng.integers(-3, 4, {shape})",
        drawn,
        f"np.full({shape}, 0.7)",
        f"{drawn} * 10.0 ** rng.integers(-4, 3, {shape})",
        f"{mean:g} + {drawn}",
        f"{drawn} * {float(info.tiny) * 16:.3g}",
        f"{drawn} * {float(info.tiny) / 8:.3g}",  # subnormal
        f"{drawn} * {huge:.3g}",
    ]
    return st.sampled_from(kinds).map(lambda kind: f"np.asarray({kind}).astype(dtype)")


def _start(seed, dtype):
    name = np.dtype(dtype).name
    first = ("import ml_dtypes", "dtype = ml_dtypes.bfloat16")
    return (
        f"rng = np.random.default_rng({seed})",
        *(first if name == "bfloat16" else (f'dtype = np.dtype("{name}")',)),
    )


SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def gelu_new_cases(draw, dtype):
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(widths(LARGEST_WIDTH))
    largest = float(float_info(dtype).max)
    return KernelCase(
        (
            *_start(draw(SEEDS), dtype),
            f"x = {draw(numbers(shape, dtype, largest / 8))}",
            f"dy = {draw(numbers(shape, dtype, largest / 64))}",
        )
    )


@st.composite
def layer_norm_cases(draw, dtype):
    N = draw(widths(LARGEST_WIDTH))
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 40)), N
    # The sum of the squares of N of them is a number still.
    huge = float(float_info(dtype).max) ** 0.5 / 256
    return KernelCase(
        (
            *_start(draw(SEEDS), dtype),
            f"x = {draw(numbers(shape, dtype, huge))}",
            f"weight = {draw(numbers((N,), dtype, 100))}",
            f"bias = {draw(numbers((N,), dtype, 100))}",
            f"eps = {draw(st.sampled_from([1e-5, 1e-12]))}",
            f"dy = {draw(numbers(shape, dtype, 100))}",
        )
    )


@st.composite
def cross_entropy_cases(draw, dtype):
    shape = T, V = draw(st.integers(1, 40)), draw(widths(LARGEST_WIDTH))
    ignored = draw(st.sampled_from([None, 0.5, 0.9]))
    lines = [
        *_start(draw(SEEDS), dtype),
        f"logits = {draw(numbers(shape, dtype, float(float_info(dtype).max) / 8))}",
        f"labels = rng.integers(0, {V}, {T})",
    ]
    if ignored is not None:  # the first stays: the mean of no label at all is not defined
        lines.append(f"labels[1:][rng.random({T - 1}) < {ignored}] = -100")
    lines.append(f"dy = np.array({draw(st.sampled_from([1, -0.5, 1e-3]))}, dtype)")
    return KernelCase(tuple(lines))


def _masks(B, S):
    """Lines that make an attention mask, or none: padding, holes, a row with nothing."""
    return st.sampled_from(
        [
            (),
            (f"attention_mask = np.arange({S}) < rng.integers(1, {S + 1}, ({B}, 1))",),
            (f"attention_mask = rng.random(({B}, {S})) < 0.5",),
            (
                f"attention_mask = np.arange({S}) < rng.integers(1, {S + 1}, ({B}, 1))",
                "attention_mask[-1] = False",
            ),
        ]
    )


@st.composite
def attention_cases(draw, dtype, joined, masked):
    B, A = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    S, D = draw(st.integers(1, 9) | widths(130)), draw(widths(128))
    shape = (B, S, A * D) if joined else (B, A, S, D)
    # Scores of some hundreds: all but one exponential of a row vanish. Beyond some thousands the
    # rounding of a score decides which one, and nobody's result is right.
    far_apart = 30 / D**0.5
    huge = float(float_info(dtype).max) / 2**14
    inputs = [
        ("query", numbers(shape, dtype, far_apart)),
        ("key", numbers(shape, dtype, 30)),
        ("value", numbers(shape, dtype, huge)),
    ]
    ending = "_" if joined else ""
    lines = [f"{name}{ending} = {draw(expression)}" for name, expression in inputs]
    if joined:
        lines.append("query_key_value = np.concatenate([query_, key_, value_], axis=-1)")
        lines.append(f"num_attention_heads = {A}")
    if masked:
        lines.extend(draw(_masks(B, S)))
    lines.append(f"dy = {draw(numbers(shape, dtype, 100))}")
    return KernelCase((*_start(draw(SEEDS), dtype), *lines))


def cases(operation, dtype, given):
    """The cases of one operation.

    Parameters
    ----------
    operation : str
        Of `kernel_operations.OPERATIONS`.
    dtype : numpy dtype
    given : tuple of str
        The arguments that the candidate takes.
    """
    if operation.endswith("attention"):
        joined = operation == "joined_attention"
        return attention_cases(dtype, joined, "attention_mask" in given)
    strategies = {
        "gelu_new": gelu_new_cases,
        "layer_norm": layer_norm_cases,
        "cross_entropy": cross_entropy_cases,
    }
    return strategies[operation](dtype)

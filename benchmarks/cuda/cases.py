"""What is measured on a GPU, in the order of measurement: the shapes of ALBERT's sizes."""

from typing import NamedTuple

import numpy as np

from albert_np import AlbertConfig
from albert_np.config import SIZES
from benchmarks.functions import DIRECTIONS, function_work, sizes_of

DTYPES = ("bfloat16", "float16", "float32")
TF32 = "tf32"  # of float32 arrays, which products may round to it before they multiply
TOKENS = 16384  # of a batch, so that the whole GPU has work
LENGTHS = (512, 256, 128)
WIDTHS = (768, 4096, 16384)  # base's and xxlarge's hidden sizes, xxlarge's intermediate size
ROW_FUNCTIONS = ("bias_gelu_new", "layer_norm", "bias_dropout_residual_layer_norm")
HEADS = ("base", "xlarge", "xxlarge", "large")  # 12, 64 and 16 heads of 64, and 16 of 128
PRODUCTS = ("attention", "linear", "linear_cross_entropy")  # which tf32 is of use to


class Case(NamedTuple):
    """A fused function, forward or backward, on one batch of one type.

    `config` has the widths, `sequence_length` the columns of the batch and `lengths` those of its
    sequences; `detail` says in words what the shape B×S does not. With `allow_tf32` products of
    float32 may round what they multiply to tf32: the case is named and judged by that.
    """

    function: str
    direction: str
    dtype: str
    config: AlbertConfig
    sequence_length: int
    lengths: tuple
    detail: str
    allow_tf32: bool = False

    @property
    def sizes(self):
        """`benchmarks.functions.sizes_of` the batch."""
        lengths = list(self.lengths)
        return sizes_of(self.config, len(lengths), self.sequence_length, lengths)

    @property
    def precision(self):
        """The type whose rounding the results may have."""
        return TF32 if self.allow_tf32 else self.dtype

    @property
    def is_padded(self):
        return min(self.lengths) < self.sequence_length

    @property
    def work(self):
        """`benchmarks.work.Work`, what one call needs."""
        return function_work(self.function, self.direction, self.sizes, self.dtype)

    @property
    def named(self):
        """What a record of results says of the case."""
        needed = self.work
        return {
            "work": f"{self.function}_{self.direction}",
            "detail": f"{self.precision}, {self.detail}",
            "dtype": self.precision,
            "hidden_size": self.config.hidden_size,
            "batch_size": len(self.lengths),
            "sequence_length": self.sequence_length,
            "tokens": sum(self.lengths),
            "text": None,
            "operations": needed.operations,
            "padded_operations": needed.padded_operations,
            "bytes": needed.bytes,
        }


def function_cases(functions=None):
    """The cases of the functions, the most asked-for type first, and those with tf32 last.

    Parameters
    ----------
    functions : collection of str, optional
        Those that are wanted; by default all.

    Returns
    -------
    list of Case
    """
    every = [case for dtype in DTYPES for case in cases_in(dtype)] + tf32_cases()
    return [case for case in every if functions is None or case.function in functions]


def tf32_cases():
    """The functions with products, where these may round float32 to tf32."""
    return [
        case._replace(allow_tf32=True) for case in cases_in("float32") if case.function in PRODUCTS
    ]


def cases_in(dtype):
    """The cases of one type."""
    yield from attention_cases(dtype)
    yield from row_cases(dtype)
    yield from product_cases(dtype)
    yield from loss_cases(dtype)
    yield from lookup_cases(dtype)


def attention_cases(dtype):
    """Each size's heads at each length, without padding and with it."""
    for size in HEADS:
        config = AlbertConfig(**SIZES[size])
        for length in LENGTHS:
            for lengths in (full(length), padded(length)):
                for direction in DIRECTIONS:
                    yield attention_case(direction, dtype, config, length, lengths)


def attention_case(direction, dtype, config, length, lengths):
    """Attention of sequences in so many columns."""
    heads = config.num_attention_heads
    detail = f"{heads} heads of {config.hidden_size // heads}"
    real = sum(lengths) / (length * len(lengths))
    padding = "" if real == 1 else f", {real:.0%} of the tokens real"
    return Case("attention", direction, dtype, config, length, lengths, detail + padding)


def row_cases(dtype):
    """The functions of rows at each width."""
    for function in ROW_FUNCTIONS:
        for width in WIDTHS:
            config = AlbertConfig(
                hidden_size=width,
                embedding_size=width,
                intermediate_size=width,
                num_attention_heads=width // 64,
            )
            for direction in DIRECTIONS:
                yield Case(function, direction, dtype, config, 512, full(512), f"{width} columns")


def product_cases(dtype):
    """The widest linear map of the smallest and of the largest size."""
    for size in ("base", "xxlarge"):
        config = AlbertConfig(**SIZES[size])
        detail = f"{config.hidden_size} to {config.intermediate_size} columns"
        for direction in DIRECTIONS:
            yield Case("linear", direction, dtype, config, 512, full(512), detail)


def loss_cases(dtype):
    """The loss of masked words, of 8 sequences of 512."""
    config = AlbertConfig(**SIZES["base"])
    detail = f"{config.vocab_size} words"
    for direction in DIRECTIONS:
        lengths = (512,) * 8
        yield Case("linear_cross_entropy", direction, dtype, config, 512, lengths, detail)


def lookup_cases(dtype):
    """Words, each of them another; and token types, each that of every second token."""
    words = AlbertConfig(**SIZES["base"])
    types = words.changed(vocab_size=words.type_vocab_size, pad_token_id=None)
    for config in (words, types):
        detail = f"{config.vocab_size} rows of {config.embedding_size}"
        for direction in DIRECTIONS:
            yield Case("embedding", direction, dtype, config, 512, full(512), detail)


def first_of_each(every, kind_of):
    """The first cases of each kind, and the others."""
    first, others, found = [], [], set()
    for case in every:
        kind = kind_of(case)
        (others if kind in found else first).append(case)
        found.add(kind)
    return first, others


def full(length):
    """A batch of TOKENS, without padding."""
    return (length,) * (TOKENS // length)


def padded(length):
    """A batch of as many columns, of sequences from an eighth of the longest length to all."""
    count = TOKENS // length
    return tuple(np.linspace(length, max(1, length // 8), count).round().astype(int).tolist())

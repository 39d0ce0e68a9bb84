"""What a piece of work needs: matrix products, operations, and bytes that have to be moved.

Counted by hand from the formulas. Bytes are those that cannot be avoided: what is given is read
once, and what is asked for is written once.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np


class Work(NamedTuple):
    """What one call needs.

    `operations` and `bytes`; `padded_operations`, where padding is worked on as tokens are;
    `products`, the dense ones, whose rate is the roof of the operations; and `length`, that of
    sums that follow each other, along which rounding adds up.
    """

    operations: int
    padded_operations: int
    bytes: int
    products: list
    length: int


def layer_products(config, tokens):
    """The dense matrix products of one layer.

    Parameters
    ----------
    config : AlbertConfig
    tokens : int
        T.

    Returns
    -------
    products : list of (shape, shape)
        The shapes of their factors.
    """
    T, H, I = tokens, config.hidden_size, config.intermediate_size  # noqa: E741
    return [((T, H), (H, 3 * H)), ((T, H), (H, H)), ((T, H), (H, I)), ((T, I), (I, H))]


def attention_products(config, lengths):
    """Scores and context of one layer, for sequences of these lengths."""
    A, D = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    return [
        product
        for S, B in Counter(lengths).items()
        for product in (((B * A, S, D), (B * A, D, S)), ((B * A, S, S), (B * A, S, D)))
    ]


def forward_products(config, lengths, labelled=None):
    """The matrix products of one forward pass.

    Parameters
    ----------
    config : AlbertConfig
    lengths : list of int
        Of the sequences.
    labelled : int, optional
        Of AlbertForMaskedLM with this many labelled positions, as far as its loss needs them; by
        default of AlbertModel.

    Returns
    -------
    products : list of (shape, shape)
    """
    T, B, V = sum(lengths), len(lengths), config.vocab_size
    E, H = config.embedding_size, config.hidden_size
    layer = layer_products(config, T) + attention_products(config, lengths)
    pooler = [((B, H), (H, H))]
    head = [((labelled, H), (H, E)), ((labelled, E), (E, V))]
    repetitions = config.num_hidden_layers * config.inner_group_num
    return [((T, E), (E, H))] + layer * repetitions + (pooler if labelled is None else head)


def backward_products(products):
    """Each product y = a b has two in its backward pass: da = dy bᵀ and db = aᵀ dy."""
    for (*batch, m, k), (*_, n) in products:
        yield (*batch, m, n), (*batch, n, k)
        yield (*batch, k, m), (*batch, m, n)


def product_operations(products):
    """Multiplications and additions, counted apart: 2 m k n for (m, k) @ (k, n)."""
    return sum(2 * int(np.prod(left)) * right[-1] for left, right in products)


def sum_length(products):
    """The lengths of the products' sums, added up."""
    return sum(left[-1] for left, _ in products)


def model_work(config, lengths, padded_to, dtype, labelled=None):
    """What a forward pass needs; with labels, what the loss and all its gradients do.

    Operations are those of the matrix products, whose roof is one layer's. Bytes are the
    parameters, read once, and the hidden states or the gradients, written once.

    Parameters
    ----------
    config : AlbertConfig
    lengths : list of int
    padded_to : int
        S.
    dtype : str
    labelled : int, optional
        Labelled positions of AlbertForMaskedLM; None for AlbertModel.

    Returns
    -------
    Work
    """
    real = forward_products(config, lengths, labelled)
    padded = forward_products(config, [padded_to] * len(lengths), labelled)
    roof = layer_products(config, sum(lengths))
    T, V = sum(lengths), config.vocab_size
    E, H, I = config.embedding_size, config.hidden_size, config.intermediate_size  # noqa: E741
    layers = config.num_hidden_groups * config.inner_group_num * (4 * H * H + 2 * H * I)
    elements = T * E + E * H + layers + H * H + T * H  # of the words, the rows that are there
    if labelled is not None:
        real, padded, roof = ([*some, *backward_products(some)] for some in (real, padded, roof))
        elements = 2 * (V * E + E * H + layers + H * E)
    return Work(
        operations=product_operations(real),
        padded_operations=product_operations(padded),
        bytes=elements * np.dtype(dtype).itemsize,
        products=roof,
        length=sum_length(padded),
    )

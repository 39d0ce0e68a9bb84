"""The fused functions as they are measured: what each is given, and what it needs.

Shapes are those that a function meets in the model. The arguments have the names of the reference
in `albert_np/functions`. Of elementwise steps the operations of the formulas are counted, an
exponential, tanh or square root as one, and an element that is looked up too.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from benchmarks.work import Work, backward_products, layer_products, product_operations, sum_length

LABELLED = 0.15
DIRECTIONS = ("forward", "backward")


class Function(NamedTuple):
    """One fused function; `s` are sizes, of `sizes_of`.

    Attributes
    ----------
    inputs : callable
        `inputs(s, normal)`: the arguments of forward, by name, and `dy`. `normal(*shape)` draws.
    gradients : tuple of str
        The inputs whose gradients backward returns, in its order.
    parameters : tuple of str
        Those of them that backward adds to slots, `into`.
    moved : callable
        `moved(s)`: elements read and written by forward, and by backward.
    elementwise : callable
        `elementwise(s)`: operations besides the products' of forward, and of backward.
    products : callable
        `products(s)`: forward's matrix products.
    """

    inputs: Callable
    gradients: tuple
    parameters: tuple
    moved: Callable
    elementwise: Callable
    products: Callable = lambda s: []


def sizes_of(config, batch_size, sequence_length, lengths=None):
    """The sizes of a batch, by their letters.

    Parameters
    ----------
    config : AlbertConfig
    batch_size, sequence_length : int
    lengths : list of int, optional
        Of the sequences without their padding; by default there is none.

    Returns
    -------
    SimpleNamespace
        Letters; `labelled`, the labelled positions of the batch; `lengths`; `attended`, the pairs
        of a query and a key; and `config`.
    """
    lengths = lengths or [sequence_length] * batch_size
    return SimpleNamespace(
        B=batch_size,
        S=sequence_length,
        T=batch_size * sequence_length,
        A=config.num_attention_heads,
        D=config.hidden_size // config.num_attention_heads,
        E=config.embedding_size,
        H=config.hidden_size,
        I=config.intermediate_size,
        V=config.vocab_size,
        labelled=max(1, round(LABELLED * sum(lengths))),
        lengths=lengths,
        attended=sum(length**2 for length in lengths),
        config=config,
    )


def _mask(s):
    """True for tokens, False for padding, (B, S)."""
    return np.arange(s.S) < np.array(s.lengths)[:, None]


def _attention_inputs(s, normal):
    mask = _mask(s)
    return {
        "query_key_value": normal(s.B, s.S, 3 * s.H),
        "num_attention_heads": np.array(s.A),
        **({} if mask.all() else {"attention_mask": mask}),
        "dy": normal(s.B, s.S, s.H) * mask[:, :, None],  # nothing reads the rows of the padding
    }


FUNCTIONS = {
    "linear": Function(
        inputs=lambda s, normal: {
            "x": normal(s.B, s.S, s.H),
            "weight": normal(s.I, s.H) / s.H**0.5,
            "bias": normal(s.I),
            "dy": normal(s.B, s.S, s.I),
        },
        gradients=("x", "weight", "bias"),
        parameters=("weight", "bias"),
        moved=lambda s: (
            s.T * (s.H + s.I) + s.I * s.H,
            s.T * (s.I + 2 * s.H) + 3 * s.I * s.H,  # the slot is read, and written
        ),
        elementwise=lambda s: (s.T * s.I, s.T * s.I + s.I * s.H),
        products=lambda s: [((s.T, s.H), (s.H, s.I))],
    ),
    "attention": Function(
        inputs=_attention_inputs,
        gradients=("query_key_value",),
        parameters=(),
        moved=lambda s: (4 * s.T * s.H, 8 * s.T * s.H),
        # scale, subtract the maximum, exp, sum, divide; and dp ∘ p, its sum, ds, scale
        elementwise=lambda s: (5 * s.A * s.attended, 4 * s.A * s.attended),
        products=lambda s: [
            product
            for length in s.lengths
            for product in (
                ((s.A, length, s.D), (s.A, s.D, length)),
                ((s.A, length, length), (s.A, length, s.D)),
            )
        ],
    ),
    "bias_gelu_new": Function(
        inputs=lambda s, normal: {
            "x": normal(s.B, s.S, s.I),
            "bias": normal(s.I),
            "dy": normal(s.B, s.S, s.I),
        },
        gradients=("x", "bias"),
        parameters=("bias",),
        moved=lambda s: (2 * s.T * s.I, 3 * s.T * s.I),
        elementwise=lambda s: (10 * s.T * s.I, 19 * s.T * s.I),
    ),
    "bias_dropout_residual_layer_norm": Function(
        inputs=lambda s, normal: {
            "x": normal(s.B, s.S, s.H),
            "bias": normal(s.H),
            "residual": normal(s.B, s.S, s.H),
            "weight": normal(s.H),
            "shift": normal(s.H),
            "eps": np.array(s.config.layer_norm_eps),
            "dy": normal(s.B, s.S, s.H),
        },
        gradients=("x", "bias", "residual", "weight", "shift"),
        parameters=("bias", "weight", "shift"),
        moved=lambda s: (3 * s.T * s.H, 3 * s.T * s.H),
        elementwise=lambda s: (9 * s.T * s.H, 13 * s.T * s.H),
    ),
    "linear_cross_entropy": Function(
        inputs=lambda s, normal: {
            "x": normal(s.labelled, s.E),
            "weight": normal(s.V, s.E) / s.E**0.5,
            "bias": normal(s.V),
            "labels": np.arange(s.labelled) * 7919 % s.V,  # spread over the vocabulary
            "dy": np.array(1.0),
        },
        gradients=("x", "weight", "bias"),
        parameters=("weight", "bias"),
        moved=lambda s: (
            s.V * s.E + s.labelled * s.E,
            3 * s.V * s.E + 2 * s.labelled * s.E,
        ),
        elementwise=lambda s: (4 * s.labelled * s.V, 3 * s.labelled * s.V + s.V * s.E),
        products=lambda s: [((s.labelled, s.E), (s.E, s.V))],
    ),
    "embedding": Function(
        inputs=lambda s, normal: {
            "ids": (np.arange(s.T) * 7919 % s.V).reshape(s.B, s.S),
            "weight": normal(s.V, s.E),
            "padding_idx": np.array(s.config.pad_token_id),
            "dy": normal(s.B, s.S, s.E),
        },
        gradients=("weight",),
        parameters=("weight",),
        # the rows that are there, each once; the slot is read, and written
        moved=lambda s: ((min(s.T, s.V) + s.T) * s.E, (s.T + 2 * min(s.T, s.V)) * s.E),
        elementwise=lambda s: (s.T * s.E, s.T * s.E),
    ),
    "layer_norm": Function(
        inputs=lambda s, normal: {
            "x": normal(s.B, s.S, s.E),
            "weight": normal(s.E),
            "bias": normal(s.E),
            "eps": np.array(s.config.layer_norm_eps),
            "dy": normal(s.B, s.S, s.E),
        },
        gradients=("x", "weight", "bias"),
        parameters=("weight", "bias"),
        moved=lambda s: (2 * s.T * s.E, 3 * s.T * s.E),
        elementwise=lambda s: (7 * s.T * s.E, 11 * s.T * s.E),
    ),
}


def inputs_of(function, sizes, seed):
    """The arrays that a function is given: forward's arguments, and `dy`.

    Parameters
    ----------
    function : str
        Of FUNCTIONS.
    sizes : SimpleNamespace
        Of `sizes_of`.
    seed : int

    Returns
    -------
    dict of str to array
        Floating values are float32 numbers, so that every dtype is given the same ones.
    """
    generator = np.random.default_rng(seed)

    def normal(*shape):
        return generator.standard_normal(shape, dtype=np.float32)

    return FUNCTIONS[function].inputs(sizes, normal)


def function_work(function, direction, sizes, dtype):
    """What one call of a function needs.

    Parameters
    ----------
    function : str
        Of FUNCTIONS.
    direction : {"forward", "backward"}
    sizes : SimpleNamespace
    dtype : str

    Returns
    -------
    Work
        The roof of its operations is its own dense products, or one layer's where it has none.
    """
    described, index = FUNCTIONS[function], DIRECTIONS.index(direction)
    products = described.products(sizes)
    padded = described.products(sizes_of(sizes.config, sizes.B, sizes.S))  # no length is shorter
    roof = [p for p in products if len(p[0]) == 2] or layer_products(sizes.config, sizes.T)
    if direction == "backward":
        products, padded, roof = ([*backward_products(some)] for some in (products, padded, roof))
    elementwise = described.elementwise(sizes)[index]
    return Work(
        operations=product_operations(products) + elementwise,
        padded_operations=product_operations(padded) + elementwise,
        bytes=described.moved(sizes)[index] * np.dtype(dtype).itemsize,
        products=roof,
        # Products follow each other, and so do sums over a row and over the tokens.
        length=sum_length(set(padded)) + sizes.H + sizes.T,
    )

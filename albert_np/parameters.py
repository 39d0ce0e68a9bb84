"""Parameters: one flat dictionary, name → array, with the names of Hugging Face's state_dict."""

import numpy as np

QUERY_KEY_VALUE = ("query", "key", "value")


def allocate(shapes, dtype, like=None):
    """Zeros for every parameter, query, key and value lying end to end.

    Parameters
    ----------
    shapes : dict of str to tuple of int
    dtype : str or dtype
    like : array, optional
        Of the library that the arrays are to be of.

    Returns
    -------
    parameters : dict of str to array
        `….query.weight`, `….key.weight` and `….value.weight` are views of one (3H, H) array, in
        this order, and their biases of one (3H,) array.
    """
    parameters = {}
    for name, shape in shapes.items():
        path, _, kind = name.rpartition(".")
        module, _, last = path.rpartition(".")
        if last == "query":
            stacked = np.zeros((3 * shape[0], *shape[1:]), dtype, like=like)
            for part, third in zip(QUERY_KEY_VALUE, np.split(stacked, 3), strict=True):
                parameters[f"{module}.{part}.{kind}"] = third
        elif name not in parameters:
            parameters[name] = np.zeros(shape, dtype, like=like)
    return {name: parameters[name] for name in shapes}


def zeros_like(parameters):
    """Zeros of the shapes and dtypes of `parameters`, laid out by `allocate`."""
    dtype = np.result_type(*parameters.values())
    shapes = {name: array.shape for name, array in parameters.items()}
    return allocate(shapes, dtype, like=next(iter(parameters.values())))


def moved(parameters, origin, destination, dtype):
    """The parameters as arrays of another kind, laid out by `allocate`.

    Parameters
    ----------
    parameters : dict of str to array
    origin, destination : HostArrays or what stands for them on a GPU
    dtype : dtype

    Returns
    -------
    dict of str to array
    """
    uploaded = {
        name: destination.uploaded(origin.downloaded(array).astype(dtype, copy=False))
        for name, array in parameters.items()
    }
    there = zeros_like(uploaded)
    for name, array in uploaded.items():
        there[name][...] = array
    return there


def prefixed(prefix, shapes):
    """The same shapes, under names that start with `prefix.`."""
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def under(parameters, prefix):
    """The parameters whose names start with `prefix.`, by the rest of their names.

    The arrays are the same arrays, not copies.
    """
    start = f"{prefix}."
    return {
        name[len(start) :]: array for name, array in parameters.items() if name.startswith(start)
    }


def with_query_key_value(parameters):
    """One layer's parameters, and its three projections stacked, so that one multiply serves them.

    Parameters
    ----------
    parameters : dict
        Of one layer, `attention.query.weight` among them.

    Returns
    -------
    dict
        The same, and `attention.query_key_value.weight`, of shape (3H, H), and its bias, (3H,):
        the arrays that the three are views of; copies only where one of them was replaced since
        `allocate` laid them out.
    """
    stacked = {}
    for kind in ("weight", "bias"):
        parts = [parameters[f"attention.{part}.{kind}"] for part in QUERY_KEY_VALUE]
        base = parts[0].base
        whole = base if _are_thirds(parts, base) else np.concatenate(parts)
        stacked[f"attention.query_key_value.{kind}"] = whole
    return parameters | stacked


def without_heads(parameters, stay, head_size):
    """One layer's attention without some of its heads.

    Parameters
    ----------
    parameters : dict
        Among them those named attention.query, .key, .value and .dense, under any prefix.
    stay : list of bool
        For each of the heads that are there, whether it stays.
    head_size : int
        D.

    Returns
    -------
    dict
        New arrays, laid out by `allocate`, for those that change: the rows of query, key and
        value, and the columns of the dense weight, of the heads that stay.
    """
    rows = np.repeat(stay, head_size).nonzero()[0].tolist()
    smaller = {}
    for name, array in parameters.items():
        module, kind = name.split(".")[-2:]
        if module in QUERY_KEY_VALUE:
            smaller[name] = array[rows]
        elif (module, kind) == ("dense", "weight"):
            smaller[name] = array[:, rows]
    laid_out = zeros_like(smaller)
    for name, array in smaller.items():
        laid_out[name][...] = array
    return laid_out


def _are_thirds(parts, base):
    """Whether three arrays are the thirds of another, in order."""
    if not isinstance(base, type(parts[0])) or base.shape[0] != 3 * parts[0].shape[0]:
        return False
    thirds = np.split(base, 3)
    return all(
        part.base is base
        and part.strides == third.strides
        and [np.may_share_memory(part, other) for other in thirds]
        == [other is third for other in thirds]
        for part, third in zip(parts, thirds, strict=True)
    )


def initialize(parameters, config, seed):
    """Fill parameters in place, as Hugging Face initializes ALBERT.

    Weights are normal with mean 0 and standard deviation `initializer_range`; biases and the word
    embedding's padding row are 0; layer norm's weights are 1.

    Parameters
    ----------
    parameters : dict of str to array
    config : AlbertConfig
    seed : int
    """
    generator = np.random.default_rng(seed)
    for name, array in parameters.items():
        if name.endswith("bias"):
            array[...] = 0
        elif name.lower().endswith("norm.weight"):
            array[...] = 1
        else:
            array[...] = generator.normal(0, config.initializer_range, array.shape)
        if name.endswith("word_embeddings.weight") and config.pad_token_id is not None:
            array[config.pad_token_id] = 0

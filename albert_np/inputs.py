"""The arguments of a call, checked at the door."""

from typing import NamedTuple

import numpy as np

from albert_np.arrays import as_array, on_host
from albert_np.config import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from albert_np.functions.cross_entropy import IGNORE_INDEX

# What multiple choice takes with an axis of choices.
_CHOICES = ("batch", "choices", "sequence")
CHOICES_AXES = {
    "input_ids": _CHOICES,
    "inputs_embeds": (*_CHOICES, "embedding_size"),
    "attention_mask": _CHOICES,
    "token_type_ids": _CHOICES,
    "position_ids": _CHOICES,
}


class Inputs(NamedTuple):
    """A checked batch: everything is an array of its full shape.

    Attributes
    ----------
    input_ids : integer array, shape (B, S), or None
    inputs_embeds : array, shape (B, S, E), or None
        Exactly one of these two is there.
    attention_mask : bool array, shape (B, S), (B, 1, S, S) or (B, A, S, S), or None
        None where every token is attended to.
    token_type_ids, position_ids : integer array, shape (B, S)
    head_mask : array, shape (L, A), or None
        None where it masks nothing.
    num_choices : int or None
        C, where the rows are the choices of questions, those of one question one after another.
    wrong : list of bool array, shape ()
        Of arguments that were given on a GPU, where nobody waits for an answer: whether a value of
        one is out of range. Then no result of the call is a number.
    """

    input_ids: object
    inputs_embeds: object
    attention_mask: object
    token_type_ids: object
    position_ids: object
    head_mask: object = None
    num_choices: object = None
    wrong: object = ()

    @property
    def shape(self):
        """(B, S)."""
        return self.position_ids.shape


def check_inputs(
    config,
    dtype,
    input_ids=None,
    attention_mask=None,
    token_type_ids=None,
    position_ids=None,
    head_mask=None,
    inputs_embeds=None,
):
    """Check and complete the arguments that every model takes.

    Parameters
    ----------
    config : AlbertConfig
    dtype : dtype
        Of the model; inputs_embeds and head_mask are cast to it.
    input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds
        As the models take them.

    Returns
    -------
    Inputs

    Raises
    ------
    ValueError, TypeError
        If an argument is missing, of another shape or type, or out of range.
    """
    wrong = []
    if (input_ids is None) == (inputs_embeds is None):
        given = "neither" if input_ids is None else "both"
        raise ValueError(f"{given} of input_ids and inputs_embeds given; expected exactly one")
    if input_ids is not None:
        input_ids = check_integers(
            "input_ids", input_ids, 0, config.vocab_size, "vocab_size", wrong
        )
        if input_ids.ndim != 2:
            raise ValueError(f"input_ids has shape {input_ids.shape}; expected (batch, sequence)")
        name, shape = "input_ids", input_ids.shape
    else:
        inputs_embeds = _check_embeds(inputs_embeds, config.embedding_size, dtype)
        name, shape = "inputs_embeds", inputs_embeds.shape[:2]
    limit = config.max_position_embeddings
    relative = config.position_embedding_type != "absolute"
    if (position_ids is None or relative) and shape[1] > limit:
        raise ValueError(f"{name} has {shape[1]} columns; max_position_embeddings is {limit}")
    chunk = config.chunk_size_feed_forward
    if chunk and shape[1] % chunk:
        raise ValueError(
            f"{name} has {shape[1]} columns; "
            f"expected a multiple of chunk_size_feed_forward, {chunk}"
        )
    if position_ids is None:
        position_ids = np.arange(shape[1])[None]
    position_ids = check_integers(
        "position_ids", position_ids, 0, limit, "max_position_embeddings", wrong
    )
    if position_ids.shape not in (shape, (1, shape[1])):
        raise ValueError(
            f"position_ids has shape {position_ids.shape}; expected {shape} or {(1, shape[1])}"
        )
    if token_type_ids is None:
        token_type_ids = np.zeros(shape, np.int64)
    token_type_ids = check_integers(
        "token_type_ids", token_type_ids, 0, config.type_vocab_size, "type_vocab_size", wrong
    )
    _check_shape("token_type_ids", token_type_ids, shape)
    return Inputs(
        input_ids,
        inputs_embeds,
        _check_mask(attention_mask, shape, config.num_attention_heads, wrong),
        token_type_ids,
        np.broadcast_to(position_ids, shape),
        _check_head_mask(head_mask, config, dtype, wrong),
        wrong=wrong,
    )


def uploaded(inputs, arrays):
    """The same batch as arrays of the model's kind.

    Parameters
    ----------
    inputs : Inputs
    arrays : HostArrays or what stands for them on a GPU

    Returns
    -------
    Inputs
    """
    names = Inputs._fields[: Inputs._fields.index("num_choices")]
    values = {name: getattr(inputs, name) for name in names}
    return inputs._replace(
        **{name: None if v is None else arrays.uploaded(v) for name, v in values.items()}
    )


def packed_tokens(inputs, packed):
    """The same batch with its tokens packed; its masks stay those of the padded one.

    Parameters
    ----------
    inputs : Inputs
    packed : PackedBatch

    Returns
    -------
    Inputs
    """
    names = ("input_ids", "inputs_embeds", "token_type_ids", "position_ids")
    values = {name: getattr(inputs, name) for name in names}
    return inputs._replace(
        **{name: None if v is None else v[packed.places] for name, v in values.items()}
    )


def merge_choices(arguments):
    """Lay the choices of all questions one after another, as the rows of one batch.

    Parameters
    ----------
    arguments : dict
        By name: input_ids, attention_mask, token_type_ids and position_ids, of shape (B, C, S), and
        inputs_embeds, (B, C, S, E), or None; others are left as they are. The attention mask may
        be one for each query too, (B, C, S, S), (B, C, 1, S, S) or (B, C, A, S, S).

    Returns
    -------
    arguments : dict
        The same, of shapes (B·C, S) and (B·C, S, E).
    num_choices : int or None
        C; None where there is neither input_ids nor inputs_embeds.

    Raises
    ------
    ValueError
        If an argument is of another shape.
    """
    arrays = {
        name: _as_array(name, arguments[name])
        for name in CHOICES_AXES
        if arguments.get(name) is not None
    }
    shape = None
    for name in ("inputs_embeds", "input_ids"):
        if name in arrays:
            shape, axes = arrays[name].shape, CHOICES_AXES[name]
            if len(shape) != len(axes):
                raise ValueError(f"{name} has shape {shape}; expected ({', '.join(axes)})")
    if shape is None:
        return arguments, None
    for name, array in arrays.items():
        if name == "attention_mask" and array.ndim > 3 and array.shape[:2] == shape[:2]:
            continue  # a mask for each query, whose other axes are checked with those of the batch
        if array.shape[:3] != shape[:3]:
            raise ValueError(f"{name} has shape {array.shape}; expected {shape[:3]}")
    merged = {name: array.reshape(-1, *array.shape[2:]) for name, array in arrays.items()}
    return arguments | merged, shape[1]


def check_labels(name, labels, shape, limit, wrong):
    """Check labels against the shape of what they label.

    Parameters
    ----------
    name : str
        For messages.
    labels : array_like of int, or None
    shape : tuple of int
    limit : int
        Labels are −100, to be ignored, or in [0, limit).
    wrong : list
        See `Inputs`.

    Returns
    -------
    integer array of `shape`, or None

    Raises
    ------
    ValueError, TypeError
        If the labels are of another shape or type, or out of range.
    """
    if labels is None:
        return None
    labels = _as_integers(name, labels)
    _check_shape(name, labels, shape)
    outside = (labels != IGNORE_INDEX) & ((labels < 0) | (labels >= limit))
    _refuse(name, labels, outside, f"{IGNORE_INDEX}, or 0 to {limit - 1}", wrong)
    return labels


def labelled_places(labels, most, wrong):
    """The places of the labelled tokens.

    On a GPU, where to count them is to wait, those of all tokens; or of `most`: the labelled ones
    in their order, and others after them.

    Parameters
    ----------
    labels : integer array, shape (B, S) or (T,)
    most : int or None
        How many tokens may be labelled on a GPU.
    wrong : list
        See `Inputs`.

    Returns
    -------
    tuple of integer array, shape (N,)
        One for each axis.
    """
    if on_host(labels):
        return (labels != IGNORE_INDEX).nonzero()
    _, S = labels.shape
    token = np.arange(labels.size, like=labels)
    if most is not None:
        labelled = (labels != IGNORE_INDEX).ravel()
        counted = labelled.cumsum()  # the labelled up to each token, itself among them
        wrong.append(counted[-1] > most)
        rank = np.where(labelled, counted - 1, counted[-1] + token - counted)
        by_rank = np.zeros_like(token)
        by_rank[rank] = token
        token = by_rank[:most]
    return token // S, token % S


def check_classification_labels(labels, batch_size, config, dtype, wrong):
    """Check the labels of whole texts, and say which problem they pose.

    Parameters
    ----------
    labels : array_like, or None
    batch_size : int
        B.
    config : AlbertConfig
        Its problem_type; where it is None, one label is a regression, and of several, integers are
        a single-label classification and floating numbers a multi-label one.
    dtype : dtype
        Of the model; labels that are numbers are cast to it.
    wrong : list
        See `Inputs`.

    Returns
    -------
    labels : array, or None
        Of a single-label classification, integers of shape (B,): −100, to be ignored, or in
        [0, num_labels). Else numbers of shape (B, num_labels), which of a multi-label
        classification are in [0, 1].
    problem_type : str or None
        None without labels.

    Raises
    ------
    ValueError, TypeError
        If the labels are of another shape or type, or out of range.
    """
    if labels is None:
        return None, None
    labels = _as_array("labels", labels)
    if labels.dtype.kind not in "iuf":
        raise TypeError(f"labels has dtype {labels.dtype}; expected integers or floating numbers")
    problem_type = config.problem_type or _infer_problem_type(config.num_labels, labels.dtype)
    name = f"labels ({problem_type})"
    if problem_type == SINGLE_LABEL:
        return check_labels(name, labels, (batch_size,), config.num_labels, wrong), problem_type
    shape = (batch_size, config.num_labels)
    one_each = problem_type == REGRESSION and config.num_labels == 1 and labels.shape != shape
    _check_shape(name, labels, shape[:1] if one_each else shape)
    with np.errstate(over="ignore"):  # what becomes infinite is refused as such
        numbers = labels.astype(dtype).reshape(shape)
    if problem_type == REGRESSION:
        _refuse(name, numbers, ~np.isfinite(numbers), "finite numbers", wrong)
    else:
        _refuse(name, numbers, ~((numbers >= 0) & (numbers <= 1)), "0 to 1", wrong)
    return numbers, problem_type


def _infer_problem_type(num_labels, labels_dtype):
    if num_labels == 1:
        return REGRESSION
    return MULTI_LABEL if labels_dtype.kind == "f" else SINGLE_LABEL


def check_positions(name, positions, shape):
    """Check where answers start, or end.

    Parameters
    ----------
    name : str
        For messages.
    positions : array_like of int, shape (B,), or None
    shape : (int, int)
        (B, S).

    Returns
    -------
    integer array, shape (B,), or None
        In [0, S); or −100, to be ignored, for those outside of the sequence.

    Raises
    ------
    ValueError, TypeError
        If the positions are of another shape or type.
    """
    if positions is None:
        return None
    positions = _as_integers(name, positions)
    _check_shape(name, positions, shape[:1])
    inside = (positions >= 0) & (positions < shape[1])
    return np.where(inside, positions, IGNORE_INDEX)


def check_integers(name, values, low, limit, limit_name, wrong):
    """Return `values` as an integer array, all of them in [low, limit)."""
    values = _as_integers(name, values)
    outside = (values < low) | (values >= limit)
    expected = f"{low} to {limit - 1} ({limit_name} is {limit})"
    _refuse(name, values, outside, expected, wrong)
    return values


def _as_array(name, values):
    """Values as an array that is not empty: where they lie, if they are an array of a GPU."""
    try:
        values = as_array(values)
    except ValueError as error:
        raise ValueError(f"{name} is ragged; expected rows of one length") from error
    if values.size == 0:
        raise ValueError(f"{name} is empty: its shape is {values.shape}")
    return values


def _as_integers(name, values):
    values = _as_array(name, values)
    if values.dtype.kind not in "iu":
        raise TypeError(f"{name} has dtype {values.dtype}; expected integers")
    return values.astype(np.int64)  # a copy: the caller may fill the same buffer again


def _refuse(name, values, outside, expected, wrong):
    """Refuse values of which some are outside; on a GPU, only note whether some are."""
    if not on_host(values):
        wrong.append(outside.any())
    elif outside.any():
        raise ValueError(f"{name} has the value {values[outside][0]}; expected {expected}")


def _check_shape(name, values, shape):
    if values.shape != tuple(shape):
        raise ValueError(f"{name} has shape {values.shape}; expected {tuple(shape)}")


def _as_mask(name, values, shapes):
    """A mask as an array of numbers or booleans, of one of some shapes."""
    values = _as_array(name, values)
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{name} has dtype {values.dtype}; expected numbers or booleans")
    if values.shape not in shapes:
        *others, last = shapes
        expected = f"{', '.join(map(str, others))} or {last}"
        raise ValueError(f"{name} has shape {values.shape}; expected {expected}")
    return values


def _check_mask(attention_mask, shape, num_attention_heads, wrong):
    """The mask as booleans, with an axis for the heads where it has one for the queries.

    None where it masks nothing, unless nobody can tell without waiting for a GPU.
    """
    if attention_mask is None:
        return None
    B, S = shape
    shapes = ((B, S), (B, S, S), (B, 1, S, S), (B, num_attention_heads, S, S))
    attention_mask = _as_mask("attention_mask", attention_mask, shapes)
    if attention_mask.ndim == 3:
        attention_mask = attention_mask[:, None]
    is_one, is_zero = attention_mask == 1, attention_mask == 0
    _refuse("attention_mask", attention_mask, ~(is_one | is_zero), "0 or 1", wrong)
    return None if on_host(is_one) and is_one.all() else is_one


def _check_head_mask(head_mask, config, dtype, wrong):
    """A row for each layer, or None where the mask masks nothing; see `_check_mask`."""
    if head_mask is None:
        return None
    A, L = config.num_attention_heads, config.num_hidden_layers
    head_mask = _as_mask("head_mask", head_mask, ((A,), (L, A)))
    outside = ~((head_mask >= 0) & (head_mask <= 1))
    _refuse("head_mask", head_mask, outside, "0 to 1", wrong)
    if on_host(head_mask) and (head_mask == 1).all():
        return None
    return np.broadcast_to(head_mask, (L, A)).astype(dtype)


def _check_embeds(inputs_embeds, embedding_size, dtype):
    inputs_embeds = _as_array("inputs_embeds", inputs_embeds)
    if inputs_embeds.dtype.kind not in ("f", dtype.kind):
        raise TypeError(f"inputs_embeds has dtype {inputs_embeds.dtype}; expected floating numbers")
    if inputs_embeds.ndim != 3 or inputs_embeds.shape[2] != embedding_size:
        raise ValueError(
            f"inputs_embeds has shape {inputs_embeds.shape}; "
            f"expected (batch, sequence, embedding_size), embedding_size being {embedding_size}"
        )
    return inputs_embeds.astype(dtype, copy=False)


def check_seed(seed):
    """Check the seed of a call's dropout masks: None, or an integer of 64 bits."""
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int | np.integer)):
        raise TypeError(f"seed is {seed!r}; expected an integer, or None for no dropout")
    if seed is not None and not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}; expected 0 to 2**64 - 1")
    return None if seed is None else int(seed)


def check_packed(packed):
    """Check whether a batch is to be packed: True, False, or None where the model may decide."""
    if packed is not None and not isinstance(packed, bool | np.bool_):
        raise TypeError(f"packed is {packed!r}; expected True, False or None")
    return None if packed is None else bool(packed)


def check_checkpoint_every(checkpoint_every):
    """Check after how many repetitions to compute again: None, or 1 or more."""
    if checkpoint_every is None:
        return
    if isinstance(checkpoint_every, bool) or not isinstance(checkpoint_every, int | np.integer):
        raise TypeError(f"checkpoint_every is {checkpoint_every!r}; expected an integer or None")
    if checkpoint_every < 1:
        raise ValueError(f"checkpoint_every is {checkpoint_every}; expected 1 or more")


def check_output_gradients(gradients, outputs, dtype, arrays):
    """Check the gradients that a pullback is given against the outputs they are gradients of.

    Parameters
    ----------
    gradients : dict, or None
        By the outputs' names; None stands for 1 for the loss.
    outputs : ModelOutput
    dtype : dtype
        Of the model; gradients are cast to it.
    arrays : HostArrays or what stands for them on a GPU
        Gradients become arrays of that kind.

    Returns
    -------
    dict of str to (array, or list of (array or None))
        Without those that were given as None.

    Raises
    ------
    ValueError, TypeError
        If one is of no output, or of another shape or type than its output.
    """
    names = outputs.keys()
    if gradients is None:
        if "loss" not in names:
            raise ValueError("the outputs have no loss; expected labels, or a gradient of another")
        gradients = {"loss": np.ones_like(outputs["loss"])}
    if not isinstance(gradients, dict):
        raise TypeError(f"the gradients are of type {type(gradients).__name__}; expected a dict")
    checked = {}
    for name, gradient in gradients.items():
        if name not in names:
            raise ValueError(
                f"a gradient of {name!r} was given; the outputs are {', '.join(names)}"
            )
        if gradient is None:
            continue
        if isinstance(outputs[name], tuple):
            checked[name] = _check_gradient_list(name, gradient, outputs[name], dtype, arrays)
        else:
            checked[name] = _check_gradient(name, gradient, outputs[name], dtype, arrays)
    return checked


def _check_gradient_list(name, gradients, values, dtype, arrays):
    if not isinstance(gradients, list | tuple):
        raise TypeError(
            f"the gradient of {name} is of type {type(gradients).__name__}; "
            f"expected a list of {len(values)}, None among them"
        )
    if len(gradients) != len(values):
        raise ValueError(f"{len(gradients)} gradients of {name} given; expected {len(values)}")
    return [
        None
        if gradient is None
        else _check_gradient(f"{name}[{i}]", gradient, value, dtype, arrays)
        for i, (gradient, value) in enumerate(zip(gradients, values, strict=True))
    ]


def _check_gradient(name, gradient, value, dtype, arrays):
    gradient = as_array(arrays.given(f"the gradient of {name}", gradient))
    if gradient.dtype.kind not in ("f", "i", dtype.kind):
        raise TypeError(f"the gradient of {name} has dtype {gradient.dtype}; expected {dtype}")
    gradient = gradient.astype(dtype)
    if gradient.shape != value.shape:
        raise ValueError(
            f"the gradient of {name} has shape {gradient.shape}; expected {value.shape}"
        )
    return arrays.uploaded(gradient)

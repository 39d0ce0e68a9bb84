"""The arguments of a call, checked at the door."""

from typing import NamedTuple

import numpy as np

from albert_np.functions.cross_entropy import IGNORE_INDEX


class Inputs(NamedTuple):
    """A checked batch: everything is an array of its full shape.

    Attributes
    ----------
    input_ids : integer array, shape (B, S), or None
    inputs_embeds : array, shape (B, S, E), or None
        Exactly one of these two is there.
    attention_mask : bool array, shape (B, S), or None
        None where every token is attended to.
    token_type_ids, position_ids : integer array, shape (B, S)
    """

    input_ids: object
    inputs_embeds: object
    attention_mask: object
    token_type_ids: object
    position_ids: object

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
    inputs_embeds=None,
):
    """Check and complete the arguments that every model takes.

    Parameters
    ----------
    config : AlbertConfig
    dtype : dtype
        Of the model; inputs_embeds are cast to it.
    input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds
        As the models take them.

    Returns
    -------
    Inputs

    Raises
    ------
    ValueError, TypeError
        If an argument is missing, of another shape or type, or out of range.
    """
    if (input_ids is None) == (inputs_embeds is None):
        given = "neither" if input_ids is None else "both"
        raise ValueError(f"{given} of input_ids and inputs_embeds given; expected exactly one")
    if input_ids is not None:
        input_ids = check_integers("input_ids", input_ids, 0, config.vocab_size, "vocab_size")
        if input_ids.ndim != 2:
            raise ValueError(f"input_ids has shape {input_ids.shape}; expected (batch, sequence)")
        name, shape = "input_ids", input_ids.shape
    else:
        inputs_embeds = _check_embeds(inputs_embeds, config.embedding_size, dtype)
        name, shape = "inputs_embeds", inputs_embeds.shape[:2]
    limit = config.max_position_embeddings
    if position_ids is None:
        if shape[1] > limit:
            raise ValueError(f"{name} has {shape[1]} columns; max_position_embeddings is {limit}")
        position_ids = np.arange(shape[1])[None]
    position_ids = check_integers("position_ids", position_ids, 0, limit, "max_position_embeddings")
    if position_ids.shape not in (shape, (1, shape[1])):
        raise ValueError(
            f"position_ids has shape {position_ids.shape}; expected {shape} or {(1, shape[1])}"
        )
    if token_type_ids is None:
        token_type_ids = np.zeros(shape, np.int64)
    token_type_ids = check_integers(
        "token_type_ids", token_type_ids, 0, config.type_vocab_size, "type_vocab_size"
    )
    _check_shape("token_type_ids", token_type_ids, shape)
    return Inputs(
        input_ids,
        inputs_embeds,
        _check_mask(attention_mask, shape),
        token_type_ids,
        np.broadcast_to(position_ids, shape),
    )


def check_labels(name, labels, shape, limit):
    """Check labels against the shape of what they label.

    Parameters
    ----------
    name : str
        For messages.
    labels : array_like of int, or None
    shape : tuple of int
    limit : int
        Labels are −100, to be ignored, or in [0, limit).

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
    if outside.any():
        raise ValueError(
            f"{name} has the value {labels[outside][0]}; "
            f"expected {IGNORE_INDEX}, or 0 to {limit - 1}"
        )
    return labels


def check_integers(name, values, low, limit, limit_name):
    """Return `values` as an integer array, all of them in [low, limit)."""
    values = _as_integers(name, values)
    outside = (values < low) | (values >= limit)
    if outside.any():
        raise ValueError(
            f"{name} has the value {values[outside][0]}; "
            f"expected {low} to {limit - 1} ({limit_name} is {limit})"
        )
    return values


def _as_array(name, values):
    """Values as an array that is not empty."""
    try:
        values = np.asarray(values)
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


def _check_shape(name, values, shape):
    if values.shape != tuple(shape):
        raise ValueError(f"{name} has shape {values.shape}; expected {tuple(shape)}")


def _check_mask(attention_mask, shape):
    """The mask as booleans, or None where it masks nothing."""
    if attention_mask is None:
        return None
    attention_mask = _as_array("attention_mask", attention_mask)
    _check_shape("attention_mask", attention_mask, shape)
    is_one, is_zero = attention_mask == 1, attention_mask == 0
    if not (is_one | is_zero).all():
        value = attention_mask[~(is_one | is_zero)][0]
        raise ValueError(f"attention_mask has the value {value}; expected 0 or 1")
    return None if is_one.all() else is_one


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


def check_output_gradients(gradients, outputs, dtype):
    """Check the gradients that a pullback is given against the outputs they are gradients of.

    Parameters
    ----------
    gradients : dict, or None
        By the outputs' names; None stands for 1 for the loss.
    outputs : ModelOutput
    dtype : dtype
        Of the model; gradients are cast to it.

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
        gradients = {"loss": 1.0}
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
            checked[name] = _check_gradient_list(name, gradient, outputs[name], dtype)
        else:
            checked[name] = _check_gradient(name, gradient, outputs[name], dtype)
    return checked


def _check_gradient_list(name, gradients, values, dtype):
    if not isinstance(gradients, list | tuple):
        raise TypeError(
            f"the gradient of {name} is of type {type(gradients).__name__}; "
            f"expected a list of {len(values)}, None among them"
        )
    if len(gradients) != len(values):
        raise ValueError(f"{len(gradients)} gradients of {name} given; expected {len(values)}")
    return [
        None if gradient is None else _check_gradient(f"{name}[{i}]", gradient, value, dtype)
        for i, (gradient, value) in enumerate(zip(gradients, values, strict=True))
    ]


def _check_gradient(name, gradient, value, dtype):
    gradient = np.asarray(gradient)
    if gradient.dtype.kind not in ("f", "i", dtype.kind):
        raise TypeError(f"the gradient of {name} has dtype {gradient.dtype}; expected {dtype}")
    gradient = gradient.astype(dtype)
    if gradient.shape != value.shape:
        raise ValueError(
            f"the gradient of {name} has shape {gradient.shape}; expected {value.shape}"
        )
    return gradient

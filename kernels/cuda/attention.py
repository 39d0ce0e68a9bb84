"""Self-attention without its scores: the launches of `attention.cu`."""

import math
from typing import NamedTuple

import numpy as np

from albert_np.kernels.cuda import launcher
from albert_np.kernels.cuda.arrays import (
    Argument,
    checked,
    columns_of,
    dropout_struct,
    launch,
    wide,
)
from albert_np.kernels.cuda.launch import Struct, TensorMap

FILE = "attention.cu"

# `Batch` of attention.cu.
BATCH = np.dtype(
    [
        ("offsets", np.uintp),
        ("mask", np.uintp),
        ("scale", np.float64),
        ("refused", np.uintp),
        ("tokens", np.int32),
        ("longest", np.int32),
        ("heads", np.int32),
        ("head_size", np.int32),
    ],
    align=True,
)


class AttentionCache(NamedTuple):
    query_key_value: object  # (B, S, 3·A·D), or (T, 3·A·D)
    context: object  # (B, S, A·D), or (T, A·D)
    log_sum_exp: object  # (A, tokens), of each row of scores
    problem: launcher.AttentionProblem
    batch: Struct
    dropout: Struct


def attention_forward(
    executor,
    query_key_value,
    num_attention_heads,
    attention_mask=None,
    dropout=None,
    packed=None,
    version=None,
):
    """`albert_np.functions.attention.attention_forward`, of a padded batch or a packed one.

        c = dropout(softmax(q kᵀ / √D + mask)) v,   in each head

    Parameters
    ----------
    executor
        What runs the launches.
    query_key_value : array, shape (B, S, 3·A·D), or (T, 3·A·D) with `packed`
        float16, bfloat16, float32 or float64.
    num_attention_heads : int
        A.
    attention_mask : bool array, shape (B, S), or (T,) with `packed`, optional
        True where a key is attended to. Where a sequence has none, its context is the mean of all
        its values.
    dropout : Dropout, optional
        Applied to the probabilities.
    packed : PackedBatch, optional
        Where its offsets are on the device, and do not rise from 0 to T, no number of the context
        is one, and none of the gradient.
    version : int, optional
        Of the kernel; the fastest that fits by default.

    Returns
    -------
    context : array, shape (B, S, A·D), or (T, A·D)
    cache : AttentionCache
    """
    columns = columns_of(executor, "query_key_value", query_key_value)
    shape = query_key_value.shape
    if len(shape) != (3 if packed is None else 2):
        expected = "(B, S, 3H)" if packed is None else "(T, 3H), as the batch is packed"
        raise ValueError(f"query_key_value has shape {shape}; expected {expected}")
    if num_attention_heads < 1 or columns == 0 or columns % (3 * num_attention_heads):
        raise ValueError(
            f"query_key_value has {columns} columns; "
            f"expected a positive multiple of 3 · {num_attention_heads} heads"
        )
    (query_key_value,) = checked(executor, Argument("query_key_value", query_key_value, shape))
    tokens = math.prod(shape[:-1])
    head_size = columns // (3 * num_attention_heads)
    offsets, refused, (sequences, longest) = None, None, shape[:2]
    if packed is not None:
        offsets, (sequences, longest) = checked_offsets(executor, packed, tokens), packed.shape
        refused = executor.empty((1,), np.int32)
    for what, count in (("sequences", sequences), ("heads", num_attention_heads)):
        if count > launcher.LARGEST_GRID:
            raise ValueError(
                f"query_key_value has {count} {what}; the kernels take {launcher.LARGEST_GRID}"
            )
    mask = None
    if attention_mask is not None:
        mask = checked_mask(executor, attention_mask, shape[:-1])
    scale = 1 / math.sqrt(head_size)
    sizes = tokens, longest, num_attention_heads, head_size
    batch = Struct(BATCH, (offsets, mask, scale, refused, *sizes))
    dropout = dropout and dropout._replace(packed=packed)
    drop = dropout_struct(executor, dropout, (sequences, longest, longest), tokens)

    context = executor.empty((*shape[:-1], columns // 3), query_key_value.dtype)
    log_sum_exp = executor.empty((num_attention_heads, tokens), wide(query_key_value.dtype))
    problem = launcher.AttentionProblem(
        sequences=sequences,
        longest=longest,
        tokens=tokens,
        heads=num_attention_heads,
        head_size=head_size,
        dtype=query_key_value.dtype,
        aligned=executor.pointer(query_key_value) % launcher.PACK_BYTES == 0,
        capability=executor.capability,
        shared_limit=executor.shared_limit,
        allow_tf32=executor.allow_tf32,
    )
    plan = launcher.attention_forward(problem, version)
    rows = _rows(query_key_value, 3, problem, plan)
    launch(executor, FILE, plan, rows, context, log_sum_exp, batch, drop)
    return context, AttentionCache(query_key_value, context, log_sum_exp, problem, batch, drop)


def attention_backward(executor, dcontext, cache, version=None):
    """Backward pass of `attention_forward`, from the probabilities computed again.

    Parameters
    ----------
    executor
    dcontext : array, shape (B, S, A·D), or (T, A·D)
    cache : AttentionCache
    version : int, optional

    Returns
    -------
    dquery_key_value : array, shape (B, S, 3·A·D), or (T, 3·A·D)
    """
    query_key_value, context, log_sum_exp, problem, batch, drop = cache
    _, dcontext = checked(
        executor,
        Argument("context", context, context.shape),
        Argument("dcontext", dcontext, context.shape),
    )
    aligned = problem.aligned and executor.pointer(dcontext) % launcher.PACK_BYTES == 0
    problem = problem._replace(aligned=aligned)
    delta = executor.empty(log_sum_exp.shape, log_sum_exp.dtype)
    dquery_key_value = executor.empty(query_key_value.shape, query_key_value.dtype)
    plan = launcher.attention_delta(problem)
    launch(executor, FILE, plan, dcontext, context, delta, dquery_key_value, batch)
    for plan in launcher.attention_backward(problem, version):
        rows = _rows(dcontext, 1, problem, plan), _rows(query_key_value, 3, problem, plan)
        arguments = (log_sum_exp, delta, dquery_key_value, batch, drop)
        launch(executor, FILE, plan, *rows, *arguments)
    return dquery_key_value


def _rows(array, parts, problem, plan):
    """The array (tokens, parts, heads, head size) as the kernel takes it: a pointer, or a map."""
    if not plan.box:
        return array
    return TensorMap(array, (problem.tokens, parts * problem.heads, problem.head_size), plan.box)


def checked_offsets(executor, packed, tokens):
    """Where each sequence starts, on the device. They are looked at where that costs no wait.

    Where it does, the kernels look: no result of offsets that are wrong is a number.

    Raises
    ------
    ValueError
        If they do not rise from 0 to the number of tokens.
    """
    offsets = packed.offsets
    if tuple(offsets.shape) != (packed.shape[0] + 1,):
        raise ValueError(
            f"packed.offsets has shape {tuple(offsets.shape)}; expected ({packed.shape[0] + 1},)"
        )
    if tokens > math.prod(packed.shape):
        raise ValueError(
            f"query_key_value has {tokens} tokens; packed.shape, {packed.shape}, has fewer places"
        )
    if isinstance(offsets, np.ndarray):
        lengths = np.diff(offsets)
        if offsets[0] != 0 or offsets[-1] != tokens or np.any(lengths < 1):
            raise ValueError(
                f"packed.offsets is {offsets.tolist()}; expected to rise from 0 to {tokens} tokens"
            )
        if np.any(lengths > packed.shape[1]):
            raise ValueError(
                f"packed.offsets has a sequence of {lengths.max()} tokens; "
                f"packed.shape has {packed.shape[1]} columns"
            )
    return executor.uploaded(offsets.astype(np.int64, copy=False))


def checked_mask(executor, attention_mask, shape):
    """The mask, contiguous, on the device."""
    executor.check("attention_mask", attention_mask)
    if attention_mask.dtype != bool:
        raise TypeError(f"attention_mask has dtype {attention_mask.dtype}; expected bool")
    if tuple(attention_mask.shape) != tuple(shape):
        raise ValueError(f"attention_mask has shape {attention_mask.shape}; expected {shape}")
    return executor.contiguous(attention_mask)

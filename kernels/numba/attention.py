"""Multi-head self-attention, block by block: no S×S array is ever held.

One worker takes one head's block of queries at a time and meets the keys block by block (online
softmax: Milakov and Gimelshein 2018; FlashAttention: Dao et al. 2022). It holds, for each query,
the largest score so far m, the sum of exponentials l and the weighted sum of values c, both
relative to m. A new block of scores s may raise m to m'; then

    l ← l · exp(m − m') + Σ_j exp(s_j − m')
    c ← c · exp(m − m') + Σ_j exp(s_j − m') v_j

and in the end c / l is the context, and m + log l the log-sum-exp, from which backward has any
probability again: p_ij = exp(s_ij − lse_i).

A block of scores lies transposed, key by key: scores[j, i]. So queries lie side by side in a
vector; maximum and sum over keys run over whole vectors, and no vector is ever summed up in itself;
a masked key is a row; and four keys that share a counter of dropout's generator are four rows.

The limit. A pair of a query and a key costs 4D operations forward (two products of D multiply-adds)
and 10D backward (five), and one exponential, some 15 instructions. With AVX-512 (two units of 16
lanes) and D = 64 the multiply-adds take 4 cycles a pair forward; the exponential was measured at
0.7, the maximum at 0.2. A query and its context are 2D numbers in memory, and a block of queries
reads all keys and values, which is 2SD / BLOCK a query: S / (2 + 2S / BLOCK) operations a byte in
float32, 32 for S = 128 and 51 for 512. So multiply-adds, not memory, are the limit.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import get_num_threads, njit, prange

from albert_np.functions.dropout import Dropout
from albert_np.kernels.numba.compiling import SUMS, kernel, parallel_kernel
from albert_np.kernels.numba.exponential import exponential_flushed
from albert_np.kernels.numba.philox import draw_of, philox_4x32_10
from albert_np.kernels.numba.products import add_product, set_product
from albert_np.kernels.numba.tile import BLOCK as SQUARE
from albert_np.kernels.numba.tile import TILE_ROWS, VECTOR_BYTES, transpose_block

# Queries, and keys, in a block. Of scores 64 KiB in float32; with the blocks of keys and values
# all that a worker touches stays in the second-level cache.
BLOCK = 128


class AttentionCache(NamedTuple):
    query_key_value: object  # (T, 3·A·D)
    num_attention_heads: int
    masked: object  # bool (T,)
    dropout: Dropout | None
    places: object  # Places
    context: object  # (T, A·D)
    log_sum_exp: object  # (A, T)


class Places(NamedTuple):
    """Where sequences lie among the T tokens, and where tokens lie in a padded batch."""

    offsets: object  # int64 (B + 1,): where each sequence starts, and the last one ends
    columns: object  # int64 (T,)
    sequences: object  # int64 (T,)


def attention_forward(
    query_key_value, num_attention_heads, attention_mask=None, dropout=None, packed=None
):
    """Self-attention; see `albert_np.functions.attention.attention_forward`.

        c = dropout(softmax(q kᵀ / √D + mask)) v,   in each head

    Parameters
    ----------
    query_key_value : float32 or float64 array, shape (B, S, 3·A·D), or (T, 3·A·D) of a packed batch
    num_attention_heads : int
        A.
    attention_mask : bool array, shape (B, S) or (T,), optional
        True where a key is attended to; by default everywhere.
    dropout : Dropout, optional
        Applied to the probabilities.
    packed : PackedBatch, optional
        Where the sequences of a packed batch lie.

    Returns
    -------
    context : array, shape (B, S, A·D) or (T, A·D)
    cache : AttentionCache

    Raises
    ------
    TypeError
        If query_key_value is neither float32 nor float64, or attention_mask is not bool.
    ValueError
        If the shapes do not fit each other.
    """
    tokens = check_shapes(query_key_value, num_attention_heads, attention_mask, packed)
    rows = plain(query_key_value, query_key_value.dtype)
    rows = rows.reshape(math.prod(tokens), rows.shape[-1])
    T, H = rows.shape[0], rows.shape[1] // 3
    masked = np.zeros(T, bool) if attention_mask is None else ~attention_mask.reshape(T)
    cache = AttentionCache(
        query_key_value=rows,
        num_attention_heads=num_attention_heads,
        masked=masked,
        dropout=dropout,
        places=places_of(tokens, packed),
        context=np.empty((T, H), rows.dtype),
        log_sum_exp=np.empty((num_attention_heads, T), rows.dtype),
    )
    attend(
        cache.context,
        cache.log_sum_exp,
        rows,
        masked,
        cache.places,
        query_blocks(cache.places.offsets),
        dropout is not None,
        draw_of(dropout or Dropout(0.0, 0, 0), rows.dtype),
        get_num_threads(),
    )
    return cache.context.reshape(*tokens, H), cache


def attention_backward(dcontext, cache):
    """Backward pass of `attention_forward`.

    With p the probabilities, k the dropout's factors (0 or 1 / (1 − p)) and ∘ element by element:

        dv = (p ∘ k)ᵀ dc          dp = (dc vᵀ) ∘ k          ds = p ∘ (dp − Σ_j p_j dp_j)
        dq = ds k / √D            dk = dsᵀ q / √D

    The key step: Σ_j p_ij dp_ij = Σ_j p_ij k_ij Σ_d dc_id v_jd = Σ_d dc_id c_id, so the sum over
    all keys that softmax's gradient needs is known before the first block.

    Parameters
    ----------
    dcontext : array, shape (B, S, A·D) or (T, A·D)
    cache : AttentionCache

    Returns
    -------
    dquery_key_value : array, shape (B, S, 3·A·D) or (T, 3·A·D)
    """
    dquery_key_value = np.empty_like(cache.query_key_value)
    dtype = dquery_key_value.dtype
    attend_backward(
        dquery_key_value,
        plain(dcontext, dtype).reshape(cache.context.shape),
        cache.context,
        cache.log_sum_exp,
        cache.query_key_value,
        cache.masked,
        cache.places,
        cache.dropout is not None,
        draw_of(cache.dropout or Dropout(0.0, 0, 0), dtype),
        get_num_threads(),
    )
    return dquery_key_value.reshape(*dcontext.shape[:-1], dquery_key_value.shape[1])


def check_shapes(query_key_value, num_attention_heads, attention_mask, packed):
    """Refuse what does not fit; else return the shape of the tokens, (B, S) or (T,)."""
    if query_key_value.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"query_key_value is {query_key_value.dtype}; this kernel has float32 and float64"
        )
    axes = 3 if packed is None else 2
    if query_key_value.ndim != axes or query_key_value.shape[-1] % (3 * num_attention_heads):
        raise ValueError(
            f"query_key_value has shape {query_key_value.shape}; expected {axes} axes, the last a "
            f"multiple of 3 · num_attention_heads = {3 * num_attention_heads}"
        )
    tokens = query_key_value.shape[:-1]
    if packed is not None and packed.offsets[-1] != tokens[0]:
        raise ValueError(
            f"query_key_value has {tokens[0]} rows; packed.offsets ends at {packed.offsets[-1]}"
        )
    if attention_mask is not None:
        if attention_mask.dtype != bool:
            raise TypeError(f"attention_mask is {attention_mask.dtype}; expected bool")
        if attention_mask.shape != tokens:
            raise ValueError(
                f"attention_mask has shape {attention_mask.shape}; expected {tokens}, "
                "one for each key"
            )
    return tokens


def plain(array, dtype):
    """The array in C order and writeable, which kernels are compiled for; copied if need be."""
    return np.require(array, dtype, ["C", "W"])


def places_of(tokens, packed):
    """The `Places` of a packed batch, or of a padded one: its sequences are all of length S."""
    if packed is not None:
        places = packed.offsets, packed.columns, packed.sequences
        return Places(*(plain(array, np.int64) for array in places))
    B, S = tokens
    return Places(
        offsets=np.arange(B + 1) * S,
        columns=np.tile(np.arange(S), B),
        sequences=np.repeat(np.arange(B), S),
    )


def query_blocks(offsets):
    """Cut sequences into blocks of queries: (N, 2), the sequence and its block's first query."""
    counts = -(-np.diff(offsets) // BLOCK)
    sequence = np.repeat(np.arange(len(counts)), counts)
    before = np.repeat(np.cumsum(counts) - counts, counts)
    return np.stack([sequence, (np.arange(len(sequence)) - before) * BLOCK], axis=1)


@parallel_kernel
def attend(context, log_sum_exp, query_key_value, masked, places, blocks, drops, draw, workers):
    """Forward pass: each worker takes every so many-th block of queries of a head."""
    for worker in prange(workers):
        attend_blocks(
            context,
            log_sum_exp,
            query_key_value,
            masked,
            places,
            blocks,
            drops,
            draw,
            worker,
            workers,
        )


@parallel_kernel
def attend_backward(
    dquery_key_value,
    dcontext,
    context,
    log_sum_exp,
    query_key_value,
    masked,
    places,
    drops,
    draw,
    workers,
):
    """Backward pass: each worker takes every so many-th head of a sequence.

    All blocks of queries add to the gradients of the same keys and values, so they are not shared
    out: sums then have one order, whatever the number of workers.
    """
    for worker in prange(workers):
        attend_backward_heads(
            dquery_key_value,
            dcontext,
            context,
            log_sum_exp,
            query_key_value,
            masked,
            places,
            drops,
            draw,
            worker,
            workers,
        )


@kernel
def attend_blocks(
    context, log_sum_exp, query_key_value, masked, places, blocks, drops, draw, worker, workers
):
    """One worker's share of the forward pass."""
    A = log_sum_exp.shape[0]
    H = context.shape[1]
    D = H // A
    dtype = context.dtype
    offsets = places.offsets
    size = min(BLOCK, longest_of(offsets))
    queries_t = scratch(D, size, context)
    keys = scratch(size, D, context)
    values = scratch(size, D, context)
    scores = scratch(size, size, context)
    factors = scratch(size if drops else 0, size, context)
    sums = scratch(size, D, context)
    words = np.zeros((4, BLOCK), np.uint32)
    maximum = np.zeros(BLOCK, dtype)
    total = np.zeros(BLOCK, dtype)
    shrinkage = np.zeros(BLOCK, dtype)
    scale, one = context.dtype.type(1 / math.sqrt(D)), context.dtype.type(1)

    for task in range(worker, len(blocks) * A, workers):
        block, head = divmod(task, A)
        sequence, first_query = blocks[block]
        start, end = offsets[sequence], offsets[sequence + 1]
        query = start + first_query
        rows = min(BLOCK, end - query)
        column = head * D

        blind = all_true(masked, start, end)
        load_transposed(queries_t, query_key_value, query, rows, column, D)
        if blind:
            queries_t[:] = 0
        begin(maximum, total, sums, rows, D)
        for key in range(start, end, BLOCK):
            steps = min(BLOCK, end - key)
            load(keys, query_key_value, key, steps, H + column, D, scale)
            load(values, query_key_value, key, steps, 2 * H + column, D, one)
            set_product(scores, keys, queries_t, steps, rows, D)
            if not blind:
                mask(scores, masked, key, steps, rows)
            raise_maximum(maximum, shrinkage, scores, steps, rows)
            shrink(total, sums, shrinkage, rows, D)
            exponentiate(scores, total, maximum, steps, rows)
            if drops:
                draw_factors(factors, words, places, query, rows, key, steps, head, draw)
                multiply(scores, factors, steps, rows)
            add_product(sums, scores.T, values, rows, D, steps)
        store_context(context, query, column, sums, total, rows, D)
        for i in range(rows):
            log_sum_exp[head, query + i] = maximum[i] + math.log(total[i])


@kernel
def attend_backward_heads(
    dquery_key_value,
    dcontext,
    context,
    log_sum_exp,
    query_key_value,
    masked,
    places,
    drops,
    draw,
    worker,
    workers,
):
    """One worker's share of the backward pass."""
    A = log_sum_exp.shape[0]
    H = context.shape[1]
    D = H // A
    dtype = context.dtype
    offsets = places.offsets
    longest = longest_of(offsets)
    size = min(BLOCK, longest)
    keys = scratch(longest, D, context)
    values = scratch(longest, D, context)
    dkeys = scratch(longest, D, context)
    dvalues = scratch(longest, D, context)
    queries = scratch(size, D, context)
    queries_t = scratch(D, size, context)
    dcontexts = scratch(size, D, context)
    dcontexts_t = scratch(D, size, context)
    dqueries = scratch(size, D, context)
    probabilities = scratch(size, size, context)
    dscores = scratch(size, size, context)
    factors = scratch(size if drops else 0, size, context)
    words = np.zeros((4, BLOCK), np.uint32)
    along = np.zeros(BLOCK, dtype)
    scale, one = context.dtype.type(1 / math.sqrt(D)), context.dtype.type(1)

    for task in range(worker, (len(offsets) - 1) * A, workers):
        sequence, head = divmod(task, A)
        start, end = offsets[sequence], offsets[sequence + 1]
        column = head * D
        blind = all_true(masked, start, end)
        load(keys, query_key_value, start, end - start, H + column, D, scale)
        load(values, query_key_value, start, end - start, 2 * H + column, D, one)
        dkeys[: end - start] = 0
        dvalues[: end - start] = 0
        for query in range(start, end, BLOCK):
            rows = min(BLOCK, end - query)
            load(queries, query_key_value, query, rows, column, D, one)
            load_transposed(queries_t, query_key_value, query, rows, column, D)
            if blind:
                queries_t[:] = 0
            load(dcontexts, dcontext, query, rows, column, D, one)
            load_transposed(dcontexts_t, dcontext, query, rows, column, D)
            sum_products(along, dcontext, context, query, rows, column, D)
            dqueries[:rows] = 0
            for key in range(start, end, BLOCK):
                steps = min(BLOCK, end - key)
                place = key - start
                set_product(probabilities, keys[place:], queries_t, steps, rows, D)
                set_product(dscores, values[place:], dcontexts_t, steps, rows, D)
                if not blind:
                    mask(probabilities, masked, key, steps, rows)
                if drops:
                    draw_factors(factors, words, places, query, rows, key, steps, head, draw)
                    multiply(dscores, factors, steps, rows)
                differentiate(probabilities, dscores, log_sum_exp[head, query:], along, steps, rows)
                if drops:
                    multiply(probabilities, factors, steps, rows)
                add_product(dvalues[place:], probabilities, dcontexts, steps, D, rows)
                add_product(dkeys[place:], dscores, queries, steps, D, rows)
                add_product(dqueries, dscores.T, keys[place:], rows, D, steps)
            store(dquery_key_value, query, column, dqueries, rows, D, one)
        store(dquery_key_value, start, H + column, dkeys, end - start, D, scale)
        store(dquery_key_value, start, 2 * H + column, dvalues, end - start, D, one)


@kernel
def scratch(rows, columns, like):
    """Zeros for a block, of the dtype of `like`, with room for whole tiles.

    Rows start at a vector's boundary, and one vector too many lies between them: rows a power of
    two apart would compete for the same places in the first-level cache.
    """
    lanes = VECTOR_BYTES // like.itemsize
    rows += -rows % TILE_ROWS
    columns += -columns % lanes + lanes
    buffer = np.zeros(rows * columns + lanes, like.dtype)
    skipped = -buffer.ctypes.data % VECTOR_BYTES // like.itemsize
    return buffer[skipped : skipped + rows * columns].reshape(rows, columns)


@kernel
def longest_of(offsets):
    """The length of the longest sequence."""
    longest = 0
    for sequence in range(len(offsets) - 1):
        longest = max(longest, offsets[sequence + 1] - offsets[sequence])
    return longest


@kernel
def all_true(flags, start, end):
    count = 0
    for j in range(start, end):
        count += flags[j]
    return count == end - start


@kernel
def load(block, array, first_row, rows, first_column, columns, scale):
    """block[i, d] = scale · array[first_row + i, first_column + d]"""
    for i in range(rows):
        row = array[first_row + i, first_column : first_column + columns]
        for d in range(columns):
            block[i, d] = scale * row[d]


@kernel
def load_transposed(block, array, first_row, rows, first_column, columns):
    """block[d, i] = array[first_row + i, first_column + d]: whole squares, then what is left."""
    whole_rows, whole_columns = rows - rows % SQUARE, columns - columns % SQUARE
    flat, stride = block.reshape(block.size), block.shape[1]
    for i in range(0, whole_rows, SQUARE):
        for d in range(0, whole_columns, SQUARE):
            transpose_block(array, first_row + i, first_column + d, flat, d * stride + i, stride)
    for i in range(rows):
        row = array[first_row + i, first_column : first_column + columns]
        for d in range(whole_columns if i < whole_rows else 0, columns):
            block[d, i] = row[d]


@kernel
def store(array, first_row, first_column, block, rows, columns, scale):
    """array[first_row + i, first_column + d] = scale · block[i, d]"""
    for i in range(rows):
        row = array[first_row + i, first_column : first_column + columns]
        for d in range(columns):
            row[d] = scale * block[i, d]


@kernel
def begin(maximum, total, sums, rows, columns):
    """Before the first block of keys. The lowest number, not −∞: −∞ less itself is no number."""
    maximum[:rows] = np.finfo(maximum.dtype).min
    total[:rows] = 0
    for i in range(rows):
        sums[i, :columns] = 0


@kernel
def mask(scores, masked, first_key, keys, rows):
    """Masked keys' scores become −∞, their probability so 0."""
    for j in range(keys):
        if masked[first_key + j]:
            scores[j, :rows] = -np.inf


@kernel
def raise_maximum(maximum, shrinkage, scores, keys, rows):
    """m' = max(m, max_j s_j), and exp(m − m')."""
    shrinkage[:rows] = maximum[:rows]
    for j in range(keys):
        for i in range(rows):
            maximum[i] = scores[j, i] if scores[j, i] > maximum[i] else maximum[i]
    for i in range(rows):
        shrinkage[i] = exponential_flushed(shrinkage[i] - maximum[i])


@kernel
def shrink(total, sums, shrinkage, rows, columns):
    """l ← l · exp(m − m') and c ← c · exp(m − m')"""
    for i in range(rows):
        total[i] *= shrinkage[i]
        for d in range(columns):
            sums[i, d] *= shrinkage[i]


@kernel
def exponentiate(scores, total, maximum, keys, rows):
    """s_j ← exp(s_j − m) and l ← l + Σ_j s_j"""
    for j in range(keys):
        for i in range(rows):
            scores[j, i] = exponential_flushed(scores[j, i] - maximum[i])
            total[i] += scores[j, i]


@kernel
def store_context(context, first_row, first_column, sums, total, rows, columns):
    """c / l"""
    for i in range(rows):
        row = context[first_row + i, first_column : first_column + columns]
        inverse = 1 / total[i]
        for d in range(columns):
            row[d] = sums[i, d] * inverse


@kernel
def draw_factors(factors, words, places, first_query, rows, first_key, keys, head, draw):
    """Dropout's factor of each pair, 1 / (1 − p) or 0.

    Of the counter (column // 4, row, sequence, site · 2¹⁶ + head) only the row changes along a
    vector; keys that share column // 4 share the four words.
    """
    sequence = np.uint64(places.sequences[first_query])
    place = (draw.site << np.uint64(16)) + np.uint64(head)
    drawn = -1
    for j in range(keys):
        column = places.columns[first_key + j]
        if column // 4 != drawn:
            drawn = column // 4
            for i in range(rows):
                row = np.uint64(places.columns[first_query + i])
                w0, w1, w2, w3 = philox_4x32_10(
                    np.uint64(drawn), row, sequence, place, draw.seed_low, draw.seed_high
                )
                words[0, i] = w0
                words[1, i] = w1
                words[2, i] = w2
                words[3, i] = w3
        word = words[column % 4]
        for i in range(rows):
            factors[j, i] = draw.scale if word[i] >= draw.threshold else 0


@kernel
def multiply(block, factors, keys, rows):
    """b ← b ∘ f"""
    for j in range(keys):
        for i in range(rows):
            block[j, i] *= factors[j, i]


@njit(**SUMS)
def sum_products(along, dcontext, context, first_row, rows, first_column, columns):
    """Σ_d dc_d c_d, in whatever order the compiler finds best."""
    for i in range(rows):
        drow = dcontext[first_row + i, first_column : first_column + columns]
        row = context[first_row + i, first_column : first_column + columns]
        total = along.dtype.type(0)
        for d in range(columns):
            total += drow[d] * row[d]
        along[i] = total


@kernel
def differentiate(scores, dprobabilities, log_sum_exp, along, keys, rows):
    """p = exp(s − lse), in the place of s; ds = p ∘ (dp − Σ_j p_j dp_j), in the place of dp."""
    for j in range(keys):
        for i in range(rows):
            p = exponential_flushed(scores[j, i] - log_sum_exp[i])
            dprobabilities[j, i] = p * (dprobabilities[j, i] - along[i])
            scores[j, i] = p

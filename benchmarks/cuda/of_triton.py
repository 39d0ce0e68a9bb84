"""A Triton kernel of each kind, as one writes it first: simple, and without tuning.

Pairs of functions with the reference's names and arguments, on PyTorch's tensors. Sums, statistics
and softmax are computed in float32.
"""

import torch
import triton
import triton.language as tl

PARTS = 256  # programs that each sum the gradients of some of the rows
ELEMENTS = 1024  # of one program of elementwise kernels
COLUMNS = 64  # of one program that sums down columns
QUERIES, KEYS = 64, 32  # rows of a tile of attention
ROWS, WORDS = 64, 64  # of a tile of logits
VOCABULARY_PARTS = 32  # programs that each sum dx over some of the words


@triton.jit
def gelu_new_and_slope(z):
    """z σ(2u) and its derivative; u = √(2/π) (z + 0.044715 z³)."""
    two_u = 1.5957691216057308 * z * (1 + 0.044715 * z * z)
    s = tl.sigmoid(two_u)
    slope = 1.5957691216057308 * (1 + 3 * 0.044715 * z * z)
    return z * s, s + z * s * (1 - s) * slope


@triton.jit
def bias_gelu_new_forward_kernel(x, bias, y, size, columns, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    z = tl.load(x + at, inside, 0.0).to(tl.float32)
    z += tl.load(bias + at % columns, inside, 0.0).to(tl.float32)
    value, _ = gelu_new_and_slope(z)
    tl.store(y + at, value, inside)


@triton.jit
def bias_gelu_new_backward_kernel(
    dy, x, bias, dx, partial, rows, columns, rows_a_part, BLOCK: tl.constexpr
):
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    part = tl.program_id(1)
    inside = column < columns
    shift = tl.load(bias + column, inside, 0.0).to(tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for row in range(part * rows_a_part, tl.minimum((part + 1) * rows_a_part, rows)):
        at = row * columns + column
        _, slope = gelu_new_and_slope(tl.load(x + at, inside, 0.0).to(tl.float32) + shift)
        gradient = tl.load(dy + at, inside, 0.0).to(tl.float32) * slope
        tl.store(dx + at, gradient, inside)
        total += gradient
    tl.store(partial + part * columns + column, total, inside)


def bias_gelu_new_forward(x, bias):
    y = torch.empty_like(x)
    grid = (triton.cdiv(x.numel(), ELEMENTS),)
    bias_gelu_new_forward_kernel[grid](x, bias, y, x.numel(), x.shape[-1], BLOCK=ELEMENTS)
    return y, (x, bias)


def bias_gelu_new_backward(dy, cache, into=None):
    x, bias = cache
    rows, columns, parts, rows_a_part = divided(x)
    dx, partial = torch.empty_like(x), x.new_empty((parts, columns), dtype=torch.float32)
    grid = (triton.cdiv(columns, COLUMNS), parts)
    bias_gelu_new_backward_kernel[grid](
        dy, x, bias, dx, partial, rows, columns, rows_a_part, BLOCK=COLUMNS
    )
    return dx, *summed([partial], into, x.dtype)


@triton.jit
def layer_norm_forward_kernel(
    x, bias, residual, weight, shift, y, kept, mean, inverse, columns, eps,
    FUSED: tl.constexpr, KEEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < columns
    at = row * columns + column
    total = tl.load(x + at, inside, 0.0).to(tl.float32)
    if FUSED:
        total += tl.load(bias + column, inside, 0.0).to(tl.float32)
        total += tl.load(residual + at, inside, 0.0).to(tl.float32)
    if KEEP:
        tl.store(kept + at, total, inside)
    row_mean = tl.sum(total, 0) / columns
    centred = tl.where(inside, total - row_mean, 0.0)
    inverse_deviation = 1 / tl.sqrt(tl.sum(centred * centred, 0) / columns + eps)
    tl.store(mean + row, row_mean)
    tl.store(inverse + row, inverse_deviation)
    value = centred * inverse_deviation
    value *= tl.load(weight + column, inside, 0.0).to(tl.float32)
    value += tl.load(shift + column, inside, 0.0).to(tl.float32)
    tl.store(y + at, value, inside)


@triton.jit
def layer_norm_backward_kernel(
    dy, x, mean, inverse, weight, dx, dweight, dshift, dbias, rows, columns, rows_a_part,
    FUSED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    part = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < columns
    scale = tl.load(weight + column, inside, 0.0).to(tl.float32)
    weight_total = tl.zeros([BLOCK], tl.float32)
    shift_total = tl.zeros([BLOCK], tl.float32)
    bias_total = tl.zeros([BLOCK], tl.float32)
    for row in range(part * rows_a_part, tl.minimum((part + 1) * rows_a_part, rows)):
        at = row * columns + column
        d = tl.load(dy + at, inside, 0.0).to(tl.float32)
        inverse_deviation = tl.load(inverse + row)
        value = tl.load(x + at, inside, 0.0).to(tl.float32) - tl.load(mean + row)
        value *= inverse_deviation
        g = d * scale
        along = tl.sum(g * value, 0) / columns
        gradient = (g - tl.sum(g, 0) / columns - value * along) * inverse_deviation
        tl.store(dx + at, gradient, inside)
        weight_total += d * value
        shift_total += d
        if FUSED:
            bias_total += gradient
    tl.store(dweight + part * columns + column, weight_total, inside)
    tl.store(dshift + part * columns + column, shift_total, inside)
    if FUSED:
        tl.store(dbias + part * columns + column, tl.where(inside, bias_total, 0.0), inside)


def layer_norm_of(x, bias, residual, weight, shift, eps, keep):
    """y, and what backward needs: x itself, or the sum with the residual where that is kept."""
    columns = x.shape[-1]
    rows = x.numel() // columns
    y, kept = torch.empty_like(x), torch.empty_like(x) if keep else x
    mean, inverse = x.new_empty((2, rows), dtype=torch.float32)
    fused = bias is not None
    layer_norm_forward_kernel[(rows,)](
        x, bias if fused else x, residual if fused else x, weight, shift, y, kept, mean, inverse,
        columns, eps, FUSED=fused, KEEP=keep, BLOCK=triton.next_power_of_2(columns),
        num_warps=warps_of(columns),
    )  # fmt: skip
    return y, (kept, mean, inverse, weight)


def layer_norm_gradients(dy, cache, fused):
    """dx, and the partial sums of dweight, dshift and dbias."""
    rows, columns, parts, rows_a_part = divided(dy)
    dx = torch.empty_like(dy)
    partial = dy.new_empty((3, parts, columns), dtype=torch.float32)
    layer_norm_backward_kernel[(parts,)](
        dy, *cache, dx, *partial, rows, columns, rows_a_part,
        FUSED=fused, BLOCK=triton.next_power_of_2(columns), num_warps=warps_of(columns),
    )  # fmt: skip
    return dx, *partial


def layer_norm_forward(x, weight, bias, eps):
    return layer_norm_of(x, None, None, weight, bias, eps, keep=False)


def layer_norm_backward(dy, cache, into=None):
    dx, dweight, dbias, _ = layer_norm_gradients(dy, cache, fused=False)
    return dx, *summed([dweight, dbias], into, dy.dtype)


def bias_dropout_residual_layer_norm_forward(x, bias, residual, weight, shift, eps, keep=True):
    return layer_norm_of(x, bias, residual, weight, shift, eps, keep)


def bias_dropout_residual_layer_norm_backward(dy, cache, into=None):
    dx, dweight, dshift, dbias = layer_norm_gradients(dy, cache, fused=True)
    dbias, dweight, dshift = summed([dbias, dweight, dshift], into, dy.dtype)
    return dx, dbias, dx, dweight, dshift


def warps_of(columns):
    """Warps of a program that holds a row."""
    return min(16, max(1, triton.next_power_of_2(columns) // 512))


def divided(x):
    """Rows, columns, and into how many parts of how many rows they are divided."""
    columns = x.shape[-1]
    rows = x.numel() // columns
    rows_a_part = triton.cdiv(rows, PARTS)
    return rows, columns, triton.cdiv(rows, rows_a_part), rows_a_part


def summed(partials, into, dtype):
    """The sums of the parts; into their slots, where there are any."""
    sums = [partial.sum(dim=0).to(dtype) for partial in partials]
    return (
        sums if into is None else [slot.add_(each) for slot, each in zip(into, sums, strict=True)]
    )


@triton.jit
def tile(base, row, rows, stride, D: tl.constexpr):
    """Rows of a matrix, or of one head; zeros beyond the last."""
    at = row[:, None] * stride + tl.arange(0, D)[None, :]
    return tl.load(base + at, row[:, None] < rows, 0.0)


@triton.jit
def head_of(qkv, S, A, D: tl.constexpr):
    """The sequence and the head of a program, and where the queries of that head begin."""
    head, sequence = tl.program_id(1) % A, tl.program_id(1) // A
    return sequence, head, qkv + sequence * S * 3 * A * D + head * D


@triton.jit
def keys_and_values(base, column, S, A, D: tl.constexpr):
    """Tiles of the keys and of the values of one head."""
    stride = 3 * A * D
    return tile(base + A * D, column, S, stride, D), tile(base + 2 * A * D, column, S, stride, D)


@triton.jit
def queries_and_gradients(
    dcontext, base, log_sum_exp, delta, row, sequence, head, S, A, D: tl.constexpr
):
    """A tile of queries and of dcontext, and for each row log Σ exp and Σ dcontext ∘ context."""
    query = tile(base, row, S, 3 * A * D, D)
    dc = tile(dcontext + sequence * S * A * D + head * D, row, S, A * D, D)
    at = tl.program_id(1) * S + row
    return query, dc, tl.load(log_sum_exp + at, row < S, 0.0), tl.load(delta + at, row < S, 0.0)


@triton.jit
def visible(mask, sequence, key, S, MASKED: tl.constexpr):
    """Which keys are there, and attended to."""
    inside = key < S
    if MASKED:
        inside = inside & (tl.load(mask + sequence * S + key, inside, 0) != 0)
    return inside


@triton.jit
def scores_of(query, key, scale):
    return tl.dot(query, tl.trans(key), input_precision="ieee") * scale


@triton.jit
def weights_and_slopes(query, key, value, dc, lse, d, there, scale):
    """A tile of attention weights, and the gradient of its scores before they were scaled."""
    p = tl.where(there, tl.exp(scores_of(query, key, scale) - lse[:, None]), 0.0)
    return p, p * (tl.dot(dc, tl.trans(value), input_precision="ieee") - d[:, None]) * scale


@triton.jit
def attention_forward_kernel(
    qkv, mask, context, log_sum_exp, S, A, scale,
    MASKED: tl.constexpr, D: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    sequence, head, base = head_of(qkv, S, A, D)
    row = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    query = tile(base, row, S, 3 * A * D, D)
    largest = tl.full([QUERIES], -1e30, tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    out = tl.zeros([QUERIES, D], tl.float32)
    for first in range(0, S, KEYS):
        column = first + tl.arange(0, KEYS)
        key, value = keys_and_values(base, column, S, A, D)
        is_visible = visible(mask, sequence, column, S, MASKED)
        scores = tl.where(is_visible[None, :], scores_of(query, key, scale), -1e30)
        now = tl.maximum(largest, tl.max(scores, 1))
        p = tl.where(is_visible[None, :], tl.exp(scores - now[:, None]), 0.0)
        shrink = tl.exp(largest - now)
        out = out * shrink[:, None] + tl.dot(p.to(value.dtype), value, input_precision="ieee")
        total = total * shrink + tl.sum(p, 1)
        largest = now
    at = (sequence * S + row)[:, None] * (A * D) + head * D + tl.arange(0, D)[None, :]
    tl.store(context + at, out / total[:, None], row[:, None] < S)
    tl.store(log_sum_exp + tl.program_id(1) * S + row, largest + tl.log(total), row < S)


@triton.jit
def attention_backward_query_kernel(
    dcontext, qkv, mask, log_sum_exp, delta, dqkv, S, A, scale,
    MASKED: tl.constexpr, D: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    sequence, head, base = head_of(qkv, S, A, D)
    row = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    query, dc, lse, d = queries_and_gradients(
        dcontext, base, log_sum_exp, delta, row, sequence, head, S, A, D
    )
    out = tl.zeros([QUERIES, D], tl.float32)
    for first in range(0, S, KEYS):
        column = first + tl.arange(0, KEYS)
        key, value = keys_and_values(base, column, S, A, D)
        there = visible(mask, sequence, column, S, MASKED)[None, :]
        _, ds = weights_and_slopes(query, key, value, dc, lse, d, there, scale)
        out += tl.dot(ds.to(key.dtype), key, input_precision="ieee")
    at = (sequence * S + row)[:, None] * (3 * A * D) + head * D + tl.arange(0, D)[None, :]
    tl.store(dqkv + at, out, row[:, None] < S)


@triton.jit
def attention_backward_key_kernel(
    dcontext, qkv, mask, log_sum_exp, delta, dqkv, S, A, scale,
    MASKED: tl.constexpr, D: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    sequence, head, base = head_of(qkv, S, A, D)
    column = tl.program_id(0) * KEYS + tl.arange(0, KEYS)
    key, value = keys_and_values(base, column, S, A, D)
    is_visible = visible(mask, sequence, column, S, MASKED)
    dkey, dvalue = tl.zeros([KEYS, D], tl.float32), tl.zeros([KEYS, D], tl.float32)
    for first in range(0, S, QUERIES):
        row = first + tl.arange(0, QUERIES)
        query, dc, lse, d = queries_and_gradients(
            dcontext, base, log_sum_exp, delta, row, sequence, head, S, A, D
        )
        there = (row[:, None] < S) & is_visible[None, :]
        p, ds = weights_and_slopes(query, key, value, dc, lse, d, there, scale)
        dvalue += tl.dot(tl.trans(p.to(dc.dtype)), dc, input_precision="ieee")
        dkey += tl.dot(tl.trans(ds.to(query.dtype)), query, input_precision="ieee")
    at = (sequence * S + column)[:, None] * (3 * A * D) + head * D + tl.arange(0, D)[None, :]
    tl.store(dqkv + A * D + at, dkey, column[:, None] < S)
    tl.store(dqkv + 2 * A * D + at, dvalue, column[:, None] < S)


def attention_forward(query_key_value, num_attention_heads, attention_mask=None):
    B, S, columns = query_key_value.shape
    A, D = num_attention_heads, columns // (3 * num_attention_heads)
    context = query_key_value.new_empty((B, S, A * D))
    log_sum_exp = query_key_value.new_empty((B * A, S), dtype=torch.float32)
    masked = attention_mask is not None
    mask = attention_mask.view(torch.uint8) if masked else query_key_value
    settings = {"MASKED": masked, "D": D, "QUERIES": QUERIES, "KEYS": KEYS}
    grid = (triton.cdiv(S, QUERIES), B * A)
    attention_forward_kernel[grid](
        query_key_value, mask, context, log_sum_exp, S, A, D**-0.5, **settings
    )
    return context, (query_key_value, mask, context, log_sum_exp, settings)


def attention_backward(dcontext, cache):
    query_key_value, mask, context, log_sum_exp, settings = cache
    B, S, columns = query_key_value.shape
    D = settings["D"]
    A = columns // (3 * D)
    product = (dcontext.float() * context.float()).view(B, S, A, D).sum(dim=-1)
    delta = product.transpose(1, 2).contiguous()
    gradient = torch.empty_like(query_key_value)
    arguments = (dcontext, query_key_value, mask, log_sum_exp, delta, gradient, S, A, D**-0.5)
    attention_backward_query_kernel[(triton.cdiv(S, QUERIES), B * A)](*arguments, **settings)
    attention_backward_key_kernel[(triton.cdiv(S, KEYS), B * A)](*arguments, **settings)
    return gradient


@triton.jit
def logits_of(x, weight, bias, row, word, rows, V, E: tl.constexpr):
    """Tiles of x and W, and z = x Wᵀ + b; −10³⁰ where there is no word."""
    x, weight = tile(x, row, rows, E, E), tile(weight, word, V, E, E)
    shift = tl.load(bias + word, word < V, 0.0).to(tl.float32)
    logits = tl.dot(x, tl.trans(weight), input_precision="ieee") + shift[None, :]
    return x, weight, tl.where(word[None, :] < V, logits, -1e30)


@triton.jit
def slopes_of(x, weight, bias, labels, log_sum_exp, row, word, rows, V, E: tl.constexpr):
    """Tiles of x and W, and softmax(z) − one-hot(label); zeros beyond the last row and word."""
    x, weight, logits = logits_of(x, weight, bias, row, word, rows, V, E)
    label = tl.load(labels + row, row < rows, 0)
    p = tl.exp(logits - tl.load(log_sum_exp + row, row < rows, 0.0)[:, None])
    slope = p - tl.where(word[None, :] == label[:, None], 1.0, 0.0)
    return x, weight, tl.where(row[:, None] < rows, slope, 0.0)


@triton.jit
def linear_cross_entropy_forward_kernel(
    x, weight, bias, labels, partial, own, rows, V,
    E: tl.constexpr, ROWS: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    word = tl.program_id(1) * WORDS + tl.arange(0, WORDS)
    _, _, logits = logits_of(x, weight, bias, row, word, rows, V, E)
    largest = tl.max(logits, 1)
    total = tl.sum(tl.exp(logits - largest[:, None]), 1)
    tl.store(partial + tl.program_id(1) * rows + row, largest + tl.log(total), row < rows)
    label = tl.load(labels + row, row < rows, -1)
    is_own = word[None, :] == label[:, None]
    is_here = (row < rows) & (label // WORDS == tl.program_id(1))
    tl.store(own + row, tl.sum(tl.where(is_own, logits, 0.0), 1), is_here)


@triton.jit
def linear_cross_entropy_backward_x_kernel(
    dloss, x, weight, bias, labels, log_sum_exp, partial, rows, V, words_a_part,
    E: tl.constexpr, ROWS: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    part = tl.program_id(1)
    dx = tl.zeros([ROWS, E], tl.float32)
    for first in range(part * words_a_part, tl.minimum((part + 1) * words_a_part, V), WORDS):
        word = first + tl.arange(0, WORDS)
        _, w, ds = slopes_of(x, weight, bias, labels, log_sum_exp, row, word, rows, V, E)
        dx += tl.dot(ds.to(w.dtype), w, input_precision="ieee")
    at = (part * rows + row)[:, None] * E + tl.arange(0, E)[None, :]
    tl.store(partial + at, dx * (tl.load(dloss).to(tl.float32) / rows), row[:, None] < rows)


@triton.jit
def linear_cross_entropy_backward_weight_kernel(
    dloss, x, weight, bias, labels, log_sum_exp, dweight, dbias, rows, V,
    E: tl.constexpr, ROWS: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    word = tl.program_id(0) * WORDS + tl.arange(0, WORDS)
    inside = word < V
    weight_total, bias_total = tl.zeros([WORDS, E], tl.float32), tl.zeros([WORDS], tl.float32)
    for first in range(0, rows, ROWS):
        row = first + tl.arange(0, ROWS)
        x_rows, _, ds = slopes_of(x, weight, bias, labels, log_sum_exp, row, word, rows, V, E)
        weight_total += tl.dot(tl.trans(ds.to(x_rows.dtype)), x_rows, input_precision="ieee")
        bias_total += tl.sum(ds, 0)
    scale = tl.load(dloss).to(tl.float32) / rows
    before = tl.load(dbias + word, inside, 0.0).to(tl.float32)
    tl.store(dbias + word, before + bias_total * scale, inside)
    at = word[:, None] * E + tl.arange(0, E)[None, :]
    before = tl.load(dweight + at, inside[:, None], 0.0).to(tl.float32)
    tl.store(dweight + at, before + weight_total * scale, inside[:, None])


def linear_cross_entropy_forward(x, weight, bias, labels):
    """Every row has a label; none of the logits is kept."""
    (rows, E), V = x.shape, len(weight)
    settings = {"E": E, "ROWS": ROWS, "WORDS": WORDS}
    blocks = triton.cdiv(V, WORDS)
    partial = x.new_empty((blocks, rows), dtype=torch.float32)  # log Σ exp of each block's words
    own = x.new_empty(rows, dtype=torch.float32)  # the labels' logits
    linear_cross_entropy_forward_kernel[(triton.cdiv(rows, ROWS), blocks)](
        x, weight, bias, labels, partial, own, rows, V, **settings
    )
    log_sum_exp = partial.logsumexp(dim=0)
    loss = (log_sum_exp - own).mean().to(x.dtype)
    return loss, (x, weight, bias, labels, log_sum_exp, settings)


def linear_cross_entropy_backward(dloss, cache, into=None):
    *given, settings = cache
    x, weight, bias, *_ = given
    (rows, E), V = x.shape, len(weight)
    # So many rows are too few for a GPU: the vocabulary is divided too.
    words_a_part = triton.cdiv(triton.cdiv(V, VOCABULARY_PARTS), WORDS) * WORDS
    parts = triton.cdiv(V, words_a_part)
    partial = x.new_empty((parts, rows, E), dtype=torch.float32)
    linear_cross_entropy_backward_x_kernel[(triton.cdiv(rows, ROWS), parts)](
        dloss, *given, partial, rows, V, words_a_part, **settings
    )
    dweight, dbias = into or (torch.zeros_like(weight), torch.zeros_like(bias))
    linear_cross_entropy_backward_weight_kernel[(triton.cdiv(V, WORDS),)](
        dloss, *given, dweight, dbias, rows, V, **settings
    )
    return *summed([partial], None, x.dtype), dweight, dbias


FUNCTIONS = {
    "bias_gelu_new": (bias_gelu_new_forward, bias_gelu_new_backward),
    "layer_norm": (layer_norm_forward, layer_norm_backward),
    "bias_dropout_residual_layer_norm": (
        bias_dropout_residual_layer_norm_forward,
        bias_dropout_residual_layer_norm_backward,
    ),
    "attention": (attention_forward, attention_backward),
    "linear_cross_entropy": (linear_cross_entropy_forward, linear_cross_entropy_backward),
}

"""What the tests of the CUDA kernels share: types, bounds, and one check for each function."""

import os
import subprocess

import ml_dtypes
import numpy as np
import pytest
from functions_support import layer_norm_condition
from scipy.special import logsumexp

from albert_np.functions.activations import CUBIC, TWO_ROOT_2_OVER_PI
from albert_np.functions.attention import attention_backward, attention_forward
from albert_np.functions.dropout import Dropout, keep_mask
from albert_np.functions.embedding import embedding_backward, embedding_forward
from albert_np.functions.fused import (
    BiasDropoutResidualLayerNormCache,
    bias_dropout_residual_layer_norm_backward,
    bias_gelu_new_backward,
    bias_gelu_new_forward,
    linear_cross_entropy_backward,
    linear_cross_entropy_forward,
)
from albert_np.functions.layer_norm import layer_norm_backward, layer_norm_forward
from albert_np.functions.packing import packed_batch
from albert_np.kernels import cuda
from albert_np.kernels.cuda.arrays import wide
from albert_np.kernels.cuda.host import COMPILER, KERNEL_OPTIONS, OPTIONS, HostExecutor
from albert_np.kernels.cuda.layer_norm import layer_norm_output


def compiler_fits():
    """Whether the compiler has what the machine on the CPU is made of: g++ 12 on Linux has."""
    command = [COMPILER, *OPTIONS, *KERNEL_OPTIONS, "-x", "c++", "-", "-o", os.devnull, "-c"]
    needed = "#include <sys/mman.h>\n_Float16 half(float x) { return x; }\n"
    try:
        return subprocess.run(command, input=needed, text=True, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


NEEDS_COMPILER = pytest.mark.skipif(not compiler_fits(), reason="needs g++ 12 or later, on Linux")

# `.ci/run` sets it: all shapes and all types, where the plain run takes a sample.
ALL = bool(os.environ.get("ALBERT_NP_ALL_KERNELS"))

FLOAT16, FLOAT32, FLOAT64 = map(np.dtype, (np.float16, np.float32, np.float64))
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [FLOAT16, BFLOAT16, FLOAT32, FLOAT64]
FEW_UNITS = 8  # roundings of exp and of the operations around it
TF32_ROUNDOFF = 2.0**-11  # of 11 significant bits


def sample(everything, some):
    """All of a list in the full run, and some of it in the plain one."""
    return everything if ALL else some


def random(rng, shape, dtype, scale=1.0):
    """Normal numbers, rounded to the type; read-only, as no kernel may write into its input."""
    x = (scale * rng.standard_normal(shape)).astype(dtype)
    x.flags.writeable = False
    return x


def exact(*arrays):
    return tuple(array.astype(np.float64) for array in arrays)


def assert_rounded(actual, expected, dtype, kept, units, terms):
    """|actual − expected| ≤ ½ eps · (|result| + kept) + units · wide eps · terms.

    The first part is the noise floor of the type: half a unit in the last place for the rounding of
    the result, and for that of what is `kept` between the passes, as far as it reaches the result.
    All else is computed in the wide type: `terms` is the sum of the absolute values of the terms
    that the result is made of, `units` the number of roundings that each goes through.
    """
    assert actual.shape == np.shape(expected) and actual.dtype == dtype
    info = ml_dtypes.finfo(dtype)
    eps, tiny = float(info.eps), float(info.tiny)
    result = np.maximum(np.abs(actual.astype(np.float64)), np.abs(expected))
    bound = eps / 2 * (result + kept + tiny) + units * np.finfo(wide(dtype)).eps * terms
    error = np.abs(actual.astype(np.float64) - expected)
    assert np.all(error <= bound), f"off by {np.max(error / bound)} times the bound"


def assert_sums(actual, before, expected, dtype, kept, units, terms):
    """A gradient that was added to a slot, or that is one of its own (before = 0)."""
    total = expected + before
    assert_rounded(actual, total, dtype, kept, units, terms + np.abs(before))


# ---- bias + gelu_new --------------------------------------------------------------------------


def check_gelu_new(executor, dtype, rows, columns, version=None, seed=0):
    """Forward, backward, the output again, and a slot that the gradient is added to."""
    functions = cuda.functions(executor)
    rng = np.random.default_rng(seed)
    x, dy = random(rng, (rows, columns), dtype, 3), random(rng, (rows, columns), dtype)
    bias = random(rng, columns, dtype)
    y, cache = functions["bias_gelu_new_forward"](x, bias, version=version)
    np.testing.assert_array_equal(functions["bias_gelu_new_output"](cache), y)
    slot = random(rng, columns, dtype).copy()
    (before,) = exact(slot)
    dx, dbias = functions["bias_gelu_new_backward"](dy, cache, version=version)
    _, into = functions["bias_gelu_new_backward"](dy, cache, into=(slot,), version=version)
    assert into is slot

    x, bias, dy = exact(x, bias, dy)
    expected, z = bias_gelu_new_forward(x, bias)
    expected_dx, expected_dbias = bias_gelu_new_backward(dy, z)
    # exp(−2u) multiplies the error of its argument by 2u; z is a sum, and moves all by 2u′.
    two_u = np.abs(TWO_ROOT_2_OVER_PI * z * (1 + CUBIC * z * z))
    slope = TWO_ROOT_2_OVER_PI * (1 + 3 * CUBIC * z * z) * (np.abs(x) + np.abs(bias))
    condition = 1 + two_u + slope
    s = 1 / (1 + np.exp(-np.sign(z) * two_u))
    # Where exp(−2u) overflows, σ is 0 and not a number below the smallest normal one.
    info = np.finfo(wide(dtype))
    s += info.tiny / info.eps
    y_terms = s * (np.abs(x) + np.abs(bias)) * condition
    dx_terms = np.abs(dy) * s * condition * condition
    assert_rounded(y, expected, dtype, 0, FEW_UNITS, y_terms)
    assert_rounded(dx, expected_dx, dtype, 0, FEW_UNITS, dx_terms)
    sums = dtype, 0, FEW_UNITS + rows, dx_terms.sum(axis=0)
    assert_sums(dbias, 0, expected_dbias, *sums)
    assert_sums(slot, before, expected_dbias, *sums)


# ---- layer norm -------------------------------------------------------------------------------

LAST_FORWARD = 2  # the versions of its forward kernel are fewer than those of its backward one


def dropout_of(shape, packed, seed):
    """A dropout, and where it is of a packed batch, the shape of that."""
    mask = np.random.default_rng(seed).random(shape[:2]) < 0.7
    where = packed_batch(mask) if packed else None
    tokens = (len(where.sequences),) if packed else shape[:2]
    return Dropout(0.25, 2**40 + seed, 5, where), (*tokens, *shape[2:])


def check_layer_norm(executor, dtype, shape, version=None, dropout=True, packed=False, seed=0):
    """The fused pair: with dropout or without, padded or packed.

    What is kept is the rounded sum; all else is judged as the layer norm of that.
    """
    functions = cuda.functions(executor)
    rng = np.random.default_rng(seed)
    drop, shape = dropout_of(shape, packed, seed)
    drop = drop if dropout else None
    forward_version = None if version is None else min(version, LAST_FORWARD)
    columns, eps = shape[-1], 1e-12
    x, residual, dy = (random(rng, shape, dtype) for _ in range(3))
    bias, weight, shift = (random(rng, columns, dtype) for _ in range(3))
    slots = [random(rng, columns, dtype).copy() for _ in range(3)]
    before = exact(*slots)

    name = "bias_dropout_residual_layer_norm"
    y, cache = functions[f"{name}_forward"](
        x, bias, residual, weight, shift, eps, drop, version=forward_version
    )
    np.testing.assert_array_equal(functions[f"{name}_output"](cache), y)
    gradients = functions[f"{name}_backward"](dy, cache, version=version)
    into = functions[f"{name}_backward"](dy, cache, into=tuple(slots), version=version)
    assert all(a is b for a, b in zip((into[1], *into[3:]), slots, strict=True))

    x, bias, residual, weight, shift, dy = exact(x, bias, residual, weight, shift, dy)
    scales = dropout_scales(shape, drop)
    sum_terms = np.abs(residual) + (np.abs(x) + np.abs(bias)) * scales
    kept = cache.layer_norm
    assert_rounded(kept.x, residual + (x + bias) * scales, dtype, 0, FEW_UNITS, sum_terms)
    reference = _assert_layer_norm(y, kept, (weight, shift), eps, dtype)
    reference = BiasDropoutResidualLayerNormCache(drop, reference)
    expected = bias_dropout_residual_layer_norm_backward(dy, reference)
    terms = _layer_norm_terms(dy, *exact(kept.x), weight, eps)
    rows = x.size // columns
    units = FEW_UNITS + columns
    for dresidual in (gradients[2], into[2]):
        assert_rounded(dresidual, expected[2], dtype, 0, units, terms["dx"])
    terms["dx"] = terms["dx"] * scales  # from here on those of x, which db is the sum of
    for dx in (gradients[0], into[0]):
        assert_rounded(dx, expected[0], dtype, 0, units, terms["dx"])
    for i, (name, place) in enumerate((("dx", 1), ("dweight", 3), ("dshift", 4))):
        total = terms[name].reshape(-1, columns).sum(axis=0)
        bound = dtype, 0, units + rows, total
        assert_sums(gradients[place], 0, expected[place], *bound)
        assert_sums(slots[i], before[i], expected[place], *bound)


def dropout_scales(shape, dropout):
    """What dropout multiplies each element by."""
    if dropout is None:
        return np.ones(shape)
    return keep_mask(shape, dropout) / (1 - dropout.probability)


def check_layer_norm_alone(executor, dtype, shape, version=None, mean=0.0, seed=0):
    """`layer_norm_forward`, its backward pass, the output again, and slots for the gradients."""
    functions = cuda.functions(executor)
    rng = np.random.default_rng(seed)
    forward_version = None if version is None else min(version, LAST_FORWARD)
    columns, eps = shape[-1], 1e-5
    x, dy = random(rng, shape, dtype) + dtype.type(mean), random(rng, shape, dtype)
    x.flags.writeable = False
    weight, bias = random(rng, columns, dtype), random(rng, columns, dtype)
    slots = tuple(random(rng, columns, dtype).copy() for _ in range(2))
    before = exact(*slots)
    y, cache = functions["layer_norm_forward"](x, weight, bias, eps, version=forward_version)
    assert cache.x is x
    np.testing.assert_array_equal(layer_norm_output(executor, cache, forward_version), y)
    dx, *sums = functions["layer_norm_backward"](dy, cache, version=version)
    dx_again, *into = functions["layer_norm_backward"](dy, cache, into=slots, version=version)
    assert into[0] is slots[0] and into[1] is slots[1]
    np.testing.assert_array_equal(dx_again, dx)

    x, dy, weight, bias = exact(x, dy, weight, bias)
    reference = _assert_layer_norm(y, cache, (weight, bias), eps, dtype)
    expected = layer_norm_backward(dy, reference)
    terms = _layer_norm_terms(dy, x, weight, eps)
    units, rows = FEW_UNITS + columns, x.size // columns
    assert_rounded(dx, expected[0], dtype, 0, units, terms["dx"])
    for i, name in enumerate(("dweight", "dshift")):
        total = terms[name].reshape(-1, columns).sum(axis=0)
        assert_sums(sums[i], 0, expected[i + 1], dtype, 0, units + rows, total)
        assert_sums(slots[i], before[i], expected[i + 1], dtype, 0, units + rows, total)


def _assert_layer_norm(y, cache, parameters, eps, dtype):
    """y of layer norm and the rows' statistics, from the x that is kept; the reference's cache."""
    weight, shift = parameters
    (x,) = exact(cache.x)
    expected, reference = layer_norm_forward(x, weight, shift, eps)
    condition = layer_norm_condition(x, eps)
    units = FEW_UNITS + x.shape[-1]
    assert_rounded(y, expected, dtype, 0, units, (np.abs(weight) * condition) + np.abs(shift))
    mean, terms = (each.mean(axis=-1, keepdims=True) for each in (x, np.abs(x)))
    assert_rounded(cache.mean, mean, wide(dtype), 0, units, terms)
    expected_inverse = reference.inverse_deviation
    assert_rounded(
        cache.inverse_deviation,
        expected_inverse,
        wide(dtype),
        0,
        units,
        expected_inverse * condition.max(axis=-1, keepdims=True),
    )
    return reference


def _layer_norm_terms(dy, total, weight, eps):
    """Absolute terms of each element's gradients."""
    _, cache = layer_norm_forward(total, weight, weight, eps)
    condition = layer_norm_condition(total, eps)
    normalized, inverse = np.abs(cache.normalized), cache.inverse_deviation
    g = np.abs(dy * weight)
    along = (g * normalized).mean(axis=-1, keepdims=True)
    return {
        "dx": (g + g.mean(axis=-1, keepdims=True) + normalized * along) * inverse * condition,
        "dweight": np.abs(dy) * condition,
        "dshift": np.abs(dy),
    }


# ---- attention --------------------------------------------------------------------------------


def check_attention(
    executor,
    dtype,
    batch,
    heads,
    head_size,
    version=None,
    masked=True,
    packed=False,
    dropout=True,
    rounded_weights=False,
    operand_roundoff=0.0,
    gaps=True,
    seed=0,
):
    """Context and gradients, of a padded batch or a packed one.

    The last sequence has every key masked; the first of several has, where padding stays, its
    first half masked, so that whole tiles come before the first key that counts. `rounded_weights`:
    the kernel multiplies probabilities and gradients of scores that are rounded to the type, as
    tensor cores take them. `operand_roundoff`: how far all that a product multiplies is rounded,
    where that is more than the type does. `gaps`: masked tokens stand between others.
    """
    functions = cuda.functions(executor)
    rng = np.random.default_rng(seed)
    B, S = batch
    x = random(rng, (B, S, 3 * heads * head_size), dtype)
    dcontext = random(rng, (B, S, heads * head_size), dtype)
    mask = None
    if masked or packed:
        mask = rng.random((B, S)) < 0.8 if gaps else np.arange(S) < 0.8 * S * np.ones((B, 1))
        if not packed:
            mask[0, : S // 2] = False
        mask[-1] = False
    drop = Dropout(0.2, 2**50 + seed, 6) if dropout else None
    x64, dcontext64 = exact(x, dcontext)
    where = packed_batch(mask) if packed else None
    places = where.places if packed else slice(None)
    rows_mask = None if packed and mask[places].all() else mask if mask is None else mask[places]
    name = "attention_forward"
    actual, cache = functions[name](x[places], heads, rows_mask, drop, where, version=version)

    expected, reference = attention_forward(x64, heads, mask, drop)
    units = FEW_UNITS + S + head_size
    if packed:
        dcontext64 = dcontext64 * where.real[..., None]
    rounding = rounded_weights, operand_roundoff, float(ml_dtypes.finfo(dtype).eps)
    bounds = _attention_bounds(dcontext64, reference, expected, *rounding)
    kept, terms = (bound[places] for bound in bounds[:2])
    assert_rounded(actual, expected[places], dtype, kept, units, terms)
    log_sum_exp, terms = _log_sum_exp(reference, mask)
    ours = np.moveaxis(cache.log_sum_exp, 0, -1).reshape(*actual.shape[:-1], heads)
    terms = terms[places]
    kept = operand_kept(2, terms, operand_roundoff, np.finfo(wide(dtype)).eps)
    assert_rounded(ours, log_sum_exp[places], wide(dtype), kept, units, terms)
    gradient = functions["attention_backward"](dcontext[places], cache, version=version)
    wanted = attention_backward(dcontext64, reference)[places]
    kept, terms = (bound[places] for bound in bounds[2:])
    assert_rounded(gradient, wanted, dtype, kept, units, terms)


def check_copies_of_boxes(executor, dtype, seed=0, **kind):
    """Version 4, whose last tile holds the first rows of the next sequence, infinite or not."""
    shape = {"batch": (2, 200), "heads": 1, "head_size": 16, "version": 4}
    check_attention(executor, dtype, **shape, **kind, rounded_weights=True, seed=seed)
    functions = cuda.functions(executor)
    rng = np.random.default_rng(seed)
    x, dcontext = random(rng, (2, 100, 48), dtype).copy(), random(rng, (2, 100, 16), dtype).copy()
    results = []
    for next_one in (0, np.inf, np.nan):
        x[1] = dcontext[1] = next_one
        context, cache = functions["attention_forward"](x, 1, version=4)
        gradient = functions["attention_backward"](dcontext, cache, version=4)
        results.append([context[0].astype(np.float64), gradient[0].astype(np.float64)])
    for result in results[1:]:
        np.testing.assert_array_equal(result[0], results[0][0])
        np.testing.assert_array_equal(result[1], results[0][1])


class OnDevice:
    """Numbers that the kernels read, and that nobody looks at before."""

    def __init__(self, numbers):
        self.numbers = np.array(numbers)
        self.shape = self.numbers.shape

    def astype(self, *_, **__):
        return self

    def __array__(self, *_, **__):
        return self.numbers


# Of so many tokens in a padded batch of shape (3, 4), each wrong in one way; then any numbers.
WRONG_OFFSETS = (
    (12, (1, 4, 8, 12)),
    (12, (0, 4, 8, 11)),
    (10, (0, 5, 6, 10)),
    (7, (0, 1, 2, 7)),
    (8, (0, 4, 4, 8)),
    (7, (0, 4, 3, 7)),
    (8, (0, -3, 1, 900)),
    (8, (np.iinfo(np.int64).min, 4, np.iinfo(np.int64).max, 8)),
)


def check_wrong_offsets(executor, version):
    """No number of the context is one, and none of the gradient, whatever was right in between."""
    functions = cuda.functions(executor)
    executor.empty = executor.zeros  # what nothing is written to is a number
    dtype, rng = FLOAT32 if version < 3 else FLOAT16, np.random.default_rng(0)
    right = packed_batch(np.ones((3, 4), bool))
    for tokens, offsets in WRONG_OFFSETS:
        x, dcontext = (random(rng, (tokens, n * 16), dtype) for n in (3, 1))
        sequences, columns = right.sequences[:tokens], right.columns[:tokens]
        wrong = right._replace(offsets=OnDevice(offsets), sequences=sequences, columns=columns)
        drop = Dropout(0.5, 1, 2)
        context, cache = functions["attention_forward"](x, 2, None, drop, wrong, version=version)
        gradient = functions["attention_backward"](dcontext, cache, version=version)
        assert np.isnan(context).all() and np.isnan(gradient).all()


def _log_sum_exp(reference, mask):
    """Of each row of scores, shape (B, S, A), and the absolute terms of its largest score."""
    query, key = reference.scores
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    terms = np.abs(query) @ np.abs(key).swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    if mask is not None:
        masked = ~mask[:, None, None, :] & mask.any(axis=-1)[:, None, None, None]
        scores = np.where(masked, -np.inf, scores)
        scores = scores * mask.any(axis=-1)[:, None, None, None]
    result = logsumexp(scores, axis=-1)
    return tuple(np.moveaxis(y, 1, -1) for y in (result, terms.max(axis=-1) + np.abs(result) + 1))


def operand_kept(roundings, condition, roundoff, eps):
    """How far roundings of what is multiplied reach a result, relative to its terms, in eps / 2.

    Both sides of each product are off by a factor of 1 + u at most, u = `roundoff`. The score of
    one query and key is then off by 2u + u² of its absolute terms, and so is L, by those of the
    largest; their exponential p by twice that of the largest: of c = p̃ v, whose two sides are
    rounded as well, each term by a factor of exp(2u (1 + u) condition), condition = 1 + 2 largest.
    The same holds of dv = p̃ᵀ dc, and of δ = dc c. In ds = p (dp − δ) and its product with k or q
    the factors of p, of δ and of two more roundings meet: exp(4u (1 + u) condition).
    """
    return np.expm1(roundings * roundoff * (1 + roundoff) * condition) / (eps / 2)


def _attention_bounds(dcontext, reference, context, rounded_weights, operand_roundoff, eps):
    """How far roundings to the type reach the context, its absolute terms; and the gradient's."""
    query, key = map(np.abs, reference.scores)
    value = np.abs(reference.attend.context.value)
    B, A, S, D = query.shape
    p, weights = np.abs(reference.attend.softmax), reference.probabilities

    def split(y):
        return np.abs(y).reshape(B, S, A, D).transpose(0, 2, 1, 3)

    def merge(y):
        return y.transpose(0, 2, 1, 3).reshape(B, S, A * D)

    # A score's error multiplies its probability, and the sum that all are divided by.
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(D)
    condition = 1 + 2 * scores.max(axis=-1, keepdims=True)

    def reach(roundings):
        return operand_kept(roundings, condition, operand_roundoff, eps)

    kept = weights @ value * rounded_weights + reach(2) * (weights @ value)
    terms = condition * (weights @ value)

    dc = split(dcontext)
    keep = np.where(p > 0, weights / np.where(p > 0, p, 1), 0)
    dp = dc @ value.swapaxes(-1, -2) * keep
    delta = (dc * split(context)).sum(axis=-1, keepdims=True)  # of the rounded context
    total = (p * dp).sum(axis=-1, keepdims=True)
    ds_terms = p * (dp + total) * condition
    ds_kept = p * (delta + (rounded_weights + reach(4)) * (dp + total))
    scale = 1 / np.sqrt(D)

    def gradients(ds, w):
        parts = ds @ key * scale, ds.swapaxes(-1, -2) @ query * scale, w.swapaxes(-1, -2) @ dc
        return np.concatenate([merge(part) for part in parts], axis=-1)

    return (
        merge(kept),
        merge(terms),
        gradients(ds_kept, weights * (rounded_weights + reach(2))),
        gradients(ds_terms, weights * condition),
    )


# ---- the linear map ---------------------------------------------------------------------------


def check_linear(executor, dtype, rows, outputs=140, size=12, seed=0):
    """Forward, backward, and slots that the gradients are added to."""
    functions = cuda.functions(executor)
    rng = np.random.default_rng(seed)
    x, weight = random(rng, (rows, size), dtype), random(rng, (outputs, size), dtype)
    bias, dy = random(rng, outputs, dtype), random(rng, (rows, outputs), dtype)
    y, cache = functions["linear_forward"](x, weight, bias)
    dx, dweight, dbias = functions["linear_backward"](dy, cache)
    slots = random(rng, weight.shape, dtype).copy(), random(rng, outputs, dtype).copy()
    before = exact(*slots)
    _, *into = functions["linear_backward"](dy, cache, into=slots)
    assert into[0] is slots[0] and into[1] is slots[1]

    x, weight, bias, dy = exact(x, weight, bias, dy)
    absolute = [np.abs(array) for array in (x, weight, bias, dy)]
    expected = x @ weight.T + bias, dy @ weight, dy.T @ x, dy.sum(axis=0)
    ax, aweight, abias, ady = absolute
    terms = ax @ aweight.T + abias, ady @ aweight, ady.T @ ax, ady.sum(axis=0)
    units = size, outputs, rows, rows
    for actual, *rest in zip((y, dx, dweight, dbias), expected, units, terms, strict=True):
        wanted, additions, term = rest
        assert_rounded(actual, wanted, dtype, 0, FEW_UNITS + additions, term)
    for slot, held, wanted, term in zip(slots, before, expected[2:], terms[2:], strict=True):
        assert_sums(slot, held, wanted, dtype, 0, FEW_UNITS + rows, term)


# ---- decoder and cross-entropy ----------------------------------------------------------------


def check_cross_entropy(executor, dtype, rows, vocabulary, size=8, version=None, seed=0):
    """Loss and gradients, and slots that they are added to; every third row has no label."""
    functions = cuda.functions(executor)
    rng = np.random.default_rng(seed)
    x, weight = random(rng, (rows, size), dtype), random(rng, (vocabulary, size), dtype)
    bias = random(rng, vocabulary, dtype)
    labels = rng.integers(0, vocabulary, rows)
    labels[::3] = -100
    dloss = np.array(1.5, dtype)
    loss, cache = functions["linear_cross_entropy_forward"](
        x, weight, bias, labels, version=version
    )
    gradients = functions["linear_cross_entropy_backward"](dloss, cache, version=version)
    slots = random(rng, weight.shape, dtype).copy(), random(rng, vocabulary, dtype).copy()
    before = exact(*slots)
    into = functions["linear_cross_entropy_backward"](dloss, cache, into=slots, version=version)
    assert into[1] is slots[0] and into[2] is slots[1]

    x, weight, bias, dloss = exact(x, weight, bias, dloss)
    expected, reference = linear_cross_entropy_forward(x, weight, bias, labels)
    wanted = linear_cross_entropy_backward(dloss, reference)
    labelled = labels != -100
    # A logit is rounded to the type, and its error multiplies its probability.
    logits = x @ weight.T + bias
    size_of_logits = np.abs(x) @ np.abs(weight).T + np.abs(bias)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    own = np.zeros_like(p)
    own[labelled, labels[labelled]] = 1
    reach = np.abs(x @ weight.T) * (p + own)
    units = FEW_UNITS + size + vocabulary
    n = labelled.sum()
    loss_kept = reach[labelled].sum() / n
    loss_terms = (size_of_logits * (p + own))[labelled].sum() / n + np.abs(expected)
    assert_rounded(loss, expected, dtype, loss_kept, units + rows, loss_terms)

    row = labelled[:, None] * abs(float(dloss)) / n
    kept = p * (np.abs(x @ weight.T) + reach.sum(axis=1, keepdims=True)) * row
    terms = p * (size_of_logits + (p * size_of_logits).sum(axis=1, keepdims=True) + 1) * row
    terms += own * row
    # dz is rounded to the type itself: by no less than half a unit of its smallest normal number.
    dz = (np.abs(p - own) * row + float(ml_dtypes.finfo(dtype).tiny)) * labelled[:, None]
    bounds = (
        ((kept + dz) @ np.abs(weight), terms @ np.abs(weight)),
        ((kept + dz).T @ np.abs(x), terms.T @ np.abs(x)),
        (kept.sum(axis=0), terms.sum(axis=0)),
    )
    for actual, exact_one, (reached, term) in zip(gradients, wanted, bounds, strict=True):
        # dx is summed over the vocabulary's blocks from products that are rounded each.
        assert_rounded(actual, exact_one, dtype, 2 * reached, units + rows, term)
    for slot, held, exact_one, (reached, term) in zip(
        slots, before, wanted[1:], bounds[1:], strict=True
    ):
        assert_sums(slot, held, exact_one, dtype, 2 * reached, units + rows, term)


# ---- the embedding ----------------------------------------------------------------------------


def check_embedding(
    executor, dtype, ids, vocabulary, columns, padding_idx=None, version=None, seed=0
):
    """The gradient, alone and in a slot; and the same bits of it from other orders of the warps."""
    backward = cuda.functions(executor)["embedding_backward"]
    rng = np.random.default_rng(seed)
    weight = random(rng, (vocabulary, columns), dtype)
    dy = random(rng, (*ids.shape, columns), dtype)
    _, cache = embedding_forward(ids, weight, padding_idx)
    slot = random(rng, weight.shape, dtype).copy()
    (before,) = exact(slot)
    dweight = backward(dy, cache, version=version)
    assert backward(dy, cache, into=(slot,), version=version) is slot
    other = cuda.functions(HostExecutor(seed + 2, executor.sources))["embedding_backward"]
    np.testing.assert_array_equal(other(dy, cache, version=version), dweight)

    (dy,) = exact(dy)
    cache = cache._replace(weight=before)
    expected, terms = (embedding_backward(array, cache) for array in (dy, np.abs(dy)))
    # Each term goes through no more additions than there are lookups; and into the slot.
    sums = dtype, 0, ids.size + 1, terms
    assert_sums(dweight, 0, expected, *sums)
    assert_sums(slot, before, expected, *sums)

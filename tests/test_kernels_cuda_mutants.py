"""Tests of the tests: what breaks a kernel is found, at shapes of three tiles and more.

In each kernel, and in each function that has a barrier, every barrier and every wait is removed in
turn, one bound is off by one, and one index is another; each must be reported, or be off by more
than the bound of the kernel's own test.
"""

import re
import shutil
from functools import partial

import numpy as np
import pytest
from cuda_support import (
    FLOAT16,
    FLOAT32,
    FLOAT64,
    NEEDS_COMPILER,
    TF32_ROUNDOFF,
    check_attention,
    check_copies_of_boxes,
    check_cross_entropy,
    check_embedding,
    check_gelu_new,
    check_layer_norm,
    check_layer_norm_alone,
    check_linear,
    check_wrong_offsets,
    sample,
)

from albert_np.kernels.cuda import launcher
from albert_np.kernels.cuda.host import HostExecutor, KernelError
from albert_np.kernels.cuda.launch import SOURCES

pytestmark = NEEDS_COMPILER

BARRIERS = re.compile(
    r"__syncthreads\(\);|__syncwarp\(\);|copy_async_wait<\w+>\(\);|fence_async\(\);|"
    r"multiply_(begin|commit)\(\);|multiply_wait\([\w, ]+\);|(barrier_of|\bphase_\w+)\([^{}]*?\);"
)

gelu_new_1 = partial(check_gelu_new, dtype=FLOAT32, rows=70, columns=264, version=1)
gelu_new_2 = partial(check_gelu_new, dtype=FLOAT16, rows=70, columns=264, version=2)
linear = partial(check_linear, dtype=FLOAT32, rows=70)
layer_norm_1 = partial(check_layer_norm, dtype=FLOAT32, shape=(4, 21, 300), version=1)
layer_norm_alone_1 = partial(check_layer_norm_alone, dtype=FLOAT32, shape=(4, 21, 300), version=1)
layer_norm_2 = partial(check_layer_norm, dtype=FLOAT16, shape=(2, 21, 2056), version=2)


def layer_norm_3(executor):
    """A warp a row, several, and so many that sums are in shared memory."""
    check_layer_norm(executor, FLOAT16, (4, 21, 304), version=3)
    check_layer_norm(executor, FLOAT16, (2, 21, 2056), version=3)
    check_layer_norm(executor, FLOAT64, (1, 7, 2056), version=3)


def many_parts(executor):
    """More than a block has warps that finish their sums."""
    executor.multiprocessors = 20
    layer_norm_1(executor)


def attention(executor, dtype=FLOAT32, **arguments):
    """Padded, with a mask, and packed."""
    check_attention(executor, dtype, packed=True, **arguments)
    check_attention(executor, dtype, **arguments)


attention_1 = partial(attention, batch=(2, 37), heads=2, head_size=12, version=1)
attention_2 = partial(attention, batch=(2, 101), heads=1, head_size=16, version=2)
attention_3 = partial(
    attention,
    dtype=FLOAT16,
    batch=(2, 150),
    heads=1,
    head_size=16,
    version=3,
    rounded_weights=True,
)


def attention_3_in_tf32(executor):
    """Where tf32 is allowed, of numbers of 4 bytes."""
    allowing = HostExecutor(executor.seed, executor.sources, allow_tf32=True)
    kind = {"batch": (2, 150), "heads": 1, "head_size": 16, "version": 3}
    attention(allowing, **kind, operand_roundoff=TF32_ROUNDOFF)


def attention_4(executor):
    """Padded, with a mask, and packed; with dropout and without."""
    check_copies_of_boxes(executor, FLOAT16)
    check_copies_of_boxes(executor, FLOAT16, packed=True, dropout=False)


def cross_entropy(executor, rows, version):
    """Four blocks of the vocabulary, in two parts of the rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launcher, "LOGITS_A_BLOCK", 64)
        patch.setattr(launcher, "PARTS_A_MULTIPROCESSOR", 1)
        check_cross_entropy(executor, FLOAT32, rows, 200, version=version)


cross_entropy_1 = partial(cross_entropy, rows=50, version=1)
cross_entropy_2 = partial(cross_entropy, rows=300, version=2)
cross_entropy_of_long_rows = partial(
    check_cross_entropy, dtype=FLOAT32, rows=5, vocabulary=3080, version=2
)


def embedding(executor, version):
    """Tiles and chunks of several runs, and a run of more chunks than a block takes at once."""
    ids = np.arange(304) * 7 % 9
    ids[np.arange(304) % 3 > 0] = 8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launcher, "SORTED_AT_ONCE", 64)
        for padding_idx in (None, 8):
            check_embedding(executor, FLOAT32, ids, 9, 132, padding_idx, version)


# Each function, where it stands, its test, and two faults: a bound and an index.
FUNCTIONS = {
    "gelu_new_forward_1": (
        "gelu_new.cu",
        gelu_new_1,
        ("at >= elements", "at > elements"),
        ("bias[at % columns]", "bias[at / rows]"),
    ),
    "gelu_new_forward_2": (
        "gelu_new.cu",
        gelu_new_2,
        ("at < packs", "at <= packs"),
        ("at * SIZE % columns", "at % columns"),
    ),
    "gelu_new_backward_1": (
        "gelu_new.cu",
        gelu_new_1,
        ("row < end", "row <= end"),
        ("blockIdx.y * columns + column", "blockIdx.x * columns + column"),
    ),
    "gelu_new_backward_2": (
        "gelu_new.cu",
        gelu_new_2,
        ("own < columns", "own <= columns"),
        ("sums[warp][thread]", "sums[warp][threadIdx.x]"),
    ),
    "finish_sums": (
        "column_sums.cuh",
        many_parts,
        ("part < parts", "part < parts - 1"),
        ("part += FINISHING_WARPS", "part += 1"),
        ("warp < FINISHING_WARPS", "warp < FINISHING_WARPS - 1"),
        ("part * stride + at", "part + at"),
    ),
    "block_sums": (
        "device.cuh",
        layer_norm_1,
        ("lane < warps", "lane <= warps"),
        ("sums[1][warp] = second", "sums[1][lane] = second"),
    ),
    "layer_norm_forward_1": (
        "layer_norm.cu",
        layer_norm_1,
        ("column < columns", "column < columns - 1"),
        ("inverse_deviations[row]", "inverse_deviations[0]"),
        ("means[row]", "means[0]"),
        ("kept[start + column]", "kept[column]"),
    ),
    "layer_norm_forward_2": (
        "layer_norm.cu",
        layer_norm_2,
        ("column < columns", "column <= columns"),
        ("k * WARPS * WARP_SIZE + threadIdx.x", "k * WARPS + threadIdx.x"),
        ("kept + start + column", "kept + column"),
    ),
    "layer_norm_output_1": (
        "layer_norm.cu",
        layer_norm_alone_1,
        ("at >= elements", "at > elements"),
        ("at % columns", "at % rows"),
        ("means[row]", "means[0]"),
    ),
    "layer_norm_output_2": (
        "layer_norm.cu",
        layer_norm_2,
        ("at >= elements", "at > elements"),
        ("at / columns", "at / rows"),
        ("weight + column", "weight"),
    ),
    "layer_norm_backward_1": (
        "layer_norm.cu",
        layer_norm_1,
        ("row < end", "row <= end"),
        ("means[row]", "means[first]"),
        ("inverse_deviations[row]", "inverse_deviations[first]"),
    ),
    "layer_norm_backward_2": (
        "layer_norm.cu",
        layer_norm_2,
        ("row < end", "row < end - 1"),
        ("to + which * columns", "to + columns"),
        ("means[row]", "means[first]"),
    ),
    "load_row": (
        "layer_norm.cu",
        layer_norm_3,
        ("column >= columns", "column > columns"),
        ("x + column", "dy + column"),
    ),
    "add_row": (
        "layer_norm.cu",
        layer_norm_3,
        ("k < PACKS", "k < PACKS - 1"),
        ("weight + column", "weight"),
    ),
    "write_row": (
        "layer_norm.cu",
        layer_norm_3,
        ("column >= columns", "column > columns"),
        ("dx + column", "dtotal + column"),
    ),
    "write_sums": (
        "layer_norm.cu",
        layer_norm_3,
        ("column >= columns", "column > columns"),
        ("to[column + i]", "to[column]"),
    ),
    "add_warps": (
        "layer_norm.cu",
        layer_norm_3,
        ("warp < warps", "warp < warps - 1"),
        ("warp * columns + column", "column"),
    ),
    "gradients_of_rows": (
        "layer_norm.cu",
        layer_norm_3,
        ("else if (row + at_once < end)", "else if (row + at_once <= end)"),
        ("else if (row + at_once < end)", "else if (row + at_once < end - 1)"),
        ("row < end; row", "row < end - 1; row"),
        ("means[row]", "means[0]"),
        ("own = next", "next = own"),
    ),
    "layer_norm_backward_3": (
        "layer_norm.cu",
        layer_norm_3,
        ("at < 3 * PACKS", "at < 2 * PACKS"),
        ("to + which * columns", "to + columns"),
    ),
    "block_max": (
        "device.cuh",
        attention_1,
        ("lane < warps", "lane <= warps"),
        ("largest[warp] = x", "largest[warp + 1] = x"),
    ),
    "refused": (
        "attention.cu",
        partial(check_wrong_offsets, version=1),
        ("batch.offsets[0] != 0", "false"),
        ("batch.offsets[sequences] != batch.tokens", "false"),
        ("length == 0", "false"),
        ("length > static_cast<unsigned>(batch.longest)", "false"),
        ("b < sequences", "b < sequences - 1"),
        ("token < batch.tokens", "token < batch.tokens - 1"),
        ("d < batch.head_size", "d < batch.head_size - 1"),
        ("*batch.refused = wrong", "*batch.refused = 0"),
    ),
    "accepted_sequence": (
        "attention.cu",
        partial(check_wrong_offsets, version=1),
        ("*batch.refused", "false"),
    ),
    "attention_forward_1": (
        "attention.cu",
        attention_1,
        ("query >= sequence.length", "query > sequence.length"),
        ("log_sum_exp[at_row(batch, token, head)]", "log_sum_exp[at_row(batch, token, 0)]"),
    ),
    "attention_delta_1": (
        "attention.cu",
        attention_1,
        ("d < batch.head_size", "d < batch.head_size - 1"),
        ("at_row(batch, token, head)", "at_row(batch, token, 0)"),
    ),
    "attention_backward_query_1": (
        "attention.cu",
        attention_1,
        ("j < sequence.length; j++", "j <= sequence.length; j++"),
        ("QUERY, sequence.start + query", "KEY, sequence.start + query"),
    ),
    "attention_backward_key_1": (
        "attention.cu",
        attention_1,
        ("i < sequence.length; i++", "i < sequence.length - 1; i++"),
        ("dscores[i] *", "probabilities[i] *"),
    ),
    "add_weighted": (
        "attention.cu",
        attention_2,
        ("j < TILE", "j < TILE - 1"),
        ("exchanged[row + r][j]", "exchanged[r][j]"),
    ),
    "attention_forward_2": (
        "attention.cu",
        attention_2,
        ("key < left ?", "key <= left ?"),
        ("token + key, none_real", "token + column, none_real"),
    ),
    "attention_backward_query_2": (
        "attention.cu",
        attention_2,
        ("first < sequence.length", "first < sequence.length - TILE"),
        ("batch, VALUE, token", "batch, VALUE, own"),
    ),
    "attention_backward_key_2": (
        "attention.cu",
        attention_2,
        ("first < sequence.length", "first < sequence.length - TILE"),
        ("batch, QUERY, token", "batch, KEY, token"),
    ),
    "sum_of_rows_1": (
        "linear.cu",
        linear,
        ("row < end", "row <= end"),
        ("blockIdx.y * columns + column", "blockIdx.x * columns + column"),
    ),
    "add_columns": (
        "cross_entropy.cu",
        cross_entropy_1,
        ("label < columns", "label <= columns"),
        ("bias[label]", "bias[0]"),
    ),
    "cross_entropy_forward_1": (
        "cross_entropy.cu",
        cross_entropy_1,
        ("v < columns", "v <= columns"),
        ("bias[v]) - largest", "bias[row]) - largest"),
    ),
    "cross_entropy_forward_2": (
        "cross_entropy.cu",
        cross_entropy_of_long_rows,
        ("column >= columns", "column > columns"),
        ("bias + column", "bias"),
    ),
    "add_pack": (
        "cross_entropy.cu",
        cross_entropy_of_long_rows,
        ("i < Pack<T>::SIZE", "i < Pack<T>::SIZE - 1"),
        ("before - largest", "before - before"),
    ),
    "cross_entropy_loss_1": (
        "cross_entropy.cu",
        cross_entropy_1,
        ("row < rows", "row < rows - 1"),
        ("states[row]", "states[0]"),
    ),
    "cross_entropy_backward_1": (
        "cross_entropy.cu",
        cross_entropy_1,
        ("row < end", "row <= end"),
        ("labels[row] == first + column", "labels[row] == column"),
    ),
    "embedding_backward_1": (
        "embedding.cu",
        partial(embedding, version=1),
        ("at < positions", "at <= positions"),
        ("static_cast<long long>(at)", "static_cast<long long>(row)"),
    ),
    "sort_tiles_1": (
        "embedding.cu",
        partial(embedding, version=2),
        ("at >= positions", "at > positions"),
        ("order[place]", "order[at]"),
    ),
    "count_below": (
        "embedding.cu",
        partial(embedding, version=2),
        ("high = count", "high = count - 1"),
    ),
    "merge_tiles_1": (
        "embedding.cu",
        partial(embedding, version=2),
        ("at >= positions", "at > positions"),
        ("tile_order[at]", "tile_order[place]"),
    ),
    "embedding_backward_2": (
        "embedding.cu",
        partial(embedding, version=2),
        ("at < positions", "at <= positions"),
        ("order[at]", "order[first]"),
    ),
    "part_at": (
        "embedding.cu",
        partial(embedding, version=3),
        ("2 + which", "2"),
    ),
    "embedding_backward_3": (
        "embedding.cu",
        partial(embedding, version=3),
        ("at + 1 < positions", "at + 1 <= positions"),
        ("began_before ? 0 : 1", "1"),
    ),
    "embedding_finish_3": (
        "embedding.cu",
        partial(embedding, version=3),
        ("part < chunks", "part <= chunks"),
        ("other * blockDim.x + threadIdx.x", "threadIdx.x"),
    ),
    "cross_entropy_backward_2": (
        "cross_entropy.cu",
        cross_entropy_2,
        ("thread < count", "thread <= count"),
        ("label_of[r] - (first + column)", "label_of[r] - column"),
    ),
    "softmax_of_tile": (
        "attention.cu",
        attention_3,
        ("total[half] * rescale[half]", "total[half] * rescale[0]"),
        ("- largest[i / 2]", "- largest[0]"),
    ),
    "columns_that_count": (
        "attention.cu",
        attention_3,
        ("column < sequence.length", "column <= sequence.length"),
        ("first + away + ", "first + "),
    ),
    "fill_columns": ("attention.cu", attention_3, ("8 * n + i % 2", "8 * n")),
    "mask_scores": ("attention.cu", attention_3, ("columns, 0.0f", "columns, 1.0f")),
    "known_of": ("attention.cu", attention_3, ("sequence.start + min(", "min(")),
    "rebuild_product": ("attention.cu", attention_3, ("KEYS_ARE_ROWS || !scale", "KEYS_ARE_ROWS")),
    "clear_masked_rows": ("attention.cu", attention_3, ("i < 4", "i < 2")),
    "copy_tile": ("attention.cu", attention_3, ("row + away < count", "row + away <= count")),
    "attention_forward_3": (
        "attention.cu",
        attention_3,
        ("first < sequence.length", "first < sequence.length - COLUMNS"),
        ("first / COLUMNS % 2 * COLUMNS", "first / COLUMNS % 1 * COLUMNS"),
    ),
    "attention_backward_query_3": (
        "attention.cu",
        attention_3,
        ("first < sequence.length", "first < sequence.length - COLUMNS"),
        ("dquery, dscores, keys + buffer", "dquery, dscores, keys"),
    ),
    "attention_backward_key_3": (
        "attention.cu",
        attention_3,
        ("first + COLUMNS", "first + COLUMNS - 1"),
        ("dkey, dscores, queries", "dkey, dscores, gradients"),
    ),
    "load_rows<float>": (
        "attention.cu",
        attention_3_in_tf32,
        ("round_to_tf32(float_of(out[i]))", "out[i]"),
        ("float_of(out[i])", "float_of(out[0])"),
    ),
    "left_side<float>": (
        "attention.cu",
        attention_3_in_tf32,
        ("round_to_tf32(weights", "bits_of(weights"),
        ("i % 2 * 2 + i / 2", "i"),
    ),
    "load_columns<float>": (
        "attention.cu",
        attention_3_in_tf32,
        ("i / 2 * 8", "i / 2 * 4"),
        ("lane % 4 * 2 * pitch", "lane % 4 * pitch"),
    ),
    "store_pair<float>": (
        "attention.cu",
        attention_3_in_tf32,
        ("bits_of(second)", "bits_of(first)"),
    ),
    "bring_tiles": (
        "attention.cu",
        attention_4,
        ("group < groups", "group < groups - 1"),
        ("first_query + group * PANEL", "first_query + group"),
    ),
    "clear_rows": (
        "attention.cu",
        attention_4,
        ("at < PANEL * PACKS", "at < PANEL * PACKS - 1"),
        ("first_row * PACKS + threadIdx.x", "first_row + threadIdx.x"),
    ),
    "attend": (
        "attention.cu",
        attention_4,
        ("first < sequence.length", "first < sequence.length - PANEL"),
        ("sums, weights, values", "sums, weights, stages.values"),
    ),
    "bring_pairs": (
        "attention.cu",
        attention_4,
        ("group < groups", "group < groups - 1"),
        ("from.other_part, sequence.start + first", "from.part, sequence.start + first"),
    ),
    "differentiate": (
        "attention.cu",
        attention_4,
        ("first < sequence.length", "first < sequence.length - PANEL"),
        ("stages.own_other + group * TILE_SIZE", "stages.own_other"),
    ),
    "backward_of_rows": (
        "attention.cu",
        attention_4,
        ("i < 1 + STAGES", "i < STAGES"),
        ("barriers + 1 + STAGES", "barriers + STAGES"),
    ),
    "attention_backward_query_4": (
        "attention.cu",
        attention_4,
        ("<T, D_MAX, false>", "<T, D_MAX, true>"),
    ),
    "attention_backward_key_4": (
        "attention.cu",
        attention_4,
        ("<T, D_MAX, true>", "<T, D_MAX, false>"),
    ),
    "attention_forward_4": (
        "attention.cu",
        attention_4,
        ("i < 1 + 2 * STAGES", "i < 2 * STAGES"),
        ("barriers + 1 + STAGES", "barriers + STAGES"),
    ),
}
# What version 3 does for all its types is broken once more where it is taken for tf32.
IN_TF32 = (
    "softmax_of_tile",
    "attention_forward_3",
    "attention_backward_query_3",
    "attention_backward_key_3",
)


def body_of(name):
    """Where a function's definition begins and ends in its file."""
    text = (SOURCES / FUNCTIONS[name][0]).read_text(encoding="utf-8")
    start = re.search(rf"^[^/\n]*\b{name}\([^;]*?{{\n", text, re.M).end()
    return text, start, text.index("\n}\n", start)


def faults_of(name):
    """Of a function: what is taken out from where to where, what is put in, and a name for it."""
    text, start, end = body_of(name)
    for barrier in BARRIERS.finditer(text, start, end):
        line = text.count("\n", 0, barrier.start()) + 1
        yield *barrier.span(), ";", f"{name}-without-{line}-{barrier[0]}"
    for old, new in FUNCTIONS[name][2:]:
        at = text.index(old, start, end)
        yield at, at + len(old), new, f"{name}-{new}"


def mutants():
    """Every function with each of its faults, and the check that is to find it."""
    for name, (file, check, *_) in FUNCTIONS.items():
        for begin, end, replacement, fault in faults_of(name):
            yield pytest.param(file, check, begin, end, replacement, id=fault)
    for name in IN_TF32:
        for begin, end, replacement, fault in faults_of(name):
            check = attention_3_in_tf32
            yield pytest.param("attention.cu", check, begin, end, replacement, id=f"tf32-{fault}")


ALL_MUTANTS = list(mutants())


@pytest.mark.parametrize(
    ("file", "check", "begin", "end", "replacement"), sample(ALL_MUTANTS, ALL_MUTANTS[::5])
)
def test_is_found(tmp_path, file, check, begin, end, replacement):
    shutil.copytree(SOURCES, tmp_path / "sources", ignore=shutil.ignore_patterns("*.py*"))
    path = tmp_path / "sources" / file
    text = path.read_text(encoding="utf-8")
    path.write_text(text[:begin] + replacement + text[end:], encoding="utf-8")
    with pytest.raises((KernelError, AssertionError)):
        check(HostExecutor(1, tmp_path / "sources"))


def test_every_kernel_has_its_mutants():
    """A kernel that is added is broken here too; and so is every function with a barrier."""
    for path in sorted(SOURCES.glob("*.cu*")):
        text = path.read_text(encoding="utf-8")
        kernels = re.findall(r"__global__ void (?:__launch_bounds__\(.*\)\n)?(\w+)\(", text)
        assert len(kernels) == text.count("__global__ ")
        assert set(kernels) <= set(FUNCTIONS)
        spans = [body_of(name)[1:] for name, f in FUNCTIONS.items() if f[0] == path.name]
        for barrier in BARRIERS.finditer(text):
            assert any(start <= barrier.start() < end for start, end in spans), barrier

"""The gradient of the embedding: the launches of `embedding.cu`.

The lookup itself is the reference's, `weight[ids]`: the arrays' library gathers rows, and there is
nothing before or after it to be fused with. Its sort, on the other hand, is not used here: it waits
for the GPU in some versions of the library, and what waits cannot be recorded in a CUDA graph.
"""

import numpy as np

from albert_np.functions.embedding import gradient_slot
from albert_np.kernels.cuda import launcher
from albert_np.kernels.cuda.arrays import (
    Argument,
    checked,
    checked_slots,
    columns_of,
    launch,
    problem_of,
    wide,
)

FILE = "embedding.cu"


def embedding_backward(executor, dy, cache, into=None, version=None):
    """`albert_np.functions.embedding.embedding_backward`, with the same bits at every call.

    Parameters
    ----------
    executor
        What runs the launches.
    dy, cache, into
        As the reference has them; float16, bfloat16, float32 or float64.
    version : int, optional
        Of the kernel; the fastest that fits by default.

    Returns
    -------
    dweight : array, shape (V, E)
    """
    ids, weight, _ = cache
    vocabulary, columns = len(weight), columns_of(executor, "weight", weight)
    _, dy = checked(
        executor,
        Argument("weight", weight, weight.shape),
        Argument("dy", dy, (*ids.shape, columns)),
    )
    executor.check("ids", ids)
    into = checked_slots(executor, into, weight.dtype, dweight=weight.shape)
    dweight = gradient_slot(cache, into)
    problem = problem_of(executor, columns, dy, dweight)
    version = launcher.embedding_version(problem, version)
    if dy.size == 0:
        return dweight
    ids = executor.contiguous(ids.astype(np.int64, copy=False)).ravel()
    sizes = [np.int32(size) for size in (problem.rows, vocabulary, columns)]
    padding_idx = np.int32(cache.skipped)
    if version == 1:
        plan = launcher.embedding_columns(problem, 1, blocks=vocabulary)
        launch(executor, FILE, plan, dy, ids, dweight, *sizes, padding_idx)
        return dweight
    rows, order = _in_order(executor, ids, *sizes[:2], padding_idx)
    if version == 2:
        plan = launcher.embedding_columns(problem, 2, blocks=problem.rows)
        launch(executor, FILE, plan, dy, rows, order, dweight, *sizes)
        return dweight
    sums, finish = launcher.embedding_chunks(problem)
    partial = executor.empty((2 * sums.parts, columns), wide(dy.dtype))
    sizes.append(np.int32(sums.rows_a_block))
    launch(executor, FILE, sums, dy, rows, order, dweight, partial, *sizes)
    launch(executor, FILE, finish, partial, rows, dweight, *sizes)
    return dweight


def _in_order(executor, ids, positions, vocabulary, padding_idx):
    """The rows of all positions in order, those without one last; and where each position was."""
    sort, merge = launcher.embedding_order(len(ids))
    in_tiles = [executor.empty(ids.shape, np.int32) for _ in range(2)]
    launch(executor, FILE, sort, ids, *in_tiles, positions, vocabulary, padding_idx)
    in_order = [executor.empty(ids.shape, np.int32) for _ in range(2)]
    launch(executor, FILE, merge, *in_tiles, *in_order, positions)
    return in_order

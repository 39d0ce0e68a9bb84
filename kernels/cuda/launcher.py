"""Which version of a kernel runs, on which grid, with how much shared memory.

Pure arithmetic on sizes. A version that is asked for by its number is taken; otherwise the fastest
that fits: the later versions want rows that are whole packs of 16 bytes, and addresses to match.
"""

from typing import NamedTuple

from albert_np.kernels.cuda.launch import TYPES, ceil_div

WARP = 32
PACK_BYTES = 16
MAX_THREADS = 1024
STATIC_SHARED = 10 * 1024  # bytes a block: what kernels declare themselves, rounded up
PARTS_A_MULTIPROCESSOR = 8  # of blocks that each sum some of the rows


class Plan(NamedTuple):
    """Of one launch: the kernel's name, grid, block; what its blocks divide the rows into."""

    kernel: str
    grid: tuple
    block: tuple
    parts: int = 1
    rows_a_block: int = 0
    shared_bytes: int = 0
    box: tuple = ()  # in which the array is copied; where not, the kernel takes a pointer to it


class Problem(NamedTuple):
    """What a kernel of rows and columns is planned for.

    Attributes
    ----------
    rows, columns : int
    dtype : numpy.dtype
    aligned : bool
        Whether every array begins at a multiple of 16 bytes.
    multiprocessors : int
    shared_limit : int
        Bytes of shared memory that a block may have.
    """

    rows: int
    columns: int
    dtype: object
    aligned: bool
    multiprocessors: int
    shared_limit: int

    @property
    def type(self):
        return TYPES[self.dtype.name]

    @property
    def pack(self):
        """Numbers in 16 bytes."""
        return PACK_BYTES // self.dtype.itemsize

    @property
    def packs(self):
        """16-byte pieces of a row."""
        return self.columns // self.pack

    @property
    def in_packs(self):
        return self.aligned and self.columns > 0 and self.columns % self.pack == 0


def chosen(version, fitting):
    """The version asked for, or else the last of those that fit.

    Raises
    ------
    ValueError
        If the one asked for does not fit.
    """
    if version is None:
        return fitting[-1]
    if version not in fitting:
        numbers = ", ".join(map(str, fitting))
        raise ValueError(f"version {version} of the kernel does not fit; these do: {numbers}")
    return version


def _rows_in_parts(rows, parts):
    """At most that many parts of equally many rows: how many, and of how many."""
    rows_a_block = max(1, ceil_div(rows, max(1, parts)))
    return ceil_div(rows, rows_a_block), rows_a_block


def gelu_new_forward(problem, version=None):
    """Plan y = gelu_new(x + b)."""
    version = chosen(version, [1, 2] if problem.in_packs else [1])
    elements = problem.rows * problem.columns
    a_block = 256 * (4 * problem.pack if version == 2 else 1)
    name = f"gelu_new_forward_{version}<{problem.type}>"
    return Plan(name, (ceil_div(elements, a_block),), (256,))


def gelu_new_backward(problem, version=None):
    """Plan dx and the partial sums of db."""
    return _elements_with_sums(problem, "gelu_new_backward", version)


def _elements_with_sums(problem, kernel, version):
    """Plan a kernel of each element that sums down the columns: a column a thread, or a pack."""
    version = chosen(version, [1, 2] if problem.in_packs else [1])
    block, columns_a_block = {1: ((128,), 128), 2: ((WARP, 8), WARP * problem.pack)}[version]
    name = f"{kernel}_{version}<{problem.type}>"
    return _columns_in_parts(problem, name, block, columns_a_block)


def _columns_in_parts(problem, name, block, columns_a_block):
    """Plan a kernel whose blocks take some columns of some of the rows, and sum down them."""
    across = ceil_div(problem.columns, columns_a_block)
    wanted = ceil_div(PARTS_A_MULTIPROCESSOR * problem.multiprocessors, max(1, across))
    parts, rows_a_block = _rows_in_parts(problem.rows, wanted)
    return Plan(name, (across, parts), block, parts, rows_a_block)


LOGITS_A_BLOCK = 1 << 24  # 32 MiB of 2-byte logits: within the cache of a large GPU


def vocabulary_blocks(rows, vocabulary):
    """Where the blocks of a vocabulary begin and end: whole packs, so that rows stay aligned."""
    columns = max(64, LOGITS_A_BLOCK // max(1, rows) // 64 * 64)
    return [(first, min(first + columns, vocabulary)) for first in range(0, vocabulary, columns)]


def cross_entropy_forward(problem, version=None):
    """Plan the rows' states after one more block of columns."""
    version = chosen(version, [1, 2] if problem.in_packs else [1])
    return each_row(f"cross_entropy_forward_{version}<{problem.type}>", problem.rows)


def cross_entropy_backward(problem, version=None):
    """Plan dz and the partial sums of db."""
    return _elements_with_sums(problem, "cross_entropy_backward", version)


def sum_of_rows(problem):
    """Plan the partial sums of a linear map's db."""
    return _columns_in_parts(problem, f"sum_of_rows_1<{problem.type}>", (128,), 128)


def each_row(kernel, rows):
    """Plan a kernel with a block a row."""
    return Plan(kernel, (rows,), (256,))


# Numbers of a row that one thread of layer norm holds in registers: with one warp a row; with more.
HELD_BY_A_LANE = {2: 32, 4: 32, 8: 16}
HELD_BY_A_THREAD = {2: 32, 4: 16, 8: 8}


def layer_norm_forward(problem, version=None):
    """Plan y and what is kept. A row that one warp can hold has one; four rows go to a block."""
    size = problem.dtype.itemsize
    fits = problem.in_packs and problem.columns <= MAX_THREADS * HELD_BY_A_THREAD[size]
    version = chosen(version, [1, 2] if fits else [1])
    if version == 1:
        return Plan(f"layer_norm_forward_1<{problem.type}>", (problem.rows,), (256,))
    warps, packs = _warps_a_row(problem, HELD_BY_A_LANE[size], HELD_BY_A_THREAD[size])
    rows = 4 if warps == 1 else 1
    name = f"layer_norm_forward_2<{problem.type}, {warps}, {packs}>"
    return Plan(name, (ceil_div(problem.rows, rows),), (warps * WARP, rows))


def _warps_a_row(problem, a_lane, a_thread):
    """How many warps a row has, and packs of it each thread.

    One warp, where its lanes can hold the row, `a_lane` numbers each; or else as many, a power of
    2, as it takes with `a_thread`.
    """
    warps = 1
    if problem.columns > WARP * a_lane:
        while problem.columns > warps * WARP * a_thread:
            warps *= 2
    return warps, ceil_div(problem.packs, warps * WARP)


def layer_norm_output(problem, version=None):
    """Plan y, from what is kept."""
    version = chosen(version, [1, 2] if problem.in_packs else [1])
    threads = problem.rows * problem.columns // (problem.pack if version == 2 else 1)
    return each_element(f"layer_norm_output_{version}<{problem.type}>", threads)


# Columns whose three sums one thread of layer norm's backward pass holds: of version 2; and of
# version 3, beside two rows of dy and t, with one warp a row, and with more.
SUMMED_BY_A_THREAD = {2: 8, 4: 8, 8: 2}
SUMMED_BY_A_LANE = {2: 32, 4: 24, 8: 8}
SUMMED_IN_WARPS = {2: 16, 4: 8, 8: 4}
MOST_WARPS = 16  # of a row whose columns' sums are in registers: with more, threads have too few
# Where the columns' sums are in shared memory: the warps of a row; the packs of dy, and of t, that
# one thread of them holds.
WARPS_IN_SHARED = {2: 16, 4: 24, 8: 16}
PACKS_IN_SHARED = {2: 4, 4: 6, 8: 8}


def layer_norm_backward(problem, version=None):
    """Plan dt, dx and the partial sums of dw, dshift and db."""
    plans = {
        1: (f"layer_norm_backward_1<{problem.type}>", (256,), MAX_THREADS // 256, 0),
        2: _row_a_block(problem),
        3: _next_row_on_its_way(problem),
    }
    version = chosen(version, [number for number, plan in plans.items() if plan is not None])
    name, block, blocks_a_multiprocessor, shared_bytes = plans[version]
    wanted = problem.multiprocessors * blocks_a_multiprocessor
    parts, rows_a_block = _rows_in_parts(problem.rows, wanted)
    return Plan(name, (parts,), block, parts, rows_a_block, shared_bytes)


def _row_a_block(problem):
    """Of version 2: kernel, block, blocks a multiprocessor and shared memory; None if none fits."""
    packs = ceil_div(problem.packs, MAX_THREADS)
    if not problem.in_packs or packs * problem.pack > SUMMED_BY_A_THREAD[problem.dtype.itemsize]:
        return None
    threads = WARP * ceil_div(problem.packs, WARP * packs)
    bound = max(128, 1 << (threads - 1).bit_length())
    name = f"layer_norm_backward_2<{problem.type}, {packs}, {bound}>"
    return name, (threads,), max(1, MAX_THREADS // threads), 0


def _next_row_on_its_way(problem):
    """The same of version 3: a warp a row, four rows a block; or a block a row."""
    if not problem.in_packs:
        return None
    size, wide_bytes = problem.dtype.itemsize, max(4, problem.dtype.itemsize)
    a_lane, a_thread = SUMMED_BY_A_LANE[size], SUMMED_IN_WARPS[size]
    in_shared = problem.columns > MOST_WARPS * WARP * a_thread
    if in_shared:
        warps = WARPS_IN_SHARED[size]
        packs = ceil_div(problem.packs, warps * WARP)
        shared_bytes = 3 * packs * problem.pack * warps * WARP * wide_bytes
        if packs > PACKS_IN_SHARED[size] or shared_bytes > problem.shared_limit - STATIC_SHARED:
            return None
    else:
        warps, packs = _warps_a_row(problem, a_lane, a_thread)
        shared_bytes = 4 * problem.columns * wide_bytes if warps == 1 else 0
    template = f"{problem.type}, {warps}, {packs}, {str(in_shared).lower()}"
    block = (WARP, 4) if warps == 1 else (warps * WARP,)
    blocks = 1 if warps >= MOST_WARPS else 2
    return f"layer_norm_backward_3<{template}>", block, blocks, shared_bytes


LARGEST_HEAD_SIZE = 128  # of the tiled kernels
TILE = 32  # rows of version 2's blocks
ROWS = 64  # of version 3's
LARGEST_GRID = 65535  # blocks in y and in z
TENSOR_CORES = (8, 0)  # the first GPUs that have version 3's instructions
HOPPER = (9, 0)  # the only ones that have version 4's
PANEL, STAGES = 64, 2  # of version 4: rows and columns that one copy brings; tiles in turn
PANEL_BYTES = PANEL * 128
WARPGROUPS = {64: 3, 128: 2}  # that multiply, 64 rows each; by head size
# Not the default until they have been run on a GPU: the stand-in for its tensor maps, phases and
# descriptors may share a mistake with the kernel, and a barrier that never ends hangs the GPU. One
# leaves when there `python -m benchmarks cuda` has found it right in all works, and faster; and
# `--sanitize` no fault.
NOT_RUN_ON_A_GPU_YET = (4,)


class AttentionProblem(NamedTuple):
    """What attention is planned for.

    Attributes
    ----------
    sequences, longest, tokens : int
        How many sequences, the columns of the padded batch, and tokens in all.
    heads, head_size : int
    dtype : numpy.dtype
    aligned : bool
        Whether every array begins at a multiple of 16 bytes.
    capability : (int, int)
        Of the GPU.
    shared_limit : int
        Bytes of shared memory that a block may have.
    allow_tf32 : bool
        Whether float32 numbers may be rounded to tf32 before they are multiplied.
    """

    sequences: int
    longest: int
    tokens: int
    heads: int
    head_size: int
    dtype: object
    aligned: bool
    capability: tuple
    shared_limit: int
    allow_tf32: bool = False

    @property
    def type(self):
        return TYPES[self.dtype.name]

    @property
    def wide_bytes(self):
        return max(4, self.dtype.itemsize)

    @property
    def padded_head_size(self):
        """What the tiled kernels are compiled for; smaller heads are filled up with zeros."""
        return 64 if self.head_size <= 64 else 128

    @property
    def row_bytes(self):
        """Of one row that version 3 reads, as it is padded."""
        return self.padded_head_size * self.dtype.itemsize

    @property
    def tile_columns(self):
        """Scores of each row that version 3's tiles make; half as many in backward."""
        return 64 if self.row_bytes <= 256 else 32

    def plan(self, kernel, rows_a_block, threads, shared_bytes):
        grid = (ceil_div(self.longest, rows_a_block), self.heads, self.sequences)
        return Plan(kernel, grid, (threads,), shared_bytes=shared_bytes)


def _attention_row(problem, kernel, rows):
    """Plan a kernel of version 1, that holds so many rows of scores in shared memory."""
    shared_bytes = rows * problem.longest * problem.wide_bytes
    return problem.plan(f"{kernel}_1<{problem.type}>", 1, 128, shared_bytes)


def _attention_tiles(problem, kernel, tiles):
    """Plan a kernel of version 2, that holds so many tiles, each row one number longer."""
    widest = problem.padded_head_size
    shared_bytes = tiles * TILE * (widest + 1) * problem.wide_bytes
    return problem.plan(f"{kernel}_2<{problem.type}, {widest}>", TILE, 64, shared_bytes)


def _attention_matrices(problem, kernel, own_tiles, columns):
    """Plan a kernel of version 3: tiles of its own rows, and four of so many to walk over.

    Each row is 16 bytes longer.
    """
    rows = own_tiles * ROWS + 4 * columns
    shared_bytes = rows * (problem.row_bytes + PACK_BYTES)
    name = f"{kernel}_3<{problem.type}, {problem.padded_head_size}>"
    return problem.plan(name, ROWS, 128, shared_bytes)


def _attention_boxes(problem, kernel, own_tiles, fewer_groups=0):
    """Plan a kernel of version 4: each warpgroup's own tiles, and two in stages to walk over.

    They begin at a multiple of 1024 bytes.
    """
    widest = problem.padded_head_size
    groups = WARPGROUPS[widest] - fewer_groups
    tiles = own_tiles * groups + 2 * STAGES
    shared_bytes = tiles * (widest // PANEL) * PANEL_BYTES + 1024
    name, threads = f"{kernel}_4<{problem.type}, {widest}>", groups * 4 * WARP + WARP
    plan = problem.plan(name, groups * PANEL, threads, shared_bytes)
    return plan._replace(box=(PANEL, 1, PANEL))


def _fitting(problem, version, plans):
    """The plan of the version asked for, or of the last that fits in shared memory."""
    room = problem.shared_limit - STATIC_SHARED
    needed = {number: max(p.shared_bytes for p in plan) for number, plan in plans.items()}
    fitting = [number for number in plans if needed[number] <= room]
    if not fitting:
        raise ValueError(
            f"attention of {problem.longest} columns and head size {problem.head_size} needs "
            f"{needed[1]} bytes of shared memory; a block may have {room}"
        )
    if version is None:
        version = [number for number in fitting if number not in NOT_RUN_ON_A_GPU_YET][-1]
    return plans[chosen(version, fitting)]


def tentative(plan, problem):
    """The versions that `plan` takes if it is asked for them by number, and does not choose yet.

    Parameters
    ----------
    plan : callable
        `attention_forward` or `attention_backward`.
    problem : AttentionProblem

    Returns
    -------
    list of int
    """

    def fits(version):
        try:
            plan(problem, version)
        except ValueError:
            return False
        return True

    return [version for version in NOT_RUN_ON_A_GPU_YET if fits(version)]


def _has_matrices(problem):
    """Whether version 3 takes such heads: rows of whole packs, of 2-byte numbers or for tf32."""
    in_packs = problem.aligned and problem.head_size * problem.dtype.itemsize % PACK_BYTES == 0
    has_type = problem.dtype.itemsize == 2 or (problem.allow_tf32 and problem.type == "float")
    return has_type and in_packs and problem.capability >= TENSOR_CORES


def _has_boxes(problem):
    """Whether version 4 takes heads that version 3 does."""
    return problem.dtype.itemsize == 2 and problem.capability == HOPPER


def attention_forward(problem, version=None):
    """Plan the context and the rows' log-sum-exp."""
    name = "attention_forward"
    plans = {1: [_attention_row(problem, name, 1)]}
    if problem.head_size <= LARGEST_HEAD_SIZE:
        plans[2] = [_attention_tiles(problem, name, 3)]
        if _has_matrices(problem):
            plans[3] = [_attention_matrices(problem, name, 1, problem.tile_columns)]
            if _has_boxes(problem):
                plans[4] = [_attention_boxes(problem, name, 1)]
    (plan,) = _fitting(problem, version, plans)
    return plan


def attention_backward(problem, version=None):
    """Plan dq; and dk and dv: two launches."""
    query, key = "attention_backward_query", "attention_backward_key"
    plans = {1: [_attention_row(problem, query, 1), _attention_row(problem, key, 2)]}
    # Four float64 sums for each of 128 columns are more than a thread's registers hold.
    largest = LARGEST_HEAD_SIZE if problem.wide_bytes == 4 else LARGEST_HEAD_SIZE // 2
    if problem.head_size <= largest:
        plans[2] = [_attention_tiles(problem, kernel, 4) for kernel in (query, key)]
        if _has_matrices(problem):
            columns = problem.tile_columns // 2
            plans[3] = [_attention_matrices(problem, kernel, 2, columns) for kernel in (query, key)]
            if _has_boxes(problem):
                plans[4] = [
                    _attention_boxes(problem, query, 2),
                    _attention_boxes(problem, key, 2, fewer_groups=1),
                ]
    return _fitting(problem, version, plans)


def attention_delta(problem):
    """Plan δ, which backward begins with."""
    return Plan(f"attention_delta_1<{problem.type}>", (problem.tokens, problem.heads), (WARP,))


def each_element(kernel, elements):
    """Plan a kernel with one thread an element."""
    return Plan(kernel, (ceil_div(elements, 256),), (256,))


SORTED_AT_ONCE = 512  # positions of a tile
CHUNK = 16  # positions in order whose gradients one thread sums; the order of sums depends on it
CHUNK_THREADS = 256  # of a block of version 3, as embedding.cu has it


def embedding_version(problem, version=None):
    """Which version sums the rows of an embedding's gradient."""
    return chosen(version, [1, 2, 3] if problem.in_packs else [1, 2])


def embedding_order(positions):
    """Plan the positions' order by their rows: within tiles, and of all."""
    tile = SORTED_AT_ONCE
    grid = (ceil_div(positions, tile),)
    return (
        Plan("sort_tiles_1", grid, (tile,), shared_bytes=4 * tile),
        Plan("merge_tiles_1", grid, (tile,)),
    )


def embedding_columns(problem, version, blocks):
    """Plan version 1, with a block for each row of the table; or 2, for each position."""
    grid = (blocks, ceil_div(problem.columns, 128))
    return Plan(f"embedding_backward_{version}<{problem.type}>", grid, (128,))


def embedding_chunks(problem):
    """Plan version 3: the sums of chunks of positions, and those of the parts of long runs."""
    lanes = min(WARP, 1 << (problem.packs - 1).bit_length())
    block = (lanes, CHUNK_THREADS // lanes)
    chunks, across = ceil_div(problem.rows, CHUNK), ceil_div(problem.packs, lanes)
    sums = f"embedding_backward_3<{problem.type}>"
    return (
        Plan(sums, (ceil_div(chunks, block[1]), across), block, chunks, CHUNK),
        Plan(f"embedding_finish_3<{problem.type}>", (chunks, across), block, chunks, CHUNK),
    )


FINISHING_WARPS = 16  # of a block of finish_sums


def sums_of_parts(problem, arrays):
    """Plan the sums over the parts, of so many arrays."""
    blocks = ceil_div(arrays * problem.columns, WARP)
    return Plan(f"finish_sums<{problem.type}>", (blocks,), (WARP, FINISHING_WARPS))

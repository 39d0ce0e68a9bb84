"""Matrix products of blocks that lie in the cache, inside compiled functions.

    out[i, j] += Σ_k left[i, k] · right[k, j]

The processor multiplies and adds whole vectors: a tile of `out`, 8 rows of two vectors each, stays
in 16 registers while k runs, and each step loads two vectors of `right` and 8 single numbers of
`left`, 10 loads for 16 multiply-adds. With AVX-512 two loads and two multiply-adds start in a
cycle, so a step takes 8 cycles, and the loads, 5 cycles' worth, are hidden behind them. There are
more multiply-adds under way (16) than one must wait for (two units times a latency of four).

Compilers do not find this form by themselves (they would keep `out` in memory), so it is written
down in LLVM's own language.
"""

import llvmlite.binding
from albert_np.kernels.numba.compiling import kernel
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

HAS_512_BITS = llvmlite.binding.get_host_cpu_features().get("avx512f", False)
VECTOR_BYTES = 64 if HAS_512_BITS else 32
TILE_ROWS = 8 if HAS_512_BITS else 4  # half as many registers, half as many rows


def make_tile(vectors, adds):
    """An intrinsic that computes one tile of TILE_ROWS rows and `vectors` vectors.

    It adds the product to what `out` holds there, or else puts the product in its place.
    """

    @intrinsic
    def tile(typing_context, out, left, right, i, j, steps):
        """out[i : i + TILE_ROWS, j : j + width] += left[i : …, :steps] @ right[:steps, j : …]"""
        signature = types.void(out, left, right, types.intp, types.intp, types.intp)
        return signature, lambda *arguments: emit_tile(vectors, adds, *arguments)

    return tile


def emit_tile(vectors, adds, context, builder, signature, arguments):
    """LLVM code of one tile: load it, multiply and add `steps` times, store it."""
    arrays = [
        context.make_array(kind)(context, builder, value)
        for kind, value in zip(signature.args[:3], arguments[:3], strict=True)
    ]
    i, j, steps = arguments[3:]
    scalar = context.get_value_type(signature.args[0].dtype)
    size = context.get_abi_sizeof(scalar)
    lanes = VECTOR_BYTES // size
    vector = ir.VectorType(scalar, lanes)
    byte, word = ir.IntType(8), context.get_value_type(types.intp)

    def strides(array, kind):
        """Of rows and columns, in bytes; the one that the layout fixes is a constant."""
        row, column = cgutils.unpack_tuple(builder, array.strides)
        fixed = word(size)
        return fixed if kind.layout == "F" else row, fixed if kind.layout == "C" else column

    (out, left, right) = [builder.bitcast(a.data, byte.as_pointer()) for a in arrays]
    (out_row, _), (left_row, left_step), (right_step, _) = [
        strides(array, kind) for array, kind in zip(arrays, signature.args[:3], strict=True)
    ]

    def at(base, *terms):
        """base + the sum of the products, in bytes."""
        for a, b in terms:
            base = builder.gep(base, [builder.mul(a, b)], source_etype=byte)
        return base

    def load(pointer, kind):
        return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=size, typ=kind)

    def broadcast(value):
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)

    fused = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(vector, [vector] * 3),
        f"llvm.fma.v{lanes}f{8 * size}",
    )
    tile = at(out, (i, out_row), (j, word(size)))
    places = [
        at(tile, (word(row), out_row), (word(part), word(VECTOR_BYTES)))
        for row in range(TILE_ROWS)
        for part in range(vectors)
    ]
    left = at(left, (i, left_row))
    right = at(right, (j, word(size)))

    entry = builder.block
    loop, done = builder.append_basic_block("steps"), builder.append_basic_block("done")
    zero = ir.Constant(vector, [scalar(0)] * lanes)
    start = [load(place, vector) if adds else zero for place in places]
    builder.cbranch(builder.icmp_signed(">", steps, word(0)), loop, done)

    builder.position_at_end(loop)
    step = builder.phi(word)
    sums = [builder.phi(vector) for _ in places]
    right_row = at(right, (step, right_step))
    parts = [load(at(right_row, (word(p), word(VECTOR_BYTES))), vector) for p in range(vectors)]
    left_column = at(left, (step, left_step))
    following = []
    for row in range(TILE_ROWS):
        factor = broadcast(load(at(left_column, (word(row), left_row)), scalar))
        for part in range(vectors):
            total = sums[row * vectors + part]
            following.append(builder.call(fused, [factor, parts[part], total]))
    next_step = builder.add(step, word(1))
    builder.cbranch(builder.icmp_signed("<", next_step, steps), loop, done)
    join([step, *sums], entry, [word(0), *start], loop, [next_step, *following])

    builder.position_at_end(done)
    results = [builder.phi(vector) for _ in places]
    join(results, entry, start, loop, following)
    for place, result in zip(places, results, strict=True):
        builder.store(result, builder.bitcast(place, vector.as_pointer()), align=size)
    return context.get_dummy_value()


def join(phis, first_block, first_values, then_block, then_values):
    """Say what each phi is when control comes from either block."""
    for phi, first, then in zip(phis, first_values, then_values, strict=True):
        phi.add_incoming(first, first_block)
        phi.add_incoming(then, then_block)


set_narrow_tile, set_wide_tile = make_tile(1, adds=False), make_tile(2, adds=False)
add_narrow_tile, add_wide_tile = make_tile(1, adds=True), make_tile(2, adds=True)


@kernel
def set_product(out, left, right, rows, columns, steps):
    """out[i, j] = Σ_k left[i, k] · right[k, j]; see `add_product`."""
    lanes = VECTOR_BYTES // out.itemsize
    for j in range(0, columns, 2 * lanes):
        for i in range(0, rows, TILE_ROWS):
            if columns - j > lanes:
                set_wide_tile(out, left, right, i, j, steps)
            else:
                set_narrow_tile(out, left, right, i, j, steps)


@kernel
def add_product(out, left, right, rows, columns, steps):
    """out[i, j] += Σ_k left[i, k] · right[k, j], for i < rows, j < columns, k < steps.

    Whole tiles are computed: `out` and `left` need rows up to the next multiple of TILE_ROWS, and
    `out` and `right` columns up to the next whole vector.

    Parameters
    ----------
    out, right : array, in C order
    left : array, in C or Fortran order
    rows, columns, steps : int
    """
    lanes = VECTOR_BYTES // out.itemsize
    for j in range(0, columns, 2 * lanes):
        for i in range(0, rows, TILE_ROWS):
            if columns - j > lanes:
                add_wide_tile(out, left, right, i, j, steps)
            else:
                add_narrow_tile(out, left, right, i, j, steps)

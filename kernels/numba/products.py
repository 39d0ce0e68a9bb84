"""Matrix products of blocks that lie in the cache, inside compiled functions.

    out[i, j] += Σ_k left[i, k] · right[k, j]

The processor multiplies and adds whole vectors: a tile of `out`, 8 rows of two vectors each, stays
in 16 registers while k runs, and each step loads two vectors of `right` and 8 single numbers of
`left`, 10 loads for 16 multiply-adds. With AVX-512 two loads and two multiply-adds start in a
cycle, so a step takes 8 cycles, and the loads, 5 cycles' worth, are hidden behind them. There are
more multiply-adds under way (16) than one must wait for (two units times a latency of four).

`tile` has the larger tile for a matrix that is packed into panels beforehand; here both operands
are used once or twice, where they lie, and the left one may be the transpose of what was computed.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from albert_np.kernels.numba.compiling import kernel
from albert_np.kernels.numba.tile import INDEX, TILE_ROWS, VECTOR_BYTES, Emitter


def make_tile(vectors, adds):
    """An intrinsic that computes one tile of TILE_ROWS rows and `vectors` vectors.

    It adds the product to what `out` holds there, or else puts the product in its place.
    """

    @intrinsic
    def tile(typing, out, left, right, i, j, steps):
        """out[i + k, j + l] += Σ_r left[i + k, r] right[r, j + l]"""

        def generate(context, builder, signature, arguments):
            emit = Emitter(context, builder, signature, arguments)
            _, _, _, i, j, steps = arguments
            lanes = VECTOR_BYTES // context.get_abi_sizeof(context.get_value_type(out.dtype))
            rows = [builder.add(i, INDEX(k)) for k in range(TILE_ROWS)]
            columns = [builder.add(j, INDEX(v * lanes)) for v in range(vectors)]
            places = [[emit.address(0, row, column) for column in columns] for row in rows]

            zero = ir.Constant(ir.VectorType(context.get_value_type(out.dtype), lanes), None)
            totals = [
                [emit.sum_in_registers(emit.load(place, lanes) if adds else zero) for place in line]
                for line in places
            ]
            with cgutils.for_range(builder, steps) as loop:
                vectors_of_right = [
                    emit.load(emit.address(2, loop.index, column), lanes) for column in columns
                ]
                numbers = [emit.address(1, row, loop.index) for row in rows]
                emit.add_outer_product(totals, numbers, vectors_of_right)
            emit.store_sums(totals, places)
            return context.get_dummy_value()

        n = types.intp
        return types.void(out, left, right, n, n, n), generate

    return tile


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

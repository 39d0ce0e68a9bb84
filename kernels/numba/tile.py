"""The innermost step of every matrix multiply here: one tile of the product, held in registers."""

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

HAS_AVX512 = llvmlite.binding.get_host_cpu_features().get("avx512f", False)
VECTOR_BYTES = 64 if HAS_AVX512 else 32
TILE_ROWS = 8 if HAS_AVX512 else 4  # with TILE_VECTORS, 24 sums in 32 registers, or 12 in 16
TILE_VECTORS = 3
BLOCK = 8  # rows and columns that `transpose_block` moves

INDEX = ir.IntType(64)
LANE = ir.IntType(32)


def multiply_kernel(vectors):
    """Make the multiply of TILE_ROWS rows of A by a panel of B that is `vectors` vectors wide."""

    @intrinsic
    def multiply(typing, a, row, column, last, start, panel, panel_start, steps, sums, i, j):
        """sums[i + k, j + l] = start[row + k] + Σ_r a[row + k, column + r] panel[r, l]

        Rows of `a` past the last one read the last one again. The panel is contiguous.

        Each r loads `vectors` vectors of the panel and TILE_ROWS numbers of A, each spread over a
        vector, for TILE_ROWS · vectors vector multiply-adds: 11 loads for 24 multiply-adds. So a
        core that does two of either in a cycle is bound by the multiply-adds, and 24 independent
        sums hide their latency.
        """

        def generate(context, builder, signature, arguments):
            a, row, column, last, start, panel, panel_start, steps, sums, i, j = arguments
            array_type = signature.args[0]
            element = context.get_value_type(array_type.dtype)
            size = context.get_abi_sizeof(element)
            lanes = VECTOR_BYTES // size
            vector = ir.VectorType(element, lanes)

            def item(position, *indices):
                array_type = signature.args[position]
                array = context.make_array(array_type)(context, builder, arguments[position])
                return cgutils.get_item_pointer(
                    context, builder, array_type, array, indices, wraparound=False
                )

            def load(address):
                value = builder.load(builder.bitcast(address, vector.as_pointer()))
                value.align = size
                return value

            def spread(address):
                undefined = ir.Constant(vector, ir.Undefined)
                value = builder.insert_element(undefined, builder.load(address), LANE(0))
                zeros = ir.Constant(ir.VectorType(LANE, lanes), [0] * lanes)
                return builder.shuffle_vector(value, undefined, zeros)

            def multiply_add(x, y, z):
                return builder.fadd(builder.fmul(x, y, flags=["contract"]), z, flags=["contract"])

            # 1. The rows of A, and what their sums start from.
            rows, totals = [], []
            for k in range(TILE_ROWS):
                k_row = builder.add(row, INDEX(k))
                k_row = builder.select(builder.icmp_signed("<", k_row, last), k_row, last)
                rows.append(item(0, k_row, column))
                first = spread(item(4, k_row))
                totals.append([cgutils.alloca_once_value(builder, first) for _ in range(vectors)])

            # 2. One multiply-add a sum for each r, two r's a turn.
            panel = item(5, panel_start)

            def step(r):
                wide = builder.mul(r, INDEX(vectors * lanes))
                columns = [
                    load(builder.gep(panel, [builder.add(wide, INDEX(l * lanes))]))
                    for l in range(vectors)
                ]
                for k in range(TILE_ROWS):
                    number = spread(builder.gep(rows[k], [r]))
                    for column, total in zip(columns, totals[k], strict=True):
                        builder.store(multiply_add(number, column, builder.load(total)), total)

            even = builder.and_(steps, INDEX(-2))
            with cgutils.for_range_slice(builder, INDEX(0), even, INDEX(2)) as (r, _):
                step(r)
                step(builder.add(r, INDEX(1)))
            with builder.if_then(builder.icmp_signed("<", even, steps)):
                step(even)

            # 3. Out of the registers.
            for k in range(TILE_ROWS):
                line = item(8, builder.add(i, INDEX(k)), j)
                for l in range(vectors):
                    address = builder.gep(line, [INDEX(l * lanes)])
                    address = builder.bitcast(address, vector.as_pointer())
                    builder.store(builder.load(totals[k][l]), address).align = size
            return context.get_dummy_value()

        n = types.intp
        return types.void(a, n, n, n, start, panel, n, n, sums, n, n), generate

    return multiply


multiply_1, multiply_2, multiply_3 = map(multiply_kernel, (1, 2, 3))


@intrinsic
def transpose_block(typing, source, row, column, target, target_start, target_stride):
    """target[start + stride · j + i] = source[row + i, column + j] for i, j < BLOCK."""

    def generate(context, builder, signature, arguments):
        source, row, column, target, target_start, target_stride = arguments
        element = context.get_value_type(signature.args[0].dtype)
        size = context.get_abi_sizeof(element)
        vector = ir.VectorType(element, BLOCK)

        def item(position, *indices):
            array_type = signature.args[position]
            array = context.make_array(array_type)(context, builder, arguments[position])
            address = cgutils.get_item_pointer(
                context, builder, array_type, array, indices, wraparound=False
            )
            return builder.bitcast(address, vector.as_pointer())

        rows = []
        for i in range(BLOCK):
            rows.append(builder.load(item(0, builder.add(row, INDEX(i)), column)))
            rows[-1].align = size
        # For each bit of an index, element (i, j + bit) changes places with (i + bit, j).
        for bit in (4, 2, 1):
            upper = [j - bit + BLOCK if j & bit else j for j in range(BLOCK)]
            lower = [j + BLOCK if j & bit else j + bit for j in range(BLOCK)]
            masks = [ir.Constant(ir.VectorType(LANE, BLOCK), choice) for choice in (upper, lower)]
            for i in range(BLOCK):
                if not i & bit:
                    pair = rows[i], rows[i + bit]
                    rows[i], rows[i + bit] = (builder.shuffle_vector(*pair, m) for m in masks)
        for j in range(BLOCK):
            start = builder.add(target_start, builder.mul(target_stride, INDEX(j)))
            builder.store(rows[j], item(3, start)).align = size
        return context.get_dummy_value()

    n = types.intp
    return types.void(source, n, n, target, n, n), generate

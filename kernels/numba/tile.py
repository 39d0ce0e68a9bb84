"""What a matrix multiply does in vector registers, written in LLVM's instructions.

Numba leaves to LLVM which numbers stay in registers, and LLVM does not find a tile of 24 sums by
itself. So the three functions here emit their instructions; LLVM cuts a vector that is wider than
the machine's into several.
"""

import llvmlite.binding
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic


def compiles_for_avx512():
    """Whether Numba does: for this machine, unless NUMBA_CPU_FEATURES says for which."""
    if config.CPU_FEATURES is not None:
        return "+avx512f" in config.CPU_FEATURES.split(",")
    return llvmlite.binding.get_host_cpu_features().get("avx512f", False)


HAS_AVX512 = compiles_for_avx512()
VECTOR_BYTES = 64 if HAS_AVX512 else 32
TILE_ROWS = 8 if HAS_AVX512 else 4  # with TILE_VECTORS: 24 sums in 32 registers, or 12 in 16
TILE_VECTORS = 3
BLOCK = 8  # rows and columns that `transpose_block` moves
LINE_BYTES = 64  # of memory, which come into a cache together

INDEX = ir.IntType(64)
LANE = ir.IntType(32)


class Emitter:
    """Writes LLVM's instructions for one call, whose arguments are arrays and indices."""

    def __init__(self, context, builder, signature, arguments):
        self.context, self.builder = context, builder
        self.types, self.arguments = signature.args, arguments

    def address(self, argument, *indices):
        """The address of an element of the array that is the argument of that number."""
        array_type = self.types[argument]
        array = self.context.make_array(array_type)
        array = array(self.context, self.builder, self.arguments[argument])
        return cgutils.get_item_pointer(
            self.context, self.builder, array_type, array, indices, wraparound=False
        )

    def offset(self, address, count):
        return self.builder.gep(address, [count])

    def load(self, address, lanes):
        vector = ir.VectorType(address.type.pointee, lanes)
        value = self.builder.load(self.builder.bitcast(address, vector.as_pointer()))
        value.align = self.context.get_abi_sizeof(vector.element)
        return value

    def store(self, value, address):
        address = self.builder.bitcast(address, value.type.as_pointer())
        store = self.builder.store(value, address)
        store.align = self.context.get_abi_sizeof(value.type.element)

    def shuffle(self, x, y, lanes):
        """The vector of those lanes of x followed by y."""
        mask = ir.Constant(ir.VectorType(LANE, len(lanes)), list(lanes))
        return self.builder.shuffle_vector(x, y, mask)

    def spread(self, address, lanes):
        """A vector with the number at an address in every lane."""
        undefined = ir.Constant(ir.VectorType(address.type.pointee, lanes), ir.Undefined)
        value = self.builder.insert_element(undefined, self.builder.load(address), LANE(0))
        return self.shuffle(value, undefined, [0] * lanes)

    def multiply_add(self, x, y, z):
        """x · y + z, rounded once where the machine can."""
        product = self.builder.fmul(x, y, flags=["contract"])
        return self.builder.fadd(product, z, flags=["contract"])

    def sum_in_registers(self, start):
        """A vector that LLVM keeps in a register, as it is never asked for its address."""
        return cgutils.alloca_once_value(self.builder, start)

    def add_outer_product(self, totals, numbers, vectors):
        """totals[k][v] += number k · vector v, of numbers at those addresses."""
        for address, line in zip(numbers, totals, strict=True):
            number = self.spread(address, vectors[0].type.count)
            for vector, total in zip(vectors, line, strict=True):
                sum_so_far = self.builder.load(total)
                self.builder.store(self.multiply_add(number, vector, sum_so_far), total)

    def store_sums(self, totals, places):
        """Each sum to the memory at its place."""
        for total_line, place_line in zip(totals, places, strict=True):
            for total, place in zip(total_line, place_line, strict=True):
                self.store(self.builder.load(total), place)


def multiply_kernel(vectors):
    """Make the product of TILE_ROWS rows of A and a panel of B that is `vectors` vectors wide."""

    @intrinsic
    def multiply(typing, a, row, column, last, start, panel, first, steps, sums, i, j):
        """sums[i + k, j + l] = start[row + k] + Σ_r a[row + k, column + r] panel[r, l]

        `panel` is contiguous, from element `first` of its array on; rows of `a` past the `last`
        read the last one again.

        Each r loads `vectors` vectors of the panel and TILE_ROWS numbers of `a`, each spread over
        a vector, for TILE_ROWS · vectors multiply-adds of vectors: 11 loads for 24 of them. A core
        that does two of either in a cycle waits for the multiply-adds alone, and 24 independent
        sums hide that each takes 4 cycles.
        """

        def generate(context, builder, signature, arguments):
            emit = Emitter(context, builder, signature, arguments)
            _, row, column, last, _, _, first, steps, _, i, j = arguments
            lanes = VECTOR_BYTES // context.get_abi_sizeof(context.get_value_type(a.dtype))

            # 1. The rows of A, and what their sums start from.
            rows, totals = [], []
            for k in range(TILE_ROWS):
                k_row = builder.add(row, INDEX(k))
                k_row = builder.select(builder.icmp_signed("<", k_row, last), k_row, last)
                rows.append(emit.address(0, k_row, column))
                begin = emit.spread(emit.address(4, k_row), lanes)
                totals.append([emit.sum_in_registers(begin) for _ in range(vectors)])

            # 2. For each r, one multiply-add a sum. Two r's a turn, since a turn has a cost.
            panel_address = emit.address(5, first)

            def step(r):
                line = emit.offset(panel_address, builder.mul(r, INDEX(vectors * lanes)))
                columns = [
                    emit.load(emit.offset(line, INDEX(v * lanes)), lanes) for v in range(vectors)
                ]
                emit.add_outer_product(totals, [emit.offset(row, r) for row in rows], columns)

            even = builder.and_(steps, INDEX(-2))
            with cgutils.for_range_slice(builder, INDEX(0), even, INDEX(2)) as (r, _):
                step(r)
                step(builder.add(r, INDEX(1)))
            with builder.if_then(builder.icmp_signed("<", even, steps)):
                step(even)

            # 3. The sums, out of the registers.
            lines = [emit.address(8, builder.add(i, INDEX(k)), j) for k in range(TILE_ROWS)]
            parts = [INDEX(v * lanes) for v in range(vectors)]
            emit.store_sums(totals, [[emit.offset(line, part) for part in parts] for line in lines])
            return context.get_dummy_value()

        n = types.intp
        return types.void(a, n, n, n, start, panel, n, n, sums, n, n), generate

    return multiply


multiply_1, multiply_2, multiply_3 = map(multiply_kernel, (1, 2, 3))


@intrinsic
def transpose_block(typing, source, row, column, target, first, stride):
    """target[first + stride · j + i] = source[row + i, column + j], for i and j below BLOCK."""

    def generate(context, builder, signature, arguments):
        emit = Emitter(context, builder, signature, arguments)
        _, row, column, _, first, stride = arguments
        rows = [
            emit.load(emit.address(0, builder.add(row, INDEX(i)), column), BLOCK)
            for i in range(BLOCK)
        ]
        # For each bit of an index, element (i, j + bit) changes places with (i + bit, j).
        for bit in (4, 2, 1):
            upper = [j - bit + BLOCK if j & bit else j for j in range(BLOCK)]
            lower = [j + BLOCK if j & bit else j + bit for j in range(BLOCK)]
            for i in range(BLOCK):
                if not i & bit:
                    x, y = rows[i], rows[i + bit]
                    rows[i], rows[i + bit] = emit.shuffle(x, y, upper), emit.shuffle(x, y, lower)
        for j in range(BLOCK):
            start = builder.add(first, builder.mul(stride, INDEX(j)))
            emit.store(rows[j], emit.address(3, start))
        return context.get_dummy_value()

    n = types.intp
    return types.void(source, n, n, target, n, n), generate


@intrinsic
def prefetch(typing, x, row, column):
    """Ask for the memory line of an element, which need not exist, to be brought near."""

    def generate(context, builder, signature, arguments):
        emit = Emitter(context, builder, signature, arguments)
        pointer = ir.IntType(8).as_pointer()
        function_type = ir.FunctionType(ir.VoidType(), [pointer, LANE, LANE, LANE])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        address = builder.bitcast(emit.address(0, *arguments[1:]), pointer)
        reading, into_level_2, data = LANE(0), LANE(2), LANE(1)
        builder.call(function, [address, reading, into_level_2, data])
        return context.get_dummy_value()

    return types.void(x, types.intp, types.intp), generate


@intrinsic
def copy_width(typing, x, row, column, panels, first):
    """panels[first + j] = x[row, column + j] for all j of a panel's width.

    A loop over j would be compiled for any width, and take most of its time to find out which.
    """

    def generate(context, builder, signature, arguments):
        emit = Emitter(context, builder, signature, arguments)
        _, row, column, _, first = arguments
        lanes = VECTOR_BYTES // context.get_abi_sizeof(context.get_value_type(x.dtype))
        source, target = emit.address(0, row, column), emit.address(3, first)
        for v in range(TILE_VECTORS):
            part = INDEX(v * lanes)
            emit.store(emit.load(emit.offset(source, part), lanes), emit.offset(target, part))
        return context.get_dummy_value()

    n = types.intp
    return types.void(x, n, n, panels, n), generate

// The words that a kernel is written in, beyond CUDA's own; and the only place that tells a GPU
// from the stand-in on the CPU, which gives each of them its plain meaning.
#pragma once

// ---- Four types, two to compute in ------------------------------------------------------------

struct Half {
    unsigned short bits;
};
struct BFloat16 {
    unsigned short bits;
};

// What sums, statistics and softmax of a type are computed in: float32, or float64 for float64.
template <class T>
struct Wide {
    using type = float;
};
template <>
struct Wide<double> {
    using type = double;
};
template <class T>
using wide = typename Wide<T>::type;

#ifdef __CUDACC__

#define SHARED(type, name, ...) __shared__ type name __VA_ARGS__
#define DYN_SHARED(type, name)                                    \
    extern __shared__ __align__(16) unsigned char dynamic_shared[]; \
    type* name = reinterpret_cast<type*>(dynamic_shared)

__device__ __forceinline__ unsigned bits_of(float x) { return __float_as_uint(x); }
__device__ __forceinline__ float float_of(unsigned bits) { return __uint_as_float(bits); }
__device__ __forceinline__ float widen(Half x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}
__device__ __forceinline__ float widen(BFloat16 x) {
    return float_of(static_cast<unsigned>(x.bits) << 16);
}
__device__ __forceinline__ Half narrow_to_half(float x) {
    Half y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}
__device__ __forceinline__ void check_aligned(const void*, int) {}

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}
// 16 bytes from an array to shared memory, while the thread goes on; zeros where not `valid`.
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(global), "r"(valid ? 16 : 0) : "memory");
}
// Closes a group of copies.
__device__ __forceinline__ void copy_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until all of this thread's groups have arrived but the newest LEFT. Other threads' copies
// are there after a barrier.
template <int LEFT>
__device__ __forceinline__ void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

// 2ˣ.
__device__ __forceinline__ float power_of_2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
// 1 / x, to one unit in the last place.
__device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// The compiler takes 16 bytes in registers, and all memory, for new ones: what it had computed from
// them, or loaded, it computes and loads again, and keeps in no registers until then.
__device__ __forceinline__ void renew(void* bytes) {
    unsigned* words = static_cast<unsigned*>(bytes);
#pragma unroll
    for (int i = 0; i < 4; i++) asm volatile("" : "+r"(words[i])::"memory");
}

// Two numbers, narrowed, in one register: the first in the low half.
template <class T>
__device__ __forceinline__ unsigned narrow_pair(float first, float second);
template <>
__device__ __forceinline__ unsigned narrow_pair<Half>(float first, float second) {
    unsigned pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
}
template <>
__device__ __forceinline__ unsigned narrow_pair<BFloat16>(float first, float second) {
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
}

// Four 8 × 8 matrices of 2-byte numbers. Lane l says where row l % 8 of matrix l / 8 lies, at 16
// bytes; lane l gets, of each matrix, columns 2 (l % 4) and the next of row l / 4, in one register.
__device__ __forceinline__ void load_matrices(unsigned (&out)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row)) : "memory");
}
// The same of the matrices transposed: rows 2 (l % 4) and the next, of column l / 4.
__device__ __forceinline__ void load_matrices_transposed(unsigned (&out)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row)) : "memory");
}

// sums (16 × 8) += left (16 × 16) · right (16 × 8), the warp together: mma.m16n8k16.
//
// Of lane l, with g = l / 4 and t = 2 (l % 4): `left` holds the pairs from (row g, column t), (g + 8,
// t), (g, t + 8) and (g + 8, t + 8) on; `right_0` and `right_1` rows t, t + 1 and t + 8, t + 9 of
// column g; `sums` (g, t), (g, t + 1), (g + 8, t), (g + 8, t + 1).
template <class T>
__device__ __forceinline__ void multiply_add(float (&sums)[4], const unsigned (&left)[4],
                                             unsigned right_0, unsigned right_1);
template <>
__device__ __forceinline__ void multiply_add<Half>(float (&sums)[4], const unsigned (&left)[4],
                                                   unsigned right_0, unsigned right_1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_0), "r"(right_1));
}
template <>
__device__ __forceinline__ void multiply_add<BFloat16>(float (&sums)[4], const unsigned (&left)[4],
                                                       unsigned right_0, unsigned right_1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_0), "r"(right_1));
}

// To a float32 with 11 significant bits, which is what tf32 means; halves away from zero.
__device__ __forceinline__ unsigned round_to_tf32(float x) {
    unsigned y;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
    return y;
}
// The same for numbers rounded to tf32, one in a register, and half as deep: left (16 × 8) · right
// (8 × 8), mma.m16n8k8. Of lane l, with g = l / 4 and t = l % 4: `left` holds (row g, column t),
// (g + 8, t), (g, t + 4) and (g + 8, t + 4); `right_0` and `right_1` rows t and t + 4 of column g.
template <>
__device__ __forceinline__ void multiply_add<float>(float (&sums)[4], const unsigned (&left)[4],
                                                    unsigned right_0, unsigned right_1) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_0), "r"(right_1));
}

// ---- Hopper: barriers that count, copies of whole boxes, multiplications by four warps -----------

// How an array lies in memory, for copies of boxes of it. The executor makes it.
struct alignas(64) TensorMap {
    unsigned char opaque[128];
};
// Ends a phase when `count` have arrived, and all the bytes that they said would come.
using PhaseBarrier = unsigned long long;

// What this thread wrote to shared memory, as the copies and the tensor cores will see it.
__device__ __forceinline__ void fence_async() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
// Waits until `threads` threads, whole warps, are at the barrier of this number; 0 is the block's.
__device__ __forceinline__ void barrier_of(int number, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}
__device__ __forceinline__ void phase_begin(PhaseBarrier* barrier, int count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count)
                 : "memory");
}
__device__ __forceinline__ void phase_arrive(PhaseBarrier* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
// Arrives, and says how many bytes of copies this phase has to wait for, too.
__device__ __forceinline__ void phase_expect(PhaseBarrier* barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                     shared_address(barrier)),
                 "r"(bytes) : "memory");
}
// Waits until the last phase of this parity is over: phases 0, 2, 4 … have parity 0.
__device__ __forceinline__ void phase_wait(PhaseBarrier* barrier, int parity) {
    asm volatile(
        "{\n"
        ".reg .pred over;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 over, [%0], %1;\n"
        "@!over bra again;\n"
        "}" ::"r"(shared_address(barrier)), "r"(parity) : "memory");
}
// One box of an array with three axes, from [z][y][x] on, to shared memory, while the thread goes on;
// zeros beyond the array. Rows of 128 bytes, whose 16-byte pieces change places: row r has piece i
// at place i ^ (r % 8), so that eight rows of one column meet different banks.
__device__ __forceinline__ void copy_box(void* shared, const TensorMap* map, int z, int y, int x,
                                         PhaseBarrier* barrier) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%2, %3, %4}], [%5];" ::"r"(shared_address(shared)),
        "l"(map), "r"(x), "r"(y), "r"(z), "r"(shared_address(barrier)) : "memory");
}

// Of the registers that the next multiplications read and add to, all is written.
__device__ __forceinline__ void multiply_begin() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void multiply_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Registers that a multiplication has to do with are touched neither before nor after this.
template <int N>
__device__ __forceinline__ void hold(float (&sums)[N][4]) {
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) asm volatile("" : "+f"(sums[n][i])::"memory");
}
// Waits for all multiplications; their sums are there from here on.
template <int... N>
__device__ __forceinline__ void multiply_wait(float (&... sums)[N][4]) {
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    (hold(sums), ...);
}

#define SUMS_64                                                                              \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, " \
    "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"
#define EIGHT(n)                                                                          \
    "+f"(sums[n][0]), "+f"(sums[n][1]), "+f"(sums[n][2]), "+f"(sums[n][3]),               \
        "+f"(sums[n + 1][0]), "+f"(sums[n + 1][1]), "+f"(sums[n + 1][2]), "+f"(sums[n + 1][3])
#define MULTIPLY_ASYNC(Type, name)                                                           \
    template <>                                                                              \
    __device__ __forceinline__ void multiply_async<Type>(                                    \
        float (*sums)[4], unsigned long long left, unsigned long long right, bool adds) {    \
        asm volatile(                                                                        \
            "{\n.reg .pred adds;\nsetp.ne.b32 adds, %34, 0;\n"                               \
            "wgmma.mma_async.sync.aligned.m64n64k16.f32." name "." name " " SUMS_64          \
            ", %32, %33, adds, 1, 1, 0, 0;\n}"                                               \
            : EIGHT(0), EIGHT(2), EIGHT(4), EIGHT(6)                                         \
            : "l"(left), "l"(right), "r"(static_cast<int>(adds)) : "memory");                \
    }                                                                                        \
    template <>                                                                              \
    __device__ __forceinline__ void multiply_async_transposed<Type>(                         \
        float (*sums)[4], const unsigned (&left)[4], unsigned long long right) {             \
        asm volatile("{\n.reg .pred adds;\nsetp.eq.b32 adds, 0, 0;\n"                        \
                     "wgmma.mma_async.sync.aligned.m64n64k16.f32." name "." name " " SUMS_64 \
                     ", {%32, %33, %34, %35}, %36, adds, 1, 1, 1;\n}"                        \
                     : EIGHT(0), EIGHT(2), EIGHT(4), EIGHT(6)                                \
                     : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right)    \
                     : "memory");                                                            \
    }

// sums (64 × 64) = or += left (64 × 16) · rightᵀ, four warps together: warp w of them has rows 16 w …
// of the sums, its lanes as in `multiply_add`. Of `right`, 64 rows of 16 numbers; both as
// `matrix_at` describes them. While it goes on, nothing may touch the sums or the matrices.
template <class T>
__device__ __forceinline__ void multiply_async(float (*sums)[4], unsigned long long left,
                                               unsigned long long right, bool adds);
// sums (64 × 64) += left (64 × 16) · right (16 × 64): `left` from registers, as in `multiply_add`;
// of `right`, 16 rows of 64 numbers.
template <class T>
__device__ __forceinline__ void multiply_async_transposed(float (*sums)[4],
                                                          const unsigned (&left)[4],
                                                          unsigned long long right);
MULTIPLY_ASYNC(Half, "f16")
MULTIPLY_ASYNC(BFloat16, "bf16")

#else

#include "stand_in/cuda_on_cpu.h"

#define SHARED(type, name, ...)                                                            \
    static char tag_of_##name;                                                             \
    type(&name) __VA_ARGS__ = *reinterpret_cast<type(*) __VA_ARGS__>(                      \
        stand_in::shared(&tag_of_##name, sizeof(type __VA_ARGS__), #name))
#define DYN_SHARED(type, name) type* name = static_cast<type*>(stand_in::dynamic_shared())

inline unsigned bits_of(float x) { return __builtin_bit_cast(unsigned, x); }
inline float float_of(unsigned bits) { return __builtin_bit_cast(float, bits); }
inline float widen(Half x) { return __builtin_bit_cast(_Float16, x.bits); }
inline float widen(BFloat16 x) { return float_of(static_cast<unsigned>(x.bits) << 16); }
inline Half narrow_to_half(float x) {
    return {__builtin_bit_cast(unsigned short, static_cast<_Float16>(x))};
}
inline void check_aligned(const void* address, int size) {
    stand_in::check_aligned(address, size);
}
inline void copy_async(void* shared, const void* global, bool valid) {
    stand_in::copy_async(shared, global, 16, valid);
}
inline void copy_async_commit() { stand_in::copy_async_commit(); }
template <int LEFT>
void copy_async_wait() {
    stand_in::copy_async_wait(LEFT);
}

inline float power_of_2(float x) { return __builtin_exp2f(x); }
inline float reciprocal(float x) { return 1 / x; }
inline void renew(void*) {}

template <class T>
T narrow(wide<T> x);
template <class T>
unsigned narrow_pair(float first, float second) {
    return narrow<T>(first).bits | static_cast<unsigned>(narrow<T>(second).bits) << 16;
}

// Where lane 0, 1, … said that its row lies. An array of the stand-in: not watched.
UNWATCHED inline const char* row_of_lane(const void* own, int lane_0, int lane_1,
                                         const char** second) {
    check_aligned(own, 16);
    const void* const* rows = static_cast<const void* const*>(stand_in::exchange(&own, sizeof own));
    *second = static_cast<const char*>(rows[lane_1]);
    return static_cast<const char*>(rows[lane_0]);
}
inline void load_matrices(unsigned (&out)[4], const void* row) {
    const int lane = stand_in::lane();
    for (int matrix = 0; matrix < 4; matrix++) {
        const int source = matrix * 8 + lane / 4;
        const char* same;
        const char* from = row_of_lane(row, source, source, &same);
        out[matrix] = reinterpret_cast<const unsigned*>(from)[lane % 4];
    }
}
inline void load_matrices_transposed(unsigned (&out)[4], const void* row) {
    const int lane = stand_in::lane();
    for (int matrix = 0; matrix < 4; matrix++) {
        const int source = matrix * 8 + lane % 4 * 2;
        const char* second;
        const char* first = row_of_lane(row, source, source + 1, &second);
        const unsigned low = reinterpret_cast<const unsigned short*>(first)[lane / 4];
        const unsigned high = reinterpret_cast<const unsigned short*>(second)[lane / 4];
        out[matrix] = low | high << 16;
    }
}

using stand_in::TensorMap;
using stand_in::fence_async;
using stand_in::multiply_begin;
using stand_in::multiply_commit;
using stand_in::shared_address;
using PhaseBarrier = unsigned long long;
inline void barrier_of(int number, int threads) { stand_in::named_barrier(number, threads); }
inline void phase_begin(PhaseBarrier* barrier, int count) { stand_in::phased_begin(barrier, count); }
inline void phase_arrive(PhaseBarrier* barrier) { stand_in::phased_arrive(barrier, 0); }
inline void phase_expect(PhaseBarrier* barrier, int bytes) {
    stand_in::phased_arrive(barrier, bytes);
}
inline void phase_wait(PhaseBarrier* barrier, int parity) { stand_in::phased_wait(barrier, parity); }
inline void copy_box(void* shared, const TensorMap* map, int z, int y, int x, PhaseBarrier* barrier) {
    stand_in::copy_bulk(shared, *map, z, y, x, barrier);
}
template <int... N>
void multiply_wait(float (&... sums)[N][4]) {
    stand_in::multiply_wait();
}

struct Fragments {
    unsigned left[4], right[2];
};
template <class T>
float half_of(unsigned pair, int which) {
    return widen(T{static_cast<unsigned short>(which ? pair >> 16 : pair)});
}
template <class T>
UNWATCHED void multiply_add(float (&sums)[4], const unsigned (&left)[4], unsigned right_0,
                            unsigned right_1) {
    const Fragments own = {{left[0], left[1], left[2], left[3]}, {right_0, right_1}};
    const Fragments* of = static_cast<const Fragments*>(stand_in::exchange(&own, sizeof own));
    const int lane = stand_in::lane();
    for (int i = 0; i < 4; i++) {
        const int row = lane / 4, column = lane % 4 * 2 + i % 2;
        for (int k = 0; k < 16; k++) {
            const int place = k % 8 / 2;
            const unsigned a = of[row * 4 + place].left[i / 2 + k / 8 * 2];
            const unsigned b = of[column * 4 + place].right[k / 8];
            sums[i] += half_of<T>(a, k % 2) * half_of<T>(b, k % 2);
        }
    }
}

inline unsigned round_to_tf32(float x) {
    if (x != x) return 0x7fc00000u;
    return (bits_of(x) + 0x1000u) & ~0x1fffu;
}
// A GPU reads no more of an operand than tf32 has: one that was not rounded is a mistake.
template <>
UNWATCHED inline void multiply_add<float>(float (&sums)[4], const unsigned (&left)[4],
                                          unsigned right_0, unsigned right_1) {
    const Fragments own = {{left[0], left[1], left[2], left[3]}, {right_0, right_1}};
    for (unsigned bits : own.left) stand_in::check_tf32(bits);
    for (unsigned bits : own.right) stand_in::check_tf32(bits);
    const Fragments* of = static_cast<const Fragments*>(stand_in::exchange(&own, sizeof own));
    const int lane = stand_in::lane();
    for (int i = 0; i < 4; i++) {
        const int row = lane / 4, column = lane % 4 * 2 + i % 2;
        for (int k = 0; k < 8; k++)
            sums[i] += float_of(of[row * 4 + k % 4].left[i / 2 + k / 4 * 2]) *
                       float_of(of[column * 4 + k % 4].right[k / 4]);
    }
}

template <class T>
float widened_bits(unsigned short bits) {
    return widen(T{bits});
}
template <class T>
UNWATCHED void multiply_async(float (*sums)[4], unsigned long long left, unsigned long long right,
                              bool adds) {
    stand_in::multiply({sums, widened_bits<T>, left, right, true, false, adds, {}, true, {}});
}
template <class T>
UNWATCHED void multiply_async_transposed(float (*sums)[4], const unsigned (&left)[4],
                                         unsigned long long right) {
    stand_in::Multiplication m = {sums, widened_bits<T>, 0, right, false, true, true, {}, true, {}};
    const Fragments own = {{left[0], left[1], left[2], left[3]}, {}};
    const Fragments* of = static_cast<const Fragments*>(stand_in::exchange(&own, sizeof own));
    const int row = stand_in::lane() / 4;
    for (int half = 0; half < 2; half++)
        for (int k = 0; k < 16; k++)
            m.left_values[half][k] =
                half_of<T>(of[row * 4 + k % 8 / 2].left[half + k / 8 * 2], k % 2);
    stand_in::multiply(m);
}

#endif

// What tells a multiplication where a matrix lies: rows of 128 bytes, as `copy_box` leaves them, the
// first eight of them at a multiple of 1024 bytes and eight more every 1024. `first` may be any
// multiple of 16 numbers of the first row, or the first number of any eighth row.
__device__ __forceinline__ unsigned long long matrix_at(const void* first) {
    constexpr unsigned long long EIGHT_ROWS = 1024 >> 4, MIXED_BY_128_BYTES = 1;
    return MIXED_BY_128_BYTES << 62 | EIGHT_ROWS << 32 | 1ull << 16 | (shared_address(first) >> 4);
}

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }

// To the nearest number of type T, halves to even.
template <class T>
__device__ __forceinline__ T narrow(wide<T> x) {
    return x;
}
template <>
__device__ __forceinline__ Half narrow<Half>(float x) {
    return narrow_to_half(x);
}
template <>
__device__ __forceinline__ BFloat16 narrow<BFloat16>(float x) {
#if __CUDA_ARCH__ >= 800
    BFloat16 y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
#else
    const unsigned bits = bits_of(x);
    if (x != x) return {static_cast<unsigned short>(bits >> 16 | 0x40)};  // stays not a number
    return {static_cast<unsigned short>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
#endif
}

// The lowest finite number.
template <class A>
__device__ __forceinline__ A lowest();
template <>
__device__ __forceinline__ float lowest<float>() {
    return -3.402823466e+38f;
}
template <>
__device__ __forceinline__ double lowest<double>() {
    return -1.7976931348623157e+308;
}

template <class A>
__device__ __forceinline__ A not_a_number() {
    return float_of(0x7fc00000u);
}

// ---- 16 bytes at once -------------------------------------------------------------------------

// As many numbers as one thread loads or stores with one instruction.
template <class T>
struct alignas(16) Pack {
    static constexpr int SIZE = 16 / sizeof(T);
    T values[SIZE];
};
template <class T>
__device__ __forceinline__ Pack<T> load_pack(const T* from) {
    check_aligned(from, 16);
    return *reinterpret_cast<const Pack<T>*>(from);
}
template <class T>
__device__ __forceinline__ void store_pack(T* to, const Pack<T>& pack) {
    check_aligned(to, 16);
    *reinterpret_cast<Pack<T>*>(to) = pack;
}

// ---- Sums over a warp and a block -------------------------------------------------------------

constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr int WARP_SIZE = 32;

// Σ over a warp, or over each group of LANES neighbours in it; every lane gets it. Always in the same
// order, so the same bits.
template <int LANES = WARP_SIZE, class A>
__device__ __forceinline__ A warp_sum(A x) {
#pragma unroll
    for (int distance = LANES / 2; distance > 0; distance /= 2)
        x += __shfl_xor_sync(ALL_LANES, x, distance);
    return x;
}
template <int LANES = WARP_SIZE, class A>
__device__ __forceinline__ A warp_max(A x) {
#pragma unroll
    for (int distance = LANES / 2; distance > 0; distance /= 2)
        x = fmax(x, __shfl_xor_sync(ALL_LANES, x, distance));
    return x;
}

// Two sums over the block at once; every thread gets both. Threads of a block: whole warps, in x.
template <class A>
struct Pair {
    A first, second;
};
template <class A>
__device__ __forceinline__ Pair<A> block_sums(A first, A second) {
    SHARED(A, sums, [2][WARP_SIZE]);
    const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
    const int warps = blockDim.x / WARP_SIZE;
    first = warp_sum(first);
    second = warp_sum(second);
    __syncthreads();  // all have read the sums of the call before
    if (lane == 0) {
        sums[0][warp] = first;
        sums[1][warp] = second;
    }
    __syncthreads();
    first = warp_sum(lane < warps ? sums[0][lane] : A(0));
    second = warp_sum(lane < warps ? sums[1][lane] : A(0));
    return {first, second};
}
template <class A>
__device__ __forceinline__ A block_sum(A x) {
    return block_sums(x, A(0)).first;
}
// The largest of the block; every thread gets it. Once a kernel: a second call would have to wait until
// all have read the numbers of the first.
template <class A>
__device__ __forceinline__ A block_max(A x) {
    SHARED(A, largest, [WARP_SIZE]);
    const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
    const int warps = blockDim.x / WARP_SIZE;
    x = warp_max(x);
    if (lane == 0) largest[warp] = x;
    __syncthreads();
    return warp_max(lane < warps ? largest[lane] : lowest<A>());
}

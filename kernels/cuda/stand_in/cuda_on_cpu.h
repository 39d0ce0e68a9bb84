// What stands in for CUDA when g++ compiles a kernel: its words, and the functions of runtime.cpp.
//
// The kernel's translation unit is compiled with -fsanitize=thread, so that each access to memory
// calls a function of runtime.cpp first. No function here that belongs to the stand-in is watched.
#pragma once
#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__
#define __grid_constant__
#define UNWATCHED __attribute__((no_sanitize("thread"), noinline))

struct uint3 {
    unsigned x, y, z;
};

namespace stand_in {
uint3 thread_index();
uint3 block_index();
uint3 block_size();
uint3 grid_size();
int lane();
void block_barrier();
int block_or(int predicate);
void warp_barrier();
// Every lane of the warp lays down `size` bytes; the answer is all 32 of them, end to end.
const void* exchange(const void* own, int size);
void* shared(const void* tag, unsigned long size, const char* name);
void* dynamic_shared();
void begin_atomic(const void* address, int size);
void check_aligned(const void* address, int size);
void check_tf32(unsigned bits);
void copy_async(void* shared, const void* global, int size, bool valid);
void copy_async_commit();
void copy_async_wait(int groups_left);
void named_barrier(int number, int expected);

// Bytes from the beginning of all shared memory; and where 128-byte rows are mixed, the place of what
// would lie there: bits 4 to 6 change with bits 7 to 9.
unsigned shared_address(const void* address);
inline unsigned swizzled(unsigned address) { return address ^ (address >> 7 & 7) << 4; }
void fence_async();
void phased_begin(void* barrier, int count);
void phased_arrive(void* barrier, int bytes);
void phased_wait(void* barrier, int parity);

// What host.py makes of an array in place of a GPU's tensor map; the last axis is contiguous.
struct TensorMap {
    const char* array;
    int shape[3], box[3], item_size;
    char filled_up[128 - 8 - 7 * 4];
};
void copy_bulk(void* shared, const TensorMap& map, int z, int y, int x, void* barrier);

// One lane's part of sums (64 × 64) += left (64 × 16) · right (16 × 64).
struct Multiplication {
    float (*sums)[4];
    float (*widened)(unsigned short);
    unsigned long long left, right;  // descriptors
    bool left_in_shared, transposed, adds;
    float left_values[2][16];  // of rows lane / 4 and the eighth after it, where it is in registers
    bool begins;               // no earlier one goes on in the same sums
    float before[8][4];
};
void multiply_begin();
void multiply(Multiplication multiplication);
void multiply_commit();
void multiply_wait();
}  // namespace stand_in

#define threadIdx (stand_in::thread_index())
#define blockIdx (stand_in::block_index())
#define blockDim (stand_in::block_size())
#define gridDim (stand_in::grid_size())

inline void __syncthreads() { stand_in::block_barrier(); }
inline int __syncthreads_or(int predicate) { return stand_in::block_or(predicate); }
inline void __syncwarp() { stand_in::warp_barrier(); }

// The value that lane `source` laid down.
template <class V>
UNWATCHED V value_of_lane(V value, int source) {
    return static_cast<const V*>(stand_in::exchange(&value, sizeof(V)))[source & 31];
}
template <class V>
V __shfl_sync(unsigned, V value, int source) {
    return value_of_lane(value, source);
}
template <class V>
V __shfl_xor_sync(unsigned, V value, int mask) {
    return value_of_lane(value, stand_in::lane() ^ mask);
}
template <class V>
V __shfl_down_sync(unsigned, V value, int delta) {
    const int source = stand_in::lane() + delta;
    return value_of_lane(value, source < 32 ? source : stand_in::lane());
}
UNWATCHED inline unsigned __ballot_sync(unsigned, int predicate) {
    const int* all = static_cast<const int*>(stand_in::exchange(&predicate, sizeof(int)));
    unsigned ballot = 0;
    for (int lane = 0; lane < 32; lane++) ballot |= (all[lane] != 0) * (1u << lane);
    return ballot;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }

// A block's threads take turns only where they wait, so nothing comes between read and write.
template <class V>
UNWATCHED V atomicAdd(V* address, V value) {
    stand_in::begin_atomic(address, sizeof(V));
    const V before = *address;
    *address = before + value;
    return before;
}

inline float exp(float x) { return __builtin_expf(x); }
inline float log(float x) { return __builtin_logf(x); }
inline float sqrt(float x) { return __builtin_sqrtf(x); }
inline float fma(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
inline float fmax(float x, float y) { return __builtin_fmaxf(x, y); }
inline double exp(double x) { return __builtin_exp(x); }
inline double log(double x) { return __builtin_log(x); }
inline double sqrt(double x) { return __builtin_sqrt(x); }
inline double fma(double x, double y, double z) { return __builtin_fma(x, y, z); }
inline double fmax(double x, double y) { return __builtin_fmax(x, y); }
template <class V>
V min(V x, V y) {
    return y < x ? y : x;
}
template <class V>
V max(V x, V y) {
    return x < y ? y : x;
}
inline unsigned __umulhi(unsigned x, unsigned y) {
    return static_cast<unsigned long>(x) * y >> 32;
}

// One thread's run of a kernel, its arguments read from where `values` points.
template <class... Parameters, unsigned long... I>
UNWATCHED void call(void (*kernel)(Parameters...), void** values, std::index_sequence<I...>) {
    kernel(*static_cast<Parameters*>(values[I])...);
}
template <class... Parameters>
UNWATCHED void call(void (*kernel)(Parameters...), void** values) {
    call(kernel, values, std::index_sequence_for<Parameters...>());
}

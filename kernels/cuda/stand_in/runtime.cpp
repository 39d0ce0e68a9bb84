// CUDA's machine on one CPU thread: blocks in turn, a block's threads as fibers, and a record of
// every access to memory.
//
// Each cell of shared memory (2 bytes) and of an array (one element) remembers who wrote it last,
// who read it last, and when: in which block, after how many barriers of the block and of the warp.
// Two accesses to one cell, one of them a write, are a race unless a barrier lies between them or
// one thread makes both. What follows from that is found at every run, whatever the order in which
// the threads happened to go.
//
// Not seen: a race between two launches, or by way of two arrays that overlap; global memory that
// nothing wrote (the tests fill it with NaN); an access past one array that lands in another; lanes
// that meet at two different shuffles, or threads at two different barriers; the mask of a shuffle,
// taken to be that of the whole warp; fences.
#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include <sys/mman.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif

#include "cuda_on_cpu.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

// ---- Fibers -----------------------------------------------------------------------------------

void fiber_main();

#ifdef __x86_64__
// A context is a stack pointer: the six registers a call preserves lie on the stack itself.
struct Context {
    void* stack_pointer;
};
extern "C" void stand_in_swap(void** save, void* load);
asm(R"(
.text
.hidden stand_in_swap
.globl stand_in_swap
stand_in_swap:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
void swap(Context& from, Context& to) { stand_in_swap(&from.stack_pointer, to.stack_pointer); }
void prepare(Context& context, char* stack, size_t size) {
    void** top = reinterpret_cast<void**>(stack + size) - 8;  // aligned to 16 after `ret`, less 8
    std::fill(top, top + 8, nullptr);
    top[6] = reinterpret_cast<void*>(fiber_main);
    context.stack_pointer = top;
}
#else  // slower, on any processor
using Context = ucontext_t;
void swap(Context& from, Context& to) { swapcontext(&from, &to); }
void prepare(Context& context, char* stack, size_t size) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = size;
    makecontext(&context, fiber_main, 0);
}
#endif

// ---- State of the launch ----------------------------------------------------------------------

constexpr int WARP = 32;
constexpr int MAX_THREADS = 1024;
constexpr unsigned MAX_GRID = 65535;  // in y and in z
constexpr size_t STACK = 128 * 1024;
constexpr size_t GAP = 256;  // between shared arrays, so that one's end is not another's start
constexpr size_t SHARED_LIMIT = 227 * 1024;
constexpr size_t SHARED_CELL = 2;
constexpr int MAX_EXCHANGE = 32;  // bytes a lane may lay down

struct Copy {
    char* shared;
    const char* global;
    int size;
    bool valid;
    bool arrived;
};

enum State { READY, WAITING, ENDED };

struct Thread {
    Context context;
    State state;
    int turn;  // which of the warp's two exchange buffers is next
    std::vector<Copy> issued;
    std::vector<std::vector<Copy>> groups;
};

struct Barrier {
    int expected;
    std::vector<int> waiting;
};

struct Warp {
    Barrier sync, exchange;
    unsigned epoch;
    char values[2][WARP * MAX_EXCHANGE];
};

// Who touched a cell, and when. `thread` may also be one of these:
constexpr int SEVERAL_WARPS = -1, ATOMIC = -2, SEVERAL_OF_WARP_0 = -3;  // of warp w: −3 − w
constexpr unsigned NOBODY = 0, SEVERAL_BLOCKS = ~0u;
struct Mark {
    unsigned block = NOBODY;  // counted from 1
    int thread = 0;
    unsigned block_epoch = 0, warp_epoch = 0;
};
struct Cell {
    Mark write, read;
    bool in_flight = false;
};

struct Region {
    char* begin;
    size_t size, cell_size;
    bool shared, writable;
    const void* tag;
    char name[64];
    std::vector<Cell> cells;
};

uint3 grid, block, block_at;
int threads, warps, current, alive;
unsigned block_number, block_epoch, launch_seed;
bool failed;
char* message;
int message_size;
void (*run_kernel)(void**);
void** arguments;

Context scheduler;
std::vector<Thread> fibers(MAX_THREADS);
std::vector<Warp> warp_states(MAX_THREADS / WARP);
std::vector<int> warp_order;
Barrier block_sync;
int predicate, agreed_predicate;  // of the barrier that fills, and of the one before it
char* stacks;
std::vector<Region> regions;
size_t last_region, arena_used, dynamic_size;
char* arena;
std::mt19937 generator;

int warp_of(int thread) { return thread / WARP; }

__attribute__((format(printf, 1, 2))) void fail(const char* format, ...) {
    const int start = std::snprintf(message, message_size, "block (%u, %u, %u), thread %d: ",
                                    block_at.x, block_at.y, block_at.z, current);
    va_list rest;
    va_start(rest, format);
    std::vsnprintf(message + start, message_size - start, format, rest);
    va_end(rest);
    failed = true;
    swap(fibers[current].context, scheduler);  // for good
    std::abort();
}

// ---- Barriers and the scheduler ---------------------------------------------------------------

void wait_at(Barrier& barrier, unsigned* epoch) {
    barrier.waiting.push_back(current);
    fibers[current].state = WAITING;
    if (static_cast<int>(barrier.waiting.size()) == barrier.expected) {
        for (int thread : barrier.waiting) fibers[thread].state = READY;
        barrier.waiting.clear();
        if (epoch) ++*epoch;
        if (&barrier == &block_sync) {
            agreed_predicate = predicate;
            predicate = 0;
        }
        if (launch_seed) std::shuffle(warp_order.begin(), warp_order.end(), generator);
    }
    swap(fibers[current].context, scheduler);
}

// The first thread that can go on, of the first warp that has one. In random order the warps are
// dealt anew at every barrier, so that one may run far ahead of the others.
int next_thread() {
    for (int warp : warp_order)
        for (int t = warp * WARP; t < std::min(threads, (warp + 1) * WARP); t++)
            if (fibers[t].state == READY) return t;
    return -1;
}

void fiber_main() {
    run_kernel(arguments);
    fibers[current].state = ENDED;
    alive--;
    swap(fibers[current].context, scheduler);
}

void run_block() {
    block_number++;
    block_epoch = 0;
    alive = threads;
    block_sync = {threads, {}};
    predicate = 0;
    for (int w = 0; w < warps; w++) {
        const int lanes = std::min(WARP, threads - w * WARP);
        warp_states[w].sync = warp_states[w].exchange = {lanes, {}};
        warp_states[w].epoch = 0;
    }
    for (int t = 0; t < threads; t++) {
        fibers[t].state = READY;
        fibers[t].turn = 0;
        fibers[t].issued.clear();
        fibers[t].groups.clear();
        prepare(fibers[t].context, stacks + t * STACK, STACK);
    }
    while (alive > 0 && !failed) {
        const int next = next_thread();
        if (next < 0) {
            int warp_waits = 0;
            for (int w = 0; w < warps; w++)
                warp_waits += static_cast<int>(warp_states[w].sync.waiting.size() +
                                               warp_states[w].exchange.waiting.size());
            std::snprintf(message, message_size,
                          "block (%u, %u, %u): deadlock: of %d threads, %d wait at a barrier of the "
                          "block, %d at one of a warp, %d have ended",
                          block_at.x, block_at.y, block_at.z, threads,
                          static_cast<int>(block_sync.waiting.size()), warp_waits, threads - alive);
            failed = true;
            return;
        }
        current = next;
        swap(scheduler, fibers[current].context);
    }
}

// ---- The record of accesses -------------------------------------------------------------------

Mark now(int thread) {
    return {block_number, thread, block_epoch, warp_states[warp_of(current)].epoch};
}

// Whether what the mark says happened before what the current thread does now.
bool ordered(const Mark& mark, bool atomic) {
    if (mark.block == NOBODY) return true;
    if (mark.block != block_number) return mark.thread == ATOMIC && atomic;
    if (mark.block_epoch < block_epoch || mark.thread == current) return true;
    if (mark.thread == ATOMIC) return atomic;
    if (mark.thread == SEVERAL_WARPS) return false;
    const int warp =
        mark.thread >= 0 ? warp_of(mark.thread) : SEVERAL_OF_WARP_0 - mark.thread;
    return warp == warp_of(current) && mark.warp_epoch < warp_states[warp].epoch;
}

void remember_read(Mark& mark) {
    const Mark before = mark;
    mark = now(current);
    if (ordered(before, false)) return;
    if (before.block != block_number)
        mark.block = SEVERAL_BLOCKS;
    else if (before.thread == SEVERAL_WARPS)
        mark.thread = SEVERAL_WARPS;
    else {
        const int warp =
            before.thread >= 0 ? warp_of(before.thread) : SEVERAL_OF_WARP_0 - before.thread;
        mark.thread = warp == warp_of(current) ? SEVERAL_OF_WARP_0 - warp : SEVERAL_WARPS;
    }
}

void who(const Mark& mark, char* text, int size) {
    if (mark.block == SEVERAL_BLOCKS || (mark.block == block_number && mark.thread < 0))
        std::snprintf(text, size, "several threads");
    else if (mark.block != block_number)
        std::snprintf(text, size, "another block");
    else
        std::snprintf(text, size, "thread %d", mark.thread);
}

Region* region_of(const char* address) {
    if (last_region < regions.size()) {
        Region& region = regions[last_region];
        if (address >= region.begin && address < region.begin + region.size) return &region;
    }
    for (size_t i = 0; i < regions.size(); i++)
        if (address >= regions[i].begin && address < regions[i].begin + regions[i].size) {
            last_region = i;
            return &regions[i];
        }
    return nullptr;
}

// The nearest array before an address that lies in none, to name in the report.
const char* nearest(const char* address, long& beyond) {
    const Region* best = nullptr;
    for (const Region& region : regions)
        if (region.begin <= address && (!best || region.begin > best->begin)) best = &region;
    beyond = best ? address - (best->begin + best->size) : 0;
    return best ? best->name : "anything";
}

void access(const void* where, size_t size, bool write, bool atomic = false) {
    const char* address = static_cast<const char*>(where);
    if (address >= stacks && address < stacks + threads * STACK) return;  // a local variable
    const char* verb = write ? "writes" : "reads";
    Region* region = region_of(address);
    if (!region || address + size > region->begin + region->size) {
        long beyond;
        const char* name = nearest(address, beyond);
        return fail("%s %zu bytes out of bounds, %ld bytes past the end of %s", verb, size, beyond,
                    name);
    }
    const size_t offset = address - region->begin;
    if (write && !region->writable) return fail("writes into %s, which is an input", region->name);
    const size_t first = offset / region->cell_size;
    const size_t last = (offset + size - 1) / region->cell_size;
    for (size_t i = first; i <= last; i++) {
        Cell& cell = region->cells[i];
        char other[32];
        if (region->shared) {
            if (cell.in_flight)
                return fail("%s byte %zu of %s while a copy to it is in flight", verb, offset,
                            region->name);
            if (!write && cell.write.block == NOBODY)
                return fail("reads byte %zu of %s, which nothing wrote", offset, region->name);
        }
        if (!ordered(cell.write, atomic)) {
            who(cell.write, other, sizeof other);
            return fail("race: %s byte %zu of %s, which %s wrote with no barrier between", verb,
                        offset, region->name, other);
        }
        if (write && !ordered(cell.read, false)) {
            who(cell.read, other, sizeof other);
            return fail("race: writes byte %zu of %s, which %s read with no barrier between",
                        offset, region->name, other);
        }
        if (write)
            cell.write = now(atomic ? ATOMIC : current);
        else
            remember_read(cell.read);
    }
}

void set_in_flight(const Copy& copy, bool in_flight) {
    Region* region = region_of(copy.shared);
    const size_t first = (copy.shared - region->begin) / SHARED_CELL;
    for (size_t i = first; i < first + copy.size / SHARED_CELL; i++) {
        region->cells[i].in_flight = in_flight;
        region->cells[i].write = now(current);
    }
}

void arrive(Copy& copy) {
    if (copy.valid)
        std::memcpy(copy.shared, copy.global, copy.size);
    else
        std::memset(copy.shared, 0, copy.size);
    copy.arrived = true;
}

void add_region(char* begin, size_t size, size_t cell_size, bool shared, bool writable,
                const void* tag, const char* name) {
    Region region{begin, size, cell_size, shared, writable, tag, {}, {}};
    std::snprintf(region.name, sizeof region.name, "%s", name);
    region.cells.resize((size + cell_size - 1) / cell_size);
    regions.push_back(std::move(region));
}

void* add_shared(const void* tag, size_t size, const char* name) {
    if (arena_used + size > SHARED_LIMIT) {
        fail("asks for more than %zu bytes of shared memory", SHARED_LIMIT);
    }
    char* begin = arena + arena_used;
    arena_used += (size + 127) / 128 * 128 + GAP;
    std::memset(begin, 0xff, size);
    add_region(begin, size, SHARED_CELL, true, true, tag, name);
    return begin;
}

}  // namespace

// ---- What kernels call ------------------------------------------------------------------------

namespace stand_in {

uint3 thread_index() {
    const unsigned t = current;
    return {t % block.x, t / block.x % block.y, t / (block.x * block.y)};
}
uint3 block_index() { return block_at; }
uint3 block_size() { return block; }
uint3 grid_size() { return grid; }
int lane() { return current % WARP; }

void block_barrier() { wait_at(block_sync, &block_epoch); }

int block_or(int own) {
    predicate |= own != 0;
    block_barrier();
    return agreed_predicate;
}

void warp_barrier() {
    Warp& warp = warp_states[warp_of(current)];
    wait_at(warp.sync, &warp.epoch);
}

// Two buffers in turn: a lane that lays down the next value cannot overtake one still reading this.
// An exchange orders no memory, as a shuffle does not.
const void* exchange(const void* own, int size) {
    Warp& warp = warp_states[warp_of(current)];
    char* values = warp.values[fibers[current].turn ^= 1];
    std::memcpy(values + lane() * size, own, size);
    wait_at(warp.exchange, nullptr);
    return values;
}

void* shared(const void* tag, unsigned long size, const char* name) {
    for (const Region& region : regions)
        if (region.tag == tag) return region.begin;
    return add_shared(tag, size, name);
}

void* dynamic_shared() { return shared(&dynamic_size, dynamic_size, "dynamic shared memory"); }

void begin_atomic(const void* address, int size) { access(address, size, true, true); }

void check_aligned(const void* address, int size) {
    if (reinterpret_cast<uintptr_t>(address) % size)
        fail("address is not a multiple of %d bytes", size);
}

// A copy may arrive at once, or at the wait; what lies there until then may be the old bytes or
// none in particular. Which of the three is drawn for each copy.
void copy_async(void* to, const void* from, int size, bool valid) {
    check_aligned(to, size);
    if (valid) {
        check_aligned(from, size);
        access(from, size, false);
    }
    access(to, size, true);
    Copy copy{static_cast<char*>(to), static_cast<const char*>(from), size, valid, false};
    const unsigned arrival = generator() % 3;
    if (arrival == 0) arrive(copy);
    if (arrival == 1) std::memset(copy.shared, 0xff, copy.size);
    set_in_flight(copy, true);
    fibers[current].issued.push_back(copy);
}

void copy_async_commit() {
    fibers[current].groups.push_back(std::move(fibers[current].issued));
    fibers[current].issued.clear();
}

void copy_async_wait(int groups_left) {
    auto& groups = fibers[current].groups;
    while (static_cast<int>(groups.size()) > groups_left) {
        for (Copy& copy : groups.front()) {
            if (!copy.arrived) arrive(copy);
            set_in_flight(copy, false);
        }
        groups.erase(groups.begin());
    }
}

}  // namespace stand_in

// ---- What -fsanitize=thread calls before each access ------------------------------------------

#define WATCH(size)                                                             \
    extern "C" void __tsan_read##size(void* a) { access(a, size, false); }      \
    extern "C" void __tsan_write##size(void* a) { access(a, size, true); }      \
    extern "C" void __tsan_unaligned_read##size(void* a) { access(a, size, false); } \
    extern "C" void __tsan_unaligned_write##size(void* a) { access(a, size, true); }
WATCH(1)
WATCH(2)
WATCH(4)
WATCH(8)
WATCH(16)
extern "C" void __tsan_read_range(void* a, unsigned long size) { access(a, size, false); }
extern "C" void __tsan_write_range(void* a, unsigned long size) { access(a, size, true); }
extern "C" void __tsan_init() {}

// ---- What Python calls ------------------------------------------------------------------------

void stand_in_kernel(void** arguments);  // of the kernel's translation unit

struct Array {
    char* begin;
    unsigned long size, item_size;
    int writable;
    int argument;
};

EXPORT int stand_in_launch(const unsigned* grid_shape, const unsigned* block_shape,
                           unsigned shared_bytes, void** values, const Array* arrays, int count,
                           unsigned seed, char* text, int text_size) {
    grid = {grid_shape[0], grid_shape[1], grid_shape[2]};
    block = {block_shape[0], block_shape[1], block_shape[2]};
    threads = static_cast<int>(block.x * block.y * block.z);
    if (threads > MAX_THREADS || grid.y > MAX_GRID || grid.z > MAX_GRID) {
        std::snprintf(text, text_size, "no GPU has a grid of (%u, %u, %u) or a block of %d threads",
                      grid.x, grid.y, grid.z, threads);
        return true;
    }
    warps = (threads + WARP - 1) / WARP;
    warp_order.resize(warps);
    std::iota(warp_order.begin(), warp_order.end(), 0);
    arguments = values;
    run_kernel = stand_in_kernel;
    message = text;
    message_size = text_size;
    failed = false;
    block_number = 0;
    dynamic_size = shared_bytes;
    launch_seed = seed;
    generator.seed(seed);
    if (!stacks) {
        const size_t size = MAX_THREADS * STACK + 2 * SHARED_LIMIT;
        stacks = static_cast<char*>(mmap(nullptr, size, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        arena = stacks + MAX_THREADS * STACK;
    }
    regions.clear();
    for (int i = 0; i < count; i++) {
        char name[64];
        std::snprintf(name, sizeof name, "argument %d", arrays[i].argument);
        add_region(arrays[i].begin, arrays[i].size, arrays[i].item_size, false, arrays[i].writable,
                   nullptr, name);
    }
    for (block_at.z = 0; block_at.z < grid.z && !failed; block_at.z++)
        for (block_at.y = 0; block_at.y < grid.y && !failed; block_at.y++)
            for (block_at.x = 0; block_at.x < grid.x && !failed; block_at.x++) {
                regions.resize(count);
                arena_used = 0;
                run_block();
            }
    regions.clear();
    return failed;
}

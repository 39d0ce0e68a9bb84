// CUDA's machine on one CPU thread: blocks in turn, a block's threads as fibers, and a record of
// every access to memory.
//
// Each cell of shared memory (2 bytes) and of an array (one element) remembers who wrote it last,
// who read it last, and when. Two accesses to one cell, one of them a write, are a race unless one
// thread makes both, or whoever makes the second knows of the first: by a barrier of the block, of
// the warp or of some warps, or from one that counts phases, which the first arrived at and the
// second waited for. Bulk copies and multiplications that go on by themselves are actors of their
// own, of which a thread knows what it has waited for. What follows from that is found at every
// run, whatever the order in which the threads happened to go.
//
// Not seen: registers that a multiplication still reads; a race between two launches, or by way of two arrays that overlap; global memory that
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

using stand_in::Multiplication;

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
constexpr int MAX_NAMED_BARRIERS = 16;
constexpr size_t MAX_PHASED_BARRIERS = 32;  // of a block; a GPU takes any number

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
    bool may_multiply;
    std::vector<Multiplication> multiplying;
    size_t committed;  // of them
};

struct Barrier {
    int expected;
    std::vector<int> waiting;
};

struct Warp {
    Barrier sync, exchange;
    unsigned time;  // of its last barrier
    char values[2][WARP * MAX_EXCHANGE];
};

// Who touched a cell, and when. `thread` may also be one of these:
constexpr int SEVERAL_WARPS = -1, ATOMIC = -2, SEVERAL_OF_WARP_0 = -3;  // of warp w: −3 − w
constexpr unsigned NOBODY = 0, SEVERAL_BLOCKS = ~0u;
struct Mark {
    unsigned block = NOBODY;  // counted from 1
    int thread = 0;
    unsigned time = 0;
    unsigned fences = 0;  // that the thread had run
};
struct Cell {
    Mark write, read;
    bool in_flight = false;
};
// Of shared memory: the multiplications that read a cell.
struct Multiplied {
    int unfinished = 0;
    std::vector<Mark> finished;  // since the last write, one a warp
};

// A barrier that counts: a phase ends when all have arrived and all bytes too.
struct Phased {
    void* address;
    int count, missing;
    long bytes;
    unsigned phase;
    std::vector<unsigned> gathered, released;  // what is known by who arrived
    std::vector<int> waiting;
};
struct BulkCopy {
    stand_in::TensorMap map;
    char* shared;
    int at[3];
    size_t barrier;
};

struct Region {
    char* begin;
    size_t size, cell_size;
    bool shared, writable;
    const void* tag;
    char name[64];
    std::vector<Cell> cells;
    std::vector<Multiplied> multiplied;
};

uint3 grid, block, block_at;
int threads, warps, current, alive;
// One clock, which ticks whenever one lets others know what it did; and when it last was the whole
// block.
unsigned block_number, now, block_time, launch_seed;
// Actors: the threads; the multiplications of each warp; the copies that each phased barrier counts.
// known[thread · actors + actor]: until when the thread knows what the actor did.
int actors;
std::vector<unsigned> known, fences;
std::vector<Phased> phased;
std::vector<BulkCopy> on_their_way;
bool failed;
char* message;
int message_size;
void (*run_kernel)(void**);
void** arguments;

Context scheduler;
std::vector<Thread> fibers(MAX_THREADS);
std::vector<Warp> warp_states(MAX_THREADS / WARP);
std::vector<int> warp_order;
Barrier block_sync, named[MAX_NAMED_BARRIERS];
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

int multiplications_of(int warp) { return threads + warp; }
int copies_of(size_t barrier) { return threads + warps + static_cast<int>(barrier); }

void learn(int thread, const std::vector<unsigned>& more) {
    unsigned* own = &known[static_cast<size_t>(thread) * actors];
    for (int actor = 0; actor < actors; actor++) own[actor] = std::max(own[actor], more[actor]);
}

// Each of them knows from here on what any of them did and knew.
void share(const std::vector<int>& meeting) {
    std::vector<unsigned> all(actors);
    // What threads did is known to the whole block by `block_time`.
    const int first = &meeting == &block_sync.waiting ? threads : 0;
    for (int thread : meeting) {
        const unsigned* own = &known[static_cast<size_t>(thread) * actors];
        for (int actor = first; actor < actors; actor++)
            all[actor] = std::max(all[actor], own[actor]);
    }
    if (first == 0)
        for (int thread : meeting) all[thread] = now;
    else
        block_time = now;
    for (int thread : meeting)
        std::copy(all.begin() + first, all.end(),
                  known.begin() + static_cast<size_t>(thread) * actors + first);
    now++;
}

void wait_at(Barrier& barrier, bool orders_memory = true) {
    barrier.waiting.push_back(current);
    fibers[current].state = WAITING;
    if (static_cast<int>(barrier.waiting.size()) == barrier.expected) {
        for (int thread : barrier.waiting) fibers[thread].state = READY;
        if (orders_memory) share(barrier.waiting);
        barrier.waiting.clear();
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
    if (!fibers[current].multiplying.empty()) fail("ends before its multiplications do");
    fibers[current].state = ENDED;
    alive--;
    swap(fibers[current].context, scheduler);
}

void arrive(size_t copy);

void run_block() {
    block_number++;
    block_time = now++;
    actors = threads + warps + static_cast<int>(MAX_PHASED_BARRIERS);
    known.assign(static_cast<size_t>(threads) * actors, 0);
    fences.assign(threads, 0);
    phased.clear();
    on_their_way.clear();
    alive = threads;
    block_sync = {threads, {}};
    for (Barrier& barrier : named) barrier = {};
    predicate = 0;
    for (int w = 0; w < warps; w++) {
        const int lanes = std::min(WARP, threads - w * WARP);
        warp_states[w].sync = warp_states[w].exchange = {lanes, {}};
        warp_states[w].time = block_time;
    }
    for (int t = 0; t < threads; t++) {
        fibers[t].state = READY;
        fibers[t].turn = 0;
        fibers[t].issued.clear();
        fibers[t].groups.clear();
        fibers[t].may_multiply = false;
        fibers[t].multiplying.clear();
        fibers[t].committed = 0;
        prepare(fibers[t].context, stacks + t * STACK, STACK);
    }
    while (alive > 0 && !failed) {
        const int next = next_thread();
        if (next < 0 && !on_their_way.empty()) {
            arrive(launch_seed ? generator() % on_their_way.size() : 0);
            continue;
        }
        if (next < 0) {
            int warp_waits = 0;
            for (int w = 0; w < warps; w++)
                warp_waits += static_cast<int>(warp_states[w].sync.waiting.size() +
                                               warp_states[w].exchange.waiting.size());
            int phase_waits = 0, named_waits = 0;
            for (const Phased& barrier : phased)
                phase_waits += static_cast<int>(barrier.waiting.size());
            for (const Barrier& barrier : named)
                named_waits += static_cast<int>(barrier.waiting.size());
            std::snprintf(message, message_size,
                          "block (%u, %u, %u): deadlock: of %d threads, %d wait at a barrier of the "
                          "block, %d at one of a warp, %d at one of some warps, %d for a phase, "
                          "%d have ended",
                          block_at.x, block_at.y, block_at.z, threads,
                          static_cast<int>(block_sync.waiting.size()), warp_waits, named_waits,
                          phase_waits, threads - alive);
            failed = true;
            return;
        }
        current = next;
        swap(scheduler, fibers[current].context);
    }
    if (!failed && !on_their_way.empty()) {
        std::snprintf(message, message_size, "block (%u, %u, %u): ends while a copy is in flight",
                      block_at.x, block_at.y, block_at.z);
        failed = true;
    }
}

// ---- The record of accesses -------------------------------------------------------------------

Mark mark_of(int thread) { return {block_number, thread, now, fences[current]}; }

// Whether the current thread knows of what the mark says.
bool ordered(const Mark& mark, bool atomic) {
    if (mark.block == NOBODY) return true;
    if (mark.block != block_number) return mark.thread == ATOMIC && atomic;
    if (mark.thread == current) return true;
    if (mark.thread < threads && mark.time <= block_time) return true;
    if (mark.thread == ATOMIC) return atomic;
    if (mark.thread == SEVERAL_WARPS) return false;
    if (mark.thread >= 0)
        return mark.time <= known[static_cast<size_t>(current) * actors + mark.thread];
    const int warp = SEVERAL_OF_WARP_0 - mark.thread;
    return warp == warp_of(current) && mark.time <= warp_states[warp].time;
}

void remember_read(Mark& mark) {
    const Mark before = mark;
    mark = mark_of(current);
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
    else if (mark.thread >= threads + warps)
        std::snprintf(text, size, "a copy");
    else if (mark.thread >= threads)
        std::snprintf(text, size, "a multiplication");
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

// Faults that an access to one cell would be.
void check_cell(Region& region, size_t i, const char* verb, bool write, bool atomic) {
    const Cell& cell = region.cells[i];
    const size_t offset = i * region.cell_size;
    char other[32];
    if (region.shared) {
        if (cell.in_flight)
            return fail("%s byte %zu of %s while a copy to it is in flight", verb, offset,
                        region.name);
        if (!write && cell.write.block == NOBODY)
            return fail("reads byte %zu of %s, which nothing wrote", offset, region.name);
    }
    if (!ordered(cell.write, atomic)) {
        who(cell.write, other, sizeof other);
        return fail("race: %s byte %zu of %s, which %s wrote with no barrier between", verb, offset,
                    region.name, other);
    }
    if (!write) return;
    if (!ordered(cell.read, false)) {
        who(cell.read, other, sizeof other);
        return fail("race: writes byte %zu of %s, which %s read with no barrier between", offset,
                    region.name, other);
    }
    if (!region.shared) return;
    Multiplied& multiplied = region.multiplied[i];
    if (multiplied.unfinished)
        return fail("writes byte %zu of %s while a multiplication reads it", offset, region.name);
    for (const Mark& mark : multiplied.finished)
        if (!ordered(mark, false))
            return fail("race: writes byte %zu of %s, which a multiplication read with no barrier "
                        "between", offset, region.name);
    multiplied.finished.clear();
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
        check_cell(*region, i, verb, write, atomic);
        if (write)
            cell.write = mark_of(atomic ? ATOMIC : current);
        else
            remember_read(cell.read);
    }
}

void set_in_flight(const Copy& copy, bool in_flight) {
    Region* region = region_of(copy.shared);
    const size_t first = (copy.shared - region->begin) / SHARED_CELL;
    for (size_t i = first; i < first + copy.size / SHARED_CELL; i++) {
        region->cells[i].in_flight = in_flight;
        region->cells[i].write = mark_of(current);
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
    Region region{begin, size, cell_size, shared, writable, tag, {}, {}, {}};
    std::snprintf(region.name, sizeof region.name, "%s", name);
    region.cells.resize((size + cell_size - 1) / cell_size);
    if (shared) region.multiplied.resize(region.cells.size());
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

// ---- Barriers that count phases, and bulk copies -------------------------------------------------

size_t phased_at(void* address, bool as_the_copies_see_it = false) {
    for (size_t i = 0; i < phased.size(); i++)
        if (phased[i].address == address) {
            Region* region = region_of(static_cast<char*>(address));
            const Mark& begun = region->cells[(static_cast<char*>(address) - region->begin) / SHARED_CELL].write;
            if (!ordered(begun, false))
                fail("race: uses a barrier of %s that another thread sets up", region->name);
            if (as_the_copies_see_it && begun.fences == fences[begun.thread])
                fail("a copy counts at a barrier of %s that no fence has shown to it", region->name);
            return i;
        }
    fail("uses a barrier that is not set up");
    return 0;
}

void end_phase_if_complete(size_t index) {
    Phased& barrier = phased[index];
    if (barrier.missing || barrier.bytes) return;
    barrier.phase++;
    barrier.missing = barrier.count;
    barrier.gathered[copies_of(index)] = now++;
    barrier.released = barrier.gathered;
    for (int thread : barrier.waiting) fibers[thread].state = READY;
    barrier.waiting.clear();
    if (launch_seed) std::shuffle(warp_order.begin(), warp_order.end(), generator);
}

// The bytes of a box in shared memory, 16 at a time: of each, where they lie there and, if inside the
// array, where they come from. Bits 4 to 6 of an address are mixed with bits 7 to 9.
template <class Visit>
void each_piece(const BulkCopy& copy, Visit visit) {
    const stand_in::TensorMap& map = copy.map;
    const int row_bytes = map.box[2] * map.item_size;
    char* to = copy.shared;
    for (int z = 0; z < map.box[0]; z++)
        for (int y = 0; y < map.box[1]; y++)
            for (int x = 0; x < row_bytes; x += 16, to += 16) {
                const long at[] = {copy.at[0] + z, copy.at[1] + y, copy.at[2] + x / map.item_size};
                const bool inside = at[0] >= 0 && at[0] < map.shape[0] && at[1] >= 0 &&
                                    at[1] < map.shape[1] && at[2] >= 0 && at[2] < map.shape[2];
                const long element = (at[0] * map.shape[1] + at[1]) * map.shape[2] + at[2];
                visit(arena + stand_in::swizzled(stand_in::shared_address(to)),
                      inside ? map.array + element * map.item_size : nullptr);
            }
}

void arrive(size_t which) {
    const BulkCopy copy = on_their_way[which];
    on_their_way.erase(on_their_way.begin() + which);
    long bytes = 0;
    each_piece(copy, [&](char* to, const char* from) {
        if (from)
            std::memcpy(to, from, 16);
        else
            std::memset(to, 0, 16);
        Region* region = region_of(to);
        for (size_t i = 0; i < 16 / SHARED_CELL; i++)
            region->cells[(to - region->begin) / SHARED_CELL + i].in_flight = false;
        bytes += 16;
    });
    phased[copy.barrier].bytes -= bytes;
    end_phase_if_complete(copy.barrier);
}

// ---- Multiplications that go on by themselves ---------------------------------------------------

constexpr unsigned SWIZZLED_BY_128_BYTES = 1;

// Where number `k` of row `row` of a matrix lies that a descriptor tells of: rows of 64 numbers, eight
// to a group. `transposed`: the rows of memory are along k.
char* number_of(unsigned long long descriptor, bool transposed, int row, int k) {
    const unsigned begin = (descriptor & 0x3fff) << 4;
    const unsigned group = (descriptor >> 32 & 0x3fff) << 4;
    if (descriptor >> 62 != SWIZZLED_BY_128_BYTES || descriptor >> 49 & 7 || begin & 0x380)
        fail("a descriptor that is none of 128-byte rows which begin at 1024 bytes");
    const int along = transposed ? k : row, across = transposed ? row : k;
    return arena + stand_in::swizzled(begin + along / 8 * group + along % 8 * 128 + across * 2);
}

// Shared memory as the tensor cores see it: what threads wrote there, they must have fenced.
void begin_reading(const char* address) {
    Region* region = region_of(address);
    if (!region || !region->shared) return fail("multiplies what is no shared memory of its own");
    const size_t i = (address - region->begin) / SHARED_CELL;
    check_cell(*region, i, "multiplies", false, false);
    const Mark& write = region->cells[i].write;
    if (write.thread < threads && write.fences == fences[write.thread])
        return fail("multiplies byte %zu of %s, which thread %d wrote with no fence after",
                    i * SHARED_CELL, region->name, write.thread);
    region->multiplied[i].unfinished++;
}

void end_reading(const char* address) {
    Region* region = region_of(address);
    Multiplied& multiplied = region->multiplied[(address - region->begin) / SHARED_CELL];
    multiplied.unfinished--;
    const Mark mark = mark_of(multiplications_of(warp_of(current)));
    for (Mark& finished : multiplied.finished)
        if (finished.thread == mark.thread) {
            finished = mark;
            return;
        }
    multiplied.finished.push_back(mark);
}

// The operands of a lane's 2 rows × 16 columns of sums that lie in shared memory.
template <class Visit>
void each_operand(const Multiplication& m, Visit visit) {
    const int lane = current % WARP, first_row = warp_of(current) % 4 * 16 + lane / 4;
    for (int k = 0; k < 16; k++) {
        if (m.left_in_shared)
            for (int half = 0; half < 2; half++)
                visit(number_of(m.left, false, first_row + half * 8, k), k, half, -1);
        for (int column = 0; column < 16; column++)
            visit(number_of(m.right, m.transposed, column / 2 * 8 + lane % 4 * 2 + column % 2, k), k,
                  -1, column);
    }
}

void finish(const Multiplication& m) {
    float left[2][16], right[16][16];
    std::memcpy(left, m.left_values, sizeof left);
    each_operand(m, [&](const char* address, int k, int half, int column) {
        end_reading(address);
        const float value = m.widened(*reinterpret_cast<const unsigned short*>(address));
        (column < 0 ? left[half][k] : right[column][k]) = value;
    });
    for (int n = 0; n < 8; n++)
        for (int i = 0; i < 4; i++) {
            float& sum = m.sums[n][i];
            if (m.begins) sum = m.before[n][i];
            if (!m.adds) sum = 0;
            for (int k = 0; k < 16; k++) sum += left[i / 2][k] * right[n * 2 + i % 2][k];
        }
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

void block_barrier() { wait_at(block_sync); }

int block_or(int own) {
    predicate |= own != 0;
    block_barrier();
    return agreed_predicate;
}

void warp_barrier() {
    Warp& warp = warp_states[warp_of(current)];
    if (static_cast<int>(warp.sync.waiting.size()) == warp.sync.expected - 1) warp.time = now;
    wait_at(warp.sync);
}

void named_barrier(int number, int expected) {
    named[number].expected = expected;
    wait_at(named[number]);
}

// Two buffers in turn: a lane that lays down the next value cannot overtake one still reading this.
// An exchange orders no memory, as a shuffle does not.
const void* exchange(const void* own, int size) {
    Warp& warp = warp_states[warp_of(current)];
    char* values = warp.values[fibers[current].turn ^= 1];
    std::memcpy(values + lane() * size, own, size);
    wait_at(warp.exchange, false);
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

void check_tf32(unsigned bits) {
    if (bits & 0x1fff) fail("multiplies a number that is not rounded to tf32");
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

unsigned shared_address(const void* address) {
    return static_cast<unsigned>(static_cast<const char*>(address) - arena);
}

void fence_async() { fences[current]++; }

void phased_begin(void* barrier, int count) {
    access(barrier, 8, true);
    if (phased.size() == MAX_PHASED_BARRIERS) fail("sets up more barriers than are looked after");
    phased.push_back({barrier, count, count, 0, 0, std::vector<unsigned>(actors), {}, {}});
}

void phased_arrive(void* barrier, int bytes) {
    const size_t index = phased_at(barrier);
    Phased& own = phased[index];
    if (!own.missing) fail("arrives at a barrier that %d have arrived at", own.count);
    std::vector<unsigned>& gathered = own.gathered;
    const unsigned* mine = &known[static_cast<size_t>(current) * actors];
    for (int actor = 0; actor < actors; actor++)
        gathered[actor] = std::max(gathered[actor], mine[actor]);
    gathered[current] = now++;
    own.missing--;
    own.bytes += bytes;
    end_phase_if_complete(index);
}

void phased_wait(void* barrier, int parity) {
    const size_t index = phased_at(barrier);
    while (static_cast<int>(phased[index].phase & 1) == parity) {
        phased[index].waiting.push_back(current);
        fibers[current].state = WAITING;
        swap(fibers[current].context, scheduler);
    }
    if (phased[index].phase) learn(current, phased[index].released);
}

// A bulk copy may arrive at once, or when nothing else can go on; what lies there until then may be
// the old bytes or none in particular.
void copy_bulk(void* shared, const TensorMap& map, int z, int y, int x, void* barrier) {
    const size_t index = phased_at(barrier, true);
    if (shared_address(shared) % 1024) fail("copies to what is not a multiple of 1024 bytes");
    if (map.box[2] * map.item_size != 128) fail("copies rows that are not of 128 bytes");
    BulkCopy copy{map, static_cast<char*>(shared), {z, y, x}, index};
    const unsigned arrival = generator() % 3;
    Mark mark = mark_of(copies_of(index));
    each_piece(copy, [&](char* to, const char* from) {
        if (from) access(from, 16, false);
        Region* region = region_of(to);
        if (!region) fail("copies out of bounds of shared memory");
        for (size_t i = 0; i < 16 / SHARED_CELL; i++) {
            const size_t place = (to - region->begin) / SHARED_CELL + i;
            check_cell(*region, place, "writes", true, false);
            region->cells[place].write = mark;
            region->cells[place].in_flight = true;
        }
        if (arrival == 1) std::memset(to, 0xff, 16);
    });
    on_their_way.push_back(copy);
    if (arrival == 0) arrive(on_their_way.size() - 1);
}

void multiply_begin() { fibers[current].may_multiply = true; }

// The sums are not there until they are waited for: not numbers.
void multiply(Multiplication m) {
    Thread& thread = fibers[current];
    if (!thread.may_multiply) fail("multiplies before the registers are ready for it");
    each_operand(m, [](const char* address, int, int, int) { begin_reading(address); });
    for (const Multiplication& earlier : thread.multiplying)
        if (earlier.sums == m.sums) m.begins = false;
    if (m.begins) {
        std::memcpy(m.before, m.sums, sizeof m.before);
        std::memset(m.sums, 0xff, sizeof m.before);
    }
    thread.multiplying.push_back(m);
}

void multiply_commit() { fibers[current].committed = fibers[current].multiplying.size(); }

// For all groups. The lanes meet, and know from there on that the warp's multiplications are over.
void multiply_wait() {
    Thread& thread = fibers[current];
    for (size_t i = 0; i < thread.committed; i++) finish(thread.multiplying[i]);
    thread.multiplying.erase(thread.multiplying.begin(),
                             thread.multiplying.begin() + thread.committed);
    thread.committed = 0;
    thread.may_multiply = false;
    const int warp = warp_of(current);
    wait_at(warp_states[warp].exchange, false);
    known[static_cast<size_t>(current) * actors + multiplications_of(warp)] = now++;
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
    now = 1;
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

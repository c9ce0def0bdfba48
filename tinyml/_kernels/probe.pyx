# What this machine can do at most: float32 multiply-adds, dot products of bytes, bytes read, cycles. Benchmarks are given
# as shares of these. The loops are those of the products, without their loads: one tile of accumulators in registers.
from cython.parallel cimport prange
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from tinyml._kernels.words.simd cimport *

cdef extern from *:
    """
    #include "words/simd.h"
    /* These hide a value from the compiler, which else would compute before the loop what does not change in it. */
    #if defined(__x86_64__)
    #define IN_REGISTER "+v"
    #elif defined(__aarch64__)
    #define IN_REGISTER "+w"
    #else
    #define IN_REGISTER "+m"
    #endif
    static inline vec vhidden(vec v) { __asm__ volatile("" : IN_REGISTER(v)); return v; }
    static inline vecf vfhidden(vecf v) { __asm__ volatile("" : IN_REGISTER(v)); return v; }
    static inline uint64_t hidden(uint64_t v) { __asm__ volatile("" : "+r"(v)); return v; }
    """
    vec vhidden(vec) noexcept nogil
    vecf vfhidden(vecf) noexcept nogil
    uint64_t hidden(uint64_t) noexcept nogil

cdef enum:
    # STREAMS places are read at the same time, each AHEAD words after what has been fetched, as in few_rows_f32: along a
    # single stream, CPUs read 5 to 10% less than memory gives
    STREAMS = 4
    AHEAD = 512
    ADDS = 8            # additions per iteration, so that counting the iterations costs nothing compared with them


ctypedef void (*tile_loop)(void* tile, const void* x, const void* w, Py_ssize_t rounds) noexcept nogil


cdef void fma_loop(void* tile, const void* x, const void* w, Py_ssize_t rounds) noexcept nogil:
    """tile[ROWS][MAX_PANEL] += x * w[MAX_PANEL], `rounds` times, in registers."""
    cdef float* values = <float*>tile
    cdef vecf acc[ROWS][WIDE]
    cdef vecf b[WIDE]
    cdef vecf a = vfsplat(<const float*>x)
    cdef Py_ssize_t r
    cdef int i, j
    for j in range(WIDE):
        b[j] = vfload(<const float*>w + j * LANES)
    for i in range(ROWS):
        for j in range(WIDE):
            acc[i][j] = vfload(values + (i * WIDE + j) * LANES)
    for r in range(rounds):
        for i in range(ROWS):
            a = vfhidden(a)
            for j in range(WIDE):
                acc[i][j] = vfma(acc[i][j], a, b[j])
    for i in range(ROWS):
        for j in range(WIDE):
            vfstore(values + (i * WIDE + j) * LANES, acc[i][j])


cdef void dot4_loop(void* tile, const void* x, const void* w, Py_ssize_t rounds) noexcept nogil:
    """tile[ROWS][MAX_PANEL] += (x[4] - OFFSET) . w[MAX_PANEL][4], `rounds` times, in registers."""
    cdef int32_t* values = <int32_t*>tile
    cdef vec acc[ROWS][WIDE]
    cdef vec b[WIDE]
    cdef vec a = vsplat4(x)
    cdef Py_ssize_t r
    cdef int i, j
    for j in range(WIDE):
        b[j] = vload(<const int8_t*>w + 4 * j * LANES)
    for i in range(ROWS):
        for j in range(WIDE):
            acc[i][j] = vload(values + (i * WIDE + j) * LANES)
    for r in range(rounds):
        for i in range(ROWS):
            a = vhidden(a)
            for j in range(WIDE):
                acc[i][j] = vdot4(acc[i][j], a, b[j])
    for i in range(ROWS):
        for j in range(WIDE):
            vstore(values + (i * WIDE + j) * LANES, acc[i][j])


cdef void run_tile(tile_loop loop, const int32_t* start, Py_ssize_t N, const void* x, const int32_t* w, int32_t* y,
                   Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t rounds) noexcept nogil:
    """Run the loop for the tile of `rows` by `columns` at `start`, in a matrix of N columns; its other values are 0."""
    cdef int32_t tile[ROWS * MAX_PANEL]
    cdef int32_t weights[MAX_PANEL]
    cdef Py_ssize_t i
    memset(tile, 0, sizeof(tile))
    memset(weights, 0, sizeof(weights))
    memcpy(weights, w, 4 * columns)
    for i in range(rows):
        memcpy(tile + i * MAX_PANEL, start + i * N, 4 * columns)
    loop(tile, x, weights, rounds)
    for i in range(rows):
        memcpy(y + i * N, tile + i * MAX_PANEL, 4 * columns)


cdef void run_tiles(tile_loop loop, Py_ssize_t M, Py_ssize_t N, const void* start, const void* x, const void* w, void* y,
                    Py_ssize_t rounds, int threads) except *:
    """Run the loop for all tiles of start and y [M][N] and w[N], whose values have 4 bytes each."""
    cdef Py_ssize_t panels = (N + MAX_PANEL - 1) // MAX_PANEL, unit, m, n
    for unit in prange((M + ROWS - 1) // ROWS * panels, nogil=True, num_threads=threads, schedule="static"):
        m = unit // panels * ROWS
        n = unit % panels * MAX_PANEL
        run_tile(loop, <const int32_t*>start + m * N + n, N, x, <const int32_t*>w + n, <int32_t*>y + m * N + n,
                 min(<Py_ssize_t>ROWS, M - m), min(<Py_ssize_t>MAX_PANEL, N - n), rounds)


def probe_fma_f32(const float[:, ::1] start, float x, const float[::1] w, float[:, ::1] y, Py_ssize_t rounds, int threads):
    """y[M][N] = start[M][N] + x * w[N], that product added `rounds` times."""
    if start.shape[0] * start.shape[1]:
        run_tiles(fma_loop, start.shape[0], start.shape[1], &start[0, 0], &x, &w[0], &y[0, 0], rounds, threads)


def probe_dot4_int8(const int32_t[:, ::1] start, const uint8_t[::1] x, const int8_t[:, ::1] w, int32_t[:, ::1] y,
                    Py_ssize_t rounds, int threads):
    """y[M][N] = start[M][N] + rounds * (w[N][4] . (x[4] - OFFSET)), modulo 2^32."""
    if start.shape[0] * start.shape[1]:
        run_tiles(dot4_loop, start.shape[0], start.shape[1], &start[0, 0], &x[0], &w[0, 0], &y[0, 0], rounds, threads)


cdef uint32_t read_part(const int32_t* x, Py_ssize_t n) noexcept nogil:
    cdef vec acc[STREAMS]
    cdef int32_t lanes[STREAMS * LANES]
    cdef Py_ssize_t steps = n // (STREAMS * LANES), i
    cdef const int32_t* p
    cdef uint32_t total = 0
    cdef int j
    for j in range(STREAMS):
        acc[j] = vzero()
    for i in range(steps):
        for j in range(STREAMS):
            p = x + (j * steps + i) * LANES
            vfetch(p + AHEAD)
            acc[j] = vadd(acc[j], vload(p))
    for j in range(STREAMS):
        vstore(lanes + j * LANES, acc[j])
    for i in range(STREAMS * LANES):
        total += <uint32_t>lanes[i]
    for i in range(steps * STREAMS * LANES, n):
        total += <uint32_t>x[i]
    return total


def probe_read(const int32_t[::1] x, int threads) -> int:
    """The sum of x, modulo 2^32."""
    cdef Py_ssize_t n = x.shape[0], unit
    cdef int64_t total = 0
    if n == 0:
        return 0
    for unit in prange(threads, nogil=True, num_threads=threads, schedule="static"):
        total += read_part(&x[0] + n * unit // threads, n * (unit + 1) // threads - n * unit // threads)
    return total & 0xffffffff


cdef uint64_t add_chain(uint64_t value, uint64_t step, Py_ssize_t rounds) noexcept nogil:
    cdef Py_ssize_t r
    cdef int i
    step = hidden(step)     # a register: adding a small constant is free on some CPUs
    for r in range(rounds // ADDS):
        for i in range(ADDS):
            value = hidden(value + step)
    for r in range(rounds % ADDS):
        value = hidden(value + step)
    return value


def probe_cycles(const int64_t[::1] start, int64_t step, int64_t[::1] y, Py_ssize_t rounds, int threads):
    """y = start + rounds * step, modulo 2^64, by additions that wait for each other: on any CPU each takes one cycle."""
    cdef Py_ssize_t unit
    for unit in prange(start.shape[0], nogil=True, num_threads=threads, schedule="static"):
        y[unit] = <int64_t>add_chain(<uint64_t>start[unit], <uint64_t>step, rounds)

# What this machine can do at most: float32 multiply-adds, dot products of bytes, bytes read, cycles. Benchmarks are shares
# of these. The loops are those of the products without their loads: one tile of accumulators in registers.
from cython.parallel cimport prange
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from tinyml._kernels.words.simd cimport *

cdef extern from *:
    """
    #include "words/simd.h"
    /* Values the compiler cannot know: without them it would compute what does not change once, before the loop. */
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
    STREAMS = 4         # places that are read side by side, each with words fetched AHEAD of their use, as few_rows_f32 does:
    AHEAD = 512         # from one place on, CPUs fetched 5 to 10% less than memory gives
    ADDS = 8            # additions an iteration, so that counting the iterations costs nothing beside them


cdef inline void copy_tile(const char* source, Py_ssize_t source_row, char* target, Py_ssize_t target_row, Py_ssize_t rows,
                           Py_ssize_t columns) noexcept nogil:
    """Rows of 4-byte values; rows of both in elements."""
    cdef Py_ssize_t i
    for i in range(rows):
        memcpy(target + 4 * i * target_row, source + 4 * i * source_row, 4 * columns)


cdef int fma_tile(const float* start, Py_ssize_t row, float x, const float* w, float* y, Py_ssize_t rows,
                  Py_ssize_t columns, Py_ssize_t rounds) noexcept nogil:
    cdef float tile[ROWS * MAX_PANEL]
    cdef float weights[MAX_PANEL]
    cdef vecf acc[ROWS][WIDE]
    cdef vecf b[WIDE]
    cdef vecf a = vfsplat(&x)
    cdef Py_ssize_t r
    cdef int i, j
    memset(tile, 0, sizeof(tile))
    memset(weights, 0, sizeof(weights))
    copy_tile(<const char*>start, row, <char*>tile, MAX_PANEL, rows, columns)
    memcpy(weights, w, columns * sizeof(float))
    for j in range(WIDE):
        b[j] = vfload(weights + j * LANES)
    for i in range(ROWS):
        for j in range(WIDE):
            acc[i][j] = vfload(tile + (i * WIDE + j) * LANES)
    for r in range(rounds):
        for i in range(ROWS):
            a = vfhidden(a)
            for j in range(WIDE):
                acc[i][j] = vfma(acc[i][j], a, b[j])
    for i in range(ROWS):
        for j in range(WIDE):
            vfstore(tile + (i * WIDE + j) * LANES, acc[i][j])
    copy_tile(<const char*>tile, MAX_PANEL, <char*>y, row, rows, columns)
    return 0


cdef int dot4_tile(const int32_t* start, Py_ssize_t row, const uint8_t* x, const int8_t* w, int32_t* y, Py_ssize_t rows,
                   Py_ssize_t columns, Py_ssize_t rounds) noexcept nogil:
    cdef int32_t tile[ROWS * MAX_PANEL]
    cdef int8_t weights[4 * MAX_PANEL]
    cdef vec acc[ROWS][WIDE]
    cdef vec b[WIDE]
    cdef vec a = vsplat4(x)
    cdef Py_ssize_t r
    cdef int i, j
    memset(tile, 0, sizeof(tile))
    memset(weights, 0, sizeof(weights))
    copy_tile(<const char*>start, row, <char*>tile, MAX_PANEL, rows, columns)
    memcpy(weights, w, 4 * columns)
    for j in range(WIDE):
        b[j] = vload(weights + 4 * j * LANES)
    for i in range(ROWS):
        for j in range(WIDE):
            acc[i][j] = vload(tile + (i * WIDE + j) * LANES)
    for r in range(rounds):
        for i in range(ROWS):
            a = vhidden(a)
            for j in range(WIDE):
                acc[i][j] = vdot4(acc[i][j], a, b[j])
    for i in range(ROWS):
        for j in range(WIDE):
            vstore(tile + (i * WIDE + j) * LANES, acc[i][j])
    copy_tile(<const char*>tile, MAX_PANEL, <char*>y, row, rows, columns)
    return 0


def probe_fma_f32(const float[:, ::1] start, float x, const float[::1] w, float[:, ::1] y, Py_ssize_t rounds, int threads):
    """y[M][N] = start[M][N] + x * w[N], that product added `rounds` times."""
    cdef Py_ssize_t M = start.shape[0], N = start.shape[1], panels = (N + MAX_PANEL - 1) // MAX_PANEL, unit, m, n
    if M == 0 or N == 0:
        return
    for unit in prange((M + ROWS - 1) // ROWS * panels, nogil=True, num_threads=threads, schedule="static"):
        m = unit // panels * ROWS
        n = unit % panels * MAX_PANEL
        fma_tile(&start[m, n], N, x, &w[n], &y[m, n], min(<Py_ssize_t>ROWS, M - m), min(<Py_ssize_t>MAX_PANEL, N - n),
                 rounds)


def probe_dot4_int8(const int32_t[:, ::1] start, const uint8_t[::1] x, const int8_t[:, ::1] w, int32_t[:, ::1] y,
                    Py_ssize_t rounds, int threads):
    """y[M][N] = start[M][N] + rounds * (w[N][4] . (x[4] - OFFSET)), modulo 2^32."""
    cdef Py_ssize_t M = start.shape[0], N = start.shape[1], panels = (N + MAX_PANEL - 1) // MAX_PANEL, unit, m, n
    if M == 0 or N == 0:
        return
    for unit in prange((M + ROWS - 1) // ROWS * panels, nogil=True, num_threads=threads, schedule="static"):
        m = unit // panels * ROWS
        n = unit % panels * MAX_PANEL
        dot4_tile(&start[m, n], N, &x[0], &w[n, 0], &y[m, n], min(<Py_ssize_t>ROWS, M - m),
                  min(<Py_ssize_t>MAX_PANEL, N - n), rounds)


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
    """Sum of x modulo 2^32."""
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
    """y = start + rounds * step, modulo 2^64, by additions that wait for each other: one a cycle on any CPU."""
    cdef Py_ssize_t unit
    for unit in prange(start.shape[0], nogil=True, num_threads=threads, schedule="static"):
        y[unit] = <int64_t>add_chain(<uint64_t>start[unit], <uint64_t>step, rounds)

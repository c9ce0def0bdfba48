# Dynamic int8 linear layers, equation (9): rows of floats are quantized as they come and multiplied by int8 weights, which
# stay as they are, [N][K]. With K in G groups of `group` values (G is 1 where there are no groups):
#
#     for m, g:
#         s[m][g] = max(|x[m][k]| of the group) / 127
#         q[m][k] = rint(x[m][k] / s[m][g])
#     for m, n:
#         acc = 0                                                                       # float32
#         for g:
#             acc += float(exact sum over the k of the group of q[m][k] * w[n][k]) * (s[m][g] * w_scale[n][g])
#         y[m][n] = activation(acc + bias[n])
#
# For few rows the weights are read in place. Many rows are packed, and so are the weights, some panels at a time in the
# cache; this costs little compared with the product.
from cython.parallel cimport prange, threadid
from libc.stdint cimport int8_t, int32_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
import numpy as np

from tinyml._kernels import memory
from tinyml._kernels.words.simd cimport *
from tinyml._kernels.words.vmath cimport *

include "dynamic_linear_few_rows.pxi"
include "activation.pxi"
include "dynamic_linear_panels.pxi"

cdef enum:
    # of weights that are packed at a time. They stay in the second-level cache, and a tile's outputs follow those of the
    # panel before in memory. With one panel at a time, 512 x 768 by 50257 took a fifth longer; 512 KB are as good, 128 KB
    # and 1 MB are 4% slower
    ROUND_BYTES = 1 << 18


cdef Int8Weights weights_of(const int8_t[:, ::1] w, const float[:, ::1] scale, const float[::1] bias,
                            Py_ssize_t group) noexcept:
    cdef Int8Weights p
    p.N, p.K, p.G = w.shape[0], w.shape[1], scale.shape[1]
    p.group = group if p.G > 1 else max(p.K, <Py_ssize_t>BYTES)
    p.w, p.scale, p.bias = &w[0, 0], &scale[0, 0], NULL
    if bias is not None:
        p.bias = &bias[0]
    return p


def dynamic_linear_few_rows(const float[:, ::1] x, const int8_t[:, ::1] w, const float[:, ::1] w_scale,
                            const float[::1] bias, Py_ssize_t group, int activation, float[:, ::1] y, int threads):
    """y[M][N] = activation(x[M][K] @ w[N][K]^T + bias[N]), x quantized per row and group; equation (9), for few rows.

    w_scale[N][G] has one scale per row of weights and group; bias may be None. `group` is K (then G is 1), 32 or 64. The
    sum over a group is exact; the groups are scaled and added in float, in order. `activation` is the number of one of
    table.ACTIVATIONS.
    """
    cdef Py_ssize_t M = x.shape[0], row = room_of_row(w.shape[1]), room, part, blocks, m
    cdef Int8Weights p
    cdef Int8Rows rows
    if M * w.shape[0] == 0:
        return
    p = weights_of(w, w_scale, bias, group)
    room = room_of_block(&p) // 4 + 16
    cdef int8_t* codes = <int8_t*>malloc(M * row + p.K)
    cdef int32_t* offset = <int32_t*>malloc(2 * M * p.G * sizeof(int32_t))
    cdef float* scratch = <float*>malloc(threads * room * sizeof(float))
    if codes == NULL or offset == NULL or scratch == NULL:
        free(codes); free(offset); free(scratch)
        raise MemoryError(f"dynamic_linear_few_rows: no memory for {M} rows of {p.K}")
    cdef float* scale = <float*>(offset + M * p.G)
    rows.M, rows.x, rows.scale, rows.offset = M, codes, scale, offset
    for m in range(M):
        quantize_groups(&x[m, 0], &p, scale + m * p.G, <uint8_t*>codes + M * row)
        signed_row(<uint8_t*>codes + M * row, &p, codes + m * row, offset + m * p.G)
    blocks = (p.N + LANES - 1) // LANES
    for part in prange(threads, nogil=True, num_threads=threads, schedule="static"):
        int8_outputs(&p, &rows, blocks * part // threads * LANES, min(p.N, blocks * (part + 1) // threads * LANES),
                     &y[0, 0], p.N, scratch + part * room)
    activate(activation, &y[0, 0], p.N, M, p.N)
    free(codes); free(offset); free(scratch)


cdef void scale_tile(const Many* q, const int32_t* acc, Py_ssize_t at, Py_ssize_t rows, Py_ssize_t g, const float* scale,
                     float* sums) noexcept nogil:
    """sums[rows][panel] = acc times both scales of group g; from the second group on this is added."""
    cdef Py_ssize_t i, j, k
    cdef vecf v
    for i in range(rows):
        for j in range(PACKED):
            k = i * PANEL + j * LANES
            v = vfmul(to_float(vload(acc + k)),
                      vfmul(vfset(q.x_scale[(at + i) * q.p.G + g]), vfload(scale + g * PANEL + j * LANES)))
            vfstore(sums + k, vfadd(vfload(sums + k), v) if g else v)


cdef void store_tile(const Many* q, const float* sums, Py_ssize_t at, Py_ssize_t rows, const float* bias,
                     Py_ssize_t n) noexcept nogil:
    """y = sums + bias, for the columns that exist."""
    cdef Py_ssize_t i, j, columns = min(PANEL, q.p.N - n)
    cdef float* y = q.y + at * q.p.N + n
    for i in range(rows):
        for j from 0 <= j < columns by LANES:
            vfstore_n(y + j, vfadd(vfload(sums + i * PANEL + j), vfload(bias + j)), columns - j)
        y += q.p.N


cdef void multiply_tile(const Many* q, const uint8_t* packed, const int32_t* start, const float* scale, Py_ssize_t at,
                        Py_ssize_t n) noexcept nogil:
    """Compute the columns of one panel, from n on, for the tile of rows from `at` on, as many of both as exist."""
    cdef vec sums[TALL * PACKED]        # an array of vectors, because that begins on a cache line
    cdef vecf floats[TALL * PACKED]
    cdef Py_ssize_t height = packed_height(q.M - at), rows = min(height, q.M - at), g, k4 = 0
    cdef Py_ssize_t step = height if SIGNED_ROWS else PANEL
    cdef const uint8_t* a = q.rows + at * q.K4 * 4
    cdef const float* bias = scale + q.p.G * PANEL
    cdef float* y = q.y + at * q.p.N + n
    if SIGNED_ROWS:
        start = q.starts + at * q.p.G
    for g in range(rows):       # stores to cache lines that are not there yet hold up the loads of the next tile
        vfetch(y + g * q.p.N + PANEL - 1 - LANES)
        vfetch(y + g * q.p.N + PANEL - 1)
    if q.p.G == 1 and rows == TALL and n + PANEL <= q.p.N:
        packed_outputs(a, start, q.K4, packed, q.x_scale + at, scale, bias, y, q.p.N)
    else:
        for g in range(q.p.G):
            packed_product(height, a + k4 * height * 4, start + g * step, words(q, g), packed + k4 * PANEL * 4,
                           <int32_t*>sums)
            scale_tile(q, <int32_t*>sums, at, rows, g, scale, <float*>floats)
            k4 += words(q, g)
        store_tile(q, <float*>floats, at, rows, bias, n)
    activate(q.activation, y, q.p.N, rows, min(<Py_ssize_t>PANEL, q.p.N - n))


cdef void one_run(const Many* q, Py_ssize_t first, Py_ssize_t end, uint8_t* packed, int32_t* start,
                  float* scale) noexcept nogil:
    """Compute the panels first .. end in rounds. A round packs its panels, then multiplies each tile of rows by all of
    them.

    Meanwhile the weights of the next round are fetched, some cache lines per tile: else packing them would wait for memory.
    """
    cdef Py_ssize_t size = q.K4 * PANEL * 4, columns = (q.p.G + 1) * PANEL, count, i, at, line, lines, step, stop
    cdef const int8_t* ahead
    while first < end:
        count = min(q.round, end - first)
        for i in range(count):
            pack_panel(q, (first + i) * PANEL, packed + i * size, start + i * columns, scale + i * columns)
        first += count
        ahead = q.p.w + first * PANEL * q.p.K
        lines = (min(q.p.N, min(first + count, end) * PANEL) - first * PANEL) * q.p.K // 64 if first < end else 0
        line, step = 0, lines // (count * ((q.M + TALL - 1) // TALL)) + 1
        for at from 0 <= at < q.M by TALL:
            for i in range(count):
                stop = min(line + step, lines)
                while line < stop:
                    vfetch_far(ahead + 64 * line)
                    line += 1
                multiply_tile(q, packed + i * size, start + i * columns, scale + i * columns, at,
                              (first - count + i) * PANEL)


def dynamic_linear_many_rows(const float[:, ::1] x, const int8_t[:, ::1] w, const float[:, ::1] w_scale,
                             const float[::1] bias, Py_ssize_t group, int activation, float[:, ::1] y, int threads):
    """What dynamic_linear_few_rows computes, for many rows."""
    cdef Many q
    cdef Py_ssize_t run, runs, panels, size, columns, height, coded, at
    cdef uint8_t[::1] room
    if x.shape[0] * w.shape[0] == 0:
        return
    q.p = weights_of(w, w_scale, bias, group)
    q.M, q.K4 = x.shape[0], max(<Py_ssize_t>STEP, whole_steps(q.p.K))
    q.y, q.activation = &y[0, 0], activation
    panels = (q.p.N + PANEL - 1) // PANEL
    runs = min(<Py_ssize_t>threads, panels)
    q.round = min((panels + runs - 1) // runs, max(<Py_ssize_t>1, ROUND_BYTES // (q.K4 * PANEL * 4)))
    size, columns, height = q.round * q.K4 * PANEL * 4, q.round * (q.p.G + 1) * PANEL, (q.M + TALL - 1) // TALL * TALL
    coded = room_of_codes(q.p.K)
    # packed weights; packed rows, and a vector that may be read behind them; what sums of rows and of columns start with;
    # scales of rows, then of columns with the bias; codes
    room = memory.empty((runs * size + height * q.K4 * 4 + BYTES + 4 * (2 * height * q.p.G + 2 * runs * columns)
                         + threads * coded,), np.uint8)
    cdef uint8_t* packed = &room[0]
    q.rows = packed + runs * size
    q.starts = <int32_t*>(q.rows + height * q.K4 * 4 + BYTES)
    q.x_scale = <float*>(q.starts + height * q.p.G)
    cdef int32_t* start = <int32_t*>(q.x_scale + height * q.p.G)
    cdef float* scale = <float*>(start + runs * columns)
    cdef uint8_t* codes = <uint8_t*>(scale + runs * columns)
    memset(scale, 0, runs * columns * sizeof(float))
    for at in prange(0, q.M, TALL, nogil=True, num_threads=threads, schedule="static"):
        pack_rows(&q, &x[0, 0], at, codes + threadid() * coded)
    for run in prange(runs, nogil=True, num_threads=threads, schedule="static", chunksize=1):
        one_run(&q, panels * run // runs, panels * (run + 1) // runs, packed + run * size, start + run * columns,
                scale + run * columns)

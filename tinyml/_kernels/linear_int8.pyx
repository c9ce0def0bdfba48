# Linear layers by int8 weights that stay as they are, [N][K], for dynamic quantization: few rows of x read them in place; many
# rows are packed, and some panels of weights at a time, in the cache, which costs little beside its use.
from cython.parallel cimport prange
from libc.stdint cimport int8_t, int32_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
import numpy as np

from tinyml._kernels import memory
from tinyml._kernels.simd cimport *
from tinyml._kernels.vmath cimport vfmul

include "rows_int8.pxi"

cdef extern from "tile_packed.h" nogil:
    enum: TALL
    enum: PACKED
    enum: STEP
    bint SIGNED_ROWS
    Py_ssize_t packed_height(Py_ssize_t left) noexcept
    void packed_product(Py_ssize_t height, const uint8_t* a, const int32_t* start, Py_ssize_t K4, const uint8_t* b,
                        int32_t* out) noexcept

cdef enum:
    PANEL = PACKED * LANES
    # of weights packed at a time: in the second-level cache, and a tile's outputs follow those of the panel before in memory.
    # One panel at a time, 512 x 768 by 50257 took a fifth longer; 512 KB are as good, 128 KB and 1 MB 4% slower
    ROUND_BYTES = 1 << 18
    FLIP = 0x80808080           # of 4 bytes: q + 128 as q and the other way round


cdef Int8Weights weights_of(const int8_t[:, ::1] w, const float[:, ::1] scale, const float[::1] bias,
                            Py_ssize_t group) noexcept:
    cdef Int8Weights p
    p.N, p.K, p.G = w.shape[0], w.shape[1], scale.shape[1]
    p.group = group if p.G > 1 else max(p.K, <Py_ssize_t>BYTES)
    p.w, p.scale, p.bias = &w[0, 0], &scale[0, 0], NULL
    if bias is not None:
        p.bias = &bias[0]
    return p


def rows_int8(const uint8_t[:, ::1] x, const float[:, ::1] x_scale, const int8_t[:, ::1] w, const float[:, ::1] w_scale,
              const float[::1] bias, Py_ssize_t group, float[:, ::1] y, int threads):
    """y[M][N] = sum over groups g of sum_k (x - 128) * w * (x_scale[M][G] * w_scale[N][G]), + bias[N]; design (9).

    x[M][K or more], x_scale[M][G], w[N][K], w_scale[N][G], bias[N] or None. Sums over the k of a group, `group` of them, are
    exact; groups are added in float, in order. group is K (G = 1), or 32 or 64.
    """
    cdef Py_ssize_t M = x.shape[0], row = room_of_row(w.shape[1]), room, part, blocks, m
    cdef Int8Weights p
    cdef Int8Rows rows
    cdef int8_t* codes
    cdef int32_t* offset
    cdef float* scratch
    if M * w.shape[0] == 0:
        return
    p = weights_of(w, w_scale, bias, group)
    room = room_of_block(&p) // 4 + 16
    codes = <int8_t*>malloc(M * row)
    offset = <int32_t*>malloc(M * p.G * sizeof(int32_t))
    scratch = <float*>malloc(threads * room * sizeof(float))
    if codes == NULL or offset == NULL or scratch == NULL:
        free(codes); free(offset); free(scratch)
        raise MemoryError(f"rows_int8: no memory for {M} rows of {p.K}")
    rows.M, rows.x, rows.scale, rows.offset = M, codes, &x_scale[0, 0], offset
    for m in range(M):
        signed_row(&x[m, 0], &p, codes + m * row, offset + m * p.G)
    blocks = (p.N + LANES - 1) // LANES
    for part in prange(threads, nogil=True, num_threads=threads, schedule="static"):
        int8_outputs(&p, &rows, blocks * part // threads * LANES, min(p.N, blocks * (part + 1) // threads * LANES),
                     &y[0, 0], p.N, scratch + part * room)
    free(codes)
    free(offset)
    free(scratch)


cdef struct Many:
    # a product of many rows
    Int8Weights p
    Py_ssize_t M, K4            # K4: fours of K as they are packed
    Py_ssize_t round            # panels packed at a time
    uint8_t* rows               # tiles of rows, [K4][height] words of 4 codes
    int32_t* starts             # of their sums, [G][height] a tile
    const float* x_scale        # [M][G]
    float* y                    # [M][N]


cdef void pack(const uint8_t* x, Py_ssize_t step, Py_ssize_t rows, Py_ssize_t there, Py_ssize_t K, Py_ssize_t K4, uint32_t flip,
               Py_ssize_t width, uint8_t* packed) noexcept nogil:
    """packed[K4][width][4] = x[rows][K] ^ flip, zeros beyond both; `there` rows may be read."""
    cdef float block[LANES * LANES]
    cdef Py_ssize_t done = 0, whole = 0, j, k, i
    cdef uint32_t word
    if rows < width or K < 4 * K4:
        memset(packed, 0, K4 * width * 4)
    if step % 4 == 0:       # 4 codes are a word, and words are transposed as floats are
        whole = K // BYTES * BYTES
        while done < rows and done + LANES <= there:
            for k from 0 <= k < whole by BYTES:
                if flip == 0 and done + LANES <= rows:
                    vtranspose(<const float*>(x + done * step + k), step // 4, <float*>packed + k // 4 * width + done, width)
                    continue
                vtranspose(<const float*>(x + done * step + k), step // 4, block, LANES)
                for i in range(LANES):
                    vfstore_n(<float*>packed + (k // 4 + i) * width + done, vflip(block + i * LANES, flip), rows - done)
            done += LANES
    for k in range(K // 4):
        for j in range(done if 4 * k < whole else 0, rows):
            memcpy(&word, x + j * step + 4 * k, 4)
            word ^= flip
            memcpy(packed + (k * width + j) * 4, &word, 4)
    for j in range(rows):
        for k in range(K // 4 * 4, K):
            packed[(k // 4 * width + j) * 4 + k % 4] = x[j * step + k] ^ (flip & 255)


cdef void starts(const Many* q, const uint8_t* packed, Py_ssize_t width, int32_t* start) noexcept nogil:
    """start[G][width]: of signed codes as `pack` lays them out, what the 128 of the unsigned ones adds, taken off."""
    cdef vec ones = vsplat(0x01010101), sums
    cdef Py_ssize_t g, j, k, k4 = 0
    for g in range(q.p.G):
        for j from 0 <= j < width by LANES:
            sums = vzero()
            for k in range(k4, k4 + words(q, g)):
                sums = vdot4(sums, ones, vload(packed + (k * width + j) * 4))
            vstore_n(start + g * width + j, vscale(sums, OFFSET - 128), <int>(width - j))
        k4 += words(q, g)


cdef int pack_rows(const Many* q, const uint8_t* x, Py_ssize_t step, Py_ssize_t at) noexcept nogil:
    """The tile of the rows of x[M][step] from `at` on."""
    cdef Py_ssize_t height = packed_height(q.M - at)
    cdef uint8_t* packed = q.rows + at * q.K4 * 4
    # u = q + 128 to signed, or to unsigned less OFFSET
    pack(x + at * step, step, min(height, q.M - at), q.M - at, q.p.K, q.K4, FLIP if SIGNED_ROWS or OFFSET else 0, height, packed)
    if SIGNED_ROWS:
        starts(q, packed, height, q.starts + at * q.p.G)
    return 0


cdef void pack_panel(const Many* q, Py_ssize_t n, uint8_t* packed, int32_t* start, float* scale) noexcept nogil:
    """The panel of weights n .. n+PANEL, and their scales [G][PANEL]."""
    cdef Py_ssize_t rows = min(<Py_ssize_t>PANEL, q.p.N - n), g, j
    # w to unsigned less OFFSET, or as it is
    pack(<const uint8_t*>q.p.w + n * q.p.K, q.p.K, rows, q.p.N - n, q.p.K, q.K4, FLIP if SIGNED_ROWS and OFFSET == 0 else 0,
         PANEL, packed)
    if not SIGNED_ROWS:
        starts(q, packed, PANEL, start)
    for g in range(q.p.G):
        for j in range(rows):
            scale[g * PANEL + j] = q.p.scale[(n + j) * q.p.G + g]


cdef inline Py_ssize_t words(const Many* q, Py_ssize_t g) noexcept nogil:
    """Fours of codes in group g, in whole steps of a tile."""
    return whole_steps(min(q.p.group, q.p.K - g * q.p.group))


cdef inline Py_ssize_t whole_steps(Py_ssize_t codes) noexcept nogil:
    return (codes + 4 * STEP - 1) // (4 * STEP) * STEP


cdef void scale_tile(const Many* q, const int32_t* acc, Py_ssize_t at, Py_ssize_t rows, Py_ssize_t g, const float* scale,
                     float* sums) noexcept nogil:
    """sums[rows][panel] = (for later groups than the first, +=) acc times both scales of group g."""
    cdef Py_ssize_t i, j, k
    cdef vecf v
    for i in range(rows):
        for j in range(PACKED):
            k = i * PANEL + j * LANES
            v = vfmul(to_float(vload(acc + k)),
                      vfmul(vfset(q.x_scale[(at + i) * q.p.G + g]), vfload(scale + g * PANEL + j * LANES)))
            vfstore(sums + k, vfadd(vfload(sums + k), v) if g else v)


cdef void finish_tile(const Many* q, const int32_t* acc, Py_ssize_t at, Py_ssize_t rows, const float* scale,
                      Py_ssize_t n) noexcept nogil:
    """scale_tile and store_tile in one, of one group and a whole panel."""
    cdef Py_ssize_t i, j
    cdef float* y = q.y + at * q.p.N + n
    cdef vecf v, f
    for i in range(rows):
        f = vfset(q.x_scale[at + i])
        for j from 0 <= j < PANEL by LANES:
            v = vfmul(to_float(vload(acc + j)), vfmul(f, vfload(scale + j)))
            vfstore(y + j, v if q.p.bias == NULL else vfadd(v, vfload(q.p.bias + n + j)))
        y += q.p.N
        acc += PANEL


cdef void store_tile(const Many* q, const float* sums, Py_ssize_t at, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """y = sums + bias, of columns that exist."""
    cdef Py_ssize_t i, j, columns = min(PANEL, q.p.N - n)
    cdef float* y
    for i in range(rows):
        y = q.y + (at + i) * q.p.N + n
        for j from 0 <= j < columns by LANES:
            if q.p.bias == NULL:
                vfstore_n(y + j, vfload(sums + i * PANEL + j), columns - j)
            else:
                vfstore_n(y + j, vfadd(vfload(sums + i * PANEL + j), vfload_n(q.p.bias + n + j, columns - j)), columns - j)


cdef void multiply_tile(const Many* q, const uint8_t* packed, const int32_t* start, const float* scale, Py_ssize_t at,
                        Py_ssize_t n) noexcept nogil:
    """Columns n .. of one panel for the tile of rows from `at` on, as many of both as there are."""
    cdef vec sums[TALL * PACKED]        # of vectors, so that it begins on a cache line
    cdef vecf y[TALL * PACKED]
    cdef Py_ssize_t height = packed_height(q.M - at), rows = min(height, q.M - at), g, k4 = 0
    cdef Py_ssize_t step = height if SIGNED_ROWS else PANEL
    cdef const uint8_t* a = q.rows + at * q.K4 * 4
    if SIGNED_ROWS:
        start = q.starts + at * q.p.G
    for g in range(rows):       # stores to lines that are not there yet hold up the loads of the next tile
        vfetch(q.y + (at + g) * q.p.N + n + PANEL - 1)
    if q.p.G == 1 and n + PANEL <= q.p.N:
        packed_product(height, a, start, q.K4, packed, <int32_t*>sums)
        finish_tile(q, <int32_t*>sums, at, rows, scale, n)
        return
    for g in range(q.p.G):
        packed_product(height, a + k4 * height * 4, start + g * step, words(q, g), packed + k4 * PANEL * 4, <int32_t*>sums)
        scale_tile(q, <int32_t*>sums, at, rows, g, scale, <float*>y)
        k4 += words(q, g)
    store_tile(q, <float*>y, at, rows, n)


cdef int one_run(const Many* q, Py_ssize_t first, Py_ssize_t end, uint8_t* packed, int32_t* start,
                 float* scale) noexcept nogil:
    """Panels first .. end, a round after the other: its panels packed, then all of them multiplied by a tile of rows."""
    cdef Py_ssize_t size = q.K4 * PANEL * 4, columns = q.p.G * PANEL, count, i, at
    while first < end:
        count = min(q.round, end - first)
        for i in range(count):
            pack_panel(q, (first + i) * PANEL, packed + i * size, start + i * columns, scale + i * columns)
        for at from 0 <= at < q.M by TALL:
            for i in range(count):
                multiply_tile(q, packed + i * size, start + i * columns, scale + i * columns, at, (first + i) * PANEL)
        first += count
    return 0


def gemm_int8(const uint8_t[:, ::1] x, const float[:, ::1] x_scale, const int8_t[:, ::1] w, const float[:, ::1] w_scale,
              const float[::1] bias, Py_ssize_t group, float[:, ::1] y, int threads):
    """rows_int8 for many rows."""
    cdef Many q
    cdef Py_ssize_t run, runs, panels, size, columns, height, at
    cdef uint8_t[::1] room
    cdef uint8_t* packed
    cdef int32_t* start
    cdef float* scale
    if x.shape[0] * w.shape[0] == 0:
        return
    q.p = weights_of(w, w_scale, bias, group)
    q.M, q.K4 = x.shape[0], max(<Py_ssize_t>STEP, whole_steps(q.p.K))
    q.x_scale, q.y = &x_scale[0, 0], &y[0, 0]
    panels = (q.p.N + PANEL - 1) // PANEL
    runs = min(<Py_ssize_t>threads, panels)
    q.round = min((panels + runs - 1) // runs, max(<Py_ssize_t>1, ROUND_BYTES // (q.K4 * PANEL * 4)))
    size, columns, height = q.round * q.K4 * PANEL * 4, q.round * q.p.G * PANEL, (q.M + TALL - 1) // TALL * TALL
    # packed weights, rows, and a vector that may be read behind them; starts of rows and columns, scales of columns
    room = memory.empty((runs * size + height * q.K4 * 4 + BYTES + 4 * (height * q.p.G + 2 * runs * columns),), np.uint8)
    packed = &room[0]
    q.rows = packed + runs * size
    q.starts = <int32_t*>(q.rows + height * q.K4 * 4 + BYTES)
    start = q.starts + height * q.p.G
    scale = <float*>(start + runs * columns)
    memset(scale, 0, runs * columns * sizeof(float))
    for at in prange(0, q.M, TALL, nogil=True, num_threads=threads, schedule="static"):
        pack_rows(&q, &x[0, 0], x.shape[1], at)
    for run in prange(runs, nogil=True, num_threads=threads, schedule="static", chunksize=1):
        one_run(&q, panels * run // runs, panels * (run + 1) // runs, packed + run * size, start + run * columns,
                scale + run * columns)

# Linear layers by int8 weights that stay as they are, [N][K], for dynamic quantization: few rows of x read them in place, many
# rows pack one panel of them at a time, in the cache, which costs little beside its use.
from cython.parallel cimport prange
from libc.stdint cimport int8_t, int32_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from tinyml._kernels.simd cimport *
from tinyml._kernels.vmath cimport vfmul

include "tile_int8.pxi"
include "rows_int8.pxi"

cdef enum:
    ROOM = 64       # bytes between the panels of threads


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
    Py_ssize_t M, K4, nv, panel, panels
    const row_t* rows           # [M + MAX_ROWS], the last again and again
    const float* x_scale        # [M][G]
    float* y                    # [M][N]


cdef void pack(const Many* q, Py_ssize_t n, int8_t* packed) noexcept nogil:
    """packed[K4][panel][4] = rows n .. n+panel of the weights, zeros beyond N and K."""
    cdef Py_ssize_t rows = min(q.panel, q.p.N - n), done = 0, whole = 0, j, k
    cdef const int8_t* w = q.p.w + n * q.p.K
    if rows < q.panel or q.p.K % 4:
        memset(packed, 0, q.K4 * q.panel * 4)
    if q.p.K % 4 == 0:      # 4 weights are a word, and words are transposed as floats are
        done, whole = rows // LANES * LANES, q.p.K // BYTES * BYTES
        for j from 0 <= j < done by LANES:
            for k from 0 <= k < whole by BYTES:
                vtranspose(<const float*>(w + j * q.p.K + k), q.p.K // 4, <float*>packed + k // 4 * q.panel + j, q.panel)
    for j in range(rows):
        for k in range(whole if j < done else 0, q.p.K):
            packed[(k // 4 * q.panel + j) * 4 + k % 4] = w[j * q.p.K + k]


cdef inline Py_ssize_t words(const Many* q, Py_ssize_t g) noexcept nogil:
    """Fours of K in group g."""
    return (min(q.p.group, q.p.K - g * q.p.group) + 3) // 4


cdef void starts(const Many* q, const int8_t* packed, int32_t* start) noexcept nogil:
    """start[G][panel] = -(128 - OFFSET) * the sum of each column over the group."""
    cdef uint8_t[4] one
    cdef vec ones, total
    cdef Py_ssize_t g, j, k
    memset(one, OFFSET + 1, 4)
    ones = vsplat4(one)
    for g in range(q.p.G):
        for j in range(q.nv):
            total = vzero()
            for k in range(words(q, g)):
                total = vdot4(total, ones, vload(packed + ((g * q.p.group // 4 + k) * q.panel + j * LANES) * 4))
            vstore(start + g * q.panel + j * LANES, vscale(total, OFFSET - 128))


cdef void scale_tile(const Many* q, const int32_t* acc, Py_ssize_t at, Py_ssize_t rows, Py_ssize_t g, const float* scale,
                     float* sums) noexcept nogil:
    """sums[rows][panel] = (for later groups than the first, +=) acc times both scales of group g."""
    cdef Py_ssize_t i, j, k
    cdef vecf v
    for i in range(rows):
        for j in range(q.nv):
            k = i * q.panel + j * LANES
            v = vfmul(to_float(vload(acc + k)),
                      vfmul(vfset(q.x_scale[(at + i) * q.p.G + g]), vfload(scale + g * q.panel + j * LANES)))
            vfstore(sums + k, vfadd(vfload(sums + k), v) if g else v)


cdef void finish_tile(const Many* q, const int32_t* acc, Py_ssize_t at, Py_ssize_t rows, const float* scale,
                      Py_ssize_t n) noexcept nogil:
    """scale_tile and store_tile in one, of one group and a whole panel."""
    cdef Py_ssize_t i, j
    cdef float* y = q.y + at * q.p.N + n
    cdef vecf v, f
    for i in range(rows):
        f = vfset(q.x_scale[at + i])
        for j from 0 <= j < q.panel by LANES:
            v = vfmul(to_float(vload(acc + j)), vfmul(f, vfload(scale + j)))
            vfstore(y + j, v if q.p.bias == NULL else vfadd(v, vfload(q.p.bias + n + j)))
        y += q.p.N
        acc += q.panel


cdef void store_tile(const Many* q, const float* sums, Py_ssize_t at, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """y = sums + bias, of columns that exist."""
    cdef Py_ssize_t i, j, columns = min(q.panel, q.p.N - n)
    cdef float* y
    for i in range(rows):
        y = q.y + (at + i) * q.p.N + n
        for j from 0 <= j < columns by LANES:
            if q.p.bias == NULL:
                vfstore_n(y + j, vfload(sums + i * q.panel + j), columns - j)
            else:
                vfstore_n(y + j, vfadd(vfload(sums + i * q.panel + j), vfload_n(q.p.bias + n + j, columns - j)), columns - j)


cdef int panels(const Many* q, Py_ssize_t first, Py_ssize_t end, int8_t* packed, int32_t* start,
                float* scale) noexcept nogil:
    """Panels first .. end: each packed, then multiplied by all rows."""
    cdef vec tiles[ROWS * WIDE + 4]     # of vectors, so that they begin on a cache line
    cdef vecf sums[ROWS * WIDE + 4]
    cdef Py_ssize_t part, n, at, mr, rows, g, j, offset
    for part in range(first, end):
        n, at = part * q.panel, 0
        pack(q, n, packed)
        starts(q, packed, start)
        for g in range(q.p.G):
            for j in range(min(q.panel, q.p.N - n)):
                scale[g * q.panel + j] = q.p.scale[(n + j) * q.p.G + g]
        while at < q.M:
            mr = rows_of_tile(q.nv, q.M - at)
            rows = min(mr, q.M - at)
            if q.p.G == 1 and n + q.panel <= q.p.N:
                offset = 0
                tile_any(mr, q.nv, q.rows + at, &offset, 1, q.K4, packed, start, <int32_t*>tiles)
                finish_tile(q, <int32_t*>tiles, at, rows, scale, n)
                at += mr
                continue
            for g in range(q.p.G):
                offset = g * q.p.group
                tile_any(mr, q.nv, q.rows + at, &offset, 1, words(q, g), packed + offset * q.panel, start + g * q.panel,
                         <int32_t*>tiles)
                scale_tile(q, <int32_t*>tiles, at, rows, g, scale, <float*>sums)
            store_tile(q, <float*>sums, at, rows, n)
            at += mr
    return 0


def gemm_int8(const uint8_t[:, ::1] x, const float[:, ::1] x_scale, const int8_t[:, ::1] w, const float[:, ::1] w_scale,
              const float[::1] bias, Py_ssize_t group, float[:, ::1] y, int threads):
    """rows_int8 for many rows. x[M][K in whole fours]: codes beyond K may have any value."""
    cdef Many q
    cdef Py_ssize_t i, run, runs, bytes, columns
    cdef int8_t* packed
    cdef int32_t* start
    cdef float* scale
    cdef row_t* rows
    if x.shape[0] * w.shape[0] == 0:
        return
    q.p = weights_of(w, w_scale, bias, group)
    q.M, q.K4, q.nv = x.shape[0], (q.p.K + 3) // 4, panel_vectors(q.p.N)
    q.panel = q.nv * LANES
    q.panels = (q.p.N + q.panel - 1) // q.panel
    q.x_scale, q.y = &x_scale[0, 0], &y[0, 0]
    runs = min(<Py_ssize_t>threads, q.panels)
    bytes, columns = q.K4 * q.panel * 4 + ROOM, q.p.G * q.panel
    packed = <int8_t*>malloc(runs * bytes)
    start = <int32_t*>malloc(runs * columns * sizeof(int32_t))
    scale = <float*>malloc(runs * columns * sizeof(float))
    rows = <row_t*>malloc((q.M + MAX_ROWS) * sizeof(row_t))
    if packed == NULL or start == NULL or scale == NULL or rows == NULL:
        free(packed); free(start); free(scale); free(rows)
        raise MemoryError(f"gemm_int8: no memory for {runs} x {bytes} bytes of packed weights")
    memset(scale, 0, runs * columns * sizeof(float))
    for i in range(q.M + MAX_ROWS):
        rows[i] = &x[min(i, q.M - 1), 0]
    q.rows = rows
    for run in prange(runs, nogil=True, num_threads=threads, schedule="static", chunksize=1):
        panels(&q, q.panels * run // runs, q.panels * (run + 1) // runs, packed + run * bytes, start + run * columns,
               scale + run * columns)
    free(packed)
    free(start)
    free(scale)
    free(rows)

# One tile of a float product: MR rows by NV vectors of accumulators, which stay in registers over all of K.
#
# The file that includes this one has cimported words/simd, and memcpy and memset.

ctypedef float element
ctypedef const float* row_t

cdef enum:
    # Weights stream from the second-level cache while a tile runs. Fetching them 1 KB ahead made tiles of 6 x 4 vectors 5%
    # faster; 512 bytes and 2 KB gained less
    AHEAD = 1024 / sizeof(float)
    # When a matrix is copied panel by panel, its rows lie far apart, so that the CPU does not fetch them by itself: the row
    # that is fetched is so many rows ahead
    NEXT = 8


cdef struct Finish:
    # what happens to the sums of a panel before they are stored
    bint onto                   # whether what the output holds already is added
    const float* bias           # [columns of the panel], added; or NULL
    bint clamped                # whether results are clamped to lo .. hi; a NaN stays a NaN
    float lo, hi


cdef struct Tile:
    # what a tile takes besides its rows, and where its results go
    const Py_ssize_t* offsets   # [taps]: where each tap begins, from where the row begins
    Py_ssize_t taps, K          # K values per tap
    const float* b              # a panel [taps][K], each row `ldb` floats from the one before
    Py_ssize_t ldb
    const Finish* finish
    float* out                  # rows are `ldc` floats apart
    Py_ssize_t ldc


cdef inline void tile(int MR, int NV, bint PAIRED, const row_t* rows, const Tile* q) noexcept nogil:
    """For i < MR and j < NV * LANES:

    out[i][j] = finish(sum over taps t and values k of rows[i][offsets[t] + k] * b[t][k][j])
    """
    cdef vecf acc[MAX_ROWS][WIDE]
    cdef vecf x
    cdef vecf y[WIDE]
    cdef Py_ssize_t t, k, at, K = q.K, ldb = q.ldb, ldc = q.ldc, pair = rows[1] - rows[0] if PAIRED else 0
    cdef const float* b = q.b
    cdef const float* later = b + AHEAD / (NV * LANES) * ldb
    cdef const Finish* finish = q.finish
    cdef float* out = q.out
    cdef int i, j
    for i in range(MR):
        for j in range(NV):
            acc[i][j] = vfzero()
    for t in range(q.taps):
        at = q.offsets[t]
        for k in range(K):
            for j in range(NV):
                y[j] = vfload(b + j * LANES)
                vfetch(later + j * LANES)
            for i in range(MR):
                x = vfsplat(rows[i - i % 2] + at + i % 2 * pair if PAIRED else rows[i] + at)
                for j in range(NV):
                    acc[i][j] = vfma(acc[i][j], x, y[j])
            b += ldb
            later += ldb
            at += 1
    if finish.onto:
        for i in range(MR):
            for j in range(NV):
                acc[i][j] = vfadd(acc[i][j], vfload(out + i * ldc + j * LANES))
    if finish.bias != NULL:
        for j in range(NV):
            x = vfload(finish.bias + j * LANES)
            for i in range(MR):
                acc[i][j] = vfadd(acc[i][j], x)
    if finish.clamped:
        for i in range(MR):
            for j in range(NV):
                acc[i][j] = vfclamp(acc[i][j], finish.lo, finish.hi)
    for i in range(MR):
        for j in range(NV):
            vfstore(out + i * ldc + j * LANES, acc[i][j])


include "tile_rows.pxi"


cdef void column(const row_t* rows, Py_ssize_t count, const Py_ssize_t* offsets, Py_ssize_t taps,
                 Py_ssize_t K, const float* b, Py_ssize_t ldb, Py_ssize_t nv, Py_ssize_t columns, Finish finish,
                 float* out, Py_ssize_t ldc) noexcept nogil:
    """All `count` rows by one panel, of which `columns` columns exist. `rows` has entries for one more tile behind the
    last."""
    cdef vecf spare[ROWS * WIDE]        # results of a tile of which a part lies outside of `out`
    cdef float bias[MAX_PANEL]
    cdef Py_ssize_t at = 0, mr, i, panel = nv * LANES
    cdef Tile q
    q.offsets, q.taps, q.K, q.b, q.ldb, q.finish = offsets, taps, K, b, ldb, &finish
    if finish.bias != NULL and columns < panel:
        memset(bias, 0, sizeof(bias))
        memcpy(bias, finish.bias, columns * sizeof(float))
        finish.bias = bias
    while at < count:
        mr = rows_of_tile(nv, count - at)
        if columns == panel and mr <= count - at:
            q.out, q.ldc = out + at * ldc, ldc
            tile_any(mr, nv, rows + at, &q)
        else:
            if finish.onto:
                for i in range(min(mr, count - at)):
                    memcpy(<float*>spare + i * panel, out + (at + i) * ldc, columns * sizeof(float))
            q.out, q.ldc = <float*>spare, panel
            tile_any(mr, nv, rows + at, &q)
            for i in range(min(mr, count - at)):
                memcpy(out + (at + i) * ldc, <float*>spare + i * panel, columns * sizeof(float))
        at += mr


cdef inline void pack_panel(const float* b, Py_ssize_t row_stride, Py_ssize_t col_stride, Py_ssize_t K,
                            Py_ssize_t columns, Py_ssize_t panel, float* out) noexcept nogil:
    """out[k][j] = b[k * row_stride + j * col_stride] for k < K and j < columns, 0 for the other j < panel."""
    cdef Py_ssize_t k, j, k0, j0
    if columns < panel:
        memset(out, 0, K * panel * sizeof(float))
    if col_stride == 1 and columns == panel:
        for k in range(K):
            for j in range(panel / LANES):
                vfetch(b + (k + NEXT) * row_stride + j * LANES)
                vfstore(out + k * panel + j * LANES, vfload(b + k * row_stride + j * LANES))
        return
    if col_stride == 1:
        for k in range(K):
            for j in range((columns + LANES - 1) // LANES):
                vfstore(out + k * panel + j * LANES, vfload_n(b + k * row_stride + j * LANES, columns - j * LANES))
        return
    j0 = 0
    if row_stride == 1:
        while j0 + LANES <= columns:
            k0 = 0
            while k0 + LANES <= K:
                vtranspose(b + k0 + j0 * col_stride, col_stride, out + k0 * panel + j0, panel)
                k0 += LANES
            for k in range(k0, K):
                for j in range(j0, j0 + LANES):
                    out[k * panel + j] = b[k + j * col_stride]
            j0 += LANES
    # in blocks of rows, which stay in the first-level cache while column after column is written into them
    for k0 in range(0, K, 16):
        for j in range(j0, columns):
            for k in range(k0, min(k0 + 16, K)):
                out[k * panel + j] = b[k * row_stride + j * col_stride]

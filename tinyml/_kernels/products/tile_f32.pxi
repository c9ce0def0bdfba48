# One tile of a float product: MR rows by NV vectors of accumulators that stay in registers over all of K.

ctypedef float element
ctypedef const float* row_t

cdef enum:
    # Weights stream from the second-level cache while a tile runs: asking for them 1 KB ahead made tiles of 6 x 4 vectors
    # 5% faster (512 bytes and 2 KB: less)
    AHEAD = 1024 / sizeof(float)
    NEXT = 8    # rows of a matrix that is copied by panels: each begins far from the last, where nothing else asks for it in time


cdef struct Finish:
    # what happens to the sums of a panel before they are stored
    bint onto                   # what is stored already is added
    const float* bias           # [columns of the panel], added; or NULL
    bint clamped                # to lo .. hi; a NaN stays one
    float lo, hi


include "tile_rows.pxi"


cdef inline void tile(int MR, int NV, bint PAIRED, const row_t* rows, const Py_ssize_t* offsets, Py_ssize_t taps,
                      Py_ssize_t K, const float* b, Py_ssize_t ldb, const Finish* finish, float* out,
                      Py_ssize_t ldc) noexcept nogil:
    """out[MR][NV*LANES] = finished sum over taps t and k of rows[i][offsets[t] + k] * b[t][k][NV*LANES], in whose
    memory k and k + 1 are `ldb` apart.

    MR, NV and PAIRED, whether in_pairs holds, are constants at every call: the loops over them unroll and `acc` becomes
    registers.
    """
    cdef vecf acc[MAX_ROWS][WIDE]
    cdef vecf x
    cdef vecf y[WIDE]
    cdef Py_ssize_t t, k, at, pair = rows[1] - rows[0] if PAIRED else 0
    cdef const float* later = b + AHEAD / (NV * LANES) * ldb
    cdef int i, j
    for i in range(MR):
        for j in range(NV):
            acc[i][j] = vfzero()
    for t in range(taps):
        at = offsets[t]
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


cdef inline void tile_any(Py_ssize_t mr, Py_ssize_t nv, const row_t* rows, const Py_ssize_t* offsets, Py_ssize_t taps,
                          Py_ssize_t K, const float* b, Py_ssize_t ldb, const Finish* finish,
                          float* out, Py_ssize_t ldc) noexcept nogil:
    """The tile for a panel of `nv` vectors: of `mr` rows, as rows_of_tile gives them."""
    if nv == WIDE:
        if mr == ROWS:
            tile(ROWS, WIDE, False, rows, offsets, taps, K, b, ldb, finish, out, ldc)
        elif mr == 1:
            tile(1, WIDE, False, rows, offsets, taps, K, b, ldb, finish, out, ldc)
        else:
            tile(ROWS / 2, WIDE, False, rows, offsets, taps, K, b, ldb, finish, out, ldc)
    elif nv == NARROW:
        if mr == NARROW_ROWS and in_pairs(rows, mr):
            tile(NARROW_ROWS, NARROW, True, rows, offsets, taps, K, b, ldb, finish, out, ldc)
        elif mr == NARROW_ROWS:
            tile(NARROW_ROWS, NARROW, False, rows, offsets, taps, K, b, ldb, finish, out, ldc)
        elif mr == 1:
            tile(1, NARROW, False, rows, offsets, taps, K, b, ldb, finish, out, ldc)
        else:
            tile(NARROW_ROWS / 2, NARROW, False, rows, offsets, taps, K, b, ldb, finish, out, ldc)
    elif mr == MAX_ROWS and in_pairs(rows, mr):
        tile(MAX_ROWS, 1, True, rows, offsets, taps, K, b, ldb, finish, out, ldc)
    elif mr == MAX_ROWS:
        tile(MAX_ROWS, 1, False, rows, offsets, taps, K, b, ldb, finish, out, ldc)
    elif mr == 1:
        tile(1, 1, False, rows, offsets, taps, K, b, ldb, finish, out, ldc)
    else:
        tile(MAX_ROWS / 2, 1, False, rows, offsets, taps, K, b, ldb, finish, out, ldc)


cdef void column(const row_t* rows, Py_ssize_t count, const Py_ssize_t* offsets, Py_ssize_t taps,
                 Py_ssize_t K, const float* b, Py_ssize_t ldb, Py_ssize_t nv, Py_ssize_t columns, Finish finish,
                 float* out, Py_ssize_t ldc) noexcept nogil:
    """All `count` rows by one panel, of which `columns` columns exist. `rows` may be read up to a tile past the last."""
    cdef vecf spare[ROWS * WIDE]        # a tile whose edges fall outside of `out`
    cdef float bias[MAX_PANEL]
    cdef Py_ssize_t at = 0, mr, i, panel = nv * LANES
    if finish.bias != NULL and columns < panel:
        memset(bias, 0, sizeof(bias))
        memcpy(bias, finish.bias, columns * sizeof(float))
        finish.bias = bias
    while at < count:
        mr = rows_of_tile(nv, count - at)
        if columns == panel and mr <= count - at:
            tile_any(mr, nv, rows + at, offsets, taps, K, b, ldb, &finish, out + at * ldc, ldc)
        else:
            if finish.onto:
                for i in range(min(mr, count - at)):
                    memcpy(<float*>spare + i * panel, out + (at + i) * ldc, columns * sizeof(float))
            tile_any(mr, nv, rows + at, offsets, taps, K, b, ldb, &finish, <float*>spare, panel)
            for i in range(min(mr, count - at)):
                memcpy(out + (at + i) * ldc, <float*>spare + i * panel, columns * sizeof(float))
        at += mr


cdef inline void pack_panel(const float* b, Py_ssize_t row_stride, Py_ssize_t col_stride, Py_ssize_t K,
                            Py_ssize_t columns, Py_ssize_t panel, float* out) noexcept nogil:
    """out[K][panel] = b[k, 0:columns] by strides, zeros beyond `columns`."""
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
    # by blocks of rows that stay in the first-level cache while the columns write into them
    for k0 in range(0, K, 16):
        for j in range(j0, columns):
            for k in range(k0, min(k0 + 16, K)):
                out[k * panel + j] = b[k * row_stride + j * col_stride]

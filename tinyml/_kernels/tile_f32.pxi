# One tile of a float product: MR rows by NV vectors of accumulators that stay in registers over all of K.

ctypedef float element
ctypedef const float* row_t

cdef enum:
    # Weights stream from the second-level cache while a tile runs: asking for them 1 KB ahead made tiles of 6 x 4 vectors
    # 5% faster (512 bytes and 2 KB: less)
    AHEAD = 1024


cdef inline void tile(int MR, int NV, const row_t* rows, const Py_ssize_t* offsets, Py_ssize_t taps, Py_ssize_t step,
                      Py_ssize_t K, const float* b, float* out) noexcept nogil:
    """out[MR][NV*LANES] = sum over taps t and k of rows[i][offsets[t] + k*step] * b[t][k][NV*LANES].

    MR and NV are constants at every call: the loops over them unroll and `acc` becomes registers.
    """
    cdef vecf acc[MAX_ROWS][WIDE]
    cdef vecf x
    cdef vecf y[WIDE]
    cdef Py_ssize_t t, k, at
    cdef int i, j
    for i in range(MR):
        for j in range(NV):
            acc[i][j] = vfzero()
    for t in range(taps):
        at = offsets[t]
        for k in range(K):
            for j in range(NV):
                y[j] = vfload(b + j * LANES)
                vfetch(<const char*>(b + j * LANES) + AHEAD)
            for i in range(MR):
                x = vfsplat(rows[i] + at)
                for j in range(NV):
                    acc[i][j] = vfma(acc[i][j], x, y[j])
            b += NV * LANES
            at += step
    for i in range(MR):
        for j in range(NV):
            vfstore(out + (i * NV + j) * LANES, acc[i][j])


cdef inline void tile_any(Py_ssize_t mr, Py_ssize_t nv, const row_t* rows, const Py_ssize_t* offsets, Py_ssize_t taps,
                          Py_ssize_t step, Py_ssize_t K, const float* b, float* out) noexcept nogil:
    """The tile for a panel of `nv` vectors: of `mr` rows, as rows_of_tile gives them."""
    if nv == WIDE:
        if mr == ROWS:
            tile(ROWS, WIDE, rows, offsets, taps, step, K, b, out)
        elif mr == 1:
            tile(1, WIDE, rows, offsets, taps, step, K, b, out)
        else:
            tile(ROWS / 2, WIDE, rows, offsets, taps, step, K, b, out)
    elif nv == NARROW:
        if mr == NARROW_ROWS:
            tile(NARROW_ROWS, NARROW, rows, offsets, taps, step, K, b, out)
        elif mr == 1:
            tile(1, NARROW, rows, offsets, taps, step, K, b, out)
        else:
            tile(NARROW_ROWS / 2, NARROW, rows, offsets, taps, step, K, b, out)
    elif mr == MAX_ROWS:
        tile(MAX_ROWS, 1, rows, offsets, taps, step, K, b, out)
    elif mr == 1:
        tile(1, 1, rows, offsets, taps, step, K, b, out)
    else:
        tile(MAX_ROWS / 2, 1, rows, offsets, taps, step, K, b, out)


cdef inline void store_rows(const float* acc, Py_ssize_t valid, Py_ssize_t panel, const float* bias, float lo, float hi,
                            float* out, Py_ssize_t ldc, Py_ssize_t columns) noexcept nogil:
    """Write the first `valid` rows and `columns` columns of a tile: bias[column] (NULL: none) added, clamped, NaN kept."""
    cdef Py_ssize_t i, j, part
    cdef vecf v
    for i in range(valid):
        for part in range((columns + LANES - 1) // LANES):
            j = part * LANES
            v = vfload(acc + i * panel + j)
            if bias != NULL:
                v = vfadd(v, vfload_n(bias + j, <int>(columns - j)))
            vfstore_n(out + i * ldc + j, vfclamp(v, lo, hi), <int>(columns - j))


cdef inline void pack_panel(const float* b, Py_ssize_t row_stride, Py_ssize_t col_stride, Py_ssize_t K,
                            Py_ssize_t columns, Py_ssize_t panel, float* out) noexcept nogil:
    """out[K][panel] = b[k, 0:columns] by strides, zeros beyond `columns`."""
    cdef Py_ssize_t k, j, k0
    if columns < panel:
        memset(out, 0, K * panel * sizeof(float))
    if col_stride == 1:
        for k in range(K):
            memcpy(out + k * panel, b + k * row_stride, columns * sizeof(float))
    else:
        # by blocks of rows that stay in the first-level cache while the columns write into them
        for k0 in range(0, K, 16):
            for j in range(columns):
                for k in range(k0, min(k0 + 16, K)):
                    out[k * panel + j] = b[k * row_stride + j * col_stride]

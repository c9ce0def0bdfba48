# One tile of an integer product: MR rows by NV vectors of int32 accumulators that stay in registers over all of K.

ctypedef uint8_t element
ctypedef const uint8_t* row_t

cdef enum:
    # Weights stream from the second-level cache while a tile runs: asking for them 1 KB ahead made tiles of 6 x 4 vectors
    # 5% faster (512 bytes and 2 KB: less)
    AHEAD = 1024


include "tile_rows.pxi"


cdef inline void tile(int MR, int NV, bint PAIRED, const row_t* rows, const Py_ssize_t* offsets, Py_ssize_t taps,
                      Py_ssize_t K4, const int8_t* b, const int32_t* bias, int32_t* out) noexcept nogil:
    """out[MR][NV*LANES] = bias + sum over taps t, k of rows[i][offsets[t] + k] * b[t][k/4][NV*LANES][k%4], in registers.

    MR, NV and PAIRED, whether in_pairs holds, are constants at every call: the loops over them unroll and `acc` becomes
    registers.
    """
    cdef vec acc[MAX_ROWS][WIDE]
    cdef vec x
    cdef vec y[WIDE]
    cdef Py_ssize_t t, k, at, pair = rows[1] - rows[0] if PAIRED else 0
    cdef int i, j
    for i in range(MR):
        for j in range(NV):
            acc[i][j] = vload(bias + j * LANES)
    for t in range(taps):
        at = offsets[t]
        for k in range(K4):
            for j in range(NV):
                y[j] = vload(b + 4 * j * LANES)
                vfetch(b + 4 * j * LANES + AHEAD)
            for i in range(MR):
                x = vsplat4(rows[i - i % 2] + at + i % 2 * pair if PAIRED else rows[i] + at)
                for j in range(NV):
                    acc[i][j] = vdot4(acc[i][j], x, y[j])
            b += 4 * NV * LANES
            at += 4
    for i in range(MR):
        for j in range(NV):
            vstore(out + (i * NV + j) * LANES, acc[i][j])


cdef inline void two_panels(const row_t* rows, const Py_ssize_t* offsets, Py_ssize_t taps, Py_ssize_t K4, const int8_t* b,
                            const int8_t* b2, const int32_t* bias, const int32_t* bias2, int32_t* out) noexcept nogil:
    """A tile of one row for each of two WIDE panels, out[2][WIDE*LANES].

    One row is bound by reading weights, and memory gives more along two streams: 15 GB/s where one gave 12.8.
    """
    cdef vec acc[2][WIDE]
    cdef vec x
    cdef Py_ssize_t t, k, at
    cdef int j
    for j in range(WIDE):
        acc[0][j] = vload(bias + j * LANES)
        acc[1][j] = vload(bias2 + j * LANES)
    for t in range(taps):
        at = offsets[t]
        for k in range(K4):
            x = vsplat4(rows[0] + at)
            for j in range(WIDE):
                vfetch(b + 4 * j * LANES + 2 * AHEAD)
                acc[0][j] = vdot4(acc[0][j], x, vload(b + 4 * j * LANES))
            for j in range(WIDE):
                vfetch(b2 + 4 * j * LANES + 2 * AHEAD)
                acc[1][j] = vdot4(acc[1][j], x, vload(b2 + 4 * j * LANES))
            b += 4 * WIDE * LANES
            b2 += 4 * WIDE * LANES
            at += 4
    for j in range(WIDE):
        vstore(out + j * LANES, acc[0][j])
        vstore(out + (WIDE + j) * LANES, acc[1][j])


cdef inline void tile_any(Py_ssize_t mr, Py_ssize_t nv, const row_t* rows, const Py_ssize_t* offsets, Py_ssize_t taps,
                          Py_ssize_t K4, const int8_t* b, const int32_t* bias, int32_t* out) noexcept nogil:
    """The tile for a panel of `nv` vectors: of `mr` rows, as rows_of_tile gives them."""
    if nv == WIDE:
        if mr == ROWS:
            tile(ROWS, WIDE, False, rows, offsets, taps, K4, b, bias, out)
        elif mr == 1:
            tile(1, WIDE, False, rows, offsets, taps, K4, b, bias, out)
        else:
            tile(ROWS / 2, WIDE, False, rows, offsets, taps, K4, b, bias, out)
    elif nv == NARROW:
        if mr == NARROW_ROWS and in_pairs(rows, mr):
            tile(NARROW_ROWS, NARROW, True, rows, offsets, taps, K4, b, bias, out)
        elif mr == NARROW_ROWS:
            tile(NARROW_ROWS, NARROW, False, rows, offsets, taps, K4, b, bias, out)
        elif mr == 1:
            tile(1, NARROW, False, rows, offsets, taps, K4, b, bias, out)
        else:
            tile(NARROW_ROWS / 2, NARROW, False, rows, offsets, taps, K4, b, bias, out)
    elif mr == MAX_ROWS and in_pairs(rows, mr):
        tile(MAX_ROWS, 1, True, rows, offsets, taps, K4, b, bias, out)
    elif mr == MAX_ROWS:
        tile(MAX_ROWS, 1, False, rows, offsets, taps, K4, b, bias, out)
    elif mr == 1:
        tile(1, 1, False, rows, offsets, taps, K4, b, bias, out)
    else:
        tile(MAX_ROWS / 2, 1, False, rows, offsets, taps, K4, b, bias, out)

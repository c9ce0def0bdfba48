# One tile of an integer product: MR rows by NV vectors of int32 accumulators, which stay in registers over all of K.
#
# The file that includes this one has cimported words/simd.

ctypedef uint8_t element
ctypedef const uint8_t* row_t

cdef enum:
    # Weights stream from the second-level cache while a tile runs. Fetching them 1 KB ahead made tiles of 6 x 4 vectors 5%
    # faster; 512 bytes and 2 KB gained less
    AHEAD = 1024


cdef struct Tile:
    # what a tile takes besides its rows, and where its results go
    const Py_ssize_t* offsets   # [taps]: where each tap begins, from where the row begins
    Py_ssize_t taps, K4         # K4 times four codes per tap
    const int8_t* b             # a panel [taps][K4][panel][4]
    const int32_t* bias         # [panel]
    int32_t* out                # [rows][panel]


cdef inline void tile(int MR, int NV, bint PAIRED, const row_t* rows, const Tile* q) noexcept nogil:
    """For i < MR and j < NV * LANES:

    out[i][j] = bias[j] + sum over taps t and codes k of rows[i][offsets[t] + k] * b[t][k / 4][j][k % 4]
    """
    cdef vec acc[MAX_ROWS][WIDE]
    cdef vec x
    cdef vec y[WIDE]
    cdef Py_ssize_t t, k, at, K4 = q.K4, pair = rows[1] - rows[0] if PAIRED else 0
    cdef const int8_t* b = q.b
    cdef int i, j
    for i in range(MR):
        for j in range(NV):
            acc[i][j] = vload(q.bias + j * LANES)
    for t in range(q.taps):
        at = q.offsets[t]
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
            vstore(q.out + (i * NV + j) * LANES, acc[i][j])


cdef inline void two_panels(const row_t* rows, const Py_ssize_t* offsets, Py_ssize_t taps, Py_ssize_t K4, const int8_t* b,
                            const int8_t* b2, const int32_t* bias, const int32_t* bias2, int32_t* out) noexcept nogil:
    """A tile of one row by two panels of WIDE vectors each, out[2][WIDE*LANES].

    A product of one row is bound by reading the weights, and memory gives more where it is read in two places at a time: 15
    GB/s, where one stream gave 12.8.
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


include "tile_rows.pxi"

# Depthwise float convolution, one filter per channel: a vector has the sums of LANES channels.
#
# The file that includes this one must define row_t, a pointer to what a pixel reads, and have cimported words/simd.

cdef enum:
    PIXELS = 4      # pixels that share a vector of weights once it is loaded


cdef inline void depthwise_tile(int MR, const row_t* rows, const Py_ssize_t* offsets, Py_ssize_t taps, Py_ssize_t c,
                                Py_ssize_t C, const float* w, const float* bias, float lo, float hi,
                                float* y) noexcept nogil:
    """y[i][c + j] = clamp(bias[c + j] + sum over taps t of rows[i][offsets[t] + c + j] * w[t][j], lo, hi) for i < MR, which
    is a constant, and the j < LANES whose channel exists."""
    cdef vecf acc[PIXELS]
    cdef vecf v
    cdef Py_ssize_t t
    cdef int i, n = <int>(C - c)
    for i in range(MR):
        acc[i] = vfzero() if bias == NULL else vfload_n(bias + c, n)
    for t in range(taps):
        v = vfload(w + t * LANES)
        for i in range(MR):
            acc[i] = vfma(acc[i], vfload(rows[i] + offsets[t] + c), v)
    for i in range(MR):
        vfstore_n(y + i * C + c, vfclamp(acc[i], lo, hi), n)


cdef void depthwise_pixels(const row_t* rows, Py_ssize_t count, const Py_ssize_t* offsets, Py_ssize_t taps,
                           Py_ssize_t part0, Py_ssize_t part1, Py_ssize_t C, const float* packed, const float* bias,
                           float lo, float hi, float* y) noexcept nogil:
    """Compute `count` pixels, of their C channels the vectors part0 .. part1."""
    cdef Py_ssize_t part, at = 0
    while at < count:
        for part in range(part0, part1):
            if count - at >= PIXELS:
                depthwise_tile(PIXELS, rows + at, offsets, taps, part * LANES, C, packed + part * taps * LANES, bias, lo,
                               hi, y + at * C)
            else:
                depthwise_tile(1, rows + at, offsets, taps, part * LANES, C, packed + part * taps * LANES, bias, lo, hi,
                               y + at * C)
        at += PIXELS if count - at >= PIXELS else 1

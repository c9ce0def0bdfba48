# Pooling of codes u = q + 128 over NHWC memory. Windows are given as the first and the past-last row (column) of each
# output row (column), clipped to the image: so plain, padded and adaptive pooling are the same loop.
#
# While a window is read, the results of up to four vectors of channels stay in registers.
from cython.parallel cimport prange
from libc.stdint cimport int32_t, int64_t, uint8_t
from tinyml._kernels.words.simd cimport *

ctypedef uint8_t element

cdef enum:
    VECTOR = 16     # for maxima, because 16 or 32 channels would not fill one of the widest vectors

include "pool_rows.pxi"


cdef inline void largest(int V, bint keep, const uint8_t* x, Py_ssize_t W, const Span* s, int n, uint8_t* y,
                         int32_t* at) noexcept nogil:
    """See pool_rows.pxi. Codes need no pixels: `keep` is False."""
    cdef bytes16 best[4]
    cdef Py_ssize_t i, j
    cdef int v
    for v in range(V):
        best[v] = bload_n(x + s.y0 * s.row + s.x0 * s.column + v * VECTOR, n)
    for i in range(s.y0, s.y1):
        for j in range(s.x0, s.x1):
            for v in range(V):
                best[v] = bmax(best[v], bload_n(x + i * s.row + j * s.column + v * VECTOR, n))
    for v in range(V):
        bstore_n(y + v * VECTOR, best[v], n)


def max_pool_int8(const uint8_t[:, :, :, ::1] x, const Py_ssize_t[:, ::1] rows, const Py_ssize_t[:, ::1] columns,
                  uint8_t[:, :, :, ::1] y, int threads):
    """y[B][OH][OW][C] = the largest code of the window. Scale and zero point stay the same; equation (8)."""
    cdef Py_ssize_t B = y.shape[0], OH = y.shape[1], OW = y.shape[2], C = y.shape[3], unit
    if B * OH * OW * C == 0:
        return
    for unit in prange(B * OH, nogil=True, num_threads=threads, schedule="static"):
        max_row(False, &x[unit // OH, 0, 0, 0], x.shape[2], C, &rows[unit % OH, 0], &columns[0, 0], OW,
                &y[unit // OH, unit % OH, 0, 0], NULL)


cdef inline void mean(int V, const uint8_t* x, const Span* s, int n, int32_t start, int32_t m, int64_t shift,
                      int zero_point, uint8_t* y) noexcept nogil:
    """y = the requantized sum of the window, which begins with `start`, for V vectors of channels, of whose last n exist; V
    is a constant at every call."""
    cdef vec sums[4]
    cdef Py_ssize_t i, j
    cdef int v
    for v in range(V):
        sums[v] = vsplat(start)
    for i in range(s.y0, s.y1):
        for j in range(s.x0, s.x1):
            for v in range(V):
                sums[v] = vadd(sums[v], vload_codes_n(x + i * s.row + j * s.column + v * LANES, n))
    for v in range(V):
        store_scaled(y + v * LANES, sums[v], m, shift, zero_point, n)


cdef void mean_row(const uint8_t* x, Py_ssize_t W, Py_ssize_t C, const Py_ssize_t* rows, const Py_ssize_t* columns,
                   Py_ssize_t OW, const int64_t* m, const int64_t* shift, int zero_in, int zero_out,
                   uint8_t* y) noexcept nogil:
    """Compute one row of outputs from the image x."""
    cdef Span s
    cdef Py_ssize_t o, c
    cdef int32_t start, by
    for o in range(OW):
        s = span(W, C, rows, columns + 2 * o)
        start = <int32_t>(-zero_in * (s.y1 - s.y0) * (s.x1 - s.x0))
        by = <int32_t>m[o]
        c = 0
        while c + 4 * LANES <= C:
            mean(4, x + c, &s, LANES, start, by, shift[o], zero_out, y + c)
            c += 4 * LANES
        if c + 2 * LANES <= C:
            mean(2, x + c, &s, LANES, start, by, shift[o], zero_out, y + c)
            c += 2 * LANES
        while c < C:
            mean(1, x + c, &s, <int>min(<Py_ssize_t>LANES, C - c), start, by, shift[o], zero_out, y + c)
            c += LANES
        y += C


def avg_pool_int8(const uint8_t[:, :, :, ::1] x, const Py_ssize_t[:, ::1] rows, const Py_ssize_t[:, ::1] columns,
                  const int64_t[:, ::1] m, const int64_t[:, ::1] shift, int zero_in, int zero_out,
                  uint8_t[:, :, :, ::1] y, int threads):
    """y = clamp(zero_out + ((sum(x - zero_in) * m + 2^(shift-1)) >> shift)), with m and shift [OH][OW]; equation (8)."""
    cdef Py_ssize_t B = y.shape[0], OH = y.shape[1], OW = y.shape[2], C = y.shape[3], unit
    if B * OH * OW * C == 0:
        return
    for unit in prange(B * OH, nogil=True, num_threads=threads, schedule="static"):
        mean_row(&x[unit // OH, 0, 0, 0], x.shape[2], C, &rows[unit % OH, 0], &columns[0, 0], OW, &m[unit % OH, 0],
                 &shift[unit % OH, 0], zero_in, zero_out, &y[unit // OH, unit % OH, 0, 0])

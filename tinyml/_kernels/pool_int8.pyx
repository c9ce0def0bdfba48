# Pooling of codes u = q + 128 over NHWC memory. Windows arrive as first and past-last row (column) of each output row
# (column), clipped to the image: plain, padded and adaptive pooling are one loop.
from cython.parallel cimport prange
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset


cdef int max_pixel(const uint8_t[:, :, :, ::1] x, Py_ssize_t b, Py_ssize_t y0, Py_ssize_t y1, Py_ssize_t x0,
                   Py_ssize_t x1, uint8_t* y) noexcept nogil:
    cdef Py_ssize_t i, j, c, C = x.shape[3]
    cdef const uint8_t* p
    memset(y, 0, C)
    for i in range(y0, y1):
        for j in range(x0, x1):
            p = &x[b, i, j, 0]
            for c in range(C):
                y[c] = p[c] if p[c] > y[c] else y[c]
    return 0


def max_pool_int8(const uint8_t[:, :, :, ::1] x, const Py_ssize_t[:, ::1] rows, const Py_ssize_t[:, ::1] columns,
                  uint8_t[:, :, :, ::1] y, int threads):
    """y[B][OH][OW][C] = largest code of the window; scale and zero point stay; design (8)."""
    cdef Py_ssize_t B = y.shape[0], OH = y.shape[1], OW = y.shape[2], unit, o
    if B * OH * OW * y.shape[3] == 0:
        return
    for unit in prange(B * OH, nogil=True, num_threads=threads, schedule="static"):
        for o in range(OW):
            max_pixel(x, unit // OH, rows[unit % OH, 0], rows[unit % OH, 1], columns[o, 0], columns[o, 1],
                      &y[unit // OH, unit % OH, o, 0])


cdef int sum_pixel(const uint8_t[:, :, :, ::1] x, Py_ssize_t b, Py_ssize_t y0, Py_ssize_t y1, Py_ssize_t x0,
                   Py_ssize_t x1, int zero_in, int64_t m, int64_t shift, int zero_out, int32_t* sums,
                   uint8_t* y) noexcept nogil:
    cdef Py_ssize_t i, j, c, C = x.shape[3]
    cdef int64_t v
    cdef const uint8_t* p
    memset(sums, 0, C * sizeof(int32_t))
    for i in range(y0, y1):
        for j in range(x0, x1):
            p = &x[b, i, j, 0]
            for c in range(C):
                sums[c] += p[c] - zero_in
    for c in range(C):
        v = zero_out + ((sums[c] * m + (<int64_t>1 << (shift - 1))) >> shift)
        v = 0 if v < 0 else v
        y[c] = <uint8_t>(255 if v > 255 else v)
    return 0


def avg_pool_int8(const uint8_t[:, :, :, ::1] x, const Py_ssize_t[:, ::1] rows, const Py_ssize_t[:, ::1] columns,
                  const int64_t[:, ::1] m, const int64_t[:, ::1] shift, int zero_in, int zero_out,
                  uint8_t[:, :, :, ::1] y, int threads):
    """y = clamp(zero_out + ((sum(x - zero_in) * m + 2^(shift-1)) >> shift)), m and shift [OH][OW]; design (8)."""
    cdef Py_ssize_t B = y.shape[0], OH = y.shape[1], OW = y.shape[2], C = y.shape[3], unit, o
    cdef int32_t* sums
    if B * OH * OW * C == 0:
        return
    sums = <int32_t*>malloc(B * OH * C * sizeof(int32_t))
    if sums == NULL:
        raise MemoryError(f"avg_pool_int8: no memory for {B * OH * C} sums")
    for unit in prange(B * OH, nogil=True, num_threads=threads, schedule="static"):
        for o in range(OW):
            sum_pixel(x, unit // OH, rows[unit % OH, 0], rows[unit % OH, 1], columns[o, 0], columns[o, 1], zero_in,
                      m[unit % OH, o], shift[unit % OH, o], zero_out, sums + unit * C, &y[unit // OH, unit % OH, o, 0])
    free(sums)

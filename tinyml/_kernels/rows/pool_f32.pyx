# Float pooling over NHWC memory, forward and backward, with windows and vectors of channels as in pool_int8.pyx. The
# backward pass is parallel over images, so that the order in which overlapping windows add their gradients does not depend
# on threads.
from cython.parallel cimport prange
from libc.stdint cimport int32_t
from libc.string cimport memset
from tinyml._kernels.words.simd cimport *
from tinyml._kernels.words.vmath cimport vddadd_to, vwiden

ctypedef float element

cdef enum:
    VECTOR = LANES

include "pool_rows.pxi"


cdef inline void largest(int V, bint keep, const float* x, Py_ssize_t W, const Span* s, int n, float* y,
                         int32_t* at) noexcept nogil:
    """See pool_rows.pxi. Of equal values the first counts; a NaN is larger than any number."""
    cdef vecf best[4]
    cdef vec index[4]
    cdef vecf value
    cdef vec wins
    cdef Py_ssize_t i, j, here = s.y0 * W + s.x0
    cdef int v
    for v in range(V):
        best[v] = vfload_n(x + here * s.column + v * LANES, n)
        if keep:
            index[v] = vsplat(<int32_t>here)
    for i in range(s.y0, s.y1):
        for j in range(s.x0, s.x1):
            here = i * W + j
            for v in range(V):
                value = vfload_n(x + here * s.column + v * LANES, n)
                wins = vfwins(value, best[v])
                best[v] = vfselect(wins, value, best[v])
                if keep:
                    index[v] = vselect(wins, vsplat(<int32_t>here), index[v])
    for v in range(V):
        vfstore_n(y + v * LANES, best[v], n)
        if keep:
            vstore_n(at + v * LANES, index[v], n)


def max_pool_f32(const float[:, :, :, ::1] x, const Py_ssize_t[:, ::1] rows, const Py_ssize_t[:, ::1] columns,
                 float[:, :, :, ::1] y, int32_t[:, :, :, ::1] at, int threads):
    """y[B][OH][OW][C] = the largest value of the window, at[B][OH][OW][C] = its pixel h*W + w, unless `at` is None.

    Of equal values the first counts, of NaNs the last. Where `at` is given, an image has at most 2^31 pixels.
    """
    cdef Py_ssize_t B = y.shape[0], OH = y.shape[1], OW = y.shape[2], C = y.shape[3], unit
    cdef int32_t* index = NULL
    if B * OH * OW * C == 0:
        return
    if at is not None:
        index = &at[0, 0, 0, 0]
    for unit in prange(B * OH, nogil=True, num_threads=threads, schedule="static"):
        if index == NULL:
            max_row(False, &x[unit // OH, 0, 0, 0], x.shape[2], C, &rows[unit % OH, 0], &columns[0, 0], OW,
                    &y[unit // OH, unit % OH, 0, 0], NULL)
        else:
            max_row(True, &x[unit // OH, 0, 0, 0], x.shape[2], C, &rows[unit % OH, 0], &columns[0, 0], OW,
                    &y[unit // OH, unit % OH, 0, 0], index + unit * OW * C)


cdef void max_grad_image(const float* dy, const int32_t* at, Py_ssize_t outputs, Py_ssize_t pixels, Py_ssize_t C,
                         float* dx) noexcept nogil:
    cdef Py_ssize_t o, c
    memset(dx, 0, pixels * C * sizeof(float))
    for o in range(outputs):
        for c in range(C):
            dx[at[o * C + c] * C + c] += dy[o * C + c]


def max_pool_grad_f32(const float[:, :, :, ::1] dy, const int32_t[:, :, :, ::1] at, float[:, :, :, ::1] dx, int threads):
    """dx[B][H][W][C]: the gradient of each output is added to the pixel that was its maximum."""
    cdef Py_ssize_t b, outputs = dy.shape[1] * dy.shape[2], pixels = dx.shape[1] * dx.shape[2], C = dx.shape[3]
    if dx.shape[0] * pixels * C * outputs == 0:
        dx[...] = 0
        return
    for b in prange(dy.shape[0], nogil=True, num_threads=threads, schedule="static"):
        max_grad_image(&dy[b, 0, 0, 0], &at[b, 0, 0, 0], outputs, pixels, C, &dx[b, 0, 0, 0])


cdef enum:
    # A window of at most IN_FLOAT pixels is added in float. Of larger ones EIGHT pixels of a row are added in float, and
    # these sums in double
    IN_FLOAT = 64
    EIGHT = 8


cdef inline void mean(int V, const float* x, const Span* s, int n, const float* divisor, float* y) noexcept nogil:
    """y = the sum of the window / divisor, for V vectors of channels, of whose last n exist; V is a constant at every
    call."""
    cdef vecf sums[8]
    cdef double totals[8 * LANES]
    cdef float rounded[LANES]
    cdef Py_ssize_t i, j, first
    cdef bint large = (s.y1 - s.y0) * (s.x1 - s.x0) > IN_FLOAT
    cdef int v, k
    if large:
        memset(totals, 0, sizeof(totals))
    for i in range(s.y0, s.y1 if large else s.y0):
        for first from s.x0 <= first < s.x1 by EIGHT:
            for v in range(V):
                sums[v] = vfzero()
            for j in range(first, min(first + EIGHT, s.x1)):
                for v in range(V):
                    sums[v] = vfadd(sums[v], vfload_n(x + i * s.row + j * s.column + v * LANES, n))
            for v in range(V):
                vddadd_to(totals + v * LANES, vwiden(sums[v]))
    for v in range(V):
        sums[v] = vfzero()
    for i in range(s.y0, s.y0 if large else s.y1):
        for j in range(s.x0, s.x1):
            for v in range(V):
                sums[v] = vfadd(sums[v], vfload_n(x + i * s.row + j * s.column + v * LANES, n))
    for v in range(V):
        if large:
            for k in range(LANES):
                rounded[k] = <float>totals[v * LANES + k]
            sums[v] = vfload(rounded)
        vfstore_n(y + v * LANES, vfdiv(sums[v], vfsplat(divisor)), n)


cdef void mean_row(const float* x, Py_ssize_t W, Py_ssize_t C, const Py_ssize_t* rows, const Py_ssize_t* columns,
                   Py_ssize_t OW, const float* divisor, float* y) noexcept nogil:
    """Compute one row of outputs from the image x."""
    cdef Span s
    cdef Py_ssize_t o, c
    for o in range(OW):
        s = span(W, C, rows, columns + 2 * o)
        c = 0
        while c + 8 * LANES <= C:
            mean(8, x + c, &s, LANES, divisor + o, y + c)
            c += 8 * LANES
        while c + 2 * LANES <= C:
            mean(2, x + c, &s, LANES, divisor + o, y + c)
            c += 2 * LANES
        while c < C:
            mean(1, x + c, &s, <int>min(<Py_ssize_t>LANES, C - c), divisor + o, y + c)
            c += LANES
        y += C


def avg_pool_f32(const float[:, :, :, ::1] x, const Py_ssize_t[:, ::1] rows, const Py_ssize_t[:, ::1] columns,
                 const float[:, ::1] divisor, float[:, :, :, ::1] y, int threads):
    """y[B][OH][OW][C] = the sum of the window / divisor[OH][OW]."""
    cdef Py_ssize_t B = y.shape[0], OH = y.shape[1], OW = y.shape[2], C = y.shape[3], unit
    if B * OH * OW * C == 0:
        return
    for unit in prange(B * OH, nogil=True, num_threads=threads, schedule="static"):
        mean_row(&x[unit // OH, 0, 0, 0], x.shape[2], C, &rows[unit % OH, 0], &columns[0, 0], OW, &divisor[unit % OH, 0],
                 &y[unit // OH, unit % OH, 0, 0])


cdef void avg_grad_image(const float[:, :, :, ::1] dy, Py_ssize_t b, const Py_ssize_t[:, ::1] rows,
                         const Py_ssize_t[:, ::1] columns, const float[:, ::1] divisor,
                         float[:, :, :, ::1] dx) noexcept nogil:
    cdef Py_ssize_t oy, ox, i, j, c, C = dx.shape[3]
    cdef const float* d
    cdef float* out
    memset(&dx[b, 0, 0, 0], 0, dx.shape[1] * dx.shape[2] * C * sizeof(float))
    for oy in range(dy.shape[1]):
        for ox in range(dy.shape[2]):
            d = &dy[b, oy, ox, 0]
            for i in range(rows[oy, 0], rows[oy, 1]):
                for j in range(columns[ox, 0], columns[ox, 1]):
                    out = &dx[b, i, j, 0]
                    for c in range(C):
                        out[c] += d[c] / divisor[oy, ox]


def avg_pool_grad_f32(const float[:, :, :, ::1] dy, const Py_ssize_t[:, ::1] rows, const Py_ssize_t[:, ::1] columns,
                      const float[:, ::1] divisor, float[:, :, :, ::1] dx, int threads):
    """dx[B][H][W][C]: the gradient of each output / divisor is added to all pixels of its window."""
    cdef Py_ssize_t b
    if dx.shape[1] * dx.shape[2] * dx.shape[3] == 0:
        return
    for b in prange(dx.shape[0], nogil=True, num_threads=threads, schedule="static"):
        avg_grad_image(dy, b, rows, columns, divisor, dx)

# Float pooling over NHWC memory, forward and backward; windows as in pool_int8.pyx. Parallel over images, so that the
# order in which overlapping windows add their gradients does not depend on the number of threads.
from cython.parallel cimport prange
from libc.stdint cimport int32_t
from libc.string cimport memset


cdef int max_image(const float[:, :, :, ::1] x, Py_ssize_t b, const Py_ssize_t[:, ::1] rows,
                   const Py_ssize_t[:, ::1] columns, float[:, :, :, ::1] y, int32_t[:, :, :, ::1] at) noexcept nogil:
    cdef Py_ssize_t oy, ox, i, j, c, C = x.shape[3], W = x.shape[2]
    cdef const float* p
    cdef float* out
    cdef int32_t* index
    cdef int32_t here
    for oy in range(y.shape[1]):
        for ox in range(y.shape[2]):
            out = &y[b, oy, ox, 0]
            index = &at[b, oy, ox, 0]
            here = <int32_t>(rows[oy, 0] * W + columns[ox, 0])
            p = &x[b, rows[oy, 0], columns[ox, 0], 0]
            for c in range(C):
                out[c] = p[c]
                index[c] = here
            for i in range(rows[oy, 0], rows[oy, 1]):
                for j in range(columns[ox, 0], columns[ox, 1]):
                    p = &x[b, i, j, 0]
                    here = <int32_t>(i * W + j)
                    for c in range(C):
                        # a NaN wins and stays, as in PyTorch
                        index[c] = here if p[c] > out[c] or p[c] != p[c] else index[c]
                        out[c] = p[c] if p[c] > out[c] or p[c] != p[c] else out[c]
    return 0


def max_pool_f32(const float[:, :, :, ::1] x, const Py_ssize_t[:, ::1] rows, const Py_ssize_t[:, ::1] columns,
                 float[:, :, :, ::1] y, int32_t[:, :, :, ::1] at, int threads):
    """y[B][OH][OW][C] = largest of the window, at = its pixel h*W + w (the first of equals, the last NaN)."""
    cdef Py_ssize_t b
    if y.shape[1] * y.shape[2] * y.shape[3] == 0:
        return
    for b in prange(y.shape[0], nogil=True, num_threads=threads, schedule="static"):
        max_image(x, b, rows, columns, y, at)


cdef int max_grad_image(const float* dy, const int32_t* at, Py_ssize_t outputs, Py_ssize_t pixels, Py_ssize_t C,
                        float* dx) noexcept nogil:
    cdef Py_ssize_t o, c
    memset(dx, 0, pixels * C * sizeof(float))
    for o in range(outputs):
        for c in range(C):
            dx[at[o * C + c] * C + c] += dy[o * C + c]
    return 0


def max_pool_grad_f32(const float[:, :, :, ::1] dy, const int32_t[:, :, :, ::1] at, float[:, :, :, ::1] dx, int threads):
    """dx[B][H][W][C]: each output's gradient goes to the pixel that was its maximum."""
    cdef Py_ssize_t b, outputs = dy.shape[1] * dy.shape[2], pixels = dx.shape[1] * dx.shape[2], C = dx.shape[3]
    if dx.shape[0] * pixels * C * outputs == 0:
        dx[...] = 0
        return
    for b in prange(dy.shape[0], nogil=True, num_threads=threads, schedule="static"):
        max_grad_image(&dy[b, 0, 0, 0], &at[b, 0, 0, 0], outputs, pixels, C, &dx[b, 0, 0, 0])


cdef int avg_image(const float[:, :, :, ::1] x, Py_ssize_t b, const Py_ssize_t[:, ::1] rows,
                   const Py_ssize_t[:, ::1] columns, const float[:, ::1] divisor, float[:, :, :, ::1] y) noexcept nogil:
    cdef Py_ssize_t oy, ox, i, j, c, C = x.shape[3]
    cdef const float* p
    cdef float* out
    for oy in range(y.shape[1]):
        for ox in range(y.shape[2]):
            out = &y[b, oy, ox, 0]
            memset(out, 0, C * sizeof(float))
            for i in range(rows[oy, 0], rows[oy, 1]):
                for j in range(columns[ox, 0], columns[ox, 1]):
                    p = &x[b, i, j, 0]
                    for c in range(C):
                        out[c] += p[c]
            for c in range(C):
                out[c] /= divisor[oy, ox]
    return 0


def avg_pool_f32(const float[:, :, :, ::1] x, const Py_ssize_t[:, ::1] rows, const Py_ssize_t[:, ::1] columns,
                 const float[:, ::1] divisor, float[:, :, :, ::1] y, int threads):
    """y[B][OH][OW][C] = sum of the window / divisor[OH][OW]."""
    cdef Py_ssize_t b
    if y.shape[1] * y.shape[2] * y.shape[3] == 0:
        return
    for b in prange(y.shape[0], nogil=True, num_threads=threads, schedule="static"):
        avg_image(x, b, rows, columns, divisor, y)


cdef int avg_grad_image(const float[:, :, :, ::1] dy, Py_ssize_t b, const Py_ssize_t[:, ::1] rows,
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
    return 0


def avg_pool_grad_f32(const float[:, :, :, ::1] dy, const Py_ssize_t[:, ::1] rows, const Py_ssize_t[:, ::1] columns,
                      const float[:, ::1] divisor, float[:, :, :, ::1] dx, int threads):
    """dx[B][H][W][C]: each output's gradient / divisor goes to all pixels of its window."""
    cdef Py_ssize_t b
    if dx.shape[1] * dx.shape[2] * dx.shape[3] == 0:
        return
    for b in prange(dx.shape[0], nogil=True, num_threads=threads, schedule="static"):
        avg_grad_image(dy, b, rows, columns, divisor, dx)

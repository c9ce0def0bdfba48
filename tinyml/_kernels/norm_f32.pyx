# Normalisation over columns (batch norm: x[P][C], one mean per channel) and over rows (layer norm, softmax).
# Sums over P are taken in fixed chunks and added in chunk order, in double: the same bytes on any number of threads.
from cython.parallel cimport prange
from libc.math cimport INFINITY, expf, sqrt
from libc.stdlib cimport calloc, free

cdef enum:
    CHUNK = 512     # rows of one partial sum


cdef int sum_chunk(const float* x, const float* xm, const float* dy, Py_ssize_t rows, Py_ssize_t C, int what,
                   double* out) noexcept nogil:
    """out[C] += column sums of x (what 0), (x - xm)^2 (1), dy (2) or dy * (x - xm) (3)."""
    cdef Py_ssize_t p, c
    for p in range(rows):
        if what == 0:
            for c in range(C):
                out[c] += x[p * C + c]
        elif what == 1:
            for c in range(C):
                out[c] += <double>((x[p * C + c] - xm[c]) * (x[p * C + c] - xm[c]))
        elif what == 2:
            for c in range(C):
                out[c] += dy[p * C + c]
        else:
            for c in range(C):
                out[c] += <double>(dy[p * C + c] * (x[p * C + c] - xm[c]))
    return 0


cdef int column_sums(const float* x, const float* xm, const float* dy, Py_ssize_t P, Py_ssize_t C, int what,
                     double* out, int threads) except -1:
    cdef Py_ssize_t chunks = (P + CHUNK - 1) // CHUNK, unit, c
    cdef double* parts = <double*>calloc(max(chunks, 1) * C, sizeof(double))
    if parts == NULL:
        raise MemoryError(f"norm_f32: no memory for {chunks} x {C} partial sums")
    for unit in prange(chunks, nogil=True, num_threads=threads, schedule="static"):
        sum_chunk(x + unit * CHUNK * C, xm, dy + unit * CHUNK * C, min(<Py_ssize_t>CHUNK, P - unit * CHUNK), C, what,
                  parts + unit * C)
    for c in range(C):
        out[c] = 0
        for unit in range(chunks):
            out[c] += parts[unit * C + c]
    free(parts)
    return 0


def moments_f32(const float[:, ::1] x, float[::1] mean, float[::1] variance, int threads):
    """mean[C] and biased variance[C] over the rows of x[P][C]; zeros where P is 0."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], c
    cdef double[::1] sums
    if C == 0:
        return
    mean[:] = 0
    variance[:] = 0
    if P == 0:
        return
    from numpy import empty
    sums = empty(C)
    column_sums(&x[0, 0], NULL, &x[0, 0], P, C, 0, &sums[0], threads)
    for c in range(C):
        mean[c] = <float>(sums[c] / P)
    column_sums(&x[0, 0], &mean[0], &x[0, 0], P, C, 1, &sums[0], threads)
    for c in range(C):
        variance[c] = <float>(sums[c] / P)


def batch_norm_f32(const float[:, ::1] x, const float[::1] a, const float[::1] b, float[:, ::1] y, int threads):
    """y[P][C] = x * a[C] + b[C]."""
    cdef Py_ssize_t p, c
    for p in prange(x.shape[0], nogil=True, num_threads=threads, schedule="static"):
        for c in range(x.shape[1]):
            y[p, c] = x[p, c] * a[c] + b[c]


def batch_norm_grad_f32(const float[:, ::1] x, const float[:, ::1] dy, const float[::1] mean, const float[::1] rstd,
                        const float[::1] gamma, bint training, float[:, ::1] dx, float[::1] dgamma, float[::1] dbeta,
                        int threads):
    """Gradients of y = (x - mean) * rstd * gamma + beta; `training`: mean and rstd are functions of x."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], p, c
    cdef double[::1] sums
    cdef float[::1] k, u, v
    dgamma[:] = 0
    dbeta[:] = 0
    if P * C == 0:
        return
    from numpy import empty, float32
    sums = empty(C)
    column_sums(&x[0, 0], &mean[0], &dy[0, 0], P, C, 2, &sums[0], threads)
    for c in range(C):
        dbeta[c] = <float>sums[c]
    column_sums(&x[0, 0], &mean[0], &dy[0, 0], P, C, 3, &sums[0], threads)
    for c in range(C):
        dgamma[c] = <float>(sums[c] * rstd[c])
    # dx = k * (dy - mean(dy) - xhat * mean(dy * xhat)), with the two means zero in evaluation
    k, u, v = empty(C, float32), empty(C, float32), empty(C, float32)
    for c in range(C):
        k[c] = gamma[c] * rstd[c]
        u[c] = dbeta[c] / P if training else 0
        v[c] = dgamma[c] * rstd[c] / P if training else 0
    for p in prange(P, nogil=True, num_threads=threads, schedule="static"):
        for c in range(C):
            dx[p, c] = k[c] * (dy[p, c] - u[c] - (x[p, c] - mean[c]) * v[c])


cdef int layer_row(const float* x, Py_ssize_t C, float eps, const float* gamma, const float* beta, float* y,
                   float* mean, float* rstd) noexcept nogil:
    cdef double s = 0, v = 0
    cdef float m, r
    cdef Py_ssize_t c
    for c in range(C):
        s += x[c]
    m = <float>(s / C)
    for c in range(C):
        v += <double>((x[c] - m) * (x[c] - m))
    r = <float>(1 / sqrt(v / C + eps))
    for c in range(C):
        y[c] = (x[c] - m) * r * gamma[c] + beta[c]
    mean[0] = m
    rstd[0] = r
    return 0


def layer_norm_f32(const float[:, ::1] x, const float[::1] gamma, const float[::1] beta, float eps, float[:, ::1] y,
                   float[::1] mean, float[::1] rstd, int threads):
    """y[P][C] = (x - mean) * rstd * gamma + beta, mean[P] and rstd[P] of each row (biased variance)."""
    cdef Py_ssize_t p
    if x.shape[0] * x.shape[1] == 0:
        return
    for p in prange(x.shape[0], nogil=True, num_threads=threads, schedule="static"):
        layer_row(&x[p, 0], x.shape[1], eps, &gamma[0], &beta[0], &y[p, 0], &mean[p], &rstd[p])


cdef int layer_grad_row(const float* x, const float* dy, Py_ssize_t C, float m, float r, const float* gamma,
                        float* dx, float* xhat) noexcept nogil:
    """xhat[c] = (x - m) * r beside dx, for the column sums."""
    cdef double s = 0, t = 0
    cdef float a, b
    cdef Py_ssize_t c
    for c in range(C):
        xhat[c] = (x[c] - m) * r
        s += <double>(dy[c] * gamma[c])
        t += <double>(dy[c] * gamma[c] * xhat[c])
    a = <float>(s / C)
    b = <float>(t / C)
    for c in range(C):
        dx[c] = r * (dy[c] * gamma[c] - a - xhat[c] * b)
    return 0


def layer_norm_grad_f32(const float[:, ::1] x, const float[:, ::1] dy, const float[::1] mean, const float[::1] rstd,
                        const float[::1] gamma, float[:, ::1] dx, float[::1] dgamma, float[::1] dbeta, int threads):
    """Gradients of layer_norm_f32 to x, gamma and beta."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], p, c
    cdef double[::1] sums
    cdef float[::1] zero
    cdef float[:, ::1] xhat
    dgamma[:] = 0
    dbeta[:] = 0
    if P * C == 0:
        return
    from numpy import empty, float32, zeros
    sums, zero, xhat = empty(C), zeros(C, float32), empty((P, C), float32)
    for p in prange(P, nogil=True, num_threads=threads, schedule="static"):
        layer_grad_row(&x[p, 0], &dy[p, 0], C, mean[p], rstd[p], &gamma[0], &dx[p, 0], &xhat[p, 0])
    column_sums(&xhat[0, 0], &zero[0], &dy[0, 0], P, C, 2, &sums[0], threads)
    for c in range(C):
        dbeta[c] = <float>sums[c]
    column_sums(&xhat[0, 0], &zero[0], &dy[0, 0], P, C, 3, &sums[0], threads)
    for c in range(C):
        dgamma[c] = <float>sums[c]


cdef int softmax_row(const float* x, Py_ssize_t C, float* y) noexcept nogil:
    cdef float top = -INFINITY
    cdef double s = 0
    cdef Py_ssize_t c
    for c in range(C):
        top = x[c] if x[c] > top else top
    for c in range(C):
        y[c] = expf(x[c] - top)
        s += y[c]
    for c in range(C):
        y[c] = <float>(y[c] / s)
    return 0


def softmax_f32(const float[:, ::1] x, float[:, ::1] y, int threads):
    """y[P][C] = exp(x - max) / sum of the row; a row of -inf, or with a NaN or +inf, is NaN."""
    cdef Py_ssize_t p
    if x.shape[0] * x.shape[1] == 0:
        return
    for p in prange(x.shape[0], nogil=True, num_threads=threads, schedule="static"):
        softmax_row(&x[p, 0], x.shape[1], &y[p, 0])


def softmax_grad_f32(const float[:, ::1] y, const float[:, ::1] dy, float[:, ::1] dx, int threads):
    """dx[P][C] = y * (dy - sum(y * dy) of the row)."""
    cdef Py_ssize_t p
    for p in prange(y.shape[0], nogil=True, num_threads=threads, schedule="static"):
        softmax_grad_row(y, dy, dx, p)


cdef int softmax_grad_row(const float[:, ::1] y, const float[:, ::1] dy, float[:, ::1] dx, Py_ssize_t p) noexcept nogil:
    cdef double s = 0
    cdef Py_ssize_t c
    for c in range(y.shape[1]):
        s += <double>(y[p, c] * dy[p, c])
    for c in range(y.shape[1]):
        dx[p, c] = y[p, c] * (dy[p, c] - <float>s)
    return 0

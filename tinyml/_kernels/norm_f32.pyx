# Normalisation of the rows of x[P][C]: layer norm.
# Means, whose terms may cancel, are added in double from the start; of other sums four vectors (or rows) are added in float,
# the fours in double.
from cython.parallel cimport prange
from libc.math cimport sqrt
from tinyml._kernels.simd cimport *
from tinyml._kernels.vmath cimport *

include "sums.pxi"

cdef enum:
    FOUR = 4 * LANES


cdef int layer_row(const float* x, Py_ssize_t C, float eps, const float* gamma, const float* beta, float* y,
                   float* mean, float* rstd) noexcept nogil:
    cdef vecdd total = vddzero()
    cdef vecf m, r, d, part
    cdef Py_ssize_t first, c
    for c from 0 <= c < C by LANES:
        total = vddadd(total, vwiden(vfload_n(x + c, C - c)))
    mean[0] = <float>(vddsum(total) / C)
    m, total = vfset(mean[0]), vddzero()
    for first from 0 <= first < C by FOUR:
        part = vfzero()
        for c from first <= c < min(first + FOUR, C) by LANES:
            d = vfsub(vfload_or(x + c, C - c, m), m)
            part = vfma(part, d, d)
        total = vddadd(total, vwiden(part))
    rstd[0] = <float>(1 / sqrt(vddsum(total) / C + eps))
    r = vfset(rstd[0])
    for c from 0 <= c < C by LANES:
        d = vfmul(vfsub(vfload_n(x + c, C - c), m), r)
        vfstore_n(y + c, vfma(vfload_n(beta + c, C - c), d, vfload_n(gamma + c, C - c)), C - c)
    return 0


def layer_norm_f32(const float[:, ::1] x, const float[::1] gamma, const float[::1] beta, float eps, float[:, ::1] y,
                   float[::1] mean, float[::1] rstd, int threads):
    """y[P][C] = (x - mean) * rstd * gamma + beta, mean[P] and rstd[P] of each row (biased variance)."""
    cdef Py_ssize_t p
    if x.shape[0] * x.shape[1] == 0:
        return
    for p in prange(x.shape[0], nogil=True, num_threads=threads, schedule="static"):
        layer_row(&x[p, 0], x.shape[1], eps, &gamma[0], &beta[0], &y[p, 0], &mean[p], &rstd[p])


cdef int layer_grad_means(const float* x, const float* dy, Py_ssize_t C, float mean, float rstd, const float* gamma,
                          float* a, float* b) noexcept nogil:
    """a = mean of dy * gamma, b = mean of dy * gamma * xhat, over one row."""
    cdef vecdd s = vddzero(), t = vddzero()
    cdef vecf m = vfset(mean), part, product, d
    cdef Py_ssize_t first, c
    for first from 0 <= first < C by FOUR:
        part, product = vfzero(), vfzero()
        for c from first <= c < min(first + FOUR, C) by LANES:
            d = vfmul(vfload_n(dy + c, C - c), vfload_n(gamma + c, C - c))
            part = vfadd(part, d)
            product = vfma(product, d, vfsub(vfload_n(x + c, C - c), m))
        s = vddadd(s, vwiden(part))
        t = vddadd(t, vwiden(product))
    a[0] = <float>(vddsum(s) / C)
    b[0] = <float>(vddsum(t) * rstd / C)
    return 0


cdef int layer_grad_rows(const float* x, const float* dy, Py_ssize_t rows, Py_ssize_t C, const float* mean,
                         const float* rstd, const float* gamma, float* dx, double* dgamma, double* dbeta) noexcept nogil:
    """Four rows at a time: dx = rstd * (dy * gamma - a - xhat * b), and the sums over rows of dy * xhat and dy."""
    cdef float a[4]
    cdef float b[4]
    cdef vecf part, product, g, d, xhat
    cdef Py_ssize_t first, p, i, c, at
    for first from 0 <= first < rows by 4:
        for p in range(first, min(first + 4, rows)):
            layer_grad_means(x + p * C, dy + p * C, C, mean[p], rstd[p], gamma, &a[p - first], &b[p - first])
        for c from 0 <= c < C by LANES:
            part, product, g = vfzero(), vfzero(), vfload_n(gamma + c, C - c)
            for p in range(first, min(first + 4, rows)):
                i, at = p - first, p * C + c
                d = vfload_n(dy + at, C - c)
                xhat = vfmul(vfsub(vfload_n(x + at, C - c), vfset(mean[p])), vfset(rstd[p]))
                part = vfadd(part, d)
                product = vfma(product, d, xhat)
                d = vfma(vfma(vfset(-a[i]), d, g), vfset(-b[i]), xhat)
                vfstore_n(dx + at, vfmul(vfset(rstd[p]), d), C - c)
            vddadd_to(dgamma + c, vwiden(product))
            vddadd_to(dbeta + c, vwiden(part))
    return 0


def layer_norm_grad_f32(const float[:, ::1] x, const float[:, ::1] dy, const float[::1] mean, const float[::1] rstd,
                        const float[::1] gamma, float[:, ::1] dx, float[::1] dgamma, float[::1] dbeta, int threads):
    """Gradients of layer_norm_f32 to x, gamma and beta."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], rows, chunks, width, unit, c
    cdef double* parts
    cdef double* sums
    dgamma[:] = 0
    dbeta[:] = 0
    if P * C == 0:
        return
    rows, width = chunk_rows(C), padded(C)
    chunks = (P + rows - 1) // rows
    parts = buffer((chunks + 1) * 2 * width)
    for unit in prange(chunks, nogil=True, num_threads=threads, schedule="static"):
        layer_grad_rows(&x[unit * rows, 0], &dy[unit * rows, 0], min(rows, P - unit * rows), C, &mean[unit * rows],
                        &rstd[unit * rows], &gamma[0], &dx[unit * rows, 0], parts + unit * 2 * width,
                        parts + (unit * 2 + 1) * width)
    sums = parts + chunks * 2 * width
    add_chunks(parts, chunks, 2 * width, sums)
    for c in range(C):
        dgamma[c] = <float>sums[c]
        dbeta[c] = <float>sums[width + c]
    free(parts)

# Normalisation over columns (batch norm: x[P][C], one mean per channel) and over rows (layer norm).
# Every sum has an order that the shape fixes, so the bytes do not depend on the number of threads. Means, whose terms may
# cancel, are added in double from the start; of other sums four vectors (or rows) are added in float, the fours in double.
# Column sums are made over chunks of rows that stay in the cache, and the chunks added in order.
from cython.parallel cimport prange
from libc.math cimport sqrt
from libc.stdlib cimport calloc, free
from tinyml._kernels.simd cimport *
from tinyml._kernels.vmath cimport *

cdef enum:
    FOUR = 4 * LANES


cdef inline Py_ssize_t chunk_rows(Py_ssize_t C) noexcept nogil:
    return max(<Py_ssize_t>64, 8192 // C)


cdef inline Py_ssize_t padded(Py_ssize_t C) noexcept nogil:
    return (C + LANES - 1) // LANES * LANES


cdef double* buffer(Py_ssize_t n) except NULL:
    cdef double* p = <double*>calloc(n, sizeof(double))
    if p == NULL:
        raise MemoryError(f"norm_f32: no memory for {n} partial sums")
    return p


cdef int sum_columns(const float* x, Py_ssize_t rows, Py_ssize_t C, double* out) noexcept nogil:
    """out[c] += sum of x[rows][C]."""
    cdef Py_ssize_t first, c, p
    cdef vecdd part
    for first from 0 <= first < rows by 4:
        for c from 0 <= c < C by LANES:
            part = vddzero()
            for p in range(first, min(first + 4, rows)):
                part = vddadd(part, vwiden(vfload_n(x + p * C + c, C - c)))
            vddadd_to(out + c, part)
    return 0


cdef int sum_squares(const float* x, const float* mean, Py_ssize_t rows, Py_ssize_t C, double* out) noexcept nogil:
    """out[c] += sum of (x - mean)^2; mean has room for whole vectors."""
    cdef Py_ssize_t first, c, p
    cdef vecf part, d
    for first from 0 <= first < rows by 4:
        for c from 0 <= c < C by LANES:
            part = vfzero()
            for p in range(first, min(first + 4, rows)):
                d = vfsub(vfload_n(x + p * C + c, C - c), vfload(mean + c))
                part = vfma(part, d, d)
            vddadd_to(out + c, vwiden(part))
    return 0


cdef int chunk_moments(const float* x, Py_ssize_t rows, Py_ssize_t C, double* sums, double* squares,
                       float* near) noexcept nogil:
    """Sums of x, and of (x - near)^2 with near[c] the chunk's mean as a float."""
    cdef Py_ssize_t c
    sum_columns(x, rows, C, sums)
    for c in range(C):
        near[c] = <float>(sums[c] / rows)
    sum_squares(x, near, rows, C, squares)
    return 0


def moments_f32(const float[:, ::1] x, float[::1] mean, float[::1] variance, int threads):
    """mean[C] and biased variance[C] over the rows of x[P][C]; zeros where P is 0."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], rows, chunks, width, unit, c
    cdef double* parts
    cdef double* sums
    cdef double* squares
    cdef double exact, shift
    cdef float* near
    if C == 0:
        return
    mean[:] = 0
    variance[:] = 0
    if P == 0:
        return
    rows, width = chunk_rows(C), padded(C)
    chunks = (P + rows - 1) // rows
    parts = buffer((chunks + 1) * 3 * width)        # sums, squares and near of each chunk; then of all
    for unit in prange(chunks, nogil=True, num_threads=threads, schedule="static"):
        chunk_moments(&x[unit * rows, 0], min(rows, P - unit * rows), C, parts + unit * 3 * width,
                      parts + (unit * 3 + 1) * width, <float*>(parts + (unit * 3 + 2) * width))
    sums = parts + chunks * 3 * width
    squares = sums + width
    for unit in range(chunks):
        for c in range(C):
            sums[c] += parts[unit * 3 * width + c]
    # sum (x - m)^2 = sum (x - near)^2 + 2 (near - m) (sum x - n near) + n (near - m)^2 in each chunk, m the mean of all
    for unit in range(chunks):
        near = <float*>(parts + (unit * 3 + 2) * width)
        exact = <double>min(rows, P - unit * rows)
        for c in range(C):
            shift = near[c] - sums[c] / P
            squares[c] += parts[(unit * 3 + 1) * width + c] + shift * (
                2 * (parts[unit * 3 * width + c] - exact * near[c]) + exact * shift)
    for c in range(C):
        mean[c] = <float>(sums[c] / P)
        variance[c] = <float>(squares[c] / P)
    free(parts)


cdef int affine_row(const float* x, const float* a, const float* b, Py_ssize_t C, float* y) noexcept nogil:
    cdef Py_ssize_t c
    for c from 0 <= c < C by LANES:
        vfstore_n(y + c, vfma(vfload_n(b + c, C - c), vfload_n(x + c, C - c), vfload_n(a + c, C - c)), C - c)
    return 0


def batch_norm_f32(const float[:, ::1] x, const float[::1] a, const float[::1] b, float[:, ::1] y, int threads):
    """y[P][C] = x * a[C] + b[C]."""
    cdef Py_ssize_t p
    if x.shape[0] * x.shape[1] == 0:
        return
    for p in prange(x.shape[0], nogil=True, num_threads=threads, schedule="static"):
        affine_row(&x[p, 0], &a[0], &b[0], x.shape[1], &y[p, 0])


cdef int sum_products(const float* x, const float* dy, const float* mean, Py_ssize_t rows, Py_ssize_t C, double* s,
                      double* t) noexcept nogil:
    """s[c] += sum of dy, t[c] += sum of dy (x - mean)."""
    cdef Py_ssize_t first, c, p
    cdef vecf part, product, m, d
    for first from 0 <= first < rows by 4:
        for c from 0 <= c < C by LANES:
            part, product, m = vfzero(), vfzero(), vfload_n(mean + c, C - c)
            for p in range(first, min(first + 4, rows)):
                d = vfload_n(dy + p * C + c, C - c)
                part = vfadd(part, d)
                product = vfma(product, d, vfsub(vfload_n(x + p * C + c, C - c), m))
            vddadd_to(s + c, vwiden(part))
            vddadd_to(t + c, vwiden(product))
    return 0


cdef int add_chunks(const double* parts, Py_ssize_t chunks, Py_ssize_t n, double* out) noexcept nogil:
    cdef Py_ssize_t unit, i
    for unit in range(chunks):
        for i in range(n):
            out[i] += parts[unit * n + i]
    return 0


cdef int batch_grad_row(const float* x, const float* dy, const float* mean, const float* k, const float* u, const float* v,
                        Py_ssize_t C, float* dx) noexcept nogil:
    """dx = k * (dy - u - (x - mean) * v); k, u and v have room for whole vectors."""
    cdef Py_ssize_t c
    cdef vecf d
    for c from 0 <= c < C by LANES:
        d = vfsub(vfload_n(mean + c, C - c), vfload_n(x + c, C - c))
        d = vfma(vfsub(vfload_n(dy + c, C - c), vfload(u + c)), d, vfload(v + c))
        vfstore_n(dx + c, vfmul(vfload(k + c), d), C - c)
    return 0


def batch_norm_grad_f32(const float[:, ::1] x, const float[:, ::1] dy, const float[::1] mean, const float[::1] rstd,
                        const float[::1] gamma, bint training, float[:, ::1] dx, float[::1] dgamma, float[::1] dbeta,
                        int threads):
    """Gradients of y = (x - mean) * rstd * gamma + beta; `training`: mean and rstd are functions of x."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], rows, chunks, width, unit, p, c
    cdef double* parts
    cdef double* sums
    cdef float* k
    cdef float* u
    cdef float* v
    dgamma[:] = 0
    dbeta[:] = 0
    if P * C == 0:
        return
    rows, width = chunk_rows(C), padded(C)
    chunks = (P + rows - 1) // rows
    parts = buffer((chunks * 2 + 2 + 3) * width)        # two sums a chunk, two of all, then k, u and v
    for unit in prange(chunks, nogil=True, num_threads=threads, schedule="static"):
        sum_products(&x[unit * rows, 0], &dy[unit * rows, 0], &mean[0], min(rows, P - unit * rows), C,
                     parts + unit * 2 * width, parts + (unit * 2 + 1) * width)
    sums = parts + chunks * 2 * width
    add_chunks(parts, chunks, 2 * width, sums)
    # dx = k * (dy - mean(dy) - xhat * mean(dy * xhat)), with the two means zero in evaluation
    k, u, v = <float*>(sums + 2 * width), <float*>(sums + 3 * width), <float*>(sums + 4 * width)
    for c in range(C):
        dbeta[c] = <float>sums[c]
        dgamma[c] = <float>(sums[width + c] * rstd[c])
        k[c] = gamma[c] * rstd[c]
        u[c] = dbeta[c] / P if training else 0
        v[c] = dgamma[c] * rstd[c] / P if training else 0
    for p in prange(P, nogil=True, num_threads=threads, schedule="static"):
        batch_grad_row(&x[p, 0], &dy[p, 0], &mean[0], k, u, v, C, &dx[p, 0])
    free(parts)


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

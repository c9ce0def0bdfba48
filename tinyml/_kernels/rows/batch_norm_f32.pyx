# Batch norm, with or without a ReLU after it: the columns of x[P][C] are normalized, each by a mean and a variance of its
# own.
#
# The terms of means may cancel, so they are added in double from the start. Of other sums four rows are added in float, and
# the sums of four rows in double.
from cython.parallel cimport prange
from tinyml._kernels.words.simd cimport *
from tinyml._kernels.words.vmath cimport *

include "sums.pxi"


cdef inline void block_moments(const float* x, Py_ssize_t rows, Py_ssize_t C, int vectors, Py_ssize_t n, double* sums,
                               double* squares, float* near) noexcept nogil:
    """Of the first n columns of x[rows][C], which take `vectors` vectors, add up x in `sums` and (x - near)^2 in `squares`,
    where `near` is the mean of these rows as a float."""
    cdef vecdd total[4]
    cdef vecf part[4]
    cdef vecf d
    cdef Py_ssize_t first, p
    cdef int j
    for j in range(vectors):
        total[j] = vddzero()
    for p in range(rows):
        for j in range(vectors):
            total[j] = vddadd(total[j], vwiden(vfload_n(x + p * C + j * LANES, n - j * LANES)))
    for j in range(vectors):
        vddadd_to(sums + j * LANES, total[j])
        total[j] = vddzero()
    for p in range(vectors * LANES):
        near[p] = <float>(sums[p] / rows)
    for first from 0 <= first < rows by 4:
        for j in range(vectors):
            part[j] = vfzero()
        for p in range(first, min(first + 4, rows)):
            for j in range(vectors):
                d = vfsub(vfload_n(x + p * C + j * LANES, n - j * LANES), vfload(near + j * LANES))
                part[j] = vfma(part[j], d, d)
        for j in range(vectors):
            total[j] = vddadd(total[j], vwiden(part[j]))
    for j in range(vectors):
        vddadd_to(squares + j * LANES, total[j])


cdef void chunk_moments(const float* x, Py_ssize_t rows, Py_ssize_t C, double* sums, double* squares,
                        float* near) noexcept nogil:
    """block_moments of all columns, for as many vectors at a time as fit into registers."""
    cdef Py_ssize_t c = 0
    while c < C:
        if C - c >= 4 * LANES:
            block_moments(x + c, rows, C, 4, 4 * LANES, sums + c, squares + c, near + c)
            c += 4 * LANES
        elif C - c >= 2 * LANES:
            block_moments(x + c, rows, C, 2, 2 * LANES, sums + c, squares + c, near + c)
            c += 2 * LANES
        else:
            block_moments(x + c, rows, C, 1, C - c, sums + c, squares + c, near + c)
            c += LANES


def moments_f32(const float[:, ::1] x, float[::1] mean, float[::1] variance, int threads):
    """mean[C] and biased variance[C] over the rows of x[P][C]; both are zeros where P is 0."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], rows, chunks, width, unit, c
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
    cdef double* parts = buffer((chunks + 1) * 3 * width)       # sums, squares and near of each chunk; then of all
    for unit in prange(chunks, nogil=True, num_threads=threads, schedule="static"):
        chunk_moments(&x[unit * rows, 0], min(rows, P - unit * rows), C, parts + unit * 3 * width,
                      parts + (unit * 3 + 1) * width, <float*>(parts + (unit * 3 + 2) * width))
    cdef double* sums = parts + chunks * 3 * width
    cdef double* squares = sums + width
    for unit in range(chunks):
        for c in range(C):
            sums[c] += parts[unit * 3 * width + c]
    # In each chunk of n rows: sum (x - m)^2 = sum (x - near)^2 + 2 (near - m) (sum x - n near) + n (near - m)^2, where m is
    # the mean of all rows
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


cdef inline void affine_rows(const float* x, const float* a, const float* b, Py_ssize_t rows, Py_ssize_t C, bint relu,
                             float* y) noexcept nogil:
    """y[rows][C] = x * a[C] + b[C], or its ReLU; `relu` is a constant at every call."""
    cdef Py_ssize_t p, c
    cdef vecf v
    for p in range(rows):
        for c from 0 <= c < C by LANES:
            v = vfma(vfload_n(b + c, C - c), vfload_n(x + p * C + c, C - c), vfload_n(a + c, C - c))
            if relu:
                v = vrelu(v)
            vfstore_n(y + p * C + c, v, C - c)


cdef void affine_chunk(const float* x, const float* a, const float* b, Py_ssize_t rows, Py_ssize_t C, bint relu,
                       float* y) noexcept nogil:
    if relu:
        affine_rows(x, a, b, rows, C, True, y)
    else:
        affine_rows(x, a, b, rows, C, False, y)


def batch_norm_f32(const float[:, ::1] x, const float[::1] a, const float[::1] b, bint relu, float[:, ::1] y, int threads):
    """y[P][C] = x * a[C] + b[C], or its ReLU where `relu` is set."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], rows, chunks, unit, at
    if P * C == 0:
        return
    rows = chunk_rows(C)
    chunks = (P + rows - 1) // rows
    for unit in prange(chunks, nogil=True, num_threads=threads, schedule="static"):
        at = unit * rows
        affine_chunk(&x[at, 0], &a[0], &b[0], min(rows, P - at), C, relu, &y[at, 0])


cdef inline void product_rows(const float* x, const float* dy, const float* mean, const float* a, const float* b,
                              Py_ssize_t rows, Py_ssize_t C, bint relu, double* s, double* t) noexcept nogil:
    """s[c] += sum of d, t[c] += sum of d (x - mean), where d is dy or, where `relu` is set, dy if x * a + b > 0 and else
    0."""
    cdef Py_ssize_t first, c, p
    cdef vecf part, product, m, d, v, scale, shift
    scale = shift = vfzero()
    for first from 0 <= first < rows by 4:
        for c from 0 <= c < C by LANES:
            part, product, m = vfzero(), vfzero(), vfload_n(mean + c, C - c)
            if relu:
                scale, shift = vfload_n(a + c, C - c), vfload_n(b + c, C - c)
            for p in range(first, min(first + 4, rows)):
                d, v = vfload_n(dy + p * C + c, C - c), vfload_n(x + p * C + c, C - c)
                if relu:
                    d = vrelu_grad(vfma(shift, v, scale), d)
                part = vfadd(part, d)
                product = vfma(product, d, vfsub(v, m))
            vddadd_to(s + c, vwiden(part))
            vddadd_to(t + c, vwiden(product))


cdef void sum_products(const float* x, const float* dy, const float* mean, const float* a, const float* b, Py_ssize_t rows,
                       Py_ssize_t C, double* s, double* t) noexcept nogil:
    if b != NULL:
        product_rows(x, dy, mean, a, b, rows, C, True, s, t)
    else:
        product_rows(x, dy, mean, a, b, rows, C, False, s, t)


cdef inline void grad_rows(const float* x, const float* dy, const float* mean, const float* a, const float* b,
                           const float* u, const float* v, Py_ssize_t rows, Py_ssize_t C, bint relu,
                           float* dx) noexcept nogil:
    """dx = a * (d - u - (x - mean) * v), with d as in product_rows. a, u and v have room for whole vectors."""
    cdef Py_ssize_t c, p
    cdef vecf value, d
    for p in range(rows):
        for c from 0 <= c < C by LANES:
            d, value = vfload_n(dy + p * C + c, C - c), vfload_n(x + p * C + c, C - c)
            if relu:
                d = vrelu_grad(vfma(vfload_n(b + c, C - c), value, vfload(a + c)), d)
            d = vfma(vfsub(d, vfload(u + c)), vfsub(vfload_n(mean + c, C - c), value), vfload(v + c))
            vfstore_n(dx + p * C + c, vfmul(vfload(a + c), d), C - c)


cdef void grad_chunk(const float* x, const float* dy, const float* mean, const float* a, const float* b, const float* u,
                     const float* v, Py_ssize_t rows, Py_ssize_t C, float* dx) noexcept nogil:
    if b != NULL:
        grad_rows(x, dy, mean, a, b, u, v, rows, C, True, dx)
    else:
        grad_rows(x, dy, mean, a, b, u, v, rows, C, False, dx)


def batch_norm_grad_f32(const float[:, ::1] x, const float[:, ::1] dy, const float[::1] mean, const float[::1] rstd,
                        const float[::1] gamma, const float[::1] shift, bint training, float[:, ::1] dx, float[::1] dgamma,
                        float[::1] dbeta, int threads):
    """Gradients of y = (x - mean) * rstd * gamma + beta. In training mean and rstd are functions of x, else constants.

    Where shift[C] is given, a ReLU followed: the gradient passes where x * (gamma * rstd) + shift > 0.
    """
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], rows, chunks, width, unit, c, at
    cdef const float* b = NULL
    dgamma[:] = 0
    dbeta[:] = 0
    if P * C == 0:
        return
    if shift is not None:
        b = &shift[0]
    rows, width = chunk_rows(C), padded(C)
    chunks = (P + rows - 1) // rows
    # two sums of each chunk, two of all rows, then a, u and v
    cdef double* parts = buffer((chunks * 2 + 2 + 3) * width)
    cdef double* sums = parts + chunks * 2 * width
    cdef float* a = <float*>(sums + 2 * width)
    cdef float* u = <float*>(sums + 3 * width)
    cdef float* v = <float*>(sums + 4 * width)
    for c in range(C):
        a[c] = gamma[c] * rstd[c]
    for unit in prange(chunks, nogil=True, num_threads=threads, schedule="static"):
        at = unit * rows
        sum_products(&x[at, 0], &dy[at, 0], &mean[0], a, b, min(rows, P - at), C, parts + unit * 2 * width,
                     parts + (unit * 2 + 1) * width)
    add_chunks(parts, chunks, 2 * width, sums)
    # dx = a * (d - mean(d) - xhat * mean(d * xhat)), where both means are 0 in evaluation
    for c in range(C):
        dbeta[c] = <float>sums[c]
        dgamma[c] = <float>(sums[width + c] * rstd[c])
        u[c] = dbeta[c] / P if training else 0
        v[c] = dgamma[c] * rstd[c] / P if training else 0
    for unit in prange(chunks, nogil=True, num_threads=threads, schedule="static"):
        at = unit * rows
        grad_chunk(&x[at, 0], &dy[at, 0], &mean[0], a, b, u, v, min(rows, P - at), C, &dx[at, 0])
    free(parts)

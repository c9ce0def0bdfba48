# Normalization of the rows of x[P][C]: layer norm, and RMS norm, which subtracts no mean. In the sums of gradients four
# rows, or four vectors of a row, are added in float, and these sums in double.
from cython.parallel cimport prange
from tinyml._kernels.words.simd cimport *
from tinyml._kernels.words.vmath cimport *

include "sums.pxi"

include "norm_rows.pxi"


cdef inline Py_ssize_t block_rows(Py_ssize_t C) noexcept nogil:
    return max(<Py_ssize_t>1, 1024 // C)


cdef void normalize(const float[:, ::1] x, const float* gamma, const float* beta, float eps, float[:, ::1] y, float* mean,
                    float[::1] rstd, int threads) except *:
    """(x - mean) * rstd * gamma + beta; where mean and beta are NULL, x * rstd * gamma."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], rows = block_rows(C), unit, at
    for unit in prange((P + rows - 1) // rows, nogil=True, num_threads=threads, schedule="static"):
        at = unit * rows
        if mean != NULL:
            layer_rows(&x[at, 0], min(rows, P - at), C, eps, gamma, beta, &y[at, 0], mean + at, &rstd[at])
        else:
            rms_rows(&x[at, 0], min(rows, P - at), C, eps, gamma, &y[at, 0], &rstd[at])


def layer_norm_f32(const float[:, ::1] x, const float[::1] gamma, const float[::1] beta, float eps, float[:, ::1] y,
                   float[::1] mean, float[::1] rstd, int threads):
    """y[P][C] = (x - mean) * rstd * gamma + beta, mean[P] and rstd[P] of each row (biased variance)."""
    if x.shape[0] * x.shape[1]:
        normalize(x, &gamma[0], &beta[0], eps, y, &mean[0], rstd, threads)


def rms_norm_f32(const float[:, ::1] x, const float[::1] gamma, float eps, float[:, ::1] y, float[::1] rstd, int threads):
    """y[P][C] = x * rstd * gamma, rstd[P] = 1 / sqrt(mean of x^2 + eps) of each row."""
    if x.shape[0] * x.shape[1]:
        normalize(x, &gamma[0], NULL, eps, y, NULL, rstd, threads)


cdef inline void grad_means(const float* x, const float* dy, Py_ssize_t C, float mean, double scale, const float* gamma,
                            float* a, float* b) noexcept nogil:
    """Over one row, a = scale * sum of dy * gamma, b = scale^2 * C * sum of dy * gamma * (x - mean)."""
    cdef vecdd s = vddzero(), t = vddzero()
    cdef vecf m = vfset(mean), part, product, d
    cdef Py_ssize_t c = 0, j
    while c + FOUR <= C:
        part, product = vfzero(), vfzero()
        for j in range(4):
            d = vfmul(vfload(dy + c + j * LANES), vfload(gamma + c + j * LANES))
            part = vfadd(part, d)
            product = vfma(product, d, vfsub(vfload(x + c + j * LANES), m))
        s, t = vddadd(s, vwiden(part)), vddadd(t, vwiden(product))
        c += FOUR
    part, product = vfzero(), vfzero()
    while c < C:
        d = vfmul(vfload_n(dy + c, C - c), vfload_n(gamma + c, C - c))
        part = vfadd(part, d)
        product = vfma(product, d, vfsub(vfload_n(x + c, C - c), m))
        c += LANES
    s, t = vddadd(s, vwiden(part)), vddadd(t, vwiden(product))
    a[0] = <float>(vddsum(s) * scale)
    b[0] = <float>(vddsum(t) * (scale * scale * C))


cdef inline void grad_columns(const float* x, const float* dy, int rows, Py_ssize_t C, Py_ssize_t n, const vecf* m,
                              const vecf* r, const vecf* a, const vecf* b, const float* gamma, float* dx, double* dgamma,
                              double* dbeta) noexcept nogil:
    """For n columns (a vector) of up to four rows: dx = r * dy * gamma + a + xhat * b; dgamma += sum of dy * xhat, dbeta +=
    sum of dy."""
    cdef vecf part = vfzero(), product = vfzero(), g = vfload_n(gamma, n), d, xhat
    cdef int p
    for p in range(rows):
        d = vfload_n(dy + p * C, n)
        xhat = vfmul(vfsub(vfload_n(x + p * C, n), m[p]), r[p])
        part = vfadd(part, d)
        product = vfma(product, d, xhat)
        vfstore_n(dx + p * C, vfma(vfma(a[p], vfmul(d, g), r[p]), b[p], xhat), n)
    vddadd_to(dgamma, vwiden(product))
    vddadd_to(dbeta, vwiden(part))


cdef void grad_four(const float* x, const float* dy, int rows, Py_ssize_t C, const float* mean, const float* rstd,
                    const float* gamma, float* dx, double* dgamma, double* dbeta) noexcept nogil:
    """dx of up to four rows; dgamma += sum of dy * xhat, dbeta += sum of dy. `mean` is NULL where none was subtracted."""
    cdef vecf m[4]
    cdef vecf r[4]
    cdef vecf a[4]
    cdef vecf b[4]
    cdef float centre, s, t
    cdef Py_ssize_t c = 0
    cdef int p
    for p in range(rows):
        centre = mean[p] if mean != NULL else 0
        grad_means(x + p * C, dy + p * C, C, centre, <double>rstd[p] / C, gamma, &s, &t)
        m[p], r[p], a[p], b[p] = vfset(centre), vfset(rstd[p]), vfset(-s if mean != NULL else 0), vfset(-t)
    while c + LANES <= C:
        grad_columns(x + c, dy + c, rows, C, LANES, m, r, a, b, gamma + c, dx + c, dgamma + c, dbeta + c)
        c += LANES
    if c < C:
        grad_columns(x + c, dy + c, rows, C, C - c, m, r, a, b, gamma + c, dx + c, dgamma + c, dbeta + c)


cdef void grad_chunk(const float* x, const float* dy, Py_ssize_t rows, Py_ssize_t C, const float* mean, const float* rstd,
                     const float* gamma, float* dx, double* dgamma, double* dbeta) noexcept nogil:
    cdef Py_ssize_t p = 0
    while p < rows:
        if p + 4 <= rows:
            grad_four(x + p * C, dy + p * C, 4, C, mean, rstd + p, gamma, dx + p * C, dgamma, dbeta)
        else:
            grad_four(x + p * C, dy + p * C, <int>(rows - p), C, mean, rstd + p, gamma, dx + p * C, dgamma, dbeta)
        if mean != NULL:
            mean += 4
        p += 4


cdef void norm_grad(const float[:, ::1] x, const float[:, ::1] dy, const float* mean, const float[::1] rstd,
                    const float[::1] gamma, float[:, ::1] dx, float* dgamma, float* dbeta, int threads) except *:
    """Gradients of (x - mean) * rstd * gamma + beta or, where mean is NULL, of x * rstd * gamma."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], rows = chunk_rows(C), width = padded(C), unit, at, c
    cdef Py_ssize_t chunks = (P + rows - 1) // rows
    cdef double* parts = buffer((chunks + 1) * 2 * width)
    cdef double* sums = parts + chunks * 2 * width
    for unit in prange(chunks, nogil=True, num_threads=threads, schedule="static"):
        at = unit * rows
        grad_chunk(&x[at, 0], &dy[at, 0], min(rows, P - at), C, mean + at if mean != NULL else NULL, &rstd[at], &gamma[0],
                   &dx[at, 0], parts + unit * 2 * width, parts + (unit * 2 + 1) * width)
    add_chunks(parts, chunks, 2 * width, sums)
    for c in range(C):
        dgamma[c] = <float>sums[c]
        if dbeta != NULL:
            dbeta[c] = <float>sums[width + c]
    free(parts)


def layer_norm_grad_f32(const float[:, ::1] x, const float[:, ::1] dy, const float[::1] mean, const float[::1] rstd,
                        const float[::1] gamma, float[:, ::1] dx, float[::1] dgamma, float[::1] dbeta, int threads):
    """Gradients of layer_norm_f32 to x, gamma and beta."""
    dgamma[:] = 0
    dbeta[:] = 0
    if x.shape[0] * x.shape[1]:
        norm_grad(x, dy, &mean[0], rstd, gamma, dx, &dgamma[0], &dbeta[0], threads)


def rms_norm_grad_f32(const float[:, ::1] x, const float[:, ::1] dy, const float[::1] rstd, const float[::1] gamma,
                      float[:, ::1] dx, float[::1] dgamma, int threads):
    """Gradients of rms_norm_f32 to x and gamma."""
    dgamma[:] = 0
    if x.shape[0] * x.shape[1]:
        norm_grad(x, dy, NULL, rstd, gamma, dx, &dgamma[0], NULL, threads)

# Normalization of rows, for norm_f32 and decode.
#
# The terms of means may cancel, so they are added in double from the start. Of other sums four vectors are added in float,
# and the sums of four vectors in double. Each pass runs over several short rows, because the additions at the end of one
# row's sum then overlap with those of the next. The last pass fetches the rows that follow.
#
# The file that includes this one has cimported words/simd and words/vmath.
from libc.math cimport sqrt

cdef enum:
    FOUR = 4 * LANES


cdef inline float row_mean(const float* x, Py_ssize_t C) noexcept nogil:
    cdef vecdd total = vddzero()
    cdef Py_ssize_t c
    for c from 0 <= c < C by LANES:
        total = vddadd(total, vwiden(vfload_n(x + c, C - c)))
    return <float>(vddsum(total) / C)


cdef inline float row_rstd(const float* x, Py_ssize_t C, float mean, float eps) noexcept nogil:
    """1 / sqrt(mean of (x - mean)^2 + eps)."""
    cdef vecf m = vfset(mean), part, d
    cdef vecdd total = vddzero()
    cdef Py_ssize_t first, c
    cdef int i
    for first from 0 <= first <= C - FOUR by FOUR:
        part = vfzero()
        for i in range(4):
            d = vfsub(vfload(x + first + i * LANES), m)
            part = vfma(part, d, d)
        total = vddadd(total, vwiden(part))
    if C % FOUR:
        part = vfzero()
        for c from C - C % FOUR <= c < C by LANES:
            d = vfsub(vfload_or(x + c, C - c, m), m)
            part = vfma(part, d, d)
        total = vddadd(total, vwiden(part))
    return <float>(1 / sqrt(vddsum(total) / C + eps))


cdef void layer_rows(const float* x, Py_ssize_t rows, Py_ssize_t C, float eps, const float* gamma, const float* beta,
                     float* y, float* mean, float* rstd) noexcept nogil:
    """Layer norm of some rows; their means and 1 / standard deviations are left in mean[rows] and rstd[rows]."""
    cdef vecf m, r, d
    cdef Py_ssize_t p, c
    for p in range(rows):
        mean[p] = row_mean(x + p * C, C)
    for p in range(rows):
        rstd[p] = row_rstd(x + p * C, C, mean[p], eps)
    for p in range(rows):
        m, r = vfset(mean[p]), vfset(rstd[p])
        for c from 0 <= c < C by LANES:
            vfetch(x + (rows + p) * C + c)
            d = vfmul(vfsub(vfload_n(x + p * C + c, C - c), m), r)
            vfstore_n(y + p * C + c, vfma(vfload_n(beta + c, C - c), d, vfload_n(gamma + c, C - c)), C - c)


cdef void rms_rows(const float* x, Py_ssize_t rows, Py_ssize_t C, float eps, const float* gamma, float* y,
                   float* rstd) noexcept nogil:
    """RMS norm of some rows; their 1 / sqrt(mean of squares + eps) is left in rstd[rows]."""
    cdef vecf r
    cdef Py_ssize_t p, c
    for p in range(rows):
        rstd[p] = row_rstd(x + p * C, C, 0, eps)
    for p in range(rows):
        r = vfset(rstd[p])
        for c from 0 <= c < C by LANES:
            vfetch(x + (rows + p) * C + c)
            vfstore_n(y + p * C + c, vfmul(vfmul(vfload_n(x + p * C + c, C - c), r), vfload_n(gamma + c, C - c)), C - c)

# Softmax over rows, its logarithm, and the cross entropy made of it. Every sum is over one row, in an order that only its
# length determines: four vectors are added in float, the sums of four vectors in lanes of double, and the lanes as a tree.
from cython.parallel cimport prange
from libc.math cimport INFINITY, log
from libc.stdint cimport int64_t
from libc.string cimport memset
from tinyml._kernels.words.simd cimport *
from tinyml._kernels.words.vmath cimport *

cdef enum:
    FOUR = 4 * LANES
    # Rows of one unit of work. Each pass runs over all of them, because the additions at the end of one row's sum then
    # overlap with those of the next
    BLOCK = 8


cdef inline float row_max(const float* x, Py_ssize_t C) noexcept nogil:
    """The largest value; where there is a NaN, any number or NaN."""
    cdef vecf low = vfset(-INFINITY), top = low
    cdef Py_ssize_t i
    for i from 0 <= i < C by LANES:
        top = vfmax(vfload_or(x + i, C - i, low), top)
    return vfmax_lanes(top)


cdef inline double row_exp(const float* x, Py_ssize_t C, float top, float* y) noexcept nogil:
    """The sum of exp(x - top). Its terms are stored in y, unless y is NULL."""
    cdef vecf low = vfset(-INFINITY), t = vfset(top), part, a, b, c, d
    cdef vecdd total = vddzero()
    cdef Py_ssize_t i = 0
    while i + FOUR <= C:
        a, b = vexp(vfsub(vfload(x + i), t)), vexp(vfsub(vfload(x + i + LANES), t))
        c, d = vexp(vfsub(vfload(x + i + 2 * LANES), t)), vexp(vfsub(vfload(x + i + 3 * LANES), t))
        if y != NULL:
            vfstore(y + i, a)
            vfstore(y + i + LANES, b)
            vfstore(y + i + 2 * LANES, c)
            vfstore(y + i + 3 * LANES, d)
        total = vddadd(total, vwiden(vfadd(vfadd(a, b), vfadd(c, d))))
        i += FOUR
    part = vfzero()
    while i < C:
        a = vexp(vfsub(vfload_or(x + i, C - i, low), t))
        if y != NULL:
            vfstore_n(y + i, a, C - i)
        part = vfadd(part, a)
        i += LANES
    total = vddadd(total, vwiden(part))
    return vddsum(total)


cdef inline double row_sum(const float* x, Py_ssize_t C, float shift) noexcept nogil:
    """The sum of x - shift."""
    cdef vecf t = vfset(shift)
    cdef vecdd total = vddzero()
    cdef Py_ssize_t i
    for i from 0 <= i < C by LANES:
        total = vddadd(total, vwiden(vfsub(vfload_or(x + i, C - i, t), t)))
    return vddsum(total)


cdef inline double row_dot(const float* x, const float* y, Py_ssize_t C) noexcept nogil:
    cdef vecf part
    cdef vecdd total = vddzero()
    cdef Py_ssize_t first, i
    for first from 0 <= first < C by FOUR:
        part = vfzero()
        for i from first <= i < min(first + FOUR, C) by LANES:
            part = vfma(part, vfload_n(x + i, C - i), vfload_n(y + i, C - i))
        total = vddadd(total, vwiden(part))
    return vddsum(total)


cdef inline void scale_row(float* y, Py_ssize_t C, double factor) noexcept nogil:
    cdef vecf f = vfset(<float>factor)
    cdef Py_ssize_t i
    for i from 0 <= i < C by LANES:
        vfstore_n(y + i, vfmul(vfload_n(y + i, C - i), f), C - i)


cdef inline Py_ssize_t blocks(Py_ssize_t rows) noexcept nogil:
    return (rows + BLOCK - 1) // BLOCK


ctypedef void (*block_loop)(const float[:, ::1] x, Py_ssize_t first, float[:, ::1] y) noexcept nogil
ctypedef void (*row_gradient)(const float* y, const float* dy, Py_ssize_t C, float* dx) noexcept nogil


cdef void each_block(block_loop f, const float[:, ::1] x, float[:, ::1] y, int threads) except *:
    """y = f(x), block by block."""
    cdef Py_ssize_t unit
    if x.shape[0] * x.shape[1] == 0:
        return
    for unit in prange(blocks(x.shape[0]), nogil=True, num_threads=threads, schedule="static"):
        f(x, unit * BLOCK, y)


cdef void each_row(row_gradient f, const float[:, ::1] y, const float[:, ::1] dy, float[:, ::1] dx, int threads) except *:
    """dx = f(y, dy), row by row."""
    cdef Py_ssize_t p
    if y.shape[0] * y.shape[1] == 0:
        return
    for p in prange(y.shape[0], nogil=True, num_threads=threads, schedule="static"):
        f(&y[p, 0], &dy[p, 0], y.shape[1], &dx[p, 0])


cdef void softmax_rows(const float* x, Py_ssize_t rows, Py_ssize_t C, float* top, double* total, float* y) noexcept nogil:
    """Softmax of up to BLOCK rows. `top` and `total` become the largest value of each row and the sum of exp(x - top)."""
    cdef Py_ssize_t p
    for p in range(rows):
        top[p] = row_max(x + p * C, C)
    for p in range(rows):
        total[p] = row_exp(x + p * C, C, top[p], y + p * C)
    for p in range(rows):
        scale_row(y + p * C, C, 1 / total[p])


cdef void softmax_block(const float[:, ::1] x, Py_ssize_t first, float[:, ::1] y) noexcept nogil:
    cdef float top[BLOCK]
    cdef double total[BLOCK]
    softmax_rows(&x[first, 0], min(<Py_ssize_t>BLOCK, x.shape[0] - first), x.shape[1], top, total, &y[first, 0])


def softmax_f32(const float[:, ::1] x, float[:, ::1] y, int threads):
    """y[P][C] = exp(x - max) / sum of the row; a row of -inf, or with a NaN or +inf, is NaN."""
    each_block(softmax_block, x, y, threads)


cdef void softmax_grad_row(const float* y, const float* dy, Py_ssize_t C, float* dx) noexcept nogil:
    cdef vecf s = vfset(<float>row_dot(y, dy, C))
    cdef Py_ssize_t i
    for i from 0 <= i < C by LANES:
        vfstore_n(dx + i, vfmul(vfload_n(y + i, C - i), vfsub(vfload_n(dy + i, C - i), s)), C - i)


def softmax_grad_f32(const float[:, ::1] y, const float[:, ::1] dy, float[:, ::1] dx, int threads):
    """dx[P][C] = y * (dy - sum(y * dy) of the row)."""
    each_row(softmax_grad_row, y, dy, dx, threads)


cdef void log_softmax_block(const float[:, ::1] x, Py_ssize_t first, float[:, ::1] y) noexcept nogil:
    cdef Py_ssize_t end = min(first + BLOCK, x.shape[0]), C = x.shape[1], p, i
    cdef float top[BLOCK]
    cdef float shift[BLOCK]
    cdef vecf t, s
    for p in range(first, end):
        top[p - first] = row_max(&x[p, 0], C)
    for p in range(first, end):
        shift[p - first] = <float>log(row_exp(&x[p, 0], C, top[p - first], NULL))
    for p in range(first, end):
        t, s = vfset(top[p - first]), vfset(shift[p - first])
        for i from 0 <= i < C by LANES:
            vfstore_n(&y[p, i], vfsub(vfsub(vfload_n(&x[p, i], C - i), t), s), C - i)


def log_softmax_f32(const float[:, ::1] x, float[:, ::1] y, int threads):
    """y[P][C] = x - max - ln(sum of exp(x - max)) of the row; a row of -inf, or with a NaN or +inf, is NaN."""
    each_block(log_softmax_block, x, y, threads)


cdef void log_softmax_grad_row(const float* y, const float* dy, Py_ssize_t C, float* dx) noexcept nogil:
    cdef vecf s = vfset(<float>-row_sum(dy, C, 0))
    cdef Py_ssize_t i
    for i from 0 <= i < C by LANES:
        vfstore_n(dx + i, vfma(vfload_n(dy + i, C - i), vexp(vfload_n(y + i, C - i)), s), C - i)


def log_softmax_grad_f32(const float[:, ::1] y, const float[:, ::1] dy, float[:, ::1] dx, int threads):
    """dx[P][C] = dy - exp(y) * sum(dy) of the row."""
    each_row(log_softmax_grad_row, y, dy, dx, threads)


cdef void cross_entropy_block(const float[:, ::1] x, const int64_t[::1] target, double smoothing, Py_ssize_t first,
                              double[::1] loss, float[:, ::1] rows) noexcept nogil:
    cdef Py_ssize_t end = min(first + BLOCK, x.shape[0]), C = x.shape[1], p
    cdef double total[BLOCK]
    for p in range(first, end):
        rows[0, p] = row_max(&x[p, 0], C)
    for p in range(first, end):
        total[p - first] = row_exp(&x[p, 0], C, rows[0, p], NULL)
    for p in range(first, end):
        rows[1, p] = <float>(1 / total[p - first])
        loss[p] = 0
        if target[p] >= 0:
            loss[p] = log(total[p - first]) - (1 - smoothing) * (<double>x[p, target[p]] - rows[0, p])
            if smoothing != 0:
                loss[p] = loss[p] - smoothing / C * row_sum(&x[p, 0], C, rows[0, p])


def cross_entropy_f32(const float[:, ::1] x, const int64_t[::1] target, double smoothing, double[::1] loss,
                      float[:, ::1] rows, int threads):
    """loss[P] = -(1 - smoothing) ln p[target] - smoothing * mean of ln p, p the softmax of a row of x[P][C].

    A row whose target is negative does not count: its loss is 0. rows[2][P], which the gradient needs, is the largest value
    of each row and 1 / the sum of exp(x - that).
    """
    cdef Py_ssize_t unit
    if x.shape[1] == 0:
        loss[:] = 0
        rows[:] = 0
        return
    for unit in prange(blocks(x.shape[0]), nogil=True, num_threads=threads, schedule="static"):
        cross_entropy_block(x, target, smoothing, unit * BLOCK, loss, rows)


cdef void cross_entropy_grad_row(const float* x, Py_ssize_t C, int64_t target, double smoothing, float top, float inverse,
                                 float g, float* dx) noexcept nogil:
    cdef vecf t = vfset(top), factor = vfset(inverse), shift = vfset(<float>-(smoothing / C)), scale = vfset(g)
    cdef Py_ssize_t i = 0
    cdef vecf a, b
    if target < 0:
        memset(dx, 0, C * sizeof(float))
        return
    while i + 2 * LANES <= C:
        a, b = vexp(vfsub(vfload(x + i), t)), vexp(vfsub(vfload(x + i + LANES), t))
        vfstore(dx + i, vfmul(vfma(shift, a, factor), scale))
        vfstore(dx + i + LANES, vfmul(vfma(shift, b, factor), scale))
        i += 2 * LANES
    while i < C:
        a = vexp(vfsub(vfload_n(x + i, C - i), t))
        vfstore_n(dx + i, vfmul(vfma(shift, a, factor), scale), C - i)
        i += LANES
    dx[target] = dx[target] - <float>(1 - smoothing) * g


def cross_entropy_grad_f32(const float[:, ::1] x, const int64_t[::1] target, double smoothing, const float[:, ::1] rows,
                           float g, float[:, ::1] dx, int threads):
    """The gradient of g * the sum of losses: dx[P][C] = g * (p - smoothing / C - (1 - smoothing) [c = target]), 0 in rows
    that do not count. p is not kept but computed again from the `rows` of cross_entropy_f32, which takes no longer than
    reading it."""
    cdef Py_ssize_t row
    if x.shape[0] * x.shape[1] == 0:
        return
    for row in prange(x.shape[0], nogil=True, num_threads=threads, schedule="static"):
        cross_entropy_grad_row(&x[row, 0], x.shape[1], target[row], smoothing, rows[0, row], rows[1, row], g, &dx[row, 0])

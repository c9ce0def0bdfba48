# Tables x[P][C] whose rows are added: sums of columns (gradients of biases), the gradient of an activation with the sums of
# its columns, rows added by id (the gradient of an embedding).
# Of eight rows the sum is made in float, of the eights in double.
from cython.parallel cimport prange
from libc.stdint cimport int64_t
from tinyml._kernels.simd cimport *
from tinyml._kernels.vmath cimport *

include "gradient.pxi"
include "sums.pxi"

cdef enum:
    EIGHT = 8           # rows that are added in float
    STRIP = 512         # columns of eight rows whose gradient is still in the cache when it is added
    COLUMNS = 128       # of rows that are added by id: what one unit of work writes


cdef int sum_rows(const float* x, Py_ssize_t rows, Py_ssize_t step, Py_ssize_t C, double* sums) noexcept nogil:
    """sums[c] += sum of x[rows][C], whose rows are `step` apart."""
    cdef Py_ssize_t first, c, p
    cdef const float* row
    cdef vecf a, b
    for first from 0 <= first < rows by EIGHT:
        for c from 0 <= c < C by LANES:
            row = x + first * step + c
            if first + EIGHT <= rows:
                a = vfadd(vfload_n(row, C - c), vfload_n(row + step, C - c))
                b = vfadd(vfload_n(row + 2 * step, C - c), vfload_n(row + 3 * step, C - c))
                a = vfadd(a, vfadd(vfload_n(row + 4 * step, C - c), vfload_n(row + 5 * step, C - c)))
                b = vfadd(b, vfadd(vfload_n(row + 6 * step, C - c), vfload_n(row + 7 * step, C - c)))
                a = vfadd(a, b)
            else:
                a = vfzero()
                for p in range(rows - first):
                    a = vfadd(a, vfload_n(row + p * step, C - c))
            vddadd_to(sums + c, vwiden(a))
    return 0


cdef int finish(double* parts, Py_ssize_t chunks, Py_ssize_t width, float[::1] y) noexcept nogil:
    """y[C] = the sums of all chunks, whose memory is given back."""
    cdef Py_ssize_t c
    add_chunks(parts + width, chunks - 1, width, parts)
    for c in range(y.shape[0]):
        y[c] = <float>parts[c]
    free(parts)
    return 0


def sum_columns_f32(const float[:, ::1] x, float[::1] y, int threads):
    """y[C] = sum over the rows of x[P][C], off by 2^-21 of the sum of |x| at most."""
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], rows, chunks, width, unit
    cdef double* parts
    y[:] = 0
    if P * C == 0:
        return
    rows, width = chunk_rows(C), padded(C)
    chunks = (P + rows - 1) // rows
    parts = buffer(chunks * width)
    for unit in prange(chunks, nogil=True, num_threads=threads, schedule="static"):
        sum_rows(&x[unit * rows, 0], min(rows, P - unit * rows), C, C, parts + unit * width)
    finish(parts, chunks, width, y)


cdef inline int grad_rows(gradient f, const float[:, ::1] x, const float[:, ::1] dy, float[:, ::1] dx, Py_ssize_t first,
                          Py_ssize_t rows, double* sums) noexcept nogil:
    """dx = f(x, dy) in up to `rows` rows from `first` on, sums[c] += sum of dx, while it is in the cache."""
    cdef Py_ssize_t C = x.shape[1], end = min(first + rows, x.shape[0]), few = max(<Py_ssize_t>1, STRIP // C) * EIGHT
    cdef Py_ssize_t p, c, n, width, i
    for p from first <= p < end by few:
        n = min(few, end - p)
        for c from 0 <= c < C by STRIP:
            width = min(<Py_ssize_t>STRIP, C - c)
            if width == C:
                grad_run(f, &x[p, 0], &dy[p, 0], &dx[p, 0], n * C)
            else:
                for i in range(p, p + n):
                    grad_run(f, &x[i, c], &dy[i, c], &dx[i, c], width)
            sum_rows(&dx[p, c], n, C, width, sums + c)
    return 0


def relu_grad_sum_f32(const float[:, ::1] y, const float[:, ::1] dy, float[:, ::1] dx, float[::1] db, int threads):
    """dx[P][C] as relu_grad_f32, db[C] its sum over rows, off by 2^-21 of the sum of |dx| at most."""
    cdef Py_ssize_t rows, chunks, width, unit
    cdef double* parts
    db[:] = 0
    if y.shape[0] * y.shape[1] == 0:
        return
    rows, width = chunk_rows(y.shape[1]), padded(y.shape[1])
    chunks = (y.shape[0] + rows - 1) // rows
    parts = buffer(chunks * width)
    for unit in prange(chunks, nogil=True, num_threads=threads, schedule="static"):
        grad_rows(vrelu_grad, y, dy, dx, unit * rows, rows, parts + unit * width)
    finish(parts, chunks, width, db)


def gelu_grad_sum_f32(const float[:, ::1] x, const float[:, ::1] dy, float[:, ::1] dx, float[::1] db, int threads):
    """dx[P][C] as gelu_grad_f32, db[C] its sum over rows."""
    cdef Py_ssize_t rows, chunks, width, unit
    cdef double* parts
    db[:] = 0
    if x.shape[0] * x.shape[1] == 0:
        return
    rows, width = chunk_rows(x.shape[1]), padded(x.shape[1])
    chunks = (x.shape[0] + rows - 1) // rows
    parts = buffer(chunks * width)
    for unit in prange(chunks, nogil=True, num_threads=threads, schedule="static"):
        grad_rows(vgelu_grad, x, dy, dx, unit * rows, rows, parts + unit * width)
    finish(parts, chunks, width, db)


def gelu_tanh_grad_sum_f32(const float[:, ::1] x, const float[:, ::1] dy, float[:, ::1] dx, float[::1] db, int threads):
    """dx[P][C] as gelu_tanh_grad_f32, db[C] its sum over rows."""
    cdef Py_ssize_t rows, chunks, width, unit
    cdef double* parts
    db[:] = 0
    if x.shape[0] * x.shape[1] == 0:
        return
    rows, width = chunk_rows(x.shape[1]), padded(x.shape[1])
    chunks = (x.shape[0] + rows - 1) // rows
    parts = buffer(chunks * width)
    for unit in prange(chunks, nogil=True, num_threads=threads, schedule="static"):
        grad_rows(vgelu_tanh_grad, x, dy, dx, unit * rows, rows, parts + unit * width)
    finish(parts, chunks, width, db)


def silu_grad_sum_f32(const float[:, ::1] x, const float[:, ::1] dy, float[:, ::1] dx, float[::1] db, int threads):
    """dx[P][C] as silu_grad_f32, db[C] its sum over rows."""
    cdef Py_ssize_t rows, chunks, width, unit
    cdef double* parts
    db[:] = 0
    if x.shape[0] * x.shape[1] == 0:
        return
    rows, width = chunk_rows(x.shape[1]), padded(x.shape[1])
    chunks = (x.shape[0] + rows - 1) // rows
    parts = buffer(chunks * width)
    for unit in prange(chunks, nogil=True, num_threads=threads, schedule="static"):
        grad_rows(vsilu_grad, x, dy, dx, unit * rows, rows, parts + unit * width)
    finish(parts, chunks, width, db)


cdef int scatter_columns(const float[:, ::1] x, const int64_t[::1] ids, float[:, ::1] y, Py_ssize_t first) noexcept nogil:
    cdef Py_ssize_t end = min(first + COLUMNS, x.shape[1]), p, c
    cdef const float* row
    cdef float* into
    for p in range(y.shape[0]):
        for c from first <= c < end by LANES:
            vfstore_n(&y[p, c], vfzero(), end - c)
    for p in range(ids.shape[0]):
        row, into = &x[p, 0], &y[ids[p], 0]
        for c from first <= c < end by LANES:
            vfstore_n(into + c, vfadd(vfload_n(into + c, end - c), vfload_n(row + c, end - c)), end - c)
    return 0


def scatter_rows_f32(const float[:, ::1] x, const int64_t[::1] ids, float[:, ::1] y, int threads):
    """y[V][C] = for each row v the sum of the rows of x[P][C] whose id is v, in their order; ids in [0, V)."""
    cdef Py_ssize_t units = (x.shape[1] + COLUMNS - 1) // COLUMNS, unit
    for unit in prange(units, nogil=True, num_threads=threads, schedule="static"):
        scatter_columns(x, ids, y, unit * COLUMNS)

# Tables x[P][C] whose rows are added: sums of columns (the gradient of a bias), the gradient of an activation together with
# the sums of its columns, and rows that are added by their ids (the gradient of an embedding).
#
# Eight rows are added in float, and the sums of eight rows in double.
from cython.parallel cimport prange, threadid
from libc.stdint cimport int64_t
from libc.stdlib cimport malloc
from libc.string cimport memset
from tinyml._kernels.words.simd cimport *
from tinyml._kernels.words.vmath cimport *

include "gradient.pxi"
include "sums.pxi"

cdef enum:
    EIGHT = 8           # rows that are added in float
    STRIP = 512         # columns of eight rows, whose gradient is still in the cache when it is added
    # When rows are added by id, a unit of work writes so many columns of the rows whose ids begin among so many sorted
    # places
    COLUMNS = 128
    RUNS = 64
    CLEARED = 16384     # elements that a thread sets to 0 at a time
    DIGIT_BITS = 11     # of a digit of the radix sort of ids
    DIGITS = 1 << 11


cdef void sum_rows(const float* x, Py_ssize_t rows, Py_ssize_t step, Py_ssize_t C, double* sums) noexcept nogil:
    """sums[c] += the sum over rows of x[rows][C], which are `step` floats apart."""
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


cdef void finish(double* parts, Py_ssize_t chunks, Py_ssize_t width, float[::1] y) noexcept nogil:
    """y[C] = the sums of all chunks; frees their memory."""
    cdef Py_ssize_t c
    add_chunks(parts + width, chunks - 1, width, parts)
    for c in range(y.shape[0]):
        y[c] = <float>parts[c]
    free(parts)


cdef void sum_image(const float* x, Py_ssize_t rows, Py_ssize_t C, double* sums, Py_ssize_t width, float* y) noexcept nogil:
    """y[C] = the sum over the rows of x[rows][C]. `sums` has room for `width` sums."""
    cdef Py_ssize_t c
    memset(sums, 0, width * sizeof(double))
    sum_rows(x, rows, C, C, sums)
    for c in range(C):
        y[c] = <float>sums[c]


def sum_columns_f32(const float[:, :, ::1] x, float[:, ::1] y, int threads):
    """y[B][C] = the sum over the rows of x[B][P][C], off by at most 2^-21 times the sum of |x|."""
    cdef Py_ssize_t B = x.shape[0], P = x.shape[1], C = x.shape[2], rows, chunks, width, unit, c
    cdef double* parts
    y[...] = 0
    if B * P * C == 0:
        return
    rows, width = chunk_rows(C), padded(C)
    chunks = (P + rows - 1) // rows
    if chunks == 1:
        parts = buffer(threads * width)
        for unit in prange(B, nogil=True, num_threads=threads, schedule="static"):
            sum_image(&x[unit, 0, 0], P, C, parts + threadid() * width, width, &y[unit, 0])
        free(parts)
        return
    parts = buffer(B * chunks * width)
    for unit in prange(B * chunks, nogil=True, num_threads=threads, schedule="static"):
        sum_rows(&x[unit // chunks, unit % chunks * rows, 0], min(rows, P - unit % chunks * rows), C, C,
                 parts + unit * width)
    for unit in range(B):
        add_chunks(parts + (unit * chunks + 1) * width, chunks - 1, width, parts + unit * chunks * width)
        for c in range(C):
            y[unit, c] = <float>parts[unit * chunks * width + c]
    free(parts)


cdef inline void grad_rows(gradient f, const float[:, ::1] x, const float[:, ::1] dy, float[:, ::1] dx, Py_ssize_t first,
                           Py_ssize_t rows, double* sums) noexcept nogil:
    """dx = f(x, dy) for up to `rows` rows from `first` on; sums[c] += sum of dx, while that is in the cache."""
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


cdef void activation_grad_rows(int activation, const float[:, ::1] x, const float[:, ::1] dy, float[:, ::1] dx,
                               Py_ssize_t first, Py_ssize_t rows, double* sums) noexcept nogil:
    if activation == RELU:
        grad_rows(vrelu_grad, x, dy, dx, first, rows, sums)
    elif activation == GELU:
        grad_rows(vgelu_grad, x, dy, dx, first, rows, sums)
    elif activation == GELU_TANH:
        grad_rows(vgelu_tanh_grad, x, dy, dx, first, rows, sums)
    else:
        grad_rows(vsilu_grad, x, dy, dx, first, rows, sums)


def activation_grad_sum_f32(int activation, const float[:, ::1] x, const float[:, ::1] dy, float[:, ::1] dx, float[::1] db,
                            int threads):
    """dx[P][C] = the gradient of an activation, as its kernel computes it of x (for ReLU, of the output) and dy; db[C] =
    the sum of dx over rows, off by at most 2^-21 times the sum of |dx|.

    `activation` is the number of one of table.ACTIVATIONS, but not that of the identity.
    """
    cdef Py_ssize_t rows, chunks, width, unit
    db[:] = 0
    if x.shape[0] * x.shape[1] == 0:
        return
    rows, width = chunk_rows(x.shape[1]), padded(x.shape[1])
    chunks = (x.shape[0] + rows - 1) // rows
    cdef double* parts = buffer(chunks * width)
    for unit in prange(chunks, nogil=True, num_threads=threads, schedule="static"):
        activation_grad_rows(activation, x, dy, dx, unit * rows, rows, parts + unit * width)
    finish(parts, chunks, width, db)


cdef Py_ssize_t* sort_by_id(const int64_t[::1] ids, Py_ssize_t V) except NULL:
    """The positions in `ids`, sorted by their ids in [0, V); those of the same id keep their order. It is a radix sort,
    which uses as much memory again behind the result."""
    cdef Py_ssize_t P = ids.shape[0], i, shift = 0, digit, before, count, bits = 1, digits
    cdef Py_ssize_t counts[DIGITS]
    cdef Py_ssize_t* order = <Py_ssize_t*>malloc((2 * P + 1) * sizeof(Py_ssize_t))
    if order == NULL:
        raise MemoryError(f"scatter_rows_f32: no memory for the order of {P} ids")
    while bits < DIGIT_BITS and (V - 1) >> bits > 0:
        bits += 1
    digits = 1 << bits
    for i in range(P if V == 1 else 0):
        order[i] = i
    while (V - 1) >> shift > 0:
        memset(counts, 0, digits * sizeof(Py_ssize_t))
        for i in range(P):
            counts[ids[i] >> shift & (digits - 1)] += 1
            order[P + i] = order[i] if shift else i
        before = 0
        for digit in range(digits):
            count = counts[digit]
            counts[digit] = before
            before += count
        for i in range(P):
            digit = ids[order[P + i]] >> shift & (digits - 1)
            order[counts[digit]] = order[P + i]
            counts[digit] += 1
        shift += bits
    return order


cdef void sum_run(const float* x, const Py_ssize_t* order, Py_ssize_t rows, Py_ssize_t C, Py_ssize_t columns,
                  float* y) noexcept nogil:
    """y[columns] = the sum of the rows order[0], ..., order[rows - 1] of x[][C]."""
    cdef double sums[COLUMNS + LANES]
    cdef Py_ssize_t first, c, p
    cdef vecf a
    if rows > EIGHT:
        memset(sums, 0, sizeof(sums))
    for first from 0 <= first < rows by EIGHT:
        for c from 0 <= c < columns by LANES:
            a = vfload_n(x + order[first] * C + c, columns - c)
            for p in range(first + 1, min(first + EIGHT, rows)):
                a = vfadd(a, vfload_n(x + order[p] * C + c, columns - c))
            if rows > EIGHT:
                vddadd_to(sums + c, vwiden(a))
            else:
                vfstore_n(y + c, a, columns - c)
    if rows > EIGHT:
        for c in range(columns):
            y[c] = <float>sums[c]


cdef void scatter_runs(const float[:, ::1] x, const int64_t[::1] ids, const Py_ssize_t* order, Py_ssize_t first,
                       Py_ssize_t column, float[:, ::1] y) noexcept nogil:
    """Compute COLUMNS columns of those rows of y whose ids begin among the RUNS places of `order` from `first` on."""
    cdef Py_ssize_t P = ids.shape[0], C = x.shape[1], i, end = 0
    for i in range(first, min(first + RUNS, P)):
        if i < end or (i and ids[order[i]] == ids[order[i - 1]]):
            continue
        end = i + 1
        while end < P and ids[order[end]] == ids[order[i]]:
            end += 1
        sum_run(&x[0, column], order + i, end - i, C, min(<Py_ssize_t>COLUMNS, C - column), &y[ids[order[i]], column])


def scatter_rows_f32(const float[:, ::1] x, const int64_t[::1] ids, bint clear, float[:, ::1] y, int threads):
    """y[v][C] = the sum of the rows of x[P][C] whose id is v, for each v < V; ids are in [0, V). The error is that of
    sum_columns_f32.

    Where `clear` is not set, y must hold zeros: only rows whose id occurs are written.
    """
    cdef Py_ssize_t P = x.shape[0], C = x.shape[1], V = y.shape[0], strips = (C + COLUMNS - 1) // COLUMNS, unit
    if V * C == 0:
        return
    for unit in prange((V * C + CLEARED - 1) // CLEARED if clear else 0, nogil=True, num_threads=threads,
                       schedule="static"):
        memset(&y[0, 0] + unit * CLEARED, 0, min(<Py_ssize_t>CLEARED, V * C - unit * CLEARED) * sizeof(float))
    if P == 0:
        return
    cdef Py_ssize_t* order = sort_by_id(ids, V)
    for unit in prange((P + RUNS - 1) // RUNS * strips, nogil=True, num_threads=threads, schedule="dynamic"):
        scatter_runs(x, ids, order, unit // strips * RUNS, unit % strips * COLUMNS, y)
    free(order)

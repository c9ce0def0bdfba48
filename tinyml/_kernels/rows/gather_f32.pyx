# Elements taken and written along the middle one of three dimensions, each at the place that an index names.
#
# An index whose last dimension has the stride 0 names whole rows, which are copied and added as such. Where that dimension
# has one element, the middle one is walked without it.
from cython.parallel cimport prange
from libc.stdint cimport int64_t, uint64_t


cdef inline int64_t at(const char* index, Py_ssize_t i, Py_ssize_t step) noexcept nogil:
    return (<const int64_t*>(index + i * step))[0]


cdef bint gather_line(const float* x, Py_ssize_t x_step, uint64_t n, const char* index, Py_ssize_t step, Py_ssize_t count,
                      float* y) noexcept nogil:
    """y[i] = x[index[i] * x_step + i], or without the + i where x_step is 1."""
    cdef Py_ssize_t i, own = x_step != 1
    cdef int64_t j
    for i in range(count):
        j = at(index, i, step)
        if <uint64_t>j >= n:
            return False
        y[i] = x[j * x_step + i * own]
    return True


cdef bint scatter_line(const float* x, const char* index, Py_ssize_t step, Py_ssize_t count, bint add, float* y,
                       Py_ssize_t y_step, uint64_t n) noexcept nogil:
    """y[index[i] * y_step + i] = x[i], or += where `add` is set; without the + i where y_step is 1."""
    cdef Py_ssize_t i, own = y_step != 1
    cdef int64_t j
    for i in range(count):
        j = at(index, i, step)
        if <uint64_t>j >= n:
            return False
        if add:
            y[j * y_step + i * own] += x[i]
        else:
            y[j * y_step + i * own] = x[i]
    return True


cdef bint gather_table(const float[:, :, ::1] x, const int64_t[:, :, :] index, float[:, :, ::1] y,
                       Py_ssize_t a) noexcept nogil:
    cdef Py_ssize_t i, c, P = y.shape[1], C = y.shape[2]
    cdef int64_t j, n = x.shape[1]
    if C == 1:
        return gather_line(&x[a, 0, 0], 1, n, <const char*>&index[a, 0, 0], index.strides[1], P, &y[a, 0, 0])
    for i in range(P):
        j = index[a, i, 0]
        if index.strides[2] != 0:
            if not gather_line(&x[a, 0, 0], C, n, <const char*>&index[a, i, 0], index.strides[2], C, &y[a, i, 0]):
                return False
        elif j < 0 or j >= n:
            return False
        else:
            for c in range(C):
                y[a, i, c] = x[a, j, c]
    return True


cdef bint scatter_table(const float[:, :, ::1] x, const int64_t[:, :, :] index, bint add, float[:, :, ::1] y,
                        Py_ssize_t a) noexcept nogil:
    cdef Py_ssize_t i, c, P = x.shape[1], C = x.shape[2]
    cdef int64_t j, n = y.shape[1]
    if C == 1:
        return scatter_line(&x[a, 0, 0], <const char*>&index[a, 0, 0], index.strides[1], P, add, &y[a, 0, 0], 1, n)
    for i in range(P):
        j = index[a, i, 0]
        if index.strides[2] != 0:
            if not scatter_line(&x[a, i, 0], <const char*>&index[a, i, 0], index.strides[2], C, add, &y[a, 0, 0], C, n):
                return False
        elif j < 0 or j >= n:
            return False
        else:
            for c in range(C):
                y[a, j, c] = x[a, i, c] + (y[a, j, c] if add else 0)
    return True


def gather_f32(const float[:, :, ::1] x, const int64_t[:, :, :] index, float[:, :, ::1] y, int threads):
    """y[a][i][c] = x[a][index[a][i][c]][c] for x[A][n][C]. Returns whether all of the index is in [0, n); if not, y is not
    whole."""
    cdef Py_ssize_t a, outside = 0
    if y.shape[0] * y.shape[1] * y.shape[2] and x.shape[1] == 0:
        return False
    for a in prange(y.shape[0] if y.shape[1] * y.shape[2] else 0, nogil=True, num_threads=threads, schedule="static"):
        outside += not gather_table(x, index, y, a)
    return outside == 0


def scatter_f32(const float[:, :, ::1] x, const int64_t[:, :, :] index, bint add, float[:, :, ::1] y, int threads):
    """y[a][index[a][i][c]][c] = x[a][i][c] for y[A][n][C], or += where `add` is set, in this order. Returns whether all of
    the index is in [0, n); if not, y is not whole."""
    cdef Py_ssize_t a, outside = 0
    if x.shape[0] * x.shape[1] * x.shape[2] and y.shape[1] == 0:
        return False
    for a in prange(x.shape[0] if x.shape[1] * x.shape[2] else 0, nogil=True, num_threads=threads, schedule="static"):
        outside += not scatter_table(x, index, add, y, a)
    return outside == 0

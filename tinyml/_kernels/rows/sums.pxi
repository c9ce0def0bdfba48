# Sums over rows, one a column, in an order that the shape alone fixes: rows are cut into chunks, a chunk's sums are made by
# one thread, and the chunks' sums are added in order.
from libc.stdlib cimport calloc, free


cdef inline Py_ssize_t chunk_rows(Py_ssize_t C) noexcept nogil:
    """Rows of a chunk: 64 KB, which the second-level cache still holds when they are read again."""
    return max(<Py_ssize_t>64, 16384 // C)


cdef inline Py_ssize_t padded(Py_ssize_t C) noexcept nogil:
    return (C + LANES - 1) // LANES * LANES


cdef double* buffer(Py_ssize_t n) except NULL:
    cdef double* p = <double*>calloc(n, sizeof(double))
    if p == NULL:
        raise MemoryError(f"no memory for {n} partial sums")
    return p


cdef int add_chunks(const double* parts, Py_ssize_t chunks, Py_ssize_t n, double* out) noexcept nogil:
    cdef Py_ssize_t unit, i
    for unit in range(chunks):
        for i in range(n):
            out[i] += parts[unit * n + i]
    return 0

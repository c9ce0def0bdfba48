# Sums over rows, one per column, in an order that only the shape determines: rows are cut into chunks, one thread computes
# the sums of a chunk, and the sums of all chunks are added in order.
#
# The file that includes this one has cimported words/simd.
from libc.stdlib cimport calloc, free


cdef inline Py_ssize_t chunk_rows(Py_ssize_t C) noexcept nogil:
    """How many rows a chunk has: 64 KB, which the second-level cache still holds when they are read again."""
    return max(<Py_ssize_t>64, 16384 // C)


cdef inline Py_ssize_t padded(Py_ssize_t C) noexcept nogil:
    """C, rounded up to whole vectors."""
    return (C + LANES - 1) // LANES * LANES


cdef double* buffer(Py_ssize_t n) except NULL:
    """Memory for n sums, which are 0; the caller frees it."""
    cdef double* p = <double*>calloc(n, sizeof(double))
    if p == NULL:
        raise MemoryError(f"no memory for {n} partial sums")
    return p


cdef void add_chunks(const double* parts, Py_ssize_t chunks, Py_ssize_t n, double* out) noexcept nogil:
    """out[n] += the sums of all chunks, parts[chunks][n], in order."""
    cdef Py_ssize_t unit, i
    for unit in range(chunks):
        for i in range(n):
            out[i] += parts[unit * n + i]

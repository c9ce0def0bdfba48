# Small products of blocks that stay in the first-level cache, tile by tile.
#
# The file that includes this one has cimported words/simd.

cdef extern from "attention/attention_tile.h" nogil:
    Py_ssize_t height(Py_ssize_t left) noexcept
    void tile_of(Py_ssize_t high, Py_ssize_t vectors, const float* a, Py_ssize_t row, Py_ssize_t step, Py_ssize_t K,
                 const float* b, Py_ssize_t ldb, float* c, Py_ssize_t ldc, bint add) noexcept


cdef void multiply(const float* a, Py_ssize_t row, Py_ssize_t step, Py_ssize_t M, Py_ssize_t K, Py_ssize_t before,
                   Py_ssize_t after, const float* b, Py_ssize_t ldb, Py_ssize_t vectors, float* c, Py_ssize_t ldc,
                   bint add) noexcept nogil:
    """c[M][vectors*LANES] = a[M][K] @ b[K][vectors*LANES]; where `add` is set, this is added to c. Row i of a is 0 except
    in its columns i - before to i + after."""
    cdef Py_ssize_t i = 0, j, first, end, high
    while i < M:
        high = height(M - i)
        first, end = max(<Py_ssize_t>0, i - before), max(<Py_ssize_t>0, min(K, i + high + after))
        for j from 0 <= j < vectors by 2:
            tile_of(high, min(<Py_ssize_t>2, vectors - j), a + i * row + first * step, row, step, end - first,
                    b + first * ldb + j * LANES, ldb, c + i * ldc + j * LANES, ldc, add)
        i += high

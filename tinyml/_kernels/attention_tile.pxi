# Small products of blocks that stay in the first-level cache: a tile of HIGH rows by two vectors of sums in registers.

cdef extern from *:
    """
    /* where an FMA broadcasts from memory by itself: rows of a tile by one vector, of values that are neighbours in memory */
    enum { BESIDE = LANES == 16 ? 16 : 0 };
    """
    enum: BESIDE

cdef enum:
    HIGH = 2 * WIDE     # 16 accumulators where there are 32 registers, 8 where there are 16


cdef inline void tile(int SIZE, const float* a, Py_ssize_t row, Py_ssize_t step, Py_ssize_t K, const float* b,
                      Py_ssize_t ldb, float* c, Py_ssize_t ldc, bint add) noexcept nogil:
    """c[MR][NV*LANES] = (or, to `add`, +=) sum over k < K of a[i*row + k*step] * b[k*ldb ...].

    SIZE, 2 * MR + NV - 1, is a constant at every call: the loops over MR and NV unroll and `acc` becomes registers. One
    number, because GCC makes a copy of the function for each value of one argument but not of two. Of BESIDE rows `row` is 1.
    """
    cdef int MR = SIZE // 2, NV = 1 + SIZE % 2
    cdef vecf acc[2 * HIGH][2]
    cdef vecf y[2]
    cdef vecf x
    cdef Py_ssize_t k
    cdef int i, j
    if MR == BESIDE:
        row = 1
    for i in range(MR):
        for j in range(NV):
            acc[i][j] = vfzero()
    if add:
        for i in range(MR):
            for j in range(NV):
                acc[i][j] = vfload(c + i * ldc + j * LANES)
    for k in range(K):
        for j in range(NV):
            y[j] = vfload(b + j * LANES)
        for i in range(MR):
            x = vfsplat(a + i * row)
            for j in range(NV):
                acc[i][j] = vfma(acc[i][j], x, y[j])
        a += step
        b += ldb
    for i in range(MR):
        for j in range(NV):
            vfstore(c + i * ldc + j * LANES, acc[i][j])


cdef inline Py_ssize_t height(Py_ssize_t left, Py_ssize_t row) noexcept nogil:
    """Rows of the next tile where `left` are left."""
    if BESIDE and row == 1 and left >= BESIDE:
        return BESIDE
    return HIGH if left >= HIGH else HIGH / 2 if left >= HIGH / 2 else 1


cdef void tile_of(Py_ssize_t high, Py_ssize_t vectors, const float* a, Py_ssize_t row, Py_ssize_t step, Py_ssize_t K,
                  const float* b, Py_ssize_t ldb, float* c, Py_ssize_t ldc, bint add) noexcept nogil:
    """The tile of `high` rows, as height gives them, and one or two vectors."""
    if BESIDE and high == BESIDE:
        tile(2 * BESIDE, a, 1, step, K, b, ldb, c, ldc, add)
        if vectors == 2:
            tile(2 * BESIDE, a, 1, step, K, b + LANES, ldb, c + LANES, ldc, add)
    elif vectors == 2:
        if high == HIGH:
            tile(2 * HIGH + 1, a, row, step, K, b, ldb, c, ldc, add)
        elif high == HIGH / 2:
            tile(HIGH + 1, a, row, step, K, b, ldb, c, ldc, add)
        else:
            tile(3, a, row, step, K, b, ldb, c, ldc, add)
    elif high == HIGH:
        tile(2 * HIGH, a, row, step, K, b, ldb, c, ldc, add)
    elif high == HIGH / 2:
        tile(HIGH, a, row, step, K, b, ldb, c, ldc, add)
    else:
        tile(2, a, row, step, K, b, ldb, c, ldc, add)


cdef void multiply(const float* a, Py_ssize_t row, Py_ssize_t step, Py_ssize_t M, Py_ssize_t K, Py_ssize_t before,
                   Py_ssize_t after, const float* b, Py_ssize_t ldb, Py_ssize_t vectors, float* c, Py_ssize_t ldc,
                   bint add) noexcept nogil:
    """c[M][vectors*LANES] (+)= a[M][K] @ b[K][vectors*LANES], where row i of a is 0 but from i - before to i + after."""
    cdef Py_ssize_t i = 0, j, first, end, high
    while i < M:
        high = height(M - i, row)
        first, end = max(<Py_ssize_t>0, i - before), max(<Py_ssize_t>0, min(K, i + high + after))
        for j from 0 <= j < vectors by 2:
            tile_of(high, min(<Py_ssize_t>2, vectors - j), a + i * row + first * step, row, step, end - first,
                    b + first * ldb + j * LANES, ldb, c + i * ldc + j * LANES, ldc, add)
        i += high

# Rows of a matrix: read as they lie or copied to scratch memory, transposed, scaled.
#
# The file that includes this one has cimported words/simd, words/vmath and memset.

cdef inline Py_ssize_t whole(Py_ssize_t n) noexcept nogil:
    """n, rounded up to whole vectors."""
    return (n + LANES - 1) // LANES * LANES


cdef inline Py_ssize_t lines(Py_ssize_t floats) noexcept nogil:
    """The number of floats, rounded up to whole cache lines."""
    return (floats + 15) // 16 * 16


cdef struct Rows:
    float* at
    Py_ssize_t step         # floats from one row to the next


cdef float* take(float** room, Py_ssize_t floats) noexcept nogil:
    """Take the next floats of scratch, which have cache lines of their own."""
    cdef float* taken = room[0]
    room[0] += lines(floats)
    return taken


cdef Rows rows_of(const float* x, Py_ssize_t step, Py_ssize_t rows, Py_ssize_t columns, float* copy) noexcept nogil:
    """x[rows][columns] as it lies; or, unless `copy` is NULL, a copy there, whose rows are whole vectors with zeros at the
    end."""
    cdef Py_ssize_t i, c, wide = whole(columns)
    cdef Rows r
    r.at, r.step = <float*>x, step
    if copy != NULL:
        for i in range(rows):
            for c from 0 <= c < columns by LANES:
                vfstore(copy + i * wide + c, vfload_n(x + i * step + c, columns - c))
        r.at, r.step = copy, wide
    return r


cdef void fetch(const float* x, Py_ssize_t step, Py_ssize_t first, Py_ssize_t end, Py_ssize_t columns) noexcept nogil:
    """Fetch x[first .. end][columns] into the caches. Each row lies on a page of its own, and a CPU does not fetch the next
    page by itself."""
    cdef Py_ssize_t i, c
    for i in range(first, end):
        for c from 0 <= c < columns by 16:
            vfetch(x + i * step + c)


cdef void put(Rows x, Py_ssize_t rows, Py_ssize_t columns, float* out, Py_ssize_t step) noexcept nogil:
    """out[rows][columns] = x."""
    cdef Py_ssize_t i, c
    for i in range(rows):
        for c from 0 <= c < columns by LANES:
            vfstore_n(out + i * step + c, vfload(x.at + i * x.step + c), columns - c)


cdef void clear(Rows x, Py_ssize_t first, Py_ssize_t end, Py_ssize_t wide) noexcept nogil:
    """Set the rows first .. end to 0."""
    cdef Py_ssize_t i, c
    for i in range(first, end):
        for c from 0 <= c < wide by LANES:
            vfstore(x.at + i * x.step + c, vfzero())


cdef void scale_rows(const float* x, Py_ssize_t rows, Py_ssize_t columns, const float* factor, float* y,
                     Py_ssize_t step) noexcept nogil:
    """y[rows][columns] = x[rows][columns] * factor[rows]. The rows of x are whole vectors."""
    cdef Py_ssize_t i, c, wide = whole(columns)
    cdef vecf f
    for i in range(rows):
        f = vfset(factor[i])
        for c from 0 <= c < columns by LANES:
            vfstore_n(y + i * step + c, vfmul(vfload(x + i * wide + c), f), columns - c)


cdef inline float row_dot(const float* x, const float* y, Py_ssize_t n) noexcept nogil:
    cdef vecf part = vfzero()
    cdef Py_ssize_t i
    for i from 0 <= i < n by LANES:
        part = vfma(part, vfload_n(x + i, n - i), vfload_n(y + i, n - i))
    return vfsum(part)


cdef void transpose(const float* x, Py_ssize_t step, Py_ssize_t rows, Py_ssize_t columns, float factor, float* out,
                    Py_ssize_t width) noexcept nogil:
    """out[columns][width] = factor * x[rows][columns]^T, with zeros beyond `rows`; `width` is a multiple of LANES."""
    cdef Py_ssize_t i, j
    cdef vecf f = vfset(factor)
    if rows < width:
        memset(out, 0, columns * width * sizeof(float))
    for i from 0 <= i < rows by LANES:
        for j from 0 <= j < columns by LANES:
            # with 8 lanes, vtranspose took longer than transpose4
            if LANES == 16 and i + LANES <= rows and j + LANES <= columns:
                vtranspose(x + i * step + j, step, out + j * width + i, width)
            else:
                transpose_edge(x + i * step + j, step, min(<Py_ssize_t>LANES, rows - i),
                               min(<Py_ssize_t>LANES, columns - j), out + j * width + i, width)
    if factor != 1:
        for i from 0 <= i < columns * width by LANES:
            vfstore(out + i, vfmul(vfload(out + i), f))


cdef void transpose_edge(const float* x, Py_ssize_t step, Py_ssize_t rows, Py_ssize_t columns, float* out,
                         Py_ssize_t width) noexcept nogil:
    """Transpose less than LANES x LANES values, in blocks of 4 x 4 as far as possible."""
    cdef Py_ssize_t i, j, whole_rows = rows // 4 * 4, whole_columns = columns // 4 * 4
    for i from 0 <= i < whole_rows by 4:
        for j from 0 <= j < whole_columns by 4:
            transpose4(x + i * step + j, step, 1, out + j * width + i, width)
    for i in range(rows):
        for j in range(whole_columns if i < whole_rows else 0, columns):
            out[j * width + i] = x[i * step + j]

# Products of few rows by weights that are read as they lie in memory. Reading the weights is nearly all that these products
# cost, so they are read once for all rows, and never packed.
#
# A sum has LANES partial sums, each over its k in order, which vfsum adds: it depends neither on threads nor on other rows.
#
# The file that includes this one has cimported words/simd, and uint16_t.

ctypedef fused weight_t:
    float
    uint16_t        # the bits of a float16

cdef enum:
    # CPUs fetch what follows in memory by themselves, but along a single stream not far enough ahead, and not into the next
    # page
    STREAMS = 4     # rows of weights that are read at the same time; they lie far apart
    AHEAD = 2048    # bytes from what is read to what is fetched
    GROUP = 4       # rows of x at a time: GROUP * STREAMS accumulators fit into the registers of AVX-512


cdef struct Product:
    Py_ssize_t M, K, N
    const float* x          # [M][K]
    Py_ssize_t x_matrix, x_row, w_matrix, w_row     # elements from one product to the next, and from one row to the next
    const float* bias       # [N] or NULL
    float* y                # [M][N]


cdef inline vecf load(const weight_t* w, int n) noexcept nogil:
    """The first n weights (LANES where n is larger) as floats, then zeros."""
    if weight_t is float:
        return vfload_n(w, n)
    else:
        return vfload_half_n(w, n)


cdef inline void tile(int MR, const Product* p, const weight_t* w, Py_ssize_t m, Py_ssize_t n, Py_ssize_t step,
                      Py_ssize_t last) noexcept nogil:
    """Compute rows m .. m + MR of the STREAMS outputs n, n + step, ...; for those past `last` it computes `last` again.

    MR is a constant at every call, so the loops over it unroll and `acc` becomes registers.
    """
    cdef vecf acc[GROUP][STREAMS]
    cdef vecf a[GROUP]
    cdef vecf b
    cdef const weight_t* rows[STREAMS]
    cdef const float* x = p.x + m * p.x_row
    cdef Py_ssize_t k, part, at
    cdef float value
    cdef int i, j, left = <int>(p.K % LANES)
    for j in range(STREAMS):
        rows[j] = w + min(n + j * step, last) * p.w_row
        for i in range(MR):
            acc[i][j] = vfzero()
    for part in range(p.K // LANES):
        k = part * LANES
        for i in range(MR):
            a[i] = vfload(x + i * p.x_row + k)
        for j in range(STREAMS):
            vfetch(<const char*>(rows[j] + k) + AHEAD)
            b = load(rows[j] + k, LANES)
            for i in range(MR):
                acc[i][j] = vfma(acc[i][j], a[i], b)
    if left:
        k = p.K - left
        for i in range(MR):
            a[i] = vfload_n(x + i * p.x_row + k, left)
        for j in range(STREAMS):
            b = load(rows[j] + k, left)
            for i in range(MR):
                acc[i][j] = vfma(acc[i][j], a[i], b)
    for j in range(STREAMS):
        at = min(n + j * step, last)
        for i in range(MR):
            value = vfsum(acc[i][j])
            p.y[(m + i) * p.N + at] = value if p.bias == NULL else value + p.bias[at]


cdef void outputs(const Product* whole, const weight_t* w, Py_ssize_t s, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """Compute the outputs first .. end of all rows of product s. Later groups of rows find the weights in the cache."""
    cdef Product p = whole[0]
    cdef Py_ssize_t step = (end - first + STREAMS - 1) // STREAMS, n, m
    p.x += s * p.x_matrix
    p.y += s * p.M * p.N
    w += s * p.w_matrix
    for n in range(first, first + step):
        for m in range(0, p.M - 3, 4):
            tile(4, &p, w, m, n, step, end - 1)
        m = p.M // 4 * 4
        if p.M - m == 3:
            tile(3, &p, w, m, n, step, end - 1)
        elif p.M - m == 2:
            tile(2, &p, w, m, n, step, end - 1)
        elif p.M - m == 1:
            tile(1, &p, w, m, n, step, end - 1)

# Dynamic int8 products of few rows by weights that are read as they lie in memory. Reading the weights is nearly all that
# these products cost, so they are read once for all rows.
#
# The dot products of a vector of weights and a vector of x give LANES partial sums. Those of LANES rows of weights are then
# added up together. The instructions multiply unsigned by signed bytes. Here the weights are the unsigned ones, w + 128:
# what the 128 adds to a sum, 128 * sum x, is the same for all outputs of a row of x and is subtracted at the end.
#
# The file that includes this one has cimported words/simd, words/vmath, memcpy and memset.

include "rows/quantize_row.pxi"

cdef enum:
    BYTES = 4 * LANES       # of a vector
    # Bytes from what is read to what is fetched, 256 to 1024 are as good. It is not fetched into the first-level cache,
    # where the rows often fall into the same set: matrices of 768 x 3072 were then a tenth slower
    AHEAD_BYTES = 512


cdef struct Int8Weights:
    # There is one scale per output (then K is one group), or one per output and group of `group` values along K, 32 or 64
    Py_ssize_t N, K, G, group
    const int8_t* w         # [N][K]
    const float* scale      # [N][G]
    const float* bias       # [N] or NULL


cdef struct Int8Rows:
    # rows of x as the products read them
    Py_ssize_t M
    const int8_t* x         # [M][room_of_row(K)], written by signed_row
    const float* scale      # [M][G]
    const int32_t* offset   # [M][G]: (128 - OFFSET) * sum x, which is to be subtracted


cdef inline Py_ssize_t vectors(Py_ssize_t K) noexcept nogil:
    """How many vectors K bytes fill, the last one perhaps not wholly."""
    return (K + BYTES - 1) // BYTES


cdef inline Py_ssize_t room_of_row(Py_ssize_t K) noexcept nogil:
    """How many bytes signed_row writes."""
    return (vectors(K) + 1) * BYTES


cdef void quantize_groups(const float* x, const Int8Weights* p, float* scale, uint8_t* codes) noexcept nogil:
    """Quantize a row to codes[K] with scale[G]; equation (9)."""
    cdef Py_ssize_t g
    for g in range(p.G):
        quantize_row(x + g * p.group, min(p.group, p.K - g * p.group), scale + g, codes + g * p.group)


cdef void signed_row(const uint8_t* codes, const Int8Weights* p, int8_t* x, int32_t* offset) noexcept nogil:
    """Write the codes q + 128 of a row as signed bytes q in whole vectors, with zeros behind; then one more vector, at
    whose end are those q that do not fill a whole one, with zeros before.

    The end of a row of weights is read as one whole vector too, the last BYTES of the row. What this reads a second time is
    multiplied by the zeros.
    """
    cdef Py_ssize_t k, g, end, wide = vectors(p.K) * BYTES, left = p.K % BYTES
    cdef int32_t total
    for k in range(p.K):
        x[k] = <int8_t>(codes[k] ^ 128)
    memset(x + p.K, 0, wide + BYTES - p.K)
    memcpy(x + wide + BYTES - left, x + p.K - left, left)
    for g in range(p.G):
        total, end = 0, min(p.K, (g + 1) * p.group)
        for k in range(g * p.group, end):
            total += x[k]
        offset[g] = (128 - OFFSET) * total


cdef inline void dots(const int8_t* w, Py_ssize_t step, Py_ssize_t K, const int8_t* x, Py_ssize_t first, Py_ssize_t end,
                      vec* halves) noexcept nogil:
    """The sums over k from `first` to `end` of LANES rows of weights, which are `step` apart, times x. The first and the
    second halves of the vectors have sums of their own: see vsum_halves."""
    cdef vec sums[LANES]
    cdef vec a
    cdef Py_ssize_t k = first + BYTES
    cdef bint tail = k > end
    cdef const int8_t* v = w + (K - BYTES if tail else first)
    cdef int i
    a = vload(x + (vectors(K) * BYTES if tail else first))
    for i in range(LANES):
        vfetch_far(v + i * step + AHEAD_BYTES)
        sums[i] = vdot4(vzero(), vload_signed(v + i * step), a)
    while k + BYTES <= end:
        a = vload(x + k)
        for i in range(LANES):
            vfetch_far(w + i * step + k + AHEAD_BYTES)
            sums[i] = vdot4(sums[i], vload_signed(w + i * step + k), a)
        k += BYTES
    if k < end:
        a = vload(x + vectors(K) * BYTES)
        for i in range(LANES):
            sums[i] = vdot4(sums[i], vload_signed(w + i * step + K - BYTES), a)
    vsum_halves(sums, halves)


cdef inline vecf scale_sums(const Int8Weights* p, const Int8Rows* x, Py_ssize_t m, Py_ssize_t g, const float* scale,
                            vec sums) noexcept nogil:
    """The exact sums of group g as floats, times the scales of row m and of the weights, scale[G][LANES]; equation (9)."""
    sums = vsub(sums, vsplat(x.offset[m * p.G + g]))
    return vfmul(to_float(sums), vfmul(vfset(x.scale[m * p.G + g]), vfload(scale + g * LANES)))


cdef inline vecf block(const Int8Weights* p, const Int8Rows* x, Py_ssize_t m, const int8_t* w, Py_ssize_t step,
                       Py_ssize_t K, const float* scale) noexcept nogil:
    """LANES outputs of row m, summed group by group."""
    cdef vec halves[2]
    cdef vecf sums = vfzero()
    cdef Py_ssize_t k = 0, g = 0
    cdef const int8_t* row = x.x + m * room_of_row(p.K)
    if p.group >= BYTES:
        for g in range(p.G):
            dots(w, step, K, row, k, k + p.group if g + 1 < p.G else K, halves)
            sums = vfadd(sums, scale_sums(p, x, m, g, scale, vadd(halves[0], halves[1])))
            k += p.group
        return sums
    # a vector has two groups; but where it is the end of a row, only its second half may have one
    while g < p.G:
        dots(w, step, K, row, k, min(k + BYTES, K), halves)
        if k + BYTES <= K:
            sums = vfadd(sums, scale_sums(p, x, m, g, scale, halves[0]))
            g += 1
        if g < p.G:
            sums = vfadd(sums, scale_sums(p, x, m, g, scale, halves[1]))
        g += 1
        k += BYTES
    return sums


cdef inline Py_ssize_t room_of_block(const Int8Weights* p) noexcept nogil:
    """How many bytes of scratch int8_outputs needs."""
    return LANES * (vectors(p.K) * BYTES + p.G * <Py_ssize_t>sizeof(float))


cdef void int8_outputs(const Int8Weights* p, const Int8Rows* x, Py_ssize_t first, Py_ssize_t end, float* y, Py_ssize_t ldy,
                       float* room) noexcept nogil:
    """Compute the outputs first .. end of all rows in y[M][ldy]. `room` has room_of_block bytes.

    LANES rows of weights, which lie far apart, are read at the same time, and after each of them the one that follows it in
    memory: CPUs fetch long streams ahead.
    """
    cdef Py_ssize_t span = (end - first) // LANES, n, left = end - first - span * LANES
    for n in range(span):
        some_rows(p, x, first + n, span, LANES, y, ldy, room)
    if left:
        some_rows(p, x, end - left, 1, left, y, ldy, room)


cdef void some_rows(const Int8Weights* p, const Int8Rows* x, Py_ssize_t n, Py_ssize_t apart, Py_ssize_t rows, float* y,
                    Py_ssize_t ldy, float* room) noexcept nogil:
    """Compute the outputs n, n + apart, ..., `rows` of them."""
    cdef Py_ssize_t m, g, j, step = apart * p.K, K = p.K
    cdef const int8_t* w = p.w + n * p.K
    cdef int8_t* copy = <int8_t*>(room + LANES * p.G)
    cdef float[LANES] sums
    if rows < LANES or K < BYTES:
        # nothing may be read beyond the weights: they are copied, with zeros that complete vectors and rows
        K = vectors(p.K) * BYTES
        memset(copy, 0, LANES * K)
        for j in range(rows):
            memcpy(copy + j * K, w + j * step, p.K)
        w, step = copy, K
    for j in range(rows):
        for g in range(p.G):
            room[g * LANES + j] = p.scale[(n + j * apart) * p.G + g]
    for m in range(x.M):
        vfstore(sums, block(p, x, m, w, step, K, room))
        for j in range(rows):
            y[m * ldy + n + j * apart] = sums[j] if p.bias == NULL else sums[j] + p.bias[n + j * apart]

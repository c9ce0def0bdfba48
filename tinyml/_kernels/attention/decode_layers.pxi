# The layers of decode.pyx, which work on rows of one position each: what describes them, embeddings, norms, products,
# attention.
#
# The file that includes this one has included few_rows.pxi, dynamic_linear_few_rows.pxi and activation.pxi (products),
# norm_rows.pxi (rows), rotary_pairs.pxi and attend.pxi.

cdef enum:
    FLOAT = 0       # how weights, or keys and values, are stored
    HALF = 1
    INT8 = 2
    SMALL = 1 << 17         # for fewer bytes of weights or keys, a second thread costs more than it gains


cdef struct Linear:
    # rows of weights (N, K), which may be the rows of an embedding
    int kind
    Int8Weights w           # where the kind is not INT8, only N, K and bias are set
    const void* data


cdef struct Norm:
    bint rms
    float eps
    const float* gamma
    const float* beta       # NULL for rms


cdef struct Cache:
    void* keys              # [B][kv][capacity][D]
    void* values
    float* key_scale        # [B][kv][capacity], NULL unless they are stored as INT8
    float* value_scale
    int64_t* lengths        # [B]: how many positions each row has


cdef struct Layer:
    Norm norm1
    Linear qkv
    Linear proj
    Norm norm2
    Linear gate             # N is 0 where the feed-forward has none
    Linear up
    Linear down
    Cache cache


cdef struct Model:
    Py_ssize_t B, C, heads, kv, D, hidden, capacity
    int stored, activation
    bint interleaved
    Linear tokens
    Linear positions        # N is 0 where they are rotary
    const float* cos        # [capacity][D/2]
    const float* sin
    Py_ssize_t count
    Layer* layers
    Norm norm
    Linear head
    # scratch
    float* x                # the residual stream, [B][C]
    float* h                # what a norm or attention gives, [B][max(C, hidden)]
    float* qkv
    float* up               # the values of the feed-forward, [B][max(C, hidden)], and those of its gate
    float* gate
    float* weights          # of attention, [threads][capacity in whole vectors]
    uint8_t* codes          # a row that is quantized for an int8 product, then the rows as the product reads them
    int8_t* signed
    float* scale
    int32_t* offset
    float* room             # [threads][room_of_block]
    Py_ssize_t room_step


cdef inline Py_ssize_t vector_room(Py_ssize_t n) noexcept nogil:
    return (n + LANES - 1) // LANES * LANES


# -- layers ------------------------------------------------------------------------------------------------------------

cdef void embed(const Linear* table, int64_t row, float* y, bint add) noexcept nogil:
    """y[K] = a row of the table; where `add` is set, it is added to y."""
    cdef Py_ssize_t k, K = table.w.K
    cdef const float* scale = table.w.scale + row * table.w.G
    cdef vecf v
    cdef int n
    for k from 0 <= k < K by LANES:
        n = <int>min(K - k, <Py_ssize_t>LANES)
        if table.kind == FLOAT:
            v = vfload_n(<const float*>table.data + row * K + k, n)
        elif table.kind == HALF:
            v = vfload_half_n(<const uint16_t*>table.data + row * K + k, n)
        else:       # a vector lies within one group
            v = vfmul(to_float(vload_signed_n(table.w.w + row * K + k, n)), vfset(scale[k // table.w.group]))
        if add:
            v = vfadd(vfload_n(y + k, n), v)
        vfstore_n(y + k, v, n)


cdef void normalize(const Norm* p, const float* x, Py_ssize_t rows, Py_ssize_t C, float* y) noexcept nogil:
    cdef float mean, rstd
    cdef Py_ssize_t b
    for b in range(rows):
        if p.rms:
            rms_rows(x + b * C, 1, C, p.eps, p.gamma, y + b * C, &rstd)
        else:
            layer_rows(x + b * C, 1, C, p.eps, p.gamma, p.beta, y + b * C, &mean, &rstd)


cdef void some_outputs(const Linear* l, const Product* floats, const Int8Rows* codes, Py_ssize_t part, Py_ssize_t parts,
                       float* room) noexcept nogil:
    """Compute the part of the outputs of a product that one thread takes."""
    cdef Py_ssize_t N = l.w.N, blocks = (N + LANES - 1) // LANES
    if l.kind == INT8:
        int8_outputs(&l.w, codes, blocks * part // parts * LANES, min(N, blocks * (part + 1) // parts * LANES), floats.y, N,
                     room)
    elif l.kind == HALF:
        outputs(floats, <const uint16_t*>l.data, 0, N * part // parts, N * (part + 1) // parts)
    else:
        outputs(floats, <const float*>l.data, 0, N * part // parts, N * (part + 1) // parts)


cdef void linear(const Model* s, const Linear* l, const float* x, float* y, int threads) noexcept nogil:
    """y[B][N] = x[B][K] @ weights^T + bias. For int8 weights x is quantized per row and group; equation (9)."""
    cdef Product floats
    cdef Int8Rows codes
    cdef Py_ssize_t b, part, parts = threads if l.w.N * l.w.K * (4 >> l.kind) >= SMALL else 1
    floats.M, floats.K, floats.N = s.B, l.w.K, l.w.N
    floats.x, floats.x_matrix, floats.x_row, floats.w_matrix, floats.w_row = x, 0, l.w.K, 0, l.w.K
    floats.bias, floats.y = l.w.bias, y
    codes.M, codes.x, codes.scale, codes.offset = s.B, s.signed, s.scale, s.offset
    if l.kind == INT8:
        for b in range(s.B):
            quantize_groups(x + b * l.w.K, &l.w, s.scale + b * l.w.G, s.codes)
            signed_row(s.codes, &l.w, s.signed + b * room_of_row(l.w.K), s.offset + b * l.w.G)
    if parts == 1:
        some_outputs(l, &floats, &codes, 0, 1, s.room)
    else:
        for part in prange(parts, num_threads=threads, schedule="static", chunksize=1):
            some_outputs(l, &floats, &codes, part, parts, s.room + part * s.room_step)


cdef void add(float* x, const float* y, Py_ssize_t n) noexcept nogil:
    """x[n] += y[n]."""
    cdef Py_ssize_t i
    for i from 0 <= i < n by LANES:
        vfstore_n(x + i, vfadd(vfload_n(x + i, n - i), vfload_n(y + i, n - i)), n - i)


cdef void multiply(float* x, const float* y, Py_ssize_t n) noexcept nogil:
    """x[n] *= y[n]."""
    cdef Py_ssize_t i
    for i from 0 <= i < n by LANES:
        vfstore_n(x + i, vfmul(vfload_n(x + i, n - i), vfload_n(y + i, n - i)), n - i)


# -- attention ---------------------------------------------------------------------------------------------------------

cdef void rotate(const Model* s, float* x, int64_t position) noexcept nogil:
    """Rotate the pairs of x[D] by the angles of a position."""
    cdef Py_ssize_t half = s.D // 2
    if s.interleaved:
        rotate_neighbours(x, s.cos + position * half, s.sin + position * half, 1, half, x)
    else:
        rotate_halves(x, s.cos + position * half, s.sin + position * half, vfset(1), half, x)


cdef void store(const Model* s, const float* x, void* kept, float* scale, Py_ssize_t at) noexcept nogil:
    """Store x[D] at position `at` of an array of a cache."""
    cdef Py_ssize_t i
    if s.stored == FLOAT:
        memcpy(<float*>kept + at * s.D, x, s.D * sizeof(float))
    elif s.stored == HALF:
        for i in range(s.D):
            (<uint16_t*>kept)[at * s.D + i] = half_of(x[i])
    else:
        quantize_row(x, s.D, scale + at, <uint8_t*>kept + at * s.D)


cdef void attend_group(const Model* s, const Cache* c, Py_ssize_t unit, float* p) noexcept nogil:
    """Store the key and value of one head of one row; then each head of queries that shares them attends to all
    positions."""
    cdef Py_ssize_t b = unit // s.kv, g = unit % s.kv, group = s.heads // s.kv, D = s.D, i
    cdef int64_t position = c.lengths[b]
    cdef Py_ssize_t first = unit * s.capacity
    cdef float* q = s.qkv + b * (s.heads + 2 * s.kv) * D + g * group * D
    cdef float* k = s.qkv + (b * (s.heads + 2 * s.kv) + s.heads + g) * D
    cdef float* y = s.h + b * s.C + g * group * D
    cdef float scale = 1 / sqrt(<double>D)
    if s.positions.w.N == 0:
        rotate(s, k, position)
        for i in range(group):
            rotate(s, q + i * D, position)
    store(s, k, c.keys, c.key_scale, first + position)
    store(s, k + s.kv * D, c.values, c.value_scale, first + position)
    for i in range(group):
        if s.stored == FLOAT:
            attend(q + i * D, <const float*>c.keys + first * D, <const float*>c.values + first * D, NULL, NULL,
                   position + 1, D, scale, p, y + i * D)
        elif s.stored == HALF:
            attend(q + i * D, <const uint16_t*>c.keys + first * D, <const uint16_t*>c.values + first * D, NULL, NULL,
                   position + 1, D, scale, p, y + i * D)
        else:
            attend(q + i * D, <const uint8_t*>c.keys + first * D, <const uint8_t*>c.values + first * D,
                   c.key_scale + first, c.value_scale + first, position + 1, D, scale, p, y + i * D)


cdef void some_groups(const Model* s, const Cache* c, Py_ssize_t first, Py_ssize_t end, float* p) noexcept nogil:
    cdef Py_ssize_t unit
    for unit in range(first, end):
        attend_group(s, c, unit, p)


cdef void attention(const Model* s, const Cache* c, int threads) noexcept nogil:
    """s.h[B][C] = the results of attention of all heads of s.qkv."""
    cdef Py_ssize_t units = s.B * s.kv, parts = 1, part, b, read = 0
    for b in range(s.B):
        read += c.lengths[b]
    if read * s.kv * s.D >= SMALL:
        parts = min(<Py_ssize_t>threads, units)
    if parts == 1:
        some_groups(s, c, 0, units, s.weights)
    else:
        for part in prange(parts, num_threads=threads, schedule="static", chunksize=1):
            some_groups(s, c, units * part // parts, units * (part + 1) // parts,
                        s.weights + part * vector_room(s.capacity))


cdef int most_likely(const float* logits, Py_ssize_t n, int64_t* best) noexcept nogil:
    """best = the index of the largest logit, of equal ones the first. Returns 1 where a logit is not finite, else 0."""
    cdef vecf top = vfset(-INFINITY), bad = vfzero(), v
    cdef Py_ssize_t i
    cdef float largest
    for i from 0 <= i < n by LANES:
        v = vfload_or(logits + i, n - i, vfset(logits[0]))
        top = vfmax(v, top)
        bad = vfadd(bad, vfsub(v, v))
    largest, i = vfmax_lanes(top), 0
    best[0] = 0
    if vfsum(bad) != 0:
        return 1
    while logits[i] != largest:
        i += 1
    best[0] = i
    return 0

# The layers of decode.pyx, on rows of one position each: what describes them, embeddings, norms, products, attention.

cdef enum:
    FLOAT = 0       # how weights, or keys and values, are stored
    HALF = 1
    INT8 = 2
    GELU = 0
    GELU_TANH = 1
    SWIGLU = 2
    SMALL = 1 << 17         # bytes of weights or keys below which a second thread costs more than it gains


cdef struct Linear:
    # rows of weights (N, K), also the rows of an embedding
    int kind
    Int8Weights w           # of other kinds than INT8: N, K and bias only
    const void* data


cdef struct Norm:
    bint rms
    float eps
    const float* gamma
    const float* beta       # NULL for rms


cdef struct Cache:
    void* keys              # [B][kv][capacity][D]
    void* values
    float* key_scale        # [B][kv][capacity], NULL but for INT8
    float* value_scale
    int64_t* lengths        # [B]: positions that are there


cdef struct Layer:
    Norm norm1
    Linear qkv
    Linear proj
    Norm norm2
    Linear gate             # of SWIGLU
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
    # scratch: the residual stream [B][C], a normed or attended row [B][max(C, hidden)], qkv, two of the feed-forward's
    float* x
    float* h
    float* qkv
    float* up
    float* gate
    float* weights          # of attention, [threads][capacity in whole vectors]
    uint8_t* codes          # of the rows that an int8 product reads, as they are quantized and as it reads them
    int8_t* signed
    float* scale
    int32_t* offset
    float* room             # [threads][room_of_block]
    Py_ssize_t room_step


cdef inline Py_ssize_t vector_room(Py_ssize_t n) noexcept nogil:
    return (n + LANES - 1) // LANES * LANES


# -- layers ------------------------------------------------------------------------------------------------------------

cdef int embed(const Linear* table, int64_t row, float* y, bint add) noexcept nogil:
    """y[K] = row of the table (added)."""
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
        else:       # a vector is in one group
            v = vfmul(to_float(vload_signed_n(table.w.w + row * K + k, n)), vfset(scale[k // table.w.group]))
        if add:
            v = vfadd(vfload_n(y + k, n), v)
        vfstore_n(y + k, v, n)
    return 0


cdef int normalize(const Norm* p, const float* x, Py_ssize_t rows, Py_ssize_t C, float* y) noexcept nogil:
    cdef float mean, rstd
    cdef Py_ssize_t b
    for b in range(rows):
        if p.rms:
            rms_rows(x + b * C, 1, C, p.eps, p.gamma, y + b * C, &rstd)
        else:
            layer_rows(x + b * C, 1, C, p.eps, p.gamma, p.beta, y + b * C, &mean, &rstd)
    return 0


cdef int some_outputs(const Linear* l, const Product* floats, const Int8Rows* codes, Py_ssize_t part, Py_ssize_t parts,
                      float* room) noexcept nogil:
    """A thread's part of the outputs of a product."""
    cdef Py_ssize_t N = l.w.N, blocks = (N + LANES - 1) // LANES
    if l.kind == INT8:
        int8_outputs(&l.w, codes, blocks * part // parts * LANES, min(N, blocks * (part + 1) // parts * LANES), floats.y, N,
                     room)
    elif l.kind == HALF:
        outputs(floats, <const uint16_t*>l.data, 0, N * part // parts, N * (part + 1) // parts)
    else:
        outputs(floats, <const float*>l.data, 0, N * part // parts, N * (part + 1) // parts)
    return 0


cdef int linear(const Model* s, const Linear* l, const float* x, float* y, int threads) noexcept nogil:
    """y[B][N] = x[B][K] @ weights^T + bias; int8 weights: x quantized per row and group, design (9)."""
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
    return 0


cdef int add(float* x, const float* y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i from 0 <= i < n by LANES:
        vfstore_n(x + i, vfadd(vfload_n(x + i, n - i), vfload_n(y + i, n - i)), n - i)
    return 0


cdef int activate(const Model* s, Py_ssize_t n) noexcept nogil:
    """s.up = gelu(s.up), or silu(s.gate) * s.up."""
    cdef Py_ssize_t i
    cdef vecf v
    for i from 0 <= i < n by LANES:
        v = vfload_n(s.up + i, n - i)
        if s.activation == GELU:
            v = vgelu(v)
        elif s.activation == GELU_TANH:
            v = vgelu_tanh(v)
        else:
            v = vfmul(vsilu(vfload_n(s.gate + i, n - i)), v)
        vfstore_n(s.up + i, v, n - i)
    return 0


# -- attention ---------------------------------------------------------------------------------------------------------

cdef int turn(const Model* s, float* x, int64_t position) noexcept nogil:
    cdef Py_ssize_t half = s.D // 2
    if s.interleaved:
        neighbours(x, s.cos + position * half, s.sin + position * half, 1, half, x)
    else:
        halves(x, s.cos + position * half, s.sin + position * half, vfset(1), half, x)
    return 0


cdef int store(const Model* s, const float* x, void* kept, float* scale, Py_ssize_t at) noexcept nogil:
    """Put x[D] at position `at` of a cache's array."""
    cdef Py_ssize_t i
    if s.stored == FLOAT:
        memcpy(<float*>kept + at * s.D, x, s.D * sizeof(float))
    elif s.stored == HALF:
        for i in range(s.D):
            (<uint16_t*>kept)[at * s.D + i] = half_of(x[i])
    else:
        quantize_row(x, s.D, scale + at, <uint8_t*>kept + at * s.D)
    return 0


cdef int attend_group(const Model* s, const Cache* c, Py_ssize_t unit, float* p) noexcept nogil:
    """A head of keys and values of one row: they are kept, then each head of queries that shares them attends to all."""
    cdef Py_ssize_t b = unit // s.kv, g = unit % s.kv, group = s.heads // s.kv, D = s.D, i
    cdef int64_t position = c.lengths[b]
    cdef Py_ssize_t first = unit * s.capacity
    cdef float* q = s.qkv + b * (s.heads + 2 * s.kv) * D + g * group * D
    cdef float* k = s.qkv + (b * (s.heads + 2 * s.kv) + s.heads + g) * D
    cdef float* y = s.h + b * s.C + g * group * D
    cdef float scale = 1 / sqrt(<double>D)
    if s.positions.w.N == 0:
        turn(s, k, position)
        for i in range(group):
            turn(s, q + i * D, position)
    store(s, k, c.keys, c.key_scale, first + position)
    store(s, k + s.kv * D, c.values, c.value_scale, first + position)
    for i in range(group):
        if s.stored == FLOAT:
            attend(q + i * D, <const float*>c.keys + first * D, <const float*>c.values + first * D, NULL, NULL, position + 1,
                   D, scale, p, y + i * D)
        elif s.stored == HALF:
            attend(q + i * D, <const uint16_t*>c.keys + first * D, <const uint16_t*>c.values + first * D, NULL, NULL,
                   position + 1, D, scale, p, y + i * D)
        else:
            attend(q + i * D, <const uint8_t*>c.keys + first * D, <const uint8_t*>c.values + first * D,
                   c.key_scale + first, c.value_scale + first, position + 1, D, scale, p, y + i * D)
    return 0


cdef int some_groups(const Model* s, const Cache* c, Py_ssize_t first, Py_ssize_t end, float* p) noexcept nogil:
    cdef Py_ssize_t unit
    for unit in range(first, end):
        attend_group(s, c, unit, p)
    return 0


cdef int attention(const Model* s, const Cache* c, int threads) noexcept nogil:
    """s.h[B][C] = what each head of s.qkv attends to."""
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
    return 0


cdef int most_likely(const float* logits, Py_ssize_t n, int64_t* best) noexcept nogil:
    """The index of the largest logit, the first of equals; whether one is not finite."""
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

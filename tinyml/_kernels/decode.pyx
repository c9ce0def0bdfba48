# One decoded token: from the next id of each row to its logits, through all layers of a GPT, in one call.
#
# The layers are described once, as pointers to arrays that Python holds. What a step costs is reading the weights (float32,
# float16 or int8, as they lie) and the keys and values of the positions before. `forward` below is the whole model.
from cython.parallel cimport prange
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from tinyml._kernels.simd cimport *
from tinyml._kernels.vmath cimport *

include "rows_float.pxi"
include "rows_int8.pxi"
include "norm_rows.pxi"
include "quantize_row.pxi"
include "rotary_pairs.pxi"
include "attend.pxi"

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
    cdef Py_ssize_t b, g, part, parts = threads if l.w.N * l.w.K * (4 >> l.kind) >= SMALL else 1
    floats.M, floats.K, floats.N = s.B, l.w.K, l.w.N
    floats.x, floats.x_matrix, floats.x_row, floats.w_matrix, floats.w_row = x, 0, l.w.K, 0, l.w.K
    floats.bias, floats.y = l.w.bias, y
    codes.M, codes.x, codes.scale, codes.offset = s.B, s.signed, s.scale, s.offset
    if l.kind == INT8:
        for b in range(s.B):
            for g in range(l.w.G):
                quantize_row(x + b * l.w.K + g * l.w.group, min(l.w.group, l.w.K - g * l.w.group), s.scale + b * l.w.G + g,
                             s.codes + g * l.w.group)
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


# -- the model ---------------------------------------------------------------------------------------------------------

cdef int forward(const Model* s, const int64_t* ids, float* logits, int threads) noexcept nogil:
    """Logits [B][V] of the ids that come next in each row; their keys and values are kept."""
    cdef Py_ssize_t i, b
    cdef Layer* l
    for b in range(s.B):
        embed(&s.tokens, ids[b], s.x + b * s.C, False)
        if s.positions.w.N:
            embed(&s.positions, s.layers[0].cache.lengths[b], s.x + b * s.C, True)
    for i in range(s.count):
        l = &s.layers[i]
        normalize(&l.norm1, s.x, s.B, s.C, s.h)
        linear(s, &l.qkv, s.h, s.qkv, threads)
        attention(s, &l.cache, threads)
        linear(s, &l.proj, s.h, s.up, threads)
        add(s.x, s.up, s.B * s.C)
        normalize(&l.norm2, s.x, s.B, s.C, s.h)
        linear(s, &l.up, s.h, s.up, threads)
        if s.activation == SWIGLU:
            linear(s, &l.gate, s.h, s.gate, threads)
        activate(s, s.B * s.hidden)
        linear(s, &l.down, s.up, s.h, threads)
        add(s.x, s.h, s.B * s.C)
    normalize(&s.norm, s.x, s.B, s.C, s.h)
    linear(s, &s.head, s.h, logits, threads)
    for i in range(s.count):
        for b in range(s.B):
            s.layers[i].cache.lengths[b] += 1
    return 0


# -- from Python -------------------------------------------------------------------------------------------------------

cdef class DecodeStep:
    """A GPT's layers and the caches of its rows, bound: step(ids) gives the logits that come after them.

    Every array is contiguous; a linear layer, or an embedding, is (weights (N, K), scales (N, G) or None, group or 0, bias
    or None), a norm (gamma, beta or None, eps), a cache (keys, values, their scales or None, lengths).
    """

    cdef Model s
    cdef object kept        # the arrays, so that they outlive the pointers
    cdef float* memory
    cdef readonly Py_ssize_t vocabulary

    def __cinit__(self):
        self.s.layers = NULL
        self.memory = NULL

    def __dealloc__(self):
        free(self.s.layers)
        free(self.memory)

    def __init__(self, Py_ssize_t heads, Py_ssize_t kv_heads, bint rms, int activation, bint interleaved, tokens, positions,
                 cos, sin, list blocks, norm, head, list caches, int most_threads):
        cdef Model* s = &self.s
        cdef Py_ssize_t i, K
        cdef const float[:, ::1] table
        self.kept = (tokens, positions, cos, sin, blocks, norm, head, caches)
        s.heads, s.kv, s.activation, s.interleaved, s.count = heads, kv_heads, activation, interleaved, len(blocks)
        linear_of(&s.tokens, tokens)
        linear_of(&s.head, head)
        norm_of(&s.norm, norm, rms)
        s.C = s.tokens.w.K
        s.D = s.C // heads
        if positions is None:
            s.positions.w.N = 0
            table = cos
            s.cos = &table[0, 0]
            table = sin
            s.sin = &table[0, 0]
        else:
            linear_of(&s.positions, positions)
        s.layers = <Layer*>calloc(s.count, sizeof(Layer))
        if s.layers == NULL:
            raise MemoryError("DecodeStep: no memory for the layers")
        for i in range(s.count):
            norm_of(&s.layers[i].norm1, blocks[i]["norm1"], rms)
            norm_of(&s.layers[i].norm2, blocks[i]["norm2"], rms)
            linear_of(&s.layers[i].qkv, blocks[i]["qkv"])
            linear_of(&s.layers[i].proj, blocks[i]["proj"])
            linear_of(&s.layers[i].up, blocks[i]["up"])
            linear_of(&s.layers[i].down, blocks[i]["down"])
            if activation == SWIGLU:
                linear_of(&s.layers[i].gate, blocks[i]["gate"])
            cache_of(&s.layers[i].cache, caches[i])
        s.hidden = s.layers[0].up.w.N
        s.B, s.capacity = caches[0][0].shape[0], caches[0][0].shape[2]
        s.stored = caches[0][0].dtype.itemsize
        s.stored = FLOAT if s.stored == 4 else HALF if s.stored == 2 else INT8
        self.vocabulary = s.head.w.N
        K = max(s.C, s.hidden)
        self.divide(K, most_threads)

    cdef int divide(self, Py_ssize_t K, int threads) except -1:
        """One block of memory for all scratch; in the second round the pointers are set."""
        cdef Model* s = &self.s
        cdef Py_ssize_t B = s.B, group = 32, floats, rows = B * room_of_row(K) // 4
        cdef Py_ssize_t qkv = (s.heads + 2 * s.kv) * s.D
        cdef Int8Weights widest
        widest.K, widest.G = K, (K + group - 1) // group
        s.room_step = room_of_block(&widest) // 4 + 16
        floats = (B * (3 * K + s.C + qkv + K) + threads * (vector_room(s.capacity) + s.room_step) + 2 * B * widest.G
                  + rows + room_of_row(K) // 4 + 16 * 16)
        self.memory = <float*>calloc(floats, sizeof(float))
        if self.memory == NULL:
            raise MemoryError(f"DecodeStep: no memory for {floats} values")
        s.x = self.memory
        s.h = s.x + vector_room(B * s.C)
        s.up = s.h + vector_room(B * K)
        s.gate = s.up + vector_room(B * K)
        s.qkv = s.gate + vector_room(B * K)
        s.weights = s.qkv + vector_room(B * qkv)
        s.scale = s.weights + threads * vector_room(s.capacity)
        s.offset = <int32_t*>(s.scale + vector_room(B * widest.G))
        s.codes = <uint8_t*>(s.scale + 2 * vector_room(B * widest.G))
        s.signed = <int8_t*>(s.codes + 4 * vector_room(room_of_row(K) // 4))
        s.room = <float*>(s.signed + 4 * vector_room(rows))
        return 0

    def __call__(self, const int64_t[::1] ids, float[:, ::1] logits, int threads):
        """logits[B][V] of the ids [B] that come next; the caches have one position more afterwards.

        Raises:
            IndexError: an id outside the vocabulary, or a row whose cache is full.
        """
        cdef Py_ssize_t b
        cdef const int64_t* lengths = self.s.layers[0].cache.lengths
        if ids.shape[0] != self.s.B or logits.shape[0] != self.s.B or logits.shape[1] != self.vocabulary:
            raise IndexError(f"decode: expected {self.s.B} ids and logits of {self.vocabulary}")
        for b in range(self.s.B):
            if not 0 <= ids[b] < self.s.tokens.w.N:
                raise IndexError(f"decode: expected ids in [0, {self.s.tokens.w.N}), got {ids[b]}")
            if not 0 <= lengths[b] < self.s.capacity:
                raise IndexError(f"decode: the {self.s.capacity} positions of row {b} are full")
        with nogil:
            forward(&self.s, &ids[0], &logits[0, 0], threads)


cdef int linear_of(Linear* l, tuple parts) except -1:
    cdef const float[:, ::1] floats
    cdef const uint16_t[:, ::1] halves_
    cdef const int8_t[:, ::1] codes
    cdef const float[::1] bias
    cdef Py_ssize_t group
    w, scale, group, b = parts
    memset(&l.w, 0, sizeof(Int8Weights))
    l.w.N, l.w.K = w.shape
    l.w.bias = NULL
    if b is not None:
        bias = b
        l.w.bias = &bias[0]
    if w.dtype.itemsize == 4:
        floats = w
        l.kind, l.data = FLOAT, &floats[0, 0]
    elif w.dtype.itemsize == 2:
        halves_ = w.view("uint16")
        l.kind, l.data = HALF, &halves_[0, 0]
    else:
        codes, floats = w, scale
        l.kind, l.data = INT8, &codes[0, 0]
        l.w.w, l.w.scale, l.w.G = &codes[0, 0], &floats[0, 0], floats.shape[1]
        l.w.group = group if l.w.G > 1 else max(l.w.K, <Py_ssize_t>BYTES)
    return 0


cdef int norm_of(Norm* n, tuple parts, bint rms) except -1:
    cdef const float[::1] v = parts[0]
    n.rms, n.eps, n.gamma, n.beta = rms, parts[2], &v[0], NULL
    if not rms:
        v = parts[1]
        n.beta = &v[0]
    return 0


cdef int cache_of(Cache* c, tuple parts) except -1:
    cdef float[:, :, ::1] scale
    cdef int64_t[::1] lengths = parts[4]
    cdef uint8_t[:, :, :, ::1] bytes
    c.lengths, c.key_scale, c.value_scale = &lengths[0], NULL, NULL
    bytes = parts[0].view("uint8")
    c.keys = &bytes[0, 0, 0, 0]
    bytes = parts[1].view("uint8")
    c.values = &bytes[0, 0, 0, 0]
    if parts[2] is not None:
        scale = parts[2]
        c.key_scale = &scale[0, 0, 0]
        scale = parts[3]
        c.value_scale = &scale[0, 0, 0]
    return 0

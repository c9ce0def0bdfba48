# Decodes one token: from the next id of each row to its logits, through all layers of a GPT, in one call.
#
# The layers are described once, by pointers to arrays that Python holds. A step costs what it takes to read the weights,
# which are float32, float16 or int8 and read as they lie, and the keys and values of earlier positions. `forward` below is
# the whole model; decode_layers.pxi has its layers.
from cython.parallel cimport prange
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from tinyml._kernels.words.simd cimport *
from tinyml._kernels.words.vmath cimport *

include "products/few_rows.pxi"
include "products/dynamic_linear_few_rows.pxi"
include "rows/norm_rows.pxi"
include "rotary_pairs.pxi"
include "attend.pxi"
include "products/activation.pxi"
include "decode_layers.pxi"


# -- the model ---------------------------------------------------------------------------------------------------------

cdef int forward(const Model* s, const int64_t* ids, float* logits, int64_t* best, int threads) noexcept nogil:
    """Compute logits[B][V] after the ids that come next in each row, and best[B], the ids of the largest logits. The keys
    and values of these ids are added to the caches. Returns how many rows have logits that are not finite."""
    cdef Py_ssize_t i, b
    cdef int bad = 0
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
        if l.gate.w.N:      # SwiGLU
            linear(s, &l.gate, s.h, s.gate, threads)
            activate(s.activation, s.gate, 0, 1, s.B * s.hidden)
            multiply(s.up, s.gate, s.B * s.hidden)
        else:
            activate(s.activation, s.up, 0, 1, s.B * s.hidden)
        linear(s, &l.down, s.up, s.h, threads)
        add(s.x, s.h, s.B * s.C)
    normalize(&s.norm, s.x, s.B, s.C, s.h)
    linear(s, &s.head, s.h, logits, threads)
    for i in range(s.count):
        for b in range(s.B):
            s.layers[i].cache.lengths[b] += 1
    for b in range(s.B):
        bad += most_likely(logits + b * s.head.w.N, s.head.w.N, best + b)
    return bad


# -- from Python -------------------------------------------------------------------------------------------------------

cdef class DecodeStep:
    """The layers of a GPT and the caches of its rows, bound once: a call computes the logits that follow the ids it is
    given.

    Every array is contiguous. A linear layer, or an embedding, is (weights (N, K), scales (N, G) or None, group or 0, bias
    or None); a norm is (gamma, beta or None, eps); a cache is (keys, values, scales of keys or None, scales of values or
    None, lengths). `activation` is the number of one of table.ACTIVATIONS; where a layer has a gate, the activation is
    applied to that, and it multiplies what comes from `up`.
    """

    cdef Model s
    cdef object kept        # the arrays, so that they outlive the pointers
    cdef float* memory
    cdef readonly Py_ssize_t vocabulary

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
        s.C, s.D = s.tokens.w.K, s.tokens.w.K // heads
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
            if blocks[i]["gate"] is not None:
                linear_of(&s.layers[i].gate, blocks[i]["gate"])
            cache_of(&s.layers[i].cache, caches[i])
        s.hidden = s.layers[0].up.w.N
        s.B, s.capacity = caches[0][0].shape[0], caches[0][0].shape[2]
        s.stored = caches[0][0].dtype.itemsize
        s.stored = FLOAT if s.stored == 4 else HALF if s.stored == 2 else INT8
        self.vocabulary = s.head.w.N
        K = max(s.C, s.hidden)
        self.divide(K, most_threads)

    cdef void divide(self, Py_ssize_t K, int threads) except *:
        """Allocate one block of memory for all scratch and divide it. Rows have at most K values."""
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

    def __call__(self, const int64_t[::1] ids, float[:, ::1] logits, int64_t[::1] best, int threads):
        """Compute logits[B][V] after the ids [B] that come next, and best[B], the ids of the largest logits. Afterwards the
        caches have one more position. Returns how many rows have logits that are not finite.

        Raises:
            IndexError: an id outside the vocabulary, or a row whose cache is full.
        """
        cdef Py_ssize_t b
        cdef int bad
        cdef const int64_t* lengths = self.s.layers[0].cache.lengths
        if not ids.shape[0] == best.shape[0] == logits.shape[0] == self.s.B or logits.shape[1] != self.vocabulary:
            raise IndexError(f"decode: expected {self.s.B} ids and logits of {self.vocabulary}")
        for b in range(self.s.B):
            if not 0 <= ids[b] < self.s.tokens.w.N:
                raise IndexError(f"decode: expected ids in [0, {self.s.tokens.w.N}), got {ids[b]}")
            if not 0 <= lengths[b] < self.s.capacity:
                raise IndexError(f"decode: the {self.s.capacity} positions of row {b} are full")
        with nogil:
            bad = forward(&self.s, &ids[0], &logits[0, 0], &best[0], threads)
        return bad


cdef void linear_of(Linear* l, tuple parts) except *:
    cdef const float[:, ::1] floats
    cdef const uint16_t[:, ::1] halves
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
        halves = w.view("uint16")
        l.kind, l.data = HALF, &halves[0, 0]
    else:
        codes, floats = w, scale
        l.kind, l.data = INT8, &codes[0, 0]
        l.w.w, l.w.scale, l.w.G = &codes[0, 0], &floats[0, 0], floats.shape[1]
        l.w.group = group if l.w.G > 1 else max(l.w.K, <Py_ssize_t>BYTES)


cdef void norm_of(Norm* n, tuple parts, bint rms) except *:
    cdef const float[::1] v = parts[0]
    n.rms, n.eps, n.gamma, n.beta = rms, parts[2], &v[0], NULL
    if not rms:
        v = parts[1]
        n.beta = &v[0]


cdef void cache_of(Cache* c, tuple parts) except *:
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

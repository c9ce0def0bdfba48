# Attention. For each head, with queries q[T][D], keys k[S][D] and values v[S][E]:
#
#     for t:
#         for s <= t + S - T if causal, else for all s:
#             score[s] = scale * sum over d of q[t][d] * k[s][d]
#         p = exp(score - max(score)) / sum(exp(score - max(score)))
#         y[t][e] = sum over s of p[s] * v[s][e]
#
# and from the gradient dy[T][E], with the same p[t][s] and rows written as vectors:
#
#     ds[t][s] = scale * p[t][s] * (dy[t] . v[s] - dy[t] . y[t])
#     dq[t] = sum over s of ds[t][s] * k[s]
#     dk[s] = sum over t of ds[t][s] * q[t]
#     dv[s] = sum over t of p[t][s] * dy[t]
#
# It is computed in blocks of queries by blocks of keys, whose scores are in the first-level cache and never in memory
# (FlashAttention, Dao et al. 2022). A block of scores is held transposed, [key][query]: maxima and sums over keys are then
# of whole vectors, and of all operands only the queries of a block have to be transposed.
#
# One thread computes a head, in the backward pass all heads that share keys, block after block: sums do not depend on the
# number of threads.
from cython.parallel cimport prange, threadid
from libc.float cimport FLT_MAX
from libc.math cimport INFINITY
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from tinyml._kernels.words.simd cimport *
from tinyml._kernels.words.vmath cimport *

include "attention_rows.pxi"
include "attention_tile.pxi"

cdef enum:
    QUERIES = 2 * LANES     # queries of a block, which are two vectors
    KEYS = 64               # keys of a block, whose scores take 8 KB where vectors have 16 lanes
    # Up to so many keys are read as they lie. More of them are on more pages than the TLB holds, and are copied: 512 keys
    # of 12 heads of 64 values were then 10% faster, 256 keys of 6 heads 12% slower
    NEAR = 256
    KEYS_BESIDE = 16        # where keys are copied, so many lie side by side, transposed


cdef struct Head:
    # sizes that all heads share; rows of q, k and v are contiguous
    Py_ssize_t T, S, D, E
    Py_ssize_t queries, keys, values        # floats from one row of q, k and v to the next
    Py_ssize_t wide_d, wide_e               # D and E, rounded up to whole vectors
    bint copy_d, copy_e                     # whether keys, and values, and their gradients are copied to scratch
    Py_ssize_t ahead                        # query t sees the keys up to t + ahead
    float scale


cdef void scores(const float* k, Py_ssize_t row, Py_ssize_t step, Py_ssize_t keys, Py_ssize_t D, const float* qt,
                 Py_ssize_t ahead, float* s) noexcept nogil:
    """s[keys][QUERIES] = k[keys][D] @ qt[D][QUERIES]. Vectors are not written where none of their queries sees the key.
    Keys are `row` floats apart and their values `step` floats; or `row` is 1 and the keys lie as `lay_keys` writes them."""
    cdef Py_ssize_t j = 0, unseen, high
    cdef const float* at
    while j < keys:
        unseen = LANES if j - ahead >= LANES else 0
        high = height(keys - j)
        at = k + j // KEYS_BESIDE * KEYS_BESIDE * D + j % KEYS_BESIDE if row == 1 else k + j * row
        tile_of(high, 2 - unseen // LANES, at, row, step, D, qt + unseen, QUERIES, s + j * QUERIES + unseen, QUERIES, False)
        j += high


cdef void lay_keys(const float* k, Py_ssize_t step, Py_ssize_t first, Py_ssize_t end, Py_ssize_t D,
                   float* out) noexcept nogil:
    """Copy the keys first .. end transposed, KEYS_BESIDE of them at a time: out[S / KEYS_BESIDE][D][KEYS_BESIDE]."""
    cdef Py_ssize_t j
    for j from first <= j < end by KEYS_BESIDE:
        transpose(k + j * step, step, min(<Py_ssize_t>KEYS_BESIDE, end - j), D, 1, out + j * D, KEYS_BESIDE)


cdef inline vecf seen(const float* s, Py_ssize_t hidden, vecf low) noexcept nogil:
    """A vector of scores, whose first `hidden` lanes are those of `low`."""
    cdef float lows[LANES]
    if hidden <= 0:
        return vfload(s)
    vfstore(lows, low)
    return vfload_or(lows, hidden, vfload(s))


cdef void online_softmax(float* s, Py_ssize_t keys, Py_ssize_t ahead, float* top, float* total,
                         float* decay) noexcept nogil:
    """s[keys][QUERIES] becomes exp(s - top). top and total [QUERIES] become the largest score of all blocks so far and the
    sum of exp(score - top); decay[QUERIES] is the factor by which earlier sums shrink because of the new top."""
    cdef vecf low = vfset(-INFINITY), a, b, t, part
    cdef Py_ssize_t c, j, plain = max(<Py_ssize_t>0, min(keys, ahead + 1))
    for c from 0 <= c < QUERIES by LANES:
        t = vfload(top + c)
        a = b = t
        j = 0
        while j + 2 <= plain:
            a = vfmax(vfload(s + j * QUERIES + c), a)
            b = vfmax(vfload(s + (j + 1) * QUERIES + c), b)
            j += 2
        while j < keys and j - ahead - c < LANES:
            a = vfmax(seen(s + j * QUERIES + c, j - ahead - c, low), a)
            j += 1
        a = vfmax(a, b)
        vfstore(top + c, a)
        b = vexp(vfsub(t, a))
        vfstore(decay + c, b)
        part = vfzero()
        for j in range(plain):
            t = vexp(vfsub(vfload(s + j * QUERIES + c), a))
            vfstore(s + j * QUERIES + c, t)
            part = vfadd(part, t)
        for j in range(plain, keys):
            t = vfzero()
            if j - ahead - c < LANES:
                t = vexp(vfsub(seen(s + j * QUERIES + c, j - ahead - c, low), a))
            vfstore(s + j * QUERIES + c, t)
            part = vfadd(part, t)
        vfstore(total + c, vfma(part, vfload(total + c), b))


cdef Py_ssize_t forward_room(const Head* h) noexcept nogil:
    return (lines(KEYS * QUERIES) + lines(h.D * QUERIES) + lines(h.wide_e * QUERIES) + 3 * lines(QUERIES)
            + lines((h.S + KEYS_BESIDE) * h.D) * h.copy_d + lines(h.S * h.wide_e) * h.copy_e)


cdef void forward(const Head* h, const float* q, const float* k, const float* v, float* y, Py_ssize_t step, float* top_out,
                  float* inverse_out, float* room) noexcept nogil:
    """Compute one head: y[T][E] and, for each query, the largest score and 1 / the sum of exp(score - that)."""
    cdef float* s = take(&room, KEYS * QUERIES)
    cdef float* qt = take(&room, h.D * QUERIES)
    cdef float* o = take(&room, h.wide_e * QUERIES)
    cdef float* top = take(&room, QUERIES)
    cdef float* total = take(&room, QUERIES)
    cdef float* decay = take(&room, QUERIES)
    cdef float* kt = take(&room, (h.S + KEYS_BESIDE) * h.D) if h.copy_d else NULL
    cdef Rows vs = rows_of(v, h.values, 0, h.E, take(&room, h.S * h.wide_e) if h.copy_e else NULL)
    cdef Py_ssize_t first, rows, ahead, sees, at, keys, i, laid = 0, next
    for first from 0 <= first < h.T by QUERIES:
        rows = min(<Py_ssize_t>QUERIES, h.T - first)
        transpose(q + first * h.queries, h.queries, rows, h.D, h.scale, qt, QUERIES)
        for i in range(QUERIES):
            top[i] = -FLT_MAX       # not -inf, so that the exp of a score of -inf is 0, not NaN
            total[i] = 0
        sees = min(h.S, first + rows + h.ahead)
        next = min(h.S, (sees + KEYS_BESIDE - 1) // KEYS_BESIDE * KEYS_BESIDE)
        if h.copy_d:
            lay_keys(k, h.keys, laid, next, h.D, kt)
        if h.copy_e:
            rows_of(v + laid * h.values, h.values, next - laid, h.E, vs.at + laid * vs.step)
        laid = next
        for at from 0 <= at < sees by KEYS:
            keys = min(<Py_ssize_t>KEYS, sees - at)
            ahead = first + h.ahead - at
            # What the next block of queries reads is fetched in parts, one with each block of keys: fetched all at once,
            # the last parts would wait for the first
            i, next = at * QUERIES // sees, (at + keys) * QUERIES // sees
            fetch(q + (first + rows) * h.queries, h.queries, i, min(next, h.T - first - rows), h.D)
            fetch(k + laid * h.keys, h.keys, i, min(next, h.S - laid), h.D)
            fetch(v + laid * h.values, h.values, i, min(next, h.S - laid), h.E)
            fetch(y + first * step, step, i, min(next, rows), h.E)
            if h.copy_d:
                scores(kt + at * h.D, 1, KEYS_BESIDE, keys, h.D, qt, ahead, s)
            else:
                scores(k + at * h.keys, h.keys, 1, keys, h.D, qt, ahead, s)
            online_softmax(s, keys, ahead, top, total, decay)
            if at:
                scale_rows(o, rows, h.wide_e, decay, o, h.wide_e)
            multiply(s, 1, QUERIES, rows, keys, QUERIES, ahead, vs.at + at * vs.step, vs.step, h.wide_e // LANES, o,
                     h.wide_e, at > 0)
        for i from 0 <= i < QUERIES by LANES:
            vfstore(total + i, vfdiv(vfset(1), vfload(total + i)))
        scale_rows(o, rows, h.E, total, y + first * step, step)
        memcpy(top_out + first, top, rows * sizeof(float))
        memcpy(inverse_out + first, total, rows * sizeof(float))


cdef void weights(float* s, float* ds, Py_ssize_t keys, Py_ssize_t ahead, float scale, const float* top,
                  const float* inverse, const float* delta) noexcept nogil:
    """s becomes p = exp(s - top) * inverse; ds, which holds dp, becomes p * (dp - delta) * scale."""
    cdef vecf low = vfset(-INFINITY), t, n, d, p, f = vfset(scale)
    cdef Py_ssize_t c, j, i
    for c from 0 <= c < QUERIES by LANES:
        t, n, d = vfload(top + c), vfload(inverse + c), vfload(delta + c)
        for j in range(keys):
            i = j * QUERIES + c
            if j - ahead - c >= LANES:
                vfstore(s + i, vfzero())
                vfstore(ds + i, vfzero())
            else:
                p = vfmul(vexp(vfsub(seen(s + i, j - ahead - c, low), t)), n)
                vfstore(s + i, p)
                vfstore(ds + i, vfmul(vfmul(p, f), vfsub(vfload(ds + i), d)))


cdef struct Grad:
    # floats from one row to the next of what only the gradient reads and writes
    Py_ssize_t y, dy, dq, dk, dv
    # how many heads of queries share keys and values, and floats from one of these heads to the next
    Py_ssize_t group, next_q, next_y, next_dy, next_dq


cdef Py_ssize_t backward_room(const Head* h) noexcept nogil:
    return (2 * lines(KEYS * QUERIES) + lines(h.D * QUERIES) + lines(h.E * QUERIES) + 2 * lines(h.wide_d * QUERIES)
            + lines(h.wide_e * QUERIES) + 3 * lines(QUERIES) + 2 * lines(h.S * h.wide_d) * h.copy_d
            + 2 * lines(h.S * h.wide_e) * h.copy_e)


cdef void backward(const Head* h, const Grad* g, const float* q, const float* k, const float* v, const float* y,
                   const float* dy, const float* top_in, const float* inverse_in, float* dq, float* dk, float* dv,
                   float* room) noexcept nogil:
    """Compute dq, dk and dv from what `forward` left, for one head of keys and values and the heads of queries that share
    it."""
    cdef float* s = take(&room, KEYS * QUERIES)
    cdef float* ds = take(&room, KEYS * QUERIES)
    cdef float* qt = take(&room, h.D * QUERIES)
    cdef float* dyt = take(&room, h.E * QUERIES)
    cdef float* q_copy = take(&room, h.wide_d * QUERIES)
    cdef float* dy_copy = take(&room, h.wide_e * QUERIES)
    cdef float* top = take(&room, QUERIES)
    cdef float* inverse = take(&room, QUERIES)
    cdef float* delta = take(&room, QUERIES)
    cdef Rows qs, dys, dqs = rows_of(take(&room, h.wide_d * QUERIES), h.wide_d, 0, h.D, NULL)
    cdef Rows ks = rows_of(k, h.keys, h.S, h.D, take(&room, h.S * h.wide_d) if h.copy_d else NULL)
    cdef Rows vs = rows_of(v, h.values, h.S, h.E, take(&room, h.S * h.wide_e) if h.copy_e else NULL)
    cdef Rows dks = rows_of(dk, g.dk, 0, h.D, take(&room, h.S * h.wide_d) if h.copy_d else NULL)
    cdef Rows dvs = rows_of(dv, g.dv, 0, h.E, take(&room, h.S * h.wide_e) if h.copy_e else NULL)
    cdef Py_ssize_t member, first, rows, ahead, seen_before, sees, at, keys, i, next
    for member in range(g.group):
        sees = 0
        for first from 0 <= first < h.T by QUERIES:
            rows = min(<Py_ssize_t>QUERIES, h.T - first)
            qs = rows_of(q + first * h.queries, h.queries, rows, h.D, q_copy if h.D < h.wide_d else NULL)
            dys = rows_of(dy + first * g.dy, g.dy, rows, h.E, dy_copy if h.E < h.wide_e else NULL)
            transpose(qs.at, qs.step, rows, h.D, h.scale, qt, QUERIES)
            transpose(dys.at, dys.step, rows, h.E, 1, dyt, QUERIES)
            for i in range(QUERIES):    # a query that does not exist has p = 0
                top[i] = top_in[first + i] if i < rows else 0
                inverse[i] = inverse_in[first + i] if i < rows else 0
                delta[i] = row_dot(dys.at + i * dys.step, y + (first + i) * g.y, h.E) if i < rows else 0
            seen_before, sees = sees, min(h.S, first + rows + h.ahead)
            if member == 0:
                clear(dks, seen_before, sees, h.wide_d)
                clear(dvs, seen_before, sees, h.wide_e)
            for at from 0 <= at < sees by KEYS:
                keys = min(<Py_ssize_t>KEYS, sees - at)
                ahead = first + h.ahead - at
                i, next = at * QUERIES // sees, (at + keys) * QUERIES // sees
                fetch(q + (first + rows) * h.queries, h.queries, i, min(next, h.T - first - rows), h.D)
                fetch(y + (first + rows) * g.y, g.y, i, min(next, h.T - first - rows), h.E)
                fetch(dy + (first + rows) * g.dy, g.dy, i, min(next, h.T - first - rows), h.E)
                fetch(dq + first * g.dq, g.dq, i, min(next, rows), h.D)
                fetch(ks.at + sees * ks.step, ks.step, i, min(next, h.S - sees), h.D)
                fetch(vs.at + sees * vs.step, vs.step, i, min(next, h.S - sees), h.E)
                fetch(dks.at + sees * dks.step, dks.step, i, min(next, h.S - sees), h.D)
                fetch(dvs.at + sees * dvs.step, dvs.step, i, min(next, h.S - sees), h.E)
                scores(ks.at + at * ks.step, ks.step, 1, keys, h.D, qt, ahead, s)
                scores(vs.at + at * vs.step, vs.step, 1, keys, h.E, dyt, ahead, ds)
                weights(s, ds, keys, ahead, h.scale, top, inverse, delta)
                multiply(s, QUERIES, 1, keys, rows, ahead, QUERIES, dys.at, dys.step, h.wide_e // LANES,
                         dvs.at + at * dvs.step, dvs.step, True)
                multiply(ds, QUERIES, 1, keys, rows, ahead, QUERIES, qs.at, qs.step, h.wide_d // LANES,
                         dks.at + at * dks.step, dks.step, True)
                multiply(ds, 1, QUERIES, rows, keys, QUERIES, ahead, ks.at + at * ks.step, ks.step, h.wide_d // LANES,
                         dqs.at, dqs.step, at > 0)
            put(dqs, rows, h.D, dq + first * g.dq, g.dq)
        q, y, dy, dq = q + g.next_q, y + g.next_y, dy + g.next_dy, dq + g.next_dq
        top_in, inverse_in = top_in + h.T, inverse_in + h.T
    if h.copy_d:
        put(dks, h.S, h.D, dk, g.dk)
    if h.copy_e:
        put(dvs, h.S, h.E, dv, g.dv)


cdef Head head_of(const float[:, :, :, :] q, const float[:, :, :, :] k, const float[:, :, :, :] v, float scale,
                  bint causal) noexcept:
    cdef Head h
    h.T, h.S, h.D, h.E = q.shape[2], k.shape[2], q.shape[3], v.shape[3]
    h.queries, h.keys, h.values = q.strides[2] // 4, k.strides[2] // 4, v.strides[2] // 4
    h.wide_d, h.wide_e = whole(h.D), whole(h.E)
    h.ahead = h.S - h.T if causal else h.S
    h.copy_d, h.copy_e = h.S > NEAR or h.D < h.wide_d, h.S > NEAR or h.E < h.wide_e
    h.scale = scale
    return h


cdef inline const float* of_head(const float[:, :, :, :] x, Py_ssize_t unit) noexcept nogil:
    """Where the rows of head `unit` of x[B][H] begin; NULL where they have no elements."""
    if x.shape[3] == 0:
        return NULL
    return <const float*>(<const char*>&x[0, 0, 0, 0] + unit // x.shape[1] * x.strides[0]
                          + unit % x.shape[1] * x.strides[1])


def attention_f32(const float[:, :, :, :] q, const float[:, :, :, :] k, const float[:, :, :, :] v, float scale,
                  bint causal, float[:, :, :, :] y, float[:, :, :, ::1] rows, int threads):
    """y[B][H][T][E] = softmax(scale * q[B][H][T][D] @ k[B][G][S][D]^T) @ v[B][G][S][E].

    Strides may be any, except that elements along the last dimension are neighbours. H / G successive heads of queries
    share a head of keys and values. Where `causal` is set, query t sees the keys up to t + S - T, and S >= T.
    rows[2][B][H][T], which the gradient needs, is the largest score of each query and 1 / the sum of exp(score - that).
    """
    cdef Head h = head_of(q, k, v, scale, causal)
    cdef Py_ssize_t heads = q.shape[0] * q.shape[1], workers = threads if heads > 1 else 1, unit
    cdef Py_ssize_t room = forward_room(&h), step = y.strides[2] // 4, group
    if heads * h.T == 0:
        return
    group = q.shape[1] // k.shape[1]
    if h.S == 0:
        y[...] = 0
        rows[...] = 0
        return
    cdef float* memory = <float*>malloc((workers * room + ON_LINE) * sizeof(float))
    if memory == NULL:
        raise MemoryError(f"attention_f32: no memory for {workers} x {room} values")
    with nogil:
        for unit in prange(heads, num_threads=workers, schedule="dynamic"):
            forward(&h, of_head(q, unit), of_head(k, unit // group), of_head(v, unit // group), <float*>of_head(y, unit),
                    step, &rows[0, 0, 0, 0] + unit * h.T, &rows[1, 0, 0, 0] + unit * h.T,
                    on_line(memory) + threadid() * room)
    free(memory)


def attention_grad_f32(const float[:, :, :, :] q, const float[:, :, :, :] k, const float[:, :, :, :] v, float scale,
                       bint causal, const float[:, :, :, :] y, const float[:, :, :, ::1] rows,
                       const float[:, :, :, :] dy, float[:, :, :, :] dq, float[:, :, :, :] dk, float[:, :, :, :] dv,
                       int threads):
    """Gradients of attention_f32 to q, k and v, from its results and dy[B][H][T][E]. For the heads of queries that share
    keys and values, one thread computes them all."""
    cdef Head h = head_of(q, k, v, scale, causal)
    cdef Py_ssize_t heads = k.shape[0] * k.shape[1], workers = threads if heads > 1 else 1, unit, first
    cdef Py_ssize_t room = backward_room(&h)
    cdef Grad g
    if heads == 0:
        return
    if h.T * h.S == 0:
        dq[...] = 0
        dk[...] = 0
        dv[...] = 0
        return
    g.y, g.dy = y.strides[2] // 4, dy.strides[2] // 4
    g.dq, g.dk, g.dv = dq.strides[2] // 4, dk.strides[2] // 4, dv.strides[2] // 4
    g.group = q.shape[1] // k.shape[1]
    g.next_q, g.next_y = q.strides[1] // 4, y.strides[1] // 4
    g.next_dy, g.next_dq = dy.strides[1] // 4, dq.strides[1] // 4
    cdef float* memory = <float*>malloc((workers * room + ON_LINE) * sizeof(float))
    if memory == NULL:
        raise MemoryError(f"attention_grad_f32: no memory for {workers} x {room} values")
    with nogil:
        for unit in prange(heads, num_threads=workers, schedule="dynamic"):
            first = unit * g.group
            backward(&h, &g, of_head(q, first), of_head(k, unit), of_head(v, unit), of_head(y, first), of_head(dy, first),
                     &rows[0, 0, 0, 0] + first * h.T, &rows[1, 0, 0, 0] + first * h.T, <float*>of_head(dq, first),
                     <float*>of_head(dk, unit), <float*>of_head(dv, unit), on_line(memory) + threadid() * room)
    free(memory)

# Depthwise float convolution, one filter a channel: sums run across a vector of channels, not along K. Included by conv_f32.

cdef inline void depthwise_pixel(const row_t* rows, Py_ssize_t taps, const float* packed, Py_ssize_t C, const float* bias,
                                 float* y) noexcept nogil:
    """y[C] = bias[C] + sum over taps t of rows[t][C] * packed[t][C], `packed` by vectors of channels: [C/LANES][taps][LANES]."""
    cdef Py_ssize_t part, c, t
    cdef vecf acc
    for part in range((C + LANES - 1) // LANES):
        c = part * LANES
        acc = vfzero() if bias == NULL else vfload_n(bias + c, <int>(C - c))
        for t in range(taps):
            acc = vfma(acc, vfload_n(rows[t] + c, <int>(C - c)), vfload(packed + (c * taps) + t * LANES))
        vfstore_n(y + c, acc, <int>(C - c))


cdef int depthwise_pixels(const Geometry* g, const float* x, const float* zeros, Py_ssize_t first, Py_ssize_t pixels,
                          const float* packed, const float* bias, float* y, row_t* rows) noexcept nogil:
    """Output pixels first .. first+pixels; `rows` has room for a pointer a tap."""
    cdef Walk walk = walk_from(g, first)
    cdef Py_ssize_t p, at, ky, kx
    for p in range(first, first + pixels):
        for ky in range(g.kh):
            for kx in range(g.kw):
                at = source(g, &walk, ky, kx)
                rows[ky * g.kw + kx] = zeros if at < 0 else x + at * g.c
        depthwise_pixel(rows, g.kh * g.kw, packed, g.c, bias, y + p * g.c)
        walk_on(g, &walk)
    return 0


cdef int depthwise_grad(const Geometry* g, const float* x, const float* dy, Py_ssize_t c, Py_ssize_t ky, float* out,
                        float* acc) noexcept nogil:
    """out[channel * taps + kx], LANES channels from c on: sums over pixels of x at tap (ky, kx) times dy; acc: kw vectors."""
    cdef Walk walk = walk_from(g, 0)
    cdef Py_ssize_t p, at, kx, i
    cdef int n = <int>min(g.c - c, <Py_ssize_t>LANES)
    cdef vecf d
    for kx in range(g.kw):
        vfstore(acc + kx * LANES, vfzero())
    for p in range(g.images * g.oh * g.ow):
        d = vfload_n(dy + p * g.c + c, n)
        for kx in range(g.kw):
            at = source(g, &walk, ky, kx)
            if at >= 0:
                vfstore(acc + kx * LANES, vfma(vfload(acc + kx * LANES), vfload_n(x + at * g.c + c, n), d))
        walk_on(g, &walk)
    for kx in range(g.kw):
        for i in range(n):
            out[(c + i) * g.kh * g.kw + ky * g.kw + kx] = acc[kx * LANES + i]
    return 0

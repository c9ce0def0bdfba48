# Attention of one query: the scores of the cached keys of its head, their softmax, the weighted sum of the values. The
# cache is read once, as it is stored: as floats, as the bits of float16, or as codes with one scale per position.
#
# The file that includes this one has cimported words/simd, words/vmath and the integer types.
from libc.math cimport INFINITY

ctypedef fused cached:
    float
    uint16_t
    uint8_t

cdef enum:
    WIDTH = 4       # vectors of the result that are computed at a time


cdef inline vecf stored(const cached* p, int n) noexcept nogil:
    """The first n stored values (LANES where n is larger) as floats; codes are not multiplied by their scale."""
    if cached is float:
        return vfload_n(p, n)
    elif cached is uint16_t:
        return vfload_half_n(p, n)
    else:
        return to_float(vsub(vload_codes_n(p, n), vsplat(128)))


cdef inline void attend(const float* q, const cached* keys, const cached* values, const float* key_scale,
                        const float* value_scale, Py_ssize_t S, Py_ssize_t D, float scale, float* p,
                        float* y) noexcept nogil:
    """y[D] = softmax(scale * q[D] . keys[S][D]) @ values[S][D]. `p` has room for S weights, in whole vectors."""
    cdef vecf part, top = vfset(-INFINITY), total = vfzero(), inverse
    cdef vecf sums[WIDTH]
    cdef Py_ssize_t s, c, at
    cdef int i, n
    for s in range(S):
        part = vfzero()
        for c from 0 <= c < D by LANES:
            n = <int>min(D - c, <Py_ssize_t>LANES)
            part = vfma(part, vfload_n(q + c, n), stored(keys + s * D + c, n))
        p[s] = vfsum(part) * (scale if key_scale == NULL else scale * key_scale[s])
    for s from 0 <= s < S by LANES:
        top = vfmax(vfload_or(p + s, S - s, top), top)
    top = vfset(vfmax_lanes(top))
    for s from 0 <= s < S by LANES:
        part = vexp(vfsub(vfload_or(p + s, S - s, vfset(-INFINITY)), top))
        total = vfadd(total, part)
        vfstore(p + s, part)
    inverse = vfset(1 / vfsum(total))
    if value_scale != NULL:
        for s in range(S):
            p[s] *= value_scale[s]
    for at from 0 <= at < D by WIDTH * LANES:
        for i in range(WIDTH):
            sums[i] = vfzero()
        if at + WIDTH * LANES <= D:
            for s in range(S):
                part = vfset(p[s])
                for i in range(WIDTH):
                    sums[i] = vfma(sums[i], part, stored(values + s * D + at + i * LANES, LANES))
        else:
            for s in range(S):
                for i in range(WIDTH):
                    if at + i * LANES < D:
                        sums[i] = vfma(sums[i], vfset(p[s]), stored(values + s * D + at + i * LANES, <int>min(
                            D - at - i * LANES, <Py_ssize_t>LANES)))
        for i in range(WIDTH):
            if at + i * LANES < D:
                vfstore_n(y + at + i * LANES, vfmul(sums[i], inverse), D - at - i * LANES)

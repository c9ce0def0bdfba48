# The gradient of a pointwise function over a run of memory. f is a constant at every call, so the compiler inlines it into
# the loop. Two vectors are computed at a time, because their chains of instructions then overlap.
#
# The file that includes this one has cimported words/simd.
ctypedef vecf (*gradient)(vecf, vecf) noexcept nogil


cdef inline void grad_run(gradient f, const float* x, const float* dy, float* dx, Py_ssize_t n) noexcept nogil:
    """dx = f(x, dy)."""
    cdef Py_ssize_t i = 0
    cdef vecf a, b
    while i + 2 * LANES <= n:
        a, b = f(vfload(x + i), vfload(dy + i)), f(vfload(x + i + LANES), vfload(dy + i + LANES))
        vfstore(dx + i, a)
        vfstore(dx + i + LANES, b)
        i += 2 * LANES
    while i < n:
        vfstore_n(dx + i, f(vfload_n(x + i, n - i), vfload_n(dy + i, n - i)), n - i)
        i += LANES

# Rotates the pairs of elements of a head; y may be x.
#
# The file that includes this one has cimported words/simd and words/vmath.

cdef void rotate_halves(const float* x, const float* cos, const float* sin, vecf sign, Py_ssize_t n,
                        float* y) noexcept nogil:
    """Pairs (x[i], x[n + i])."""
    cdef vecf a, b, c, s
    cdef Py_ssize_t i
    for i from 0 <= i < n by LANES:
        a, b = vfload_n(x + i, n - i), vfload_n(x + n + i, n - i)
        c, s = vfload_n(cos + i, n - i), vfmul(sign, vfload_n(sin + i, n - i))
        vfstore_n(y + i, vfsub(vfmul(a, c), vfmul(b, s)), n - i)
        vfstore_n(y + n + i, vfadd(vfmul(b, c), vfmul(a, s)), n - i)


cdef void rotate_neighbours(const float* x, const float* cos, const float* sin, float sign, Py_ssize_t n,
                            float* y) noexcept nogil:
    """Pairs (x[2i], x[2i + 1])."""
    cdef float a, b, s
    cdef Py_ssize_t i
    for i in range(n):
        a, b, s = x[2 * i], x[2 * i + 1], sign * sin[i]
        y[2 * i] = a * cos[i] - b * s
        y[2 * i + 1] = b * cos[i] + a * s

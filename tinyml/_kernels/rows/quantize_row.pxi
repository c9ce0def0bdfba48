# Rows of floats to codes with a scale each.
from libc.math cimport INFINITY, fabsf, rintf

cdef enum:
    SPAN = 512              # elements divided again where one of them is close to a tie
    RAISED = 12582912 + 128     # 1.5 * 2^23, and what codes are raised by

cdef inline float bounded(float v, float lo, float hi) noexcept nogil:
    # written so that a NaN comes out as lo: the conversion to an integer is then always defined
    v = v if v > lo else lo
    return v if v < hi else hi


cdef float largest_size(const float* x, Py_ssize_t n) noexcept nogil:
    """max|x|, NaN where one is infinite or NaN."""
    # sizes are ordered as the bits below their sign are, and integers have a maximum that compilers vectorize
    cdef const int32_t* bits = <const int32_t*>x
    cdef int32_t largest = 0, size
    cdef float found
    cdef Py_ssize_t i
    for i in range(n):
        size = bits[i] & 0x7fffffff
        largest = size if size > largest else largest
    memcpy(&found, &largest, sizeof(float))
    return found if found < INFINITY else INFINITY - INFINITY


cdef inline int nearest(const float* x, Py_ssize_t n, float s, uint8_t* y) noexcept nogil:
    """y = rint(x / s) + 128 for |x| <= 127 s.

    x times 1/s is at most 3e-5 off what x / s is rounded to, so both round to the same whole number, unless x / s is that
    close to a tie: then the division, which takes far longer, decides. Floats from 2^23 to 2^24 are whole numbers: adding
    1.5 * 2^23 rounds to one, which then stands in the low bits.
    """
    cdef float inverse = 1 / s, v, raised
    cdef int32_t ties = 0, bits
    cdef Py_ssize_t i
    for i in range(n):
        v = x[i] * inverse
        raised = v + <float>RAISED
        ties |= fabsf(v - (raised - <float>RAISED)) > <float>0.49995
        memcpy(&bits, &raised, sizeof(float))
        y[i] = <uint8_t>bits
    if ties:
        for i in range(n):
            y[i] = <uint8_t>(<int32_t>rintf(x[i] / s) + 128)
    return 0


cdef int quantize_row(const float* x, Py_ssize_t n, float* scale, uint8_t* y) noexcept nogil:
    cdef float s = largest_size(x, n) / 127
    cdef Py_ssize_t i, k
    if not s >= 1.17549435e-38:     # a scale below the smallest normal float counts as a row of zeros
        scale[0] = s if s != s else 1
        memset(y, 128, n)
        return 0
    scale[0] = s
    for i from 0 <= i < n by SPAN:
        for k from i <= k < min(i + SPAN, n) by ON_LINE:
            vfetch(x + n + k)       # most often the next row
        nearest(x + i, min(<Py_ssize_t>SPAN, n - i), s, y + i)
    return 0

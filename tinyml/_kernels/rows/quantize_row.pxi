# Quantizes rows of floats, each with a scale of its own.
#
# The file that includes this one has cimported words/simd, the integer types, memcpy and memset.
from libc.math cimport INFINITY, fabsf, rintf

cdef enum:
    SPAN = 512              # where one of so many elements is close to a tie, all of them are divided
    RAISED = 12582912 + 128     # 1.5 * 2^23, and the 128 that is added to codes

cdef inline float bounded(float v, float lo, float hi) noexcept nogil:
    # it is written so that a NaN gives lo: the conversion to an integer is then always defined
    v = v if v > lo else lo
    return v if v < hi else hi


cdef float largest_size(const float* x, Py_ssize_t n) noexcept nogil:
    """max|x|; NaN where one of the values is infinite or NaN."""
    # absolute values are ordered as their bits without the sign are, and compilers vectorize a maximum of integers
    cdef const int32_t* bits = <const int32_t*>x
    cdef int32_t largest = 0, size
    cdef float found
    cdef Py_ssize_t i
    for i in range(n):
        size = bits[i] & 0x7fffffff
        largest = size if size > largest else largest
    memcpy(&found, &largest, sizeof(float))
    return found if found < INFINITY else INFINITY - INFINITY


cdef inline void nearest(const float* x, Py_ssize_t n, float s, uint8_t* y) noexcept nogil:
    """y = rint(x / s) + 128 for |x| <= 127 s.

    x times 1/s differs by at most 3e-5 from x / s as it is rounded, so both round to the same whole number, unless x / s is
    that close to a tie: then the division, which takes far longer, decides. Floats from 2^23 to 2^24 are whole numbers, so
    adding 1.5 * 2^23 rounds to a whole number, which is then in the low bits.
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


cdef void quantize_row(const float* x, Py_ssize_t n, float* scale, uint8_t* y) noexcept nogil:
    """y[n] = rint(x / scale) + 128 with scale = max|x| / 127; equation (9)."""
    cdef float s = largest_size(x, n) / 127
    cdef Py_ssize_t i, k
    if not s >= 1.17549435e-38:     # NaN, or below the smallest normal float: then the row counts as zeros
        scale[0] = s if s != s else 1
        memset(y, 128, n)
        return
    scale[0] = s
    for i from 0 <= i < n by SPAN:
        for k from i <= k < min(i + SPAN, n) by ON_LINE:
            vfetch(x + n + k)       # most often this is the next row
        nearest(x + i, min(<Py_ssize_t>SPAN, n - i), s, y + i)

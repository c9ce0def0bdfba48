# Rows of floats to codes with a scale each.
from libc.math cimport INFINITY, rintf

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


cdef int quantize_row(const float* x, Py_ssize_t n, float* scale, uint8_t* y) noexcept nogil:
    cdef float s = largest_size(x, n) / 127
    cdef Py_ssize_t i
    if not s >= 1.17549435e-38:     # a scale below the smallest normal float counts as a row of zeros
        scale[0] = s if s != s else 1
        memset(y, 128, n)
        return 0
    scale[0] = s
    for i in range(n):
        y[i] = <uint8_t><int32_t>(bounded(rintf(x[i] / s), -127, 127) + 128)
    return 0

# Dropout, whose mask comes from a counter-based generator (words/philox.h): the random word of an element follows from the
# key and the element's index alone. So any thread can compute any block, and the gradient computes the mask again.
from cython.parallel cimport prange
from libc.stdint cimport uint32_t, uint64_t
from tinyml._kernels.words.simd cimport *

cdef extern from "words/philox.h" nogil:
    ctypedef struct random4: pass
    void philox(uint64_t, uint64_t, random4*, random4*) noexcept
    vecf keep_scaled(vecf, float, const random4*, int, uint32_t) noexcept

cdef enum:
    # 16 counters of the generator give the words of a block: the first two words of each those of its first half, the other
    # two those of its second half
    HALF = 32
    BLOCK = 2 * HALF
    UNIT = 4096         # elements of one unit of work


cdef inline void drop_vector(const float* x, Py_ssize_t i, Py_ssize_t n, float scale, const random4* words, int half,
                             uint32_t least, float* y) noexcept nogil:
    if i < n:
        vfstore_n(y + i, keep_scaled(vfload_n(x + i, n - i), scale, words, half, least), n - i)


cdef void drop_unit(const float* x, Py_ssize_t first, Py_ssize_t n, uint64_t key, uint32_t least, float scale,
                    float* y) noexcept nogil:
    cdef random4 a, b
    cdef Py_ssize_t block, i
    for block from first <= block < n by BLOCK:
        for i from 0 <= i < HALF by 2 * LANES:
            philox(<uint64_t>(block // 4 + i // 2), key, &a, &b)
            drop_vector(x, block + i, n, scale, &a, 0, least, y)
            drop_vector(x, block + i + LANES, n, scale, &b, 0, least, y)
            drop_vector(x, block + i + HALF, n, scale, &a, 1, least, y)
            drop_vector(x, block + i + HALF + LANES, n, scale, &b, 1, least, y)


def dropout_f32(const float[::1] x, uint64_t key, uint32_t least, float scale, float[::1] y, int threads):
    """y = x * scale where the random word of the element is at least `least`, else 0: an element is kept with probability
    1 - least / 2^32.

    The element 64 b + 32 h + i, with h < 2 and i < 32, has the word 2 h + i % 2 of the counter 16 b + i // 2 of
    Philox4x32-10.
    """
    cdef Py_ssize_t n = x.shape[0], unit
    for unit in prange((n + UNIT - 1) // UNIT, nogil=True, num_threads=threads, schedule="static"):
        drop_unit(&x[0], unit * UNIT, min((unit + 1) * UNIT, n), key, least, scale, &y[0])

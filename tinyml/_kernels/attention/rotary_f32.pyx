# Rotary position embedding (Su et al. 2021): each pair of elements of a head is rotated by an angle that depends on its
# position.
from cython.parallel cimport prange
from libc.string cimport memcpy
from tinyml._kernels.words.simd cimport *
from tinyml._kernels.words.vmath cimport *


include "rotary_pairs.pxi"


cdef inline float* row(const float[:, :, :, :] x, Py_ssize_t b, Py_ssize_t h, Py_ssize_t t) noexcept nogil:
    return <float*>(<char*>&x[0, 0, 0, 0] + b * x.strides[0] + h * x.strides[1] + t * x.strides[2])


cdef void position(const float[:, :, :, :] x, const float[:, :, :, :] cos, const float[:, :, :, :] sin, Py_ssize_t heads,
                   bint interleaved, float sign, const float[:, :, :, :] y, Py_ssize_t b, Py_ssize_t t) noexcept nogil:
    """Rotate all heads of one position, which are neighbours in the product of the layer before."""
    cdef Py_ssize_t h, n = x.shape[3] // 2
    for h in range(heads):
        if interleaved:
            rotate_neighbours(row(x, b, h, t), row(cos, b, h, t), row(sin, b, h, t), sign, n, row(y, b, h, t))
        else:
            rotate_halves(row(x, b, h, t), row(cos, b, h, t), row(sin, b, h, t), vfset(sign), n, row(y, b, h, t))
    for h in range(heads, x.shape[1]):
        memcpy(row(y, b, h, t), row(x, b, h, t), x.shape[3] * sizeof(float))


def rotary_f32(const float[:, :, :, :] x, const float[:, :, :, :] cos, const float[:, :, :, :] sin, Py_ssize_t heads,
               bint interleaved, bint inverse, float[:, :, :, :] y, int threads):
    """y[B][H][T][D]: pairs (a, b) of the first `heads` heads of x become (a cos - b sin, b cos + a sin), with cos and sin
    [B][H][T][D/2]; the other heads are copied.

    A pair is the elements 2i and 2i + 1 where `interleaved` is set, else i and i + D/2. `inverse` rotates back, which is
    the gradient. Strides may be any, except that elements along the last dimension are neighbours.
    """
    cdef Py_ssize_t unit, T = x.shape[2]
    cdef float sign = -1 if inverse else 1
    if x.shape[0] * x.shape[1] * T * x.shape[3] == 0:
        return
    for unit in prange(x.shape[0] * T, nogil=True, num_threads=threads, schedule="static"):
        position(x, cos, sin, heads, interleaved, sign, y, unit // T, unit % T)

# Pointwise float functions that NumPy lacks.
from cython.parallel cimport prange
from libc.math cimport erff, expf, rintf
from libc.stdint cimport uint8_t

cdef enum:
    BLOCK = 4096    # elements of one unit of work


cdef int fake_quantize_piece(const float* x, Py_ssize_t n, float scale, float zero_point, float lo, float hi, float* y,
                             uint8_t* inside) noexcept nogil:
    cdef Py_ssize_t i
    cdef float q, c
    for i in range(n):
        q = rintf(x[i] / scale) + zero_point
        c = lo if q < lo else q
        c = hi if c > hi else c
        inside[i] = c == q
        y[i] = scale * (c - zero_point)
    return 0


def gelu_f32(const float[::1] x, float[::1] y, int threads):
    """y = x * Phi(x) = x * (1 + erf(x / sqrt 2)) / 2."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=threads, schedule="static"):
        y[i] = x[i] * 0.5 * (1 + erff(x[i] * <float>0.7071067811865476))


def gelu_grad_f32(const float[::1] x, const float[::1] dy, float[::1] dx, int threads):
    """dx = dy * (Phi(x) + x * phi(x)), phi the normal density."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=threads, schedule="static"):
        dx[i] = dy[i] * (<float>0.5 * (1 + erff(x[i] * <float>0.7071067811865476))
                         + x[i] * expf(<float>-0.5 * x[i] * x[i]) * <float>0.3989422804014327)


def fake_quantize_f32(const float[:, ::1] x, const float[::1] scale, float zero_point, float lo, float hi, float[:, ::1] y,
                      uint8_t[:, ::1] inside, int threads):
    """y[R][L] = scale[R] * (q - zero_point), q = clamp(rint(x / scale) + zero_point, lo, hi); NaN stays NaN.

    inside[R][L] is 1 where q is not clamped.
    """
    cdef Py_ssize_t n = x.shape[1], pieces = (n + BLOCK - 1) // BLOCK, unit, row, first
    for unit in prange(x.shape[0] * pieces, nogil=True, num_threads=threads, schedule="static"):
        row = unit // pieces
        first = unit % pieces * BLOCK
        fake_quantize_piece(&x[row, first], min(<Py_ssize_t>BLOCK, n - first), scale[row], zero_point, lo, hi,
                            &y[row, first], &inside[row, first])

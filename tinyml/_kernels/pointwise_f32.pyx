# Pointwise float functions that NumPy lacks.
from cython.parallel cimport prange
from libc.math cimport erff, expf


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

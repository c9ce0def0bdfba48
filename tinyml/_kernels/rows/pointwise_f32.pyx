# Pointwise float functions; vmath.h has them for one vector, with their formulas and errors.
from cython.parallel cimport prange
from libc.stdint cimport uint8_t
from tinyml._kernels.words.simd cimport *
from tinyml._kernels.words.vmath cimport *

include "gradient.pxi"

cdef enum:
    BLOCK = 4096    # elements of one unit of work

ctypedef vecf (*function)(vecf) noexcept nogil


cdef inline Py_ssize_t blocks(Py_ssize_t n) noexcept nogil:
    return (n + BLOCK - 1) // BLOCK


# `unit` counts blocks. The compiler puts f into these loops, because each caller names one; of several vectors at a time
# the chains of instructions overlap.
cdef inline int map_block(function f, const float[::1] x, float[::1] y, Py_ssize_t unit) noexcept nogil:
    cdef Py_ssize_t i = unit * BLOCK, end = min(i + BLOCK, x.shape[0])
    cdef vecf a, b, c, d
    while i + 4 * LANES <= end:
        a, b = f(vfload(&x[i])), f(vfload(&x[i + LANES]))
        c, d = f(vfload(&x[i + 2 * LANES])), f(vfload(&x[i + 3 * LANES]))
        vfstore(&y[i], a)
        vfstore(&y[i + LANES], b)
        vfstore(&y[i + 2 * LANES], c)
        vfstore(&y[i + 3 * LANES], d)
        i += 4 * LANES
    while i < end:
        vfstore_n(&y[i], f(vfload_n(&x[i], end - i)), end - i)
        i += LANES
    return 0


cdef inline int grad_block(gradient f, const float[::1] x, const float[::1] dy, float[::1] dx,
                           Py_ssize_t unit) noexcept nogil:
    cdef Py_ssize_t first = unit * BLOCK
    return grad_run(f, &x[first], &dy[first], &dx[first], min(<Py_ssize_t>BLOCK, x.shape[0] - first))


def exp_f32(const float[::1] x, float[::1] y, int threads):
    """y = e^x."""
    cdef Py_ssize_t unit
    for unit in prange(blocks(x.shape[0]), nogil=True, num_threads=threads, schedule="static"):
        map_block(vexp, x, y, unit)


def tanh_f32(const float[::1] x, float[::1] y, int threads):
    """y = tanh x."""
    cdef Py_ssize_t unit
    for unit in prange(blocks(x.shape[0]), nogil=True, num_threads=threads, schedule="static"):
        map_block(vtanh, x, y, unit)


def tanh_grad_f32(const float[::1] y, const float[::1] dy, float[::1] dx, int threads):
    """dx = dy * (1 - y^2), y = tanh x."""
    cdef Py_ssize_t unit
    for unit in prange(blocks(y.shape[0]), nogil=True, num_threads=threads, schedule="static"):
        grad_block(vtanh_grad, y, dy, dx, unit)


def sigmoid_f32(const float[::1] x, float[::1] y, int threads):
    """y = 1 / (1 + e^-x)."""
    cdef Py_ssize_t unit
    for unit in prange(blocks(x.shape[0]), nogil=True, num_threads=threads, schedule="static"):
        map_block(vsigmoid, x, y, unit)


def sigmoid_grad_f32(const float[::1] y, const float[::1] dy, float[::1] dx, int threads):
    """dx = dy * y * (1 - y), y = sigmoid(x)."""
    cdef Py_ssize_t unit
    for unit in prange(blocks(y.shape[0]), nogil=True, num_threads=threads, schedule="static"):
        grad_block(vsigmoid_grad, y, dy, dx, unit)


def silu_f32(const float[::1] x, float[::1] y, int threads):
    """y = x * sigmoid(x); -0 at -inf."""
    cdef Py_ssize_t unit
    for unit in prange(blocks(x.shape[0]), nogil=True, num_threads=threads, schedule="static"):
        map_block(vsilu, x, y, unit)


def silu_grad_f32(const float[::1] x, const float[::1] dy, float[::1] dx, int threads):
    """dx = dy * s * (1 + x * (1 - s)), s = sigmoid(x)."""
    cdef Py_ssize_t unit
    for unit in prange(blocks(x.shape[0]), nogil=True, num_threads=threads, schedule="static"):
        grad_block(vsilu_grad, x, dy, dx, unit)


def gelu_f32(const float[::1] x, float[::1] y, int threads):
    """y = x * Phi(x), Phi the normal distribution; 0 at -inf."""
    cdef Py_ssize_t unit
    for unit in prange(blocks(x.shape[0]), nogil=True, num_threads=threads, schedule="static"):
        map_block(vgelu, x, y, unit)


def gelu_grad_f32(const float[::1] x, const float[::1] dy, float[::1] dx, int threads):
    """dx = dy * (Phi(x) + x * phi(x)), phi the normal density."""
    cdef Py_ssize_t unit
    for unit in prange(blocks(x.shape[0]), nogil=True, num_threads=threads, schedule="static"):
        grad_block(vgelu_grad, x, dy, dx, unit)


def gelu_tanh_f32(const float[::1] x, float[::1] y, int threads):
    """y = x / 2 * (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))); -0 at -inf."""
    cdef Py_ssize_t unit
    for unit in prange(blocks(x.shape[0]), nogil=True, num_threads=threads, schedule="static"):
        map_block(vgelu_tanh, x, y, unit)


def gelu_tanh_grad_f32(const float[::1] x, const float[::1] dy, float[::1] dx, int threads):
    """dx = dy * the derivative of gelu_tanh_f32."""
    cdef Py_ssize_t unit
    for unit in prange(blocks(x.shape[0]), nogil=True, num_threads=threads, schedule="static"):
        grad_block(vgelu_tanh_grad, x, dy, dx, unit)


def relu_grad_f32(const float[::1] y, const float[::1] dy, float[::1] dx, int threads):
    """dx = dy where y > 0, else 0."""
    cdef Py_ssize_t unit
    for unit in prange(blocks(y.shape[0]), nogil=True, num_threads=threads, schedule="static"):
        grad_block(vrelu_grad, y, dy, dx, unit)


cdef int fake_quantize_piece(const float* x, Py_ssize_t n, float scale, float zero_point, float lo, float hi, float* y,
                             uint8_t* inside) noexcept nogil:
    cdef vecf s = vfset(scale), z = vfset(zero_point), bottom = vfset(lo), top = vfset(hi), q, c
    cdef Py_ssize_t i
    for i from 0 <= i < n by LANES:
        q = vfadd(vfround(vfdiv(vfload_n(x + i, n - i), s)), z)
        c = vfmin(top, vfmax(bottom, q))
        vstore_equal(inside + i, c, q, n - i)
        vfstore_n(y + i, vfmul(s, vfsub(c, z)), n - i)
    return 0


def fake_quantize_f32(const float[:, ::1] x, const float[::1] scale, float zero_point, float lo, float hi, float[:, ::1] y,
                      uint8_t[:, ::1] inside, int threads):
    """y[R][L] = scale[R] * (q - zero_point), q = clamp(rint(x / scale) + zero_point, lo, hi); NaN stays NaN.

    inside[R][L] is 1 where q is not clamped.
    """
    cdef Py_ssize_t n = x.shape[1], pieces = blocks(n), unit, row, first
    for unit in prange(x.shape[0] * pieces, nogil=True, num_threads=threads, schedule="static"):
        row = unit // pieces
        first = unit % pieces * BLOCK
        fake_quantize_piece(&x[row, first], min(<Py_ssize_t>BLOCK, n - first), scale[row], zero_point, lo, hi,
                            &y[row, first], &inside[row, first])

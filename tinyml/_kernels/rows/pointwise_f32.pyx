# Pointwise float functions. words/vmath.h has each of them for one vector, with its formula and its error.
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


# `unit` counts blocks. f is a constant at every call, so the compiler inlines it into the loop. Several vectors are
# computed at a time, because their chains of instructions then overlap.
cdef inline void map_block(function f, const float[::1] x, float[::1] y, Py_ssize_t unit) noexcept nogil:
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


cdef inline void grad_block(gradient f, const float[::1] x, const float[::1] dy, float[::1] dx,
                            Py_ssize_t unit) noexcept nogil:
    cdef Py_ssize_t first = unit * BLOCK
    grad_run(f, &x[first], &dy[first], &dx[first], min(<Py_ssize_t>BLOCK, x.shape[0] - first))


# Below, `function` is the number of one of table.POINTWISE.
cdef void map_unit(int function, const float[::1] x, float[::1] y, Py_ssize_t unit) noexcept nogil:
    if function == EXP:
        map_block(vexp, x, y, unit)
    elif function == TANH:
        map_block(vtanh, x, y, unit)
    elif function == SIGMOID:
        map_block(vsigmoid, x, y, unit)
    elif function == SILU:
        map_block(vsilu, x, y, unit)
    elif function == GELU:
        map_block(vgelu, x, y, unit)
    else:
        map_block(vgelu_tanh, x, y, unit)


cdef void grad_unit(int function, const float[::1] x, const float[::1] dy, float[::1] dx, Py_ssize_t unit) noexcept nogil:
    if function == TANH:
        grad_block(vtanh_grad, x, dy, dx, unit)
    elif function == SIGMOID:
        grad_block(vsigmoid_grad, x, dy, dx, unit)
    elif function == SILU:
        grad_block(vsilu_grad, x, dy, dx, unit)
    elif function == GELU:
        grad_block(vgelu_grad, x, dy, dx, unit)
    elif function == GELU_TANH:
        grad_block(vgelu_tanh_grad, x, dy, dx, unit)
    else:
        grad_block(vrelu_grad, x, dy, dx, unit)


cdef void map_all(int function, const float[::1] x, float[::1] y, int threads) except *:
    cdef Py_ssize_t unit
    for unit in prange(blocks(x.shape[0]), nogil=True, num_threads=threads, schedule="static"):
        map_unit(function, x, y, unit)


cdef void grad_all(int function, const float[::1] x, const float[::1] dy, float[::1] dx, int threads) except *:
    cdef Py_ssize_t unit
    for unit in prange(blocks(x.shape[0]), nogil=True, num_threads=threads, schedule="static"):
        grad_unit(function, x, dy, dx, unit)


def exp_f32(const float[::1] x, float[::1] y, int threads):
    """y = e^x."""
    map_all(EXP, x, y, threads)


def tanh_f32(const float[::1] x, float[::1] y, int threads):
    """y = tanh x."""
    map_all(TANH, x, y, threads)


def tanh_grad_f32(const float[::1] y, const float[::1] dy, float[::1] dx, int threads):
    """dx = dy * (1 - y^2), y = tanh x."""
    grad_all(TANH, y, dy, dx, threads)


def sigmoid_f32(const float[::1] x, float[::1] y, int threads):
    """y = 1 / (1 + e^-x)."""
    map_all(SIGMOID, x, y, threads)


def sigmoid_grad_f32(const float[::1] y, const float[::1] dy, float[::1] dx, int threads):
    """dx = dy * y * (1 - y), y = sigmoid(x)."""
    grad_all(SIGMOID, y, dy, dx, threads)


def silu_f32(const float[::1] x, float[::1] y, int threads):
    """y = x * sigmoid(x); -0 at -inf."""
    map_all(SILU, x, y, threads)


def silu_grad_f32(const float[::1] x, const float[::1] dy, float[::1] dx, int threads):
    """dx = dy * s * (1 + x * (1 - s)), s = sigmoid(x)."""
    grad_all(SILU, x, dy, dx, threads)


def gelu_f32(const float[::1] x, float[::1] y, int threads):
    """y = x * Phi(x), Phi the normal distribution; 0 at -inf."""
    map_all(GELU, x, y, threads)


def gelu_grad_f32(const float[::1] x, const float[::1] dy, float[::1] dx, int threads):
    """dx = dy * (Phi(x) + x * phi(x)), phi the normal density."""
    grad_all(GELU, x, dy, dx, threads)


def gelu_tanh_f32(const float[::1] x, float[::1] y, int threads):
    """y = x / 2 * (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))); -0 at -inf."""
    map_all(GELU_TANH, x, y, threads)


def gelu_tanh_grad_f32(const float[::1] x, const float[::1] dy, float[::1] dx, int threads):
    """dx = dy * the derivative of gelu_tanh_f32."""
    grad_all(GELU_TANH, x, dy, dx, threads)


def relu_grad_f32(const float[::1] y, const float[::1] dy, float[::1] dx, int threads):
    """dx = dy where y > 0, else 0."""
    grad_all(RELU, y, dy, dx, threads)


cdef void fake_quantize_piece(const float* x, Py_ssize_t n, float scale, float zero_point, float lo, float hi, float* y,
                              uint8_t* inside) noexcept nogil:
    cdef vecf s = vfset(scale), z = vfset(zero_point), bottom = vfset(lo), top = vfset(hi), q, c
    cdef Py_ssize_t i
    for i from 0 <= i < n by LANES:
        q = vfadd(vfround(vfdiv(vfload_n(x + i, n - i), s)), z)
        c = vfmin(top, vfmax(bottom, q))
        vstore_equal(inside + i, c, q, n - i)
        vfstore_n(y + i, vfmul(s, vfsub(c, z)), n - i)


def fake_quantize_f32(const float[:, ::1] x, const float[::1] scale, float zero_point, float lo, float hi, float[:, ::1] y,
                      uint8_t[:, ::1] inside, int threads):
    """y[R][L] = scale[R] * (q - zero_point), where q = clamp(rint(x / scale) + zero_point, lo, hi); a NaN stays a NaN.

    inside[R][L] is 1 where q is not clamped.
    """
    cdef Py_ssize_t n = x.shape[1], pieces = blocks(n), unit, row, first
    for unit in prange(x.shape[0] * pieces, nogil=True, num_threads=threads, schedule="static"):
        row = unit // pieces
        first = unit % pieces * BLOCK
        fake_quantize_piece(&x[row, first], min(<Py_ssize_t>BLOCK, n - first), scale[row], zero_point, lo, hi,
                            &y[row, first], &inside[row, first])

# The functions of vmath.h, as Cython sees them.
from libc.stdint cimport uint8_t
from tinyml._kernels.words.simd cimport vecf

cdef extern from "words/vmath.h" nogil:
    ctypedef struct vecdd: pass
    enum: RELU, GELU, GELU_TANH, SILU, SIGMOID, TANH, EXP
    vecf vfsub(vecf, vecf) noexcept
    vecf vfmul(vecf, vecf) noexcept
    float vfmax_lanes(vecf) noexcept
    void vstore_equal(uint8_t*, vecf, vecf, Py_ssize_t) noexcept
    vecdd vddzero() noexcept
    vecdd vwiden(vecf) noexcept
    vecdd vddadd(vecdd, vecdd) noexcept
    vecdd vddsquare(vecdd) noexcept
    double vddsum(vecdd) noexcept
    void vddadd_to(double*, vecdd) noexcept
    vecf vexp(vecf) noexcept
    vecf vtanh(vecf) noexcept
    vecf vtanh_grad(vecf, vecf) noexcept
    vecf vsigmoid(vecf) noexcept
    vecf vsigmoid_grad(vecf, vecf) noexcept
    vecf vsilu(vecf) noexcept
    vecf vsilu_grad(vecf, vecf) noexcept
    vecf vgelu(vecf) noexcept
    vecf vgelu_grad(vecf, vecf) noexcept
    vecf vgelu_tanh(vecf) noexcept
    vecf vgelu_tanh_grad(vecf, vecf) noexcept
    vecf vrelu(vecf) noexcept
    vecf vrelu_grad(vecf, vecf) noexcept

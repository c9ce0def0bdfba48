# The vector words of simd.h, as Cython sees them.
from libc.stdint cimport int32_t, int8_t, uint16_t, uint8_t

cdef extern from "simd.h" nogil:
    ctypedef struct vec:
        pass
    ctypedef struct vecf:
        pass
    enum: LANES
    enum: WIDE
    enum: OFFSET
    enum: NARROW
    enum: ROWS
    enum: NARROW_ROWS
    enum: MAX_ROWS
    enum: MAX_PANEL
    Py_ssize_t panel_vectors(Py_ssize_t) noexcept
    Py_ssize_t tile_rows(Py_ssize_t) noexcept
    vec vload(const void*) noexcept
    void vstore(void*, vec) noexcept
    void vfetch(const void*) noexcept
    vec vzero() noexcept
    vec vsplat4(const void*) noexcept
    vec vdot4(vec, vec, vec) noexcept
    vecf vfload(const void*) noexcept
    void vfstore(void*, vecf) noexcept
    vecf vfzero() noexcept
    vecf vfsplat(const float*) noexcept
    vecf vfadd(vecf, vecf) noexcept
    vecf vfma(vecf, vecf, vecf) noexcept
    vecf vfload_n(const float*, Py_ssize_t) noexcept
    vecf vfload_half_n(const uint16_t*, int) noexcept
    float vfsum(vecf) noexcept
    void vfstore_n(float*, vecf, Py_ssize_t) noexcept
    void interleave4(const uint8_t*, const uint8_t*, const uint8_t*, const uint8_t*, vec*) noexcept
    void requant4(const int32_t*, const char*, Py_ssize_t, Py_ssize_t, int, int, int, int, uint8_t*) noexcept
    void unlace(int32_t*) noexcept
    vecf vfclamp(vecf, float, float) noexcept
    vecf vfset(float) noexcept
    vecf vfload_or(const float*, Py_ssize_t, vecf) noexcept
    vecf vfmin(vecf, vecf) noexcept
    vecf vfmax(vecf, vecf) noexcept
    vecf vfround(vecf) noexcept

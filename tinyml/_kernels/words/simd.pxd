# The vector words of simd.h, as Cython sees them.
from libc.stdint cimport int32_t, int64_t, int8_t, uint16_t, uint32_t, uint8_t

cdef extern from "words/simd.h" nogil:
    ctypedef struct vec: pass
    ctypedef struct vecf: pass
    ctypedef struct bytes16: pass
    enum: LANES, WIDE, OFFSET, NARROW, ROWS, NARROW_ROWS, MAX_ROWS, MAX_PANEL, ON_LINE
    Py_ssize_t panel_vectors(Py_ssize_t) noexcept
    Py_ssize_t tile_rows(Py_ssize_t) noexcept
    vec vload(const void*) noexcept
    void vstore(void*, vec) noexcept
    float* on_line(float*) noexcept
    const float* vpointer(const float*) noexcept
    void vfetch(const void*) noexcept
    void vfetch_far(const void*) noexcept
    vec vzero() noexcept
    vec vsplat(int32_t) noexcept
    vec vsplat4(const void*) noexcept
    vec vdot4(vec, vec, vec) noexcept
    vec vload_signed_n(const int8_t*, int) noexcept
    vec vload_signed(const int8_t*) noexcept
    void vsum_halves(const vec*, vec*) noexcept
    vecf to_float(vec) noexcept
    vecf vfload(const void*) noexcept
    void vfstore(void*, vecf) noexcept
    vecf vfzero() noexcept
    vecf vfsplat(const float*) noexcept
    vecf vfadd(vecf, vecf) noexcept
    vecf vfma(vecf, vecf, vecf) noexcept
    vecf vfload_n(const float*, Py_ssize_t) noexcept
    uint16_t half_of(float) noexcept
    vecf vfload_half_n(const uint16_t*, int) noexcept
    float vfsum(vecf) noexcept
    void vfstore_n(float*, vecf, Py_ssize_t) noexcept
    vecf vfdiv(vecf, vecf) noexcept
    vecf vflip(const void*, uint32_t) noexcept
    vec vadd(vec, vec) noexcept
    vec vsub(vec, vec) noexcept
    vec vscale(vec, int32_t) noexcept
    vec vfwins(vecf, vecf) noexcept
    vec vselect(vec, vec, vec) noexcept
    vecf vfselect(vec, vecf, vecf) noexcept
    void vstore_n(int32_t*, vec, int) noexcept
    vec vload_codes_n(const uint8_t*, int) noexcept
    bytes16 bload_n(const uint8_t*, int) noexcept
    void bstore_n(uint8_t*, bytes16, int) noexcept
    bytes16 bmax(bytes16, bytes16) noexcept
    void store_scaled(uint8_t*, vec, int32_t, int64_t, int, int) noexcept
    void interleave4(const uint8_t*, const uint8_t*, const uint8_t*, const uint8_t*, vec*) noexcept
    void requant4(const int32_t*, const char*, Py_ssize_t, Py_ssize_t, int, int, int, int, uint8_t*) noexcept
    void unlace(int32_t*) noexcept
    vecf vfclamp(vecf, float, float) noexcept
    vecf vfset(float) noexcept
    vecf vfload_or(const float*, Py_ssize_t, vecf) noexcept
    vecf vfmin(vecf, vecf) noexcept
    vecf vfmax(vecf, vecf) noexcept
    vecf vfround(vecf) noexcept
    void vtranspose(const float*, Py_ssize_t, float*, Py_ssize_t) noexcept
    vecf vfsqrt(vecf) noexcept
    void transpose4(const float*, Py_ssize_t, float, float*, Py_ssize_t) noexcept

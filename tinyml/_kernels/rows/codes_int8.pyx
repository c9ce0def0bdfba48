# Loops over codes u = q + 128, which are unsigned bytes: quantization and its inverse, tables, sums, products, and the
# requantization that rounds twice.
from cython.parallel cimport prange
from libc.math cimport rintf
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memcpy, memset
from tinyml._kernels.words.simd cimport ON_LINE, vfetch

cdef enum:
    BLOCK = 4096    # elements of one unit of work
    PIXELS = 64     # pixels of a row that are quantized for one channel before they are put between those of other channels


include "quantize_row.pxi"


cdef Py_ssize_t quantize_block(const float* x, Py_ssize_t n, float scale, float zero, uint8_t* y) noexcept nogil:
    cdef Py_ssize_t i, nans = 0
    for i in range(n):
        nans += x[i] != x[i]
        y[i] = <uint8_t><int32_t>bounded(rintf(x[i] / scale) + zero, 0, 255)
    return nans


def quantize(const float[::1] x, float scale, int zero_point, uint8_t[::1] y, int threads):
    """y = clamp(rint(x / scale) + zero_point, 0, 255), ties to even; equation (7). Returns the number of NaNs in x."""
    cdef Py_ssize_t n = x.shape[0], unit, nans = 0
    if n == 0:
        return 0
    for unit in prange((n + BLOCK - 1) // BLOCK, nogil=True, num_threads=threads, schedule="static"):
        nans += quantize_block(&x[unit * BLOCK], min(<Py_ssize_t>BLOCK, n - unit * BLOCK), scale,
                               <float>zero_point, &y[unit * BLOCK])
    return nans


cdef Py_ssize_t quantize_image_row(const float* x, Py_ssize_t W, Py_ssize_t C, Py_ssize_t plane, float scale, float zero,
                                   uint8_t* y) noexcept nogil:
    """Quantize C rows, which lie `plane` elements apart, to y[W][C]."""
    cdef uint8_t codes[PIXELS]
    cdef Py_ssize_t first = 0, n, c, i, nans = 0
    while first < W:
        n = min(<Py_ssize_t>PIXELS, W - first)
        for c in range(C):
            nans += quantize_block(x + c * plane + first, n, scale, zero, codes)
            for i in range(n):
                y[(first + i) * C + c] = codes[i]
        first += n
    return nans


def quantize_images(const float[:, :, :, :] x, float scale, int zero_point, uint8_t[:, :, :, ::1] y, int threads):
    """What `quantize` computes, of planes [B][C][H][W] to y[B][H][W][C]. x is a view [B][H][W][C] of the planes, contiguous
    along W."""
    cdef Py_ssize_t H = x.shape[1], W = x.shape[2], C = x.shape[3], unit, nans = 0
    cdef Py_ssize_t image = x.strides[0] // 4, row = x.strides[1] // 4, plane = x.strides[3] // 4
    if x.shape[0] * H * W * C == 0:
        return 0
    cdef const float* first = &x[0, 0, 0, 0]
    for unit in prange(x.shape[0] * H, nogil=True, num_threads=threads, schedule="static"):
        nans += quantize_image_row(first + unit // H * image + unit % H * row, W, C, plane, scale, <float>zero_point,
                                   &y[unit // H, unit % H, 0, 0])
    return nans


def quantize_rows(const float[:, ::1] x, float[::1] scale, uint8_t[:, ::1] y, int threads):
    """y = rint(x / scale) + 128, where scale = max|x| / 127 of each row; equation (9).

    The scale of a row of zeros is 1; that of a row with a NaN or an infinity is NaN.
    """
    cdef Py_ssize_t rows = x.shape[0], n = x.shape[1], r
    if rows == 0:
        return
    if n == 0:
        scale[:] = 1
        return
    for r in prange(rows, nogil=True, num_threads=threads, schedule="static"):
        quantize_row(&x[r, 0], n, &scale[r], &y[r, 0])


def dequantize(const uint8_t[::1] x, float scale, int zero_point, float[::1] y, int threads):
    """y = scale * (x - zero_point); equation (1)."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=threads, schedule="static"):
        y[i] = scale * <float>(<int32_t>x[i] - zero_point)


# The loops below use plain pointers. A byte that is stored through a memoryview might, for all that the compiler knows,
# change the memoryview itself, so nothing would be vectorized: sums took 6 times as long.
cdef void lookup_block(const uint8_t* x, Py_ssize_t n, const uint8_t* table, uint8_t* y) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = table[x[i]]


def lookup(const uint8_t[::1] x, const uint8_t[::1] table, uint8_t[::1] y, int threads):
    """y = table[x], a pointwise function of one code."""
    cdef Py_ssize_t n = x.shape[0], unit
    for unit in prange((n + BLOCK - 1) // BLOCK, nogil=True, num_threads=threads, schedule="static"):
        lookup_block(&x[unit * BLOCK], min(<Py_ssize_t>BLOCK, n - unit * BLOCK), &table[0], &y[unit * BLOCK])


cdef void add_block(const uint8_t* a, const uint8_t* b, Py_ssize_t n, int32_t ma, int32_t mb, int64_t addend, int shift,
                    int64_t zero_point, int64_t lo, int64_t hi, uint8_t* y) noexcept nogil:
    cdef Py_ssize_t i
    cdef int64_t v
    for i in range(n):
        v = zero_point + ((<int64_t>a[i] * ma + <int64_t>b[i] * mb + addend) >> shift)
        v = lo if v < lo else v
        y[i] = <uint8_t>(hi if v > hi else v)


def add_codes(const uint8_t[::1] a, const uint8_t[::1] b, int za, int zb, int32_t ma, int32_t mb, int shift,
              int zero_point, int lo, int hi, uint8_t[::1] y, int threads):
    """y = clamp(zero_point + (((a - za) * ma + (b - zb) * mb + 2^(shift-1)) >> shift), lo, hi); equation (8).

    Nothing overflows: sums stay below 2^41, and rounding adds at most 2^54.
    """
    cdef Py_ssize_t n = a.shape[0], unit
    cdef int64_t addend = (<int64_t>1 << (shift - 1)) - <int64_t>za * ma - <int64_t>zb * mb
    for unit in prange((n + BLOCK - 1) // BLOCK, nogil=True, num_threads=threads, schedule="static"):
        add_block(&a[unit * BLOCK], &b[unit * BLOCK], min(<Py_ssize_t>BLOCK, n - unit * BLOCK), ma, mb, addend, shift,
                  zero_point, lo, hi, &y[unit * BLOCK])


cdef void mul_block(const uint8_t* a, const uint8_t* b, Py_ssize_t n, int32_t za, int32_t zb, int32_t m, int64_t half,
                    int shift, int64_t zero_point, int64_t lo, int64_t hi, uint8_t* y) noexcept nogil:
    cdef Py_ssize_t i
    cdef int64_t v
    for i in range(n):
        v = zero_point + ((<int64_t>((a[i] - za) * (b[i] - zb)) * m + half) >> shift)
        v = lo if v < lo else v
        y[i] = <uint8_t>(hi if v > hi else v)


def mul_codes(const uint8_t[::1] a, const uint8_t[::1] b, int za, int zb, int32_t m, int shift, int zero_point, int lo,
              int hi, uint8_t[::1] y, int threads):
    """y = clamp(zero_point + (((a - za) * (b - zb) * m + 2^(shift-1)) >> shift), lo, hi); equation (8).

    Products stay below 2^47.
    """
    cdef Py_ssize_t n = a.shape[0], unit
    for unit in prange((n + BLOCK - 1) // BLOCK, nogil=True, num_threads=threads, schedule="static"):
        mul_block(&a[unit * BLOCK], &b[unit * BLOCK], min(<Py_ssize_t>BLOCK, n - unit * BLOCK), za, zb, m,
                  <int64_t>1 << (shift - 1), shift, zero_point, lo, hi, &y[unit * BLOCK])


cdef inline int64_t saturate(int64_t v) noexcept nogil:
    if v > 2147483647:
        return 2147483647
    return v if v > -2147483648 else -2147483648


cdef void double_row(const int32_t* acc, Py_ssize_t N, const int64_t* m, const int64_t* shift, int64_t zero_point,
                     int64_t lo, int64_t hi, uint8_t* y) noexcept nogil:
    cdef Py_ssize_t n
    cdef int64_t left, right, v, product, remainder, mask
    for n in range(N):
        left = 31 - shift[n] if shift[n] < 31 else 0
        right = shift[n] - 31 if shift[n] > 31 else 0
        v = saturate((<int64_t>acc[n]) * (<int64_t>1 << left))
        product = v * m[n]
        # C division truncates toward zero, as gemmlowp's does (cdivision is on)
        v = (product + (1073741824 if product >= 0 else 1 - 1073741824)) / <int64_t>2147483648
        mask = (<int64_t>1 << right) - 1
        remainder = v & mask
        v = (v >> right) + (1 if remainder > (mask >> 1) + (1 if v < 0 else 0) else 0)
        v = saturate(v + zero_point)
        v = lo if v < lo else v
        y[n] = <uint8_t>(hi if v > hi else v)


def requantize_double(const int32_t[:, ::1] acc, const int64_t[::1] m, const int64_t[::1] shift, int zero_point, int lo,
                      int hi, uint8_t[:, ::1] y, int threads):
    """Requantization with gemmlowp's two roundings, SaturatingRoundingDoublingHighMul and then RoundingDivideByPOT;
    equation (5).

    acc is [P][N]; m and shift are [N], and the real multiplier is m * 2^-shift. The left shift of multipliers above 1
    saturates.
    """
    cdef Py_ssize_t p, N = acc.shape[1]
    if N == 0:
        return
    for p in prange(acc.shape[0], nogil=True, num_threads=threads, schedule="static"):
        double_row(&acc[p, 0], N, &m[0], &shift[0], zero_point, lo, hi, &y[p, 0])

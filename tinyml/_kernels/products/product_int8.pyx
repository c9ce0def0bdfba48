# Integer products and convolutions by weights that were packed once. Memory is NHWC; a linear layer is a 1x1 window over
# images of one pixel. With unsigned codes u = q + 128, signed weights w, stride s, dilation d and padding p it computes,
# exactly:
#
#     for b, oy, ox, g, n:                              # image, output pixel, group, output channel of the group
#         acc = bias[g * N + n]
#         for ty, tx, k:                                # tap of the window, input channel of the group
#             iy, ix = oy * s + ty * d - p, ox * s + tx * d - p
#             inside = 0 <= iy < H and 0 <= ix < W
#             acc += ((x[b][iy][ix][g * K + k] if inside else zero_point) - OFFSET) * w[g][ty][tx][k][n]
#         y[b][oy][ox][g * N + n] = clamp(((acc * m[n] + addend[n]) >> shift[n]) + 128, lo, hi)        # equation (5)
#
# or, in place of the last line, the accumulator itself, or the accumulator times float scales. The bias has been folded
# with the zero point and the 128 (integer_layer.py). OFFSET is a constant of the instruction set (words/simd.h); in what
# follows, x stands for the codes less OFFSET.
#
# Weights are packed as [G][panels][taps][K4][panel][4], with zeros beyond K and N. Codes are read 4 at a time, which can
# read 3 bytes past a window: these are multiplied by the zeros there, and scratch has room behind it. A depthwise layer has
# one filter per channel; 4 of its taps take the place of 4 input channels, and those of a vector of channels are
# interleaved.
from cython.parallel cimport prange, threadid
from libc.stdint cimport int8_t, int32_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from tinyml._kernels.words.simd cimport *

include "tile_int8.pxi"
include "window.pxi"

cdef enum:
    QUAD = 4 * LANES        # codes that one narrowing makes


cdef struct Product:
    # everything that a tile needs besides its pixels
    Sweep g
    Py_ssize_t G, K4, N, panel, panels, slices      # slices: taps, or fours of taps where the layer is depthwise
    Py_ssize_t group_step           # input channels of a group
    int fill                        # the code of the zero point, which pads the border
    const uint8_t* x
    const int8_t* w
    const int32_t* bias             # [G][panels*panel]
    const char* requant             # the parameters of requantization, `requant_bytes` per LANES channels; or NULL
    Py_ssize_t requant_bytes
    bint saturate                   # whether results may leave int32 before the clamp
    int lo, hi                      # the clamp, in unsigned codes
    const float* row_scale          # [pixels], where results are floats; or NULL
    const float* column_scale       # [G*N]
    const float* float_bias         # [G*N] or NULL
    void* y                         # uint8, float or int32 [pixels][G*N]


cdef inline void requantize(const Product* p, int32_t* acc, Py_ssize_t rows, Py_ssize_t channel, Py_ssize_t columns,
                            uint8_t* y, Py_ssize_t ldy) noexcept nogil:
    """Requantize the accumulators of a tile, 4 vectors at a time, and copy the rows of codes to their places."""
    cdef uint8_t codes[ROWS * MAX_PANEL + QUAD]
    cdef const char* parameters = p.requant + channel // LANES * p.requant_bytes
    cdef Py_ssize_t nv = p.panel // LANES, quad, i
    for quad in range((rows * nv + 3) // 4):
        requant4(acc + quad * QUAD, parameters, nv, p.requant_bytes, p.saturate, p.lo, p.hi, p.g.depthwise,
                 codes + quad * QUAD)
    for i in range(rows):
        if columns == MAX_PANEL:
            memcpy(y + i * ldy, codes + i * MAX_PANEL, MAX_PANEL)
        elif columns == p.panel == NARROW * LANES:
            memcpy(y + i * ldy, codes + i * NARROW * LANES, NARROW * LANES)
        else:
            memcpy(y + i * ldy, codes + i * p.panel, columns)


cdef inline void scale(const int32_t* acc, float row_scale, const float* column_scale, const float* bias,
                       Py_ssize_t columns, float* y) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(columns):
        y[j] = <float>acc[j] * (row_scale * column_scale[j])
    if bias != NULL:
        for j in range(columns):
            y[j] = y[j] + bias[j]


cdef inline void finish(const Product* p, int32_t* acc, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t group,
                        Py_ssize_t n) noexcept nogil:
    """The epilogue of a tile: requantize to codes, scale to floats, or store the accumulators."""
    cdef Py_ssize_t i, columns = min(p.panel, p.N - n), ldy = p.G * p.N, channel = group * p.N + n
    cdef Py_ssize_t at = first * ldy + channel
    if p.requant != NULL:
        requantize(p, acc, rows, group * p.panels * p.panel + n, columns, <uint8_t*>p.y + at, ldy)
        return
    if p.g.depthwise:
        unlace(acc)
    for i in range(rows):
        if p.row_scale != NULL:
            scale(acc + i * p.panel, p.row_scale[first + i], p.column_scale + channel,
                  NULL if p.float_bias == NULL else p.float_bias + channel, columns, <float*>p.y + at + i * ldy)
        else:
            memcpy(<int32_t*>p.y + at + i * ldy, acc + i * p.panel, columns * sizeof(int32_t))


cdef void depthwise(const Product* p, Py_ssize_t first, Py_ssize_t count, Py_ssize_t part0, Py_ssize_t part1,
                    const row_t* rows) noexcept nogil:
    """Compute `count` pixels from `first` on, QUAD channels at a time. Each lane sums one channel, by dot products of 4
    taps."""
    cdef int32_t acc[QUAD]
    cdef vec sums[4]
    cdef vec u[4]
    cdef Py_ssize_t part, i, t, c, last = p.g.taps - 1
    cdef const int8_t* w
    cdef const uint8_t* x
    cdef int j
    for i in range(count):
        for part in range(part0, part1):
            c = part * QUAD
            x = rows[i] + c
            w = p.w + c * p.slices * 4
            for j in range(4):
                sums[j] = vload(p.bias + c + j * LANES)
            for t in range(0, p.g.taps, 4):
                # for taps beyond the last one, the last is read again: their weights are 0
                interleave4(x + p.g.offsets[t], x + p.g.offsets[min(t + 1, last)], x + p.g.offsets[min(t + 2, last)],
                            x + p.g.offsets[min(t + 3, last)], u)
                for j in range(4):
                    sums[j] = vdot4(sums[j], u[j], vload(w + 4 * j * LANES))
                w += 4 * QUAD
            for j in range(4):
                vstore(acc + j * LANES, sums[j])
            finish(p, acc, first + i, 1, 0, c)


cdef void compute(const Product* p, Py_ssize_t first, Py_ssize_t last, Py_ssize_t part0, Py_ssize_t part1,
                  uint8_t* scratch, row_t* rows) noexcept nogil:
    """Compute the output rows first .. last for the panels part0 .. part1 of all groups."""
    cdef vec tiles[ROWS * WIDE + 4]     # an array of vectors, because that begins on a cache line
    cdef int32_t* acc = <int32_t*>tiles
    cdef Py_ssize_t count = and_beyond(rows, place(&p.g, p.x, p.fill, first, last, scratch, rows))
    cdef Py_ssize_t nv = p.panel // LANES, group, part, at, mr, i, index
    cdef Tile q
    if p.g.depthwise:
        depthwise(p, first * p.g.ow, count, part0, part1, rows)
        return
    if count == 1 and p.G == 1 and nv == WIDE:
        # a panel of the first half and one of the second half at the same time
        for part in range(part0, part0 + (part1 - part0) // 2):
            index = part + (part1 - part0) // 2
            two_panels(rows, p.g.offsets, p.g.taps, p.K4, p.w + part * p.slices * p.K4 * p.panel * 4,
                       p.w + index * p.slices * p.K4 * p.panel * 4, p.bias + part * p.panel, p.bias + index * p.panel, acc)
            finish(p, acc, first * p.g.ow, 1, 0, part * p.panel)
            finish(p, acc + p.panel, first * p.g.ow, 1, 0, index * p.panel)
        part0 += (part1 - part0) // 2 * 2       # of an odd number one panel is left
    q.offsets, q.taps, q.K4, q.out = p.g.offsets, p.g.taps, p.K4, acc
    for group in range(p.G):
        if group:
            for i in range(count + MAX_ROWS):
                rows[i] += p.group_step
        for part in range(part0, part1):
            index = group * p.panels + part
            q.b, q.bias = p.w + index * p.slices * p.K4 * p.panel * 4, p.bias + index * p.panel
            at = 0
            while at < count:
                mr = rows_of_tile(nv, count - at)
                tile_any(mr, nv, rows + at, &q)
                finish(p, acc, first * p.g.ow + at, min(mr, count - at), group, part * p.panel)
                at += mr


cdef Product product(const uint8_t[:, :, :, ::1] x, const int8_t[:, :, :, :, :, ::1] weight, const int32_t[::1] bias,
                     const Py_ssize_t[::1] shape, Py_ssize_t N, int zero_point):
    """A Product, without what depends on the epilogue."""
    cdef Product p
    memset(&p, 0, sizeof(Product))
    p.g = sweep_of(shape)
    p.G, p.panels, p.slices, p.K4 = weight.shape[0], weight.shape[1], weight.shape[2], weight.shape[3]
    p.panel, p.N, p.group_step, p.fill = weight.shape[4], N, x.shape[3] // weight.shape[0], zero_point
    if x.shape[0] and x.shape[1] and x.shape[2] and x.shape[3]:
        p.x = &x[0, 0, 0, 0]
    if p.G and p.panels and p.slices and p.K4:
        p.w = &weight[0, 0, 0, 0, 0, 0]
    p.bias = &bias[0]
    return p


include "run_product.pxi"


cdef Product codes_product(const uint8_t[:, :, :, ::1] x, const int8_t[:, :, :, :, :, ::1] weight,
                           const int32_t[::1] bias, const uint8_t[:, ::1] requant_parameters, uint8_t[:, :, :, ::1] y,
                           const Py_ssize_t[::1] shape, Py_ssize_t N, int zero_point, bint saturate, int lo, int hi):
    """A Product whose epilogue makes codes."""
    cdef Product p = product(x, weight, bias, shape, N, zero_point)
    p.requant, p.requant_bytes = <const char*>&requant_parameters[0, 0], requant_parameters.shape[1]
    p.saturate, p.lo, p.hi = saturate, lo, hi
    if y.shape[0] * y.shape[1] * y.shape[2] * y.shape[3]:
        p.y = &y[0, 0, 0, 0]
    return p


cdef class BoundProduct:
    """product_int8 whose arguments, except the number of threads, are taken once. A call computes y from what x holds
    then."""

    cdef Product p
    cdef tuple kept         # the arrays, so that they outlive the pointers

    def __init__(self, x, weight, bias, requant_parameters, y, shape, N, zero_point, saturate, lo, hi):
        self.kept = x, weight, bias, requant_parameters, y, shape
        self.p = codes_product(x, weight, bias, requant_parameters, y, shape, N, zero_point, saturate, lo, hi)

    def __call__(self, int threads):
        if self.p.y != NULL:
            run(&self.p, threads)


def product_int8(const uint8_t[:, :, :, ::1] x, const int8_t[:, :, :, :, :, ::1] weight, const int32_t[::1] bias,
                 const uint8_t[:, ::1] requant_parameters, uint8_t[:, :, :, ::1] y, const Py_ssize_t[::1] shape,
                 Py_ssize_t N, int zero_point, bint saturate, int lo, int hi, int threads):
    """y[B][OH][OW][G*N] = codes of bias + sum x * weight, requantized and clamped to lo .. hi; equations (4) and (5).

    `requant_parameters` [G*panels*panel/LANES][bytes] are laid out by integer_layer.requant_block. zero_point pads the
    border.
    """
    cdef Product p = codes_product(x, weight, bias, requant_parameters, y, shape, N, zero_point, saturate, lo, hi)
    if p.y != NULL:
        run(&p, threads)


def product_int8_f32(const uint8_t[:, :, :, ::1] x, const int8_t[:, :, :, :, :, ::1] weight, const int32_t[::1] bias,
                     const float[::1] row_scale, const float[::1] column_scale, const float[::1] float_bias,
                     float[:, :, :, ::1] y, const Py_ssize_t[::1] shape, Py_ssize_t N, int zero_point, int threads):
    """y[B][OH][OW][G*N] = acc * (row_scale[pixel] * column_scale[channel]) + float_bias[channel]; equation (9).

    row_scale has one entry per output pixel; float_bias may be None.
    """
    if y.shape[0] * y.shape[1] * y.shape[2] * y.shape[3] == 0:
        return
    cdef Product p = product(x, weight, bias, shape, N, zero_point)
    p.row_scale, p.column_scale, p.y = &row_scale[0], &column_scale[0], &y[0, 0, 0, 0]
    if float_bias is not None:
        p.float_bias = &float_bias[0]
    run(&p, threads)


def product_int8_i32(const uint8_t[:, :, :, ::1] x, const int8_t[:, :, :, :, :, ::1] weight, const int32_t[::1] bias,
                     int32_t[:, :, :, ::1] y, const Py_ssize_t[::1] shape, Py_ssize_t N, int zero_point, int threads):
    """y[B][OH][OW][G*N] = the int32 accumulators; equation (4)."""
    if y.shape[0] * y.shape[1] * y.shape[2] * y.shape[3] == 0:
        return
    cdef Product p = product(x, weight, bias, shape, N, zero_point)
    p.y = &y[0, 0, 0, 0]
    run(&p, threads)


def panel_for(Py_ssize_t n) -> int:
    """How many output channels a panel has where there are `n` of them."""
    return panel_vectors(n) * LANES


def lanes() -> int:
    """How many int32 lanes a vector has."""
    return LANES


def offset() -> int:
    """What products subtract from each code: 0, or 128 where the instructions multiply signed by signed bytes."""
    return OFFSET

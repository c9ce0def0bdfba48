# Integer products and convolutions: acc = bias + sum u * w over unsigned codes u = q + 128 and signed weights w,
# exact in int32, then requantized in the tile's epilogue. Memory is NHWC; linear is a 1x1 window over M images.
#
# Weights arrive packed as [G][panels][taps][K4][panel][4] (K4 = ceil(K/4), zeros beyond K and N), see integers.py; depthwise
# ones, one filter a channel, as [1][1][taps][1][channels][1]: their sums run across channels.
# Reading 4 codes at a time runs up to 3 bytes past a pixel's channels: the packed zeros there make them harmless, and
# the pixels that hold the buffer's last 3 bytes are read from a copy with room behind it.
from cython.parallel cimport prange
from libc.stdint cimport int8_t, int32_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from tinyml._kernels.simd cimport *

include "geometry.pxi"

ctypedef const uint8_t* row_t

cdef enum:
    BLOCK = 96      # output pixels a thread takes at a time (a multiple of all tile heights)


cdef inline void tile(int MR, int NV, const row_t* rows, Py_ssize_t taps, Py_ssize_t K4, const int8_t* b,
                      const int32_t* bias, int32_t* out) noexcept nogil:
    """out[MR][NV*LANES] = bias + sum over taps t, k of rows[t*MR + i][k] * b[t][k/4][NV*LANES][k%4], in registers.

    MR and NV are constants at every call: the loops over them unroll and `acc` becomes registers.
    """
    cdef vec acc[MAX_ROWS][WIDE]
    cdef vec x
    cdef vec y[WIDE]
    cdef Py_ssize_t t, k
    cdef int i, j
    for i in range(MR):
        for j in range(NV):
            acc[i][j] = vload(bias + j * LANES)
    for t in range(taps):
        for k in range(K4):
            for j in range(NV):
                y[j] = vload(b + 4 * j * LANES)
            for i in range(MR):
                x = vsplat4(rows[i] + 4 * k)
                for j in range(NV):
                    acc[i][j] = vdot4(acc[i][j], x, y[j])
            b += 4 * NV * LANES
        rows += MR
    for i in range(MR):
        for j in range(NV):
            vstore(out + (i * NV + j) * LANES, acc[i][j])


cdef struct Product:
    # everything a tile needs beside its pixels
    Geometry g
    Py_ssize_t G, taps, K, N, panel, panels
    Py_ssize_t nv               # vectors of a panel
    row_t x                     # input codes
    row_t padding               # K codes of the zero point
    Py_ssize_t tail             # first of the last input pixels, which are read from ...
    row_t last                  # ... a copy with room behind it
    const int8_t* w
    bint depthwise              # one filter a channel: N of them, as one group and one panel
    const int32_t* bias         # [G][panels*panel]
    const char* requant         # parameters of the epilogue, `requant_bytes` for LANES channels; or NULL
    Py_ssize_t requant_bytes
    bint saturate               # results may leave int32 before the clamp
    const float* row_scale      # float epilogue: [pixels], [G*N], [G*N] or NULL
    const float* column_scale
    const float* float_bias
    void* y                     # uint8, float or int32 [pixels][G*N]


cdef inline void finish(const Product* p, const int32_t* acc, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t group,
                        Py_ssize_t n) noexcept nogil:
    """Epilogue of a tile: requantize to codes, scale to float, or store the accumulators."""
    cdef Py_ssize_t i, j, part, columns = min(p.panel, p.N - n), ldy = p.G * p.N, at
    cdef const char* parameters
    cdef float* yf
    cdef int32_t* yi
    if p.requant != NULL:
        parameters = p.requant + (group * p.panels * p.panel + n) // LANES * p.requant_bytes
        for part in range((columns + LANES - 1) // LANES):
            j = part * LANES
            for i in range(rows):
                requant(acc + i * p.panel + j, parameters, p.saturate,
                        <uint8_t*>p.y + (first + i) * ldy + group * p.N + n + j, <int>(columns - j))
            parameters += p.requant_bytes
        return
    for i in range(rows):
        at = (first + i) * ldy + group * p.N + n
        if p.row_scale != NULL:
            yf = <float*>p.y + at
            for j in range(columns):
                yf[j] = <float>acc[i * p.panel + j] * (p.row_scale[first + i] * p.column_scale[group * p.N + n + j])
            if p.float_bias != NULL:
                for j in range(columns):
                    yf[j] = yf[j] + p.float_bias[group * p.N + n + j]
        else:
            yi = <int32_t*>p.y + at
            for j in range(columns):
                yi[j] = acc[i * p.panel + j]


cdef int pixels_of_block(const Product* p, Py_ssize_t first, Py_ssize_t pixels, row_t* table) noexcept nogil:
    """All groups and output channels of the output pixels first .. first+pixels."""
    cdef int32_t acc[ROWS * MAX_PANEL]
    cdef Py_ssize_t full = tile_rows(p.nv), mr = 1 if pixels == 1 else full
    cdef Py_ssize_t tiles = (pixels + mr - 1) // mr, K4 = (p.K + 3) // 4
    cdef Py_ssize_t index, part, n, i, at, ky, kx, group
    cdef Walk walk
    cdef const int32_t* bias
    cdef const int8_t* w
    cdef row_t* rows
    for group in range(p.G):
        walk = walk_from(&p.g, first)
        for index in range(tiles):
            for i in range(mr):
                rows = table + index * mr * p.taps + i
                for ky in range(p.g.kh):
                    for kx in range(p.g.kw):
                        at = source(&p.g, &walk, ky, kx)
                        rows[0] = p.padding if at < 0 else (
                            (p.last + (at - p.tail) * p.g.c if at >= p.tail else p.x + at * p.g.c) + group * p.K)
                        rows += mr
                if index * mr + i < pixels - 1:
                    walk_on(&p.g, &walk)
        for part in range(p.panels):
            n = part * p.panel
            w = p.w + (group * p.panels * p.panel + n) * p.taps * K4 * 4
            bias = p.bias + group * p.panels * p.panel + n
            for index in range(tiles):
                rows = table + index * mr * p.taps
                if p.nv == WIDE:
                    if mr == 1:
                        tile(1, WIDE, rows, p.taps, K4, w, bias, acc)
                    else:
                        tile(ROWS, WIDE, rows, p.taps, K4, w, bias, acc)
                elif p.nv == NARROW:
                    if mr == 1:
                        tile(1, NARROW, rows, p.taps, K4, w, bias, acc)
                    else:
                        tile(NARROW_ROWS, NARROW, rows, p.taps, K4, w, bias, acc)
                elif mr == 1:
                    tile(1, 1, rows, p.taps, K4, w, bias, acc)
                else:
                    tile(MAX_ROWS, 1, rows, p.taps, K4, w, bias, acc)
                finish(p, acc, first + index * mr, min(mr, pixels - index * mr), group, n)
    return 0


cdef int depthwise_pixels(const Product* p, Py_ssize_t first, Py_ssize_t pixels, row_t* rows, int32_t* acc) noexcept nogil:
    """All channels of the output pixels first .. first+pixels, one filter a channel; acc has room for a pixel's channels."""
    cdef Walk walk = walk_from(&p.g, first)
    cdef Py_ssize_t index, at, ky, kx, part, c, t
    cdef vec sums
    for index in range(first, first + pixels):
        for ky in range(p.g.kh):
            for kx in range(p.g.kw):
                at = source(&p.g, &walk, ky, kx)
                rows[ky * p.g.kw + kx] = p.padding if at < 0 else p.x + at * p.g.c
        for part in range(p.panel // LANES):
            c = part * LANES
            sums = vload(p.bias + c)
            for t in range(p.taps):
                sums = vmac_n(sums, rows[t] + c, p.w + t * p.panel + c, <int>(p.N - c))
            vstore(acc + c, sums)
        finish(p, acc, index, 1, 0, 0)
        walk_on(&p.g, &walk)
    return 0


cdef Product product(const uint8_t[:, :, :, ::1] x, const int8_t[:, :, :, :, :, ::1] weight, const int32_t[::1] bias,
                     Py_ssize_t[::1] shape, Py_ssize_t K, Py_ssize_t N):
    """The parts of a Product that do not depend on the epilogue."""
    cdef Product p
    memset(&p, 0, sizeof(Product))
    p.g = geometry(shape)
    p.G = weight.shape[0]
    p.panels = weight.shape[1]
    p.taps = weight.shape[2]
    p.panel = weight.shape[4]
    p.nv = p.panel // LANES
    p.K = K
    p.N = N
    p.depthwise = weight.shape[5] == 1
    if x.shape[0] and x.shape[1] and x.shape[2] and x.shape[3]:
        p.x = &x[0, 0, 0, 0]
    if p.G and p.panels and p.taps and weight.shape[3]:
        p.w = &weight[0, 0, 0, 0, 0, 0]
    p.bias = &bias[0]
    return p


cdef int run(Product* p, uint8_t zero_point, int threads) except -1:
    """Compute all output pixels, each thread one run of blocks with one pointer table of its own."""
    cdef Py_ssize_t pixels = p.g.images * p.g.oh * p.g.ow, inputs = p.g.images * p.g.h * p.g.w, unit, j, at, blocks
    cdef Py_ssize_t block = BLOCK, runs, entries = (BLOCK + MAX_ROWS) * p.taps
    # the pixels that hold the last 3 bytes: more than one only below 3 channels, and never past c + 2 bytes
    cdef Py_ssize_t copied = min(inputs, (p.g.c + 2) // max(p.g.c, <Py_ssize_t>1)), room = p.g.c + 2 + 4
    cdef uint8_t* scratch
    cdef row_t* tables
    cdef int32_t* sums
    blocks = (pixels + block - 1) // block
    runs = min(<Py_ssize_t>threads, blocks)
    scratch = <uint8_t*>malloc(2 * room)
    tables = <row_t*>malloc(max(runs, 1) * entries * sizeof(row_t))
    sums = <int32_t*>malloc(max(runs, 1) * p.panel * sizeof(int32_t))
    if scratch == NULL or tables == NULL or sums == NULL:
        free(scratch); free(tables); free(sums)
        raise MemoryError(f"product_int8: no memory for {runs} tables of {entries} pointers")
    memset(scratch, zero_point, 2 * room)
    p.tail = inputs - copied
    if p.x != NULL:
        memcpy(scratch + room, p.x + p.tail * p.g.c, copied * p.g.c)
    p.padding = scratch
    p.last = scratch + room
    with nogil:
        for unit in prange(runs, num_threads=threads, schedule="static", chunksize=1):
            for j in range(blocks * unit // runs, blocks * (unit + 1) // runs):
                at = j * block
                if p.depthwise:
                    depthwise_pixels(p, at, min(block, pixels - at), tables + unit * entries, sums + unit * p.panel)
                else:
                    pixels_of_block(p, at, min(block, pixels - at), tables + unit * entries)
    free(scratch)
    free(tables)
    free(sums)
    return 0


def product_int8(const uint8_t[:, :, :, ::1] x, const int8_t[:, :, :, :, :, ::1] weight, const int32_t[::1] bias,
                 const uint8_t[:, ::1] requant_parameters, uint8_t[:, :, :, ::1] y, Py_ssize_t[::1] shape,
                 Py_ssize_t K, Py_ssize_t N, int zero_point, bint saturate, int threads):
    """y[B][OH][OW][G*N] codes = requantized(bias + sum x * weight); design (4) and (5), rounding once, halves up.

    `requant_parameters` [G*panels*panel/LANES][bytes] as integers.requant_block lays them out; zero_point pads the border.
    """
    if y.shape[0] * y.shape[1] * y.shape[2] * y.shape[3] == 0:
        return
    cdef Product p = product(x, weight, bias, shape, K, N)
    p.requant = <const char*>&requant_parameters[0, 0]
    p.requant_bytes = requant_parameters.shape[1]
    p.saturate = saturate
    p.y = &y[0, 0, 0, 0]
    run(&p, <uint8_t>zero_point, threads)


def product_int8_f32(const uint8_t[:, :, :, ::1] x, const int8_t[:, :, :, :, :, ::1] weight, const int32_t[::1] bias,
                     const float[::1] row_scale, const float[::1] column_scale, const float[::1] float_bias,
                     float[:, :, :, ::1] y, Py_ssize_t[::1] shape, Py_ssize_t K, Py_ssize_t N, int zero_point,
                     int threads):
    """y[B][OH][OW][G*N] = acc * (row_scale[pixel] * column_scale[channel]) + float_bias[channel]; design (9).

    row_scale has one entry an output pixel; float_bias may be None.
    """
    if y.shape[0] * y.shape[1] * y.shape[2] * y.shape[3] == 0:
        return
    cdef Product p = product(x, weight, bias, shape, K, N)
    p.row_scale = &row_scale[0]
    p.column_scale = &column_scale[0]
    if float_bias is not None:
        p.float_bias = &float_bias[0]
    p.y = &y[0, 0, 0, 0]
    run(&p, <uint8_t>zero_point, threads)


def product_int8_i32(const uint8_t[:, :, :, ::1] x, const int8_t[:, :, :, :, :, ::1] weight, const int32_t[::1] bias,
                     int32_t[:, :, :, ::1] y, Py_ssize_t[::1] shape, Py_ssize_t K, Py_ssize_t N, int zero_point,
                     int threads):
    """y[B][OH][OW][G*N] = the int32 accumulators; design (4)."""
    if y.shape[0] * y.shape[1] * y.shape[2] * y.shape[3] == 0:
        return
    cdef Product p = product(x, weight, bias, shape, K, N)
    p.y = &y[0, 0, 0, 0]
    run(&p, <uint8_t>zero_point, threads)


def panel_for(Py_ssize_t n) -> int:
    """Output channels of one panel when there are `n`."""
    return panel_vectors(n) * LANES


def lanes() -> int:
    """int32 lanes of a vector."""
    return LANES

# Float products and convolutions by weights that were packed once. A convolution is an implicit matrix product over NHWC
# memory; a linear layer is a 1x1 window over images of one pixel. For stride s, dilation d and padding p it computes:
#
#     for b, oy, ox, g, n:                              # image, output pixel, group, output channel of the group
#         acc = bias[g * N + n]
#         for ty, tx, k:                                # tap of the window, input channel of the group
#             iy, ix = oy * s + ty * d - p, ox * s + tx * d - p
#             if 0 <= iy < H and 0 <= ix < W:           # padding is 0
#                 acc += x[b][iy][ix][g * K + k] * weight[g][ty][tx][k][n]
#         y[b][oy][ox][g * N + n] = clamp(acc, lo, hi)
#
# Weights are packed as [G][panels][taps*K][panel], with zeros beyond N: in the order in which a tile reads them. A
# depthwise layer has one filter per channel; its weights are packed as [1][C/LANES][taps][LANES], because its vectors are
# of channels.
from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from tinyml._kernels.words.simd cimport *

include "tile_f32.pxi"
include "window.pxi"
include "depthwise_f32.pxi"


def pack_f32(const float[:, :, :, :] weight, float[:, :, :, ::1] packed, int threads):
    """packed[G][panels][taps*K][panel] = weight[G][taps][K][N] of any strides."""
    cdef Py_ssize_t G = weight.shape[0], taps = weight.shape[1], K = weight.shape[2], N = weight.shape[3]
    cdef Py_ssize_t panels = packed.shape[1], panel = packed.shape[3], unit, t
    cdef Py_ssize_t w0 = weight.strides[0] // 4, w1 = weight.strides[1] // 4
    cdef Py_ssize_t w2 = weight.strides[2] // 4, w3 = weight.strides[3] // 4
    if G * taps * K * N == 0:
        return
    cdef const float* w = &weight[0, 0, 0, 0]
    cdef float* out = &packed[0, 0, 0, 0]
    for unit in prange(G * panels, nogil=True, num_threads=threads, schedule="static"):
        for t in range(taps):
            pack_panel(w + unit // panels * w0 + t * w1 + unit % panels * panel * w3, w2, w3, K,
                       min(panel, N - unit % panels * panel), panel, out + (unit * taps + t) * K * panel)


cdef struct Product:
    # everything that a tile needs besides its pixels
    Sweep g
    Py_ssize_t G, K, N, panel, panels   # K: input values of all taps
    const float* x
    const float* w
    const float* bias               # [G*N] or NULL
    float lo, hi
    float* y                        # [pixels][G*N]


cdef void compute(const Product* p, Py_ssize_t first, Py_ssize_t last, Py_ssize_t part0, Py_ssize_t part1, float* scratch,
                  row_t* rows) noexcept nogil:
    """Compute the output rows first .. last for the panels part0 .. part1 of all groups."""
    cdef Py_ssize_t count = and_beyond(rows, place(&p.g, p.x, 0, first, last, scratch, rows))
    cdef Py_ssize_t ldy = p.G * p.N, group, part, n, i
    cdef float* y = p.y + first * p.g.ow * ldy
    cdef Finish finish
    if p.g.depthwise:
        depthwise_pixels(rows, count, p.g.offsets, p.g.taps, part0, part1, p.N, p.w, p.bias, p.lo, p.hi, y)
        return
    finish.onto = False
    finish.clamped = p.lo > -INFINITY or p.hi < INFINITY
    finish.lo, finish.hi = p.lo, p.hi
    for group in range(p.G):
        if group:
            for i in range(count + MAX_ROWS):
                rows[i] += p.K // p.g.taps
        for part in range(part0, part1):
            n = part * p.panel
            finish.bias = NULL if p.bias == NULL else p.bias + group * p.N + n
            column(rows, count, p.g.offsets, p.g.taps, p.K // p.g.taps, p.w + (group * p.panels + part) * p.K * p.panel,
                   p.panel, p.panel // LANES, min(p.panel, p.N - n), finish, y + group * p.N + n, ldy)


include "run_product.pxi"


cdef Product product(const float[:, :, :, :] x, const float[:, :, :, ::1] packed, const float[::1] bias, float lo,
                     float hi, float[:, :, :, ::1] y, const Py_ssize_t[::1] shape):
    cdef Product p
    memset(&p, 0, sizeof(Product))
    if y.shape[0] * y.shape[1] * y.shape[2] * y.shape[3] == 0:
        return p
    p.g = sweep_of(shape)
    p.G, p.panels, p.K, p.panel = packed.shape[0], packed.shape[1], packed.shape[2], packed.shape[3]
    p.N = y.shape[3] // p.G
    if x.shape[0] and x.shape[1] and x.shape[2] and x.shape[3]:
        p.x = &x[0, 0, 0, 0]
        p.g.image, p.g.row = x.strides[0] // 4, x.strides[1] // 4
        p.g.pixel, p.g.channel = x.strides[2] // 4, x.strides[3] // 4
    if p.K:
        p.w = &packed[0, 0, 0, 0]
    if bias is not None:
        p.bias = &bias[0]
    p.lo, p.hi, p.y = lo, hi, &y[0, 0, 0, 0]
    return p


cdef class BoundProduct:
    """product_f32 whose arguments, except the number of threads, are taken once. A call computes y from what x holds
    then."""

    cdef Product p
    cdef tuple kept         # the arrays, so that they outlive the pointers

    def __init__(self, x, packed, bias, lo, hi, y, shape):
        self.kept = x, packed, bias, y, shape
        self.p = product(x, packed, bias, lo, hi, y, shape)

    def __call__(self, int threads):
        if self.p.y != NULL:
            run(&self.p, threads)


def product_f32(const float[:, :, :, :] x, const float[:, :, :, ::1] packed, const float[::1] bias, float lo, float hi,
                float[:, :, :, ::1] y, const Py_ssize_t[::1] shape, int threads):
    """y[B][OH][OW][G*N] = clamp(x[B][H][W][C] * packed + bias[G*N], lo, hi); bias may be None; a NaN stays a NaN.

    `shape` is the geometry that windows.sweep computes; that of a transposed window makes this the gradient to the input. x
    may have any strides unless the geometry reads it in place.
    """
    cdef Product p = product(x, packed, bias, lo, hi, y, shape)
    if p.y != NULL:
        run(&p, threads)

# Which input pixel each tap of a window reads: shared by the float and the integer convolution.
# Memory is NHWC. A product (linear, matmul) is the convolution of M images of one pixel by a 1x1 window.

cdef struct Geometry:
    Py_ssize_t images, h, w, c                      # input
    Py_ssize_t oh, ow                               # output
    Py_ssize_t kh, kw, sh, sw, ph, pw, dh, dw       # window, stride, padding, dilation
    bint transposed                                 # read as the gradient to the input does


cdef inline Geometry geometry(Py_ssize_t[::1] shape) noexcept nogil:
    """The 16 sizes in the order of the struct."""
    cdef Geometry g
    g.images = shape[0]; g.h = shape[1]; g.w = shape[2]; g.c = shape[3]
    g.oh = shape[4]; g.ow = shape[5]
    g.kh = shape[6]; g.kw = shape[7]
    g.sh = shape[8]; g.sw = shape[9]
    g.ph = shape[10]; g.pw = shape[11]
    g.dh = shape[12]; g.dw = shape[13]
    g.transposed = shape[14] != 0
    return g


cdef struct Walk:
    Py_ssize_t first, y, x      # first pixel of the input image, and the output pixel within it


cdef inline Walk walk_from(const Geometry* g, Py_ssize_t pixel) noexcept nogil:
    """A walk over output pixels in memory order: going on costs no division, of which each tap of a pixel would take six."""
    cdef Walk at
    cdef Py_ssize_t rest = pixel % (g.oh * g.ow)
    at.first = pixel // (g.oh * g.ow) * g.h * g.w
    at.y = rest // g.ow
    at.x = rest % g.ow
    return at


cdef inline void walk_on(const Geometry* g, Walk* at) noexcept nogil:
    """To the next output pixel."""
    at.x += 1
    if at.x == g.ow:
        at.x = 0
        at.y += 1
        if at.y == g.oh:
            at.y = 0
            at.first += g.h * g.w


cdef inline Py_ssize_t coordinate(Py_ssize_t o, Py_ssize_t tap, Py_ssize_t size, Py_ssize_t stride,
                                  Py_ssize_t pad, Py_ssize_t dilation, bint transposed) noexcept nogil:
    """Input coordinate that output coordinate `o` reads at `tap`; -1 where it reads padding."""
    cdef Py_ssize_t i
    if transposed:
        i = o + pad - tap * dilation
        if stride > 1:
            if i < 0 or i % stride != 0:
                return -1
            i = i // stride
    else:
        i = o * stride - pad + tap * dilation
    return i if 0 <= i < size else -1


cdef inline Py_ssize_t source(const Geometry* g, const Walk* at, Py_ssize_t ky, Py_ssize_t kx) noexcept nogil:
    """Index of the input pixel that the walk's output pixel reads at tap (ky, kx); -1 where it reads padding."""
    cdef Py_ssize_t y = coordinate(at.y, ky, g.h, g.sh, g.ph, g.dh, g.transposed)
    cdef Py_ssize_t x = coordinate(at.x, kx, g.w, g.sw, g.pw, g.dw, g.transposed)
    return -1 if y < 0 or x < 0 else at.first + y * g.w + x

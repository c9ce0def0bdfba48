# Which input pixel each tap of a window reads: shared by the float and the integer convolution.
# Memory is NHWC. A product (linear, matmul) is the convolution of M images of one pixel by a 1x1 window.

cdef struct Geometry:
    Py_ssize_t images, h, w, c                      # input
    Py_ssize_t oh, ow                               # output
    Py_ssize_t kh, kw                               # window
    const Py_ssize_t* rows                          # [oh][kh]: input row * w that output row and tap read, -1 for padding
    const Py_ssize_t* columns                       # [ow][kw]: input column, -1 for padding


cdef inline Geometry geometry(Py_ssize_t[::1] shape) noexcept nogil:
    """The numbers and tables that windows.geometry lays out."""
    cdef Geometry g
    g.images = shape[0]; g.h = shape[1]; g.w = shape[2]; g.c = shape[3]
    g.oh = shape[4]; g.ow = shape[5]
    g.kh = shape[6]; g.kw = shape[7]
    g.rows = &shape[0] + 15
    g.columns = g.rows + g.oh * g.kh
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


cdef inline Py_ssize_t source(const Geometry* g, const Walk* at, Py_ssize_t ky, Py_ssize_t kx) noexcept nogil:
    """Index of the input pixel that the walk's output pixel reads at tap (ky, kx); -1 where it reads padding."""
    cdef Py_ssize_t y = g.rows[at.y * g.kh + ky], x = g.columns[at.x * g.kw + kx]
    return -1 if (y | x) < 0 else at.first + y + x

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


cdef inline Py_ssize_t coordinate(Py_ssize_t o, Py_ssize_t tap, Py_ssize_t size, Py_ssize_t stride,
                                  Py_ssize_t pad, Py_ssize_t dilation, bint transposed) noexcept nogil:
    """Input coordinate that output coordinate `o` reads at `tap`; -1 where it reads padding."""
    cdef Py_ssize_t i
    if transposed:
        i = o + pad - tap * dilation
        if i < 0 or i % stride != 0:
            return -1
        i = i // stride
    else:
        i = o * stride - pad + tap * dilation
    return i if 0 <= i < size else -1


cdef inline Py_ssize_t source(const Geometry* g, Py_ssize_t pixel, Py_ssize_t tap) noexcept nogil:
    """Index of the input pixel that output pixel `pixel` reads at `tap`; -1 where it reads padding."""
    cdef Py_ssize_t image = pixel // (g.oh * g.ow), rest = pixel % (g.oh * g.ow)
    cdef Py_ssize_t y = coordinate(rest // g.ow, tap // g.kw, g.h, g.sh, g.ph, g.dh, g.transposed)
    cdef Py_ssize_t x = coordinate(rest % g.ow, tap % g.kw, g.w, g.sw, g.pw, g.dw, g.transposed)
    if y < 0 or x < 0:
        return -1
    return (image * g.h + y) * g.w + x

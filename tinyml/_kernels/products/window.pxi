# Where the taps of a window read. The output rows are divided into units. The input that a unit needs is copied into
# scratch memory, together with its padding, so that each tap of a pixel lies at a fixed distance from the pixel's first
# tap: a tile then needs one pointer per pixel and one offset per tap. Without padding nothing is copied. A matrix product
# is the convolution of images of one pixel by a 1x1 window.
#
# The file that includes this one must define
#     element     the type of an input value
#     row_t       const element*
# and have cimported MAX_ROWS of words/simd.

cdef enum:
    # A unit has at most so many output pixels (but at least one row of them) and bytes of input, which stay in the
    # second-level cache while it is multiplied by one panel of weights after the other
    UNIT_PIXELS = 1024
    UNIT_BYTES = 1 << 18
    HEAD = 20                   # how many numbers of windows.sweep stand before the offsets
    ROOM = 256                  # elements behind the scratch that vectors may read; what they read there is multiplied by 0


cdef struct Sweep:
    # the numbers that windows.sweep lays out
    Py_ssize_t images, h, w, c      # shape of the input
    Py_ssize_t image, row, pixel, channel       # strides of the input, in elements
    Py_ssize_t oh, ow               # height and width of the output
    Py_ssize_t sy, sx               # from one output to the next: rows and pixels of scratch (of the input, if `direct`)
    Py_ssize_t py, px               # padding; negative padding crops
    Py_ssize_t fy, fx               # the input is spread: from one row or pixel to the next, with zeros between (gradients)
    Py_ssize_t reach                # how many rows of scratch a window spans
    Py_ssize_t width                # how many pixels a row of scratch has
    bint direct                     # whether the input is read where it is
    bint depthwise                  # whether there is one filter per channel
    Py_ssize_t iy, ix               # from one output to the next: rows and pixels of the padded input, which is the stride
    Py_ssize_t gy, gx               # from one row or pixel of scratch to the next: those of the padded input
    Py_ssize_t taps
    const Py_ssize_t* offsets       # [taps]: elements from a pixel's first tap


cdef inline Sweep sweep_of(const Py_ssize_t[::1] shape) noexcept nogil:
    cdef Sweep g
    g.images = shape[0]; g.h = shape[1]; g.w = shape[2]; g.c = shape[3]
    g.image = g.h * g.w * g.c; g.row = g.w * g.c; g.pixel = g.c; g.channel = 1
    g.oh = shape[4]; g.ow = shape[5]
    g.sy = shape[6]; g.sx = shape[7]; g.py = shape[8]; g.px = shape[9]
    g.fy = shape[10]; g.fx = shape[11]
    g.reach = shape[12]; g.width = shape[13]
    g.direct = shape[14]; g.depthwise = shape[15]
    g.iy = shape[16]; g.ix = shape[17]; g.gy = shape[18]; g.gx = shape[19]
    g.taps = shape.shape[0] - HEAD
    g.offsets = &shape[0] + HEAD
    return g


cdef inline Py_ssize_t rows_of_unit(const Sweep* g, Py_ssize_t threads) noexcept nogil:
    """How many output rows a unit has: there are then as many units as the threads share evenly, and none is too large."""
    cdef Py_ssize_t total = g.images * g.oh, bytes = g.sy * g.sx * g.ow * g.c * <Py_ssize_t>sizeof(element), most, units
    most = max(min(UNIT_PIXELS // max(g.ow, <Py_ssize_t>1), UNIT_BYTES // max(bytes, <Py_ssize_t>1)), <Py_ssize_t>1)
    units = threads * ((total + threads * most - 1) // (threads * most))
    return (total + units - 1) // units


cdef inline Py_ssize_t scratch_of_unit(const Sweep* g, Py_ssize_t rows) noexcept nogil:
    """The most elements of scratch that a unit of so many output rows fills."""
    if g.direct:
        return 0
    return (rows * g.sy + (rows // g.oh + 2) * (g.reach + g.sy)) * g.width * g.c + ROOM


cdef inline element* pad(const Sweep* g, const element* image, int fill, Py_ssize_t top, Py_ssize_t rows,
                         element* out) noexcept nogil:
    """Write `rows` rows of scratch, beginning with the first one of output row `top`; each byte outside of the image
    becomes `fill`. Returns the end of what was written."""
    cdef Py_ssize_t left = min(max(g.px, <Py_ssize_t>0), g.width), skip = max(-g.px, <Py_ssize_t>0), row, i, at, k, r
    cdef Py_ssize_t middle = max(min(g.width - left, g.w - skip), <Py_ssize_t>0), c = g.c, size = sizeof(element)
    cdef bint all_columns = g.gx == 1 and (g.sx == g.ix or g.ow == 1)
    cdef const element* line
    for r in range(rows):
        row = (top + r // g.sy) * g.iy + r % g.sy * g.gy - g.py
        if row < 0 or row >= g.h * g.fy or row % g.fy:
            memset(out, fill, g.width * c * size)
        elif not all_columns:
            line = image + row // g.fy * g.row
            for i in range(g.width):
                at = i // g.sx * g.ix + i % g.sx * g.gx - g.px
                if at < 0 or at >= g.w * g.fx or at % g.fx:
                    memset(out + i * c, fill, c * size)
                else:
                    for k in range(c):
                        out[i * c + k] = line[at // g.fx * g.pixel + k * g.channel]
        elif g.fx == 1:
            memset(out, fill, left * c * size)
            line = image + row // g.fy * g.row + skip * g.pixel
            if g.channel == 1 and g.pixel == c:
                memcpy(out + left * c, line, middle * c * size)
            else:
                for k in range(c):
                    for i in range(middle):
                        out[(left + i) * c + k] = line[i * g.pixel + k * g.channel]
            memset(out + (left + middle) * c, fill, (g.width - left - middle) * c * size)
        else:
            memset(out, fill, g.width * c * size)
            line = image + row // g.fy * g.row
            for i in range(g.w):
                at = i * g.fx + g.px
                if 0 <= at < g.width:
                    for k in range(c):
                        out[at * c + k] = line[i * g.pixel + k * g.channel]
        out += g.width * c
    return out


cdef Py_ssize_t place(const Sweep* g, const element* x, int fill, Py_ssize_t first, Py_ssize_t last, element* scratch,
                      row_t* rows) noexcept nogil:
    """Fill `rows` with where each pixel of the output rows first .. last reads its first tap; the rows of all images are
    counted one after the other. Returns the number of pixels."""
    cdef Py_ssize_t row = first, image, top, height, y, o, count = 0
    cdef const element* base
    while row < last:
        image = row // g.oh
        top = row % g.oh
        height = min(g.oh - top, last - row)
        if g.direct:
            base = x + (image * g.h + top * g.sy) * g.w * g.c
        else:
            base = scratch
            scratch = pad(g, x + image * g.image, fill, top, (height - 1) * g.sy + g.reach, scratch)
        for y in range(height):
            for o in range(g.ow):
                rows[count] = base + (y * g.sy * g.width + o * g.sx) * g.c
                count += 1
        row += height
    return count


cdef inline Py_ssize_t and_beyond(row_t* rows, Py_ssize_t count) noexcept nogil:
    """Repeat the last of `count` pointers MAX_ROWS times behind it, so that a tile may compute rows that do not exist.
    Returns `count`."""
    cdef Py_ssize_t i
    for i in range(MAX_ROWS):
        rows[count + i] = rows[count - 1]
    return count


cdef struct Shares:
    # How threads divide the work: they take unit after unit or, where there are few pixels, each takes a run of panels for
    # all pixels. Either one thread works or all of them do: OpenMP ends the threads that a parallel loop leaves out, and
    # would have to start them again for the next loop
    Py_ssize_t workers, rows, units     # rows: output rows of a unit
    bint by_panels


cdef inline Shares share(const Sweep* g, Py_ssize_t panels, Py_ssize_t threads) noexcept nogil:
    cdef Shares s
    s.by_panels = g.images * g.oh * g.ow < 32 * threads and panels >= threads > 1
    s.rows = rows_of_unit(g, 1 if s.by_panels else threads)
    s.units = (g.images * g.oh + s.rows - 1) // s.rows
    s.workers = threads if s.by_panels or s.units > 1 else 1
    return s

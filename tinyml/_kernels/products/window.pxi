# Where the taps of a window read. A unit of output rows has the input that it needs copied into scratch memory, padding
# included, so that each tap of any pixel is at a fixed distance from its first one: tiles need a pointer a pixel and an
# offset a tap. Without padding nothing is copied. A matrix product is the convolution of one-pixel images by a 1x1 window.
#
# The file that includes this one has `element`, the type of an input value, and MAX_ROWS.

cdef enum:
    UNIT_PIXELS = 1024          # output pixels of a unit at most (but a row at least) ...
    UNIT_BYTES = 1 << 18        # ... and bytes of input: they stay in the second-level cache while panels pass
    HEAD = 20                   # numbers of windows.sweep before the offsets
    ROOM = 256                  # elements behind the scratch that vectors may read; what they read there counts for nothing


cdef struct Sweep:
    # the numbers that windows.sweep lays out
    Py_ssize_t images, h, w, c      # input
    Py_ssize_t image, row, pixel, channel       # elements from one of the input's to the next
    Py_ssize_t oh, ow               # output
    Py_ssize_t sy, sx               # places of scratch (of the input where that is read in place) from an output to the next
    Py_ssize_t py, px               # padding; negative padding crops
    Py_ssize_t fy, fx               # inputs are this far apart, zeros between (gradients to the input)
    Py_ssize_t reach                # rows of scratch that a window spans
    Py_ssize_t width                # pixels of a row of scratch
    bint direct                     # read the input where it is
    bint depthwise                  # one filter a channel
    Py_ssize_t iy, ix               # padded input from an output to the next: the stride
    Py_ssize_t gy, gx               # padded input from a place of scratch to the next: 1, or the dilation (windows._laid_out)
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
    """Output rows of a unit: as many units as threads share evenly, none too large."""
    cdef Py_ssize_t total = g.images * g.oh, bytes = g.sy * g.sx * g.ow * g.c * <Py_ssize_t>sizeof(element), most, units
    most = max(min(UNIT_PIXELS // max(g.ow, <Py_ssize_t>1), UNIT_BYTES // max(bytes, <Py_ssize_t>1)), <Py_ssize_t>1)
    units = threads * ((total + threads * most - 1) // (threads * most))
    return (total + units - 1) // units


cdef inline Py_ssize_t scratch_of_unit(const Sweep* g, Py_ssize_t rows) noexcept nogil:
    """Elements of scratch that a unit of so many output rows fills at most."""
    if g.direct:
        return 0
    return (rows * g.sy + (rows // g.oh + 2) * (g.reach + g.sy)) * g.width * g.c + ROOM


cdef inline element* pad(const Sweep* g, const element* image, int fill, Py_ssize_t top, Py_ssize_t rows,
                         element* out) noexcept nogil:
    """`rows` rows of scratch from the first of output row `top` on, `fill` in each byte outside the image; returns the end
    of what was written."""
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
    """Where the pixels of output rows first .. last (of all images, one below the other) read their first tap; how many."""
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
    """The last of `count` pointers again behind it, MAX_ROWS times, so that a tile may compute rows that do not exist."""
    cdef Py_ssize_t i
    for i in range(MAX_ROWS):
        rows[count + i] = rows[count - 1]
    return count


cdef struct Shares:
    # how threads divide the work: they take unit after unit, or, where pixels are few, each a run of panels of all pixels.
    # One works, or all: those that a parallel loop leaves out, OpenMP ends, and must start again for the next loop
    Py_ssize_t workers, rows, units
    bint by_panels


cdef inline Shares share(const Sweep* g, Py_ssize_t panels, Py_ssize_t threads) noexcept nogil:
    cdef Shares s
    s.by_panels = g.images * g.oh * g.ow < 32 * threads and panels >= threads > 1
    s.rows = rows_of_unit(g, 1 if s.by_panels else threads)
    s.units = (g.images * g.oh + s.rows - 1) // s.rows
    s.workers = threads if s.by_panels or s.units > 1 else 1
    return s

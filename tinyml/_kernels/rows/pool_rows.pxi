# A window of pooling over an image [H][W][C], and the maxima of a row of windows: shared by pool_f32 and pool_int8.
#
# The file that includes this one must define
#     element     the type of a value
#     VECTOR      how many channels a vector of them has
#     largest(int V, bint keep, const element* x, Py_ssize_t W, const Span* s, int n, element* y, int32_t* at)
#                 y = the largest of the window in V vectors of channels, of whose last n exist (n is less than VECTOR only
#                 where V is 1), and where `keep` is set at = their pixels; V and keep are constants at every call
from libc.stdint cimport int32_t


cdef struct Span:
    Py_ssize_t y0, y1, x0, x1       # first and past-last row, first and past-last column
    Py_ssize_t row, column          # elements from one row to the next, and from one column to the next


cdef inline Span span(Py_ssize_t W, Py_ssize_t C, const Py_ssize_t* rows, const Py_ssize_t* columns) noexcept nogil:
    """The window with these first and past-last rows and columns."""
    cdef Span s
    s.y0, s.y1, s.x0, s.x1 = rows[0], rows[1], columns[0], columns[1]
    s.row, s.column = W * C, C
    return s


cdef inline void max_row(bint keep, const element* x, Py_ssize_t W, Py_ssize_t C, const Py_ssize_t* rows,
                         const Py_ssize_t* columns, Py_ssize_t OW, element* y, int32_t* at) noexcept nogil:
    """Compute one row of outputs from the image x and, where `keep` is set, the pixels that they came from."""
    cdef Span s
    cdef Py_ssize_t o, c
    for o in range(OW):
        s = span(W, C, rows, columns + 2 * o)
        c = 0
        while c + 4 * VECTOR <= C:
            largest(4, keep, x + c, W, &s, VECTOR, y + c, at + c if keep else NULL)
            c += 4 * VECTOR
        if c + 2 * VECTOR <= C:
            largest(2, keep, x + c, W, &s, VECTOR, y + c, at + c if keep else NULL)
            c += 2 * VECTOR
        while c < C:
            largest(1, keep, x + c, W, &s, <int>min(<Py_ssize_t>VECTOR, C - c), y + c, at + c if keep else NULL)
            c += VECTOR
        y += C
        if keep:
            at += C

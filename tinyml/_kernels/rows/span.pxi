# A window of pooling over an image [H][W][C], in its memory: shared by the pooling of codes and of floats.

cdef struct Span:
    Py_ssize_t y0, y1, x0, x1       # first and past-last row and column
    Py_ssize_t row, column          # elements from row to row and from column to column


cdef inline Span span(Py_ssize_t W, Py_ssize_t C, const Py_ssize_t* rows, const Py_ssize_t* columns) noexcept nogil:
    """The window of the given first and past-last row and column."""
    cdef Span s
    s.y0 = rows[0]
    s.y1 = rows[1]
    s.x0 = columns[0]
    s.x1 = columns[1]
    s.row = W * C
    s.column = C
    return s
